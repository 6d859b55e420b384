// check() and check_step() find what is wrong: each invariant broken once, in a map that is good.
// And commands at random, wrong ones among them, never break one.
#include <doctest/doctest.h>

#include <set>

#include "libmagma/wire/lava_map_codec.h"
#include "tests/lib/lava_ring.h"
#include "tests/lib/sim_random.h"

using namespace magma;
using namespace magma::ring;
using namespace magma::test;

namespace {

constexpr VolcanoId kA{1}, kB{2}, kC{3};

// Three volcanoes with slices, C away, two sessions fenced.
LavaMap good_map() {
  LavaRing ring;
  ring.found();
  ring.join(profile(2), kA);
  ring.join(profile(3), kB);
  ring.must(SetVoters{ring.map.membership, {kA}, {kB}});
  ring.must(FenceSession{SessionId(1)});
  ring.must(FenceSession{SessionId(2)});
  ring.down(kC);
  return ring.map;
}

struct Fault {
  const char* found;  // in what check() says
  void (*plant)(LavaMap&);
};

const Fault kFaults[] = {
    {"4096", [](LavaMap& m) { m.slots.pop_back(); }},
    {"without a ring", [](LavaMap& m) { m.version = 0; }},
    {"copies", [](LavaMap& m) { m.copies = 6; }},
    {"generation 0", [](LavaMap& m) { m.generation = 0; }},
    {"next_id", [](LavaMap& m) { m.next_id = VolcanoId(3); }},
    {"is not after", [](LavaMap& m) { std::swap(m.volcanoes[0], m.volcanoes[1]); }},
    {"is not after", [](LavaMap& m) { m.volcanoes[0].id = kNoVolcano; }},
    {"nick v1", [](LavaMap& m) { m.volcanoes[1].profile.nick = "v1"; }},
    {"name v1", [](LavaMap& m) { m.volcanoes[1].profile.fqdn = "v1.example.org"; }},
    {"address", [](LavaMap& m) { m.volcanoes[1].profile.flare = m.volcanoes[2].profile.node; }},
    {"console",
     [](LavaMap& m) { m.volcanoes[1].profile.console = m.volcanoes[2].profile.console; }},
    {"a nick is", [](LavaMap& m) { m.volcanoes[1].profile.nick = ""; }},
    {"resumes", [](LavaMap& m) { m.volcanoes[2].resumes = VolcanoState::down; }},
    {"resumes", [](LavaMap& m) { m.volcanoes[0].resumes = VolcanoState::leaving; }},
    {"no voter", [](LavaMap& m) { m.voters.clear(); }},
    {"no volcano", [](LavaMap& m) { m.voters = {VolcanoId(9)}; }},
    {"ascending",
     [](LavaMap& m) {
       m.learners = {kC, kB};
     }},
    {"votes and learns", [](LavaMap& m) { m.learners = {kA}; }},
    {"too many voters", [](LavaMap& m) { m.voters = {kA, kA, kA, kA, kA, kA}; }},
    {"sessions are not ascending", [](LavaMap& m) { m.fenced[1].session = SessionId(1); }},
    {"later map", [](LavaMap& m) { m.fenced[1].version = m.version + 1; }},
    {"used up", [](LavaMap& m) { m.slots[9].epoch = Epoch(0xffffffff); }},
    {"used up", [](LavaMap& m) { m.volcanoes[0].starts = 0xffffffff; }},
    {"no replica", [](LavaMap& m) { m.slots[9].replicas = ReplicaList(); }},
    {"no epoch", [](LavaMap& m) { m.slots[9].epoch = Epoch(0); }},
    {"owner", [](LavaMap& m) { m.slots[9].owner = VolcanoId(9); }},
    {"served it last", [](LavaMap& m) { m.slots[9].last_serving = VolcanoId(9); }},
    {"what is no volcano", [](LavaMap& m) { m.slots[9].replicas[1].volcano = VolcanoId(9); }},
    {"two replicas", [](LavaMap& m) { m.slots[9].replicas.add(m.slots[9].replicas[0]); }},
    {"primary is not in sync",
     [](LavaMap& m) { m.slots[9].replicas[0].state = ReplicaState::catching_up; }},
    {"does not serve", [](LavaMap& m) { m.slots[9].state = SlotState::waiting; }},
    {"does not serve", [](LavaMap& m) { m.slots[9].state = SlotState::empty; }},
    {"its primary is away",
     [](LavaMap& m) {
       m.slots[9].replicas = ReplicaList();
       m.slots[9].replicas.add({.volcano = kC});
       m.slots[9].last_serving = kC;
     }},
    {"in sync is away",
     [](LavaMap& m) {
       for (SlotEntry& e : m.slots)
         if (Replica* r = e.replicas.find(kC)) r->state = ReplicaState::in_sync;
     }},
    {"waits and another replica is in sync",
     [](LavaMap& m) {
       SlotEntry& e = m.slots[9];
       e.replicas = ReplicaList();
       e.replicas.add({.volcano = kC});
       e.replicas.add({.volcano = kA});
       e.last_serving = kC;
       e.state = SlotState::waiting;
     }},
};

// A slot on two volcanoes that are there.
SlotEntry& plain(LavaMap& map) {
  for (SlotEntry& e : map.slots)
    if (e.replicas.size() == 2 && e.replicas.in_sync() == 2) return e;
  FAIL("no such slot");
  return map.slots[0];
}

// Of the step of a slot, as `change` would make it.
std::string step_with(void (*change)(LavaMap&)) {
  const LavaMap before = good_map();
  LavaMap after = before;
  ++after.version;
  change(after);
  return check_step(before, after);
}

}  // namespace

TEST_CASE("lava map: check() finds every broken invariant") {
  const LavaMap good = good_map();
  REQUIRE(check(good) == "");
  for (const Fault& fault : kFaults) {
    CAPTURE(fault.found);
    LavaMap map = good;
    fault.plant(map);
    const std::string broken = check(map);
    CAPTURE(broken);
    CHECK(broken.find(fault.found) != broken.npos);
  }
}

TEST_CASE("lava map: check_step() finds what no command may do") {
  CHECK(step_with([](LavaMap&) {}) == "");
  const Fault faults[] = {
      {"the version", [](LavaMap& m) { ++m.version; }},
      {"membership fell", [](LavaMap& m) { --m.membership; }},
      {"the epoch fell", [](LavaMap& m) { --plain(m).epoch.value; }},
      {"another primary in the same epoch",
       [](LavaMap& m) { plain(m).replicas.move_to_back(plain(m).primary()); }},
      {"other replicas in the same epoch",
       [](LavaMap& m) { plain(m).replicas.remove(plain(m).replicas[1].volcano); }},
      {"other replicas in the same epoch",
       [](LavaMap& m) {
         plain(m).replicas.add({.volcano = kC, .state = ReplicaState::catching_up});
       }},
      {"behind in the same epoch",
       [](LavaMap& m) { plain(m).replicas[1].state = ReplicaState::catching_up; }},
      {": no replica",
       [](LavaMap& m) {
         SlotEntry& e = plain(m);
         ++e.epoch.value;
         e.replicas = ReplicaList();
       }},
  };
  for (const Fault& fault : faults) {
    CAPTURE(fault.found);
    const std::string broken = step_with(fault.plant);
    CAPTURE(broken);
    CHECK(broken.find(fault.found) != broken.npos);
  }
  LavaMap before = good_map();
  before.generation = 3;
  LavaMap after = before;
  ++after.version;
  after.generation = 2;
  CHECK(check_step(before, after) == "the ring generation fell");
  before.next_id = VolcanoId(20);
  after = before;
  ++after.version;
  after.next_id = VolcanoId(19);
  CHECK(check_step(before, after) == "an id could be given twice");
}

namespace {

// A command that might be sensible, or stale, or nonsense.
class CommandMaker {
 public:
  CommandMaker(const LavaMap& map, SimRandom& random) : map_(map), random_(random) {}
  Command make() {
    const std::uint64_t m = random_.chance(0.9) ? map_.membership : random_.below(20);
    const auto generation = random_.chance(0.9) ? map_.generation : 0u;
    const VolcanoId v = volcano();
    const std::uint32_t starts =
        random_.chance(0.9) && map_.find(v) != nullptr ? map_.find(v)->starts : 3;
    switch (random_.below(22)) {
      case 0: return AddVolcano{m, profile(static_cast<unsigned>(random_.below(40)) + 1)};
      case 1: return VolcanoStarted{v, starts, random_.chance(0.3)};
      case 2: return VolcanoStarted{v, starts, false};
      case 3: return VolcanoDown{v, starts};
      case 4: return VolcanoJoined{m, v};
      case 5: return SetLeaving{m, v, random_.chance(0.5)};
      case 6: return PatienceOver{v, starts};
      case 7: return RemoveVolcano{m, v};
      case 8: return VolcanoMoved{m, v, profile(static_cast<unsigned>(random_.below(40)) + 1)};
      case 9: return Assign{m, {{a_slot(), slot(4095), v}}};
      case 10:
      case 11: return AddReplica{about()};
      case 12:
      case 13: return ReplicaInSync{about()};
      case 14: return ReplicaBehind{about()};
      case 15: return Promote{about()};
      case 16: return DropReplica{about()};
      case 17: return Serving{about()};
      case 18: return AcceptLoss{generation, slots(), v};
      case 19: return FenceSession{SessionId(random_.below(5))};
      case 20: return SetVoters{m, {VolcanoId(1)}, {v}};
      default: return SetCopies{m, static_cast<std::uint8_t>(random_.below(7))};
    }
  }

 private:
  VolcanoId volcano() {
    if (random_.chance(0.02)) return VolcanoId(static_cast<std::uint16_t>(random_.below(100)));
    return map_.volcanoes[random_.below(map_.volcanoes.size())].id;
  }
  Slot a_slot() { return slot(static_cast<unsigned>(random_.below(4)) * 1024); }
  // Some slots that are alike, from a quarter of the keyspace on.
  std::vector<SlotAt> slots() {
    std::vector<SlotAt> result;
    const unsigned first = a_slot().value;
    const unsigned count = random_.chance(0.7) ? 256 : 1 + static_cast<unsigned>(random_.below(8));
    const std::uint32_t off = random_.chance(0.05) ? 1 : 0;
    for (unsigned n = first; n < first + count; ++n)
      if (map_.slots[n].replicas == map_.slots[first].replicas)
        result.push_back({slot(n), Epoch(map_.slots[n].epoch.value + off)});
    return result;
  }
  // And a volcano, often one that has them.
  SlotsOfVolcano about() {
    SlotsOfVolcano result{slots(), volcano()};
    const ReplicaList& replicas = map_.at(result.slots[0].slot).replicas;
    if (random_.chance(0.6)) result.volcano = replicas[random_.below(replicas.size())].volcano;
    return result;
  }
  const LavaMap& map_;
  SimRandom& random_;
};

}  // namespace

TEST_CASE("lava map: commands at random never break an invariant, and are the same everywhere") {
  unsigned taken = 0, refused = 0;
  std::set<std::string_view> kinds;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    SimRandom random(seed);
    LavaRing ring;
    ring.found(static_cast<std::uint8_t>(1 + random.below(3)));
    for (unsigned n = 2; n <= 5; ++n) ring.add(profile(n));
    LavaMap elsewhere = ring.map;
    CommandMaker maker(ring.map, random);
    for (int i = 0; i < 300; ++i) {
      const Command command = maker.make();
      // As it comes from the log of another volcano.
      auto decoded = wire::decode_command(wire::encode_command(command));
      REQUIRE(decoded.has_value());
      const auto there = apply_command(elsewhere, *decoded);
      const auto here = ring.apply(command);
      REQUIRE(here.has_value() == there.has_value());
      if (here) kinds.insert(name_of(command));
      ++(here ? taken : refused);
    }
    CHECK(ring.map == elsewhere);
    auto snapshot = wire::decode_map(wire::encode_map(ring.map));
    REQUIRE(snapshot.has_value());
    CHECK(*snapshot == ring.map);
  }
  std::string names;
  for (std::string_view kind : kinds) (names += ' ') += kind;
  MESSAGE(taken, " commands taken, ", refused, " refused, ", kinds.size(), " kinds taken:", names);
  CHECK(kinds.size() >= 17);
  CHECK(taken > 500);
}
