// A follower takes entries and snapshots.
#include <algorithm>
#include <utility>

#include "libmagma/base/check.h"
#include "libmagma/raft/raft.h"

namespace magma::raft {

void Raft::receive(NodeId from, AppendRequest& m) {
  AppendReply reply{.term = {},
                    .sent_at = m.sent_at,
                    .is_success = false,
                    .previous = m.previous.index,
                    .match = {}};
  if (m.term < hard_.term) {  // it has been replaced, and must learn that
    reply.term = hard_.term;
    return send(from, reply, true);
  }
  if (m.term == hard_.term && role_ == Role::leader) return;  // a second leader: forged
  if (m.term > hard_.term || role_ != Role::follower || leader_ != from) follow(m.term, from);
  heard_leader();
  reply.term = hard_.term;
  if (!skip_committed(m)) return;
  if (log_.has(m.previous)) {
    take_entries(m);
    reply.is_success = true;
    reply.match = m.previous;
    reply.match.index = reply.match.index + m.entries.size();
    if (!m.entries.empty()) reply.match.term = m.entries.back().term;
    commit_to(std::min(m.commit, reply.match.index));
  } else {
    // Nothing of our own above the leader's term at that place can be the leader's.
    reply.match = log_.last_not_above(m.previous.index - 1, m.previous.term);
    reply.match.index = std::max(reply.match.index, commit_);
    reply.match.term = *log_.term_at(reply.match.index);
  }
  send(from, reply, true);
}

// Moves `previous` over entries that are committed here: they are the leader's, too, and may have
// left the log. False: they are not, which no leader can say.
bool Raft::skip_committed(AppendRequest& m) const {
  if (m.previous.index >= commit_) return true;
  const std::size_t known = std::min<std::size_t>(commit_ - m.previous.index, m.entries.size());
  for (std::size_t i = 0; i < known; ++i) {
    m.previous = {m.previous.index + 1, m.entries[i].term};
    if (m.previous.index >= log_.base() && !log_.has(m.previous)) return false;
  }
  m.entries.erase(m.entries.begin(), m.entries.begin() + static_cast<std::ptrdiff_t>(known));
  if (m.previous.index < commit_) {
    // All of it is committed here already: then so much is agreed on as we have committed.
    m.previous = {commit_, *log_.term_at(commit_)};
  }
  return true;
}

// "If an existing entry conflicts with a new one (same index but different terms), delete the
// existing entry and all that follow it" [3.5]; what agrees stays, as a late message may be short.
void Raft::take_entries(AppendRequest& m) {
  Index index = m.previous.index;
  std::size_t agreed = 0;
  while (agreed < m.entries.size() && log_.has({index + 1, m.entries[agreed].term})) {
    index = index + 1;
    ++agreed;
  }
  if (agreed == m.entries.size()) return;
  if (index < log_.last()) log_.truncate_from(index + 1);
  log_changed_from(index + 1);
  for (std::size_t i = agreed; i < m.entries.size(); ++i) log_.append(m.entries[i]);
}

void Raft::receive(NodeId from, SnapshotRequest& m) {
  const Position last = m.snapshot.last;
  AppendReply reply{.term = {},
                    .sent_at = m.sent_at,
                    .is_success = m.term >= hard_.term,
                    .previous = last.index,
                    .match = last};
  if (m.term < hard_.term) {
    reply.term = hard_.term;
    return send(from, reply, true);
  }
  if (m.term == hard_.term && role_ == Role::leader) return;
  if (m.term > hard_.term || role_ != Role::follower || leader_ != from) follow(m.term, from);
  heard_leader();
  reply.term = hard_.term;
  if (last.index > commit_) {
    if (log_.has(last)) {
      commit_to(last.index);
    } else {
      log_.reset(std::move(m.snapshot));
      log_changed_from(Index(1));  // also in the store: nothing of the old log counts
      snapshot_changed_ = true;
      commit_ = last.index;
    }
  }
  send(from, reply, true);
}

void Raft::commit_to(Index index) { commit_ = std::max(commit_, std::min(index, log_.last())); }

}  // namespace magma::raft
