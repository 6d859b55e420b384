// Messages of advisory locks, fcntl(2) and flock(2): part of the flare protocol
// (flare_messages.h).
#pragma once

#include <cstdint>

#include "libmagma/base/file_locks.h"
#include "libmagma/base/strong.h"

namespace magma::wire {

enum class LockType : std::uint8_t { shared = 1, exclusive = 2, none = 3 };
enum class LockKind : std::uint8_t { record = 1, flock = 2 };  // fcntl(2), flock(2)

// An advisory lock of a part of a file (first..last, both inclusive); `owner` is the client's
// number for a process or open description. To the home. Type `none` frees. would_block: another
// owner is in the way; then lock_wait tells when to try again.
struct LockRequest {
  Ino ino;
  LockKind kind = LockKind::record;
  LockType type = LockType::shared;
  std::uint64_t owner = 0;
  std::uint32_t pid = 0;
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("kind", s.kind);
    v("type", s.type);
    v("owner", s.owner);
    v("pid", s.pid);
    v("first", s.first);
    v("last", s.last);
  }
};

struct LockReply {
  std::uint64_t data_version = 0;  // of the file: what is cached of another one is old
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("data_version", s.data_version);
  }
};

// All that the session has locked of the file, in place of what the volcano knows: from a client
// that decided by itself while it had the write token of the file.
struct SetLocksRequest {
  Ino ino;
  locks::HeldLocks held{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("held", s.held);
  }
};

struct LockWaitRequest {  // answered when it may be worth to ask again, at least every half second
  LockRequest lock;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("lock", s.lock);
  }
};

struct TestLockRequest {  // F_GETLK
  LockRequest lock;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("lock", s.lock);
  }
};

struct TestLockReply {  // of the first lock in the way; type none: nothing is
  LockType type = LockType::none;
  std::uint32_t pid = 0;  // 0: a process of another mount
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("type", s.type);
    v("pid", s.pid);
    v("first", s.first);
    v("last", s.last);
  }
};

}  // namespace magma::wire
