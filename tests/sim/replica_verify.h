// Compares the primary of a simulated cluster with its mirrors as `magma verify --replicas` does,
// piece by piece and again and again, while everything else goes on: what it finds is a difference
// that is there, or a bug. Whatever is away is asked again; it never waits for anything itself.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/lib/sim_cluster.h"

namespace magma::test {

class ReplicaVerify {
 public:
  explicit ReplicaVerify(SimCluster& cluster, bool reads_content = true)
      : cluster_(cluster), reads_content_(reads_content) {}
  // From now on, until this goes or stop().
  void start();
  void stop() { ++generation_; }
  // Each mirror once, from the beginning; false: that took longer than `limit`.
  bool run_once(Duration limit = seconds(60));

  const std::vector<wire::Difference>& differences() const { return differences_; }
  // The first of them.
  std::optional<std::string> problem() const;
  struct Counters {
    std::uint64_t pieces = 0, rows = 0, bytes = 0, rounds = 0, not_in_sync = 0, errors = 0;
  };
  const Counters& counters() const { return counters_; }

 private:
  void ask();
  void ask_later(Duration after);
  void told(Result<wire::CompareReply> reply);
  void next_mirror();

  SimCluster& cluster_;
  const bool reads_content_;
  unsigned mirror_ = 1;
  wire::CompareCursor cursor_{};
  std::uint64_t generation_ = 0;  // rises with each start, stop and question: the last one counts
  std::vector<wire::Difference> differences_;
  Counters counters_;
  std::shared_ptr<int> life_ = std::make_shared<int>(0);  // shared with callbacks, as weak_ptr
};

}  // namespace magma::test
