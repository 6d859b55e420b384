// What the tests of magmad/store share: a random source from a seed, row keys and versions.
#pragma once

#include <cstdint>
#include <string>

#include "libmagma/sys/random.h"
#include "magmad/store/rows.h"

namespace magma::test {

// splitmix64; the simulator has its own source.
class SeedRandom final : public sys::Random {
 public:
  explicit SeedRandom(std::uint64_t seed) : state_(seed) {}
  void fill(MutableByteSpan bytes) override {
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      if (i % 8 == 0) word_ = step();
      bytes[i] = static_cast<std::uint8_t>(word_ >> (8 * (i % 8)));
    }
  }
  std::uint64_t below(std::uint64_t limit) { return step() % limit; }
  bool chance(std::uint64_t one_in) { return below(one_in) == 0; }
  Bytes bytes(std::size_t size) {
    Bytes out(size);
    fill(out);
    return out;
  }

 private:
  std::uint64_t step() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::uint64_t state_;
  std::uint64_t word_ = 0;
};

inline store::Version version(std::uint32_t epoch, std::uint64_t seq) {
  return {Epoch(epoch), Seq(seq)};
}
inline Ino ino_at(unsigned slot, std::uint64_t counter) {
  return Ino(ring::with_counter(ring::Slot(static_cast<std::uint16_t>(slot)), counter));
}

}  // namespace magma::test
