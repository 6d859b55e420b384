// A slice is a run of consecutive slots with the same primary; users see its first and last key.
#pragma once

#include <compare>

#include "libmagma/ring/key.h"
#include "libmagma/ring/slot.h"

namespace magma::ring {

struct Slice {
  Slot first;
  Slot last;  // inclusive; first <= last

  friend auto operator<=>(const Slice&, const Slice&) = default;

  bool holds(Slot slot) const { return first <= slot && slot <= last; }
  bool holds(const Key& key) const { return holds(key.slot()); }
  unsigned slots() const { return last.value - first.value + 1u; }
  Key start_key() const { return first_key(first); }
  Key stop_key() const { return last_key(last); }
  static Slice whole() { return {Slot(0), Slot(kSlotCount - 1)}; }
};

}  // namespace magma::ring
