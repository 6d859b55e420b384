// A lava ring's control plane in one process and simulated time, from one seed: Nodes
// (magmad/node/node.h) with their real endpoints on a SimNetwork, clocks of their own rates, stores
// that forget what was not written when they crash. Members join by asking another one.
//
// After every step of every node a RaftChecker looks at Raft, and NodeRing besides at
//
//   identity       a volcano's number belongs to one storage directory, for ever
//   one map        whoever has applied the same entries has the same map, which passes ring::check;
//                  each step passes ring::check_step
//   mirrors        a replica is in sync in the map by the primary's word in that very epoch, and
//                  has all that the primary has acknowledged; all slots are alike
//   nested leases  who is called down by the map has no lease any more; what a coordinator has
//                  granted is over, or known to its successor, when that begins (RaftChecker)
//
// Who has the slots says of its mirrors what a real primary would: some time after a replica has
// come up it has a complete copy, from then on the primary waits for it, until a map of a higher
// epoch says otherwise; now and then, and when it is away, the primary asks to be freed. What it
// acknowledges without waiting for a volcano, that volcano lacks.
//
// One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "magmad/node/joining.h"
#include "magmad/node/node.h"
#include "tests/lib/raft_checker.h"
#include "tests/lib/sim_executor.h"
#include "tests/lib/sim_network.h"

namespace magma::test {

class NodeRing {
 public:
  struct Options {
    std::uint64_t seed = 1;
    node::NodePlanted planted{};
    raft::Settings raft{};
    std::int64_t drift_ppm_max = 0;
    Duration disk_max = milliseconds(3);
    std::uint8_t copies = 2;
    double release_chance = 0.02;  // each time the primary looks at a mirror in sync
  };
  explicit NodeRing(const Options& options);
  ~NodeRing();

  // Member 0 founds the ring and starts.
  void found();
  // A machine with an empty disk; the number of the member. It does nothing yet.
  std::size_t add(std::string nick);
  std::size_t add() { return add("v" + std::to_string(members_.size() + 1)); }
  // It begins to join by asking `host`; later starts go on with that until it is taken in.
  void join(std::size_t member, std::size_t host);
  // Joins, and waits for it; whether it was taken in.
  bool join_and_wait(std::size_t member, std::size_t host, Duration limit = seconds(30));
  void crash(std::size_t member);
  void start(std::size_t member);  // nothing if it runs
  // The disk is replaced by an empty one: what comes up is a newcomer with `nick`.
  void lose_disk(std::size_t member, std::string nick);
  void fail_disk(std::size_t member, bool fails);  // each write of its store, from now on
  void hang_shard(std::size_t member, bool hangs);
  // Nothing gets from one to the other any more.
  void cut(std::size_t from, std::size_t to);
  void cut_off(std::size_t member);
  void heal();

  void run_for(Duration time);
  bool run_until(const std::function<bool()>& condition, Duration limit);

  std::size_t size() const { return members_.size(); }
  bool is_up(std::size_t member) const;                           // a node or a newcomer runs
  bool is_node(std::size_t member) const;                         // a node runs
  node::Node& node(std::size_t member);                           // Requires: is_node.
  ring::VolcanoId id(std::size_t member) const;                   // kNoVolcano: not taken in
  const std::optional<Error>& refused(std::size_t member) const;  // of its last join
  const node::RingViewPtr& view(std::size_t member) const;
  std::uint64_t storage(std::size_t member) const;
  const raft::Stored& durable(std::size_t member) const;
  // Who is coordinator with a lease; the member.
  std::optional<std::size_t> coordinator();
  // One coordinator, everybody who is a node has its map, knows it and is alive in it.
  bool is_at_peace();
  // At peace, and as many copies in sync as there should be.
  bool has_its_copies();
  SimNetwork& network() { return network_; }
  SimRandom& random() { return random_; }
  Instant now() { return clock_.now(); }
  std::size_t voters();  // of the coordinator's map; 0: there is none
  const crypto::Keyring& keys() const { return keys_; }
  const crypto::Uuid& filesystem() const { return filesystem_; }
  sys::Address address(std::size_t member) const;

  const std::optional<std::string>& violation() const { return checker_.violation(); }
  struct Counters {
    std::uint64_t crashes = 0, joins = 0, joins_refused = 0, disks_lost = 0, downs = 0,
                  elections = 0, transfers = 0, leases = 0, commands = 0, restores = 0, in_sync = 0,
                  behind = 0;
  };
  const Counters& counters() const { return counters_; }
  std::uint64_t trace() const { return network_.datagrams_sent() * 1'000'003 + trace_; }

 private:
  struct Member;
  class Store;
  class Executor;
  Member& at(std::size_t member) const { return *members_[member]; }
  void begin_join(Member& member);
  void start_node(Member& member, bool is_first);
  void check_leases(Member& member);
  void check_mirrors();
  bool is_running(ring::VolcanoId volcano) const;
  void check_map(Member& member, raft::Index index, const ring::LavaMap& map);

  Options options_;
  SimClock clock_;
  SimRandom random_;
  SimRandom node_random_;
  SimRandom mirror_random_;
  SimNetwork network_;
  RaftChecker checker_;
  crypto::Keyring keys_;
  crypto::Uuid filesystem_{};
  std::map<ring::VolcanoId, std::uint64_t> storage_of_;  // who was ever given that number
  std::map<ring::VolcanoId, Instant> lease_of_;          // true times
  std::set<raft::Index> downs_;                          // entries looked at
  std::set<std::pair<ring::VolcanoId, Epoch>> told_in_sync_;  // by the primary, ever
  std::set<ring::VolcanoId> complete_;                        // their copies
  std::shared_ptr<const ring::LavaMap> newest_;               // shared with nobody; of any member
  std::uint64_t next_storage_ = 1000;
  Counters counters_;
  std::uint64_t trace_ = 0;
  std::vector<std::unique_ptr<Member>> members_;  // end first
};

}  // namespace magma::test
