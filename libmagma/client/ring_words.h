// What a volcano of the ring holds, in words: of the console and of the tools. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libmagma/client/listing.h"
#include "libmagma/ring/slot.h"
#include "libmagma/wire/operator_messages.h"

namespace magma::client {

unsigned slots_of(const wire::RingVolcano& volcano);  // whose primary it is
// Of the copies that are being made; nothing: not known.
std::optional<unsigned> percent_copied(const wire::RingVolcano& volcano);
// "primary of 4096 slots, 7 flares, 1.5 GiB of content"
// "mirror, in sync, 1.5 GiB"
// "mirror, copying 42 %, 0.6 GiB of 1.5 GiB, 3 min left"
// "mirror, behind by 12 batches"
// "no slots: nothing is stored here"
std::string holds_text(const wire::RingVolcano& volcano);
std::string_view state_text(wire::RingMirror mirror);  // "in sync"
// Who has the slot: its primary, then who mirrors it.
std::vector<Holder> holders_of(const wire::RingReply& ring, ring::Slot slot);
// The same in a line: "wallace (10.0.0.1:12000) primary, gromit (10.0.0.2:12000) mirror in sync".
std::string holders_text(const std::vector<Holder>& holders);
// Lines `name = value`: what of a volcano stands in /.dht/NICK.
std::string profile_text(const wire::RingReply& ring, const wire::RingVolcano& volcano);
// "2 wanted, 1 had"
std::string copies_text(const wire::RingReply& ring);

}  // namespace magma::client
