// What a volcano knows of its ring at one moment: a value that never changes, so that the node's
// thread can hand it to others. And what it tells whoever asks for the ring's status.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "libmagma/base/time.h"
#include "libmagma/raft/types.h"
#include "libmagma/ring/lava_map.h"
#include "libmagma/wire/node_messages.h"
#include "libmagma/wire/operator_messages.h"

namespace magma::node {

inline constexpr Duration kCoordinatorSilentMax =
    seconds(3);                                      // then there is none, as far as known
inline constexpr Duration kTableFresh = seconds(5);  // what the coordinator said of others holds

struct RingView {
  // Shared by all views until the map changes; never null, version 0 before there is a ring.
  std::shared_ptr<const ring::LavaMap> map;
  ring::VolcanoId self;
  Instant made{};  // by the volcano's clock, as all times here
  raft::Term term;
  ring::VolcanoId leader;       // of the Raft term; kNoVolcano: not known
  bool is_coordinator = false;  // this volcano is, and it has its lease
  // The map has this start of the volcano: what was said of its slots before is void, and nobody
  // counts on a promise of an earlier start any more.
  bool is_start_known = false;
  std::optional<Instant> leader_heard{};
  std::optional<Instant> lease_until{};  // of this volcano
  std::optional<Instant> table_at{};     // when `table` was true
  std::vector<wire::VolcanoNews> table{};
  wire::VolcanoFacts own{};
  std::map<ring::VolcanoId, Duration> copy_left{};  // until a mirror has all, where that is known
  std::vector<wire::StatusCounter> counters{};      // of the node: doc/metrics.md
};
using RingViewPtr = std::shared_ptr<const RingView>;

// Who leads and was heard of lately.
ring::VolcanoId coordinator_of(const RingView& view, Instant now);
// What the primary said last of its mirrors.
const std::vector<wire::MirrorFact>& mirrors_of(const RingView& view);
wire::RingReply ring_reply(const RingView& view, Instant now);

}  // namespace magma::node
