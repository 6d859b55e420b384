#include "libmagma/ring/map_slot_steps.h"

namespace magma::ring {

namespace {

void raise_epoch(SlotEntry& entry) { ++entry.epoch.value; }

// Whether the primary has not yet said that it serves: then who served before it has every
// acknowledged change, too.
bool is_unconfirmed(const SlotEntry& entry) { return entry.last_serving != entry.primary(); }

bool is_eligible(const LavaMap& map, const SlotEntry& entry, const Replica& replica) {
  return map.is_alive(replica.volcano) &&
         (replica.state == ReplicaState::in_sync ||
          (is_unconfirmed(entry) && replica.volcano == entry.last_serving));
}

// Who becomes primary when `except` can not be it: the first in sync, else who served before.
VolcanoId successor(const LavaMap& map, const SlotEntry& entry, VolcanoId except) {
  VolcanoId fallback = kNoVolcano;
  for (const Replica& r : entry.replicas) {
    if (r.volcano == except || !is_eligible(map, entry, r)) continue;
    if (r.state == ReplicaState::in_sync) return r.volcano;
    fallback = r.volcano;
  }
  return fallback;
}

void make_primary(SlotEntry& entry, VolcanoId volcano) {
  entry.replicas.move_to_front(volcano);
  entry.replicas[0].state = ReplicaState::in_sync;
  entry.state = SlotState::serving;
  raise_epoch(entry);
}

// The primary's place goes to `heir`, and it is the last and catching up.
void replace_primary(SlotEntry& entry, VolcanoId heir) {
  const VolcanoId old = entry.primary();
  make_primary(entry, heir);
  entry.replicas.move_to_back(old);
  entry.replicas.find(old)->state = ReplicaState::catching_up;
}

// Who served last is away, and may have more than all who are there.
void wait_for_last(SlotEntry& entry) {
  replace_primary(entry, entry.last_serving);
  entry.state = SlotState::waiting;
}

void fall_behind(SlotEntry& entry, Replica& replica) {
  replica.state = ReplicaState::catching_up;
  raise_epoch(entry);
}

tl::unexpected<Error> no_replica() { return fail(Code::not_found, "no replica there"); }

}  // namespace

void volcano_went(const LavaMap& map, SlotEntry& entry, VolcanoId volcano) {
  Replica* replica = entry.replicas.find(volcano);
  if (replica == nullptr) return;
  if (entry.primary() != volcano) {
    if (replica->state == ReplicaState::in_sync) fall_behind(entry, *replica);
    return;
  }
  if (const VolcanoId heir = successor(map, entry, volcano); heir != kNoVolcano)
    replace_primary(entry, heir);
  else
    entry.state = SlotState::waiting;
}

void volcano_came(const LavaMap& map, SlotEntry& entry, VolcanoId volcano, bool has_lost) {
  Replica* replica = entry.replicas.find(volcano);
  if (replica == nullptr) return;
  if (entry.primary() == volcano) {
    const VolcanoId heir = has_lost ? successor(map, entry, volcano) : kNoVolcano;
    if (heir != kNoVolcano) {
      replace_primary(entry, heir);
      if (entry.last_serving == volcano) entry.last_serving = heir;
    } else if (has_lost && is_unconfirmed(entry) && entry.replicas.has(entry.last_serving)) {
      wait_for_last(entry);
    } else {
      make_primary(entry, volcano);
    }
    return;
  }
  if (has_lost) {
    // Who was to take over has everything, and is about to serve; or is away, and when it is back
    // it may have lost more.
    if (entry.last_serving == volcano && entry.state == SlotState::serving)
      entry.last_serving = entry.primary();
    if (replica->state == ReplicaState::in_sync) fall_behind(entry, *replica);
    return;
  }
  if (entry.state == SlotState::waiting && is_eligible(map, entry, *replica))
    replace_primary(entry, volcano);
}

void volcano_is_gone(SlotEntry& entry, VolcanoId volcano) {
  if (entry.primary() == volcano || !entry.replicas.has(volcano)) return;
  entry.replicas.remove(volcano);
  if (entry.last_serving == volcano) entry.last_serving = entry.primary();
  raise_epoch(entry);
}

Result<void> step(const LavaMap& map, SlotEntry& entry, const AddReplica& command) {
  if (entry.replicas.has(command.volcano)) return fail(Code::exists, "a replica there already");
  if (entry.replicas.is_full()) return fail(Code::busy, "it has as many replicas as it can");
  if (!map.is_alive(command.volcano)) return fail(Code::busy, "the volcano is away");
  if (!map.find(command.volcano)->stores()) return fail(Code::invalid, "a witness stores nothing");
  entry.replicas.add({.volcano = command.volcano, .state = ReplicaState::catching_up});
  raise_epoch(entry);
  return {};
}

Result<void> step(const LavaMap& map, SlotEntry& entry, const ReplicaInSync& command) {
  Replica* replica = entry.replicas.find(command.volcano);
  if (replica == nullptr) return no_replica();
  if (replica->state == ReplicaState::in_sync) return fail(Code::exists, "it is in sync");
  if (!map.is_alive(command.volcano)) return fail(Code::busy, "the volcano is away");
  if (entry.state != SlotState::serving) return fail(Code::busy, "the primary is away");
  replica->state = ReplicaState::in_sync;
  return {};
}

Result<void> step(const LavaMap&, SlotEntry& entry, const ReplicaBehind& command) {
  Replica* replica = entry.replicas.find(command.volcano);
  if (replica == nullptr) return no_replica();
  if (entry.primary() == command.volcano) return fail(Code::busy, "it is the primary");
  if (replica->state == ReplicaState::catching_up) return fail(Code::exists, "it is catching up");
  fall_behind(entry, *replica);
  return {};
}

Result<void> step(const LavaMap& map, SlotEntry& entry, const Promote& command) {
  const Replica* replica = entry.replicas.find(command.volcano);
  if (replica == nullptr) return no_replica();
  if (entry.primary() == command.volcano) return fail(Code::exists, "it is the primary");
  if (!map.is_alive(command.volcano)) return fail(Code::busy, "the volcano is away");
  if (!is_eligible(map, entry, *replica)) return fail(Code::busy, "the replica is not in sync");
  if (entry.state == SlotState::serving)
    make_primary(entry, command.volcano);
  else
    replace_primary(entry, command.volcano);
  return {};
}

Result<void> step(const LavaMap&, SlotEntry& entry, const DropReplica& command) {
  if (!entry.replicas.has(command.volcano)) return no_replica();
  if (entry.primary() == command.volcano) return fail(Code::busy, "it is the primary");
  if (entry.last_serving == command.volcano)
    return fail(Code::busy, "it served last: its successor does not serve yet");
  entry.replicas.remove(command.volcano);
  raise_epoch(entry);
  return {};
}

Result<void> step(const LavaMap&, SlotEntry& entry, const Serving& command) {
  if (entry.primary() != command.volcano) return fail(Code::busy, "it is not the primary");
  if (entry.state != SlotState::serving) return fail(Code::busy, "the volcano is away");
  entry.last_serving = command.volcano;
  return {};
}

Result<void> step(const LavaMap& map, SlotEntry& entry, const AcceptLoss& command) {
  if (!entry.replicas.has(command.volcano)) return no_replica();
  if (entry.state != SlotState::waiting) return fail(Code::busy, "the slot has a primary");
  if (!map.is_alive(command.volcano)) return fail(Code::busy, "the volcano is away");
  for (Replica& r : entry.replicas) r.state = ReplicaState::catching_up;
  make_primary(entry, command.volcano);
  entry.last_serving = command.volcano;
  return {};
}

}  // namespace magma::ring
