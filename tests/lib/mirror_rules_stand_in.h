// core::next_mirror_step as its header has it, for the simulator until the rules themselves are
// there. Who uses it includes magmad/core/mirror_rules.h instead, then.
#pragma once

#include <algorithm>
#include <functional>
#include <optional>
#include <vector>

#include "libmagma/ring/map_commands.h"
#include "libmagma/wire/node_messages.h"

namespace magma::test {

inline ring::SlotsOfVolcano all_slots(const ring::LavaMap& map, ring::VolcanoId volcano) {
  ring::SlotsOfVolcano all{.slots = {}, .volcano = volcano};
  for (std::uint16_t n = 0; n < ring::kSlotCount; ++n)
    all.slots.push_back({ring::Slot(n), map.slots[n].epoch});
  return all;
}

inline std::optional<ring::Command> mirror_step_stand_in(
    const ring::LavaMap& map, const std::vector<wire::MirrorFact>& told,
    const std::function<bool(ring::VolcanoId)>& is_there) {
  const ring::SlotEntry& entry = map.slots[0];
  for (const wire::MirrorFact& fact : told) {
    const ring::Replica* replica = entry.replicas.find(fact.volcano);
    if (fact.epoch != entry.epoch || replica == nullptr || fact.volcano == entry.primary())
      continue;
    const bool is_in_sync = replica->state == ring::ReplicaState::in_sync;
    if (fact.state == wire::MirrorState::released && is_in_sync)
      return ring::ReplicaBehind{all_slots(map, fact.volcano)};
    if (fact.state == wire::MirrorState::released)
      return ring::DropReplica{all_slots(map, fact.volcano)};
    if (fact.state == wire::MirrorState::in_sync && !is_in_sync && map.is_alive(fact.volcano) &&
        is_there(fact.volcano))
      return ring::ReplicaInSync{all_slots(map, fact.volcano)};
  }
  if (entry.replicas.size() >= map.copies || entry.state != ring::SlotState::serving)
    return std::nullopt;
  for (const ring::Volcano& volcano : map.volcanoes)
    if (volcano.is_alive() && volcano.stores() && !entry.replicas.has(volcano.id) &&
        is_there(volcano.id))
      return ring::AddReplica{all_slots(map, volcano.id)};
  return std::nullopt;
}

}  // namespace magma::test
