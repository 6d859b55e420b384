// Advisory locks: fcntl(2) and flock(2) rules, waits, deadlocks, rows; against a naive model. The
// tables agree with Linux 6.18 on ext4 (F_SETLK, F_GETLK, F_SETLKW, flock, /proc/locks).
#include <algorithm>
#include <array>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "libmagma/base/file_locks.h"
#include "libmagma/wire/codec.h"

using namespace magma;
using namespace magma::locks;

namespace {

constexpr Ino kIno{7};
constexpr std::uint64_t kEof = LockRange::kEof;
constexpr LockResult kGranted{LockOutcome::granted, true};
constexpr LockResult kGrantedAlready{LockOutcome::granted, false};
constexpr LockResult kConflict{LockOutcome::conflict, false};
constexpr LockResult kConflictDropped{LockOutcome::conflict, true};
constexpr LockResult kTooMany{LockOutcome::too_many, false};

LockOwner owner(std::uint64_t session, std::uint64_t id = 1) { return {SessionId(session), id}; }

LockRequest posix(LockOwner who, LockRange range, LockType type) {
  return {LockKind::posix, who, range, type, static_cast<std::uint32_t>(100 + who.id)};
}
LockRequest shared(LockOwner who, LockRange range = {}) {
  return posix(who, range, LockType::shared);
}
LockRequest exclusive(LockOwner who, LockRange range = {}) {
  return posix(who, range, LockType::exclusive);
}
LockRequest flock(LockOwner who, LockType type) {
  return {LockKind::flock, who, {}, type, static_cast<std::uint32_t>(200 + who.id)};
}
LockRequest flock_shared(LockOwner who) { return flock(who, LockType::shared); }
LockRequest flock_exclusive(LockOwner who) { return flock(who, LockType::exclusive); }

// "r0-9 w10-" of one owner's ranges: r shared, w exclusive, nothing after - is EOF.
std::string text(const std::vector<HeldRange>& ranges) {
  std::string result;
  for (const HeldRange& held : ranges) {
    if (!result.empty()) result += ' ';
    result += (held.type == LockType::shared ? "r" : "w") + std::to_string(held.range.start) + '-';
    if (held.range.end != kEof) result += std::to_string(held.range.end);
  }
  return result;
}

std::string posix_text(const FileLocks& locks, LockOwner who, Ino ino = kIno) {
  for (const HeldPosix& one : locks.held(ino, who.session).posix)
    if (one.owner == who.id) return text(one.ranges);
  return "";
}

// Parses what posix_text() writes; u is for unlock.
struct Step {
  char what = 0;
  LockRange range;
};
std::vector<Step> steps(const std::string& all) {
  std::vector<Step> result;
  for (std::size_t at = 0; at < all.size();) {
    std::size_t end = std::min(all.find(' ', at), all.size());
    std::string one = all.substr(at, end - at);
    std::size_t dash = one.find('-');
    Step step{one[0], {std::stoull(one.substr(1, dash - 1)), kEof}};
    if (dash + 1 < one.size()) step.range.end = std::stoull(one.substr(dash + 1));
    result.push_back(step);
    at = end + 1;
  }
  return result;
}

using Tickets = std::vector<std::uint64_t>;

}  // namespace

TEST_CASE("file locks: ranges of one owner are replaced, cut, split and joined") {
  struct {
    std::string steps;
    std::string held;
  } rows[] = {
      {"w0-9", "w0-9"},
      {"w0-", "w0-"},
      {"w0-9 w10-19", "w0-19"},  // touching, same type: joined
      {"w10-19 w0-9", "w0-19"},
      {"w0-9 r10-19", "w0-9 r10-19"},  // touching, other type: apart
      {"w0-9 w11-19", "w0-9 w11-19"},
      {"w0-9 w20-29 w10-19", "w0-29"},  // the gap closes
      {"w0-9 w20-29 w5-24", "w0-29"},
      {"w0-29 r10-19", "w0-9 r10-19 w20-29"},  // downgrade in the middle
      {"w0-29 r10-19 w10-19", "w0-29"},        // and up again
      {"r0-29 w0-9", "w0-9 r10-29"},
      {"r0-29 w20-29", "r0-19 w20-29"},
      {"r0-9 r20-29 w5-24", "r0-4 w5-24 r25-29"},
      {"r0-9 w20-29 r15-24", "r0-9 r15-24 w25-29"},
      {"r0-9 w10-19 r10-19", "r0-19"},
      {"r0-9 w10-19 r20-29 r10-19", "r0-29"},
      {"r0-9 w10-19 r20-29 w0-", "w0-"},
      {"w0-29 u10-19", "w0-9 w20-29"},  // unlock splits
      {"w0-29 u0-9", "w10-29"},
      {"w0-29 u20-", "w0-19"},
      {"w0- u10-19", "w0-9 w20-"},
      {"w0- u10-", "w0-9"},
      {"w5-9 r15-19 u0-", ""},
      {"w5-9 u6-8", "w5-5 w9-9"},
      {"w5-9 u0-4 u10-", "w5-9"},
      {"r0-0 w1-1 r2-2 u1-1", "r0-0 r2-2"},
      {"w9223372036854775806- u9223372036854775806-9223372036854775806", "w9223372036854775807-"},
      {"r0- w18446744073709551615-", "r0-18446744073709551614 w18446744073709551615-"},
      {"r18446744073709551615- r0-18446744073709551614", "r0-"},
      {"r0- u18446744073709551615-", "r0-18446744073709551614"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.steps);
    FileLocks locks;
    for (const Step& step : steps(row.steps)) {
      LockResult result =
          step.what == 'u'   ? locks.unlock(kIno, LockKind::posix, owner(1), step.range)
          : step.what == 'r' ? locks.try_lock(kIno, shared(owner(1), step.range))
                             : locks.try_lock(kIno, exclusive(owner(1), step.range));
      CHECK(result.outcome == LockOutcome::granted);
    }
    CHECK(posix_text(locks, owner(1)) == row.held);
    CHECK(locks.has_locks(kIno) == !row.held.empty());
  }
}

TEST_CASE("file locks: who conflicts with whom; a conflict changes nothing") {
  struct {
    std::string held;  // by owner (1, 1)
    std::string asked;
    std::string conflict;  // the range in the way, "" for none
  } rows[] = {
      {"r10-19", "r0-", ""},
      {"r10-19", "w0-", "r10-19"},
      {"w10-19", "r0-", "w10-19"},
      {"w10-19", "w0-", "w10-19"},
      {"w10-19", "w0-9", ""},
      {"w10-19", "w20-", ""},
      {"w10-19", "w19-19", "w10-19"},
      {"w10-19", "r10-10", "w10-19"},
      {"w10-", "r18446744073709551615-", "w10-"},
      {"r0-9 w10-19 w30-39", "r0-", "w10-19"},  // the first in the way
      {"r0-9 w10-19 w30-39", "w0-", "r0-9"},
      {"r0-9 w10-19 w30-39", "r20-", "w30-39"},
  };
  for (const auto& row : rows) {
    for (LockOwner other : {owner(2), owner(1, 2)}) {  // other session; other process of the same
      CAPTURE(row.held);
      CAPTURE(row.asked);
      FileLocks locks;
      for (const Step& step : steps(row.held)) {
        LockType type = step.what == 'r' ? LockType::shared : LockType::exclusive;
        CHECK(locks.try_lock(kIno, posix(owner(1), step.range, type)) == kGranted);
      }
      Step asked = steps(row.asked)[0];
      LockRequest request =
          posix(other, asked.range, asked.what == 'r' ? LockType::shared : LockType::exclusive);
      std::optional<Conflict> conflict = locks.test(kIno, request);
      if (row.conflict.empty()) {
        CHECK_FALSE(conflict.has_value());
        CHECK(locks.try_lock(kIno, request) == kGranted);
      } else {
        Step expected = steps(row.conflict)[0];
        LockType type = expected.what == 'r' ? LockType::shared : LockType::exclusive;
        REQUIRE(conflict.has_value());
        CHECK(*conflict == Conflict{owner(1), expected.range, type, 101});
        CHECK(locks.try_lock(kIno, request) == kConflict);
        CHECK(posix_text(locks, other) == "");
        request.owner = owner(1);
        CHECK_FALSE(locks.test(kIno, request).has_value());  // own locks are no conflict
      }
      CHECK(posix_text(locks, owner(1)) == row.held);
      CHECK_FALSE(locks.test(Ino(8), request).has_value());
    }
  }
}

TEST_CASE("file locks: an upgrade waits for other readers and keeps the shared lock meanwhile") {
  FileLocks locks;
  CHECK(locks.try_lock(kIno, shared(owner(1))) == kGranted);
  CHECK(locks.try_lock(kIno, shared(owner(2), {0, 9})) == kGranted);
  CHECK(locks.try_lock(kIno, exclusive(owner(1))) == kConflict);
  CHECK(posix_text(locks, owner(1)) == "r0-");
  CHECK(locks.try_lock(kIno, exclusive(owner(1), {10, kEof})) == kGranted);
  CHECK(posix_text(locks, owner(1)) == "r0-9 w10-");
  CHECK(locks.try_lock(kIno, exclusive(owner(1), {10, kEof})) == kGrantedAlready);
  CHECK(locks.drop_owner(kIno, LockKind::posix, owner(2)));
  CHECK_FALSE(locks.drop_owner(kIno, LockKind::posix, owner(2)));
  CHECK(locks.try_lock(kIno, exclusive(owner(1))) == kGranted);
  CHECK(posix_text(locks, owner(1)) == "w0-");
}

TEST_CASE("file locks: unlock of what is not locked does nothing") {
  FileLocks locks;
  CHECK(locks.unlock(kIno, LockKind::posix, owner(1)) == kGrantedAlready);
  CHECK(locks.try_lock(kIno, exclusive(owner(1), {10, 19})) == kGranted);
  CHECK(locks.unlock(kIno, LockKind::posix, owner(1), {0, 9}) == kGrantedAlready);
  CHECK(locks.unlock(kIno, LockKind::posix, owner(2)) == kGrantedAlready);
  CHECK(locks.unlock(kIno, LockKind::flock, owner(1)) == kGrantedAlready);
  CHECK(locks.unlock(Ino(8), LockKind::posix, owner(1)) == kGrantedAlready);
  CHECK(posix_text(locks, owner(1)) == "w10-19");
}

TEST_CASE("file locks: F_GETLK tells the conflict that starts first, of several owners") {
  FileLocks locks;
  CHECK(locks.try_lock(kIno, shared(owner(1, 1), {50, 59})) == kGranted);
  CHECK(locks.try_lock(kIno, exclusive(owner(1, 2), {30, 39})) == kGranted);
  CHECK(locks.try_lock(kIno, shared(owner(2, 3), {20, 25})) == kGranted);
  CHECK(locks.try_lock(kIno, shared(owner(1, 4), {20, 29})) == kGranted);
  auto range_of = [&](const LockRequest& request) {
    auto conflict = locks.test(kIno, request);
    return conflict
               ? text({{conflict->range, conflict->type}}) + " " + std::to_string(conflict->pid)
               : "";
  };
  CHECK(range_of(shared(owner(3))) == "w30-39 102");
  CHECK(range_of(exclusive(owner(3))) == "r20-29 104");  // as early as 103's, lower owner
  CHECK(range_of(exclusive(owner(1, 4))) == "r20-25 103");
  CHECK(range_of(exclusive(owner(3), {40, kEof})) == "r50-59 101");
  CHECK(range_of(shared(owner(1, 2))) == "");
}

TEST_CASE("file locks: flock has its own rules and does not meet record locks") {
  FileLocks locks;
  CHECK(locks.try_lock(kIno, exclusive(owner(1))) == kGranted);
  CHECK(locks.try_lock(kIno, flock_shared(owner(2, 1))) == kGranted);
  CHECK(locks.try_lock(kIno, flock_shared(owner(2, 2))) == kGranted);
  CHECK(locks.try_lock(kIno, flock_shared(owner(2, 2))) == kGrantedAlready);
  CHECK(locks.try_lock(kIno, flock_exclusive(owner(3))) == kConflict);
  auto conflict = locks.test(kIno, flock_exclusive(owner(3)));
  REQUIRE(conflict.has_value());
  CHECK(*conflict == Conflict{owner(2, 1), {0, kEof}, LockType::shared, 201});
  CHECK(locks.unlock(kIno, LockKind::flock, owner(2, 1)) == kGranted);
  CHECK(locks.drop_owner(kIno, LockKind::flock, owner(2, 2)));
  CHECK(locks.try_lock(kIno, flock_exclusive(owner(3))) == kGranted);
  CHECK(locks.try_lock(kIno, flock_shared(owner(3))) == kGranted);
  CHECK(locks.try_lock(kIno, flock_shared(owner(2, 1))) == kGranted);
  CHECK(posix_text(locks, owner(1)) == "w0-");
  CHECK_FALSE(locks.drop_owner(kIno, LockKind::flock, owner(1)));  // that one is a record lock
}

TEST_CASE("file locks: a flock conversion that fails has lost the old lock, and wakes others") {
  FileLocks locks;
  CHECK(locks.try_lock(kIno, flock_shared(owner(1))) == kGranted);
  CHECK(locks.try_lock(kIno, flock_shared(owner(2))) == kGranted);
  CHECK(locks.wait(kIno, flock_exclusive(owner(2)), 5) == WaitOutcome::waiting);
  CHECK(locks.take_ready().empty());
  CHECK(locks.try_lock(kIno, flock_exclusive(owner(1))) == kConflictDropped);
  CHECK(locks.held(kIno, SessionId(1)).empty());
  CHECK(locks.take_ready() == Tickets{5});  // the own shared lock is not in its way
  CHECK(locks.try_lock(kIno, flock_exclusive(owner(2))) == kGranted);
  CHECK(locks.try_lock(kIno, flock_shared(owner(1))) == kConflict);  // nothing left to lose
}

TEST_CASE("file locks: at most kLocksPerInodeMax for a session on an inode") {
  FileLocks locks;
  const std::uint64_t all = kLocksPerInodeMax;
  for (std::uint64_t i = 0; i < all; ++i)
    REQUIRE(locks.try_lock(kIno, shared(owner(1, i % 3), {i * 10, i * 10 + 4})) == kGranted);
  HeldLocks full = locks.held(kIno, SessionId(1));
  CHECK(count_of(full) == all);

  CHECK(locks.try_lock(kIno, shared(owner(1, 0), {5, 5})) == kGranted);  // joins
  CHECK(locks.unlock(kIno, LockKind::posix, owner(1, 0), {5, 5}) == kGranted);
  CHECK(locks.try_lock(kIno, shared(owner(1, 0), {6, 6})) == kTooMany);
  CHECK(locks.try_lock(kIno, shared(owner(1, 9), {6, 6})) == kTooMany);
  CHECK(locks.try_lock(kIno, exclusive(owner(1, 0), {2, 2})) == kTooMany);  // would split
  CHECK(locks.unlock(kIno, LockKind::posix, owner(1, 0), {2, 2}) == kTooMany);
  CHECK(locks.try_lock(kIno, flock_shared(owner(1))) == kTooMany);
  CHECK(locks.held(kIno, SessionId(1)) == full);
  CHECK(locks.try_lock(kIno, exclusive(owner(1, 0), {10, 10})) == kConflict);  // not too_many

  CHECK(locks.try_lock(kIno, shared(owner(2), {6, 6})) == kGranted);  // another session
  CHECK(locks.try_lock(Ino(8), shared(owner(1), {6, 6})) == kGranted);
  CHECK(locks.unlock(kIno, LockKind::posix, owner(1, 0), {0, 4}) == kGranted);
  CHECK(locks.try_lock(kIno, flock_shared(owner(1))) == kGranted);
  CHECK(locks.try_lock(kIno, flock_exclusive(owner(1))) == kGranted);  // converts: no more of them
  CHECK(locks.try_lock(kIno, flock_shared(owner(1, 2))) == kConflict);
  CHECK(locks.try_lock(kIno, shared(owner(1, 0))) == kGranted);  // one for many
  CHECK(count_of(locks.held(kIno, SessionId(1))) < all);

  full.posix[0].ranges.push_back({{all * 10, kEof}, LockType::shared});
  CHECK(locks.restore(Ino(9), SessionId(1), full).error().code == Code::malformed);
}

TEST_CASE("file locks: drop_session gives up its locks and waits and wakes others") {
  FileLocks locks;
  CHECK(locks.try_lock(Ino(3), exclusive(owner(1, 1))) == kGranted);
  CHECK(locks.try_lock(Ino(2), exclusive(owner(1, 2), {0, 9})) == kGranted);
  CHECK(locks.try_lock(Ino(2), exclusive(owner(2), {10, 19})) == kGranted);
  CHECK(locks.try_lock(Ino(4), flock_exclusive(owner(1, 1))) == kGranted);
  CHECK(locks.try_lock(Ino(5), exclusive(owner(2))) == kGranted);
  CHECK(locks.wait(Ino(5), exclusive(owner(1, 3)), 10) == WaitOutcome::waiting);
  CHECK(locks.wait(Ino(3), shared(owner(2)), 11) == WaitOutcome::waiting);
  CHECK(locks.wait(Ino(4), flock_shared(owner(3)), 12) == WaitOutcome::waiting);
  CHECK(locks.take_ready().empty());
  FileLocks::Dropped dropped = locks.drop_session(SessionId(1));
  CHECK(dropped.inodes == std::vector<Ino>{Ino(2), Ino(3), Ino(4)});
  CHECK(dropped.tickets == Tickets{10});
  CHECK(locks.take_ready() == Tickets{11, 12});
  CHECK_FALSE(locks.has_locks(Ino(3)));
  CHECK_FALSE(locks.has_locks(Ino(4)));
  CHECK(posix_text(locks, owner(2), Ino(2)) == "w10-19");
  CHECK(locks.drop_session(SessionId(1)).inodes.empty());
  CHECK(locks.drop_session(SessionId(2)).inodes == std::vector<Ino>{Ino(2), Ino(5)});
  CHECK(locks.take_ready().empty());
}

TEST_CASE("file locks: held survives its encoding and restore") {
  FileLocks locks;
  CHECK(locks.try_lock(kIno, exclusive(owner(1, 1), {0, 9})) == kGranted);
  CHECK(locks.try_lock(kIno, shared(owner(1, 1), {10, kEof})) == kGranted);
  CHECK(locks.try_lock(kIno, shared(owner(1, 2), {20, 29})) == kGranted);
  CHECK(locks.try_lock(kIno, flock_exclusive(owner(1, 3))) == kGranted);
  HeldLocks held = locks.held(kIno, SessionId(1));
  CHECK(count_of(held) == 4);
  CHECK(wire::decode<HeldLocks>(wire::encode(held)).value() == held);

  FileLocks other;
  REQUIRE(other.restore(kIno, SessionId(1), held).has_value());
  CHECK(other.held(kIno, SessionId(1)) == held);
  CHECK(other.try_lock(kIno, shared(owner(2))) == kConflict);
  CHECK(other.test(kIno, shared(owner(2)))->pid == 101);
  CHECK(other.test(kIno, flock_shared(owner(2)))->pid == 203);
  CHECK(other.drop_session(SessionId(1)).inodes == std::vector<Ino>{kIno});
  CHECK(other.held(kIno, SessionId(1)).empty());
}

TEST_CASE("file locks: restore replaces what the session held and wakes others") {
  FileLocks locks;
  CHECK(locks.try_lock(kIno, exclusive(owner(1), {0, 9})) == kGranted);
  HeldLocks before = locks.held(kIno, SessionId(1));
  CHECK(locks.try_lock(kIno, exclusive(owner(1))) == kGranted);
  CHECK(locks.wait(kIno, shared(owner(2), {10, kEof}), 1) == WaitOutcome::waiting);
  REQUIRE(locks.restore(kIno, SessionId(1), before).has_value());
  CHECK(posix_text(locks, owner(1)) == "w0-9");
  CHECK(locks.take_ready() == Tickets{1});
  REQUIRE(locks.restore(kIno, SessionId(1), {}).has_value());
  CHECK_FALSE(locks.has_locks(kIno));
  CHECK(locks.drop_session(SessionId(1)).inodes.empty());
}

TEST_CASE("file locks: restore refuses rows that no session could hold, and changes nothing") {
  FileLocks locks;
  CHECK(locks.try_lock(kIno, shared(owner(2), {50, 59})) == kGranted);
  CHECK(locks.try_lock(kIno, flock_shared(owner(2))) == kGranted);
  CHECK(locks.try_lock(kIno, shared(owner(1))) == kGranted);
  CHECK(locks.try_lock(kIno, flock_shared(owner(1))) == kGranted);
  const HeldLocks before = locks.held(kIno, SessionId(1));
  const LockType r = LockType::shared;
  const LockType w = LockType::exclusive;
  const HeldLocks bad[] = {
      {{{1, 0, {}}}, {}},                      // owner without a range
      {{{1, 0, {{{5, 4}, r}}}}, {}},           // ends before it starts
      {{{1, 0, {{{0, 4}, LockType{}}}}}, {}},  // no type
      {{{1, 0, {{{0, 4}, LockType{3}}}}}, {}},
      {{{1, 0, {{{5, 9}, r}, {{0, 4}, w}}}}, {}},  // not sorted
      {{{1, 0, {{{0, 5}, r}, {{5, 9}, w}}}}, {}},  // overlap
      {{{1, 0, {{{0, 4}, r}, {{5, 9}, r}}}}, {}},  // not joined
      {{{1, 0, {{{0, kEof}, r}, {{0, 9}, w}}}}, {}},
      {{{2, 0, {{{0, 4}, r}}}, {1, 0, {{{5, 9}, r}}}}, {}},  // owners not sorted
      {{{1, 0, {{{0, 4}, r}}}, {1, 0, {{{5, 9}, r}}}}, {}},
      {{{1, 0, {{{0, 4}, w}}}, {2, 0, {{{4, 9}, r}}}}, {}},  // conflict among its own
      {{{1, 0, {{{0, 50}, w}}}}, {}},                        // conflict with session 2
      {{}, {{1, 0, w}}},
      {{{1, 0, {{{0, 4}, r}}}}, {{1, 0, w}}},
      {{}, {{1, 0, LockType{}}}},
      {{}, {{1, 0, r}, {1, 0, r}}},
  };
  for (const HeldLocks& held : bad) {
    auto result = locks.restore(kIno, SessionId(1), held);
    REQUIRE_FALSE(result.has_value());
    CHECK(result.error().code == Code::malformed);
    CHECK(locks.held(kIno, SessionId(1)) == before);
    CHECK(locks.held(kIno, SessionId(2)).posix.size() == 1);
  }
}

TEST_CASE("file locks: waits are ready in the order they came once nothing conflicts") {
  FileLocks locks;
  CHECK(locks.try_lock(kIno, exclusive(owner(1), {0, 99})) == kGranted);
  CHECK(locks.wait(kIno, exclusive(owner(2), {0, 9}), 30) == WaitOutcome::waiting);
  CHECK(locks.wait(kIno, shared(owner(3), {50, 59}), 10) == WaitOutcome::waiting);
  CHECK(locks.wait(kIno, exclusive(owner(4), {0, 9}), 20) == WaitOutcome::waiting);
  CHECK(locks.take_ready().empty());

  CHECK(locks.unlock(kIno, LockKind::posix, owner(1), {20, 29}) == kGranted);
  CHECK(locks.take_ready().empty());
  CHECK(locks.try_lock(kIno, shared(owner(1), {50, 99})) == kGranted);  // a downgrade wakes too
  CHECK(locks.take_ready() == Tickets{10});
  CHECK(locks.take_ready().empty());  // told once for each change
  CHECK(locks.try_lock(kIno, shared(owner(3), {50, 59})) == kGranted);
  locks.forget(10);

  CHECK(locks.drop_owner(kIno, LockKind::posix, owner(1)));
  CHECK(locks.take_ready() == Tickets{30, 20});
  CHECK(locks.try_lock(kIno, exclusive(owner(2), {0, 9})) == kGranted);
  locks.forget(30);
  CHECK(locks.try_lock(kIno, exclusive(owner(4), {0, 9})) == kConflict);
  CHECK(locks.wait(kIno, exclusive(owner(5), {0, 9}), 40) == WaitOutcome::waiting);
  CHECK(locks.wait(kIno, exclusive(owner(4), {0, 9}), 20) == WaitOutcome::waiting);  // keeps place
  CHECK(locks.unlock(kIno, LockKind::posix, owner(2)) == kGranted);
  CHECK(locks.take_ready() == Tickets{20, 40});
  locks.forget(20);
  locks.forget(20);
  locks.forget(99);
  CHECK(locks.try_lock(kIno, shared(owner(6))) == kGranted);
  CHECK(locks.unlock(kIno, LockKind::posix, owner(6)) == kGranted);
  CHECK(locks.take_ready() == Tickets{40});
}

TEST_CASE("file locks: a wait for what is free is ready at once") {
  FileLocks locks;
  CHECK(locks.wait(kIno, exclusive(owner(1)), 1) == WaitOutcome::waiting);
  CHECK_FALSE(locks.has_locks(kIno));
  CHECK(locks.take_ready() == Tickets{1});
  CHECK(locks.try_lock(kIno, exclusive(owner(1))) == kGranted);
  locks.forget(1);
  CHECK(locks.take_ready().empty());
}

TEST_CASE("file locks: a session waits for at most kWaitsPerSessionMax locks") {
  FileLocks locks;
  CHECK(locks.try_lock(kIno, exclusive(owner(1))) == kGranted);
  for (std::uint64_t i = 0; i < kWaitsPerSessionMax; ++i)
    REQUIRE(locks.wait(kIno, shared(owner(2, i)), i) == WaitOutcome::waiting);
  CHECK(locks.wait(kIno, shared(owner(2)), 100000) == WaitOutcome::too_many);
  CHECK(locks.wait(kIno, shared(owner(3)), 100001) == WaitOutcome::waiting);
  CHECK(locks.wait(kIno, shared(owner(2)), 1) == WaitOutcome::waiting);  // known
  locks.forget(7);
  CHECK(locks.wait(kIno, shared(owner(2)), 100000) == WaitOutcome::waiting);
  CHECK(locks.unlock(kIno, LockKind::posix, owner(1)) == kGranted);
  CHECK(locks.take_ready().size() == kWaitsPerSessionMax + 1);
}

TEST_CASE("file locks: two owners that wait for each other") {
  FileLocks locks;
  CHECK(locks.try_lock(Ino(1), exclusive(owner(1))) == kGranted);
  CHECK(locks.try_lock(Ino(2), exclusive(owner(2))) == kGranted);
  CHECK(locks.wait(Ino(2), shared(owner(1)), 1) == WaitOutcome::waiting);
  CHECK(locks.wait(Ino(1), shared(owner(2)), 2) == WaitOutcome::deadlock);
  CHECK(locks.unlock(Ino(2), LockKind::posix, owner(2)) == kGranted);
  CHECK(locks.take_ready() == Tickets{1});  // the refused one was not recorded
  CHECK(locks.try_lock(Ino(2), shared(owner(1))) == kGranted);
  locks.forget(1);
  CHECK(locks.wait(Ino(1), shared(owner(2)), 2) == WaitOutcome::waiting);
}

TEST_CASE("file locks: two readers that both want to write deadlock; with flock they do not") {
  FileLocks locks;
  CHECK(locks.try_lock(kIno, shared(owner(1))) == kGranted);
  CHECK(locks.try_lock(kIno, shared(owner(2))) == kGranted);
  CHECK(locks.wait(kIno, exclusive(owner(1)), 1) == WaitOutcome::waiting);
  CHECK(locks.wait(kIno, exclusive(owner(2)), 2) == WaitOutcome::deadlock);

  FileLocks flocks;
  CHECK(flocks.try_lock(Ino(1), flock_exclusive(owner(1))) == kGranted);
  CHECK(flocks.try_lock(Ino(2), flock_exclusive(owner(2))) == kGranted);
  CHECK(flocks.wait(Ino(2), flock_exclusive(owner(1)), 1) == WaitOutcome::waiting);
  CHECK(flocks.wait(Ino(1), flock_exclusive(owner(2)), 2) == WaitOutcome::waiting);
  CHECK(flocks.try_lock(Ino(3), exclusive(owner(1))) == kGranted);
  CHECK(flocks.wait(Ino(3), exclusive(owner(2)), 3) == WaitOutcome::waiting);  // no posix wait of 1
}

TEST_CASE("file locks: cycles of many owners are found, as are those behind the second blocker") {
  for (std::uint64_t size : {3, 10, 100, 1000}) {
    CAPTURE(size);
    FileLocks locks;
    for (std::uint64_t i = 0; i < size; ++i)
      REQUIRE(locks.try_lock(Ino(i + 1), exclusive(owner(1, i))) == kGranted);
    for (std::uint64_t i = 0; i + 1 < size; ++i)
      REQUIRE(locks.wait(Ino(i + 2), exclusive(owner(1, i)), i) == WaitOutcome::waiting);
    CHECK(locks.wait(Ino(1), exclusive(owner(2)), size) == WaitOutcome::waiting);  // not in it
    CHECK(locks.wait(Ino(1), exclusive(owner(1, size - 1)), size + 1) == WaitOutcome::deadlock);
    locks.forget(size / 2);  // the cycle is open
    CHECK(locks.wait(Ino(1), exclusive(owner(1, size - 1)), size + 1) == WaitOutcome::waiting);
    CHECK(locks.wait(Ino(size / 2 + 2), exclusive(owner(1, size / 2)), size / 2) ==
          WaitOutcome::deadlock);
  }
  FileLocks locks;
  CHECK(locks.try_lock(Ino(1), shared(owner(1))) == kGranted);
  CHECK(locks.try_lock(Ino(1), shared(owner(2))) == kGranted);
  CHECK(locks.try_lock(Ino(2), exclusive(owner(3))) == kGranted);
  CHECK(locks.wait(Ino(2), exclusive(owner(2)), 1) == WaitOutcome::waiting);
  CHECK(locks.wait(Ino(1), exclusive(owner(3)), 2) == WaitOutcome::deadlock);
}

TEST_CASE("file locks: a retried wait that now closes a cycle is refused and forgotten") {
  FileLocks locks;
  CHECK(locks.try_lock(Ino(1), exclusive(owner(1))) == kGranted);
  CHECK(locks.try_lock(Ino(2), shared(owner(2))) == kGranted);
  CHECK(locks.wait(Ino(1), shared(owner(3)), 1) == WaitOutcome::waiting);
  CHECK(locks.wait(Ino(2), exclusive(owner(1)), 2) == WaitOutcome::waiting);
  CHECK(locks.try_lock(Ino(2), shared(owner(3))) == kGranted);  // by another thread of it
  CHECK(locks.wait(Ino(1), shared(owner(3)), 1) == WaitOutcome::deadlock);
  CHECK(locks.drop_owner(Ino(1), LockKind::posix, owner(1)));
  CHECK(locks.take_ready().empty());
}

namespace {

// The same rules over an array of bytes: byte kBytes - 1 stands for itself and all after it.
constexpr unsigned kBytes = 12;
constexpr unsigned kOwners = 6;  // sessions 1..3, two owners each
constexpr unsigned kInodes = 3;
struct Naive {
  using Cells = std::array<char, kBytes>;  // 0, 'r', 'w'
  struct Wait {
    std::uint64_t ticket;
    unsigned ino, owner;
    LockKind kind;
    unsigned first, last;
    char type;
  };
  Cells posix[kInodes][kOwners] = {};
  char flocks[kInodes][kOwners] = {};
  std::vector<Wait> waits;

  static bool clash(char a, char b) { return a != 0 && b != 0 && (a == 'w' || b == 'w'); }
  bool blocks(const Wait& want, unsigned by) const {
    if (by == want.owner) return false;
    if (want.kind == LockKind::flock) return clash(flocks[want.ino][by], want.type);
    for (unsigned i = want.first; i <= want.last; ++i)
      if (clash(posix[want.ino][by][i], want.type)) return true;
    return false;
  }
  bool is_blocked(const Wait& want) const {
    for (unsigned by = 0; by < kOwners; ++by)
      if (blocks(want, by)) return true;
    return false;
  }
  bool deadlocks(const Wait& want) const {
    bool edge[kOwners][kOwners] = {};
    std::vector<Wait> all = waits;
    all.push_back(want);
    for (const Wait& wait : all)
      for (unsigned by = 0; by < kOwners; ++by)
        if (wait.kind == LockKind::posix && blocks(wait, by)) edge[wait.owner][by] = true;
    for (unsigned k = 0; k < kOwners; ++k)
      for (unsigned i = 0; i < kOwners; ++i)
        for (unsigned j = 0; j < kOwners; ++j) edge[i][j] |= edge[i][k] && edge[k][j];
    for (unsigned by = 0; by < kOwners; ++by)
      if (blocks(want, by) && edge[by][want.owner]) return true;
    return false;
  }
  // What the first range in the way starts with, kBytes for none: its owner's run of equal bytes.
  unsigned first_start(const Wait& want) const {
    unsigned best = kBytes;
    for (unsigned by = 0; by < kOwners; ++by) {
      if (by == want.owner) continue;
      const Cells& cells = posix[want.ino][by];
      for (unsigned i = want.first; i <= want.last; ++i) {
        if (!clash(cells[i], want.type)) continue;
        unsigned start = i;
        while (start > 0 && cells[start - 1] == cells[i]) --start;
        best = std::min(best, start);
        break;
      }
    }
    return best;
  }
  void set(const Wait& want, char type) {
    if (want.kind == LockKind::flock) {
      flocks[want.ino][want.owner] = type;
    } else {
      for (unsigned i = want.first; i <= want.last; ++i) posix[want.ino][want.owner][i] = type;
    }
  }
};

LockOwner owner_of(unsigned n) { return owner(1 + n / 2, n % 2); }
LockRequest request_of(const Naive::Wait& want) {
  return {want.kind,
          owner_of(want.owner),
          {want.first, want.last == kBytes - 1 ? kEof : want.last},
          want.type == 'r' ? LockType::shared : LockType::exclusive,
          0};
}

HeldLocks held_of(const Naive& naive, unsigned ino, unsigned session) {
  HeldLocks held;
  for (unsigned n = 2 * (session - 1); n < 2 * session; ++n) {
    HeldPosix one{owner_of(n).id, 0, {}};
    const Naive::Cells& cells = naive.posix[ino][n];
    for (unsigned i = 0; i < kBytes; ++i) {
      if (cells[i] == 0) continue;
      unsigned last = i;
      while (last + 1 < kBytes && cells[last + 1] == cells[i]) ++last;
      one.ranges.push_back({{i, last == kBytes - 1 ? kEof : last},
                            cells[i] == 'r' ? LockType::shared : LockType::exclusive});
      i = last;
    }
    if (!one.ranges.empty()) held.posix.push_back(one);
    if (char type = naive.flocks[ino][n])
      held.flocks.push_back(
          {owner_of(n).id, 0, type == 'r' ? LockType::shared : LockType::exclusive});
  }
  return held;
}

void check_same(const FileLocks& locks, const Naive& naive) {
  for (unsigned ino = 0; ino < kInodes; ++ino) {
    bool any = false;
    for (unsigned session = 1; session <= kOwners / 2; ++session) {
      HeldLocks expected = held_of(naive, ino, session);
      REQUIRE(locks.held(Ino(ino), SessionId(session)) == expected);
      any |= !expected.empty();
    }
    REQUIRE(locks.has_locks(Ino(ino)) == any);
  }
}

struct Rare {
  unsigned granted = 0, conflicts = 0, dropped = 0, deadlocks = 0, woken = 0, refused_retries = 0;
};

// Tries what became ready, as the shard does, until nobody can be served.
void retry_ready(FileLocks& locks, Naive& naive, Rare& rare) {
  for (Tickets ready = locks.take_ready(); !ready.empty(); ready = locks.take_ready()) {
    std::size_t from = 0;  // in naive.waits, which are in the order they came
    for (std::uint64_t ticket : ready) {
      auto at = std::find_if(naive.waits.begin(), naive.waits.end(),
                             [&](const auto& wait) { return wait.ticket == ticket; });
      REQUIRE(at != naive.waits.end());
      REQUIRE(static_cast<std::size_t>(at - naive.waits.begin()) >= from);
      from = static_cast<std::size_t>(at - naive.waits.begin());
      Naive::Wait want = *at;
      LockResult result = locks.try_lock(Ino(want.ino), request_of(want));
      REQUIRE((result.outcome == LockOutcome::conflict) == naive.is_blocked(want));
      if (want.kind == LockKind::flock && naive.flocks[want.ino][want.owner] != want.type)
        naive.set(want, 0);
      if (result.outcome == LockOutcome::granted) {
        ++rare.woken;
        naive.set(want, want.type);
        naive.waits.erase(at);
        locks.forget(ticket);
        continue;
      }
      ++rare.refused_retries;
      std::vector<Naive::Wait> others = naive.waits;
      naive.waits.erase(at);
      bool is_deadlock = want.kind == LockKind::posix && naive.deadlocks(want);
      WaitOutcome outcome = locks.wait(Ino(want.ino), request_of(want), ticket);
      REQUIRE(outcome == (is_deadlock ? WaitOutcome::deadlock : WaitOutcome::waiting));
      if (!is_deadlock) naive.waits = others;
    }
  }
  for (const Naive::Wait& wait : naive.waits) REQUIRE(naive.is_blocked(wait));  // no lost wakeup
}

}  // namespace

TEST_CASE("file locks: random requests against an array of bytes") {
  Rare rare;
  for (unsigned seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
    FileLocks locks;
    Naive naive;
    std::uint64_t next_ticket = 1;
    for (unsigned round = 0; round < 400; ++round) {
      CAPTURE(round);
      Naive::Wait want{0,
                       below(kInodes),
                       below(kOwners),
                       LockKind::posix,
                       below(kBytes),
                       below(kBytes),
                       below(2) == 0 ? 'r' : 'w'};
      if (below(4) == 0) want.kind = LockKind::flock;
      if (want.first > want.last) std::swap(want.first, want.last);
      const LockRequest request = request_of(want);
      const Ino ino(want.ino);
      std::optional<Conflict> conflict = locks.test(ino, request);
      REQUIRE(conflict.has_value() == naive.is_blocked(want));
      if (conflict && want.kind == LockKind::posix)
        REQUIRE(conflict->range.start == naive.first_start(want));
      unsigned action = below(100);
      if (action < 55) {
        bool had_other = want.kind == LockKind::flock && naive.flocks[want.ino][want.owner] != 0 &&
                         naive.flocks[want.ino][want.owner] != want.type;
        HeldLocks before = locks.held(ino, request.owner.session);
        LockResult result = locks.try_lock(ino, request);
        REQUIRE(result.changed == (before != locks.held(ino, request.owner.session)));
        if (had_other) naive.set(want, 0);
        if (!conflict) {
          ++rare.granted;
          REQUIRE(result.outcome == LockOutcome::granted);
          naive.set(want, want.type);
        } else {
          ++rare.conflicts;
          rare.dropped += had_other ? 1 : 0;
          REQUIRE(result == (had_other ? kConflictDropped : kConflict));
          if (below(2) == 0) {
            want.ticket = next_ticket++;
            bool is_deadlock = want.kind == LockKind::posix && naive.deadlocks(want);
            WaitOutcome outcome = locks.wait(ino, request, want.ticket);
            REQUIRE(outcome == (is_deadlock ? WaitOutcome::deadlock : WaitOutcome::waiting));
            rare.deadlocks += is_deadlock ? 1 : 0;
            if (!is_deadlock) naive.waits.push_back(want);
          }
        }
      } else if (action < 80) {
        REQUIRE(locks.unlock(ino, want.kind, request.owner, request.range).outcome ==
                LockOutcome::granted);
        naive.set(want, 0);
      } else if (action < 86) {
        locks.drop_owner(ino, want.kind, request.owner);
        want.first = 0;
        want.last = kBytes - 1;
        naive.set(want, 0);
      } else if (action < 90 && !naive.waits.empty()) {
        unsigned which = below(static_cast<unsigned>(naive.waits.size()));
        locks.forget(naive.waits[which].ticket);
        naive.waits.erase(naive.waits.begin() + which);
      } else if (action < 92) {
        std::vector<Ino> touched;
        for (unsigned i = 0; i < kInodes; ++i)
          if (!locks.held(Ino(i), request.owner.session).empty()) touched.push_back(Ino(i));
        FileLocks::Dropped dropped = locks.drop_session(request.owner.session);
        REQUIRE(dropped.inodes == touched);
        auto is_its = [&](const Naive::Wait& wait) { return wait.owner / 2 == want.owner / 2; };
        Tickets tickets;
        for (const Naive::Wait& wait : naive.waits)
          if (is_its(wait)) tickets.push_back(wait.ticket);
        std::sort(dropped.tickets.begin(), dropped.tickets.end());
        REQUIRE(dropped.tickets == tickets);
        std::erase_if(naive.waits, is_its);
        for (unsigned i = 0; i < kInodes; ++i)
          for (unsigned n = want.owner / 2 * 2; n < want.owner / 2 * 2 + 2; ++n) {
            naive.posix[i][n] = {};
            naive.flocks[i][n] = 0;
          }
      } else if (action < 95) {  // a restart: locks come back from rows, clients ask again
        FileLocks restarted;
        for (unsigned i = 0; i < kInodes; ++i)
          for (unsigned session = 1; session <= kOwners / 2; ++session) {
            Bytes row = wire::encode(locks.held(Ino(i), SessionId(session)));
            auto held = wire::decode<HeldLocks>(row);
            REQUIRE(held.has_value());
            REQUIRE(restarted.restore(Ino(i), SessionId(session), *held).has_value());
          }
        locks = std::move(restarted);
        for (const Naive::Wait& wait : std::exchange(naive.waits, {})) {
          bool is_deadlock = wait.kind == LockKind::posix && naive.deadlocks(wait);
          REQUIRE(locks.wait(Ino(wait.ino), request_of(wait), wait.ticket) ==
                  (is_deadlock ? WaitOutcome::deadlock : WaitOutcome::waiting));
          if (!is_deadlock) naive.waits.push_back(wait);
        }
      }
      retry_ready(locks, naive, rare);
      check_same(locks, naive);
    }
  }
  CHECK(rare.granted > 1000);
  CHECK(rare.conflicts > 1000);
  CHECK(rare.dropped > 50);
  CHECK(rare.deadlocks > 50);
  CHECK(rare.woken > 100);
  CHECK(rare.refused_retries > 20);
}
