// HMAC-SHA256 (RFC 2104) and HKDF-Expand with it (RFC 5869 section 2.3): every key of Magma is
// made by these two. Used inside libmagma/crypto, and by libmagma/rpc for cookies and resets.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "libmagma/base/bytes.h"

namespace magma::crypto {

// 32 bytes that are, or may become, a key: wiped on destruction.
struct Digest {
  std::array<std::uint8_t, 32> bytes{};

  Digest() = default;
  Digest(const Digest&) = default;
  Digest& operator=(const Digest&) = default;
  ~Digest();
};

// HMAC of the parts one after another. Requires: key.size() <= 64.
Digest hmac_sha256(ByteSpan key, std::initializer_list<ByteSpan> parts);
// SHA-256 of the parts one after another.
Digest sha256(std::initializer_list<ByteSpan> parts);
// Requires: out.size() <= 255 * 32.
void hkdf_expand(ByteSpan key, std::string_view info, MutableByteSpan out);

}  // namespace magma::crypto
