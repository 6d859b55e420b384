// Advisory locks of inodes, in memory: record locks of fcntl(2) and whole-file locks of flock(2).
// The two kinds do not see each other. No I/O and no clock. A shard has one for its inodes, stores
// held() of each (inode, session) as a row and gives it back with restore() after a restart; a
// client has one for the files that it decides about (client/own_locks.h). One thread.
//
// Record locks, fcntl(2) "Advisory record locking". An owner (a process: its table of open files)
// has at most one type of lock on a byte. A lock replaces what the owner had on those bytes, so
// that other ranges are cut, split or joined with neighbours of the same type. Ranges of different
// owners conflict where they overlap and one is exclusive; owners of one session conflict as well.
// A request that meets a conflict changes nothing, also if parts of the range were free.
//
// Whole-file locks, flock(2). An owner is an open file description. To lock again with the same
// type does nothing. A conversion is not atomic, as in Linux: "the existing lock is first removed,
// and then a new lock is established", so a conversion that meets a conflict has lost the old lock,
// whether it waits then or fails with EWOULDBLOCK.
//
// Waiting. wait() only takes down who waits for what; nothing is granted here. After each call that
// says `changed`, and after drop_owner, drop_session, restore and wait, the shard takes
// take_ready() and tries those requests again in that order: try_lock(), then forget() if granted,
// else wait() with the same ticket, which keeps its place; until take_ready() is empty, since a
// retry can change something as well. The first to come is so the first to be served among those
// whose lock can be granted; a lock that can be granted does not queue behind one that can't, as in
// Linux.
//
// Invariants: the ranges of an owner are sorted, do not overlap, and touch only where their types
// differ; no owner without a range, no inode without lock or wait is kept.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "libmagma/base/result.h"
#include "libmagma/base/strong.h"

namespace magma::locks {

// Locked ranges and whole-file locks of one session on one inode; more: LockOutcome::too_many.
inline constexpr std::size_t kLocksPerInodeMax = 4096;
// Requests of one session that wait at the same time; more: WaitOutcome::too_many.
inline constexpr std::size_t kWaitsPerSessionMax = 4096;
// Waits looked at to find a deadlock; a cycle beyond them is not found (Linux looks at 10).
inline constexpr std::size_t kDeadlockWaitsMax = 4096;

// Numbers are stored: never reused.
enum class LockKind : std::uint8_t { posix = 1, flock = 2 };
enum class LockType : std::uint8_t { shared = 1, exclusive = 2 };

// Whose lock it is. Owners are numbered by each session (lock_owner of FUSE).
struct LockOwner {
  SessionId session;
  std::uint64_t id = 0;
  friend auto operator<=>(const LockOwner&, const LockOwner&) = default;
};

// Bytes start..end, both included.
struct LockRange {
  static constexpr std::uint64_t kEof = std::numeric_limits<std::uint64_t>::max();

  std::uint64_t start = 0;
  std::uint64_t end = kEof;  // kEof: to the end of the file, however long it becomes
  bool is_valid() const { return start <= end; }
  bool overlaps(const LockRange& other) const { return start <= other.end && other.start <= end; }
  friend auto operator<=>(const LockRange&, const LockRange&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("start", s.start);
    v("end", s.end);
  }
};

struct LockRequest {
  LockKind kind{};
  LockOwner owner;
  LockRange range{};  // of flock: not looked at
  LockType type{};
  std::uint32_t pid = 0;  // told by F_GETLK; no part of the owner
};

// The lock in the way; what F_GETLK tells.
struct Conflict {
  LockOwner owner;
  LockRange range{};  // whole, also where it does not overlap the request; of flock: all bytes
  LockType type{};
  std::uint32_t pid = 0;  // given with the owner's latest lock
  friend bool operator==(const Conflict&, const Conflict&) = default;
};

enum class LockOutcome : std::uint8_t {
  granted,
  conflict,  // EAGAIN, or wait()
  too_many,  // ENOLCK: kLocksPerInodeMax; nothing changed
};

struct [[nodiscard]] LockResult {
  LockOutcome outcome{};
  bool changed = false;  // held() of the owner's session differs: its row must be put
  friend bool operator==(const LockResult&, const LockResult&) = default;
};

enum class WaitOutcome : std::uint8_t {
  waiting,
  deadlock,  // EDEADLK: the owner would wait for itself; not recorded
  too_many,  // ENOLCK: kWaitsPerSessionMax; not recorded
};

// What one session holds on one inode, as stored. Owners ascend, as do the ranges of one.
struct HeldRange {
  LockRange range{};
  LockType type{};
  friend bool operator==(const HeldRange&, const HeldRange&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("range", s.range);
    v("type", s.type);
  }
};
struct HeldPosix {
  std::uint64_t owner = 0;  // LockOwner::id
  std::uint32_t pid = 0;
  std::vector<HeldRange> ranges{};
  friend bool operator==(const HeldPosix&, const HeldPosix&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("owner", s.owner);
    v("pid", s.pid);
    v("ranges", s.ranges);
  }
};
struct HeldFlock {
  std::uint64_t owner = 0;
  std::uint32_t pid = 0;
  LockType type{};
  friend bool operator==(const HeldFlock&, const HeldFlock&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("owner", s.owner);
    v("pid", s.pid);
    v("type", s.type);
  }
};
struct HeldLocks {
  std::vector<HeldPosix> posix{};
  std::vector<HeldFlock> flocks{};
  bool empty() const { return posix.empty() && flocks.empty(); }  // no row needed
  friend bool operator==(const HeldLocks&, const HeldLocks&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("posix", s.posix);
    v("flocks", s.flocks);
  }
};

// Ranges and whole-file locks in `held`: what kLocksPerInodeMax bounds.
std::size_t count_of(const HeldLocks& held);

class FileLocks {
 public:
  // The conflicting lock that starts first (of several: of the lowest owner), or nothing if
  // `request` could be granted now. Requires: request.range.is_valid().
  std::optional<Conflict> test(Ino ino, const LockRequest& request) const;

  // Takes the lock or says why not. With a conflict: nothing changed for posix; for flock the lock
  // that was to be converted is gone and `changed` says so.
  // Requires: request.range.is_valid().
  LockResult try_lock(Ino ino, const LockRequest& request);

  // Gives up the owner's lock on `range` (of flock: on the file); bytes that were not locked do not
  // matter. too_many if a range would be split and that is one too many; else granted.
  // Requires: range.is_valid().
  LockResult unlock(Ino ino, LockKind kind, LockOwner owner, LockRange range = {});

  // Gives up all locks of the owner on the inode: close(2) by a process (posix), of the last
  // descriptor of a file description (flock). Its waits stay. Returns whether it had any.
  bool drop_owner(Ino ino, LockKind kind, LockOwner owner);

  struct Dropped {
    std::vector<Ino> inodes;             // where the session held locks; ascending
    std::vector<std::uint64_t> tickets;  // its waits, forgotten
  };
  // Gives up all locks and waits of a session.
  Dropped drop_session(SessionId session);

  bool has_locks(Ino ino) const;  // held ones; waits do not count

  // Whether another session has a lock on the inode, or waits for one.
  bool has_others(Ino ino, SessionId session) const;

  HeldLocks held(Ino ino, SessionId session) const;

  // Makes `held` all that the session holds on the inode, in place of what it held. malformed, and
  // nothing changed, if `held` breaks an invariant or a bound, or conflicts within itself or with
  // other sessions' locks.
  Result<void> restore(Ino ino, SessionId session, const HeldLocks& held);

  // Records that `request` waits for the locks that conflict now; `ticket` is the caller's name for
  // it. A ticket that waits already keeps its place, is checked again, and is forgotten if the
  // answer is not `waiting`. Only posix waits can deadlock: the owner would wait, directly or over
  // other waiting owners, for itself. As fcntl(2) BUGS says of Linux this may be wrong for an owner
  // of several threads; cycles over locks of another shard are not seen.
  // Requires: request.range.is_valid(); a ticket stays with its inode.
  WaitOutcome wait(Ino ino, const LockRequest& request, std::uint64_t ticket);

  // Ends a wait: granted, interrupted or given up. An unknown ticket does not matter.
  void forget(std::uint64_t ticket);

  // Tickets that can be tried again, in the order they came: all waits without a conflict on
  // inodes whose locks changed, or that were waited for, since the last call. They still wait.
  std::vector<std::uint64_t> take_ready();

 private:
  struct PosixLocks {
    std::uint32_t pid = 0;
    std::vector<HeldRange> ranges;
  };
  struct FlockLock {
    std::uint32_t pid = 0;
    LockType type{};
  };
  struct Inode {
    std::map<LockOwner, PosixLocks> posix;
    std::map<LockOwner, FlockLock> flocks;
    std::map<std::uint64_t, std::uint64_t> waits;  // arrival -> ticket
  };
  struct Wait {
    Ino ino;
    LockRequest request;
    std::uint64_t arrival = 0;
  };

  const Inode* find(Ino ino) const;
  std::vector<LockOwner> blockers(Ino ino, const LockRequest& request) const;
  bool closes_cycle(Ino ino, const LockRequest& request) const;
  std::size_t waits_of(SessionId session) const;
  LockResult set_ranges(Ino ino, LockOwner owner, std::vector<HeldRange> ranges,
                        std::optional<std::uint32_t> pid);
  LockResult try_flock(Ino ino, const LockRequest& request);
  void drop_held(Ino ino, SessionId session);
  void changed(Ino ino, SessionId session);

  std::unordered_map<Ino, Inode> inodes_;
  std::map<SessionId, std::set<Ino>> holders_;     // inodes where a session holds a lock
  std::unordered_map<std::uint64_t, Wait> waits_;  // by ticket
  std::set<std::pair<LockOwner, std::uint64_t>> waiting_owners_;  // owner, ticket
  std::set<Ino> changed_;                                         // take_ready looks at these
  std::uint64_t last_arrival_ = 0;
};

}  // namespace magma::locks
