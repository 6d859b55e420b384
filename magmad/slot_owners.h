// Which volcano is primary of which slot, as a volcano knows it. One that serves alone has all.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "libmagma/ring/lava_map.h"
#include "libmagma/ring/slot.h"
#include "libmagma/ring/slot_mask.h"

namespace magma {

using OwnedSlots = ring::SlotMask;

struct SlotOwners {
  struct Owner {
    ring::VolcanoId id;
    std::string address;  // of its flare port, as told to clients
  };
  std::vector<Owner> owners{};                            // in no order
  std::array<std::uint16_t, ring::kSlotCount> owner_of{};  // index in `owners`
  std::uint64_t version = 0;                              // rises with each change

  const Owner& owner(ring::Slot slot) const { return owners[owner_of[slot.value]]; }
  OwnedSlots slots_of(ring::VolcanoId id) const {
    OwnedSlots slots;
    for (unsigned slot = 0; slot < ring::kSlotCount; ++slot)
      slots[slot] = owners[owner_of[slot]].id == id;
    return slots;
  }
};

}  // namespace magma
