// The lava map and its commands as bytes: in the log, in snapshots, on the wire. From fields(), as
// messages are (codec.h). A map is its MapForm; a command is its number of map_commands.def (u8)
// and its struct.
#pragma once

#include <string>

#include "libmagma/base/bytes.h"
#include "libmagma/base/result.h"
#include "libmagma/ring/lava_map.h"
#include "libmagma/ring/map_commands.h"

namespace magma::wire {

inline constexpr std::size_t kCommandBytesMax = 64 * 1024;

// At most ring::kMapBytesHardMax bytes, if apply_command() made the map.
Bytes encode_map(const ring::LavaMap& map);
// `malformed`: not the bytes of a map, too many, or a map that breaks an invariant; `too_new`.
Result<ring::LavaMap> decode_map(ByteSpan in);

Bytes encode_command(const ring::Command& command);  // Requires: not std::monostate.
// `malformed`; `too_new`: a number that is not in map_commands.def.
Result<ring::Command> decode_command(ByteSpan in);
// One line for logs: "promote{slots=[...], volcano=2}".
std::string describe_command(const ring::Command& command);

}  // namespace magma::wire
