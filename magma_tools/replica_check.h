// Compares what the primary and its mirrors have, while the ring works (magma verify): drives the
// operation `compare` of each primary to its end, for each of its mirrors, and finds the paths of
// what differs. Memory: kListedMax differences and their paths.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "magma_tools/command.h"

namespace magma::tools {

struct ReplicaReport {
  static constexpr std::size_t kListedMax = 1000;  // differences of a mirror

  struct Mirror {
    std::string nick;
    std::string primary;  // nick
    bool is_complete = false;
    bool has_moved = false;  // what was to be compared is elsewhere by now
    std::string why_not{};   // in words, if not
    std::uint64_t rows = 0;
    std::uint64_t bytes = 0;
    std::uint64_t differences_total = 0;
    std::vector<wire::Difference> differences{};  // the first ones
  };
  std::vector<Mirror> mirrors{};
  std::map<std::uint64_t, std::string> paths{};  // of inodes among the differences
  Duration time{};

  std::uint64_t differences_total() const;
  bool is_complete() const;
};

// Whether the ring has volcanoes that mirror others.
bool has_mirrors(const wire::RingReply& ring);
// Errors: `interrupted`. What else goes wrong is told of the mirror that it is about.
Result<ReplicaReport> compare_replicas(const Target& target, const wire::RingReply& ring,
                                       bool reads_content);

// The inode that a difference is about; 0: none.
std::uint64_t inode_of(const wire::Difference& difference);
// "gromit: /d/file: attributes: the mirror's are others"
std::string difference_text(const ReplicaReport& report, const ReplicaReport::Mirror& mirror,
                            const wire::Difference& difference);
// Differences one a line, then a line a mirror.
std::string replica_text(const ReplicaReport& report);
Json replica_json(const ReplicaReport& report);  // an array, of the mirrors

}  // namespace magma::tools
