// What the written scenarios share: a cluster that runs with its clients connected, and calls that
// wait. Failed set-up ends the test case.
#pragma once

#include <string>

#include "tests/lib/sim_cluster.h"
#include "tests/sim/sim_run.h"
#include "tests/sim/tree_walk.h"

namespace magma::test {

class Scenario {
 public:
  // `parts`: slots as if of so many volcanoes (SimCluster::Options::pretended_parts).
  explicit Scenario(std::uint64_t seed, unsigned clients = 1, unsigned mirrors = 0,
                    unsigned parts = 0);
  explicit Scenario(const SimCluster::Options& options);

  SimCluster& cluster() { return cluster_; }
  void restart();  // the volcano is down: up again
  void crash(Crash how);

  // Each waits for its answer; `client` asks.
  Result<wire::EntryReply> lookup(Ino dir, const std::string& name, unsigned client = 0);
  Result<wire::Attr> getattr(Ino ino, unsigned client = 0);
  Result<wire::EntryReply> mkdir(Ino dir, const std::string& name, unsigned client = 0);
  Result<wire::EntryReply> create(Ino dir, const std::string& name, unsigned client = 0);
  Result<wire::EntryReply> symlink(Ino dir, const std::string& name, unsigned client = 0);
  Result<wire::EmptyReply> unlink(Ino dir, const std::string& name, unsigned client = 0);
  Result<wire::EmptyReply> rmdir(Ino dir, const std::string& name, unsigned client = 0);
  Result<wire::EmptyReply> rename(Ino from, const std::string& name, Ino to,
                                  const std::string& new_name, unsigned client = 0,
                                  std::uint32_t flags = 0);
  Result<wire::WriteReply> write(Ino ino, std::uint64_t offset, Bytes bytes, unsigned client = 0,
                                 bool append = false);
  Result<Bytes> read(Ino ino, std::uint64_t offset, std::uint32_t length, unsigned client = 0);
  Result<wire::Attr> truncate(Ino ino, std::uint64_t size, unsigned client = 0);
  Result<wire::Attr> setattr(const wire::SetattrRequest& change, unsigned client = 0);
  Result<wire::EmptyReply> fsync(Ino ino, unsigned client = 0);
  void release(Ino ino, bool for_write = true, unsigned client = 0);
  // A file with these bytes, closed.
  Ino make_file(Ino dir, const std::string& name, ByteSpan bytes);
  // All of the tree as text; a failed check if it cannot be read.
  std::string dump(unsigned client = 0);

 private:
  SimCluster cluster_;
};

// Rings that what clients do by themselves is tried on, each with two clients that delay.
struct Ring {
  const char* name;
  unsigned mirrors, parts;
};
inline constexpr Ring kRings[] = {
    {"one volcano", 0, 0}, {"with a mirror", 1, 0}, {"parts", 0, 3}};
SimCluster::Options options_of(const Ring& ring, std::uint64_t seed);

wire::MkdirRequest mkdir_request(Ino dir, const std::string& name);
wire::CreateRequest create_request(Ino dir, const std::string& name);
Bytes pattern(std::size_t size, std::uint64_t seed = 1);

}  // namespace magma::test
