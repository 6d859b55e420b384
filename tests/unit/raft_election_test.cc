// Raft: who may be elected when. Pre-vote, promises, restarts, disruptive nodes.
#include <doctest/doctest.h>

#include "tests/lib/raft_cluster.h"

using namespace magma;
using namespace magma::raft;
using test::RaftCluster;

namespace {

NodeId id(std::uint64_t n) { return NodeId(n); }

struct Cluster : RaftCluster {
  explicit Cluster(std::uint64_t voters, std::uint64_t seed = 1) : RaftCluster({.seed = seed}) {
    add_voters(voters);
  }
  NodeId elect() {
    REQUIRE(run_until([&] { return ready_leader().has_value(); }, seconds(10)));
    return *ready_leader();
  }
};

}  // namespace

TEST_CASE("raft: a founder leads at once, with a learner after a restart not before 3 s") {
  Cluster c(1);
  c.run_for(milliseconds(20));
  REQUIRE(c.ready_leader() == id(1));
  CHECK(c.raft(id(1)).term() == Term(1));
  CHECK(c.propose(id(1), "a").has_value());
  c.run_for(milliseconds(20));
  CHECK(c.applied(id(1)) == Index(3));  // the founding state, a no-op, "a"
  c.crash(id(1));
  c.restart(id(1));
  c.run_for(milliseconds(50));
  REQUIRE(c.ready_leader() == id(1));  // nobody else was ever granted anything
  CHECK(c.raft(id(1)).term() == Term(2));
  REQUIRE(c.change(id(1), id(2), raft::MemberChange::add_learner).has_value());
  c.run_for(milliseconds(300));
  c.crash(id(1));
  c.restart(id(1));
  c.run_for(milliseconds(2990));
  CHECK_FALSE(c.ready_leader());
  c.run_for(milliseconds(30));
  CHECK(c.ready_leader() == id(1));
  CHECK(c.raft(id(1)).term() == Term(3));
  CHECK_FALSE(c.violation());
}

TEST_CASE("raft: after the leader's death the next one is ready within 4 s, not before 3 s") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Cluster c(3, seed);
    const NodeId leader = c.elect();
    c.run_for(seconds(1));
    c.crash(leader);
    const Instant died = c.now();
    REQUIRE(c.run_until([&] { return c.ready_leader().has_value(); }, seconds(10)));
    // The last heartbeat was up to 250 ms before.
    CHECK((c.now() - died).ms() >= 2700);
    CHECK((c.now() - died).ms() <= 4000);
    CHECK_FALSE(c.violation());
  }
}

TEST_CASE("raft: a node that comes back, or hears nothing, does not disturb the leader") {
  Cluster c(5);
  const NodeId leader = c.elect();
  const NodeId victim = leader == id(5) ? id(4) : id(5);
  const Term term = c.raft(leader).term();
  SUBCASE("cut off for long") { c.cut_off(victim); }
  SUBCASE("heard, but deaf") {
    for (NodeId other : c.ids()) c.cut(other, victim);
  }
  SUBCASE("deaf to the leader alone") { c.cut(leader, victim); }
  c.run_for(seconds(60));
  CHECK(c.raft(victim).role() == Role::pre_candidate);
  CHECK(c.raft(victim).term() == term);  // pre-vote: it never raised it
  c.join_all();
  c.run_for(seconds(5));
  CHECK(c.ready_leader() == leader);
  CHECK(c.raft(leader).term() == term);
  CHECK(c.raft(victim).leader() == leader);
  CHECK_FALSE(c.violation());
}

TEST_CASE("raft: a leader that hears of no majority steps down; its lease has ended before") {
  Cluster c(3);
  const NodeId leader = c.elect();
  c.run_for(seconds(1));
  REQUIRE(c.has_lease(leader));
  for (NodeId other : c.ids()) c.cut(other, leader);  // its heartbeats still arrive
  c.run_for(milliseconds(2600));
  CHECK(c.raft(leader).role() == Role::leader);
  c.run_for(milliseconds(350));
  CHECK_FALSE(c.has_lease(leader));
  c.run_for(milliseconds(300));
  CHECK(c.raft(leader).role() != Role::leader);
  REQUIRE(c.run_until([&] { return c.ready_leader().has_value(); }, seconds(10)));
  CHECK(c.ready_leader() != leader);
  CHECK_FALSE(c.violation());
}

TEST_CASE("raft: whoever restarts refuses to elect for 3 s") {
  Cluster c(3);
  const NodeId leader = c.elect();
  c.run_for(seconds(1));
  std::vector<NodeId> others;
  for (NodeId other : c.ids())
    if (other != leader) others.push_back(other);
  c.cut_off(leader);  // it has a lease for some time yet
  for (NodeId other : others) {
    c.crash(other);
    c.restart(other);
  }
  c.run_for(milliseconds(2950));
  CHECK_FALSE((c.ready_leader() && *c.ready_leader() != leader));
  REQUIRE(c.run_until([&] { return c.ready_leader() && *c.ready_leader() != leader; }, seconds(2)));
  CHECK_FALSE(c.violation());
}

TEST_CASE("raft: of two voters neither goes on alone") {
  Cluster c(2);
  const NodeId leader = c.elect();
  c.crash(leader == id(1) ? id(2) : id(1));
  REQUIRE(c.propose(leader, "x").has_value());
  const Index before = c.raft(leader).commit_index();
  c.run_for(seconds(20));
  CHECK_FALSE(c.ready_leader());
  CHECK(c.raft(leader).commit_index() == before);
}

TEST_CASE("raft: a vote is sent when it is on stable storage, and given once") {
  test::SimRandom random(1);
  Stored stored = founding(id(1), {});
  stored.snapshot.configuration.voters = {id(1), id(2), id(3)};
  Raft raft(id(1), stored, {}, random, Instant{seconds(100).ns});
  Instant now{seconds(100).ns};
  raft.step(Tick{}, now);
  const VoteRequest request{.term = Term(1), .kind = VoteKind::vote, .last = {Index(1), Term(0)}};
  auto asked = raft.step(Received{id(2), request}, now);
  std::optional<Persist> persist;
  for (auto& action : asked.actions) {
    CHECK_FALSE(std::holds_alternative<Send>(action));
    if (auto* p = std::get_if<Persist>(&action)) persist = *p;
  }
  REQUIRE(persist);
  CHECK(persist->hard == HardState{Term(1), id(2)});
  auto done = raft.step(Persisted{persist->sequence}, now);
  REQUIRE(!done.actions.empty());
  const auto& reply = std::get<VoteReply>(std::get<Send>(done.actions.at(0)).message);
  CHECK(reply.is_granted);

  const auto granted = [&](NodeId from, const VoteRequest& m) {
    auto output = raft.step(Received{from, m}, now);
    for (auto& action : output.actions)
      if (auto* send = std::get_if<Send>(&action))
        return std::get<VoteReply>(send->message).is_granted;
    return false;
  };
  CHECK_FALSE(granted(id(3), request));  // another one in the same term
  CHECK(granted(id(2), request));        // the same one, again
  // The vote survives a restart; the refusal of the first 3 s does not end it.
  stored.hard = persist->hard;
  Raft again(id(1), stored, {}, random, now);
  now = now + seconds(4);
  auto output = again.step(Received{id(3), request}, now);
  for (auto& action : output.actions)
    if (auto* send = std::get_if<Send>(&action))
      CHECK_FALSE(std::get<VoteReply>(send->message).is_granted);
}

TEST_CASE("raft: shorter logs get no votes") {
  test::SimRandom random(1);
  Stored stored = founding(id(1), {});
  stored.snapshot.configuration.voters = {id(1), id(2), id(3)};
  stored.hard = {Term(3), kNobody};
  stored.entries = {{Term(2), EntryKind::no_op, {}}, {Term(3), EntryKind::no_op, {}}};
  const Instant start{seconds(1).ns};
  for (const auto& [last, is_granted] : {std::pair{Position{Index(3), Term(3)}, true},
                                         {Position{Index(2), Term(3)}, false},
                                         {Position{Index(9), Term(2)}, false},
                                         {Position{Index(2), Term(4)}, true}}) {
    for (VoteKind kind : {VoteKind::pre_vote, VoteKind::vote, VoteKind::transfer}) {
      Raft raft(id(1), stored, {}, random, start);
      Instant now = start + seconds(4);
      auto output = raft.step(Received{id(2), VoteRequest{Term(5), kind, last}}, now);
      if (kind != VoteKind::pre_vote) output = raft.step(Persisted{1}, now);
      bool said = false;
      for (auto& action : output.actions) {
        if (auto* send = std::get_if<Send>(&action)) {
          said = true;
          CHECK(std::get<VoteReply>(send->message).is_granted == is_granted);
        }
      }
      CHECK(said);
    }
  }
}
