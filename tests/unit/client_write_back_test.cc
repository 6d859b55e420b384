// Delayed writes: when they are kept, sent, mended and lost.
#include <set>

#include "tests/unit/client_write_back_fixture.h"

using namespace magma;
using namespace magma::test::write_back;

namespace {

// Errors are told once, by whichever comes first.
enum class Teller : std::uint8_t { write, take_error };
Code error_of(Rig& rig, Teller teller) {
  std::optional<Error> error;
  switch (teller) {
    case Teller::write: {
      WriteBack::Decision decision = rig.write(0, "?");
      if (decision.path == Path::failed) return decision.error.code;
      if (decision.path == Path::through) rig.back.ended_through(kFile, nullptr, false, rig.now);
      break;
    }
    case Teller::take_error: error = rig.back.take_error(kFile); break;
  }
  return error ? error->code : Code{};
}
void check_told_once(Rig& rig, Teller teller, Code code) {
  for (int closes = 0; closes < 2; ++closes) {  // a close is perhaps another program's
    const auto error = rig.back.error_of(kFile);
    CHECK((error ? error->code : Code{}) == code);
  }
  CHECK(rig.owner.lost.empty() == (code == Code{}));
  CHECK(error_of(rig, teller) == code);
  CHECK(error_of(rig, Teller::take_error) == Code{});
  CHECK(error_of(rig, Teller::write) == Code{});
}

// Bytes that are not sent, one by one, around a chunk border.
class Oracle {
 public:
  static constexpr std::uint64_t kSpan = 4 * kMiB;
  static constexpr std::uint64_t kFrom = 3 * kChunkBytes - kSpan / 2;
  std::size_t count() const { return count_; }
  void lay(std::uint64_t offset, ByteSpan bytes, bool is_newer) {
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      std::int16_t& at = bytes_[offset - kFrom + i];
      if (at < 0) ++count_;
      if (at < 0 || is_newer) at = bytes[i];
    }
  }
  bool take(std::uint64_t offset, ByteSpan bytes) {
    bool is_same = true;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      std::int16_t& at = bytes_[offset - kFrom + i];
      is_same = is_same && at == bytes[i];
      at = -1;
    }
    count_ -= bytes.size();
    return is_same;
  }
  bool has_any(std::uint64_t offset, std::uint64_t end) const {
    return std::any_of(bytes_.begin() + static_cast<std::ptrdiff_t>(offset - kFrom),
                       bytes_.begin() + static_cast<std::ptrdiff_t>(end - kFrom),
                       [](std::int16_t at) { return at >= 0; });
  }
  std::uint64_t end() const {
    for (std::size_t i = count_ == 0 ? 0 : kSpan; i > 0; --i)
      if (bytes_[i - 1] >= 0) return kFrom + i;
    return 0;
  }

 private:
  std::vector<std::int16_t> bytes_ = std::vector<std::int16_t>(kSpan, -1);
  std::size_t count_ = 0;
};

// Whether the batch is one request; takes it out of the oracle.
bool check_batch(const DirtyRanges::Batch& batch, Oracle& oracle) {
  bool is_right = batch.extents.size() <= wire::kExtentsMax && batch.bytes.size() <= kMiB;
  ByteSpan rest = batch.bytes;
  std::uint64_t last = 0;
  for (const wire::Extent& extent : batch.extents) {
    const std::uint64_t end = extent.offset + extent.length;
    if (extent.length == 0 || extent.length > rest.size()) return false;
    is_right = is_right && extent.offset >= last &&
               client::chunk_of(end - 1) == client::chunk_of(batch.extents[0].offset) &&
               oracle.take(extent.offset, rest.first(extent.length));
    rest = rest.subspan(extent.length);
    last = end;
  }
  return is_right && rest.empty();
}

}  // namespace

TEST_CASE("delayed writes: ranges lose nothing and double nothing") {
  test::SeedRandom random(7);
  DirtyRanges ranges;
  Oracle oracle;
  bool has_been_full = false, has_been_many = false, has_barred = false;
  for (int step = 0; step < 6000; ++step) {
    // Much is small and close together; a little is large.
    const bool is_large = random.chance(40);
    const std::uint64_t length = random.below(is_large ? kMiB + 1 : 40);
    const std::uint64_t offset = is_large ? Oracle::kFrom + random.below(Oracle::kSpan - length)
                                          : 3 * kChunkBytes - 3000 + random.below(6000);
    const std::uint64_t end = offset + length;
    const std::uint64_t what = random.below(100);
    if (what < 90) {
      const Bytes bytes = random.bytes(length);
      if (length == 0) continue;
      const bool is_newer = what < 70;
      oracle.lay(offset, bytes, is_newer);
      if (is_newer)
        ranges.write(offset, bytes);
      else
        ranges.put_under(offset, bytes);
    } else if (what < 96) {
      const bool is_any = length > 0 && oracle.has_any(offset, end);
      if (length > 0) REQUIRE(ranges.overlaps(offset, end) == is_any);
      REQUIRE(ranges.end() == oracle.end());
    } else {
      const bool has_bar = random.chance(2);
      auto is_barred = [&](std::uint64_t from, std::uint64_t to) {
        const bool hits = has_bar && from < end && offset < to;
        has_barred = has_barred || hits;
        return hits;
      };
      const std::size_t before = oracle.count();
      const DirtyRanges::Batch batch = ranges.take(is_barred);
      for (const wire::Extent& extent : batch.extents)
        REQUIRE_FALSE(is_barred(extent.offset, extent.offset + extent.length));
      REQUIRE(check_batch(batch, oracle));
      if (!has_bar) REQUIRE(batch.empty() == (before == 0));
      has_been_full = has_been_full || batch.bytes.size() == kMiB;
      has_been_many = has_been_many || batch.extents.size() == wire::kExtentsMax;
    }
    REQUIRE(ranges.bytes() == oracle.count());
    REQUIRE(ranges.empty() == (oracle.count() == 0));
  }
  CHECK(has_been_full);
  CHECK(has_been_many);
  CHECK(has_barred);
  auto none = [](std::uint64_t, std::uint64_t) { return false; };
  while (!ranges.empty()) REQUIRE(check_batch(ranges.take(none), oracle));
  CHECK(oracle.count() == 0);
  CHECK(ranges.bytes() == 0);
  CHECK(ranges.take(none).empty());
}

TEST_CASE("delayed writes: kept with a token, and sent a little later") {
  Rig rig;
  WriteBack::Decision decision = rig.write(0, "abc");
  CHECK(decision.path == Path::through);
  CHECK(decision.is_counted);
  rig.end_through(0, "abc");
  rig.grant();
  const Instant first = rig.now;
  decision = rig.write(1, "xy");
  CHECK(decision.path == Path::kept);
  CHECK(decision.reply.offset == 1);
  CHECK(decision.reply.size == 3);
  CHECK(decision.reply.is_delayed);
  WriteBack::Write append{.ino = kFile, .append = true};
  decision = rig.write(append, bytes_of("++"));
  CHECK(decision.path == Path::kept);
  CHECK(decision.reply.offset == 3);
  CHECK(decision.reply.size == 5);
  rig.pass(milliseconds(400));
  CHECK(rig.write(10, "z").reply.size == 11);
  CHECK(rig.back.bytes() == 5);
  CHECK(rig.back.is_dirty(kFile));
  CHECK(rig.back.deadline() <= first + WriteBack::kDelay);

  rig.now = first;
  rig.pass(WriteBack::kDelay - nanoseconds(1));
  CHECK(rig.under_way() == 0);
  rig.pass(nanoseconds(1));
  REQUIRE(rig.under_way() == 1);
  CHECK(rig.owner.requests[0].flush.extents.size() == 2);
  CHECK(rig.back.is_dirty(kFile));
  CHECK(rig.owner.told.empty());
  rig.answer();
  CHECK(rig.content() == std::string_view("axy++\0\0\0\0\0z", 11));
  CHECK(rig.owner.told == std::vector<std::pair<Ino, std::uint64_t>>{{kFile, 7}});
  CHECK_FALSE(rig.back.is_dirty(kFile));
  CHECK_FALSE(rig.back.has_dirty());
  CHECK(rig.back.bytes() == 0);
  CHECK(rig.back.kept() == 3);
  CHECK(rig.back.flushes() == 1);
  rig.pass(seconds(10));
  CHECK(rig.under_way() == 0);
  // The next ones wait for their own time, and say whose they are.
  WriteBack::Write suid{.ino = kFile, .kill_suidgid = true, .uid = 3, .gid = 4};
  CHECK(rig.write(suid, bytes_of("s")).path == Path::kept);
  rig.pass(WriteBack::kDelay - nanoseconds(1));
  CHECK(rig.under_way() == 0);
  rig.pass(nanoseconds(1));
  REQUIRE(rig.under_way() == 1);
  CHECK(rig.owner.requests[0].flush.kill_suidgid);
  CHECK(rig.owner.requests[0].flush.uid == 3);
  CHECK(rig.owner.requests[0].flush.gid == 4);
  rig.answer();
  rig.write(0, "t");
  rig.back.send_all(rig.now);
  REQUIRE(rig.under_way() == 1);
  CHECK_FALSE(rig.owner.requests[0].flush.kill_suidgid);
}

TEST_CASE("delayed writes: a place that is written again is sent once") {
  Rig rig(4);
  rig.grant();
  rig.write(0, "aaaa");
  rig.write(2, "bb");
  rig.write(1, "c");
  rig.pass(WriteBack::kDelay);
  REQUIRE(rig.under_way() == 1);
  CHECK(rig.owner.requests[0].flush.extents.size() == 1);
  CHECK(as_text(rig.owner.requests[0].flush.bytes) == "acbb");
  // Newer bytes of what is under way are not sent before it is answered; others are.
  rig.write(3, "dd");
  rig.write(8, "ee");
  rig.pass(WriteBack::kDelay);
  REQUIRE(rig.under_way() == 2);
  CHECK(as_text(rig.owner.requests[1].flush.bytes) == "ee");
  rig.answer(1);
  CHECK(rig.under_way() == 1);
  rig.back.send_all(rig.now);
  CHECK(rig.under_way() == 1);
  rig.answer();
  REQUIRE(rig.under_way() == 1);
  CHECK(as_text(rig.owner.requests[0].flush.bytes) == "dd");
  rig.answer();
  CHECK(rig.content() == std::string_view("acbdd\0\0\0ee", 10));
  CHECK_FALSE(rig.back.has_dirty());
}

TEST_CASE("delayed writes: a recall waits until everything is sent") {
  Rig rig;
  rig.grant();
  const Instant granted_at = rig.now;
  rig.pass(milliseconds(1));
  const Instant made_before = rig.now;
  rig.write(0, "a");
  rig.write(kChunkBytes, "b");
  rig.pass(milliseconds(1));
  rig.back.recalled(kFile, rig.now, rig.note("done"));
  CHECK(rig.under_way() == 2);
  CHECK(rig.back.recalls() == 1);
  rig.pass(milliseconds(1));
  CHECK(rig.write(5, "c").path == Path::wait);
  rig.answer(1);
  CHECK(rig.log.empty());
  rig.answer();
  CHECK(rig.log == std::vector<std::string>{"done", "later"});
  CHECK_FALSE(rig.back.has_dirty());

  for (Instant made_at : {granted_at, made_before, made_before + milliseconds(1)}) {
    rig.back.granted(rig.owner.attr(kFile), made_at, rig.now);
    CHECK(rig.write(5, "c").path == Path::through);
    rig.back.ended_through(kFile, nullptr, false, rig.now);
  }
  rig.grant();
  CHECK(rig.write(5, "c").path == Path::kept);

  // Nothing to send: at once, whether anything is known of the file or not.
  rig.log.clear();
  rig.back.send_all(rig.now);
  rig.answer();
  rig.back.recalled(kFile, rig.now, rig.note("clean"));
  rig.back.recalled(kOther, rig.now, rig.note("unknown"));
  CHECK(rig.log == std::vector<std::string>{"clean", "unknown"});
  CHECK(rig.back.recalls() == 2);
  rig.back.granted(rig.owner.attr(kOther), rig.now, rig.now);
  CHECK(rig.write_through(0, "d", kOther) == Path::through);
  // The token is not asked for while it would be refused.
  rig.pass(wire::kTokenTerm + milliseconds(499));
  CHECK(rig.write_through(0, "d") == Path::through);
  rig.pass(milliseconds(1));
  CHECK(rig.write_through(0, "d") == Path::wait);
}

TEST_CASE("delayed writes: the token is asked for now and then") {
  Rig rig;
  CHECK(rig.write_through(0, "a") == Path::through);
  rig.pass(WriteBack::kClaimFirst - nanoseconds(1));
  CHECK(rig.write_through(0, "a") == Path::through);
  rig.pass(nanoseconds(1));
  WriteBack::Write sync{.ino = kFile, .may_delay = false};
  CHECK(rig.write(sync, bytes_of("a")).path == Path::through);
  // Not while another is under way: what the volcano tells may be older.
  CHECK(rig.write(0, "b").path == Path::through);
  rig.end_through(0, "a");
  CHECK(rig.write(0, "b").path == Path::through);
  rig.end_through(0, "b");
  rig.end_through(0, "b");
  CHECK(rig.owner.claims.empty());
  for (int wait : {1, 2, 4, 8, 16, 16}) {
    const std::size_t before = rig.owner.claims.size();
    CHECK(rig.write(0, "c").path == Path::wait);
    CHECK(rig.write(1, "c").path == Path::wait);
    CHECK(rig.owner.claims.size() == before + 1);
    CHECK(rig.log.empty());
    rig.back.claimed(kFile, rig.now);
    CHECK(rig.log.size() == 2);
    rig.log.clear();
    CHECK(rig.write_through(0, "c") == Path::through);
    rig.pass(seconds(wait) - nanoseconds(1));
    CHECK(rig.write_through(0, "c") == Path::through);
    rig.pass(nanoseconds(1));
  }
  CHECK(rig.write(0, "d").path == Path::wait);
  CHECK(rig.back.claims() == 7);
  rig.grant();
  CHECK(rig.log.empty());
  rig.back.claimed(kFile, rig.now);
  CHECK(rig.log.size() == 1);
  CHECK(rig.write(0, "d").path == Path::kept);
}

TEST_CASE("delayed writes: a grant that may be older than a write is not taken") {
  Rig rig;
  CHECK(rig.write(0, "aaaa").path == Path::through);
  CHECK(rig.write(4, "bbbb").path == Path::through);
  rig.pass(milliseconds(1));
  const wire::Attr before = rig.owner.attr(kFile);
  const Instant made_at = rig.now;
  rig.pass(milliseconds(1));
  rig.end_through(0, "aaaa");
  rig.grant();  // the other is under way
  CHECK(rig.write(0, "cccc").path == Path::through);
  rig.end_through(0, "cccc");
  rig.end_through(4, "bbbb");
  rig.pass(milliseconds(1));
  rig.back.granted(before, made_at, rig.now);
  CHECK(rig.write_through(0, "a") == Path::through);
  rig.back.granted(rig.owner.attr(kFile), rig.now, rig.now);  // made as it ended
  CHECK(rig.write_through(0, "a") == Path::through);
  rig.pass(nanoseconds(1));
  rig.back.granted(rig.owner.attr(kFile), rig.now, rig.now);
  WriteBack::Write append{.ino = kFile, .append = true};
  WriteBack::Decision decision = rig.write(append, bytes_of("d"));
  CHECK(decision.path == Path::kept);
  CHECK(decision.reply.offset == 8);
}

TEST_CASE("delayed writes: who needs them sent waits, and writes wait behind him") {
  Rig rig;
  rig.back.when_clean(kFile, rig.now, rig.note("unknown"));
  rig.grant();
  rig.back.when_clean(kFile, rig.now, rig.note("clean"));
  CHECK(rig.log == std::vector<std::string>{"unknown", "clean"});
  rig.log.clear();
  rig.write(0, "a");
  rig.back.when_clean(kFile, rig.now, rig.note("one"));
  CHECK(rig.under_way() == 1);
  rig.back.when_clean(kFile, rig.now, rig.note("two"));
  WriteBack::Write late{.ino = kFile, .offset = 1, .length = 1};
  Bytes bytes = bytes_of("b");
  auto again = [&] {
    CHECK(rig.content() == "a");
    rig.log.push_back("late");
    CHECK(rig.back.write(late, bytes, rig.now, {}).path == Path::kept);
  };
  CHECK(rig.back.write(late, bytes, rig.now, again).path == Path::wait);
  CHECK(rig.log.empty());
  rig.answer();
  CHECK(rig.log == std::vector<std::string>{"one", "two", "late"});
  CHECK(rig.under_way() == 0);
  rig.pass(WriteBack::kDelay);
  rig.answer();
  CHECK(rig.content() == "ab");
}

TEST_CASE("delayed writes: much is sent at once, until little is left") {
  Rig rig;
  rig.grant();
  constexpr std::size_t kLength = 3 * kMiB / 4;
  for (std::size_t i = 0; i < 5; ++i) rig.write_big(i * kLength, kLength);
  CHECK(rig.under_way() == 0);
  rig.write_big(5 * kLength, kLength);
  std::size_t sent = 0;
  for (const FakeOwner::Request& request : rig.owner.requests) sent += request.flush.bytes.size();
  CHECK(sent == 4 * kMiB);
  CHECK(rig.under_way() == WriteBack::kSendingMax);
  rig.pass(milliseconds(10));
  rig.answer_all();
  CHECK(rig.back.bytes() == kMiB / 2);
  CHECK(rig.back.bytes() <= WriteBack::kSettleBytes);
  rig.pass(WriteBack::kDelay - milliseconds(1));
  CHECK(rig.under_way() == 0);
  rig.pass(milliseconds(1));
  CHECK(rig.under_way() == 1);
  rig.answer();
  CHECK(rig.content().size() == 6 * kLength);
  CHECK_FALSE(rig.back.has_dirty());
}

TEST_CASE("delayed writes: no more is kept than there is room for") {
  Rig rig;
  rig.grant();
  for (std::size_t i = 0; i < 64; ++i) {
    REQUIRE(rig.write_big(i * kMiB) == Path::kept);
    REQUIRE(rig.under_way() <= WriteBack::kSendingMax);
  }
  CHECK(rig.under_way() == WriteBack::kSendingMax);
  CHECK(rig.back.bytes() == WriteBack::kBytesMax);
  rig.grant(kOther);
  CHECK(rig.write(0, "a", kOther).path == Path::wait);
  CHECK(rig.write(0, "b", kOther).path == Path::wait);
  CHECK(rig.log.empty());
  rig.answer();
  CHECK(rig.log.size() == 2);
  CHECK(rig.under_way() == WriteBack::kSendingMax);
  CHECK(rig.write(0, "a", kOther).path == Path::kept);
  CHECK(rig.write_big(64 * kMiB) == Path::wait);
  rig.answer_all();
  CHECK(rig.log.size() == 3);
  CHECK(rig.back.bytes() == 0);  // the byte of the other file as well
  CHECK(rig.content().size() == 64 * kMiB);
  CHECK(rig.content(kOther) == "a");
  bool is_same = true;
  for (std::size_t i = 0; i < 64; ++i)
    is_same = is_same && rig.content().substr(i * kMiB, kMiB) ==
                             std::string(kMiB, static_cast<char>('a' + i % 26));
  CHECK(is_same);
}

TEST_CASE("delayed writes: after a lost session they are sent if the file is as it was") {
  for (bool is_answer_late : {false, true}) {
    Rig rig(2);
    rig.grant();
    const Instant made_before = rig.now;
    rig.write(0, "aaaa");
    rig.pass(WriteBack::kDelay);
    rig.write(1, "bb");
    rig.write(100, "cc");
    rig.back.session_lost(rig.now);
    if (!is_answer_late) rig.refuse(Code::fenced);
    const std::size_t before = rig.under_way();
    CHECK(rig.back.is_dirty(kFile));
    rig.pass(seconds(5));
    rig.back.send_all(rig.now);
    rig.grant();
    CHECK(rig.write(7, "d").path == Path::wait);
    rig.back.session_renewed(rig.now);
    rig.grant();
    CHECK(rig.amended().size == 102);  // not taken: some is not sent
    rig.back.granted(rig.owner.attr(kOther), made_before, rig.now);
    CHECK(rig.write_through(0, "d", kOther) == Path::through);
    rig.pass(seconds(5));
    CHECK(rig.owner.verifies.size() == (is_answer_late ? 0 : 1));
    CHECK(rig.under_way() == before);
    if (is_answer_late) rig.refuse(Code::fenced);
    CHECK(rig.owner.verifies == std::vector<Ino>{kFile});
    CHECK(rig.under_way() == 0);
    CHECK(rig.back.bytes() == 6);
    // Lost again before the answer: it counts for nothing.
    rig.back.session_lost(rig.now);
    rig.verified();
    CHECK(rig.under_way() == 0);
    rig.back.session_renewed(rig.now);
    CHECK(rig.under_way() == 0);
    rig.verified();
    REQUIRE(rig.under_way() == 1);
    CHECK(as_text(rig.owner.requests[0].flush.bytes) == "abbacc");
    CHECK(rig.log.empty());
    rig.answer();
    CHECK(rig.log == std::vector<std::string>{"later"});
    CHECK_FALSE(rig.back.has_dirty());
    CHECK(rig.back.bytes() == 0);
    CHECK(rig.content().substr(0, 4) == "abba");
    CHECK(rig.content().substr(100) == "cc");
    check_told_once(rig, Teller::take_error, Code{});
  }
}

TEST_CASE("delayed writes: what comes back from a lost session later is verified anew") {
  Rig rig(2);
  rig.grant();
  rig.write(0, "a");
  rig.back.send_all(rig.now);
  rig.back.session_lost(rig.now);
  rig.back.session_renewed(rig.now);
  rig.verified();  // of an answer that nobody waits for
  rig.refuse(Code::fenced);
  CHECK(rig.owner.verifies.size() == 1);
  rig.pass(WriteBack::kDelay);
  CHECK(rig.under_way() == 0);
  rig.verified();
  rig.answer();
  CHECK(rig.content() == "a.");
  CHECK_FALSE(rig.back.has_dirty());
}

TEST_CASE("delayed writes: after a lost session they are lost if the file is another or gone") {
  for (Teller teller : {Teller::write, Teller::take_error})
    for (bool is_gone : {false, true}) {
      Rig rig(2);
      rig.grant();
      rig.write(0, "aaaa");
      rig.back.send_all(rig.now);
      rig.write(8, "bb");
      rig.lose_session();
      rig.back.when_clean(kFile, rig.now, rig.note("done"));
      rig.back.session_renewed(rig.now);
      CHECK(rig.log.empty());
      ++rig.owner.files[kFile].version;
      if (is_gone)
        rig.back.verified(kFile, nullptr, rig.now);
      else
        rig.verified();
      CHECK(rig.under_way() == 0);
      CHECK(rig.back.bytes() == 0);
      CHECK_FALSE(rig.back.has_dirty());
      CHECK(rig.log.size() == 1);
      CHECK(rig.content() == "..");
      check_told_once(rig, teller, is_gone ? Code::stale : Code::io);
    }
}

TEST_CASE("delayed writes: a refusal is told once, and the rest is sent") {
  for (Teller teller : {Teller::write, Teller::take_error}) {
    Rig rig;
    rig.grant();
    rig.write(0, "a");
    rig.write(kChunkBytes, "b");
    rig.back.send_all(rig.now);
    REQUIRE(rig.under_way() == 2);
    rig.refuse(Code::no_space);
    CHECK(rig.back.bytes() == 1);
    CHECK(rig.back.is_dirty(kFile));
    rig.answer();
    CHECK_FALSE(rig.back.has_dirty());
    CHECK(rig.back.bytes() == 0);
    CHECK(rig.content()[0] == '\0');
    CHECK(rig.content()[kChunkBytes] == 'b');
    CHECK(rig.owner.told.size() == 1);
    check_told_once(rig, teller, Code::no_space);
    CHECK(rig.write_through(0, "c") == Path::through);  // what its size is must be asked
  }
}

TEST_CASE("delayed writes: attributes tell what programs have written") {
  Rig rig(10);
  CHECK(rig.amended().size == 10);
  CHECK(is_believed(rig.amended()));
  rig.grant();
  CHECK(rig.amended().size == 10);
  const wire::Attr old = rig.owner.attr(kFile);
  auto mended = [&](wire::Attr attr) {
    rig.back.amend(attr);
    CHECK_FALSE(is_believed(attr));
    return attr.size;
  };
  rig.write(20, "x");
  CHECK(mended(old) == 21);
  rig.back.send_all(rig.now);
  CHECK(mended(old) == 21);
  rig.answer();
  CHECK(mended(old) == 21);
  CHECK(rig.amended().size == 21);
  CHECK(is_believed(rig.amended()));
  CHECK(is_believed(rig.amended(kOther)));
  // Without a token as well, and when the file is closed.
  rig.back.recalled(kFile, rig.now, [] {});
  CHECK(mended(old) == 21);
  rig.owner.closed.insert(kFile);
  rig.back.released(kFile, rig.now);
  CHECK(mended(old) == 21);
  rig.owner.files[kFile] = {"cut", 9};
  CHECK(rig.amended().size == 3);
  CHECK(is_believed(rig.amended()));
  // Another map may be of an earlier state.
  rig.back.forget_tokens(rig.now);
  wire::Attr attr = old;
  rig.back.amend(attr);
  CHECK(attr.size == 10);
}

TEST_CASE("delayed writes: what the ring can answer reads of") {
  Rig rig(100);
  auto may_read = [&](std::uint64_t offset, std::uint64_t length) {
    return rig.back.may_read(kFile, offset, length);
  };
  CHECK(may_read(0, 1000));
  rig.grant();
  CHECK(may_read(0, 1000));
  rig.write(10, "ab");
  for (int turn = 0; turn < 2; ++turn) {
    CHECK(may_read(0, 10));
    CHECK_FALSE(may_read(0, 11));
    CHECK_FALSE(may_read(11, 1));
    CHECK(may_read(12, 88));
    CHECK(may_read(90, 20));  // the file is no longer here than there
    rig.back.send_all(rig.now);
  }
  CHECK(rig.under_way() == 1);
  rig.write(200, "c");
  CHECK(may_read(12, 88));
  CHECK_FALSE(may_read(12, 89));
  CHECK_FALSE(may_read(150, 1));
  CHECK_FALSE(may_read(300, 1));
  rig.answer();
  CHECK(may_read(0, 100));
  CHECK_FALSE(may_read(100, 1));
  rig.back.send_all(rig.now);
  rig.answer();
  CHECK(may_read(0, 1000));
}

TEST_CASE("delayed writes: at the end what is not sent is lost") {
  Rig rig;
  rig.grant();
  rig.grant(kOther);
  rig.grant(kThird);
  for (std::size_t i = 0; i < 63; ++i) REQUIRE(rig.write_big(i * kMiB) == Path::kept);
  REQUIRE(rig.write_big(0, kMiB, kOther) == Path::kept);
  rig.back.session_lost(rig.now);  // nothing more is sent
  rig.back.when_clean(kOther, rig.now, rig.note("other"));
  rig.back.when_clean(kFile, rig.now, rig.note("file"));
  CHECK(rig.under_way() == WriteBack::kSendingMax);
  rig.back.end();
  CHECK(rig.log == std::vector<std::string>{"other"});
  CHECK(rig.back.bytes() == WriteBack::kSendingMax * kMiB);
  while (rig.under_way() > 0) rig.refuse(Code::io);
  CHECK(rig.log == std::vector<std::string>{"other", "file"});
  CHECK(rig.under_way() == 0);
  CHECK(rig.back.bytes() == 0);
  CHECK_FALSE(rig.back.has_dirty());
  CHECK(rig.back.take_error(kOther)->code == Code::io);
  WriteBack::Decision decision = rig.write(0, "a", kThird);
  CHECK(decision.path == Path::through);
  CHECK_FALSE(decision.is_counted);
}

TEST_CASE("delayed writes: at the end who waits for room goes on") {
  Rig rig;
  rig.grant();
  rig.grant(kOther);
  for (std::size_t i = 0; i < 64; ++i) REQUIRE(rig.write_big(i * kMiB) == Path::kept);
  CHECK(rig.write(0, "a", kOther).path == Path::wait);
  rig.back.end();
  CHECK(rig.log.size() == 1);
  CHECK(rig.write(0, "a", kOther).path == Path::through);
}
