// The ring policy on rings that a person can follow: who mirrors whom, where slices lie, what
// moves, in which steps. On many rings at random: placement_random_test.cc.
#include <doctest/doctest.h>

#include <algorithm>

#include "libmagma/crypto/path_hash.h"
#include "libmagma/ring/placement_share.h"
#include "tests/lib/lava_ring.h"

using namespace magma;
using namespace magma::ring;
using namespace magma::test;

namespace {

constexpr VolcanoId kWallace{1}, kGromit{2}, kPenguin{3};

Owners owners_with(std::initializer_list<OwnerRun> runs) {
  Owners owners(kSlotCount);
  for (const OwnerRun& run : runs)
    for (unsigned n = run.first.value; n <= run.last.value; ++n) owners[n] = run.owner;
  return owners;
}

std::vector<VolcanoId> ids(const Target& target) { return {target.begin(), target.end()}; }
using Ids = std::vector<VolcanoId>;

LavaRing ring_of(unsigned volcanoes, std::uint8_t copies = 2) {
  LavaRing ring;
  ring.found(copies);
  for (unsigned n = 2; n <= volcanoes; ++n)
    ring.join(profile(n), VolcanoId(static_cast<std::uint16_t>(n - 1)));
  return ring;
}

}  // namespace

TEST_CASE("placement: the backup is the next volcano on the ring") {
  const Owners three = owners_with({{slot(0), slot(1364), kWallace},
                                    {slot(1365), slot(2729), kGromit},
                                    {slot(2730), slot(4095), kPenguin}});
  const auto two_copies = targets_of(three, 2);
  CHECK(ids(two_copies[0]) == Ids{kWallace, kGromit});
  CHECK(ids(two_copies[1364]) == Ids{kWallace, kGromit});
  CHECK(ids(two_copies[1365]) == Ids{kGromit, kPenguin});
  CHECK(ids(two_copies[4095]) == Ids{kPenguin, kWallace});
  CHECK(ids(targets_of(three, 1)[0]) == Ids{kWallace});
  CHECK(ids(targets_of(three, 3)[2000]) == Ids{kGromit, kPenguin, kWallace});
  CHECK(ids(targets_of(three, 5)[2000]) == Ids{kGromit, kPenguin, kWallace});  // there are three
  CHECK(ids(targets_of(Owners(kSlotCount, kGromit), 2)[9]) == Ids{kGromit});
  // Runs of one volcano may be many, and the ring has no end.
  const Owners mixed = owners_with({{slot(0), slot(9), kGromit},
                                    {slot(10), slot(19), kPenguin},
                                    {slot(20), slot(29), kGromit},
                                    {slot(30), slot(4095), kWallace}});
  CHECK(ids(targets_of(mixed, 3)[25]) == Ids{kGromit, kWallace, kPenguin});
  CHECK(ids(targets_of(mixed, 3)[10]) == Ids{kPenguin, kGromit, kWallace});
  CHECK(ids(targets_of(mixed, 2)[4095]) == Ids{kWallace, kGromit});
  CHECK(runs_of(mixed, kGromit) == 2);
  CHECK(runs_of(mixed, VolcanoId(9)) == 0);
  CHECK_FALSE(is_contiguous(mixed));
  CHECK(is_contiguous(three));
  CHECK(order_of(mixed) == Ids{kGromit, kPenguin, kWallace});
}

TEST_CASE("placement: gromit joins wallace and gets the upper half, each mirrors the other") {
  LavaRing ring;
  ring.found(2, named("wallace", 1));
  const VolcanoId gromit = ring.add(named("gromit", 2));
  auto plan = plan_join(ring.map, gromit, kWallace, Weights());
  REQUIRE(plan.has_value());
  CHECK(plan->changes == std::vector<OwnerRun>{{slot(2048), slot(4095), gromit}});
  CHECK(plan->share_slots == 2048);
  CHECK(plan->mirror_slots == 2048);
  CHECK(plan->copied_slots == 4096);
  REQUIRE(plan->moves.size() == 4096);
  CHECK(plan->moves[0] == Move{slot(0), kWallace, gromit, MoveRole::backup, true});
  CHECK(plan->moves[4095] == Move{slot(4095), kWallace, gromit, MoveRole::primary, true});
  ring.assign(plan->changes);
  ring.settle();
  ring.must(VolcanoJoined{ring.map.membership, gromit});
  CHECK(slices(ring.map) == std::vector<OwnedSlice>{{{slot(0), slot(2047)}, kWallace},
                                                    {{slot(2048), slot(4095)}, gromit}});
  CHECK(slices_of(ring.map, gromit)[0].start_key().hex() == "8" + std::string(39, '0'));
  CHECK(slices_of(ring.map, gromit)[0].stop_key() == Key::highest());
  for (const SlotEntry& e : ring.map.slots) REQUIRE(e.replicas.in_sync() == 2);
  // As in the vectors of the first Magma, split in the middle.
  CHECK(ring.map.at(crypto::key_of_path("/").slot()).primary() == kWallace);
  CHECK(ring.map.at(crypto::key_of_path("/.dht").slot()).primary() == gromit);
}

TEST_CASE("placement: up to four volcanoes have one slice each, wherever a newcomer joins") {
  for (std::uint8_t copies = 1; copies <= 5; ++copies)
    for (unsigned have = 1; have <= 3; ++have)
      for (unsigned beside = 1; beside <= have; ++beside) {
        CAPTURE(int{copies});
        CAPTURE(have);
        CAPTURE(beside);
        LavaRing ring = ring_of(have, copies);
        const VolcanoId joined(static_cast<std::uint16_t>(beside));
        const VolcanoId joiner = ring.add(profile(50));
        auto plan = plan_join(ring.map, joiner, joined, Weights());
        REQUIRE(plan.has_value());
        CHECK(is_contiguous(plan->owners));
        CHECK(5 * plan->copied_slots <= 6 * (plan->share_slots + plan->mirror_slots));
        // Beside the joined one on the ring.
        const Ids order = order_of(plan->owners);
        const auto at = [&](VolcanoId id) {
          return static_cast<std::size_t>(std::find(order.begin(), order.end(), id) -
                                          order.begin());
        };
        const std::size_t apart = (at(joiner) + order.size() - at(joined)) % order.size();
        CHECK((apart == 1 || apart == order.size() - 1));
        // Equal slices; with one copy, where third parties would have to copy, nearly so.
        for (VolcanoId id : order) {
          const auto slots =
              static_cast<double>(std::count(plan->owners.begin(), plan->owners.end(), id));
          const double fair = 4096.0 / static_cast<double>(order.size());
          CHECK(slots == doctest::Approx(fair).epsilon(copies == 1 ? 0.16 : 0.002));
        }
      }
}

TEST_CASE("placement: the fifth volcano takes runs, and mirrors about as much as it owns") {
  LavaRing ring = ring_of(4);
  const VolcanoId fifth = ring.add(profile(5));
  auto plan = plan_join(ring.map, fifth, kGromit, Weights());
  REQUIRE(plan.has_value());
  CHECK(plan->share_slots == doctest::Approx(819).epsilon(0.01));
  CHECK(plan->mirror_slots == doctest::Approx(819).epsilon(0.01));
  CHECK(plan->copied_slots == plan->share_slots + plan->mirror_slots);
  CHECK(runs_of(plan->owners, fifth) == 4);
  CHECK(runs_of(plan->owners, kGromit) <= 2);
}

TEST_CASE("placement: joins that make no sense") {
  LavaRing ring = ring_of(2);
  Profile witness = profile(9);
  witness.roles = kWitness;
  const VolcanoId shaun = ring.add(witness);
  CHECK(plan_join(ring.map, VolcanoId(99), kWallace, Weights()).error().code == Code::not_found);
  CHECK(plan_join(ring.map, kGromit, kWallace, Weights()).error().code == Code::invalid);
  CHECK(plan_join(ring.map, shaun, kWallace, Weights()).error().code == Code::invalid);
  const VolcanoId third = ring.add(profile(3));
  // Beside nobody in particular.
  CHECK(plan_join(ring.map, third, VolcanoId(99), Weights()).has_value());
  ring.must(SetLeaving{ring.map.membership, third, true});
  CHECK(plan_join(ring.map, third, kWallace, Weights()).error().code == Code::busy);
  CHECK(plan_leave(ring.map, VolcanoId(99), Weights()).error().code == Code::not_found);
  CHECK(plan_leave(ring.map, third, Weights())->changes.empty());  // it has nothing
  LavaRing one;
  one.found();
  CHECK(plan_leave(one.map, kWallace, Weights()).error().code == Code::busy);
}

TEST_CASE("placement: a drained volcano's slots are shared out, and up to four stay contiguous") {
  for (unsigned have : {2u, 3u, 4u, 5u, 8u}) {
    CAPTURE(have);
    LavaRing ring = ring_of(have);
    ring.must(SetLeaving{ring.map.membership, kGromit, true});
    auto plan = plan_leave(ring.map, kGromit, Weights());
    REQUIRE(plan.has_value());
    const Ids order = order_of(plan->owners);
    CHECK(order.size() == have - 1);
    CHECK(std::count(order.begin(), order.end(), kGromit) == 0);
    if (have <= 5) CHECK(is_contiguous(plan->owners));
    for (VolcanoId id : order) {
      const auto slots =
          static_cast<double>(std::count(plan->owners.begin(), plan->owners.end(), id));
      CHECK(slots == doctest::Approx(4096.0 / (have - 1)).epsilon(0.05));
    }
    ring.assign(plan->changes);
    ring.settle();
    ring.must(RemoveVolcano{ring.map.membership, kGromit});
  }
}

TEST_CASE("placement: a volcano that is away is waited for; one that is gone is not") {
  LavaRing ring = ring_of(3);
  ring.down(kPenguin);
  ring.settle();
  for (const SlotEntry& e : ring.map.slots) REQUIRE(e.replicas.size() == 2);  // nothing copied
  SUBCASE("it is back: it gets its slots again") {
    ring.start(kPenguin);
    CHECK_FALSE(is_settled(ring.map));
    ring.settle();
    for (const SlotEntry& e : ring.map.slots) {
      REQUIRE(e.primary() == e.owner);
      REQUIRE(e.replicas.in_sync() == 2);
    }
  }
  SUBCASE("it is gone: the others have two copies of everything") {
    ring.must(PatienceOver{kPenguin, 1});
    auto plan = plan_leave(ring.map, kPenguin, Weights());
    REQUIRE(plan.has_value());
    ring.assign(plan->changes);
    ring.settle();
    for (const SlotEntry& e : ring.map.slots) REQUIRE(e.replicas.in_sync() == 2);
    ring.must(RemoveVolcano{ring.map.membership, kPenguin});
  }
}

TEST_CASE("placement: steps come in the order add, promote, drop, and not too many at once") {
  LavaRing ring;
  ring.found(1);
  const VolcanoId gromit = ring.add(profile(2));
  ring.assign({{slot(0), slot(3999), gromit}});
  auto steps = [&] { return moving_steps(ring.map, 1500); };
  auto first = steps();
  REQUIRE(first.size() == 1);
  CHECK(std::get<AddReplica>(first[0]).slots.size() == 1500);
  for (const Command& c : first) ring.must(c);
  CHECK(steps().empty());  // 1500 are catching up
  CHECK_FALSE(is_settled(ring.map));
  ring.must(ReplicaInSync{{ring.at(0, 9), gromit}});
  auto second = steps();
  REQUIRE(second.size() == 2);
  CHECK(std::get<Promote>(second[0]).slots == ring.at(0, 9));
  CHECK(std::get<AddReplica>(second[1]).slots.size() == 10);
  ring.must(second[0]);
  auto third = steps();  // gromit does not serve yet, so wallace's replicas stay
  REQUIRE(third.size() == 1);
  CHECK(std::holds_alternative<AddReplica>(third[0]));
  ring.must(Serving{{ring.at(0, 9), gromit}});
  third = steps();
  REQUIRE(third.size() == 2);
  CHECK(std::get<DropReplica>(third[0]).slots == ring.at(0, 9));
  CHECK(std::get<DropReplica>(third[0]).volcano == kWallace);
  ring.settle();
  for (unsigned n = 0; n < kSlotCount; ++n) {
    REQUIRE(ring.entry(n).replicas.size() == 1);
    REQUIRE(ring.entry(n).primary() == ring.entry(n).owner);
  }
  CHECK(moving_steps(LavaMap{}, 10).empty());
}

TEST_CASE("placement: more copies, fewer copies") {
  LavaRing ring = ring_of(4, 2);
  ring.must(SetCopies{ring.map.membership, 4});
  ring.settle();
  for (const SlotEntry& e : ring.map.slots) REQUIRE(e.replicas.in_sync() == 4);
  ring.must(SetCopies{ring.map.membership, 1});
  ring.settle();
  for (const SlotEntry& e : ring.map.slots) {
    REQUIRE(e.replicas.size() == 1);
    REQUIRE(e.primary() == e.owner);
  }
}

TEST_CASE("placement: weights") {
  CHECK(Weights().total_load() == kSlotCount);
  CHECK(Weights().bytes(0) == 0);
  std::vector<std::uint64_t> bytes(kSlotCount, 0);
  bytes[0] = 8 * 4096 * 100;  // all in one slot: the others count an eighth of the mean
  const Weights weights(bytes);
  CHECK(weights.load(1) == 100);
  CHECK(weights.load(0) == bytes[0]);
  const VolcanoId order[] = {kWallace, kGromit, kPenguin};
  const Owners cut = cut_evenly(order, weights);
  CHECK(is_contiguous(cut));
  CHECK(order_of(cut).size() == 3);
  CHECK(borders_of(cut, order)[1] == 1);  // the heavy slot alone
  // As many volcanoes as slots: one each.
  std::vector<VolcanoId> many;
  for (std::uint16_t n = 1; n <= kSlotCount; ++n) many.push_back(VolcanoId(n));
  CHECK(cut_evenly(many, Weights()) == many);
}
