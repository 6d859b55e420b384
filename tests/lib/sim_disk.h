// A disk in memory that can lose what was not synced. For unit tests and the simulator.
//
// Every file has the bytes a process sees and the bytes on stable storage; writes, cuts and holes
// since the last sync are kept as a list. Directory entries (made, renamed, removed) are durable
// once their directory was synced, in order.
//   kill():      the process dies, the kernel lives: nothing is lost.
//   power_cut(): of each file a random subset of its unsynced changes reaches the disk, some torn
// at
//                512-byte sectors; of each directory a random prefix of its unsynced entries.
// After either, every File that was open answers io for ever: a leaked object cannot write.
//
// Faults: the n-th call from now, failing syncs, a space limit. Counters tell whether they struck.
// One thread.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "libmagma/sys/disk.h"
#include "libmagma/sys/random.h"

namespace magma::test {

namespace sim {

inline constexpr std::size_t kPage = 4096;
inline constexpr std::size_t kSector = 512;

// Sparse bytes of a file.
class Image {
 public:
  std::uint64_t size() const { return size_; }
  std::size_t read(MutableByteSpan out, std::uint64_t offset) const;
  void write(ByteSpan bytes, std::uint64_t offset);
  void truncate(std::uint64_t size);
  void punch(std::uint64_t offset, std::uint64_t length);
  std::uint64_t seek(std::uint64_t from, bool data) const;
  std::uint64_t allocated() const { return pages_used_ * kPage; }
  // Pages that write() would allocate.
  std::uint64_t pages_missing(std::uint64_t offset, std::uint64_t length) const;
  Image copy() const;

 private:
  using Page = std::array<std::uint8_t, kPage>;
  void zero_within(std::uint64_t from, std::uint64_t to);
  std::vector<std::unique_ptr<Page>> pages_;
  std::uint64_t size_ = 0;
  std::uint64_t pages_used_ = 0;
};

struct Change {
  enum class Kind : std::uint8_t { write, truncate, punch };
  Kind kind{};
  std::uint64_t offset = 0;  // truncate: the new size
  std::uint64_t length = 0;
  Bytes bytes{};
};

struct Node {
  Image seen;
  Image durable;
  std::vector<Change> unsynced;
  std::uint64_t unsynced_bytes = 0;
  bool linked = true;     // has a name: counts as used space
  std::vector<bool> not_in_memory;  // pages whose reads block; those beyond are in memory
  bool in_memory(std::uint64_t offset, std::uint64_t length) const;
  void set_in_memory(std::uint64_t offset, std::uint64_t length, bool in_memory);
};

}  // namespace sim

class SimDisk final : public sys::Disk {
 public:
  struct Counters {
    std::uint64_t calls = 0, faults = 0, space_faults = 0, sync_faults = 0, syncs = 0,
                  directory_syncs = 0, writes_lost = 0, writes_torn = 0, entries_lost = 0;
  };

  SimDisk() { directories_.insert(""); durable_directories_.insert(""); }
  ~SimDisk() override;

  std::unique_ptr<sys::File> wrap(std::shared_ptr<sim::Node> node, std::string path, bool writable);
  Result<std::unique_ptr<sys::File>> open(std::string_view path, Open how) override;
  Result<bool> exists(std::string_view path) override;
  Result<void> remove(std::string_view path) override;
  Result<void> rename(std::string_view from, std::string_view to) override;
  Result<void> make_directory(std::string_view path) override;
  Result<std::vector<std::string>> list(std::string_view path) override;
  Result<void> sync_directory(std::string_view path) override;
  Result<sys::DiskSpace> space() override;

  // Another disk with what processes see on this one, all of it synced: as after a kill.
  std::unique_ptr<SimDisk> copy() const;
  void kill() { ++generation_; }
  void power_cut(sys::Random& random);

  // The n-th call from now (1: the next) fails with `code`; a failing write may do a part.
  void fail_call(std::uint64_t n, Code code = Code::io);
  void no_faults();
  bool fault_pending() const { return fail_at_ != 0; }
  // The next `count` syncs of files whose path contains `part` fail; their unsynced changes are
  // lost to stable storage though still seen, as after fsync(2) returned EIO.
  void fail_syncs(std::string part, unsigned count);
  void limit_space(std::optional<std::uint64_t> bytes) { space_limit_ = bytes; }
  // Reads with read_at_nowait block until the pages were read with read_at.
  void drop_caches();
  // Rot: changes a bit of what is stored and seen. False if there is no such byte.
  bool flip_bit(std::string_view path, std::uint64_t offset, unsigned bit);
  std::vector<std::string> files() const;  // paths, sorted
  std::uint64_t used_bytes() const { return used_bytes_; }
  bool all_synced() const;  // nothing would be lost by a power cut
  const Counters& counters() const { return counters_; }

 private:
  friend class SimFile;
  struct EntryChange {
    enum class Kind : std::uint8_t { make, remove, rename, make_directory };
    Kind kind{};
    std::string path{};
    std::string to{};
    std::shared_ptr<sim::Node> node{};  // shared by the maps of entries and open files
  };
  using Entries = std::map<std::string, std::shared_ptr<sim::Node>, std::less<>>;

  Result<void> call();  // counts; the planned fault
  Result<void> take_space(std::uint64_t bytes);
  void note(sim::Node& node, sim::Change change);
  void apply_entry(const EntryChange& change);
  void crash_node(sim::Node& node, sys::Random& random);

  Entries seen_;
  std::set<std::string, std::less<>> directories_;
  Entries durable_;
  std::set<std::string, std::less<>> durable_directories_;
  std::map<std::string, std::vector<EntryChange>, std::less<>> unsynced_entries_;  // by directory
  std::uint64_t generation_ = 0;
  std::uint64_t fail_at_ = 0;
  Code fail_code_ = Code::io;
  std::string fail_sync_part_;
  unsigned fail_sync_count_ = 0;
  std::optional<std::uint64_t> space_limit_;
  std::uint64_t used_bytes_ = 0;
  std::uint64_t total_bytes_ = std::uint64_t{1} << 40;
  Counters counters_;
};

}  // namespace magma::test
