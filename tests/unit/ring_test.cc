// Keys, slots and slices: arithmetic of the keyspace and the vectors of the first Magma.
#include <doctest/doctest.h>

#include "libmagma/crypto/path_hash.h"
#include "libmagma/ring/key.h"
#include "libmagma/ring/slice.h"
#include "libmagma/ring/slot.h"

using namespace magma;
using namespace magma::ring;

namespace {
Key key(std::string_view hex) {
  auto parsed = Key::parse(hex);
  REQUIRE(parsed.has_value());
  return *parsed;
}
std::string zeros(std::size_t n) { return std::string(n, '0'); }
std::string fs(std::size_t n) { return std::string(n, 'f'); }
}  // namespace

TEST_CASE("key: arithmetic carries and stops at both ends of the keyspace") {
  CHECK(key(zeros(39) + "9").next().value().hex() == zeros(39) + "a");
  CHECK(key(zeros(39) + "f").next().value().hex() == zeros(38) + "10");
  CHECK(key("0" + fs(39)).next().value().hex() == "1" + zeros(39));
  CHECK(key("10" + zeros(38)).previous().value().hex() == "0" + fs(39));
  CHECK(key(zeros(39) + "1").previous().value() == Key::lowest());
  CHECK(Key::highest().hex() == fs(40));
  CHECK_FALSE(Key::highest().next().has_value());
  CHECK_FALSE(Key::lowest().previous().has_value());
  CHECK(Key::highest().previous().value().next().value() == Key::highest());
}

TEST_CASE("key: parse takes 40 hex digits and nothing else") {
  CHECK(key("42099B4AF021E53FD8FD4E056C2568D7C2E3FFA8").hex() ==
        "42099b4af021e53fd8fd4e056c2568d7c2e3ffa8");
  for (const std::string& bad : {std::string(), zeros(39), zeros(41), zeros(42), zeros(39) + "v"}) {
    CAPTURE(bad);
    CHECK_FALSE(Key::parse(bad).has_value());
  }
}

TEST_CASE("slot: the top 12 bits of a key; its first and last keys meet their neighbours'") {
  CHECK(key("fa907a688b2f49dcaeba275e49564e9cbb3d6040").slot() == Slot(0xfa9));
  CHECK(Key::lowest().slot() == Slot(0));
  CHECK(Key::highest().slot() == Slot(4095));
  for (unsigned n = 0; n < kSlotCount; ++n) {
    const Slot slot(static_cast<std::uint16_t>(n));
    REQUIRE(first_key(slot).slot() == slot);
    REQUIRE(last_key(slot).slot() == slot);
    if (n + 1 < kSlotCount)
      REQUIRE(last_key(slot).next().value() == first_key(Slot(static_cast<std::uint16_t>(n + 1))));
  }
  CHECK(first_key(Slot(0)) == Key::lowest());
  CHECK(last_key(Slot(4095)) == Key::highest());
}

TEST_CASE("slot: an inode number is its home slot and a counter of 52 bits") {
  const Ino ino(with_counter(Slot(0xabc), 0x123456789));
  CHECK(ino.value == 0xabc0000123456789ULL);
  CHECK(home_of(ino) == Slot(0xabc));
  CHECK(home_of(Ino(with_counter(Slot(4095), kCounterMask))) == Slot(4095));
  CHECK(home_of(Ino(kCounterMask)) == Slot(0));
  CHECK(coordinator_of(OpId(with_counter(Slot(7), 1))) == Slot(7));
  CHECK(home_of(Ino(with_counter(Slot(1), ~std::uint64_t{0}))) == Slot(1));  // never spills over
}

TEST_CASE("ring vectors: keys of paths and who holds them when gromit joins wallace") {
  const Key root = crypto::key_of_path("/");
  const Key dht = crypto::key_of_path("/.dht");
  const Key wallace = crypto::key_of_path("/.dht/wallace");
  const Key gromit = crypto::key_of_path("/.dht/gromit");
  const Key example = crypto::key_of_path("/example");
  CHECK(root.hex() == "42099b4af021e53fd8fd4e056c2568d7c2e3ffa8");
  CHECK(dht.hex() == "a1402b54c45a528a94d0ca3419b991030fbd130b");
  CHECK(wallace.hex() == "fa907a688b2f49dcaeba275e49564e9cbb3d6040");
  CHECK(gromit.hex() == "4cce50b6019a3ba0ed533030f34f6281757daa6a");
  CHECK(example.hex() == "81f762fd59d88768b06b8e9de56aef8a95962045");

  // The first Magma cut at single keys: gromit got everything above the key of /.dht/wallace.
  const Key start = wallace.next().value();
  CHECK(start.hex() == "fa907a688b2f49dcaeba275e49564e9cbb3d6041");
  CHECK(start.previous().value() == wallace);
  for (const Key& k : {root, dht, example}) CHECK(k < start);

  // Ours are whole slots: the slice after the slot of that key.
  const Slice lower{Slot(0), wallace.slot()};
  const Slice upper{Slot(static_cast<std::uint16_t>(wallace.slot().value + 1)), Slot(4095)};
  for (const Key& k : {root, dht, example, wallace}) {
    CHECK(lower.holds(k));
    CHECK_FALSE(upper.holds(k));
  }
  CHECK(lower.stop_key().next().value() == upper.start_key());
  CHECK(lower.slots() + upper.slots() == kSlotCount);
}

TEST_CASE("ring vectors: a split in the middle of the keyspace") {
  const Slice first{Slot(0), Slot(0x7ff)};
  const Slice second{Slot(0x800), Slot(0xfff)};
  CHECK(first.stop_key().hex() == "7" + fs(39));
  CHECK(second.start_key().hex() == "8" + zeros(39));
  for (std::string_view path : {"/", "/.dht/gromit"}) CHECK(first.holds(crypto::key_of_path(path)));
  for (std::string_view path : {"/example", "/.dht", "/.dht/wallace"})
    CHECK(second.holds(crypto::key_of_path(path)));
  CHECK(first.slots() == 2048);
  CHECK(Slice::whole().slots() == kSlotCount);
  CHECK(Slice::whole().start_key() == Key::lowest());
  CHECK(Slice::whole().stop_key() == Key::highest());
  CHECK_FALSE(first.holds(Slot(0x800)));
  CHECK(second.holds(Slot(0x800)));
}
