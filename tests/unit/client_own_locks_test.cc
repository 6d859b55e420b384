// OwnLocks: what a client decides about locks, and when it tells.
#include <vector>

#include <doctest/doctest.h>

#include "libmagma/client/own_locks.h"

using namespace magma;
using client::OwnLocks;
using locks::LockOutcome;
using wire::LockType;

namespace {

constexpr Ino kFile(7), kOther(8);

wire::LockRequest request(LockType type, std::uint64_t owner = 1, std::uint64_t first = 0,
                          std::uint64_t last = 9, Ino ino = kFile) {
  return {.ino = ino, .type = type, .owner = owner, .pid = 3, .first = first, .last = last};
}
wire::LockRequest whole(LockType type, std::uint64_t owner = 1) {
  auto wanted = request(type, owner);
  wanted.kind = wire::LockKind::flock;
  return wanted;
}

struct Fixture : OwnLocks::Owner {
  struct Set {
    Ino ino;
    locks::HeldLocks held;
    std::uint64_t number;
  };
  std::vector<Set> sets;
  OwnLocks locks{*this};
  int calls = 0;
  Instant now{1'000'000'000'000};

  void send_locks(Ino ino, locks::HeldLocks held, std::uint64_t number) override {
    sets.push_back({ino, std::move(held), number});
  }
  void answer(std::size_t set) {
    locks.sent(sets.at(set).ino, sets.at(set).number, wire::EmptyReply{}, now);
  }
  // Through the volcano, which answers so.
  void ask(const wire::LockRequest& wanted, Code code = {}) {
    locks.begin_change(wanted.ino);
    locks.ended_change(wanted, code);
  }
  void when_sent(Ino ino = kFile) {
    locks.when_sent(ino, [this] { ++calls; });
  }
  bool decides() const { return locks.test(request(LockType::shared, 5), true).has_value(); }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "own locks: with the token, and by the rules of fcntl(2)") {
  CHECK_FALSE(locks.lock(request(LockType::exclusive), false).has_value());
  CHECK(locks.lock(request(LockType::exclusive), true) == LockOutcome::granted);
  CHECK(locks.lock(request(LockType::shared, 2), true) == LockOutcome::conflict);
  const auto found = locks.test(request(LockType::shared, 2, 3, 4), true);
  REQUIRE(found.has_value());
  CHECK(found->type == LockType::exclusive);
  CHECK(found->pid == 3);
  CHECK(found->last == 9);
  CHECK(locks.lock(request(LockType::none), true) == LockOutcome::granted);
  CHECK(locks.lock(request(LockType::shared, 2), true) == LockOutcome::granted);
  auto malformed = request(LockType::shared);
  malformed.first = 10;
  CHECK_FALSE(locks.lock(malformed, true).has_value());  // the volcano says so
  CHECK(sets.empty());
}

TEST_CASE_FIXTURE(Fixture, "own locks: those that the volcano gave count") {
  ask(request(LockType::exclusive));
  CHECK_FALSE(locks.is_unsent(kFile));
  CHECK(locks.lock(request(LockType::shared, 2), true) == LockOutcome::conflict);
  ask(request(LockType::none));
  CHECK(locks.lock(request(LockType::shared, 2), true) == LockOutcome::granted);
}

TEST_CASE_FIXTURE(Fixture, "own locks: what was not told is sent once, as a whole") {
  when_sent();
  CHECK(calls == 1);  // nothing to tell
  ask(request(LockType::exclusive, 1, 0, 4));
  REQUIRE(locks.lock(request(LockType::shared, 2, 7, 8), true).has_value());
  when_sent();
  when_sent();
  CHECK(calls == 1);
  REQUIRE(sets.size() == 1);
  REQUIRE(sets[0].held.posix.size() == 2);
  CHECK(sets[0].held.posix[0].owner == 1);
  CHECK(sets[0].held.posix[1].ranges[0].range == locks::LockRange{7, 8});
  CHECK_FALSE(decides());  // meanwhile nobody decides
  answer(0);
  CHECK(calls == 3);
  CHECK_FALSE(locks.is_unsent(kFile));
  CHECK(decides());
  when_sent();
  CHECK(calls == 4);
  CHECK(sets.size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "own locks: that all are free is told, too") {
  ask(request(LockType::exclusive));
  REQUIRE(locks.lock(request(LockType::none), true).has_value());
  when_sent();
  REQUIRE(sets.size() == 1);
  CHECK(sets[0].held.empty());
  answer(0);
  CHECK(locks.files() == 0);
}

TEST_CASE_FIXTURE(Fixture, "own locks: another map sends all") {
  REQUIRE(locks.lock(request(LockType::exclusive), true).has_value());
  REQUIRE(locks.lock(request(LockType::exclusive, 1, 0, 9, kOther), true).has_value());
  locks.send_all();
  CHECK(sets.size() == 2);
  locks.send_all();  // under way
  CHECK(sets.size() == 2);
  answer(0);
  answer(1);
  CHECK_FALSE(locks.is_unsent(kFile));
  CHECK_FALSE(locks.is_unsent(kOther));
}

TEST_CASE_FIXTURE(Fixture, "own locks: while the volcano is asked it decides") {
  SUBCASE("a wait") {
    locks.begin_question(kFile);
    CHECK_FALSE(decides());
    locks.ended_question(kFile);
  }
  SUBCASE("a change") {
    locks.begin_change(kFile);
    CHECK_FALSE(decides());
    locks.ended_change(request(LockType::shared), Code{});
  }
  CHECK(decides());
}

TEST_CASE("own locks: what is not known is asked for") {
  for (const bool is_order : {false, true})
    for (const bool is_lost : {false, true}) {
      CAPTURE(is_order);
      CAPTURE(is_lost);
      Fixture f;
      if (is_order) {  // of two at the same time
        f.locks.begin_change(kFile);
        f.locks.begin_change(kFile);
        f.locks.ended_change(request(LockType::exclusive), Code{});
        f.locks.ended_change(request(LockType::none), Code{});
      } else {
        f.ask(request(LockType::exclusive), Code::io);
      }
      CHECK_FALSE(f.decides());
      if (is_lost)
        f.locks.session_lost();
      else
        f.locks.closed(kFile);
      REQUIRE(f.decides());
      CHECK(f.locks.test(request(LockType::exclusive, 2), true)->type == LockType::none);
    }
}

TEST_CASE_FIXTURE(Fixture, "own locks: a refused lock changes nothing but a flock's conversion") {
  ask(request(LockType::shared));
  ask(request(LockType::exclusive), Code::would_block);
  ask(request(LockType::exclusive), Code::no_locks);
  CHECK(decides());
  CHECK(locks.lock(request(LockType::exclusive, 2), true) == LockOutcome::conflict);
  ask(whole(LockType::shared));
  ask(whole(LockType::exclusive), Code::would_block);  // flock(2): the old one is gone
  CHECK(locks.lock(whole(LockType::exclusive, 2), true) == LockOutcome::granted);
}

TEST_CASE_FIXTURE(Fixture, "own locks: with the session all end, and who waits goes on") {
  REQUIRE(locks.lock(request(LockType::exclusive), true).has_value());
  when_sent();
  CHECK(calls == 0);
  locks.session_lost();
  CHECK(calls == 1);
  answer(0);  // of the session before
  CHECK(locks.lock(request(LockType::exclusive, 2), true) == LockOutcome::granted);
  CHECK(locks.is_unsent(kFile));
}

TEST_CASE_FIXTURE(Fixture, "own locks: a set that fails is sent again, and all wait") {
  REQUIRE(locks.lock(request(LockType::exclusive), true).has_value());
  when_sent();
  locks.sent(kFile, sets.at(0).number, fail(Code::no_space), now);
  CHECK(calls == 0);
  CHECK_FALSE(decides());
  when_sent();
  locks.send_all();
  CHECK(sets.size() == 1);  // not before the pause is over
  CHECK(locks.deadline() == now + OwnLocks::kPause);
  now = now + OwnLocks::kPause;
  locks.on_timer(now);
  REQUIRE(sets.size() == 2);
  CHECK(sets[1].held == sets[0].held);
  answer(1);
  CHECK(calls == 2);
  CHECK(locks.deadline() == Instant::never());
  CHECK_FALSE(locks.is_unsent(kFile));
}

TEST_CASE_FIXTURE(Fixture, "own locks: of a file that is gone nothing is kept") {
  SUBCASE("as a set tells") {
    REQUIRE(locks.lock(request(LockType::exclusive), true).has_value());
    when_sent();
    locks.sent(kFile, sets.at(0).number, fail(Code::stale), now);
    CHECK(calls == 1);
  }
  SUBCASE("as a call tells") {
    ask(request(LockType::exclusive));
    ask(request(LockType::none, 1, 0, 3), Code::stale);
  }
  CHECK(locks.files() == 0);
  CHECK(locks.lock(request(LockType::exclusive, 2), true) == LockOutcome::granted);
}
