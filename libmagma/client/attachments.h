// The client's one session at each of several volcanoes: where slots have primaries on more than
// one, each must know the session, and keeps a lease of its own. Session attaches to one of them,
// its *main* volcano, as ever; this attaches to the others that the map names as owners, renews,
// and says which of them may be sent to now. With one volcano it only remembers that it knows the
// session: another may have got the slots when it is asked next.
//
// Used by Session. One thread.
#pragma once

#include <string>
#include <vector>

#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/client/links.h"
#include "libmagma/client/router.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::client {

inline constexpr Token kOtherAttachToken = (1ull << 63) | 2;  // of an attach sent by this
inline constexpr Token kForgetToken = (1ull << 63) | 3;       // a detach that nobody waits for

// The bytes of an attach request.
struct AttachWords {
  SessionId session;
  bool is_fresh = false;
  std::string_view host;
  Duration believes{};  // for so long what was told may still be believed
};
Bytes attach_bytes(const AttachWords& words);
Bytes detach_bytes(SessionId session);

class Attachments {
 public:
  enum class Outcome : std::uint8_t { none, attached, routes_changed, session_lost };

  Attachments(Links& links, Router& router, sys::Clock& clock)
      : links_(links), router_(router), clock_(clock) {}

  // The session that is attached from now on: a new one, whom no volcano knows.
  void begin(SessionId session, std::string_view host);
  // The main volcano has confirmed the session, asked at `sent`, and told the map that the router
  // has now.
  void main_confirmed(LinkIndex main, const wire::AttachReply& reply, Instant sent);
  // Whether requests may go there: the volcano has confirmed the session, and its lease runs.
  bool is_usable(LinkIndex link, Instant now) const {
    return !router_.is_split() || (link < list_.size() && now < list_[link].lease_until);
  }
  // Whether that volcano does not know the session yet: it may have got slots that another had.
  bool is_new_to(LinkIndex link) const;
  // Whether the session needs that volcano, so that it should be connected.
  bool is_wanted(LinkIndex link) const {
    return router_.is_split() && link < list_.size() && list_[link].is_owner;
  }
  // Asks that volcano for its map soon.
  void refresh(LinkIndex link);
  // Detaches from all that know the session, answered to `token`; how many were asked.
  unsigned detach(Token token);

  void on_link_up(LinkIndex link);
  void on_link_down(LinkIndex link);
  Outcome on_answer(LinkIndex link, Result<ByteSpan> message);
  Instant deadline() const;
  // Sends what is due. `believes_until` as SessionEvents::believes_until().
  void pump(Instant believes_until);

 private:
  struct Attachment {
    bool is_owner = false;
    bool is_known = false;       // the volcano has had the session
    bool is_under_way = false;
    Instant lease_until{};
    Instant sent{};
    Instant due = Instant::never();
    Duration backoff = kBackoffFirst;
    SessionId session{};         // of the attach under way
  };

  void find_owners();
  void confirmed(LinkIndex link, Instant sent);
  void try_later(Attachment& attachment);

  Links& links_;
  Router& router_;
  sys::Clock& clock_;
  SessionId session_;
  std::string host_;
  LinkIndex main_ = kNoLink;
  std::vector<Attachment> list_;  // by link
};

}  // namespace magma::client
