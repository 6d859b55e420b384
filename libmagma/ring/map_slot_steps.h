// What commands do to one slot. Each keeps the invariants of a slot that check() names and raises
// the epoch when who must have a change, or who orders changes, is another one.
#pragma once

#include "libmagma/base/result.h"
#include "libmagma/ring/map_commands.h"

namespace magma::ring {

// Of a volcano that is not there any more; `map` says so already.
void volcano_went(const LavaMap& map, SlotEntry& entry, VolcanoId volcano);
// Of a volcano that is there again; `map` says so already.
void volcano_came(const LavaMap& map, SlotEntry& entry, VolcanoId volcano, bool has_lost);
// Its replica goes, unless it is the primary.
void volcano_is_gone(SlotEntry& entry, VolcanoId volcano);

// The replica commands, for one slot whose epoch was right. Errors as in map_commands.h.
Result<void> step(const LavaMap& map, SlotEntry& entry, const AddReplica& command);
Result<void> step(const LavaMap& map, SlotEntry& entry, const ReplicaInSync& command);
Result<void> step(const LavaMap& map, SlotEntry& entry, const ReplicaBehind& command);
Result<void> step(const LavaMap& map, SlotEntry& entry, const Promote& command);
Result<void> step(const LavaMap& map, SlotEntry& entry, const DropReplica& command);
Result<void> step(const LavaMap& map, SlotEntry& entry, const Serving& command);
Result<void> step(const LavaMap& map, SlotEntry& entry, const AcceptLoss& command);

}  // namespace magma::ring
