// From the bytes of an answer to the caller's callback.
#include "libmagma/client/requests.h"

namespace magma::client {

namespace {

template <class Reply>
Result<Reply> decode_answer(const Answer& answer) {
  if (!answer.is_ok()) return fail(answer.code, answer.detail);
  return wire::decode<Reply>(answer.body);
}

struct Finisher {
  Answer& answer;
  Learner learner;

  void operator()(std::monostate) {}
  void operator()(RawDone& done) { done(answer); }
  void operator()(Done<wire::Attr>& done) {
    auto reply = decode_answer<wire::AttrReply>(answer);
    if (!reply) return done(fail(std::move(reply.error())));
    learner.learn(reply->attr);
    done(std::move(reply->attr));
  }
  void operator()(Done<Opened>& done) {
    if (!answer.is_ok()) return done(fail(answer.code, answer.detail));
    auto reply = wire::decode_front<wire::AttrReply>(answer.body);
    if (!reply) return done(fail(std::move(reply.error())));
    auto& [told, bytes] = *reply;
    learner.learn(told.attr);
    Opened opened{.attr = std::move(told.attr)};
    // Without them: not wanted, not small, or an answer given again.
    if (!bytes.empty() && bytes.size() == opened.attr.size)
      opened.content.emplace(bytes.begin(), bytes.end());
    done(std::move(opened));
  }
  void operator()(Done<wire::EntryReply>& done) {
    auto reply = decode_answer<wire::EntryReply>(answer);
    if (reply) reply->believed_until = learner.until_of(learner.dir);
    if (reply && reply->attr) learner.learn(*reply->attr);
    done(std::move(reply));
  }
  void operator()(Done<std::string>& done) {
    auto reply = decode_answer<wire::ReadlinkReply>(answer);
    if (!reply) return done(fail(std::move(reply.error())));
    done(std::move(reply->target));
  }
  void operator()(Done<wire::ReaddirReply>& done) {
    auto reply = decode_answer<wire::ReaddirReply>(answer);
    if (reply) reply->believed_until = learner.until_of(learner.dir);
    if (reply)
      for (wire::DirectoryEntry& entry : reply->entries)
        if (entry.attr) learner.learn(*entry.attr);
    done(std::move(reply));
  }
  void operator()(Done<wire::FallocateReply>& done) {
    auto reply = decode_answer<wire::FallocateReply>(answer);
    if (reply) learner.learn(reply->attr);
    done(std::move(reply));
  }
  // Replies that teach nothing.
  template <class Reply>
  void operator()(Done<Reply>& done) {
    done(decode_answer<Reply>(answer));
  }
};

}  // namespace

void finish(AnyDone& done, Answer& answer, Learner learner) {
  std::visit(Finisher{answer, learner}, done);
}

}  // namespace magma::client
