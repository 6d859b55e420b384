// Raft nodes (libmagma/raft) in one process and simulated time, from one seed: each with a clock of
// its own rate, a disk that forgets what was not synced, a small state machine, and, while it
// leads, a coordinator that grants rights to members as the lava map's does (2 s, never beyond its
// lease).
// Messages travel encoded; they are lost, doubled, delayed (hence reordered), cut off one way.
// After every step a RaftChecker looks whether what Raft promises still holds. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "libmagma/raft/raft.h"
#include "tests/lib/raft_checker.h"
#include "tests/lib/sim_clock.h"
#include "tests/lib/sim_random.h"

namespace magma::test {

struct RaftFaults {
  double loss = 0;
  double duplicate = 0;
  double slow = 0;  // share of messages that take up to slow_max more
  Duration delay_min = microseconds(100);
  Duration delay_max = microseconds(500);
  Duration slow_max = seconds(2);
  Duration disk_min = microseconds(200);
  Duration disk_max = milliseconds(2);
};

class RaftCluster {
 public:
  struct Options {
    std::uint64_t seed = 1;
    raft::Settings settings{};
    raft::Planted planted{};
    bool prints = false;  // every event and action to stderr
  };
  struct ClockOf {
    Duration offset = seconds(1);
    std::int64_t drift_ppm = 0;
  };

  explicit RaftCluster(const Options& options);

  // A node with that on its disk; starts it.
  void add(raft::NodeId id, raft::Stored stored, ClockOf clock);
  void add(raft::NodeId id, raft::Stored stored) { add(id, std::move(stored), ClockOf{}); }
  // Nodes 1 to `voters`, which all vote, with an empty log.
  void add_voters(std::uint64_t voters);
  // The process and its machine die: of writes not yet synced, a random first part is on disk.
  void crash(raft::NodeId id);
  void restart(raft::NodeId id);
  bool is_up(raft::NodeId id) const { return nodes_.at(id)->raft != nullptr; }
  // Nothing gets from one to the other any more; what is under way is lost, too.
  void cut(raft::NodeId from, raft::NodeId to) { cuts_.insert({from, to}); }
  void cut_off(raft::NodeId id);  // both ways, from everybody
  void join_all() { cuts_.clear(); }
  void stop_disk(raft::NodeId id, bool stopped);

  // Gives an event to a node that is up; what it answered to a cookie-bearing one.
  std::optional<Result<raft::Position>> give(raft::NodeId id, raft::Event event);
  Result<raft::Position> propose(raft::NodeId id, std::string_view text);
  Result<raft::Position> change(raft::NodeId id, raft::NodeId node, raft::MemberChange change);
  Result<raft::Position> transfer(raft::NodeId id, raft::NodeId to);

  // Runs the next event due by `limit`; false: there is none.
  bool run_one(Instant limit);
  void run_for(Duration time);
  bool run_until(const std::function<bool()>& condition, Duration limit);

  raft::Raft& raft(raft::NodeId id) { return *nodes_.at(id)->raft; }
  const raft::Stored& durable(raft::NodeId id) const { return nodes_.at(id)->durable; }
  std::vector<raft::NodeId> ids() const;
  // Up, ready, and of the highest term among such.
  std::optional<raft::NodeId> ready_leader() const;
  std::optional<Instant> lease_until(raft::NodeId id);  // in true time
  bool has_lease(raft::NodeId id) { return lease_until(id).has_value(); }
  raft::Index applied(raft::NodeId id) const { return nodes_.at(id)->machine.applied; }
  Instant now() { return clock_.now(); }
  SimRandom& random() { return random_; }
  RaftChecker& checker() { return checker_; }
  const std::optional<std::string>& violation() const { return checker_.violation(); }

  RaftFaults faults;
  // Drops messages for which it is true.
  std::function<bool(raft::NodeId from, raft::NodeId to, const raft::Message&)> drop;

  struct Counters {
    std::uint64_t steps = 0, messages = 0, lost = 0, duplicated = 0, crashes = 0, writes_lost = 0,
                  restores = 0, elections = 0, transfers_won = 0, rights = 0, deadlines_handed = 0,
                  applied = 0, snapshots_sent = 0;
  };
  const Counters& counters() const { return counters_; }

 private:
  struct Machine {  // applies commands by mixing them into a digest
    raft::Index applied;
    std::uint64_t digest = 0;
  };
  struct Node {
    raft::NodeId id;
    std::unique_ptr<DriftingClock> clock;
    std::unique_ptr<raft::Raft> raft;  // null: down
    raft::Stored durable;
    std::queue<raft::Persist> unsynced;
    bool disk_stopped = false;
    Instant disk_free_at{};
    std::uint64_t life = 0;
    Machine machine;
    std::map<std::uint64_t, Instant> rights;  // of a coordinator: holder -> end, own clock
    Instant tick_at = Instant::never();       // the earliest planned
    raft::Role role = raft::Role::follower;
    std::optional<Result<raft::Position>> answered;
  };
  struct Event {
    enum class Kind : std::uint8_t { tick, message, synced } kind{};
    Instant at{};
    std::uint64_t order = 0;
    raft::NodeId node{};
    std::uint64_t life = 0;
    raft::NodeId from{};
    Bytes bytes{};
    std::uint64_t sequence = 0;
  };
  struct Later {
    bool operator()(const Event& a, const Event& b) const {
      return a.at != b.at ? a.at > b.at : a.order > b.order;
    }
  };

  void start(Node& node);
  void step(Node& node, raft::Event event);
  void perform(Node& node, raft::Action& action);
  void transmit(Node& from, raft::NodeId to, const raft::Message& message);
  void write(Node& node, raft::Persist persist);
  void plan_sync(Node& node, std::uint64_t sequence);
  void apply(Node& node, const raft::Apply& apply);
  void coordinate(Node& node);
  void plan_tick(Node& node, Instant local);
  void plan(Event event, Instant at);
  Duration between(Duration low, Duration high) { return {random_.between(low.ns, high.ns)}; }
  void say(const Node& node, const char* mark, const std::string& text);

  Options options_;
  SimClock clock_;
  SimRandom random_;
  SimRandom node_random_;
  RaftChecker checker_;
  std::map<raft::NodeId, std::unique_ptr<Node>> nodes_;
  std::set<std::pair<raft::NodeId, raft::NodeId>> cuts_;
  std::priority_queue<Event, std::vector<Event>, Later> events_;
  std::uint64_t planned_ = 0;
  std::uint64_t cookies_ = 0;
  Counters counters_;
};

// What a store holds after a write to it.
void write_to(raft::Stored& stored, const raft::Persist& persist);

}  // namespace magma::test
