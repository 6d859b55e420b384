// A leader: heartbeats, replication, commitment, its lease.
#include <algorithm>
#include <functional>
#include <limits>
#include <utility>

#include "libmagma/base/check.h"
#include "libmagma/raft/raft.h"

namespace magma::raft {

std::optional<Error> Raft::refuse_as_leader() const {
  if (role_ != Role::leader) return Error{Code::not_primary, "not the Raft leader"};
  if (transfer_) return Error{Code::not_primary, "the leadership is being transferred"};
  if (log_.entries_since_snapshot() >= kLogEntriesMax ||
      log_.bytes_since_snapshot() >= kLogBytesMax)
    return Error{Code::overloaded, "the log is full"};
  return std::nullopt;
}

void Raft::on(Propose& event) {
  if (auto error = refuse_as_leader()) return answer(event.cookie, fail(*error));
  if (event.command.size() > kCommandBytesMax)
    return answer(event.cookie, fail(Code::too_long, "a command"));
  append_own({hard_.term, EntryKind::command, std::move(event.command)});
  answer(event.cookie, log_.last_position());
  send_news_to_all();
}

void Raft::append_own(Entry entry) {
  const bool changes_members = entry.kind == EntryKind::configuration;
  log_.append(std::move(entry));
  log_changed_from(log_.last());
  if (changes_members) members_changed();
}

void Raft::lead_on_tick() {
  if (now_ >= last_majority_contact() + settings_.timing.promise)
    return follow(hard_.term, kNobody);  // check-quorum
  if (transfer_ && now_ >= transfer_->give_up_at) {
    end_transfer_in_vain();
    if (role_ != Role::leader) return;
  }
  if (now_ >= heartbeat_at_) send_heartbeats();
}

// What is under way may be lost: an empty request asks where the follower is.
void Raft::send_heartbeats() {
  heartbeat_at_ = now_ + settings_.timing.heartbeat;
  for (auto& [node, peer] : peers_) {
    peer.under_way = Index{};
    send_request(node, peer, false);
  }
}

void Raft::send_request(NodeId to, Peer& peer, bool with_entries) {
  const Index previous = std::max(peer.next - 1, log_.base());
  AppendRequest request{.term = hard_.term,
                        .previous = {previous, *log_.term_at(previous)},
                        .commit = commit_,
                        .sent_at = static_cast<std::uint64_t>(now_.ns)};
  if (with_entries) {
    request.entries = log_.batch(previous + 1, settings_.batch_entries);
    peer.under_way = previous + request.entries.size();
  }
  if (!peer.is_known || previous != peer.match) peer.probe = previous;
  send(to, std::move(request), false);
}

void Raft::send_snapshot(NodeId to, Peer& peer) {
  if (peer.snapshot_at > Instant{} && now_ < peer.snapshot_at + settings_.timing.resend_snapshot)
    return;
  peer.snapshot_at = now_;
  SnapshotRequest request{.term = hard_.term,
                          .sent_at = static_cast<std::uint64_t>(now_.ns),
                          .snapshot = log_.snapshot()};
  send(to, std::move(request), false);
}

// Entries if there are some and none are under way.
void Raft::send_news(NodeId to, Peer& peer) {
  if (peer.is_known && peer.under_way == Index{} && peer.next <= log_.last() &&
      peer.next > log_.base())
    send_request(to, peer, true);
}

void Raft::send_news_to_all() {
  for (auto& [node, peer] : peers_) send_news(node, peer);
}

void Raft::receive(NodeId from, const AppendReply& m) {
  if (m.term > hard_.term) return follow(m.term, kNobody);
  auto found = peers_.find(from);
  if (role_ != Role::leader || m.term < hard_.term || found == peers_.end()) return;
  Peer& peer = found->second;
  Instant sent{static_cast<std::int64_t>(m.sent_at)};
  if (sent > now_ || m.match.index > log_.last()) return;  // never said by us: forged
  if (planted_.lease_from_receipt) sent = now_;
  peer.heartbeat_heard = std::max(peer.heartbeat_heard.value_or(sent), sent);
  peer.last_heard = now_;
  if (m.is_success) {
    peer.is_known = true;
    peer.probe.reset();
    peer.match = std::max(peer.match, m.match.index);
    peer.next = peer.match + 1;
    if (peer.match >= peer.under_way) peer.under_way = Index{};
    advance_commit();
    if (role_ != Role::leader) return;
    send_news(from, peer);
    if (transfer_ && transfer_->to == from) send_transfer();
  } else if (peer.probe == m.previous) {
    // It has less than we thought: go back to where we may agree, or to the snapshot.
    const Position agree = log_.last_not_above(m.match.index, m.match.term);
    const bool is_lost = m.previous <= log_.base() || agree.index < log_.base();
    peer.next = std::max(peer.match, std::min(agree.index, m.previous - 1)) + 1;
    peer.probe.reset();
    if (is_lost)
      send_snapshot(from, peer);
    else
      send_request(from, peer, false);
  }
}

template <class T, class Of>
T Raft::majority_of(T own, Of of) const {
  const Configuration& members = log_.configuration();
  std::vector<T> reached;
  for (NodeId voter : members.voters) {
    auto found = peers_.find(voter);
    if (voter == self_)
      reached.push_back(own);
    else
      reached.push_back(found == peers_.end() ? T{} : of(found->second));
  }
  if (reached.empty()) return T{};
  const auto nth = reached.begin() + static_cast<std::ptrdiff_t>(members.majority() - 1);
  std::nth_element(reached.begin(), nth, reached.end(), std::greater<>());
  return *nth;
}

// "Only log entries from the leader's current term are committed by counting replicas; once an
// entry from the current term has been committed in this way, then all prior entries are committed
// indirectly" [3.6.2]. The leader counts itself up to what it has persisted.
void Raft::advance_commit() {
  const Index reached = majority_of(stable_, [](const Peer& p) { return p.match; });
  if (reached <= commit_) return;
  if (log_.term_at(reached) != hard_.term && !planted_.commits_older_terms) return;
  commit_ = reached;
  for (auto& [node, peer] : peers_)
    if (peer.is_known) send_request(node, peer, false);  // who waits for it hears at once
  if (log_.configuration_index() <= commit_) members_committed();
}

Instant Raft::last_majority_contact() const {
  const Instant since = leader_since_;
  return majority_of(std::max(now_, since), [&](const Peer& p) {
    return std::max(since, p.heartbeat_heard.value_or(since));
  });
}

std::optional<Instant> Raft::lease_until(Instant now) const {
  if (!is_ready()) return std::nullopt;
  if (transfer_ && !planted_.keeps_lease_in_transfer) return std::nullopt;
  const Instant never_heard{std::numeric_limits<std::int64_t>::min() / 2};
  const Instant heard =
      majority_of(now, [&](const Peer& p) { return p.heartbeat_heard.value_or(never_heard); });
  const Instant until = heard + settings_.timing.lease;
  if (until <= now) return std::nullopt;
  return until;
}

}  // namespace magma::raft
