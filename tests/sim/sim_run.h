// One random run from one seed: a cluster with a profile of faults drawn from the seed, the random
// workload, crashes in the middle, and the checks. sim_tests runs hundreds of them; the planted
// faults (tests of the tests) run them too.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "tests/lib/sim_cluster.h"
#include "tests/sim/random_workload.h"

namespace magma::test {

// Options of the program: --seeds=N, --seed=S (MAGMA_SIM_SEEDS, MAGMA_SIM_SEED).
struct SimOptions {
  std::uint64_t first_seed = 1;
  std::uint64_t seeds = 200;
  bool replay = false;  // one seed: product logs go to stderr
};
SimOptions& sim_options();

enum class RunKind : std::uint8_t { calm, clean_restart, kill, power_cut, mixed };

struct RunProfile {
  std::uint64_t seed = 1;
  RunKind kind = RunKind::calm;
  unsigned clients = 1;
  bool shared_tree = true;
  bool loopback = true;
  NetworkFaults faults{};
  unsigned rounds = 3;
  unsigned operations = 45;  // a round
  unsigned parts = 0;        // slots as if of so many volcanoes; 0: they are of one
};
RunProfile profile_of_seed(std::uint64_t seed);
std::string describe(const RunProfile& profile);

// What a planted fault may do to a run.
struct RunHooks {
  std::function<void(SimCluster&)> after_start;   // after each start of the volcano
  std::function<void(SimCluster&)> before_start;  // between a crash and the next start
  bool kill_forgets = false;                      // a kill loses the page cache too
};

struct RunResult {
  std::optional<std::string> failure;  // with the last operations
  std::uint64_t trace = 0;
  std::uint64_t operations = 0;
};
RunResult run_profile(const RunProfile& profile, const RunHooks& hooks = {});

// Problems fsck finds in the stopped volcano's storage; nothing if it is clean.
std::optional<std::string> fsck_problem(SimCluster& cluster, bool after_clean_stop = false);
std::optional<std::string> fsck_problem(SimDisk& disk, bool after_clean_stop);

// The last lines the product logged in this run.
std::string last_log_lines();
void forget_log_lines();

}  // namespace magma::test
