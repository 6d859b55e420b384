#include "tests/sim/node_run.h"

#include <fmt/format.h>

#include "magmad/core/voter_rules.h"

namespace magma::test {

namespace {

constexpr std::int64_t kDriftPpmMax = 15'000;  // raft::Timing allows 1.6 %
constexpr std::size_t kMembersMax = 7;
constexpr unsigned kSteps = 40;

class Run {
 public:
  explicit Run(const NodeRunOptions& options)
      : options_(options), ring_(ring_options(options)), random_(options.seed * 31 + 7) {}

  NodeRunResult go() {
    ring_.found();
    ring_.run_until([&] { return ring_.coordinator().has_value(); }, seconds(10));
    wanted_ = 1 + random_.below(kMembersMax);
    if (options_.stress != NodeStress::mixed) wanted_ = 2 + random_.below(3);
    set_faults();
    for (unsigned i = 0; i < kSteps && !ring_.violation(); ++i) {
      ring_.run_for(milliseconds(random_.between(1, pause_ms_)));
      act();
    }
    if (!ring_.violation()) settle();
    if (ring_.violation())
      result_.failure = fmt::format("seed {}: {}", options_.seed, *ring_.violation());
    result_.counters = ring_.counters();
    result_.trace = ring_.trace();
    return result_;
  }

 private:
  static NodeRing::Options ring_options(const NodeRunOptions& options) {
    SimRandom random(options.seed * 17 + 3);
    NodeRing::Options out{.seed = options.seed, .planted = options.planted};
    out.copies = static_cast<std::uint8_t>(random.between(1, 4));
    out.drift_ppm_max = kDriftPpmMax;
    out.raft.snapshot_every = 3 + random.below(20);
    out.raft.keep_entries = random.below(10);
    out.disk_max = milliseconds(random.between(1, 60));
    return out;
  }

  void set_faults() {
    Faults faults;
    faults.delay = microseconds(random_.between(20, 2000));
    if (random_.chance(0.6)) faults.loss = random_.unit() * 0.15;
    if (random_.chance(0.4)) faults.duplicate = random_.unit() * 0.1;
    if (random_.chance(0.4)) faults.reorder = random_.unit() * 0.2;
    faults.reorder_delay = milliseconds(random_.between(1, 80));
    if (options_.stress == NodeStress::leases) {
      faults.jitter = milliseconds(300);
      pause_ms_ = 1200;
    }
    ring_.network().set_faults(faults);
  }

  void act() {
    const std::uint64_t dice = random_.below(100);
    if (options_.stress == NodeStress::disks && dice < 25) return lose_disk();
    if (dice < 30)
      join();
    else if (dice < 45)
      ring_.crash(any());
    else if (dice < 65)
      ring_.start(any());
    else if (dice < 80)
      cut();
    else if (dice < 92)
      ring_.network().join_all();
    else if (dice < 97)
      ring_.hang_shard(any(), random_.chance(0.5));
    else
      lose_disk();
  }

  std::size_t any() { return random_.below(ring_.size()); }

  void join() {
    if (ring_.size() >= wanted_) return ring_.start(any());
    const std::size_t host = any();
    // Now and then somebody comes with a nick that is taken.
    const bool is_twin = random_.chance(0.1);
    ring_.join(is_twin ? ring_.add("v1") : ring_.add(), host);
  }

  void cut() {
    if (ring_.size() < 2) return;
    ++result_.cuts;
    const std::size_t one = any();
    if (random_.chance(0.4)) return ring_.cut_off(one);
    const std::size_t other = any();
    if (one == other) return;
    ring_.cut(one, other);
    if (random_.chance(0.5)) ring_.cut(other, one);
  }

  // Never so that a majority of voters is lost, the end of a ring: on the way from one voter to
  // three there are two for a moment, and then no disk may be lost.
  void lose_disk() {
    const std::size_t victim = any();
    const auto leader = ring_.coordinator();
    if (victim == 0 || has_lost_ || !leader || ring_.id(victim) == ring::kNoVolcano) return;
    if (ring_.node(*leader).raft().configuration().voters.size() < 3) return;
    // A change of the members under way may need it.
    if (ring_.node(*leader).raft().log().configuration_index() >
        ring_.node(*leader).raft().commit_index())
      return;
    has_lost_ = true;
    const bool is_twin = random_.chance(0.5) || options_.stress == NodeStress::disks;
    const std::string nick = is_twin ? fmt::format("v{}", victim + 1) : "again";
    ring_.lose_disk(victim, nick);
    ring_.join(victim, any());
  }

  // After all faults: within a minute everybody agrees.
  void settle() {
    ring_.heal();
    for (std::size_t i = 0; i < ring_.size(); ++i) {
      ring_.hang_shard(i, false);
      ask_founder(i);
    }
    const bool agrees = ring_.run_until([&] { return is_settled(); }, seconds(90));
    if (ring_.violation() || agrees) return;
    std::string state;
    for (std::size_t i = 0; i < ring_.size(); ++i)
      state += ring_.is_node(i)
                   ? " " + describe_node(i)
                   : fmt::format(" member {} is none{}", i,
                                 ring_.refused(i) ? " (" + ring_.refused(i)->detail + ")" : "");
    result_.failure = fmt::format("seed {}: liveness: no peace 90 s after all faults ({} vote,{})",
                                  options_.seed, ring_.voters(), state);
  }

  bool is_settled() {
    bool are_all_in = true;
    for (std::size_t i = 0; i < ring_.size(); ++i) {
      if (ring_.is_node(i) || is_refused_for_good(i)) continue;
      are_all_in = false;
      if (!ring_.is_up(i)) ask_founder(i);  // nobody could decide, or was there: again
    }
    if (!are_all_in) return false;
    if (!ring_.is_at_peace()) return false;
    if (!has_lost_ && !ring_.has_its_copies()) return false;
    const ring::LavaMap& map = ring_.node(*ring_.coordinator()).map();
    if (map.voters.size() % 2 == 0) return false;
    return has_lost_ || map.voters.size() == core::voters_wanted(map);
  }
  std::string describe_node(std::size_t member) {
    const raft::Raft& raft = ring_.node(member).raft();
    std::string voters;
    for (raft::NodeId node : raft.configuration().voters)
      voters += fmt::format("{}{}", voters.empty() ? "" : ",", node.value);
    return fmt::format("{}: {} in term {}, map {}, commit {} of {}, voters {};",
                       ring_.id(member).value, raft::name_of(raft.role()), raft.term().value,
                       ring_.node(member).map().version, raft.commit_index().value,
                       raft.log().last().value, voters);
  }

  // Who was asked before may have been none of the ring.
  void ask_founder(std::size_t member) {
    if (ring_.id(member) == ring::kNoVolcano)
      ring_.join(member, 0);
    else
      ring_.start(member);
  }
  bool is_refused_for_good(std::size_t member) const {
    const auto& refused = ring_.refused(member);
    return refused && refused->code == Code::invalid;
  }

  const NodeRunOptions options_;
  NodeRing ring_;
  SimRandom random_;
  NodeRunResult result_;
  std::size_t wanted_ = 1;
  std::int64_t pause_ms_ = 3000;
  bool has_lost_ = false;
};

}  // namespace

NodeRunResult run_nodes(const NodeRunOptions& options) { return Run(options).go(); }

void NodeRunCounts::add(const NodeRunResult& result) {
  ++runs;
  cuts += result.cuts;
  crashes += result.counters.crashes;
  joins += result.counters.joins;
  joins_refused += result.counters.joins_refused;
  disks_lost += result.counters.disks_lost;
  downs += result.counters.downs;
  elections += result.counters.elections;
  transfers += result.counters.transfers;
  leases += result.counters.leases;
  commands += result.counters.commands;
  in_sync += result.counters.in_sync;
  behind += result.counters.behind;
  restores += result.counters.restores;
}

std::string NodeRunCounts::text() const {
  return fmt::format(
      "{} runs: {} joins, {} refused, {} crashes, {} disks lost, {} cuts, {} called down, {} "
      "elections ({} by transfer), {} leases, {} commands, replicas {} times in sync "
      "and {} times behind",
      runs, joins, joins_refused, crashes, disks_lost, cuts, downs, elections, transfers, leases,
      commands, in_sync, behind);
}

}  // namespace magma::test
