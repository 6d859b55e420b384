// The client's small parts by themselves: ids, lanes, what is known of files.
#include <unordered_map>

#include <doctest/doctest.h>

#include "libmagma/client/content_io.h"
#include "libmagma/client/file_table.h"
#include "libmagma/client/id_map.h"
#include "libmagma/client/lanes.h"
#include "libmagma/client/slab.h"
#include "libmagma/crypto/checksum.h"
#include "tests/unit/client_fixture.h"

using namespace magma;
using namespace magma::client;
using client_test::file_attr;
using client_test::in_chunks;

TEST_CASE("client: IdMap does what unordered_map does") {
  client_test::TestRandom random(1);
  IdMap map;
  std::unordered_map<std::uint64_t, std::uint64_t> model;
  for (int i = 0; i < 100000; ++i) {
    std::uint64_t key = random.next() % 300;
    if (model.contains(key)) {
      CHECK(map.take(key) == model[key]);
      model.erase(key);
    } else if (random.next() % 4 != 0) {
      map.put(key, key + 1);
      model[key] = key + 1;
    } else {
      CHECK(map.take(key) == 0);
    }
    REQUIRE(map.size() == model.size());
  }
  for (auto [key, value] : model) CHECK(map.take(key) == value);
}

TEST_CASE("client: a Slab id finds nothing after its object was given back") {
  struct Thing {
    int number = 0;
    void reset() { number = 0; }
  };
  Slab<Thing> slab;
  auto first = slab.take();
  slab.find(first)->number = 1;
  slab.give_back(first);
  CHECK(slab.find(first) == nullptr);
  auto second = slab.take();
  CHECK(second != first);
  CHECK(slab.find(first) == nullptr);
  CHECK(slab.find(second)->number == 0);
  CHECK(slab.find(0) == nullptr);
  CHECK(slab.find(~std::uint64_t{0}) == nullptr);
}

TEST_CASE("client: lanes are taken lowest first, sequences count per lane") {
  Lanes lanes;
  CHECK(lanes.take() == 0);
  CHECK(lanes.take() == 1);
  CHECK(lanes.next_sequence(0) == 1);
  CHECK(lanes.next_sequence(0) == 2);
  CHECK(lanes.next_sequence(1) == 1);
  lanes.give_back(0);
  CHECK(lanes.take() == 0);
  for (unsigned i = 2; i < wire::kLanes; ++i) CHECK(lanes.take() == i);
  CHECK_FALSE(lanes.has_free());
  lanes.give_back(200);
  CHECK(lanes.take() == 200);
  lanes.reset();
  CHECK(lanes.take() == 0);
  CHECK(lanes.next_sequence(0) == 1);
}

TEST_CASE("client: page sums are of whole aligned pages only") {
  Bytes bytes(3 * 4096);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i * 7 / 3);
  CHECK(page_sums_of(0, bytes).size() == 3);
  auto sums = page_sums_of(4096 + 100, bytes);
  REQUIRE(sums.size() == 2);
  CHECK(sums[0] == crypto::crc32c(ByteSpan(bytes).subspan(3996, 4096)));
  CHECK(page_sums_of(1, ByteSpan(bytes).first(4096)).empty());
  CHECK(page_sums_of(4095, ByteSpan(bytes).first(4097)).size() == 1);
  CHECK(page_sums_of(0, {}).empty());
}

TEST_CASE("client: FileTable takes no old news") {
  FileTable files;
  Ino ino(77);
  ring::Key key = crypto::key_of_path("/a");
  auto attr = file_attr(ino, 100, 5);
  files.learn(attr, Instant{0});
  CHECK(files.find(ino) == nullptr);  // at home and closed: nothing to know
  attr.placement = in_chunks(key, 3);
  files.learn(attr, Instant{10});
  REQUIRE(files.find(ino) != nullptr);
  CHECK(files.find(ino)->size == 100);

  auto older = file_attr(ino, 50, 4);
  older.placement = in_chunks(key, 2);
  files.learn(older, Instant{20});
  CHECK(files.find(ino)->size == 100);
  CHECK(files.find(ino)->placement.truncate_number == 3);
  CHECK(files.find(ino)->size_at == Instant{10});

  auto at_home = file_attr(ino, 100, 5);  // sent before it spilled
  at_home.placement.truncate_number = 3;
  files.learn(at_home, Instant{20});
  CHECK(files.find(ino)->placement.in_chunks);

  wire::MovedReply truncated;
  truncated.placement = in_chunks(key, 4);
  truncated.size = 10;
  files.learn_moved(ino, truncated, Instant{30});
  CHECK(files.find(ino)->size == 10);
  CHECK(files.find(ino)->placement.truncate_number == 4);
}

TEST_CASE("client: FileTable remembers written chunks until they were synced") {
  FileTable files;
  Ino ino(78);
  auto attr = file_attr(ino, 0);
  attr.placement = in_chunks(crypto::key_of_path("/b"));
  files.learn(attr, Instant{0});
  wire::WriteReply reply;
  auto write = [&](std::uint64_t offset, std::uint64_t length) {
    reply.offset = offset;
    reply.size = std::max(reply.size, offset + length);
    ++reply.data_version;
    files.learn_write(ino, reply, length, 65536, Instant{1});
  };
  write(3 * kChunkBytes, 10);
  write(kChunkBytes - 5, 10);  // chunks 0 and 1
  File& file = *files.find(ino);
  REQUIRE(file.written.size() == 3);
  CHECK(file.written[0].chunk == 0);
  CHECK(file.written[2].chunk == 3);
  std::uint64_t stamp = file.stamp;
  write(3 * kChunkBytes, 10);  // while the fsync is under way
  FileTable::clear_written(file, stamp);
  REQUIRE(file.written.size() == 1);
  CHECK(file.written[0].chunk == 3);
}

TEST_CASE("client: FileTable keeps records while open, and while chunks are not synced") {
  FileTable files;
  Ino ino(79);
  files.add_open(ino, true, 0, 0);
  files.forget(ino, Instant{0});
  REQUIRE(files.find(ino) != nullptr);
  files.drop_open(ino, true, Instant{0});
  CHECK(files.find(ino) == nullptr);

  auto attr = file_attr(ino, 0);
  attr.placement = in_chunks(crypto::key_of_path("/c"));
  files.learn(attr, Instant{0});
  wire::WriteReply reply;
  reply.size = 10;
  files.learn_write(ino, reply, 10, 65536, Instant{0});
  files.forget(ino, Instant{0});
  CHECK(files.find(ino) != nullptr);
  files.forget(Ino(1), Instant{0} + kWrittenKept);
  CHECK(files.find(ino) == nullptr);
}
