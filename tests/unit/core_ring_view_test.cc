// What a volcano tells of its ring: who is alive as far as it can know, slices, health.
#include <doctest/doctest.h>

#include "libmagma/ring/progress.h"
#include "magmad/node/ring_view.h"
#include "tests/lib/lava_ring.h"

using namespace magma;
using namespace magma::node;
using namespace magma::test;

namespace {

const Instant kNow{seconds(1000).ns};

// Three volcanoes; the second tells what it knows, the first coordinates and was heard just now.
struct Told {
  LavaRing ring;
  RingView view;

  Told() {
    ring.found();
    ring.add(profile(2));
    ring.add(profile(3));
    ring.must(SetVoters{.membership = ring.map.membership,
                        .voters = {VolcanoId(1)},
                        .learners = {VolcanoId(2), VolcanoId(3)}});
    view.self = VolcanoId(2);
    view.leader = VolcanoId(1);
    view.leader_heard = kNow - milliseconds(200);
    view.table_at = kNow - milliseconds(300);
    view.table = {{.volcano = VolcanoId(1), .was_heard = true},
                  {.volcano = VolcanoId(2), .was_heard = true},
                  {.volcano = VolcanoId(3),
                   .was_heard = true,
                   .silent_ns = 100'000'000,
                   .lease_left_ns = 1'900'000'000,
                   .facts = {.version = "1.2.3", .has_census = true, .keys = 7}}};
    refresh();
  }
  void refresh() { view.map = std::make_shared<const LavaMap>(ring.map); }
  wire::RingReply reply() const { return ring_reply(view, kNow); }
};

}  // namespace

TEST_CASE("ring view: all is well") {
  const Told told;
  const wire::RingReply reply = told.reply();
  CHECK(reply.self == 2);
  CHECK(reply.coordinator == 1);
  CHECK(reply.health == static_cast<std::uint8_t>(Health::ok));
  REQUIRE(reply.volcanoes.size() == 3);
  for (const wire::RingVolcano& volcano : reply.volcanoes)
    CHECK(volcano.alive == wire::RingAlive::yes);
  CHECK(reply.volcanoes[0].vote == wire::RingVote::votes);
  CHECK(reply.volcanoes[0].is_coordinator);
  REQUIRE(reply.volcanoes[0].slices.size() == 1);
  CHECK(reply.volcanoes[0].slices[0].last == kSlotCount - 1);
  CHECK(reply.volcanoes[1].slices.empty());
  CHECK(reply.volcanoes[2].vote == wire::RingVote::learns);
  CHECK(reply.volcanoes[2].keys == 7);
  CHECK(reply.volcanoes[2].silent_ns == 400'000'000);
  CHECK(reply.volcanoes[2].lease_left_ns == 1'600'000'000);
}

TEST_CASE("ring view: a volcano that is silent is away") {
  Told told;
  told.view.table[2].silent_ns = 4'000'000'000;
  CHECK(told.reply().volcanoes[2].alive == wire::RingAlive::no);
  told.ring.down(VolcanoId(3));
  told.refresh();
  CHECK(told.reply().health == static_cast<std::uint8_t>(Health::degraded));
  CHECK(told.reply().reason.find("v3 is down") != std::string::npos);
}

TEST_CASE("ring view: without a coordinator others are not known, and it says why") {
  Told told;
  told.view.leader_heard = kNow - seconds(8);
  told.view.table_at = kNow - seconds(8);
  const wire::RingReply reply = told.reply();
  CHECK(reply.coordinator == 0);
  CHECK(reply.volcanoes[0].alive == wire::RingAlive::no);
  CHECK(reply.volcanoes[1].alive == wire::RingAlive::yes);
  CHECK(reply.volcanoes[2].alive == wire::RingAlive::unknown);
  CHECK(reply.health == static_cast<std::uint8_t>(Health::degraded));
  CHECK(reply.reason.starts_with("no coordinator is heard (v1 alone votes)"));
}

TEST_CASE("ring view: slots whose volcano is away wait") {
  Told told;
  told.view.leader = VolcanoId(2);
  told.view.is_coordinator = true;
  told.ring.down(VolcanoId(1));
  told.refresh();
  const wire::RingReply reply = told.reply();
  CHECK(reply.coordinator == 2);
  CHECK(reply.volcanoes[0].slots_waiting == kSlotCount);
  CHECK(reply.health == static_cast<std::uint8_t>(Health::stalled));
}
