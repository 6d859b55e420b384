// What is read ahead of sequential readers: which pieces (ReadAhead), and that nothing comes from
// memory that was not compared (ContentStoreImpl), whatever overtakes what.
#include <doctest/doctest.h>

#include <map>

#include "magmad/store/content_files.h"
#include "magmad/store/read_ahead.h"
#include "tests/lib/content_rig.h"

namespace magma::store {
namespace {

using test::content_id;
using test::kVersion;
using test::SeedRandom;
using Rig = test::ContentRig;

constexpr std::uint64_t kPiece = ReadAhead::kPieceBytes;
constexpr std::uint64_t kPart = 128u << 10;  // of one request

// ---- which pieces

std::uint64_t pieces_wanted(ReadAhead& ahead, const ContentId& id, std::uint64_t size) {
  std::uint64_t count = 0;
  while (ahead.next(id, size)) ++count;
  return count;
}

TEST_CASE("read-ahead: begins with sequential reads that miss, and widens to its bound") {
  ReadAhead ahead;
  const auto id = content_id(3, 20);
  CHECK_FALSE(ahead.note(id, 0, kPart, true));  // one small read says nothing
  CHECK_FALSE(ahead.next(id, kChunkBytes));
  REQUIRE(ahead.note(id, kPart, kPart, true));
  auto piece = ahead.next(id, kChunkBytes);
  REQUIRE(piece.has_value());
  CHECK(piece->offset == 2 * kPart);
  CHECK(piece->offset + piece->length == kPiece);
  CHECK(ahead.is_ahead(id, 2 * kPart, kPart));
  CHECK_FALSE(ahead.is_ahead(id, kPart, kPart));
  CHECK_FALSE(ahead.is_ahead(content_id(3, 21), 2 * kPart, kPart));
  std::uint64_t end = kPiece;
  for (std::uint64_t at = 2 * kPart; at < 32 * kPiece; at += kPart) {
    REQUIRE(ahead.note(id, at, kPart, false));
    while (auto next = ahead.next(id, kChunkBytes)) {
      CHECK(next->offset == end);
      end = next->offset + next->length;
      CHECK(end % kPiece == 0);
    }
    CHECK(end <= at + kPart + ReadAhead::kWindowMax);
    if (at > 8 * kPiece) CHECK(end + kPiece > at + kPart + ReadAhead::kWindowMax);
  }
}

TEST_CASE("read-ahead: nothing for what is in memory, for random reads, past the end") {
  ReadAhead ahead;
  const auto id = content_id(3, 20);
  for (std::uint64_t at = 0; at < 8 * kPiece; at += kPiece)
    CHECK_FALSE(ahead.note(id, at, kPiece, false));
  SeedRandom random(1);
  for (int i = 0; i < 1000; ++i) {
    const auto other = content_id(4, 20 + random.below(50));
    const std::uint64_t at = (1 + random.below(7)) * 8 * kPiece;
    CHECK_FALSE(ahead.note(other, at, 4096, true));
  }
  const auto small = content_id(5, 20);
  REQUIRE(ahead.note(small, 0, kPiece, true));
  auto piece = ahead.next(small, kPiece + 5000);
  REQUIRE(piece.has_value());
  CHECK(piece->length == 5000);
  CHECK_FALSE(ahead.next(small, kPiece + 5000));
}

TEST_CASE("read-ahead: what is lost before it is wanted halves the window, until it ends") {
  ReadAhead ahead;
  const auto id = content_id(3, 20);
  std::uint64_t at = 0;
  auto read = [&](bool missed) {
    const bool wanted = ahead.note(id, at, kPiece, missed);
    at += kPiece;
    return wanted;
  };
  REQUIRE(read(true));
  for (int i = 0; i < 4; ++i) {
    pieces_wanted(ahead, id, kChunkBytes);
    REQUIRE(read(false));
  }
  pieces_wanted(ahead, id, kChunkBytes);
  CHECK(read(true));        // 4 -> 2
  CHECK(read(true));        // 1
  CHECK_FALSE(read(true));  // 0
  CHECK_FALSE(ahead.next(id, kChunkBytes));
  CHECK(read(true));  // tries again, from one piece on
  CHECK(pieces_wanted(ahead, id, kChunkBytes) == 1);
}

TEST_CASE("read-ahead: goes on with the next chunk, and stops when told") {
  ReadAhead ahead;
  const auto id = content_id(3, 20);
  for (std::uint64_t at = 0; at < kChunkBytes; at += kPiece) {
    ahead.note(id, at, kPiece, at == 0);
    pieces_wanted(ahead, id, kChunkBytes);
  }
  const auto next = content_id(9, 20, 1);  // of another slot
  const ContentId following{next.slot, id.ino, 1};
  REQUIRE(ahead.note(following, 0, kPiece, true));
  CHECK(pieces_wanted(ahead, following, kChunkBytes) == ReadAhead::kWindowMax / kPiece);
  ahead.stop(following);
  CHECK_FALSE(ahead.note(following, kPiece, kPiece, false));
  CHECK_FALSE(ahead.next(following, kChunkBytes));
}

TEST_CASE("read-ahead: readers of one file do not disturb one another, nor do many others") {
  ReadAhead ahead;
  const auto id = content_id(3, 20);
  std::uint64_t far = 32 * kPiece;
  ahead.note(id, far, kPiece, true);
  for (std::uint64_t at = 0; at < 8 * kPiece; at += kPiece) {
    CHECK(ahead.note(id, at, kPiece, at == 0));
    CHECK(ahead.note(id, far + at + kPiece, kPiece, at == 0));
    pieces_wanted(ahead, id, kChunkBytes);
    for (std::uint64_t i = 0; i < 100; ++i)
      ahead.note(content_id(4, 100 + i), 16 * kPiece, 4096, true);
  }
}

// ---- and that they are compared

Bytes sample(std::uint64_t size, std::uint64_t seed = 7) { return SeedRandom(seed).bytes(size); }

ContentId make_file(Rig& rig, const Bytes& bytes, unsigned counter = 20) {
  const auto id = content_id(3, counter);
  for (std::uint64_t at = 0; at < bytes.size(); at += kPiece)
    REQUIRE(rig.write(id, at, ByteSpan(bytes).subspan(at, std::min(kPiece, bytes.size() - at))));
  REQUIRE(rig.commit());
  REQUIRE(rig.sync_all());
  rig.disk.drop_caches();
  return id;
}

// Nothing is in memory any more, here or in the kernel.
void forget(Rig& rig) {
  for (int i = 0; i < 2; ++i) rig.tick(seconds(3));
  rig.disk.drop_caches();
}

struct Answers {
  std::map<std::uint64_t, Result<Bytes>> at{};
  // Asks for parts of the file, without waiting.
  void ask(Rig& rig, const ContentId& id, std::uint64_t offset, std::uint64_t length) {
    rig.content->read(id, offset, length, [this, offset](Result<Bytes> bytes) {
      CHECK(at.emplace(offset, std::move(bytes)).second);
    });
  }
};

TEST_CASE("content: of a file read in sequence most reads are answered from what was read ahead") {
  Rig rig;
  const Bytes bytes = sample(16 * kPiece + 777);
  const auto id = make_file(rig, bytes);
  for (int round = 0; round < 3; ++round) {
    const auto before = rig.content->stats();
    Bytes seen;
    for (std::uint64_t at = 0; at < bytes.size(); at += kPart) {
      auto part = rig.read(id, at, std::min(kPart, bytes.size() - at));
      REQUIRE(part.has_value());
      seen.insert(seen.end(), part->begin(), part->end());
    }
    CHECK(seen == bytes);
    const auto after = rig.content->stats();
    const bool is_cold = round != 1;  // then all is in memory, and nothing is to be done
    CHECK(after.reads_disk - before.reads_disk == (is_cold ? 2 : 0));
    CHECK(after.pieces_ahead - before.pieces_ahead == (is_cold ? 17 : 0));
    if (is_cold) CHECK(after.reads_ahead - before.reads_ahead == 16 * 8 + 1 - 2);
    if (round == 1) forget(rig);
  }
  CHECK(rig.content->stats().pieces_dropped == 0);
}

TEST_CASE("content: every flipped bit is found by reads after, with or before the piece") {
  Rig rig;
  const Bytes bytes = sample(8 * kPiece);
  const auto id = make_file(rig, bytes);
  const std::string path = content_path(id);
  SeedRandom random(4);
  std::uint64_t ahead = 0;
  for (int i = 0; i < 60; ++i) {
    const std::uint64_t bad = random.below(bytes.size());
    const auto bit = static_cast<unsigned>(random.below(8));
    REQUIRE(rig.disk.flip_bit(path, bad, bit));
    forget(rig);
    for (int pass = 0; pass < 2; ++pass) {  // a page that was found bad does not count as good
      Answers answers;
      for (std::uint64_t at = 0; at < bytes.size(); at += kPart) {
        answers.ask(rig, id, at, kPart);
        for (std::uint64_t steps = random.below(6); steps > 0; --steps) rig.executor.run_one();
      }
      rig.executor.run_all();
      REQUIRE(answers.at.size() == bytes.size() / kPart);
      for (auto& [at, part] : answers.at) {
        const bool hit = bad >= at && bad < at + kPart;
        CHECK_MESSAGE(part.has_value() != hit, "offset " << at);
        if (hit && !part) CHECK(part.error().code == Code::checksum);
        if (part) CHECK(std::equal(part->begin(), part->end(), bytes.begin() + long(at)));
      }
    }
    ahead += rig.content->stats().reads_ahead;
    REQUIRE(rig.disk.flip_bit(path, bad, bit));
    rig.disk.drop_caches();
    CHECK(rig.read(id, bad, 1).has_value());
  }
  CHECK(ahead > 0);
  CHECK(rig.content->stats().pieces_dropped > 0);
}

TEST_CASE("content: pages that another read has brought into memory are not taken unseen") {
  Rig rig;
  const Bytes bytes = sample(100'000);
  const auto id = make_file(rig, bytes);
  REQUIRE(rig.disk.flip_bit(content_path(id), 50'000, 3));
  Result<Bytes> first = fail(Code::fault), second = fail(Code::fault);
  rig.content->read(id, 0, 100'000, [&](Result<Bytes> r) { first = std::move(r); });
  REQUIRE(rig.executor.run_one());  // the bytes are in memory, nobody has compared them
  rig.content->read(id, 50'000, 10, [&](Result<Bytes> r) { second = std::move(r); });
  rig.executor.run_all();
  for (auto* read : {&first, &second}) {
    REQUIRE_FALSE(read->has_value());
    CHECK(read->error().code == Code::checksum);
  }
  CHECK(rig.read(id, 50'000, 10).error().code == Code::checksum);
}

TEST_CASE("content: a read that changes overtake again and again is still compared") {
  Rig rig;
  const Bytes bytes = sample(100'000);
  const auto id = make_file(rig, bytes);
  REQUIRE(rig.disk.flip_bit(content_path(id), 50'000, 3));
  Result<Bytes> read = fail(Code::fault);
  bool answered = false;
  rig.content->read(id, 40'960, 20'000, [&](Result<Bytes> r) {
    read = std::move(r);
    answered = true;
  });
  for (int i = 0; i < 100 && !answered; ++i) {
    rig.content->prepare_write(id, kVersion, 0, 10, [&](Result<void> r) {
      REQUIRE(r.has_value());
      REQUIRE(rig.content->write(id, kVersion, 0, Bytes(10, 'x'), {}).has_value());
    });
    REQUIRE(rig.commit());
    rig.executor.run_one();
  }
  REQUIRE(answered);
  REQUIRE_FALSE(read.has_value());
  CHECK(read.error().code == Code::checksum);
}

TEST_CASE("content: a read from disk that a removal overtakes is no damage") {
  Rig rig;
  for (unsigned round = 0; round < 50; ++round) {  // of which the removal is over first in some
    const auto id = make_file(rig, sample(100'000), 20 + round);
    Result<Bytes> read = fail(Code::fault);
    rig.content->read(id, 0, 100'000, [&](Result<Bytes> r) { read = std::move(r); });
    REQUIRE(rig.remove(id));
    REQUIRE(rig.commit());
    rig.content->on_tick(rig.now);
    rig.executor.run_all();
    REQUIRE_MESSAGE(read.has_value(), (read ? "" : describe(read.error())));
    CHECK(*read == Bytes(100'000));
  }
  CHECK(rig.content->stats().checksum_errors == 0);
}

TEST_CASE("content: what is read ahead is bounded, and leaves store threads to who waits") {
  Rig rig;
  const Bytes bytes = sample(16 * kPiece);
  const auto id = make_file(rig, bytes);
  Answers answers;
  for (std::uint64_t at = 0; at < 3 * kPiece; at += kPiece) answers.ask(rig, id, at, kPiece);
  CHECK(rig.executor.pending() == 1 + 4);  // the first read, and pieces of which six are wanted
  rig.executor.run_all();
  CHECK(answers.at.size() == 3);
  forget(rig);
  const auto other = make_file(rig, bytes, 21);
  Answers others;
  for (std::uint64_t i = 0; i < 4; ++i) answers.ask(rig, id, (15 - 3 * i) * kPiece, 4096);
  CHECK(rig.executor.pending() == 4);
  others.ask(rig, other, 0, kPiece);
  CHECK(rig.executor.pending() == 5);  // and no piece
  rig.executor.run_all();
  others.ask(rig, other, kPiece, kPiece);
  CHECK(rig.executor.pending() == 1 + 2);
  rig.executor.run_all();
  CHECK(answers.at.size() + others.at.size() == 9);
  for (auto& [at, part] : answers.at) CHECK(part.has_value());
}

TEST_CASE("content: a disk error ahead of a reader is told to nobody who does not want the bytes") {
  const Bytes bytes = sample(4 * kPiece);
  unsigned struck = 0;
  for (std::uint64_t n = 1; n < 40; ++n) {
    Rig rig;
    const auto id = make_file(rig, bytes);
    REQUIRE(rig.read(id, 0, 10).has_value());  // it is open
    rig.disk.drop_caches();
    rig.disk.fail_call(n);
    Answers answers;
    for (std::uint64_t at = 0; at < bytes.size(); at += kPiece / 2) {
      answers.ask(rig, id, at, kPiece / 2);
      rig.executor.run_all();
    }
    struck += rig.disk.fault_pending() ? 0 : 1;
    rig.disk.no_faults();
    unsigned errors = 0;
    for (auto& [at, part] : answers.at) {
      if (!part)
        ++errors;
      else
        CHECK(std::equal(part->begin(), part->end(), bytes.begin() + long(at)));
    }
    CHECK(answers.at.size() == 8);
    CHECK(errors <= 1);
    for (std::uint64_t at = 0; at < bytes.size(); at += kPiece / 2)
      CHECK(rig.read(id, at, kPiece / 2).has_value());
  }
  CHECK(struck > 5);
}

// Reads, writes, cuts, removals and rot in any order, each finished at any time. A cell is half a
// page, of one number. A read gives of each cell a number it had while the read was under way, and
// fails only if a page of it was bad.
class Race {
 public:
  static constexpr std::uint64_t kCell = kPageBytes / 2;
  static constexpr std::size_t kCells = 5 * kPiece / kCell;

  explicit Race(std::uint64_t seed) : random_(seed), id_(content_id(3, 20)) {
    cells_.resize(kCells);
    bad_.resize(kCells / 2);
    write(0, kCells);
    settle();
    rig_.disk.drop_caches();
  }

  void step() {
    ++now_;
    switch (random_.below(40)) {
      case 0: return write(random_.below(kCells), 1 + random_.below(600));
      case 1: return write(random_.below(kCells), 1 + random_.below(3));
      case 2:
        if (random_.chance(8)) truncate(random_.below(kCells));
        return;
      case 3:
        if (random_.chance(16)) remove();
        return;
      case 4:
        if (random_.chance(4)) rig_.content->on_tick(clock_ = clock_ + milliseconds(700));
        return;
      case 5:
        if (random_.chance(4)) rig_.disk.drop_caches();
        return;
      case 6: return rot();
      case 7: return read(random_.below(kCells) * kCell, 1 + random_.below(30'000));
      default: break;
    }
    if (random_.chance(3)) {
      place_ = place_ + kPart <= kCells * kCell ? place_ : 0;
      read(place_, kPart);
      place_ += kPart;
    } else {
      rig_.executor.run_one();
    }
  }
  // At rest every page says what it is.
  void finish() {
    rig_.executor.run_all();
    CHECK(under_way_ == 0);
    forget(rig_);
    for (std::size_t page = 0; page < kCells / 2; ++page) {
      const std::uint64_t errors = errors_;
      read(page * kPageBytes, kPageBytes);
      rig_.executor.run_all();
      CHECK((errors_ != errors) == is_bad(page));
    }
  }
  const ContentStore::Stats stats() const { return rig_.content->stats(); }
  std::uint64_t errors() const { return errors_; }

 private:
  struct Past {  // of a cell or a page
    std::uint32_t value = 0;
    std::uint64_t since = 0;
  };
  using History = std::vector<Past>;

  static void set(History& history, std::uint32_t value, std::uint64_t now) {
    history.push_back({value, now});
  }
  // What it was at some time from `since` on.
  static std::vector<std::uint32_t> seen_since(const History& history, std::uint64_t since) {
    std::vector<std::uint32_t> values;
    std::uint32_t at_begin = 0;
    for (const Past& past : history) {
      if (past.since <= since)
        at_begin = past.value;
      else
        values.push_back(past.value);
    }
    values.push_back(at_begin);
    return values;
  }

  static Bytes pattern(std::uint32_t number) {
    Bytes bytes(kCell);
    for (std::size_t i = 0; i < kCell; ++i)
      bytes[i] = static_cast<std::uint8_t>(number >> (8 * (i % 4)));
    return bytes;
  }

  void settle() {
    REQUIRE(rig_.commit());
    REQUIRE(rig_.sync_all());
  }

  void write(std::size_t first, std::size_t count) {
    count = std::min(count, kCells - first);
    // As the operations do: what had to wait for its hot range begins anew.
    auto is_ready = std::make_shared<bool>(false);
    auto waited = std::make_shared<bool>(false);
    rig_.content->prepare_write(id_, kVersion, first * kCell, count * kCell,
                                [=, this](Result<void> ready) {
                                  REQUIRE(ready.has_value());
                                  *is_ready = true;
                                  if (*waited) write(first, count);
                                });
    *waited = true;
    if (*is_ready) write_now(first, count);
    REQUIRE(rig_.commit());
  }
  void write_now(std::size_t first, std::size_t count) {
    const std::uint32_t number = ++last_;
    const Bytes cell = pattern(number);
    Bytes bytes;
    for (std::size_t i = 0; i < count; ++i) bytes.insert(bytes.end(), cell.begin(), cell.end());
    auto done = rig_.content->write(id_, kVersion, first * kCell, bytes, {});
    // The page of either end may be bad, and then is not written in part.
    if (!done) {
      CHECK(done.error().code == Code::checksum);
      CHECK((is_bad(first / 2) || is_bad((first + count - 1) / 2)));
      return;
    }
    for (std::size_t i = first; i < first + count; ++i) set(cells_[i], number, now_);
    for (std::size_t i = first / 2; i <= (first + count - 1) / 2; ++i)
      if (is_bad(i)) set(bad_[i], 0, now_);
    REQUIRE(rig_.set_length(id_, std::max(rig_.length_of(id_), (first + count) * kCell)));
  }
  void cut_from(std::size_t first) {
    for (std::size_t i = first; i < kCells; ++i) set(cells_[i], 0, now_);
    for (std::size_t i = (first + 1) / 2; i < kCells / 2; ++i)
      if (is_bad(i)) set(bad_[i], 0, now_);
  }
  void truncate(std::size_t cells) {
    if (cells * kCell > rig_.length_of(id_)) return;
    auto done = rig_.truncate(id_, cells * kCell);
    if (done)
      cut_from(cells);
    else
      CHECK(is_bad(cells / 2));
    REQUIRE(rig_.commit());
  }
  void remove() {
    REQUIRE(rig_.remove(id_));
    cut_from(0);
    REQUIRE(rig_.commit());
  }
  bool is_bad(std::size_t page) const { return !bad_[page].empty() && bad_[page].back().value; }
  void rot() {
    const std::size_t page = random_.below(kCells / 2);
    // What is cut, but still there, is nobody's.
    if ((page + 1) * kPageBytes > rig_.length_of(id_) || is_bad(page)) return;
    const std::uint64_t at = page * kPageBytes + random_.below(kPageBytes);
    REQUIRE(rig_.disk.flip_bit(content_path(id_), at, 1));
    rig_.disk.drop_caches();
    set(bad_[page], 1, now_);
  }
  void read(std::uint64_t offset, std::uint64_t length) {
    length = std::min(length, kCells * kCell - offset);
    ++under_way_;
    rig_.content->read(id_, offset, length, [=, this, since = now_](Result<Bytes> bytes) {
      --under_way_;
      ++now_;
      check(offset, length, since, bytes);
    });
  }
  void check(std::uint64_t offset, std::uint64_t length, std::uint64_t since,
             const Result<Bytes>& bytes) {
    bool may_fail = false;
    for (std::uint64_t page = offset / kPageBytes; page * kPageBytes < offset + length; ++page) {
      auto states = seen_since(bad_[page], since);
      may_fail = may_fail || std::ranges::find(states, 1u) != states.end();
    }
    if (!bytes) {
      ++errors_;
      CHECK_MESSAGE(may_fail, describe(bytes.error()));
      return;
    }
    for (std::uint64_t cell = offset / kCell; cell * kCell < offset + length; ++cell) {
      const std::uint64_t from = std::max(offset, cell * kCell);
      const std::uint64_t to = std::min(offset + length, (cell + 1) * kCell);
      bool is_known = false;
      for (std::uint32_t value : seen_since(cells_[cell], since)) {
        const Bytes want = pattern(value);
        is_known = is_known || std::equal(bytes->begin() + long(from - offset),
                                          bytes->begin() + long(to - offset),
                                          want.begin() + long(from - cell * kCell));
      }
      REQUIRE_MESSAGE(is_known, "cell " << cell);
    }
  }

  Rig rig_;
  SeedRandom random_;
  ContentId id_;
  std::vector<History> cells_, bad_;
  std::uint64_t now_ = 1;
  Instant clock_{};
  std::uint64_t place_ = 0;
  std::uint32_t last_ = 0;
  unsigned under_way_ = 0;
  std::uint64_t errors_ = 0;
};

TEST_CASE("content: reads ahead race with changes and rot, and nothing wrong is read") {
  std::uint64_t ahead = 0, dropped = 0, errors = 0;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    CAPTURE(seed);
    Race race(seed);
    for (int i = 0; i < 1200; ++i) race.step();
    race.finish();
    ahead += race.stats().reads_ahead;
    dropped += race.stats().pieces_dropped;
    errors += race.errors();
  }
  CHECK(ahead > 50);
  CHECK(dropped > 5);
  CHECK(errors > 10);
}

TEST_CASE("content: bytes kept of what was read ahead go with a change, a cut, a while") {
  for (int way = 0; way < 5; ++way) {
    CAPTURE(way);
    Rig rig;
    Bytes bytes = sample(4 * kPiece);
    const auto id = make_file(rig, bytes);
    REQUIRE(rig.read(id, 0, kPiece).has_value());  // a piece is ahead, and kept
    auto read = [&] { return rig.read(id, kPiece + 4096, 8192); };
    auto want = [&] {
      return Bytes(bytes.begin() + kPiece + 4096, bytes.begin() + kPiece + 4096 + 8192);
    };
    REQUIRE(read() == want());
    CHECK(rig.content->stats().reads_ahead == 1);
    switch (way) {
      case 0:
        REQUIRE(rig.write(id, kPiece + 5000, as_bytes("other bytes")));
        std::ranges::copy(as_bytes("other bytes"), bytes.begin() + kPiece + 5000);
        break;
      case 1:
        REQUIRE(rig.truncate(id, kPiece + 5000));
        std::fill(bytes.begin() + kPiece + 5000, bytes.end(), 0);
        break;
      case 2:
        REQUIRE(rig.remove(id));
        std::ranges::fill(bytes, 0);
        break;
      case 3:  // written and taken back: what is in the file counts
        REQUIRE(rig.prepare(id, kPiece, kPiece));
        REQUIRE(rig.content->write(id, kVersion, kPiece + 5000, as_bytes("x"), {}));
        bytes[kPiece + 5000] = 'x';
        REQUIRE(read() == want());
        rig.metadata->rollback();
        rig.content->rolled_back();
        break;
      default: forget(rig); break;
    }
    const auto before = rig.content->stats().reads_ahead;
    REQUIRE(read() == want());
    if (way == 4) CHECK(rig.content->stats().reads_ahead == before);
    REQUIRE(rig.commit());
    rig.tick();
    rig.tick();
    REQUIRE(read() == want());
  }
}

TEST_CASE("content: the bytes kept of what was read ahead are bounded, and go after a while") {
  Rig rig;
  const Bytes bytes = sample(8 * kPiece);
  std::size_t most = 0;
  for (unsigned i = 0; i < 8; ++i) {
    const auto id = make_file(rig, bytes, 20 + i);
    for (std::uint64_t at = 0; at < 3 * kPiece; at += kPiece)
      REQUIRE(rig.read(id, at, kPiece).has_value());
    most = std::max(most, rig.content->stats().pieces_kept);
  }
  CHECK(most == 16);
  rig.tick(seconds(3));
  CHECK(rig.content->stats().pieces_kept == 0);
}

TEST_CASE("content: a file closed to make room while it is read ahead is read to its end") {
  Rig rig;
  const Bytes bytes = sample(4 * kPiece);
  const auto id = make_file(rig, bytes);
  auto small = [](unsigned i) { return content_id(i % 7, 100 + i); };
  for (unsigned i = 0; i < 520; ++i) REQUIRE(rig.write(small(i), 0, as_bytes("some bytes")));
  REQUIRE(rig.commit());
  REQUIRE(rig.sync_all());
  rig.disk.drop_caches();
  REQUIRE(rig.disk.flip_bit(content_path(id), 2 * kPiece, 0));
  Answers answers;
  for (std::uint64_t at = 0; at < bytes.size(); at += kPiece) {
    answers.ask(rig, id, at, kPiece);
    for (unsigned i = 0; i < 520; ++i)
      rig.content->read(small(i), 0, 10, [](Result<Bytes> r) { CHECK(r.has_value()); });
    rig.executor.run_one();
  }
  rig.executor.run_all();
  REQUIRE(answers.at.size() == 4);
  for (auto& [at, part] : answers.at) CHECK(part.has_value() == (at != 2 * kPiece));
  CHECK(rig.content->stats().files_open <= 512);
}

}  // namespace
}  // namespace magma::store
