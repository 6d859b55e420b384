// Advisory locks that this client keeps by itself. While it has the write token of a file
// (write_back.h) nobody else has the file open, so nobody else can have a lock on it: what its own
// programs lock is decided here, without asking the volcano. A database takes some locks for every
// transaction.
//
// Of every file that its programs lock this client knows all their locks: those that a volcano gave
// them (ended_change()), and those it gave itself. What the volcano has not been told is sent at
// once, as one set of all locks of the file (set_locks), when
//   - the volcano recalls the token: it is confirmed after that,
//   - the file is closed by the last program that may write to it, or the map changes,
//   - a program waits for a lock, which the volcano sees to: from then on, and while any call about
//     locks of the file is under way, the volcano decides.
// Until the set is sent no lock of the file is decided by anybody.
//
// A set that fails is sent again: until it is taken the recall is not confirmed.
//
// Where the outcome of a call is not known, the volcano is asked for all that follow, until the
// file is closed. With the session all locks end, here as there.
//
// Pure: the owner sends through `Owner`. One thread. Bounded by the locks of open files.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "libmagma/base/file_locks.h"
#include "libmagma/base/result.h"
#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::client {

class OwnLocks {
 public:
  static constexpr Duration kPause = milliseconds(200);  // before a set is sent again

  class Owner {
   public:
    virtual ~Owner() = default;
    // Calls sent(ino, number, ...) later or inside.
    virtual void send_locks(Ino ino, locks::HeldLocks held, std::uint64_t number) = 0;
  };
  explicit OwnLocks(Owner& owner) : owner_(owner) {}

  // ---- what programs do. `has_token`: of the file
  // Decides the call; nothing: the volcano is to be asked, after when_sent().
  std::optional<locks::LockOutcome> lock(const wire::LockRequest& request, bool has_token);
  std::optional<wire::TestLockReply> test(const wire::LockRequest& request, bool has_token) const;
  // A call of the volcano begins, and has ended: a change of locks (the code of its answer, none:
  // done), or a question.
  void begin_change(Ino ino);
  void ended_change(const wire::LockRequest& request, Code code);
  void begin_question(Ino ino);
  void ended_question(Ino ino);
  // Whether the volcano does not know all.
  bool is_unsent(Ino ino) const;
  // Calls `then` when it does; at once if so.
  void when_sent(Ino ino, UniqueFunction<void()> then);

  // ---- what the ring does
  void send_all();      // another map: no token is counted on
  void session_lost();  // and with it all locks
  void sent(Ino ino, std::uint64_t number, const Result<wire::EmptyReply>& result, Instant now);
  // This client has the file open no more.
  void closed(Ino ino);
  void end();

  Instant deadline() const { return next_due_; }  // or earlier
  void on_timer(Instant now);

  std::uint64_t decided() const { return decided_; }  // calls, here
  std::uint64_t sets() const { return sets_; }        // sent
  std::size_t files() const { return files_.size(); }

 private:
  struct File {
    unsigned changes = 0;        // calls of the volcano under way
    unsigned questions = 0;
    bool is_unsent = false;      // the volcano does not know all
    bool is_unsure = false;      // nor is all known here
    std::uint64_t sending = 0;   // the set under way
    Instant again = Instant::never();  // it has failed
    bool is_busy() const { return changes > 0 || questions > 0 || sending != 0; }
    std::vector<UniqueFunction<void()>> waiters{};  // until it is sent
  };

  void forget_locks(Ino ino);
  bool decides(Ino ino, const wire::LockRequest& request, bool has_token) const;
  locks::LockResult apply(const wire::LockRequest& request);
  void forget_if_idle(Ino ino);
  void send(Ino ino, File& file);
  void told(Ino ino);

  Owner& owner_;
  bool has_ended_ = false;
  locks::FileLocks locks_;
  std::unordered_map<Ino, File> files_;
  Instant next_due_ = Instant::never();
  std::uint64_t last_number_ = 0;
  std::uint64_t decided_ = 0;
  std::uint64_t sets_ = 0;
};

}  // namespace magma::client
