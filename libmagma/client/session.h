// The session of a client with the ring: attaching, renewing its lease, fetching the lava map, and
// noticing that it was fenced. One attach request is under way at a time, to any volcano that can
// be reached. Used by ClientImpl and Requests. One thread.
//
// States: idle -> attaching -> live -> (fenced: attaching with a new id) ... -> ended.
// While the lease has run out without an answer the session is live but not usable: requests are
// held back until a volcano has confirmed it, so that they do not run into the fence.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/client/attachments.h"
#include "libmagma/client/links.h"
#include "libmagma/client/router.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::client {

inline constexpr Duration kRenewEvery = seconds(3);
inline constexpr Duration kAttachPatience = seconds(1);       // then another volcano is asked
inline constexpr Duration kMapInterval = milliseconds(20);    // between fetches of the map
inline constexpr Token kAttachToken = 1ull << 63;             // no request has this id
inline constexpr Token kDetachToken = (1ull << 63) | 1;

class SessionEvents {
 public:
  virtual ~SessionEvents() = default;
  // The session is usable (again). `is_new`: the ring knows nothing of an earlier one.
  virtual void on_session_usable(bool is_new, const wire::AttachReply& reply) = 0;
  // What was sent under `old` and not answered may have been done or not.
  virtual void on_session_lost(SessionId old) = 0;
  virtual void on_routes_changed() = 0;
  // That volcano may be sent to (again); only where slots are several volcanoes'.
  virtual void on_attached(LinkIndex link) = 0;
  // A volcano refused to attach in a way that trying again will not change.
  virtual void on_attach_refused(const Error& error) = 0;
  // Until when anything that was told is believed.
  virtual Instant believes_until() = 0;
};

class Session {
 public:
  Session(std::string host, Links& links, Router& router, sys::Clock& clock, sys::Random& random,
          SessionEvents& events);

  void begin();
  void end();  // no more attaches
  SessionId id() const { return id_; }
  bool is_live() const { return state_ == State::live; }
  bool is_usable(Instant now) const { return state_ == State::live && now < lease_until_; }
  // Whether a request may go over that link. Requires: is_usable().
  bool is_usable_at(LinkIndex link, Instant now) const {
    return attachments_.is_usable(link, now);
  }
  // Whether the session needs that link connected whatever is to be sent.
  bool is_link_wanted(LinkIndex link) const { return attachments_.is_wanted(link); }
  bool is_attaching() const { return attach_link_ != kNoLink; }
  std::uint64_t count() const { return sessions_; }

  // Asks for the lava map soon, of another volcano than `avoid` if there is one.
  void refresh_map(LinkIndex avoid);
  // The same, because of what the volcano there has answered.
  void refresh_map_at(LinkIndex link);
  // An answer said that the ring no longer has this session.
  void lost(SessionId which);

  void on_link_up(LinkIndex link);
  void on_link_down(LinkIndex link);
  void on_answer(LinkIndex link, Result<ByteSpan> message);
  void on_other_answer(LinkIndex link, Result<ByteSpan> message);  // to kOtherAttachToken
  // Sends detach requests, to each volcano that knows the session and can be reached: how many.
  // Answered to kDetachToken.
  unsigned send_detach();

  Instant deadline() const;
  void on_timer();

 private:
  enum class State : std::uint8_t { idle, attaching, live, ended };

  void new_id();
  void send_if_due();
  void send_attach(LinkIndex link);
  LinkIndex choose_link();
  void retry_later();
  void accept(LinkIndex link, const wire::AttachReply& reply);
  void go_elsewhere(const wire::AttachReply& reply);

  std::string host_;
  Links& links_;
  Router& router_;
  sys::Clock& clock_;
  sys::Random& random_;
  SessionEvents& events_;
  Attachments attachments_;

  State state_ = State::idle;
  SessionId id_;
  std::uint64_t sessions_ = 0;
  Instant lease_until_{};
  Instant due_ = Instant::never();
  Duration backoff_ = kBackoffFirst;
  LinkIndex preferred_ = kNoLink;
  LinkIndex avoided_ = kNoLink;
  bool force_map_ = true;  // the next map is taken whatever its version

  LinkIndex attach_link_ = kNoLink;  // kNoLink: none under way
  bool attach_fresh_ = false;
  bool attach_again_ = false;
  SessionId attach_id_;
  Instant attach_sent_{};
};

}  // namespace magma::client
