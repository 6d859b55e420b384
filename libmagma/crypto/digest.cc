#include "libmagma/crypto/digest.h"

#include <algorithm>

#include <openssl/evp.h>

#include "libmagma/base/check.h"
#include "libmagma/base/owned.h"

namespace magma::crypto {

Digest digest(ByteSpan bytes) {
  // Fetched once, never freed: threads may still hash while the process ends.
  static EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  thread_local const Owned<EVP_MD_CTX, EVP_MD_CTX_free> context(EVP_MD_CTX_new());
  MAGMA_CHECK(algorithm != nullptr && context != nullptr);
  std::array<std::uint8_t, EVP_MAX_MD_SIZE> whole{};
  MAGMA_CHECK(EVP_DigestInit_ex2(context.get(), algorithm, nullptr) == 1);
  MAGMA_CHECK(EVP_DigestUpdate(context.get(), bytes.data(), bytes.size()) == 1);
  unsigned int size = 0;
  MAGMA_CHECK(EVP_DigestFinal_ex(context.get(), whole.data(), &size) == 1);
  Digest cut{};
  MAGMA_CHECK(size >= cut.size());
  std::copy_n(whole.begin(), cut.size(), cut.begin());
  return cut;
}

}  // namespace magma::crypto
