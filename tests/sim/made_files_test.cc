// Files that a client makes later (client/delayed_names.h): nobody can see the difference, they
// survive what the client survives, and what is done with them comes after they are made.
#include <doctest/doctest.h>

#include <sys/stat.h>

#include "tests/sim/scenario.h"

using namespace magma;
using namespace magma::test;

namespace {

const Ino kRoot = root_ino();
const client::Credentials kUser{.uid = 7, .gid = 8};

client::Client::Stats stats(Scenario& s) { return s.cluster().client(0).stats(); }

// The file, if the answer came at once.
std::optional<wire::EntryReply> make(Scenario& s, Ino dir, const std::string& name,
                                     std::uint32_t mode = 0666, std::uint32_t umask = 022) {
  auto made = std::make_shared<std::optional<wire::EntryReply>>();
  wire::CreateRequest request = create_request(dir, name);
  request.mode = mode;
  request.umask = umask;
  s.cluster().client(0).create(request, kUser, [made](Result<wire::EntryReply> answer) {
    if (answer) *made = *answer;
  });
  if (*made) s.cluster().touch_client(0);
  return *made;
}

Ino make_one(Scenario& s, Ino dir, const std::string& name) {
  const auto made = make(s, dir, name);
  REQUIRE(made.has_value());
  return made->ino;
}

// A directory of client 0, with the token of its names and numbers for files.
Ino make_directory(Scenario& s, const std::string& name = "dir") {
  const auto dir = s.mkdir(kRoot, name);
  REQUIRE(dir.has_value());
  for (const char* first : {"first", "second"})
    s.release(s.create(dir->ino, first).value().ino);
  s.cluster().run_for(milliseconds(100));
  REQUIRE(s.getattr(dir->ino).has_value());
  return dir->ino;
}

}  // namespace

TEST_CASE("made files: at once, and whoever asks finds them as they were told") {
  for (const Ring& ring : kRings) {
    CAPTURE(ring.name);
    Scenario s(options_of(ring, 81));
    const Ino dir = make_directory(s);
    const auto before = stats(s);
    const auto made = make(s, dir, "file", S_IFREG | 0664, 027);
    REQUIRE(made.has_value());
    CHECK(stats(s).delayed_files_made == before.delayed_files_made + 1);
    CHECK(stats(s).delayed_names_sent == before.delayed_names_sent);
    const auto seen = s.lookup(dir, "file", 1);
    REQUIRE(seen.has_value());
    CHECK(seen->ino == made->ino);
    REQUIRE(seen->attr.has_value());
    const wire::Attr &told = *made->attr, &is = *seen->attr;
    CHECK(is.mode == (S_IFREG | 0640));
    CHECK(is.uid == kUser.uid);
    CHECK(is.gid == kUser.gid);
    CHECK(told.mode == is.mode);
    CHECK(told.uid == is.uid);
    CHECK(told.gid == is.gid);
    CHECK(told.nlink == is.nlink);
    CHECK(told.size == is.size);
    CHECK(told.blocks == is.blocks);
    CHECK(told.btime == is.btime);
    CHECK(told.atime == is.atime);
    CHECK(told.mtime == is.mtime);
    CHECK(told.ctime == is.ctime);
    CHECK(told.data_version == is.data_version);
    CHECK(told.xattr_kinds == is.xattr_kinds);
    CHECK(told.placement.in_chunks == is.placement.in_chunks);
    CHECK(s.getattr(dir, 1)->mtime == is.mtime);
  }
}

TEST_CASE("made files: what is done with them comes after") {
  for (const Ring& ring : kRings) {
    CAPTURE(ring.name);
    Scenario s(options_of(ring, 82));
    const Ino dir = make_directory(s);
    SUBCASE("a write, which is delayed as well") {
      const Ino file = make_one(s, dir, "file");
      CHECK(s.write(file, 0, pattern(5'000))->is_delayed);
      CHECK(s.read(s.lookup(dir, "file", 1)->ino, 0, 9'000, 1).value() == pattern(5'000));
      s.release(file);
    }
    SUBCASE("a write and a close, and many of them") {
      for (int i = 0; i < 100; ++i) {
        const Ino file = make_one(s, dir, std::to_string(i));
        CHECK(s.write(file, 0, pattern(100))->is_delayed);
        s.release(file);
      }
      CHECK(s.read(s.lookup(dir, "99", 1)->ino, 0, 100, 1).value() == pattern(100));
    }
    SUBCASE("an fsync, after which it survives a loss of power") {
      const Ino file = make_one(s, dir, "file");
      REQUIRE(s.write(file, 0, pattern(5'000)).has_value());
      REQUIRE(s.fsync(file).has_value());
      if (ring.mirrors > 0) return;
      s.crash(Crash::power_cut);
      s.restart();
      CHECK(s.lookup(dir, "file", 1)->ino == file);
      CHECK(s.read(file, 0, 9'000, 1).value() == pattern(5'000));
    }
    SUBCASE("attributes and names") {
      const Ino file = make_one(s, dir, "file");
      wire::SetattrRequest change;
      change.ino = file;
      change.fields_set = wire::kSetMode;
      change.mode = 0600;
      CHECK((s.setattr(change).value().mode & 07777) == 0600);
      CHECK(s.rename(dir, "file", kRoot, "moved").has_value());
      CHECK((s.lookup(kRoot, "moved", 1)->attr->mode & 07777) == 0600);
      CHECK(s.lookup(dir, "file", 1).error().code == Code::not_found);
    }
    SUBCASE("whatever takes it for a directory") {
      const Ino file = make_one(s, dir, "file");
      CHECK(s.lookup(file, "name").error().code == Code::not_a_directory);
      CHECK(s.create(make_one(s, dir, "other"), "name").error().code == Code::not_a_directory);
    }
    SUBCASE("the same name again") {
      make_one(s, dir, "file");
      CHECK(s.create(dir, "file").error().code == Code::exists);
    }
    SUBCASE("its removal, open and closed") {
      const Ino open = make_one(s, dir, "open"), closed = make_one(s, dir, "closed");
      s.release(closed);
      REQUIRE(s.unlink(dir, "open").has_value());
      REQUIRE(s.unlink(dir, "closed").has_value());
      CHECK(s.write(open, 0, pattern(100)).has_value());
      CHECK(s.read(open, 0, 100).value() == pattern(100));
      CHECK_FALSE(s.getattr(closed, 1).has_value());
      s.release(open);
    }
    SUBCASE("a lock") {
      const Ino file = make_one(s, dir, "file");
      const wire::LockRequest lock{
          .ino = file, .type = wire::LockType::exclusive, .owner = 1, .pid = 7};
      auto ask_for = [&](unsigned client) {
        return ask<wire::LockReply>(s.cluster(), client, [&](auto& c, auto done) {
          c.lock(lock, kUser, std::move(done));
        });
      };
      CHECK(ask_for(0).has_value());
      REQUIRE(s.lookup(dir, "file", 1).has_value());
      CHECK(ask_for(1).error().code == Code::would_block);
      s.release(file);
    }
    s.cluster().run_for(seconds(2));
  }
}

TEST_CASE("made files: not where a file gets more than its name, nor where others may look") {
  Scenario s(options_of(kRings[0], 83));
  const Ino dir = make_directory(s);
  SUBCASE("of a group") {
    wire::SetattrRequest change;
    change.ino = dir;
    change.fields_set = wire::kSetMode;
    change.mode = 02755;
    REQUIRE(s.setattr(change).has_value());
    CHECK_FALSE(make(s, dir, "file").has_value());
  }
  SUBCASE("with bits that root alone sets") {
    CHECK_FALSE(make(s, dir, "file", 04755).has_value());
  }
  SUBCASE("looked at by another") {
    REQUIRE(s.lookup(dir, "first", 1).has_value());
    CHECK_FALSE(make(s, dir, "file").has_value());
  }
  SUBCASE("a name that cannot be") {
    CHECK_FALSE(make(s, dir, std::string(256, 'a')).has_value());
    CHECK_FALSE(make(s, dir, "..").has_value());
  }
  s.cluster().run_for(seconds(1));
}

TEST_CASE("made files: a kill of the volcano undoes none of them") {
  for (const Ring& ring : kRings) {
    CAPTURE(ring.name);
    Scenario s(options_of(ring, 84));
    const Ino dir = make_directory(s);
    const Ino open = make_one(s, dir, "open"), closed = make_one(s, dir, "closed");
    CHECK(s.write(open, 0, pattern(100))->is_delayed);
    s.release(closed);
    s.crash(Crash::kill);
    s.restart();
    CHECK(s.lookup(dir, "closed", 1)->ino == closed);
    CHECK(s.read(s.lookup(dir, "open", 1)->ino, 0, 100, 1).value() == pattern(100));
    CHECK(s.write(open, 100, pattern(100)).has_value());
    // It is open there: it lives without its name.
    REQUIRE(s.unlink(dir, "open", 1).has_value());
    CHECK(s.read(open, 0, 100).value() == pattern(100));
    s.release(open);
  }
}

// What was not sent is made in the next session, but not over what others have made meanwhile.
TEST_CASE("made files: a client that was cut off makes them when it is back") {
  for (const bool is_taken : {false, true}) {
    CAPTURE(is_taken);
    Scenario s(options_of(kRings[0], 85));
    const Ino dir = make_directory(s);
    const Ino file = make_one(s, dir, "file");
    CHECK(s.write(file, 0, pattern(100))->is_delayed);
    s.cluster().partition_client(0, true);
    Ino other{};
    if (is_taken) {
      other = s.create(dir, "file", 1).value().ino;  // waits for the end of the session
      REQUIRE(s.write(other, 0, pattern(50, 2), 1).has_value());
    } else {
      s.cluster().run_for(seconds(30));
    }
    s.cluster().partition_client(0, false);
    s.cluster().run_for(seconds(30));
    if (is_taken) {
      CHECK(s.lookup(dir, "file", 1)->ino == other);
      CHECK(s.read(other, 0, 100, 1).value() == pattern(50, 2));
      CHECK_FALSE(s.fsync(file).has_value());  // told
      CHECK_FALSE(s.getattr(file).has_value());
    } else {
      CHECK(s.read(s.lookup(dir, "file", 1)->ino, 0, 1000, 1).value() == pattern(100));
      CHECK(s.write(file, 100, pattern(10)).has_value());
    }
    s.release(file);
    s.cluster().run_for(seconds(2));
  }
}

TEST_CASE("made files: of a client that dies they are there or not, and nothing is left open") {
  Scenario s(options_of(kRings[0], 86));
  const Ino dir = make_directory(s);
  std::vector<Ino> files;
  for (int i = 0; i < 40; ++i) files.push_back(make_one(s, dir, std::to_string(i)));
  s.cluster().run_for(microseconds(150));
  s.cluster().vanish_client(0);
  bool is_missing = false;
  unsigned there = 0;
  for (int i = 0; i < 40; ++i) {
    const auto seen = s.lookup(dir, std::to_string(i), 1);
    if (seen) CHECK_FALSE(is_missing);  // in their order
    if (!seen) is_missing = true;
    there += seen.has_value();
    if (seen) REQUIRE(s.unlink(dir, std::to_string(i), 1).has_value());
  }
  CHECK(there >= 32);
  s.cluster().run_for(seconds(30));
  for (Ino file : files) CHECK_FALSE(s.getattr(file, 1).has_value());
}

TEST_CASE("made files: thousands of them in a row use up their numbers and get more") {
  Scenario s(options_of(kRings[0], 87));
  const Ino dir = make_directory(s);
  unsigned at_once = 0;
  for (int i = 0; i < 3000; ++i) {
    const auto made = make(s, dir, std::to_string(i));
    at_once += made.has_value();
    if (made)
      s.release(made->ino);
    s.cluster().run_for(microseconds(200));
  }
  s.cluster().run_for(seconds(1));
  CHECK(at_once > 2900);
  for (int i : {0, 1, 511, 512, 1500, 2999})
    CHECK(s.lookup(dir, std::to_string(i), 1).has_value());
}
