// Random runs of a primary with mirrors, and that a run is a function of its seed.
#include <doctest/doctest.h>

#include <cstdio>

#include "tests/lib/sometimes.h"
#include "tests/sim/mirror_run.h"

using namespace magma;
using namespace magma::test;

TEST_CASE("mirror random runs: nothing acknowledged is lost, and replicas are equal") {
  const SimOptions& options = sim_options();
  std::uint64_t operations = 0, failures = 0;
  for (std::uint64_t i = 0; i < options.seeds && failures < 3; ++i) {
    const MirrorProfile profile = mirror_profile_of_seed(options.first_seed + i);
    RunResult result = run_mirrors(profile);
    operations += result.operations;
    if (!result.failure) continue;
    ++failures;
    std::printf("%s\nreplay: sim_tests --mirror-seed=%llu\n", result.failure->c_str(),
                static_cast<unsigned long long>(profile.seed));
  }
  std::printf("mirror random runs: %llu operations\n", static_cast<unsigned long long>(operations));
  CHECK(failures == 0);
  CHECK(operations > 0);
}

TEST_CASE("mirror random runs: the same seed gives the same run, another seed another") {
  if (sim_options().replay) return;
  for (std::uint64_t seed : {2u, 5u}) {
    MirrorProfile profile = mirror_profile_of_seed(seed);
    profile.faults.loss = 30;
    const RunResult first = run_mirrors(profile);
    const RunResult second = run_mirrors(profile);
    CHECK(first.trace == second.trace);
    profile.seed += 1000;
    CHECK(run_mirrors(profile).trace != first.trace);
  }
}

// A test of the tests: the primary is lost while the map has a mirror in sync that is not.
TEST_CASE("planted: a coordinator that calls mirrors in sync too early is found") {
  if (sim_options().replay) return;
  bool is_found = false;
  for (std::uint64_t seed = 1; seed <= 40 && !is_found; ++seed) {
    MirrorProfile profile = mirror_profile_of_seed(seed);
    profile.faults = {};
    profile.kind = MirrorFault::calm;
    profile.loses_primary = profile.is_hasty = true;
    is_found = run_mirrors(profile).failure.has_value();
  }
  CHECK(is_found);
}

// The primary is lost with what it acknowledged alone.
TEST_CASE("planted: a primary that does not wait for its mirrors is found") {
  if (sim_options().replay) return;
  bool is_found = false;
  for (std::uint64_t seed = 1; seed <= 40 && !is_found; ++seed) {
    MirrorProfile profile = mirror_profile_of_seed(seed);
    profile.is_impatient = true;
    is_found = run_mirrors(profile).failure.has_value();
  }
  CHECK(is_found);
}

// Last in its file on purpose: doctest runs the cases of a file in order.
TEST_CASE("mirror random runs: rare things happened") {
  if (sim_options().seeds < 100) return;  // too few to ask for everything
  for (const char* name : {"mirror: joined when there were files",
                           "mirror: crash at a change of the disk",
                           "mirror: crash while it caught up",
                           "mirror: crash in a copy of everything",
                           "mirror: cut one way",
                           "mirror: cut from the primary only",
                           "mirror: went on without it",
                           "mirror: called down",
                           "mirror: in sync",
                           "mirror: behind",
                           "mirror: map came late",
                           "mirror: two of them",
                           "mirror: pieces verified under load",
                           "mirror: primary lost by a kill",
                           "mirror: primary lost by a power cut",
                           "mirror: primary lost in the middle of operations",
                           "mirror: primary lost after its restart",
                           "mirror: primary lost while an empty mirror caught up",
                           "mirror: no mirror in sync when the primary was lost",
                           "mirror: primary lost after the mirror's restart",
                           "mirror fault: mirror_power_cut",
                           "mirror fault: mirror_disk_lost",
                           "mirror fault: primary_power_cut",
                           "mirror fault: both_kill"}) {
    const std::string what = name;
    CAPTURE(what);
    CHECK(sometimes_counters()[name] > 0);
  }
}
