// The Raft core: one node of a small replicated state machine (the lava map), as a pure object.
// step(event, now) -> actions; no clock, disk, network or thread of its own. After Ongaro's thesis
// (2014); sections in brackets. One thread.
//
// Rules kept here:
//  1. Term, vote, log and snapshot are on stable storage before a message that depends on them is
//     sent [3.8]: answers and requests for votes wait for all Persist issued up to and with their
//     step. What a leader sends of its own log need not wait [10.2.1]: it counts itself only up to
//     what it has persisted.
//  2. A leader commits by counting only entries of its own term [3.6.2], and begins with a no-op.
//  3. One change of the members at a time [4.1], and none before the leader has committed an entry
//     of its own term (the error of 2015 in the thesis' rule: two leaders' changes, each of one
//     server, with majorities that have nobody in common).
//  4. A node asks by pre_vote before it raises its term [9.6]. One that has heard from a leader
//     within Timing::promise, or leads, refuses every election and does not look at the term
//     [4.2.3]. A restart forgets that: so after it a node refuses as long, and the only voter waits
//     as long before it leads. (A node in term 0 never had a leader and waits for nothing; nor does
//     one that never had another member, who alone could lead or have rights that still run.)
//  5. Hence the leader's lease [6.4.1]: while a majority has answered heartbeats *sent* less than
//     Timing::lease ago, nobody else can be elected. A leader that hears of no majority for
//     Timing::promise steps down (check-quorum), and then keeps the promise itself.
//  6. A transfer [3.10] gives up the lease when the request is sent, for good in this term. The
//     request allows to win exactly the next term, by votes that no promise binds, and takes along
//     the rights the old leader has granted. If nothing comes of it, the old leader stands for that
//     term in the same way: so at most one of the two goes on, with all those rights known to it.
//     All promises stay in force against everybody else.
//  7. Entries are applied when they are committed and on this node's stable storage.
//  8. Votes are given, and entries taken, whatever the own configuration says [4.1]: it may be the
//     one that is behind.
//
// Messages that contradict what is committed, or come from a second leader of a term, can only be
// forged or of a bug elsewhere: they are dropped.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "libmagma/raft/events.h"
#include "libmagma/raft/log.h"
#include "libmagma/sys/random.h"

namespace magma::raft {

// Bugs that tests plant to see that they would be found. All off in the product.
struct Planted {
  bool commits_older_terms = false;  // counts replicas of any entry: figure 3.7 (8 of the paper)
  bool sends_before_persisting = false;  // answers without waiting for the disk
  bool ignores_promises = false;         // elects within 3 s of a heartbeat
  bool changes_members_early = false;    // before an entry of the own term is committed
  bool changes_members_at_once = false;  // a second change before the first is committed
  bool lease_from_receipt = false;       // counts the lease from the answer, not from the sending
  bool keeps_lease_in_transfer = false;
  bool forgets_deadlines = false;  // a transfer hands nothing over
  bool votes_at_once_after_restart = false;
  bool votes_for_shorter_logs = false;
};

class Raft {
 public:
  // A node that starts, with what its store gave back. Requires: as Stored says, entries valid.
  Raft(NodeId self, Stored stored, const Settings& settings, sys::Random& random, Instant now,
       Planted planted = {});

  // `now` by the node's own clock; an earlier one than before counts as that. The actions are to be
  // done in their order, before the next step's.
  Output step(Event event, Instant now);

  NodeId self() const { return self_; }
  Role role() const { return role_; }
  Term term() const { return hard_.term; }
  NodeId leader() const { return leader_; }
  Index commit_index() const { return commit_; }
  Index applied_index() const { return applied_; }
  const Log& log() const { return log_; }
  const Configuration& configuration() const { return log_.configuration(); }
  // Whether it is a member by what is committed, and is to stay one: only such a node may be
  // granted a right, because a sole member does not wait after a restart.
  bool is_lasting_member(NodeId node) const {
    return configuration().has(node) && log_.configuration_at(commit_).has(node);
  }
  bool is_ready() const { return role_ == Role::leader && applied_ >= first_own_; }
  // Until when (later than `now`) nobody else can be elected; nothing: there is no such promise.
  // Rights that the coordinator grants must end before it.
  std::optional<Instant> lease_until(Instant now) const;
  // How far a member's log is known to agree, and when it last answered (for the status).
  struct PeerState {
    NodeId node;
    Index match;
    std::optional<Instant> last_heard;
  };
  std::vector<PeerState> peers() const;  // of a leader; else nothing

 private:
  // What a leader knows of another member. At most one batch or snapshot is under way to each; a
  // heartbeat without answer makes it start over with an empty request.
  struct Peer {
    Index match;                             // agrees, on its stable storage
    Index next;                              // to send
    Index under_way;                         // last of the batch that is; 0: none
    std::optional<Index> probe;              // `previous` of the last request, if it may be refused
    Instant snapshot_at{};                   // when it was last sent
    std::optional<Instant> heartbeat_heard;  // sending time of the latest one it answered
    std::optional<Instant> last_heard;
    bool is_known = false;    // has answered this leader with success
    bool is_leaving = false;  // removed, until that is committed
  };
  struct TransferState {
    NodeId to;
    std::vector<Deadline> deadlines{};
    Instant give_up_at{};
    bool is_sent = false;
  };
  struct Unwritten {  // a Persist that is not confirmed
    std::uint64_t sequence = 0;
    Index log_end;  // that stable_ may rise to
  };
  struct Held {
    std::uint64_t sequence = 0;
    Send send;
  };

  void on(const Tick&);
  void on(Received& event);
  void on(const Persisted& event);
  void on(Propose& event);
  void on(const ChangeMember& event);
  void on(Transfer& event);
  void on(SnapshotTaken& event);

  // raft_election.cc
  void receive(NodeId from, const VoteRequest& m);
  void receive(NodeId from, const VoteReply& m);
  void receive(NodeId from, const TransferRequest& m);
  bool refuses_elections() const;
  bool may_stand() const;
  void follow(Term term, NodeId leader);
  void heard_leader();
  void ask_pre_votes();
  void stand(VoteKind kind);
  void count_own_vote();
  void count_votes();
  void ask_votes(VoteKind kind, Term term);
  void lead();
  Duration up_to(Duration bound);

  // raft_follower.cc
  void receive(NodeId from, AppendRequest& m);
  void receive(NodeId from, SnapshotRequest& m);
  bool skip_committed(AppendRequest& m) const;
  void take_entries(AppendRequest& m);
  void commit_to(Index index);

  // raft_leader.cc
  void receive(NodeId from, const AppendReply& m);
  void append_own(Entry entry);
  void send_heartbeats();
  void send_request(NodeId to, Peer& peer, bool with_entries);
  void send_snapshot(NodeId to, Peer& peer);
  void send_news(NodeId to, Peer& peer);
  void send_news_to_all();
  void advance_commit();
  void lead_on_tick();
  // The latest time or place that a majority of voters has reached; `of(peer)` for others.
  template <class T, class Of>
  T majority_of(T own, Of of) const;
  Instant last_majority_contact() const;
  std::optional<Error> refuse_as_leader() const;

  // raft_members.cc
  Result<Configuration> changed(NodeId node, MemberChange change) const;
  void members_changed();
  void members_committed();
  void send_transfer();
  void end_transfer_in_vain();

  // raft.cc
  void send(NodeId to, Message message, bool waits_for_disk);
  void answer(std::uint64_t cookie, Result<Position> place);
  void log_changed_from(Index from);
  void write_out(Output& output);
  void apply(Output& output);
  void tell_standing(Output& output);
  Instant deadline() const;

  const NodeId self_;
  const Settings settings_;
  const Planted planted_;
  sys::Random& random_;
  Instant now_;

  HardState hard_;
  Log log_;
  Index commit_;
  Index applied_;  // 0 until the first Restore
  Index stable_;   // the log up to here is on stable storage

  Role role_ = Role::follower;
  NodeId leader_;
  Instant promised_until_{};  // no election before
  Instant election_at_{};     // then this node wants one
  std::set<NodeId> votes_;
  VoteKind standing_for_ = VoteKind::pre_vote;
  std::uint64_t own_vote_sequence_ = 0;  // counts when this is persisted
  std::vector<Deadline> deadlines_;      // handed over with the transfer under way to this node

  // Of a leader:
  std::map<NodeId, Peer> peers_;
  Index first_own_;  // its no-op
  Instant leader_since_{};
  Instant heartbeat_at_{};
  std::optional<TransferState> transfer_;

  // Of this step:
  std::vector<Send> sends_;    // need not wait
  std::vector<Send> to_hold_;  // wait for the disk
  std::vector<Answered> answers_;
  bool hard_changed_ = false;
  bool snapshot_changed_ = false;
  std::optional<Index> log_changed_from_;

  std::uint64_t sequence_ = 0;   // of the last Persist
  std::uint64_t persisted_ = 0;  // confirmed
  std::deque<Unwritten> unwritten_;
  std::deque<Held> held_;
  Standing told_;
  Index snapshot_asked_;
};

}  // namespace magma::raft
