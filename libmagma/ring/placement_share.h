// How slots are shared out among owners: the two rules of placement.h, on owners and loads alone.
#pragma once

#include <span>
#include <vector>

#include "libmagma/ring/placement.h"

namespace magma::ring {

// The 4096 slots in contiguous runs of equal load, in this order; each gets a slot at least.
// Requires: 1 to 4096 volcanoes.
Owners cut_evenly(std::span<const VolcanoId> order, const Weights& weights);

// First slots of the runs of `order` in owners that are contiguous in that order.
std::vector<unsigned> borders_of(const Owners& owners, std::span<const VolcanoId> order);
// The reverse. Requires: borders ascend from 0.
Owners with_borders(std::span<const VolcanoId> order, std::span<const unsigned> borders);

// Volcanoes in order of their first slot; each once.
std::vector<VolcanoId> order_of(const Owners& owners);
bool is_contiguous(const Owners& owners);  // one run each

// The joiner takes its share in runs from the fullest, `beside` first if it is one of them.
Owners take_share(Owners owners, VolcanoId joiner, VolcanoId beside, const Weights& weights);
// What the leaver owns goes to the emptiest of `heirs`. Requires: heirs, without the leaver.
Owners hand_out(Owners owners, VolcanoId leaver, std::span<const VolcanoId> heirs,
                const Weights& weights);

}  // namespace magma::ring
