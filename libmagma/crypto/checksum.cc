#include "libmagma/crypto/checksum.h"

#include <algorithm>
#include <climits>

#include <isa-l/crc.h>

namespace magma::crypto {

std::uint32_t crc32c(ByteSpan bytes) {
  // isa-l neither inverts the register before nor after, and counts bytes with an int.
  std::uint32_t state = 0xffffffff;
  while (!bytes.empty()) {
    std::size_t part = std::min<std::size_t>(bytes.size(), INT_MAX);
    // isa-l only reads, although its parameter is not const.
    state = crc32_iscsi(const_cast<unsigned char*>(bytes.data()), static_cast<int>(part), state);
    bytes = bytes.subspan(part);
  }
  return ~state;
}

}  // namespace magma::crypto
