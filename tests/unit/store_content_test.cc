// ContentStore against a model: writes, cuts, holes, removals; kills, power cuts, rot, faults.
#include <doctest/doctest.h>

#include <map>

#include "libmagma/crypto/checksum.h"
#include "libmagma/wire/codec.h"
#include "magmad/store/content_files.h"
#include "magmad/store/content_store.h"
#include "magmad/store/page_sums.h"
#include "tests/lib/content_rig.h"

namespace magma::store {
namespace {

using test::content_id;
using test::kVersion;
using test::read_cold;
using test::SeedRandom;
using test::version;
using Rig = test::ContentRig;

TEST_CASE("content: names of files go both ways") {
  for (const ContentId& id : {content_id(0, 16), content_id(4095, ring::kCounterMask, 4000000000u),
                              content_id(1, 17, 3)}) {
    auto parsed = parse_content_name(content_name(id));
    REQUIRE(parsed.has_value());
    CHECK(*parsed == id);
  }
  for (std::string_view bad : {"", "0010000000000010.3", "0010000000000010.03.001", "x.1.2",
                               "001000000000001F.3.001", "0010000000000010.3.001x",
                               "0010000000000010.3.1001", "0010000000000010.99999999999.001"})
    CHECK_FALSE(parse_content_name(bad).has_value());
  std::map<std::string, int> spread;
  for (std::uint64_t i = 0; i < 1000; ++i) ++spread[content_directory(test::ino_at(5, 16 + i))];
  CHECK(spread.size() > 950);
}

TEST_CASE("content: a new file is written without waiting, an old one waits for its hot range") {
  Rig rig;
  auto id = content_id(9, 20);
  bool ready = false;
  rig.content->prepare_write(id, kVersion, 0, 5000, [&](Result<void> r) { ready = r.has_value(); });
  CHECK(ready);
  REQUIRE(rig.write(id, 0, Bytes(5000, 'a')));
  REQUIRE(rig.commit());
  for (int i = 0; i < 40; ++i) rig.tick();
  std::size_t hot = 0;
  REQUIRE(rig.metadata->scan_database(1, Table::hot_range,
                                      [&](const MetadataStore::ScanRow&) { return ++hot, true; }));
  CHECK(hot == 0);  // it has cooled
  ready = false;
  rig.content->prepare_write(id, kVersion, 10, 10, [&](Result<void> r) { ready = r.has_value(); });
  CHECK_FALSE(ready);
  rig.executor.run_all();
  CHECK(ready);
  CHECK(rig.metadata->is_durable(1));
}

TEST_CASE(
    "content: checksums of the client are checked, and nothing is written if they are wrong") {
  Rig rig;
  auto id = content_id(3, 16);
  SeedRandom random(3);
  Bytes bytes = random.bytes(3 * 4096);
  std::vector<std::uint32_t> sums;  // whole pages of a write at 4000: two
  for (std::size_t at : {96u, 96u + 4096u})
    sums.push_back(crypto::crc32c(ByteSpan(bytes).subspan(at, 4096)));
  auto wrong = sums;
  wrong[1] ^= 1;
  auto refused = rig.write(id, 4000, bytes, wrong);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().code == Code::checksum);
  CHECK(*rig.read(id, 0, 20000) == Bytes(20000));
  auto more = sums;
  more.push_back(0);
  CHECK(rig.write(id, 4000, bytes, more).error().code == Code::invalid);
  REQUIRE(rig.write(id, 4000, bytes, sums));
  REQUIRE(rig.commit());
  Bytes want(4000);
  want.insert(want.end(), bytes.begin(), bytes.end());
  CHECK(read_cold(rig, id) == want);
}

TEST_CASE("content: every flipped bit is found on a read from disk and before a partial write") {
  Rig rig;
  SUBCASE("read by a store thread") {}
  SUBCASE("read in place") { rig.executor.set_in_place(100); }
  auto id = content_id(3, 16);
  SeedRandom random(4);
  REQUIRE(rig.write(id, 0, random.bytes(40000)));
  REQUIRE(rig.commit());
  REQUIRE(rig.sync(id));
  std::string path = content_path(id);
  for (int i = 0; i < 200; ++i) {
    std::uint64_t at = random.below(40000);
    unsigned bit = static_cast<unsigned>(random.below(8));
    REQUIRE(rig.disk.flip_bit(path, at, bit));
    rig.disk.drop_caches();
    auto bad = rig.read(id, at / 7 * 7, 1 + random.below(10));
    REQUIRE_FALSE(bad.has_value());
    CHECK(bad.error().code == Code::checksum);
    auto still_bad = rig.read(id, at, 1);  // the pages that were read do not count as good
    REQUIRE_FALSE(still_bad.has_value());
    CHECK(still_bad.error().code == Code::checksum);
    std::uint64_t partial = at / 4096 * 4096 + 5;
    CHECK(rig.write(id, partial, as_bytes("x")).error().code == Code::checksum);
    REQUIRE(rig.disk.flip_bit(path, at, bit));
    rig.disk.drop_caches();
    CHECK(rig.read(id, at, 1).has_value());
  }
  CHECK(rig.content->stats().checksum_errors == 600);
}

TEST_CASE("content: a read from disk that a write overtakes sees one or the other, and no error") {
  Rig rig;
  auto id = content_id(3, 16);
  REQUIRE(rig.write(id, 0, Bytes(100'000, 'a')));
  REQUIRE(rig.commit());
  unsigned old_seen = 0, new_seen = 0;
  for (int round = 0; round < 50; ++round) {
    auto before = static_cast<std::uint8_t>('a' + round % 20);
    auto after = static_cast<std::uint8_t>('a' + (round + 1) % 20);
    rig.disk.drop_caches();
    Result<Bytes> outcome = fail(Code::fault);
    rig.content->read(id, 100, 9000, [&](Result<Bytes> r) { outcome = std::move(r); });
    if (round % 2 == 0) rig.executor.run_one();
    rig.content->prepare_write(id, kVersion, 0, 100'000, [&](Result<void> r) {
      REQUIRE(r.has_value());
      REQUIRE(rig.content->write(id, kVersion, 0, Bytes(100'000, after), {}).has_value());
    });
    REQUIRE(rig.commit());
    rig.executor.run_all();
    REQUIRE_MESSAGE(outcome.has_value(), (outcome ? "" : describe(outcome.error())));
    if (*outcome == Bytes(9000, before)) ++old_seen;
    if (*outcome == Bytes(9000, after)) ++new_seen;
  }
  CHECK(old_seen + new_seen == 50);
}

TEST_CASE("content: a read in place is answered inside the call") {
  Rig rig;
  rig.executor.set_in_place(100);
  auto id = content_id(3, 16);
  REQUIRE(rig.write(id, 0, Bytes(100'000, 'a')));
  REQUIRE(rig.commit());
  rig.disk.drop_caches();
  for (std::uint64_t length : {10, 12'000, 30'000}) {
    bool is_answered = false;
    rig.content->read(id, 40'000, length, [&](Result<Bytes> bytes) {
      REQUIRE(bytes.has_value());
      CHECK(*bytes == Bytes(length, 'a'));
      is_answered = true;
    });
    CHECK(is_answered == (length <= 12'000));  // four pages are short, eight are not
    rig.executor.run_all();
    CHECK(is_answered);
    rig.disk.drop_caches();
  }
}

// Sums that were looked up when the read began prove nothing by not matching.
TEST_CASE("content: sums that are mended while a read is under way") {
  Rig rig;
  auto id = content_id(3, 16);
  REQUIRE(rig.write(id, 0, Bytes(20'000, 'a')));
  REQUIRE(rig.commit());
  const PageRange page{1, 1};
  auto right = get_sums(*rig.metadata, id, page);
  REQUIRE(right.has_value());
  const std::uint32_t wrong = (*right)[0] + 1;
  REQUIRE(put_sums(*rig.metadata, id, kVersion, 1, {&wrong, 1}));
  rig.disk.drop_caches();
  Result<Bytes> outcome = fail(Code::fault);
  rig.content->read(id, 4096, 10, [&](Result<Bytes> bytes) { outcome = std::move(bytes); });
  REQUIRE(put_sums(*rig.metadata, id, kVersion, 1, *right));
  rig.executor.run_all();
  CHECK(outcome.has_value());
}

TEST_CASE("content: descriptors are bounded") {
  Rig rig;
  for (std::uint64_t i = 0; i < 700; ++i) {
    auto id = content_id(static_cast<unsigned>(i % 7), 100 + i);
    REQUIRE(rig.write(id, 0, as_bytes("some bytes")));
  }
  REQUIRE(rig.commit());
  CHECK(rig.content->stats().files_open == 512);
  REQUIRE(rig.sync_all());
  rig.kill();
  for (std::uint64_t i = 0; i < 700; ++i) {
    auto id = content_id(static_cast<unsigned>(i % 7), 100 + i);
    CHECK(as_text(*rig.read(id, 0, 10)) == "some bytes");
  }
}

TEST_CASE("content: a failed sync is final for that content") {
  Rig rig;
  auto id = content_id(3, 16);
  REQUIRE(rig.write(id, 0, as_bytes("x")));
  REQUIRE(rig.commit());
  rig.disk.fail_syncs(content_name(id), 1);
  CHECK_FALSE(rig.sync(id).has_value());
  CHECK(rig.disk.counters().sync_faults == 1);
  CHECK_FALSE(rig.sync(id).has_value());
  CHECK_FALSE(rig.sync_all().has_value());
  CHECK_FALSE(rig.prepare(id, 0, 1).has_value());
}

TEST_CASE("content: a sync does not cover what is written while it runs") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Rig rig;
    SeedRandom random(seed);
    auto id = content_id(3, 16);
    REQUIRE(rig.write(id, 0, Bytes(5000, 'a')));
    REQUIRE(rig.commit());
    rig.content->sync(id, [](Result<void>) {});
    REQUIRE(rig.executor.run_one());  // the work is done, its end is not delivered
    REQUIRE(rig.content->write(id, kVersion, 0, Bytes(5000, 'b'), {}));
    REQUIRE(rig.commit());
    rig.executor.run_all();
    REQUIRE(rig.sync_all());
    rig.power_cut(random);
    CHECK(read_cold(rig, id) == Bytes(5000, 'b'));
  }
}

TEST_CASE("content: a sync under way is shared, unless something was written since it began") {
  Rig rig;
  SeedRandom random(1);
  auto id = content_id(3, 16);
  REQUIRE(rig.write(id, 0, Bytes(5000, 'a')));
  REQUIRE(rig.commit());
  REQUIRE(rig.sync_all());
  REQUIRE(rig.write(id, 0, Bytes(5000, 'b')));
  REQUIRE(rig.commit());
  const auto before = rig.disk.counters().syncs;
  std::vector<int> order;
  for (int n : {1, 2})
    rig.content->sync(id, [&order, n](Result<void> done) {
      CHECK(done.has_value());
      order.push_back(n);
    });
  REQUIRE(rig.executor.run_one());  // the work is done, its end is not delivered
  CHECK(order.empty());
  REQUIRE(rig.write(id, 0, Bytes(5000, 'c')));
  REQUIRE(rig.commit());
  rig.content->sync(id, [&order](Result<void>) { order.push_back(3); });
  CHECK(rig.disk.counters().syncs == before + 1);
  REQUIRE(rig.executor.run_one());
  CHECK(order == std::vector<int>{1, 2});
  rig.executor.run_all();
  CHECK(order == std::vector<int>{1, 2, 3});
  CHECK(rig.disk.counters().syncs == before + 2);
}

TEST_CASE("content: a removed file goes after its row is synced, the row after its directory is") {
  Rig rig;
  auto id = content_id(3, 16);
  REQUIRE(rig.write(id, 0, Bytes(10'000, 'x')));
  REQUIRE(rig.commit());
  REQUIRE(rig.remove(id));
  CHECK(rig.disk.exists(content_path(id)).value());
  CHECK(*rig.read(id, 0, 10) == Bytes(10));
  rig.metadata->rollback();
  rig.content->rolled_back();
  CHECK(*rig.read(id, 0, 10) == Bytes(10, 'x'));
  REQUIRE(rig.remove(id));
  REQUIRE(rig.commit());
  CHECK(rig.disk.exists(content_path(id)).value());  // its row is not on stable storage yet
  rig.tick();
  rig.executor.run_all();
  CHECK_FALSE(rig.disk.exists(content_path(id)).value());
  auto rows = [&](Table table) {
    std::size_t count = 0;
    REQUIRE(rig.metadata->scan_database(
        3, table, [&](const MetadataStore::ScanRow&) { return ++count, true; }));
    return count;
  };
  CHECK(rows(Table::removal) == 1);
  CHECK(rows(Table::page_sums) == 0);
  CHECK(rows(Table::hot_range) == 0);
  rig.tick();
  rig.tick();
  CHECK(rows(Table::removal) == 0);
}

TEST_CASE("content: a file at rest whose removal is not committed keeps its bytes") {
  for (const bool is_killed : {false, true}) {
    CAPTURE(is_killed);
    Rig rig;
    auto id = content_id(3, 16);
    REQUIRE(rig.write(id, 0, Bytes(10'000, 'x')));
    REQUIRE(rig.commit());
    for (int i = 0; i < 100; ++i) rig.tick();  // synced and cooled
    rig.kill();                                // and not open
    REQUIRE(rig.remove(id));
    if (is_killed) {
      rig.kill();
    } else {
      rig.metadata->rollback();
      rig.content->rolled_back();
    }
    CHECK(*rig.read(id, 0, 10'000) == Bytes(10'000, 'x'));
  }
}

TEST_CASE("content: files that no row knows of are swept after a crash, and nothing else") {
  Rig rig;
  auto known = content_id(3, 16), lost = content_id(3, 17), written = content_id(6, 18);
  REQUIRE(rig.write(known, 0, Bytes(10'000, 'x')));
  REQUIRE(rig.commit());
  REQUIRE(rig.write(lost, 0, Bytes(10'000, 'y')));  // no commit: the kill takes its rows
  const std::string foreign = std::string(kFlaresDirectory) + "/00/00/notes.txt";
  for (const char* folder : {"/00", "/00/00"})
    REQUIRE(rig.disk.make_directory(std::string(kFlaresDirectory) + folder));
  REQUIRE(rig.disk.open(foreign, sys::Disk::Open::create));
  rig.kill();
  CHECK(rig.disk.exists(content_path(lost)).value());
  REQUIRE(rig.content->sweep(true));
  CHECK(rig.disk.exists(kUnsweptMark).value());
  REQUIRE(rig.write(written, 0, Bytes(5000, 'z')));  // while it goes on, and not yet committed
  for (int i = 0; i < 10 && rig.disk.exists(kUnsweptMark).value(); ++i) rig.tick();
  CHECK_FALSE(rig.disk.exists(kUnsweptMark).value());
  CHECK_FALSE(rig.disk.exists(content_path(lost)).value());
  CHECK(rig.disk.exists(foreign).value());
  CHECK(*rig.read(known, 0, 10'000) == Bytes(10'000, 'x'));
  CHECK(*rig.read(written, 0, 5000) == Bytes(5000, 'z'));
  REQUIRE(rig.commit());
  rig.kill();
  CHECK(*rig.read(written, 0, 5000) == Bytes(5000, 'z'));
}

TEST_CASE("content: a cut or removal whose row outlived the power cut is finished at the start") {
  unsigned came_back = 0, stayed_long = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    Rig rig;
    SeedRandom random(seed);
    auto gone = content_id(3, 16), cut = content_id(3, 17);
    for (const auto& id : {gone, cut}) REQUIRE(rig.write(id, 0, Bytes(30'000, 'x')));
    REQUIRE(rig.commit());
    REQUIRE(rig.sync_all());
    for (int i = 0; i < 20; ++i) rig.tick();
    REQUIRE(rig.remove(gone));
    REQUIRE(rig.truncate(cut, 5000));
    REQUIRE(rig.commit());
    rig.metadata->sync_all([](Result<void>) {});  // of the rows alone
    rig.executor.run_all();
    rig.disk.power_cut(random);
    rig.close();
    if (rig.disk.exists(content_path(gone)).value()) ++came_back;
    if (rig.disk.open(content_path(cut), sys::Disk::Open::existing).value()->size().value() > 5000)
      ++stayed_long;
    rig.open(false);
    REQUIRE(rig.content->recover(kVersion).has_value());
    CHECK_FALSE(rig.disk.exists(content_path(gone)).value());
    Bytes want(5000, 'x');
    want.resize(40'000);
    rig.disk.drop_caches();
    auto got = rig.read(cut, 0, 40'000);
    REQUIRE(got.has_value());
    CHECK(*got == want);
  }
  CHECK(came_back > 5);
  CHECK(stayed_long > 5);
}

// One random history on a few contents.
struct Model {
  Rig rig;
  SeedRandom random;
  std::map<ContentId, Bytes> now, committed, durable;
  std::map<ContentId, bool> changed_since_sync;
  explicit Model(std::uint64_t seed) : random(seed) {}

  ContentId pick() {
    return content_id(static_cast<unsigned>(random.below(3)), 16 + random.below(3),
                      static_cast<std::uint32_t>(random.below(2)));
  }
  std::uint64_t offset() {
    switch (random.below(40)) {
      case 0: case 1: case 2: case 3: case 4: case 5: case 6: return random.below(5) * 4096;
      case 7: case 8: return kSumsRangeBytes - 5000 + random.below(10'000);
      case 9: return kHotRangeBytes - 6000 + random.below(12'000);
      default: return random.below(30'000);
    }
  }
  void step() {
    auto id = pick();
    Bytes& bytes = now[id];
    switch (random.below(12)) {
      case 0: case 1: case 2: case 3: {
        auto at = random.chance(2) ? offset() : bytes.size();
        Bytes data = random.bytes(1 + random.below(random.chance(3) ? 20'000 : 300));
        auto done = rig.write(id, at, data);
        REQUIRE_MESSAGE(done.has_value(), (done ? "" : describe(done.error())));
        if (bytes.size() < at + data.size()) bytes.resize(at + data.size());
        std::copy(data.begin(), data.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at));
        changed_since_sync[id] = true;
        break;
      }
      case 4: {
        auto size = random.chance(3) ? 0 : random.below(bytes.size() + 5000);
        auto done = rig.truncate(id, size);
        REQUIRE_MESSAGE(done.has_value(), (done ? "" : describe(done.error())));
        bytes.resize(size);
        changed_since_sync[id] = true;
        break;
      }
      case 5: {
        if (bytes.empty()) break;
        auto at = random.below(bytes.size());
        auto length = 1 + random.below(std::min<std::uint64_t>(bytes.size() - at, 50'000));
        REQUIRE(rig.prepare(id, at, length));
        REQUIRE(rig.content->punch(id, kVersion, at, length).has_value());
        std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), length, 0);
        changed_since_sync[id] = true;
        break;
      }
      case 6:
        if (random.chance(3)) {
          REQUIRE(rig.remove(id).has_value());
          bytes.clear();
          changed_since_sync[id] = true;
        }
        break;
      case 7: case 8: {
        auto at = offset();
        auto length = random.below(20'000);
        if (random.chance(2)) rig.disk.drop_caches();
        auto got = rig.read(id, at, length);
        REQUIRE_MESSAGE(got.has_value(), (got ? "" : describe(got.error())));
        Bytes want(length);
        if (at < bytes.size())
          std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                      std::min(length, bytes.size() - at), want.begin());
        CHECK(*got == want);
        break;
      }
      case 9:
        commit();
        rig.tick(random.chance(2) ? seconds(1) : seconds(8));
        break;
      case 10:
        if (random.chance(4)) {
          commit();
          REQUIRE(rig.sync_all());
          durable = committed;
          changed_since_sync.clear();
        }
        break;
      default: commit();
    }
  }
  void commit() {
    REQUIRE(rig.commit());
    committed = now;
    rig.metadata->checkpoint_if_due();
  }
  void check_all(const std::map<ContentId, Bytes>& want) {
    for (const auto& [id, bytes] : want) {
      CHECK(rig.length_of(id) == bytes.size());
      CHECK(read_cold(rig, id) == bytes);
      // Nothing but zeros behind the end.
      auto behind = rig.read(id, bytes.size(), 10'000);
      REQUIRE(behind.has_value());
      CHECK(*behind == Bytes(10'000));
    }
  }
};

TEST_CASE("content: random histories equal the model, over kills") {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    CAPTURE(seed);
    Model model(seed);
    model.rig.executor.set_in_place(50);
    for (int life = 0; life < 5; ++life) {
      for (int i = 0; i < 60; ++i) model.step();
      model.commit();
      model.check_all(model.now);
      // What is not committed at the kill: cuts and removals only, since the bytes of a write that
      // was never acknowledged may be there or not.
      auto id = model.pick();
      REQUIRE(model.rig.truncate(id, model.now[id].size() / 2));
      model.rig.kill();
      model.check_all(model.committed);
    }
  }
}

TEST_CASE("content: a power cut loses no synced byte and leaves no damaged page") {
  std::uint64_t intact = 0, lost = 0;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    CAPTURE(seed);
    Model model(seed);
    for (int life = 0; life < 3; ++life) {
      for (int i = 0; i < 40; ++i) model.step();
      model.rig.power_cut(model.random);
      for (auto& [id, bytes] : model.now) {
        Bytes got = read_cold(model.rig, id);  // verified: no checksum error
        if (!model.changed_since_sync[id]) {
          CHECK(got == model.durable[id]);
          ++intact;
        } else {
          ++lost;
        }
        bytes = got;
      }
      model.committed = model.durable = model.now;
      REQUIRE(model.rig.sync_all());
      model.changed_since_sync.clear();
      model.check_all(model.now);
    }
  }
  CHECK(intact > 20);
  CHECK(lost > 20);
}

TEST_CASE("content: fail call 1, 2, 3 ... of a history; the store opens and all reads verify") {
  std::uint64_t struck = 0;
  for (std::uint64_t n = 1;; ++n) {
    CAPTURE(n);
    Rig rig;
    auto a = content_id(1, 16), b = content_id(2, 17);
    REQUIRE(rig.write(a, 0, Bytes(9000, 'a')));
    REQUIRE(rig.commit());
    REQUIRE(rig.sync_all());
    rig.disk.fail_call(n, n % 2 == 0 ? Code::io : Code::no_space);
    auto run = [&](Result<void> done) {
      if (done) return true;
      rig.metadata->rollback();
      rig.content->rolled_back();
      return false;
    };
    auto commit = [&] { (void)rig.commit(); };
    if (run(rig.write(b, 0, Bytes(20'000, 'b')))) commit();
    if (run(rig.write(a, 5000, Bytes(9000, 'c')))) commit();
    if (run(rig.truncate(a, 6000))) commit();
    if (run(rig.remove(b))) commit();
    if (run(rig.write(b, 100, Bytes(5000, 'd')))) commit();
    (void)rig.sync_all();
    rig.tick(seconds(20));
    rig.tick(seconds(20));
    bool fired = !rig.disk.fault_pending();
    struck += rig.disk.counters().faults;
    rig.disk.no_faults();
    auto before_a = rig.metadata->failed() ? 0 : rig.length_of(a);
    if (!rig.metadata->failed()) {
      rig.tick();
      rig.disk.drop_caches();
      for (const auto& id : {a, b}) CHECK(rig.read(id, 0, rig.length_of(id)).has_value());
    }
    rig.kill();
    for (const auto& id : {a, b}) (void)read_cold(rig, id);
    if (before_a != 0) CHECK(rig.length_of(a) == before_a);
    if (!fired) break;
  }
  CHECK(struck > 40);
}

}  // namespace
}  // namespace magma::store
