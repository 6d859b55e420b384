// Answers that do not tell all, because another volcano knows the rest: an entry without the
// attributes of what it leads to, attributes of a file in chunks whose size authority is elsewhere.
// What is missing is asked for, and put into the answer, before it goes to the caller.
#pragma once

#include <optional>
#include <variant>

#include "libmagma/client/client.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::client {

inline constexpr unsigned kLookupsMax = 8;  // of a name that leads elsewhere each time

// The next question for the rest of an answer to `op`; none: it tells all, or there is no more.
using Missing = std::variant<std::monostate, wire::GetattrRequest, wire::ContentRequest>;
Missing missing_in(wire::FlareOp op, ByteSpan body);

// The answer to `op` with what was missing; nothing if one of the two cannot be decoded.
std::optional<Bytes> completed(wire::FlareOp op, ByteSpan body, const wire::AttrReply& told);
std::optional<Bytes> completed(wire::FlareOp op, ByteSpan body, const wire::ContentReply& told);

}  // namespace magma::client
