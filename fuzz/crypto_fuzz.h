// What the two handshake fuzzers share: ephemeral keys that are always the same, and input that is
// either a raw message or the recipe of a valid one with one byte changed, so that code behind
// the tag is reached too.
#pragma once

#include <algorithm>

#include "libmagma/base/bytes.h"
#include "libmagma/crypto/handshake.h"

namespace magma::fuzz {

class FixedRandom : public sys::Random {
 public:
  explicit FixedRandom(std::uint8_t first) : next_(first) {}
  void fill(MutableByteSpan bytes) override {
    for (std::uint8_t& b : bytes) b = next_++;
  }

 private:
  std::uint8_t next_;
};

// Input: suite and kind (1 byte); for the kind `mutated`: place (2 bytes), xor mask (1 byte), then
// the payload; else the message.
struct HandshakeInput {
  crypto::Suite suite;
  bool is_mutated;
  std::size_t place;
  std::uint8_t mask;
  ByteSpan rest;

  explicit HandshakeInput(ByteSpan input) {
    ByteReader reader(input);
    const auto kind = reader.get<std::uint8_t>();
    suite = (kind & 1) != 0 ? crypto::Suite::aes128_gcm : crypto::Suite::chacha20_poly1305;
    is_mutated = (kind & 2) != 0;
    place = is_mutated ? reader.get<std::uint16_t>() : 0;
    mask = is_mutated ? reader.get<std::uint8_t>() : std::uint8_t{0};
    rest = reader.bad() ? ByteSpan() : reader.get_raw(std::min<std::size_t>(reader.left(), 4096));
  }

  void mutate(Bytes& message) const {
    std::uint8_t& byte = message[place % message.size()];
    byte = static_cast<std::uint8_t>(byte ^ mask);
  }
};

}  // namespace magma::fuzz
