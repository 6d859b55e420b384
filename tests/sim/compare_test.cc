// `magma verify --replicas` in the simulator: what is planted on a stopped mirror's disk is named,
// and while the ring works nothing is.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "magmad/store/content_files.h"
#include "magmad/store/metadata_store.h"
#include "tests/lib/sim_coordinator.h"
#include "tests/lib/sometimes.h"
#include "tests/sim/mirror_run.h"
#include "tests/sim/random_workload.h"
#include "tests/sim/replica_verify.h"
#include "tests/sim/scenario.h"

using namespace magma;
using namespace magma::test;
using wire::DifferenceKind;

namespace {

const Ino kRoot = root_ino();

void wait_in_sync(Scenario& s) {
  const auto problem = wait_for_peace(s.cluster());
  REQUIRE_MESSAGE(!problem.has_value(), problem.value_or(""));
}

Ino make_files(Scenario& s) {
  const Ino directory = s.mkdir(kRoot, "d").value().ino;
  s.make_file(directory, "inline", pattern(3000, 1));
  s.make_file(directory, "file", pattern(50'000, 2));
  const Ino large = s.make_file(directory, "large", pattern(3'500'000, 3));
  s.cluster().run_for(seconds(3));
  return large;
}

void change_rows(SimDisk& disk, UniqueFunction<Result<void>(store::MetadataStore&)> change) {
  SimExecutor executor;
  auto opened = store::MetadataStore::open(disk, executor, false);
  REQUIRE(opened.has_value());
  REQUIRE(change(**opened).has_value());
  REQUIRE((*opened)->commit().has_value());
}

struct LoadedRun {
  std::optional<std::string> problem;
  std::uint64_t rounds = 0, pieces = 0, differences = 0;
};

// Random work with a mirror, and verify all the time.
LoadedRun verify_under_load(std::uint64_t seed, bool is_disordered) {
  SimCluster cluster({seed, 2, true, 65536, 1});
  RandomWorkload workload(cluster, {.shared_tree = true});
  for (unsigned i = 0; i < 2; ++i) REQUIRE(cluster.start_volcano(i));
  for (unsigned i = 0; i < 2; ++i) REQUIRE(cluster.start_client(i));
  REQUIRE(workload.begin());
  REQUIRE(!wait_for_peace(cluster).has_value());
  if (is_disordered) cluster.volcano(0).plant_disorder();
  ReplicaVerify verify(cluster);
  verify.start();
  for (unsigned i = 0; i < 4 && !workload.failed(); ++i) {
    workload.start_operations(120);
    cluster.run_until([&] { return workload.is_idle() || workload.failed(); }, seconds(900));
  }
  LoadedRun run;
  if (workload.failed()) run.problem = workload.report();
  if (!run.problem) run.problem = verify.problem();
  run.rounds = verify.counters().rounds;
  run.pieces = verify.counters().pieces;
  run.differences = verify.differences().size();
  return run;
}

}  // namespace

TEST_CASE("compare: a row and a byte changed on a stopped mirror are named") {
  Scenario s(21, 1, 1);
  wait_in_sync(s);
  const Ino large = make_files(s);
  ReplicaVerify clean(s.cluster());
  REQUIRE(clean.run_once());
  CHECK_MESSAGE(clean.differences().empty(), clean.problem().value_or(""));
  CHECK(clean.counters().bytes > 3'500'000);
  REQUIRE(s.cluster().stop_volcano(1));
  std::vector<std::string> contents;
  for (const std::string& path : s.cluster().disk(1).files())
    if (path.starts_with(store::kFlaresDirectory)) contents.push_back(path);
  REQUIRE(!contents.empty());
  REQUIRE(s.cluster().disk(1).flip_bit(contents.front(), 5000, 2));
  change_rows(s.cluster().disk(1), [&](store::MetadataStore& rows) -> Result<void> {
    const store::RowKey key{store::Table::inode, kRoot.value, 0, {}};
    TRY_VALUE(auto row, rows.get(key));
    if (!row) return fail(Code::not_found);
    row->image[2] ^= 1;
    return rows.put(key, row->version, row->image);
  });
  REQUIRE(s.cluster().start_volcano(1));
  wait_in_sync(s);
  ReplicaVerify verify(s.cluster());
  REQUIRE(verify.run_once());
  const auto& found = verify.differences();
  REQUIRE(found.size() == 2);
  CHECK(found[0].kind == DifferenceKind::other);
  CHECK(found[0].table == static_cast<std::uint8_t>(store::Table::inode));
  CHECK(found[0].key.a == kRoot.value);
  CHECK(found[1].kind == DifferenceKind::damaged);
  CHECK(found[1].offset == 4096);
  (void)large;
  // Rows alone, without the contents.
  ReplicaVerify quick(s.cluster(), false);
  REQUIRE(quick.run_once());
  CHECK(quick.differences().size() == 1);
  CHECK(quick.counters().bytes == 0);
}

TEST_CASE("compare: a mirror that is away or copies is not compared, and goes on where it was") {
  Scenario s(22, 1, 1);
  wait_in_sync(s);
  make_files(s);
  ReplicaVerify verify(s.cluster());
  verify.start();
  REQUIRE(s.cluster().run_until([&] { return verify.counters().pieces > 10; }, seconds(10)));
  s.cluster().crash_volcano(Crash::kill, 1);
  s.cluster().lose_disk(1);
  s.cluster().coordinator().has_lost(1);
  s.cluster().run_for(seconds(4));
  CHECK(verify.counters().rounds == 0);
  REQUIRE(s.cluster().start_volcano(1));
  REQUIRE(s.cluster().run_until([&] { return verify.counters().rounds > 0; }, seconds(60)));
  CHECK_MESSAGE(verify.differences().empty(), verify.problem().value_or(""));
}

TEST_CASE("compare: nothing that is merely under way is a difference") {
  const SimOptions& options = sim_options();
  std::uint64_t rounds = 0;
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>(options.seeds, 20); ++i) {
    CAPTURE(options.first_seed + i);
    const LoadedRun run = verify_under_load(options.first_seed + i, false);
    CHECK_MESSAGE(!run.problem.has_value(), run.problem.value_or(""));
    rounds += run.rounds;
  }
  CHECK(rounds > 0);
  sometimes("compare: whole rounds under load", rounds);
}

// A test of the tests: a comparison that does not keep its place among the batches.
TEST_CASE("planted: a comparison out of order finds differences that are none") {
  if (sim_options().replay) return;
  bool is_found = false;
  for (std::uint64_t seed = 1; seed <= 10 && !is_found; ++seed)
    is_found = verify_under_load(seed, true).differences > 0;
  CHECK(is_found);
}
