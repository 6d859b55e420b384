// Comparisons of a primary with a mirror: what differs is named, whatever it is, and what does not
// is not; pieces are bounded and go on where they ended; nobody waits for ever.
#include <doctest/doctest.h>

#include <algorithm>

#include "libmagma/crypto/digest.h"
#include "magmad/replication/comparisons.h"
#include "magmad/store/content_files.h"
#include "tests/unit/replication_fixture.h"

using namespace magma;
using namespace magma::test;
using replication::Comparisons;
using store::kPageBytes;
using wire::DifferenceKind;

namespace {

constexpr ring::VolcanoId kMirror{2};

// A primary and a mirror with the same, and the messages between them.
struct CompareBench {
  PrimaryRig primary;
  MirrorRig mirror;
  SimClock clock;
  std::unique_ptr<Comparisons> comparisons;
  std::optional<Result<wire::CompareReply>> reply;
  std::size_t pieces = 0;
  std::uint64_t rows = 0, bytes = 0;

  CompareBench() { make(); }
  void make() {
    comparisons = std::make_unique<Comparisons>(clock, *primary.metadata, *primary.content);
  }
  void copy() { Course(primary, mirror).finish(); }
  void begin(const wire::CompareCursor& cursor, bool reads_content = true) {
    reply.reset();
    comparisons->begin({kMirror.value, reads_content, cursor}, ring::all_slots(), std::nullopt,
                       [this](Result<wire::CompareReply> told) { reply = std::move(told); });
  }
  // One piece, whole.
  wire::CompareReply piece(const wire::CompareCursor& cursor, bool reads_content = true) {
    begin(cursor, reads_content);
    if (auto asked = comparisons->next(kMirror, 0)) {
      CHECK(mirror.pass(asked->piece) == Code{});
      comparisons->answered(asked->number, mirror.answers[mirror.sent].body);
    }
    primary.executor.run_all();
    REQUIRE(reply.has_value());
    REQUIRE_MESSAGE(reply->has_value(), (*reply ? std::string() : describe(reply->error())));
    CHECK((*reply)->is_in_sync);
    ++pieces;
    rows += (*reply)->rows;
    bytes += (*reply)->bytes;
    return **reply;
  }
  // All of them.
  std::vector<wire::Difference> verify(bool reads_content = true) {
    std::vector<wire::Difference> found;
    std::optional<wire::CompareCursor> cursor = wire::CompareCursor{};
    pieces = rows = bytes = 0;
    while (cursor) {
      REQUIRE(pieces < 10'000);
      wire::CompareReply told = piece(*cursor, reads_content);
      found.insert(found.end(), told.differences.begin(), told.differences.end());
      cursor = told.next;
    }
    return found;
  }
  void change_mirror(UniqueFunction<Result<void>(MetadataStore&)> change) {
    REQUIRE(change(*mirror.metadata));
    REQUIRE(mirror.metadata->commit());
  }
};

bool is_of(const wire::Difference& found, DifferenceKind kind, const store::RowKey& key) {
  return found.kind == kind && found.table == static_cast<std::uint8_t>(key.table) &&
         found.key == wire::MirrorKey{key.a, key.b, key.c};
}

Bytes filled(std::size_t size, char with) { return Bytes(size, static_cast<std::uint8_t>(with)); }

}  // namespace

TEST_SUITE("comparisons") {
  TEST_CASE("digest: the first 16 bytes of SHA-256") {
    const crypto::Digest digest = crypto::digest(as_bytes("abc"));
    CHECK(to_hex(digest) == "ba7816bf8f01cfea414140de5dae2223");
  }

  TEST_CASE("what is the same shows no difference, in bounded pieces") {
    CompareBench bench;
    for (unsigned i = 0; i < 2000; ++i)
      bench.primary.put(name_row(i % 8, 20 + i % 3, "name " + std::to_string(i)), "image");
    bench.primary.write_at(content_id(1, 30), 0, filled(3'000'000, 'a'));
    for (unsigned i = 0; i < 100; ++i)
      bench.primary.write_at(content_id(2, 100 + i), 0, filled(20'000 + i, 'b'));
    bench.primary.end_batch();
    bench.copy();
    CHECK(bench.verify().empty());
    CHECK(bench.rows > 2200);
    CHECK(bench.bytes > 5'000'000);
    CHECK(bench.bytes < 5'020'000);
    CHECK(bench.comparisons->stats().pieces == bench.pieces);
    CHECK(bench.comparisons->stats().differences == 0);
    const std::size_t with_contents = bench.pieces;
    CHECK(bench.verify(false).empty());
    CHECK(bench.bytes == 0);
    CHECK(bench.pieces < with_contents);
  }

  TEST_CASE("each difference between rows is named, and nothing else") {
    CompareBench bench;
    const auto one = name_row(3, 20, "one"), two = name_row(3, 20, "two");
    const auto many = name_row(3, 20, "name 100");
    for (unsigned i = 0; i < 700; ++i)
      bench.primary.put(name_row(3, 20, "name " + std::to_string(i)), "image");
    bench.primary.put(one, "image");
    bench.primary.end_batch();
    bench.copy();
    REQUIRE(bench.verify().empty());
    std::vector<wire::Difference> found;
    SUBCASE("another image") {
      bench.change_mirror([&](auto& rows) -> Result<void> {
        TRY_VALUE(auto row, rows.get(one));
        return rows.put(one, row->version, as_bytes("imagf"));
      });
      found = bench.verify();
      REQUIRE(found.size() == 1);
      CHECK(is_of(found[0], DifferenceKind::other, one));
    }
    SUBCASE("another version") {
      bench.change_mirror(
          [&](auto& rows) { return rows.put(one, version(9, 9), as_bytes("image")); });
      found = bench.verify();
      REQUIRE(found.size() == 1);
      CHECK(is_of(found[0], DifferenceKind::other, one));
    }
    SUBCASE("missing and surplus") {
      bench.change_mirror([&](auto& rows) -> Result<void> {
        TRY(rows.erase(many));
        return rows.put(two, version(1, 1), {});
      });
      found = bench.verify();
      REQUIRE(found.size() == 2);
      CHECK(is_of(found[0], DifferenceKind::missing, many));
      CHECK(is_of(found[1], DifferenceKind::surplus, two));
    }
    SUBCASE("a table that only the mirror has rows in") {
      const store::RowKey key{Table::orphan, ino_at(5, 20).value, 0, {}};
      bench.change_mirror([&](auto& rows) { return rows.put(key, version(1, 1), {}); });
      found = bench.verify();
      REQUIRE(found.size() == 1);
      CHECK(is_of(found[0], DifferenceKind::surplus, key));
    }
    SUBCASE("far more rows than one message tells") {
      constexpr unsigned kSurplus = 3 * wire::kCompareListedMax;
      bench.change_mirror([&](auto& rows) -> Result<void> {
        for (unsigned i = 0; i < kSurplus; ++i)
          TRY(rows.put(name_row(3, 20, "zz " + std::to_string(i)), version(1, 1), {}));
        return {};
      });
      found = bench.verify();
      CHECK(found.size() == kSurplus);
      CHECK(std::all_of(found.begin(), found.end(), [](const wire::Difference& difference) {
        return difference.kind == DifferenceKind::surplus;
      }));
    }
    SUBCASE("what a volcano keeps for itself does not count") {
      bench.change_mirror([&](auto& rows) {
        return rows.put({Table::hot_range, ino_at(1, 0).value, 30, std::string(4, '\0')},
                        version(1, 1), {});
      });
      CHECK(bench.verify().empty());
    }
  }

  TEST_CASE("a damaged byte is named, on whichever side it is") {
    CompareBench bench;
    const ContentId id = content_id(1, 30, 2), other = content_id(1, 31);
    bench.primary.write_at(id, 0, filled(2'500'000, 'a'));
    bench.primary.write_at(other, 0, filled(50'000, 'b'));
    bench.primary.end_batch();
    bench.copy();
    REQUIRE(bench.verify().empty());
    const std::string path = store::content_path(id);
    SUBCASE("the mirror's") {
      REQUIRE(bench.mirror.disk.flip_bit(path, 2'000'000, 3));
      auto found = bench.verify();
      REQUIRE(found.size() == 1);
      CHECK(is_of(found[0], DifferenceKind::damaged, id.row(Table::chunk)));
      CHECK(found[0].offset == 2'000'000 / kPageBytes * kPageBytes);
      CHECK(bench.verify(false).empty());
    }
    SUBCASE("the primary's") {
      REQUIRE(bench.primary.disk.flip_bit(path, 5, 3));
      auto found = bench.verify();
      REQUIRE(found.size() == 1);
      CHECK(is_of(found[0], DifferenceKind::damaged_here, id.row(Table::chunk)));
      CHECK(found[0].offset == 0);
    }
    SUBCASE("a file that is not there") {
      bench.mirror.reopen(true, false);
      bench.mirror.hello();
      REQUIRE(bench.mirror.disk.remove(store::content_path(other)));
      auto found = bench.verify();
      REQUIRE(found.size() == 1);
      CHECK(is_of(found[0], DifferenceKind::damaged, other.row(Table::chunk)));
    }
    SUBCASE("other bytes with their own checksums") {
      REQUIRE(bench.mirror.prepare(other, 10'000, 10));
      REQUIRE(bench.mirror.content->write(other, kVersion, 10'000, filled(10, 'x'), {}));
      REQUIRE(bench.mirror.commit());
      auto found = bench.verify();
      REQUIRE(found.size() == 1);
      CHECK(is_of(found[0], DifferenceKind::other,
                  other.row(Table::page_sums, std::string(4, '\0'))));
    }
  }

  TEST_CASE("a content that is gone when its next piece is asked for") {
    CompareBench bench;
    const ContentId id = content_id(1, 30), next = content_id(1, 31);
    bench.primary.write_at(id, 0, filled(2'000'000, 'a'));
    bench.primary.write_at(next, 0, filled(2'000'000, 'b'));
    bench.primary.end_batch();
    bench.copy();
    wire::CompareCursor cursor;
    cursor.is_content = true;
    cursor.database = 1;
    auto first = bench.piece(cursor);
    CHECK(first.bytes == 1u << 20);
    REQUIRE(first.next);
    CHECK(first.next->offset == 1u << 20);
    bench.primary.forget(id);
    bench.primary.end_batch();
    auto second = bench.piece(*first.next);
    CHECK(second.bytes == 1u << 20);  // of the other one, from its begin
    REQUIRE(second.next);
    CHECK(second.next->after.b == next.ino.value);
  }

  TEST_CASE("requests that make no sense, too many, and a mirror that is not there") {
    CompareBench bench;
    bench.copy();
    const auto code_of = [&](const wire::CompareCursor& cursor) {
      bench.begin(cursor);
      REQUIRE(bench.reply.has_value());
      return bench.reply->has_value() ? Code{} : bench.reply->error().code;
    };
    wire::CompareCursor cursor;
    cursor.database = 4;
    CHECK(code_of(cursor) == Code::malformed);
    cursor = {};
    cursor.table = store::kTableLast + 1;
    CHECK(code_of(cursor) == Code::malformed);
    cursor = {};
    cursor.after.c.assign(256, 'x');
    CHECK(code_of(cursor) == Code::malformed);
    cursor = {};
    cursor.offset = 1;
    CHECK(code_of(cursor) == Code::malformed);
    // Nobody comes for it.
    bench.begin({});
    CHECK_FALSE(bench.reply.has_value());
    CHECK_FALSE(bench.comparisons->next(ring::VolcanoId(3), 0).has_value());
    bench.clock.advance(Comparisons::kPatience);
    CHECK(bench.comparisons->deadline() <= bench.clock.now());
    bench.comparisons->on_timer();
    REQUIRE(bench.reply.has_value());
    REQUIRE(bench.reply->has_value());
    CHECK_FALSE((*bench.reply)->is_in_sync);
    CHECK(bench.comparisons->deadline() == Instant::never());
    // The run is lost.
    bench.begin({});
    auto asked = bench.comparisons->next(kMirror, 0);
    REQUIRE(asked);
    bench.comparisons->lost(asked->number);
    REQUIRE(bench.reply.has_value());
    CHECK_FALSE((*bench.reply)->is_in_sync);
    bench.comparisons->answered(asked->number, {});  // too late
    // It refuses, or says what makes no sense.
    bench.begin({});
    asked = bench.comparisons->next(kMirror, 0);
    bench.comparisons->refused(asked->number, Code::io);
    REQUIRE(bench.reply.has_value());
    CHECK(bench.reply->error().code == Code::io);
    bench.begin({});
    asked = bench.comparisons->next(kMirror, 0);
    wire::MirrorCompareReply odd;
    odd.rows = {{{2, 0, ""}, {}}, {{1, 0, ""}, {}}};
    bench.comparisons->answered(asked->number, wire::encode(odd));
    CHECK(bench.reply->error().code == Code::malformed);
    bench.begin({});
    asked = bench.comparisons->next(kMirror, 0);
    odd.rows.clear();
    odd.is_cut = true;
    bench.comparisons->answered(asked->number, wire::encode(odd));
    CHECK(bench.reply->error().code == Code::malformed);
    // Too many.
    for (std::size_t i = 0; i < Comparisons::kUnderWayMax; ++i) bench.begin({});
    CHECK(code_of({}) == Code::overloaded);
  }

  TEST_CASE("a mirror refuses what makes no sense, and its run goes on") {
    CompareBench bench;
    bench.copy();
    wire::MirrorCompareRequest compare;
    compare.table = static_cast<std::uint8_t>(Table::hot_range);
    CHECK(bench.mirror.ask(compare) == Code::malformed);
    compare.table = 1;
    compare.database = 4;
    CHECK(bench.mirror.ask(compare) == Code::malformed);
    wire::MirrorScrubRequest scrub;
    scrub.ranges.push_back(replication::range_of(content_id(1, 30), store::kChunkBytes, 1));
    CHECK(bench.mirror.ask(scrub) == Code::malformed);
    scrub.ranges.assign(wire::kScrubRangesMax + 1,
                        replication::range_of(content_id(1, 30), 0, kPageBytes));
    CHECK(bench.mirror.ask(scrub) == Code::malformed);
    scrub.ranges.assign(2, replication::range_of(content_id(1, 30), 0, 1u << 20));
    CHECK(bench.mirror.ask(scrub) == Code::malformed);
    CHECK(bench.verify().empty());
  }
}
