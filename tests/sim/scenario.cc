#include "tests/sim/scenario.h"

#include <doctest/doctest.h>

#include "libmagma/crypto/path_hash.h"

namespace magma::test {

Scenario::Scenario(std::uint64_t seed, unsigned clients, unsigned mirrors, unsigned parts)
    : Scenario(SimCluster::Options{.seed = seed,
                                   .clients = clients,
                                   .mirrors = mirrors,
                                   .pretended_parts = parts}) {}

Scenario::Scenario(const SimCluster::Options& options) : cluster_(options) {
  forget_log_lines();
  restart();
  for (unsigned i = 1; i <= options.mirrors; ++i) REQUIRE(cluster_.start_volcano(i));
  for (unsigned i = 0; i < options.clients; ++i) {
    INFO(cluster_.last_error());
    REQUIRE(cluster_.start_client(i));
  }
}

void Scenario::restart() {
  const bool started = cluster_.start_volcano();
  INFO(cluster_.last_error());
  REQUIRE(started);
}

void Scenario::crash(Crash how) { cluster_.crash_volcano(how); }

Result<wire::EntryReply> Scenario::lookup(Ino dir, const std::string& name, unsigned client) {
  return ask<wire::EntryReply>(cluster_, client, [&](auto& c, auto done) {
    c.lookup(dir, name, kRootUser, std::move(done));
  });
}
Result<wire::Attr> Scenario::getattr(Ino ino, unsigned client) {
  return ask<wire::Attr>(cluster_, client,
                         [&](auto& c, auto done) { c.getattr(ino, kRootUser, std::move(done)); });
}
Result<wire::EntryReply> Scenario::mkdir(Ino dir, const std::string& name, unsigned client) {
  return ask<wire::EntryReply>(cluster_, client, [&](auto& c, auto done) {
    c.mkdir(mkdir_request(dir, name), kRootUser, std::move(done));
  });
}
Result<wire::EntryReply> Scenario::create(Ino dir, const std::string& name, unsigned client) {
  return ask<wire::EntryReply>(cluster_, client, [&](auto& c, auto done) {
    c.create(create_request(dir, name), kRootUser, std::move(done));
  });
}
Result<wire::EntryReply> Scenario::symlink(Ino dir, const std::string& name, unsigned client) {
  return ask<wire::EntryReply>(cluster_, client, [&](auto& c, auto done) {
    c.symlink({dir, name, "target"}, kRootUser, std::move(done));
  });
}
Result<wire::EmptyReply> Scenario::unlink(Ino dir, const std::string& name, unsigned client) {
  return ask<wire::EmptyReply>(cluster_, client, [&](auto& c, auto done) {
    c.unlink(dir, name, kRootUser, std::move(done));
  });
}
Result<wire::EmptyReply> Scenario::rmdir(Ino dir, const std::string& name, unsigned client) {
  return ask<wire::EmptyReply>(cluster_, client, [&](auto& c, auto done) {
    c.rmdir(dir, name, kRootUser, std::move(done));
  });
}
Result<wire::EmptyReply> Scenario::rename(Ino from, const std::string& name, Ino to,
                                          const std::string& new_name, unsigned client,
                                          std::uint32_t flags) {
  return ask<wire::EmptyReply>(cluster_, client, [&](auto& c, auto done) {
    c.rename({from, name, to, new_name, flags}, kRootUser, std::move(done));
  });
}
Result<wire::WriteReply> Scenario::write(Ino ino, std::uint64_t offset, Bytes bytes,
                                         unsigned client, bool append) {
  return ask<wire::WriteReply>(cluster_, client, [&](auto& c, auto done) {
    c.write(ino, offset, std::move(bytes), append, false, kRootUser, std::move(done));
  });
}
Result<Bytes> Scenario::read(Ino ino, std::uint64_t offset, std::uint32_t length, unsigned client) {
  return ask<Bytes>(cluster_, client, [&](auto& c, auto done) {
    c.read(ino, offset, length, kRootUser, std::move(done));
  });
}
Result<wire::Attr> Scenario::truncate(Ino ino, std::uint64_t size, unsigned client) {
  wire::SetattrRequest request;
  request.ino = ino;
  request.fields_set = wire::kSetSize;
  request.size = size;
  request.key_for_chunks = crypto::key_of_path("/cut/" + std::to_string(ino.value));
  return ask<wire::Attr>(cluster_, client, [&](auto& c, auto done) {
    c.setattr(request, kRootUser, std::move(done));
  });
}
Result<wire::Attr> Scenario::setattr(const wire::SetattrRequest& change, unsigned client) {
  return ask<wire::Attr>(
      cluster_, client, [&](auto& c, auto done) { c.setattr(change, kRootUser, std::move(done)); });
}
Result<wire::EmptyReply> Scenario::fsync(Ino ino, unsigned client) {
  return ask<wire::EmptyReply>(
      cluster_, client, [&](auto& c, auto done) { c.fsync(ino, kRootUser, std::move(done)); });
}

void Scenario::release(Ino ino, bool for_write, unsigned client) {
  cluster_.client(client).release(ino, for_write);
  cluster_.touch_client(client);
  cluster_.run_for(milliseconds(50));
}

Ino Scenario::make_file(Ino dir, const std::string& name, ByteSpan bytes) {
  auto made = create(dir, name);
  REQUIRE(made.has_value());
  for (std::size_t at = 0; at < bytes.size(); at += wire::kIoBytesMax) {
    ByteSpan part = bytes.subspan(at, std::min(wire::kIoBytesMax, bytes.size() - at));
    REQUIRE(write(made->ino, at, Bytes(part.begin(), part.end())).has_value());
  }
  release(made->ino);
  return made->ino;
}

std::string Scenario::dump(unsigned client) {
  auto walked = walk_tree(cluster_, client);
  std::string problem;
  if (!walked) problem = std::string(name_of(walked.error().code)) + " " + walked.error().detail;
  INFO(problem);
  REQUIRE(walked.has_value());
  return dump_of(walked->model);
}

SimCluster::Options options_of(const Ring& ring, std::uint64_t seed) {
  return {.seed = seed,
          .clients = 2,
          .mirrors = ring.mirrors,
          .pretended_parts = ring.parts,
          .delays_writes = true};
}

wire::MkdirRequest mkdir_request(Ino dir, const std::string& name) {
  return {dir, name, 0755, 0, crypto::key_of_path("/" + std::to_string(dir.value) + "/" + name)};
}
wire::CreateRequest create_request(Ino dir, const std::string& name) {
  wire::CreateRequest request;
  request.dir = dir;
  request.name = name;
  request.mode = 0644;
  request.exclusive = true;
  request.for_write = true;
  return request;
}

Bytes pattern(std::size_t size, std::uint64_t seed) { return SeedRandom(seed).bytes(size); }

}  // namespace magma::test
