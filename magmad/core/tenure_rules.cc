#include "magmad/core/tenure_rules.h"

#include <utility>
#include <vector>

namespace magma::core {

namespace {

bool is_primary(const ring::SlotEntry& slot, ring::VolcanoId self) {
  return slot.state == ring::SlotState::serving && slot.primary() == self;
}

}  // namespace

ring::SlotMask slots_to_serve(const ring::LavaMap& map, ring::VolcanoId self) {
  ring::SlotMask slots;
  for (unsigned n = 0; n < ring::kSlotCount; ++n)
    slots[n] = is_primary(map.slots[n], self) && map.slots[n].last_serving == self;
  return slots;
}

std::array<std::uint16_t, ring::kSlotCount> groups_of(const ring::LavaMap& map,
                                                      ring::VolcanoId self) {
  std::array<std::uint16_t, ring::kSlotCount> groups{};
  using Mirrors = std::vector<std::pair<ring::VolcanoId, ring::ReplicaState>>;
  std::map<std::pair<ring::VolcanoId, Mirrors>, std::uint16_t> known;  // by owner and mirrors
  for (unsigned n = 0; n < ring::kSlotCount; ++n) {
    if (map.slots[n].primary() != self) continue;
    Mirrors mirrors;
    for (const ring::Replica& replica : map.slots[n].replicas)
      if (replica.volcano != self) mirrors.emplace_back(replica.volcano, replica.state);
    const auto next = static_cast<std::uint16_t>(known.size() + 1);
    const ring::VolcanoId owner = map.slots[n].owner;
    groups[n] = known.try_emplace({owner, std::move(mirrors)}, next).first->second;
  }
  return groups;
}

Claims claims_of(const ring::LavaMap& map, ring::VolcanoId self, const ring::SlotMask& released) {
  Claims claims;
  for (unsigned n = 0; n < ring::kSlotCount; ++n) {
    const ring::SlotEntry& slot = map.slots[n];
    if (!is_primary(slot, self) || slot.last_serving == self) continue;
    const bool is_away = !map.is_alive(slot.last_serving);
    if (is_away || released[n])
      claims.slots.set(n);
    else
      claims.of[slot.last_serving].set(n);
    claims.is_after_loss = claims.is_after_loss || (is_away && !released[n]);
  }
  return claims;
}

}  // namespace magma::core
