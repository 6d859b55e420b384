// The 256 request lines of a session: a change takes the lowest free one, so that few reply rows
// are used, and keeps it until it is answered. One thread.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "libmagma/base/check.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::client {

class Lanes {
 public:
  Lanes() { reset(); }
  // A new session: all free, sequences from 1.
  void reset() {
    free_.fill(~std::uint64_t{0});
    sequences_.fill(0);
    used_ = 0;
  }
  // With that many left over.
  bool has_free(std::size_t kept = 0) const { return used_ + kept < wire::kLanes; }
  // Requires: has_free().
  std::uint16_t take() {
    std::size_t word = 0;
    while (free_[word] == 0) ++word;
    auto bit = static_cast<unsigned>(std::countr_zero(free_[word]));
    free_[word] &= free_[word] - 1;
    ++used_;
    return static_cast<std::uint16_t>(word * 64 + bit);
  }
  void give_back(std::uint16_t lane) {
    std::uint64_t bit = std::uint64_t{1} << (lane % 64);
    MAGMA_CHECK(lane < wire::kLanes && (free_[lane / 64] & bit) == 0);
    free_[lane / 64] |= bit;
    --used_;
  }
  std::uint32_t next_sequence(std::uint16_t lane) { return ++sequences_[lane]; }
  std::size_t used() const { return used_; }

 private:
  std::array<std::uint64_t, wire::kLanes / 64> free_{};
  std::array<std::uint32_t, wire::kLanes> sequences_{};
  std::size_t used_ = 0;
};

}  // namespace magma::client
