// One random run of a Raft cluster from one seed: 1 to 5 voters and up to 3 more nodes, faults
// drawn from the seed, proposals, changes of the members, transfers, crashes, partitions; then all
// faults end and the cluster must agree (liveness).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tests/lib/raft_cluster.h"

namespace magma::test {

// Where a planted bug needs help to show: which faults a run has.
enum class RaftStress : std::uint8_t {
  mixed,       // drawn from the seed
  elections,   // short lives of leaders: crashes and cuts, few entries
  partitions,  // leaders cut off for about as long as their lease
  members,     // changes of the members all the time, by whoever believes to lead
  transfers,   // transfers all the time, some of whose messages come late
  leftovers,   // leaders die before their entries are everywhere; one entry a message
};

struct RaftRunOptions {
  std::uint64_t seed = 1;
  RaftStress stress = RaftStress::mixed;
  raft::Planted planted{};
  bool prints = false;
};

struct RaftRunResult {
  std::optional<std::string> failure;  // with the seed
  RaftCluster::Counters counters;
  std::size_t committed = 0;
  std::size_t leaders = 0;
  std::uint64_t cuts = 0, changes = 0, transfers = 0, proposals = 0, disk_stops = 0;
  std::uint64_t trace = 0;  // sums up the run: same seed, same value
};

RaftRunResult run_raft(const RaftRunOptions& options);

}  // namespace magma::test
