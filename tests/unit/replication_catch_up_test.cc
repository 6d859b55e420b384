// CatchUp: what of the oplog and of the stores goes to a mirror that returns or is new; pieces of a
// batch.
#include <doctest/doctest.h>

#include <algorithm>

#include "tests/unit/replication_fixture.h"

using namespace magma;
using namespace magma::test;

namespace {

std::vector<std::string> names_in(const std::vector<MirrorRow>& rows, bool is_erased) {
  std::vector<std::string> names;
  for (const MirrorRow& row : rows)
    if (row.table == static_cast<std::uint8_t>(Table::entry) && row.is_erased == is_erased)
      names.push_back(row.c);
  return names;
}

// Both have the same: the mirror was copied.
struct Pair {
  PrimaryRig primary;
  MirrorRig mirror;
  explicit Pair(store::MetadataOptions with = {}) : primary(with) {
    primary.name(1, "kept", "1");
    primary.name(1, "dropped", "1");
    copy();
  }
  void copy() {
    Course course(primary, mirror);
    CHECK(course.catch_up->is_copy());
    course.finish();
    check_equal(primary, mirror);
  }
  void follow() {
    Course(primary, mirror).finish();
    check_equal(primary, mirror);
  }
};

}  // namespace

TEST_SUITE("catch up") {
TEST_CASE("from a place in the oplog what was named since is sent, as it is now") {
  Pair pair;
  PrimaryRig& primary = pair.primary;
  const ContentId id = content_id(2, 30), gone = content_id(2, 31), cut = content_id(6, 32);
  for (const ContentId& each : {id, gone, cut})
    primary.write_at(each, 0, Bytes(100'000, 'a'));
  primary.end_batch();
  pair.follow();
  primary.name(1, "new", "1");
  primary.name(1, "new", "2");
  primary.name(5, "other slot", "1");
  primary.drop(name_row(1, 20, "dropped"));
  primary.end_batch();
  primary.write_at(id, 50'000, Bytes(100, 'b'));
  primary.end_batch();
  primary.cut(cut, 70'000);
  primary.end_batch();
  primary.forget(gone);
  primary.end_batch();

  Course course(primary, pair.mirror);
  CHECK_FALSE(course.catch_up->is_copy());
  course.finish();
  check_equal(primary, pair.mirror);
  CHECK(course.count<wire::MirrorCheckRequest>() == 0);
  CHECK(course.count<wire::MirrorRowsRequest>() == store::kDatabases);  // the slots' rows
  CHECK(names_in(course.rows(), false) == std::vector<std::string>{"new", "other slot"});
  CHECK(names_in(course.rows(), true) == std::vector<std::string>{"dropped"});
  const auto changes = course.changes();
  REQUIRE(changes.size() == 3);
  CHECK(changes[0].kind == MirrorChangeKind::write);
  CHECK(changes[0].range == replication::range_of(id, 50'000, 100));
  CHECK(changes[1].kind == MirrorChangeKind::truncate);
  CHECK(changes[1].range == replication::range_of(cut, 70'000, store::kChunkBytes - 70'000));
  CHECK(changes[2].kind == MirrorChangeKind::remove);
  CHECK(changes[2].range.ino == gone.ino);
  // A second time there is nothing.
  Course again(primary, pair.mirror);
  again.finish();
  CHECK(again.rows().empty());
  CHECK(again.changes().empty());
}

TEST_CASE("ranges are clipped to the length that the chunk has now") {
  Pair pair;
  PrimaryRig& primary = pair.primary;
  const ContentId id = content_id(2, 30);
  primary.write_at(id, 0, Bytes(100'000, 'a'));
  primary.end_batch();
  pair.follow();
  primary.write_at(id, 90'000, Bytes(20'000, 'b'));
  primary.end_batch();
  primary.cut(id, 95'000);
  primary.end_batch();
  Course course(primary, pair.mirror);
  course.finish();
  check_equal(primary, pair.mirror);
  std::uint64_t written = 0;
  for (const MirrorChange& change : course.changes()) {
    if (change.kind != MirrorChangeKind::write) continue;
    CHECK(change.range.offset + change.range.length <= 95'000);
    written += change.range.length;
  }
  CHECK(written == 5000);
}

TEST_CASE("ranges that a kill of the mirror may have torn are sent again") {
  Pair pair;
  const ContentId id = content_id(2, 30);
  pair.primary.write_at(id, 0, Bytes(10'000, 'a'));
  pair.primary.end_batch();
  pair.follow();
  pair.mirror.reopen(false, false);
  Course course(pair.primary, pair.mirror);
  CHECK_FALSE(course.catch_up->is_copy());
  course.finish();
  std::uint64_t written = 0;
  for (const MirrorChange& change : course.changes())
    if (change.kind == MirrorChangeKind::write) written += change.range.length;
  CHECK(written == 10'000);
  check_equal(pair.primary, pair.mirror);
}

TEST_CASE("a mirror that is not whole, of another primary, or ahead is copied") {
  Pair pair;
  pair.primary.name(1, "more", "1");
  SUBCASE("not whole") { REQUIRE(pair.mirror.mark(MirrorMark::unknown, {}) == Code{}); }
  SUBCASE("ahead") { REQUIRE(pair.mirror.mark(MirrorMark::whole, {1, 99}) == Code{}); }
  SUBCASE("of a stream that the oplog does not know") {
    REQUIRE(pair.mirror.mark(MirrorMark::whole, {2, 0}) == Code{});
  }
  SUBCASE("of an earlier time") { REQUIRE(pair.mirror.mark(MirrorMark::whole, {0, 7}) == Code{}); }
  pair.copy();
}

TEST_CASE("a mirror whose place was trimmed from the oplog is copied") {
  Pair pair({.oplog_bytes_max = 4096});
  for (int i = 0; i < 10; ++i) pair.primary.name(1, "a few", std::to_string(i));
  {
    Course course(pair.primary, pair.mirror);
    CHECK_FALSE(course.catch_up->is_copy());
    course.finish();
  }
  for (int i = 0; i < 200; ++i) pair.primary.name(1, "many", std::to_string(i));
  auto ends = pair.primary.metadata->oplog_ends(1);
  REQUIRE(ends);
  CHECK(ends->first > 20);
  pair.copy();
}

// A batch has a row a slot, and trimming ends at any row.
TEST_CASE("a batch of which the oplog has only the last rows does not count as there") {
  unsigned in_the_middle = 0;
  for (int more = 60; more < 110; ++more) {
    CAPTURE(more);
    Pair pair({.oplog_bytes_max = 8192});
    PrimaryRig& primary = pair.primary;
    const MirrorPosition before = primary.position;
    for (unsigned slot = 1; slot < 160; slot += 4) primary.put(name_row(slot, 20, "x"), "new");
    primary.end_batch();
    for (int i = 0; i < more; ++i) primary.name(1, "many", std::to_string(i));
    auto ends = primary.metadata->oplog_ends(1);
    REQUIRE(ends);
    bool is_cut = false;
    REQUIRE(primary.metadata->scan_oplog(1, ends->first, [&](const auto& row) {
      is_cut = wire::decode<store::OplogBody>(row.image)->batch == before.batch + 1 &&
               row.slot.value > 1;
      return false;
    }));
    in_the_middle += is_cut ? 1 : 0;
    Course course(primary, pair.mirror);
    course.finish();
    check_equal(primary, pair.mirror);
  }
  CHECK(in_the_middle > 0);
}

TEST_CASE("a range that changes while it is read is read again") {
  Pair pair;
  PrimaryRig& primary = pair.primary;
  const ContentId id = content_id(2, 30);
  primary.write_at(id, 0, Bytes(100'000, 'a'));
  primary.end_batch();
  bool is_other = false;
  SUBCASE("the same range") {}
  SUBCASE("another one") { is_other = true; }
  Course course(primary, pair.mirror);
  primary.disk.drop_caches();  // so that reads wait for the store's threads
  unsigned ready = 0;
  course.catch_up->on_ready([&] { ++ready; });
  while (course.step()) {
  }
  REQUIRE_FALSE(course.catch_up->is_done());
  REQUIRE(course.changes().empty());
  // The read has its bytes, but is not yet told.
  primary.executor.run_one();
  replication::Effects effects;
  const std::uint64_t at = is_other ? 200'000 : 5000;
  {
    // Without end_batch(), which would run the read to its end.
    REQUIRE(primary.content->write(id, primary.version(), at, Bytes(10, 'b'), {}));
    primary.set_size(id, std::max<std::uint64_t>(100'000, at + 10));
    primary.changes.push_back({change_of(MirrorChangeKind::write, id, at, 10), Bytes(10, 'b')});
    primary.touch(id, at, 10);
    for (auto& [slot, body] : std::exchange(primary.touched, {})) {
      body.batch = primary.position.batch + 1;
      REQUIRE(primary.metadata->append_oplog(ring::Slot(slot), primary.version(),
                                             wire::encode(body)));
    }
    REQUIRE(primary.commit());
    effects.position = {1, ++primary.position.batch};
    effects.rows = std::exchange(primary.rows, {});
    effects.changes = std::exchange(primary.changes, {});
  }
  course.live(effects);
  while (primary.executor.run_one()) {
  }
  CHECK(ready == 1);
  const std::uint64_t reads = primary.content->stats().reads_cached +
                              primary.content->stats().reads_disk;
  course.finish();
  const std::uint64_t more = primary.content->stats().reads_cached +
                             primary.content->stats().reads_disk - reads;
  CHECK(more == (is_other ? 0 : 1));
  check_equal(primary, pair.mirror);
}

TEST_CASE("a doubtful range of a batch is sent, whatever is there") {
  Pair pair;
  PrimaryRig& primary = pair.primary;
  const ContentId id = content_id(2, 30);
  primary.write_at(id, 0, Bytes(10'000, 'a'));
  primary.end_batch();
  pair.follow();
  Course course(primary, pair.mirror);
  while (course.step()) {
  }
  CHECK(course.catch_up->is_done());
  REQUIRE(primary.content->write(id, primary.version(), 100, Bytes(50, 'b'), {}));
  REQUIRE(primary.commit());
  replication::Effects effects;
  effects.doubtful = {replication::range_of(id, 100, 50)};
  course.catch_up->changed(effects);
  CHECK_FALSE(course.catch_up->is_done());
  course.finish();
  check_equal(primary, pair.mirror);
}

TEST_CASE("a copy sends every table but those that each volcano has for itself") {
  Pair pair;
  std::map<unsigned, unsigned> seen;
  REQUIRE(pair.mirror.mark(MirrorMark::unknown, {}) == Code{});
  for (unsigned table = 2; table <= store::kTableLast; ++table) {
    if (table == static_cast<unsigned>(Table::chunk)) continue;
    if (!replication::is_mirrored(static_cast<Table>(table))) continue;
    for (unsigned slot = 0; slot < 4; ++slot) {
      store::RowKey key{static_cast<Table>(table), ino_at(slot, 40).value};
      if (table > 3) key.c = "c";
      pair.primary.put(key, "row");
    }
  }
  pair.primary.end_batch();
  Course course(pair.primary, pair.mirror);
  course.finish();
  for (const Piece& piece : course.pieces)
    if (const auto* rows = std::get_if<wire::MirrorRowsRequest>(&piece.message))
      seen[rows->table] += rows->is_first && rows->is_end ? 1 : 0;
  for (unsigned table = 1; table <= store::kTableLast; ++table) {
    CAPTURE(table);
    CHECK(seen[table] ==
          (replication::is_mirrored(static_cast<Table>(table)) ? store::kDatabases : 0));
  }
  std::size_t unmirrored = 0;
  for (Table table : {Table::page_sums, Table::hot_range, Table::removal, Table::mirror})
    unmirrored += replication::is_mirrored(table) ? 0 : 1;
  CHECK(unmirrored == 4);
  check_equal(pair.primary, pair.mirror);
}

TEST_CASE("many rows and long ones go in pieces of a bounded size") {
  Pair pair;
  PrimaryRig& primary = pair.primary;
  REQUIRE(pair.mirror.mark(MirrorMark::unknown, {}) == Code{});
  for (int i = 0; i < 3000; ++i) {
    primary.put(name_row(1, 20, "n" + std::to_string(i)), std::string(20, 'x'));
    if (i % 50 == 0)
      primary.put({Table::inline_data, ino_at(1, 100 + i).value}, std::string(16'384, 'i'));
  }
  primary.end_batch();
  Course course(primary, pair.mirror);
  course.finish();  // looks at each piece
  std::size_t largest = 0;
  for (const Piece& piece : course.pieces) largest = std::max(largest, size_of(piece));
  CHECK(largest < 128 * 1024);
  CHECK(course.pieces.size() > 40);
  check_equal(primary, pair.mirror);
  // The same by the oplog.
  for (int i = 0; i < 3000; ++i) primary.put(name_row(1, 20, "n" + std::to_string(i)), "y");
  primary.end_batch();
  Course more(primary, pair.mirror);
  CHECK_FALSE(more.catch_up->is_copy());
  more.finish();
  check_equal(primary, pair.mirror);
}

// Batches that are committed meanwhile reach the mirror between the pieces. The mirror's oplog must
// then have all that a third volcano may ask for.
TEST_CASE("the mirror's own oplog has no gap after it caught up beside live batches") {
  Pair pair;
  PrimaryRig& primary = pair.primary;
  const ContentId id = content_id(2, 30);
  const std::uint64_t place = primary.position.batch + 1;
  for (int i = 0; i < 3; ++i) {
    primary.write_at(id, 0, Bytes(1000, 'a'));
    primary.end_batch();
  }
  for (int i = 0; i < 600; ++i) primary.name(2, "n" + std::to_string(i), "1");
  Course course(primary, pair.mirror);
  for (int i = 0; !course.catch_up->is_done(); ++i) {
    if (i < 7) {
      primary.put(name_row(2, 20, "live"), std::to_string(i));
      course.live(primary.end_batch());
    }
    if (!course.step()) primary.executor.run_one();
  }
  REQUIRE(pair.mirror.mark(MirrorMark::whole, primary.position) == Code{});
  check_equal(primary, pair.mirror);
  auto ends = pair.mirror.metadata->oplog_ends(2);
  REQUIRE(ends);
  std::vector<std::uint64_t> batches;
  REQUIRE(pair.mirror.metadata->scan_oplog(2, ends->first, [&](const auto& row) {
    batches.push_back(wire::decode<store::OplogBody>(row.image)->batch);
    return true;
  }));
  CHECK(std::is_sorted(batches.begin(), batches.end()));
  REQUIRE(!batches.empty());
  if (batches.front() > place) return;  // it says that it does not go back that far
  std::vector<std::uint64_t> missing;
  for (std::uint64_t batch = place; batch <= primary.position.batch; ++batch)
    if (std::find(batches.begin(), batches.end(), batch) == batches.end()) missing.push_back(batch);
  CHECK(missing.size() == 0);
}

// ---- the whole of it, at random

namespace {

struct Scene {
  SeedRandom random;
  PrimaryRig primary;
  MirrorRig mirror;
  explicit Scene(std::uint64_t seed) : random(seed), primary({.oplog_bytes_max = 16384}) {}

  ContentId some_content() {
    return content_id(static_cast<unsigned>(random.below(6)), 30 + random.below(3),
                      static_cast<std::uint32_t>(random.below(2)));
  }
  void change_rows() {
    const store::RowKey key = name_row(static_cast<unsigned>(random.below(8)),
                                       20 + random.below(3), std::to_string(random.below(12)));
    if (random.chance(4))
      primary.drop(key);
    else
      primary.put(key, std::string(random.below(300), static_cast<char>('a' + random.below(26))));
  }
  std::uint64_t some_offset() {
    return random.chance(10) ? store::kHotRangeBytes - 3000 + random.below(6000)
                             : random.below(200'000);
  }
  void change_content() {
    const ContentId id = some_content();
    switch (random.below(6)) {
      case 0: return primary.cut(id, some_offset());
      case 1: return primary.forget(id);
      default:
        return primary.write_at(id, some_offset(), random.bytes(1 + random.below(20'000)));
    }
  }
  replication::Effects change() {
    const std::uint64_t count = 1 + random.below(4);
    for (std::uint64_t i = 0; i < count; ++i)
      random.chance(2) ? change_rows() : change_content();
    return primary.end_batch();
  }
  void catch_up() {
    Course course(primary, mirror);
    (course.catch_up->is_copy() ? copies : catch_ups) += 1;
    const bool ends_early = random.chance(4);
    std::uint64_t steps = 0;
    const std::uint64_t last = random.below(30);
    while (!course.catch_up->is_done()) {
      if (random.chance(12)) course.live(change());
      if (ends_early && ++steps > last) return;
      if (!course.step()) primary.executor.run_one();
    }
    REQUIRE(mirror.mark(MirrorMark::whole, primary.position) == Code{});
    check_equal(primary, mirror);
    const std::uint64_t more = random.below(4);
    for (std::uint64_t i = 0; i < more; ++i) course.live(change(), MirrorMark::whole);
    check_equal(primary, mirror);
  }
  void fault() {
    switch (random.below(6)) {
      case 0: return mirror.reopen(false, false);
      case 1: return mirror.lose_power(random.below(1000));
      case 2: return mirror.stop_cleanly();
      case 3: return primary.begin_stream(primary.position.stream + 1);
      default: return;
    }
  }
  static inline unsigned copies = 0, catch_ups = 0;
};

}  // namespace

TEST_CASE("random changes, faults and courses: primary and mirror come to be equal") {
  Scene::copies = Scene::catch_ups = 0;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    CAPTURE(seed);
    Scene scene(seed);
    for (int round = 0; round < 6; ++round) {
      const std::uint64_t batches = scene.random.below(scene.random.chance(4) ? 300 : 25);
      for (std::uint64_t i = 0; i < batches; ++i) scene.change();
      scene.fault();
      scene.catch_up();
    }
  }
  CHECK(Scene::copies > 8);
  CHECK(Scene::catch_ups > 8);
}

// ---- batches

TEST_CASE("a batch of many large writes goes in several messages, in order") {
  const ContentId id = content_id(1, 30);
  replication::Effects effects;
  effects.position = {3, 44};
  Bytes all;
  for (unsigned i = 0; i < 5; ++i) {
    const Bytes bytes(wire::kIoBytesMax, static_cast<std::uint8_t>('a' + i));
    effects.changes.push_back(
        {change_of(MirrorChangeKind::write, id, i * bytes.size(), bytes.size()), bytes});
    effects.changes.push_back({change_of(MirrorChangeKind::write, id, i, 3), Bytes(3, 'x')});
    effects.changes.push_back({change_of(MirrorChangeKind::truncate, id, i, 0), {}});
  }
  for (const auto& change : effects.changes)
    all.insert(all.end(), change.bytes.begin(), change.bytes.end());
  for (int i = 0; i < 500; ++i)
    effects.rows.push_back(row_of(name_row(1, 20, std::to_string(i)), std::string(1000, 'r')));
  for (std::uint64_t i = 0; i < 300; ++i)
    effects.log.push_back({ring::Slot(1), Epoch(3), Seq(i), Bytes(500, 'l')});
  const auto pieces = replication::pieces_of(effects, ring::all_slots(), MirrorMark::whole);
  CHECK(pieces.size() > 5);
  wire::MirrorBatchRequest joined;
  Bytes bytes;
  for (const Piece& piece : pieces) {
    CHECK(size_of(piece) <= (1u << 20) + 65536 - 100);  // room for the heads
    const auto& message = std::get<wire::MirrorBatchRequest>(piece.message);
    const bool is_last = &piece == &pieces.back();
    CHECK(message.is_last == is_last);
    CHECK(message.mark == (is_last ? MirrorMark::whole : MirrorMark::keep));
    CHECK(message.position == effects.position);
    if (!message.rows.empty()) CHECK(joined.log.empty());
    if (!message.changes.empty()) CHECK(joined.rows.empty());
    std::uint64_t told = 0;
    for (const MirrorChange& change : message.changes)
      if (change.kind == MirrorChangeKind::write) told += change.range.length;
    CHECK(told == piece.bytes.size());
    joined.changes.insert(joined.changes.end(), message.changes.begin(), message.changes.end());
    joined.rows.insert(joined.rows.end(), message.rows.begin(), message.rows.end());
    joined.log.insert(joined.log.end(), message.log.begin(), message.log.end());
    bytes.insert(bytes.end(), piece.bytes.begin(), piece.bytes.end());
  }
  CHECK((bytes == all));
  REQUIRE(joined.changes.size() == effects.changes.size());
  for (std::size_t i = 0; i < joined.changes.size(); ++i) {
    CHECK(joined.changes[i].kind == effects.changes[i].what.kind);
    CHECK(joined.changes[i].range == effects.changes[i].what.range);
  }
  REQUIRE(joined.rows.size() == effects.rows.size());
  for (std::size_t i = 0; i < joined.rows.size(); ++i) CHECK(joined.rows[i].c == effects.rows[i].c);
  REQUIRE(joined.log.size() == effects.log.size());
  for (std::size_t i = 0; i < joined.log.size(); ++i) CHECK(joined.log[i].seq == Seq(i));
  // An empty one is one message.
  const auto empty = replication::pieces_of({}, ring::all_slots(), MirrorMark::keep);
  REQUIRE(empty.size() == 1);
  CHECK(std::get<wire::MirrorBatchRequest>(empty[0].message).is_last);
}
}
