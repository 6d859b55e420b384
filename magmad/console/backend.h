// What the console's commands need of the world: the volcano they run in, and the network's files.
// magmad/console/console.h has the real one; tests and the fuzz target a made-up one.
//
// Answers come through callbacks: exactly once, possibly inside the call. Each asynchronous call
// returns an object; destroying it gives the call up and nobody is called back. It may be destroyed
// from within its callback.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libmagma/base/result.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/client/listing.h"
#include "libmagma/client/paths.h"
#include "libmagma/ring/slice.h"
#include "magmad/console/access.h"

namespace magma::console {

template <class T>
using Done = UniqueFunction<void(Result<T>)>;

class Pending {
 public:
  virtual ~Pending() = default;
};
using PendingPtr = std::unique_ptr<Pending>;

// Entries of a directory; as client::DirectoryReader.
class Listing {
 public:
  virtual ~Listing() = default;
  virtual void next(Done<client::DirectoryBatch> done) = 0;
};

// Bytes of a file; as client::FileReader.
class Reading {
 public:
  virtual ~Reading() = default;
  virtual void next(Done<Bytes> done) = 0;
};

// The tree of the network. Outlives every session.
class Files {
 public:
  virtual ~Files() = default;
  virtual PendingPtr resolve(std::string_view path, client::PathWalk::Last last,
                             Done<client::Flare> done) = 0;
  virtual std::unique_ptr<Listing> list(client::Flare directory) = 0;
  virtual std::unique_ptr<Reading> read(client::Flare file) = 0;
  // Takes the flare's entry out of its directory.
  virtual PendingPtr erase(const client::Flare& flare, Done<void> done) = 0;
  // Who holds the slot; the owner first.
  virtual std::vector<client::Holder> holders(ring::Slot slot) = 0;
};

struct Identity {
  std::string nick;
  std::string fqdn;
  std::string address;  // flare address with port
  std::string version;
};

// A volcano as `lava` shows it.
struct LavaLine {
  std::string nick{};
  std::string fqdn{};
  std::string address{};
  std::string alive{};                  // "yes", "no, silent for 12 s"
  std::string state{};                  // "up", "joining"; empty: there is no ring
  std::string vote{};                   // "votes, coordinator"
  std::string holds{};                  // "mirror, in sync"; empty: there is no ring
  std::vector<ring::Slice> slices{};    // whose primary it is
  std::optional<std::uint64_t> keys{};  // flares it holds; nothing: not counted yet
  std::uint64_t free_bytes = 0;
  std::uint64_t total_bytes = 0;  // 0: not known
};

// What `lava` says.
struct LavaReport {
  std::string health;    // "degraded: gromit is away"; empty: there is no ring
  std::string copies{};  // "2 wanted, 1 had"
  std::vector<LavaLine> lines;
};

// What a volcano holds in memory of what is on its disk.
struct CacheReport {
  struct Load {
    std::string what;
    std::uint64_t count = 0;
    std::string note;  // what it is, its bound
  };
  struct File {  // content file held open
    Ino ino;
    std::uint32_t chunk = 0;
    ring::Slot slot;
  };
  struct SessionLine {
    std::uint64_t id = 0;
    std::string host;
    std::uint64_t opens = 0;
    Duration silent{};  // since its last request
  };
  std::vector<Load> loads;
  std::vector<File> files;            // at most kCacheLinesMax, least recently used first
  std::vector<SessionLine> sessions;  // at most kCacheLinesMax
  std::uint64_t files_more = 0;       // those left out
  std::uint64_t sessions_more = 0;
};
inline constexpr std::size_t kCacheLinesMax = 128;

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const Identity& identity() const = 0;
  virtual const AccessRules& rules() const = 0;
  // The network's files; the first who asks waits for a session of the ring.
  virtual PendingPtr open_files(Done<Files*> done) = 0;
  // The whole ring, as this volcano knows it; within a second. Errors: io.
  virtual PendingPtr lava(Done<LavaReport> done) = 0;
  virtual CacheReport caches() = 0;
  // Whether it is the network key (64 hex digits, a line of a key file, or the pass-phrase). Takes
  // a second, whatever the answer.
  virtual PendingPtr check_key(std::string key, Done<bool> done) = 0;
  // Makes names() know these users and groups, if there is anything to know.
  virtual PendingPtr learn_names(std::vector<std::uint32_t> uids, std::vector<std::uint32_t> gids,
                                 UniqueFunction<void()> done) = 0;
  virtual client::NameSource& names() = 0;
  // A warning for the log that a stranger can cause: rate-limited.
  virtual void warn(std::string_view line) = 0;
  // Stops the whole network, cleanly, this volcano last. `tell` gets a line for each other one; at
  // the end `done` is called, and this one ends. Given up, it goes on: only nobody is told.
  virtual PendingPtr shut_down(std::string_view who, UniqueFunction<void(std::string)> tell,
                               UniqueFunction<void()> done) = 0;
};

}  // namespace magma::console
