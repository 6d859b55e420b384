// CRC32C (Castagnoli, RFC 3720 appendix B.4) of content, per 4 KiB page, by isa-l.
#pragma once

#include <cstdint>

#include "libmagma/base/bytes.h"

namespace magma::crypto {

// The standard CRC32C: crc32c("123456789") == 0xe3069283; of nothing 0.
std::uint32_t crc32c(ByteSpan bytes);

}  // namespace magma::crypto
