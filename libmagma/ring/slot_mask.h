// Some of the 4096 slots, and the form they have in messages and rows: runs.
#pragma once

#include <bitset>
#include <vector>

#include "libmagma/ring/slot.h"

namespace magma::ring {

using SlotMask = std::bitset<kSlotCount>;

struct SlotRun {
  Slot first, last;  // inclusive
  friend bool operator==(const SlotRun&, const SlotRun&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("first", s.first);
    v("last", s.last);
  }
};
using SlotRuns = std::vector<SlotRun>;  // as few as there can be, ascending

SlotRuns runs_of(const SlotMask& slots);
// Whether they are what runs_of() gives of some set: from outside they may be anything.
bool is_sound(const SlotRuns& runs);
// Requires: is_sound().
SlotMask set_of(const SlotRuns& runs);
// Requires: not empty.
Slot first_of(const SlotMask& slots);
inline SlotMask all_slots() { return SlotMask{}.set(); }

}  // namespace magma::ring
