// Authenticated encryption of packets: AES-128-GCM, or ChaCha20-Poly1305 on CPUs without AES. The
// nonce is the direction's 12-byte IV xor the 64-bit packet number (as TLS 1.3, RFC 8446 5.3), so
// a packet number must never be used twice with one key. One OpenSSL context a direction and key,
// keyed once; only the IV changes per packet (FACTS: re-keying costs 4x).
#pragma once

#include <array>
#include <cstdint>

#include "libmagma/base/bytes.h"
#include "libmagma/base/owned.h"
#include "libmagma/base/result.h"

#include <openssl/evp.h>

namespace magma::crypto {

enum class Suite : std::uint8_t { aes128_gcm = 1, chacha20_poly1305 = 2 };
inline constexpr std::size_t kTagBytes = 16;

// AES-128-GCM if this CPU has AES instructions, else ChaCha20-Poly1305.
Suite preferred_suite();

// Key material of one direction. `key` is the first 16 bytes for AES-128-GCM, all 32 for ChaCha20.
struct DirectionKey {
  Suite suite = Suite::aes128_gcm;
  std::array<std::uint8_t, 32> key{};
  std::array<std::uint8_t, 12> iv{};
  ~DirectionKey();  // wipes
  // The next key of the ratchet (rekey by key phase): HKDF-Expand of this one. Old keys cannot be
  // computed from new ones.
  DirectionKey next() const;
};

class Sealer {
 public:
  explicit Sealer(const DirectionKey& key);
  // Writes plain.size() + kTagBytes bytes to `out`. `out` may start at plain.data() (in place) or
  // not overlap at all. Requires: out.size() >= plain.size() + kTagBytes.
  void seal(std::uint64_t packet_number, ByteSpan header, ByteSpan plain, MutableByteSpan out);

 private:
  Owned<EVP_CIPHER_CTX, EVP_CIPHER_CTX_free> context_;
  std::array<std::uint8_t, 12> iv_;
};

class Opener {
 public:
  explicit Opener(const DirectionKey& key);
  // Decrypts `sealed` (ciphertext then tag) in place and returns the plaintext within it; malformed
  // if it was not sealed with this key, number and header (the bytes are then garbage).
  Result<MutableByteSpan> open(std::uint64_t packet_number, ByteSpan header,
                               MutableByteSpan sealed);

 private:
  Owned<EVP_CIPHER_CTX, EVP_CIPHER_CTX_free> context_;
  std::array<std::uint8_t, 12> iv_;
};

}  // namespace magma::crypto
