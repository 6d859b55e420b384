// Which volcano is primary of which slot, as a volcano knows it while it serves the same slots. One
// that serves alone has all.
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
  // Flare addresses of all others, who may know more when the owners are away.
  std::vector<std::string> others{};
  OwnedSlots not_yet{};  // this volcano's by the lava map, and it does not serve them yet
  // This volcano's slots in groups that have the same mirrors. What happens to two slots of a group
  // in one transaction has happened to both or to none, wherever they are served next; those of two
  // groups may come to different volcanoes, so an operation over them is one of several parts, as
  // over the slots of two volcanoes (doc/adr/0011-tenures.md).
  std::array<std::uint16_t, ring::kSlotCount> group_of{};

  const Owner& owner(ring::Slot slot) const { return owners[owner_of[slot.value]]; }
  OwnedSlots slots_of(ring::VolcanoId id) const {
    OwnedSlots slots;
    for (unsigned slot = 0; slot < ring::kSlotCount; ++slot)
      slots[slot] = owners[owner_of[slot]].id == id;
    return slots;
  }
  OwnedSlots served_by(ring::VolcanoId self) const { return slots_of(self) & ~not_yet; }
};

}  // namespace magma
