// Files that this client opens for reading on its own: while it may believe the attributes of a
// file (its token, beliefs.h), an open tells nothing new, and counts only when the file loses its
// last name. So it is told (wire::KeepRequest) only when
//   - a volcano says that the file is another one, before that is confirmed: whoever removed the
//     file is answered after it, and the file itself stays until then;
//   - what is believed ends soon;
//   - this client is about to take a name away itself: nobody tells it of its own changes. While
//     such a change is under way, opens are asked for as if nothing were believed;
//   - the session is a new one.
// Most files are closed before: grep, cat, a compiler.
//
// Only attributes of regular files with one name are learned, and all are forgotten with each
// change of names of this client, because it does not know what the names lead to.
//
// Pure: the owner sends what due() tells. One thread. Bounded: kKnownMax attributes; opens are as
// many as the caller's.
#pragma once

#include <cstddef>
#include <optional>
#include <unordered_map>
#include <vector>

#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/client/beliefs.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::client {

class LocalOpens {
 public:
  static constexpr std::size_t kKnownMax = 16384;
  // An open is told so long before what is believed ends.
  static constexpr Duration kTellAhead = seconds(1);
  static constexpr Duration kTellAgain = milliseconds(100);  // after it failed

  // ---- what is believed
  // From an answer to a request made at `made_at`; believed until attr.believed_until.
  void learn(const wire::Attr& attr, Instant made_at);
  // Another client, or this one, has changed the flare.
  void changed(Ino ino, Instant now);
  // The answer to a release, made at `made_at`, tells the access time. The rest is as it was, if
  // nothing has changed the file since.
  void access_time_set(Ino ino, WallTime atime, Instant made_at);
  // A change of this client that may take a name away is asked for, and has ended. It may be sent
  // when all opens are told.
  void names_change_begins() { ++names_changing_; }
  void names_change_ends(Instant now);
  // Nothing is believed any more (another map, another session).
  void forget_all(Instant now);

  // What is believed of a file; nullptr if nothing is.
  const wire::Attr* known(Ino ino, Instant now) const;

  // ---- opens
  // The attributes, if the file can be opened so; counts the open.
  const wire::Attr* open(Ino ino, Instant now);
  struct Closed {
    bool is_told = false;         // one open that counts has ended
    bool is_access_due = false;   // the access time is to be set (relatime of mount(8))
  };
  // Ends one open; nothing if none of the file is local. It may be one that was told by itself:
  // what counts is how many are left.
  bool is_open(Ino ino) const { return opens_.contains(ino); }
  std::optional<Closed> close(Ino ino, bool was_read, WallTime now);

  // ---- telling
  bool has_untold() const { return untold_ > 0; }
  // All that are open become due now.
  void tell_all(Instant now);
  // Those to be told now, each once.
  std::vector<Ino> due(Instant now);
  enum class Told : std::uint8_t {
    done,
    failed,  // to be tried again
    gone,    // there is no such file any more: reading it will say so
  };
  // Whether the file was closed while it was being told: the open that counts is to be ended.
  bool is_closed(Ino ino) const;
  void told(Ino ino, Told how, Instant now);
  // Calls `then` when the file's opens are told; at once if there are none untold.
  void when_told(Ino ino, Instant now, UniqueFunction<void()> then);
  // The same for all.
  void when_all_told(Instant now, UniqueFunction<void()> then);
  Instant deadline() const { return next_due_; }  // or earlier

  std::size_t size() const { return opens_.size(); }

 private:
  enum class State : std::uint8_t { untold, telling, told };
  struct Open {
    std::size_t count = 0;
    State state = State::untold;
    bool was_read = false;
    Instant due{};
    std::vector<UniqueFunction<void()>> waiters{};
  };
  void be_due(Open& open, Instant at);
  void now_told(Open& open);
  void end(std::unordered_map<Ino, Open>::iterator ended);

  std::unordered_map<Ino, wire::Attr> known_;
  Beliefs own_;  // changes of this client and of others, by the time of the request
  std::size_t names_changing_ = 0;
  std::unordered_map<Ino, Open> opens_;
  std::size_t untold_ = 0;                  // opens not in state told
  Instant next_due_ = Instant::never();     // no open is due before
  std::vector<UniqueFunction<void()>> all_waiters_;
};

}  // namespace magma::client
