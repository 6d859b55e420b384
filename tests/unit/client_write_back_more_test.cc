// Delayed writes: the whole at random, and what met at an awkward moment.
#include <functional>
#include <memory>
#include <set>

#include "tests/unit/client_write_back_fixture.h"

using namespace magma;
using namespace magma::test::write_back;

TEST_CASE("delayed writes: not those that must be sent, or cannot be kept") {
  Rig rig(4);
  FakeOwner owner;
  WriteBack off(owner, false);
  off.granted(rig.owner.attr(kFile), kStart, kStart);
  WriteBack::Write one{.ino = kFile, .length = 1};
  Bytes bytes(1);
  WriteBack::Decision decision = off.write(one, bytes, kStart, {});
  CHECK(decision.path == Path::through);
  CHECK_FALSE(decision.is_counted);

  rig.owner.closed.insert(kOther);
  CHECK_FALSE(rig.write(0, "a", kOther).is_counted);
  wire::Attr partial = rig.owner.attr(kFile), folder = partial;
  partial.is_partial = true;
  folder.mode = S_IFDIR | 0755;
  for (const wire::Attr& attr : {partial, folder}) {
    rig.back.granted(attr, rig.now, rig.now);
    CHECK(rig.write_through(0, "a") == Path::through);
  }
  rig.grant();
  CHECK(rig.write(0, "").path == Path::through);
  decision = rig.write(wire::kFileBytesMax - 1, "ab");
  CHECK(decision.path == Path::failed);
  CHECK(decision.error.code == Code::too_big);
  // One that must be sent now comes after those that were kept.
  CHECK(rig.write(4, "b").path == Path::kept);
  WriteBack::Write sync{.ino = kFile, .append = true, .may_delay = false};
  CHECK(rig.write(sync, bytes_of("cc")).path == Path::wait);
  CHECK(rig.under_way() == 1);
  CHECK(rig.log.empty());
  rig.answer();
  CHECK(rig.log == std::vector<std::string>{"later"});
  decision = rig.write(sync, bytes_of("cc"));
  CHECK(decision.path == Path::through);
  CHECK(decision.is_counted);
  CHECK(sync.offset == 5);
  CHECK_FALSE(sync.append);
  WriteBack::Write append{.ino = kFile, .append = true};
  CHECK(rig.write(append, bytes_of("d")).reply.offset == 7);
  rig.end_through(5, "cc");
  rig.back.send_all(rig.now);
  rig.answer();
  CHECK(rig.content() == "a...bccd");
}

TEST_CASE("delayed writes: near the end of the space they go through") {
  for (bool is_through : {false, true}) {
    Rig rig;
    rig.grant();
    if (is_through) {
      WriteBack::Write sync{.ino = kFile, .may_delay = false};
      CHECK(rig.write(sync, bytes_of("a")).path == Path::through);
      wire::WriteReply reply = rig.owner.reply_of(kFile);
      reply.may_delay = false;
      rig.back.ended_through(kFile, &reply, false, rig.now);
    } else {
      CHECK(rig.write(0, "a").path == Path::kept);
      rig.back.send_all(rig.now);
      rig.answer(0, false);
    }
    CHECK(rig.write_through(0, "b") == Path::through);
    rig.pass(WriteBack::kClaimLast - nanoseconds(1));
    CHECK(rig.write_through(0, "b") == Path::through);
    rig.pass(nanoseconds(1));
    CHECK(rig.write(0, "c").path == Path::wait);
    CHECK(rig.owner.claims.size() == 1);
  }
}

TEST_CASE("delayed writes: another map ends all tokens and sends all at once") {
  Rig rig(100);
  rig.grant();
  rig.grant(kOther);
  const Instant made_at = rig.now;
  rig.write(20, "a");
  rig.back.forget_tokens(rig.now);
  CHECK(rig.under_way() == 1);
  CHECK_FALSE(rig.back.may_read(kFile, 0, 1));  // the ring's size is not known
  CHECK(rig.amended().size == 100);
  CHECK(rig.write(0, "b").path == Path::wait);
  CHECK(rig.write_through(0, "b", kOther) == Path::through);
  rig.answer();
  CHECK(rig.log.size() == 1);
  CHECK(rig.write_through(0, "b") == Path::through);
  rig.back.granted(rig.owner.attr(kThird), made_at, rig.now);
  CHECK(rig.write_through(0, "b", kThird) == Path::through);
}

TEST_CASE("delayed writes: changes of the size end the token, a cut may bring it again") {
  Rig rig(10);
  rig.grant();
  rig.back.begin_through(kFile, rig.now);
  rig.grant();
  CHECK(rig.write(0, "a").path == Path::through);
  rig.end_through(0, "a");
  rig.back.ended_through(kFile, nullptr, false, rig.now);
  rig.grant();
  CHECK(rig.write(0, "b").path == Path::kept);
  rig.back.send_all(rig.now);
  rig.answer();

  auto cut = [&] {
    rig.pass(milliseconds(1));
    rig.back.begin_cut(kFile, rig.now);
    return rig.now;
  };
  const Instant made_before = rig.now;
  Instant begun = cut();
  rig.back.granted(rig.owner.attr(kFile), made_before, rig.now);
  CHECK(rig.write_through(0, "c") == Path::wait);  // it asks for the token
  rig.owner.files[kFile].content.resize(2);
  rig.back.granted(rig.owner.attr(kFile), begun, rig.now);
  rig.back.ended_cut(kFile, begun, rig.now);
  rig.back.claimed(kFile, rig.now);
  WriteBack::Decision decision = rig.write(0, "c");
  CHECK(decision.path == Path::kept);
  CHECK(decision.reply.size == 2);
  rig.back.send_all(rig.now);
  rig.answer();
  // One that was asked for meanwhile may tell the size before.
  begun = cut();
  rig.grant();
  rig.back.ended_cut(kFile, begun, rig.now);
  CHECK(rig.write(0, "d").path == Path::wait);
  CHECK(rig.owner.claims.size() == 2);
}

TEST_CASE("delayed writes: a name is moved after the writes to files that may have it") {
  Rig rig;
  for (Ino ino : {kFile, kOther, kThird}) rig.grant(ino);
  rig.back.named(kFile, kDir, "new");
  rig.back.named(kOther, kDir, "else");
  for (Ino ino : {kFile, kOther, kThird}) rig.write(0, "a", ino);
  rig.back.when_clean(kDir, "new", rig.now, rig.note("done"));
  REQUIRE(rig.under_way() == 2);
  for (const FakeOwner::Request& request : rig.owner.requests) CHECK(request.flush.ino != kOther);
  rig.answer();
  CHECK(rig.log.empty());
  rig.answer();
  CHECK(rig.log.size() == 1);
  rig.back.when_clean(kDir, "new", rig.now, rig.note("done"));
  CHECK(rig.log.size() == 2);
  CHECK(rig.under_way() == 0);
}

TEST_CASE("delayed writes: answers that come inside the call") {
  Rig rig;
  rig.owner.on_send = [&] { rig.answer(); };
  rig.owner.on_claim = [&] {
    rig.grant();
    rig.back.claimed(kFile, rig.now);
  };
  CHECK(rig.write_through(0, "a") == Path::through);
  rig.pass(WriteBack::kClaimFirst);
  CHECK(rig.write(0, "b").path == Path::wait);
  CHECK(rig.log.size() == 1);
  CHECK(rig.write(0, "b").path == Path::kept);
  for (std::size_t i = 0; i < 70; ++i) REQUIRE(rig.write_big(i * kMiB) == Path::kept);
  bool is_done = false;
  rig.back.when_clean(kFile, rig.now, [&] { is_done = true; });
  CHECK(is_done);
  CHECK(rig.back.bytes() == 0);
  CHECK(rig.content().size() == 70 * kMiB);
}

TEST_CASE("delayed writes: attributes while there is no token") {
  Rig rig(10);
  rig.grant();
  rig.write(20, "x");
  rig.lose_session();
  CHECK(rig.amended().size == 21);
  CHECK_FALSE(is_believed(rig.amended()));
  rig.owner.files[kFile].content.resize(30);
  CHECK(rig.amended().size == 30);
  CHECK_FALSE(is_believed(rig.amended()));
}

// One program writes, one thing at a time; the ring answers in any order, recalls, and loses the
// session. Somebody else writes to the file when he may.
TEST_CASE("delayed writes: in whatever order things happen, the file is what was written") {
  test::SeedRandom random(11);
  Rig rig;
  std::string written;  // what the program has to see
  std::uint64_t kept = 0, recalls = 0, losses = 0;
  struct Waiting {
    WriteBack::Write write;
    Bytes bytes;
  };
  std::optional<Waiting> waiting;
  auto attempt = [&](auto& self) -> void {
    Waiting one = std::move(*waiting);
    waiting.reset();
    const bool is_append = one.write.append;
    auto later = [&self] { self(self); };
    const Bytes bytes = one.bytes;
    WriteBack::Decision decision = rig.back.write(one.write, one.bytes, rig.now, later);
    REQUIRE(decision.path != Path::failed);
    if (decision.path == Path::wait) {
      waiting = std::move(one);
      return;
    }
    const std::uint64_t offset = is_append ? written.size() : one.write.offset;
    written.resize(std::max<std::size_t>(written.size(), offset + bytes.size()));
    std::copy(bytes.begin(), bytes.end(), written.begin() + static_cast<std::ptrdiff_t>(offset));
    if (decision.path == Path::kept) {
      ++kept;
      CHECK(decision.reply.offset == offset);
      CHECK(decision.reply.size == written.size());
      return;
    }
    if (is_append && !one.write.append) CHECK(one.write.offset == offset);
    rig.is_placed = decision.is_placed;
    rig.end_through(offset, as_text(bytes));
  };
  auto somebody_else = [&] {
    REQUIRE(rig.content() == written);
    ++recalls;
    const std::string text = random.chance(2) ? "somebody" : "";
    if (text.empty()) return;
    const std::uint64_t offset = random.below(written.size() + 1);
    rig.owner.store(kFile, offset, as_bytes(text));
    ++rig.owner.files[kFile].version;
    written = rig.content();
  };
  for (int step = 0; step < 20'000; ++step) {
    rig.pass(milliseconds(static_cast<std::int64_t>(random.below(100))));
    const std::uint64_t what = random.below(100);
    if (what < 50 && !waiting) {
      const bool is_long = random.chance(10);
      waiting = Waiting{{.ino = kFile,
                         .offset = random.below(is_long ? 20'000 : 300),
                         .append = random.chance(4),
                         .may_delay = !random.chance(30)},
                        random.bytes(1 + random.below(is_long ? 500 : 40))};
      waiting->write.length = waiting->bytes.size();
      attempt(attempt);
    } else if (what < 75 && rig.under_way() > 0) {
      rig.answer(random.below(rig.under_way()));
    } else if (what < 80) {
      rig.grant();
    } else if (what == 80 && !waiting) {
      rig.back.recalled(kFile, rig.now, somebody_else);
    } else if (what == 81 && !waiting) {
      rig.back.when_clean(kFile, rig.now, [&] { REQUIRE(rig.content() == written); });
    } else if (what == 82 && random.chance(4)) {
      ++losses;
      rig.lose_session();
      rig.back.session_renewed(rig.now);
      rig.verified();
    } else if (what == 83) {
      rig.back.send_all(rig.now);
    } else if (what == 84 && random.chance(50)) {
      // The file may have been cut by somebody else: there is no token.
      auto cut = [&] {
        rig.owner.files[kFile].content.resize(10);
        ++rig.owner.files[kFile].version;
        written = rig.content();
      };
      if (!waiting) rig.back.recalled(kFile, rig.now, cut);
    }
    for (std::size_t i = rig.owner.claims.size(); i > 0; --i) {
      if (random.chance(2)) rig.grant();
      rig.back.claimed(kFile, rig.now);
    }
    rig.owner.claims.clear();
    const std::uint64_t offset = random.below(400), length = 1 + random.below(100);
    if (rig.back.may_read(kFile, offset, length)) {
      auto part = [&](std::string_view text) {
        return offset < text.size() ? text.substr(offset, length) : std::string_view();
      };
      REQUIRE(part(rig.content()) == part(written));
    }
    REQUIRE(rig.amended().size == written.size());
    REQUIRE(rig.under_way() <= WriteBack::kSendingMax);
  }
  while (rig.under_way() > 0 || rig.back.has_dirty()) {
    rig.pass(WriteBack::kDelay);
    rig.answer_all();
  }
  CHECK(rig.content() == written);
  CHECK(rig.back.bytes() == 0);
  CHECK(kept > 1000);
  CHECK(recalls > 50);
  CHECK(losses > 20);
}

TEST_CASE("delayed writes: who waits for room goes on when another file's bytes are lost") {
  Rig rig;
  rig.grant();
  for (std::size_t i = 0; i < 64; ++i) REQUIRE(rig.write_big(i * kMiB) == Path::kept);
  rig.grant(kOther);
  CHECK(rig.write(0, "a", kOther).path == Path::wait);
  rig.lose_session();
  rig.back.session_renewed(rig.now);
  ++rig.owner.files[kFile].version;
  rig.verified();
  CHECK(rig.back.bytes() == 0);
  CHECK(rig.under_way() == 0);
  rig.pass(seconds(100));
  CHECK(rig.log.size() == 1);
}

TEST_CASE("delayed writes: what was answered after all needs no verifying") {
  Rig rig;
  rig.grant();
  rig.write(0, "a");
  rig.back.send_all(rig.now);
  rig.back.session_lost(rig.now);
  rig.answer();
  CHECK_FALSE(rig.back.has_dirty());
  rig.back.session_renewed(rig.now);
  ++rig.owner.files[kFile].version;  // somebody else wrote
  rig.verified();
  CHECK_FALSE(rig.back.take_error(kFile).has_value());
}

TEST_CASE("delayed writes: nothing is verified while a request is under way") {
  Rig rig;
  rig.grant();
  rig.write(0, "a");
  rig.write(kChunkBytes, "b");
  rig.back.send_all(rig.now);
  REQUIRE(rig.under_way() == 2);
  rig.back.session_lost(rig.now);
  rig.refuse(Code::fenced, 0);
  rig.back.session_renewed(rig.now);
  CHECK(rig.owner.verifies.empty());
  rig.verified();  // of an answer that nobody waits for
  CHECK(rig.back.bytes() == 2);
  rig.answer();
  CHECK(rig.owner.verifies == std::vector<Ino>{kFile});
  rig.verified();
  CHECK_FALSE(rig.back.take_error(kFile).has_value());
  rig.answer();
  CHECK_FALSE(rig.back.has_dirty());
  CHECK(rig.content()[0] == 'a');
}

TEST_CASE("delayed writes: two writes that wait for the same both go on") {
  Rig rig;
  rig.grant();
  rig.write(0, "a");
  rig.back.when_clean(kFile, rig.now, rig.note("one"));
  std::vector<WriteBack::Write> late(2, {.ino = kFile, .offset = 1, .length = 1});
  std::vector<Bytes> bytes(2, bytes_of("b"));
  std::vector<Path> paths(2, Path::wait);
  std::function<void(std::size_t)> begin = [&](std::size_t which) {
    paths[which] =
        rig.back.write(late[which], bytes[which], rig.now, [&, which] { begin(which); }).path;
  };
  begin(0);
  begin(1);
  CHECK(paths == std::vector<Path>(2, Path::wait));
  rig.answer_all();
  CHECK(paths == std::vector<Path>(2, Path::kept));
}

TEST_CASE("delayed writes: a token is not taken with a size from before delayed writes were sent") {
  Rig rig(4);
  rig.grant();
  rig.pass(milliseconds(1));
  const wire::Attr old = rig.owner.attr(kFile);
  const Instant made_at = rig.now;
  rig.pass(milliseconds(1));
  WriteBack::Write append{.ino = kFile, .append = true};
  rig.write(append, bytes_of("bbbb"));
  rig.back.send_all(rig.now);
  rig.answer(0, false);  // or refused: the token is dropped without a recall
  rig.back.granted(old, made_at, rig.now);
  append = {.ino = kFile, .append = true};
  WriteBack::Decision d = rig.write(append, bytes_of("cccc"));
  if (d.path == Path::kept) CHECK(d.reply.offset == 8);
  if (d.path == Path::through) CHECK(append.append);
}

TEST_CASE("delayed writes: nor from before a write through, also if it was closed meanwhile") {
  Rig rig(4);
  CHECK(rig.write(4, "bbbb").path == Path::through);
  const wire::Attr old = rig.owner.attr(kFile);
  rig.pass(milliseconds(1));
  const Instant made_at = rig.now;
  rig.pass(milliseconds(1));
  rig.end_through(4, "bbbb");
  rig.owner.closed.insert(kFile);
  rig.back.released(kFile, rig.now);
  rig.owner.closed.clear();
  rig.back.granted(old, made_at, rig.now);
  WriteBack::Write append{.ino = kFile, .append = true};
  WriteBack::Decision d = rig.write(append, bytes_of("cccc"));
  if (d.path == Path::kept) CHECK(d.reply.offset == 8);
}

TEST_CASE("delayed writes: a recall waits for a write at a place that the token told") {
  Rig rig(4);
  rig.grant();
  WriteBack::Write sync{.ino = kFile, .append = true, .may_delay = false};
  CHECK(rig.write(sync, bytes_of("b")).path == Path::through);
  CHECK_FALSE(sync.append);  // at offset 4, whatever others append after the recall
  rig.back.recalled(kFile, rig.now, rig.note("done"));
  CHECK(rig.log.empty());
}

TEST_CASE("delayed writes: who waits until all is sent waits behind a write that waited before") {
  Rig rig;
  rig.grant();
  rig.write(0, "a");
  rig.back.when_clean(kFile, rig.now, rig.note("one"));
  WriteBack::Write late{.ino = kFile, .offset = 1, .length = 1};
  Bytes bytes = bytes_of("b");
  CHECK(rig.back.write(late, bytes, rig.now, [&] {
    CHECK(rig.back.write(late, bytes, rig.now, {}).path == Path::kept);
  }).path == Path::wait);
  rig.back.when_clean(kFile, rig.now, [&] { CHECK_FALSE(rig.back.is_dirty(kFile)); });
  rig.answer();
}

TEST_CASE("delayed writes: the end calls who waits for a token") {
  Rig rig;
  CHECK(rig.write_through(0, "a") == Path::through);
  rig.pass(WriteBack::kClaimFirst);
  CHECK(rig.write(0, "a").path == Path::wait);
  rig.back.end();
  CHECK(rig.log.size() == 1);
}

TEST_CASE("delayed writes: what was refused no longer counts in the size") {
  Rig rig(10);
  rig.grant();
  rig.write(kChunkBytes, "x");
  rig.write(0, "y");
  rig.back.send_all(rig.now);
  rig.write(0, "z");
  rig.refuse(Code::no_space, 1);
  CHECK(rig.amended().size == 10);
}

TEST_CASE("delayed writes: much is sent until no more than kSettleBytes are left") {
  Rig rig;
  rig.grant();
  rig.write_big(0, 2 * kMiB);
  rig.write_big(2 * kMiB, 2 * kMiB);
  CHECK(rig.under_way() == 3);
}

TEST_CASE("delayed writes: a cut waits behind a write that waited before") {
  Rig rig(100);
  rig.grant();
  rig.write(0, "a");
  rig.back.when_clean(kFile, rig.now, rig.note("one"));
  WriteBack::Write late{.ino = kFile, .offset = 1, .length = 1};
  Bytes bytes = bytes_of("b");
  rig.back.write(late, bytes, rig.now, [&] { rig.back.write(late, bytes, rig.now, {}); });
  rig.back.when_clean(kFile, rig.now, [&] {
    rig.back.begin_cut(kFile, rig.now);
    rig.owner.files[kFile].content.clear();
    ++rig.owner.files[kFile].version;
    rig.back.granted(rig.owner.attr(kFile), rig.now, rig.now);
    rig.back.ended_cut(kFile, rig.now, rig.now);
  });
  rig.answer();
  CHECK(rig.amended().size == 100);
  rig.answer();
  CHECK(rig.amended().size == 0);
}

TEST_CASE("delayed writes: an append that waited goes to where the end is then") {
  for (bool is_recalled : {false, true}) {
    CAPTURE(is_recalled);
    Rig rig;
    rig.grant(kOther);
    for (std::size_t i = 0; i < 64; ++i)
      REQUIRE(rig.write_big(i * kMiB, kMiB, kOther) == Path::kept);
    rig.grant();
    std::vector<WriteBack::Write> appends(2, {.ino = kFile, .length = 4, .append = true});
    std::vector<Bytes> bytes = {bytes_of("aaaa"), bytes_of("bbbb")};
    std::vector<WriteBack::Decision> ends(2);
    std::function<void(std::size_t)> begin = [&](std::size_t which) {
      ends[which] =
          rig.back.write(appends[which], bytes[which], rig.now, [&, which] { begin(which); });
    };
    begin(0);
    begin(1);
    CHECK(ends[0].path == Path::wait);
    CHECK(ends[1].path == Path::wait);
    if (is_recalled) rig.back.recalled(kFile, rig.now, [] {});
    rig.answer_all();
    if (is_recalled) {
      for (std::size_t i : {0u, 1u}) {
        CHECK(ends[i].path == Path::through);
        CHECK(appends[i].append);
      }
    } else {
      CHECK(ends[0].reply.offset == 0);
      CHECK(ends[1].reply.offset == 4);
      CHECK(ends[1].reply.size == 8);
    }
  }
}
