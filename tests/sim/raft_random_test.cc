// Random runs of the Raft core from seeds; every step is checked (tests/lib/raft_checker.h).
//   MAGMA_SIM_SEEDS=N    12 N runs (default 200: 2400 runs)
//   MAGMA_RAFT_SEED=S    one run, every event and action on stderr
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/lib/sometimes.h"
#include "tests/sim/raft_run.h"
#include "tests/sim/sim_run.h"

using namespace magma;
using namespace magma::test;

namespace {

constexpr std::uint64_t kRunsPerSeed = 12;

RaftStress stress_of(std::uint64_t seed) {
  return seed % 2 == 0 ? RaftStress::mixed : static_cast<RaftStress>(seed / 2 % 6);
}

void count(const RaftRunResult& r) {
  sometimes("raft: elections", r.counters.elections);
  sometimes("raft: leader after leader", r.leaders > 3 ? 1 : 0);
  sometimes("raft: lost", r.counters.lost);
  sometimes("raft: duplicated", r.counters.duplicated);
  sometimes("raft: unsynced writes lost", r.counters.writes_lost);
  sometimes("raft: crashes", r.counters.crashes);
  sometimes("raft: cuts", r.cuts);
  sometimes("raft: members changed", r.changes);
  sometimes("raft: transfers", r.transfers);
  sometimes("raft: rights granted", r.counters.rights);
  sometimes("raft: rights handed over", r.counters.deadlines_handed);
  sometimes("raft: snapshots sent", r.counters.snapshots_sent);
  sometimes("raft: disks stopped", r.disk_stops);
  sometimes("raft: committed", r.committed);
  sometimes("raft: steps", r.counters.steps);
}

}  // namespace

TEST_CASE("raft: random runs keep every promise") {
  if (const char* one = std::getenv("MAGMA_RAFT_SEED")) {
    const std::uint64_t seed = std::strtoull(one, nullptr, 10);
    auto result = run_raft({.seed = seed, .stress = stress_of(seed), .prints = true});
    CHECK_MESSAGE(!result.failure, result.failure.value_or(""));
    return;
  }
  unsigned failures = 0;
  for (std::uint64_t i = 0; i < sim_options().seeds * kRunsPerSeed && failures < 3; ++i) {
    const std::uint64_t seed = 1 + i;
    auto result = run_raft({.seed = seed, .stress = stress_of(seed)});
    count(result);
    if (!result.failure) continue;
    ++failures;
    std::printf("%s\nreplay: MAGMA_RAFT_SEED=%llu sim_tests -tc='raft: random*'\n",
                result.failure->c_str(), static_cast<unsigned long long>(seed));
  }
  CHECK(failures == 0);
}

TEST_CASE("raft: the same seed gives the same run, another seed another") {
  for (std::uint64_t seed : {2u, 9u}) {
    const auto first = run_raft({.seed = seed}), again = run_raft({.seed = seed});
    CHECK(first.trace == again.trace);
    CHECK(first.trace != run_raft({.seed = seed + 1000}).trace);
  }
}

// Last in its file on purpose: doctest runs the cases of a file in order.
TEST_CASE("raft: rare things happened") {
  if (sim_options().seeds < 200 || std::getenv("MAGMA_RAFT_SEED") != nullptr) return;
  for (const char* name :
       {"raft: elections", "raft: leader after leader", "raft: lost", "raft: duplicated",
        "raft: unsynced writes lost", "raft: crashes", "raft: cuts", "raft: members changed",
        "raft: transfers", "raft: rights granted", "raft: rights handed over",
        "raft: snapshots sent", "raft: disks stopped", "raft: committed"}) {
    const std::string what = name;
    CAPTURE(what);
    CHECK(sometimes_counters()[name] > 0);
  }
}
