#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "libmagma/crypto/handshake.h"

using namespace magma;
using namespace magma::crypto;

namespace {

Bytes hex(std::string_view text) {
  Bytes bytes;
  REQUIRE(from_hex(text, bytes));
  return bytes;
}

// Hands out given bytes: X25519 private keys of test vectors.
class GivenRandom : public sys::Random {
 public:
  explicit GivenRandom(std::string_view text) : bytes_(hex(text)) {}
  void fill(MutableByteSpan bytes) override {
    for (std::uint8_t& b : bytes) b = bytes_[next_++ % bytes_.size()];
  }

 private:
  Bytes bytes_;
  std::size_t next_ = 0;
};

constexpr std::string_view kInitiatorKey =
    "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a";
constexpr std::string_view kResponderKey =
    "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b";

Secret secret_of(std::string_view text) {
  const Bytes bytes = hex(text);
  std::array<std::uint8_t, 32> raw{};
  REQUIRE(bytes.size() == raw.size());
  std::copy(bytes.begin(), bytes.end(), raw.begin());
  return Secret(raw);
}

const Secret& test_psk() {
  static const Secret psk =
      secret_of("54686973206973206d7920417573747269616e20706572737065637469766521");
  return psk;
}

// Both sides of one handshake.
struct Pair {
  GivenRandom initiator_random{kInitiatorKey};
  GivenRandom responder_random{kResponderKey};
  Initiator initiator;
  Responder responder;

  explicit Pair(Suite suite, std::string_view prologue = "John Galt")
      : initiator(suite, test_psk(), as_bytes(prologue), initiator_random),
        responder(suite, test_psk(), as_bytes(prologue), responder_random) {}
};

bool same(const DirectionKey& a, const DirectionKey& b) {
  return a.suite == b.suite && a.key == b.key && a.iv == b.iv;
}

Bytes flipped(Bytes message, std::size_t bit) {
  message[bit / 8] = static_cast<std::uint8_t>(message[bit / 8] ^ (1u << (bit % 8)));
  return message;
}

struct Vector {
  Suite suite;
  const char* first;
  const char* second;
  // Expanded from the c1 and c2 that open the vector's transport messages; computed elsewhere.
  const char* initiator_key;
  const char* initiator_iv;
  const char* responder_key;
  const char* responder_iv;
};

// Messages: the published vectors of the Noise implementation cacophony.
const Vector kVectors[] = {
    {Suite::aes128_gcm,
     "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944"
     "7c37a89fc17813788d30df2d59501d6066f5f8aecc3406bbd9829f2d24a531b1",
     "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843"
     "2f29d79368ef9de4e1ae7a362fb05bf0ad668e026bf5714554497b3a720461",
     "43bf462d1bb89596fe7fdfbf825ecdc34f948f523be3584a9a8d640a23ee6e9f",
     "1dfa26ec53ada8910f9c537c",
     "3afac0f558bae8cde13007fd0af337a71b846c3e55db5c534cf014eda82914ae",
     "319bc23831ae5dcb783a856c"},
    {Suite::chacha20_poly1305,
     "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944"
     "79b962b8aff8485742ac32f905ba45369e2465fb59e138a93d67a0d1266b6a54",
     "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843"
     "d6062704d5a9c422a8e834423f8c1feada7e8d0d910a1a2cd030fb584221e3",
     "5e7f80978d3fdd8c349cb718a249d83e4ba43d27a163d70cd3ad2521a2b32a13",
     "96f3e1bff1e7e0e1290ae026",
     "2705b5d1d480a3555b4dd635c613cf628c1d1061f676e6dfd4b21659d3266740",
     "0d8b536e6ee4078afbece3c6"},
};

}  // namespace

TEST_CASE("handshake: published Noise_NNpsk0_25519_*_SHA256 vectors") {
  for (const Vector& vector : kVectors) {
    CAPTURE(static_cast<int>(vector.suite));
    Pair pair(vector.suite);
    const Bytes first = pair.initiator.write_first(as_bytes("Ludwig von Mises"));
    CHECK(to_hex(first) == vector.first);
    auto heard = pair.responder.read_first(first);
    REQUIRE(heard);
    CHECK(as_text(*heard) == "Ludwig von Mises");
    const auto answer = pair.responder.write_second(as_bytes("Murray Rothbard"));
    CHECK(to_hex(answer.message) == vector.second);
    auto finished = pair.initiator.read_second(answer.message);
    REQUIRE(finished);
    CHECK(as_text(finished->payload) == "Murray Rothbard");

    CHECK(to_hex(finished->keys.send.key) == vector.initiator_key);
    CHECK(to_hex(finished->keys.send.iv) == vector.initiator_iv);
    CHECK(to_hex(finished->keys.receive.key) == vector.responder_key);
    CHECK(to_hex(finished->keys.receive.iv) == vector.responder_iv);
    CHECK(finished->keys.send.suite == vector.suite);
    CHECK(same(finished->keys.send, answer.keys.receive));
    CHECK(same(finished->keys.receive, answer.keys.send));
  }
}

TEST_CASE("handshake: packets pass both ways under the keys it made") {
  for (const Vector& vector : kVectors) {
    Pair pair(vector.suite);
    REQUIRE(pair.responder.read_first(pair.initiator.write_first({})));
    const auto answer = pair.responder.write_second({});
    CHECK(answer.message.size() == kHandshakeOverhead);
    auto finished = pair.initiator.read_second(answer.message);
    REQUIRE(finished);
    CHECK(finished->payload.empty());
    Sealer sealer(finished->keys.send);
    Opener opener(answer.keys.receive);
    Opener wrong_direction(answer.keys.send);
    Bytes packet(4 + kTagBytes);
    sealer.seal(1, {}, as_bytes("lava"), packet);
    Bytes copy = packet;
    CHECK(opener.open(1, {}, packet));
    CHECK_FALSE(wrong_direction.open(1, {}, copy));
  }
}

TEST_CASE("handshake: any changed bit of the first message is refused, the true one still heard") {
  Pair pair(Suite::aes128_gcm);
  const Bytes first = pair.initiator.write_first(as_bytes("hello"));
  for (std::size_t bit = 0; bit < first.size() * 8; ++bit) {
    auto heard = pair.responder.read_first(flipped(first, bit));
    REQUIRE_FALSE(heard);
    REQUIRE(heard.error().code == Code::wrong_key);
  }
  for (std::size_t size = 0; size < kHandshakeOverhead; ++size)
    REQUIRE(pair.responder.read_first(ByteSpan(first).first(size)).error().code ==
            Code::malformed);
  CHECK(pair.responder.read_first(Bytes(65536)).error().code == Code::malformed);
  auto heard = pair.responder.read_first(first);
  REQUIRE(heard);
  CHECK(as_text(*heard) == "hello");
  CHECK_FALSE(pair.responder.read_first(first));  // only once
}

TEST_CASE("handshake: a forged answer does not end the handshake") {
  Pair pair(Suite::chacha20_poly1305);
  REQUIRE(pair.responder.read_first(pair.initiator.write_first({})));
  const auto answer = pair.responder.write_second(as_bytes("hi"));
  for (std::size_t bit = 0; bit < answer.message.size() * 8; bit += 3) {
    // X25519 ignores the top bit of a public key, the transcript hash does not.
    auto finished = pair.initiator.read_second(flipped(answer.message, bit));
    REQUIRE_FALSE(finished);
    REQUIRE(finished.error().code == Code::wrong_key);
  }
  CHECK(pair.initiator.read_second({}).error().code == Code::malformed);
  auto finished = pair.initiator.read_second(answer.message);
  REQUIRE(finished);
  CHECK(same(finished->keys.send, answer.keys.receive));
  CHECK_FALSE(pair.initiator.read_second(answer.message));  // and only once
}

TEST_CASE("handshake: another psk, prologue or suite is a wrong key") {
  Pair pair(Suite::aes128_gcm);
  const Bytes first = pair.initiator.write_first({});
  GivenRandom random(kResponderKey);
  Responder other_psk(Suite::aes128_gcm, secret_of(kResponderKey), as_bytes("John Galt"), random);
  CHECK(other_psk.read_first(first).error().code == Code::wrong_key);
  Responder other_prologue(Suite::aes128_gcm, test_psk(), as_bytes("John Gal"), random);
  CHECK(other_prologue.read_first(first).error().code == Code::wrong_key);
  Responder other_suite(Suite::chacha20_poly1305, test_psk(), as_bytes("John Galt"), random);
  CHECK(other_suite.read_first(first).error().code == Code::wrong_key);
}

TEST_CASE("handshake: an answer to another first message is refused") {
  GivenRandom random(std::string(kResponderKey) + std::string(kInitiatorKey) +
                     "5a8d5d1c2f0b7e63a1c4d9e8f7b6a59483726150f1e2d3c4b5a6978877665544");
  Initiator first(Suite::aes128_gcm, test_psk(), {}, random);
  Initiator second(Suite::aes128_gcm, test_psk(), {}, random);
  Responder responder(Suite::aes128_gcm, test_psk(), {}, random);
  const Bytes first_message = first.write_first({});
  CHECK(first_message != second.write_first({}));
  REQUIRE(responder.read_first(first_message));
  const auto answer = responder.write_second({});
  CHECK(second.read_second(answer.message).error().code == Code::wrong_key);
  CHECK(first.read_second(answer.message));
}

TEST_CASE("handshake: new ephemeral keys make new session keys") {
  Pair one(Suite::aes128_gcm);
  REQUIRE(one.responder.read_first(one.initiator.write_first({})));
  const auto one_answer = one.responder.write_second({});
  GivenRandom random("0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20");
  Pair two(Suite::aes128_gcm);
  Responder other(Suite::aes128_gcm, test_psk(), as_bytes("John Galt"), random);
  REQUIRE(other.read_first(two.initiator.write_first({})));
  const auto two_answer = other.write_second({});
  CHECK_FALSE(same(one_answer.keys.send, two_answer.keys.send));
  CHECK_FALSE(same(one_answer.keys.receive, two_answer.keys.receive));
}

TEST_CASE("handshake: points of low order are refused from a peer that knows the psk") {
  // First and second messages with an empty payload, well sealed under the psk, whose ephemeral
  // key makes every X25519 all zero: 0, 1, a point of order 8, and p for 0. Computed elsewhere.
  struct {
    const char* first;
    const char* second;
  } const messages[] = {
    {"0000000000000000000000000000000000000000000000000000000000000000"
     "87533faadd4c6b896555a22f374e4c23",
     "0000000000000000000000000000000000000000000000000000000000000000"
     "621fd4cd24029f1449b87c809bfa5975"},
    {"0100000000000000000000000000000000000000000000000000000000000000"
     "77f80ad83fc03b96b1933e97ec820b23",
     "0100000000000000000000000000000000000000000000000000000000000000"
     "f892783f43f1f9789a750b9f0407025c"},
    {"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"
     "3807b6deb953d6393679626514f9177f",
     "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"
     "3dab70e56d0bae4c3aa36efafe5983a3"},
    {"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"
     "40d9de094eab797b7fa392a9dbcc8f1c",
     "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"
     "f8ce3cf788a513c2e68c99b97130b5d2"}};
  Pair pair(Suite::aes128_gcm);
  const Bytes first = pair.initiator.write_first({});
  for (const auto& message : messages) {
    CAPTURE(message.first);
    CHECK(pair.responder.read_first(hex(message.first)).error().code == Code::wrong_key);
    CHECK(pair.initiator.read_second(hex(message.second)).error().code == Code::wrong_key);
  }
  REQUIRE(pair.responder.read_first(first));
  CHECK(pair.initiator.read_second(pair.responder.write_second({}).message));
}
