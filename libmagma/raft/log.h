// A node's log in memory: the entries after `base`, the latest snapshot, and the members as of each
// place. Owned by Raft; what of it is on stable storage is known there.
//
//   base ........ snapshot.last ........ last
//   |  kept for followers  |  not in the snapshot  |
//
// Invariant: base <= snapshot.last <= last.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "libmagma/raft/types.h"

namespace magma::raft {

class Log {
 public:
  // Requires: entries are valid (is_valid) and their terms never fall.
  Log(Snapshot snapshot, std::vector<Entry> entries);

  const Snapshot& snapshot() const { return snapshot_; }
  Index base() const { return base_.index; }
  Index last() const { return base_.index + entries_.size(); }
  Position last_position() const { return {last(), *term_at(last())}; }
  // Nothing before base() and after last().
  std::optional<Term> term_at(Index index) const;
  bool has(const Position& position) const { return term_at(position.index) == position.term; }
  // Requires: base() < index <= last().
  const Entry& at(Index index) const { return entries_[index - base_.index - 1]; }
  // Entries from `from` on, at most `count` and kBatchBytesMax. Requires: base() < from.
  std::vector<Entry> batch(Index from, std::size_t count) const;
  std::vector<Entry> entries_from(Index from) const;
  // The last place up to `index` whose term is not above `term`; base() if there is none. Two logs
  // can't agree in an entry of a term that one of them has not reached (section 3.5, end).
  Position last_not_above(Index index, Term term) const;

  void append(Entry entry);
  // Requires: snapshot().last.index < from.
  void truncate_from(Index from);

  // In force: the latest in the log, and where it is (for one of the snapshot: the snapshot).
  const Configuration& configuration() const { return configurations_.back().second; }
  Index configuration_index() const { return configurations_.back().first; }
  // Requires: snapshot().last.index <= index.
  const Configuration& configuration_at(Index index) const;
  // Whether no configuration of the snapshot or since has another member.
  bool is_only_member(NodeId node) const;
  // In force before configuration_index(); the same if the log does not go back so far.
  const Configuration& configuration_before() const;

  // The state up to `index` is now a snapshot; `keep` entries before it stay in memory.
  // Requires: snapshot().last.index < index <= last().
  void compact(Index index, Bytes state, std::uint64_t keep);
  // Forgets everything for a snapshot of the leader.
  void reset(Snapshot snapshot);

  // Not in the snapshot:
  std::uint64_t entries_since_snapshot() const { return last() - snapshot_.last.index; }
  std::uint64_t bytes_since_snapshot() const { return bytes_; }

 private:
  void add_configuration(Index index, const Entry& entry);

  Snapshot snapshot_;
  Position base_;
  std::vector<Entry> entries_;
  // Ascending; the first is that of the snapshot.
  std::vector<std::pair<Index, Configuration>> configurations_;
  std::uint64_t bytes_ = 0;
};

}  // namespace magma::raft
