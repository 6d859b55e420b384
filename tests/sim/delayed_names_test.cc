// Changes of names that a client delays (client/delayed_names.h): nobody sees what was before them.
#include <doctest/doctest.h>

#include <memory>
#include <vector>

#include "tests/sim/scenario.h"

using namespace magma;
using namespace magma::test;

namespace {

const Ino kRoot = root_ino();
const client::Credentials kUser{};

client::Client::Stats stats(Scenario& s) { return s.cluster().client(0).stats(); }

struct Directory {
  Ino ino;
  std::vector<Ino> files;  // "0", "1", ...
  std::uint64_t delayed = 0;  // changes so far
};

// Whether the answer came at once.
bool remove(Scenario& s, const Directory& d, std::size_t file) {
  auto is_done = std::make_shared<bool>(false);
  s.cluster().client(0).unlink(
      d.ino, std::to_string(file), kUser,
      [is_done](Result<wire::EmptyReply> answer) { *is_done = answer.has_value(); }, d.files[file]);
  return *is_done;
}

bool move(Scenario& s, const Directory& d, std::size_t file, const std::string& to) {
  auto is_done = std::make_shared<bool>(false);
  s.cluster().client(0).rename(
      {d.ino, std::to_string(file), d.ino, to}, kUser,
      [is_done](Result<wire::EmptyReply> answer) { *is_done = answer.has_value(); }, d.files[file]);
  return *is_done;
}

// Client 0 has a directory of its own, with the token of its names; "0" and "1" are gone.
Directory make(Scenario& s) {
  Directory d;
  const auto made = s.mkdir(kRoot, "dir");
  REQUIRE(made.has_value());
  d.ino = made->ino;
  for (int i = 0; i < 8; ++i)
    d.files.push_back(s.make_file(d.ino, std::to_string(i), pattern(3'000)));
  s.cluster().run_for(seconds(6));  // nobody else believes anything
  REQUIRE(s.getattr(d.ino).has_value());
  REQUIRE(s.unlink(d.ino, "0").has_value());
  REQUIRE(s.unlink(d.ino, "1").has_value());
  d.delayed = stats(s).delayed_names;
  return d;
}

}  // namespace

TEST_CASE("delayed names: done at once, and whoever asks sees it") {
  for (const Ring& ring : kRings) {
    CAPTURE(ring.name);
    Scenario s(options_of(ring, 61));
    const Directory d = make(s);
    CHECK(remove(s, d, 2));
    CHECK(move(s, d, 3, "moved"));
    CHECK(stats(s).delayed_names == d.delayed + 2);
    CHECK(stats(s).delayed_directories == 1);
    SUBCASE("a look-up") {
      CHECK(s.lookup(d.ino, "2", 1).error().code == Code::not_found);
      CHECK(s.lookup(d.ino, "moved", 1).value().ino == d.files[3]);
    }
    SUBCASE("attributes") {
      CHECK_FALSE(s.getattr(d.files[2], 1).has_value());
      CHECK(s.getattr(d.ino, 1).value().mtime == s.getattr(d.ino).value().mtime);
    }
    SUBCASE("a removal of the directory") {
      for (std::size_t i = 4; i < 8; ++i) CHECK(remove(s, d, i));
      CHECK(s.unlink(d.ino, "moved", 1).has_value());
      CHECK(s.rmdir(kRoot, "dir", 1).has_value());
    }
    SUBCASE("a move to elsewhere") {
      CHECK(s.rename(d.ino, "2", kRoot, "out", 1).error().code == Code::not_found);
      CHECK(s.rename(d.ino, "moved", kRoot, "out", 1).has_value());
    }
    // The other one may believe what it was told: the next is not delayed.
    CHECK_FALSE(remove(s, d, 4));
    s.cluster().run_for(seconds(1));
    CHECK(stats(s).delayed_directories == 0);
  }
}

TEST_CASE("delayed names: the client itself sees them") {
  Scenario s(options_of(kRings[0], 62));
  const Directory d = make(s);
  const WallTime before = s.getattr(d.ino).value().mtime;
  CHECK(remove(s, d, 2));
  const auto known = s.cluster().client(0).known_directory(d.ino);
  REQUIRE(known.has_value());
  CHECK(known->attr.mtime > before);
  CHECK(s.lookup(d.ino, "2").error().code == Code::not_found);
  CHECK(s.getattr(d.ino).value().mtime == known->attr.mtime);
  CHECK(move(s, d, 3, "2"));
  CHECK(s.create(d.ino, "3").has_value());
  CHECK(s.lookup(d.ino, "2").value().ino == d.files[3]);
  CHECK(remove(s, d, 4));
  CHECK(s.fsync(d.ino).has_value());
  CHECK(stats(s).delayed_directories == 0);
}

TEST_CASE("delayed names: a volcano that was killed asks for them") {
  for (const Ring& ring : {kRings[0], kRings[1]}) {
    CAPTURE(ring.name);
    Scenario s(options_of(ring, 63));
    const Directory d = make(s);
    CHECK(remove(s, d, 2));
    s.cluster().crash_volcano(Crash::kill);
    s.restart();
    CHECK(s.lookup(d.ino, "2", 1).error().code == Code::not_found);
  }
}

TEST_CASE("delayed names: of a session that ended they do nothing to what others have made") {
  Scenario s(options_of(kRings[0], 64));
  const Directory d = make(s);
  CHECK(remove(s, d, 2));
  CHECK(remove(s, d, 3));
  CHECK(move(s, d, 4, "moved"));
  s.cluster().partition_client(0, true);
  CHECK(s.unlink(d.ino, "3", 1).has_value());
  const auto made = s.create(d.ino, "3", 1);
  REQUIRE(made.has_value());
  CHECK(s.unlink(d.ino, "4", 1).has_value());
  s.cluster().partition_client(0, false);
  const auto synced = s.fsync(d.ino);
  REQUIRE_FALSE(synced.has_value());  // the move
  CHECK(synced.error().code == Code::io);
  CHECK(s.fsync(d.ino).has_value());
  CHECK(s.lookup(d.ino, "2", 1).error().code == Code::not_found);
  CHECK(s.lookup(d.ino, "3", 1).value().ino == made->ino);
  CHECK(s.lookup(d.ino, "moved", 1).error().code == Code::not_found);
}

TEST_CASE("delayed names: of a client that is gone they are undone, and nobody waits for ever") {
  Scenario s(options_of(kRings[0], 65));
  const Directory d = make(s);
  CHECK(remove(s, d, 2));
  s.cluster().vanish_client(0);
  const Instant asked = s.cluster().now();
  CHECK(s.lookup(d.ino, "2", 1).has_value());
  CHECK(s.cluster().now() - asked <= seconds(13));
}

TEST_CASE("delayed names: with onfail=eio calls that wait for them fail, and they do not") {
  SimCluster::Options options = options_of(kRings[0], 67);
  options.fails_when_away = true;
  Scenario s(options);
  const Directory d = make(s);
  s.crash(Crash::kill);
  REQUIRE(remove(s, d, 2));
  const Instant at = s.cluster().now();
  const auto removed = s.rmdir(kRoot, "nothing");
  REQUIRE_FALSE(removed.has_value());
  CHECK(removed.error().code == Code::io);
  CHECK((s.cluster().now() - at).ms() < 6'000);
  s.restart();
  s.cluster().run_for(seconds(6));
  CHECK(s.lookup(d.ino, "2", 1).error().code == Code::not_found);
}
