// One random run of a ring of Nodes from one seed: 1 to 7 volcanoes that join at random, crash and
// come back, lose their disk, are cut off; then all faults end and the ring must agree.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tests/lib/node_ring.h"

namespace magma::test {

enum class NodeStress : std::uint8_t {
  mixed,   // drawn from the seed
  leases,  // late answers and cuts of about a lease's length
  disks,   // disks are lost, newcomers come with the nicks of those who were there
};

struct NodeRunOptions {
  std::uint64_t seed = 1;
  NodeStress stress = NodeStress::mixed;
  node::NodePlanted planted{};
};

struct NodeRunResult {
  std::optional<std::string> failure{};  // with the seed
  NodeRing::Counters counters{};
  std::uint64_t cuts = 0;
  std::uint64_t trace = 0;
};

NodeRunResult run_nodes(const NodeRunOptions& options);

struct NodeRunCounts : NodeRing::Counters {
  std::uint64_t runs = 0, cuts = 0;
  void add(const NodeRunResult& result);
  std::string text() const;
};

}  // namespace magma::test
