// Mirror: the order of a run, what batches, rows and checks do to the stores, and how far it says
// it has come, also after kills and power cuts.
#include <doctest/doctest.h>

#include "magmad/store/page_sums.h"
#include "magmad/store/content_files.h"
#include "tests/unit/replication_fixture.h"

using namespace magma;
using namespace magma::test;
using store::kPageBytes;

namespace {

wire::MirrorBatchRequest rows_batch(std::vector<MirrorRow> rows) {
  wire::MirrorBatchRequest message;
  message.rows = std::move(rows);
  return message;
}
wire::MirrorBatchRequest whole_batch(std::uint64_t batch, std::vector<MirrorRow> rows = {}) {
  wire::MirrorBatchRequest message = rows_batch(std::move(rows));
  message.mark = MirrorMark::whole;
  message.position = {1, batch};
  return message;
}
wire::MirrorBatchRequest changes_batch(std::vector<MirrorChange> changes,
                                       std::vector<MirrorRow> rows = {}) {
  wire::MirrorBatchRequest message = rows_batch(std::move(rows));
  message.changes = std::move(changes);
  return message;
}
Bytes filled(std::size_t size, char with) {
  return Bytes(size, static_cast<std::uint8_t>(with));
}
Code send_write(MirrorRig& rig, const ContentId& id, std::uint64_t offset, const Bytes& bytes,
           std::uint64_t length) {
  return rig.ask(changes_batch({change_of(MirrorChangeKind::write, id, offset, bytes.size())},
                               {length_row(id, length)}),
                 bytes);
}
MirrorPosition durable(const store::MirrorStreamRow& state) {
  return {state.durable_epoch, state.durable_batch};
}

}  // namespace

TEST_SUITE("mirror") {
TEST_CASE("messages are done in the order of their numbers, those of other runs are refused") {
  MirrorRig rig;
  const auto first = name_row(1, 20, "first"), second = name_row(1, 20, "second");
  CHECK(rig.ask(rows_batch({})) == Code::old_sequence);  // before any hello
  rig.hello();
  const auto three = rig.send_as(3, rows_batch({row_of(first, "three")}));
  const auto two = rig.send_as(2, rows_batch({row_of(first, "two"), row_of(second, "two")}));
  rig.run_all();
  CHECK(rig.code_of(two) == MirrorRig::kNoAnswer);
  CHECK(rig.code_of(three) == MirrorRig::kNoAnswer);
  CHECK(rig.image(first) == "(none)");
  const auto one = rig.send_as(1, rows_batch({row_of(first, "one")}));
  for (std::uint64_t request : {one, two, three}) CHECK(rig.code_of(request) == Code{});
  CHECK(rig.image(first) == "three");
  CHECK(rig.image(second) == "two");
  CHECK(rig.code_of(rig.send_as(3, rows_batch({row_of(first, "again")}))) == Code::old_sequence);
  CHECK(rig.image(first) == "three");
  // A hello ends the run before it and what waits of that.
  const auto late = rig.send_as(6, rows_batch({row_of(first, "late")}));
  rig.hello();
  CHECK(rig.code_of(late) == Code::old_sequence);
  --rig.run;
  CHECK(rig.code_of(rig.send_as(1, rows_batch({row_of(first, "other")}))) == Code::old_sequence);
  CHECK(rig.code_of(rig.send_as(1, wire::MirrorSyncRequest{})) == Code::old_sequence);
  ++rig.run;
  CHECK(rig.ask(rows_batch({row_of(second, "new run")})) == Code{});
  CHECK(rig.image(first) == "three");
  CHECK(rig.image(second) == "new run");
}

TEST_CASE("a batch in several messages happens with the last of them") {
  MirrorRig rig;
  rig.hello();
  const auto key = name_row(2, 20, "name");
  const ContentId id = content_id(2, 30);
  auto part = changes_batch({change_of(MirrorChangeKind::write, id, 0, 5000)},
                            {row_of(key, "part"), length_row(id, 9000)});
  part.is_last = false;
  const auto one = rig.send(part, filled(5000, 'a'));
  auto more = changes_batch({change_of(MirrorChangeKind::write, id, 5000, 4000)});
  more.is_last = false;
  const auto two = rig.send(more, filled(4000, 'b'));
  rig.run_all();
  CHECK(rig.code_of(one) == MirrorRig::kNoAnswer);
  CHECK(rig.image(key) == "(none)");
  CHECK(rig.length_of(id) == 0);
  SUBCASE("which comes") {
    auto last = whole_batch(7, {row_of(key, "last")});
    CHECK(rig.ask(last) == Code{});
    CHECK(rig.code_of(one) == Code{});
    CHECK(rig.code_of(two) == Code{});
    CHECK(rig.image(key) == "last");
    Bytes want = filled(5000, 'a');
    want.resize(9000, 'b');
    CHECK((read_cold(rig, id) == want));
    CHECK(rig.stream().position() == MirrorPosition{1, 7});
    CHECK(rig.mirror->stats().batches == 1);
  }
  SUBCASE("which never comes") {
    rig.hello();
    CHECK(rig.code_of(one) == Code::old_sequence);
    CHECK(rig.code_of(two) == Code::old_sequence);
    CHECK(rig.ask(rows_batch({})) == Code{});
    CHECK(rig.image(key) == "(none)");
    CHECK(rig.length_of(id) == 0);
  }
}

TEST_CASE("rows are put with the primary's versions and erased") {
  MirrorRig rig;
  rig.hello();
  const auto one = name_row(3, 20, "one"), two = name_row(3, 20, "two");
  CHECK(rig.ask(rows_batch({row_of(one, "1", version(5, 9)), row_of(two, "2", version(6, 1))})) ==
        Code{});
  auto row = rig.metadata->get(two);
  REQUIRE(row);
  REQUIRE(row->has_value());
  CHECK((*row)->version == version(6, 1));
  CHECK(rig.ask(rows_batch({row_of(one, "", version(5, 10)), erased(two), erased(two)})) ==
        Code{});
  CHECK(rig.image(one) == "");
  CHECK(rig.image(two) == "(none)");
  CHECK(rig.mirror->stats().rows == 5);
}

TEST_CASE("contents are written, cut, punched and removed") {
  MirrorRig rig;
  rig.hello();
  const ContentId id = content_id(2, 30, 4);
  Bytes model = filled(100'000, 'a');
  CHECK(send_write(rig, id, 0, model, model.size()) == Code{});
  CHECK((read_cold(rig, id) == model));
  SUBCASE("cut, then written behind the cut, in one batch") {
    const Bytes tail = filled(3000, 'b');
    auto message = changes_batch({change_of(MirrorChangeKind::truncate, id, 100, 0),
                                  change_of(MirrorChangeKind::write, id, 5000, tail.size())},
                                 {length_row(id, 8000)});
    CHECK(rig.ask(message, tail) == Code{});
    model.resize(100);
    model.resize(5000);
    model.resize(8000, 'b');
  }
  SUBCASE("removed, then written anew, in one batch") {
    const Bytes anew = filled(9, 'c');
    auto message = changes_batch({change_of(MirrorChangeKind::remove, id, 0, replication::kToEnd),
                                  change_of(MirrorChangeKind::write, id, 50'000, anew.size())},
                                 {length_row(id, 50'009)});
    CHECK(rig.ask(message, anew) == Code{});
    model = filled(50'000, '\0');
    model.resize(50'009, 'c');
  }
  SUBCASE("written, cut, written again, in one batch") {
    Bytes both = filled(10'000, 'd');
    both.resize(10'004, 'e');
    auto message = changes_batch({change_of(MirrorChangeKind::write, id, 0, 10'000),
                                  change_of(MirrorChangeKind::truncate, id, 6, 0),
                                  change_of(MirrorChangeKind::write, id, 8, 4)},
                                 {length_row(id, 12)});
    CHECK(rig.ask(message, both) == Code{});
    const std::string_view want("dddddd\0\0eeee", 12);
    model.assign(want.begin(), want.end());
  }
  SUBCASE("punched") {
    CHECK(rig.ask(changes_batch({change_of(MirrorChangeKind::punch, id, 10'000, 70'000),
                                 change_of(MirrorChangeKind::punch, id, 0, 0)})) == Code{});
    std::fill_n(model.begin() + 10'000, 70'000, 0);
  }
  SUBCASE("extended") {
    CHECK(rig.ask(changes_batch({change_of(MirrorChangeKind::truncate, id, 200'000, 0)},
                                {length_row(id, 200'000)})) == Code{});
    model.resize(200'000);
  }
  SUBCASE("two contents at once, each after its cut") {
    const ContentId other = content_id(2, 31);
    const Bytes tail = filled(8, 'f');
    auto message = changes_batch({change_of(MirrorChangeKind::truncate, id, 10, 0),
                                  change_of(MirrorChangeKind::write, other, 0, 4),
                                  change_of(MirrorChangeKind::write, id, 10, 4)},
                                 {length_row(id, 14), length_row(other, 4)});
    CHECK(rig.ask(message, tail) == Code{});
    model.resize(10);
    model.resize(14, 'f');
    CHECK((read_cold(rig, other) == filled(4, 'f')));
  }
  CHECK((read_cold(rig, id) == model));
  CHECK(rig.mark(MirrorMark::whole, {1, 5}) == Code{});
  rig.stop_cleanly();
  CHECK((read_cold(rig, id) == model));
  rig.hello();
  CHECK(rig.ask(changes_batch({change_of(MirrorChangeKind::remove, id, 0, 0)},
                              {erased(id.row(Table::chunk))})) == Code{});
  rig.tick();
  CHECK(rig.read(id, 0, 100).value() == filled(100, '\0'));
  CHECK(rig.disk.files().size() == rig.disk.copy()->files().size());
  CHECK(*rig.content->allocated_bytes(id) == 0);
}

TEST_CASE("what comes while a batch waits for the disk waits too") {
  MirrorRig rig;
  rig.hello();
  const ContentId id = content_id(2, 30);
  CHECK(send_write(rig, id, 0, filled(10, 'a'), 10) == Code{});  // the next needs another hot range
  const auto far = rig.send(changes_batch(
      {change_of(MirrorChangeKind::write, id, 2 * store::kHotRangeBytes, 3)},
      {length_row(id, 2 * store::kHotRangeBytes + 3)}), filled(3, 'b'));
  const auto key = name_row(1, 20, "after");
  const auto after = rig.send(rows_batch({row_of(key, "after")}));
  CHECK(rig.code_of(far) == MirrorRig::kNoAnswer);
  CHECK(rig.code_of(after) == MirrorRig::kNoAnswer);
  CHECK(rig.image(key) == "(none)");
  SUBCASE("and goes on") {
    rig.run_all();
    CHECK(rig.code_of(far) == Code{});
    CHECK(rig.code_of(after) == Code{});
    CHECK(rig.image(key) == "after");
  }
  SUBCASE("or ends with a new run") {
    rig.hello();
    CHECK(rig.code_of(far) == Code::old_sequence);
    CHECK(rig.code_of(after) == Code::old_sequence);
    const auto next = rig.send(rows_batch({row_of(key, "next")}));
    CHECK(rig.code_of(next) == Code{});
    rig.run_all();
    CHECK(rig.image(key) == "next");
    CHECK(rig.length_of(id) == 10);
    CHECK((read_cold(rig, id) == filled(10, 'a')));
  }
}

// A batch whose second change waits for the disk has cut a content in the open transaction.
TEST_CASE("a run that ends in the middle of a batch leaves no cut behind that nobody settles") {
  MirrorRig rig;
  rig.hello();
  const ContentId id = content_id(2, 30), other = content_id(2, 31);
  CHECK(send_write(rig, id, 0, filled(10'000, 'a'), 10'000) == Code{});
  CHECK(send_write(rig, other, 0, filled(10'000, 'a'), 10'000) == Code{});
  CHECK(rig.ask(changes_batch({change_of(MirrorChangeKind::truncate, other, 5, 0)},
                              {length_row(other, 5)})) == Code{});
  const auto middle = rig.send(changes_batch({change_of(MirrorChangeKind::truncate, id, 5, 0),
                                              change_of(MirrorChangeKind::write, other, 5, 1)}),
                               filled(1, 'b'));
  CHECK(rig.code_of(middle) == MirrorRig::kNoAnswer);
  rig.hello();
  CHECK(rig.code_of(middle) == Code::old_sequence);
  const auto next = rig.send(changes_batch({change_of(MirrorChangeKind::write, id, 0, 2)}),
                             filled(2, 'c'));
  rig.run_all();
  CHECK(rig.code_of(next) == Code{});
}

// ---- marks

TEST_CASE("a mirror knows how far it has come, also after the next start") {
  MirrorRig rig;
  auto reply = rig.hello(4);
  CHECK_FALSE(MirrorRig::is_whole(reply));
  CHECK_FALSE(rig.stream().is_whole());
  CHECK(rig.mark(MirrorMark::unknown, {}) == Code{});
  CHECK(rig.mark(MirrorMark::keep, {2, 8}) == Code{});
  CHECK_FALSE(rig.stream().is_whole());
  CHECK(rig.stream().position() == MirrorPosition{});
  CHECK(rig.mark(MirrorMark::whole, {2, 9}) == Code{});
  CHECK(rig.stream().is_whole());
  CHECK(rig.stream().position() == MirrorPosition{2, 9});
  CHECK(ring::set_of(rig.state().known).all());
  CHECK_FALSE(rig.state().is_mixed);
  for (unsigned database = 0; database < store::kDatabases; ++database)
    CHECK(oplog_rows(*rig.metadata, database) == 1);  // a place to go on from
  SUBCASE("clean") { rig.stop_cleanly(); }
  SUBCASE("killed") { rig.reopen(false, false); }
  CHECK(rig.stream().is_whole());
  CHECK(rig.stream().position() == MirrorPosition{2, 9});
  CHECK_FALSE(MirrorRig::is_whole(rig.hello(5)));  // of another primary
  CHECK_FALSE(MirrorRig::is_whole(rig.hello(5)));
  CHECK(rig.mark(MirrorMark::whole, {3, 1}) == Code{});
  CHECK(MirrorRig::is_whole(rig.hello(5)));
  CHECK(rig.mark(MirrorMark::keep, {3, 2}) == Code{});  // catches up
  CHECK_FALSE(rig.stream().is_whole());
  CHECK(rig.stream().position() == MirrorPosition{3, 1});
  CHECK(rig.state().is_mixed);
  rig.reopen(false, false);
  CHECK_FALSE(rig.stream().is_whole());
  reply = rig.hello(5);
  CHECK(MirrorRig::is_whole(reply));
  CHECK(reply.position == MirrorPosition{3, 1});
  CHECK(rig.mark(MirrorMark::whole, {3, 4}) == Code{});
  CHECK(rig.stream().is_whole());
  CHECK(rig.mark(MirrorMark::unknown, {}) == Code{});
  for (unsigned database = 0; database < store::kDatabases; ++database)
    CHECK(oplog_rows(*rig.metadata, database) == 0);
  rig.reopen(false, false);
  CHECK_FALSE(MirrorRig::is_whole(rig.hello(5)));
}

TEST_CASE("after a power cut a mirror has come as far as was synced") {
  unsigned rows_lost = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    MirrorRig rig;
    rig.hello();
    CHECK(rig.ask(whole_batch(1, {row_of(name_row(1, 20, "a"), "1")})) == Code{});
    CHECK(rig.ask(wire::MirrorSyncRequest{}) == Code{});
    // The next batch's row says so, and is itself synced by the timer.
    CHECK(rig.ask(whole_batch(2, {row_of(name_row(1, 20, "b"), "2")})) == Code{});
    CHECK(durable(rig.state()) == MirrorPosition{1, 1});
    CHECK(rig.mirror->deadline() < Instant::never());
    rig.mirror->on_timer();
    rig.run_all();
    CHECK(rig.mirror->deadline() == Instant::never());
    CHECK(rig.ask(whole_batch(3, {row_of(name_row(1, 20, "c"), "3")})) == Code{});
    rig.lose_power(seed);
    CHECK(rig.image(name_row(1, 20, "b")) == "2");
    rows_lost += rig.image(name_row(1, 20, "c")) == "(none)" ? 1 : 0;
    const auto reply = rig.hello();
    CHECK(MirrorRig::is_whole(reply));
    CHECK(reply.position <= MirrorPosition{1, 2});
    CHECK(reply.position >= MirrorPosition{1, 1});
  }
  CHECK(rows_lost > 0);
}

TEST_CASE("after a kill the ranges that may be torn are told until it is whole again") {
  MirrorRig rig;
  rig.hello();
  const ContentId id = content_id(2, 30);
  CHECK(send_write(rig, id, 5, filled(10, 'a'), 15) == Code{});
  CHECK(rig.mark(MirrorMark::whole, {1, 1}) == Code{});
  rig.reopen(false, false);
  auto reply = rig.hello();
  CHECK(MirrorRig::is_whole(reply));
  REQUIRE(reply.torn.size() == 1);
  CHECK(reply.torn[0] == replication::range_of(id, 0, store::kHotRangeBytes));
  CHECK(rig.hello().torn.size() == 1);
  CHECK(rig.mark(MirrorMark::whole, {1, 2}) == Code{});
  CHECK(rig.hello().torn.empty());
}

TEST_CASE("a file that a kill has left without rows is removed after the start") {
  MirrorRig rig;
  rig.hello();
  const ContentId known = content_id(2, 30), lost = content_id(2, 31);
  CHECK(send_write(rig, known, 0, filled(5000, 'a'), 5000) == Code{});
  CHECK(rig.mark(MirrorMark::whole, {1, 1}) == Code{});
  rig.now = rig.now + seconds(60);
  for (int i = 0; i < 10; ++i) rig.tick();
  REQUIRE(rig.write(lost, 0, filled(5000, 'b')));  // no commit: the kill takes its rows
  rig.reopen(false, false);
  CHECK(rig.disk.exists(store::content_path(lost)).value());
  SUBCASE("") {}
  SUBCASE("also if that one ends before") { rig.stop_cleanly(); }
  for (int i = 0; i < 10; ++i) rig.tick();
  CHECK_FALSE(rig.disk.exists(store::content_path(lost)).value());
  CHECK_FALSE(rig.disk.exists(store::kUnsweptMark).value());
  CHECK((read_cold(rig, known) == filled(5000, 'a')));
}

TEST_CASE("oplog rows that come twice or late are not put again") {
  MirrorRig rig;
  rig.hello();
  CHECK(rig.mark(MirrorMark::whole, {1, 2}) == Code{});  // with a row of batch 2
  const auto log = [](std::uint64_t batch) {
    return wire::MirrorLog{ring::Slot(1), Epoch(1), Seq(batch),
                           wire::encode(store::OplogBody{batch, {}, {}})};
  };
  wire::MirrorBatchRequest message;
  message.log = {log(3), log(4)};
  CHECK(rig.ask(message) == Code{});
  message.log = {log(3), log(5)};
  CHECK(rig.ask(message) == Code{});
  CHECK(oplog_rows(*rig.metadata, 1) == 4);
  CHECK(oplog_rows(*rig.metadata, 0) == 1);
  std::vector<std::uint64_t> batches;
  REQUIRE(rig.metadata->scan_oplog(1, 0, [&](const auto& row) {
    batches.push_back(wire::decode<store::OplogBody>(row.image)->batch);
    return true;
  }));
  CHECK(batches == std::vector<std::uint64_t>{2, 3, 4, 5});
  rig.reopen(false, false);
  rig.hello();
  message.log = {log(4), log(6)};
  CHECK(rig.ask(message) == Code{});
  CHECK(oplog_rows(*rig.metadata, 1) == 5);
}

// ---- copies

TEST_CASE("rows of a copy: what is not named within its bounds is dropped, with its content") {
  MirrorRig rig;
  rig.hello();
  std::vector<MirrorRow> before;
  for (const char* name : {"a", "b", "c", "d", "e"})
    before.push_back(row_of(name_row(1, 20, name), name));
  before.push_back(row_of(name_row(1, 21, "a"), "another directory"));
  before.push_back(row_of(name_row(2, 20, "a"), "another database"));
  CHECK(rig.ask(rows_batch(before)) == Code{});
  const auto names = [&] {
    std::string all;
    for (const auto& [key, image] : mirrored_rows(*rig.metadata)) all += std::get<3>(key);
    return all;
  };
  CHECK(names() == "abcdeaa");
  wire::MirrorRowsRequest message;
  message.database = 1;
  message.table = static_cast<std::uint8_t>(Table::entry);
  const auto key = name_row(1, 20, "b");
  message.after = {key.a, key.b, key.c};
  SUBCASE("between two keys") {
    message.rows = {row_of(name_row(1, 20, "cc"), "new"), row_of(name_row(1, 20, "d"), "D")};
    CHECK(rig.ask(message) == Code{});
    CHECK(names() == "abccdeaa");
    CHECK(rig.image(name_row(1, 20, "d")) == "D");
  }
  SUBCASE("to the end") {
    message.is_end = true;
    CHECK(rig.ask(message) == Code{});
    CHECK(names() == "aba");
    CHECK(rig.image(name_row(2, 20, "a")) == "another database");
  }
  SUBCASE("from the first on") {
    message.is_first = true;
    message.after = {};
    message.rows = {row_of(name_row(1, 20, "b"), "b")};
    CHECK(rig.ask(message) == Code{});
    CHECK(names() == "bcdeaa");
  }
  SUBCASE("all, none told") {
    message.is_first = message.is_end = true;
    message.after = {};
    CHECK(rig.ask(message) == Code{});
    CHECK(names() == "a");
  }
  CHECK(rig.state().is_mixed);
}

TEST_CASE("a chunk's row that a copy drops takes its content with it") {
  MirrorRig rig;
  rig.hello();
  const ContentId kept = content_id(1, 30), gone = content_id(1, 31, 2);
  CHECK(send_write(rig, kept, 0, filled(10, 'a'), 10) == Code{});
  CHECK(send_write(rig, gone, 0, filled(10'000, 'b'), 10'000) == Code{});
  wire::MirrorRowsRequest message;
  message.database = 1;
  message.table = static_cast<std::uint8_t>(Table::chunk);
  message.is_first = message.is_end = true;
  message.rows = {length_row(kept, 10)};
  CHECK(rig.ask(message) == Code{});
  rig.tick();
  CHECK(rig.length_of(gone) == 0);
  CHECK(*rig.content->allocated_bytes(gone) == 0);
  CHECK((read_cold(rig, kept) == filled(10, 'a')));
  for (const auto& [key, image] : sums_rows(*rig.metadata))
    CHECK(std::get<2>(key) == kept.ino.value);
}

// ---- checks

namespace {

// A check of the rig's content against these bytes of a primary.
wire::MirrorCheckRequest check_of(const ContentId& id, const Bytes& bytes) {
  ContentRig other;
  REQUIRE(other.write(id, 0, bytes));
  wire::MirrorCheckRequest message;
  message.range = replication::range_of(id, 0, bytes.size());
  for (const auto& [key, image] : sums_rows(*other.metadata)) {
    Bytes sums;
    REQUIRE(from_hex(image, sums));
    message.sums.push_back({*store::four_byte_number(std::get<3>(key)), sums});
  }
  return message;
}
std::vector<std::pair<std::uint64_t, std::uint64_t>> differences(MirrorRig& rig) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> all;
  for (const auto& span : rig.last_reply<wire::MirrorCheckReply>().different)
    all.emplace_back(span.offset, span.length);
  return all;
}
using Spans = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

}  // namespace

TEST_CASE("a check finds the pages that differ, no others") {
  MirrorRig rig;
  rig.hello();
  const ContentId id = content_id(3, 30);
  Bytes bytes = SeedRandom(1).bytes(300 * kPageBytes + 77);  // over two rows of sums
  const Bytes front(bytes.begin(), bytes.begin() + 500'000);
  const Bytes rest(bytes.begin() + 500'000, bytes.end());
  CHECK(send_write(rig, id, 0, front, 500'000) == Code{});
  CHECK(send_write(rig, id, 500'000, rest, bytes.size()) == Code{});
  CHECK(rig.ask(check_of(id, bytes)) == Code{});
  CHECK(differences(rig) == Spans{});
  bytes[5 * kPageBytes] ^= 1;
  bytes[6 * kPageBytes + 4095] ^= 1;
  bytes[255 * kPageBytes] ^= 1;
  bytes[256 * kPageBytes] ^= 1;
  bytes.back() ^= 1;
  CHECK(rig.ask(check_of(id, bytes)) == Code{});
  CHECK(differences(rig) == Spans{{5 * kPageBytes, 2 * kPageBytes},
                                  {255 * kPageBytes, 2 * kPageBytes},
                                  {300 * kPageBytes, 77}});
  // Of a content that is not there all that is not zero differs.
  Bytes sparse(10 * kPageBytes);
  sparse[3 * kPageBytes + 1] = 1;
  CHECK(rig.ask(check_of(content_id(3, 31), sparse)) == Code{});
  CHECK(differences(rig) == Spans{{3 * kPageBytes, kPageBytes}});
  CHECK(rig.mirror->stats().checks == 3);
}

TEST_CASE("a check cuts a longer content, also within its last page") {
  MirrorRig rig;
  rig.hello();
  const ContentId id = content_id(3, 30);
  const Bytes bytes = SeedRandom(1).bytes(20 * kPageBytes);
  CHECK(send_write(rig, id, 0, bytes, bytes.size()) == Code{});
  std::uint64_t length = 0;
  SUBCASE("pages") { length = 3 * kPageBytes; }
  SUBCASE("pages and a part") { length = 3 * kPageBytes + 5; }
  SUBCASE("a part of the last page") { length = 19 * kPageBytes + 5; }
  SUBCASE("all") { length = 0; }
  const Bytes shorter(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length));
  auto check = check_of(id, shorter);
  CHECK(rig.ask(check) == Code{});
  // What it reports is sent again; what lies beyond is zeros.
  for (const auto& [offset, size] : differences(rig)) {
    const Bytes part(shorter.begin() + static_cast<std::ptrdiff_t>(offset),
                     shorter.begin() + static_cast<std::ptrdiff_t>(offset + size));
    CHECK(send_write(rig, id, offset, part, length) == Code{});
  }
  Bytes want = shorter;
  want.resize(bytes.size());
  CHECK((rig.read(id, 0, bytes.size()).value() == want));
  CHECK(rig.ask(check) == Code{});
  CHECK(differences(rig) == Spans{});
}

// ---- what is refused

namespace {

// A mirror with a row and a content, to be left as they are.
struct Refusing : MirrorRig {
  const store::RowKey key = name_row(1, 20, "kept");
  const ContentId id = content_id(1, 30);
  Refusing() {
    hello();
    CHECK(send_write(*this, id, 0, filled(9000, 'a'), 9000) == Code{});
    CHECK(ask(whole_batch(3, {row_of(key, "kept")})) == Code{});
  }
  // The run has ended and nothing has changed; another one goes well.
  void check_refused(Code got, Code want = Code::malformed) {
    CHECK(got == want);
    CHECK(ask(rows_batch({})) == Code::old_sequence);
    const auto reply = hello();
    CHECK(MirrorRig::is_whole(reply));
    CHECK(reply.position == MirrorPosition{1, 3});
    CHECK_FALSE(state().is_mixed);
    CHECK(image(key) == "kept");
    CHECK(mirrored_rows(*metadata).size() == 2);
    CHECK((read_cold(*this, id) == filled(9000, 'a')));
    CHECK(ask(whole_batch(4, {row_of(name_row(1, 20, "more"), "")})) == Code{});
    CHECK(metadata->erase(name_row(1, 20, "more")));
    CHECK(mark(MirrorMark::whole, {1, 3}) == Code{});
  }
  void check_refused(const wire::MirrorBatchRequest& message, ByteSpan bytes = {}) {
    check_refused(ask(message, bytes));
  }
};

MirrorRow of_table(unsigned table) {
  MirrorRow row = row_of(name_row(1, 20, "bad"), "bad");
  row.table = static_cast<std::uint8_t>(table);
  return row;
}

}  // namespace

TEST_CASE("malformed batches are refused, end the run, change nothing") {
  Refusing rig;
  const auto good = row_of(name_row(1, 20, "good"), "good");
  for (unsigned table : {0u, unsigned{store::kTableLast} + 1, 255u})
    rig.check_refused(rows_batch({good, of_table(table)}));
  for (Table table : {Table::page_sums, Table::hot_range, Table::removal, Table::mirror})
    rig.check_refused(rows_batch({good, of_table(static_cast<unsigned>(table))}));
  const auto with = [&](MirrorChange change, ByteSpan bytes = {}) {
    CAPTURE(static_cast<int>(change.kind));
    rig.check_refused(changes_batch({change}, {good}), bytes);
  };
  const std::uint64_t end = store::kChunkBytes;
  for (auto kind : {MirrorChangeKind::write, MirrorChangeKind::truncate, MirrorChangeKind::punch,
                    MirrorChangeKind::remove}) {
    with({kind, {ring::Slot(ring::kSlotCount), rig.id.ino, 0, 0, 0}});
    with({kind, {ring::Slot(65535), rig.id.ino, 0, 0, 0}});
    with(change_of(kind, rig.id, end + 1, 0));
    with(change_of(kind, rig.id, end, 1), filled(1, 'x'));
    with(change_of(kind, rig.id, 1, ~std::uint64_t{0}));
    with(change_of(kind, rig.id, ~std::uint64_t{0}, 2), filled(2, 'x'));
  }
  with(change_of(static_cast<MirrorChangeKind>(0), rig.id, 0, 0));
  with(change_of(static_cast<MirrorChangeKind>(5), rig.id, 0, 0));
  with(change_of(MirrorChangeKind::write, rig.id, 0, wire::kIoBytesMax + 1),
       Bytes(wire::kIoBytesMax + 1));
  for (std::size_t told : {0u, 4u, 6u}) with(change_of(MirrorChangeKind::write, rig.id, 0, 5),
                                             filled(told, 'x'));
  with(change_of(MirrorChangeKind::truncate, rig.id, 0, 1), filled(1, 'x'));
  auto marked = rows_batch({good});
  marked.mark = static_cast<MirrorMark>(3);
  rig.check_refused(marked);
  auto logged = rows_batch({good});
  logged.log = {{ring::Slot(ring::kSlotCount), Epoch(1), Seq(1), {}}};
  rig.check_refused(logged);
  logged.log = {{ring::Slot(1), Epoch(1), Seq(1), filled(3, 'x')}};
  rig.check_refused(logged);
  // In a part, told when the last one has come.
  auto part = rows_batch({of_table(0)});
  part.is_last = false;
  const auto first = rig.send(part);
  rig.check_refused(rows_batch({good}));
  CHECK(rig.code_of(first) == Code::malformed);
}

TEST_CASE("malformed rows and checks are refused, end the run, change nothing") {
  Refusing rig;
  wire::MirrorRowsRequest rows;
  rows.database = 1;
  rows.table = static_cast<std::uint8_t>(Table::entry);
  rows.is_first = rows.is_end = true;
  const auto refused = [&](auto change) {
    auto message = rows;
    change(message);
    rig.check_refused(rig.ask(message));
  };
  refused([](auto& message) { message.database = store::kDatabases; });
  refused([](auto& message) { message.database = 255; });
  for (unsigned table : {0u, unsigned{store::kTableLast} + 1, 255u, 8u, 9u, 18u, 20u})
    refused([&](auto& message) { message.table = static_cast<std::uint8_t>(table); });
  refused([](auto& message) { message.is_end = false; });
  refused([](auto& message) { message.rows = {of_table(2)}; });
  refused([](auto& message) { message.rows = {erased(name_row(1, 20, "kept"))}; });

  const auto check = [&](wire::MirrorRange range, std::vector<wire::MirrorSums> sums = {}) {
    wire::MirrorCheckRequest message;
    message.range = range;
    message.sums = std::move(sums);
    rig.check_refused(rig.ask(message));
  };
  const auto range = replication::range_of(rig.id, 0, 9000);
  check(replication::range_of(rig.id, 0, store::kChunkBytes + 1));
  check(replication::range_of(rig.id, 1, store::kChunkBytes));
  check({ring::Slot(ring::kSlotCount), rig.id.ino, 0, 0, 9000});
  check(range, {{0, Bytes(3)}});
  check(range, {{0, Bytes(4 * 257)}});
  check(range, {{64, Bytes(4)}});
  check(range, {{~std::uint32_t{0}, Bytes(4)}});
}

TEST_CASE("bytes that are no message are refused") {
  Refusing rig;
  using Op = wire::FlareOp;
  CHECK(rig.code_of(rig.send_bytes(Op::mirror_hello, {})) == Code::malformed);
  CHECK(rig.code_of(rig.send_bytes(Op::mirror_hello, filled(200, 'x'))) == Code::malformed);
  CHECK(rig.code_of(rig.send_as(0, wire::MirrorHelloRequest{}, filled(1, 'x'))) == Code::malformed);
  // Not even a head: it cannot be of the run, which goes on.
  for (Op op : {Op::mirror_batch, Op::mirror_rows, Op::mirror_check, Op::mirror_sync})
    CHECK(rig.code_of(rig.send_bytes(op, filled(3, 'x'))) == Code::malformed);
  CHECK(rig.ask(rows_batch({})) == Code{});
  CHECK(rig.mark(MirrorMark::whole, {1, 3}) == Code{});
  const auto headed = [&](Op op, const Bytes& more) {
    Bytes body = wire::encode(wire::MirrorHead{rig.run, ++rig.number});
    body.insert(body.end(), more.begin(), more.end());
    rig.check_refused(rig.code_of(rig.send_bytes(op, body)));
  };
  for (Op op : {Op::mirror_batch, Op::mirror_rows, Op::mirror_check}) headed(op, {});
  for (Op op : {Op::mirror_batch, Op::mirror_rows, Op::mirror_check, Op::attach})
    headed(op, filled(40, '\xff'));
  // A run's number is never 0.
  const std::uint64_t run = std::exchange(rig.run, 0);
  CHECK(rig.code_of(rig.send_as(0, wire::MirrorHelloRequest{})) == Code::malformed);
  CHECK(rig.code_of(rig.send_as(1, rows_batch({}))) == Code::old_sequence);
  rig.run = run;
  CHECK(rig.ask(rows_batch({})) == Code{});
}

TEST_CASE("a number far ahead is refused, the run goes on") {
  MirrorRig rig;
  rig.hello();
  const std::uint64_t most = replication::Mirror::kWaitingMax;
  CHECK(rig.code_of(rig.send_as(1 + most, rows_batch({}))) == Code::overloaded);
  CHECK(rig.code_of(rig.send_as(~std::uint64_t{0}, rows_batch({}))) == Code::overloaded);
  CHECK(rig.code_of(rig.send_as(0, rows_batch({}))) == Code::old_sequence);
  const auto last = rig.send_as(most, rows_batch({}));
  CHECK(rig.code_of(last) == MirrorRig::kNoAnswer);
  for (std::uint64_t i = 1; i < most; ++i)
    REQUIRE(rig.code_of(rig.send_as(i, rows_batch({}))) == Code{});
  CHECK(rig.code_of(last) == Code{});
}

TEST_CASE("a number that waits already is not taken twice") {
  MirrorRig rig;
  rig.hello();
  const auto second = rig.send_as(2, rows_batch({}));
  CHECK(rig.code_of(rig.send_as(2, rows_batch({}))) == Code::old_sequence);
  CHECK(rig.code_of(rig.send_as(1, rows_batch({}))) == Code{});
  CHECK(rig.code_of(second) == Code{});
}

// ---- a disk that fails

TEST_CASE("a page that has rotten is asked for as a whole by the next run") {
  MirrorRig rig;
  rig.hello();
  const ContentId id = content_id(2, 30);
  Bytes model = filled(20'000, 'a');
  CHECK(send_write(rig, id, 0, model, model.size()) == Code{});
  REQUIRE(rig.content->sync_now());
  CHECK(rig.mark(MirrorMark::whole, {1, 5}) == Code{});
  rig.stop_cleanly();
  REQUIRE(rig.disk.flip_bit(store::content_path(id), 9000, 3));
  rig.disk.drop_caches();
  rig.hello();
  const Bytes some = filled(10, 'b');
  CHECK(send_write(rig, id, 8500, some, model.size()) == Code::checksum);
  const auto torn = rig.hello().torn;
  REQUIRE(torn.size() == 1);
  CHECK(torn[0] == replication::range_of(id, 8192, 4096));
  std::copy(some.begin(), some.end(), model.begin() + 8500);
  const Bytes page(model.begin() + 8192, model.begin() + 12'288);
  CHECK(send_write(rig, id, 8192, page, model.size()) == Code{});
  CHECK((read_cold(rig, id) == model));
}

TEST_CASE("an error of the disk at any call ends the run, and the next one is fine") {
  unsigned struck = 0, refused = 0;
  for (std::uint64_t n = 1; n < 200; ++n) {
    CAPTURE(n);
    MirrorRig rig;
    rig.hello();
    const ContentId id = content_id(1, 30);
    const auto key = name_row(2, 20, "name");
    CHECK(send_write(rig, id, 0, filled(9000, 'a'), 9000) == Code{});
    CHECK(rig.ask(whole_batch(3, {row_of(key, "3")})) == Code{});
    rig.tick(seconds(6));
    rig.disk.fail_call(n, n % 2 == 0 ? Code::io : Code::no_space);
    auto next = whole_batch(4, {row_of(key, "4"), length_row(id, 5'000'100)});
    next.changes = {change_of(MirrorChangeKind::truncate, id, 50, 0),
                    change_of(MirrorChangeKind::write, id, 5'000'000, 100)};
    next.log = {{ring::Slot(1), Epoch(1), Seq(9), wire::encode(store::OplogBody{4, {}, {}})}};
    const Code code = rig.ask(next, filled(100, 'b'));
    const bool has_struck = !rig.disk.fault_pending();
    rig.disk.no_faults();
    if (!has_struck) break;
    ++struck;
    if (rig.metadata->failed()) rig.reopen(false, false);
    refused += code == Code{} ? 0 : 1;
    if (code != Code{}) CHECK(rig.stream().position() == MirrorPosition{1, 3});
    const auto reply = rig.hello();
    CHECK(MirrorRig::is_whole(reply));
    CHECK(reply.position == MirrorPosition{1, code == Code{} ? 4u : 3u});
    // What the primary sends then.
    REQUIRE(rig.ask(next, filled(100, 'b')) == Code{});
    CHECK(rig.stream().position() == MirrorPosition{1, 4});
    CHECK(rig.image(key) == "4");
    CHECK(oplog_rows(*rig.metadata, 1) >= 1);
    Bytes want = filled(50, 'a');
    want.resize(5'000'000);
    want.resize(5'000'100, 'b');
    CHECK((read_cold(rig, id) == want));
    CHECK(rig.state().batch == 4);
    CHECK(rig.ask(wire::MirrorSyncRequest{}) == Code{});
  }
  CHECK(struck > 10);
  CHECK(refused > 3);
}
}
