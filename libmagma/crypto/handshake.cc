// The Noise Protocol Framework, revision 34, for one pattern:
//
//   NNpsk0:  -> psk, e
//            <- e, ee
//
// Symmetric state (section 5.2): chaining key ck, transcript hash h, cipher key k with nonce n.
//   InitializeSymmetric(name)  h = name padded with zeros to 32 bytes, or SHA256(name); ck = h
//   MixHash(data)              h = SHA256(h || data)
//   MixKey(data)               ck, k = HKDF(ck, data, 2); n = 0
//   MixKeyAndHash(data)        ck, t, k = HKDF(ck, data, 3); MixHash(t); n = 0
//   EncryptAndHash(plain)      c = AEAD(k, n++, ad = h, plain); MixHash(c)
//   Split()                    c1, c2 = HKDF(ck, "", 2): initiator -> responder, and back
// Tokens: psk = MixKeyAndHash(psk); e = MixHash(e), and MixKey(e) as in every PSK pattern (section
// 9.2); ee = MixKey(X25519(e, re)).
//
// The order of work is the defence against strangers: a first message costs the responder hashes
// only, until its tag proves the pre-shared key; X25519 comes after.
#include "libmagma/crypto/handshake.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "libmagma/base/check.h"
#include "libmagma/base/owned.h"
#include "libmagma/crypto/hkdf.h"

namespace magma::crypto {

namespace {

constexpr std::size_t kMessageBytesMax = 65535;  // section 3
using PublicKey = std::array<std::uint8_t, kPublicKeyBytes>;
using PrivateKey = Owned<EVP_PKEY, EVP_PKEY_free>;
using CipherContext = Owned<EVP_CIPHER_CTX, EVP_CIPHER_CTX_free>;

// Where a handshake stands; each object goes through its three once.
enum class Stage : std::uint8_t { fresh, half_done, finished };

struct HkdfOutputs {
  Digest first;
  Digest second;
  Digest third;
};

// HKDF of section 4.3.
HkdfOutputs noise_hkdf(const Digest& chaining_key, ByteSpan input) {
  static constexpr std::uint8_t kOne[] = {1};
  static constexpr std::uint8_t kTwo[] = {2};
  static constexpr std::uint8_t kThree[] = {3};
  const Digest temp = hmac_sha256(chaining_key.bytes, {input});
  HkdfOutputs outputs;
  outputs.first = hmac_sha256(temp.bytes, {kOne});
  outputs.second = hmac_sha256(temp.bytes, {outputs.first.bytes, kTwo});
  outputs.third = hmac_sha256(temp.bytes, {outputs.second.bytes, kThree});
  return outputs;
}

class SymmetricState {
 public:
  SymmetricState(Suite suite, ByteSpan prologue) : suite_(suite) {
    const ByteSpan name = as_bytes(suite == Suite::aes128_gcm
                                       ? "Noise_NNpsk0_25519_AESGCM_SHA256"
                                       : "Noise_NNpsk0_25519_ChaChaPoly_SHA256");
    if (name.size() <= hash_.bytes.size())
      std::copy(name.begin(), name.end(), hash_.bytes.begin());
    else
      hash_ = sha256({name});
    chaining_key_ = hash_;
    mix_hash(prologue);
  }

  void mix_hash(ByteSpan data) { hash_ = sha256({hash_.bytes, data}); }

  void mix_key(ByteSpan data) {
    const HkdfOutputs outputs = noise_hkdf(chaining_key_, data);
    chaining_key_ = outputs.first;
    set_key(outputs.second);
  }

  void mix_key_and_hash(ByteSpan data) {
    const HkdfOutputs outputs = noise_hkdf(chaining_key_, data);
    chaining_key_ = outputs.first;
    mix_hash(outputs.second.bytes);
    set_key(outputs.third);
  }

  // Appends the sealed payload to `message`.
  void encrypt_and_hash(ByteSpan plain, Bytes& message) {
    const std::size_t start = message.size();
    message.resize(start + plain.size() + kTagBytes);
    const MutableByteSpan sealed = MutableByteSpan(message).subspan(start);
    const CipherContext context = keyed_context(1);
    int size = 0;
    if (!plain.empty())
      MAGMA_CHECK(EVP_EncryptUpdate(context.get(), sealed.data(), &size, plain.data(),
                                    static_cast<int>(plain.size())) == 1);
    std::uint8_t* tag = sealed.data() + plain.size();
    MAGMA_CHECK(EVP_EncryptFinal_ex(context.get(), tag, &size) == 1);
    MAGMA_CHECK(EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, kTagBytes, tag) == 1);
    ++nonce_;
    mix_hash(sealed);
  }

  // Requires: sealed.size() >= kTagBytes.
  std::optional<Bytes> decrypt_and_hash(ByteSpan sealed) {
    const ByteSpan text = sealed.first(sealed.size() - kTagBytes);
    std::array<std::uint8_t, kTagBytes> tag;
    std::copy(sealed.end() - kTagBytes, sealed.end(), tag.begin());
    Bytes plain(text.size());
    const CipherContext context = keyed_context(0);
    int size = 0;
    if (!text.empty())
      MAGMA_CHECK(EVP_DecryptUpdate(context.get(), plain.data(), &size, text.data(),
                                    static_cast<int>(text.size())) == 1);
    MAGMA_CHECK(EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, kTagBytes,
                                    tag.data()) == 1);
    std::uint8_t nothing[kTagBytes];
    if (EVP_DecryptFinal_ex(context.get(), nothing, &size) != 1) {
      ERR_clear_error();
      OPENSSL_cleanse(plain.data(), plain.size());
      return std::nullopt;
    }
    ++nonce_;
    mix_hash(sealed);
    return plain;
  }

  struct TransportKeys {
    DirectionKey from_initiator;
    DirectionKey from_responder;
  };
  TransportKeys split() const {
    const HkdfOutputs outputs = noise_hkdf(chaining_key_, {});
    return {direction_key(outputs.first), direction_key(outputs.second)};
  }

 private:
  void set_key(const Digest& key) {
    key_ = key;
    nonce_ = 0;
  }

  // A context keyed with k, n, and h as the associated data. The handshake's AESGCM is AES-256,
  // whatever the transport uses.
  CipherContext keyed_context(int encrypt) const {
    static const EVP_CIPHER* const aes = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
    static const EVP_CIPHER* const chacha =
        EVP_CIPHER_fetch(nullptr, "ChaCha20-Poly1305", nullptr);
    const bool is_aes = suite_ == Suite::aes128_gcm;
    std::array<std::uint8_t, 12> nonce{};  // section 12: four zero bytes, then n
    for (std::size_t i = 0; i < 8; ++i)
      nonce[4 + i] = static_cast<std::uint8_t>(nonce_ >> (is_aes ? 56 - 8 * i : 8 * i));
    CipherContext context(EVP_CIPHER_CTX_new());
    int size = 0;
    MAGMA_CHECK(context != nullptr && aes != nullptr && chacha != nullptr);
    MAGMA_CHECK(EVP_CipherInit_ex2(context.get(), is_aes ? aes : chacha, key_.bytes.data(),
                                   nonce.data(), encrypt, nullptr) == 1);
    MAGMA_CHECK(EVP_CipherUpdate(context.get(), nullptr, &size, hash_.bytes.data(),
                                 static_cast<int>(hash_.bytes.size())) == 1);
    return context;
  }

  DirectionKey direction_key(const Digest& secret) const {
    DirectionKey key;
    key.suite = suite_;
    hkdf_expand(secret.bytes, "magma key", key.key);
    hkdf_expand(secret.bytes, "magma iv", key.iv);
    return key;
  }

  Suite suite_;
  Digest chaining_key_;
  Digest hash_;
  Digest key_;
  std::uint64_t nonce_ = 0;
};

PrivateKey private_key_of(const Digest& raw) {
  PrivateKey key(EVP_PKEY_new_raw_private_key_ex(nullptr, "X25519", nullptr, raw.bytes.data(),
                                                 raw.bytes.size()));
  MAGMA_CHECK(key != nullptr);
  return key;
}

PublicKey public_key_of(const Digest& raw) {
  const PrivateKey key = private_key_of(raw);
  PublicKey result;
  std::size_t size = result.size();
  MAGMA_CHECK(EVP_PKEY_get_raw_public_key(key.get(), result.data(), &size) == 1);
  MAGMA_CHECK(size == result.size());
  return result;
}

// X25519; nothing if the result is all zero (RFC 7748 section 6.1), as a point of low order makes
// it: such a peer would know the session's keys without an ephemeral secret of ours.
std::optional<Digest> shared_secret(const Digest& ours, ByteSpan theirs) {
  const PrivateKey private_key = private_key_of(ours);
  const PrivateKey peer(EVP_PKEY_new_raw_public_key_ex(nullptr, "X25519", nullptr, theirs.data(),
                                                       theirs.size()));
  const Owned<EVP_PKEY_CTX, EVP_PKEY_CTX_free> context(
      EVP_PKEY_CTX_new_from_pkey(nullptr, private_key.get(), nullptr));
  MAGMA_CHECK(peer != nullptr && context != nullptr);
  Digest secret;
  std::size_t size = secret.bytes.size();
  const bool derived = EVP_PKEY_derive_init(context.get()) == 1 &&
                       EVP_PKEY_derive_set_peer(context.get(), peer.get()) == 1 &&
                       EVP_PKEY_derive(context.get(), secret.bytes.data(), &size) == 1 &&
                       size == secret.bytes.size();
  const Digest zero;
  if (!derived || CRYPTO_memcmp(secret.bytes.data(), zero.bytes.data(), size) == 0) {
    ERR_clear_error();
    return std::nullopt;
  }
  return secret;
}

Result<void> check_size(ByteSpan message) {
  if (message.size() < kHandshakeOverhead || message.size() > kMessageBytesMax)
    return fail(Code::malformed, "size of a handshake message");
  return {};
}

}  // namespace

struct HandshakeState {
  HandshakeState(Suite suite, const Secret& psk, ByteSpan prologue, sys::Random& random)
      : symmetric(suite, prologue) {
    symmetric.mix_key_and_hash(psk.bytes());  // token psk, first in both roles
    random.fill(ephemeral.bytes);
  }

  // Token e, ours or the peer's.
  void mix_ephemeral(ByteSpan public_key) {
    symmetric.mix_hash(public_key);
    symmetric.mix_key(public_key);
  }

  SymmetricState symmetric;
  Digest ephemeral;  // private
  Digest shared;     // responder only, between the two messages: the secret of token ee
  Stage stage = Stage::fresh;
};

void free_handshake_state(HandshakeState* state) noexcept { delete state; }

Initiator::Initiator(Suite suite, const Secret& psk, ByteSpan prologue, sys::Random& random)
    : state_(new HandshakeState(suite, psk, prologue, random)) {}

Bytes Initiator::write_first(ByteSpan payload) {
  MAGMA_CHECK(state_->stage == Stage::fresh);
  MAGMA_CHECK(payload.size() <= kMessageBytesMax - kHandshakeOverhead);
  const PublicKey ours = public_key_of(state_->ephemeral);
  Bytes message(ours.begin(), ours.end());
  state_->mix_ephemeral(ours);
  state_->symmetric.encrypt_and_hash(payload, message);
  state_->stage = Stage::half_done;
  return message;
}

Result<Initiator::Finished> Initiator::read_second(ByteSpan message) {
  MAGMA_CHECK(state_->stage != Stage::fresh);
  if (state_->stage == Stage::finished) return fail(Code::wrong_key, "already finished");
  TRY(check_size(message));
  HandshakeState attempt = *state_;  // a forged answer leaves no trace in state_
  const ByteSpan theirs = message.first(kPublicKeyBytes);
  attempt.mix_ephemeral(theirs);
  const std::optional<Digest> shared = shared_secret(attempt.ephemeral, theirs);
  if (!shared) return fail(Code::wrong_key);
  attempt.symmetric.mix_key(shared->bytes);
  std::optional<Bytes> payload =
      attempt.symmetric.decrypt_and_hash(message.subspan(kPublicKeyBytes));
  if (!payload) return fail(Code::wrong_key);
  const auto keys = attempt.symmetric.split();
  state_->ephemeral = Digest();
  state_->stage = Stage::finished;
  return Finished{std::move(*payload), {.send = keys.from_initiator,
                                        .receive = keys.from_responder}};
}

Responder::Responder(Suite suite, const Secret& psk, ByteSpan prologue, sys::Random& random)
    : state_(new HandshakeState(suite, psk, prologue, random)) {}

Result<Bytes> Responder::read_first(ByteSpan message) {
  if (state_->stage != Stage::fresh) return fail(Code::wrong_key, "already begun");
  TRY(check_size(message));
  HandshakeState attempt = *state_;
  const ByteSpan theirs = message.first(kPublicKeyBytes);
  attempt.mix_ephemeral(theirs);
  std::optional<Bytes> payload =
      attempt.symmetric.decrypt_and_hash(message.subspan(kPublicKeyBytes));
  if (!payload) return fail(Code::wrong_key);
  // Token ee belongs to the second message, but is computed here, where it may still be refused.
  const std::optional<Digest> shared = shared_secret(attempt.ephemeral, theirs);
  if (!shared) return fail(Code::wrong_key);
  attempt.shared = *shared;
  attempt.stage = Stage::half_done;
  *state_ = attempt;
  return std::move(*payload);
}

Responder::Finished Responder::write_second(ByteSpan payload) {
  MAGMA_CHECK(state_->stage == Stage::half_done);
  MAGMA_CHECK(payload.size() <= kMessageBytesMax - kHandshakeOverhead);
  const PublicKey ours = public_key_of(state_->ephemeral);
  Bytes message(ours.begin(), ours.end());
  state_->mix_ephemeral(ours);
  state_->symmetric.mix_key(state_->shared.bytes);
  state_->symmetric.encrypt_and_hash(payload, message);
  const auto keys = state_->symmetric.split();
  state_->ephemeral = Digest();
  state_->shared = Digest();
  state_->stage = Stage::finished;
  return {std::move(message), {.send = keys.from_responder, .receive = keys.from_initiator}};
}

}  // namespace magma::crypto
