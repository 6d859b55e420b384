#include "libmagma/client/attachments.h"

#include <algorithm>
#include <limits>

#include "libmagma/base/log.h"
#include "libmagma/client/session.h"
#include "libmagma/wire/codec.h"

namespace magma::client {

namespace {

template <class Message>
Bytes encode_request(SessionId session, const Message& message) {
  Bytes out;
  wire::RequestHead head;
  head.op = static_cast<std::uint16_t>(wire::OpOf<Message>::op);
  head.session = session;
  wire::encode_to(out, head);
  wire::encode_to(out, message);
  return out;
}

}  // namespace

Bytes attach_bytes(const AttachWords& words) {
  wire::AttachRequest request;
  request.session = words.session;
  request.fresh = words.is_fresh;
  request.host = words.host;
  if (words.believes > Duration{})
    request.believes_ms = static_cast<std::uint16_t>(std::min<std::int64_t>(
        words.believes.ns / 1'000'000 + 1, std::numeric_limits<std::uint16_t>::max()));
  return encode_request(words.session, request);
}

Bytes detach_bytes(SessionId session) {
  wire::DetachRequest request;
  request.session = session;
  return encode_request(session, request);
}

void Attachments::begin(SessionId session, std::string_view host) {
  session_ = session;
  host_ = host;
  for (Attachment& attachment : list_) {
    attachment.is_known = false;
    attachment.lease_until = {};
    attachment.due = Instant::never();
    attachment.backoff = kBackoffFirst;
  }
}

void Attachments::find_owners() {
  list_.resize(links_.count());
  for (Attachment& attachment : list_) attachment.is_owner = false;
  for (const Router::Owner& owner : router_.owners()) list_[owner.link].is_owner = true;
}

void Attachments::main_confirmed(LinkIndex main, const wire::AttachReply& reply, Instant sent) {
  find_owners();
  main_ = main;
  confirmed(main, sent);
  // The volcano may be known by another address than it was reached by.
  if (LinkIndex itself = router_.link_of_teller(reply, links_); itself != kNoLink && itself != main)
    confirmed(itself, sent);
  if (!router_.is_split()) return;
  for (std::size_t i = 0; i < list_.size(); ++i) {
    Attachment& other = list_[i];
    if (!other.is_owner || i == main_ || other.due != Instant::never() || other.is_under_way)
      continue;
    other.due = clock_.now();
    links_.want(static_cast<LinkIndex>(i));
  }
}

void Attachments::confirmed(LinkIndex link, Instant sent) {
  Attachment& attachment = list_[link];
  attachment.is_known = true;
  attachment.lease_until = sent + wire::kSessionLease;
  attachment.backoff = kBackoffFirst;
  attachment.due = link == main_ ? Instant::never() : sent + kRenewEvery;
}

bool Attachments::is_new_to(LinkIndex link) const {
  if (!router_.is_split() && !router_.may_change()) return false;
  return link >= list_.size() || !list_[link].is_known;
}

void Attachments::refresh(LinkIndex link) {
  if (link >= list_.size() || !list_[link].is_owner || list_[link].is_under_way) return;
  Attachment& attachment = list_[link];
  const Instant soon = std::max(clock_.now(), attachment.sent + kMapInterval);
  attachment.due = std::min(attachment.due, soon);
}

unsigned Attachments::detach(Token token) {
  unsigned asked = 0;
  for (std::size_t i = 0; i < list_.size(); ++i) {
    const auto link = static_cast<LinkIndex>(i);
    if (!list_[i].is_known || !list_[i].is_owner || !links_.has_room(link)) continue;
    links_.send(link, {.head = detach_bytes(session_), .tail = {}}, rpc::Priority::lock,
                Instant::never(), token);
    ++asked;
  }
  return asked;
}

void Attachments::on_link_up(LinkIndex link) {
  if (is_wanted(link) && link != main_) list_[link].due = clock_.now();
}

// It may be another start that answers next: its epochs are to be known before anything is sent.
void Attachments::on_link_down(LinkIndex link) {
  if (link >= list_.size()) return;
  list_[link].lease_until = {};
  list_[link].is_under_way = false;
}

void Attachments::try_later(Attachment& attachment) {
  attachment.due = clock_.now() + attachment.backoff;
  attachment.backoff = std::min(attachment.backoff * 2, kBackoffLast);
}

Attachments::Outcome Attachments::on_answer(LinkIndex link, Result<ByteSpan> message) {
  if (link >= list_.size() || !list_[link].is_under_way) return Outcome::none;
  Attachment& attachment = list_[link];
  attachment.is_under_way = false;
  if (attachment.session != session_) {
    attachment.due = clock_.now();
    return Outcome::none;
  }
  auto front = message ? wire::decode_front<wire::ResponseHead>(*message) : fail(message.error());
  const Code code = front ? static_cast<Code>(front->first.code) : front.error().code;
  if (code == Code{}) {
    auto reply = wire::decode<wire::AttachReply>(front->second);
    if (!reply || !Router::is_of_owner(*reply)) return try_later(attachment), Outcome::none;
    confirmed(link, attachment.sent);
    log_debug('n', "attached_too session={:016x} address={} map_version={} owners_version={}",
              session_.value, links_.address(link).text(), reply->map_version,
              reply->owners_version);
    const bool changed = router_.install(*reply, link, false, links_);
    find_owners();
    return changed ? Outcome::routes_changed : Outcome::attached;
  }
  log_debug('n', "attach_refused session={:016x} code={} address={}", session_.value, name_of(code),
            links_.address(link).text());
  if (code == Code::unknown_session || code == Code::fenced || code == Code::exists)
    return Outcome::session_lost;
  if (!message) links_.doubt(link);
  try_later(list_[link]);
  return Outcome::none;
}

Instant Attachments::deadline() const {
  if (!router_.is_split()) return Instant::never();
  Instant next = Instant::never();
  for (std::size_t i = 0; i < list_.size(); ++i)
    if (list_[i].is_owner && i != main_ && !list_[i].is_under_way &&
        links_.is_up(static_cast<LinkIndex>(i)))
      next = std::min(next, list_[i].due);
  return next;
}

void Attachments::pump(Instant believes_until) {
  if (!router_.is_split()) return;
  const Instant now = clock_.now();
  for (std::size_t i = 0; i < list_.size(); ++i) {
    const auto link = static_cast<LinkIndex>(i);
    Attachment& attachment = list_[i];
    if (!attachment.is_owner || i == main_ || attachment.is_under_way || attachment.due > now)
      continue;
    if (!links_.has_room(link)) {
      links_.want(link);
      continue;
    }
    attachment.is_under_way = true;
    attachment.session = session_;
    attachment.sent = now;
    attachment.due = Instant::never();
    links_.send(link,
                {.head = attach_bytes({.session = session_,
                                       .is_fresh = !attachment.is_known,
                                       .host = host_,
                                       .believes = believes_until - now}),
                 .tail = {}},
                rpc::Priority::lock, now + kAttachPatience, kOtherAttachToken);
  }
}

}  // namespace magma::client
