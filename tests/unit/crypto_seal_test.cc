#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "libmagma/crypto/seal.h"

using namespace magma;
using namespace magma::crypto;

namespace {

DirectionKey test_key(Suite suite) {
  DirectionKey key;
  key.suite = suite;
  for (std::size_t i = 0; i < key.key.size(); ++i) key.key[i] = static_cast<std::uint8_t>(i);
  for (std::size_t i = 0; i < key.iv.size(); ++i) key.iv[i] = static_cast<std::uint8_t>(0xa0 + i);
  return key;
}

Bytes sealed(Sealer& sealer, std::uint64_t number, std::string_view header, ByteSpan plain) {
  Bytes out(plain.size() + kTagBytes);
  sealer.seal(number, as_bytes(header), plain, out);
  return out;
}

bool opens(Opener& opener, std::uint64_t number, std::string_view header, Bytes packet,
           ByteSpan expected) {
  auto text = opener.open(number, as_bytes(header), packet);
  if (!text) {
    CHECK(text.error().code == Code::malformed);
    return false;
  }
  CHECK(std::ranges::equal(*text, expected));
  return true;
}

constexpr Suite kSuites[] = {Suite::aes128_gcm, Suite::chacha20_poly1305};

}  // namespace

TEST_CASE("seal: the bytes another implementation makes") {
  // AES-128-GCM and ChaCha20-Poly1305 with the nonce of RFC 8446 section 5.3, computed elsewhere.
  Sealer aes(test_key(Suite::aes128_gcm));
  CHECK(to_hex(sealed(aes, 0x0123456789abcdef, "header", as_bytes("lava"))) ==
        "066df3232108692cad2dacee8f03608ff8aa4c34");
  Sealer chacha(test_key(Suite::chacha20_poly1305));
  CHECK(to_hex(sealed(chacha, 0x0123456789abcdef, "header", as_bytes("lava"))) ==
        "ad448b2771fec1769b8f8d9daedc29be1e1f314f");
}

TEST_CASE("seal: what is sealed opens, in any order and of any size") {
  for (Suite suite : kSuites) {
    CAPTURE(static_cast<int>(suite));
    Sealer sealer(test_key(suite));
    Opener opener(test_key(suite));
    for (std::size_t size : {0, 1, 15, 16, 17, 1400, 65000}) {
      Bytes plain(size);
      for (std::size_t i = 0; i < size; ++i) plain[i] = static_cast<std::uint8_t>(i * 7);
      const Bytes second = sealed(sealer, 2 * size + 1, "h", plain);
      const Bytes first = sealed(sealer, 2 * size, "", plain);
      CHECK(opens(opener, 2 * size, "", first, plain));
      CHECK(opens(opener, 2 * size + 1, "h", second, plain));
    }
  }
}

TEST_CASE("seal: in place") {
  for (Suite suite : kSuites) {
    Sealer sealer(test_key(suite));
    Opener opener(test_key(suite));
    Bytes packet(100 + kTagBytes, 0x5a);
    sealer.seal(9, as_bytes("h"), ByteSpan(packet).first(100), packet);
    auto text = opener.open(9, as_bytes("h"), packet);
    REQUIRE(text);
    CHECK(text->data() == packet.data());
    CHECK(Bytes(text->begin(), text->end()) == Bytes(100, 0x5a));
  }
}

TEST_CASE("seal: every changed bit, number, header or key is noticed, and the next packet opens") {
  for (Suite suite : kSuites) {
    Sealer sealer(test_key(suite));
    Opener opener(test_key(suite));
    const Bytes plain{1, 2, 3, 4, 5};
    const Bytes packet = sealed(sealer, 5, "head", plain);
    for (std::size_t bit = 0; bit < packet.size() * 8; ++bit) {
      Bytes changed = packet;
      changed[bit / 8] = static_cast<std::uint8_t>(changed[bit / 8] ^ (1u << (bit % 8)));
      REQUIRE_FALSE(opens(opener, 5, "head", changed, plain));
    }
    for (std::size_t size = 0; size < packet.size(); ++size)
      REQUIRE_FALSE(opens(opener, 5, "head", Bytes(packet.begin(), packet.begin() + size), plain));
    CHECK_FALSE(opens(opener, 6, "head", packet, plain));
    CHECK_FALSE(opens(opener, 5 + (std::uint64_t{1} << 63), "head", packet, plain));
    CHECK_FALSE(opens(opener, 5, "hEad", packet, plain));
    CHECK_FALSE(opens(opener, 5, "", packet, plain));
    Opener other(test_key(suite).next());
    CHECK_FALSE(opens(other, 5, "head", packet, plain));
    CHECK(opens(opener, 5, "head", packet, plain));
  }
}

TEST_CASE("seal: the ratchet gives a new key each time, the same on both sides") {
  DirectionKey key = test_key(Suite::aes128_gcm);
  const DirectionKey next = key.next();
  CHECK(to_hex(next.key) == "e8604b33b9fdbe99a99bfe1e6fc787a48f7b94cf17cc3cc19771305600560b76");
  CHECK(to_hex(next.iv) == "930182c35b1ef9e36aa8b557");
  CHECK(next.suite == Suite::aes128_gcm);
  CHECK(test_key(Suite::chacha20_poly1305).next().suite == Suite::chacha20_poly1305);
  std::set<std::string> seen;
  for (int i = 0; i < 50; ++i) {
    seen.insert(to_hex(key.key));
    seen.insert(to_hex(key.iv));
    key = key.next();
  }
  CHECK(seen.size() == 100);
}

TEST_CASE("seal: the preferred suite is one that works") {
  const Suite suite = preferred_suite();
  CHECK((suite == Suite::aes128_gcm || suite == Suite::chacha20_poly1305));
}
