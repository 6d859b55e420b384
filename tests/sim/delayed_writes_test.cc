// Writes that a client delays (client/write_back.h): nobody sees less than what was answered, and
// nothing is lost but with the client, or by a conflict that is told.
#include <doctest/doctest.h>

#include "tests/sim/scenario.h"

using namespace magma;
using namespace magma::test;

namespace {

const Ino kRoot = root_ino();
const WallTime kThen{77'000'000'000};

client::Client::Stats stats(Scenario& s, unsigned client = 0) {
  return s.cluster().client(client).stats();
}

// Client 0 makes a file, keeps it open, and has written to it what the ring does not know.
Ino write_some(Scenario& s, const std::string& name, const Bytes& bytes) {
  const auto made = s.create(kRoot, name);
  REQUIRE(made.has_value());
  const auto sent = stats(s).delayed_sent;
  const auto written = s.write(made->ino, 0, bytes);
  REQUIRE(written.has_value());
  REQUIRE(written->is_delayed);
  REQUIRE(stats(s).delayed_bytes == bytes.size());
  REQUIRE(stats(s).delayed_sent == sent);
  return made->ino;
}

}  // namespace

TEST_CASE("delayed writes: whoever asks gets what was written") {
  for (const Ring& ring : kRings) {
    CAPTURE(ring.name);
    Scenario s(options_of(ring, 41));
    const Bytes bytes = pattern(50'000);
    const Ino file = write_some(s, "file", bytes);
    const auto seen = s.lookup(kRoot, "file", 1);
    REQUIRE(seen.has_value());
    REQUIRE(seen->attr.has_value());
    CHECK(seen->attr->size == bytes.size());
    CHECK(stats(s).write_recalls == 1);
    CHECK(stats(s).delayed_bytes == 0);
    CHECK(s.read(file, 0, 100'000, 1).value() == bytes);
    // The other one may believe what it was told: what is written now is not delayed.
    CHECK_FALSE(s.write(file, 10, pattern(10, 2))->is_delayed);
    CHECK(s.read(file, 10, 10, 1).value() == pattern(10, 2));
    // Once it may not, the writer may delay again.
    s.cluster().run_for(seconds(12));
    s.write(file, 0, pattern(10, 3));
    CHECK(s.write(file, 20, pattern(10, 3))->is_delayed);
    CHECK(s.read(file, 0, 100'000).value().size() == bytes.size());
  }
}

TEST_CASE("delayed writes: they are sent after a second, and after close") {
  Scenario s(options_of(kRings[0], 42));
  write_some(s, "one", pattern(3'000));
  s.cluster().run_for(milliseconds(900));
  CHECK(stats(s).delayed_bytes == 3'000);
  s.cluster().run_for(milliseconds(300));
  CHECK(stats(s).delayed_bytes == 0);
  const Ino two = write_some(s, "two", pattern(3'000));
  s.release(two);
  s.cluster().run_for(milliseconds(100));
  CHECK(stats(s).delayed_bytes == 0);
  CHECK(s.read(two, 0, 5'000, 1).value() == pattern(3'000));
}

// Mode and times, as cp -p sets them before it closes; not sent yet.
void set_some(Scenario& s, Ino file) {
  const auto sent = stats(s).delayed_sent;
  wire::SetattrRequest change;
  change.ino = file;
  change.fields_set = wire::kSetMtime | wire::kSetAtime;
  change.mtime = change.atime = kThen;
  auto after = s.setattr(change);
  REQUIRE(after.has_value());
  CHECK(after->mtime == kThen);
  change.fields_set = wire::kSetMode;
  change.mode = 0640;
  after = s.setattr(change);
  REQUIRE(after.has_value());
  CHECK(after->mtime == kThen);
  CHECK((after->mode & 07777) == 0640);
  REQUIRE(stats(s).delayed_sent == sent);
}

// Who removes a name need not have looked it up just before.
TEST_CASE("delayed writes: attributes that are set later are those of a file that was removed") {
  for (const Ring& ring : kRings) {
    CAPTURE(ring.name);
    Scenario s(options_of(ring, 52));
    for (int i = 0; i < 8; ++i) {  // at home in different slots
      const std::string name = std::to_string(i);
      const Ino file = write_some(s, name, pattern(3'000));
      s.cluster().run_for(wire::kTokenTerm * 2);  // it believes nothing by then, but may delay
      const auto sets = stats(s).delayed_sets;
      wire::SetattrRequest change;
      change.ino = file;
      change.fields_set = wire::kSetMode;
      change.mode = 0640;
      CHECK(s.setattr(change).value().nlink == 1);
      CHECK(stats(s).delayed_sets == sets + 1);
      REQUIRE(s.unlink(kRoot, name, 1).has_value());
      CHECK(s.setattr(change).value().nlink == 0);
      s.release(file);
    }
  }
}

TEST_CASE("delayed writes: attributes go with the last of them") {
  for (const Ring& ring : kRings) {
    // Small, in several requests, in chunks.
    for (const std::size_t size : {5'000u, 1'500'000u, 9'000'000u}) {
      CAPTURE(ring.name);
      CAPTURE(size);
      Scenario s(options_of(ring, 48));
      const Ino file = s.create(kRoot, "file")->ino;
      for (std::size_t at = 0; at < size; at += 500'000)
        REQUIRE(s.write(file, at, pattern(std::min<std::size_t>(size - at, 500'000)))->is_delayed);
      if (size > 4'000'000) s.cluster().run_for(seconds(2));
      const auto sent = stats(s).delayed_sent;
      if (size > 4'000'000) REQUIRE(s.write(file, size - 1, pattern(1))->is_delayed);
      set_some(s, file);
      const auto seen = s.getattr(file, 1);
      REQUIRE(seen.has_value());
      CHECK((seen->mode & 07777) == 0640);
      CHECK(seen->mtime == kThen);
      CHECK(seen->size == size);
      if (size == 5'000) CHECK(stats(s).delayed_sent == sent + 1);
      // A write after them is newer.
      s.write(file, 0, pattern(10));
      CHECK(s.getattr(file, 1).value().mtime > kThen);
    }
  }
}

TEST_CASE("delayed writes: attributes of a file that is not written to are sent as well") {
  Scenario s(options_of(kRings[1], 49));
  const Ino file = s.create(kRoot, "file")->ino;
  set_some(s, file);
  CHECK((s.getattr(file).value().mode & 07777) == 0640);
  CHECK(stats(s).delayed_sent == 1);
  set_some(s, file);
  s.release(file);
  s.cluster().run_for(milliseconds(100));
  CHECK(stats(s).delayed_sent == 2);
  CHECK(s.getattr(file, 1).value().mtime == kThen);
}

// All other lanes of each wait for the other one.
TEST_CASE("delayed writes: two clients that ask for many files of each other both get them") {
  constexpr unsigned kFiles = 260;
  Scenario s(options_of(kRings[0], 52));
  std::vector<Ino> files[2];
  for (unsigned client = 0; client < 2; ++client)
    for (unsigned i = 0; i < kFiles; ++i) {
      const std::string name = std::to_string(client) + "." + std::to_string(i);
      files[client].push_back(s.create(kRoot, name, client)->ino);
    }
  wire::SetattrRequest change;
  change.fields_set = wire::kSetMode;
  change.mode = 0640;
  for (unsigned client = 0; client < 2; ++client)
    for (Ino file : files[client]) {
      change.ino = file;
      REQUIRE(s.setattr(change, client).has_value());
    }
  REQUIRE(stats(s, 1).delayed_files == kFiles);
  unsigned done = 0;
  change.mode = 0600;
  for (unsigned client = 0; client < 2; ++client)
    for (Ino file : files[1 - client]) {
      change.ino = file;
      s.cluster().client(client).setattr(change, kRootUser,
                                         [&](const Result<wire::Attr>& after) {
                                           CHECK(after.has_value());
                                           ++done;
                                         });
    }
  s.cluster().run_for(seconds(1));
  CHECK(done == 2 * kFiles);
}

TEST_CASE("delayed writes: a volcano that was killed asks for attributes, too") {
  for (const Ring& ring : {kRings[0], kRings[1]}) {
    CAPTURE(ring.name);
    Scenario s(options_of(ring, 50));
    const Ino file = s.create(kRoot, "file")->ino;
    set_some(s, file);
    s.cluster().crash_volcano(Crash::kill);
    s.restart();
    CHECK((s.getattr(file, 1).value().mode & 07777) == 0640);
  }
}

TEST_CASE("delayed writes: attributes of a session that ended are set if nobody has set others") {
  for (unsigned bits = 0; bits < 4; ++bits) {
    CAPTURE(bits);
    const bool is_changed = (bits & 1) != 0;
    // After six seconds nobody believes anything of it: the token is had again.
    const Duration wait = seconds((bits & 2) != 0 ? 6 : 0);
    Scenario s(options_of(kRings[0], 51));
    const Ino file = s.create(kRoot, "file")->ino;
    set_some(s, file);
    s.cluster().partition_client(0, true);
    wire::SetattrRequest change;
    change.ino = file;
    change.fields_set = wire::kSetMode;
    change.mode = 0604;
    CHECK((s.getattr(file, 1).value().mode & 07777) != 0640);
    if (is_changed) REQUIRE(s.setattr(change, 1).has_value());
    s.cluster().run_for(wait);
    s.cluster().partition_client(0, false);
    CHECK(s.fsync(file).has_value() == !is_changed);
    CHECK((s.getattr(file, 1).value().mode & 07777) == (is_changed ? 0604 : 0640));
  }
}

// The rows of opens tell the volcano that comes after it whom to ask.
TEST_CASE("delayed writes: a volcano that was killed asks for them") {
  for (const Ring& ring : {kRings[0], kRings[1]}) {
    CAPTURE(ring.name);
    Scenario s(options_of(ring, 43));
    const Bytes bytes = pattern(20'000);
    const Ino file = write_some(s, "file", bytes);
    s.cluster().crash_volcano(Crash::kill);
    s.restart();
    CHECK(s.getattr(file, 1).value().size == bytes.size());
    CHECK(s.read(file, 0, 50'000, 1).value() == bytes);
  }
}

TEST_CASE("delayed writes: of a client that is gone they are lost, and nobody waits for ever") {
  Scenario s(options_of(kRings[0], 44));
  const Ino file = write_some(s, "file", pattern(20'000));
  s.cluster().vanish_client(0);
  const Instant asked = s.cluster().now();
  CHECK(s.getattr(file, 1).value().size == 0);
  CHECK(s.cluster().now() - asked >= seconds(5));
  CHECK(s.cluster().now() - asked <= seconds(13));
}

TEST_CASE("delayed writes: of a session that ended they are sent if nobody has changed the file") {
  for (const bool is_changed : {false, true}) {
    CAPTURE(is_changed);
    Scenario s(options_of(kRings[0], 45));
    const Bytes bytes = pattern(20'000);
    const Ino file = write_some(s, "file", bytes);
    s.cluster().partition_client(0, true);
    CHECK(s.getattr(file, 1).value().size == 0);
    if (is_changed) REQUIRE(s.truncate(file, 7, 1).has_value());
    s.cluster().partition_client(0, false);
    const auto synced = s.fsync(file);
    if (is_changed) {
      REQUIRE_FALSE(synced.has_value());
      CHECK(stats(s).delayed_bytes == 0);
      CHECK(synced.error().code == Code::io);
      CHECK(s.fsync(file).has_value());  // told once
      CHECK(s.getattr(file, 1).value().size == 7);
    } else {
      CHECK(synced.has_value());
      CHECK(s.read(file, 0, 50'000, 1).value() == bytes);
    }
  }
}

TEST_CASE("delayed writes: a file that replaces another has its bytes before") {
  for (const Ring& ring : kRings) {
    CAPTURE(ring.name);
    Scenario s(options_of(ring, 46));
    s.make_file(kRoot, "file", pattern(1'000, 1));
    const Ino made = write_some(s, "new", pattern(2'000, 2));
    REQUIRE(s.rename(kRoot, "new", kRoot, "file").has_value());
    s.cluster().vanish_client(0);
    CHECK(s.read(made, 0, 5'000, 1).value() == pattern(2'000, 2));
  }
}

// It is open still, and goes by another name now.
TEST_CASE("delayed writes: a file that was moved, or linked, has its bytes before the next move") {
  for (const bool is_linked : {false, true}) {
    CAPTURE(is_linked);
    Scenario s(options_of(kRings[0], 48));
    const Ino file = write_some(s, "new", pattern(2'000, 1));
    if (is_linked) {
      const auto linked = ask<wire::EntryReply>(s.cluster(), 0, [&](auto& c, auto done) {
        c.link(wire::LinkRequest{.ino = file, .dir = kRoot, .name = "name"}, {}, std::move(done));
      });
      REQUIRE(linked.has_value());
    } else {
      REQUIRE(s.rename(kRoot, "new", kRoot, "name").has_value());
    }
    REQUIRE(s.write(file, 2'000, pattern(2'000, 2))->is_delayed);
    REQUIRE(s.rename(kRoot, "name", kRoot, "last").has_value());
    s.cluster().vanish_client(0);
    CHECK(s.getattr(file, 1).value().size == 4'000);
  }
}

// Many small pieces go in few requests, also those of a file that outgrows its home with them.
TEST_CASE("delayed writes: pieces that lie apart come to their places") {
  for (const Ring& ring : kRings) {
    CAPTURE(ring.name);
    Scenario s(options_of(ring, 47));
    const Ino file = write_some(s, "file", pattern(100, 1));
    Bytes wanted = pattern(100, 1);
    wanted.resize(400 * 1'000 + 500);
    for (std::uint64_t i = 1; i <= 400; ++i) {
      const std::uint64_t at = (i * 37 % 400 + 1) * 1'000;
      const Bytes piece = pattern(500, i);
      REQUIRE(s.write(file, at, piece)->is_delayed);
      std::copy(piece.begin(), piece.end(), wanted.begin() + static_cast<std::ptrdiff_t>(at));
    }
    CHECK(s.read(file, 0, 500'000, 1).value() == wanted);
    CHECK(stats(s).delayed_sent <= 20);
    REQUIRE(s.fsync(file).has_value());
    s.cluster().crash_volcano(Crash::kill);
    s.restart();
    CHECK(s.read(file, 0, 500'000, 1).value() == wanted);
  }
}
