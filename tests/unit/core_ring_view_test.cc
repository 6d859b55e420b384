// What a volcano tells of its ring: who is alive as far as it can know, slices, health.
#include <doctest/doctest.h>

#include "libmagma/client/profiles.h"
#include "libmagma/client/ring_words.h"
#include "libmagma/ring/progress.h"
#include "magmad/node/copy_progress.h"
#include "magmad/node/ring_view.h"
#include "tests/lib/lava_ring.h"

using namespace magma;
using namespace magma::node;
using namespace magma::test;

namespace {

const Instant kNow{seconds(1000).ns};

// Three volcanoes; the second tells what it knows and has a copy of everything, the first
// coordinates and was heard just now.
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
    ring.add_replicas(0, kSlotCount - 1, VolcanoId(2));
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
  CHECK(reply.health == static_cast<std::uint8_t>(Health::healthy));
  CHECK(reply.reason.empty());
  CHECK(reply.copies == 2);
  CHECK(reply.copies_had == 2);
  REQUIRE(reply.volcanoes.size() == 3);
  for (const wire::RingVolcano& volcano : reply.volcanoes)
    CHECK(volcano.alive == wire::RingAlive::yes);
  CHECK(reply.volcanoes[0].vote == wire::RingVote::votes);
  CHECK(reply.volcanoes[0].is_coordinator);
  REQUIRE(reply.volcanoes[0].slices.size() == 1);
  CHECK(reply.volcanoes[0].slices[0].last == kSlotCount - 1);
  CHECK(reply.volcanoes[1].slices.empty());
  CHECK(reply.volcanoes[1].mirror == wire::RingMirror::in_sync);
  CHECK(reply.volcanoes[1].backups == kSlotCount);
  CHECK(reply.volcanoes[2].mirror == wire::RingMirror::none);
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
  CHECK(told.reply().reason == "v3 is away for 5 s");
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
  CHECK(reply.health == static_cast<std::uint8_t>(Health::stalled));
  CHECK(reply.reason ==
        "no coordinator is heard (v1 alone votes); everything waits for v1; v1 is away for 8 s");
}

TEST_CASE("ring view: slots whose volcano is away wait") {
  Told told;
  told.view.leader = VolcanoId(2);
  told.view.is_coordinator = true;
  told.ring.must(ReplicaBehind{{told.ring.at(0, kSlotCount - 1), VolcanoId(2)}});
  told.ring.down(VolcanoId(1));
  told.refresh();
  const wire::RingReply reply = told.reply();
  CHECK(reply.coordinator == 2);
  CHECK(reply.volcanoes[0].slots_waiting == kSlotCount);
  CHECK(reply.health == static_cast<std::uint8_t>(Health::stalled));
}

TEST_CASE("ring view: a copy that is being made") {
  Told told;
  told.ring.must(ReplicaBehind{{told.ring.at(0, kSlotCount - 1), VolcanoId(2)}});
  told.refresh();
  CHECK(told.reply().volcanoes[1].mirror == wire::RingMirror::behind);
  CHECK(told.reply().reason == "one copy of everything; v2 is behind");
  CHECK(told.reply().copies_had == 1);
  wire::MirrorFact fact{.volcano = VolcanoId(2),
                        .state = wire::MirrorState::copying,
                        .epoch = told.ring.entry(0).epoch,
                        .bytes_done = 420,
                        .bytes_total = 1000};
  told.view.table[0].facts.mirrors = {fact};
  wire::RingVolcano line = told.reply().volcanoes[1];
  CHECK(line.mirror == wire::RingMirror::copying);
  CHECK(line.mirror_bytes_done == 420);
  CHECK_FALSE(line.mirror_left_ns.has_value());
  CHECK(told.reply().reason == "one copy of everything; v2 is copying, 42 %");
  CHECK(client::holds_text(line) == "mirror, copying 42 %, 420 B of 1000 B, time left unknown");
  told.view.copy_left[VolcanoId(2)] = seconds(170);
  CHECK(told.reply().reason == "one copy of everything; v2 is copying, 42 %, 3 min left");
  line = told.reply().volcanoes[1];
  CHECK(client::holds_text(line) == "mirror, copying 42 %, 420 B of 1000 B, 3 min left");
  // Asked for itself, the primary knows best.
  told.view.self = VolcanoId(1);
  fact.bytes_done = 500;
  told.view.own.mirrors = {fact};
  CHECK(told.reply().volcanoes[1].mirror_bytes_done == 500);
  told.ring.down(VolcanoId(2));
  told.refresh();
  CHECK(told.reply().volcanoes[1].mirror == wire::RingMirror::behind);
}

TEST_CASE("ring view: who has a slot, and in which role") {
  Told told;
  // A part of the slots is the third one's, whose copy at the second lags behind.
  told.ring.add_replicas(0, 9, VolcanoId(3));
  told.ring.must(Promote{{told.ring.at(0, 9), VolcanoId(3)}});
  told.refresh();
  wire::RingReply reply = told.reply();
  CHECK(reply.volcanoes[2].slices.size() == 1);
  CHECK(reply.volcanoes[2].copies.empty());
  REQUIRE(reply.volcanoes[1].copies.size() == 1);
  CHECK(reply.volcanoes[1].copies[0].last == kSlotCount - 1);
  CHECK(reply.volcanoes[1].copies[0].state == wire::RingMirror::in_sync);
  const auto low = client::holders_of(reply, Slot(9)), high = client::holders_of(reply, Slot(10));
  CHECK(client::holders_text(low) ==
        "v3 (10.0.0.3:12000) primary, v1 (10.0.0.1:12000) mirror in sync, "
        "v2 (10.0.0.2:12000) mirror in sync");
  CHECK(client::holders_text(high) ==
        "v1 (10.0.0.1:12000) primary, v2 (10.0.0.2:12000) mirror in sync");
  CHECK(client::holder_text(high[0]) == "v1 (10.0.0.1:12000)");
  CHECK(client::holder_text(high[1]) == "v2 (10.0.0.2:12000), in sync");
  told.ring.down(VolcanoId(2));
  told.refresh();
  reply = told.reply();
  CHECK(client::holders_of(reply, Slot(10))[1].state == "behind");
}

TEST_CASE("ring view: a profile has what others may know, and no secret") {
  const wire::RingReply reply = Told().reply();
  const std::string first = client::profile_text(reply, reply.volcanoes[0]);
  const std::string zeros(40, '0'), all(40, 'f');
  for (const std::string& line :
       {std::string("nickname = v1\n"), std::string("servername = v1.example.org\n"),
        std::string("ipaddr = 10.0.0.1\n"), std::string("port = 12000\n"),
        std::string("node = 10.0.0.1:12001\n"), std::string("console = 10.0.0.1:12002\n"),
        std::string("coordinator = yes\n"), std::string("vote = votes\n"),
        std::string("alive = yes\n"), "start_key = " + zeros + "\n", "stop_key = " + all + "\n"})
    CHECK_MESSAGE(first.find("\n" + line) != std::string::npos, line);
  CHECK(first.starts_with("hashpath = "));
  CHECK(first.find("mirror") == std::string::npos);
  const std::string second = client::profile_text(reply, reply.volcanoes[1]);
  CHECK(second.find("\nmirror = in sync\nmirror_start_key = " + zeros) != std::string::npos);
  CHECK(second.find("\nstart_key") == std::string::npos);
  client::Profiles profiles;
  profiles.set(reply, WallTime{5});
  REQUIRE(profiles.all().size() == 3);
  const auto found = profiles.find("v2");
  REQUIRE(found.has_value());
  CHECK(profiles.text_of(*found) == second);
  CHECK(profiles.attr_of(*found).size == second.size());
  CHECK_FALSE(profiles.find("v4").has_value());
}

TEST_CASE("ring view: what a volcano holds, in words") {
  wire::RingVolcano volcano;
  CHECK(client::holds_text(volcano) == "no slots: nothing is stored here");
  volcano.slices = {{0, 4095}};
  volcano.has_census = true;
  volcano.keys = 7;
  volcano.bytes = 1536;
  CHECK(client::holds_text(volcano) == "primary of 4096 slots, 7 flares, 1.5 KiB of content");
  volcano.slots_waiting = 4096;
  volcano.has_census = false;
  CHECK(client::holds_text(volcano) == "primary of 4096 slots, 4096 wait for it");
  volcano = {};
  volcano.mirror = wire::RingMirror::in_sync;
  CHECK(client::holds_text(volcano) == "mirror, in sync");
  volcano.mirror_bytes_total = 2048;
  CHECK(client::holds_text(volcano) == "mirror, in sync, 2.0 KiB");
  volcano.mirror = wire::RingMirror::behind;
  volcano.mirror_batches_behind = 12;
  CHECK(client::holds_text(volcano) == "mirror, behind by 12 batches");
  volcano.mirror = wire::RingMirror::copying;
  volcano.mirror_bytes_total = 0;
  CHECK(client::holds_text(volcano) == "mirror, copying");
}

TEST_CASE("ring view: time left is not known at first, then by the bytes that came") {
  CopyProgress progress;
  wire::MirrorFact fact{.volcano = VolcanoId(2),
                        .state = wire::MirrorState::copying,
                        .epoch = {},
                        .bytes_total = 1000};
  Instant now = kNow;
  const auto left = [&](std::uint64_t done) {
    fact.bytes_done = done;
    progress.note(now, {fact});
    now = now + seconds(1);
    const auto all = progress.left();
    const auto found = all.find(VolcanoId(2));
    return found == all.end() ? std::nullopt : std::optional(found->second);
  };
  CHECK_FALSE(left(0).has_value());
  CHECK_FALSE(left(100).has_value());
  CHECK(left(200) == seconds(8));
  CHECK(left(300) == seconds(7));
  fact.state = wire::MirrorState::in_sync;
  CHECK_FALSE(left(1000).has_value());
  CHECK(progress.left().empty());
}
