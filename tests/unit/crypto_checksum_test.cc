#include <doctest/doctest.h>

#include "libmagma/crypto/checksum.h"

using magma::as_bytes;
using magma::Bytes;
using magma::crypto::crc32c;

TEST_CASE("crc32c: RFC 3720 appendix B.4 and the check value") {
  CHECK(crc32c(as_bytes("123456789")) == 0xe3069283);
  CHECK(crc32c({}) == 0);
  CHECK(crc32c(Bytes(32, 0x00)) == 0x8a9136aa);
  CHECK(crc32c(Bytes(32, 0xff)) == 0x62a8ab43);
  Bytes rising(32);
  for (std::size_t i = 0; i < rising.size(); ++i) rising[i] = static_cast<std::uint8_t>(i);
  CHECK(crc32c(rising) == 0x46dd794e);
}

TEST_CASE("crc32c: equals a bitwise division for every length and start") {
  Bytes bytes(300);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i * 37 + 11);
  for (std::size_t start : {0, 1, 3, 7}) {
    std::uint32_t state = 0xffffffff;
    for (std::size_t end = start; end < bytes.size(); ++end) {
      REQUIRE(crc32c(magma::ByteSpan(bytes).subspan(start, end - start)) == ~state);
      state ^= bytes[end];
      for (int bit = 0; bit < 8; ++bit) state = state >> 1 ^ ((state & 1) != 0 ? 0x82f63b78u : 0u);
    }
  }
}
