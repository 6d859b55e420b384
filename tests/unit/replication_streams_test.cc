// Streams of some slots: a mirror that has those of several primaries, beside slots of its own.
#include <doctest/doctest.h>

#include "magmad/replication/slot_rows.h"
#include "tests/unit/replication_fixture.h"

using namespace magma;
using namespace magma::test;
using replication::Mirrors;

namespace {

ring::SlotMask slots_from(unsigned first, unsigned last) {
  ring::SlotMask slots;
  for (unsigned n = first; n <= last; ++n) slots.set(n);
  return slots;
}
ring::Slot slot_of(unsigned n) { return ring::Slot(static_cast<std::uint16_t>(n)); }

// The rows of these slots.
Rows rows_in(MetadataStore& metadata, const ring::SlotMask& slots) {
  Rows rows = mirrored_rows(metadata);
  std::erase_if(rows, [&](const auto& row) {
    return !slots[std::get<1>(row.first) >> ring::kCounterBits];
  });
  return rows;
}

void check_equal_in(PrimaryRig& primary, MirrorRig& mirror, const ring::SlotMask& slots) {
  CHECK(rows_in(*primary.metadata, slots) == rows_in(*mirror.metadata, slots));
  for (const ContentId& id : contents_of(*primary.metadata))
    if (slots[id.slot.value]) CHECK((read_cold(primary, id) == read_cold(mirror, id)));
}

// A run that goes on while the rig has others.
struct Run {
  std::uint64_t run = 0, number = 0, stream = 0;
  void keep(const MirrorRig& rig) { *this = {rig.run, rig.number, rig.number_of_stream}; }
  void resume(MirrorRig& rig) const {
    rig.run = run;
    rig.number = number;
    rig.number_of_stream = stream;
  }
};

wire::MirrorBatchRequest batch_of(std::vector<MirrorRow> rows, MirrorPosition position,
                                  MirrorMark mark = MirrorMark::whole) {
  wire::MirrorBatchRequest message;
  message.rows = std::move(rows);
  message.position = position;
  message.mark = mark;
  return message;
}

const ring::SlotMask kLow = slots_from(0, 3), kHigh = slots_from(4, 7);

}  // namespace

TEST_SUITE("streams") {
TEST_CASE("slots in messages are runs, as few as there can be") {
  CHECK(ring::runs_of({}).empty());
  CHECK(ring::is_sound(ring::SlotRuns{}));
  ring::SlotMask slots = slots_from(3, 5) | slots_from(7, 7) | slots_from(4095, 4095);
  const ring::SlotRuns runs = ring::runs_of(slots);
  CHECK(runs == ring::SlotRuns{{slot_of(3), slot_of(5)}, {slot_of(7), slot_of(7)},
                               {slot_of(4095), slot_of(4095)}});
  CHECK(ring::is_sound(runs));
  CHECK(ring::set_of(runs) == slots);
  CHECK(ring::runs_of(ring::all_slots()) == ring::SlotRuns{{slot_of(0), slot_of(4095)}});
  CHECK(ring::first_of(slots) == slot_of(3));
  CHECK_FALSE(ring::is_sound({{slot_of(5), slot_of(3)}}));
  CHECK_FALSE(ring::is_sound({{slot_of(5), slot_of(4096)}}));
  CHECK_FALSE(ring::is_sound({{slot_of(5), slot_of(9)}, {slot_of(9), slot_of(10)}}));
  CHECK_FALSE(ring::is_sound({{slot_of(5), slot_of(9)}, {slot_of(10), slot_of(10)}}));  // one run
  CHECK_FALSE(ring::is_sound({{slot_of(5), slot_of(9)}, {slot_of(1), slot_of(2)}}));
}

TEST_CASE("rows of some slots: others are passed over") {
  PrimaryRig rig;
  for (unsigned slot = 0; slot < 40; ++slot) {
    rig.put(name_row(slot, 20, "a"), "");
    rig.put(name_row(slot, 20, "b"), "");
  }
  rig.end_batch();
  const ring::SlotMask slots = slots_from(4, 9) | slots_from(16, 16) | slots_from(36, 39);
  std::vector<std::string> seen;
  const auto scan = [&](const store::RowKey& from, std::size_t most) {
    seen.clear();
    REQUIRE(replication::scan_slots(*rig.metadata, 0, from, slots, [&](const auto& row) {
      seen.push_back(std::to_string(row.a >> ring::kCounterBits) + std::string(row.c));
      return seen.size() < most;
    }));
    return seen;
  };
  using Seen = std::vector<std::string>;
  CHECK(scan({Table::entry, 0, 0, {}}, 99) ==
        Seen{"4a", "4b", "8a", "8b", "16a", "16b", "36a", "36b"});
  CHECK(scan(name_row(8, 20, "b"), 99) == Seen{"8b", "16a", "16b", "36a", "36b"});
  CHECK(scan(name_row(12, 20, "b"), 2) == Seen{"16a", "16b"});
  CHECK(scan(name_row(36, 21, ""), 99).empty());
}

TEST_CASE("a stream brings its slots and touches no others") {
  PrimaryRig primary;
  MirrorRig mirror;
  const ContentId low = content_id(1, 30), high = content_id(5, 30);
  primary.name(1, "here", "1");
  primary.name(5, "there", "5");
  primary.write_at(low, 0, Bytes(9000, 'l'));
  primary.write_at(high, 0, Bytes(9000, 'h'));
  primary.end_batch();
  // The volcano's own slots.
  const auto own = name_row(6, 20, "own");
  REQUIRE(mirror.metadata->put(own, kVersion, as_bytes("mine")));
  REQUIRE(mirror.metadata->commit());
  REQUIRE(mirror.mirror->set_owned(kHigh));
  ++mirror.run;
  mirror.send_as(0, wire::MirrorHelloRequest{{}, 1, {}, 0, ring::runs_of(kHigh)});
  CHECK(mirror.code_of(mirror.sent) == Code::not_primary);

  Course course(primary, mirror, kLow);
  course.finish();
  check_equal_in(primary, mirror, kLow);
  CHECK(mirror.image(own) == "mine");
  CHECK(rows_in(*mirror.metadata, kHigh).size() == 1);
  CHECK(mirror.stream().is_whole());
  CHECK(ring::set_of(mirror.state().known) == kLow);

  // Batches: what is of other slots is left out, and nothing else is taken.
  primary.put(name_row(2, 20, "more"), "2");
  primary.put(name_row(6, 20, "not for it"), "6");
  primary.write_at(high, 100, Bytes(10, 'x'));
  const replication::Effects effects = primary.end_batch();
  CHECK(replication::concerns(effects, kLow));
  CHECK(replication::concerns(effects, kHigh));
  CHECK_FALSE(replication::concerns(effects, slots_from(8, 4095)));
  course.live(effects, MirrorMark::whole);
  check_equal_in(primary, mirror, kLow);
  CHECK(mirror.image(own) == "mine");
  CHECK(mirror.stream().position() == primary.position);
}

TEST_CASE("what is about another slot ends the run") {
  MirrorRig rig;
  const auto row = name_row(5, 20, "a");
  const auto check = [&](const auto& message, const Bytes& bytes = {}) {
    rig.hello(1, kLow);
    CHECK(rig.ask(message, bytes) == Code::malformed);
    CHECK(rig.ask(batch_of({}, {1, 1})) == Code::old_sequence);
    CHECK(rig.image(row) == "(none)");
  };
  check(batch_of({row_of(row, "x")}, {1, 1}));
  wire::MirrorBatchRequest change = batch_of({}, {1, 1});
  change.changes = {change_of(MirrorChangeKind::write, content_id(5, 30), 0, 4)};
  check(change, Bytes(4, 'a'));
  wire::MirrorBatchRequest log = batch_of({}, {1, 1});
  log.log = {{ring::Slot(5), Epoch(1), Seq(1), wire::encode(store::OplogBody{})}};
  check(log);
  wire::MirrorRowsRequest rows;
  rows.database = 1;
  rows.table = static_cast<std::uint8_t>(Table::entry);
  rows.is_first = rows.is_end = true;
  rows.rows = {row_of(row, "x")};
  check(rows);
  wire::MirrorCheckRequest sums;
  sums.range = replication::range_of(content_id(5, 30), 0, 4096);
  check(sums);
}

TEST_CASE("streams of two primaries go on beside each other") {
  MirrorRig rig;
  Run one, two;
  rig.hello(1, kLow);
  one.keep(rig);
  rig.hello(2, kHigh);
  two.keep(rig);
  one.resume(rig);
  CHECK(rig.ask(batch_of({row_of(name_row(1, 20, "a"), "1")}, {3, 1})) == Code{});
  one.keep(rig);
  two.resume(rig);
  CHECK(rig.ask(batch_of({row_of(name_row(5, 20, "b"), "2")}, {9, 7})) == Code{});
  SUBCASE("killed") { rig.reopen(false, false); }
  SUBCASE("stopped") { rig.stop_cleanly(); }
  SUBCASE("as they are") {}
  rig.run = 100;
  auto reply = rig.hello(1, kLow);
  CHECK(reply.position == MirrorPosition{3, 1});
  CHECK(ring::set_of(reply.known) == kLow);
  reply = rig.hello(2, kHigh);
  CHECK(reply.position == MirrorPosition{9, 7});
  CHECK(ring::set_of(reply.known) == kHigh);
  CHECK(rig.image(name_row(1, 20, "a")) == "1");
  CHECK(rig.image(name_row(5, 20, "b")) == "2");
}

TEST_CASE("a slot is in one stream: who comes for it later has it") {
  MirrorRig rig;
  Run first;
  rig.hello(1, kLow | kHigh);
  CHECK(rig.ask(batch_of({}, {3, 1})) == Code{});
  first.keep(rig);
  auto reply = rig.hello(2, kHigh);
  CHECK(reply.known.empty());
  Run second;
  second.keep(rig);
  first.resume(rig);
  CHECK(rig.ask(batch_of({}, {3, 2})) == Code::old_sequence);
  second.resume(rig);
  CHECK(rig.ask(batch_of({row_of(name_row(5, 20, "b"), "2")}, {9, 7})) == Code{});
  SUBCASE("at once") {}
  SUBCASE("after a kill") { rig.reopen(false, false); }
  rig.run = 100;
  reply = rig.hello(1, kLow | kHigh);
  CHECK(ring::set_of(reply.known) == kLow);
  CHECK(reply.position == MirrorPosition{3, 1});
  CHECK(rig.hello(2, kHigh).known.empty());
}

TEST_CASE("streams of one primary are put together as far as both have come") {
  MirrorRig rig;
  const auto hello = [&](std::uint16_t stream, const ring::SlotMask& slots) {
    ++rig.run;
    rig.number = 0;
    rig.number_of_stream = store::stream_number(1, stream);
    rig.send_as(0, wire::MirrorHelloRequest{{}, 1, {}, stream, ring::runs_of(slots)});
    REQUIRE(rig.code_of(rig.sent) == Code{});
    return rig.last_reply<wire::MirrorHelloReply>();
  };
  const auto oplog_row = [](unsigned slot, std::uint64_t batch) {
    return wire::MirrorLog{slot_of(slot), Epoch(3), Seq(batch),
                           wire::encode(store::OplogBody{batch, {}, {}})};
  };
  const auto pass = [&](unsigned slot, std::uint64_t batch) {
    wire::MirrorBatchRequest message = batch_of({}, {3, batch});
    message.log = {oplog_row(slot, batch)};
    CHECK(rig.ask(message) == Code{});
  };
  hello(0, kLow);
  pass(0, 5);
  hello(1, kHigh);
  pass(4, 9);
  CHECK(oplog_rows(*rig.metadata, 0) == 2);
  const auto reply = hello(0, kLow | kHigh);
  CHECK(ring::set_of(reply.known) == (kLow | kHigh));
  CHECK(reply.position == MirrorPosition{3, 5});
  CHECK(oplog_rows(*rig.metadata, 0) == 0);  // they were in no order
  pass(4, 9);
  CHECK(rig.mirror->streams().size() == 1);
  rig.reopen(false, false);
  CHECK(hello(0, kLow | kHigh).position == MirrorPosition{3, 9});
}

TEST_CASE("a cut is not seen before the rest of its batch, whatever is committed meanwhile") {
  MirrorRig rig;
  const ContentId id = content_id(1, 30), other = content_id(2, 31);
  rig.hello(1, kLow);
  const auto write = [&](const ContentId& where, MirrorPosition position) {
    wire::MirrorBatchRequest message = batch_of({length_row(where, 5000)}, position);
    message.changes = {change_of(MirrorChangeKind::write, where, 0, 5000)};
    REQUIRE(rig.ask(message, Bytes(5000, 'a')) == Code{});
  };
  write(id, {1, 1});
  write(other, {1, 2});
  const std::uint64_t far = store::kHotRangeBytes;
  wire::MirrorBatchRequest next =
      batch_of({length_row(id, 10), length_row(other, far + 4)}, {1, 3});
  next.changes = {change_of(MirrorChangeKind::truncate, id, 10, replication::kToEnd - 10),
                  change_of(MirrorChangeKind::write, other, far, 4)};
  const std::uint64_t request = rig.send(next, Bytes(4, 'b'));
  CHECK(rig.code_of(request) == MirrorRig::kNoAnswer);  // the second range of `other` is made hot
  REQUIRE(rig.metadata->put(name_row(6, 20, "own"), kVersion, as_bytes("mine")));
  REQUIRE(rig.commit());
  rig.reopen(false, false);
  CHECK((read_cold(rig, id) == Bytes(5000, 'a')));
}

TEST_CASE("the row of an earlier version is one stream of all slots") {
  MirrorRig rig;
  store::MirrorStateRow before{.primary = 1, .stream = 4, .batch = 8};
  const auto with = [&] {
    REQUIRE(rig.metadata->put({Table::mirror, 0, 0, {}}, {}, wire::encode(before)));
    REQUIRE(rig.commit());
    rig.reopen(false, false);
    return rig.hello();
  };
  CHECK(with().known.empty());
  before.is_whole = true;
  const auto reply = with();
  CHECK(MirrorRig::is_whole(reply));
  CHECK(reply.position == MirrorPosition{4, 8});
}

TEST_CASE("what a volcano serves itself is no longer known of any stream") {
  MirrorRig rig;
  rig.hello(1, kLow);
  CHECK(rig.ask(batch_of({}, {3, 1})) == Code{});
  REQUIRE(rig.mirror->set_owned(slots_from(2, 3)));
  CHECK(rig.ask(batch_of({}, {3, 2})) == Code::old_sequence);
  CHECK(ring::set_of(rig.hello(1, slots_from(0, 1)).known) == slots_from(0, 1));
  REQUIRE(rig.mirror->set_owned({}));
  CHECK(ring::set_of(rig.hello(1, kLow).known) == slots_from(0, 1));
}
}
