// A SimDisk seen through the life of one process: counts the calls that change something and stops
// the process dead after the k-th of them (every later call fails and touches nothing, as if it had
// never been made). Can also lie about syncs, which no healthy system survives: tests use that to
// see that they would notice. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "libmagma/sys/disk.h"
#include "tests/lib/sim_disk.h"

namespace magma::test {

class FaultyDisk final : public sys::Disk {
 public:
  explicit FaultyDisk(SimDisk& disk) : disk_(disk) {}

  Result<std::unique_ptr<sys::File>> open(std::string_view path, Open how) override;
  Result<bool> exists(std::string_view path) override;
  Result<void> remove(std::string_view path) override;
  Result<void> rename(std::string_view from, std::string_view to) override;
  Result<void> make_directory(std::string_view path) override;
  Result<std::vector<std::string>> list(std::string_view path) override;
  Result<void> sync_directory(std::string_view path) override;
  Result<sys::DiskSpace> space() override;

  // The first `changes` changes from now still happen, then the process is dead. 0: at once.
  void freeze_after(std::uint64_t changes) {
    left_ = changes;
    freezes_ = true;
    frozen_ = changes == 0;
  }
  void thaw() { freezes_ = frozen_ = false; }
  bool frozen() const { return frozen_; }
  bool freeze_pending() const { return freezes_ && !frozen_; }
  std::uint64_t changes() const { return changes_; }
  void lie_about_syncs(bool lies) { lies_ = lies; }

 private:
  friend class FaultyFile;
  Result<void> look() const;  // a call that changes nothing
  Result<void> change();      // a call that does

  SimDisk& disk_;
  bool freezes_ = false;
  bool frozen_ = false;
  bool lies_ = false;
  std::uint64_t left_ = 0;
  std::uint64_t changes_ = 0;
};

}  // namespace magma::test
