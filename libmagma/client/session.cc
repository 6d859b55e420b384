#include "libmagma/client/session.h"

#include <algorithm>
#include <limits>

#include "libmagma/base/log.h"
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

Session::Session(std::string host, Links& links, Router& router, sys::Clock& clock,
                 sys::Random& random, SessionEvents& events)
    : host_(std::move(host)),
      links_(links),
      router_(router),
      clock_(clock),
      random_(random),
      events_(events) {}

void Session::begin() {
  new_id();
  links_.want_all();
}

void Session::end() {
  state_ = State::ended;
  due_ = Instant::never();
}

void Session::new_id() {
  do {
    id_ = SessionId(random_.next());
  } while (id_.value == 0);
  state_ = State::attaching;
  due_ = clock_.now();
}

void Session::refresh_map(LinkIndex avoid) {
  if (state_ != State::live) return;
  avoided_ = avoid;
  if (attach_link_ != kNoLink) {
    attach_again_ = attach_link_ == avoid || attach_again_;
    return;
  }
  due_ = std::min(due_, std::max(clock_.now(), attach_sent_ + kMapInterval));
  send_if_due();
}

void Session::lost(SessionId which) {
  if (state_ != State::live || which != id_) return;
  log_warning("session_lost session={:016x}", id_.value);
  SessionId old = id_;
  new_id();
  events_.on_session_lost(old);
  send_if_due();
}

void Session::on_link_up(LinkIndex link) {
  if (state_ == State::idle || state_ == State::ended) return;
  preferred_ = link;
  due_ = clock_.now();
  send_if_due();
}

void Session::on_link_down(LinkIndex link) {
  if (attach_link_ == link) {  // its answer connection_closed came before; to be safe
    attach_link_ = kNoLink;
    retry_later();
  }
  if (!links_.is_any_up() && state_ != State::idle && state_ != State::ended) links_.want_all();
}

LinkIndex Session::choose_link() {
  if (preferred_ != kNoLink && preferred_ != avoided_ && links_.is_up(preferred_))
    return preferred_;
  std::size_t count = links_.count();
  LinkIndex last_resort = kNoLink;
  std::size_t start = preferred_ == kNoLink ? 0 : preferred_ + 1u;
  for (std::size_t i = 0; i < count; ++i) {
    auto link = static_cast<LinkIndex>((start + i) % count);
    if (!links_.has_room(link)) continue;
    if (link != avoided_) return link;
    last_resort = link;
  }
  return last_resort;
}

void Session::send_if_due() {
  if (attach_link_ != kNoLink || due_ > clock_.now()) return;
  LinkIndex link = choose_link();
  if (link == kNoLink) {
    due_ = Instant::never();  // on_link_up
    links_.want_all();
    return;
  }
  // The volcano asked for the map may be the one that is away: have another at hand.
  if (avoided_ != kNoLink) links_.want_all();
  send_attach(link);
}

void Session::send_attach(LinkIndex link) {
  wire::AttachRequest request;
  request.session = id_;
  request.fresh = state_ == State::attaching;
  request.host = host_;
  const Duration left = std::max(events_.believes_until() - clock_.now(), Duration{});
  request.believes_ms = static_cast<std::uint16_t>(
      std::min<std::int64_t>(left.ns / 1'000'000 + 1, std::numeric_limits<std::uint16_t>::max()));
  if (left == Duration{}) request.believes_ms = 0;
  attach_link_ = link;
  attach_id_ = id_;
  attach_fresh_ = request.fresh;
  attach_again_ = false;
  attach_sent_ = clock_.now();
  avoided_ = kNoLink;
  preferred_ = link;
  due_ = Instant::never();
  links_.send(link, {.head = encode_request(id_, request), .tail = {}}, rpc::Priority::lock,
              attach_sent_ + kAttachPatience, kAttachToken);
}

void Session::retry_later() {
  avoided_ = preferred_;
  due_ = clock_.now() + backoff_;
  backoff_ = std::min(backoff_ * 2, kBackoffLast);
}

void Session::on_answer(LinkIndex link, Result<ByteSpan> message) {
  if (link != attach_link_ || state_ == State::ended) return;
  attach_link_ = kNoLink;
  if (attach_id_ != id_) {  // of a session that is over
    due_ = clock_.now();
    return send_if_due();
  }
  if (!message) return retry_later();
  auto front = wire::decode_front<wire::ResponseHead>(*message);
  if (!front) return retry_later();
  auto& [head, body] = *front;
  if (head.code == 0) {
    auto reply = wire::decode<wire::AttachReply>(body);
    if (!reply) return retry_later();
    return accept(*reply);
  }
  auto code = static_cast<Code>(head.code);
  log_debug('n', "attach_refused session={:016x} code={}", id_.value, name_of(code));
  if (code == Code::exists && attach_fresh_) {
    // The ring has it already: an answer of ours was lost, or chance. A new one is always right.
    new_id();
    return send_if_due();
  }
  if ((code == Code::unknown_session || code == Code::fenced) && !attach_fresh_) return lost(id_);
  retry_later();
  if (class_of(code) == ErrorClass::final)
    events_.on_attach_refused(Error{code, links_.address(link).text()});
}

void Session::accept(const wire::AttachReply& reply) {
  Instant now = clock_.now();
  bool is_new = state_ == State::attaching;
  bool was_usable = is_usable(now);
  lease_until_ = attach_sent_ + wire::kSessionLease;
  backoff_ = kBackoffFirst;
  due_ = attach_again_ ? now + kMapInterval : attach_sent_ + kRenewEvery;
  bool changed = router_.install(reply, is_new || force_map_, links_);
  force_map_ = false;
  if (is_new) {
    state_ = State::live;
    ++sessions_;
    log_debug('n', "session_begun session={:016x} map_version={}", id_.value, reply.map_version);
  }
  if (changed) events_.on_routes_changed();
  if (is_new || !was_usable) events_.on_session_usable(is_new, reply);
}

bool Session::send_detach() {
  LinkIndex link = choose_link();
  if (link == kNoLink || state_ != State::live) return false;
  wire::DetachRequest request;
  request.session = id_;
  links_.send(link, {.head = encode_request(id_, request), .tail = {}}, rpc::Priority::lock,
              Instant::never(), kDetachToken);
  return true;
}

Instant Session::deadline() const { return attach_link_ == kNoLink ? due_ : Instant::never(); }

void Session::on_timer() {
  if (state_ == State::attaching || state_ == State::live) send_if_due();
}

}  // namespace magma::client
