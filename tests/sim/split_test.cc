// Several volcanoes that are primaries of different slots: random runs, and that faults planted in
// what passes between them are found.
#include <doctest/doctest.h>

#include <cstdio>

#include "tests/lib/sometimes.h"
#include "tests/sim/split_run.h"

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
