// The key file parser: never crashes, its reasons never repeat the key, and what it accepts is
// accepted again when written by us.
#include "libmagma/base/bytes.h"
#include "libmagma/base/check.h"
#include "libmagma/crypto/network_key.h"

using namespace magma;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = as_text({data, size});
  const auto keyring = crypto::parse_key_file(text);
  if (!keyring) {
    MAGMA_CHECK(keyring.error().code == Code::bad_key_file);
    MAGMA_CHECK(keyring.error().detail.size() < 100);
    (void)crypto::parse_uuid(text);
    return 0;
  }
  MAGMA_CHECK(keyring->network.has_value() == keyring->ring.has_value());
  const auto again = crypto::parse_key_file(keyring->network
                                                ? crypto::network_key_file_text(*keyring->network)
                                                : crypto::client_key_file_text(*keyring));
  MAGMA_CHECK(again.has_value());
  MAGMA_CHECK(again->client.same_as(keyring->client));
  MAGMA_CHECK(again->network.has_value() == keyring->network.has_value());
  return 0;
}
