// Which slots a volcano may serve by the lava map, and which it may say that it would serve. Pure.
//
// A slot's primary by the map serves it only when the map also says that it was the last to serve:
// so at any time at most one volcano does, the one that the map called so last. A new primary
// claims the slot (VolcanoFacts::serving) when the one before has let go of it: it is away for the
// map, its lease being over, or has said so itself, having a map that names another primary. The
// coordinator then has the map say that the new one serves (ring::Serving), unless the primary is
// another again.
#pragma once

#include <array>
#include <cstdint>
#include <map>

#include "libmagma/ring/lava_map.h"
#include "libmagma/ring/slot_mask.h"

namespace magma::core {

// What it serves from now on, until the map says otherwise.
ring::SlotMask slots_to_serve(const ring::LavaMap& map, ring::VolcanoId self);

// Its slots by who is to have them, and who has a replica of them, in which order and state: so
// each group comes to the same volcano, whether it is moved or this one is lost. Another number
// for each group; 0 for slots of others.
std::array<std::uint16_t, ring::kSlotCount> groups_of(const ring::LavaMap& map,
                                                      ring::VolcanoId self);

struct Claims {
  ring::SlotMask slots{};                         // nobody else serves them
  std::map<ring::VolcanoId, ring::SlotMask> of{};  // who is to be asked for which
  bool is_after_loss = false;  // of some the volcano before is away, and what it told not known
};
// `released`: by who served last, as he said with a map of these epochs.
Claims claims_of(const ring::LavaMap& map, ring::VolcanoId self, const ring::SlotMask& released);

}  // namespace magma::core
