// A key is the SHA-1 of a path's bytes at creation (160 bits). It seeds placement: its top 12 bits
// name the slot. Keys are stored with directories and large files and never change.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "libmagma/base/bytes.h"
#include "libmagma/base/result.h"
#include "libmagma/ring/slot.h"

namespace magma::ring {

struct Key {
  std::array<std::uint8_t, 20> bytes{};

  friend auto operator<=>(const Key&, const Key&) = default;

  Slot slot() const { return Slot(static_cast<std::uint16_t>(bytes[0] << 4 | bytes[1] >> 4)); }
  std::string hex() const { return to_hex(bytes); }
  // 40 hex digits.
  static Result<Key> parse(std::string_view hex);
  static Key lowest() { return {}; }
  static Key highest();
  // The neighbours in the keyspace; no_ value past either end.
  Result<Key> next() const;
  Result<Key> previous() const;
};

// First and last key of a slot.
Key first_key(Slot slot);
Key last_key(Slot slot);

}  // namespace magma::ring
