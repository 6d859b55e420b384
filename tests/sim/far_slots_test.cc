// Content over slots of several volcanoes, as one volcano pretends them: what several clients do to
// one file at the same time has an order, whatever messages pass each other.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "libmagma/crypto/path_hash.h"
#include "tests/sim/scenario.h"

using namespace magma;
using namespace magma::test;

namespace {

const Ino kRoot = root_ino();
constexpr unsigned kManyParts = 997;  // nearly every slot is as if of another volcano
constexpr std::uint64_t kBorder = std::uint64_t{64} << 20;
constexpr std::uint32_t kPiece = 4096;

// A file whose second chunk exists, closed by nobody.
Ino make_long_file(Scenario& s, const std::string& name) {
  const Ino ino = s.create(kRoot, name).value().ino;
  REQUIRE(s.truncate(ino, kBorder).has_value());
  REQUIRE(s.write(ino, kBorder, pattern(100), 0).has_value());
  return ino;
}

struct Listener : client::ChangeListener {
  bool has_heard = false;
  void on_changed(std::vector<wire::Change> changes, UniqueFunction<void()> done) override {
    for (const wire::Change& change : changes) has_heard = has_heard || change.name == "file";
    done();
  }
};

bool is_all(const Bytes& bytes, std::uint8_t value) {
  return std::all_of(bytes.begin(), bytes.end(), [&](std::uint8_t b) { return b == value; });
}

}  // namespace

TEST_CASE("far slots: a write and a truncate at the same time have an order") {
  unsigned cut_last = 0, written_last = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    Scenario s(seed, 2, 0, kManyParts);
    const Ino ino = make_long_file(s, "file" + std::to_string(seed));
    REQUIRE(s.getattr(ino, 1).has_value());
    unsigned left = 2;
    auto write = [&] {
      s.cluster().client(0).write(ino, kBorder, Bytes(kPiece, 7), false, false, {},
                                  [&](Result<wire::WriteReply> written) {
                                    CHECK(written.has_value());
                                    --left;
                                  });
      s.cluster().touch_client(0);
    };
    auto cut = [&] {
      wire::SetattrRequest change;
      change.ino = ino;
      change.fields_set = wire::kSetSize;
      change.size = kBorder;
      s.cluster().client(1).setattr(change, {}, [&](Result<wire::Attr> attr) {
        CHECK(attr.has_value());
        --left;
      });
      s.cluster().touch_client(1);
    };
    const bool writes_first = seed % 2 == 0;
    writes_first ? write() : cut();
    s.cluster().run_for(microseconds(static_cast<std::int64_t>(seed * 53 % 4000)));
    writes_first ? cut() : write();
    REQUIRE(s.cluster().run_until([&] { return left == 0; }, seconds(30)));
    const std::uint64_t size = s.getattr(ino, 1).value().size;
    CHECK((size == kBorder || size == kBorder + kPiece));
    ++(size == kBorder ? cut_last : written_last);
    if (size > kBorder) CHECK(is_all(s.read(ino, kBorder, kPiece, 1).value(), 7));
    // Whatever came late: what a truncate cut away does not come back.
    REQUIRE(s.truncate(ino, kBorder, 1).has_value());
    REQUIRE(s.truncate(ino, kBorder + kPiece, 0).has_value());
    CHECK(is_all(s.read(ino, kBorder, kPiece, 1).value(), 0));
    CHECK(is_all(s.read(ino, kBorder, kPiece, 0).value(), 0));
    s.crash(Crash::kill);
    CHECK_FALSE(fsck_problem(s.cluster()).has_value());
  }
  CHECK(cut_last > 5);
  CHECK(written_last > 5);
}

TEST_CASE("far slots: appends over a border by two clients are all there, each whole") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Scenario s(seed, 2, 0, kManyParts);
    const Ino ino = s.create(kRoot, "file" + std::to_string(seed)).value().ino;
    REQUIRE(s.truncate(ino, kBorder - 3000).has_value());
    unsigned left = 6;
    for (unsigned i = 0; i < 6; ++i) {
      s.cluster().client(i % 2).write(ino, 0, Bytes(1000, static_cast<std::uint8_t>(i + 1)), true,
                                      false, {}, [&](Result<wire::WriteReply> written) {
                                        CHECK(written.has_value());
                                        --left;
                                      });
      s.cluster().touch_client(i % 2);
      s.cluster().run_for(microseconds(static_cast<std::int64_t>(seed * 31 % 500)));
    }
    REQUIRE(s.cluster().run_until([&] { return left == 0; }, seconds(30)));
    CHECK(s.getattr(ino, 1).value().size == kBorder + 3000);
    unsigned seen = 0;
    for (unsigned i = 0; i < 6; ++i) {
      const Bytes bytes = s.read(ino, kBorder - 3000 + i * 1000, 1000, i % 2).value();
      REQUIRE(bytes.size() == 1000);
      CHECK(is_all(bytes, bytes[0]));
      seen |= 1u << bytes[0];
    }
    CHECK(seen == 0x7e);
    s.crash(Crash::kill);
    CHECK_FALSE(fsck_problem(s.cluster()).has_value());
  }
}

TEST_CASE("far slots: who moves a name away tells who has seen it before it is answered") {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    Scenario s(seed, 2, 0, kManyParts);
    const Ino one = s.mkdir(kRoot, "one" + std::to_string(seed)).value().ino;
    const Ino two = s.mkdir(kRoot, "two" + std::to_string(seed)).value().ino;
    REQUIRE(s.create(one, "file").has_value());
    Listener listener;
    s.cluster().set_listener(1, &listener);
    REQUIRE(s.lookup(one, "file", 1).has_value());
    listener.has_heard = false;
    REQUIRE(s.rename(one, "file", two, "file").has_value());
    CHECK(listener.has_heard);
    s.cluster().set_listener(1, nullptr);
    CHECK(name_of(s.lookup(one, "file", 1).error().code) == name_of(Code::not_found));
    CHECK(s.lookup(two, "file", 1).has_value());
  }
}
