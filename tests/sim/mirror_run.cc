#include "tests/sim/mirror_run.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "tests/lib/replicas.h"
#include "tests/lib/sim_coordinator.h"
#include "tests/lib/sometimes.h"
#include "tests/sim/random_workload.h"
#include "tests/sim/replica_verify.h"

namespace magma::test {

namespace {

constexpr Duration kRoundLimit = seconds(900);
constexpr unsigned kEqualTries = 15;  // a second each
// A cut that is as long as this must not hold up the clients to its end: silence of 3 s, the map
// up to 4 s late, and as much again if the primary knew nothing of the mirror's last map.
constexpr Duration kHoldUpMax = seconds(15);
// A mirror that is away may hold up what is done behind an answer for about that long.
constexpr Duration kLagWithMirrors = seconds(30);

class MirrorRun {
 public:
  explicit MirrorRun(const MirrorProfile& profile)
      : profile_(profile),
        random_(profile.seed ^ 0x3177),
        cluster_({.seed = profile.seed,
                  .clients = profile.clients,
                  .loopback = profile.loopback,
                  .mirrors = profile.mirrors,
                  .delays_writes = profile.seed % 4 != 0}),
        workload_(cluster_, {.shared_tree = profile.shared_tree, .lag = kLagWithMirrors}),
        verify_(cluster_) {}

  RunResult run() {
    cluster_.faults = profile_.faults;
    cluster_.coordinator().plant_hasty(profile_.is_hasty);
    if (begin())
      for (unsigned i = 0; i < profile_.rounds && !failed(); ++i) round();
    if (!failed() && profile_.loses_primary) lose_primary();
    if (!failed()) end();
    count();
    RunResult result;
    result.trace = cluster_.trace();
    result.operations = workload_.operations();
    if (failed())
      result.failure = fmt::format("seed {}: {}\nrounds: {}\n{}\n{}{}last log lines:\n{}",
                                   profile_.seed, describe(profile_), doing_, problem_,
                                   is_replaced_ ? "" : cluster_.coordinator().report(),
                                   workload_.report(), last_log_lines());
    return result;
  }

 private:
  bool failed() const { return !problem_.empty() || workload_.failed(); }
  void fail_with(const std::string& what) {
    if (problem_.empty()) problem_ = what;
  }
  void fail_if(const std::optional<std::string>& problem) {
    if (problem) fail_with(*problem);
  }
  Duration up_to(std::uint64_t milliseconds_max) {
    return milliseconds(static_cast<std::int64_t>(random_.below(milliseconds_max)));
  }
  unsigned random_mirror() { return 1 + static_cast<unsigned>(random_.below(profile_.mirrors)); }

  bool start(unsigned index) {
    if (failed()) return false;
    if (!cluster_.start_volcano(index))
      fail_with(fmt::format("start of volcano {}: {}", index, cluster_.last_error()));
    if (!failed() && index == 0 && profile_.is_impatient) cluster_.volcano().plant_impatience();
    return !failed();
  }
  bool start_mirrors() {
    for (unsigned i = 1; i <= profile_.mirrors; ++i)
      if (!start(i)) return false;
    have_joined_ = true;
    if (profile_.verifies) verify_.start();
    return true;
  }

  bool begin() {
    if (!start(0) || (!profile_.joins_late && !start_mirrors())) return false;
    for (unsigned i = 0; i < profile_.clients && !failed(); ++i)
      if (!cluster_.start_client(i)) fail_with("client: " + cluster_.last_error());
    return !failed() && workload_.begin();
  }

  void round() {
    MirrorFault kind = profile_.kind;
    if (kind == MirrorFault::mixed)
      kind = static_cast<MirrorFault>(random_.below(static_cast<std::uint64_t>(kind)));
    if (!have_joined_) kind = MirrorFault::calm;
    strike(kind);
    settle();
    if (have_joined_ || failed()) return;
    begin_of("mirrors join");
    workload_.start_operations(profile_.operations);
    cluster_.run_for(up_to(30));
    if (start_mirrors()) settle();
    sometimes("mirror: joined when there were files");
  }

  void begin_of(const std::string& what) {
    doing_ += fmt::format("{}t={:.3f} {}", doing_.empty() ? "" : "; ",
                          static_cast<double>(cluster_.now().ns) / 1e9, what);
  }

  void strike(MirrorFault kind) {
    static constexpr const char* kNames[] = {"calm",
                                             "mirror_kill",
                                             "mirror_power_cut",
                                             "mirror_restart",
                                             "mirror_disk_lost",
                                             "primary_kill",
                                             "primary_power_cut",
                                             "primary_restart",
                                             "both_kill",
                                             "cut"};
    const std::string name = kNames[static_cast<std::size_t>(kind)];
    begin_of(name);
    sometimes("mirror fault: " + name);
    workload_.start_operations(profile_.operations);
    switch (kind) {
      case MirrorFault::mirror_kill: return crash_mirror(Crash::kill);
      case MirrorFault::mirror_power_cut: return crash_mirror(Crash::power_cut);
      case MirrorFault::mirror_restart: return restart_mirror();
      case MirrorFault::mirror_disk_lost: return lose_mirrors_disk();
      case MirrorFault::primary_kill: return crash_primary(Crash::kill);
      case MirrorFault::primary_power_cut: return crash_primary(Crash::power_cut);
      case MirrorFault::primary_restart: return restart_primary();
      case MirrorFault::both_kill: return kill_both();
      case MirrorFault::cut: return cut();
      default: return;
    }
  }

  // The workload is done, every mirror in sync, and all hold the same.
  void settle() {
    wait_for_workload();
    if (failed()) return;
    if (have_joined_) fail_if(wait_for_peace(cluster_));
    if (failed()) return;
    workload_.verify();
    if (failed() || !have_joined_) return;
    fail_if(mirrors_problem(cluster_));
    fail_if(cluster_.coordinator().problem());
    if (auto found = verify_.problem()) fail_with("verify under load: " + *found);
  }

  void wait_for_workload() {
    if (failed()) return;
    if (!cluster_.run_until([&] { return workload_.is_idle() || workload_.failed(); }, kRoundLimit))
      fail_with("operations are not done after 900 s");
  }

  // At a change of its disk, mostly, or after some time.
  void crash(unsigned index, Crash how) {
    const bool at_change = !random_.chance(4);
    if (at_change) cluster_.crash_volcano_after(random_.below(250), how, index);
    cluster_.run_until([&] { return !cluster_.volcano_runs(index) || workload_.is_idle(); },
                       at_change ? kRoundLimit : up_to(40));
    if (cluster_.volcano_runs(index))
      cluster_.crash_volcano(how, index);
    else
      sometimes("mirror: crash at a change of the disk");
  }

  // Short, or so long that the mirror is called down.
  void stay_away() {
    const bool is_long = random_.chance(3);
    if (is_long) workload_.start_operations(profile_.operations / 3);
    cluster_.run_for(is_long ? seconds(3) + up_to(8000) : up_to(1500));
  }

  // ---- a mirror

  void crash_mirror(Crash how) {
    const unsigned index = random_mirror();
    crash(index, how);
    stay_away();
    if (how == Crash::power_cut && random_.chance(3)) cluster_.coordinator().has_lost(index);
    if (!start(index) || !random_.chance(3)) return;
    // Again while it catches up.
    workload_.start_operations(profile_.operations / 3);
    cluster_.run_for(up_to(600));
    cluster_.crash_volcano(how, index);
    cluster_.run_for(up_to(500));
    if (start(index)) sometimes("mirror: crash while it caught up");
  }

  void restart_mirror() {
    const unsigned index = random_mirror();
    cluster_.run_for(up_to(30));
    if (!cluster_.stop_volcano(index)) return fail_with(cluster_.last_error());
    if (cluster_.coordinator().is_in_sync(index)) fail_if(fsck_problem(cluster_.disk(index), true));
    stay_away();
    start(index);
  }

  void lose_mirrors_disk() {
    const unsigned index = random_mirror();
    cluster_.run_for(up_to(30));
    cluster_.crash_volcano(Crash::kill, index);
    cluster_.lose_disk(index);
    stay_away();
    if (random_.chance(2)) cluster_.coordinator().has_lost(index);
    if (!start(index) || !random_.chance(3)) return;
    cluster_.run_for(up_to(800));
    cluster_.crash_volcano(Crash::kill, index);
    if (start(index)) sometimes("mirror: crash in a copy of everything");
  }

  // ---- the primary

  void crash_primary(Crash how) {
    crash(0, how);
    const Instant crashed_at = cluster_.now();
    if (how == Crash::power_cut) workload_.halt();
    fail_if(fsck_problem(cluster_.disk(0), false));
    cluster_.run_for(up_to(2000));
    if (!start(0)) return;
    wait_for_workload();
    if (how == Crash::power_cut && !failed()) workload_.verify_after_power_cut(crashed_at);
  }

  void restart_primary() {
    cluster_.run_for(up_to(30));
    if (!cluster_.stop_volcano(0)) return fail_with(cluster_.last_error());
    fail_if(fsck_problem(cluster_.disk(0), true));
    cluster_.run_for(up_to(3000));
    start(0);
  }

  void kill_both() {
    const unsigned index = random_mirror();
    crash(random_.chance(2) ? 0 : index, Crash::kill);
    cluster_.run_for(up_to(200));
    for (unsigned i : {0u, index})
      if (cluster_.volcano_runs(i)) cluster_.crash_volcano(Crash::kill, i);
    cluster_.run_for(up_to(2000));
    const unsigned first = random_.chance(2) ? 0 : index;
    if (!start(first)) return;
    cluster_.run_for(up_to(2000));
    start(first == 0 ? index : 0);
  }

  // ---- the network between them

  void set_cut(const std::vector<unsigned>& mirrors, std::uint64_t ways, bool is_cut) {
    for (unsigned index : mirrors) {
      if (ways != 1) cluster_.cut_volcanoes(0, index, is_cut);
      if (ways != 2) cluster_.cut_volcanoes(index, 0, is_cut);
    }
  }

  void cut() {
    std::vector<unsigned> mirrors{random_mirror()};
    if (profile_.mirrors == 2 && random_.chance(2)) mirrors = {1, 2};
    const std::uint64_t ways = random_.below(3);  // both, from the mirror, to the mirror
    // The coordinator is at the primary, or elsewhere and hears of both.
    const bool is_heard = random_.chance(2);
    cluster_.run_for(up_to(30));
    set_cut(mirrors, ways, true);
    for (unsigned index : mirrors) cluster_.coordinator().set_reachable(index, is_heard);
    if (ways != 0) sometimes("mirror: cut one way");
    if (is_heard) sometimes("mirror: cut from the primary only");
    workload_.start_operations(profile_.operations / 2);
    const Duration length = seconds(1) + up_to(19'000);
    const Instant end = cluster_.now() + length;
    const std::uint64_t before = workload_.operations();
    auto has_gone_on = [&] { return workload_.is_idle() || workload_.operations() > before + 2; };
    if (cluster_.run_until(has_gone_on, std::min(length, kHoldUpMax))) {
      if (!cluster_.coordinator().is_in_sync(mirrors[0])) sometimes("mirror: went on without it");
    } else if (length > kHoldUpMax) {
      fail_with(fmt::format("a cut mirror holds up the clients for {} s", kHoldUpMax.seconds()));
    }
    cluster_.run_for(std::max(Duration{}, end - cluster_.now()));
    set_cut(mirrors, ways, false);
    for (unsigned index : mirrors) cluster_.coordinator().set_reachable(index, true);
  }

  // ---- the primary is lost for good

  // A mirror begins again with an empty disk, and the map knows.
  void empty_a_mirror() {
    const unsigned index = random_mirror();
    doing_ += ", while an empty mirror catches up";
    cluster_.crash_volcano(Crash::kill, index);
    cluster_.lose_disk(index);
    cluster_.coordinator().has_lost(index);
    const auto commands = cluster_.coordinator().counters().commands;
    if (!start(index)) return;
    cluster_.run_until([&] { return cluster_.coordinator().counters().commands != commands; },
                       seconds(5));
    sometimes("mirror: primary lost while an empty mirror caught up");
    cluster_.run_for(up_to(400));
  }

  // Something else that went wrong just before. A mirror that the map has in sync has everything
  // all the same.
  void trouble_before() {
    const std::uint64_t kind = profile_.is_hasty ? 2 : random_.below(5);
    if (kind == 2) return empty_a_mirror();
    if (kind > 2) return;
    const unsigned index = kind == 0 ? random_mirror() : 0;
    doing_ += index == 0 ? ", which had just restarted" : ", whose mirror had just restarted";
    sometimes(index == 0 ? "mirror: primary lost after its restart"
                         : "mirror: primary lost after the mirror's restart");
    crash(index, Crash::kill);
    cluster_.run_for(up_to(500));
    start(index);
    workload_.start_operations(profile_.operations / 2);
    cluster_.run_for(up_to(600));
  }

  void lose_primary() {
    const Crash how = random_.chance(2) ? Crash::kill : Crash::power_cut;
    begin_of(how == Crash::kill ? "the primary is lost by a kill"
                                : "the primary is lost by a power cut");
    workload_.start_operations(profile_.operations);
    trouble_before();
    if (failed()) return;
    crash(0, how);
    std::vector<unsigned> heirs;
    for (unsigned i = 1; i <= profile_.mirrors; ++i)
      if (cluster_.coordinator().is_in_sync(i)) heirs.push_back(i);
    if (heirs.empty()) return come_back(how);
    if (!workload_.is_idle()) sometimes("mirror: primary lost in the middle of operations");
    sometimes(how == Crash::kill ? "mirror: primary lost by a kill"
                                 : "mirror: primary lost by a power cut");
    const unsigned heir = heirs[random_.below(heirs.size())];
    cluster_.run_for(up_to(3000));
    if (!stop_mirrors()) return;
    verify_.stop();
    cluster_.replace_primary(heir);
    is_replaced_ = true;
    if (!start(0)) return;
    wait_for_workload();
    if (!failed()) workload_.verify();
    if (!failed()) workload_.run_operations(profile_.operations, kRoundLimit);
    if (!failed()) workload_.verify();
  }

  bool stop_mirrors() {
    for (unsigned i = 1; i <= profile_.mirrors; ++i) {
      const bool cleanly = random_.chance(2);
      if (!cleanly)
        cluster_.crash_volcano(Crash::kill, i);
      else if (!cluster_.stop_volcano(i))
        fail_with(cluster_.last_error());
      if (!failed() && cluster_.coordinator().is_in_sync(i))
        fail_if(fsck_problem(cluster_.disk(i), cleanly));
    }
    return !failed();
  }

  // The map had no mirror in sync: then the primary is all there is.
  void come_back(Crash how) {
    sometimes("mirror: no mirror in sync when the primary was lost");
    const Instant crashed_at = cluster_.now();
    if (how == Crash::power_cut) workload_.halt();
    if (!start(0)) return;
    wait_for_workload();
    if (how == Crash::power_cut && !failed()) workload_.verify_after_power_cut(crashed_at);
    settle();
  }

  // ---- the end

  void end() {
    begin_of("the end");
    verify_.stop();
    workload_.release_all();
    workload_.verify();
    if (failed()) return;
    for (unsigned i = 0; i < profile_.clients; ++i) cluster_.stop_client(i);
    cluster_.run_for(seconds(5));
    if (!is_replaced_) {
      fail_if(wait_for_peace(cluster_));
      if (!failed()) fail_if(mirrors_problem(cluster_));
    }
    for (unsigned i = 0; i < cluster_.volcanoes() && !failed(); ++i) {
      if (!cluster_.volcano_runs(i)) continue;
      if (!cluster_.stop_volcano(i)) return fail_with(cluster_.last_error());
      fail_if(fsck_problem(cluster_.disk(i), true));
    }
    for (unsigned i = 1; i <= profile_.mirrors && !failed() && !is_replaced_; ++i) {
      const auto difference = storages_differ(cluster_.disk(0), cluster_.disk(i));
      if (difference) fail_with(fmt::format("after clean stops, mirror {}: {}", i, *difference));
    }
  }

  void count() {
    sometimes("mirror: pieces verified under load", verify_.counters().pieces);
    if (is_replaced_) return;
    const auto& counters = cluster_.coordinator().counters();
    sometimes("mirror: called down", counters.downs);
    sometimes("mirror: in sync", counters.in_syncs);
    sometimes("mirror: behind", counters.behinds);
    sometimes("mirror: dropped", counters.drops);
    sometimes("mirror: map came late", counters.late_views);
    if (profile_.mirrors > 1) sometimes("mirror: two of them");
  }

  MirrorProfile profile_;
  SeedRandom random_;
  SimCluster cluster_;
  RandomWorkload workload_;
  ReplicaVerify verify_;
  std::string doing_;  // the rounds up to now
  bool have_joined_ = false;
  bool is_replaced_ = false;
  std::string problem_;
};

}  // namespace

std::optional<std::string> wait_for_peace(SimCluster& cluster, Duration limit) {
  const Instant end = cluster.now() + limit;
  while (!cluster.coordinator().is_at_peace()) {
    if (cluster.now() >= end)
      return fmt::format("the mirrors are not in sync after {} s\n{}", limit.seconds(),
                         cluster.coordinator().report());
    cluster.run_for(milliseconds(100));
  }
  return std::nullopt;
}

std::optional<std::string> mirrors_problem(SimCluster& cluster) {
  for (unsigned i = 1; i < cluster.volcanoes(); ++i) {
    std::optional<std::string> difference;
    for (unsigned tries = 0; tries < kEqualTries; ++tries) {
      difference = replicas_differ(cluster, i);
      if (!difference) break;
      cluster.run_for(seconds(1));
    }
    if (difference) return fmt::format("mirror {} differs: {}", i, *difference);
    if (auto problem = fsck_problem(*cluster.disk(i).copy(), false))
      return fmt::format("fsck of mirror {}: {}", i, *problem);
  }
  return std::nullopt;
}

MirrorProfile mirror_profile_of_seed(std::uint64_t seed) {
  SeedRandom random(seed * 104729);
  constexpr auto kKinds = static_cast<std::uint64_t>(MirrorFault::mixed);
  MirrorProfile profile;
  profile.seed = seed;
  profile.kind = seed % 2 == 0 ? MirrorFault::mixed : static_cast<MirrorFault>(seed / 2 % kKinds);
  profile.clients = static_cast<unsigned>(1 + random.below(2));
  profile.mirrors = random.chance(5) ? 2 : 1;
  profile.shared_tree = random.chance(2);
  profile.loopback = !random.chance(4);
  profile.joins_late = random.chance(4);
  profile.loses_primary = random.chance(2);
  profile.verifies = seed % 3 == 0;
  if (random.chance(3)) {
    profile.faults.loss = static_cast<unsigned>(random.below(150));
    profile.faults.duplicate = static_cast<unsigned>(random.below(200));
    profile.faults.reorder = static_cast<unsigned>(random.below(300));
    profile.faults.corrupt = static_cast<unsigned>(random.below(20));
  }
  return profile;
}

std::string describe(const MirrorProfile& profile) {
  return fmt::format(
      "kind={} clients={} mirrors={} shared={} loopback={} late={} loses_primary={} verifies={} "
      "loss={} "
      "duplicate={} reorder={} corrupt={}",
      static_cast<unsigned>(profile.kind), profile.clients, profile.mirrors, profile.shared_tree,
      profile.loopback, profile.joins_late, profile.loses_primary, profile.verifies,
      profile.faults.loss, profile.faults.duplicate, profile.faults.reorder,
      profile.faults.corrupt);
}

RunResult run_mirrors(const MirrorProfile& profile) {
  forget_log_lines();
  MirrorRun run(profile);
  return run.run();
}

}  // namespace magma::test
