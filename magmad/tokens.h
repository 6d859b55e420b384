// Tokens: who may believe what it was told. A session that is told of an inode (its attributes and
// content, or the names in it) holds a token of it for wire::kTokenTerm from the making of its
// request; so a mount can answer from memory, and the kernel above it. Whoever changes the inode
// meanwhile has its answer held back until every other holder has confirmed a `changed` message, or
// its token has ended: nobody reads what is older than a change that was answered.
//
// Who reads a changed inode before all holders have confirmed is held back as well: else he could
// tell a holder of what the holder does not see.
//
// A session that alone has a file open may also delay its writes (a write token): then it alone
// knows what the file is, and nobody else has a token of it. Who else asks for the file waits until
// the writer has confirmed a `changed` message that recalls the token, or its session has ended.
// Such a token has no term. The rows of opens tell which files it may be of, so a volcano knows
// after a restart whom to ask.
//
// A session of which nobody else knows anything in a slot may delay changes of names in a directory
// there (a names token): until it has confirmed that it is recalled, requests of others that tell
// of what is at home in the slot wait.
//
// Tokens are in memory only. After a restart of the volcano the sessions of before may hold any:
// changes of others wait until those have ended (begin_grace). In the process they outlive a tenure
// (tenures.h): of slots that it has kept, the volcano knows who believes what (go_on).
//
// Pure: fed by the shard, which holds the answers back; the volcano carries the messages. One
// thread. Bounded: kTokensMax; who gets none may not believe what it was told.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/ring/slot.h"
#include "libmagma/ring/slot_mask.h"
#include "libmagma/wire/flare_messages.h"

namespace magma {

using NoticeId = std::uint64_t;  // one `changed` message about one flare to one session; never 0

class Tokens {
 public:
  static constexpr std::size_t kTokensMax = 1u << 18;
  static constexpr std::size_t kChangesPerNotice = 512;
  // The holder's clock may run slower than ours.
  static constexpr Duration kSlack = milliseconds(250);

  enum class Of : std::uint8_t {
    flare = 1,  // its attributes and content
    names = 2,  // the entries of a directory
  };

  // `session` is being told of it, by an answer to a request that it made before `now`. False: not
  // to be believed.
  bool grant(SessionId session, Ino ino, Of what, Instant now);
  // Of a file that the session has made, and has told its programs of before: never refused, but
  // bounded by the numbers it was given.
  void note_made(SessionId session, Ino ino, Instant now);
  // `by` (no session: nobody) changes the flare, or if `name` is given what the name leads to.
  // Adds to `wait_for` what the answer to `by` must wait for.
  void changed(Ino ino, std::string_view name, SessionId by, Instant now,
               std::vector<NoticeId>& wait_for);
  // Adds what an answer that tells of `ino` must wait for.
  void add_unconfirmed(Ino ino, std::vector<NoticeId>& wait_for) const;
  bool has_unconfirmed() const { return !unconfirmed_.empty(); }
  // Whether somebody besides `by` may believe what was true of the flare before it was changed.
  bool is_unconfirmed(Ino ino, SessionId by) const;
  bool is_open(NoticeId notice) const { return notices_.contains(notice); }
  // Counts notices that have ended; while it stays the same, what was open is.
  std::uint64_t ended() const { return ended_; }

  // What is to be sent now. A message that could not be delivered comes again after heard_from().
  struct Message {
    NoticeId notice = 0;
    SessionId to;
    std::vector<wire::Change> changes;
  };
  bool has_messages() const { return !unsent_.empty(); }
  std::vector<Message> take_messages();
  void undelivered(NoticeId notice);
  void heard_from(SessionId session);
  // These three end notices: answers may be ready (is_open).
  void confirmed(NoticeId notice);
  void forget(SessionId session);  // it has ended
  void on_timer(Instant now);
  Instant deadline() const;  // of notices; tokens that have ended are dropped at any on_timer

  // Sessions of before a restart may believe anything of these slots, and nothing after `until`.
  void begin_grace(const std::vector<SessionId>& sessions, Instant until,
                   const ring::SlotMask& of);
  // A new tenure, with other connections: what was not confirmed is sent again (heard_from).
  void go_on();
  // What an answer to `by` must wait for, if it tells of a change made before the restart, or in an
  // earlier tenure.
  void add_grace(SessionId by, std::vector<NoticeId>& wait_for) const;
  // Such a session says how long it may still believe anything.
  void shorten_grace(SessionId session, Instant until);

  // ---- delayed writes
  // The session, which alone has the file open, may delay its writes from now on. False: somebody
  // else may believe what the file was.
  bool grant_writes(SessionId session, Ino ino, Instant now);
  // The session may have been allowed to, by the run or the volcano before this one.
  void presume_writes(SessionId session, Ino ino) { writers_[ino] = {session}; }
  // The session has closed the file.
  void end_writes(SessionId session, Ino ino);
  // What a request of `by` for the file must wait for; 0: for nothing. Asks for the token.
  NoticeId recall_writes(Ino ino, SessionId by);
  bool is_writer_another(Ino ino, SessionId by) const {
    if (writers_.empty()) return false;
    auto found = writers_.find(ino);
    return found != writers_.end() && found->second.session != by;
  }
  std::size_t writers() const { return writers_.size(); }
  void forget_writers();  // before presume_writes() and presume_names() of all

  // ---- delayed changes of names
  static constexpr std::size_t kNamesMax = 1u << 14;
  static constexpr Duration kNamesPause = seconds(1);  // of a slot after a recall
  static constexpr Duration kNamesIdle = seconds(3);  // a token that is not used is recalled
  // The session may delay changes of names in the directory from now on. False: somebody else may
  // believe something of a flare of its slot, or delays changes there.
  bool grant_names(SessionId session, Ino dir, Instant now);
  void presume_names(SessionId session, Ino dir, Instant now) { names_[dir] = {session, 0, now}; }
  // The directory is gone.
  void end_names(Ino dir);
  void use_names(Ino dir, Instant now);
  // What a request of `by` for anything of the slot, or for names of the one directory, must wait
  // for; 0: for nothing. Asks for the tokens.
  NoticeId recall_names(ring::Slot slot, SessionId by, Instant now);
  NoticeId recall_names(Ino dir, SessionId by);
  void recall_idle_names(Instant now);
  bool has_names() const { return !names_.empty(); }
  // Whether another session delays changes of names in a directory of the slot.
  bool has_names_of_others(ring::Slot slot, SessionId by) const;
  // Who has the token of the directory; nobody: no session.
  SessionId names_holder(Ino dir) const {
    auto found = names_.find(dir);
    return found == names_.end() ? SessionId() : found->second.session;
  }

  std::size_t size() const { return size_; }
  std::size_t notices() const { return notices_.size(); }
  struct Stats {
    std::uint64_t sent = 0;     // `changed` messages, each time
    std::uint64_t expired = 0;  // notices that nobody confirmed in time
    std::uint64_t recalled = 0;  // write tokens that were asked for
  };
  Stats stats() const { return stats_; }

 private:
  bool grant(SessionId session, Ino ino, Of what, Instant now, std::size_t most);
  struct Holder {
    SessionId session;
    Of what{};
    Instant until;
  };
  struct Notice {
    SessionId to;
    Instant until;
    std::vector<wire::Change> changes;
    bool is_sent = false;
    bool is_lost = false;  // waits for heard_from
  };
  struct Writer {
    SessionId session;
    NoticeId recall = 0;  // 0: not asked for
  };
  struct Names {
    SessionId session;
    NoticeId recall = 0;
    Instant used;
  };
  // Who may believe something of a slot's flares.
  struct Believer {
    SessionId session;
    Instant until{};
  };
  struct Believers {
    std::array<Believer, 4> known{};  // those told last, in no order
    Instant others_until{};           // and all others
    Instant no_names_until{};         // somebody waits for a names token: none is given
  };
  struct Held {
    std::vector<Holder> holders;
    bool is_due = false;  // in endings_, once
  };
  struct Ending {
    Instant at;
    Ino ino;
  };

  NoticeId notice_for(const Holder& holder, Ino ino);
  NoticeId ask_back(SessionId session, Ino ino, NoticeId& recall);
  void note_told(ring::Slot slot, SessionId session, Instant until);
  void tell(const Holder& holder, Ino ino, std::string_view name,
            std::vector<NoticeId>& wait_for);
  void end(std::map<NoticeId, Notice>::iterator notice);
  void sweep(Ino ino, Instant now);
  void let_end(Ino ino, Held& held, Instant at);

  std::unordered_map<Ino, Held> held_;
  std::deque<Ending> endings_;  // in the order of time
  std::size_t size_ = 0;
  std::map<NoticeId, Notice> notices_;
  // Not yet sent: take more changes. One for each flare, since a session may be able to confirm one
  // only after what it waits for at another (mount.magma/coherence.h).
  std::map<std::pair<SessionId, Ino>, NoticeId> collecting_;
  std::vector<NoticeId> unsent_;
  std::unordered_map<Ino, std::vector<NoticeId>> unconfirmed_;
  std::unordered_map<Ino, Writer> writers_;
  std::map<Ino, Names> names_;  // those of a slot follow each other
  std::vector<Believers> believers_ = std::vector<Believers>(ring::kSlotCount);
  std::unordered_map<SessionId, NoticeId> grace_;  // a notice that is never sent
  ring::SlotMask grace_slots_{};                   // what they may believe something of
  NoticeId carried_ = 0;                           // the last of earlier tenures
  NoticeId last_ = 0;
  std::uint64_t ended_ = 0;
  Stats stats_;
};

}  // namespace magma
