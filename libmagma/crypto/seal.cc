#include "libmagma/crypto/seal.h"

#include <climits>

#include <openssl/crypto.h>
#include <openssl/err.h>

#include "libmagma/base/check.h"
#include "libmagma/crypto/hkdf.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace magma::crypto {

namespace {

using Iv = std::array<std::uint8_t, 12>;
using Context = Owned<EVP_CIPHER_CTX, EVP_CIPHER_CTX_free>;

const EVP_CIPHER* cipher_of(Suite suite) {
  // Fetched once, never freed: a fetch per context takes OpenSSL's shared locks.
  static const EVP_CIPHER* const aes = EVP_CIPHER_fetch(nullptr, "AES-128-GCM", nullptr);
  static const EVP_CIPHER* const chacha = EVP_CIPHER_fetch(nullptr, "ChaCha20-Poly1305", nullptr);
  return suite == Suite::aes128_gcm ? aes : chacha;
}

enum class Direction { seal, open };

Context keyed_context(const DirectionKey& key, Direction direction) {
  const EVP_CIPHER* cipher = cipher_of(key.suite);
  Context context(EVP_CIPHER_CTX_new());
  MAGMA_CHECK(cipher != nullptr && context != nullptr);
  const int encrypt = direction == Direction::seal ? 1 : 0;
  MAGMA_CHECK(EVP_CipherInit_ex2(context.get(), cipher, key.key.data(), nullptr, encrypt,
                                 nullptr) == 1);
  MAGMA_CHECK(EVP_CIPHER_CTX_get_iv_length(context.get()) == static_cast<int>(sizeof(Iv)));
  return context;
}

// RFC 8446 section 5.3: the number, big-endian and padded on the left, xor the IV.
Iv nonce_of(const Iv& iv, std::uint64_t packet_number) {
  Iv nonce = iv;
  for (std::size_t i = 0; i < 8; ++i)
    nonce[4 + i] ^= static_cast<std::uint8_t>(packet_number >> (56 - 8 * i));
  return nonce;
}

}  // namespace

Suite preferred_suite() {
#if defined(__x86_64__) || defined(__i386__)
  return __builtin_cpu_supports("aes") ? Suite::aes128_gcm : Suite::chacha20_poly1305;
#elif defined(__aarch64__)
  return (getauxval(AT_HWCAP) & HWCAP_AES) != 0 ? Suite::aes128_gcm : Suite::chacha20_poly1305;
#else
  return Suite::chacha20_poly1305;
#endif
}

DirectionKey::~DirectionKey() {
  OPENSSL_cleanse(key.data(), key.size());
  OPENSSL_cleanse(iv.data(), iv.size());
}

DirectionKey DirectionKey::next() const {
  DirectionKey later;
  later.suite = suite;
  hkdf_expand(key, "magma next key", later.key);
  hkdf_expand(key, "magma next iv", later.iv);
  return later;
}

Sealer::Sealer(const DirectionKey& key)
    : context_(keyed_context(key, Direction::seal)), iv_(key.iv) {}

void Sealer::seal(std::uint64_t packet_number, ByteSpan header, ByteSpan plain,
                  MutableByteSpan out) {
  MAGMA_CHECK(plain.size() <= INT_MAX && header.size() <= INT_MAX);
  MAGMA_CHECK(out.size() >= plain.size() + kTagBytes);
  EVP_CIPHER_CTX* context = context_.get();
  const Iv nonce = nonce_of(iv_, packet_number);
  int size = 0;
  MAGMA_CHECK(EVP_EncryptInit_ex2(context, nullptr, nullptr, nonce.data(), nullptr) == 1);
  if (!header.empty())
    MAGMA_CHECK(EVP_EncryptUpdate(context, nullptr, &size, header.data(),
                                  static_cast<int>(header.size())) == 1);
  if (!plain.empty())
    MAGMA_CHECK(EVP_EncryptUpdate(context, out.data(), &size, plain.data(),
                                  static_cast<int>(plain.size())) == 1);
  std::uint8_t* tag = out.data() + plain.size();
  MAGMA_CHECK(EVP_EncryptFinal_ex(context, tag, &size) == 1 && size == 0);
  MAGMA_CHECK(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, kTagBytes, tag) == 1);
}

Opener::Opener(const DirectionKey& key)
    : context_(keyed_context(key, Direction::open)), iv_(key.iv) {}

Result<MutableByteSpan> Opener::open(std::uint64_t packet_number, ByteSpan header,
                                     MutableByteSpan sealed) {
  if (sealed.size() < kTagBytes) return fail(Code::malformed);
  MAGMA_CHECK(sealed.size() <= INT_MAX && header.size() <= INT_MAX);
  EVP_CIPHER_CTX* context = context_.get();
  const Iv nonce = nonce_of(iv_, packet_number);
  const MutableByteSpan text = sealed.first(sealed.size() - kTagBytes);
  std::uint8_t* tag = sealed.data() + text.size();
  int size = 0;
  MAGMA_CHECK(EVP_DecryptInit_ex2(context, nullptr, nullptr, nonce.data(), nullptr) == 1);
  MAGMA_CHECK(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, kTagBytes, tag) == 1);
  if (!header.empty())
    MAGMA_CHECK(EVP_DecryptUpdate(context, nullptr, &size, header.data(),
                                  static_cast<int>(header.size())) == 1);
  if (!text.empty())
    MAGMA_CHECK(EVP_DecryptUpdate(context, text.data(), &size, text.data(),
                                  static_cast<int>(text.size())) == 1);
  // The comparison of the tag happens here, in constant time. GCM and Poly1305 write nothing.
  std::uint8_t nothing[kTagBytes];
  if (EVP_DecryptFinal_ex(context, nothing, &size) != 1) [[unlikely]] {
    ERR_clear_error();
    return fail(Code::malformed);
  }
  return text;
}

}  // namespace magma::crypto
