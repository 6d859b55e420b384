// The disk as the core sees it: a directory tree of files under one root. Paths are relative,
// '/'-separated, never with "..". Real: POSIX calls relative to a directory descriptor.
// Simulated: memory that forgets unsynced data and directory entries at a crash, and fails on
// demand. Calls block; only sync() and large reads may take long, so they go to the Executor.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/base/result.h"

namespace magma::sys {

class File {
 public:
  virtual ~File() = default;
  // Reads up to out.size() bytes at `offset`; fewer only at the end of the file.
  virtual Result<std::size_t> read_at(MutableByteSpan out, std::uint64_t offset) = 0;
  // As read_at, but returns Code::would_block if the bytes are not in memory (RWF_NOWAIT).
  virtual Result<std::size_t> read_at_nowait(MutableByteSpan out, std::uint64_t offset) = 0;
  // From now on nothing comes into memory but what is read: no read-ahead.
  virtual void read_only_what_is_asked() {}
  // Pages of the range are to be read from the disk when they are read next, not from memory; those
  // not yet written back stay.
  virtual void drop_cache(std::uint64_t offset, std::uint64_t length) = 0;
  // Writes all of `bytes` or fails; what a failed write left behind is undefined.
  virtual Result<void> write_at(ByteSpan bytes, std::uint64_t offset) = 0;
  virtual Result<void> truncate(std::uint64_t size) = 0;
  virtual Result<std::uint64_t> size() = 0;
  // Deallocates a range; it reads as zeros after. The size stays.
  virtual Result<void> punch_hole(std::uint64_t offset, std::uint64_t length) = 0;
  // First offset >= `from` that holds data / is a hole; the size if there is none (lseek(2)).
  virtual Result<std::uint64_t> seek_data(std::uint64_t from) = 0;
  virtual Result<std::uint64_t> seek_hole(std::uint64_t from) = 0;
  virtual Result<std::uint64_t> allocated_bytes() = 0;
  // Data and size reach stable storage (fdatasync). After a failure the file's unsynced data must
  // be taken for lost; never retry (the kernel has marked the pages clean). Thread-safe.
  virtual Result<void> sync() = 0;
};

struct DiskSpace {
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;
};

class Disk {
 public:
  enum class Open : std::uint8_t {
    existing,          // read-write; not_found if it is not there
    existing_readonly,
    create,            // read-write; made (0600) if it is not there
    create_new,        // read-write; exists if it is there
  };

  virtual ~Disk() = default;
  virtual Result<std::unique_ptr<File>> open(std::string_view path, Open how) = 0;
  virtual Result<bool> exists(std::string_view path) = 0;
  virtual Result<void> remove(std::string_view path) = 0;                // a file
  virtual Result<void> rename(std::string_view from, std::string_view to) = 0;
  virtual Result<void> make_directory(std::string_view path) = 0;        // fine if it is there
  virtual Result<std::vector<std::string>> list(std::string_view path) = 0;  // names, no . and ..
  // Entries made or removed in the directory reach stable storage. Thread-safe.
  virtual Result<void> sync_directory(std::string_view path) = 0;
  virtual Result<DiskSpace> space() = 0;
};

}  // namespace magma::sys
