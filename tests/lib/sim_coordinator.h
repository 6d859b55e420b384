// The control plane of a simulated cluster with mirrors, as one object without a network: it keeps
// the lava map, which changes by ring::apply_command only, and every 100 ms
//
//   hears      whoever runs and can reach it; of the primary what it says of its mirrors, which may
//              be up to a few rounds old
//   decides    VolcanoStarted for each new start and for who is back, VolcanoDown for a mirror it
//              has not heard of for 3 s (never for the primary: nobody takes over yet), and what
//              the rules for mirrors say; each step is audited with check() and check_step()
//   tells      each volcano of a new map, after up to 300 ms, sometimes seconds; never an older one
//              after a newer one
//
// The founder is in the map from the beginning, a mirror from its first start on.
//
// Of a cluster that is split all are in the map from the beginning, each primary of its slots; then
// the rules for slots (core/slot_rules.h) say what is next, by what all primaries say, and no
// primary is ever called down, unless slots move: then each volcano has a lease of two seconds, and
// is called down when that is over and it was not heard of for 3 s. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "libmagma/ring/map_commands.h"
#include "magmad/core/slot_rules.h"
#include "magmad/node/ring_view.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/store_fixture.h"

namespace magma::test {

class SimCluster;

class SimCoordinator {
 public:
  SimCoordinator(SimCluster& cluster, std::uint64_t seed);

  const ring::LavaMap& map() const { return *map_; }
  // What the map has of the volcano's replica; nothing: it has none.
  std::optional<ring::ReplicaState> state_of(unsigned index) const;
  bool is_in_sync(unsigned index) const { return state_of(index) == ring::ReplicaState::in_sync; }
  // Every volcano but the primary is a mirror in sync, for the map and for the primary, and all
  // who run have that map.
  bool is_at_peace() const;

  // The same of a cluster that is split: every slot is on as many volcanoes as it should be.
  bool is_split_at_peace() const;

  // Whether the volcano and the coordinator reach each other.
  void set_reachable(unsigned index, bool is_reachable) {
    seats_[index].is_reachable = is_reachable;
  }
  // The volcano's next start is told of as one that has lost something.
  void has_lost(unsigned index) { seats_[index].has_lost = true; }

  // A planted fault: every mirror that catches up is called in sync at once.
  void plant_hasty(bool is_hasty) { is_hasty_ = is_hasty; }

  // An invariant of the map that a step broke, or a command that was refused though nothing had
  // come between.
  const std::optional<std::string>& problem() const { return problem_; }
  // The map's replicas, what the primary says of them, the last commands: for people.
  std::string report() const;

  struct Counters {
    std::uint64_t commands = 0, downs = 0, in_syncs = 0, behinds = 0, drops = 0, late_views = 0;
  };
  const Counters& counters() const { return counters_; }

 private:
  struct Seat {            // what it knows of a volcano
    ring::VolcanoId id{};  // kNoVolcano: it has not joined
    bool is_reachable = true;
    bool has_lost = false;
    std::uint64_t starts_heard = 0;  // of the cluster's count
    Instant heard_at{};
    Instant view_due{};              // the last one on its way arrives then
    std::uint64_t version_sent = 0;  // to that start
    std::uint64_t start_sent = 0;
    std::uint64_t version_has = 0;
    node::RingViewPtr view{};        // that it has
    Instant lease_ends{};            // of what was granted to it, if slots move
    std::uint64_t came_at = 0;       // version of the map in which it is back: no lease before
  };

  void split();
  void settle_owners();
  void must(const ring::Command& command);
  bool has_last_map(unsigned index) const;
  void tick();
  void hear();
  std::optional<ring::Command> decide();
  std::optional<ring::Command> who_came_or_went();
  std::optional<ring::Command> call_in_sync();
  bool apply(const ring::Command& command);
  void tell(unsigned index);
  void renew_leases();
  bool is_heard(unsigned index) const;
  bool is_there(ring::VolcanoId id) const;
  core::HeirState heir_state(ring::VolcanoId id) const;
  ring::Profile profile_of(unsigned index) const;
  Duration delay();

  SimCluster& cluster_;
  SeedRandom random_;
  std::shared_ptr<const ring::LavaMap> map_;
  std::vector<Seat> seats_;
  std::vector<wire::MirrorFact> told_;
  std::map<ring::VolcanoId, wire::VolcanoFacts> told_by_;  // of a cluster that is split
  std::deque<std::string> history_;
  std::optional<std::string> problem_;
  Counters counters_;
  bool is_hasty_ = false;
  std::shared_ptr<int> life_ = std::make_shared<int>(0);  // shared with the loop, as weak_ptr
};

}  // namespace magma::test
