#include "tests/sim/raft_run.h"

#include <algorithm>

#include <fmt/format.h>

namespace magma::test {
namespace {

using raft::MemberChange;
using raft::NodeId;

constexpr std::int64_t kDriftPpmMax = 15'000;  // Timing allows 1.6 %

class Run {
 public:
  explicit Run(const RaftRunOptions& options)
      : options_(options), cluster_(cluster_options(options)), random_(options.seed * 31 + 7) {}

  RaftRunResult go() {
    set_up();
    for (unsigned i = 0; i < steps_ && !cluster_.violation(); ++i) {
      cluster_.run_for(milliseconds(random_.between(1, pause_ms_)));
      if (options_.stress == RaftStress::members && random_.chance(0.3))
        hurry();
      else
        act();
    }
    if (!cluster_.violation()) settle();
    if (cluster_.violation())
      result_.failure = fmt::format("seed {}: {}", options_.seed, *cluster_.violation());
    result_.counters = cluster_.counters();
    result_.committed = cluster_.checker().committed();
    result_.leaders = cluster_.checker().leaders();
    result_.trace = result_.counters.messages * 1'000'003 + result_.counters.steps;
    return result_;
  }

 private:
  static RaftCluster::Options cluster_options(const RaftRunOptions& options) {
    RaftCluster::Options out;
    out.seed = options.seed;
    out.planted = options.planted;
    out.prints = options.prints;
    SimRandom random(options.seed * 17 + 3);
    out.settings.snapshot_every = 5 + random.below(40);
    out.settings.keep_entries = random.below(10);
    out.settings.batch_entries = 1 + random.below(8);
    const bool has_short_terms =
        options.stress == RaftStress::leftovers || options.stress == RaftStress::members;
    if (has_short_terms) {
      out.settings.batch_entries = 1;
      // Many short terms.
      out.settings.timing = {.heartbeat = milliseconds(60),
                             .promise = milliseconds(100),
                             .lease = milliseconds(90),
                             .spread = milliseconds(100),
                             .retry = milliseconds(40),
                             .transfer = milliseconds(100),
                             .resend_snapshot = milliseconds(200)};
    }
    return out;
  }

  void set_up() {
    const bool leftovers = options_.stress == RaftStress::leftovers;
    std::uint64_t voters = leftovers ? 3 : 1 + random_.below(5);
    // A vote more or less changes a majority of an even number only.
    if (options_.stress == RaftStress::members && random_.chance(0.7)) voters = 4;
    raft::Stored first = raft::founding(NodeId(1), Bytes(8));
    first.snapshot.configuration.voters.clear();
    for (std::uint64_t i = 1; i <= voters; ++i)
      first.snapshot.configuration.voters.push_back(NodeId(i));
    const std::uint64_t nodes = voters + random_.below(4);
    if (options_.stress == RaftStress::members)
      for (std::uint64_t i = voters + 1; i <= nodes; ++i)
        first.snapshot.configuration.learners.push_back(NodeId(i));
    for (std::uint64_t i = 1; i <= nodes; ++i) {
      const RaftCluster::ClockOf clock{.offset = milliseconds(random_.between(1, 100'000)),
                                       .drift_ppm = random_.between(-kDriftPpmMax, kDriftPpmMax)};
      cluster_.add(NodeId(i), i <= voters ? first : raft::Stored{}, clock);
    }
    RaftFaults& faults = cluster_.faults;
    if (random_.chance(0.6)) faults.loss = random_.unit() * 0.3;
    if (random_.chance(0.5)) faults.duplicate = random_.unit() * 0.3;
    if (random_.chance(0.5)) faults.slow = random_.unit() * 0.2;
    faults.slow_max = milliseconds(random_.between(5, 4000));
    faults.delay_max = milliseconds(random_.between(1, 60));
    if (random_.chance(0.3)) faults.disk_max = milliseconds(random_.between(2, 300));
    switch (options_.stress) {
      case RaftStress::mixed: break;
      case RaftStress::elections: weights_ = {6, 1, 0, 6, 6, 4, 3, 1}; break;
      case RaftStress::partitions:
        weights_ = {2, 0, 0, 1, 1, 6, 2, 0};
        pause_ms_ = 1500;
        faults.slow = random_.unit() * 0.5;
        faults.slow_max = milliseconds(3500);
        break;
      case RaftStress::leftovers:
        weights_ = {6, 0, 0, 4, 8, 0, 0, 0};
        crash_leader_ = 0.9;
        faults.loss = 0.35;
        faults.slow = 0;
        faults.delay_max = milliseconds(5);
        faults.disk_max = milliseconds(1);
        pause_ms_ = 60;
        steps_ = 400;
        break;
      case RaftStress::members:
        weights_ = {1, 8, 0, 1, 2, 3, 3, 0};
        faults.slow = 0;
        faults.delay_max = milliseconds(5);
        faults.disk_max = milliseconds(1);
        pause_ms_ = 60;
        steps_ = 300;
        break;
      case RaftStress::transfers:
        weights_ = {2, 1, 8, 1, 2, 2, 2, 0};
        faults.slow = 0.3;
        faults.slow_max = seconds(3);
        break;
    }
  }

  void act() {
    unsigned sum = 0;
    for (unsigned w : weights_) sum += w;
    std::uint64_t pick = random_.below(sum);
    std::size_t what = 0;
    while (pick >= weights_[what]) pick -= weights_[what++];
    switch (what) {
      case 0: propose(); break;
      case 1: change_member(); break;
      case 2: transfer(); break;
      case 3: crash(); break;
      case 4: restart(); break;
      case 5: cut(); break;
      case 6: cluster_.join_all(); break;
      default: toggle_disk(); break;
    }
  }

  NodeId any() { return NodeId(1 + random_.below(cluster_.ids().size())); }
  // Most often one that believes to lead; there may be several.
  std::optional<NodeId> leader() {
    std::vector<NodeId> leaders;
    for (NodeId id : cluster_.ids())
      if (cluster_.is_up(id) && cluster_.raft(id).role() == raft::Role::leader)
        leaders.push_back(id);
    if (leaders.empty()) return std::nullopt;
    return leaders[random_.below(leaders.size())];
  }

  void propose() {
    const auto id = leader();
    if (!id) return;
    for (std::uint64_t n = 1 + random_.below(4); n > 0; --n) {
      ++result_.proposals;
      (void)cluster_.propose(*id, fmt::format("{}", result_.proposals));
    }
  }

  void change_member() {
    const auto id = leader();
    if (!id) return;
    const raft::Configuration members = cluster_.raft(*id).configuration();
    const NodeId node = any();
    MemberChange change = MemberChange::add_learner;
    if (members.has_voter(node))
      change = random_.chance(0.5) ? MemberChange::demote : MemberChange::remove;
    else if (members.has_learner(node))
      change = random_.chance(0.8) ? MemberChange::promote : MemberChange::remove;
    if (cluster_.change(*id, node, change)) ++result_.changes;
  }

  // A leader gets a change as soon as it leads, and then perhaps loses some of its followers.
  void hurry() {
    std::optional<NodeId> fresh;
    const auto is_there = [&] {
      for (NodeId id : cluster_.ids())
        if (cluster_.is_up(id) && cluster_.raft(id).role() == raft::Role::leader &&
            !cluster_.raft(id).is_ready())
          fresh = id;
      return fresh.has_value();
    };
    if (!cluster_.run_until(is_there, milliseconds(300))) return;
    const raft::Configuration members = cluster_.raft(*fresh).configuration();
    const NodeId node = any();
    const auto change = members.has_voter(node) ? MemberChange::remove : MemberChange::promote;
    if (node != *fresh && cluster_.change(*fresh, node, change)) ++result_.changes;
    if (random_.chance(0.7)) cut_in_two();
  }

  void transfer() {
    const auto id = leader();
    if (id && cluster_.transfer(*id, any())) ++result_.transfers;
  }

  void crash() {
    // Now and then all at once.
    if (random_.chance(0.1))
      for (NodeId id : cluster_.ids()) cluster_.crash(id);
    else if (random_.chance(crash_leader_) && leader())
      cluster_.crash(*leader());
    else
      cluster_.crash(any());
  }
  void restart() {
    const NodeId id = any();
    for (NodeId other : cluster_.ids())
      if (other == id || random_.chance(0.3)) cluster_.restart(other);
  }

  void cut() {
    ++result_.cuts;
    const NodeId victim = leader() && random_.chance(0.5) ? *leader() : any();
    switch (random_.below(5)) {
      case 0: return cluster_.cut_off(victim);
      case 3: return cluster_.cut(victim, any());  // one does not hear it
      case 1:
        for (NodeId id : cluster_.ids()) cluster_.cut(victim, id);  // hears, is not heard
        return;
      case 2:
        for (NodeId id : cluster_.ids()) cluster_.cut(id, victim);  // is heard, hears nothing
        return;
      default: return cut_in_two();
    }
  }
  void cut_in_two() {
    std::vector<NodeId> left, right;
    for (NodeId id : cluster_.ids()) (random_.chance(0.5) ? left : right).push_back(id);
    for (NodeId a : left) {
      for (NodeId b : right) {
        cluster_.cut(a, b);
        cluster_.cut(b, a);
      }
    }
  }

  void toggle_disk() {
    const NodeId id = any();
    if (!cluster_.is_up(id)) return;
    disk_stopped_ = !disk_stopped_;
    ++result_.disk_stops;
    cluster_.stop_disk(id, disk_stopped_);
  }

  // No more faults: a leader, one history, everything applied by every member.
  void settle() {
    cluster_.faults = {};
    cluster_.join_all();
    for (NodeId id : cluster_.ids()) {
      cluster_.restart(id);
      cluster_.stop_disk(id, false);
    }
    const auto agrees = [&] {
      const auto id = cluster_.ready_leader();
      if (!id || !cluster_.has_lease(*id)) return false;
      const raft::Raft& raft = cluster_.raft(*id);
      const raft::Index end = raft.log().last();
      if (raft.commit_index() != end) return false;
      const auto has_all = [&](NodeId node) { return cluster_.applied(node) == end; };
      return std::ranges::all_of(raft.configuration().voters, has_all) &&
             std::ranges::all_of(raft.configuration().learners, has_all);
    };
    if (!cluster_.run_until(agrees, seconds(40)) && !cluster_.violation())
      return cluster_.checker().violated("liveness: no agreement in 40 s without faults");
    if (cluster_.violation()) return;
    const auto id = cluster_.ready_leader();
    if (!id || !cluster_.propose(*id, "last"))
      return cluster_.checker().violated("liveness: the last proposal is refused");
    if (!cluster_.run_until(agrees, seconds(2)) && !cluster_.violation())
      cluster_.checker().violated("liveness: the last proposal is not applied");
  }

  RaftRunOptions options_;
  RaftCluster cluster_;
  SimRandom random_;
  RaftRunResult result_;
  unsigned steps_ = 60;
  std::int64_t pause_ms_ = 900;
  double crash_leader_ = 0.4;
  // propose, change members, transfer, crash, restart, cut, join, stop or start a disk
  std::vector<unsigned> weights_ = {10, 4, 2, 2, 4, 3, 3, 1};
  bool disk_stopped_ = false;
};

}  // namespace

RaftRunResult run_raft(const RaftRunOptions& options) { return Run(options).go(); }

}  // namespace magma::test
