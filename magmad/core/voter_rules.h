// Who votes: the next change of the Raft members, as DESIGN.md section 3 has it. Pure; the
// coordinator asks after every event and carries out one step at a time.
//
//   one volcano, or two   the founder alone votes; the other learns
//   three and four        three voters; also two and a witness
//   five and more         five voters
//
// Learners catch up before they vote. An even number of voters exists only between two steps: if
// the second is not possible within kEvenMax the first is undone. A voter away for longer than
// patience, or that is to leave, is replaced as soon as somebody can take its place; the witness
// leaves when a third volcano votes.
//
// Every volcano of the map is a member: it learns the whole map, and can answer what the ring is.
#pragma once

#include <optional>
#include <vector>

#include "libmagma/base/time.h"
#include "libmagma/raft/events.h"
#include "libmagma/ring/lava_map.h"

namespace magma::core {

inline constexpr Duration kEvenMax = seconds(10);
inline constexpr Duration kPatience = seconds(600);

// A Raft node is a volcano (doc/adr/0005-raft-nodes-are-volcanoes.md).
constexpr raft::NodeId node_of(ring::VolcanoId id) { return raft::NodeId(id.value); }
constexpr ring::VolcanoId volcano_of(raft::NodeId node) {
  return ring::VolcanoId(static_cast<std::uint16_t>(node.value));
}

// What the coordinator knows of a member.
struct MemberState {
  ring::VolcanoId volcano;
  bool is_there = false;       // heard of lately
  bool has_caught_up = false;  // with the log; of the coordinator itself: always
  bool is_long_gone = false;   // away for longer than patience
};

struct MemberStep {
  raft::NodeId node;
  raft::MemberChange change = raft::MemberChange::add_learner;
  friend bool operator==(const MemberStep&, const MemberStep&) = default;
};

// How many should vote.
std::size_t voters_wanted(const ring::LavaMap& map);

// The next step, or nothing while all is as it should be, or nothing can be done now. `even_for`:
// how long the number of voters has been even. Requires: `members` is about every volcano of the
// map; `self`, which leads, is there and has caught up.
std::optional<MemberStep> next_member_step(const ring::LavaMap& map,
                                           const raft::Configuration& configuration,
                                           ring::VolcanoId self,
                                           const std::vector<MemberState>& members,
                                           Duration even_for);

}  // namespace magma::core
