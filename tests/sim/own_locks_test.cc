// Locks that a client decides by itself (client/own_locks.h): nobody gets a lock that another one
// has, whoever has decided about it, through restarts of the volcano.
#include <doctest/doctest.h>

#include <array>
#include <map>

#include "tests/lib/store_fixture.h"
#include "tests/lib/sim_coordinator.h"
#include "tests/sim/scenario.h"
#include "tests/sim/sim_run.h"
#include "tests/sim/tree_walk.h"

using namespace magma;
using namespace magma::test;

namespace {

const Ino kRoot = root_ino();

wire::LockRequest request_of(Ino ino, wire::LockType type, std::uint64_t owner,
                             std::uint64_t first = 0, std::uint64_t last = 0) {
  return {.ino = ino, .type = type, .owner = owner, .pid = 7, .first = first, .last = last};
}

Result<wire::LockReply> lock(Scenario& s, unsigned client, const wire::LockRequest& request) {
  return ask<wire::LockReply>(s.cluster(), client, [&](auto& c, auto done) {
    c.lock(request, kRootUser, std::move(done));
  });
}

client::Client::Stats stats(Scenario& s, unsigned client = 0) {
  return s.cluster().client(client).stats();
}

// Gets the lock, or frees it. Whether the client decided.
bool decides(Scenario& s, unsigned client, const wire::LockRequest& request) {
  const auto before = stats(s, client).own_locks;
  REQUIRE(lock(s, client, request).has_value());
  return stats(s, client).own_locks > before;
}

bool is_free(Scenario& s, unsigned client, const wire::LockRequest& request) {
  auto reply = ask<wire::TestLockReply>(s.cluster(), client, [&](auto& c, auto done) {
    c.test_lock(request, kRootUser, std::move(done));
  });
  REQUIRE(reply.has_value());
  return reply->type == wire::LockType::none;
}

bool open(Scenario& s, unsigned client, Ino ino, bool for_write = true) {
  return ask<wire::Attr>(s.cluster(), client, [&](auto& c, auto done) {
           c.open(ino, for_write, false, kRootUser, std::move(done));
         }).has_value();
}

constexpr auto kExclusive = wire::LockType::exclusive;
constexpr auto kNone = wire::LockType::none;

}  // namespace

TEST_CASE("own locks: who has a file alone asks nobody, and others find what it has locked") {
  for (const Ring& ring : kRings) {
    CAPTURE(ring.name);
    Scenario s(options_of(ring, 71));
    const Ino file = s.create(kRoot, "file").value().ino;
    for (int i = 0; i < 10; ++i) {
      CHECK(decides(s, 0, request_of(file, kExclusive, 1)));
      CHECK(lock(s, 0, request_of(file, kExclusive, 2)).error().code == Code::would_block);
      CHECK_FALSE(is_free(s, 0, request_of(file, kExclusive, 2)));
      if (i < 9) CHECK(decides(s, 0, request_of(file, kNone, 1)));
    }
    CHECK(stats(s).own_locks >= 29);
    CHECK(stats(s).lock_sets == 0);
    REQUIRE(open(s, 1, file));
    CHECK(stats(s).lock_sets == 1);
    CHECK_FALSE(is_free(s, 1, request_of(file, kExclusive, 1)));
    CHECK(lock(s, 1, request_of(file, kExclusive, 1)).error().code == Code::would_block);
    CHECK_FALSE(decides(s, 0, request_of(file, kNone, 1)));
    CHECK_FALSE(decides(s, 1, request_of(file, kExclusive, 1)));
    CHECK(lock(s, 0, request_of(file, kExclusive, 1)).error().code == Code::would_block);
  }
}

TEST_CASE("own locks: a waiter gets what another program of its client frees") {
  Scenario s(options_of(kRings[0], 72));
  const Ino file = s.create(kRoot, "file").value().ino;
  REQUIRE(decides(s, 0, request_of(file, kExclusive, 1)));
  bool is_told = false;
  s.cluster().client(0).wait_for_lock(request_of(file, kExclusive, 2), kRootUser,
                                      [&](Result<wire::EmptyReply> told) {
                                        is_told = told.has_value();
                                      });
  s.cluster().touch_client(0);
  s.cluster().run_for(milliseconds(100));
  CHECK_FALSE(is_told);
  CHECK_FALSE(decides(s, 0, request_of(file, kNone, 1)));  // the volcano wakes the waiter
  REQUIRE(s.cluster().run_until([&] { return is_told; }, milliseconds(100)));
  CHECK(decides(s, 0, request_of(file, kExclusive, 2)));
}

TEST_CASE("own locks: a close tells, and the end of a client frees") {
  Scenario s(options_of(kRings[0], 73));
  const Ino file = s.create(kRoot, "file").value().ino;
  REQUIRE(open(s, 0, file, false));
  REQUIRE(decides(s, 0, request_of(file, kExclusive, 1)));
  s.release(file);  // the writer; the reader's lock stays
  s.cluster().run_for(milliseconds(100));
  CHECK(stats(s).lock_sets == 1);
  REQUIRE(open(s, 1, file));
  CHECK(lock(s, 1, request_of(file, kExclusive, 1)).error().code == Code::would_block);
  s.cluster().vanish_client(0);
  s.cluster().run_for(seconds(60));
  CHECK(lock(s, 1, request_of(file, kExclusive, 1)).has_value());
}

TEST_CASE("own locks: with onfail=eio calls that wait for a set fail, and the set does not") {
  SimCluster::Options options = options_of(kRings[0], 75);
  options.fails_when_away = true;
  Scenario s(options);
  const Ino file = s.create(kRoot, "file").value().ino;
  REQUIRE(decides(s, 0, request_of(file, kExclusive, 1)));
  s.crash(Crash::kill);
  const Instant at = s.cluster().now();
  auto told = ask<wire::EmptyReply>(s.cluster(), 0, [&](auto& c, auto done) {
    c.wait_for_lock(request_of(file, kExclusive, 2), kRootUser, std::move(done));
  });
  REQUIRE_FALSE(told.has_value());
  CHECK(told.error().code == Code::io);
  CHECK((s.cluster().now() - at).ms() < 6'000);
  s.restart();
  s.cluster().run_for(seconds(6));
  CHECK(lock(s, 1, request_of(file, kExclusive, 1)).error().code == Code::would_block);
}

// Slots get another volcano, by a join and by a loss.
TEST_CASE("own locks: they go along when a file gets another volcano") {
  if (sim_options().replay) return;
  constexpr unsigned kFiles = 12;
  SimCluster cluster({.seed = 74,
                      .clients = 2,
                      .split = 2,
                      .copies = 2,
                      .moving = true,
                      .delays_writes = true});
  REQUIRE((cluster.start_volcano(0) && cluster.start_client(0) && cluster.start_client(1)));
  auto lock_it = [&](unsigned client, const wire::LockRequest& request) {
    return ask<wire::LockReply>(cluster, client, [&](auto& c, auto done) {
      c.lock(request, kRootUser, std::move(done));
    });
  };
  std::vector<Ino> files;
  for (unsigned i = 0; i < kFiles; ++i) {
    auto made = ask<wire::EntryReply>(cluster, 0, [&](auto& c, auto done) {
      c.create(create_request(kRoot, "file" + std::to_string(i)), kRootUser, std::move(done));
    });
    REQUIRE(made.has_value());
    files.push_back(made->ino);
  }
  auto lock_all = [&](unsigned owner) {
    const auto before = cluster.client(0).stats().own_locks;
    for (Ino file : files)
      REQUIRE(lock_it(0, request_of(file, kExclusive, owner)).has_value());
    return cluster.client(0).stats().own_locks - before;
  };
  CHECK(lock_all(1) == kFiles);
  REQUIRE(cluster.start_volcano(1));
  REQUIRE(cluster.run_until([&] { return cluster.coordinator().is_split_at_peace(); },
                            seconds(60)));
  for (Ino file : files)
    CHECK(lock_it(1, request_of(file, kExclusive, 1)).error().code == Code::would_block);
  for (Ino file : files) REQUIRE(lock_it(0, request_of(file, kNone, 1)).has_value());
  cluster.run_for(seconds(30));
  lock_all(2);
  cluster.run_for(seconds(3));
  lock_all(2);
  cluster.crash_volcano(Crash::kill, 0);
  for (Ino file : files)
    CHECK(lock_it(1, request_of(file, kExclusive, 1)).error().code == Code::would_block);
  for (Ino file : files) REQUIRE(lock_it(0, request_of(file, kNone, 2)).has_value());
  for (Ino file : files) CHECK(lock_it(1, request_of(file, kExclusive, 1)).has_value());
}

namespace {

// Two clients of two programs each lock, free, test, open and close one file; now and then the
// volcano is killed, and every other run has a bad network. One call at a time: every answer is
// known. For some steps only one client uses the file: it may decide then.
struct Run {
  static constexpr unsigned kBytes = 6;
  using Owner = std::pair<unsigned, std::uint64_t>;  // client, program
  Scenario s;
  SeedRandom random;
  Ino file;
  std::array<std::map<Owner, wire::LockType>, kBytes> held{};
  std::array<unsigned, 2> opens{};
  std::optional<unsigned> alone{};
  unsigned kills = 0;

  Run(const Ring& ring, std::uint64_t seed) : s(options_of(ring, seed)), random(seed) {
    file = s.create(kRoot, "file").value().ino;
    opens[0] = 1;
    if (random.chance(2)) s.cluster().faults = {.loss = 20, .duplicate = 20, .reorder = 50};
  }
  void choose_who() {
    alone.reset();
    if (!random.chance(2)) return;
    alone = static_cast<unsigned>(random.below(2));
    while (opens[1 - *alone] > 0) close(1 - *alone);
    s.cluster().run_for(wire::kTokenTerm * 2);  // the other one believes nothing of it
  }
  bool conflicts(Owner who, wire::LockType type, unsigned first, unsigned last) const {
    for (unsigned at = first; at <= last; ++at)
      for (const auto& [owner, has] : held[at])
        if (owner != who && (type == kExclusive || has == kExclusive)) return true;
    return false;
  }
  void step() {
    if (random.chance(25)) choose_who();
    const unsigned client = alone.value_or(static_cast<unsigned>(random.below(2)));
    if (opens[client] == 0) {
      REQUIRE(open(s, client, file));
      ++opens[client];
      return;
    }
    const Owner who{client, 1 + random.below(2)};
    const auto first = static_cast<unsigned>(random.below(kBytes));
    const auto last = first + static_cast<unsigned>(random.below(kBytes - first));
    auto wanted = request_of(file, wire::LockType{}, who.second, first, last);
    switch (random.below(10)) {
      case 0:
        wanted.type = kExclusive;
        CHECK(is_free(s, client, wanted) == !conflicts(who, kExclusive, first, last));
        return;
      case 1: return close(client);
      case 2: s.cluster().run_for(milliseconds(static_cast<int>(random.below(9000)))); return;
      case 3:
        if (!random.chance(4)) return;
        s.crash(Crash::kill);
        s.restart();
        ++kills;
        return;
      default: break;
    }
    const wire::LockType types[] = {wire::LockType::shared, kExclusive, kNone};
    wanted.type = types[random.below(3)];
    const auto reply = lock(s, client, wanted);
    const bool is_refused = wanted.type != kNone && conflicts(who, wanted.type, first, last);
    CHECK(reply.has_value() == !is_refused);
    if (!reply) CHECK(reply.error().code == Code::would_block);
    if (is_refused || !reply) return;
    for (unsigned at = first; at <= last; ++at)
      if (wanted.type == kNone)
        held[at].erase(who);
      else
        held[at][who] = wanted.type;
  }
  void close(unsigned client) {
    for (std::uint64_t program : {1u, 2u}) {
      REQUIRE(lock(s, client, request_of(file, kNone, program, 0, ~std::uint64_t{0})).has_value());
      for (auto& byte : held) byte.erase({client, program});
    }
    s.release(file, true, client);
    --opens[client];
  }
};

}  // namespace

TEST_CASE("own locks: random runs") {
  std::uint64_t decided = 0, sets = 0, kills = 0;
  const SimOptions& options = sim_options();
  for (std::uint64_t n = 0; n < (options.replay ? 1 : std::min<std::uint64_t>(options.seeds, 60));
       ++n) {
    const std::uint64_t seed = options.first_seed + n;
    CAPTURE(seed);
    Run run(kRings[seed % 3], seed);
    for (int step = 0; step < 150; ++step) {
      CAPTURE(step);
      run.step();
    }
    for (unsigned client : {0u, 1u}) {
      decided += stats(run.s, client).own_locks;
      sets += stats(run.s, client).lock_sets;
    }
    kills += run.kills;
  }
  if (options.replay || options.seeds < 20) return;
  CHECK(decided > 200);  // and rare things happened
  CHECK(sets > 50);
  CHECK(kills > 10);
}
