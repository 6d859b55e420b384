// The Raft log on a disk: what was written is there after any crash, and nothing in between.
#include <doctest/doctest.h>

#include "libmagma/raft/messages.h"
#include "magmad/store/raft_store.h"
#include "tests/lib/raft_cluster.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/store_fixture.h"

using namespace magma;
using test::SeedRandom;
using test::SimDisk;

namespace {

using StorePtr = std::unique_ptr<raft::Store>;

StorePtr create(SimDisk& disk) {
  auto store = store::create_raft_store(disk);
  REQUIRE_MESSAGE(store.has_value(), (store ? "" : describe(store.error())));
  return std::move(*store);
}
StorePtr reopen(SimDisk& disk) {
  auto store = store::open_raft_store(disk);
  REQUIRE_MESSAGE(store.has_value(), (store ? "" : describe(store.error())));
  return std::move(*store);
}
raft::Stored load(raft::Store& store) {
  auto stored = store.load();
  REQUIRE_MESSAGE(stored.has_value(), (stored ? "" : describe(stored.error())));
  return *stored;
}

// What a node might write next to `stored`: entries over some of the last ones, or a snapshot.
raft::Persist next_write(const raft::Stored& stored, SeedRandom& random) {
  raft::Persist write{.sequence = 1, .hard = stored.hard, .first = {}};
  write.hard.term = write.hard.term + random.below(2);
  write.hard.vote = raft::NodeId(random.below(4));
  const raft::Index last = stored.snapshot.last.index + stored.entries.size();
  write.first = last + 1;
  if (random.chance(5) && !stored.entries.empty()) {
    const std::uint64_t covered = 1 + random.below(stored.entries.size());
    write.snapshot =
        raft::Snapshot{{stored.snapshot.last.index + covered, stored.entries[covered - 1].term},
                       {.voters = {raft::NodeId(1 + random.below(3))}, .learners = {}},
                       random.bytes(random.below(20'000))};
  } else if (random.chance(20)) {  // of the leader: nothing of the log remains
    write.snapshot = raft::Snapshot{{last + 10, write.hard.term}, {}, random.bytes(10)};
    write.first = last + 11;
    return write;
  } else if (random.chance(3) && !stored.entries.empty()) {
    write.first = last + 1 - (1 + random.below(stored.entries.size()));
  }
  for (std::uint64_t n = random.below(4); n > 0; --n)
    write.entries.push_back(
        {write.hard.term, raft::EntryKind::command, random.bytes(random.below(3000))});
  return write;
}

}  // namespace

TEST_CASE("raft store: what a founder writes is what a node starts with") {
  SimDisk disk;
  auto store = create(disk);
  CHECK(load(*store) == raft::Stored{});
  const raft::Persist first = raft::founding_write(raft::NodeId(1), {1, 2, 3});
  REQUIRE(store->write({&first, 1}).has_value());
  store.reset();
  store = reopen(disk);
  CHECK(load(*store) == raft::founding(raft::NodeId(1), {1, 2, 3}));
  CHECK(store::create_raft_store(disk).error().code == Code::exists);
  SimDisk empty;
  CHECK(store::open_raft_store(empty).error().code == Code::not_found);
}

TEST_CASE("raft store: after a power cut all that was confirmed is there, and no half write") {
  std::uint64_t lost = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SimDisk disk;
    SeedRandom random(seed);
    raft::Stored model;
    auto store = create(disk);
    for (unsigned round = 0; round < 8; ++round) {
      for (std::uint64_t n = random.below(12); n > 0; --n) {
        std::vector<raft::Persist> writes;
        for (std::uint64_t k = 1 + random.below(3); k > 0; --k) {
          writes.push_back(next_write(model, random));
          test::write_to(model, writes.back());
        }
        REQUIRE(store->write(writes).has_value());
      }
      // One more whose outcome is open.
      const raft::Persist unsure = next_write(model, random);
      raft::Stored with = model;
      test::write_to(with, unsure);
      disk.fail_call(1 + random.below(12));
      const bool is_written = store->write({&unsure, 1}).has_value();
      if (is_written) model = with;
      disk.no_faults();
      disk.power_cut(random);
      store.reset();
      store = reopen(disk);
      const raft::Stored found = load(*store);
      if (found == with) model = with;
      CHECK(found == model);
      lost += is_written ? 0 : 1;
    }
  }
  CHECK(lost > 0);
}

TEST_CASE("raft store: an error is final") {
  SimDisk disk;
  auto store = create(disk);
  const raft::Persist first = raft::founding_write(raft::NodeId(1), {});
  REQUIRE(store->write({&first, 1}).has_value());
  raft::Persist second{
      .sequence = 1, .hard = {raft::Term(1), raft::NodeId(1)}, .first = raft::Index(2)};
  disk.fail_syncs("raft.db", 1);
  CHECK(store->write({&second, 1}).error().code == Code::io);
  CHECK(store->write({&second, 1}).error().code == Code::io);  // though the disk is well again
  store.reset();
  store = reopen(disk);
  CHECK(store->write({&second, 1}).has_value());
}

TEST_CASE("raft store: a flipped bit is found, or does no harm") {
  SeedRandom random(5);
  raft::Stored model;
  SimDisk disk;
  {
    auto store = create(disk);
    for (unsigned i = 0; i < 30; ++i) {
      const raft::Persist write = next_write(model, random);
      test::write_to(model, write);
      REQUIRE(store->write({&write, 1}).has_value());
    }
  }
  unsigned found = 0;
  for (const std::string path : {"raft.db", "raft.db-wal"}) {
    for (std::uint64_t offset = random.below(500); offset < 200'000;
         offset += 1 + random.below(997)) {
      if (!disk.flip_bit(path, offset, static_cast<unsigned>(offset % 8))) continue;
      auto store = store::open_raft_store(disk);
      auto stored = store ? (*store)->load() : fail(store.error());
      // A -wal cut at a bad frame would be a log of before: SQLite can't tell it from a power cut.
      if (path == "raft.db" && stored) CHECK(*stored == model);
      found += stored ? 0 : 1;
      if (store) store->reset();
      disk.flip_bit(path, offset, static_cast<unsigned>(offset % 8));
      if (path == "raft.db-wal") break;  // SQLite has written it anew
    }
  }
  CHECK(found > 0);
}
