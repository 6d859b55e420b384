#include <doctest/doctest.h>
#include <sys/stat.h>

#include <string>
#include <vector>

#include "mount.magma/name_packs.h"

namespace {

using magma::Ino;
using magma::Instant;
using magma::milliseconds;
using magma::seconds;
using magma::mount::NamePacks;
namespace wire = magma::wire;

constexpr Ino kDir{100};
constexpr Ino kOther{101};
const Instant kStart = Instant{} + seconds(1000);

wire::DirectoryEntry file(std::uint64_t number, Instant until = kStart + seconds(5)) {
  wire::DirectoryEntry entry;
  entry.name = "f" + std::to_string(number);
  entry.cookie = 1000 + number;
  entry.ino = Ino(number);
  entry.attr.emplace();
  entry.attr->ino = entry.ino;
  entry.attr->mode = S_IFREG | 0644;
  entry.attr->nlink = 1;
  entry.attr->believed_until = until;
  return entry;
}

wire::ReaddirReply batch(std::uint64_t first, std::uint64_t last, bool end = false) {
  wire::ReaddirReply reply;
  for (std::uint64_t i = first; i <= last; ++i) reply.entries.push_back(file(i));
  reply.end = end;
  reply.believed_until = kStart + seconds(5);
  return reply;
}

// Looks names up until a batch is worth asking for; how many that took.
unsigned walk(NamePacks& packs, Ino dir, std::uint64_t cookie, Instant now = kStart) {
  for (unsigned i = 1; i <= 100; ++i)
    if (auto asked = packs.looked_up(dir, now)) {
      CHECK(*asked == cookie);
      return i;
    }
  return 0;
}

TEST_CASE("name packs: after some look-ups a batch is asked for, after more the next") {
  NamePacks packs;
  CHECK(walk(packs, kDir, 0) == NamePacks::kLookupsFirst);
  CHECK(walk(packs, kDir, 0) == 0);  // one at a time
  CHECK(walk(packs, kOther, 0) == NamePacks::kLookupsFirst);
  packs.fetched(kDir, batch(1, 10), kStart);
  CHECK(packs.entries() == 10);
  CHECK(walk(packs, kDir, 1010) == NamePacks::kLookupsNext);
  packs.fetched(kDir, batch(11, 20, true), kStart);
  CHECK(walk(packs, kDir, 0) == 0);  // all of it is here
  // Until it is no longer believed.
  CHECK(walk(packs, kDir, 0, kStart + seconds(5)) == NamePacks::kLookupsFirst);
  CHECK(packs.entries() == 0);
}

TEST_CASE("name packs: look-ups far apart are no walk; a batch that failed is asked for again") {
  NamePacks packs;
  Instant now = kStart;
  for (int i = 0; i < 100; ++i, now = now + NamePacks::kPauseMax)
    CHECK_FALSE(packs.looked_up(kDir, now));
  CHECK(walk(packs, kDir, 0, now) == NamePacks::kLookupsFirst);
  packs.failed(kDir);
  CHECK(walk(packs, kDir, 0, now) == 2 * NamePacks::kLookupsFirst);
  packs.failed(kOther);  // never asked for
  packs.fetched(kOther, batch(1, 3), kStart);
  CHECK(packs.entries() == 0);
}

TEST_CASE("name packs: what is taken goes, and is believed as long as the batch was") {
  NamePacks packs;
  walk(packs, kDir, 0);
  wire::ReaddirReply reply = batch(1, 3, true);
  reply.entries[1].attr->believed_until = kStart + seconds(2);
  packs.fetched(kDir, reply, kStart);
  auto entry = packs.take(kDir, "f1", kStart);
  REQUIRE(entry);
  CHECK(entry->ino == Ino(1));
  CHECK(entry->type == 8);  // DT_REG
  CHECK(entry->believed_until == kStart + seconds(5));
  REQUIRE(entry->attr);
  CHECK(entry->attr->mode == (S_IFREG | 0644));
  CHECK_FALSE(packs.take(kDir, "f1", kStart));
  CHECK_FALSE(packs.take(kDir, "f4", kStart));
  CHECK_FALSE(packs.take(kOther, "f3", kStart));
  CHECK_FALSE(packs.take(kDir, "f2", kStart + seconds(2)));
  CHECK_FALSE(packs.take(kDir, "f3", kStart + seconds(5)));
  CHECK(packs.entries() == 0);
}

TEST_CASE("name packs: left out is what has no attributes, several names, or is not believed") {
  NamePacks packs;
  walk(packs, kDir, 0);
  wire::ReaddirReply reply = batch(1, 6, true);
  reply.entries[0].attr.reset();
  reply.entries[1].attr->nlink = 2;
  reply.entries[2].attr->believed_until = kStart;
  reply.entries[3].attr->mode = S_IFDIR | 0755;  // its key is not known
  reply.entries[4].attr->mode = S_IFDIR | 0755;
  reply.entries[4].attr->nlink = 2;
  reply.entries[4].attr->placement.key.emplace();
  packs.fetched(kDir, reply, kStart);
  CHECK(packs.entries() == 2);
  CHECK(packs.take(kDir, "f5", kStart));
  CHECK(packs.take(kDir, "f6", kStart));

  walk(packs, kOther, 0);
  reply = batch(1, 6, true);
  reply.believed_until = kStart;  // the names are not
  packs.fetched(kOther, reply, kStart);
  CHECK(packs.entries() == 0);
  // Twice as many look-ups before the next, until one is of use.
  CHECK(walk(packs, kOther, 0) == 2 * NamePacks::kLookupsFirst);
  packs.fetched(kOther, reply, kStart);
  CHECK(walk(packs, kOther, 0) == 4 * NamePacks::kLookupsFirst);
  packs.fetched(kOther, batch(1, 6, true), kStart);
  CHECK(packs.take(kOther, "f6", kStart));
  CHECK(walk(packs, kOther, 0, kStart + seconds(5)) == NamePacks::kLookupsFirst);
}

TEST_CASE("name packs: what was changed is forgotten") {
  NamePacks packs;
  walk(packs, kDir, 0);
  packs.fetched(kDir, batch(1, 4), kStart);
  packs.forget(Ino(1));
  packs.forget(kDir, "f2");
  packs.forget(kOther, "f3");
  packs.forget(kDir, "f9");
  CHECK_FALSE(packs.take(kDir, "f1", kStart));
  CHECK_FALSE(packs.take(kDir, "f2", kStart));
  CHECK(packs.take(kDir, "f3", kStart));
  CHECK(packs.entries() == 1);
}

TEST_CASE("name packs: what is changed while a batch is under way is not taken over from it") {
  NamePacks packs;
  walk(packs, kDir, 0);
  packs.forget(Ino(1));
  packs.forget(kDir, "f2");
  packs.fetched(kDir, batch(1, 3), kStart);
  CHECK_FALSE(packs.take(kDir, "f1", kStart));
  CHECK_FALSE(packs.take(kDir, "f2", kStart));
  CHECK(packs.take(kDir, "f3", kStart));
  // The next batch was asked for after those changes.
  walk(packs, kDir, 1003);
  packs.fetched(kDir, batch(1, 3), kStart);
  CHECK(packs.entries() == 3);
}

TEST_CASE("name packs: changes too many to remember make a batch void") {
  NamePacks packs;
  walk(packs, kDir, 0);
  for (std::uint64_t i = 0; i <= NamePacks::kTouchedMax; ++i) packs.forget(Ino(5000 + i));
  packs.fetched(kDir, batch(1, 3), kStart);
  CHECK(packs.entries() == 0);
  walk(packs, kDir, 0);
  for (std::uint64_t i = 0; i <= NamePacks::kTouchedMax; ++i)
    packs.forget(kDir, std::to_string(i));
  packs.fetched(kDir, batch(1, 3), kStart);
  CHECK(packs.entries() == 0);
  walk(packs, kDir, 0);
  packs.fetched(kDir, batch(1, 3), kStart);
  CHECK(packs.entries() == 3);
}

TEST_CASE("name packs: bounded in directories and entries") {
  NamePacks packs;
  for (std::uint64_t dir = 1; dir <= 3 * NamePacks::kDirectoriesMax; ++dir) {
    walk(packs, Ino(dir << 32), 0);
    wire::ReaddirReply reply = batch(dir * 1000, dir * 1000 + 399);
    packs.fetched(Ino(dir << 32), std::move(reply), kStart);
    CHECK(packs.directories() <= NamePacks::kDirectoriesMax);
    CHECK(packs.entries() <= NamePacks::kEntriesMax);
  }
  // The last one is there, the first is not.
  CHECK(packs.take(Ino(3 * NamePacks::kDirectoriesMax << 32),
                   "f" + std::to_string(3 * NamePacks::kDirectoriesMax * 1000), kStart));
  CHECK_FALSE(packs.take(Ino(1ull << 32), "f1000", kStart));
}

}  // namespace
