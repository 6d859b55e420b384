// What happens to a Raft node (Event) and what it wants done (Action); each prints as one line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "libmagma/base/result.h"
#include "libmagma/raft/messages.h"
#include "libmagma/raft/types.h"

namespace magma::raft {

// --- events -------------------------------------------------------------------------------------
// `cookie` is the caller's and comes back in Answered.

// Time has passed; due at Output::deadline, harmless at any other time.
struct Tick {};

// A message of a node that is authenticated as `from`, decoded by decode_message.
struct Received {
  NodeId from;
  Message message;
};

// All Persist up to this sequence are on stable storage.
struct Persisted {
  std::uint64_t sequence = 0;
};

// To the leader: a command for the log. Answered with its place. It is done when an Apply with that
// very place (index and term) comes; if another entry is applied there, it was lost. Refused:
// not_primary (not the leader, or giving up), overloaded (log full), too_long.
struct Propose {
  std::uint64_t cookie = 0;
  Bytes command;
};

enum class MemberChange : std::uint8_t {
  add_learner = 1,
  promote = 2,  // a learner votes
  demote = 3,   // a voter becomes a learner
  remove = 4,
};

// To the leader: one change of the members (section 4.1). Answered with the place of its entry.
// Refused besides as Propose: busy (another change is not committed, the leader has not committed
// an entry of its own term, the learner is behind), exists, not_found, invalid (the last voter,
// too many).
struct ChangeMember {
  std::uint64_t cookie = 0;
  NodeId node;
  MemberChange change = MemberChange::add_learner;
};

// A right the coordinator has granted, and when it ends at the latest by this node's clock.
struct Deadline {
  std::uint64_t holder = 0;
  Instant ends;
  friend bool operator==(const Deadline&, const Deadline&) = default;
};

// To the leader: hand the leadership to voter `to` (section 3.10) with the rights still out. From
// this event on the caller grants none: lease_until() is empty until Standing says how it went.
// Answered when it has begun; refused: not_primary, busy, not_found, invalid (too many deadlines).
struct Transfer {
  std::uint64_t cookie = 0;
  NodeId to;
  std::vector<Deadline> deadlines{};
};

// The state machine's state after entry `index`, which was applied. After WantSnapshot or unasked.
struct SnapshotTaken {
  Index index;
  Bytes state;
};

using Event =
    std::variant<Tick, Received, Persisted, Propose, ChangeMember, Transfer, SnapshotTaken>;

// --- actions, to be done in order ---------------------------------------------------------------

// Write in one transaction, in the order of `sequence`, then report Persisted: `hard`; if there is
// one, the snapshot, which replaces the former and all entries up to its last; and drop all entries
// from `first` on, then append `entries` there. A write that fails is final: the node must stop.
struct Persist {
  std::uint64_t sequence = 0;
  HardState hard;
  std::optional<Snapshot> snapshot{};
  Index first;
  std::vector<Entry> entries{};
};

struct Send {
  NodeId to;
  Message message;
};

// Replace the state machine's state. Also the first action of all after a start.
struct Restore {
  Snapshot snapshot;
};

// Entry `index` is committed and on this node's stable storage. Without gaps, in order; no-ops and
// configurations too.
struct Apply {
  Index index;
  Entry entry;
};

struct Answered {
  std::uint64_t cookie = 0;
  Result<Position> place;
};

enum class Role : std::uint8_t { follower, pre_candidate, candidate, leader };

// Role, term, leader or readiness has changed. A leader that is ready has applied all that was ever
// committed before it: it may act as coordinator, while it has a lease. `deadlines`: what a leader
// elected by transfer must wait out or respect, by its own clock.
struct Standing {
  Role role = Role::follower;
  Term term;
  NodeId leader;  // kNobody: not known
  bool is_ready = false;
  std::vector<Deadline> deadlines{};
  friend bool operator==(const Standing&, const Standing&) = default;
};

// Give a SnapshotTaken of about here, so that the log can be cut.
struct WantSnapshot {
  Index index;
};

using Action = std::variant<Persist, Send, Restore, Apply, Answered, Standing, WantSnapshot>;

struct Output {
  std::vector<Action> actions;
  Instant deadline;  // a Tick is due then; Instant::never(): none is
};

std::string_view name_of(Role role);
std::string describe(const Event& event);
std::string describe(const Action& action);

}  // namespace magma::raft
