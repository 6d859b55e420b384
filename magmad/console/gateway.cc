#include "magmad/console/gateway.h"

#include <algorithm>
#include <utility>

#include "libmagma/base/check.h"

namespace magma::console {

Gateway::~Gateway() {
  for (auto& [id, talk] : talks_) console_.close(talk.session);
}

Result<void> Gateway::open(TalkId talk, std::string_view who, UniqueFunction<void()> changed) {
  if (talks_.contains(talk)) return fail(Code::exists, "this talk is open already");
  SessionOptions options{.speaks_telnet = false,
                         .rights = Rights::all,
                         .who = "network key, address=" + std::string(who)};
  auto session = console_.open(std::move(options));
  if (!session) return fail(Code::overloaded, session.error());
  talks_.emplace(talk, Talk{.session = *session, .changed = std::move(changed)});
  return {};
}

void Gateway::input(TalkId talk, ByteSpan bytes) {
  const auto found = talks_.find(talk);
  MAGMA_CHECK(found != talks_.end());
  found->second.session->receive(bytes);
  found->second.wanted_input = found->second.session->wants_input();
}

bool Gateway::wants_input(TalkId talk) const {
  const auto found = talks_.find(talk);
  return found != talks_.end() && found->second.session->wants_input();
}

Bytes Gateway::take_output(TalkId talk, std::size_t bytes_max) {
  const auto found = talks_.find(talk);
  if (found == talks_.end()) return {};
  Session& session = *found->second.session;
  const ByteSpan output = session.output();
  const ByteSpan taken = output.first(std::min(bytes_max, output.size()));
  Bytes bytes(taken.begin(), taken.end());
  session.sent(bytes.size());
  // What comes from now on is news if nothing was left. (sent() itself may have made more.)
  if (bytes.size() < bytes_max || bytes.empty()) found->second.had_output = false;
  return bytes;
}

bool Gateway::has_ended(TalkId talk) const {
  const auto found = talks_.find(talk);
  return found == talks_.end() || found->second.session->is_finished();
}

void Gateway::close(TalkId talk) {
  const auto found = talks_.find(talk);
  if (found == talks_.end()) return;
  Session* session = found->second.session;
  talks_.erase(found);
  console_.close(session);
}

bool Gateway::is_news(Talk& talk) {
  const bool has_output = !talk.session->output().empty();
  const bool wants_input = talk.session->wants_input();
  const bool has_ended = talk.session->is_finished();
  const bool is_new = (has_output && !talk.had_output) || (wants_input && !talk.wanted_input) ||
                      (has_ended && !talk.had_ended);
  talk.had_output = has_output;
  talk.wanted_input = wants_input;
  talk.had_ended = has_ended;
  return is_new;
}

void Gateway::on_flush() {
  std::vector<TalkId> with_news;
  for (auto& [id, talk] : talks_)
    if (is_news(talk)) with_news.push_back(id);
  // Told, a talk may close itself or another.
  for (const TalkId id : with_news) {
    const auto found = talks_.find(id);
    if (found == talks_.end()) continue;
    auto changed = std::move(found->second.changed);
    changed();
    if (const auto still = talks_.find(id); still != talks_.end() && !still->second.changed)
      still->second.changed = std::move(changed);
  }
}

}  // namespace magma::console
