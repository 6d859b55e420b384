// Tests of the tests: a fault is planted in what surrounds the product, and the random runs must
// find it. A simulator that passes with these is blind.
#include <doctest/doctest.h>

#include "tests/sim/scenario.h"
#include "tests/sim/sim_run.h"
#include "magmad/store/metadata_store.h"

using namespace magma;
using namespace magma::test;

namespace {

constexpr std::uint64_t kSeedsToFind = 40;

bool is_found(RunKind kind, const RunHooks& hooks) {
  for (std::uint64_t seed = 1; seed <= kSeedsToFind; ++seed) {
    RunProfile profile = profile_of_seed(seed);
    profile.kind = kind;
    profile.faults = {};
    if (run_profile(profile, hooks).failure) return true;
  }
  return false;
}

// Deletes the remembered replies of a stopped volcano.
void drop_reply_rows(SimCluster& cluster) {
  SimExecutor executor;
  auto store = store::MetadataStore::open(cluster.disk(), executor, false);
  if (!store) return;  // nothing there yet
  for (unsigned database = 0; database < store::kDatabases; ++database) {
    std::vector<store::RowKey> keys;
    auto visit = [&](const store::MetadataStore::ScanRow& row) {
      keys.push_back({store::Table::reply, row.a, row.b, std::string(row.c)});
      return true;
    };
    REQUIRE((*store)->scan_database(database, store::Table::reply, visit).has_value());
    for (const auto& key : keys) REQUIRE((*store)->erase(key).has_value());
  }
  REQUIRE((*store)->commit().has_value());
}

}  // namespace

TEST_CASE("planted: a disk that lies about syncs is found") {
  RunHooks hooks;
  hooks.after_start = [](SimCluster& cluster) { cluster.faulty_disk().lie_about_syncs(true); };
  CHECK(is_found(RunKind::power_cut, hooks));
}

TEST_CASE("planted: a kill that loses the page cache is found") {
  RunHooks hooks;
  hooks.kill_forgets = true;
  CHECK(is_found(RunKind::kill, hooks));
}

TEST_CASE("planted: forgotten replies make a change happen twice") {
  Scenario s(91);
  auto file = s.create(root_ino(), "log");
  REQUIRE(file.has_value());
  bool answered = false;
  s.cluster().drop_replies(true);
  s.cluster().client(0).write(file->ino, 0, pattern(1000), true, false, {},
                              [&](Result<wire::WriteReply>) { answered = true; });
  s.cluster().touch_client(0);
  s.cluster().run_for(milliseconds(300));
  s.crash(Crash::kill);
  drop_reply_rows(s.cluster());
  s.restart();
  s.cluster().drop_replies(false);
  REQUIRE(s.cluster().run_until([&] { return answered; }, seconds(60)));
  CHECK(s.getattr(file->ino).value().size == 2000);  // what exactly-once tests would see
}
