// Whether two storages hold the same: all rows of all replicated tables, byte by byte and with
// their versions (but those of page sums, which each volcano writes itself), and the bytes of every
// content up to its length. What a volcano keeps for itself (hot ranges, removals, the state of a
// mirror, the oplog) is not compared. Of some slots, or of all.
#pragma once

#include <optional>
#include <string>

#include "libmagma/ring/slot_mask.h"
#include "tests/lib/sim_cluster.h"

namespace magma::test {

// The first differences, for people; nothing if there is none. `ours` is the primary's. Requires:
// no process has the disks open; SQLite may replay its -wal there.
std::optional<std::string> storages_differ(SimDisk& ours, SimDisk& theirs,
                                           const ring::SlotMask& slots = ring::all_slots());

// The same for the primary and a mirror, on copies of their disks, so both may run. Only at rest
// is a difference an error.
std::optional<std::string> replicas_differ(SimCluster& cluster, unsigned mirror = 1);

}  // namespace magma::test
