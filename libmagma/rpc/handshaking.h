// Connection set-up on the wire. Four packets; the server keeps nothing until the third has proved
// that its sender can receive at its address and has the key.
//
//   HELLO         header (shard 0 or as told before, id 0, number 0), version_min u16,
//                 version_max u16, role u8, shard u8 and id u64 the answer must carry, nonce[16],
//                 zeros up to kHelloBytes. Shorter: dropped.
//   HELLO_ANSWER  header (shard and id of the HELLO), version u16 (0: none in common),
//                 version_min u16, version_max u16 (the server's), shard u8 of the server,
//                 uuid[16], the HELLO's nonce[16], server nonce[16], cookie[17]
//   INIT          header (server's shard, id 0), version u16, version_min u16, version_max u16,
//                 role u8, suite u8, shard u8, id u64, nonce[16], server nonce[16], cookie[17],
//                 Noise message 1 to the end; payload: Parameters of the client
//   INIT_ANSWER   header (shard and id of the client), Noise message 2; payload: Parameters of the
//                 server
//   RESET         see packet.h; its tag is HMAC-SHA256(reset key, header), 16 bytes, and the reset
//                 key is HMAC-SHA256(client key, "magma reset").
//
// cookie = generation u8, then 16 bytes of HMAC-SHA256(secret of that generation, sender's address,
// port, and every field of the HELLO and its answer but the cookie). Secrets change every
// kCookieSecretLife; the one before the present one still counts.
//
// The Noise prologue is "magma rpc 1", then every field of the HELLO and of its answer, cookie
// included, and the suite: whoever changed one of them on the way makes the handshake fail.
//
// Parameters: boot id u64, connection id u64, largest datagram taken u32, longest message u32,
// requests in flight u32, credit u32, unscheduled bytes u32 (see connection.h).
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "libmagma/base/bytes.h"
#include "libmagma/base/time.h"
#include "libmagma/crypto/network_key.h"
#include "libmagma/crypto/seal.h"
#include "libmagma/rpc/packet.h"
#include "libmagma/sys/address.h"
#include "libmagma/sys/random.h"

namespace magma::rpc {

inline constexpr std::uint16_t kVersionMin = 1;
inline constexpr std::uint16_t kVersionMax = 1;
inline constexpr std::size_t kHelloBytes = 1200;
inline constexpr Duration kCookieSecretLife = seconds(60);

using Nonce = std::array<std::uint8_t, 16>;
using Cookie = std::array<std::uint8_t, 17>;

struct Hello {
  std::uint16_t version_min = 0;
  std::uint16_t version_max = 0;
  crypto::Role role{};
  std::uint8_t shard = 0;
  std::uint64_t connection = 0;
  Nonce nonce{};
};

struct HelloAnswer {
  std::uint16_t version = 0;
  std::uint16_t version_min = 0;
  std::uint16_t version_max = 0;
  std::uint8_t shard = 0;
  crypto::Uuid filesystem{};
  Nonce nonce{};
  Nonce server_nonce{};
  Cookie cookie{};
};

struct Init {
  Hello hello;          // as the client sent it
  std::uint16_t version = 0;
  crypto::Suite suite{};
  Nonce server_nonce{};
  Cookie cookie{};
  ByteSpan noise;       // a view into the packet
};

struct Parameters {
  std::uint64_t boot_id = 0;
  std::uint64_t connection = 0;
  std::uint32_t datagram_bytes = 0;
  std::uint32_t message_bytes_max = 0;
  std::uint32_t requests_max = 0;
  std::uint32_t credit_bytes = 0;
  std::uint32_t unscheduled_bytes = 0;
};

Bytes encode_hello(std::uint8_t to_shard, const Hello& hello);
std::optional<Hello> decode_hello(ByteSpan packet);
Bytes encode_hello_answer(const Hello& to, const HelloAnswer& answer);
std::optional<HelloAnswer> decode_hello_answer(ByteSpan packet);
Bytes encode_init(std::uint8_t to_shard, const Init& init);
std::optional<Init> decode_init(ByteSpan packet);
Bytes encode_parameters(const Parameters& parameters);
// nullopt if malformed or out of the limits every implementation must keep to.
std::optional<Parameters> decode_parameters(ByteSpan payload);

// The highest version in both ranges; 0 if there is none.
std::uint16_t common_version(std::uint16_t min, std::uint16_t max);
Bytes make_prologue(const Hello& hello, const HelloAnswer& answer, crypto::Suite suite);

// Makes and checks cookies; the server's only memory of strangers is here and constant.
class CookieJar {
 public:
  explicit CookieJar(sys::Random& random) : random_(random) {}
  Cookie make(const sys::Address& from, const Hello& hello, const HelloAnswer& answer, Instant now);
  bool is_good(const sys::Address& from, const Hello& hello, const HelloAnswer& answer,
               Instant now);
  // Times the secret changed: what hangs on an older cookie can be forgotten.
  std::uint64_t generation(Instant now);

 private:
  void turn(Instant now);
  Cookie make_with(unsigned which, const sys::Address& from, const Hello& hello,
                   const HelloAnswer& answer) const;

  sys::Random& random_;
  crypto::Secret secrets_[2];
  std::uint64_t generation_ = 0;   // 0: no secret yet
  Instant turned_{};
};

// The tag of a RESET for this header.
std::array<std::uint8_t, kSealBytes> reset_tag(const crypto::Secret& client_key, ByteSpan header);
bool equal_tags(ByteSpan a, ByteSpan b);  // constant time

}  // namespace magma::rpc
