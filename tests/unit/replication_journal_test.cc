// ContentJournal: what it writes down of a content's changes for the mirrors and the oplog.
#include <doctest/doctest.h>

#include "libmagma/crypto/checksum.h"
#include "tests/unit/replication_fixture.h"

using namespace magma;
using namespace magma::test;
using replication::kToEnd;
using replication::range_of;

namespace {

struct JournalRig : ContentRig {
  replication::ContentJournal journal{*content};
  ContentId id = content_id(1, 30);

  void make_ready(std::uint64_t offset, std::uint64_t length) {
    REQUIRE(prepare(id, offset, length));
  }
  Result<void> put(std::uint64_t offset, std::string_view text) {
    make_ready(offset, text.size());
    return journal.write(id, kVersion, offset, as_bytes(text), {});
  }
  replication::Effects take() {
    replication::Effects effects;
    journal.take(effects);
    return effects;
  }
};

}  // namespace

TEST_SUITE("content journal") {
TEST_CASE("changes are kept with their bytes while somebody wants them, else only their ranges") {
  JournalRig rig;
  bool keeps = false;
  SUBCASE("kept") { keeps = true; }
  SUBCASE("not kept") {}
  CHECK_FALSE(rig.journal.has_touched());
  rig.journal.keep_changes(keeps);
  REQUIRE(rig.put(10, "hello"));
  REQUIRE(rig.journal.punch(rig.id, kVersion, 11, 2));
  REQUIRE(rig.journal.truncate(rig.id, kVersion, 12));
  REQUIRE(rig.journal.truncate(rig.id, kVersion, store::kChunkBytes));
  REQUIRE(rig.journal.remove(rig.id));
  CHECK(rig.journal.has_touched());
  const std::vector<wire::MirrorRange> want{
      range_of(rig.id, 10, 5), range_of(rig.id, 11, 2), range_of(rig.id, 12, kToEnd - 12),
      range_of(rig.id, kToEnd, 0), range_of(rig.id, 0, kToEnd)};
  CHECK((rig.journal.take_touched() == want));
  CHECK_FALSE(rig.journal.has_touched());
  CHECK(rig.journal.take_touched().empty());
  const auto effects = rig.take();
  CHECK(effects.doubtful.empty());
  if (!keeps) {
    CHECK(effects.changes.empty());
    return;
  }
  using Kind = MirrorChangeKind;
  const Kind kinds[] = {Kind::write, Kind::punch, Kind::truncate, Kind::truncate, Kind::remove};
  REQUIRE(effects.changes.size() == want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    CHECK(effects.changes[i].what.kind == kinds[i]);
    CHECK((effects.changes[i].what.range == want[i]));
    CHECK(as_text(effects.changes[i].bytes) == (i == 0 ? "hello" : ""));
  }
  CHECK(rig.take().is_empty());
}

TEST_CASE("a write that fails leaves its range doubtful until a batch has named it") {
  JournalRig rig;
  rig.journal.keep_changes(true);
  REQUIRE(rig.put(0, "before"));
  rig.take();
  rig.journal.take_touched();
  rig.make_ready(2, 3);
  SUBCASE("write") {
    rig.disk.limit_space(rig.disk.used_bytes());
    CHECK_FALSE(rig.put(100'000, std::string(9000, 'x')));
    rig.disk.limit_space({});
  }
  SUBCASE("punch") {
    rig.disk.fail_call(1);
    CHECK_FALSE(rig.journal.punch(rig.id, kVersion, 100'000, 9000));
    rig.disk.no_faults();
  }
  const auto range = range_of(rig.id, 100'000, 9000);
  CHECK(rig.journal.has_touched());
  CHECK((rig.journal.take_touched() == std::vector{range}));
  CHECK((rig.journal.take_touched() == std::vector{range}));  // again, as nothing is committed
  const auto effects = rig.take();
  CHECK(effects.changes.empty());
  CHECK((effects.doubtful == std::vector{range}));
  CHECK_FALSE(rig.journal.has_touched());
  CHECK(rig.take().is_empty());
}

TEST_CASE("what a batch that is rolled back has written is named with the next") {
  JournalRig rig;
  rig.journal.keep_changes(true);
  REQUIRE(rig.put(0, "one"));
  REQUIRE(rig.put(50, "two"));
  REQUIRE(rig.journal.punch(rig.id, kVersion, 1, 1));
  REQUIRE(rig.journal.truncate(rig.id, kVersion, 52));  // comes after the commit: never
  rig.metadata->rollback();
  rig.journal.rolled_back();
  rig.journal.forget_batch();
  const std::vector<wire::MirrorRange> want{range_of(rig.id, 0, 3), range_of(rig.id, 50, 3),
                                            range_of(rig.id, 1, 1)};
  CHECK(rig.journal.has_touched());
  CHECK((rig.journal.take_touched() == want));
  // That batch fails too, and has written more.
  REQUIRE(rig.put(90, "more"));
  rig.metadata->rollback();
  rig.journal.rolled_back();
  rig.journal.forget_batch();
  auto all = want;
  all.push_back(range_of(rig.id, 90, 4));
  CHECK((rig.journal.take_touched() == all));
  auto effects = rig.take();
  CHECK(effects.changes.empty());
  CHECK((effects.doubtful == all));
  CHECK_FALSE(rig.journal.has_touched());
  // What a start finds hot is doubtful from outside.
  rig.journal.add_doubtful(range_of(rig.id, 0, store::kHotRangeBytes));
  CHECK(rig.journal.take_touched().size() == 1);
  CHECK(rig.take().doubtful.size() == 1);
}

TEST_CASE("bytes that do not match their checksum are not written and not written down") {
  JournalRig rig;
  rig.journal.keep_changes(true);
  rig.make_ready(0, store::kPageBytes);
  const Bytes page(store::kPageBytes, 'x');
  auto refused = rig.journal.write(rig.id, kVersion, 0, page, {crypto::crc32c(page) + 1});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Code::checksum);
  CHECK_FALSE(rig.journal.has_touched());
  CHECK(rig.take().is_empty());
  REQUIRE(rig.journal.write(rig.id, kVersion, 0, page, {crypto::crc32c(page)}));
  CHECK(rig.take().changes.size() == 1);
}
}
