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

// Of a volcano that is back and has lost something, before the ring may be told so (and another
// volcano in sync takes its slots): of each such one it has to be known whether it has lost
// something as well, which then takes nothing over. Who is silent is called down in a while.
struct AfterLoss {
  bool must_wait = false;
  std::optional<ring::Command> before{};  // to be done before
};
struct HeirState {  // of another volcano
  bool is_there = false;  // since that one is back, and has what it had
  bool has_lost = false;  // is back, too, and has not told the map yet
};
AfterLoss next_after_loss(const ring::LavaMap& map, ring::VolcanoId volcano,
                          const std::function<HeirState(ring::VolcanoId)>& state_of);

// What the volcanoes said last of themselves, by number.
using FactsOf = std::map<ring::VolcanoId, const wire::VolcanoFacts*>;

// What is to be done next, if anything. `is_there`: heard of lately.
std::optional<ring::Command> next_slot_step(
    const ring::LavaMap& map, const FactsOf& told,
    const std::function<bool(ring::VolcanoId)>& is_there);

}  // namespace magma::core
