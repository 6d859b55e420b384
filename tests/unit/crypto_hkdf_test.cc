#include <doctest/doctest.h>

#include "libmagma/crypto/hkdf.h"

using namespace magma;
using namespace magma::crypto;

TEST_CASE("hkdf: HMAC-SHA256, RFC 4231 test cases 1 and 2") {
  CHECK(to_hex(hmac_sha256(Bytes(20, 0x0b), {as_bytes("Hi There")}).bytes) ==
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  CHECK(to_hex(hmac_sha256(as_bytes("Jefe"), {as_bytes("what do ya want "), {},
                                              as_bytes("for nothing?")})
                   .bytes) == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

TEST_CASE("hkdf: RFC 5869 appendix A.1") {
  Bytes salt;
  Bytes info;
  REQUIRE(from_hex("000102030405060708090a0b0c", salt));
  REQUIRE(from_hex("f0f1f2f3f4f5f6f7f8f9", info));
  const Digest extracted = hmac_sha256(salt, {Bytes(22, 0x0b)});
  CHECK(to_hex(extracted.bytes) ==
        "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
  Bytes out(42);
  hkdf_expand(extracted.bytes, as_text(info), out);
  CHECK(to_hex(out) ==
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
}

TEST_CASE("hkdf: SHA-256 of nothing and of pieces") {
  CHECK(to_hex(sha256({}).bytes) ==
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256({as_bytes("la"), as_bytes("va")}).bytes == sha256({as_bytes("lava")}).bytes);
}
