// Looks after every step of every node whether what Raft promises still holds (thesis, figure 3.2),
// and what the leases promise. Keeps the first violation as a line of text.
//
//   election safety       at most one leader in a term
//   log matching          an index and a term name one entry and one history, for ever
//   leader completeness   who leads in a term has every entry committed in a lower one
//   state machine safety  no two nodes apply, or restore, different things at an index
//   durability            what a node has applied is on its disk
//   disjoint leases       at most one node has a lease
//   rights                when a coordinator becomes ready, every right granted by another has
//                         ended, or it knows of it
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "libmagma/raft/raft.h"

namespace magma::test {

class RaftChecker {
 public:
  const std::optional<std::string>& violation() const { return violation_; }
  void violated(std::string what) {
    if (!violation_) violation_ = std::move(what);
  }

  // A node has (again) begun, with this log.
  void started(const raft::Raft& node);
  // A node is about to write; its log in memory is as the write makes it.
  void writes(const raft::Raft& node, const raft::Persist& persist);
  // After each step.
  void stepped(const raft::Raft& node);
  // The state machine of `node` has this digest after `index`.
  void has_state(raft::NodeId node, raft::Index index, std::uint64_t digest);
  void is_durable(raft::NodeId node, const raft::Stored& durable, raft::Index index,
                  const raft::Entry& entry);

  // The leader of `term` grants `holder` a right until `ends`; true times, as all below.
  void granted(std::uint64_t holder, raft::Term term, Instant ends);
  // The leader of `term` begins to coordinate and knows of these rights.
  void coordinates(raft::NodeId node, raft::Term term, Instant now,
                   const std::map<std::uint64_t, Instant>& known);
  // Node `a` has a lease and so has node `b`.
  void both_have_leases(raft::NodeId a, raft::NodeId b, Instant now);

  std::size_t committed() const { return committed_.size(); }
  std::size_t leaders() const { return leaders_.size(); }

 private:
  // A hash of an entry and all before it: at first_ + i.
  struct History {
    raft::Index first{};
    std::vector<std::uint64_t> hashes{};
    raft::Index seen_commit{};
    raft::Term seen_leading{};
    std::optional<std::uint64_t> at(raft::Index index) const {
      if (index < first || index - first >= hashes.size()) return std::nullopt;
      return hashes[index - first];
    }
  };
  struct Right {
    raft::Term term{};
    Instant ends{};
  };
  void begin_history(History& history, const raft::Position& from);
  void extend(History& history, raft::NodeId node, raft::Index index, const raft::Entry& entry);
  void check_commit(const raft::Raft& node, History& history);
  void check_leader(const raft::Raft& node, History& history);

  std::optional<std::string> violation_;
  std::map<raft::NodeId, History> histories_;
  std::map<std::pair<raft::Index, raft::Term>, std::uint64_t> known_;  // -> hash
  struct Committed {
    raft::Term in;  // the term of who was first to know
    std::uint64_t hash = 0;
  };
  std::vector<Committed> committed_;  // of index 1, 2 ...
  std::map<raft::Term, raft::NodeId> leaders_;
  std::map<raft::Index, std::uint64_t> states_;
  std::map<std::uint64_t, std::vector<Right>> rights_;
};

}  // namespace magma::test
