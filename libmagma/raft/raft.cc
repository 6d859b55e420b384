#include "libmagma/raft/raft.h"

#include <utility>

#include "libmagma/base/check.h"

namespace magma::raft {

Raft::Raft(NodeId self, Stored stored, const Settings& settings, sys::Random& random, Instant now,
           Planted planted)
    : self_(self),
      settings_(settings),
      planted_(planted),
      random_(random),
      now_(now),
      hard_(stored.hard),
      log_(std::move(stored.snapshot), std::move(stored.entries)),
      commit_(log_.snapshot().last.index),
      stable_(log_.last()),
      snapshot_asked_(commit_) {
  MAGMA_CHECK(self != kNobody);
  MAGMA_CHECK(log_.last_position().term <= hard_.term);
  const Timing& t = settings_.timing;
  MAGMA_CHECK(t.heartbeat < t.lease && t.lease < t.promise);
  MAGMA_CHECK(settings_.batch_entries >= 1 && settings_.batch_entries <= kBatchEntriesMax);
  promised_until_ = now;
  if (hard_.term > Term{} && !log_.is_only_member(self_) && !planted_.votes_at_once_after_restart)
    promised_until_ = now + t.promise;
  election_at_ = promised_until_;
  // The only voter waits for nobody else.
  if (log_.configuration().voters.size() > 1) election_at_ = election_at_ + up_to(t.spread);
}

Output Raft::step(Event event, Instant now) {
  now_ = std::max(now_, now);
  std::visit([&](auto& e) { on(e); }, event);
  Output output;
  write_out(output);
  apply(output);
  for (auto& answered : answers_) output.actions.emplace_back(std::move(answered));
  answers_.clear();
  tell_standing(output);
  output.deadline = deadline();
  return output;
}

void Raft::on(const Tick&) {
  if (role_ == Role::leader)
    lead_on_tick();
  else if (now_ >= election_at_ && may_stand())
    ask_pre_votes();
}

void Raft::on(Received& event) {
  const NodeId from = event.from;
  if (from == self_ || from == kNobody) return;
  std::visit([&](auto& m) { receive(from, m); }, event.message);
}

void Raft::on(const Persisted& event) {
  if (event.sequence <= persisted_ || event.sequence > sequence_) return;
  persisted_ = event.sequence;
  while (!unwritten_.empty() && unwritten_.front().sequence <= persisted_) {
    stable_ = std::max(stable_, unwritten_.front().log_end);
    unwritten_.pop_front();
  }
  while (!held_.empty() && held_.front().sequence <= persisted_) {
    sends_.push_back(std::move(held_.front().send));
    held_.pop_front();
  }
  count_own_vote();
  if (role_ == Role::leader) advance_commit();
}

void Raft::on(SnapshotTaken& event) {
  if (event.index <= log_.snapshot().last.index || event.index > applied_) return;
  if (event.state.size() > kSnapshotBytesMax) return;  // the log goes on, until it is full
  log_.compact(event.index, std::move(event.state), settings_.keep_entries);
  snapshot_changed_ = true;
}

void Raft::send(NodeId to, Message message, bool waits_for_disk) {
  if (planted_.sends_before_persisting) waits_for_disk = false;
  (waits_for_disk ? to_hold_ : sends_).push_back({to, std::move(message)});
}

void Raft::answer(std::uint64_t cookie, Result<Position> place) {
  answers_.push_back({cookie, std::move(place)});
}

// The log in memory is not what is (about to be) stored from `from` on.
void Raft::log_changed_from(Index from) {
  log_changed_from_ = log_changed_from_ ? std::min(*log_changed_from_, from) : from;
  const Index end = from - 1;
  stable_ = std::min(stable_, end);
  for (auto& write : unwritten_) write.log_end = std::min(write.log_end, end);
}

// One Persist for all that changed in this step, then what may be sent.
void Raft::write_out(Output& output) {
  if (hard_changed_ || snapshot_changed_ || log_changed_from_) {
    // Entries up to the snapshot's last are gone from the store with it.
    const Index lowest = log_.snapshot().last.index + 1;
    const Index first = std::max(lowest, log_changed_from_.value_or(log_.last() + 1));
    Persist persist{.sequence = ++sequence_,
                    .hard = hard_,
                    .snapshot = {},
                    .first = first,
                    .entries = log_.entries_from(first)};
    if (snapshot_changed_) persist.snapshot = log_.snapshot();
    unwritten_.push_back({sequence_, log_.last()});
    output.actions.emplace_back(std::move(persist));
    hard_changed_ = snapshot_changed_ = false;
    log_changed_from_.reset();
  }
  for (auto& s : sends_) output.actions.emplace_back(std::move(s));
  sends_.clear();
  for (auto& s : to_hold_) {
    if (persisted_ == sequence_)
      output.actions.emplace_back(std::move(s));
    else if (held_.size() < kHeldMax)
      held_.push_back({sequence_, std::move(s)});
  }
  to_hold_.clear();
}

void Raft::apply(Output& output) {
  const Index end = std::min(commit_, stable_);
  const Snapshot& snapshot = log_.snapshot();
  if (applied_ < snapshot.last.index && stable_ >= snapshot.last.index) {
    output.actions.emplace_back(Restore{snapshot});
    applied_ = snapshot.last.index;
  }
  while (applied_ >= snapshot.last.index && applied_ < end) {
    applied_ = applied_ + 1;
    output.actions.emplace_back(Apply{applied_, log_.at(applied_)});
  }
  if (applied_ < snapshot.last.index) return;
  const bool is_long = applied_ - snapshot.last.index >= settings_.snapshot_every ||
                       log_.bytes_since_snapshot() > kLogBytesMax / 2;
  if (is_long && applied_ > snapshot.last.index &&
      (snapshot_asked_ <= snapshot.last.index ||
       applied_ - snapshot_asked_ >= settings_.snapshot_every)) {
    snapshot_asked_ = applied_;
    output.actions.emplace_back(WantSnapshot{applied_});
  }
}

void Raft::tell_standing(Output& output) {
  Standing standing{.role = role_, .term = hard_.term, .leader = leader_, .is_ready = is_ready()};
  if (role_ == Role::leader) standing.deadlines = deadlines_;
  if (standing == told_) return;
  told_ = standing;
  output.actions.emplace_back(std::move(standing));
}

Instant Raft::deadline() const {
  if (role_ != Role::leader) return may_stand() ? election_at_ : Instant::never();
  Instant at = std::min(heartbeat_at_, last_majority_contact() + settings_.timing.promise);
  if (transfer_) at = std::min(at, transfer_->give_up_at);
  return at;
}

std::vector<Raft::PeerState> Raft::peers() const {
  std::vector<PeerState> out;
  for (const auto& [node, peer] : peers_) out.push_back({node, peer.match, peer.last_heard});
  return out;
}

}  // namespace magma::raft
