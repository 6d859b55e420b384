// MetadataStore under power cuts and faults: what was synced is there, and each database is exactly
// as after one of its commits.
#include <doctest/doctest.h>

#include <map>
#include <set>
#include <vector>

#include "magmad/store/database.h"
#include "magmad/store/metadata_store.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/sim_executor.h"
#include "tests/lib/store_fixture.h"

namespace magma::store {
namespace {

using test::SeedRandom;
using test::SimDisk;
using test::SimExecutor;
using test::version;

using Rows = std::map<std::pair<std::uint8_t, std::uint64_t>, Bytes>;  // (table, a) -> image

struct Lane {
  std::vector<Rows> history{Rows{}};  // after each commit; [0]: empty
  std::size_t synced = 0;             // index into history
};

struct World {
  SimDisk disk;
  SimExecutor executor;
  std::unique_ptr<MetadataStore> store;
  std::array<Lane, kDatabases> lanes;
  SeedRandom random;
  std::uint64_t lost_commits = 0;

  explicit World(std::uint64_t seed) : random(seed) { open(true); }
  void open(bool create) {
    auto opened = MetadataStore::open(disk, executor, create,
                                      {.oplog_bytes_max = 20'000, .wal_checkpoint_bytes = 32'768});
    REQUIRE_MESSAGE(opened.has_value(), (opened ? "" : describe(opened.error())));
    store = std::move(*opened);
  }
  Rows rows_of(unsigned database) {
    Rows rows;
    for (Table table : {Table::inode, Table::entry}) {
      REQUIRE(store->scan_database(database, table, [&](const MetadataStore::ScanRow& row) {
        rows[{static_cast<std::uint8_t>(table), row.a}] = Bytes(row.image.begin(), row.image.end());
        return true;
      }));
    }
    return rows;
  }
  // A batch over one to four databases.
  void batch() {
    std::array<Rows, kDatabases> next;
    std::set<unsigned> touched;
    for (unsigned i = 0; i < kDatabases; ++i) next[i] = lanes[i].history.back();
    for (std::uint64_t n = 1 + random.below(8); n > 0; --n) {
      auto slot = static_cast<unsigned>(random.below(12));
      RowKey key{random.chance(2) ? Table::inode : Table::entry,
                 test::ino_at(slot, random.below(40)).value};
      Rows& rows = next[slot % kDatabases];
      touched.insert(slot % kDatabases);
      if (random.chance(4)) {
        REQUIRE(store->erase(key));
        rows.erase({static_cast<std::uint8_t>(key.table), key.a});
      } else {
        Bytes image = random.bytes(random.below(random.chance(9) ? 9000 : 300));
        REQUIRE(store->put(key, version(1, 1), image));
        rows[{static_cast<std::uint8_t>(key.table), key.a}] = image;
      }
      REQUIRE(store->append_oplog(ring::Slot(static_cast<std::uint16_t>(slot)), version(1, 1),
                                  random.bytes(100)));
    }
    REQUIRE(store->commit());
    for (unsigned i : touched) lanes[i].history.push_back(std::move(next[i]));
    store->checkpoint_if_due();
  }
  void start_sync() {
    auto i = static_cast<unsigned>(random.below(kDatabases));
    std::size_t commits = lanes[i].history.size() - 1;
    store->sync(i, [this, i, commits](Result<void> r) {
      REQUIRE(r.has_value());
      lanes[i].synced = std::max(lanes[i].synced, commits);
    });
  }
  void power_cut() {
    disk.power_cut(random);
    executor.drop();
    store.reset();
    open(false);
    for (unsigned i = 0; i < kDatabases; ++i) {
      Lane& lane = lanes[i];
      Rows found = rows_of(i);
      std::size_t at = lane.history.size();
      while (at-- > lane.synced && lane.history[at] != found) {
      }
      REQUIRE_MESSAGE((at + 1 > lane.synced && lane.history[at] == found),
                      "neither the synced state nor a later commit");
      lost_commits += lane.history.size() - 1 - at;
      lane.history = {found};
      lane.synced = 0;
    }
  }
};

TEST_CASE("store: after a power cut each database is as after a commit, not before the synced") {
  std::uint64_t lost = 0, torn = 0, checkpoints = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    World world(seed);
    for (int life = 0; life < 4; ++life) {
      for (std::uint64_t i = 0, n = 5 + world.random.below(60); i < n; ++i) {
        world.batch();
        if (world.random.chance(6)) world.start_sync();
        while (world.random.chance(2) && world.executor.run_one()) {
        }
      }
      checkpoints += world.store->stats().checkpoints;
      world.power_cut();
    }
    lost += world.lost_commits;
    torn += world.disk.counters().writes_torn;
  }
  CHECK(lost > 60);
  CHECK(torn > 60);
  CHECK(checkpoints > 20);
}

// A fixed history with call n failing; then the process ends and the store must open again.
TEST_CASE("store: fail call 1, 2, 3 ... of a history; the store opens and is as after a commit") {
  std::uint64_t struck = 0;
  for (bool with_power_cut : {false, true}) {
    for (std::uint64_t n = 1;; ++n) {
      CAPTURE(n);
      CAPTURE(with_power_cut);
      World world(5);
      std::vector<std::string> states{""};
      std::string state, acknowledged;
      world.disk.fail_call(n, n % 3 == 0 ? Code::no_space : Code::io);
      for (unsigned i = 0; i < 12; ++i) {
        RowKey key{Table::inode, test::ino_at(4, 16 + i % 5).value};
        Bytes image(3000, static_cast<std::uint8_t>('a' + i));
        if (!world.store->put(key, version(1, i), image) || !world.store->commit()) {
          world.store->rollback();
          continue;
        }
        state = "";
        for (const auto& [k, v] : world.rows_of(0)) state += std::to_string(k.second) + char(v[0]);
        states.push_back(state);
        world.store->sync(0, [&acknowledged, state](Result<void> r) {
          if (r) acknowledged = state;
        });
        if (i % 2 == 0) world.executor.run_all();
        world.store->checkpoint_if_due();
        if (world.store->failed()) break;
      }
      bool fired = !world.disk.fault_pending();
      struck += world.disk.counters().faults;
      world.disk.no_faults();
      if (with_power_cut)
        world.disk.power_cut(world.random);
      else
        world.disk.kill();
      world.executor.drop();
      world.store.reset();
      world.open(false);
      std::string found;
      for (const auto& [k, v] : world.rows_of(0)) found += std::to_string(k.second) + char(v[0]);
      bool known = false, after_acknowledged = false;
      for (const std::string& s : states) {
        if (s == acknowledged) after_acknowledged = true;
        known = known || (s == found && after_acknowledged);
      }
      CHECK(known);
      if (!with_power_cut) CHECK(found == state);
      REQUIRE(world.store->close_clean());
      if (!fired) break;
    }
  }
  CHECK(struck > 60);
}

TEST_CASE("store: making the store fails at call 1, 2, 3 ... without a crash of the program") {
  std::uint64_t struck = 0;
  for (std::uint64_t n = 1;; ++n) {
    SimDisk disk;
    SimExecutor executor;
    disk.fail_call(n);
    auto store = MetadataStore::open(disk, executor, true);
    struck += disk.counters().faults;
    if (disk.fault_pending()) {
      CHECK(store.has_value());
      break;
    }
    if (store.has_value()) continue;  // SQLite can do without some calls
    CHECK(store.error().code == Code::io);
  }
  CHECK(struck > 50);
}

}  // namespace
}  // namespace magma::store
