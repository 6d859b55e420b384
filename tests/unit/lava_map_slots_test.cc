// The commands about replicas, and what becomes of slots when volcanoes go and come.
#include <doctest/doctest.h>

#include "tests/lib/lava_ring.h"

using namespace magma;
using namespace magma::ring;
using namespace magma::test;

namespace {

constexpr VolcanoId kA{1}, kB{2}, kC{3};
constexpr auto kInSync = ReplicaState::in_sync;
constexpr auto kCatchingUp = ReplicaState::catching_up;

// Three volcanoes; A has all slots, B is its backup, C has nothing.
LavaRing pair() {
  LavaRing ring;
  ring.found();
  ring.add(profile(2));
  ring.add(profile(3));
  ring.add_replicas(0, kSlotCount - 1, kB);
  return ring;
}

ReplicaList list(std::initializer_list<Replica> replicas) {
  ReplicaList result;
  for (const Replica& r : replicas) result.add(r);
  return result;
}

}  // namespace

TEST_CASE("lava map: a slot moves by add, sync, promote, drop") {
  LavaRing ring = pair();
  auto epoch = [&] { return ring.entry(7).epoch.value; };
  const std::uint32_t first = epoch();
  ring.must(AddReplica{{ring.at(7, 8), kC}});
  CHECK(ring.entry(7).replicas == list({{kA}, {kB}, {kC, kCatchingUp}}));
  CHECK(epoch() == first + 1);
  ring.must(ReplicaInSync{{ring.at(7, 8), kC}});
  CHECK(ring.entry(7).replicas == list({{kA}, {kB}, {kC}}));
  CHECK(epoch() == first + 1);  // nobody has to do anything else than before
  ring.must(Promote{{ring.at(7, 8), kC}});
  CHECK(ring.entry(7).replicas == list({{kC}, {kA}, {kB}}));
  CHECK(epoch() == first + 2);
  CHECK(ring.entry(7).last_serving == kA);
  ring.refused(Code::busy, DropReplica{{ring.at(7, 8), kA}});  // C does not serve yet
  ring.must(Serving{{ring.at(7, 8), kC}});
  CHECK(ring.entry(7).last_serving == kC);
  CHECK(epoch() == first + 2);
  ring.must(DropReplica{{ring.at(7, 8), kA}});
  CHECK(ring.entry(7).replicas == list({{kC}, {kB}}));
  CHECK(epoch() == first + 3);
  CHECK(ring.entry(6).replicas == list({{kA}, {kB}}));
  CHECK(slices_of(ring.map, kC) == std::vector<Slice>{{slot(7), slot(8)}});
  CHECK(slices_of(ring.map, kA) == std::vector<Slice>{{slot(0), slot(6)}, {slot(9), slot(4095)}});
}

TEST_CASE("lava map: replica commands that are refused") {
  LavaRing ring = pair();
  const auto stale = ring.at(5, 5);
  ring.must(AddReplica{{ring.at(5, 5), kC}});
  auto now = [&](unsigned n) { return ring.at(n, n); };
  Profile witness = profile(9);
  witness.roles = kWitness;
  const VolcanoId shaun = ring.add(witness);

  const std::string detail = ring.refused(Code::wrong_epoch, ReplicaInSync{{stale, kC}});
  CHECK(detail.find("slot 5") != detail.npos);
  for (auto command : {Command(AddReplica{{stale, kC}}), Command(ReplicaBehind{{stale, kB}}),
                       Command(Promote{{stale, kB}}), Command(DropReplica{{stale, kB}}),
                       Command(Serving{{stale, kA}})})
    ring.refused(Code::wrong_epoch, command);

  for (auto command :
       {Command(AddReplica{{{}, kC}}), Command(Serving{{{}, kA}}), Command(AcceptLoss{1, {}, kA}),
        Command(Promote{{{{slot(4096), Epoch(1)}}, kB}}),
        Command(AddReplica{{{ring.at(6, 6)[0], ring.at(6, 6)[0]}, kC}}),
        Command(AddReplica{{{ring.at(7, 7)[0], ring.at(6, 6)[0]}, kC}}),
        Command(AddReplica{{now(6), shaun}})})
    ring.refused(Code::invalid, command);

  for (auto command : {Command(AddReplica{{now(6), VolcanoId(99)}}),
                       Command(ReplicaInSync{{now(6), kC}}), Command(ReplicaBehind{{now(6), kC}}),
                       Command(Promote{{now(6), kC}}), Command(DropReplica{{now(6), kC}})})
    ring.refused(Code::not_found, command);

  for (auto command : {Command(AddReplica{{now(6), kB}}), Command(ReplicaInSync{{now(6), kB}}),
                       Command(ReplicaBehind{{now(5), kC}}), Command(Promote{{now(6), kA}})})
    ring.refused(Code::exists, command);

  for (auto command : {Command(Promote{{now(5), kC}}),        // not in sync
                       Command(DropReplica{{now(6), kA}}),    // the primary
                       Command(ReplicaBehind{{now(6), kA}}),  // the primary
                       Command(Serving{{now(6), kB}}),        // not the primary
                       Command(AcceptLoss{1, now(6), kB})})   // the slot serves
    ring.refused(Code::busy, command);
  ring.refused(Code::wrong_epoch, AcceptLoss{2, now(6), kB});

  // All or none: the last of these slots is refused.
  ring.refused(Code::exists, AddReplica{{ring.at(0, 5), kC}});
  CHECK(ring.entry(0).replicas == list({{kA}, {kB}}));

  // As many as there can be.
  for (unsigned n = 4; ring.entry(6).replicas.size() < kReplicasMax; ++n)
    ring.must(AddReplica{{now(6), ring.add(profile(n))}});
  ring.refused(Code::busy, AddReplica{{now(6), ring.add(profile(20))}});

  ring.down(kC);
  ring.refused(Code::busy, AddReplica{{now(8), kC}});
  ring.refused(Code::busy, ReplicaInSync{{now(5), kC}});
}

TEST_CASE("lava map: a backup that misses changes catches up again") {
  LavaRing ring = pair();
  const Epoch before = ring.entry(0).epoch;
  ring.must(ReplicaBehind{{ring.at(0, 0), kB}});
  CHECK(ring.entry(0).replicas == list({{kA}, {kB, kCatchingUp}}));
  CHECK(ring.entry(0).epoch > before);
  // Who said "in sync" before that is refused.
  ring.refused(Code::wrong_epoch, ReplicaInSync{{{{slot(0), before}}, kB}});
  ring.must(ReplicaInSync{{ring.at(0, 0), kB}});
}

TEST_CASE("lava map: the backup takes over from a primary that is away") {
  LavaRing ring = pair();
  ring.add_replicas(0, 0, kC);
  ring.must(AddReplica{{ring.at(1, 1), kC}});
  const Epoch before = ring.entry(0).epoch;
  ring.down(kA);
  CHECK(ring.entry(0).replicas == list({{kB}, {kC}, {kA, kCatchingUp}}));
  CHECK(ring.entry(0).epoch == Epoch(before.value + 1));
  CHECK(ring.entry(0).state == SlotState::serving);
  CHECK(ring.entry(0).owner == kA);
  CHECK(ring.entry(0).last_serving == kA);  // B has not yet said that it serves
  CHECK(ring.entry(1).replicas == list({{kB}, {kC, kCatchingUp}, {kA, kCatchingUp}}));

  ring.must(Serving{{ring.at(0, kSlotCount - 1), kB}});
  ring.start(kA);
  CHECK(ring.entry(0).replicas == list({{kB}, {kC}, {kA, kCatchingUp}}));
  CHECK(ring.entry(0).epoch == Epoch(before.value + 1));  // it orders nothing
  ring.must(ReplicaInSync{{ring.at(0, 0), kA}});
  ring.must(Promote{{ring.at(0, 0), kA}});
  CHECK(ring.entry(0).replicas == list({{kA}, {kB}, {kC}}));
}

TEST_CASE("lava map: a backup that is away is not waited for") {
  LavaRing ring = pair();
  const Epoch before = ring.entry(0).epoch;
  ring.down(kB);
  CHECK(ring.entry(0).replicas == list({{kA}, {kB, kCatchingUp}}));
  CHECK(ring.entry(0).epoch > before);
}

TEST_CASE("lava map: slots wait for the last that served") {
  LavaRing ring = pair();
  ring.down(kA);
  ring.must(Serving{{ring.at(0, kSlotCount - 1), kB}});
  ring.down(kB);
  CHECK(ring.entry(0).state == SlotState::waiting);
  CHECK(ring.entry(0).primary() == kB);
  SUBCASE("A has missed changes: it does not take over") {
    ring.start(kA);
    CHECK(ring.entry(0).state == SlotState::waiting);
    ring.refused(Code::busy, Promote{{ring.at(0, 0), kA}});
    ring.refused(Code::busy, ReplicaInSync{{ring.at(0, 0), kA}});
    SUBCASE("B comes back") {
      const Epoch before = ring.entry(0).epoch;
      ring.start(kB);
      CHECK(ring.entry(0).replicas == list({{kB}, {kA, kCatchingUp}}));
      CHECK(ring.entry(0).state == SlotState::serving);
      CHECK(ring.entry(0).epoch == Epoch(before.value + 1));
    }
    SUBCASE("B does not come back, and somebody accepts the loss") {
      ring.refused(Code::wrong_epoch, AcceptLoss{0, ring.at(0, 0), kA});
      ring.refused(Code::not_found, AcceptLoss{1, ring.at(0, 0), kC});
      ring.must(AcceptLoss{1, ring.at(0, kSlotCount - 1), kA});
      CHECK(ring.map.generation == 2);
      CHECK(ring.entry(0).replicas == list({{kA}, {kB, kCatchingUp}}));
      CHECK(ring.entry(0).state == SlotState::serving);
      CHECK(ring.entry(0).last_serving == kA);
      ring.start(kB);
      CHECK(ring.entry(0).replicas == list({{kA}, {kB, kCatchingUp}}));
    }
    SUBCASE("B is gone: its replica is what the slot waits for") {
      ring.must(PatienceOver{kB, 1});
      CHECK(ring.entry(0).replicas == list({{kB}, {kA, kCatchingUp}}));
      ring.start(kB);
      CHECK(ring.entry(0).state == SlotState::serving);
    }
  }
  SUBCASE("nobody who is away is promoted") {
    ring.refused(Code::busy, AcceptLoss{1, ring.at(0, 0), kA});
  }
}

TEST_CASE("lava map: a successor that never served gives way to who served before") {
  LavaRing ring = pair();
  ring.down(kA);  // B is primary, but has not said that it serves
  ring.down(kB);
  CHECK(ring.entry(0).primary() == kB);
  CHECK(ring.entry(0).last_serving == kA);
  SUBCASE("A is back first") {
    ring.start(kA);
    CHECK(ring.entry(0).replicas == list({{kA}, {kB, kCatchingUp}}));
    CHECK(ring.entry(0).state == SlotState::serving);
  }
  SUBCASE("A is back first, but lost something: B it must be") {
    ring.start(kA, true);
    CHECK(ring.entry(0).state == SlotState::waiting);
    ring.start(kB);
    CHECK(ring.entry(0).primary() == kB);
    CHECK(ring.entry(0).state == SlotState::serving);
  }
  SUBCASE("both lost something: A, whose disk has what B's need not have") {
    SUBCASE("A is back first") {
      ring.start(kA, true);
      ring.start(kB, true);
    }
    SUBCASE("B is back first") {
      ring.start(kB, true);
      CHECK(ring.entry(0).state == SlotState::waiting);
      ring.start(kA, true);
    }
    CHECK(ring.entry(0).replicas == list({{kA}, {kB, kCatchingUp}}));
    CHECK(ring.entry(0).state == SlotState::serving);
    CHECK(ring.entry(0).last_serving == kA);
  }
  SUBCASE("B is back first") {
    ring.start(kB);
    CHECK(ring.entry(0).replicas == list({{kB}, {kA, kCatchingUp}}));
  }
}

TEST_CASE("lava map: A is back before B, who never served, is away") {
  LavaRing ring = pair();
  ring.down(kA);
  ring.start(kA);
  CHECK(ring.entry(0).replicas == list({{kB}, {kA, kCatchingUp}}));
  ring.down(kB);
  CHECK(ring.entry(0).replicas == list({{kA}, {kB, kCatchingUp}}));
  CHECK(ring.entry(0).state == SlotState::serving);
}

TEST_CASE(
    "lava map: a start is a new epoch of what the volcano is primary of, and of nothing else") {
  LavaRing ring = pair();
  ring.add_replicas(0, 9, kC);
  ring.must(Promote{{ring.at(0, 9), kB}});
  const Epoch of_b = ring.entry(0).epoch, of_a = ring.entry(10).epoch;
  SUBCASE("nothing lost") {
    ring.start(kA);
    CHECK(ring.entry(10).epoch == Epoch(of_a.value + 1));
    CHECK(ring.entry(10).replicas == list({{kA}, {kB}}));
    CHECK(ring.entry(0).epoch == of_b);
    CHECK(ring.entry(0).replicas == list({{kB}, {kA}, {kC}}));
  }
  SUBCASE("something lost: another in sync is primary, and it catches up") {
    ring.start(kA, true);
    CHECK(ring.entry(10).replicas == list({{kB}, {kA, kCatchingUp}}));
    CHECK(ring.entry(10).last_serving == kB);
    CHECK(ring.entry(0).replicas == list({{kB}, {kA, kCatchingUp}, {kC}}));
    CHECK(ring.entry(0).epoch > of_b);
  }
  SUBCASE("something lost, and there is no other: it remains") {
    ring.down(kB);
    const Epoch before = ring.entry(10).epoch;
    ring.start(kA, true);
    CHECK(ring.entry(10).replicas == list({{kA}, {kB, kCatchingUp}}));
    CHECK(ring.entry(10).epoch > before);
    CHECK(ring.entry(0).primary() == kC);  // A was its primary since B went
  }
}

TEST_CASE("lava map: who is gone keeps no replicas but those that slots wait for") {
  LavaRing ring = pair();
  ring.must(Promote{{ring.at(0, 9), kB}});
  ring.must(Serving{{ring.at(0, 9), kB}});
  ring.must(DropReplica{{ring.at(0, 4), kA}});
  ring.down(kB);
  CHECK(ring.entry(0).state == SlotState::waiting);
  CHECK(ring.entry(5).primary() == kA);
  CHECK(ring.entry(5).last_serving == kB);
  ring.must(PatienceOver{kB, 1});
  CHECK(ring.entry(0).replicas == list({{kB}}));
  CHECK(ring.entry(5).replicas == list({{kA}}));
  CHECK(ring.entry(5).last_serving == kA);
  CHECK(ring.entry(10).replicas == list({{kA}}));
}

TEST_CASE("lava map: epochs do not begin again") {
  LavaRing ring = pair();
  ring.map.slots[0].epoch = Epoch(kSmallCountMax);
  ring.refused(Code::no_space, ReplicaBehind{{ring.at(0, 0), kB}});
}
