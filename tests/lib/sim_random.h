// Reproducible randomness: splitmix64 from a seed. The same seed gives the same bytes on every
// machine.
#pragma once

#include <cstdint>

#include "libmagma/sys/random.h"

namespace magma::test {

class SimRandom : public sys::Random {
 public:
  explicit SimRandom(std::uint64_t seed) : state_(seed) {}
  void fill(MutableByteSpan bytes) override {
    std::uint64_t word = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      if (i % 8 == 0) word = next_word();
      bytes[i] = static_cast<std::uint8_t>(word >> (8 * (i % 8)));
    }
  }
  std::uint64_t next_word() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  // In [0, bound). Requires: bound > 0. (The bias of the remainder does not matter here.)
  std::uint64_t below(std::uint64_t bound) { return next_word() % bound; }
  // In [low, high].
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(high - low) + 1));
  }
  double unit() { return static_cast<double>(next_word() >> 11) * 0x1.0p-53; }
  bool chance(double probability) { return probability > 0 && unit() < probability; }

 private:
  std::uint64_t state_;
};

}  // namespace magma::test
