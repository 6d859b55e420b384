// Written scenarios: one fault each, where the random runs would rarely be so exact.
#include <doctest/doctest.h>

#include <memory>
#include <optional>

#include "tests/lib/sometimes.h"
#include "tests/sim/scenario.h"

using namespace magma;
using namespace magma::test;

namespace {

const Ino kRoot = root_ino();

std::size_t content_files(SimCluster& cluster) {
  std::size_t count = 0;
  for (const auto& path : cluster.disk().files()) count += path.starts_with("flares/");
  return count;
}

bool is_gone(const Result<wire::Attr>& answer) {
  return !answer && (answer.error().code == Code::not_found || answer.error().code == Code::stale);
}

template <class T>
Code code_of(const Result<T>& answer) {
  return answer ? Code{} : answer.error().code;
}

}  // namespace

TEST_CASE("scenario: a clean restart keeps everything, and clients go on") {
  Scenario s(11);
  auto dir = s.mkdir(kRoot, "dir");
  REQUIRE(dir.has_value());
  Ino file = s.make_file(dir->ino, "file", pattern(100'000));
  const std::string before = s.dump();
  REQUIRE(s.cluster().stop_volcano());
  CHECK_FALSE(fsck_problem(s.cluster(), true).has_value());
  s.restart();
  CHECK(s.dump() == before);
  CHECK(s.read(file, 0, 100'000).value() == pattern(100'000));
  CHECK(s.mkdir(kRoot, "more").has_value());
}

TEST_CASE("scenario: a client believes names absent only in a directory it alone changes") {
  Scenario s(15, 2);
  auto dir = s.mkdir(kRoot, "dir", 0);
  REQUIRE(dir.has_value());
  const client::Client& mine = s.cluster().client(0);
  const client::Client& other = s.cluster().client(1);
  REQUIRE(s.create(dir->ino, "a", 0).has_value());
  CHECK(mine.knows_absent(dir->ino, "b"));
  CHECK_FALSE(mine.knows_absent(dir->ino, "a"));
  CHECK_FALSE(other.knows_absent(dir->ino, "b"));
  auto known = mine.known_directory(dir->ino);
  REQUIRE(known.has_value());
  CHECK(known->attr.data_version == s.getattr(dir->ino, 1).value().data_version);

  SUBCASE("its next change shows that the other made one") {
    REQUIRE(s.create(dir->ino, "b", 1).has_value());
    CHECK_FALSE(mine.knows_absent(dir->ino, "b"));  // it was told
    REQUIRE(s.create(dir->ino, "c", 0).has_value());
    CHECK_FALSE(mine.knows_absent(dir->ino, "b"));
    CHECK_FALSE(mine.knows_absent(dir->ino, "never made"));
  }
  SUBCASE("without a change of its own it is over in a second") {
    REQUIRE(s.create(dir->ino, "b", 1).has_value());
    s.cluster().run_for(wire::kTokenTerm);
    CHECK_FALSE(mine.knows_absent(dir->ino, "b"));
    CHECK_FALSE(mine.known_directory(dir->ino).has_value());
  }
  SUBCASE("the volcano decides what is made") {
    REQUIRE(s.create(dir->ino, "b", 1).has_value());
    CHECK(code_of(s.mkdir(dir->ino, "b", 0)) == Code::exists);
    CHECK_FALSE(mine.knows_absent(dir->ino, "b"));
  }
  SUBCASE("after a restart of the volcano nothing is believed") {
    s.crash(Crash::power_cut);
    s.restart();
    REQUIRE(s.lookup(kRoot, "no", 0).error().code == Code::not_found);
    CHECK_FALSE(mine.knows_absent(dir->ino, "b"));
    CHECK_FALSE(mine.known_directory(dir->ino).has_value());
  }
}

// A rename is answered before its source has let go of the entry and of what it counts.
TEST_CASE("scenario: a directory that is losing an entry does not tell its old links") {
  Scenario s(16);
  const Ino from = s.mkdir(kRoot, "from").value().ino;
  const Ino to = s.mkdir(kRoot, "to").value().ino;
  REQUIRE(s.mkdir(from, "moved").has_value());
  REQUIRE(s.rename(from, "moved", to, "moved").has_value());
  REQUIRE(s.create(from, "new").has_value());
  const auto known = s.cluster().client(0).known_directory(from);
  CHECK((!known || known->attr.nlink == 2));
  CHECK(s.getattr(from).value().nlink == 2);
}

TEST_CASE("scenario: a directory whose last entry was moved away a moment ago can be removed") {
  Scenario s(17);
  const Ino from = s.mkdir(kRoot, "from").value().ino;
  const Ino to = s.mkdir(kRoot, "to").value().ino;
  s.make_file(from, "file", pattern(10));
  REQUIRE(s.mkdir(from, "moved").has_value());
  REQUIRE(s.rename(from, "file", to, "file").has_value());
  CHECK(code_of(s.rmdir(kRoot, "from")) == Code::not_empty);
  CHECK(code_of(s.rename(from, "moved", kRoot, "from")) == Code::not_empty);
  REQUIRE(s.rename(from, "moved", to, "moved").has_value());
  CHECK(s.rmdir(kRoot, "from").has_value());
}

// The entry of the directory and what was in it lie in two databases: the power cut may take back
// the removal of one and keep that of the other.
TEST_CASE("scenario: power cut after a directory was emptied and removed") {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    Scenario s(seed);
    const Ino dir = s.mkdir(kRoot, "dir").value().ino;
    s.make_file(dir, "file", pattern(10));
    const Ino below = s.mkdir(dir, "below").value().ino;
    s.make_file(below, "moved", pattern(20));
    s.cluster().run_for(seconds(8));
    REQUIRE(s.unlink(dir, "file").has_value());
    REQUIRE(s.rename(below, "moved", kRoot, "moved").has_value());
    REQUIRE(s.rmdir(dir, "below").has_value());
    REQUIRE(s.rmdir(kRoot, "dir").has_value());
    s.crash(Crash::power_cut);
    s.restart();
    s.cluster().run_for(seconds(3));
    // Moved, or back with the directories that it was in.
    if (auto moved = s.lookup(kRoot, "moved")) {
      CHECK(s.getattr(moved->ino).value().nlink == 1);
      CHECK(s.read(moved->ino, 0, 100).value() == pattern(20));
    } else {
      CHECK(s.lookup(kRoot, "dir").has_value());
    }
    s.crash(Crash::kill);
    const auto problem = fsck_problem(s.cluster());
    CHECK_MESSAGE(!problem.has_value(), problem.value_or(""));
  }
}

TEST_CASE("scenario: fsync by one client makes durable what another has written") {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    CAPTURE(seed);
    Scenario s(seed, 2);
    const Ino file = s.create(kRoot, "file").value().ino;
    auto opened = ask<wire::Attr>(s.cluster(), 1, [&](auto& c, auto answer) {
      c.open(file, false, false, {}, std::move(answer));
    });
    REQUIRE(opened.has_value());
    REQUIRE(s.write(file, 0, pattern(100'000, 3)).has_value());
    REQUIRE(s.write(file, 64u << 20, pattern(5'000, 4)).has_value());
    REQUIRE(s.fsync(file, 1).has_value());
    s.crash(Crash::power_cut);
    s.restart();
    CHECK(s.read(file, 0, 100'000).value() == pattern(100'000, 3));
    CHECK(s.read(file, 64u << 20, 5'000).value() == pattern(5'000, 4));
  }
}

TEST_CASE("scenario: an open file that was unlinked lives through a restart until it is closed") {
  Scenario s(12);
  auto file = s.create(kRoot, "file");
  REQUIRE(file.has_value());
  REQUIRE(s.write(file->ino, 0, pattern(30'000)).has_value());
  REQUIRE(s.unlink(kRoot, "file").has_value());
  s.crash(Crash::kill);
  s.restart();
  CHECK(s.read(file->ino, 0, 30'000).value() == pattern(30'000));
  CHECK(s.getattr(file->ino).value().nlink == 0);
  s.release(file->ino);
  s.cluster().run_for(seconds(2));
  CHECK(is_gone(s.getattr(file->ino)));
  CHECK(content_files(s.cluster()) == 0);
}

TEST_CASE("scenario: a session that expires lets go of its opens") {
  Scenario s(13, 2);
  auto file = s.create(kRoot, "file", 0);
  REQUIRE(file.has_value());
  REQUIRE(s.write(file->ino, 0, pattern(40'000), 0).has_value());
  REQUIRE(s.unlink(kRoot, "file", 1).has_value());
  CHECK(s.getattr(file->ino, 1).has_value());
  s.cluster().vanish_client(0);
  s.cluster().run_for(seconds(4));
  CHECK(s.getattr(file->ino, 1).has_value());  // it may come back
  s.cluster().run_for(seconds(30));
  CHECK(is_gone(s.getattr(file->ino, 1)));
  s.cluster().run_for(seconds(2));
  CHECK(content_files(s.cluster()) == 0);
  CHECK(s.cluster().volcano().stats().sessions == 1);
}

TEST_CASE("scenario: a client that leaves cleanly lets go at once") {
  Scenario s(14, 2);
  auto file = s.create(kRoot, "file", 0);
  REQUIRE(file.has_value());
  REQUIRE(s.unlink(kRoot, "file", 1).has_value());
  s.cluster().stop_client(0);
  s.cluster().run_for(milliseconds(500));
  CHECK(is_gone(s.getattr(file->ino, 1)));
}

TEST_CASE("scenario: a client with another secret is told so and sees nothing") {
  Scenario s(15, 2);
  s.cluster().vanish_client(1);
  const crypto::Keyring others =
      crypto::keyring_from_network_secret(crypto::make_secret(s.cluster().random()));
  CHECK_FALSE(s.cluster().start_client(1, &others));
  CHECK(s.cluster().last_error() == "wrong_key");
  CHECK(s.mkdir(kRoot, "still").has_value());
}

TEST_CASE("scenario: a partition shorter than the lease is not noticed by the program") {
  Scenario s(16);
  auto file = s.create(kRoot, "file");
  REQUIRE(file.has_value());
  bool done = false;
  s.cluster().partition_client(0, true);
  s.cluster().client(0).write(file->ino, 0, pattern(5000), true, false, {},
                              [&](Result<wire::WriteReply> reply) {
                                done = true;
                                CHECK(reply.has_value());
                              });
  s.cluster().touch_client(0);
  s.cluster().run_for(seconds(6));
  CHECK_FALSE(done);
  s.cluster().partition_client(0, false);
  CHECK(s.cluster().run_until([&] { return done; }, seconds(30)));
  CHECK(s.getattr(file->ino).value().size == 5000);
}

TEST_CASE("scenario: a partition longer than the lease ends the session; the client begins anew") {
  Scenario s(17, 2);
  auto file = s.create(kRoot, "file");
  REQUIRE(file.has_value());
  s.cluster().partition_client(0, true);
  s.cluster().run_for(seconds(40));
  s.cluster().partition_client(0, false);
  CHECK(s.mkdir(kRoot, "after").has_value());
  CHECK(s.getattr(file->ino).has_value());
  CHECK(s.cluster().client(0).stats().sessions >= 2);
}

TEST_CASE("scenario: a full disk refuses, keeps what it has, and works again after deletions") {
  Scenario s(18);
  Ino keep = s.make_file(kRoot, "keep", pattern(200'000));
  std::vector<std::string> names;
  s.cluster().disk().limit_space(s.cluster().disk().used_bytes() + (80u << 20));
  Code refused{};
  for (int i = 0; i < 200 && refused == Code{}; ++i) {
    const std::string name = "fill" + std::to_string(i);
    auto made = s.create(kRoot, name);
    if (!made) {
      refused = made.error().code;
      break;
    }
    names.push_back(name);
    auto written = s.write(made->ino, 0, pattern(1u << 20));
    if (!written) refused = written.error().code;
    s.release(made->ino);
  }
  CHECK(refused == Code::no_space);
  s.cluster().run_for(seconds(1));
  CHECK(code_of(s.mkdir(kRoot, "nodir")) == Code::no_space);
  CHECK(s.read(keep, 0, 200'000).value() == pattern(200'000));
  for (const auto& name : names) CHECK(code_of(s.unlink(kRoot, name)) == Code{});
  CHECK(s.mkdir(kRoot, "dir").has_value());  // waits for the blocks, which take a while
  s.make_file(kRoot, "again", pattern(1u << 20));
  const std::string before = s.dump();
  s.crash(Crash::kill);
  CHECK_FALSE(fsck_problem(s.cluster()).has_value());
  s.restart();
  CHECK(s.dump() == before);
}

TEST_CASE("scenario: a rotten byte of content is an error, never another byte") {
  Scenario s(19);
  Ino rotten = s.make_file(kRoot, "rotten", pattern(50'000));
  Ino fine = s.make_file(kRoot, "fine", pattern(50'000, 2));
  s.cluster().run_for(seconds(7));
  REQUIRE(s.cluster().stop_volcano());
  unsigned flipped = 0;
  for (const auto& path : s.cluster().disk().files())
    if (path.starts_with("flares/") && flipped == 0 && s.cluster().disk().flip_bit(path, 20'000, 3))
      ++flipped;
  REQUIRE(flipped == 1);
  s.cluster().disk().drop_caches();
  s.restart();
  unsigned errors = 0;
  for (auto [ino, seed] : {std::pair(rotten, 1u), std::pair(fine, 2u)}) {
    auto bytes = s.read(ino, 16'384, 8192);
    const Bytes all = pattern(50'000, seed);
    if (bytes)
      CHECK(*bytes == Bytes(all.begin() + 16'384, all.begin() + 16'384 + 8192));
    else
      ++errors;
    CHECK((bytes || errno_of(bytes.error().code) == 5));
  }
  CHECK(errors == 1);
  CHECK(s.mkdir(kRoot, "alive").has_value());
}

TEST_CASE("scenario: a rotten byte is found by every reader of a big file that is read ahead") {
  Scenario s(23, 2);
  const Bytes all = pattern(7u << 20, 5);
  Ino big = s.make_file(kRoot, "big", all);
  REQUIRE(s.lookup(kRoot, "big", 1).has_value());
  s.cluster().run_for(seconds(12));
  constexpr std::uint32_t kPart = 128u << 10;
  constexpr std::uint64_t kBad = (5u << 20) + 4321;
  REQUIRE(s.cluster().stop_volcano());
  unsigned flipped = 0;
  for (const auto& path : s.cluster().disk().files())
    if (path.starts_with("flares/") && s.cluster().disk().flip_bit(path, kBad, 2)) ++flipped;
  REQUIRE(flipped == 1);
  for (Crash how : {Crash::kill, Crash::power_cut}) {
    s.cluster().disk().drop_caches();
    s.restart();
    std::vector<std::optional<Result<Bytes>>> answers(2 * all.size() / kPart);
    std::size_t answered = 0;
    for (std::size_t i = 0; i < answers.size(); ++i) {
      const std::uint64_t offset = i / 2 * kPart;
      auto done = [&, i](Result<Bytes> read) {
        answers[i] = std::move(read);
        ++answered;
      };
      s.cluster().client(i % 2).read(big, offset, kPart, kRootUser, std::move(done));
      s.cluster().run_for(microseconds(static_cast<std::int64_t>(i % 11) * 20));
    }
    REQUIRE(s.cluster().run_until([&] { return answered == answers.size(); }, seconds(20)));
    for (std::size_t i = 0; i < answers.size(); ++i) {
      CAPTURE(i);
      const std::uint64_t offset = i / 2 * kPart;
      const bool hit = kBad >= offset && kBad < offset + kPart;
      CHECK(answers[i]->has_value() != hit);
      if (*answers[i])
        CHECK(std::equal((*answers[i])->begin(), (*answers[i])->end(),
                         all.begin() + static_cast<std::ptrdiff_t>(offset)));
    }
    s.crash(how);
  }
}

TEST_CASE("scenario: a disk call that fails is answered with an error and harms nothing else") {
  unsigned struck = 0;
  for (std::uint64_t n = 1; n <= 12; ++n) {
    CAPTURE(n);
    Scenario s(200 + n);
    Ino file = s.make_file(kRoot, "file", pattern(40'000));
    auto opened = ask<wire::Attr>(s.cluster(), 0, [&](auto& c, auto done) {
      c.open(file, true, false, {}, std::move(done));
    });
    REQUIRE(opened.has_value());
    s.cluster().run_for(seconds(7));
    s.cluster().disk().fail_call(n);
    auto written = s.write(file, 30'000, pattern(5000, 9));
    struck += s.cluster().disk().counters().faults > 0;
    s.cluster().disk().no_faults();
    if (!written) CHECK(errno_of(written.error().code) == 5);
    if (s.cluster().volcano().failed()) {  // a failed sync: only a restart makes it well again
      s.crash(Crash::kill);
      s.restart();
    }
    CHECK(s.mkdir(kRoot, "dir").has_value());
    auto bytes = s.read(file, 0, 30'000);
    const Bytes all = pattern(40'000);
    if (bytes) CHECK(*bytes == Bytes(all.begin(), all.begin() + 30'000));
    s.crash(Crash::kill);
    CHECK_FALSE(fsck_problem(s.cluster()).has_value());
    s.restart();
    bytes = s.read(file, 0, 30'000);
    REQUIRE(bytes.has_value());
    CHECK(*bytes == Bytes(all.begin(), all.begin() + 30'000));
  }
  CHECK(struck > 3);
}

// ---- advisory locks

namespace {

wire::LockRequest record_lock(Ino ino, wire::LockType type, std::uint64_t first,
                              std::uint64_t last) {
  return {ino, wire::LockKind::record, type, 7, 4711, first, last};
}

Code lock(Scenario& s, unsigned client, const wire::LockRequest& request) {
  return code_of(ask<wire::LockReply>(s.cluster(), client, [&](auto& c, auto done) {
    c.lock(request, {}, std::move(done));
  }));
}

// Begins to wait; the answer's code comes into the result.
std::shared_ptr<std::optional<Code>> wait_for(Scenario& s, unsigned client,
                                              const wire::LockRequest& request) {
  auto answer = std::make_shared<std::optional<Code>>();  // shared with the callback
  s.cluster().client(client).wait_for_lock(
      request, {}, [answer](Result<wire::EmptyReply> reply) { *answer = code_of(reply); });
  s.cluster().touch_client(client);
  return answer;
}

constexpr wire::LockType kShared = wire::LockType::shared;
constexpr wire::LockType kExclusive = wire::LockType::exclusive;
constexpr wire::LockType kFree = wire::LockType::none;

}  // namespace

TEST_CASE("scenario: a record lock of one client refuses another's until it is given up") {
  Scenario s(20, 2);
  Ino file = s.make_file(kRoot, "file", pattern(1000));
  const auto theirs = record_lock(file, kShared, 50, 60);
  CHECK(lock(s, 0, record_lock(file, kExclusive, 0, 99)) == Code{});
  CHECK(lock(s, 1, theirs) == Code::would_block);
  CHECK(lock(s, 1, record_lock(file, kExclusive, 100, 199)) == Code{});  // beside it
  auto found = ask<wire::TestLockReply>(s.cluster(), 1, [&](auto& c, auto done) {
    c.test_lock(theirs, {}, std::move(done));
  });
  REQUIRE(found.has_value());
  CHECK(found->type == kExclusive);
  CHECK(found->pid == 0);
  CHECK(found->first == 0);
  CHECK(found->last == 99);

  auto waited = wait_for(s, 1, theirs);
  s.cluster().run_for(milliseconds(100));
  CHECK_FALSE(waited->has_value());
  CHECK(lock(s, 0, record_lock(file, kFree, 0, 49)) == Code{});
  s.cluster().run_for(milliseconds(20));
  CHECK_FALSE(waited->has_value());  // what is in the way is held still
  CHECK(lock(s, 0, record_lock(file, kFree, 50, 99)) == Code{});
  CHECK(s.cluster().run_until([&] { return waited->has_value(); }, milliseconds(20)));
  CHECK(waited->value_or(Code::io) == Code{});
  CHECK(lock(s, 1, theirs) == Code{});
  CHECK(lock(s, 0, record_lock(file, kShared, 0, 99)) == Code{});
  CHECK(lock(s, 0, record_lock(file, kExclusive, 0, 99)) == Code::would_block);
}

TEST_CASE("scenario: locks are held through a restart of the volcano") {
  for (bool clean : {false, true}) {
    CAPTURE(clean);
    Scenario s(21, 2);
    Ino file = s.make_file(kRoot, "file", pattern(1000));
    wire::LockRequest whole{file, wire::LockKind::flock, kExclusive, 9, 4711, 0, 0};
    const auto theirs = record_lock(file, kExclusive, 0, 9);
    CHECK(lock(s, 0, theirs) == Code{});
    CHECK(lock(s, 0, whole) == Code{});
    if (clean) {
      REQUIRE(s.cluster().stop_volcano());
    } else {
      s.crash(Crash::kill);
    }
    CHECK_FALSE(fsck_problem(s.cluster(), clean).has_value());
    s.restart();
    CHECK(lock(s, 1, theirs) == Code::would_block);
    CHECK(lock(s, 1, whole) == Code::would_block);
    CHECK(lock(s, 0, theirs) == Code{});  // the same owner as before
    CHECK(lock(s, 0, record_lock(file, kFree, 0, 9)) == Code{});
    CHECK(lock(s, 1, theirs) == Code{});
    CHECK(lock(s, 1, whole) == Code::would_block);
    whole.type = kFree;
    CHECK(lock(s, 0, whole) == Code{});
    whole.type = kExclusive;
    CHECK(lock(s, 1, whole) == Code{});
  }
}

TEST_CASE("scenario: a wait for a lock goes on through a kill of the volcano") {
  Scenario s(22, 2);
  Ino file = s.make_file(kRoot, "file", pattern(1000));
  const auto theirs = record_lock(file, kExclusive, 0, 9);
  CHECK(lock(s, 0, theirs) == Code{});
  auto waited = wait_for(s, 1, theirs);
  s.cluster().run_for(milliseconds(100));
  s.crash(Crash::kill);
  s.cluster().run_for(milliseconds(100));
  s.restart();
  CHECK(lock(s, 0, record_lock(file, kFree, 0, 9)) == Code{});
  CHECK(s.cluster().run_until([&] { return waited->has_value(); }, seconds(10)));
  CHECK(waited->value_or(Code::io) == Code{});
  CHECK(lock(s, 1, theirs) == Code{});
}

TEST_CASE("scenario: the locks of a client that died end with its lease") {
  Scenario s(23, 2);
  Ino file = s.make_file(kRoot, "file", pattern(1000));
  const auto wanted = record_lock(file, kExclusive, 0, ~std::uint64_t{0} >> 1);
  CHECK(lock(s, 0, wanted) == Code{});
  s.cluster().vanish_client(0);
  s.cluster().run_for(seconds(4));
  CHECK(lock(s, 1, wanted) == Code::would_block);  // it may come back
  s.crash(Crash::kill);
  s.restart();
  CHECK(lock(s, 1, wanted) == Code::would_block);
  s.cluster().run_for(seconds(30));
  CHECK(lock(s, 1, wanted) == Code{});
  s.crash(Crash::kill);
  CHECK_FALSE(fsck_problem(s.cluster()).has_value());
}

TEST_CASE("scenario: a client that leaves cleanly gives up its locks at once") {
  Scenario s(24, 2);
  Ino file = s.make_file(kRoot, "file", pattern(1000));
  const auto wanted = record_lock(file, kShared, 5, 5);
  CHECK(lock(s, 0, record_lock(file, kExclusive, 0, 9)) == Code{});
  auto waited = wait_for(s, 1, wanted);
  s.cluster().run_for(milliseconds(50));
  CHECK_FALSE(waited->has_value());
  s.cluster().stop_client(0);
  CHECK(s.cluster().run_until([&] { return waited->has_value(); }, milliseconds(200)));
  CHECK(lock(s, 1, wanted) == Code{});
}

TEST_CASE("scenario: two clients that would wait for each other are told of the deadlock") {
  Scenario s(25, 2);
  Ino one = s.make_file(kRoot, "one", pattern(10));
  Ino two = s.make_file(kRoot, "two", pattern(10));
  const auto first = record_lock(one, kExclusive, 0, 9);
  const auto second = record_lock(two, kExclusive, 0, 9);
  CHECK(lock(s, 0, first) == Code{});
  CHECK(lock(s, 1, second) == Code{});
  auto waits = wait_for(s, 0, second);
  s.cluster().run_for(milliseconds(50));
  CHECK_FALSE(waits->has_value());
  auto refused = wait_for(s, 1, first);
  CHECK(s.cluster().run_until([&] { return refused->has_value(); }, milliseconds(50)));
  CHECK(refused->value_or(Code{}) == Code::deadlock);
  CHECK_FALSE(waits->has_value());  // one of the two is enough
  CHECK(lock(s, 1, record_lock(two, kFree, 0, 9)) == Code{});
  CHECK(s.cluster().run_until([&] { return waits->has_value(); }, milliseconds(50)));
  CHECK(waits->value_or(Code::io) == Code{});
  CHECK(lock(s, 0, second) == Code{});
}
