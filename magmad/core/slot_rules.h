// Where slots are and move to: what the coordinator does for it next. A newcomer gets its share of
// the slots (placement.h), is copied to, becomes their primary, and whoever has them in vain lets
// them go. Pure; the coordinator asks for one command after the other.
//
// A replica becomes one in sync when the primary says that it waits for it; a primary is one that
// serves when it says so itself. What they say counts for the epochs it names only
// (wire::SlotsFact): every change of a slot raises its epoch, so nothing said before a change has
// an effect after it.
#pragma once

#include <functional>
#include <map>
#include <optional>

#include "libmagma/ring/map_commands.h"
#include "libmagma/wire/node_messages.h"

namespace magma::core {

// Replicas that catch up at a time: as many as a share of two volcanoes has, and its copies.
inline constexpr std::size_t kCatchingUpMax = 2 * ring::kSlotCount;

// What the volcanoes said last of themselves, by number.
using FactsOf = std::map<ring::VolcanoId, const wire::VolcanoFacts*>;

// What is to be done next, if anything. `is_there`: heard of lately.
std::optional<ring::Command> next_slot_step(
    const ring::LavaMap& map, const FactsOf& told,
    const std::function<bool(ring::VolcanoId)>& is_there);

}  // namespace magma::core
