// Keys typed at the console: what is taken for the network key, and how fast keys can be tried.
#include <doctest/doctest.h>

#include "magmad/console/key_gate.h"
#include "tests/lib/sim_clock.h"
#include "tests/lib/sim_executor.h"

using namespace magma;
using console::KeyGate;

namespace {

crypto::Secret secret_of(std::uint8_t byte) {
  std::array<std::uint8_t, 32> raw{};
  raw.fill(byte);
  return crypto::Secret(raw);
}

const crypto::Uuid kFilesystem = {1, 2, 3};

struct Gate {
  explicit Gate(crypto::Keyring keys) : gate(keys, kFilesystem, clock, executor) {}
  // The answer to a key, and how long it took.
  std::optional<bool> check(const std::string& key) {
    std::optional<bool> result;
    auto pending = gate.check(key, [&](Result<bool> answer) { result = answer.value_or(false); });
    executor.run_all();
    CHECK_FALSE(result.has_value());  // not before the time is over
    clock.advance(KeyGate::kCheckTime);
    gate.on_timer();
    return result;
  }
  test::SimClock clock;
  test::SimExecutor executor;
  KeyGate gate;
};

}  // namespace

TEST_CASE("console key: digits, a line of a key file, and nothing else of a key file network") {
  const crypto::Secret secret = secret_of(0x5a);
  const crypto::Keyring keys = crypto::keyring_from_network_secret(secret);
  const std::string digits = to_hex(secret.bytes());
  const auto is_key = [&](std::string_view text) {
    return console::is_network_key(text, secret, kFilesystem);
  };
  CHECK(is_key(digits));
  CHECK(is_key("  " + digits + "\t"));
  CHECK(is_key("magma-key-v1 network " + digits));
  CHECK_FALSE(is_key(to_hex(secret_of(0x5b).bytes())));
  CHECK_FALSE(is_key(digits.substr(2)));
  CHECK_FALSE(is_key("magma-key-v1 client " + digits));
  CHECK_FALSE(is_key(to_hex(keys.client.bytes())));
  CHECK_FALSE(is_key(to_hex(keys.ring->bytes())));
  CHECK_FALSE(is_key(""));
}

TEST_CASE("console key: the pass-phrase of this filesystem") {
  auto secret = crypto::secret_from_passphrase("correct horse", kFilesystem);
  REQUIRE(secret.has_value());
  CHECK(console::is_network_key("correct horse", *secret, kFilesystem));
  CHECK_FALSE(console::is_network_key("correct horsf", *secret, kFilesystem));
  CHECK_FALSE(console::is_network_key("correct horse", *secret, crypto::Uuid{9}));
}

TEST_CASE("console key gate: right and wrong take the same time, one after the other") {
  const crypto::Secret secret = secret_of(7);
  Gate gate(crypto::keyring_from_network_secret(secret));
  CHECK(gate.check(to_hex(secret.bytes())) == true);
  CHECK(gate.check(to_hex(secret_of(8).bytes())) == false);
}

TEST_CASE("console key gate: many keys at once are checked one a second") {
  const crypto::Secret secret = secret_of(7);
  Gate gate(crypto::keyring_from_network_secret(secret));
  std::vector<console::PendingPtr> pending;
  unsigned answered = 0;
  for (int i = 0; i < 5; ++i)
    pending.push_back(gate.gate.check(to_hex(secret_of(8).bytes()),
                                      [&](Result<bool> answer) { answered += answer == false; }));
  for (unsigned second = 1; second <= 5; ++second) {
    gate.executor.run_all();
    gate.clock.advance(KeyGate::kCheckTime);
    gate.gate.on_timer();
    CHECK(answered == second);
  }
  CHECK(gate.gate.waiting() == 0);
}

TEST_CASE("console key gate: giving up tells nobody and lets no more keys be tried") {
  const crypto::Secret secret = secret_of(7);
  Gate gate(crypto::keyring_from_network_secret(secret));
  bool is_told = false;
  auto given_up = gate.gate.check("one key is enough", [&](auto) { is_told = true; });
  std::optional<bool> second;
  auto waits = gate.gate.check(to_hex(secret.bytes()),
                               [&](Result<bool> answer) { second = answer.value_or(false); });
  auto dropped = gate.gate.check("never looked at", [&](auto) { is_told = true; });
  given_up.reset();
  dropped.reset();
  CHECK(gate.gate.waiting() == 2);
  gate.executor.run_all();
  gate.gate.on_timer();
  CHECK(gate.gate.waiting() == 2);  // the time of the one given up is not over
  gate.clock.advance(KeyGate::kCheckTime);
  gate.gate.on_timer();
  gate.executor.run_all();
  CHECK_FALSE(second.has_value());
  gate.clock.advance(KeyGate::kCheckTime);
  gate.gate.on_timer();
  CHECK(second == true);
  CHECK_FALSE(is_told);
}

TEST_CASE("console key gate: without the network key nobody logs in") {
  Gate gate(crypto::keyring_from_client_secret(secret_of(1)));
  std::optional<Code> code;
  auto pending = gate.gate.check("whatever it is", [&](Result<bool> answer) {
    REQUIRE_FALSE(answer.has_value());
    code = answer.error().code;
  });
  CHECK(code == Code::unsupported);
}
