// SHA-256 of bytes, cut to 16: to tell whether two volcanoes have the same.
#pragma once

#include <array>
#include <cstdint>

#include "libmagma/base/bytes.h"

namespace magma::crypto {

using Digest = std::array<std::uint8_t, 16>;

Digest digest(ByteSpan bytes);

}  // namespace magma::crypto
