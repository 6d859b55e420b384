// Random runs from seeds, and that a run is a function of its seed.
#include <doctest/doctest.h>

#include <cstdio>

#include "tests/lib/sometimes.h"
#include "tests/sim/sim_run.h"

using namespace magma;
using namespace magma::test;

TEST_CASE("random runs: every answer is the oracle's, through crashes and bad networks") {
  const SimOptions& options = sim_options();
  std::uint64_t operations = 0, failures = 0;
  for (std::uint64_t i = 0; i < options.seeds && failures < 3; ++i) {
    const RunProfile profile = profile_of_seed(options.first_seed + i);
    RunResult result = run_profile(profile);
    operations += result.operations;
    if (!result.failure) continue;
    ++failures;
    std::printf("%s\nreplay: sim_tests --seed=%llu\n", result.failure->c_str(),
                static_cast<unsigned long long>(profile.seed));
  }
  std::printf("random runs: %llu operations\n", static_cast<unsigned long long>(operations));
  CHECK(failures == 0);
  CHECK(operations > 0);
}

// Nothing is told or changed of a slot of another part but by messages, as between volcanoes.
TEST_CASE("random runs: slots as if of several volcanoes") {
  const SimOptions& options = sim_options();
  std::uint64_t failures = 0;
  for (std::uint64_t i = 0; i < options.seeds && failures < 3; ++i) {
    RunProfile profile = profile_of_seed(options.first_seed + i);
    profile.parts = 2 + profile.seed % 4;
    RunResult result = run_profile(profile);
    if (!result.failure) continue;
    ++failures;
    std::printf("%s\nreplay: sim_tests --seed=%llu\n", result.failure->c_str(),
                static_cast<unsigned long long>(profile.seed));
  }
  CHECK(failures == 0);
}

TEST_CASE("random runs: the same seed gives the same run, another seed another") {
  for (std::uint64_t seed : {3u, 7u}) {
    RunProfile profile = profile_of_seed(seed);
    profile.faults.loss = 30;
    RunResult first = run_profile(profile);
    RunResult second = run_profile(profile);
    CHECK(first.trace == second.trace);
    profile.seed += 1000;
    CHECK(run_profile(profile).trace != first.trace);
  }
}

// Last in its file on purpose: doctest runs the cases of a file in order.
TEST_CASE("random runs: rare things happened") {
  if (sim_options().seeds < 200) return;  // too few to ask for everything
  for (const char* name : {"workload: operation on a removed inode",
                           "workload: unlinked while open",
                           "client: opened without asking",
                           "client: attributes of a file known",
                           "client: told of an open",
                           "client: delayed a write",
                           "client: delayed a change of names",
                           "client: made a file later",
                           "client: was asked for delayed writes",
                           "client: asked to delay writes",
                           "workload: read of an unlinked file",
                           "workload: rmdir of a full directory",
                           "workload: rename into itself refused",
                           "workload: directory moved across directories",
                           "workload: replaced across directories",
                           "workload: outgrew its row",
                           "workload: spilled to chunks",
                           "workload: near the second chunk",
                           "workload: a second chunk",
                           "workload: large file cut",
                           "workload: readdir in pieces",
                           "workload: exchanged across directories",
                           "workload: linked across directories",
                           "workload: a file without a name got one",
                           "workload: one of several names unlinked",
                           "workload: read an attribute",
                           "workload: punched a hole",
                           "workload: fallocate in pieces",
                           "workload: copied",
                           "workload: spilled by a copy",
                           "power cut: a file with several names",
                           "crash: at a change of the disk",
                           "crash: recovered from a kill",
                           "crash: recovered from a power cut",
                           "crash: twice",
                           "power cut: a synced file was checked",
                           "network: lost",
                           "network: duplicated",
                           "network: reordered",
                           "network: corrupted",
                           "disk: unsynced writes lost",
                           "disk: writes torn"}) {
    const std::string what = name;
    CAPTURE(what);
    CHECK(sometimes_counters()[name] > 0);
  }
}
