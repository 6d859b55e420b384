// The coordinator's rules: who votes, who is away, what leases are granted.
#include <doctest/doctest.h>

#include "magmad/core/coordinator.h"
#include "tests/lib/lava_ring.h"

using namespace magma;
using namespace magma::core;
using namespace magma::test;

namespace {

// A ring in which the members of Raft are what the map says.
struct Members : LavaRing {
  raft::Configuration configuration{};
  std::vector<MemberState> states{};

  void start(unsigned volcanoes) {
    found();
    configuration.voters = {raft::NodeId(1)};
    for (unsigned n = 2; n <= volcanoes; ++n) join(n);
    refresh();
  }
  void join(unsigned number) {
    configuration.learners.push_back(node_of(add(profile(number))));
    refresh();
  }
  void refresh() {
    states.clear();
    for (const Volcano& v : map.volcanoes)
      states.push_back({.volcano = v.id, .is_there = true, .has_caught_up = true});
  }
  MemberState& state(unsigned number) { return states.at(number - 1); }
  std::optional<MemberStep> step(Duration even_for = {}) const {
    return next_member_step(map, configuration, VolcanoId(1), states, even_for);
  }
  void take(const MemberStep& step) {
    std::erase(configuration.voters, step.node);
    std::erase(configuration.learners, step.node);
    auto& list =
        step.change == raft::MemberChange::promote ? configuration.voters : configuration.learners;
    if (step.change != raft::MemberChange::remove)
      list.insert(std::ranges::lower_bound(list, step.node), step.node);
  }
  // Takes steps until there are none; the number of voters then.
  std::size_t settle(Duration even_for = {}) {
    for (int i = 0; i < 20; ++i) {
      const auto next = step(even_for);
      if (!next) break;
      take(*next);
      CHECK(configuration.is_valid());
    }
    return configuration.voters.size();
  }
};

MemberStep promote(unsigned n) { return {raft::NodeId(n), raft::MemberChange::promote}; }
MemberStep demote(unsigned n) { return {raft::NodeId(n), raft::MemberChange::demote}; }

}  // namespace

TEST_CASE("voters: 1, 1, 3, 3, 5, 5") {
  for (unsigned volcanoes = 1; volcanoes <= 6; ++volcanoes) {
    Members ring;
    ring.start(volcanoes);
    CHECK(ring.settle() == (volcanoes >= 5 ? 5u : volcanoes >= 3 ? 3u : 1u));
    CHECK_FALSE(ring.step().has_value());
  }
}

TEST_CASE("voters: a volcano of the map becomes a learner first") {
  Members ring;
  ring.start(1);
  ring.add(profile(2));
  ring.refresh();
  CHECK(ring.step() == MemberStep{raft::NodeId(2), raft::MemberChange::add_learner});
}

TEST_CASE("voters: who is no volcano any more goes") {
  Members ring;
  ring.start(2);
  ring.configuration.learners.push_back(raft::NodeId(9));
  CHECK(ring.step() == MemberStep{raft::NodeId(9), raft::MemberChange::remove});
}

TEST_CASE("voters: none begins unless two can, and who is behind waits") {
  Members ring;
  ring.start(3);
  ring.state(3).has_caught_up = false;
  CHECK_FALSE(ring.step().has_value());
  ring.state(3).has_caught_up = true;
  CHECK(ring.step() == promote(2));
}

TEST_CASE("voters: an even number is undone after ten seconds") {
  Members ring;
  ring.start(3);
  ring.take(promote(2));
  ring.state(3).is_there = false;
  CHECK_FALSE(ring.step(seconds(9)).has_value());
  CHECK(ring.step(seconds(10)) == demote(2));
  ring.state(3).is_there = true;
  CHECK(ring.step(seconds(10)) == promote(3));
}

TEST_CASE("voters: one that is away beyond patience is replaced") {
  Members ring;
  ring.start(4);
  REQUIRE(ring.settle() == 3);
  ring.state(2).is_there = false;
  CHECK_FALSE(ring.step().has_value());
  ring.state(2).is_long_gone = true;
  CHECK(ring.step() == promote(4));
  ring.take(promote(4));
  CHECK(ring.step() == demote(2));
  ring.take(demote(2));
  CHECK_FALSE(ring.step().has_value());
}

TEST_CASE("voters: nobody is demoted whose going leaves no majority there") {
  Members ring;
  ring.start(3);
  ring.take(promote(2));
  ring.state(2).is_there = false;
  // With the other voter away nothing can be committed by both; alone, the first can.
  CHECK(ring.step(seconds(10)) == promote(3));
  ring.state(3).is_there = false;
  CHECK(ring.step(seconds(10)) == demote(2));
}

TEST_CASE("voters: of two with a witness three, and it leaves for a third volcano") {
  Members ring;
  ring.start(2);
  Profile witness = profile(3);
  witness.roles = kWitness;
  ring.configuration.learners.push_back(node_of(ring.add(witness)));
  ring.refresh();
  CHECK(ring.settle() == 3);
  CHECK(ring.configuration.has_voter(raft::NodeId(3)));
  ring.join(4);
  CHECK(ring.settle() == 3);
  CHECK_FALSE(ring.configuration.has_voter(raft::NodeId(3)));
  CHECK(ring.configuration.has_voter(raft::NodeId(4)));
}

namespace {

struct Watch {
  Members ring;
  Coordinator coordinator{VolcanoId(1)};
  Instant now{seconds(100).ns};
  std::vector<Coordinator::Follower> followers;
  VolcanoId preferred{1};
  wire::VolcanoFacts own;  // of the coordinator

  explicit Watch(unsigned volcanoes) {
    ring.start(volcanoes);
    ring.settle();
    coordinator.begin(now, {}, kNoVolcano);
  }
  Duration beat(unsigned number, Duration own_lease = seconds(3)) {
    return coordinator.heard(VolcanoId(static_cast<std::uint16_t>(number)), {}, now,
                             now + own_lease);
  }
  Decision next() {
    return coordinator.next({.map = ring.map,
                             .configuration = ring.configuration,
                             .followers = followers,
                             .preferred = preferred,
                             .own = own},
                            now);
  }
  // The volcano that is called down now, 0: none.
  unsigned called_down() {
    const Decision decision = next();
    const auto* command = std::get_if<Command>(&decision);
    const auto* down = command != nullptr ? std::get_if<VolcanoDown>(command) : nullptr;
    return down != nullptr ? down->volcano.value : 0;
  }
};

}  // namespace

TEST_CASE("coordinator: a lease of two seconds, never beyond its own") {
  Watch watch(3);
  CHECK(watch.beat(2) == seconds(2));
  CHECK(watch.beat(2, milliseconds(700)) == milliseconds(700));
  CHECK(watch.coordinator.heard(VolcanoId(2), {}, watch.now, std::nullopt) == Duration{});
}

TEST_CASE("coordinator: who is silent is called down when its lease is over, not before") {
  Watch watch(3);
  watch.beat(2);
  watch.beat(3);
  watch.now = watch.now + kLease;
  watch.beat(3);
  CHECK(watch.called_down() == 0);
  watch.now = watch.now + kLeaseSlack;
  CHECK(watch.called_down() == 2);
  watch.ring.down(VolcanoId(2));
  CHECK(watch.called_down() == 0);
  // It comes back.
  watch.beat(2);
  const Decision decision = watch.next();
  const auto* command = std::get_if<Command>(&decision);
  REQUIRE(command != nullptr);
  CHECK(std::holds_alternative<VolcanoStarted>(*command));
}

TEST_CASE("coordinator: who was never heard of has three seconds") {
  Watch watch(2);
  watch.now = watch.now + kGrace - milliseconds(1);
  CHECK(watch.called_down() == 0);
  watch.now = watch.now + milliseconds(1);
  CHECK(watch.called_down() == 2);
}

TEST_CASE("coordinator: the leader before, which fell silent, has less") {
  Watch watch(3);
  watch.coordinator.begin(watch.now, {}, VolcanoId(2));
  watch.now = watch.now + kFormerGrace - milliseconds(1);
  CHECK(watch.called_down() == 0);
  watch.now = watch.now + milliseconds(1);
  CHECK(watch.called_down() == 2);
}

TEST_CASE("coordinator: rights that were handed over are waited for") {
  Watch watch(2);
  watch.coordinator.begin(watch.now, {{2, watch.now + seconds(9)}}, VolcanoId(2));
  watch.now = watch.now + seconds(8);
  CHECK(watch.called_down() == 0);
  CHECK(watch.coordinator.rights(watch.now).size() == 1);
  watch.now = watch.now + seconds(1);
  CHECK(watch.called_down() == 2);
  CHECK(watch.coordinator.rights(watch.now).empty());
}

TEST_CASE("coordinator: leadership goes to who is preferred, once it is settled and there") {
  Watch watch(3);
  watch.ring.must(SetCopies{.membership = watch.ring.map.membership, .copies = 1});
  watch.preferred = VolcanoId(2);
  watch.followers = {{.volcano = VolcanoId(2), .is_close = true}};
  const auto at = [&](Duration after) {
    watch.now = Instant{seconds(100).ns} + after;
    watch.beat(2);
    watch.beat(3);
    return watch.next();
  };
  CHECK(std::holds_alternative<std::monostate>(at(seconds(4))));
  const Decision decision = at(seconds(10));
  REQUIRE(std::holds_alternative<HandOver>(decision));
  CHECK(std::get<HandOver>(decision).to == VolcanoId(2));
  CHECK(std::holds_alternative<std::monostate>(at(seconds(11))));
  watch.followers[0].is_close = false;
  CHECK(std::holds_alternative<std::monostate>(at(seconds(30))));
}

namespace {

// What is to be changed in the map now, "none" for nothing.
std::string command_of(const Decision& decision) {
  const auto* command = std::get_if<Command>(&decision);
  return command != nullptr ? std::string(name_of(*command)) : "none";
}

}  // namespace

TEST_CASE("coordinator: who is primary is not called down, a mirror is") {
  Watch watch(3);
  // Another one coordinates than the founder, who has all slots.
  watch.coordinator = Coordinator(VolcanoId(2));
  watch.coordinator.begin(watch.now, {}, kNoVolcano);
  watch.ring.must(AddReplica{{watch.ring.at(0, kSlotCount - 1), VolcanoId(3)}});
  watch.beat(1);
  watch.now = watch.now + seconds(60);
  CHECK(watch.called_down() == 3);
  watch.ring.down(VolcanoId(3));
  CHECK(watch.called_down() == 0);
  CHECK(watch.ring.map.is_alive(VolcanoId(1)));
}

TEST_CASE("coordinator: mirrors are in sync when their primary says so") {
  Watch watch(2);
  const auto hear = [&] {
    watch.beat(2);
    return watch.next();
  };
  const Decision added = hear();
  CHECK(command_of(added) == "add_replica");
  watch.ring.must(std::get<Command>(added));
  CHECK(command_of(hear()) == "none");
  // The primary coordinates: its own facts count.
  wire::MirrorFact fact{.volcano = VolcanoId(2),
                        .state = wire::MirrorState::in_sync,
                        .epoch = watch.ring.entry(0).epoch};
  watch.own.mirrors = {fact};
  CHECK(command_of(hear()) == "replica_in_sync");
  fact.epoch = Epoch(1);
  watch.own.mirrors = {fact};
  CHECK(command_of(hear()) == "none");

  // Another one coordinates: what the primary says in its heartbeats counts, nobody else's word.
  watch.coordinator = Coordinator(VolcanoId(2));
  watch.coordinator.begin(watch.now, {}, kNoVolcano);
  fact.epoch = watch.ring.entry(0).epoch;
  watch.own.mirrors = {fact};
  CHECK(command_of(watch.next()) == "none");
  wire::HeartbeatRequest heartbeat;
  heartbeat.facts.mirrors = {fact};
  watch.coordinator.heard(VolcanoId(1), heartbeat, watch.now, watch.now + seconds(3));
  CHECK(command_of(watch.next()) == "replica_in_sync");
}

TEST_CASE("coordinator: who is not there is not made a mirror") {
  Watch watch(2);
  CHECK(command_of(watch.next()) == "none");
  watch.beat(2);
  CHECK(command_of(watch.next()) == "add_replica");
}

TEST_CASE("coordinator: who is away for ten minutes loses its copy to one that has none") {
  Watch watch(3);
  watch.ring.must(AddReplica{{watch.ring.at(0, kSlotCount - 1), VolcanoId(2)}});
  watch.beat(2);
  watch.beat(3);
  const auto after = [&](Duration wait, bool third_is_there) {
    watch.now = watch.now + wait;
    if (third_is_there) watch.beat(3);
    return watch.next();
  };
  CHECK(command_of(after(seconds(5), true)) == "volcano_down");
  watch.ring.down(VolcanoId(2));
  CHECK(command_of(after(seconds(590), true)) == "none");
  // Nobody is there who could take it over.
  watch.now = watch.now + seconds(20);
  CHECK(command_of(watch.next()) != "patience_over");
  const Decision decision = after({}, true);
  REQUIRE(command_of(decision) == "patience_over");
  watch.ring.must(std::get<Command>(decision));
  const Decision next = after({}, true);
  REQUIRE(command_of(next) == "add_replica");
  CHECK(std::get<AddReplica>(std::get<Command>(next)).volcano == VolcanoId(3));
}
