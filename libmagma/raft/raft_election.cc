// Elections: who may have one when, votes, and the beginning of a leader.
#include <algorithm>
#include <utility>

#include "libmagma/base/check.h"
#include "libmagma/raft/raft.h"

namespace magma::raft {
namespace {

// Two clocks that both drift as far as Timing allows: what one measures as `left` is no longer than
// this by the other.
Duration stretched(Duration left) { return left + left / 25; }

}  // namespace

// 0 to `bound`.
Duration Raft::up_to(Duration bound) {
  return {static_cast<std::int64_t>(random_.next() % (static_cast<std::uint64_t>(bound.ns) + 1))};
}

// "If a server receives a RequestVote request within the minimum election timeout of hearing from a
// current leader, it does not update its term or grant its vote" [4.2.3]. A leader hears itself.
bool Raft::refuses_elections() const {
  return !planted_.ignores_promises && (role_ == Role::leader || now_ < promised_until_);
}

// A voter; and one whose removal is not known to be committed, though its vote does not count:
// nobody else may have that entry, and nobody without it be electable [4.2.2].
bool Raft::may_stand() const {
  if (log_.configuration().has_voter(self_)) return true;
  return log_.configuration_index() > commit_ && log_.configuration_before().has_voter(self_);
}

void Raft::receive(NodeId from, const VoteRequest& m) {
  VoteReply reply{.term = {}, .kind = m.kind, .asked = m.term, .is_granted = false};
  const bool is_bound = m.kind != VoteKind::transfer && refuses_elections();
  if (!is_bound && m.kind != VoteKind::pre_vote && m.term > hard_.term) follow(m.term, kNobody);
  const bool has_log =
      planted_.votes_for_shorter_logs || is_up_to_date(m.last, log_.last_position());
  if (is_bound || !has_log) {
    reply.is_granted = false;
  } else if (m.kind == VoteKind::pre_vote) {
    reply.is_granted = m.term > hard_.term;
  } else if (m.term == hard_.term && (hard_.vote == kNobody || hard_.vote == from)) {
    reply.is_granted = true;
    hard_changed_ = hard_changed_ || hard_.vote != from;
    hard_.vote = from;
    // Time for it to win.
    const Timing& t = settings_.timing;
    election_at_ = std::max(election_at_, now_ + t.retry + up_to(t.retry));
  }
  reply.term = hard_.term;
  send(from, reply, true);
}

void Raft::receive(NodeId from, const VoteReply& m) {
  if (m.term > hard_.term) return follow(m.term, kNobody);
  if (!m.is_granted || !log_.configuration().has_voter(from)) return;
  const bool is_pre_vote =
      role_ == Role::pre_candidate && m.kind == VoteKind::pre_vote && m.asked == hard_.term + 1;
  const bool is_vote = role_ == Role::candidate && m.kind == standing_for_ && m.asked == hard_.term;
  if (!is_pre_vote && !is_vote) return;
  votes_.insert(from);
  count_votes();
}

// The old leader has chosen this node [3.10].
void Raft::receive(NodeId from, const TransferRequest& m) {
  if (m.term != hard_.term || role_ != Role::follower || leader_ != from || !may_stand()) return;
  std::vector<Deadline> deadlines;
  for (const auto& d : m.deadlines) {
    const Duration left = nanoseconds(static_cast<std::int64_t>(d.left_ns));
    deadlines.push_back({d.holder, now_ + stretched(left)});
  }
  deadlines_ = std::move(deadlines);
  stand(VoteKind::transfer);
}

// A follower of `term`, which is not below the present one.
void Raft::follow(Term term, NodeId leader) {
  MAGMA_CHECK(term >= hard_.term);
  const Timing& t = settings_.timing;
  if (term > hard_.term) {
    hard_ = {term, kNobody};
    hard_changed_ = true;
  }
  if (role_ == Role::leader) {  // it has heard itself until now
    promised_until_ = std::max(promised_until_, now_ + t.promise);
    transfer_.reset();
    peers_.clear();
  }
  if (role_ != Role::follower || now_ >= election_at_)
    election_at_ = std::max(promised_until_, now_ + t.retry) + up_to(t.spread);
  role_ = Role::follower;
  leader_ = leader;
  votes_.clear();
  deadlines_.clear();
}

void Raft::heard_leader() {
  const Timing& t = settings_.timing;
  promised_until_ = now_ + t.promise;
  election_at_ = promised_until_ + up_to(t.spread);
}

void Raft::ask_pre_votes() {
  const Timing& t = settings_.timing;
  role_ = Role::pre_candidate;
  leader_ = kNobody;
  deadlines_.clear();
  standing_for_ = VoteKind::pre_vote;
  votes_ = {self_};
  election_at_ = now_ + t.retry + up_to(t.retry);
  ask_votes(VoteKind::pre_vote, hard_.term + 1);
  count_votes();
}

// The own vote counts once it is on stable storage (count_own_vote).
void Raft::stand(VoteKind kind) {
  const Timing& t = settings_.timing;
  role_ = Role::candidate;
  leader_ = kNobody;
  standing_for_ = kind;
  votes_.clear();
  hard_ = {hard_.term + 1, self_};
  hard_changed_ = true;
  own_vote_sequence_ = sequence_ + 1;  // the Persist of this step
  election_at_ = std::max(promised_until_, now_ + t.retry) + up_to(t.retry);
  if (kind == VoteKind::vote) election_at_ = now_ + t.retry + up_to(t.retry);
  ask_votes(kind, hard_.term);
}

void Raft::count_own_vote() {
  if (role_ != Role::candidate || persisted_ < own_vote_sequence_) return;
  if (votes_.insert(self_).second) count_votes();
}

void Raft::count_votes() {
  const Configuration& members = log_.configuration();
  const auto votes =
      std::ranges::count_if(votes_, [&](NodeId node) { return members.has_voter(node); });
  if (static_cast<std::size_t>(votes) < members.majority()) return;
  if (role_ == Role::pre_candidate)
    stand(VoteKind::vote);
  else
    lead();
}

// The log that is asked for must not be lost in a crash before the answer, so requests wait.
void Raft::ask_votes(VoteKind kind, Term term) {
  for (NodeId voter : log_.configuration().voters) {
    if (voter == self_) continue;
    send(voter, VoteRequest{.term = term, .kind = kind, .last = log_.last_position()}, true);
  }
}

void Raft::lead() {
  role_ = Role::leader;
  leader_ = self_;
  leader_since_ = now_;
  transfer_.reset();
  peers_.clear();
  members_changed();
  first_own_ = log_.last() + 1;
  append_own({hard_.term, EntryKind::no_op, {}});
  send_heartbeats();
}

}  // namespace magma::raft
