#include <doctest/doctest.h>

#include "libmagma/crypto/network_key.h"

using namespace magma;
using namespace magma::crypto;

namespace {

class CountingRandom : public sys::Random {
 public:
  void fill(MutableByteSpan bytes) override {
    for (std::uint8_t& b : bytes) b = next_++;
  }

 private:
  std::uint8_t next_ = 0;
};

Secret counted_secret() {
  CountingRandom random;
  return make_secret(random);
}

constexpr std::string_view kDigits =
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
// HKDF-SHA256 of kDigits, computed elsewhere.
constexpr std::string_view kClient =
    "47cbab335201d9abedc8d668e482350a3416a380498d204b3ef86f06ec00558f";
constexpr std::string_view kRing =
    "58e3b05702465006d55fbe1d36f45b7794e8255dbfbaebb11ece6bb0baee0810";

}  // namespace

TEST_CASE("network_key: ring and client key of a network secret") {
  const Keyring keyring = keyring_from_network_secret(counted_secret());
  REQUIRE(keyring.network);
  REQUIRE(keyring.ring);
  CHECK(to_hex(keyring.network->bytes()) == kDigits);
  CHECK(to_hex(keyring.client.bytes()) == kClient);
  CHECK(to_hex(keyring.ring->bytes()) == kRing);
}

TEST_CASE("network_key: a client secret gives no ring key") {
  const Keyring keyring = keyring_from_client_secret(counted_secret());
  CHECK_FALSE(keyring.network);
  CHECK_FALSE(keyring.ring);
  CHECK(keyring.client.same_as(counted_secret()));
}

TEST_CASE("network_key: same_as looks at every byte") {
  const Secret secret = counted_secret();
  CHECK(secret.same_as(counted_secret()));
  for (std::size_t i = 0; i < 32; ++i) {
    auto raw = secret.bytes();
    raw[i] ^= 0x80;
    REQUIRE_FALSE(secret.same_as(Secret(raw)));
  }
}

TEST_CASE("network_key: scrypt of a pass-phrase") {
  Uuid filesystem;
  for (std::size_t i = 0; i < filesystem.size(); ++i)
    filesystem[i] = static_cast<std::uint8_t>(i);
  auto secret = secret_from_passphrase("correct horse battery staple", filesystem);
  REQUIRE(secret);
  // hashlib.scrypt(n=32768, r=8, p=1) of Python.
  CHECK(to_hex(secret->bytes()) ==
        "7a8e34241db898d59175c696538c417467a975ffe569068425f16188d3159c58");
  filesystem[0] = 1;
  auto other = secret_from_passphrase("correct horse battery staple", filesystem);
  REQUIRE(other);
  CHECK_FALSE(other->same_as(*secret));
}

TEST_CASE("network_key: short and endless pass-phrases are refused") {
  CHECK(secret_from_passphrase("", {}).error().code == Code::invalid);
  CHECK(secret_from_passphrase("1234567", {}).error().code == Code::invalid);
  CHECK(secret_from_passphrase("12345678", {}));
  CHECK(secret_from_passphrase(std::string(1025, 'x'), {}).error().code == Code::invalid);
}

TEST_CASE("network_key: UUIDs") {
  CountingRandom random;
  const Uuid uuid = make_uuid(random);
  CHECK(uuid_text(uuid) == "00010203-0405-4607-8809-0a0b0c0d0e0f");
  CHECK(parse_uuid("00010203-0405-4607-8809-0a0b0c0d0e0f").value() == uuid);
  CHECK(parse_uuid("00010203-0405-4607-8809-0A0B0C0D0E0F").value() == uuid);
  for (const char* bad :
       {"", "00010203-0405-4607-8809-0a0b0c0d0e0", "00010203-0405-4607-8809-0a0b0c0d0e0f0",
        "000102030405460788090a0b0c0d0e0f", "0001020-30405-4607-8809-0a0b0c0d0e0f",
        "00010203-0405-4607-8809-0a0b0c0d0e0g", "00010203-0405-4607-8809--a0b0c0d0e0f"}) {
    CAPTURE(bad);
    CHECK(parse_uuid(bad).error().code == Code::invalid);
  }
}

TEST_CASE("network_key: key files are read back as written") {
  const Keyring keyring = keyring_from_network_secret(counted_secret());
  auto network = parse_key_file(network_key_file_text(*keyring.network));
  REQUIRE(network);
  CHECK(network->network->same_as(*keyring.network));
  CHECK(network->ring->same_as(*keyring.ring));
  CHECK(network->client.same_as(keyring.client));
  auto client = parse_key_file(client_key_file_text(keyring));
  REQUIRE(client);
  CHECK(client->client.same_as(keyring.client));
  CHECK_FALSE(client->network);
  CHECK_FALSE(client->ring);
  CHECK(client_key_file_text(keyring).find(kRing) == std::string::npos);
  CHECK(client_key_file_text(keyring).find(kDigits) == std::string::npos);
}

TEST_CASE("network_key: comments, blank lines, CRLF and a missing last newline are fine") {
  const std::string digits(kDigits);
  for (const std::string& text :
       {"magma-key-v1 network " + digits,
        "\n# c\n  \t\n magma-key-v1\tnetwork  " + digits + " \r\n",
        "magma-key-v1 network " + digits + "\n#end",
        "#\r\nmagma-key-v1 network " + digits + "\n\n"}) {
    CAPTURE(text);
    auto keyring = parse_key_file(text);
    REQUIRE(keyring);
    CHECK(keyring->network->same_as(counted_secret()));
  }
}

TEST_CASE("network_key: bad key files are refused with the line and without the key") {
  const std::string digits(kDigits);
  for (const std::string& text :
       {std::string(), std::string("# nothing\n"), digits, "magma-key-v1 " + digits,
        "magma-key-v1 ring " + digits, "magma-key-v2 network " + digits,
        "magma-key-v1 network " + digits.substr(1), "magma-key-v1 network " + digits + "0",
        "magma-key-v1 network " + digits.substr(1) + "g", std::string("magma-key-v1 network"),
        "magma-key-v1 network " + digits + " " + digits,
        "magma-key-v1 client " + digits + "\nmagma-key-v1 network " + digits,
        "magma-key-v1 network " + digits + "\nrubbish", std::string(70000, '\n')}) {
    CAPTURE(text.substr(0, 100));
    auto keyring = parse_key_file(text);
    REQUIRE_FALSE(keyring);
    CHECK(keyring.error().code == Code::bad_key_file);
    CHECK_FALSE(keyring.error().detail.empty());
    CHECK(keyring.error().detail.find("0405") == std::string::npos);
  }
  CHECK(parse_key_file("#\n\nmagma-key-v1 x y").error().detail.starts_with("line 3:"));
}
