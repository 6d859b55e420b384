// The keyspace is cut into 4096 equal slots by the top 12 bits of a key. The slot is the unit of
// replication, epoch and migration, and the top 12 bits of every inode number (the home).
#pragma once

#include <cstdint>

#include "libmagma/base/strong.h"

namespace magma::ring {

inline constexpr unsigned kSlotBits = 12;
inline constexpr unsigned kSlotCount = 1u << kSlotBits;
// Of inode numbers in a slot. 46 bits last for 70 million starts of a volcano, or 70 million
// million flares in one slot; mount.magma uses bits 46 to 49 for numbers of its own.
inline constexpr unsigned kCounterBits = 64 - kSlotBits;
inline constexpr std::uint64_t kCounterMask = (std::uint64_t{1} << kCounterBits) - 1;

using Slot = Strong<struct SlotTag, std::uint16_t>;  // 0 to 4095

constexpr Slot home_of(Ino ino) {
  return Slot(static_cast<std::uint16_t>(ino.value >> kCounterBits));
}
constexpr Slot coordinator_of(OpId op) {
  return Slot(static_cast<std::uint16_t>(op.value >> kCounterBits));
}
constexpr std::uint64_t with_counter(Slot slot, std::uint64_t counter) {
  return std::uint64_t{slot.value} << kCounterBits | (counter & kCounterMask);
}

}  // namespace magma::ring
