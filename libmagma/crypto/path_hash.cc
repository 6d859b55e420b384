#include "libmagma/crypto/path_hash.h"

#include <algorithm>
#include <initializer_list>

#include <openssl/evp.h>

#include "libmagma/base/check.h"
#include "libmagma/base/owned.h"

namespace magma::crypto {

namespace {

constexpr std::uint64_t kFirstNameHash = 16;

ring::Key sha1(std::initializer_list<ByteSpan> parts) {
  // Never freed: threads may still hash while the process ends.
  static EVP_MD* const digest = EVP_MD_fetch(nullptr, "SHA1", nullptr);
  thread_local const Owned<EVP_MD_CTX, EVP_MD_CTX_free> context(EVP_MD_CTX_new());
  MAGMA_CHECK(digest != nullptr && context != nullptr);
  MAGMA_CHECK(EVP_DigestInit_ex2(context.get(), digest, nullptr) == 1);
  for (ByteSpan part : parts)
    MAGMA_CHECK(EVP_DigestUpdate(context.get(), part.data(), part.size()) == 1);
  ring::Key key;
  unsigned int size = 0;
  MAGMA_CHECK(EVP_DigestFinal_ex(context.get(), key.bytes.data(), &size) == 1);
  MAGMA_CHECK(size == key.bytes.size());
  return key;
}

}  // namespace

ring::Key key_of_path(std::string_view path) {
  // SHA1("") as the parent of a top-level name was a trap of the original.
  MAGMA_CHECK(path.starts_with('/') && (path.size() == 1 || !path.ends_with('/')));
  return sha1({as_bytes(path)});
}

ring::Key key_of_child(const ring::Key& parent, std::string_view name) {
  return sha1({parent.bytes, as_bytes("/"), as_bytes(name)});
}

ring::Key key_of_chunk(const ring::Key& file, std::uint32_t chunk) {
  if (chunk == 0) return file;
  const std::uint8_t number[4] = {
      static_cast<std::uint8_t>(chunk >> 24), static_cast<std::uint8_t>(chunk >> 16),
      static_cast<std::uint8_t>(chunk >> 8), static_cast<std::uint8_t>(chunk)};
  return sha1({file.bytes, number});
}

std::uint64_t name_hash(std::string_view name) {
  ring::Key key = sha1({as_bytes(name)});
  std::uint64_t top = ByteReader(key.bytes).get<std::uint64_t>() >> 1;
  return std::max(top, kFirstNameHash);
}

}  // namespace magma::crypto
