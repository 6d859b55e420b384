// The lava map and its commands as bytes: round trips, golden bytes, the bound of 128 KiB, and what
// is refused.
#include <doctest/doctest.h>

#include "libmagma/wire/describe.h"
#include "libmagma/wire/lava_map_codec.h"
#include "tests/lib/golden_file.h"
#include "tests/lib/lava_ring.h"
#include "tests/lib/sample_message.h"
#include "tests/lib/sim_random.h"

using namespace magma;
using namespace magma::ring;
using namespace magma::test;

namespace {

test::GoldenFolder& golden() {
  static test::GoldenFolder folder("golden_map");
  return folder;
}

// Three volcanoes, one of them away, a voter and a learner, fenced sessions.
LavaMap small_ring() {
  LavaRing ring;
  const VolcanoId wallace = ring.found(2, named("wallace", 1));
  const VolcanoId gromit = ring.join(named("gromit", 2), wallace);
  Profile witness = named("shaun", 3);
  witness.roles = kWitness;
  witness.flare.clear();
  ring.add(witness);
  ring.must(
      SetVoters{.membership = ring.map.membership, .voters = {wallace}, .learners = {gromit}});
  ring.must(FenceSession{SessionId(77)});
  ring.must(FenceSession{SessionId(5)});
  ring.down(gromit);
  return ring.map;
}

void check_round_trip(const LavaMap& map) {
  const Bytes bytes = wire::encode_map(map);
  CHECK(bytes.size() == encoded_bytes(map));
  CHECK(encoded_bytes_at_most(map) >= bytes.size());
  auto again = wire::decode_map(bytes);
  REQUIRE_MESSAGE(again.has_value(), describe(again.error()));
  CHECK(*again == map);
  CHECK(wire::encode_map(*again) == bytes);
}

}  // namespace

TEST_CASE("lava map: the encoding of a small ring") {
  const LavaMap map = small_ring();
  const Bytes stored =
      golden().check("map", wire::describe("map", to_form(map)), wire::encode_map(map));
  auto decoded = wire::decode_map(stored);
  REQUIRE(decoded.has_value());
  CHECK(*decoded == map);
  for (std::size_t length = 0; length < stored.size(); ++length)
    CHECK_FALSE(wire::decode_map(ByteSpan(stored).first(length)).has_value());
  Bytes longer = stored;
  longer.push_back(0);
  CHECK_FALSE(wire::decode_map(longer).has_value());
  check_round_trip(LavaMap{});
}

TEST_CASE("lava map: one of the first format is read, and shares no slots") {
  LavaRing ring;
  ring.found(2);
  ring.add(profile(2));
  Bytes first = wire::encode_map(ring.map);
  REQUIRE(first[0] == kMapFormat);
  const std::size_t at = 38;  // of shares_slots
  REQUIRE(first[at] == 0);
  first[0] = 1;
  first.erase(first.begin() + at);
  auto map = wire::decode_map(first);
  REQUIRE(map.has_value());
  CHECK(*map == ring.map);
  for (std::size_t length = 0; length < first.size(); ++length)
    CHECK_FALSE(wire::decode_map(ByteSpan(first).first(length)).has_value());
}

#define MAGMA_MAP_COMMAND(name, number, Struct)                                                \
  TEST_CASE("lava map: the encoding of " #name) {                                              \
    const Command command(sample<Struct>());                                                   \
    const Bytes stored =                                                                       \
        golden().check(#name, wire::describe_command(command), wire::encode_command(command)); \
    auto decoded = wire::decode_command(stored);                                               \
    REQUIRE(decoded.has_value());                                                              \
    CHECK(std::holds_alternative<Struct>(*decoded));                                           \
    CHECK(name_of(*decoded) == #name);                                                         \
    CHECK(wire::encode_command(*decoded) == stored);                                           \
    CHECK(stored[0] == number);                                                                \
    for (std::size_t length = 0; length < stored.size(); ++length)                             \
      CHECK_FALSE(wire::decode_command(ByteSpan(stored).first(length)).has_value());           \
  }
#include "libmagma/ring/map_commands.def"
#undef MAGMA_MAP_COMMAND

TEST_CASE("lava map: no golden file without a command") {
  if (golden().checked() == 1 + std::variant_size_v<Command> - 1) golden().check_nothing_left();
}

TEST_CASE("lava map: below 128 KiB with 300 volcanoes, when nothing is alike any more") {
  LavaRing ring;
  ring.found(3);
  for (unsigned n = 2; n <= 300; ++n) ring.add(profile(n));
  LavaMap map = ring.map;
  // Each volcano has 13 or 14 slots in runs of one; one replica in four moves; no epoch is alike.
  SimRandom random(1);
  for (unsigned n = 0; n < kSlotCount; ++n) {
    SlotEntry& e = map.slots[n];
    auto id = [&](unsigned step) {
      return VolcanoId(static_cast<std::uint16_t>(1 + (n + step) % 300));
    };
    e.epoch = Epoch(static_cast<std::uint32_t>(random.below(kSmallCountMax) | 1));
    e.owner = e.last_serving = id(0);
    e.replicas = ReplicaList();
    for (unsigned copy = 0; copy < 3; ++copy) e.replicas.add({.volcano = id(copy)});
    if (random.chance(0.25))
      e.replicas.add({.volcano = id(3 + static_cast<unsigned>(random.below(50))),
                      .state = ReplicaState::catching_up});
  }
  CHECK(check(map) == "");
  check_round_trip(map);
  CHECK(encoded_bytes(map) < kMapBytesMax);
  MESSAGE("300 volcanoes, 4096 runs of one, three copies: ", encoded_bytes(map), " bytes");

  SUBCASE("what would make it longer than that is refused; what a failure needs is not") {
    for (std::uint64_t n = 1; n <= 1000; ++n)
      map.fenced.push_back({.session = SessionId(n), .version = 1});
    for (unsigned n = 0; n < kSlotCount; ++n)  // all different: 4096 sets
      while (map.slots[n].replicas.size() < 5 && encoded_bytes(map) + 200 < kMapBytesMax) {
        const VolcanoId id(static_cast<std::uint16_t>(1 + (n * 7 + random.below(200)) % 300));
        if (!map.slots[n].replicas.has(id))
          map.slots[n].replicas.add({.volcano = id, .state = ReplicaState::catching_up});
        if (n % 64 != 0) break;
      }
    LavaRing full{map};
    unsigned taken = 0;
    while (taken < 100) {
      auto added = full.apply(AddVolcano{full.map.membership, profile(1000 + taken)});
      if (!added) {
        CHECK(added.error().code == Code::no_space);
        break;
      }
      ++taken;
    }
    CHECK(taken < 100);
    CHECK(encoded_bytes(full.map) <= kMapBytesMax);
    full.down(VolcanoId(1));
    check_round_trip(full.map);
  }
}

TEST_CASE("lava map: decoding refuses what is no map") {
  const MapForm good = to_form(small_ring());
  REQUIRE(from_form(good).has_value());
  struct Case {
    const char* what;
    void (*spoil)(MapForm&);
  };
  const Case cases[] = {
      {"another format", [](MapForm& f) { f.format = kMapFormat + 1; }},
      {"copies 0", [](MapForm& f) { f.copies = 0; }},
      {"copies 6", [](MapForm& f) { f.copies = 6; }},
      {"too few slots", [](MapForm& f) { --f.runs.back().slots; }},
      {"too many slots", [](MapForm& f) { ++f.runs.back().slots; }},
      {"a run without slots", [](MapForm& f) { f.runs.push_back({.slots = 0, .set = 0}); }},
      {"no runs", [](MapForm& f) { f.runs.clear(); }},
      {"a run of no set", [](MapForm& f) { f.runs.back().set = 99; }},
      {"too few epochs", [](MapForm& f) { --f.epochs.back().slots; }},
      {"too many epochs", [](MapForm& f) { f.epochs.push_back({.slots = 1, .epoch = Epoch(1)}); }},
      {"epoch 0", [](MapForm& f) { f.epochs.back().epoch = Epoch(0); }},
      {"a run cut in two",
       [](MapForm& f) {
         --f.runs.back().slots;
         f.runs.push_back({.slots = 1, .set = f.runs.back().set});
       }},
      {"epochs cut in two",
       [](MapForm& f) {
         --f.epochs.back().slots;
         f.epochs.push_back({.slots = 1, .epoch = f.epochs.back().epoch});
       }},
      {"a set that is not used", [](MapForm& f) { f.sets.push_back(f.sets[0]); }},
      {"no replica", [](MapForm& f) { f.sets[0].replicas.clear(); }},
      {"seven replicas", [](MapForm& f) { f.sets[0].replicas.resize(7); }},
      {"state of a slot", [](MapForm& f) { f.sets[0].state = static_cast<SlotState>(3); }},
      {"state of a replica",
       [](MapForm& f) { f.sets[0].replicas[1].state = static_cast<ReplicaState>(2); }},
      {"state of a volcano",
       [](MapForm& f) { f.volcanoes[0].state = static_cast<VolcanoState>(5); }},
      {"state it resumes",
       [](MapForm& f) { f.volcanoes[0].resumes = static_cast<VolcanoState>(200); }},
      {"a replica on volcano 0", [](MapForm& f) { f.sets[0].replicas[1].volcano = kNoVolcano; }},
      {"a replica on volcano 65535",
       [](MapForm& f) { f.sets[0].replicas[1].volcano = VolcanoId(65535); }},
      {"next_id 0", [](MapForm& f) { f.next_id = kNoVolcano; }},
      {"a nick with a slash", [](MapForm& f) { f.volcanoes[0].profile.nick = "a/b"; }},
      {"version 0 with something in it", [](MapForm& f) { f.version = 0; }},
  };
  for (const Case& c : cases) {
    CAPTURE(c.what);
    MapForm form = good;
    c.spoil(form);
    auto map = from_form(form);
    CHECK_FALSE(map.has_value());
    auto decoded = wire::decode_map(wire::encode(form));
    REQUIRE_FALSE(decoded.has_value());
    CHECK(decoded.error().code == (form.format == kMapFormat ? Code::malformed : Code::too_new));
  }
  CHECK(wire::decode_map(Bytes(kMapBytesHardMax + 1)).error().code == Code::malformed);
  CHECK(wire::decode_command(Bytes{}).error().code == Code::malformed);
  CHECK(wire::decode_command(Bytes{200}).error().code == Code::too_new);
  CHECK(wire::decode_command(Bytes{0}).error().code == Code::too_new);
}

TEST_CASE("lava map: one flipped or random byte never makes a map that breaks an invariant") {
  const Bytes good = wire::encode_map(small_ring());
  for (std::size_t at = 0; at < good.size(); ++at)
    for (unsigned flip : {0x01u, 0x80u, 0xffu}) {
      Bytes bytes = good;
      bytes[at] = static_cast<std::uint8_t>(bytes[at] ^ flip);
      if (auto map = wire::decode_map(bytes)) {
        CHECK(check(*map) == "");
        CHECK(wire::encode_map(*map) == bytes);
      }
    }
}
