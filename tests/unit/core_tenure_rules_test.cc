// Who may serve a slot: by the map at most one, also while it changes hands.
#include <doctest/doctest.h>

#include <sstream>  // for texts of bitsets

#include "magmad/core/tenure_rules.h"
#include "tests/lib/lava_ring.h"

using namespace magma;
using namespace magma::core;
using namespace magma::test;

namespace {

constexpr VolcanoId kOne{1}, kTwo{2};
const Slot kSlot{7};

SlotMask only(Slot slot) {
  SlotMask slots;
  slots.set(slot.value);
  return slots;
}

// Two volcanoes; slot 7 is on both, of which the first serves.
struct Hands : LavaRing {
  Hands() {
    found(2);
    add(profile(2));
    give<AddReplica>();
    give<ReplicaInSync>();
  }
  template <class C>
  void give(VolcanoId to = kTwo) {
    C command;
    command.volcano = to;
    command.slots.push_back({kSlot, map.at(kSlot).epoch});
    must(command);
  }
  bool serves(VolcanoId id) const { return slots_to_serve(map, id)[kSlot.value]; }
};

}  // namespace

TEST_CASE("tenure rules: who is promoted serves when the one before has let go, and is told") {
  Hands ring;
  CHECK(slots_to_serve(ring.map, kOne).all());
  CHECK(slots_to_serve(ring.map, kTwo).none());
  ring.give<Promote>();
  CHECK_FALSE(ring.serves(kOne));
  CHECK_FALSE(ring.serves(kTwo));
  CHECK(slots_to_serve(ring.map, kOne).count() == ring::kSlotCount - 1);
  const Claims before = claims_of(ring.map, kTwo, {});
  CHECK(before.slots.none());
  REQUIRE(before.of.size() == 1);
  CHECK(before.of.at(kOne) == only(kSlot));
  CHECK(claims_of(ring.map, kOne, {}).of.empty());
  const Claims after = claims_of(ring.map, kTwo, only(kSlot));
  CHECK(after.slots == only(kSlot));
  CHECK(after.of.empty());
  CHECK_FALSE(after.is_after_loss);
  CHECK_FALSE(ring.serves(kTwo));
  ring.give<Serving>();
  CHECK(ring.serves(kTwo));
  CHECK_FALSE(ring.serves(kOne));
}

TEST_CASE("tenure rules: who gets a slot back before another has served it serves at once") {
  Hands ring;
  ring.give<Promote>();
  ring.give<Promote>(kOne);
  CHECK(ring.serves(kOne));
  CHECK_FALSE(ring.serves(kTwo));
}

TEST_CASE("tenure rules: of a volcano that is away nobody is asked, nor who believes") {
  Hands ring;
  ring.must(VolcanoDown{.volcano = kOne, .starts = ring.map.find(kOne)->starts});
  CHECK(slots_to_serve(ring.map, kOne).none());
  const Claims claims = claims_of(ring.map, kTwo, {});
  CHECK(claims.slots == only(kSlot));
  CHECK(claims.of.empty());
  CHECK(claims.is_after_loss);
  ring.give<Serving>();
  CHECK(ring.serves(kTwo));
  // Slots without another replica wait for it.
  ring.must(VolcanoStarted{.volcano = kOne, .starts = ring.map.find(kOne)->starts});
  CHECK(slots_to_serve(ring.map, kOne).count() == ring::kSlotCount - 1);
}

TEST_CASE("tenure rules: slots are a group if they stay together, wherever they come") {
  Hands ring;
  auto groups = groups_of(ring.map, kOne);
  CHECK(groups[0] == groups[4095]);
  CHECK(groups[0] != groups[kSlot.value]);  // it has a mirror
  ring.assign({{Slot(0), Slot(99), kTwo}});
  groups = groups_of(ring.map, kOne);
  CHECK(groups[0] == groups[99]);
  CHECK(groups[0] != groups[100]);  // it is to stay
  CHECK(groups[0] != groups[kSlot.value]);
  CHECK(groups_of(ring.map, kTwo)[0] == 0);
  ring.give<Promote>();
  CHECK(groups_of(ring.map, kOne)[kSlot.value] == 0);
  CHECK(groups_of(ring.map, kTwo)[kSlot.value] != 0);
}
