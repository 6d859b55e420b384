// Raft, one node, step by step: what a cluster meets too rarely to rely on.
#include <doctest/doctest.h>

#include <optional>
#include <vector>

#include "libmagma/raft/raft.h"
#include "tests/lib/sim_random.h"

using namespace magma;
using namespace magma::raft;

namespace {

NodeId id(std::uint64_t n) { return NodeId(n); }

// A node with its disk; time in milliseconds since it started.
struct Node {
  explicit Node(std::uint64_t voters, std::uint64_t term = 2) : raft(made(voters, term)) {
    give(Tick{});
  }
  Raft made(std::uint64_t voters, std::uint64_t term) {
    Stored stored = founding(id(1), {});
    stored.hard.term = Term(term);
    stored.snapshot.configuration.voters.clear();
    for (std::uint64_t i = 1; i <= voters; ++i)
      stored.snapshot.configuration.voters.push_back(id(i));
    return Raft(id(1), std::move(stored), {}, random, now());
  }
  Instant now() const { return Instant{seconds(100).ns} + milliseconds(ms); }

  // Does it and answers with what was sent; Persist are confirmed at once or kept in `unsynced`.
  std::vector<Message> give(Event event) {
    std::vector<Message> out;
    Output output = raft.step(std::move(event), now());
    std::uint64_t written = 0;
    for (auto& action : output.actions) {
      if (auto* send = std::get_if<Send>(&action)) out.push_back(send->message);
      if (auto* persist = std::get_if<Persist>(&action)) written = persist->sequence;
    }
    if (written == 0) return out;
    unsynced.push_back(written);
    if (disk_hangs) return out;
    for (auto& message : sync()) out.push_back(std::move(message));
    return out;
  }
  // The next write is done.
  std::vector<Message> sync() {
    const std::uint64_t written = unsynced.front();
    unsynced.erase(unsynced.begin());
    return give(Persisted{written});
  }
  std::optional<VoteReply> vote(NodeId from, VoteRequest request) {
    for (auto& message : give(Received{from, request}))
      if (auto* reply = std::get_if<VoteReply>(&message)) return *reply;
    return std::nullopt;
  }
  // Wins an election of three voters, and the no-op is committed.
  void win() {
    ms += 4000;
    give(Tick{});
    const Term next = raft.term() + 1;
    give(Received{id(2), VoteReply{raft.term(), VoteKind::pre_vote, next, true}});
    give(Received{id(2), VoteReply{next, VoteKind::vote, next, true}});
    REQUIRE(raft.role() == Role::leader);
    acknowledge(id(2), ms);
    REQUIRE(raft.is_ready());
  }
  void acknowledge(NodeId from, std::int64_t sent_ms) {
    const auto at =
        static_cast<std::uint64_t>((Instant{seconds(100).ns} + milliseconds(sent_ms)).ns);
    give(Received{from, AppendReply{raft.term(), at, true, {}, raft.log().last_position()}});
  }

  test::SimRandom random{1};
  std::int64_t ms = 0;
  bool disk_hangs = false;
  std::vector<std::uint64_t> unsynced;
  Raft raft;
};

}  // namespace

TEST_CASE("raft: a heartbeat after a pre-vote binds the vote") {
  Node node(3);
  node.ms = 3500;
  const Position last = node.raft.log().last_position();
  CHECK(node.vote(id(2), {Term(3), VoteKind::pre_vote, last})->is_granted);
  node.give(Received{id(3), AppendRequest{Term(2), last, last.index, 1, {}}});
  CHECK_FALSE(node.vote(id(2), {Term(3), VoteKind::vote, last})->is_granted);
  CHECK(node.raft.term() == Term(2));  // and the term is not looked at
  node.ms += 2999;
  CHECK_FALSE(node.vote(id(2), {Term(3), VoteKind::pre_vote, last})->is_granted);
  CHECK(node.vote(id(2), {Term(3), VoteKind::transfer, last})->is_granted);
}

TEST_CASE("raft: votes count for the election they were asked for") {
  Node node(3);
  node.ms = 4000;
  node.give(Tick{});
  node.give(Received{id(2), VoteReply{Term(2), VoteKind::pre_vote, Term(3), true}});
  REQUIRE(node.raft.role() == Role::candidate);
  node.ms += 1000;
  node.give(Tick{});
  REQUIRE(node.raft.role() == Role::pre_candidate);
  node.give(Received{id(2), VoteReply{Term(2), VoteKind::pre_vote, Term(3), true}});  // again, late
  REQUIRE(node.raft.role() == Role::pre_candidate);
  node.give(Received{id(2), VoteReply{Term(3), VoteKind::pre_vote, Term(4), true}});
  REQUIRE(node.raft.role() == Role::candidate);
  node.give(Received{id(2), VoteReply{Term(3), VoteKind::vote, Term(3), true}});  // late
  CHECK(node.raft.role() == Role::candidate);
  node.give(Received{id(9), VoteReply{Term(4), VoteKind::vote, Term(4), true}});  // no voter
  CHECK(node.raft.role() == Role::candidate);
  node.give(Received{id(3), VoteReply{Term(4), VoteKind::vote, Term(4), true}});
  CHECK(node.raft.role() == Role::leader);
  CHECK(node.raft.term() == Term(4));
}

TEST_CASE("raft: the own vote counts when it is on stable storage") {
  Node node(1);
  node.disk_hangs = true;
  node.give(Received{id(2), AppendRequest{Term(5), {Index(1), Term(0)}, Index(1), 1, {}}});
  node.ms = 4000;
  node.give(Tick{});
  REQUIRE(node.raft.role() == Role::candidate);
  REQUIRE(node.unsynced.size() == 2);
  node.sync();  // the term of before
  CHECK(node.raft.role() == Role::candidate);
  node.sync();
  CHECK(node.raft.role() == Role::leader);
  CHECK(node.raft.commit_index() == Index(2));  // of its first term; this one is not stored
  node.sync();
  CHECK(node.raft.is_ready());
}

TEST_CASE("raft: a late, short message cuts nothing off") {
  Node node(3);
  const Position base = node.raft.log().last_position();
  const Entry a{Term(2), EntryKind::command, {1}}, b{Term(2), EntryKind::command, {2}};
  node.give(Received{id(2), AppendRequest{Term(2), base, base.index, 1, {a, b}}});
  CHECK(node.raft.log().last() == base.index + 2);
  auto said = node.give(Received{id(2), AppendRequest{Term(2), base, base.index, 1, {a}}});
  CHECK(node.raft.log().last() == base.index + 2);
  REQUIRE(said.size() == 1);
  CHECK(std::get<AppendReply>(said[0]).match.index == base.index + 1);
  // A heartbeat says nothing about what follows, and commits no more than it speaks of.
  node.give(Received{id(2), AppendRequest{Term(2), base, base.index + 2, 1, {}}});
  CHECK(node.raft.commit_index() == base.index);
}

TEST_CASE("raft: what is cut off and written anew counts when the new is stored") {
  Node node(3);
  const Position base = node.raft.log().last_position();
  const Entry old{Term(2), EntryKind::command, {1}}, fresh{Term(3), EntryKind::command, {2}};
  node.disk_hangs = true;
  node.give(Received{id(2), AppendRequest{Term(2), base, base.index, 1, {old, old}}});
  node.give(Received{id(3), AppendRequest{Term(3), base, base.index + 2, 1, {fresh, fresh}}});
  REQUIRE(node.raft.commit_index() == base.index + 2);
  node.sync();
  CHECK(node.raft.applied_index() == base.index);
  node.sync();
  CHECK(node.raft.applied_index() == base.index + 2);
}

TEST_CASE("raft: a lease is as long as the heartbeats answered are young") {
  Node node(3);
  node.win();
  const std::int64_t won = node.ms;
  CHECK(node.raft.lease_until(node.now()) == node.now() + milliseconds(2900));
  node.ms = won + 2000;
  node.acknowledge(id(2), won + 500);
  CHECK(node.raft.lease_until(node.now()) == node.now() - milliseconds(1500) + milliseconds(2900));
  node.acknowledge(id(2), won + 200);  // an older one, later
  CHECK(node.raft.lease_until(node.now()) == node.now() + milliseconds(1400));
  node.acknowledge(id(3), won + 60'000);  // forged: not yet sent
  CHECK(node.raft.lease_until(node.now()) == node.now() + milliseconds(1400));
  node.acknowledge(id(9), won + 2000);  // no member
  CHECK(node.raft.lease_until(node.now()) == node.now() + milliseconds(1400));
  node.ms = won + 3400;
  CHECK_FALSE(node.raft.lease_until(node.now()));
  node.give(Tick{});
  CHECK(node.raft.role() == Role::leader);
  node.ms = won + 3500;
  node.give(Tick{});
  CHECK(node.raft.role() == Role::follower);  // check-quorum
  const Position last = node.raft.log().last_position();
  node.ms += 2999;  // it keeps the promise it has counted itself by
  CHECK_FALSE(node.vote(id(2), {Term(9), VoteKind::vote, last})->is_granted);
  node.ms += 2;
  CHECK(node.vote(id(2), {Term(9), VoteKind::vote, last})->is_granted);
}

TEST_CASE("raft: messages that wait for the disk are bounded, and go in order") {
  Node node(3);
  const Position base = node.raft.log().last_position();
  node.disk_hangs = true;
  for (std::uint64_t i = 0; i < 2 * kHeldMax; ++i)
    CHECK(node.give(Received{id(2), AppendRequest{Term(3), base, base.index, i + 1, {}}}).empty());
  const auto said = node.sync();
  REQUIRE(said.size() == kHeldMax);
  for (std::uint64_t i = 0; i < said.size(); ++i)
    CHECK(std::get<AppendReply>(said[i]).sent_at == i + 1);
}
