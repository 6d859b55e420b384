// One random run of a primary and its mirrors from one seed: the random workload, a fault of the
// ring in each round, and after each round that the mirrors get in sync again, hold what the
// primary holds and pass fsck. The last fault may be that the primary is lost for good: a mirror's
// disk goes on in its place, and the oracle must not notice.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tests/lib/sim_cluster.h"
#include "tests/sim/sim_run.h"

namespace magma::test {

enum class MirrorFault : std::uint8_t {
  calm,
  mirror_kill,
  mirror_power_cut,
  mirror_restart,    // cleanly
  mirror_disk_lost,  // it comes back with an empty one
  primary_kill,
  primary_power_cut,
  primary_restart,  // cleanly
  both_kill,
  cut,    // between the primary and mirrors, 1 to 20 s
  mixed,  // one of the above in each round
};

struct MirrorProfile {
  std::uint64_t seed = 1;
  MirrorFault kind = MirrorFault::calm;
  unsigned clients = 1;
  unsigned mirrors = 1;
  bool shared_tree = true;
  bool loopback = true;
  NetworkFaults faults{};
  bool joins_late = false;     // mirrors start when there are files already
  bool loses_primary = false;  // at the end
  bool verifies = false;       // all the time
  unsigned rounds = 3;
  unsigned operations = 35;   // a round
  bool is_impatient = false;  // planted: the primary waits for nobody
  bool is_hasty = false;      // planted: mirrors are called in sync before they are
};
MirrorProfile mirror_profile_of_seed(std::uint64_t seed);
std::string describe(const MirrorProfile& profile);

RunResult run_mirrors(const MirrorProfile& profile);

// Waits until every mirror is in sync; what is wrong if that takes longer than `limit`.
std::optional<std::string> wait_for_peace(SimCluster& cluster, Duration limit = seconds(180));
// Waits until nothing differs; the difference if there is one still after 15 s. And fsck of copies
// of the mirrors' disks.
std::optional<std::string> mirrors_problem(SimCluster& cluster);

}  // namespace magma::test
