// sys::Disk on a real directory. Every path is resolved below the directory's descriptor, without
// following symlinks (openat2 RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS; on a kernel or sandbox
// without it, component by component with O_NOFOLLOW): whoever can write into the storage
// directory cannot lead a volcano out of it. Files are 0600, directories 0700.
//
// A failed sync is final: after one, each later sync of that File fails as well, since the kernel
// has marked the lost pages clean and a second fdatasync would lie.
//
// Threads: distinct Files from any thread; one File's sync and reads from store threads while the
// loop writes (the calls are pread and pwrite).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "libmagma/sys/disk.h"
#include "libmagma/sys_real/fd.h"

namespace magma::sys_real {

class PosixDisk final : public sys::Disk {
 public:
  // Opens the directory `path`, which must exist; with `make`, its last component is made (0700)
  // if it does not.
  static Result<std::unique_ptr<PosixDisk>> open_directory(const std::string& path, bool make);

  Result<std::unique_ptr<sys::File>> open(std::string_view path, Open how) override;
  Result<bool> exists(std::string_view path) override;
  Result<void> remove(std::string_view path) override;
  Result<void> rename(std::string_view from, std::string_view to) override;
  Result<void> make_directory(std::string_view path) override;
  Result<std::vector<std::string>> list(std::string_view path) override;
  Result<void> sync_directory(std::string_view path) override;
  Result<sys::DiskSpace> space() override;

 private:
  explicit PosixDisk(Fd root) : root_(std::move(root)) {}
  struct Place {  // a directory, opened or the root, and a name in it
    Fd opened;
    int directory = -1;
    std::string name;
  };
  Result<Place> place_of(std::string_view path) const;
  Result<Fd> open_below(std::string_view path, int flags, mode_t mode) const;

  Fd root_;
};

// Held while a process uses a storage directory; the kernel frees it when the process ends.
class DirectoryLock {
 public:
  explicit DirectoryLock(Fd fd) : fd_(std::move(fd)) {}

 private:
  Fd fd_;
};

// Takes `directory`/lock (made if needed) and writes our process id into it. in_use, naming the
// holder's process id, if another process has it.
Result<DirectoryLock> lock_directory(const std::string& directory);

}  // namespace magma::sys_real
