// Randomness as the core sees it. Real: the kernel's generator; simulated: from the seed.
#pragma once

#include <cstdint>

#include "libmagma/base/bytes.h"

namespace magma::sys {

class Random {
 public:
  virtual ~Random() = default;
  virtual void fill(MutableByteSpan bytes) = 0;
  std::uint64_t next() {
    std::uint8_t raw[8];
    fill(raw);
    std::uint64_t value = 0;
    for (std::uint8_t b : raw) value = value << 8 | b;
    return value;
  }
};

}  // namespace magma::sys
