// Progress and health.
#include <doctest/doctest.h>

#include "libmagma/ring/progress.h"
#include "tests/lib/lava_ring.h"

using namespace magma;
using namespace magma::ring;
using namespace magma::test;

namespace {

constexpr VolcanoId kWallace{1}, kGromit{2}, kPenguin{3};

LavaRing two() {
  LavaRing ring;
  ring.found(2, named("wallace", 1));
  ring.join(named("gromit", 2), kWallace);
  return ring;
}

std::string health(const LavaMap& map, std::optional<Progress> progress = {}) {
  return health_of(map, progress).text();
}

}  // namespace

TEST_CASE("progress: work that is left, and how long it takes") {
  LavaRing ring = two();
  std::vector<std::uint64_t> bytes(kSlotCount, 1000);
  const Weights weights(bytes);
  CHECK(work_left(LavaMap{}, weights) == Work{});
  CHECK(work_left(ring.map, weights) == Work{});
  ring.down(kGromit);
  CHECK(work_left(ring.map, weights) == Work{});  // nobody is there to copy to
  ring.start(kGromit);
  const Work all = work_left(ring.map, weights);
  CHECK(all == Work{.slots = 4096, .bytes = 4'096'000});

  ProgressMeter meter;
  CHECK_FALSE(meter.progress().has_value());
  meter.note(Instant{0}, all);
  REQUIRE(meter.progress().has_value());
  CHECK(meter.progress()->percent() == 0);
  CHECK_FALSE(meter.progress()->left.has_value());
  // 1024 slots in 10 s: three times that is left.
  ring.must(ReplicaInSync{{ring.at(0, 1023), kGromit}});
  meter.note(Instant{} + seconds(10), work_left(ring.map, weights));
  CHECK(meter.progress()->percent() == 25);
  REQUIRE(meter.progress()->left.has_value());
  CHECK(meter.progress()->left->ms() == 30'000);
  CHECK(meter.progress()->done == Work{.slots = 1024, .bytes = 1'024'000});
  // Nothing for a while: it takes longer.
  meter.note(Instant{} + seconds(20), work_left(ring.map, weights));
  CHECK(meter.progress()->left->ms() == 60'000);
  // The same instant again says nothing.
  meter.note(Instant{} + seconds(20), work_left(ring.map, weights));
  CHECK(meter.progress()->left->ms() == 60'000);
  // More work turns up: of 5120 slots 1024 are done.
  ring.must(ReplicaBehind{{ring.at(0, 1023), kGromit}});
  meter.note(Instant{} + seconds(21), work_left(ring.map, weights));
  CHECK(meter.progress()->total.slots == 5120);
  CHECK(meter.progress()->percent() == 20);
  ring.must(ReplicaInSync{{ring.at(0, 4095), kGromit}});
  meter.note(Instant{} + seconds(30), work_left(ring.map, weights));
  CHECK_FALSE(meter.progress().has_value());
}

TEST_CASE("progress: without bytes by slots, rounded down, and 100 only at the end") {
  CHECK(Progress{.done = {1, 0}, .total = {3, 0}, .left = {}}.percent() == 33);
  CHECK(Progress{.done = {2, 999}, .total = {3, 1000}, .left = {}}.percent() == 99);
  CHECK(Progress{.done = {}, .total = {}, .left = {}}.percent() == 100);
  ProgressMeter meter;
  meter.note(Instant{0}, {.slots = 10});
  meter.note(Instant{} + seconds(4), {.slots = 8});
  CHECK(meter.progress()->left->ms() == 16'000);
  // A standstill has no end.
  ProgressMeter still;
  still.note(Instant{0}, {.slots = 10});
  still.note(Instant{} + seconds(100), {.slots = 10});
  CHECK_FALSE(still.progress()->left.has_value());
}

TEST_CASE("progress: time left, as text") {
  CHECK(text_of(Duration{0}) == "0 s");
  CHECK(text_of(milliseconds(100)) == "1 s");
  CHECK(text_of(seconds(90)) == "90 s");
  CHECK(text_of(seconds(91)) == "2 min");
  CHECK(text_of(seconds(180)) == "3 min");
  CHECK(text_of(seconds(90 * 60)) == "90 min");
  CHECK(text_of(seconds(125 * 60)) == "2 h 5 min");
  CHECK(text_of(seconds(50 * 3600)) == "2 d 2 h");
  CHECK(text_of(nanoseconds(-5)) == "0 s");
}

TEST_CASE("health: one word and the reason") {
  CHECK(health(LavaMap{}) == "stalled: there is no ring");
  LavaRing one;
  one.found(2, named("wallace", 1));
  CHECK(health(one.map) == "healthy (one volcano: one copy)");
  CHECK(copies_had(one.map) == 1);
  one.add(named("gromit", 2));
  CHECK(health(one.map) == "degraded: one copy of everything");

  LavaRing ring = two();
  CHECK(health(ring.map) == "healthy");
  CHECK(copies_had(ring.map) == 2);
  ring.down(kGromit);
  CHECK(health(ring.map) == "degraded: one copy of everything; gromit is away");
  ring.start(kGromit);
  ring.must(ReplicaInSync{{ring.at(37, 4095), kGromit}});
  const Progress progress{.done = {42, 0}, .total = {100, 0}, .left = seconds(180)};
  CHECK(health(ring.map, progress) ==
        "degraded: 37 slots have one copy; gromit is behind, resync 42 %, 3 min left");
  ring.must(ReplicaInSync{{ring.at(1, 36), kGromit}});
  CHECK(health(ring.map) == "degraded: 1 slot has one copy; gromit is behind");
  CHECK(copies_had(ring.map) == 1);
  ring.must(ReplicaInSync{{ring.at(0, 0), kGromit}});
  ring.must(SetCopies{ring.map.membership, 3});
  CHECK(health(ring.map) == "healthy (2 volcanoes: 2 copies)");

  ring.join(named("penguin", 3), kGromit);
  CHECK(health(ring.map) == "healthy");
  ring.down(kPenguin);
  CHECK(health(ring.map) == "degraded: 2 of 3 copies of everything; penguin is away");
  ring.must(PatienceOver{kPenguin, 1});
  CHECK(health(ring.map) == "degraded: 2 of 3 copies of everything; penguin is gone");
  ring.must(Serving{{ring.at(0, 0), ring.entry(0).primary()}});
  ring.assign(plan_leave(ring.map, kPenguin, Weights())->changes);
  ring.settle();
  ring.must(RemoveVolcano{ring.map.membership, kPenguin});
  ring.must(SetCopies{ring.map.membership, 2});
  CHECK(health(ring.map) == "healthy");
  ring.must(SetLeaving{ring.map.membership, kGromit, true});
  CHECK(health(ring.map, Progress{.done = {1, 10}, .total = {2, 1000}, .left = {}}) ==
        "healthy (gromit leaves, moved 1 %)");
}

TEST_CASE("health: slots that wait") {
  LavaRing ring = two();
  ring.down(kGromit);
  ring.must(Serving{{ring.at(2048, 4095), kWallace}});
  ring.down(kWallace);
  CHECK(health(ring.map) == "stalled: everything waits for wallace; 2 volcanoes are away");
  CHECK(copies_had(ring.map) == 0);
  ring.start(kGromit);
  CHECK(health(ring.map) == "stalled: everything waits for wallace; wallace is away");
  ring.must(AcceptLoss{1, ring.at(0, 4094), kGromit});
  CHECK(health(ring.map) ==
        "stalled: 1 slot waits for wallace, 4095 slots have one copy; wallace is away, gromit is "
        "behind");
}

TEST_CASE("health: what is known besides the map") {
  LavaRing ring;
  ring.found(2, named("wallace", 1));
  ring.add(named("gromit", 2));
  ring.must(AddReplica{{ring.at(0, 4095), kGromit}});
  const auto told = [&](VolcanoSeen gromit, VolcanoSeen wallace = {}) {
    gromit.volcano = kGromit;
    wallace.volcano = kWallace;
    return health_of(ring.map, std::nullopt, {wallace, gromit}).text();
  };
  CHECK(told({}) == "degraded: one copy of everything; gromit is behind");
  CHECK(told({.volcano = {}, .is_copying = true}) ==
        "degraded: one copy of everything; gromit is copying");
  CHECK(told({.volcano = {}, .is_copying = true, .percent = 42, .left = seconds(180)}) ==
        "degraded: one copy of everything; gromit is copying, 42 %, 3 min left");
  CHECK(told({.volcano = {}, .is_silent = true, .silent_for = seconds(12)}) ==
        "degraded: one copy of everything; gromit is away for 12 s");
  ring.must(ReplicaInSync{{ring.at(0, 4095), kGromit}});
  CHECK(told({}) == "healthy");
  // Who is primary is not called down, and everything waits for it all the same.
  CHECK(told({}, {.volcano = {}, .is_silent = true, .silent_for = seconds(12)}) ==
        "stalled: everything waits for wallace; wallace is away for 12 s");
}
