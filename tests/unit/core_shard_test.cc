// Operations of a volcano on simulated storage, without a network: effects, errors, replays,
// recovery after kill -9 and power cuts.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include "libmagma/crypto/checksum.h"
#include "tests/unit/core_fixture.h"

using namespace magma;
using namespace magma::test;

TEST_SUITE("shard") {
TEST_CASE("a file is made, written, read, looked up, listed, removed") {
  ShardBench b;
  auto file = b.create(b.root(), "a");
  REQUIRE(file);
  CHECK(ring::home_of(file->ino) == ring::home_of(b.root()));
  CHECK(b.write(file->ino, 0, "hello") == Code{});
  CHECK(b.write(file->ino, 5, " world") == Code{});
  CHECK(b.read(file->ino, 0, 100).value() == "hello world");
  CHECK(b.read(file->ino, 6, 3).value() == "wor");
  CHECK(b.lookup(b.root(), "a")->attr->size == 11);
  CHECK(b.create(b.root(), "a").error().code == Code::exists);
  CHECK(b.names(b.root()) == std::vector<std::string>{"a"});
  CHECK(b.unlink(b.root(), "a"));
  CHECK(b.lookup(b.root(), "a").error().code == Code::not_found);
  // Open still: its content lives until the release.
  CHECK(b.read(file->ino, 0, 5).value() == "hello");
  CHECK(b.rows(store::Table::orphan) == 1);
  CHECK(b.release(file->ino));
  CHECK(b.getattr(file->ino).error().code == Code::stale);
  CHECK(b.rows(store::Table::orphan) == 0);
  CHECK(b.rows(store::Table::inline_data) == 0);
}

TEST_CASE("directories are made and removed over two slots, and leave no operation behind") {
  ShardBench b;
  auto dir = b.mkdir(b.root(), "d", "/d");
  REQUIRE(dir);
  CHECK(ring::home_of(dir->ino) == crypto::key_of_path("/d").slot());
  CHECK(b.getattr(b.root())->nlink == 3);
  CHECK(b.mkdir(b.root(), "d", "/d").error().code == Code::exists);
  CHECK(b.create(dir->ino, "f"));
  CHECK(b.rmdir(b.root(), "d").error().code == Code::not_empty);
  CHECK(b.unlink(b.root(), "d").error().code == Code::is_a_directory);
  CHECK(b.rmdir(dir->ino, "f").error().code == Code::not_a_directory);
  CHECK(b.unlink(dir->ino, "f"));
  CHECK(b.rmdir(b.root(), "d"));
  CHECK(b.getattr(b.root())->nlink == 2);
  b.rest();  // the object goes once the entry's removal is durable
  CHECK(b.getattr(dir->ino).error().code == Code::stale);
  CHECK(b.rows(store::Table::intent) == 0);
  CHECK(b.rows(store::Table::part) == 0);
}

TEST_CASE("rename: within, across, replacing, directories, cycles") {
  ShardBench b;
  Ino a = b.mkdir(b.root(), "a", "/a")->ino;
  Ino c = b.mkdir(b.root(), "c", "/c")->ino;
  Ino x = b.create(a, "x")->ino;
  CHECK(b.write(x, 0, "content of x") == Code{});
  CHECK(b.rename(a, "x", a, "y"));
  CHECK(b.lookup(a, "x").error().code == Code::not_found);
  CHECK(b.rename(a, "y", c, "z"));
  CHECK(b.lookup(a, "y").error().code == Code::not_found);
  CHECK(b.lookup(c, "z")->ino == x);
  CHECK(b.read(x, 0, 100).value() == "content of x");
  Ino other = b.create(a, "other")->ino;
  CHECK(b.release(other));
  CHECK(b.rename(a, "other", c, "z", wire::kRenameNoReplace).error().code == Code::exists);
  CHECK(b.rename(a, "other", c, "z"));
  CHECK(b.lookup(c, "z")->ino == other);
  CHECK(b.getattr(x)->nlink == 0);  // open still
  CHECK(b.release(x));
  CHECK(b.getattr(x).error().code == Code::stale);
  // Directories.
  CHECK(b.rename(b.root(), "a", c, "a"));
  CHECK(b.getattr(b.root())->nlink == 3);
  CHECK(b.getattr(c)->nlink == 3);
  CHECK(b.rename(b.root(), "c", a, "below").error().code == Code::invalid);
  Ino e = b.mkdir(b.root(), "e", "/e")->ino;
  CHECK(b.create(e, "full"));
  CHECK(b.rename(c, "a", b.root(), "e").error().code == Code::not_empty);
  CHECK(b.unlink(e, "full"));
  CHECK(b.rename(c, "z", b.root(), "e").error().code == Code::is_a_directory);
  CHECK(b.rename(b.root(), "e", c, "z").error().code == Code::not_a_directory);
  CHECK(b.rename(c, "a", b.root(), "e"));
  CHECK(b.lookup(b.root(), "e")->ino == a);
  CHECK(b.getattr(e).error().code == Code::stale);
  CHECK(b.getattr(c)->nlink == 2);
  b.rest();
  CHECK(b.rows(store::Table::intent) == 0);
  CHECK(b.rows(store::Table::part) == 0);
}

TEST_CASE("content grows from row to file to chunks and can be cut everywhere") {
  ShardBench b;
  Ino f = b.create(b.root(), "f")->ino;
  std::string model;
  auto put = [&](std::uint64_t offset, const std::string& bytes) {
    CHECK(b.write(f, offset, bytes) == Code{});
    if (model.size() < offset + bytes.size()) model.resize(offset + bytes.size());
    model.replace(offset, bytes.size(), bytes);
  };
  auto same = [&] {
    CHECK(b.getattr(f)->size == model.size());
    for (std::uint64_t at = 0; at < model.size(); at += 1 << 20)
      CHECK((b.read(f, at, 1 << 20).value() == model.substr(at, 1 << 20)));
  };
  put(0, std::string(10000, 'a'));
  same();
  put(9000, std::string(20000, 'b'));
  same();
  put(60000, std::string(10000, 'c'));  // spills
  CHECK(b.getattr(f)->placement.in_chunks);
  same();
  put(300000, std::string(100000, 'd'));
  same();
  CHECK(b.truncate(f, 61000));
  model.resize(61000);
  same();
  CHECK(b.truncate(f, 90000));
  model.resize(90000);
  same();
  put(89000, std::string(5000, 'e'));
  same();
  b.kill();
  b.attach();
  same();
  CHECK(b.release(f));
  same();
  CHECK(b.unlink(b.root(), "f"));
  b.rest();
  CHECK(b.rows(store::Table::authority) == 0);
  CHECK(b.rows(store::Table::chunk) == 0);
  CHECK(b.rows(store::Table::page_sums) == 0);
  CHECK(b.rows(store::Table::intent) == 0);
}

TEST_CASE("a write of several pieces: in a row, a file, chunks; and those that make no sense") {
  ShardBench b;
  const Ino f = b.create(b.root(), "f")->ino;
  std::string model;
  wire::WriteRequest message;
  message.ino = f;
  message.key_for_chunks = crypto::key_of_path("/f");
  ring::Slot slot = ring::home_of(f);
  auto write = [&](const std::vector<wire::Extent>& extents, const std::string& bytes) {
    message.extents = extents;
    message.offset = extents.empty() ? 0 : extents.front().offset;
    const auto reply = b.ask(message, slot, as_bytes(bytes));
    if (!reply) return b.last.code;
    std::size_t at = 0;
    for (const wire::Extent& extent : extents) {
      if (model.size() < extent.offset + extent.length) model.resize(extent.offset + extent.length);
      model.replace(extent.offset, extent.length, bytes, at, extent.length);
      at += extent.length;
    }
    CHECK(reply->size == model.size());
    return Code{};
  };
  auto same = [&] { CHECK((b.read(f, 0, 1 << 20).value() == model)); };
  CHECK(write({{10, 5}, {20, 5}}, "aaaaabbbbb") == Code{});
  same();
  CHECK(write({{0, 3}, {12, 2}, {30'000, 4}}, "cccddeeee") == Code{});
  same();
  const std::string page(4096, 'p');
  message.page_sums = {crypto::crc32c(as_bytes(page)), crypto::crc32c(as_bytes(page))};
  CHECK(write({{4096, 4096}, {16'384, 4096}}, page + page) == Code{});
  message.page_sums[1] ^= 1;
  CHECK(write({{4096, 4096}, {16'384, 4096}}, std::string(8192, 'q')) == Code::checksum);
  same();
  message.page_sums.pop_back();
  CHECK(write({{4096, 4096}, {16'384, 4096}}, page + page) == Code::malformed);
  message.page_sums.clear();
  same();
  CHECK(write({{1, 2}, {80'000, 2}}, "xxyy") == Code::moved_to_chunks);
  const auto moved = wire::decode<wire::MovedReply>(b.last.body);
  REQUIRE(moved);
  message.key = moved->placement.key;
  message.truncate_number = moved->placement.truncate_number;
  slot = crypto::key_of_chunk(*message.key, 0).slot();
  CHECK(write({{1, 2}, {80'000, 2}}, "xxyy") == Code{});
  same();

  const std::vector<std::vector<wire::Extent>> senseless = {
      {{20, 5}, {10, 5}},                         // fall
      {{10, 5}, {14, 5}},                         // overlap
      {{10, 5}, {20, 4}},                         // fewer than the bytes
      {{10, 5}, {20, 6}},                         // more
      {{10, 10}, {20, 0}},                        // nothing
      {{10, 5}, {store::kChunkBytes, 5}},         // another chunk
      {{10, 5}, {wire::kFileBytesMax + 1, 5}},    // no file is as long
      {{~std::uint64_t{0} - 2, 5}, {20, 5}},
  };
  for (const auto& extents : senseless)
    CHECK(write(extents, "0123456789") == (extents.front().offset > wire::kFileBytesMax
                                               ? Code::too_big
                                               : Code::malformed));
  std::vector<wire::Extent> many(wire::kExtentsMax + 1);
  for (std::size_t i = 0; i < many.size(); ++i) many[i] = {i * 2, 1};
  CHECK(write(many, std::string(many.size(), 'm')) == Code::malformed);
  message.append = true;
  CHECK(write({{10, 5}, {20, 5}}, "0123456789") == Code::malformed);
  message.append = false;
  same();
  b.kill();
  b.attach();
  same();
}

TEST_CASE("a write that is refused while the file leaves its row loses nothing of it") {
  ShardBench b;
  const Ino f = b.create(b.root(), "f")->ino;
  const std::string before(5000, 'a');
  REQUIRE(b.write(f, 0, before) == Code{});
  wire::WriteRequest message;
  message.ino = f;
  message.offset = 0;
  message.extents = {{0, 4096}, {20'480, 4096}};
  const std::string pages(8192, 'b');
  message.page_sums = {crypto::crc32c(as_bytes(pages.substr(0, 4096))), 7};
  CHECK_FALSE(b.ask(message, ring::home_of(f), as_bytes(pages)));
  CHECK((b.read(f, 0, 50'000).value() == before));
  b.kill();
  b.attach();
  CHECK((b.read(f, 0, 50'000).value() == before));
}

TEST_CASE("attributes that come with a write are set after it, or not at all") {
  ShardBench b;
  const Ino f = b.create(b.root(), "f")->ino;
  wire::WriteRequest message;
  message.ino = f;
  wire::SetattrRequest& set = message.attributes.emplace();
  set.ino = f;
  set.fields_set = wire::kSetMode | wire::kSetUid | wire::kSetMtime;
  set.mode = 0640;
  set.uid = 7;
  set.mtime = WallTime{77};
  const std::string text = "text";
  auto reply = b.ask(message, ring::home_of(f), as_bytes(text));
  REQUIRE(reply);
  CHECK(reply->mtime == WallTime{77});
  const auto is_set = [&] {
    const auto attr = b.getattr(f);
    CHECK((attr->mode & 07777) == 0640);
    CHECK(attr->uid == 7);
    CHECK(attr->mtime == WallTime{77});
    CHECK(attr->size == 4);
    return attr->ctime;
  };
  CHECK(reply->set_at == is_set());
  b.kill();
  b.attach();
  CHECK(reply->set_at == is_set());
  // What may not come along, or is another's: nothing of it is done.
  for (const std::uint32_t field : {wire::kSetSize, wire::kSetMtimeNow, wire::kKillSuidGid}) {
    wire::WriteRequest bad = message;
    bad.attributes->fields_set |= field;
    CHECK_FALSE(b.ask(bad, ring::home_of(f), as_bytes(text)));
    CHECK(b.last.code == Code::malformed);
  }
  wire::WriteRequest bad = message;
  bad.attributes->ino = b.root();
  CHECK_FALSE(b.ask(bad, ring::home_of(f), as_bytes(text)));
  CHECK(b.last.code == Code::malformed);
  CHECK(reply->set_at == is_set());
  // Without them nothing is said to be set.
  message.attributes.reset();
  CHECK_FALSE(b.ask(message, ring::home_of(f), as_bytes(text))->set_at);
  CHECK(b.getattr(f)->mtime > WallTime{77});
}

TEST_CASE("a chunk that a truncate dropped and that is written again is not dropped once more") {
  ShardBench b;
  Ino f = b.create(b.root(), "f")->ino;
  const std::uint64_t second = store::kChunkBytes;
  REQUIRE(b.write(f, 0, std::string(100'000, 'a')) == Code{});
  for (char round : {'b', 'c', 'd'}) {
    REQUIRE(b.write(f, second, std::string(5000, round)) == Code{});
    REQUIRE(b.truncate(f, 100));
    const char kept = static_cast<char>(round + 10);
    REQUIRE(b.write(f, second + 7, std::string(3000, kept)) == Code{});
    b.kill();  // the truncate's operation has not settled: its parts are applied again
    b.attach();
    CHECK(b.getattr(f)->size == second + 3007);
    CHECK(b.read(f, second, 4000).value() == std::string(7, '\0') + std::string(3000, kept));
    CHECK(b.read(f, 0, 200).value() == std::string(100, 'a') + std::string(100, '\0'));
  }
  b.rest();
  CHECK(b.read(f, second + 7, 3000).value() == std::string(3000, 'n'));
}

TEST_CASE("the times of a file in chunks are set while it is open and after") {
  ShardBench b;
  Ino f = b.create(b.root(), "f")->ino;
  REQUIRE(b.write(f, 0, std::string(100'000, 'a')) == Code{});
  auto set = [&](std::int64_t ns) {
    wire::SetattrRequest message;
    message.ino = f;
    message.fields_set = wire::kSetMtime;
    message.mtime = WallTime{ns};
    auto reply = b.ask(message, ring::home_of(f));
    REQUIRE(reply);
    CHECK(reply->attr.mtime.ns == ns);
    CHECK(b.getattr(f)->mtime.ns == ns);
  };
  set(1'000'000'000);
  REQUIRE(b.release(f));
  b.rest();
  CHECK(b.getattr(f)->mtime.ns == 1'000'000'000);  // not what the size authority knew
  set(2'000'000'000);
  b.kill();
  b.attach();
  CHECK(b.getattr(f)->mtime.ns == 2'000'000'000);
}

TEST_CASE("a file that spills to a key of its own home slot keeps its content") {
  ShardBench b;
  Ino f = b.create(b.root(), "f")->ino;
  ring::Key key = ring::first_key(ring::home_of(f));
  key.bytes[19] = 1;
  CHECK(b.write(f, 0, std::string(40000, 'x'), key) == Code{});
  CHECK(b.write(f, 40000, std::string(50000, 'y'), key) == Code{});
  CHECK((b.read(f, 0, 90000).value() == std::string(40000, 'x') + std::string(50000, 'y')));
  b.kill();
  b.attach();
  CHECK((b.read(f, 0, 90000).value() == std::string(40000, 'x') + std::string(50000, 'y')));
}

TEST_CASE("a repeated change gets the first answer, an older one is refused") {
  ShardBench b;
  auto first = b.create(b.root(), "once");
  REQUIRE(first);
  b.repeat = true;
  auto again = b.create(b.root(), "once");
  REQUIRE(again);
  CHECK(again->ino == first->ino);
  b.kill();
  b.attach();
  again = b.create(b.root(), "once");
  REQUIRE(again);
  CHECK(again->ino == first->ino);
  b.repeat = false;
  CHECK(b.create(b.root(), "next"));
  b.sequence -= 2;
  CHECK(b.create(b.root(), "late").error().code == Code::old_sequence);
  CHECK(b.lookup(b.root(), "late").error().code == Code::not_found);
}

TEST_CASE("a session that a power cut left only opens or locks has a row again") {
  unsigned left_something = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    ShardBench b;
    std::string name = "d";  // in another database than the sessions' rows
    while (crypto::key_of_path("/" + name).slot().value % store::kDatabases == 0) name += 'd';
    Ino dir = b.mkdir(b.root(), name, "/" + name)->ino;
    Ino file = b.create(dir, "f")->ino;
    wire::LockRequest lock{.ino = file, .owner = 5, .first = 0, .last = 9};
    REQUIRE(b.ask(lock, ring::home_of(file)));
    if (seed % 2 == 0) REQUIRE(b.release(file));
    b.power_cut(seed);
    const bool holds = b.rows(store::Table::open) + b.rows(store::Table::file_lock) > 0;
    left_something += holds ? 1 : 0;
    if (!holds) continue;
    CHECK(b.rows(store::Table::session) == 1);
    // It is known, also after the next start, and what it holds ends with its lease.
    b.attach();
    b.kill();
    b.attach();
    b.pass(wire::kSessionLease + seconds(2));
    b.rest();
    CHECK(b.rows(store::Table::open) + b.rows(store::Table::file_lock) == 0);
  }
  CHECK(left_something > 5);
}

TEST_CASE("inode numbers are never used again, over kills and power cuts") {
  ShardBench b;
  std::set<std::uint64_t> seen;
  for (int round = 0; round < 6; ++round) {
    for (int i = 0; i < 5; ++i) {
      auto made = b.create(b.root(), "f" + std::to_string(round) + "." + std::to_string(i));
      REQUIRE(made);
      CHECK(seen.insert(made->ino.value).second);
    }
    if (round % 2 == 0)
      b.kill();
    else
      b.power_cut(round);
    b.attach();
  }
}

TEST_CASE("bad names, wrong epochs, unknown sessions are refused") {
  ShardBench b;
  CHECK(b.create(b.root(), "..").error().code == Code::invalid);
  CHECK(b.create(b.root(), "a/b").error().code == Code::invalid);
  CHECK(b.create(b.root(), std::string("a\0b", 3)).error().code == Code::invalid);
  CHECK(b.create(b.root(), std::string(256, 'n')).error().code == Code::name_too_long);
  CHECK(b.create(b.root(), std::string(255, 'n')));
  CHECK(b.create(Ino(12345), "x").error().code == Code::not_found);
}
}
