// DirectoryCache: what is believed of a directory between changes, and when it ends.
#include <sys/stat.h>

#include <string>

#include <doctest/doctest.h>

#include "libmagma/client/directory_cache.h"

using namespace magma;
using client::DirectoryCache;
using client::NameChange;

namespace {

constexpr Ino kDir(100);
constexpr Ino kOther(200);
constexpr Instant kStart{1'000'000'000'000};

wire::Attr attr_of(Ino ino, std::uint64_t version) {
  wire::Attr attr;
  attr.ino = ino;
  attr.mode = S_IFDIR | 0755;
  attr.data_version = version;
  attr.ctime = WallTime{static_cast<std::int64_t>(1000 + version)};
  return attr;
}

wire::NamesChanged told(std::uint64_t version, std::vector<Ino> others = {}) {
  return {attr_of(kDir, version), std::move(others)};
}

// Told now, to be believed for a second.
wire::Attr at(wire::Attr attr, Instant now) {
  attr.believed_until = now + seconds(1);
  return attr;
}
wire::NamesChanged at(wire::NamesChanged told, Instant now) {
  told.directory = at(std::move(told.directory), now);
  return told;
}

NameChange entered(const std::string& name) { return {.dir = kDir, .name = name}; }
NameChange removed(const std::string& name) {
  return {.dir = kDir, .name = name, .removes = true};
}
NameChange renamed(const std::string& from, const std::string& to, Ino from_dir = kDir) {
  return {.dir = kDir, .name = to, .from_dir = from_dir, .from_name = from};
}

struct Fixture {
  DirectoryCache cache;
  Instant now = kStart;
  bool absent(const std::string& name) const { return cache.is_absent(kDir, name, now); }
  std::optional<std::uint64_t> version() const {
    auto known = cache.attr_of(kDir, now);
    return known ? std::optional(known->attr.data_version) : std::nullopt;
  }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "directory cache: of a directory made here every name is known") {
  CHECK_FALSE(absent("a"));
  CHECK(version() == std::nullopt);
  cache.made(at(attr_of(kDir, 5), now));
  CHECK(absent("a"));
  CHECK(version() == 5);
  cache.changed(entered("a"), at(told(6), now));
  CHECK_FALSE(absent("a"));
  CHECK(absent("b"));
  CHECK(version() == 6);
  cache.changed(removed("a"), at(told(7), now));
  CHECK(absent("a"));
  cache.changed(entered("a"), at(told(8), now));
  cache.changed(renamed("a", "b"), at(told(9), now));
  CHECK(absent("a"));
  CHECK_FALSE(absent("b"));
  cache.changed({.dir = kDir, .name = "b", .from_dir = kDir, .from_name = "c", .exchanges = true},
                at(told(10), now));
  CHECK_FALSE(absent("b"));
  CHECK(cache.names() == 1);
}

TEST_CASE_FIXTURE(Fixture, "directory cache: of another directory the attributes only") {
  cache.changed(entered("a"), at(told(6), now));
  CHECK(version() == 6);
  CHECK_FALSE(absent("b"));
}

TEST_CASE_FIXTURE(Fixture, "directory cache: nothing is believed for longer than it may be") {
  cache.made(at(attr_of(kDir, 5), now));
  now = kStart + seconds(1) - nanoseconds(1);
  CHECK(absent("a"));
  CHECK(cache.attr_of(kDir, now)->left == nanoseconds(1));
  now = kStart + seconds(1);
  CHECK_FALSE(absent("a"));
  CHECK(version() == std::nullopt);
  // The next number: nobody came between, however long it was.
  now = kStart + seconds(60);
  cache.changed(entered("a"), at(told(6), now));
  CHECK(absent("b"));
  CHECK_FALSE(absent("a"));
  // Seen unchanged: the attributes are good again, absent names are asked for.
  now = kStart + seconds(120);
  cache.learn(at(attr_of(kDir, 6), now));
  CHECK(version() == 6);
  CHECK_FALSE(absent("b"));
}

TEST_CASE_FIXTURE(Fixture, "directory cache: an answer counts from when its request was made") {
  cache.made(at(attr_of(kDir, 5), now));
  const Instant made_at = now;
  now = kStart + milliseconds(900);
  cache.changed(entered("a"), at(told(6), made_at));
  now = kStart + milliseconds(1100);
  CHECK(version() == std::nullopt);
  CHECK_FALSE(absent("b"));
}

TEST_CASE_FIXTURE(Fixture, "directory cache: somebody else's change ends what is known of names") {
  cache.made(at(attr_of(kDir, 5), now));
  SUBCASE("seen by the next change") { cache.changed(entered("a"), at(told(7), now)); }
  SUBCASE("seen by attributes") { cache.learn(at(attr_of(kDir, 7), now)); }
  SUBCASE("an answer that overtook another") {
    cache.changed(entered("b"), at(told(7), now));
    cache.changed(entered("a"), at(told(6), now));
  }
  CHECK_FALSE(absent("x"));
  CHECK(version() == 7);
  CHECK(cache.names() == 0);
}

TEST_CASE_FIXTURE(Fixture, "directory cache: older attributes are not taken") {
  cache.changed(entered("a"), at(told(6), now));
  cache.learn(at(attr_of(kDir, 5), now + milliseconds(1)));
  CHECK(version() == 6);
  wire::Attr mode = attr_of(kDir, 6);
  mode.mode = S_IFDIR | 0700;
  mode.ctime.ns += 1;
  cache.learn(at(mode, now));
  CHECK(cache.attr_of(kDir, now)->attr.mode == (S_IFDIR | 0700));
  cache.learn(at(attr_of(kDir, 6), now));
  CHECK(cache.attr_of(kDir, now)->attr.mode == (S_IFDIR | 0700));
}

TEST_CASE_FIXTURE(Fixture, "directory cache: what is not sure is forgotten") {
  cache.made(at(attr_of(kDir, 5), now));
  cache.made(at(attr_of(kOther, 5), now));
  SUBCASE("a refused change: of its directory") { cache.failed(entered("a")); }
  SUBCASE("an answer given again: everything") {
    cache.changed(entered("a"), std::nullopt);
    CHECK(cache.directories() == 0);
  }
  SUBCASE("the ring began anew") { cache.clear(); }
  SUBCASE("named as changed by another change") {
    cache.changed({.dir = kOther, .name = "x"},
                  at(wire::NamesChanged{attr_of(kOther, 6), {kDir}}, now));
    CHECK(cache.is_absent(kOther, "y", now));
  }
  SUBCASE("the directory a rename took a name from") {
    cache.changed({.dir = kOther, .name = "x", .from_dir = kDir, .from_name = "y"},
                  at(wire::NamesChanged{attr_of(kOther, 6), {}}, now));
    CHECK_FALSE(cache.is_absent(kOther, "x", now));
  }
  CHECK_FALSE(absent("a"));
  CHECK(version() == std::nullopt);
}

TEST_CASE_FIXTURE(Fixture, "directory cache: memory is bounded") {
  cache.made(at(attr_of(kDir, 0), now));
  std::uint64_t version = 0;
  for (std::size_t i = 0; i < DirectoryCache::kNamesMax; ++i)
    cache.changed(entered(std::to_string(i)), at(told(++version), now));
  CHECK(cache.names() == DirectoryCache::kNamesMax);
  CHECK(absent("x"));
  cache.changed(entered("one more"), at(told(++version), now));
  CHECK(cache.names() == 0);
  CHECK_FALSE(absent("x"));
  // Of many directories the ones changed last.
  for (std::size_t i = 0; i < DirectoryCache::kDirectoriesMax; ++i)
    cache.made(at(attr_of(Ino(1000 + i), 1), now));
  CHECK(cache.directories() == DirectoryCache::kDirectoriesMax);
  CHECK_FALSE(this->version());
  CHECK(cache.attr_of(Ino(1000), now));
}

namespace {

// Names from one to the other, cookies 10 times their numbers.
wire::ReaddirReply part(std::uint64_t version, int first, int last, bool end, Instant until) {
  wire::ReaddirReply reply;
  for (int i = first; i <= last; ++i) {
    wire::DirectoryEntry& entry = reply.entries.emplace_back();
    entry.name = "f" + std::to_string(i);
    entry.cookie = static_cast<std::uint64_t>(i) * 10;
  }
  reply.end = end;
  reply.data_version = version;
  reply.believed_until = until;
  return reply;
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "directory cache: listed to the end, all names are known") {
  cache.listed(kDir, 0, part(5, 1, 3, false, now + seconds(2)));
  CHECK_FALSE(absent("x"));
  cache.listed(kDir, 30, part(5, 4, 6, true, now + seconds(1)));
  CHECK(absent("x"));
  CHECK_FALSE(absent("f1"));
  CHECK_FALSE(absent("f6"));
  CHECK(version() == std::nullopt);  // of its attributes nothing is
  CHECK(cache.names() == 6);
  cache.changed(renamed("f1", "g1"), at(told(6), now));
  CHECK(absent("f1"));
  CHECK_FALSE(absent("g1"));
  CHECK(version() == 6);
  now = now + milliseconds(1001);
  CHECK_FALSE(absent("x"));  // the second part was believed no longer
}

TEST_CASE_FIXTURE(Fixture, "directory cache: a listing with a gap or a change tells nothing") {
  const Instant until = now + seconds(2);
  SUBCASE("a part is missing") {
    cache.listed(kDir, 0, part(5, 1, 3, false, until));
    cache.listed(kDir, 60, part(5, 7, 9, true, until));
  }
  SUBCASE("it does not begin at the start") {
    cache.listed(kDir, 30, part(5, 4, 6, true, until));
  }
  SUBCASE("the directory has changed between two parts") {
    cache.listed(kDir, 0, part(5, 1, 3, false, until));
    cache.listed(kDir, 30, part(6, 4, 6, true, until));
  }
  SUBCASE("somebody else has changed it, as the volcano told between two parts") {
    cache.listed(kDir, 0, part(5, 1, 3, false, until));
    cache.forget(kDir);
    cache.listed(kDir, 30, part(5, 4, 6, true, until));
  }
  SUBCASE("this client has changed it meanwhile") {
    cache.listed(kDir, 0, part(5, 1, 3, false, until));
    cache.changed(entered("x"), at(told(6), now));
    cache.listed(kDir, 30, part(5, 4, 6, true, until));
  }
  SUBCASE("it is not believed") { cache.listed(kDir, 0, part(5, 1, 3, true, Instant())); }
  CHECK_FALSE(absent("x"));
}

TEST_CASE_FIXTURE(Fixture, "directory cache: a change answered after the listing that shows it") {
  cache.listed(kDir, 0, part(6, 1, 3, true, now + seconds(2)));
  CHECK(absent("x"));
  cache.changed(entered("x"), at(told(6), now));  // made before: the order is not known
  CHECK_FALSE(absent("y"));
}

TEST_CASE_FIXTURE(Fixture, "directory cache: a newer listing takes an older one's place") {
  cache.listed(kDir, 0, part(5, 1, 3, true, now + seconds(2)));
  cache.listed(kDir, 0, part(7, 2, 4, true, now + seconds(2)));
  CHECK(absent("f1"));
  CHECK_FALSE(absent("f4"));
  CHECK(cache.names() == 3);
}

TEST_CASE_FIXTURE(Fixture, "directory cache: names of listings are bounded, the last stay") {
  const int many = static_cast<int>(DirectoryCache::kListedMax) - 1;
  for (std::uint64_t i = 0; i < 6; ++i)
    cache.listed(Ino(1000 + i), 0, part(5, 1, many, true, now + seconds(2)));
  CHECK(cache.names() <= DirectoryCache::kNamesMax);
  CHECK(cache.is_absent(Ino(1005), "x", now));
  CHECK_FALSE(cache.is_absent(Ino(1000), "x", now));
  cache.listed(kDir, 0, part(5, 1, many, false, now + seconds(2)));
  cache.listed(kDir, static_cast<std::uint64_t>(many) * 10,
               part(5, many + 1, many + 2, true, now + seconds(2)));
  CHECK_FALSE(absent("x"));  // too large
  for (std::uint64_t i = 0; i < 6; ++i)  // begun, and never listed to the end
    cache.listed(Ino(2000 + i), 0, part(5, 1, many, false, now + seconds(2)));
  CHECK(cache.names() <= DirectoryCache::kNamesMax);
  for (std::uint64_t i = 0; i < 6; ++i) {
    cache.forget(Ino(2000 + i));
    cache.forget(Ino(1000 + i));
  }
  cache.forget(kDir);
  CHECK(cache.names() == 0);
}
