// The secret of a lava network and the keys made from it. The network secret is 256 bits, from a
// key file or by scrypt from a pass-phrase; HKDF-SHA256 derives two keys from it: `ring` for
// volcanoes, `client` for mounts and tools. A client key file holds the client key alone.
//
// Key file: text, one line `magma-key-v1 (network|client) <64 hex digits>`, '#' comments and blank
// lines allowed; mode 0600 or stricter, owned by the reader or root (checked by sys_real, not
// here). Secrets are wiped (OPENSSL_cleanse) when their owner is destroyed.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "libmagma/base/result.h"
#include "libmagma/sys/random.h"

namespace magma::crypto {

enum class Role : std::uint8_t { client = 1, ring = 2 };

// 32 secret bytes, wiped on destruction. Copyable on purpose (each session keeps its own).
class Secret {
 public:
  Secret() = default;
  explicit Secret(const std::array<std::uint8_t, 32>& bytes) : bytes_(bytes) {}
  Secret(const Secret&) = default;
  Secret& operator=(const Secret&) = default;
  ~Secret();
  const std::array<std::uint8_t, 32>& bytes() const { return bytes_; }
  bool same_as(const Secret& other) const;  // constant time

 private:
  std::array<std::uint8_t, 32> bytes_{};
};

using Uuid = std::array<std::uint8_t, 16>;
std::string uuid_text(const Uuid& uuid);            // 8-4-4-4-12 lower-case hex
Result<Uuid> parse_uuid(std::string_view text);
Uuid make_uuid(sys::Random& random);                // version 4 (RFC 9562)

// What a volcano or a client may prove it has. A volcano has both, a mount with a client key file
// only `client`.
struct Keyring {
  std::optional<Secret> network;  // absent when only a client key was given
  Secret client;
  std::optional<Secret> ring;
};

Keyring keyring_from_network_secret(const Secret& secret);
Keyring keyring_from_client_secret(const Secret& secret);
// scrypt N=2^15 r=8 p=1 with the filesystem's UUID as salt: 70 ms, 32 MiB. A pass-phrase shorter
// than 8 bytes is refused.
Result<Secret> secret_from_passphrase(std::string_view passphrase, const Uuid& filesystem);
Secret make_secret(sys::Random& random);
// Parses the text of a key file; bad_key_file with the reason otherwise.
Result<Keyring> parse_key_file(std::string_view text);
std::string network_key_file_text(const Secret& network_secret);
std::string client_key_file_text(const Keyring& keyring);

}  // namespace magma::crypto
