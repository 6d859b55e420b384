#include "tests/sim/sim_run.h"

#include <cstdio>
#include <deque>

#include <fmt/format.h>

#include "libmagma/base/log.h"
#include "magmad/store/fsck.h"
#include "tests/lib/sometimes.h"

namespace magma::test {

namespace {

constexpr std::size_t kLogLinesKept = 60;
constexpr Duration kRoundLimit = seconds(900);

std::deque<std::string>& log_lines() {
  static std::deque<std::string> lines;
  return lines;
}

void keep_line(LogLevel level, std::string_view line) {
  log_lines().push_back(fmt::format("<{}> {}", static_cast<int>(level), line));
  if (log_lines().size() > kLogLinesKept) log_lines().pop_front();
  if (sim_options().replay) std::fprintf(stderr, "%s\n", log_lines().back().c_str());
}

class Run {
 public:
  Run(const RunProfile& profile, const RunHooks& hooks)
      : profile_(profile),
        hooks_(hooks),
        random_(profile.seed ^ 0x5eed),
        cluster_({.seed = profile.seed,
                  .clients = profile.clients,
                  .loopback = profile.loopback,
                  .pretended_parts = profile.parts,
                  .delays_writes = profile.seed % 4 != 0}),
        workload_(cluster_, {.shared_tree = profile.shared_tree}) {}

  RunResult run() {
    cluster_.faults = profile_.faults;
    if (begin())
      for (unsigned i = 0; i < profile_.rounds && !failed(); ++i) round();
    if (!failed()) end();
    count();
    RunResult result;
    result.trace = cluster_.trace();
    result.operations = workload_.operations();
    if (failed()) {
      result.failure =
          fmt::format("seed {}: {}\n{}\n{}last log lines:\n{}", profile_.seed, describe(profile_),
                      problem_, workload_.report(), last_log_lines());
    }
    return result;
  }

 private:
  bool failed() const { return !problem_.empty() || workload_.failed(); }
  void fail_with(std::string what) {
    if (problem_.empty()) problem_ = std::move(what);
  }

  bool start() {
    if (hooks_.before_start) hooks_.before_start(cluster_);
    if (!cluster_.start_volcano()) fail_with("start of the volcano: " + cluster_.last_error());
    if (!failed() && hooks_.after_start) hooks_.after_start(cluster_);
    return !failed();
  }

  bool begin() {
    if (!start()) return false;
    for (unsigned i = 0; i < profile_.clients && !failed(); ++i)
      if (!cluster_.start_client(i)) fail_with("client: " + cluster_.last_error());
    return !failed() && workload_.begin();
  }

  void round() {
    RunKind kind = profile_.kind;
    if (kind == RunKind::mixed)
      kind = static_cast<RunKind>(random_.below(static_cast<std::uint64_t>(RunKind::mixed)));
    if (kind == RunKind::power_cut && random_.chance(2)) {
      workload_.run_operations(profile_.operations / 2, kRoundLimit);
      cluster_.run_for(seconds(4));  // what is synced now must be there after
    }
    switch (kind) {
      case RunKind::calm: workload_.run_operations(profile_.operations, kRoundLimit); break;
      case RunKind::clean_restart: clean_restart(); break;
      case RunKind::kill: crash(Crash::kill); break;
      default: crash(Crash::power_cut); break;
    }
    if (!failed()) workload_.verify();
  }

  void clean_restart() {
    workload_.start_operations(profile_.operations);
    cluster_.run_for(milliseconds(static_cast<std::int64_t>(random_.below(30))));
    if (!cluster_.stop_volcano()) return fail_with(cluster_.last_error());
    check_storage(true);
    cluster_.run_for(milliseconds(static_cast<std::int64_t>(random_.below(3000))));
    if (start()) wait_for_workload();
  }

  void crash(Crash how) {
    workload_.start_operations(profile_.operations);
    const bool at_change = !random_.chance(4);
    if (at_change) cluster_.crash_volcano_after(random_.below(250), how_really(how));
    cluster_.run_until(
        [&] { return !cluster_.volcano_runs() || workload_.is_idle(); },
        at_change ? kRoundLimit : milliseconds(static_cast<std::int64_t>(random_.below(40))));
    if (!cluster_.volcano_runs())
      sometimes("crash: at a change of the disk");
    else
      cluster_.crash_volcano(how_really(how));
    const Instant crashed_at = cluster_.now();
    if (how == Crash::power_cut) workload_.halt();
    check_storage(false);
    cluster_.run_for(milliseconds(static_cast<std::int64_t>(random_.below(2000))));
    if (!start()) return;
    sometimes(how == Crash::kill ? "crash: recovered from a kill"
                                 : "crash: recovered from a power cut");
    if (how == Crash::power_cut && random_.chance(5)) {
      // Again while it recovers: what it does at its start must bear that too.
      cluster_.run_for(milliseconds(static_cast<std::int64_t>(random_.below(300))));
      cluster_.crash_volcano(Crash::power_cut);
      if (!start()) return;
      sometimes("crash: twice");
    }
    wait_for_workload();
    if (how == Crash::power_cut && !failed()) workload_.verify_after_power_cut(crashed_at);
  }

  Crash how_really(Crash how) const { return hooks_.kill_forgets ? Crash::power_cut : how; }

  void wait_for_workload() {
    if (!cluster_.run_until([&] { return workload_.is_idle() || workload_.failed(); }, kRoundLimit))
      fail_with("operations are not done after 900 s");
  }

  void check_storage(bool after_clean_stop) {
    if (auto problem = fsck_problem(cluster_, after_clean_stop)) fail_with("fsck: " + *problem);
  }

  void end() {
    workload_.release_all();
    workload_.verify();
    for (unsigned i = 0; i < profile_.clients; ++i) cluster_.stop_client(i);
    cluster_.run_for(seconds(5));  // what runs in the background comes to its end
    if (!cluster_.stop_volcano()) return fail_with(cluster_.last_error());
    check_storage(true);
  }

  void count() {
    const auto& counters = cluster_.counters();
    sometimes("network: lost", counters.lost);
    sometimes("network: duplicated", counters.duplicated);
    sometimes("network: reordered", counters.reordered);
    sometimes("network: corrupted", counters.corrupted);
    sometimes("disk: unsynced writes lost", cluster_.disk().counters().writes_lost);
    sometimes("disk: writes torn", cluster_.disk().counters().writes_torn);
    sometimes("disk: unsynced entries lost", cluster_.disk().counters().entries_lost);
    for (unsigned i = 0; i < profile_.clients; ++i)
      if (cluster_.client_exists(i)) {
        sometimes("client: retried", cluster_.client(i).stats().retries);
        sometimes("client: reconnected", cluster_.client(i).stats().reconnects);
      }
  }

  RunProfile profile_;
  const RunHooks& hooks_;
  SeedRandom random_;
  SimCluster cluster_;
  RandomWorkload workload_;
  std::string problem_;
};

}  // namespace

SimOptions& sim_options() {
  static SimOptions options;
  return options;
}

std::string last_log_lines() {
  std::string text;
  for (const auto& line : log_lines()) text += "  " + line + "\n";
  return text;
}

void forget_log_lines() {
  log_to(&keep_line);
  log_lines().clear();
}

RunProfile profile_of_seed(std::uint64_t seed) {
  SeedRandom random(seed * 7919);
  RunProfile profile;
  profile.seed = seed;
  profile.kind = static_cast<RunKind>(seed % 5);
  profile.clients = static_cast<unsigned>(1 + random.below(3));
  profile.shared_tree = random.chance(2);
  profile.loopback = !random.chance(4);
  if (random.chance(3)) {
    profile.faults.loss = static_cast<unsigned>(random.below(200));
    profile.faults.duplicate = static_cast<unsigned>(random.below(200));
    profile.faults.reorder = static_cast<unsigned>(random.below(300));
    profile.faults.corrupt = static_cast<unsigned>(random.below(20));
  }
  return profile;
}

std::string describe(const RunProfile& profile) {
  static constexpr const char* kKinds[] = {"calm", "clean_restart", "kill", "power_cut", "mixed"};
  return fmt::format(
      "kind={} clients={} shared={} loopback={} loss={} duplicate={} reorder={} corrupt={}",
      kKinds[static_cast<std::size_t>(profile.kind)], profile.clients, profile.shared_tree,
      profile.loopback, profile.faults.loss, profile.faults.duplicate, profile.faults.reorder,
      profile.faults.corrupt);
}

RunResult run_profile(const RunProfile& profile, const RunHooks& hooks) {
  forget_log_lines();
  Run run(profile, hooks);
  return run.run();
}

std::optional<std::string> fsck_problem(SimCluster& cluster, bool after_clean_stop) {
  return fsck_problem(cluster.disk(), after_clean_stop);
}

std::optional<std::string> fsck_problem(SimDisk& disk, bool after_clean_stop) {
  SimExecutor executor;
  store::FsckOptions options;
  options.deep = true;
  options.unclean = !after_clean_stop;
  auto report = store::fsck(disk, executor, std::move(options));
  if (!report) return "it could not check: " + describe(report.error());
  sometimes("fsck: ran");
  if (report->clean()) return std::nullopt;
  for (const auto& problem : report->problems) fmt::print(stderr, "PROBLEM {}\n", problem.what);
  return fmt::format("{} problems, the first: {}", report->problems_total,
                     report->problems.front().what);
}

}  // namespace magma::test
