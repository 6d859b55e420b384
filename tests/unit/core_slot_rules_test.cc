// Where slots move to: that a ring gets to where it should be, whoever joins, by what its volcanoes
// say, and that what they said before a change is void after it.
#include <doctest/doctest.h>

#include <map>
#include <set>

#include "magmad/core/slot_rules.h"
#include "tests/lib/lava_ring.h"

using namespace magma;
using namespace magma::core;
using namespace magma::test;
using wire::MirrorFact;
using wire::MirrorState;

namespace {

constexpr VolcanoId kOne{1}, kTwo{2}, kThree{3};

wire::SlotsFact about(const LavaMap& map, const SlotMask& slots) {
  return {runs_of(slots), digest_of_epochs(map, slots)};
}

// Volcanoes that do at once what the map says.
struct Moving : LavaRing {
  std::map<VolcanoId, wire::VolcanoFacts> facts{};
  std::set<VolcanoId> silent{};
  std::size_t commands = 0;

  explicit Moving(std::uint8_t copies = 2) { found(copies); }

  std::optional<Command> next() const {
    FactsOf told;
    for (const auto& [id, said] : facts) told[id] = &said;
    return next_slot_step(map, told, [&](VolcanoId id) { return !silent.contains(id); });
  }
  void speak() {
    facts.clear();
    for (const Volcano& volcano : map.volcanoes)
      if (volcano.is_alive() && !silent.contains(volcano.id))
        facts[volcano.id] = said_by(volcano.id);
  }
  wire::VolcanoFacts said_by(VolcanoId id) const {
    wire::VolcanoFacts said;
    said.membership = map.membership;
    std::map<VolcanoId, SlotMask> mirrors;
    SlotMask serving;
    for (unsigned n = 0; n < kSlotCount; ++n) {
      if (map.slots[n].primary() != id) continue;
      serving.set(n);
      for (const Replica& replica : map.slots[n].replicas)
        if (replica.volcano != id) mirrors[replica.volcano].set(n);
    }
    for (const auto& [mirror, slots] : mirrors)
      said.mirrors.push_back({.volcano = mirror,
                              .state = silent.contains(mirror) ? MirrorState::away
                                                               : MirrorState::in_sync,
                              .about = about(map, slots)});
    said.serving = about(map, serving);
    return said;
  }
  // Until nothing is to be done any more.
  void settle_all() {
    for (speak(); auto command = next(); speak()) {
      must(*command);
      REQUIRE(++commands < 2000);
    }
  }
  unsigned owned_by(VolcanoId id) const {
    return static_cast<unsigned>(std::count_if(map.slots.begin(), map.slots.end(),
                                               [&](const SlotEntry& e) { return e.owner == id; }));
  }
};

}  // namespace

TEST_SUITE("slot rules") {
TEST_CASE("volcanoes join one after the other: each gets its share, and all is copied") {
  for (std::uint8_t copies = 1; copies <= 3; ++copies) {
    CAPTURE(static_cast<unsigned>(copies));
    Moving ring(copies);
    for (unsigned n = 2; n <= 8; ++n) {
      const VolcanoId id = ring.add(profile(n));
      ring.settle_all();
      CHECK(ring.map.find(id)->state == VolcanoState::up);
      CHECK(is_settled(ring.map));
      const unsigned fair = kSlotCount / n;
      CHECK(ring.owned_by(id) >= fair / 2);
      CHECK(ring.owned_by(id) <= fair * 2);
      for (unsigned slot = 0; slot < kSlotCount; ++slot) {
        const SlotEntry& entry = ring.entry(slot);
        REQUIRE(entry.primary() == entry.owner);
        REQUIRE(entry.last_serving == entry.owner);
        REQUIRE(entry.replicas.in_sync() == std::min<std::size_t>(copies, n));
        REQUIRE(entry.replicas.size() == entry.replicas.in_sync());
      }
    }
    MESSAGE("copies ", static_cast<unsigned>(copies), ": ", ring.commands, " commands");
  }
}

TEST_CASE("several that come at once are taken in one after the other") {
  Moving ring;
  for (unsigned n = 2; n <= 5; ++n) ring.add(profile(n));
  ring.settle_all();
  for (const Volcano& volcano : ring.map.volcanoes) {
    CHECK(volcano.state == VolcanoState::up);
    CHECK(ring.owned_by(volcano.id) > kSlotCount / 10);
  }
}

TEST_CASE("a newcomer that is not there gets no share, and whoever comes after it does") {
  Moving ring;
  const VolcanoId away = ring.add(profile(2));
  ring.silent.insert(away);
  ring.settle_all();
  CHECK(ring.owned_by(away) == 0);
  const VolcanoId id = ring.add(profile(3));
  ring.settle_all();
  CHECK(ring.owned_by(id) > 0);
  CHECK(ring.map.find(id)->state == VolcanoState::up);
  ring.silent.clear();
  ring.settle_all();
  CHECK(ring.map.find(away)->state == VolcanoState::up);
}

TEST_CASE("what was said before a change of one of the slots is void") {
  Moving ring;
  ring.add(profile(2));
  ring.speak();
  while (!ring.entry(0).replicas.has(kTwo)) {
    ring.must(*ring.next());
    ring.speak();
  }
  // All slots that are copied now, as one stream.
  const auto before = ring.facts;
  auto next = ring.next();
  REQUIRE((next && std::get_if<ReplicaInSync>(&*next) != nullptr));
  unsigned last = 0;
  while (last + 1 < kSlotCount && ring.entry(last + 1).replicas.has(kTwo)) ++last;
  ring.must(DropReplica{{ring.at(last, last), kTwo}});
  ring.facts = before;
  next = ring.next();
  CHECK((!next || std::get_if<ReplicaInSync>(&*next) == nullptr));
}

TEST_CASE("a mirror that its primary waits for in vain is behind, or dropped") {
  Moving ring;
  ring.add(profile(2));
  ring.settle_all();
  const auto say = [&](VolcanoId primary, VolcanoId mirror, MirrorState state) {
    ring.speak();
    for (MirrorFact& fact : ring.facts[primary].mirrors)
      if (fact.volcano == mirror) fact.state = state;
    return ring.next();
  };
  auto command = say(kOne, kTwo, MirrorState::released);
  REQUIRE((command && std::get_if<ReplicaBehind>(&*command) != nullptr));
  ring.must(*command);
  while ((command = say(kOne, kTwo, MirrorState::released)) &&
         std::get_if<ReplicaBehind>(&*command) != nullptr)
    ring.must(*command);
  REQUIRE(command);
  CHECK(std::get_if<DropReplica>(&*command) != nullptr);
  CHECK_FALSE(say(kOne, kTwo, MirrorState::away).has_value());
  ring.settle_all();
  CHECK(is_settled(ring.map));
}

TEST_CASE("who is not the primary, or unsound, has no say") {
  Moving ring;
  ring.add(profile(2));
  ring.add(profile(3));
  ring.speak();
  while (!ring.entry(0).replicas.has(kTwo)) {
    ring.must(*ring.next());
    ring.speak();
  }
  ring.facts.clear();
  SlotMask slots;
  slots.set(0);
  ring.facts[kThree].mirrors = {
      {.volcano = kTwo, .state = MirrorState::in_sync, .about = about(ring.map, slots)}};
  ring.facts[kThree].serving = about(ring.map, slots);
  ring.facts[kOne].mirrors = {
      {.volcano = kOne, .state = MirrorState::released, .about = about(ring.map, slots)},
      {.volcano = kTwo,
       .state = MirrorState::in_sync,
       .about = {{{slot(9), slot(3)}}, digest_of_epochs(ring.map, {})}}};
  const auto next = ring.next();
  CHECK((!next || std::get_if<AddReplica>(&*next) != nullptr));
}
}

TEST_CASE("after a loss: who takes the slots over, or is waited for") {
  LavaRing ring;
  ring.found();
  ring.add(profile(2));
  ring.add_replicas(0, 3, kTwo);
  HeirState two;
  const auto next = [&] {
    return next_after_loss(ring.map, kOne, [&](VolcanoId) { return two; });
  };
  SUBCASE("one that is there and has everything") {
    two.is_there = true;
    CHECK_FALSE(next().before);
    CHECK_FALSE(next().must_wait);
    ring.start(kOne, true);
    CHECK(ring.entry(0).primary() == kTwo);
    CHECK(ring.entry(4).primary() == kOne);
  }
  SUBCASE("not one that has lost something, too") {
    two.has_lost = true;
    const AfterLoss first = next();
    REQUIRE(first.before);
    const auto* behind = std::get_if<ReplicaBehind>(&*first.before);
    REQUIRE(behind != nullptr);
    CHECK(behind->volcano == kTwo);
    CHECK(behind->slots.size() == 4);
    ring.must(*first.before);
    CHECK_FALSE(next().before);
    CHECK_FALSE(next().must_wait);
    ring.start(kOne, true);
    CHECK(ring.entry(0).primary() == kOne);
  }
  SUBCASE("one that is silent may have everything: the slots are its until that is known") {
    const AfterLoss first = next();
    REQUIRE(first.before);
    CHECK(std::get_if<VolcanoDown>(&*first.before) != nullptr);
    ring.must(*first.before);
    CHECK(ring.entry(0).primary() == kTwo);
    CHECK_FALSE(next().before);
    CHECK(next().must_wait);
    SUBCASE("it comes, and has") {
      two.is_there = true;
      CHECK_FALSE(next().must_wait);
      ring.start(kOne, true);
      CHECK(ring.entry(0).primary() == kTwo);
    }
    SUBCASE("it comes, and has lost something: it gives them back") {
      ring.start(kTwo, true);
      CHECK(ring.entry(0).primary() == kOne);
      CHECK_FALSE(next().must_wait);
      ring.start(kOne, true);
      CHECK(ring.entry(0).state == SlotState::serving);
    }
    SUBCASE("it is called down") {
      ring.down(kTwo);
      CHECK_FALSE(next().must_wait);
    }
  }
}
