// The end of a ring: the order, and what is done when one of it is away, refuses, or stays.
#include <doctest/doctest.h>

#include "libmagma/client/ring_stop.h"
#include "tests/unit/client_fixture.h"

using namespace magma;
using namespace magma::client_test;
using client::RingStop;
using client::StopResult;
using client::StopStep;
using wire::FlareOp;

namespace {

wire::RingVolcano volcano(std::uint16_t id, wire::RingVote vote) {
  wire::RingVolcano told;
  told.id = id;
  told.nick = "v" + std::to_string(id);
  told.flare = "10.0.0." + std::to_string(id) + ":12000";
  told.vote = vote;
  return told;
}

std::vector<std::uint16_t> ids(const std::vector<StopStep>& steps) {
  std::vector<std::uint16_t> found;
  for (const StopStep& step : steps) found.push_back(step.id);
  return found;
}

// Two volcanoes (10.0.0.1 and .2) that end when they are told to, unless they are stubborn.
struct StopWorld {
  struct Told {
    std::uint16_t id;
    StopResult result;
  };

  explicit StopWorld(std::vector<StopStep> steps, const crypto::Keyring& keys = test_keys(1)) {
    for (std::size_t i = 0; i < 2; ++i)
      world.volcanoes[i]->respond = [this, i](const Seen& seen) {
        if (seen.op != FlareOp::shutdown) return;
        if (refuses[i]) return world.volcanoes[i]->refuse(seen, Code::permission);
        world.volcanoes[i]->answer(seen, wire::EmptyReply{});
        if (!stays[i]) ends_at[i] = world.clock.now_ + milliseconds(300);
      };
    stop = std::make_unique<RingStop>(
        std::move(steps), "tester", keys, world.clock, world.random, datagrams,
        [this](const StopStep& step, StopResult result, std::string_view) {
          told.push_back({step.id, result});
          still_running.push_back(world.volcanoes[0]->is_running() +
                                  world.volcanoes[1]->is_running());
        },
        [this] { is_over = true; });
    world.network.attach(here, [this](const sys::Address& from, MutableByteSpan bytes) {
      stop->on_datagram(from, bytes);
    });
  }
  ~StopWorld() { world.network.detach(here); }

  bool run(Duration patience = seconds(200)) {
    const Instant limit = world.clock.now_ + patience;
    while (!is_over && world.clock.now_ < limit) {
      stop->flush();
      for (std::size_t i = 0; i < 2; ++i)
        if (ends_at[i] && *ends_at[i] <= world.clock.now_) {
          world.volcanoes[i]->kill();
          ends_at[i].reset();
        }
      Instant next = std::max(stop->deadline(), world.clock.now_);
      for (std::size_t i = 0; i < 2; ++i)
        if (ends_at[i]) next = std::min(next, std::max(*ends_at[i], world.clock.now_));
      world.step(std::min(limit, next));
      if (stop->deadline() <= world.clock.now_) {
        stop->on_timer();
        world.clock.now_ = world.clock.now_ + microseconds(1);
      }
    }
    return is_over;
  }

  World world;
  sys::Address here = sys::Address::v4(10, 0, 0, 8, 40001);
  TestDatagrams datagrams{world.network, here};
  bool refuses[2] = {};
  bool stays[2] = {};
  std::optional<Instant> ends_at[2] = {};
  std::vector<Told> told;
  std::vector<int> still_running;  // when it was told
  bool is_over = false;
  std::unique_ptr<RingStop> stop;
};

const std::vector<StopStep> kTwo = {{1, "wallace", "10.0.0.1:12000", true},
                                    {2, "gromit", "10.0.0.2:12000", false}};

}  // namespace

TEST_CASE("ring stop: who serves first, the coordinator last") {
  wire::RingReply ring;
  ring.volcanoes = {volcano(1, wire::RingVote::votes), volcano(2, wire::RingVote::votes),
                    volcano(3, wire::RingVote::learns), volcano(4, wire::RingVote::votes),
                    volcano(5, wire::RingVote::none)};
  ring.volcanoes[1].is_coordinator = true;
  ring.volcanoes[3].slices = {{0, 4095}};
  CHECK(ids(client::stop_order(ring)) == std::vector<std::uint16_t>{4, 3, 5, 1, 2});
  CHECK(client::stop_order(ring).front().is_primary);
  // It serves and coordinates: it goes first all the same.
  ring.volcanoes[1].slices = {{0, 4095}};
  ring.volcanoes[3].slices.clear();
  CHECK(ids(client::stop_order(ring)) == std::vector<std::uint16_t>{2, 3, 5, 1, 4});
}

TEST_CASE("ring stop: each is asked when the one before answers no more") {
  StopWorld w(kTwo);
  REQUIRE(w.run());
  REQUIRE(w.told.size() == 2);
  CHECK(w.told[0].id == 1);
  CHECK(w.told[0].result == StopResult::ended);
  CHECK(w.still_running == std::vector<int>{1, 0});
  CHECK(w.told[1].result == StopResult::ended);
  CHECK(w.world.volcanoes[1]->last(FlareOp::shutdown).as<wire::ShutdownRequest>().who == "tester");
}

TEST_CASE("ring stop: who is away is left, the others end") {
  StopWorld w({{1, "wallace", "10.0.0.1:12000", true},
               {7, "penguin", "10.0.0.7:12000", true},
               {9, "shaun", "", false},
               {2, "gromit", "10.0.0.2:12000", false}});
  REQUIRE(w.run());
  REQUIRE(w.told.size() == 4);
  CHECK(w.told[1].result == StopResult::away);
  CHECK(w.told[2].result == StopResult::away);
  CHECK(w.told[3].result == StopResult::ended);
}

TEST_CASE("ring stop: if who serves does not end, the others are left alone") {
  StopWorld w(kTwo);
  SUBCASE("it refuses") {
    w.refuses[0] = true;
    REQUIRE(w.run());
    CHECK(w.told.front().result == StopResult::refused);
  }
  SUBCASE("it stays") {
    w.stays[0] = true;
    REQUIRE(w.run());
    CHECK(w.told.front().result == StopResult::stays);
  }
  REQUIRE(w.told.size() == 2);
  CHECK(w.told[1].result == StopResult::skipped);
  CHECK(w.world.volcanoes[1]->count(FlareOp::shutdown) == 0);
}

TEST_CASE("ring stop: a mirror that refuses does not save the others") {
  StopWorld w({{2, "gromit", "10.0.0.2:12000", false}, {1, "wallace", "10.0.0.1:12000", false}});
  w.refuses[1] = true;
  REQUIRE(w.run());
  REQUIRE(w.told.size() == 2);
  CHECK(w.told[0].result == StopResult::refused);
  CHECK(w.told[1].result == StopResult::ended);
}

TEST_CASE("ring stop: a client key will not do") {
  crypto::Keyring keys = test_keys(1);
  keys.ring.reset();
  StopWorld w(kTwo, keys);
  REQUIRE(w.run());
  CHECK(w.told.front().result == StopResult::refused);
  CHECK(w.told.back().result == StopResult::skipped);
}
