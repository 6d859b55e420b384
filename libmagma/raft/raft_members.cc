// Changes of the members, and the transfer of leadership.
#include <algorithm>
#include <utility>

#include "libmagma/base/check.h"
#include "libmagma/raft/raft.h"

namespace magma::raft {
namespace {

void insert(std::vector<NodeId>& nodes, NodeId node) {
  nodes.insert(std::ranges::lower_bound(nodes, node), node);
}
void erase(std::vector<NodeId>& nodes, NodeId node) { std::erase(nodes, node); }

}  // namespace

void Raft::on(const ChangeMember& event) {
  if (auto error = refuse_as_leader()) return answer(event.cookie, fail(*error));
  if (commit_ < first_own_ && !planted_.changes_members_early)
    return answer(event.cookie, fail(Code::busy, "nothing of the leader's term is committed"));
  if (log_.configuration_index() > commit_ && !planted_.changes_members_at_once)
    return answer(event.cookie, fail(Code::busy, "a change of the members is under way"));
  auto members = changed(event.node, event.change);
  if (!members) return answer(event.cookie, fail(members.error()));
  append_own(configuration_entry(hard_.term, *members));
  answer(event.cookie, log_.last_position());
  send_news_to_all();
}

// The members after a change, which takes or gives one vote at most: so majorities before and after
// it have a node in common.
Result<Configuration> Raft::changed(NodeId node, MemberChange change) const {
  Configuration members = log_.configuration();
  const bool is_voter = members.has_voter(node);
  const bool is_learner = members.has_learner(node);
  if (node == kNobody) return fail(Code::invalid, "no node");
  if (change != MemberChange::add_learner && !is_voter && !is_learner)
    return fail(Code::not_found, "no member");
  switch (change) {
    case MemberChange::add_learner:
      if (is_voter || is_learner) return fail(Code::exists, "a member already");
      insert(members.learners, node);
      break;
    case MemberChange::promote: {
      if (is_voter) return fail(Code::exists, "a voter already");
      // A voter that is behind would hold up every commitment [4.2.1].
      const auto found = peers_.find(node);
      if (found == peers_.end()) return fail(Code::busy, "the leader itself is leaving");
      const Peer& peer = found->second;
      const bool is_close = peer.is_known && peer.match >= commit_ && peer.last_heard &&
                            now_ - *peer.last_heard < settings_.timing.transfer;
      if (!is_close) return fail(Code::busy, "the learner has not caught up");
      erase(members.learners, node);
      insert(members.voters, node);
      break;
    }
    case MemberChange::demote:
      if (!is_voter) return fail(Code::exists, "a learner already");
      erase(members.voters, node);
      insert(members.learners, node);
      break;
    case MemberChange::remove:
      erase(members.voters, node);
      erase(members.learners, node);
      break;
    default: return fail(Code::invalid, "unknown change");
  }
  if (members.voters.empty()) return fail(Code::invalid, "the last voter");
  if (!members.is_valid()) return fail(Code::invalid, "too many members");
  return members;
}

// The configuration in force is a new one. Who was removed stays a peer until that is committed, so
// that it hears of it.
void Raft::members_changed() {
  const Configuration& members = log_.configuration();
  for (auto& [node, peer] : peers_) peer.is_leaving = !members.has(node);
  const auto add = [&](NodeId node) {
    if (node == self_) return;
    Peer peer;
    peer.next = log_.last() + 1;
    peers_.try_emplace(node, peer);  // the next heartbeat asks what it has
  };
  std::ranges::for_each(members.voters, add);
  std::ranges::for_each(members.learners, add);
}

// The leader's own removal takes effect now: "it does not count itself" before, and "steps down
// once the entry is committed" [4.2.2].
void Raft::members_committed() {
  std::erase_if(peers_, [](const auto& p) { return p.second.is_leaving; });
  if (!log_.configuration().has_voter(self_)) follow(hard_.term, kNobody);
}

void Raft::on(Transfer& event) {
  if (auto error = refuse_as_leader()) return answer(event.cookie, fail(*error));
  if (!is_ready()) return answer(event.cookie, fail(Code::busy, "not ready"));
  if (event.to == self_ || !log_.configuration().has_voter(event.to))
    return answer(event.cookie, fail(Code::not_found, "no other voter"));
  if (event.deadlines.size() > kDeadlinesMax)
    return answer(event.cookie, fail(Code::invalid, "too many deadlines"));
  transfer_ = TransferState{.to = event.to,
                            .deadlines = std::move(event.deadlines),
                            .give_up_at = now_ + settings_.timing.transfer};
  answer(event.cookie, log_.last_position());
  send_transfer();
}

// Once the chosen one has the whole log.
void Raft::send_transfer() {
  const Peer& peer = peers_.at(transfer_->to);
  if (transfer_->is_sent || peer.match != log_.last()) return;
  TransferRequest request{.term = hard_.term, .deadlines = {}};
  for (const Deadline& d : transfer_->deadlines) {
    if (d.ends <= now_ || planted_.forgets_deadlines) continue;
    request.deadlines.push_back({d.holder, static_cast<std::uint64_t>((d.ends - now_).ns)});
  }
  transfer_->is_sent = true;
  send(transfer_->to, std::move(request), false);
}

// If the request was sent it may yet arrive, so there is no lease in this term any more: the next
// term is for the chosen one or for this node, whoever gets the votes.
void Raft::end_transfer_in_vain() {
  const TransferState transfer = *std::exchange(transfer_, std::nullopt);
  if (!transfer.is_sent) return;
  follow(hard_.term, kNobody);
  deadlines_ = transfer.deadlines;
  if (may_stand()) stand(VoteKind::transfer);
}

}  // namespace magma::raft
