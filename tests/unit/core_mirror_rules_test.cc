// Who mirrors the founder's slots: each rule, and that a ring gets to what is wanted.
#include <doctest/doctest.h>

#include <set>

#include "libmagma/wire/lava_map_codec.h"
#include "magmad/core/mirror_rules.h"
#include "tests/lib/lava_ring.h"
#include "tests/lib/sim_random.h"

using namespace magma;
using namespace magma::core;
using namespace magma::test;
using wire::MirrorFact;
using wire::MirrorState;

namespace {

constexpr VolcanoId kOne{1}, kTwo{2}, kThree{3}, kFour{4};
constexpr unsigned kLast = kSlotCount - 1;

struct Mirrors : LavaRing {
  std::vector<MirrorFact> told{};
  std::set<VolcanoId> silent{};

  explicit Mirrors(unsigned volcanoes, std::uint8_t copies = 2) {
    found(copies);
    for (unsigned n = 2; n <= volcanoes; ++n) add(profile(n));
  }
  Epoch epoch() const { return map.slots[0].epoch; }
  std::optional<Command> step() const {
    return next_mirror_step(map, told, [&](VolcanoId id) { return !silent.contains(id); });
  }
  // The primary says that of it, in the map's epoch.
  void say(VolcanoId id, MirrorState state) {
    std::erase_if(told, [&](const MirrorFact& fact) { return fact.volcano == id; });
    told.push_back({.volcano = id, .state = state, .epoch = epoch()});
  }
  // The step as text, "add_replica 2"; what it is about is all slots.
  std::string next() const {
    const auto command = step();
    if (!command) return "";
    const auto [slots, volcano] = about(*command);
    CHECK(slots == kSlotCount);
    return std::string(name_of(*command)) + " " + std::to_string(volcano.value);
  }
  // As next(), and it is taken.
  std::string take() {
    const std::string text = next();
    if (auto command = step()) must(*command);
    return text;
  }
  std::optional<ReplicaState> state(VolcanoId id) const {
    const Replica* replica = map.slots[0].replicas.find(id);
    return replica != nullptr ? std::optional(replica->state) : std::nullopt;
  }

  static std::pair<std::size_t, VolcanoId> about(const Command& command) {
    return std::visit(
        [](const auto& c) -> std::pair<std::size_t, VolcanoId> {
          if constexpr (std::derived_from<std::decay_t<decltype(c)>, SlotsOfVolcano>)
            return {c.slots.size(), c.volcano};
          else
            return {};
        },
        command);
  }
};

}  // namespace

TEST_CASE("mirrors: of one volcano there is nothing to do") {
  CHECK(Mirrors(1).next().empty());
  CHECK_FALSE(next_mirror_step(LavaMap{}, {}, [](VolcanoId) { return true; }).has_value());
}

TEST_CASE("mirrors: the next volcano becomes a replica, and is in sync when the primary says so") {
  Mirrors ring(3);
  CHECK(ring.take() == "add_replica 2");
  CHECK(ring.next().empty());
  ring.say(kTwo, MirrorState::copying);
  CHECK(ring.next().empty());
  ring.say(kTwo, MirrorState::in_sync);
  CHECK(ring.take() == "replica_in_sync 2");
  CHECK(ring.next().empty());
}

TEST_CASE("mirrors: what was said in another epoch counts for nothing") {
  Mirrors ring(2);
  ring.take();
  ring.say(kTwo, MirrorState::in_sync);
  ring.told[0].epoch = Epoch(ring.epoch().value - 1);
  CHECK(ring.next().empty());
  ring.told[0].epoch = Epoch(ring.epoch().value + 1);
  CHECK(ring.next().empty());
  ring.say(kTwo, MirrorState::released);
  ring.start(kOne);  // a new epoch
  CHECK(ring.next().empty());
}

TEST_CASE("mirrors: one that the primary waits for in vain is behind; it may have begun to wait") {
  Mirrors ring(2);
  ring.take();
  ring.say(kTwo, MirrorState::in_sync);
  ring.take();
  const Epoch before = ring.epoch();
  ring.say(kTwo, MirrorState::released);
  CHECK(ring.take() == "replica_behind 2");
  CHECK(ring.epoch() > before);
  CHECK(ring.next().empty());  // said in the epoch before
  // It said in_sync and released before the map knew of either: only a higher epoch frees it.
  const Epoch behind = ring.epoch();
  ring.say(kTwo, MirrorState::released);
  CHECK(ring.take() == "drop_replica 2");
  CHECK(ring.epoch() > behind);
  CHECK(ring.take() == "add_replica 2");
}

TEST_CASE("mirrors: who is away is not taken in sync, keeps its place, and is not added") {
  Mirrors ring(3);
  ring.silent.insert(kTwo);
  CHECK(ring.next().empty());  // it will be called down; then the next one is wanted
  ring.silent.clear();
  ring.take();
  ring.say(kTwo, MirrorState::in_sync);
  ring.down(kTwo);
  CHECK(ring.epoch() == ring.told[0].epoch);  // it was not in sync, so nobody counts on it
  CHECK(ring.next().empty());
  ring.start(kTwo);
  CHECK(ring.take() == "replica_in_sync 2");
  // One in sync that goes away: the epoch rises, and frees the primary.
  const Epoch before = ring.epoch();
  ring.down(kTwo);
  CHECK(ring.epoch() > before);
  CHECK(ring.state(kTwo) == ReplicaState::catching_up);
  CHECK(ring.next().empty());
  // Gone for good, another one takes its place.
  ring.must(PatienceOver{.volcano = kTwo, .starts = ring.starts(kTwo)});
  CHECK(ring.take() == "add_replica 3");
}

TEST_CASE("mirrors: who is down or leaving, or a witness, is not wanted") {
  Mirrors ring(2);
  Profile witness = profile(3);
  witness.roles = kWitness;
  ring.add(witness);
  ring.add(profile(4));
  ring.down(kTwo);
  CHECK(ring.next() == "add_replica 4");
  ring.start(kTwo);
  CHECK(ring.next() == "add_replica 2");
  ring.must(SetLeaving{.membership = ring.map.membership, .volcano = kTwo, .is_leaving = true});
  CHECK(ring.next() == "add_replica 4");
}

TEST_CASE("mirrors: a volcano with a replica is preferred to one that is nearer") {
  Mirrors ring(3);
  ring.down(kTwo);
  CHECK(ring.take() == "add_replica 3");
  ring.start(kTwo);
  CHECK(ring.next().empty());
  ring.must(SetCopies{.membership = ring.map.membership, .copies = 3});
  CHECK(ring.take() == "add_replica 2");
}

TEST_CASE("mirrors: copies that are not wanted any more go, those behind first") {
  Mirrors ring(4, 4);
  while (!ring.take().empty()) {
  }
  for (VolcanoId id : {kTwo, kThree, kFour}) ring.say(id, MirrorState::in_sync);
  for (int i = 0; i < 3; ++i) CHECK(ring.take().starts_with("replica_in_sync"));
  ring.say(kTwo, MirrorState::released);
  ring.take();
  ring.must(SetCopies{.membership = ring.map.membership, .copies = 2});
  CHECK(ring.take() == "drop_replica 2");
  CHECK(ring.take() == "drop_replica 4");
  CHECK(ring.next().empty());
  CHECK(ring.state(kThree) == ReplicaState::in_sync);
}

TEST_CASE("mirrors: nothing while the primary is down, or slots are moved one by one") {
  Mirrors ring(2);
  ring.down(kOne);
  CHECK(ring.next().empty());
  ring.start(kOne);
  CHECK(ring.next() == "add_replica 2");
  ring.must(AddReplica{{ring.at(7, 7), kTwo}});
  CHECK(ring.next().empty());
}

TEST_CASE("mirrors: a command about all slots fits, also with the highest epochs") {
  Mirrors ring(2);
  for (SlotEntry& entry : ring.map.slots) entry.epoch = Epoch(kSmallCountMax - 1);
  const auto command = ring.step();
  REQUIRE(command.has_value());
  const Bytes bytes = wire::encode_command(*command);
  CHECK(bytes.size() <= wire::kCommandBytesMax / 2);
  CHECK(wire::decode_command(bytes).has_value());
  ring.must(*command);
}

TEST_CASE("mirrors: with an honest primary a ring gets to what is wanted, from anywhere") {
  SimRandom random(5);
  for (int run = 0; run < 30; ++run) {
    CAPTURE(run);
    const unsigned volcanoes = 1 + static_cast<unsigned>(random.below(6));
    Mirrors ring(volcanoes, static_cast<std::uint8_t>(1 + random.below(kCopiesMax)));
    std::set<VolcanoId> ever_told;  // in sync, in the epoch that the map has
    Epoch told_at{};
    const auto say = [&](VolcanoId id, MirrorState state) {
      if (told_at != ring.epoch()) ever_told.clear();
      told_at = ring.epoch();
      ring.say(id, state);
      if (state == MirrorState::in_sync) ever_told.insert(id);
    };
    const auto take = [&] {
      const auto command = ring.step();
      if (!command) return false;
      if (const auto* in_sync = std::get_if<ReplicaInSync>(&*command)) {
        CHECK(told_at == ring.epoch());
        CHECK(ever_told.contains(in_sync->volcano));
      }
      ring.must(*command);
      return true;
    };
    for (int i = 0; i < 40; ++i) {
      const VolcanoId id(static_cast<std::uint16_t>(1 + random.below(volcanoes)));
      switch (random.below(5)) {
        case 0:
          if (id != kOne && ring.map.is_alive(id)) ring.down(id);
          break;
        case 1: ring.start(id); break;
        case 2:
          ring.must(SetCopies{.membership = ring.map.membership,
                              .copies = static_cast<std::uint8_t>(1 + random.below(kCopiesMax))});
          break;
        case 3: say(id, static_cast<MirrorState>(1 + random.below(4))); break;
        default: take();
      }
    }
    // All are back, and the primary says what is.
    for (const Volcano& volcano : std::vector<Volcano>(ring.map.volcanoes))
      if (!volcano.is_alive()) ring.start(volcano.id);
    for (int i = 0; i < 40; ++i) {
      for (const Replica& replica : ring.map.slots[0].replicas)
        if (replica.volcano != kOne) say(replica.volcano, MirrorState::in_sync);
      if (!take()) break;
    }
    CHECK_FALSE(ring.step().has_value());
    const std::size_t wanted = std::min<std::size_t>(volcanoes, ring.map.copies);
    CHECK(ring.map.slots[0].replicas.size() == wanted);
    CHECK(ring.map.slots[0].replicas.in_sync() == wanted);
  }
}
