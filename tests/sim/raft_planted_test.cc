// Tests of the tests: bugs planted in the Raft core, each of which the random runs must find.
#include <doctest/doctest.h>

#include <cstdio>

#include "tests/sim/raft_run.h"

using namespace magma;
using namespace magma::test;

namespace {

struct Bug {
  const char* name;
  bool raft::Planted::*planted;
  RaftStress stress;
  std::uint64_t seeds;  // within which it must be found: four times what it took, at least
};

constexpr Bug kBugs[] = {
    {"commits entries of older terms by counting", &raft::Planted::commits_older_terms,
     RaftStress::leftovers, 50},
    {"answers before the disk has it", &raft::Planted::sends_before_persisting,
     RaftStress::elections, 400},
    {"votes within 3 s of a heartbeat", &raft::Planted::ignores_promises, RaftStress::partitions,
     500},
    {"changes the members before an own entry is committed", &raft::Planted::changes_members_early,
     RaftStress::members, 600},
    {"changes the members before the last change is committed",
     &raft::Planted::changes_members_at_once, RaftStress::members, 500},
    {"counts the lease from the receipt of the answer", &raft::Planted::lease_from_receipt,
     RaftStress::partitions, 200},
    {"keeps the lease in a transfer", &raft::Planted::keeps_lease_in_transfer,
     RaftStress::transfers, 50},
    {"hands no rights over in a transfer", &raft::Planted::forgets_deadlines, RaftStress::transfers,
     50},
    {"votes at once after a restart", &raft::Planted::votes_at_once_after_restart,
     RaftStress::elections, 50},
    {"votes for shorter logs", &raft::Planted::votes_for_shorter_logs, RaftStress::mixed, 100},
};

}  // namespace

TEST_CASE("raft planted: every bug is found") {
  for (const Bug& bug : kBugs) {
    const std::string name = bug.name;
    CAPTURE(name);
    std::optional<std::string> found;
    std::uint64_t seed = 0;
    while (!found && seed < bug.seeds) {
      RaftRunOptions options{.seed = ++seed, .stress = bug.stress};
      options.planted.*bug.planted = true;
      found = run_raft(options).failure;
      options.planted = {};
      // It is the bug that fails, not the run.
      if (found) CHECK_FALSE(run_raft(options).failure);
    }
    CHECK_MESSAGE(found, "not found in ", bug.seeds, " seeds");
    if (found) std::printf("%s: %s\n", bug.name, found->c_str());
  }
}
