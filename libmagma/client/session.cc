#include "libmagma/client/session.h"

#include <algorithm>

#include "libmagma/base/log.h"
#include "libmagma/wire/codec.h"

namespace magma::client {

Session::Session(std::string host, Links& links, Router& router, sys::Clock& clock,
                 sys::Random& random, SessionEvents& events)
    : host_(std::move(host)),
      links_(links),
      router_(router),
      clock_(clock),
      random_(random),
      events_(events),
      attachments_(links, router, clock) {}

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
  attachments_.begin(id_, host_);
}

void Session::refresh_map(LinkIndex avoid) {
  if (state_ != State::live) return;
  // Where slots are several volcanoes' each tells of its own alone.
  if (router_.is_split() && avoid != kNoLink && avoid != preferred_) return refresh_map_at(avoid);
  if (!router_.is_split()) avoided_ = avoid;
  if (attach_link_ != kNoLink) {
    attach_again_ = attach_link_ == avoid || attach_again_;
    return;
  }
  due_ = std::min(due_, std::max(clock_.now(), attach_sent_ + kMapInterval));
  send_if_due();
}

void Session::refresh_map_at(LinkIndex link) {
  if (!router_.is_split() || link == preferred_ || link == kNoLink) return refresh_map(kNoLink);
  if (state_ != State::live) return;
  attachments_.refresh(link);
  attachments_.pump(events_.believes_until());
}

void Session::lost(SessionId which) {
  if (state_ != State::live || which != id_) return;
  log_warning("session_lost session={:016x}", id_.value);
  SessionId old = id_;
  attachments_.detach(kForgetToken);
  new_id();
  events_.on_session_lost(old);
  send_if_due();
}

void Session::on_link_up(LinkIndex link) {
  if (state_ == State::idle || state_ == State::ended) return;
  const bool has_main = preferred_ != kNoLink && preferred_ != link && links_.is_up(preferred_);
  if (state_ == State::live && router_.is_split() && has_main) {
    attachments_.on_link_up(link);
    return attachments_.pump(events_.believes_until());
  }
  preferred_ = link;
  due_ = clock_.now();
  send_if_due();
}

void Session::on_link_down(LinkIndex link) {
  attachments_.on_link_down(link);
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
  const bool is_fresh = state_ == State::attaching || attachments_.is_new_to(link);
  log_debug('n', "attach_sent session={:016x} address={} is_fresh={}", id_.value,
            links_.address(link).text(), is_fresh);
  attach_link_ = link;
  attach_id_ = id_;
  attach_fresh_ = is_fresh;
  attach_again_ = false;
  attach_sent_ = clock_.now();
  avoided_ = kNoLink;
  preferred_ = link;
  due_ = Instant::never();
  links_.send(link,
              {.head = attach_bytes({.session = id_,
                                     .is_fresh = is_fresh,
                                     .host = host_,
                                     .believes = events_.believes_until() - attach_sent_}),
               .tail = {}},
              rpc::Priority::lock, attach_sent_ + kAttachPatience, kAttachToken);
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
  if (!message) {
    log_debug('n', "attach_failed session={:016x} address={} error={}", id_.value,
              links_.address(link).text(), describe(message.error()));
    links_.doubt(link);
    return retry_later();
  }
  auto front = wire::decode_front<wire::ResponseHead>(*message);
  if (!front) return retry_later();
  auto& [head, body] = *front;
  if (head.code == 0) {
    auto reply = wire::decode<wire::AttachReply>(body);
    if (!reply) return retry_later();
    if (!Router::is_of_owner(*reply)) return go_elsewhere(*reply);
    return accept(link, *reply);
  }
  auto code = static_cast<Code>(head.code);
  log_debug('n', "attach_refused session={:016x} code={}", id_.value, name_of(code));
  const bool is_refused_fresh = code == Code::exists || code == Code::fenced;
  if (is_refused_fresh && attach_fresh_ && state_ == State::live) return lost(id_);
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

// The volcano has no slots, and so no sessions, but it knows who has: asked as soon as connected.
void Session::go_elsewhere(const wire::AttachReply& reply) {
  retry_later();
  for (LinkIndex named : Router::links_of_named(reply, links_)) links_.want(named);
}

void Session::accept(LinkIndex link, const wire::AttachReply& reply) {
  Instant now = clock_.now();
  bool is_new = state_ == State::attaching;
  bool was_usable = is_usable(now);
  lease_until_ = attach_sent_ + wire::kSessionLease;
  backoff_ = kBackoffFirst;
  due_ = attach_again_ ? now + kMapInterval : attach_sent_ + kRenewEvery;
  const bool was_split = router_.is_split();
  bool changed = router_.install(reply, link, is_new || force_map_, links_);
  force_map_ = false;
  attachments_.main_confirmed(link, reply, attach_sent_);
  if (is_new) {
    state_ = State::live;
    ++sessions_;
    log_debug('n', "session_begun session={:016x} map_version={}", id_.value, reply.map_version);
  }
  log_debug('n', "attached session={:016x} address={} map_version={} owners_version={}", id_.value,
            links_.address(link).text(), reply.map_version, reply.owners_version);
  if (changed) events_.on_routes_changed();
  if (is_new || !was_usable) events_.on_session_usable(is_new, reply);
  // What waits for this volcano may have begun to when others had slots, too.
  if (!was_split && !router_.is_split()) return;
  events_.on_attached(link);
  if (LinkIndex itself = Router::link_of_teller(reply, links_); itself != link && itself != kNoLink)
    events_.on_attached(itself);
  attachments_.pump(events_.believes_until());
}

void Session::on_other_answer(LinkIndex link, Result<ByteSpan> message) {
  if (state_ != State::live) return;
  switch (attachments_.on_answer(link, std::move(message))) {
    case Attachments::Outcome::none: break;
    case Attachments::Outcome::session_lost: return lost(id_);
    case Attachments::Outcome::routes_changed:
      events_.on_routes_changed();
      events_.on_attached(link);
      break;
    case Attachments::Outcome::attached: events_.on_attached(link); break;
  }
  attachments_.pump(events_.believes_until());
}

unsigned Session::send_detach() {
  if (state_ != State::live) return 0;
  if (router_.is_split()) return attachments_.detach(kDetachToken);
  LinkIndex link = choose_link();
  if (link == kNoLink) return 0;
  links_.send(link, {.head = detach_bytes(id_), .tail = {}}, rpc::Priority::lock,
              Instant::never(), kDetachToken);
  return 1;
}

Instant Session::deadline() const {
  const Instant others = state_ == State::live ? attachments_.deadline() : Instant::never();
  return std::min(others, attach_link_ == kNoLink ? due_ : Instant::never());
}

void Session::on_timer() {
  if (state_ == State::attaching || state_ == State::live) send_if_due();
  if (state_ == State::live) attachments_.pump(events_.believes_until());
}

}  // namespace magma::client
