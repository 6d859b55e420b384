// Noise_NNpsk0_25519_<cipher>_SHA256 (Noise Protocol Framework, revision 34): two messages, mutual
// authentication by the pre-shared key, forward secrecy by ephemeral X25519.
//
//   -> psk, e     initiator's first message (+ encrypted payload)
//   <- e, ee      responder's answer        (+ encrypted payload)
//
// The protocol name's cipher part follows the suite (AESGCM with a 256-bit key inside the
// handshake itself, or ChaChaPoly); the transport keys of the two directions come from Split() and
// are expanded by HKDF-SHA256 with the labels "magma key" and "magma iv" into DirectionKey. The
// prologue binds everything said in clear before (HELLO and its answer, version, UUID, role).
#pragma once

#include <array>
#include <cstdint>

#include "libmagma/base/bytes.h"
#include "libmagma/base/result.h"
#include "libmagma/crypto/network_key.h"
#include "libmagma/crypto/seal.h"
#include "libmagma/sys/random.h"

namespace magma::crypto {

inline constexpr std::size_t kPublicKeyBytes = 32;
// A message is the ephemeral public key, then the sealed payload (payload + kTagBytes).
inline constexpr std::size_t kHandshakeOverhead = kPublicKeyBytes + kTagBytes;

struct SessionKeys {
  DirectionKey send;
  DirectionKey receive;
};

struct HandshakeState;  // symmetric state and ephemeral key; wiped on destruction
void free_handshake_state(HandshakeState* state) noexcept;

class Initiator {
 public:
  Initiator(Suite suite, const Secret& psk, ByteSpan prologue, sys::Random& random);
  // Called once, first.
  Bytes write_first(ByteSpan payload);
  struct Finished {
    Bytes payload;  // the responder's
    SessionKeys keys;
  };
  // wrong_key if the answer was not made with our psk, prologue and first message. May be called
  // again with another datagram after a failure (a forged answer must not end the handshake).
  Result<Finished> read_second(ByteSpan message);

 private:
  Owned<HandshakeState, free_handshake_state> state_;
};

class Responder {
 public:
  Responder(Suite suite, const Secret& psk, ByteSpan prologue, sys::Random& random);
  // The initiator's payload; wrong_key if it was not made with our psk and prologue.
  Result<Bytes> read_first(ByteSpan message);
  struct Finished {
    Bytes message;
    SessionKeys keys;
  };
  // Requires: read_first succeeded. Called once.
  Finished write_second(ByteSpan payload);

 private:
  Owned<HandshakeState, free_handshake_state> state_;
};

}  // namespace magma::crypto
