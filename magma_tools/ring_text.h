// The ring as `magma status` and `magma lava` show it.
#pragma once

#include <string>

#include "magma_tools/command.h"

namespace magma::tools {

std::string ring_text(const wire::RingReply& ring);
Json ring_json(const wire::RingReply& ring);
// The volcano with that nick, full name or flare address; nullptr: there is none.
const wire::RingVolcano* find_volcano(const wire::RingReply& ring, std::string_view name);
// Of the ring that the target's hosts are of: from the first that answers. `asked`: who that was.
Result<wire::RingReply> ask_ring(const Target& target, std::string* asked = nullptr);

}  // namespace magma::tools
