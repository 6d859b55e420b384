#include "tests/sim/split_run.h"

#include <fmt/format.h>

#include "magmad/store/fsck.h"
#include "magmad/store/metadata_store.h"
#include "tests/lib/replicas.h"
#include "tests/lib/sim_coordinator.h"
#include "tests/lib/sometimes.h"

namespace magma::test {

namespace {

constexpr Duration kRoundLimit = seconds(900);
constexpr Duration kRest = seconds(15);  // what is under way between volcanoes comes to its end

class Run {
 public:
  explicit Run(const SplitProfile& profile)
      : profile_(profile),
        random_(profile.seed ^ 0x5b117),
        cluster_({.seed = profile.seed,
                  .clients = profile.clients,
                  .loopback = profile.loopback,
                  .split = profile.volcanoes,
                  .copies = profile.copies,
                  .spread = profile.spread,
                  .moving = profile.moving,
                  .reach = profile.moving ? profile.reach : client::Reach::direct,
                  .delays_writes = profile.seed % 4 != 0}),
        workload_(cluster_, {.shared_tree = profile.shared_tree, .lag = seconds(30)}) {}

  RunResult run() {
    cluster_.faults = profile_.faults;
    if (begin())
      for (unsigned i = 0; i < profile_.rounds && !failed(); ++i) round();
    if (!failed()) end();
    RunResult result;
    result.trace = cluster_.trace();
    result.operations = workload_.operations();
    if (failed())
      result.failure =
          fmt::format("seed {}: {}\n{}\n{}{}last log lines:\n{}", profile_.seed,
                      describe(profile_), problem_, workload_.report(),
                      has_coordinator() ? cluster_.coordinator().report() : "",
                      last_log_lines());
    return result;
  }

 private:
  bool has_coordinator() const { return profile_.copies > 1 || profile_.moving; }
  bool failed() const { return !problem_.empty() || workload_.failed(); }
  void fail_with(std::string what) {
    if (problem_.empty()) problem_ = std::move(what);
  }

  bool start(unsigned index) {
    if (!cluster_.start_volcano(index)) {
      fail_with("start of a volcano: " + cluster_.last_error());
      return false;
    }
    if (index == 0 && profile_.is_forgetful) cluster_.volcano(0).plant_forgetful_peers();
    if (index == 0 && profile_.is_late) cluster_.volcano(0).plant_late_peers();
    return true;
  }

  bool begin() {
    do {
      if (!start(started_)) return false;
    } while (++started_ < profile_.volcanoes && !profile_.moving);
    for (unsigned i = 0; i < profile_.clients; ++i)
      if (!cluster_.start_client(i)) fail_with("client: " + cluster_.last_error());
    return !failed() && workload_.begin();
  }

  unsigned any() { return static_cast<unsigned>(random_.below(started_)); }
  void run_some(std::uint64_t milliseconds_max) {
    cluster_.run_for(milliseconds(static_cast<std::int64_t>(random_.below(milliseconds_max))));
  }

  void round() {
    SplitFault kind = profile_.kind;
    if (kind == SplitFault::mixed)
      kind = static_cast<SplitFault>(random_.below(static_cast<std::uint64_t>(SplitFault::mixed)));
    workload_.start_operations(profile_.operations);
    if (started_ < profile_.volcanoes) {
      run_some(500);
      if (!start(started_++)) return;
      run_some(4000);  // its share is on its way, or there
    }
    if (started_ == 1 && (kind == SplitFault::kills || kind == SplitFault::cut))
      kind = SplitFault::kill;
    if (profile_.is_powerless && random_.chance(2)) {
      const bool is_safe = profile_.copies > 1 && started_ == profile_.volcanoes;
      if (is_safe && random_.chance(2))
        lose_power();
      else
        lose_all_power();
      if (!failed()) wait_for_workload();
      if (!failed()) workload_.verify();
      return;
    }
    switch (kind) {
      case SplitFault::restart: restart(); break;
      case SplitFault::kill: kill(any()); break;
      case SplitFault::kills: kills(); break;
      case SplitFault::cut: cut(); break;
      default: break;
    }
    if (!failed()) wait_for_workload();
    if (!failed()) workload_.verify();
  }

  void restart() {
    const unsigned index = any();
    run_some(40);
    if (!cluster_.stop_volcano(index)) return fail_with(cluster_.last_error());
    check_storage(index, true);
    run_some(3000);
    start(index);
    sometimes("split: restarted");
  }

  // One machine, while each slot has a copy on another one: nothing is lost.
  void lose_power() {
    wait_for_workload();
    if (!failed()) wait_for_copies();
    if (failed()) return;
    workload_.start_operations(profile_.operations);
    const unsigned one = any();
    take_down(one, Crash::power_cut);
    sometimes("moving: one lost power");
    run_some(random_.chance(2) ? 2000 : 6000);
    if (!failed()) start(one);
  }

  // All of them: what was synced is there.
  void lose_all_power() {
    run_some(300);
    take_down(any(), Crash::power_cut);
    workload_.halt();
    for (unsigned i = 0; i < started_; ++i)
      if (cluster_.volcano_runs(i)) cluster_.crash_volcano(Crash::power_cut, i);
    const Instant at = cluster_.now();
    has_lost_all_power_ = true;
    sometimes("moving: all lost power");
    for (unsigned n = 0, first = any(); n < started_ && !failed(); ++n) {
      run_some(random_.chance(2) ? 500 : 5000);
      start((first + n) % started_);
    }
    if (!failed()) wait_for_workload();
    cluster_.run_for(kRest);
    if (!failed()) workload_.verify_after_power_cut(at);
  }

  // Down, perhaps at a change of its disk, after which nothing more leaves it.
  void take_down(unsigned index, Crash how = Crash::kill) {
    const bool at_change = !random_.chance(4);
    if (at_change) cluster_.crash_volcano_after(random_.below(120), how, index);
    cluster_.run_until(
        [&] { return !cluster_.volcano_runs(index) || workload_.is_idle(); },
        at_change ? seconds(20) : milliseconds(static_cast<std::int64_t>(random_.below(40))));
    if (!cluster_.volcano_runs(index))
      sometimes("split: killed at a change of the disk");
    else
      cluster_.crash_volcano(how, index);
    check_storage(index, false);
  }

  void kill(unsigned index) {
    take_down(index);
    if (!workload_.is_idle()) sometimes("split: killed in the middle of operations");
    run_some(2000);
    if (!failed()) start(index);
  }

  void kills() {
    const unsigned first = any(), second = (first + 1) % started_;
    take_down(first);
    if (random_.chance(2)) {
      run_some(1500);
      if (!failed() && start(first)) kill(second);
      return;
    }
    sometimes("split: two down");
    if (!failed()) take_down(second);
    run_some(1500);
    if (!failed()) start(second);
    run_some(1500);
    if (!failed()) start(first);
  }

  // The coordinator does not hear of one, who goes on as far as it may.
  void unheard() {
    const unsigned one = any();
    run_some(30);
    cluster_.coordinator().set_reachable(one, false);
    cluster_.run_for(seconds(4));
    // Others serve what it served, by now, but a client that reaches only it does not know.
    const bool is_misled = random_.chance(2);
    for (unsigned i = 0; is_misled && i < started_; ++i)
      if (i != one) cluster_.cut_client(0, i, true);
    run_some(5500);
    for (unsigned i = 0; i < 4 && !failed(); ++i) {
      workload_.start_operations(profile_.operations / 3);
      run_some(800);
    }
    for (unsigned i = 0; i < started_; ++i) cluster_.cut_client(0, i, false);
    cluster_.coordinator().set_reachable(one, true);
    sometimes("moving: not heard of");
  }

  void cut() {
    if (profile_.moving && random_.chance(2)) return unheard();
    const unsigned one = any(), other = (one + 1) % started_;
    const bool both = random_.chance(2);
    run_some(30);
    cluster_.cut_volcanoes(one, other, true);
    if (both) cluster_.cut_volcanoes(other, one, true);
    sometimes(both ? "split: cut" : "split: cut one way");
    // Who reaches `other` through `one` alone loses its session with the lease (10 s), rightly.
    run_some(profile_.reach == client::Reach::proxy ? 7000 : 15000);
    cluster_.cut_volcanoes(one, other, false);
    cluster_.cut_volcanoes(other, one, false);
  }

  void wait_for_workload() {
    if (!cluster_.run_until([&] { return workload_.is_idle() || workload_.failed(); }, kRoundLimit))
      fail_with("operations are not done after 900 s");
  }

  void check_storage(unsigned index, bool after_clean_stop) {
    if (auto problem = split_fsck_problem(cluster_, index, after_clean_stop))
      fail_with(fmt::format("fsck of {}: {}", cluster_.nick_of(index), *problem));
  }

  void end() {
    while (!failed() && started_ < profile_.volcanoes) start(started_++);
    if (failed()) return;
    workload_.release_all();
    workload_.verify();
    for (unsigned i = 0; i < profile_.clients; ++i) cluster_.stop_client(i);
    cluster_.run_for(kRest);
    if (has_coordinator()) wait_for_copies();
    for (unsigned i = 0; i < profile_.volcanoes; ++i)
      if (!cluster_.stop_volcano(i)) fail_with(cluster_.last_error());
    for (unsigned i = 0; i < profile_.volcanoes; ++i) check_storage(i, true);
    if (failed()) return;
    if (auto problem = whole_problem(cluster_, has_lost_all_power_))
      fail_with("together: " + *problem);
    if (auto problem = copies_problem(cluster_)) fail_with(*problem);
  }

  void wait_for_copies() {
    const SimCoordinator& coordinator = cluster_.coordinator();
    const bool is_done =
        cluster_.run_until([&] { return coordinator.is_split_at_peace(); }, seconds(300));
    if (!is_done) fail_with("not all slots are copied\n" + coordinator.report());
    if (coordinator.problem()) fail_with(*coordinator.problem());
    for (unsigned i = 0; profile_.moving && i < profile_.volcanoes; ++i)
      if (cluster_.changes_of_slots(i) > 0) sometimes("moving: slots changed hands");
  }

  SplitProfile profile_;
  SeedRandom random_;
  SimCluster cluster_;
  RandomWorkload workload_;
  unsigned started_ = 0;  // so many of the volcanoes
  bool has_lost_all_power_ = false;
  std::string problem_;
};

// Adds all rows of a volcano to `whole`. What is wrong with them.
std::optional<std::string> add_rows(SimDisk& disk, const ring::SlotMask& slots,
                                    store::MetadataStore& whole) {
  SimExecutor executor;
  auto store = store::MetadataStore::open(disk, executor, false);
  if (!store) return "it cannot be opened: " + describe(store.error());
  std::optional<std::string> problem;
  for (unsigned database = 0; database < store::kDatabases; ++database)
    for (unsigned number = 1; number <= store::kTableLast; ++number) {
      const auto table = static_cast<store::Table>(number);
      auto visit = [&](const store::MetadataStore::ScanRow& row) {
        if (!slots[row.a >> ring::kCounterBits] || table == store::Table::mirror) return true;
        const bool is_part = table == store::Table::part;
        if (is_part || table == store::Table::intent)
          problem = fmt::format("operation {:#x} was not ended", is_part ? row.b : row.a);
        if (table == store::Table::page_sums) return true;  // compared by each one's deep fsck
        const store::RowKey key{table, row.a, row.b, std::string(row.c)};
        auto there = whole.get(key);
        if (!there || *there) problem = "a row is of two volcanoes";
        if (!whole.put(key, {}, row.image)) problem = "a row cannot be put";
        return true;
      };
      if (!(*store)->scan_database(database, table, visit)) problem = "it cannot be read";
    }
  return problem;
}

}  // namespace

namespace {

// Of the one that has ended. Not while it changed what it serves.
ring::SlotMask slots_of(SimCluster& cluster, unsigned index) {
  return cluster.served_at_end(index).value_or(ring::SlotMask());
}

// What the volcano mirrors is of another moment than its own: taken away here.
Result<void> drop_copies(SimDisk& disk, const ring::SlotMask& own) {
  SimExecutor executor;
  TRY_VALUE(auto metadata, store::MetadataStore::open(disk, executor, false));
  for (unsigned database = 0; database < store::kDatabases; ++database)
    for (unsigned number = 1; number <= store::kTableLast; ++number) {
      const auto table = static_cast<store::Table>(number);
      std::vector<store::RowKey> keys;
      auto visit = [&](const store::MetadataStore::ScanRow& row) {
        if (!own[row.a >> ring::kCounterBits] || table == store::Table::mirror)
          keys.push_back({table, row.a, row.b, std::string(row.c)});
        return true;
      };
      TRY(metadata->scan_database(database, table, visit));
      for (const store::RowKey& key : keys) TRY(metadata->erase(key));
    }
  TRY(metadata->commit());
  TRY(metadata->close_clean());
  for (const std::string& path : disk.files()) {
    const auto dot = path.rfind('.');
    if (!path.starts_with("flares/") || dot == std::string::npos) continue;
    if (!own[std::stoul(path.substr(dot + 1), nullptr, 16)]) TRY(disk.remove(path));
  }
  return {};
}

}  // namespace

std::optional<std::string> split_fsck_problem(SimCluster& cluster, unsigned index,
                                              bool after_clean_stop) {
  if (slots_of(cluster, index).none()) return std::nullopt;
  std::unique_ptr<SimDisk> copy;
  if (cluster.copies() > 1 || cluster.is_moving()) {
    copy = cluster.disk(index).copy();
    if (auto done = drop_copies(*copy, slots_of(cluster, index)); !done)
      return "its copies cannot be told apart: " + describe(done.error());
  }
  SimDisk& disk = copy ? *copy : cluster.disk(index);
  SimExecutor executor;
  store::FsckOptions options;
  options.deep = true;
  options.all_slots = false;
  options.unclean = !after_clean_stop;
  auto report = store::fsck(disk, executor, std::move(options));
  if (!report) return "it could not check: " + describe(report.error());
  if (report->clean()) return std::nullopt;
  return fmt::format("{} problems, the first: {}", report->problems_total,
                     report->problems.front().what);
}

// Each slot of the map's replicas against its primary.
std::optional<std::string> copies_problem(SimCluster& cluster) {
  if (cluster.copies() < 2) return std::nullopt;
  for (unsigned mine = 0; mine < cluster.volcanoes(); ++mine)
    for (unsigned theirs = 0; theirs < cluster.volcanoes(); ++theirs) {
      ring::SlotMask slots;
      const ring::VolcanoId primary = cluster.owners().owners[mine].id;
      const ring::VolcanoId mirror = cluster.owners().owners[theirs].id;
      for (unsigned n = 0; n < ring::kSlotCount; ++n) {
        const ring::SlotEntry& entry = cluster.coordinator().map().slots[n];
        slots[n] = entry.primary() == primary && mine != theirs && entry.replicas.has(mirror);
      }
      if (auto difference = storages_differ(cluster.disk(mine), cluster.disk(theirs), slots))
        return fmt::format("{} of {}: {}", cluster.nick_of(theirs), cluster.nick_of(mine),
                           *difference);
    }
  return std::nullopt;
}

// What takes space, or is read as zeros where nothing was synced, and nothing else
// (doc/failure-model.md).
static bool is_leak(const std::string& problem) {
  return problem.starts_with("leaked:") || problem.ends_with("links but no entry") ||
         (problem.starts_with("chunk ") && problem.ends_with("has no row"));
}

std::optional<std::string> whole_problem(SimCluster& cluster, bool may_leak) {
  SimDisk disk;
  SimExecutor executor;
  {
    auto whole = store::MetadataStore::open(disk, executor, true);
    if (!whole) return "no storage: " + describe(whole.error());
    for (unsigned i = 0; i < cluster.volcanoes(); ++i)
      if (auto problem = add_rows(cluster.disk(i), slots_of(cluster, i), **whole))
        return cluster.nick_of(i) + ": " + *problem;
    if (!(*whole)->commit() || !(*whole)->close_clean()) return "no storage";
  }
  auto report = store::fsck(disk, executor, {});
  if (!report) return "it could not check: " + describe(report.error());
  for (const store::FsckProblem& problem : report->problems)
    if (!may_leak || !is_leak(problem.what))
      return fmt::format("{} problems, one is: {}", report->problems_total, problem.what);
  return std::nullopt;
}

SplitProfile split_profile_of_seed(std::uint64_t seed) {
  SeedRandom random(seed * 7919 + 5);
  SplitProfile profile;
  profile.seed = seed;
  profile.kind = static_cast<SplitFault>(seed % 6);
  profile.volcanoes = static_cast<unsigned>(2 + random.below(3));
  profile.spread = random.chance(2) ? Spread::hashed : Spread::runs;
  profile.clients = static_cast<unsigned>(1 + random.below(3));
  profile.shared_tree = random.chance(2);
  profile.loopback = !random.chance(4);
  if (random.chance(3)) {
    profile.faults.loss = static_cast<unsigned>(random.below(150));
    profile.faults.duplicate = static_cast<unsigned>(random.below(200));
    profile.faults.reorder = static_cast<unsigned>(random.below(300));
    profile.faults.corrupt = static_cast<unsigned>(random.below(20));
  }
  // With two volcanoes nobody is left to be reached through another.
  if (profile.volcanoes > 2) profile.reach = static_cast<client::Reach>(random.below(3));
  return profile;
}

std::string describe(const SplitProfile& profile) {
  static constexpr const char* kKinds[] = {"calm", "restart", "kill", "kills", "cut", "mixed"};
  static constexpr const char* kReaches[] = {"direct", "any", "proxy"};
  return fmt::format(
      "kind={} volcanoes={} spread={} copies={} moving={} clients={} reach={} shared={} "
      "loopback={} loss={} duplicate={} reorder={} corrupt={}",
      kKinds[static_cast<std::size_t>(profile.kind)], profile.volcanoes,
      profile.spread == Spread::runs ? "runs" : "hashed", profile.copies, profile.moving,
      profile.clients, kReaches[static_cast<std::size_t>(profile.reach)],
      profile.shared_tree, profile.loopback, profile.faults.loss, profile.faults.duplicate,
      profile.faults.reorder, profile.faults.corrupt);
}

RunResult run_split(const SplitProfile& profile) {
  forget_log_lines();
  Run run(profile);
  return run.run();
}

}  // namespace magma::test
