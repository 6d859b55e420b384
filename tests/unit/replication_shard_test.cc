// The shard and its mirrors: which answers wait for them, what it tells them of a batch.
#include <doctest/doctest.h>

#include <algorithm>

#include "tests/unit/core_fixture.h"
#include "tests/unit/replication_fixture.h"

using namespace magma;
using namespace magma::test;

namespace {

struct Mirrored : ShardBench {
  std::vector<replication::Effects> told;
  std::vector<std::uint64_t> syncs;

  Mirrored() { listen(); }
  void listen() {
    shard->mirror_to([this](replication::Effects effects) { told.push_back(std::move(effects)); });
    shard->on_sync_mirrors([this](std::uint64_t sync) { syncs.push_back(sync); });
  }
  std::uint64_t batch() const { return shard->position().batch; }
  void confirm(std::uint64_t batch, std::uint64_t sync = 0) {
    shard->set_replicated(batch, sync);
    settle();
  }
  // How many answers more are held back after it.
  template <class Message>
  std::size_t held_by(const Message& message, ring::Slot slot) {
    const std::size_t before = shard->answers_held();
    send(message, slot);
    settle();
    return shard->answers_held() - before;
  }
  std::size_t create_held(Ino dir, const std::string& name) {
    return held_by(wire::CreateRequest{dir, name, 0644, 0, true, true}, ring::home_of(dir));
  }
};

bool names(const std::vector<MirrorRow>& rows, const store::RowKey& key, bool is_erased) {
  return std::any_of(rows.begin(), rows.end(), [&](const MirrorRow& row) {
    return row.table == static_cast<std::uint8_t>(key.table) && row.a == key.a && row.b == key.b &&
           row.c == key.c && row.is_erased == is_erased;
  });
}

}  // namespace

TEST_SUITE("shard and mirrors") {
TEST_CASE("answers of a change and of reads that tell of it wait for the mirrors") {
  Mirrored b;
  const Ino other = b.mkdir(b.root(), "other", "/other")->ino;
  REQUIRE(ring::home_of(other) != ring::home_of(b.root()));
  b.rest();
  const std::uint64_t before = b.batch();
  b.confirm(before);
  CHECK(b.create_held(b.root(), "a") == 1);
  const std::uint64_t of_a = b.batch();
  CHECK(of_a > before);
  CHECK(b.held_by(wire::LookupRequest{b.root(), "a"}, ring::home_of(b.root())) == 1);
  CHECK(b.held_by(wire::GetattrRequest{b.root()}, ring::home_of(b.root())) == 1);
  CHECK(b.held_by(wire::GetattrRequest{other}, ring::home_of(other)) == 0);
  CHECK(b.create_held(b.root(), "b") == 1);
  const std::uint64_t of_b = b.batch();
  CHECK(b.shard->answers_held() == 4);
  b.confirm(of_a);
  CHECK(b.shard->answers_held() == 1);
  b.confirm(of_b);
  CHECK(b.shard->answers_held() == 0);
  CHECK(b.take().ok);
  // Errors that tell of nothing that was changed go at once, as does what is confirmed.
  CHECK(b.held_by(wire::LookupRequest{b.root(), "a"}, ring::home_of(b.root())) == 0);
  CHECK(b.create_held(other, "..") == 0);
}

TEST_CASE("without mirrors nothing waits") {
  ShardBench b;
  CHECK(b.create(b.root(), "a"));
  CHECK(b.shard->answers_held() == 0);
}

TEST_CASE("a change repeated while its answer waits takes that answer over") {
  Mirrored b;
  b.confirm(b.batch());
  CHECK(b.create_held(b.root(), "once") == 1);
  b.repeat = true;
  CHECK(b.create_held(b.root(), "once") == 0);
  CHECK(b.shard->answers_held() == 1);
  b.confirm(b.batch());
  CHECK(b.shard->answers_held() == 0);
  CHECK(b.take().ok);
}

TEST_CASE("the content of a write that no mirror has is told when they have it") {
  Mirrored b;
  const Ino file = b.create(b.root(), "f")->ino;
  REQUIRE(b.write(file, 0, "before") == Code{});
  b.confirm(b.batch());
  wire::WriteRequest write;
  write.ino = file;
  b.send(write, ring::home_of(file), as_bytes("after "));
  b.settle();
  CHECK(b.shard->answers_held() == 1);
  wire::ReadRequest read;
  read.ino = file;
  read.length = 6;
  CHECK(b.held_by(read, ring::home_of(file)) == 1);
  b.confirm(b.batch());
  CHECK(b.shard->answers_held() == 0);
  CHECK(b.read(file, 0, 6).value() == "after ");
}

TEST_CASE("a batch that fails is not told, its rows come with the next, as they are") {
  unsigned failed = 0;
  for (std::uint64_t n = 1; n < 60; ++n) {
    CAPTURE(n);
    Mirrored b;
    REQUIRE(b.create(b.root(), "there"));
    b.told.clear();
    const auto key = Shard::entry_key(b.root(), "fails");
    b.disk.fail_call(n);
    b.send(wire::CreateRequest{b.root(), "fails", 0644, 0, true, true}, ring::home_of(b.root()));
    b.settle();
    const bool has_struck = !b.disk.fault_pending();
    b.disk.no_faults();
    if (!has_struck) break;
    if (b.shard->stats().batches_failed == 0) continue;
    ++failed;
    CHECK_FALSE(b.take().ok);
    for (const auto& effects : b.told) CHECK_FALSE(names(effects.rows, key, false));
    b.told.clear();
    REQUIRE(b.create(b.root(), "next"));
    REQUIRE(!b.told.empty());
    bool is_named = false, has_next = false;
    for (const auto& effects : b.told) {
      is_named = is_named || names(effects.rows, key, true);
      has_next = has_next || names(effects.rows, Shard::entry_key(b.root(), "next"), false);
    }
    CHECK(is_named);
    CHECK(has_next);
    const auto& position = b.told.back().position;
    CHECK(position == b.shard->position());
  }
  CHECK(failed > 0);
}

TEST_CASE("an fsync waits until the mirrors have synced") {
  Mirrored b;
  const Ino file = b.create(b.root(), "f")->ino;
  REQUIRE(b.write(file, 0, "bytes") == Code{});
  b.confirm(b.batch());
  CHECK(b.held_by(wire::FsyncRequest{file}, ring::home_of(file)) == 1);
  REQUIRE(b.syncs.size() == 1);
  CHECK(b.syncs[0] == 1);
  b.confirm(b.batch() + 1);
  CHECK(b.shard->answers_held() == 1);
  // Others do not wait for it.
  CHECK(b.create_held(b.root(), "beside") == 0);
  b.take();
  b.confirm(b.batch(), 1);
  CHECK(b.shard->answers_held() == 0);
  CHECK(b.take().ok);
  // One with something open commits it before.
  b.send(wire::CreateRequest{b.root(), "g", 0644, 0, true, true}, ring::home_of(b.root()));
  b.send(wire::FsyncRequest{file}, ring::home_of(file));
  b.settle();
  REQUIRE(b.syncs.size() == 2);
  std::uint64_t of_g = 0;
  for (const auto& effects : b.told)
    if (names(effects.rows, Shard::entry_key(b.root(), "g"), false)) of_g = effects.position.batch;
  CHECK(of_g > 0);
  CHECK(of_g == b.batch());
  CHECK(b.shard->answers_held() == 2);
  b.confirm(of_g, 1);
  CHECK(b.shard->answers_held() == 1);
  b.confirm(of_g, 2);
  CHECK(b.shard->answers_held() == 0);
}

// ---- what is told is all that is done

namespace {

// Of the newest oplog row.
MirrorPosition last_in_oplog(MetadataStore& metadata, unsigned database) {
  MirrorPosition last;
  REQUIRE(metadata.scan_oplog(database, 0, [&](const auto& row) {
    auto body = wire::decode<store::OplogBody>(row.image);
    REQUIRE(body);
    last = {row.version.epoch.value, body->batch};
    return true;
  }));
  return last;
}

void copy(ShardBench& bench, MirrorRig& mirror) {
  auto catch_up = CatchUp::begin(bench.metadata(), bench.content(), ring::all_slots(),
                                 bench.shard->position(), mirror.hello());
  REQUIRE(catch_up);
  while (!(*catch_up)->is_done()) {
    auto piece = (*catch_up)->next();
    REQUIRE(piece);
    if (!*piece) {
      REQUIRE(((*catch_up)->is_done() || bench.executor().run_one()));
      continue;
    }
    REQUIRE(mirror.pass(**piece) == Code{});
    if (const auto* check = std::get_if<wire::MirrorCheckRequest>(&(*piece)->message))
      (*catch_up)->checked(check->range, mirror.last_reply<wire::MirrorCheckReply>());
  }
  REQUIRE(mirror.mark(MirrorMark::whole, bench.shard->position()) == Code{});
}

void change_at_random(ShardBench& b, SeedRandom& random, const std::vector<Ino>& dirs) {
  const auto dir = [&] { return dirs[random.below(dirs.size())]; };
  const auto name = [&] { return "n" + std::to_string(random.below(6)); };
  const Ino in = dir();
  auto file = b.lookup(in, name());
  const std::uint64_t offset = random.chance(6) ? store::kChunkBytes - 2000 : random.below(120'000);
  switch (random.below(12)) {
    case 0: (void)b.unlink(in, name()); return;
    case 1: (void)b.rename(in, name(), dir(), name()); return;
    case 2: {
      const std::string made = name();
      (void)b.mkdir(in, made, "/" + std::to_string(in.value) + "/" + made);
      return;
    }
    case 3: (void)b.rmdir(in, name()); return;
    case 4:
    case 5: {
      auto made = b.create(in, name());
      if (made && random.chance(2)) (void)b.release(made->ino);
      return;
    }
    case 6:
      if (file) (void)b.truncate(file->ino, offset);
      return;
    default:
      if (!file) file = b.create(in, name());
      if (file)
        (void)b.write(file->ino, offset, std::string(1 + random.below(30'000),
                                                     static_cast<char>('a' + random.below(26))));
      return;
  }
}

}  // namespace

TEST_CASE("what batches are told to have done makes another store equal") {
  std::size_t changes = 0, batches = 0;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    CAPTURE(seed);
    SeedRandom random(seed);
    Mirrored b;
    std::vector<Ino> dirs{b.root()};
    for (const char* name : {"x", "y", "z"})
      dirs.push_back(b.mkdir(b.root(), name, std::string("/") + name)->ino);
    MirrorRig mirror;
    copy(b, mirror);
    const MirrorPosition copied = mirror.stream().position();
    b.told.clear();
    for (int i = 0; i < 150; ++i) {
      change_at_random(b, random, dirs);
      if (random.chance(12)) b.pass(milliseconds(1100));
    }
    b.rest();
    for (const auto& effects : b.told) {
      ++batches;
      changes += effects.changes.size();
      CHECK(effects.doubtful.empty());
      CHECK(effects.position > mirror.stream().position());
      for (Piece& piece : replication::pieces_of(effects, ring::all_slots(), MirrorMark::whole))
        REQUIRE(mirror.pass(piece) == Code{});
      CHECK(mirror.stream().position() == effects.position);
    }
    CHECK((mirrored_rows(b.metadata()) == mirrored_rows(*mirror.metadata)));
    CHECK((sums_rows(b.metadata()) == sums_rows(*mirror.metadata)));
    for (const ContentId& id : contents_of(b.metadata())) (void)read_cold(mirror, id);
    // And all that the oplog says is there, too: from here a third could go on.
    for (unsigned database = 0; database < store::kDatabases; ++database) {
      const MirrorPosition last = last_in_oplog(b.metadata(), database);
      CHECK(last_in_oplog(*mirror.metadata, database) == std::max(last, copied));
    }
  }
  CHECK(changes > 50);
  CHECK(batches > 200);
}
}
