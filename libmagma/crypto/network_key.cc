#include "libmagma/crypto/network_key.h"

#include <algorithm>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "libmagma/base/bytes.h"
#include "libmagma/base/owned.h"
#include "libmagma/crypto/hkdf.h"

namespace magma::crypto {

namespace {

constexpr std::size_t kPassphraseBytesMin = 8;
constexpr std::size_t kPassphraseBytesMax = 1024;
constexpr std::size_t kKeyFileBytesMax = 64 * 1024;
constexpr std::size_t kUuidTextSize = 36;
constexpr std::string_view kKeyFileMagic = "magma-key-v1";

constexpr std::uint64_t kScryptN = 1u << 15;
constexpr std::uint32_t kScryptR = 8;
constexpr std::uint32_t kScryptP = 1;
constexpr std::uint64_t kScryptMemoryMax = 64u << 20;
static_assert(128 * kScryptN * kScryptR < kScryptMemoryMax);

constexpr bool is_dash_place(std::size_t i) { return i == 8 || i == 13 || i == 18 || i == 23; }

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r'; }

// The first word of `line`, which is cut off it together with the spaces around.
std::string_view take_word(std::string_view& line) {
  while (!line.empty() && is_space(line.front())) line.remove_prefix(1);
  const auto end = std::find_if(line.begin(), line.end(), is_space);
  const std::string_view word = line.substr(0, static_cast<std::size_t>(end - line.begin()));
  line.remove_prefix(word.size());
  while (!line.empty() && is_space(line.front())) line.remove_prefix(1);
  return word;
}

std::optional<Secret> secret_from_hex(std::string_view digits) {
  std::array<std::uint8_t, 32> raw;
  Bytes decoded;
  if (digits.size() != 2 * raw.size() || !from_hex(digits, decoded)) return std::nullopt;
  std::copy(decoded.begin(), decoded.end(), raw.begin());
  Secret secret(raw);
  OPENSSL_cleanse(decoded.data(), decoded.size());
  OPENSSL_cleanse(raw.data(), raw.size());
  return secret;
}

Error bad_line(std::size_t number, std::string_view what) {
  // Never the line itself: it may be a mistyped secret.
  return {Code::bad_key_file, "line " + std::to_string(number) + ": " + std::string(what)};
}

Result<Keyring> parse_key_line(std::string_view line, std::size_t number) {
  const std::string_view magic = take_word(line);
  const std::string_view kind = take_word(line);
  const std::string_view digits = take_word(line);
  if (magic != kKeyFileMagic) {
    if (magic.starts_with("magma-key-"))
      return fail(bad_line(number, "a kind of key file this version does not know"));
    return fail(bad_line(number, "expected 'magma-key-v1 network|client KEY'"));
  }
  if (kind != "network" && kind != "client")
    return fail(bad_line(number, "the second word must be 'network' or 'client'"));
  const std::optional<Secret> secret = secret_from_hex(digits);
  if (!secret) return fail(bad_line(number, "the key must be 64 hex digits"));
  if (!line.empty()) return fail(bad_line(number, "unexpected text after the key"));
  return kind == "network" ? keyring_from_network_secret(*secret)
                           : keyring_from_client_secret(*secret);
}

Secret derived_secret(const Digest& extracted, std::string_view info) {
  Digest key;
  hkdf_expand(extracted.bytes, info, key.bytes);
  return Secret(key.bytes);
}

std::string key_file_text(std::string_view kind, std::string_view comment, const Secret& secret) {
  std::string digits = to_hex(secret.bytes());
  std::string text;
  text.reserve(256);  // no reallocation leaves a copy of the digits behind
  text.append("# ").append(comment).append("\n");
  text.append(kKeyFileMagic).append(" ").append(kind).append(" ").append(digits).append("\n");
  OPENSSL_cleanse(digits.data(), digits.size());
  return text;
}

}  // namespace

Secret::~Secret() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

bool Secret::same_as(const Secret& other) const {
  return CRYPTO_memcmp(bytes_.data(), other.bytes_.data(), bytes_.size()) == 0;
}

std::string uuid_text(const Uuid& uuid) {
  std::string text = to_hex(uuid);
  for (std::size_t i = 0; i < kUuidTextSize; ++i)
    if (is_dash_place(i)) text.insert(i, 1, '-');
  return text;
}

Result<Uuid> parse_uuid(std::string_view text) {
  std::string digits;
  bool good = text.size() == kUuidTextSize;
  for (std::size_t i = 0; good && i < text.size(); ++i) {
    if (!is_dash_place(i))
      digits.push_back(text[i]);
    else
      good = text[i] == '-';
  }
  Bytes raw;
  if (!good || !from_hex(digits, raw))
    return fail(Code::invalid, "not a UUID (8-4-4-4-12 hex digits)");
  Uuid uuid{};
  std::copy(raw.begin(), raw.end(), uuid.begin());
  return uuid;
}

Uuid make_uuid(sys::Random& random) {
  Uuid uuid;
  random.fill(uuid);
  uuid[6] = static_cast<std::uint8_t>((uuid[6] & 0x0f) | 0x40);  // version 4
  uuid[8] = static_cast<std::uint8_t>((uuid[8] & 0x3f) | 0x80);  // variant of RFC 9562
  return uuid;
}

Keyring keyring_from_network_secret(const Secret& secret) {
  // RFC 5869 section 2.2: extract with a fixed salt, then expand once a role.
  const Digest extracted = hmac_sha256(as_bytes(kKeyFileMagic), {secret.bytes()});
  return {.network = secret,
          .client = derived_secret(extracted, "client"),
          .ring = derived_secret(extracted, "ring")};
}

Keyring keyring_from_client_secret(const Secret& secret) {
  return {.network = std::nullopt, .client = secret, .ring = std::nullopt};
}

Result<Secret> secret_from_passphrase(std::string_view passphrase, const Uuid& filesystem) {
  if (passphrase.size() < kPassphraseBytesMin)
    return fail(Code::invalid, "a pass-phrase needs at least 8 bytes");
  if (passphrase.size() > kPassphraseBytesMax)
    return fail(Code::invalid, "a pass-phrase has at most 1024 bytes");
  const Owned<EVP_KDF, EVP_KDF_free> scrypt(EVP_KDF_fetch(nullptr, "SCRYPT", nullptr));
  const Owned<EVP_KDF_CTX, EVP_KDF_CTX_free> context(EVP_KDF_CTX_new(scrypt.get()));
  if (!context) return fail(Code::unsupported, "this OpenSSL has no scrypt");
  std::uint64_t n = kScryptN;
  std::uint64_t memory_max = kScryptMemoryMax;
  std::uint32_t r = kScryptR;
  std::uint32_t p = kScryptP;
  // OpenSSL only reads what these point to, although the parameters are not const.
  const OSSL_PARAM params[] = {
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PASSWORD,
                                        const_cast<char*>(passphrase.data()), passphrase.size()),
      OSSL_PARAM_construct_octet_string(
          OSSL_KDF_PARAM_SALT, const_cast<std::uint8_t*>(filesystem.data()), filesystem.size()),
      OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_N, &n),
      OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_R, &r),
      OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_P, &p),
      OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_MAXMEM, &memory_max),
      OSSL_PARAM_construct_end()};
  Digest key;
  if (EVP_KDF_derive(context.get(), key.bytes.data(), key.bytes.size(), params) != 1) {
    ERR_clear_error();
    return fail(Code::no_memory, "scrypt needs 32 MiB");
  }
  return Secret(key.bytes);
}

Secret make_secret(sys::Random& random) {
  Digest key;
  random.fill(key.bytes);
  return Secret(key.bytes);
}

Result<Keyring> parse_key_file(std::string_view text) {
  if (text.size() > kKeyFileBytesMax) return fail(Code::bad_key_file, "larger than 64 KiB");
  std::optional<Keyring> keyring;
  for (std::size_t number = 1; !text.empty(); ++number) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    std::string_view rest = line;
    if (const auto first = take_word(rest); first.empty() || first.starts_with('#')) continue;
    if (keyring) return fail(bad_line(number, "a second key"));
    TRY_VALUE(keyring, parse_key_line(line, number));
  }
  if (!keyring) return fail(Code::bad_key_file, "no key in it");
  return std::move(*keyring);
}

std::string network_key_file_text(const Secret& network_secret) {
  return key_file_text("network", "Magma: the secret of a lava network. Keep it on volcanoes.",
                       network_secret);
}

std::string client_key_file_text(const Keyring& keyring) {
  return key_file_text("client", "Magma: the key of mounts and tools.", keyring.client);
}

}  // namespace magma::crypto
