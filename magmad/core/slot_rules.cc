#include "magmad/core/slot_rules.h"

#include <algorithm>
#include <set>

#include "libmagma/ring/placement.h"

namespace magma::core {

namespace {

using ring::LavaMap;
using ring::Replica;
using ring::ReplicaState;
using ring::SlotEntry;
using ring::SlotMask;
using ring::VolcanoId;
using wire::MirrorFact;
using wire::MirrorState;

// The slots that a fact is about; none if it is void, or not true of what the map has.
SlotMask slots_of(const LavaMap& map, const wire::SlotsFact& fact) {
  if (!ring::is_sound(fact.slots)) return {};
  const SlotMask slots = ring::set_of(fact.slots);
  return ring::digest_of_epochs(map, slots) == fact.epochs ? slots : SlotMask();
}

// The command about those of the slots of which `wants` is so, as many as a command may have.
template <class C, class Wants>
std::optional<ring::Command> for_slots(const LavaMap& map, const SlotMask& slots,
                                       VolcanoId volcano, const Wants& wants) {
  C command;
  command.volcano = volcano;
  for (unsigned n = 0; n < ring::kSlotCount; ++n)
    if (slots[n] && command.slots.size() < ring::kSlotsPerCommandMax && wants(map.slots[n]))
      command.slots.push_back({ring::Slot(static_cast<std::uint16_t>(n)), map.slots[n].epoch});
  if (command.slots.empty()) return std::nullopt;
  return command;
}

std::optional<ring::Command> of_mirror(const LavaMap& map, VolcanoId primary,
                                       const MirrorFact& fact) {
  const auto has_it = [&](ReplicaState state) {
    return [&fact, primary, state](const SlotEntry& slot) {
      const Replica* replica = slot.replicas.find(fact.volcano);
      return slot.primary() == primary && fact.volcano != primary && replica != nullptr &&
             replica->state == state;
    };
  };
  const SlotMask slots = slots_of(map, fact.about);
  if (fact.state == MirrorState::in_sync && map.is_alive(fact.volcano))
    return for_slots<ring::ReplicaInSync>(map, slots, fact.volcano,
                                          has_it(ReplicaState::catching_up));
  if (fact.state != MirrorState::released) return std::nullopt;
  // The primary waits for it in vain. What it says of one that the map has not in sync means the
  // same: it may have begun to wait, and only a higher epoch ends that.
  if (auto behind = for_slots<ring::ReplicaBehind>(map, slots, fact.volcano,
                                                   has_it(ReplicaState::in_sync)))
    return behind;
  return for_slots<ring::DropReplica>(map, slots, fact.volcano, has_it(ReplicaState::catching_up));
}

std::optional<ring::Command> of_what_is_told(const LavaMap& map, const FactsOf& told) {
  for (const auto& [primary, facts] : told) {
    if (!map.is_alive(primary)) continue;
    for (const MirrorFact& fact : facts->mirrors)
      if (auto command = of_mirror(map, primary, fact)) return command;
    const auto is_new = [primary = primary](const SlotEntry& slot) {
      return slot.primary() == primary && slot.last_serving != primary;
    };
    if (auto command = for_slots<ring::Serving>(map, slots_of(map, facts->serving), primary,
                                                is_new))
      return command;
  }
  return std::nullopt;
}

// Whether the primaries know whose these slots are to be, so that they have them in groups which
// move as a whole (core/tenure_rules.h).
bool are_primaries_ready(const LavaMap& map, const ring::Promote& command, const FactsOf& told) {
  return std::all_of(command.slots.begin(), command.slots.end(), [&](const ring::SlotAt& at) {
    const VolcanoId primary = map.at(at.slot).primary();
    if (!map.is_alive(primary)) return true;
    auto found = told.find(primary);
    return found != told.end() && found->second->membership == map.membership;
  });
}

bool owns_any(const LavaMap& map, VolcanoId id) {
  return std::any_of(map.slots.begin(), map.slots.end(),
                     [&](const SlotEntry& slot) { return slot.owner == id; });
}

// Whether every slot of its share has it as its primary, and it serves.
bool has_its_share(const LavaMap& map, VolcanoId id) {
  return std::all_of(map.slots.begin(), map.slots.end(), [&](const SlotEntry& slot) {
    return slot.owner != id || (slot.primary() == id && slot.last_serving == id);
  });
}

// Every slot is where it should be, and served there.
bool is_at_rest(const LavaMap& map) {
  return ring::is_settled(map) &&
         std::all_of(map.slots.begin(), map.slots.end(), [](const SlotEntry& slot) {
           return slot.last_serving == slot.primary();
         });
}

// The share of a newcomer, beside whom it finds in its place of the order: one after the other, so
// that each is planned for a ring that is settled.
std::optional<ring::Command> of_newcomer(const LavaMap& map,
                                         const std::function<bool(VolcanoId)>& is_there) {
  for (const ring::Volcano& volcano : map.volcanoes) {
    if (volcano.state != ring::VolcanoState::joining || !volcano.stores()) continue;
    if (owns_any(map, volcano.id)) {
      if (!has_its_share(map, volcano.id)) continue;
      return ring::VolcanoJoined{.membership = map.membership, .volcano = volcano.id};
    }
    if (!is_there(volcano.id) || !is_at_rest(map)) continue;
    auto plan = ring::plan_join(map, volcano.id, map.slots.back().owner, ring::Weights());
    if (plan) return ring::Assign{.membership = map.membership, .runs = plan->changes};
  }
  return std::nullopt;
}

}  // namespace

AfterLoss next_after_loss(const LavaMap& map, VolcanoId volcano,
                          const std::function<HeirState(VolcanoId)>& state_of) {
  std::map<VolcanoId, SlotMask> heirs;
  std::set<VolcanoId> to_take_over;  // what it served last; one that has lost it gives it back
  for (unsigned n = 0; n < ring::kSlotCount; ++n) {
    const SlotEntry& slot = map.slots[n];
    if (slot.last_serving == volcano && map.is_alive(slot.primary()))
      to_take_over.insert(slot.primary());
    if (slot.primary() != volcano) continue;
    for (const Replica& replica : slot.replicas)
      if (replica.volcano != volcano && replica.state == ReplicaState::in_sync &&
          map.is_alive(replica.volcano))
        heirs[replica.volcano].set(n);
  }
  AfterLoss after;
  bool may_heirs_serve = false;
  for (VolcanoId heir : to_take_over)
    after.must_wait = after.must_wait || (heir != volcano && !state_of(heir).is_there);
  for (const auto& [heir, slots] : heirs) {
    const HeirState state = state_of(heir);
    if (state.has_lost) {
      after.before = for_slots<ring::ReplicaBehind>(map, slots, heir,
                                                    [](const SlotEntry&) { return true; });
      return after;
    }
    may_heirs_serve = may_heirs_serve || !state.is_there;
  }
  after.must_wait = after.must_wait || may_heirs_serve;
  // Theirs is the slot until it is known what they have; else they would be called behind when they
  // are called down.
  const ring::Volcano* known = map.find(volcano);
  if (may_heirs_serve && known != nullptr && known->is_alive())
    after.before = ring::VolcanoDown{.volcano = volcano, .starts = known->starts};
  return after;
}

std::optional<ring::Command> next_slot_step(const LavaMap& map, const FactsOf& told,
                                            const std::function<bool(VolcanoId)>& is_there) {
  if (map.version == 0) return std::nullopt;
  if (auto command = of_what_is_told(map, told)) return command;
  for (const ring::Command& command : ring::moving_steps(map, kCatchingUpMax)) {
    const auto* added = std::get_if<ring::AddReplica>(&command);
    if (added != nullptr && !is_there(added->volcano)) continue;
    const auto* promoted = std::get_if<ring::Promote>(&command);
    if (promoted != nullptr && !are_primaries_ready(map, *promoted, told)) continue;
    return command;
  }
  return of_newcomer(map, is_there);
}

}  // namespace magma::core
