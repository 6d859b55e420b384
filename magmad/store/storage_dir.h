// The storage directory's own papers: DIR/volcano.json (which volcano of which filesystem this
// is, in
// which format) and DIR/clean (the last end was a clean stop). Used by main.cc and the tools at
// start and stop, before and after the stores are open.
//
// A directory is made in this order: databases, flares/, then volcano.json (written beside, synced,
// renamed, directory synced). So one with our files but without volcano.json is what a start that
// was interrupted left, and may be made anew.
#pragma once

#include <cstdint>
#include <string>

#include "libmagma/base/result.h"
#include "libmagma/sys/disk.h"

namespace magma::store {

// 2: with raft.db, and the numbers of the volcano and of the directory. One of format 1 is a
// founder without them: the next start adds both.
inline constexpr std::uint32_t kStorageFormat = 2;

struct VolcanoPapers {
  std::uint32_t format = kStorageFormat;
  std::string uuid{};             // of the filesystem
  std::string nick{};             // of the volcano
  std::string fqdn{};
  std::uint64_t small_files = 65536;  // bytes; fixed when the network is made
  std::string created{};          // RFC 3339, for people
  bool shares_slots = false;      // LavaMap::shares_slots
  // ring::VolcanoId; 0: it has yet to be taken in by the ring (or has format 1).
  std::uint64_t volcano = 0;
  std::uint64_t storage = 0;  // of this directory, made at random with it; 0: format 1
  friend bool operator==(const VolcanoPapers&, const VolcanoPapers&) = default;
};

enum class StorageState : std::uint8_t {
  empty,       // nothing there: a new volcano may be made
  unfinished,  // the remains of making one: clear_unfinished(), then as empty
  ours,
};

// too_new, not_magma (something else is there) or io; the error says what to do.
Result<StorageState> inspect_storage(sys::Disk& disk);
Result<void> clear_unfinished(sys::Disk& disk);
Result<VolcanoPapers> read_papers(sys::Disk& disk);
// For a newcomer that was refused.
Result<void> remove_papers(sys::Disk& disk);
// Replaces volcano.json so that a crash leaves the old or the new one.
Result<void> write_papers(sys::Disk& disk, const VolcanoPapers& papers);

// The clean mark. take_ tells whether it was there and removes it, durably: a crash from now on is
// seen by the next start. leave_ after everything else is closed and synced.
Result<bool> take_clean_mark(sys::Disk& disk);
// Whether the start of the machine with that number (0: not known, never the same) used the
// directory last: then a kill has lost nothing, while a start of the machine in between may mean
// that power was lost. note_ remembers it, once what follows from a loss is on the disk.
Result<bool> is_same_machine_boot(sys::Disk& disk, std::uint64_t boot);
Result<void> note_machine_boot(sys::Disk& disk, std::uint64_t boot);
// Whether power was lost since the ring was last told of such a loss; note_ before the above,
// forget_ when the ring knows (VolcanoStarted::has_lost).
Result<bool> has_untold_loss(sys::Disk& disk);
Result<void> note_loss(sys::Disk& disk);
Result<void> forget_loss(sys::Disk& disk);
Result<void> leave_clean_mark(sys::Disk& disk);

}  // namespace magma::store
