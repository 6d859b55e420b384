// A crash at every step of a small scenario, after the k-th change of a disk, for k = 0, 1, 2 ...
// until the scenario gets through. The clients get the same answers as without.
//
// Of the mirror: started again, it gets in sync and holds what the primary holds, and nothing is
// left over when it is stopped.
// Of the primary, for good: the mirror goes on in its place, and lacks nothing.
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/lib/sim_coordinator.h"
#include "tests/lib/sometimes.h"
#include "tests/sim/mirror_run.h"
#include "tests/sim/scenario.h"

using namespace magma;
using namespace magma::test;

namespace {

const Ino kRoot = root_ino();
constexpr std::uint64_t kStepsMax = 1000;
// Seconds of rest between operations, so that what a mirror does behind an answer (syncs, content
// files that go) is among the steps, too.
constexpr Duration kRest = milliseconds(1200);
constexpr Duration kSweep = seconds(8);

struct Tree {
  Ino directory, large, gone;
};

Tree prepare(Scenario& s) {
  Tree t;
  t.directory = s.mkdir(kRoot, "d").value().ino;
  REQUIRE(s.mkdir(kRoot, "empty").has_value());
  t.large = s.make_file(t.directory, "large", pattern(300'000, 4));
  t.gone = s.make_file(t.directory, "gone", pattern(30'000, 5));
  REQUIRE(!wait_for_peace(s.cluster()).has_value());
  s.cluster().run_for(seconds(8));  // all of it is synced
  return t;
}

// Every call is answered as if nothing had happened.
void work(Scenario& s, const Tree& t) {
  auto made = s.create(t.directory, "new");
  REQUIRE(made.has_value());
  CHECK(s.write(made->ino, 0, pattern(4096, 6)).has_value());
  CHECK(s.write(t.large, 200'000, pattern(200'000, 7)).has_value());
  s.cluster().run_for(kRest);
  CHECK(s.truncate(t.large, 70'000).has_value());
  CHECK(s.rename(t.directory, "new", kRoot, "moved").has_value());
  CHECK(s.unlink(t.directory, "gone").has_value());
  CHECK(s.rmdir(kRoot, "empty").has_value());
  s.cluster().run_for(kRest);
}

void check_replicas(Scenario& s) {
  const auto unrest = wait_for_peace(s.cluster());
  CHECK_MESSAGE(!unrest.has_value(), unrest.value_or(""));
  if (unrest) return;
  const auto problem = mirrors_problem(s.cluster());
  CHECK_MESSAGE(!problem.has_value(), problem.value_or(""));
  CHECK_MESSAGE(!s.cluster().coordinator().problem().has_value(),
                s.cluster().coordinator().problem().value_or(""));
}

// Whether the scenario got through before the crash.
bool crash_mirror_after(Crash how, std::uint64_t changes, const std::string& tree) {
  CAPTURE(changes);
  Scenario s(78, 1, 1);
  SimCluster& cluster = s.cluster();
  const Tree t = prepare(s);
  cluster.crash_volcano_after(changes, how, 1);
  work(s, t);
  const bool got_through = cluster.volcano_runs(1);
  if (got_through) cluster.crash_volcano(how, 1);
  REQUIRE(cluster.start_volcano(1));
  sometimes("mirror: crash steps");
  check_replicas(s);
  CHECK(s.dump() == tree);
  cluster.run_for(kSweep);
  REQUIRE(cluster.stop_volcano(1));
  const auto left_over = fsck_problem(cluster.disk(1), true);
  CHECK_MESSAGE(!left_over.has_value(), left_over.value_or(""));
  return got_through;
}

// Once the primary has died: the mirror dies with it or stops, and goes on in its place.
class Heir {
 public:
  Heir(SimCluster& cluster, bool stops_cleanly) : cluster_(cluster), stops_cleanly_(stops_cleanly) {
    watch();
  }
  bool is_primary() const { return is_primary_; }
  const std::string& problem() const { return problem_; }

 private:
  void watch() {
    cluster_.loop().after(milliseconds(100), [this] {
      if (cluster_.volcano_runs(0)) return watch();
      cluster_.loop().after(milliseconds(500), [this] { take_over(); });
    });
  }
  void take_over() {
    if (!cluster_.coordinator().is_in_sync(1)) problem_ = "the mirror was not in sync";
    if (!stops_cleanly_)
      cluster_.crash_volcano(Crash::kill, 1);
    else if (!cluster_.stop_volcano(1))
      problem_ = cluster_.last_error();
    if (auto found = fsck_problem(cluster_.disk(1), stops_cleanly_)) problem_ = *found;
    cluster_.replace_primary(1);
    if (!cluster_.start_volcano(0)) problem_ = cluster_.last_error();
    is_primary_ = true;
  }

  SimCluster& cluster_;
  bool stops_cleanly_;
  bool is_primary_ = false;
  std::string problem_;
};

// Whether the scenario got through before the crash.
bool lose_primary_after(Crash how, std::uint64_t changes, const std::string& tree) {
  CAPTURE(changes);
  Scenario s(78, 1, 1);
  SimCluster& cluster = s.cluster();
  const Tree t = prepare(s);
  Heir heir(cluster, changes % 2 == 0);
  cluster.crash_volcano_after(changes, how);
  work(s, t);
  const bool got_through = !heir.is_primary();
  if (got_through && cluster.volcano_runs()) cluster.crash_volcano(how);
  CHECK(cluster.run_until([&] { return heir.is_primary(); }, seconds(5)));
  CHECK(heir.problem() == "");
  if (!cluster.volcano_runs()) return got_through;
  CHECK(s.dump() == tree);
  cluster.run_for(seconds(5));
  REQUIRE(cluster.stop_volcano());
  const auto problem = fsck_problem(cluster, true);
  CHECK_MESSAGE(!problem.has_value(), problem.value_or(""));
  return got_through;
}

using CrashAfter = bool (*)(Crash how, std::uint64_t changes, const std::string& tree);

void crash_everywhere(CrashAfter crash_after, Crash how, std::uint64_t stride) {
  std::string tree;
  {
    Scenario s(78, 1, 1);
    work(s, prepare(s));
    tree = s.dump();
    check_replicas(s);
  }
  std::uint64_t changes = 0;
  while (changes < kStepsMax && !crash_after(how, changes, tree)) changes += stride;
  CHECK(changes > 10);  // it never struck
  CHECK(changes < kStepsMax);
}

}  // namespace

TEST_CASE("mirror crash at every step: kill") {
  crash_everywhere(&crash_mirror_after, Crash::kill, 1);
}

TEST_CASE("mirror crash at every step: power cut") {
  crash_everywhere(&crash_mirror_after, Crash::power_cut, 1);
}

TEST_CASE("mirror: the primary is lost at every step: kill") {
  crash_everywhere(&lose_primary_after, Crash::kill, 1);
}

TEST_CASE("mirror: the primary is lost at every step: power cut") {
  crash_everywhere(&lose_primary_after, Crash::power_cut, 1);
}
