// The coordinator: what the Raft leader does for the ring besides replicating the map. It hears the
// volcanoes, grants their leases, sees who is away, and says what is to be changed next: one
// command or one change of the members at a time. Pure: (event, now) -> decision; the Node carries
// it out (magmad/node/node.h). All times by the leader's own clock.
//
// Leases (DESIGN.md section 3). A heartbeat is answered with a lease of kLease that the volcano
// counts from the *sending* of its heartbeat, never beyond the leader's own lease. The coordinator
// counts the same length from the answer, and a little more because clocks differ in rate: so when
// it calls a volcano down, that volcano knows itself that its lease is over. An ordinary successor
// was elected after the leader's lease, so after all of these; one elected by transfer is told of
// them (begin()).
//
// Who was never heard of by this coordinator is away when it has not come within kGrace; the leader
// before, whose silence made the election, within kFormerGrace.
//
// It also says who has which slots, by what their primaries say (slot_rules.h); where they are not
// shared, who mirrors them (mirror_rules.h).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <variant>
#include <vector>

#include "libmagma/base/time.h"
#include "libmagma/raft/events.h"
#include "libmagma/ring/map_commands.h"
#include "libmagma/wire/node_messages.h"
#include "magmad/core/voter_rules.h"

namespace magma::core {

inline constexpr Duration kHeartbeatEvery = milliseconds(500);
inline constexpr Duration kLease = seconds(2);
inline constexpr Duration kLeaseSlack = milliseconds(100);  // of two clocks' rates, and more
inline constexpr Duration kGrace = seconds(3);
inline constexpr Duration kFormerGrace = milliseconds(700);  // a heartbeat, and more
inline constexpr Duration kThere = milliseconds(1500);       // heard of so lately: it is there
inline constexpr Duration kTransferEvery = seconds(10);
inline constexpr Duration kSettled = seconds(5);  // led for so long before leadership is handed on
static_assert(kLease + kLeaseSlack < kGrace);
static_assert(kHeartbeatEvery * 3 <= kThere);
static_assert(kHeartbeatEvery < kFormerGrace);

// Leadership is to be handed to who holds the key of /.dht.
struct HandOver {
  ring::VolcanoId to;
  friend bool operator==(const HandOver&, const HandOver&) = default;
};
using Decision = std::variant<std::monostate, ring::Command, MemberStep, HandOver>;

class Coordinator {
 public:
  struct Planted {
    bool grants_beyond_own_lease = false;
    bool calls_down_within_lease = false;
    bool believes_old_facts = false;  // what a primary said of its mirrors in an earlier epoch
  };
  explicit Coordinator(ring::VolcanoId self) : self_(self) {}
  Coordinator(ring::VolcanoId self, Planted planted) : self_(self), planted_(planted) {}

  // This node leads, ready; `rights` are those that the leader before had granted and handed over.
  // `former` is that leader; kNoVolcano: not known.
  void begin(Instant now, const std::vector<raft::Deadline>& rights, ring::VolcanoId former);
  void end();
  bool is_active() const { return since_.has_value(); }

  // A heartbeat came. The lease to answer with; nothing if `own_lease` (the leader's) is over.
  Duration heard(ring::VolcanoId from, const wire::HeartbeatRequest& heartbeat, Instant now,
                 std::optional<Instant> own_lease);
  // Something else came from it that shows that it is there, or that it has begun anew.
  void saw(ring::VolcanoId from, Instant now);
  // It has begun anew, and is not there before the map says so.
  void began_anew(ring::VolcanoId from);

  struct Follower {  // as the leader's Raft knows it
    ring::VolcanoId volcano;
    std::uint64_t entries_behind = 0;  // what is committed
    bool is_close = false;             // behind nothing, and heard lately
  };
  struct Situation {
    const ring::LavaMap& map;
    const raft::Configuration& configuration;
    const std::vector<Follower>& followers;
    ring::VolcanoId preferred;      // who should lead
    const wire::VolcanoFacts& own;  // of this volcano
  };
  // What is to be done next. Asked again when that is done or was refused.
  Decision next(const Situation& situation, Instant now);

  // Rights that are out, to be handed over with the leadership.
  std::vector<raft::Deadline> rights(Instant now) const;
  // For the status: all volcanoes of the map, by number; `own` are the facts of this one.
  std::vector<wire::VolcanoNews> table(const ring::LavaMap& map,
                                       const std::vector<Follower>& followers,
                                       const wire::VolcanoFacts& own, Instant now) const;
  bool is_there(ring::VolcanoId volcano, Instant now) const;
  bool was_heard_since(ring::VolcanoId volcano, Instant since) const;

 private:
  struct Heard {
    std::optional<Instant> at{};
    Instant lease_ends{};
    wire::VolcanoFacts facts{};
  };
  // Since when a volcano has been silent, for all that is known here.
  Instant silent_since(ring::VolcanoId volcano) const;
  std::optional<ring::Command> patience_over(const ring::LavaMap& map, Instant now) const;
  std::optional<ring::Command> who_came_or_went(const ring::LavaMap& map, Instant now) const;
  std::optional<ring::Command> slot_step(const Situation& situation, Instant now) const;
  std::optional<ring::Command> mirror_step(const Situation& situation, Instant now) const;
  std::vector<MemberState> member_states(const Situation& situation, Instant now) const;

  ring::VolcanoId self_;
  Planted planted_{};
  std::optional<Instant> since_{};
  ring::VolcanoId former_{};
  std::map<ring::VolcanoId, Heard> heard_{};
  std::optional<Instant> even_since_{};
  Instant handed_at_{};
};

}  // namespace magma::core
