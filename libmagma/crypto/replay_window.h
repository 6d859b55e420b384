// Which packet numbers were seen (RFC 6479, RFC 4303 section 3.4.3): a bitmap 4096 wide, sliding
// with the highest number. Ask with `is_new` before authenticating, `mark` after.
#pragma once

#include <array>
#include <cstdint>

namespace magma::crypto {

class ReplayWindow {
 public:
  static constexpr std::uint64_t kWidth = 4096;
  // Neither seen nor too old to tell.
  bool is_new(std::uint64_t packet_number) const;
  // Records an authenticated number; false if it was not new (the packet must be dropped).
  bool mark(std::uint64_t packet_number);
  std::uint64_t highest() const { return highest_; }

 private:
  static constexpr std::uint64_t kWords = kWidth / 64 + 1;  // one spare word slides ahead
  std::array<std::uint64_t, kWords> bits_{};
  std::uint64_t highest_ = 0;
};

}  // namespace magma::crypto
