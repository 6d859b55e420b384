#include "libmagma/ring/slot_mask.h"

namespace magma::ring {

SlotRuns runs_of(const SlotMask& slots) {
  SlotRuns runs;
  for (unsigned n = 0; n < kSlotCount; ++n) {
    if (!slots[n]) continue;
    const Slot slot(static_cast<std::uint16_t>(n));
    if (runs.empty() || runs.back().last.value + 1u != n)
      runs.push_back({slot, slot});
    else
      runs.back().last = slot;
  }
  return runs;
}

bool is_sound(const SlotRuns& runs) {
  unsigned from = 0;
  for (const SlotRun& run : runs) {
    if (run.first.value < from || run.last < run.first || run.last.value >= kSlotCount)
      return false;
    from = run.last.value + 2u;
  }
  return true;
}

Slot first_of(const SlotMask& slots) {
  unsigned n = 0;
  while (n + 1 < kSlotCount && !slots[n]) ++n;
  return Slot(static_cast<std::uint16_t>(n));
}

SlotMask set_of(const SlotRuns& runs) {
  SlotMask slots;
  for (const SlotRun& run : runs)
    for (unsigned n = run.first.value; n <= run.last.value; ++n) slots.set(n);
  return slots;
}

}  // namespace magma::ring
