#include "libmagma/ring/placement.h"

#include <algorithm>
#include <set>

#include "libmagma/base/check.h"

namespace magma::ring {

Owners owners_of(const LavaMap& map) {
  Owners owners;
  owners.reserve(kSlotCount);
  for (const SlotEntry& entry : map.slots) owners.push_back(entry.owner);
  return owners;
}

Weights::Weights(std::span<const std::uint64_t> bytes)
    : bytes_(kSlotCount), load_(kSlotCount), total_load_(0) {
  MAGMA_CHECK(bytes.empty() || bytes.size() == kSlotCount);
  std::copy(bytes.begin(), bytes.end(), bytes_.begin());
  std::uint64_t sum = 0;
  for (std::uint64_t b : bytes_) sum += b;
  MAGMA_CHECK(sum < std::uint64_t{1} << 60);
  const std::uint64_t least = std::max<std::uint64_t>(1, sum / kSlotCount / 8);
  for (unsigned n = 0; n < kSlotCount; ++n) total_load_ += load_[n] = std::max(least, bytes_[n]);
}

bool Target::has(VolcanoId id) const { return std::find(begin(), end(), id) != end(); }

std::vector<Target> targets_of(const Owners& owners, unsigned copies) {
  MAGMA_CHECK(owners.size() == kSlotCount && copies >= 1 && copies <= kCopiesMax);
  const std::size_t different = std::set<VolcanoId>(owners.begin(), owners.end()).size();
  const auto wanted = static_cast<std::uint8_t>(std::min<std::size_t>(copies, different));
  std::vector<Target> targets(kSlotCount);
  for (unsigned n = 0; n < kSlotCount; ++n) {
    Target& target = targets[n];
    if (n > 0 && owners[n] == owners[n - 1]) {
      target = targets[n - 1];  // the rest of a run
      continue;
    }
    for (unsigned at = n; target.count < wanted; at = (at + 1) % kSlotCount)
      if (!target.has(owners[at])) target.volcanoes[target.count++] = owners[at];
  }
  return targets;
}

std::size_t runs_of(const Owners& owners, VolcanoId volcano) {
  std::size_t runs = 0;
  for (unsigned n = 0; n < owners.size(); ++n)
    if (owners[n] == volcano && (n == 0 || owners[n - 1] != volcano)) ++runs;
  return runs;
}

namespace {

void add_moves(PlacementPlan& plan, const SlotEntry& entry, unsigned slot, const Target& target,
               const Weights& weights) {
  for (VolcanoId to : target) {
    const bool is_copied = !entry.replicas.has(to);
    const bool is_first = to == target.volcanoes[0];
    if (!is_copied && (!is_first || entry.primary() == to)) continue;
    plan.moves.push_back({.slot = Slot(static_cast<std::uint16_t>(slot)),
                          .from = entry.primary(),
                          .to = to,
                          .role = is_first ? MoveRole::primary : MoveRole::backup,
                          .is_copied = is_copied});
    if (!is_copied) continue;
    ++plan.copied_slots;
    plan.copied_bytes += weights.bytes(slot);
  }
}

void add_change(PlacementPlan& plan, unsigned slot) {
  const Slot at(static_cast<std::uint16_t>(slot));
  const VolcanoId owner = plan.owners[slot];
  if (!plan.changes.empty() && plan.changes.back().owner == owner &&
      plan.changes.back().last.value + 1u == slot)
    plan.changes.back().last = at;
  else
    plan.changes.push_back({.first = at, .last = at, .owner = owner});
}

// --- the steps of one slot -----------------------------------------------------------------------

enum class StepKind : std::uint8_t { none, add, promote, drop };
struct SlotStep {
  StepKind kind = StepKind::none;
  VolcanoId volcano;
};

bool is_in_sync(const SlotEntry& entry, VolcanoId volcano) {
  const Replica* replica = entry.replicas.find(volcano);
  return replica != nullptr && replica->state == ReplicaState::in_sync;
}

// A replica that is not wanted and whose going leaves as many in sync as there should be.
VolcanoId superfluous(const SlotEntry& entry, const Target& target) {
  for (const Replica& r : entry.replicas) {
    if (target.has(r.volcano) || r.volcano == entry.primary()) continue;
    if (r.volcano == entry.last_serving) continue;  // its successor has still to say it serves
    const bool counts = r.state == ReplicaState::in_sync;
    if (!counts || entry.replicas.in_sync() > target.count) return r.volcano;
  }
  return kNoVolcano;
}

SlotStep next_step(const LavaMap& map, const SlotEntry& entry, const Target& target) {
  if (entry.state != SlotState::serving) return {};
  const VolcanoId owner = target.volcanoes[0];
  if (entry.primary() != owner && is_in_sync(entry, owner))
    return {.kind = StepKind::promote, .volcano = owner};
  if (VolcanoId extra = superfluous(entry, target); extra != kNoVolcano)
    return {.kind = StepKind::drop, .volcano = extra};
  if (entry.replicas.is_full()) return {};
  for (VolcanoId wanted : target)
    if (!entry.replicas.has(wanted) && map.is_alive(wanted))
      return {.kind = StepKind::add, .volcano = wanted};
  return {};
}

template <class C>
void append(std::vector<Command>& commands, VolcanoId volcano, SlotAt slot) {
  for (Command& command : commands)
    if (auto* same = std::get_if<C>(&command);
        same != nullptr && same->volcano == volcano && same->slots.size() < kSlotsPerCommandMax) {
      same->slots.push_back(slot);
      return;
    }
  commands.push_back(C{{.slots = {slot}, .volcano = volcano}});
}

}  // namespace

PlacementPlan plan_for(const LavaMap& map, Owners owners, const Weights& weights) {
  PlacementPlan plan;
  plan.owners = std::move(owners);
  const std::vector<Target> targets = targets_of(plan.owners, map.copies);
  for (unsigned n = 0; n < kSlotCount; ++n) {
    if (plan.owners[n] != map.slots[n].owner) add_change(plan, n);
    add_moves(plan, map.slots[n], n, targets[n], weights);
  }
  return plan;
}

std::vector<Command> moving_steps(const LavaMap& map, std::size_t catching_up_max) {
  std::vector<Command> commands;
  if (map.version == 0) return commands;
  std::size_t catching_up = 0;
  for (const SlotEntry& entry : map.slots)
    for (const Replica& r : entry.replicas)
      if (r.state == ReplicaState::catching_up && map.is_alive(r.volcano)) ++catching_up;
  const std::vector<Target> targets = targets_of(owners_of(map), map.copies);
  for (unsigned n = 0; n < kSlotCount; ++n) {
    const SlotEntry& entry = map.slots[n];
    const SlotStep step = next_step(map, entry, targets[n]);
    const SlotAt at{Slot(static_cast<std::uint16_t>(n)), entry.epoch};
    switch (step.kind) {
      case StepKind::none: break;
      case StepKind::promote: append<Promote>(commands, step.volcano, at); break;
      case StepKind::drop: append<DropReplica>(commands, step.volcano, at); break;
      case StepKind::add:
        if (catching_up >= catching_up_max) break;
        ++catching_up;
        append<AddReplica>(commands, step.volcano, at);
        break;
    }
  }
  return commands;
}

bool is_settled(const LavaMap& map) {
  const std::vector<Target> targets = targets_of(owners_of(map), map.copies);
  for (unsigned n = 0; n < kSlotCount; ++n) {
    const SlotEntry& entry = map.slots[n];
    if (next_step(map, entry, targets[n]).kind != StepKind::none) return false;
    for (const Replica& r : entry.replicas)
      if (map.is_alive(r.volcano) &&
          (r.state != ReplicaState::in_sync || !targets[n].has(r.volcano)))
        return false;
  }
  return true;
}

}  // namespace magma::ring
