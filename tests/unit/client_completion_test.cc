// Answers that do not tell all, and writes to chunks whose size authority is another volcano's: the
// client asks for the rest, and tells the authority.
#include <doctest/doctest.h>

#include "libmagma/client/completion.h"
#include "libmagma/crypto/path_hash.h"
#include "tests/unit/client_fixture.h"

using namespace magma;
using namespace magma::client_test;
using wire::FlareOp;

namespace {

constexpr client::Credentials kWho{};
const Ino kRoot = ino_at(100, 1);
const Ino kFile = ino_at(7, 16);
const ring::Key kKey = crypto::key_of_path("/somewhere");

wire::Attr partial_attr() {
  wire::Attr attr = file_attr(kFile, 1);
  attr.placement = in_chunks(kKey, 2);
  attr.ctime = WallTime{50};
  attr.is_partial = true;
  return attr;
}

wire::ContentReply content() {
  wire::ContentReply reply;
  reply.size = std::uint64_t{70} << 20;
  reply.blocks = 8;
  reply.mtime = WallTime{40};
  reply.ctime = WallTime{60};
  reply.data_version = 9;
  reply.truncate_number = 3;
  return reply;
}

void serve(World& world, std::function<void(FakeVolcano&, const Seen&)> respond) {
  for (auto& volcano : world.volcanoes)
    volcano->respond = [respond, raw = volcano.get()](const Seen& seen) { respond(*raw, seen); };
}

std::size_t count(World& world, FlareOp op) {
  return world.first().count(op) + world.second().count(op);
}

}  // namespace

TEST_CASE("completion: what is missing, and that it is put in") {
  wire::EntryReply entry;
  entry.ino = kFile;
  Bytes body = wire::encode(entry);
  auto missing = client::missing_in(FlareOp::lookup, body);
  REQUIRE(std::holds_alternative<wire::GetattrRequest>(missing));
  CHECK(std::get<wire::GetattrRequest>(missing).ino == kFile);
  CHECK_FALSE(client::completed(FlareOp::lookup, body, wire::AttrReply{file_attr(Ino(1), 0)}));
  body = client::completed(FlareOp::lookup, body, wire::AttrReply{partial_attr()}).value();
  missing = client::missing_in(FlareOp::lookup, body);
  REQUIRE(std::holds_alternative<wire::ContentRequest>(missing));
  CHECK(std::get<wire::ContentRequest>(missing).key == kKey);
  body = client::completed(FlareOp::lookup, body, content()).value();
  CHECK(std::holds_alternative<std::monostate>(client::missing_in(FlareOp::lookup, body)));
  const wire::Attr attr = *wire::decode<wire::EntryReply>(body)->attr;
  CHECK(attr.size == content().size);
  CHECK(attr.ctime == WallTime{60});
  CHECK(attr.mtime == WallTime{40});
  CHECK(attr.placement.truncate_number == 3);
  CHECK_FALSE(attr.is_partial);
}

TEST_CASE("completion: a look-up brings everything, and is made again if the flare is gone") {
  World world;
  REQUIRE(world.start());
  unsigned gone = 2;
  serve(world, [&](FakeVolcano& volcano, const Seen& seen) {
    if (seen.op == FlareOp::lookup) {
      wire::EntryReply entry;
      entry.ino = kFile;
      return volcano.answer(seen, entry);
    }
    if (seen.op == FlareOp::getattr) {
      if (gone > 0) {
        --gone;
        return volcano.refuse(seen, Code::stale);
      }
      return volcano.answer(seen, wire::AttrReply{partial_attr()});
    }
    volcano.answer(seen, content());
  });
  Got<wire::EntryReply> found;
  world.client->lookup(kRoot, "f", kWho, found.done());
  CHECK(world.run_until([&] { return found.is_over(); }));
  REQUIRE(found.is_ok());
  CHECK(found.value().attr->size == content().size);
  CHECK(count(world, FlareOp::lookup) == 3);
  CHECK(count(world, FlareOp::content) == 1);
  gone = 100;
  Got<wire::EntryReply> never;
  world.client->lookup(kRoot, "f", kWho, never.done());
  CHECK(world.run_until([&] { return never.is_over(); }));
  CHECK(never.code() == Code::not_found);
}

TEST_CASE("completion: the rest of an open that fails ends the open") {
  World world;
  REQUIRE(world.start());
  serve(world, [&](FakeVolcano& volcano, const Seen& seen) {
    if (seen.op == FlareOp::open) return volcano.answer(seen, wire::AttrReply{partial_attr()});
    if (seen.op == FlareOp::content) return volcano.refuse(seen, Code::stale);
    volcano.answer(seen, wire::EmptyReply{});
  });
  Got<wire::Attr> opened;
  world.client->open(kFile, true, false, kWho, opened.done());
  CHECK(world.run_until([&] { return opened.is_over(); }));
  CHECK(opened.code() == Code::stale);
  CHECK(world.run_until([&] { return count(world, FlareOp::release) == 1; }));
}

TEST_CASE("completion: a chunk is made before it is written, and the authority told after") {
  World world;
  REQUIRE(world.start());
  std::vector<FlareOp> order;
  bool is_made = false;
  unsigned truncated = 1;
  serve(world, [&](FakeVolcano& volcano, const Seen& seen) {
    if (seen.op == FlareOp::getattr) {
      wire::Attr attr = partial_attr();
      attr.is_partial = false;
      attr.size = content().size;
      return volcano.answer(seen, wire::AttrReply{attr});
    }
    order.push_back(seen.op);
    if (seen.op == FlareOp::reserve) {
      CHECK(seen.as<wire::ReserveRequest>().chunk == 1);
      CHECK(seen.head.slot == kKey.slot());
      is_made = true;
      return volcano.answer(seen, wire::EmptyReply{});
    }
    if (seen.op == FlareOp::write) {
      if (!is_made) return volcano.refuse(seen, Code::no_chunk);
      wire::WriteReply reply;
      reply.offset = seen.as<wire::WriteRequest>().offset;
      reply.is_published = false;
      return volcano.answer(seen, reply);
    }
    if (seen.op == FlareOp::publish) {
      auto message = seen.as<wire::PublishRequest>();
      if (truncated > 0) {
        --truncated;
        wire::MovedReply moved;
        moved.ino = kFile;
        moved.placement = in_chunks(kKey, 5);
        moved.size = 100;
        return volcano.refuse_with(seen, Code::behind_truncate, moved);
      }
      CHECK(message.truncate_number == 5);
      wire::WriteReply reply;
      reply.offset = message.offset;
      reply.size = message.offset + message.length;
      reply.data_version = 12;
      return volcano.answer(seen, reply);
    }
    volcano.answer(seen, wire::EmptyReply{});
  });
  Got<wire::Attr> known;
  world.client->getattr(kFile, kWho, known.done());
  CHECK(world.run_until([&] { return known.is_over(); }));
  Got<wire::WriteReply> written;
  world.client->write(kFile, std::uint64_t{64} << 20, Bytes(5000, 3), false, false, kWho,
                      written.done());
  CHECK(world.run_until([&] { return written.is_over(); }));
  REQUIRE(written.is_ok());
  CHECK(written.value().size == (std::uint64_t{64} << 20) + 5000);
  CHECK(order == std::vector<FlareOp>{FlareOp::write, FlareOp::reserve, FlareOp::write,
                                      FlareOp::publish, FlareOp::write, FlareOp::publish});
}
