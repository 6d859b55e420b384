// Keeps a reserve of the disk for deletions: below it what takes space is refused (ENOSPC).
// The blocks of what was removed come back some syncs later, so whoever finds too little waits for
// them first, as ext4 waits for its journal.
#pragma once

#include <cstdint>

#include "libmagma/sys/clock.h"
#include "libmagma/sys/disk.h"

namespace magma {

class SpaceGuard {
 public:
  static constexpr Duration kCheckEvery = milliseconds(50);
  // Longer than blocks need to come back, also those of chunks that other volcanoes hold.
  static constexpr Duration kWaitMax = seconds(3);
  // A wait that was in vain is not begun anew for so long, unless something is removed.
  static constexpr Duration kRefuseFor = seconds(10);

  explicit SpaceGuard(sys::Disk& disk) : disk_(disk) {}  // the disk outlives this

  // Whether a change that takes space must wait or be refused. Looks at the disk every kCheckEvery;
  // a disk that cannot be asked keeps the last answer.
  bool is_short(Instant now);
  // Whether what so many clients may keep back (wire::kDelayedBytesMax each) still fits.
  bool has_plenty(Instant now, std::size_t clients);
  // Whether one that found too little first at `since` may wait for more.
  bool may_wait(Instant since, Instant now);
  // Something was removed: its blocks come back.
  void removed() { refuses_until_ = {}; }

  // Enough for the -wal files and the rows that deleting needs: 5 % of the disk, 16 MiB at least,
  // 256 MiB at most.
  static std::uint64_t reserve_bytes(std::uint64_t total_bytes);

 private:
  sys::Disk& disk_;
  Instant next_check_{};
  Instant refuses_until_{};
  bool is_short_ = false;
  std::uint64_t above_reserve_ = 0;  // bytes
};

}  // namespace magma
