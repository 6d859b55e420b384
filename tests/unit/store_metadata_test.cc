// MetadataStore: rows, order of scans, transactions, oplog, syncs, checkpoints, formats.
#include <doctest/doctest.h>

#include <map>
#include <vector>

#include <sqlite3.h>

#include "magmad/store/database.h"
#include "magmad/store/metadata_store.h"
#include "magmad/store/sqlite_vfs.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/sim_executor.h"
#include "tests/lib/store_fixture.h"

namespace magma::store {
namespace {

using test::ino_at;
using test::SeedRandom;
using test::SimDisk;
using test::SimExecutor;
using test::version;

struct Rig {
  SimDisk disk;
  SimExecutor executor;
  std::unique_ptr<MetadataStore> store;
  explicit Rig(MetadataOptions options = {}) { open(true, options); }
  void open(bool create, MetadataOptions options = {}) {
    auto opened = MetadataStore::open(disk, executor, create, options);
    REQUIRE_MESSAGE(opened.has_value(), (opened ? "" : describe(opened.error())));
    store = std::move(*opened);
  }
  void kill() {
    disk.kill();
    executor.drop();
    store.reset();
  }
};

RowKey inode_key(unsigned slot, std::uint64_t counter) {
  return {Table::inode, ino_at(slot, counter).value};
}
std::string text(const Result<std::optional<Row>>& row) {
  REQUIRE(row.has_value());
  if (!*row) return "(none)";
  return std::string(as_text((*row)->image));
}

TEST_CASE("store: put, get, replace, erase in every table and slot half") {
  Rig rig;
  for (unsigned number = 1; number <= kTableLast; ++number) {
    for (unsigned slot : {0u, 1u, 2047u, 2048u, 4095u}) {
      RowKey key{static_cast<Table>(number), ino_at(slot, 77).value};
      bool single = key.table == Table::inode || key.table == Table::inline_data;
      if (!single) {
        key.b = ~std::uint64_t{0} - 5;
        key.c = std::string("na\0me\xff", 6);
      }
      CHECK(text(rig.store->get(key)) == "(none)");
      REQUIRE(rig.store->put(key, version(3, 1u << 20), as_bytes("first")));
      CHECK(text(rig.store->get(key)) == "first");
      REQUIRE(rig.store->put(key, version(4, ~std::uint64_t{0}), as_bytes("")));
      auto row = rig.store->get(key);
      CHECK(text(row) == "");
      CHECK((*row)->version == version(4, ~std::uint64_t{0}));
      RowKey other = key;
      other.a += 1;
      CHECK(text(rig.store->get(other)) == "(none)");
      if (slot != 1) continue;
      REQUIRE(rig.store->erase(key));
      REQUIRE(rig.store->erase(key));
      CHECK(text(rig.store->get(key)) == "(none)");
    }
  }
  REQUIRE(rig.store->commit());
  CHECK(text(rig.store->get({Table::entry, ino_at(4095, 77).value, ~std::uint64_t{0} - 5,
                             std::string("na\0me\xff", 6)})) == "");
}

TEST_CASE("store: scans are in unsigned order of (a, b, c), bounds included") {
  Rig rig;
  std::map<std::tuple<std::uint64_t, std::uint64_t, std::string>, std::string> model;
  SeedRandom random(7);
  const std::uint64_t bs[] = {0, 1, (1ull << 63) - 1, 1ull << 63, ~0ull};
  for (unsigned slot : {4u, 2052u}) {
    for (int i = 0; i < 300; ++i) {
      RowKey key{Table::entry, ino_at(slot, random.below(4)).value, bs[random.below(5)],
                 std::string(as_text(random.bytes(random.below(3))))};
      std::string image = std::to_string(i);
      REQUIRE(rig.store->put(key, version(1, 1), as_bytes(image)));
      model[{key.a, key.b, key.c}] = image;
    }
  }
  for (int i = 0; i < 300; ++i) {
    unsigned slot = random.chance(2) ? 4 : 2052;
    RowKey from{Table::entry, ino_at(slot, random.below(5)).value, bs[random.below(5)],
                std::string(as_text(random.bytes(random.below(3))))};
    RowKey to{Table::entry, ino_at(slot, random.below(5)).value, bs[random.below(5)],
              std::string(as_text(random.bytes(random.below(3))))};
    std::vector<std::string> want, got;
    for (auto it = model.lower_bound({from.a, from.b, from.c});
         it != model.end() && it->first <= std::tuple(to.a, to.b, to.c); ++it)
      want.push_back(it->second);
    std::size_t most = random.chance(3) ? 3 : 1000;
    if (want.size() > most) want.resize(most);
    REQUIRE(rig.store->scan(from, to, [&](const MetadataStore::ScanRow& row) {
      got.emplace_back(as_text(row.image));
      CHECK(model.at({row.a, row.b, std::string(row.c)}) == got.back());
      return got.size() < most;
    }));
    CHECK(got == want);
  }
  std::size_t all = 0;
  std::uint64_t last = 0;
  REQUIRE(rig.store->scan_database(0, Table::entry, [&](const MetadataStore::ScanRow& row) {
    CHECK(row.a >= last);
    last = row.a;
    ++all;
    return true;
  }));
  CHECK(all == model.size());
}

TEST_CASE("store: a scan inside a scan of the same table") {
  Rig rig;
  for (unsigned i = 1; i <= 5; ++i)
    REQUIRE(rig.store->put(inode_key(8, i), version(1, i), as_bytes("x")));
  unsigned pairs = 0;
  auto whole = [&](MetadataStore::Visit visit) {
    REQUIRE(rig.store->scan(inode_key(8, 0), inode_key(8, 99), std::move(visit)));
  };
  whole([&](const MetadataStore::ScanRow&) {
    whole([&](const MetadataStore::ScanRow&) { return ++pairs, true; });
    return true;
  });
  CHECK(pairs == 25);
}

TEST_CASE("store: rollback takes everything back, also the oplog's end") {
  Rig rig;
  REQUIRE(rig.store->put(inode_key(1, 1), version(1, 1), as_bytes("old")));
  REQUIRE(rig.store->append_oplog(ring::Slot(1), version(1, 1), as_bytes("one")));
  REQUIRE(rig.store->commit());
  CHECK_FALSE(rig.store->in_transaction());
  REQUIRE(rig.store->put(inode_key(1, 1), version(1, 2), as_bytes("new")));
  REQUIRE(rig.store->put(inode_key(2, 1), version(1, 2), as_bytes("new")));
  REQUIRE(rig.store->append_oplog(ring::Slot(1), version(1, 2), as_bytes("two")));
  CHECK(rig.store->in_transaction());
  rig.store->rollback();
  CHECK(text(rig.store->get(inode_key(1, 1))) == "old");
  CHECK(text(rig.store->get(inode_key(2, 1))) == "(none)");
  REQUIRE(rig.store->append_oplog(ring::Slot(1), version(1, 3), as_bytes("three")));
  REQUIRE(rig.store->commit());
  std::vector<std::string> seen;
  std::vector<std::uint64_t> ids;
  REQUIRE(rig.store->scan_oplog(1, 0, [&](const MetadataStore::OplogRow& row) {
    seen.emplace_back(as_text(row.image));
    ids.push_back(row.id);
    CHECK(row.slot == ring::Slot(1));
    return true;
  }));
  CHECK(seen == std::vector<std::string>{"one", "three"});
  CHECK(ids == std::vector<std::uint64_t>{1, 2});
}

TEST_CASE("store: the oplog stays under its limit and its ids rise over restarts") {
  MetadataOptions options{.oplog_bytes_max = 10'000};
  Rig rig(options);
  std::uint64_t last = 0;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 400; ++i) {
      REQUIRE(rig.store->append_oplog(ring::Slot(4), version(1, 1), Bytes(i % 90)));
      if (i % 7 == 0) REQUIRE(rig.store->commit());
    }
    REQUIRE(rig.store->commit());
    std::uint64_t bytes = 0, rows = 0, previous = 0;
    REQUIRE(rig.store->scan_oplog(0, 0, [&](const MetadataStore::OplogRow& row) {
      bytes += row.image.size() + kOplogRowOverhead;
      CHECK((previous == 0 || row.id == previous + 1));
      previous = row.id;
      ++rows;
      return true;
    }));
    CHECK(bytes <= 10'000 + 10'000 / 64 + 200);
    CHECK(bytes > 9'000);
    CHECK(rows > 50);
    CHECK(previous == last + 400);
    last = previous;
    rig.kill();
    rig.open(false, options);
  }
  // One row over the limit stays until the next.
  REQUIRE(rig.store->append_oplog(ring::Slot(4), version(1, 1), Bytes(50'000)));
  for (int i = 0; i < 40; ++i)
    REQUIRE(rig.store->append_oplog(ring::Slot(4), version(1, 1), as_bytes("x")));
  REQUIRE(rig.store->commit());
  std::uint64_t rows = 0;
  REQUIRE(
      rig.store->scan_oplog(0, 0, [&](const MetadataStore::OplogRow&) { return ++rows, true; }));
  CHECK(rows == 40);
}

TEST_CASE("store: a kill loses no commit, and keeps no uncommitted change") {
  Rig rig;
  REQUIRE(rig.store->put(inode_key(3, 1), version(1, 1), as_bytes("kept")));
  REQUIRE(rig.store->commit());
  REQUIRE(rig.store->put(inode_key(3, 2), version(1, 2), as_bytes("gone")));
  rig.kill();
  rig.open(false);
  CHECK(text(rig.store->get(inode_key(3, 1))) == "kept");
  CHECK(text(rig.store->get(inode_key(3, 2))) == "(none)");
  CHECK_FALSE(rig.store->is_durable(3));  // may be in the page cache only
}

TEST_CASE("store: a sync covers the commits before it and no later one") {
  Rig rig;
  auto commit_one = [&](std::uint64_t n) {
    REQUIRE(rig.store->put(inode_key(0, n), version(1, n), as_bytes("x")));
    REQUIRE(rig.store->commit());
  };
  CHECK(rig.store->is_durable(0));
  commit_one(1);
  CHECK_FALSE(rig.store->is_durable(0));
  CHECK(rig.store->is_durable(1));
  std::vector<int> order;
  rig.store->sync(0, [&](Result<void> r) { CHECK(r.has_value()); order.push_back(1); });
  rig.store->sync(0, [&](Result<void>) { order.push_back(10); });  // the same will do
  CHECK(rig.executor.run_one());  // the work runs, its end is not delivered
  commit_one(2);
  rig.store->sync(0, [&](Result<void> r) {
    CHECK(r.has_value());
    order.push_back(2);
    CHECK(rig.store->is_durable(0));
  });
  rig.store->sync(0, [&](Result<void>) { order.push_back(3); });
  CHECK(order.empty());
  CHECK(rig.executor.run_one());
  CHECK(order == std::vector<int>{1, 10});
  CHECK_FALSE(rig.store->is_durable(0));
  rig.executor.run_all();
  CHECK(order == std::vector<int>{1, 10, 2, 3});
  CHECK(rig.store->stats().syncs == 2);
  rig.store->sync(0, [&](Result<void> r) { CHECK(r.has_value()); order.push_back(4); });
  CHECK(order.back() == 4);  // at once
  SeedRandom random(1);
  rig.disk.power_cut(random);
  rig.executor.drop();
  rig.store.reset();
  rig.open(false);
  CHECK(text(rig.store->get(inode_key(0, 2))) == "x");
}

TEST_CASE("store: after a failed sync nothing is acknowledged any more") {
  Rig rig;
  REQUIRE(rig.store->put(inode_key(0, 1), version(1, 1), as_bytes("x")));
  REQUIRE(rig.store->commit());
  rig.disk.fail_syncs("meta.0.db-wal", 1);
  int errors = 0;
  auto count = [&](Result<void> r) { errors += r ? 0 : 1; };
  rig.store->sync(0, count);
  rig.store->sync_all(count);
  rig.executor.run_all();
  CHECK(rig.disk.counters().sync_faults == 1);
  CHECK(errors == 2);
  CHECK(rig.store->failed());
  rig.store->sync(1, count);
  CHECK(errors == 3);
  CHECK_FALSE(rig.store->is_durable(0));
  CHECK_FALSE(rig.store->put(inode_key(0, 2), version(1, 1), as_bytes("x")).has_value());
  CHECK_FALSE(rig.store->close_clean().has_value());
}

TEST_CASE("store: the -wal is checkpointed after a sync and begins anew") {
  MetadataOptions options{.wal_checkpoint_bytes = 64 * 1024};
  Rig rig(options);
  std::uint64_t largest = 0;
  for (unsigned i = 0; i < 600; ++i) {
    REQUIRE(rig.store->put(inode_key(4 * (i % 50), i), version(1, i), Bytes(300, 'x')));
    REQUIRE(rig.store->commit());
    rig.store->checkpoint_if_due();
    if (i % 4 == 0) rig.executor.run_one();
    largest = std::max(largest, rig.store->stats().wal_bytes);
  }
  rig.executor.run_all();
  CHECK(rig.store->stats().checkpoints > 5);
  CHECK(largest < 4 * 64 * 1024 + 65536);
  REQUIRE(rig.store->close_clean());
  CHECK(rig.disk.all_synced());
  rig.kill();
  rig.open(false);
  std::uint64_t rows = 0;
  REQUIRE(rig.store->scan_database(0, Table::inode,
                                   [&](const MetadataStore::ScanRow&) { return ++rows, true; }));
  CHECK(rows == 600);
}

TEST_CASE("store: a callback that outlives the store is dropped") {
  Rig rig;
  REQUIRE(rig.store->put(inode_key(0, 1), version(1, 1), as_bytes("x")));
  REQUIRE(rig.store->commit());
  bool called = false;
  rig.store->sync(0, [&](Result<void>) { called = true; });
  rig.store.reset();
  rig.executor.run_all();
  CHECK_FALSE(called);
}

// Into a database that no store has open.
void run_sql(SimDisk& disk, unsigned database, const std::string& sql) {
  SqliteVfs vfs(disk);
  sqlite3* raw = nullptr;
  REQUIRE(sqlite3_open_v2(database_path(database).c_str(), &raw, SQLITE_OPEN_READWRITE,
                          vfs.name()) == SQLITE_OK);
  char* error = nullptr;
  const std::string all = "PRAGMA locking_mode=EXCLUSIVE; " + sql;
  sqlite3_exec(raw, all.c_str(), nullptr, nullptr, &error);
  REQUIRE_MESSAGE(error == nullptr, error);
  sqlite3_close(raw);
}

TEST_CASE("store: opening refuses what is missing, there, foreign or newer") {
  Rig rig;
  rig.store.reset();
  CHECK(MetadataStore::open(rig.disk, rig.executor, true).error().code == Code::exists);
  SimDisk empty;
  CHECK(MetadataStore::open(empty, rig.executor, false).error().code == Code::not_found);
  run_sql(rig.disk, 2, "PRAGMA user_version=" + std::to_string(kMetadataFormat + 1));
  CHECK(MetadataStore::open(rig.disk, rig.executor, false).error().code == Code::too_new);
  auto file = rig.disk.open("meta.1.db", sys::Disk::Open::existing);
  REQUIRE((*file)->write_at(as_bytes("something else entirely"), 0).has_value());
  CHECK(MetadataStore::open(rig.disk, rig.executor, false).error().code == Code::not_magma);
  REQUIRE((*file)->truncate(0).has_value());
  CHECK(MetadataStore::open(rig.disk, rig.executor, false).error().code == Code::not_magma);
}

// As the volcano before mirrors left it.
void make_format_1(SimDisk& disk, unsigned database) {
  run_sql(disk, database,
          "DROP TABLE mirror; PRAGMA user_version=1;"
          "INSERT INTO oplog(id, slot, epoch, seq, total, image) VALUES(7, 1, 1, 1, 500, x'0102')");
}

TEST_CASE("store: a database of format 1 gets the table of mirrors and an empty oplog") {
  Rig rig;
  for (unsigned slot = 0; slot < kDatabases; ++slot)
    REQUIRE(rig.store->put(inode_key(slot, 1), version(1, slot), as_bytes("row")));
  REQUIRE(rig.store->commit());
  REQUIRE(rig.store->close_clean());
  rig.store.reset();
  bool all = true;
  SUBCASE("all") {}
  SUBCASE("some, as a kill in the middle leaves them") { all = false; }
  for (unsigned database = 0; database < kDatabases; ++database)
    if (all || database >= 2) make_format_1(rig.disk, database);
  rig.open(false);
  for (unsigned database = 0; database < kDatabases; ++database) {
    const auto ends = rig.store->oplog_ends(database);
    REQUIRE(ends);
    CHECK(ends->first == 0);
    CHECK(ends->last == 0);
    CHECK(text(rig.store->get(inode_key(database, 1))) == "row");
    const RowKey key{Table::mirror, ino_at(database, 0).value};
    CHECK(text(rig.store->get(key)) == "(none)");
    REQUIRE(rig.store->put(key, version(1, 1), as_bytes("state")));
    REQUIRE(rig.store->append_oplog(ring::Slot(static_cast<std::uint16_t>(database)),
                                    version(1, 2), as_bytes("new")));
  }
  REQUIRE(rig.store->commit());
  rig.kill();
  for (unsigned database = 0; database < kDatabases; ++database) {
    SqliteVfs vfs(rig.disk);
    auto opened = Database::open(vfs, database, Database::Open::existing, {});
    REQUIRE(opened);
    CHECK((*opened)->quick_check().value().empty());
  }
  rig.open(false);  // not upgraded once more
  for (unsigned database = 0; database < kDatabases; ++database) {
    CHECK(text(rig.store->get({Table::mirror, ino_at(database, 0).value})) == "state");
    CHECK(rig.store->oplog_ends(database)->last > 0);
  }
}

TEST_CASE("store: an upgrade that any call of the disk interrupts is made by the next start") {
  unsigned struck = 0;
  for (std::uint64_t n = 1; n < 200; ++n) {
    CAPTURE(n);
    Rig rig;
    REQUIRE(rig.store->put(inode_key(1, 1), version(1, 1), as_bytes("row")));
    REQUIRE(rig.store->commit());
    REQUIRE(rig.store->close_clean());
    rig.store.reset();
    for (unsigned database = 0; database < kDatabases; ++database)
      make_format_1(rig.disk, database);
    rig.disk.fail_call(n);
    auto opened = MetadataStore::open(rig.disk, rig.executor, false);
    const bool has_struck = !rig.disk.fault_pending();
    rig.disk.no_faults();
    if (!has_struck) break;
    ++struck;
    if (opened) opened->reset();
    rig.kill();
    rig.open(false);
    CHECK(text(rig.store->get(inode_key(1, 1))) == "row");
    CHECK(text(rig.store->get({Table::mirror, 0})) == "(none)");
    CHECK(rig.store->oplog_ends(1)->last == 0);
  }
  CHECK(struck > 20);
}

TEST_CASE("store: a cleared oplog goes on with its ids, also after a rollback") {
  Rig rig;
  const auto append = [&](std::uint64_t seq) {
    REQUIRE(rig.store->append_oplog(ring::Slot(1), version(1, seq), as_bytes("row")));
  };
  append(1);
  append(2);
  REQUIRE(rig.store->commit());
  const auto ends = [&] {
    const auto found = rig.store->oplog_ends(1);
    return std::pair(found->first, found->last);
  };
  CHECK(ends() == std::pair(std::uint64_t{1}, std::uint64_t{2}));
  REQUIRE(rig.store->clear_oplog());
  append(3);
  CHECK(ends() == std::pair(std::uint64_t{3}, std::uint64_t{3}));
  rig.store->rollback();
  CHECK(ends() == std::pair(std::uint64_t{1}, std::uint64_t{2}));
  REQUIRE(rig.store->clear_oplog());
  REQUIRE(rig.store->commit());
  CHECK(ends() == std::pair(std::uint64_t{0}, std::uint64_t{0}));
  append(4);
  REQUIRE(rig.store->commit());
  CHECK(ends() == std::pair(std::uint64_t{3}, std::uint64_t{3}));
}

TEST_CASE("store: a full disk fails the commit, loses nothing, and heals") {
  Rig rig;
  REQUIRE(rig.store->put(inode_key(0, 1), version(1, 1), as_bytes("kept")));
  REQUIRE(rig.store->commit());
  rig.disk.limit_space(rig.disk.used_bytes() + 8192);
  REQUIRE(rig.store->put(inode_key(0, 2), version(1, 2), Bytes(100'000)));
  auto full = rig.store->commit();
  REQUIRE_FALSE(full.has_value());
  CHECK(full.error().code == Code::no_space);
  CHECK(rig.disk.counters().space_faults > 0);
  CHECK_FALSE(rig.store->in_transaction());
  CHECK_FALSE(rig.store->failed());
  CHECK(text(rig.store->get(inode_key(0, 1))) == "kept");
  CHECK(text(rig.store->get(inode_key(0, 2))) == "(none)");
  rig.disk.limit_space({});
  REQUIRE(rig.store->put(inode_key(0, 2), version(1, 2), as_bytes("now")));
  REQUIRE(rig.store->commit());
  rig.kill();
  rig.open(false);
  CHECK(text(rig.store->get(inode_key(0, 2))) == "now");
}

}  // namespace
}  // namespace magma::store
