#include "tests/lib/raft_checker.h"

#include <fmt/format.h>

namespace magma::test {
namespace {

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  std::uint64_t z = hash ^ (value + 0x9e3779b97f4a7c15ULL + (hash << 6) + (hash >> 2));
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  return z ^ (z >> 31);
}

std::uint64_t hash_of(const raft::Entry& entry) {
  std::uint64_t hash = mix(entry.term.value, static_cast<std::uint64_t>(entry.kind));
  for (std::uint8_t byte : entry.data) hash = mix(hash, byte);
  return hash;
}

}  // namespace

void RaftChecker::begin_history(History& history, const raft::Position& from) {
  // A snapshot that nobody has written entries for is the beginning of a ring.
  auto [known, is_new] = known_.try_emplace({from.index, from.term}, from.index.value);
  history.first = from.index;
  history.hashes = {known->second};
  if (is_new)
    while (committed_.size() < from.index.value) committed_.push_back({from.term, known->second});
}

void RaftChecker::extend(History& history, raft::NodeId node, raft::Index index,
                         const raft::Entry& entry) {
  const std::uint64_t hash = mix(history.hashes.back(), hash_of(entry));
  history.hashes.push_back(hash);
  auto [known, is_new] = known_.try_emplace({index, entry.term}, hash);
  if (!is_new && known->second != hash)
    violated(fmt::format("log matching: node {} has another history at {}.{}", node.value,
                         index.value, entry.term.value));
}

void RaftChecker::started(const raft::Raft& node) {
  History& history = histories_[node.self()];
  history = {};
  const raft::Log& log = node.log();
  begin_history(history, log.snapshot().last);
  for (raft::Index i = log.base() + 1; i <= log.last(); i = i + 1)
    extend(history, node.self(), i, log.at(i));
}

void RaftChecker::writes(const raft::Raft& node, const raft::Persist& persist) {
  History& history = histories_[node.self()];
  if (persist.snapshot) {
    const raft::Position last = persist.snapshot->last;
    auto known = known_.find({last.index, last.term});
    if (known == known_.end() || history.at(last.index) != known->second)
      begin_history(history, last);
  }
  if (persist.first < history.first + 1) return violated("log: written below its snapshot");
  if (persist.first - history.first > history.hashes.size())
    return violated(
        fmt::format("log: node {} left a gap before {}", node.self().value, persist.first.value));
  history.hashes.resize(persist.first - history.first);
  raft::Index index = persist.first;
  for (const auto& entry : persist.entries) {
    extend(history, node.self(), index, entry);
    index = index + 1;
  }
}

void RaftChecker::stepped(const raft::Raft& node) {
  History& history = histories_[node.self()];
  if (node.role() == raft::Role::leader) check_leader(node, history);
  check_commit(node, history);
}

void RaftChecker::check_leader(const raft::Raft& node, History& history) {
  if (history.seen_leading == node.term()) return;
  history.seen_leading = node.term();
  auto [leader, is_new] = leaders_.try_emplace(node.term(), node.self());
  if (leader->second != node.self())
    violated(fmt::format("election safety: nodes {} and {} lead in term {}", leader->second.value,
                         node.self().value, node.term().value));
  for (raft::Index i = history.first + 1; i.value <= committed_.size(); i = i + 1) {
    const Committed& entry = committed_[i.value - 1];
    if (entry.in < node.term() && history.at(i) != entry.hash)
      return violated(
          fmt::format("leader completeness: {} leads in term {} without what was "
                      "committed at {} in term {}",
                      node.self().value, node.term().value, i.value, entry.in.value));
  }
}

void RaftChecker::check_commit(const raft::Raft& node, History& history) {
  while (history.seen_commit < node.commit_index()) {
    const raft::Index index = history.seen_commit + 1;
    history.seen_commit = index;
    const auto hash = history.at(index);
    if (index <= history.first && !hash) continue;  // in a snapshot, whose state is looked at
    if (!hash) return violated("commit: beyond the log");
    if (index.value > committed_.size()) {
      if (index.value != committed_.size() + 1)
        return violated("commit: an entry before was never committed");
      committed_.push_back({node.term(), *hash});
    } else if (committed_[index.value - 1].hash != *hash && index > history.first) {
      violated(fmt::format("state machine safety: node {} has committed something else at {}",
                           node.self().value, index.value));
    }
  }
}

void RaftChecker::has_state(raft::NodeId node, raft::Index index, std::uint64_t digest) {
  auto [state, is_new] = states_.try_emplace(index, digest);
  if (state->second != digest)
    violated(fmt::format("state machine safety: node {} has another state after {}", node.value,
                         index.value));
}

void RaftChecker::is_durable(raft::NodeId node, const raft::Stored& durable, raft::Index index,
                             const raft::Entry& entry) {
  const raft::Index covered = durable.snapshot.last.index;
  const bool is_there = index <= covered || (index - covered <= durable.entries.size() &&
                                             durable.entries[index - covered - 1] == entry);
  if (!is_there)
    violated(fmt::format("durability: node {} applied {} which is not on its disk", node.value,
                         index.value));
}

void RaftChecker::granted(std::uint64_t holder, raft::Term term, Instant ends) {
  auto& rights = rights_[holder];
  if (!rights.empty() && rights.back().term == term)
    rights.back().ends = std::max(rights.back().ends, ends);
  else
    rights.push_back({term, ends});
}

void RaftChecker::coordinates(raft::NodeId node, raft::Term term, Instant now,
                              const std::map<std::uint64_t, Instant>& known) {
  for (const auto& [holder, rights] : rights_) {
    if (holder == node.value) continue;  // its own, which it knows, or which ended with its process
    for (const Right& right : rights) {
      if (right.ends <= now || right.term == term) continue;
      auto found = known.find(holder);
      if (found == known.end() || found->second < right.ends)
        violated(
            fmt::format("rights: {} coordinates in term {}, and {} holds one of term {} for "
                        "{} ms more",
                        node.value, term.value, holder, right.term.value, (right.ends - now).ms()));
    }
  }
}

void RaftChecker::both_have_leases(raft::NodeId a, raft::NodeId b, Instant now) {
  violated(fmt::format("disjoint leases: {} and {} have one at {} ms", a.value, b.value,
                       now.ns / 1'000'000));
}

}  // namespace magma::test
