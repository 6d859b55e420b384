// fsck: whether a stopped volcano's storage directory agrees with itself. Used by `magma fsck` and
// by tests after crashes. Reads only (SQLite may replay a -wal in memory); one thread, blocking.
//
// Requires: no magmad uses the directory (the caller holds its lock), and no store is open on it.
//
// Two classes of findings. A *problem* is something no volcano leaves behind. A *note* is a state
// that is on its way somewhere: rows of an operation over several slots that has intent or part
// rows (the next start drives it to its end), remains of writes that were never committed. What an
// operation touches is known to magmad/ops alone, so one unfinished operation makes a note of
// every disagreement that one could explain: for a strict check let the volcano come to rest.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "libmagma/base/result.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/ring/slot_mask.h"
#include "libmagma/sys/disk.h"
#include "libmagma/sys/executor.h"

namespace magma::store {

struct FsckOptions {
  bool deep = false;       // also compare content with its checksums (not of hot ranges)
  bool all_slots = true;   // every slot is stored here; false: those with a slot row
  // Only these, as if nothing else were here, with all_slots false; none: all that is there.
  std::optional<ring::SlotMask> slots{};
  // The last end was no clean stop: the databases may have been synced apart, and content files of
  // writes that were never committed may be there. Such findings are notes.
  bool unclean = false;
  // Never less done, of the same total, than before.
  UniqueFunction<void(std::uint64_t done, std::uint64_t total)> progress{};
};

struct FsckProblem {
  std::string what;
};

struct FsckReport {
  static constexpr std::size_t kListedMax = 1000;

  std::vector<FsckProblem> problems{};  // the first kListedMax, sorted
  std::uint64_t problems_total = 0;
  std::vector<FsckProblem> notes{};
  std::uint64_t notes_total = 0;

  std::uint64_t inodes = 0, directories = 0, files = 0, others = 0, entries = 0, chunks = 0,
                content_files = 0, operations = 0, orphans = 0, hot_ranges = 0, pages_checked = 0;

  bool clean() const { return problems_total == 0; }
};

// An error if the check itself could not be made (no database, too new, unreadable directory);
// damage is in the report.
Result<FsckReport> fsck(sys::Disk& disk, sys::Executor& executor, FsckOptions options);

// The same of a volcano whose ring shares its slots (VolcanoPapers::shares_slots): what it serves,
// and what it has of each other volcano, each by itself.
Result<FsckReport> fsck_by_parts(sys::Disk& disk, sys::Executor& executor, FsckOptions options);

}  // namespace magma::store
