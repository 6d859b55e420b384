// Reading, writing and syncing files against scripted volcanoes: home and chunks, borders, content
// that moves, what an fsync must reach.
#include <doctest/doctest.h>

#include "libmagma/client/content_io.h"
#include "libmagma/crypto/checksum.h"
#include "tests/unit/client_fixture.h"

using namespace magma;
using namespace magma::client_test;
using client::kChunkBytes;
using wire::FlareOp;

namespace {

constexpr client::Credentials kWho{};
const Ino kFile = ino_at(5, 20);

// A key with chunk 0 at the first volcano and chunk 1 at the second.
ring::Key split_key() {
  for (int i = 0;; ++i) {
    ring::Key key = crypto::key_of_path("/k" + std::to_string(i));
    if (key.slot().value < 2048 && crypto::key_of_chunk(key, 1).slot().value >= 2048) return key;
  }
}

Bytes pattern(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::uint8_t>(i * 31 / 7 + 1);
  return bytes;
}

wire::MovedReply moved(const wire::Placement& placement, std::uint64_t size) {
  wire::MovedReply reply;
  reply.ino = kFile;
  reply.placement = placement;
  reply.size = size;
  return reply;
}

// A world whose client knows kFile as a file in chunks.
struct ChunkWorld : World {
  explicit ChunkWorld(std::uint64_t size, std::function<void(client::ClientConfig&)> adjust = {})
      : World(std::move(adjust)), file_size(size) {
    for (auto& volcano : volcanoes)
      volcano->respond = [this, raw = volcano.get()](const Seen& seen) { respond(*raw, seen); };
    REQUIRE(start());
    learn();
  }
  wire::Attr attr() {
    wire::Attr attr = file_attr(kFile, file_size, version);
    attr.placement = in_chunks(key, number);
    return attr;
  }
  void learn() {
    Got<wire::Attr> got;
    client->getattr(kFile, kWho, got.done());
    REQUIRE(run_until([&] { return got.is_over(); }));
  }
  void respond(FakeVolcano& volcano, const Seen& seen) {
    if (seen.op == FlareOp::getattr) return volcano.answer(seen, wire::AttrReply{attr()});
    if (seen.op == FlareOp::write) {
      auto message = seen.as<wire::WriteRequest>();
      if (message.truncate_number != number)
        return volcano.refuse_with(seen, Code::moved_to_chunks,
                                   moved(attr().placement, file_size));
      wire::WriteReply reply;
      reply.offset = message.append ? file_size : message.offset;
      file_size = std::max(file_size, reply.offset + seen.payload().size());
      reply.size = file_size;
      reply.data_version = ++version;
      return volcano.answer(seen, reply);
    }
    if (seen.op == FlareOp::read) {
      auto message = seen.as<wire::ReadRequest>();
      if (message.truncate_number != number)
        return volcano.refuse_with(seen, Code::behind_truncate,
                                   moved(attr().placement, file_size));
      return volcano.answer(seen, wire::ReadReply{},
                            Bytes(std::min(message.length, chunk_has), std::uint8_t{7}));
    }
    if (seen.op == FlareOp::fsync && fsync_code != Code{} && &volcano == &second())
      return volcano.refuse(seen, fsync_code);
    volcano.answer(seen, wire::EmptyReply{});
  }

  ring::Key key = split_key();
  std::uint64_t file_size;
  std::uint64_t version = 1;
  std::uint64_t number = 0;
  std::uint32_t chunk_has = 1u << 30;  // bytes a chunk answers with at most
  Code fsync_code{};
};

}  // namespace

TEST_CASE("client: a small file is read and written at home") {
  World world;
  REQUIRE(world.start());
  world.first().respond = [&](const Seen& seen) {
    if (seen.op == FlareOp::read)
      return world.first().answer(seen, wire::ReadReply{}, Bytes{'a', 'b', 'c'});
    wire::WriteReply reply;
    reply.size = 5000;
    world.first().answer(seen, reply);
  };
  Got<Bytes> bytes;
  world.client->read(kFile, 10, 100, kWho, bytes.done());
  CHECK(world.run_until([&] { return bytes.is_over(); }));
  REQUIRE(bytes.is_ok());
  CHECK(bytes.value() == Bytes{'a', 'b', 'c'});
  auto read = world.first().last(FlareOp::read).as<wire::ReadRequest>();
  CHECK(read.offset == 10);
  CHECK(read.length == 100);
  CHECK_FALSE(read.key.has_value());

  Got<wire::WriteReply> written;
  Bytes data = pattern(5000);
  world.client->write(kFile, 0, data, false, true, kWho, written.done());
  CHECK(world.run_until([&] { return written.is_over(); }));
  CHECK(written.is_ok());
  auto seen = world.first().last(FlareOp::write);
  auto write = seen.as<wire::WriteRequest>();
  CHECK(seen.head.slot == Slot(5));
  CHECK(seen.head.lane == 0);
  CHECK(seen.payload() == data);
  CHECK_FALSE(write.key.has_value());
  CHECK(write.key_for_chunks == ring::Key{});  // it cannot outgrow its home
  CHECK(world.keys.asked == 0);
  CHECK(write.kill_suidgid);
  REQUIRE(write.page_sums.size() == 1);
  CHECK(write.page_sums[0] == crypto::crc32c(ByteSpan(data).first(4096)));

  Got<wire::WriteReply> longer;
  world.client->write(kFile, kSmallMax, Bytes{1}, false, false, kWho, longer.done());
  CHECK(world.run_until([&] { return longer.is_over(); }));
  write = world.first().last(FlareOp::write).as<wire::WriteRequest>();
  CHECK(write.key_for_chunks == world.keys.key_of(kFile));
}

TEST_CASE("client: a write to a file that has moved goes to its chunk, with the same bytes") {
  World world;
  REQUIRE(world.start());
  ring::Key key = crypto::key_of_path("/somewhere");
  auto& at = key.slot().value < 2048 ? world.first() : world.second();
  wire::Placement placement = in_chunks(key, 4);
  auto respond = [&](FakeVolcano& volcano, const Seen& seen) {
    auto message = seen.as<wire::WriteRequest>();
    if (!message.key)
      return volcano.refuse_with(seen, Code::moved_to_chunks, moved(placement, 1u << 20));
    wire::WriteReply reply;
    reply.offset = message.offset;
    reply.size = 1u << 20;
    volcano.answer(seen, reply);
  };
  for (auto& volcano : world.volcanoes)
    volcano->respond = [&, raw = volcano.get()](const Seen& seen) { respond(*raw, seen); };
  Bytes data = pattern(20000);
  Got<wire::WriteReply> written;
  world.client->write(kFile, 4096, data, false, false, kWho, written.done());
  CHECK(world.run_until([&] { return written.is_over(); }));
  REQUIRE(written.is_ok());
  CHECK(written.value().size == 1u << 20);
  auto seen = at.last(FlareOp::write);
  auto message = seen.as<wire::WriteRequest>();
  CHECK(seen.head.slot == key.slot());
  CHECK(message.key == key);
  CHECK(message.truncate_number == 4);
  CHECK(seen.payload() == data);
  CHECK(world.client->stats().moved == 1);
  // It remembers.
  Got<wire::WriteReply> again;
  std::size_t at_home = world.first().count(FlareOp::write) + world.second().count(FlareOp::write);
  world.client->write(kFile, 0, Bytes{1}, false, false, kWho, again.done());
  CHECK(world.run_until([&] { return again.is_over(); }));
  CHECK(world.first().count(FlareOp::write) + world.second().count(FlareOp::write) == at_home + 1);
}

TEST_CASE("client: content that keeps moving ends in an error") {
  World world;
  REQUIRE(world.start());
  for (auto& volcano : world.volcanoes)
    volcano->respond = [raw = volcano.get()](const Seen& seen) {
      raw->refuse_with(seen, Code::moved_to_chunks, moved(in_chunks(split_key()), 10));
    };
  Got<Bytes> bytes;
  Got<wire::WriteReply> written;
  world.client->read(kFile, 0, 10, kWho, bytes.done());
  world.client->write(kFile, 0, Bytes{1}, false, false, kWho, written.done());
  CHECK(world.run_until([&] { return bytes.is_over() && written.is_over(); }));
  CHECK(bytes.code() == Code::io);
  CHECK(written.code() == Code::io);
}

TEST_CASE("client: a write over a chunk border is two, in order, at their volcanoes") {
  ChunkWorld world(3 * kChunkBytes);
  Bytes data = pattern(1u << 20);
  std::uint64_t offset = kChunkBytes - 300000;
  Got<wire::WriteReply> written;
  world.client->write(kFile, offset, data, false, false, kWho, written.done());
  CHECK(world.run_until([&] { return world.first().count(FlareOp::write) == 1; }));
  CHECK(world.second().count(FlareOp::write) == 0);  // not before the first is acknowledged
  CHECK(world.run_until([&] { return written.is_over(); }));
  REQUIRE(written.is_ok());
  CHECK(written.value().offset == offset);
  auto one = world.first().last(FlareOp::write);
  auto two = world.second().last(FlareOp::write);
  CHECK(one.head.slot == world.key.slot());
  CHECK(two.head.slot == crypto::key_of_chunk(world.key, 1).slot());
  CHECK(one.as<wire::WriteRequest>().offset == offset);
  CHECK(two.as<wire::WriteRequest>().offset == kChunkBytes);
  Bytes joined = one.payload();
  CHECK(joined.size() == 300000);
  Bytes rest = two.payload();
  joined.insert(joined.end(), rest.begin(), rest.end());
  CHECK(joined == data);
  CHECK(two.as<wire::WriteRequest>().page_sums == client::page_sums_of(kChunkBytes, rest));
}

TEST_CASE("client: a refused truncate number is replaced and the write asked again") {
  ChunkWorld world(kChunkBytes);
  world.number = 5;
  Bytes data = pattern(10000);
  Got<wire::WriteReply> written;
  world.client->write(kFile, 0, data, false, false, kWho, written.done());
  CHECK(world.run_until([&] { return written.is_over(); }));
  CHECK(written.is_ok());
  auto all = world.first().all(FlareOp::write);
  REQUIRE(all.size() == 2);
  CHECK(all[1].as<wire::WriteRequest>().truncate_number == 5);
  CHECK(all[1].payload() == data);
  bool is_new_request = all[1].head.sequence > all[0].head.sequence ||
                        all[1].head.lane != all[0].head.lane;
  CHECK(is_new_request);
}

TEST_CASE("client: an append goes to the slot of chunk 0, without page sums") {
  ChunkWorld world(kChunkBytes + 100);
  Got<wire::WriteReply> written;
  world.client->write(kFile, 0, pattern(8192), true, false, kWho, written.done());
  CHECK(world.run_until([&] { return written.is_over(); }));
  REQUIRE(written.is_ok());
  CHECK(written.value().offset == kChunkBytes + 100);
  auto seen = world.first().last(FlareOp::write);
  CHECK(seen.head.slot == world.key.slot());
  CHECK(seen.as<wire::WriteRequest>().append);
  CHECK(seen.as<wire::WriteRequest>().page_sums.empty());
  // Its bytes are in chunk 1: that is what an fsync must reach.
  Got<wire::EmptyReply> synced;
  world.client->fsync(kFile, kWho, synced.done());
  CHECK(world.run_until([&] { return synced.is_over(); }));
  CHECK(world.second().last(FlareOp::fsync).as<wire::FsyncRequest>().chunks ==
        std::vector<std::uint32_t>{1});
}

TEST_CASE("client: a read over a chunk border joins two and fills holes with zeros") {
  ChunkWorld world(kChunkBytes + 1000);
  world.chunk_has = 400;
  Got<Bytes> bytes;
  world.client->read(kFile, kChunkBytes - 1000, 100000, kWho, bytes.done());
  CHECK(world.run_until([&] { return bytes.is_over(); }));
  REQUIRE(bytes.is_ok());
  Bytes expected(2000, 0);
  std::fill_n(expected.begin(), 400, std::uint8_t{7});
  std::fill_n(expected.begin() + 1000, 400, std::uint8_t{7});
  CHECK(bytes.value() == expected);
  CHECK(world.first().last(FlareOp::read).as<wire::ReadRequest>().length == 1000);
  CHECK(world.second().last(FlareOp::read).as<wire::ReadRequest>().length == 1000);
}

TEST_CASE("client: a read past the known end asks for the size if that is old") {
  ChunkWorld world(1000);
  std::size_t asked = world.first().count(FlareOp::getattr);
  Got<Bytes> at_once;
  world.client->read(kFile, 1000, 100, kWho, at_once.done());
  CHECK(world.run_until([&] { return at_once.is_over(); }));
  CHECK(at_once.value().empty());
  CHECK(world.first().count(FlareOp::getattr) == asked);  // it was learned just now

  world.run(seconds(2));
  world.file_size = 1050;  // someone else wrote
  ++world.version;
  Got<Bytes> later;
  world.client->read(kFile, 1000, 100, kWho, later.done());
  CHECK(world.run_until([&] { return later.is_over(); }));
  CHECK(world.first().count(FlareOp::getattr) == asked + 1);
  REQUIRE(later.is_ok());
  CHECK(later.value().size() == 50);

  world.run(seconds(2));
  Got<Bytes> within;
  world.client->read(kFile, 0, 1000, kWho, within.done());
  CHECK(world.run_until([&] { return within.is_over(); }));
  CHECK(world.first().count(FlareOp::getattr) == asked + 1);  // no need
}

TEST_CASE("client: own writes are seen at once, whatever the size was before") {
  ChunkWorld world(1000);
  Got<wire::WriteReply> written;
  world.client->write(kFile, 1000, pattern(500), false, false, kWho, written.done());
  CHECK(world.run_until([&] { return written.is_over(); }));
  Got<Bytes> bytes;
  world.client->read(kFile, 0, 5000, kWho, bytes.done());
  CHECK(world.run_until([&] { return bytes.is_over(); }));
  CHECK(bytes.value().size() == 1500);
}

TEST_CASE("client: a file that was truncated elsewhere is read with its new number") {
  ChunkWorld world(kChunkBytes);
  world.number = 1;
  world.file_size = 100;
  ++world.version;
  Got<Bytes> bytes;
  world.client->read(kFile, 0, 1000, kWho, bytes.done());
  CHECK(world.run_until([&] { return bytes.is_over(); }));
  REQUIRE(bytes.is_ok());
  CHECK(bytes.value().size() == 100);
}

TEST_CASE("client: fsync reaches home, chunk 0 and what was written, until it has succeeded") {
  ChunkWorld world(4 * kChunkBytes);
  Got<wire::WriteReply> written;
  world.client->write(kFile, kChunkBytes + 5, pattern(100), false, false, kWho, written.done());
  CHECK(world.run_until([&] { return written.is_over(); }));
  auto sync = [&] {
    world.first().seen.clear();
    world.second().seen.clear();
    Got<wire::EmptyReply> synced;
    world.client->fsync(kFile, kWho, synced.done());
    CHECK(world.run_until([&] { return synced.is_over(); }));
    CHECK(synced.times() == 1);
    return synced;
  };
  world.fsync_code = Code::io;
  CHECK(sync().code() == Code::io);
  world.fsync_code = Code{};
  CHECK(sync().is_ok());
  auto at_first = world.first().all(FlareOp::fsync);
  REQUIRE(at_first.size() == 2);  // home and chunk 0
  CHECK(at_first[0].head.slot == Slot(5));
  CHECK(at_first[0].as<wire::FsyncRequest>().chunks.empty());
  CHECK(at_first[1].head.slot == world.key.slot());
  CHECK(at_first[1].as<wire::FsyncRequest>().chunks == std::vector<std::uint32_t>{0});
  REQUIRE(world.second().count(FlareOp::fsync) == 1);
  auto chunk = world.second().last(FlareOp::fsync);
  CHECK(chunk.head.slot == crypto::key_of_chunk(world.key, 1).slot());
  CHECK(chunk.as<wire::FsyncRequest>().chunks == std::vector<std::uint32_t>{1});
  CHECK(sync().is_ok());  // nothing written since: home and the size authority only
  CHECK(world.first().count(FlareOp::fsync) == 2);
  CHECK(world.second().count(FlareOp::fsync) == 0);
}

TEST_CASE("client: fsync of a file that may have spilled asks where it is first") {
  World world;
  REQUIRE(world.start());
  ring::Key key = split_key();
  for (auto& volcano : world.volcanoes)
    volcano->respond = [&, raw = volcano.get()](const Seen& seen) {
      wire::WriteReply reply;
      reply.size = 100001;
      reply.offset = 100000;
      wire::Attr attr = file_attr(kFile, 100001);
      attr.placement = in_chunks(key);
      if (seen.op == FlareOp::write) return raw->answer(seen, reply);
      if (seen.op == FlareOp::getattr) return raw->answer(seen, wire::AttrReply{attr});
      raw->answer(seen, wire::EmptyReply{});
    };
  Got<wire::WriteReply> written;
  world.client->write(kFile, 100000, Bytes{1}, false, false, kWho, written.done());
  CHECK(world.run_until([&] { return written.is_over(); }));
  Got<wire::EmptyReply> synced;
  world.client->fsync(kFile, kWho, synced.done());
  CHECK(world.run_until([&] { return synced.is_over(); }));
  CHECK(world.first().count(FlareOp::getattr) == 1);
  CHECK(world.first().count(FlareOp::fsync) == 2);
}

TEST_CASE("client: setattr beyond what stays at home carries the key") {
  World world;
  REQUIRE(world.start());
  Got<wire::Attr> got;
  wire::SetattrRequest change;
  change.ino = kFile;
  change.fields_set = wire::kSetSize;
  change.size = kSmallMax + 1;
  world.client->setattr(change, kWho, got.done());
  change.size = kSmallMax;
  world.client->setattr(change, kWho, got.done());
  CHECK(world.run_until([&] { return world.first().count(FlareOp::setattr) == 2; }));
  auto all = world.first().all(FlareOp::setattr);
  CHECK(all[0].as<wire::SetattrRequest>().key_for_chunks == world.keys.key_of(kFile));
  CHECK(all[1].as<wire::SetattrRequest>().key_for_chunks == ring::Key{});
}

TEST_CASE("client: writes in flight are bounded in bytes") {
  World world([](client::ClientConfig& config) {
    config.write_bytes_in_flight_max = 100000;
  });
  REQUIRE(world.start());
  std::vector<Got<wire::WriteReply>> written(10);
  std::vector<client::CallId> calls;
  for (auto& one : written)
    calls.push_back(
        world.client->write(kFile, 0, pattern(30000), false, false, kWho, one.done()));
  world.run(milliseconds(100));
  CHECK(world.first().count(FlareOp::write) == 3);
  world.client->cancel(calls[4]);  // while it waits
  CHECK(written[4].code() == Code::interrupted);
  world.first().respond = [&](const Seen& seen) { world.first().answer(seen, wire::WriteReply{}); };
  for (const Seen& one : world.first().all(FlareOp::write))
    world.first().answer(one, wire::WriteReply{});
  CHECK(world.run_until([&] {
    return std::all_of(written.begin(), written.end(), [](auto& one) { return one.is_over(); });
  }));
  CHECK(world.first().count(FlareOp::write) == 9);
  // One larger than the bound goes through when it is alone.
  Got<wire::WriteReply> large;
  world.client->write(kFile, 0, pattern(200000), false, false, kWho, large.done());
  CHECK(world.run_until([&] { return large.is_over(); }));
  CHECK(large.is_ok());
}

TEST_CASE("client: a cancelled write and read call back once") {
  ChunkWorld world(3 * kChunkBytes);
  for (auto& volcano : world.volcanoes) volcano->respond = {};
  Got<Bytes> bytes;
  Got<wire::WriteReply> written;
  auto reading = world.client->read(kFile, kChunkBytes - 10, 20, kWho, bytes.done());
  auto writing = world.client->write(kFile, 0, pattern(10), false, false, kWho, written.done());
  CHECK(world.run_until([&] { return world.first().count(FlareOp::write) == 1; }));
  world.client->cancel(reading);
  world.client->cancel(writing);
  CHECK(bytes.code() == Code::interrupted);
  CHECK(written.code() == Code::interrupted);
  world.first().answer(world.first().last(FlareOp::write), wire::WriteReply{});
  world.run(seconds(1));
  CHECK(bytes.times() == 1);
  CHECK(written.times() == 1);
}

TEST_CASE("client: a lost connection does not lose the bytes of a write") {
  ChunkWorld world(kChunkBytes);
  Bytes data = pattern(1u << 20);
  int seen_writes = 0;
  world.first().respond = [&](const Seen& seen) {
    if (seen.op == FlareOp::write && ++seen_writes == 1) return world.first().drop_connections();
    world.respond(world.first(), seen);
  };
  Got<wire::WriteReply> written;
  world.client->write(kFile, 0, data, false, false, kWho, written.done());
  CHECK(world.run_until([&] { return written.is_over(); }));
  CHECK(written.is_ok());
  auto all = world.first().all(FlareOp::write);
  REQUIRE(all.size() == 2);
  CHECK(all[1].payload() == data);
  CHECK(all[1].head.lane == all[0].head.lane);
  CHECK(all[1].head.sequence == all[0].head.sequence);
}

TEST_CASE("client: reads and writes of more than it takes are refused") {
  World world;
  REQUIRE(world.start());
  Got<Bytes> bytes;
  world.client->read(kFile, 0, (1u << 20) + 1, kWho, bytes.done());
  CHECK(bytes.code() == Code::invalid);
  Got<wire::WriteReply> written, beyond;
  world.client->write(kFile, 0, Bytes((1u << 20) + 1), false, false, kWho, written.done());
  CHECK(written.code() == Code::invalid);
  world.client->write(kFile, ~std::uint64_t{0} - 1, Bytes(10), false, false, kWho, beyond.done());
  CHECK(beyond.code() == Code::too_big);
}
