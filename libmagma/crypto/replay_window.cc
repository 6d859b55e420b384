#include "libmagma/crypto/replay_window.h"

#include <algorithm>

namespace magma::crypto {

namespace {
constexpr std::uint64_t bit_of(std::uint64_t packet_number) {
  return std::uint64_t{1} << (packet_number % 64);
}
}  // namespace

bool ReplayWindow::is_new(std::uint64_t packet_number) const {
  if (packet_number > highest_) return true;
  if (highest_ - packet_number >= kWidth) return false;
  return (bits_[packet_number / 64 % kWords] & bit_of(packet_number)) == 0;
}

bool ReplayWindow::mark(std::uint64_t packet_number) {
  if (!is_new(packet_number)) return false;
  if (packet_number > highest_) {
    // Words between the old highest and the new one hold bits of numbers now too old.
    const std::uint64_t old_word = highest_ / 64;
    const std::uint64_t slide = std::min(packet_number / 64 - old_word, kWords);
    for (std::uint64_t i = 1; i <= slide; ++i) bits_[(old_word + i) % kWords] = 0;
    highest_ = packet_number;
  }
  bits_[packet_number / 64 % kWords] |= bit_of(packet_number);
  return true;
}

}  // namespace magma::crypto
