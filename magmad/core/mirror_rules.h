// Who mirrors whom, as long as slots cannot have primaries of their own: the founder is primary of
// all, and the next volcanoes, by number, have copies until there are as many as the map wants.
// Pure; the coordinator asks for one command after the other.
//
// A replica becomes one in sync when the primary says that it waits for it (wire::MirrorFact). What
// the primary says counts for the epoch it names only: every change of the replicas raises that, so
// nothing said before a change has an effect after it. It goes on waiting until a map with a
// higher epoch frees it.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "libmagma/ring/map_commands.h"
#include "libmagma/wire/node_messages.h"

namespace magma::core {

// What is to be done next, if anything. `told` is what the primary last said of its mirrors;
// `is_there`: heard of lately. All commands are about all slots at once.
std::optional<ring::Command> next_mirror_step(
    const ring::LavaMap& map, const std::vector<wire::MirrorFact>& told,
    const std::function<bool(ring::VolcanoId)>& is_there);

}  // namespace magma::core
