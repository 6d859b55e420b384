// Raft: entries, commitment, snapshots; the figures of the thesis as scenarios.
#include <doctest/doctest.h>

#include <vector>

#include "tests/lib/raft_cluster.h"

using namespace magma;
using namespace magma::raft;
using test::RaftCluster;

namespace {

NodeId id(std::uint64_t n) { return NodeId(n); }

// A log of entries with these terms, from index 1, of a cluster of `voters`.
Stored with_log(std::uint64_t voters, std::uint64_t term, const std::vector<std::uint64_t>& terms) {
  Stored stored;
  stored.hard.term = Term(term);
  stored.snapshot.state = Bytes(8);
  for (std::uint64_t i = 1; i <= voters; ++i) stored.snapshot.configuration.voters.push_back(id(i));
  for (std::uint64_t t : terms) stored.entries.push_back({Term(t), EntryKind::no_op, {}});
  return stored;
}

std::vector<std::uint64_t> terms_of(const Raft& raft) {
  std::vector<std::uint64_t> out;
  for (Index i = raft.log().base() + 1; i <= raft.log().last(); i = i + 1)
    out.push_back(raft.log().at(i).term.value);
  return out;
}

// Only `node` gets votes.
void let_win(RaftCluster& c, NodeId node) {
  c.drop = [node](NodeId from, NodeId, const Message& m) {
    return std::holds_alternative<VoteRequest>(m) && from != node;
  };
}

bool carries_term(const Message& m, Term term) {
  const auto* append = std::get_if<AppendRequest>(&m);
  if (append == nullptr) return false;
  for (const auto& entry : append->entries)
    if (entry.term == term) return true;
  return false;
}

}  // namespace

// Figure 3.6 (7 of the paper): what logs a new leader may meet.
TEST_CASE("raft: logs that diverged become the leader's") {
  RaftCluster c({.seed = 4});
  const std::vector<std::vector<std::uint64_t>> logs = {{1, 1, 1, 4, 4, 5, 5, 6, 6, 6},
                                                        {1, 1, 1, 4, 4, 5, 5, 6, 6},
                                                        {1, 1, 1, 4},
                                                        {1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6},
                                                        {1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7},
                                                        {1, 1, 1, 4, 4, 4, 4},
                                                        {1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3}};
  for (std::uint64_t i = 0; i < logs.size(); ++i)
    c.add(id(i + 1), with_log(7, i == 0 ? 6 : 7, logs[i]));
  let_win(c, id(1));
  REQUIRE(c.run_until([&] { return c.ready_leader() == id(1); }, seconds(20)));
  CHECK(c.raft(id(1)).term() == Term(8));
  REQUIRE(c.propose(id(1), "x").has_value());
  c.run_for(seconds(2));
  std::vector<std::uint64_t> expected = logs[0];
  expected.insert(expected.end(), {8, 8});
  for (NodeId node : c.ids()) {
    CHECK(terms_of(c.raft(node)) == expected);
    CHECK(c.durable(node).entries.size() == expected.size());
    CHECK(c.applied(node) == Index(12));
  }
  CHECK_FALSE(c.violation());
}

// Figure 3.7 (8 of the paper), from (c) on: S1 leads in term 4, and its entry of term 2 is on a
// majority; S5 has another one of term 3.
TEST_CASE("raft: an entry of an older term is not committed by counting") {
  Planted planted;
  bool has_bug = false;
  SUBCASE("S1 does not commit it, so S5 may replace it (d)") {}
  SUBCASE("with the bug S1 does, which is found") { has_bug = true; }
  planted.commits_older_terms = has_bug;
  RaftCluster c({.seed = 2, .planted = planted});
  for (std::uint64_t i = 1; i <= 5; ++i) {
    std::vector<std::uint64_t> log = {1, 2};
    if (i == 4) log = {1};
    if (i == 5) log = {1, 3};
    c.add(id(i), with_log(5, 3, log));
  }
  c.drop = [](NodeId from, NodeId to, const Message& m) {
    if (std::holds_alternative<VoteRequest>(m) && from != id(1)) return true;
    return to == id(5) || carries_term(m, Term(4));
  };
  REQUIRE(c.run_until([&] { return c.raft(id(1)).role() == Role::leader; }, seconds(10)));
  CHECK(c.raft(id(1)).term() == Term(4));
  c.run_for(seconds(1));
  CHECK(c.raft(id(1)).commit_index() == (has_bug ? Index(2) : Index(0)));
  c.crash(id(1));
  let_win(c, id(5));
  CHECK(c.run_until([&] { return c.ready_leader() == id(5); }, seconds(20)) != has_bug);
  CHECK(c.violation().has_value() == has_bug);
  if (has_bug) return;
  CHECK(c.raft(id(5)).log().term_at(Index(2)) == Term(3));
  c.restart(id(1));
  c.run_for(seconds(5));
  CHECK(c.raft(id(1)).log().term_at(Index(2)) == Term(3));
  CHECK_FALSE(c.violation());
}

TEST_CASE("raft: once an own entry is on a majority, the older one is committed with it (e)") {
  RaftCluster c({.seed = 2});
  for (std::uint64_t i = 1; i <= 5; ++i) {
    std::vector<std::uint64_t> log = {1, 2};
    if (i == 4) log = {1};
    if (i == 5) log = {1, 3};
    c.add(id(i), with_log(5, 3, log));
  }
  c.drop = [](NodeId from, NodeId to, const Message& m) {
    if (std::holds_alternative<VoteRequest>(m) && from != id(1)) return true;
    return to == id(4) || to == id(5);
  };
  REQUIRE(c.run_until([&] { return c.ready_leader() == id(1); }, seconds(10)));
  CHECK(c.raft(id(1)).commit_index() == Index(3));
  c.crash(id(1));
  let_win(c, id(5));
  c.run_for(seconds(20));
  CHECK(c.raft(id(5)).role() != Role::leader);  // S2 and S3 have more
  c.drop = nullptr;
  c.restart(id(1));
  REQUIRE(c.run_until([&] { return c.applied(id(5)) >= Index(4); }, seconds(20)));
  CHECK(c.raft(id(5)).log().term_at(Index(2)) == Term(2));
  CHECK_FALSE(c.violation());
}

TEST_CASE("raft: entries are acknowledged when they are on stable storage") {
  RaftCluster c({.seed = 3});
  c.add_voters(3);
  REQUIRE(c.run_until([&] { return c.ready_leader().has_value(); }, seconds(10)));
  c.run_for(seconds(1));
  const NodeId leader = *c.ready_leader();
  for (NodeId node : c.ids())
    if (node != leader) c.stop_disk(node, true);
  const auto place = c.propose(leader, "x");
  REQUIRE(place.has_value());
  c.run_for(milliseconds(800));
  CHECK(c.raft(leader).commit_index() < place->index);
  for (NodeId node : c.ids()) c.stop_disk(node, false);
  c.run_for(milliseconds(100));
  CHECK(c.raft(leader).commit_index() == place->index);
  CHECK(c.applied(leader) == place->index);
  // A leader whose own disk hangs goes on, but tells the state machine only what it has stored.
  c.stop_disk(leader, true);
  REQUIRE(c.propose(leader, "y").has_value());
  c.run_for(milliseconds(500));
  CHECK(c.raft(leader).commit_index() == place->index + 1);
  CHECK(c.applied(leader) == place->index);
  CHECK_FALSE(c.violation());
}

TEST_CASE("raft: a proposal is refused by who does not lead, and when it is too long") {
  RaftCluster c({.seed = 3});
  c.add_voters(3);
  REQUIRE(c.run_until([&] { return c.ready_leader().has_value(); }, seconds(10)));
  const NodeId leader = *c.ready_leader();
  for (NodeId node : c.ids()) {
    if (node != leader) CHECK(c.propose(node, "x").error().code == Code::not_primary);
  }
  CHECK(c.propose(leader, std::string(kCommandBytesMax + 1, 'x')).error().code == Code::too_long);
}

TEST_CASE("raft: a full log refuses proposals until there is a snapshot") {
  test::SimRandom random(1);
  Raft raft(id(1), founding(id(1), {}), {}, random, Instant{1});
  const Instant now{2};
  std::uint64_t written = 0;
  Output output = raft.step(Tick{}, now);
  const auto persist_all = [&] {
    for (bool more = true; more;) {
      more = false;
      for (auto& action : output.actions)
        if (auto* persist = std::get_if<Persist>(&action)) written = persist->sequence, more = true;
      if (more) output = raft.step(Persisted{written}, now);
    }
  };
  persist_all();
  REQUIRE(raft.is_ready());
  std::uint64_t accepted = 0;
  std::optional<Error> refused;
  bool was_asked = false;
  while (!refused && accepted < 2 * kLogEntriesMax) {
    output = raft.step(Propose{1, Bytes(2000)}, now);
    for (auto& action : output.actions)
      if (auto* answered = std::get_if<Answered>(&action); answered && !answered->place)
        refused = answered->place.error();
    accepted += refused ? 0 : 1;
    Output rest;
    for (auto& action : output.actions)
      if (auto* persist = std::get_if<Persist>(&action)) written = persist->sequence;
    output = raft.step(Persisted{written}, now);
    for (auto& action : output.actions) was_asked |= std::holds_alternative<WantSnapshot>(action);
  }
  REQUIRE(refused);
  CHECK(refused->code == Code::overloaded);
  CHECK(was_asked);
  CHECK(accepted * 2000 <= kLogBytesMax + 2000);
  raft.step(SnapshotTaken{raft.applied_index(), Bytes(100)}, now);
  output = raft.step(Propose{2, Bytes(2000)}, now);
  bool is_accepted = false;
  for (auto& action : output.actions)
    if (auto* answered = std::get_if<Answered>(&action)) is_accepted = answered->place.has_value();
  CHECK(is_accepted);
}

TEST_CASE("raft: who is far behind, or new, gets the snapshot") {
  Settings settings;
  settings.snapshot_every = 10;
  settings.keep_entries = 3;
  RaftCluster c({.seed = 6, .settings = settings});
  c.add_voters(3);
  REQUIRE(c.run_until([&] { return c.ready_leader().has_value(); }, seconds(10)));
  const NodeId leader = *c.ready_leader();
  const NodeId away = leader == id(3) ? id(2) : id(3);
  c.crash(away);
  for (int i = 0; i < 50; ++i) {
    REQUIRE(c.propose(leader, "x").has_value());
    c.run_for(milliseconds(20));
  }
  CHECK(c.raft(leader).log().base() > Index(40));
  c.restart(away);
  c.add(id(9), {});
  REQUIRE(c.change(leader, id(9), MemberChange::add_learner).has_value());
  c.run_for(seconds(3));
  CHECK(c.applied(away) == c.applied(leader));
  CHECK(c.applied(id(9)) == c.applied(leader));
  CHECK(c.counters().snapshots_sent >= 2);
  CHECK(c.raft(id(9)).configuration() == c.raft(leader).configuration());
  CHECK_FALSE(c.violation());
}

TEST_CASE("raft: forged messages change nothing") {
  RaftCluster c({.seed = 3});
  c.add_voters(3);
  REQUIRE(c.run_until([&] { return c.ready_leader().has_value(); }, seconds(10)));
  c.run_for(seconds(1));
  const NodeId leader = *c.ready_leader();
  const NodeId follower = leader == id(1) ? id(2) : id(1);
  const Term term = c.raft(leader).term();
  const Index committed = c.raft(follower).commit_index();
  const auto ns = static_cast<std::uint64_t>(Instant::never().ns);
  // A second leader of the term; entries against what is committed; answers to nothing.
  c.give(leader, Received{id(7), AppendRequest{.term = term, .previous = {}, .commit = {}}});
  c.give(follower, Received{leader, AppendRequest{.term = term,
                                                  .previous = {committed - 1, Term(0)},
                                                  .commit = committed,
                                                  .sent_at = 0,
                                                  .entries = {{Term(0), EntryKind::no_op, {}}}}});
  c.give(leader, Received{follower, AppendReply{.term = term,
                                                .sent_at = ns,
                                                .is_success = true,
                                                .previous = {},
                                                .match = {Index(999), term}}});
  c.give(leader, Received{id(8), AppendReply{.term = term,
                                             .sent_at = 0,
                                             .is_success = true,
                                             .previous = {},
                                             .match = {Index(1), term}}});
  c.give(follower, Received{id(8), TransferRequest{.term = term, .deadlines = {}}});
  c.run_for(seconds(2));
  CHECK(c.ready_leader() == leader);
  CHECK(c.raft(leader).term() == term);
  REQUIRE(c.propose(leader, "x").has_value());
  c.run_for(seconds(1));
  CHECK(c.applied(follower) == c.raft(leader).log().last());
  CHECK_FALSE(c.violation());
}
