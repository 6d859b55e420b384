// Several volcanoes that are primaries of different slots: random runs, and that faults planted in
// what passes between them are found.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>

#include "magmad/store/rows.h"
#include "tests/lib/sim_cluster.h"
#include "tests/lib/sim_coordinator.h"
#include "tests/lib/sometimes.h"
#include "tests/sim/random_workload.h"
#include "tests/sim/scenario.h"
#include "tests/sim/split_run.h"
#include "tests/sim/tree_walk.h"

using namespace magma;
using namespace magma::test;

TEST_CASE("split random runs: every answer is the oracle's, through kills and cuts") {
  const SimOptions& options = sim_options();
  std::uint64_t operations = 0, failures = 0;
  for (std::uint64_t i = 0; i < options.seeds && failures < 3; ++i) {
    const SplitProfile profile = split_profile_of_seed(options.first_seed + i);
    RunResult result = run_split(profile);
    operations += result.operations;
    if (!result.failure) continue;
    ++failures;
    std::printf("%s\nreplay: sim_tests --seed=%llu -tc='split random*'\n", result.failure->c_str(),
                static_cast<unsigned long long>(profile.seed));
  }
  std::printf("split random runs: %llu operations\n", static_cast<unsigned long long>(operations));
  CHECK(failures == 0);
  CHECK(operations > 0);
}

namespace {

// Runs the seeds that are asked for, each with what `change` makes of its profile: how many fail.
// They are shown, with how to run one again; after three it stops.
template <class Change>
std::uint64_t failures_of(const char* cases, const Change& change) {
  const SimOptions& options = sim_options();
  std::uint64_t failures = 0;
  for (std::uint64_t i = 0; i < options.seeds && failures < 3; ++i) {
    SplitProfile profile = split_profile_of_seed(options.first_seed + i);
    change(profile);
    const RunResult result = run_split(profile);
    if (!result.failure) continue;
    ++failures;
    std::printf("%s\nreplay: sim_tests --seed=%llu -tc='%s'\n", result.failure->c_str(),
                static_cast<unsigned long long>(profile.seed), cases);
  }
  return failures;
}

}  // namespace

TEST_CASE("split random runs: with copies of all slots, and all are equal at the end") {
  CHECK(failures_of("split random runs: with*", [](SplitProfile& profile) {
          profile.copies = static_cast<unsigned>(2 + profile.seed % 2);
        }) == 0);
}

TEST_CASE("moving random runs: volcanoes join, and get their shares while operations go on") {
  CHECK(failures_of("moving random*", [](SplitProfile& profile) {
          profile.moving = true;
          profile.copies = static_cast<unsigned>(1 + profile.seed % 3);
          profile.rounds = profile.volcanoes + 1;
        }) == 0);
  if (sim_options().seeds >= 20) CHECK(sometimes_counters()["moving: slots changed hands"] > 0);
}

TEST_CASE("moving random runs: and one of them loses power, or all") {
  CHECK(failures_of("moving random runs: and*", [](SplitProfile& profile) {
          profile.moving = profile.is_powerless = true;
          profile.copies = static_cast<unsigned>(1 + profile.seed % 3);
          profile.rounds = profile.volcanoes + 2;
        }) == 0);
}

namespace {
// Two volcanoes share the slots, and there are some files.
void begin_with_two(SimCluster& cluster, RandomWorkload& workload) {
  REQUIRE((cluster.start_volcano(0) && cluster.start_volcano(1) && cluster.start_client(0)));
  REQUIRE(workload.begin());
  workload.run_operations(30, seconds(60));
  REQUIRE(cluster.run_until([&] { return cluster.coordinator().is_split_at_peace(); },
                            seconds(60)));
}
}  // namespace

// Three seconds until it is called down, then until its tokens have ended, and a little more.
TEST_CASE("moving: work goes on within 12 s after one of two volcanoes is lost") {
  if (sim_options().replay) return;
  for (std::uint64_t seed = 1; seed <= 16; ++seed) {
    CAPTURE(seed);
    SimCluster cluster({.seed = seed, .split = 2, .copies = 2, .moving = true});
    RandomWorkload workload(cluster, {.lag = seconds(30)});
    begin_with_two(cluster, workload);
    workload.start_operations(2000);
    cluster.run_for(milliseconds(static_cast<std::int64_t>(5 + seed * 7)));
    cluster.crash_volcano(Crash::kill, 1);
    Duration stall{}, longest{};
    for (int step = 0; step < 300 && !workload.is_idle() && !workload.failed(); ++step) {
      const std::uint64_t before = workload.operations();
      cluster.run_for(milliseconds(100));
      stall = workload.operations() == before ? stall + milliseconds(100) : Duration{};
      longest = std::max(longest, stall);
    }
    CHECK_FALSE(workload.failed());
    CHECK(longest.ms() < 12'000);
  }
}

TEST_CASE("moving: what one of two has acknowledged alone survives its loss of power") {
  if (sim_options().replay) return;
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    CAPTURE(seed);
    const unsigned first = seed % 2;
    SimCluster cluster({.seed = seed, .split = 2, .copies = 2, .moving = true});
    RandomWorkload workload(cluster, {.lag = seconds(30)});
    begin_with_two(cluster, workload);
    cluster.crash_volcano(Crash::kill, first);
    REQUIRE(workload.run_operations(60, seconds(60)));
    cluster.crash_volcano(Crash::power_cut, 1 - first);
    cluster.run_for(seconds(1));
    REQUIRE((cluster.start_volcano(1 - first) && cluster.start_volcano(first)));
    CHECK_MESSAGE(workload.run_operations(30, seconds(60)), workload.report());
    CHECK_MESSAGE(workload.verify(), workload.report());
  }
}

// What a rename moves was made by a link right before it. The two directories lie in two databases
// of one volcano, the inode is the other's: nothing of the link may be lost if the rename is not.
namespace {
void lose_power_after_rename(std::uint64_t seed, Duration after, unsigned& moved) {
  SimCluster cluster(
      {.seed = seed, .clients = 2, .split = 2, .copies = 1, .moving = true});
  REQUIRE((cluster.start_volcano(0) && cluster.start_volcano(1) && cluster.start_client(0)));
  REQUIRE(cluster.run_until([&] { return cluster.coordinator().is_split_at_peace(); },
                            seconds(60)));
  auto make = [&](unsigned i) {
    return ask<wire::EntryReply>(cluster, 0, [&](auto& client, auto done) {
      client.mkdir(mkdir_request(root_ino(), "dir" + std::to_string(i)), {}, std::move(done));
    }).value().ino;
  };
  auto owner_of = [&](Ino ino) {
    return cluster.client(0).volcanoes_of(ring::home_of(ino)).at(0);
  };
  auto database_of = [](Ino ino) { return ring::home_of(ino).value % store::kDatabases; };
  const Ino from = make(0);
  Ino to, other;
  for (unsigned i = 1; to == Ino() || other == Ino(); ++i) {
    const Ino dir = make(i);
    if (owner_of(dir) != owner_of(from))
      other = dir;
    else if (database_of(dir) != database_of(from))
      to = dir;
  }
  const Ino file = ask<wire::EntryReply>(cluster, 0, [&](auto& client, auto done) {
    client.create(create_request(other, "file"), {}, std::move(done));
  }).value().ino;
  REQUIRE(owner_of(file) == owner_of(other));
  cluster.run_for(seconds(8));
  REQUIRE(ask<wire::EntryReply>(cluster, 0, [&](auto& client, auto done) {
    client.link({file, from, "linked"}, {}, std::move(done));
  }).has_value());
  cluster.client(0).rename({from, "linked", to, "moved"}, {},
                           [](const Result<wire::EmptyReply>&) {});
  cluster.touch_client(0);
  cluster.run_for(after);
  cluster.vanish_client(0);
  for (unsigned i : {0u, 1u}) cluster.crash_volcano(Crash::power_cut, i);
  cluster.run_for(seconds(1));
  REQUIRE((cluster.start_volcano(0) && cluster.start_volcano(1) && cluster.start_client(1)));
  cluster.run_for(seconds(20));
  auto walked = walk_tree(cluster, 1);
  REQUIRE(walked.has_value());
  for (NodeId id : walked->model.all()) {
    const ModelNode& node = *walked->model.find(id);
    if (node.is_directory()) continue;
    const auto paths = walked->model.paths_of(id);
    CHECK(node.nlink == paths.size());
    for (const std::string& path : paths) moved += path.ends_with("/moved");
  }
}
}  // namespace

TEST_CASE("moving: a rename that survives a loss of all power takes its link along") {
  if (sim_options().replay) return;
  unsigned moved = 0;
  for (std::uint64_t seed = 1; seed <= 2; ++seed)
    for (int after = 100; after < 100'000; after *= 2) {
      CAPTURE(seed);
      CAPTURE(after);
      lose_power_after_rename(seed, microseconds(after), moved);
    }
  CHECK(moved > 0);
}

// Of a client that reaches the first volcano only: what of the others it gets done.
namespace {
std::uint64_t done_through_one(std::uint64_t seed, client::Reach reach) {
  SimCluster cluster({.seed = seed, .split = 3, .copies = 2, .moving = true, .reach = reach});
  RandomWorkload workload(cluster, {.lag = seconds(30)});
  for (unsigned i = 0; i < 3; ++i) REQUIRE(cluster.start_volcano(i));
  cluster.cut_client(0, 1, true);
  cluster.cut_client(0, 2, true);
  REQUIRE(cluster.start_client(0));
  REQUIRE(cluster.run_until([&] { return cluster.coordinator().is_split_at_peace(); },
                            seconds(60)));
  if (!workload.begin()) return 0;
  workload.start_operations(200);
  cluster.run_until([&] { return workload.is_idle() || workload.failed(); }, seconds(60));
  CHECK_FALSE(workload.failed());
  return workload.operations();
}
}  // namespace

TEST_CASE("moving: a client that reaches one volcano alone reaches the others through it") {
  if (sim_options().replay) return;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    CAPTURE(seed);
    CHECK(done_through_one(seed, client::Reach::proxy) >= 200);
    CHECK(done_through_one(seed, client::Reach::any) >= 200);
    CHECK(done_through_one(seed, client::Reach::direct) < 200);
  }
}

TEST_CASE("moving: who was reached through another is reached directly when the way is open") {
  if (sim_options().replay) return;
  SimCluster cluster({.split = 3, .copies = 2, .moving = true, .reach = client::Reach::any});
  RandomWorkload workload(cluster, {.lag = seconds(30)});
  for (unsigned i = 0; i < 3; ++i) REQUIRE(cluster.start_volcano(i));
  for (unsigned i = 0; i < 2; ++i) cluster.cut_client(0, 1 + i, true);
  REQUIRE(cluster.start_client(0));
  REQUIRE(cluster.run_until([&] { return cluster.coordinator().is_split_at_peace(); },
                            seconds(60)));
  REQUIRE(workload.begin());
  const auto relayed = [&] { return cluster.client(0).stats().relayed; };
  REQUIRE(cluster.run_until([&] { return relayed() == 2; }, seconds(30)));
  workload.start_operations(100000);
  for (unsigned i = 0; i < 2; ++i) cluster.cut_client(0, 1 + i, false);
  CHECK(cluster.run_until([&] { return relayed() == 0; }, seconds(25)));
  // Another way is found before the volcano takes the client for dead, which costs it its session.
  cluster.cut_client(0, 0, true);
  CHECK(cluster.run_until([&] { return relayed() == 1; }, seconds(8)));
  const std::uint64_t before = workload.operations();
  cluster.run_for(seconds(2));
  CHECK(workload.operations() > before + 20);
  CHECK_MESSAGE(!workload.failed(), workload.report());
}

TEST_CASE("split random runs: the same seed gives the same run, another seed another") {
  if (sim_options().replay) return;
  for (std::uint64_t seed : {2u, 5u}) {
    SplitProfile profile = split_profile_of_seed(seed);
    const RunResult first = run_split(profile);
    CHECK(first.trace == run_split(profile).trace);
    profile.seed += 1000;
    CHECK(run_split(profile).trace != first.trace);
  }
}

namespace {

constexpr std::uint64_t kSeedsToFind = 60;

// The first seed whose run finds the fault; 0: none does.
std::uint64_t first_to_find(bool SplitProfile::*fault) {
  for (std::uint64_t seed = 1; seed <= kSeedsToFind; ++seed) {
    SplitProfile profile = split_profile_of_seed(seed);
    profile.kind = seed % 2 == 0 ? SplitFault::kill : SplitFault::cut;
    profile.spread = Spread::hashed;
    profile.faults = {};
    profile.*fault = true;
    if (run_split(profile).failure) return seed;
  }
  return 0;
}

}  // namespace

// Tests of the tests.
TEST_CASE("planted: a volcano that does not ask anew when a run begins is found") {
  if (sim_options().replay) return;
  const std::uint64_t seed = first_to_find(&SplitProfile::is_forgetful);
  MESSAGE("found by seed ", seed);
  CHECK(seed != 0);
}

TEST_CASE("planted: messages of a run that has ended, taken in the next, are found") {
  if (sim_options().replay) return;
  const std::uint64_t seed = first_to_find(&SplitProfile::is_late);
  MESSAGE("found by seed ", seed);
  CHECK(seed != 0);
}

// Last in its file on purpose: doctest runs the cases of a file in order.
TEST_CASE("split random runs: rare things happened") {
  if (sim_options().seeds < 100) return;  // too few to ask for everything
  for (const char* name : {"split: restarted",
                           "split: killed at a change of the disk",
                           "split: killed in the middle of operations",
                           "split: two down",
                           "split: cut",
                           "split: cut one way"}) {
    const std::string what = name;
    CAPTURE(what);
    CHECK(sometimes_counters()[name] > 0);
  }
}
