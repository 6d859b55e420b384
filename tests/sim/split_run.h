// One random run of several volcanoes that are primaries of different slots, from one seed: the
// random workload, a fault of some of them in each round while the others go on, and after each
// round that the tree is the oracle's. At the end nothing is left of any operation, each volcano's
// storage passes fsck, and so does what all have together.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tests/lib/sim_cluster.h"
#include "tests/sim/sim_run.h"

namespace magma::test {

enum class SplitFault : std::uint8_t {
  calm,
  restart,  // of one, cleanly
  kill,     // of one
  kills,    // of one after the other, perhaps before the first is back
  cut,      // between two of them, one way or both
  mixed,    // one of the above in each round
};

struct SplitProfile {
  std::uint64_t seed = 1;
  SplitFault kind = SplitFault::calm;
  unsigned volcanoes = 2;
  Spread spread = Spread::runs;
  unsigned clients = 1;
  unsigned copies = 1;        // of each slot
  bool moving = false;        // all are of volcano 0 at first, and the others join
  bool is_powerless = false;  // of moving ones: one, or all, lose power now and then
  client::Reach reach = client::Reach::direct;  // of moving ones, and of three or more
  bool shared_tree = true;
  bool loopback = true;
  NetworkFaults faults{};
  unsigned rounds = 3;
  unsigned operations = 45;   // a round
  bool is_forgetful = false;  // planted: volcano 0 does not begin anew
  bool is_late = false;       // planted: volcano 0 takes messages of runs that have ended
};
SplitProfile split_profile_of_seed(std::uint64_t seed);
std::string describe(const SplitProfile& profile);

RunResult run_split(const SplitProfile& profile);

// What fsck finds in one volcano's storage, which has its slots only; nothing if it is clean.
std::optional<std::string> split_fsck_problem(SimCluster& cluster, unsigned index,
                                              bool after_clean_stop);
// Where a copy of a slot is other than its primary; nothing if there are no copies. Requires: none
// runs.
std::optional<std::string> copies_problem(SimCluster& cluster);
// What is wrong with all slots together, or left of operations. Requires: none runs. `may_leak`:
// what no name leads to may be there.
std::optional<std::string> whole_problem(SimCluster& cluster, bool may_leak = false);

}  // namespace magma::test
