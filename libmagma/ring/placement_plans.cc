// plan_join() and plan_leave(): which owners; what moves for it follows (placement.cc).
#include <algorithm>
#include <optional>

#include "libmagma/ring/placement.h"
#include "libmagma/ring/placement_share.h"

namespace magma::ring {

namespace {

void count_duties(PlacementPlan& plan, const LavaMap& map, VolcanoId joiner,
                  const Weights& weights) {
  const std::vector<Target> targets = targets_of(plan.owners, map.copies);
  for (unsigned n = 0; n < kSlotCount; ++n) {
    if (plan.owners[n] == joiner) {
      ++plan.share_slots;
      plan.share_bytes += weights.bytes(n);
    } else if (targets[n].has(joiner)) {
      ++plan.mirror_slots;
      plan.mirror_bytes += weights.bytes(n);
    }
  }
}

// Not more than 1.2 times share and mirror duty, in slots and in bytes.
bool is_cheap(const PlacementPlan& plan) {
  return 5 * plan.copied_slots <= 6 * (plan.share_slots + plan.mirror_slots) &&
         5 * plan.copied_bytes <= 6 * (plan.share_bytes + plan.mirror_bytes);
}

PlacementPlan joining_plan(const LavaMap& map, Owners owners, VolcanoId joiner,
                           const Weights& weights) {
  PlacementPlan plan = plan_for(map, std::move(owners), weights);
  count_duties(plan, map, joiner, weights);
  return plan;
}

// Borders where the joiner, at `place` of the order, takes from its neighbours only.
std::vector<unsigned> borders_of_neighbours(const Owners& owners,
                                            const std::vector<VolcanoId>& order, std::size_t place,
                                            const Weights& weights) {
  std::vector<VolcanoId> others = order;
  others.erase(others.begin() + static_cast<std::ptrdiff_t>(place));
  std::vector<unsigned> borders = borders_of(owners, others);
  const std::uint64_t goal = weights.total_load() / order.size();
  // Half of it from the run before, half from the run after; all from the only one at an end.
  const unsigned join = place < borders.size() ? borders[place] : kSlotCount;
  const unsigned low = place > 0 ? borders[place - 1] + 1 : 0;
  const unsigned high = place < borders.size()
                            ? (place + 1 < borders.size() ? borders[place + 1] : kSlotCount) - 1
                            : kSlotCount;
  const std::uint64_t below_goal = place == 0 ? 0 : place == borders.size() ? goal : goal / 2;
  unsigned first = join, end = join;
  for (std::uint64_t sum = 0; first > low && sum < below_goal;) sum += weights.load(--first);
  for (std::uint64_t sum = 0; end < high && sum < goal - below_goal;) sum += weights.load(end++);
  if (place == 0) first = 0;
  borders.insert(borders.begin() + static_cast<std::ptrdiff_t>(place), first);
  if (place + 1 < borders.size()) borders[place + 1] = end;
  return borders;
}

// The joiner at a place in the order of slices: equal slices, or as near to that as is cheap.
PlacementPlan contiguous_join(const LavaMap& map, const std::vector<VolcanoId>& order,
                              std::size_t place, const Weights& weights) {
  const VolcanoId joiner = order[place];
  const Owners now = owners_of(map);
  PlacementPlan even = joining_plan(map, cut_evenly(order, weights), joiner, weights);
  if (is_cheap(even) || !is_contiguous(now)) return even;
  const std::vector<unsigned> fair = borders_of(even.owners, order);
  const std::vector<unsigned> near = borders_of_neighbours(now, order, place, weights);
  constexpr int kParts = 16;
  for (int part = kParts - 1; part >= 0; --part) {
    std::vector<unsigned> borders;
    for (std::size_t i = 0; i < order.size(); ++i) {
      const int from = static_cast<int>(near[i]), to = static_cast<int>(fair[i]);
      borders.push_back(static_cast<unsigned>(from + (to - from) * part / kParts));
    }
    if (std::adjacent_find(borders.begin(), borders.end(), std::greater_equal<>()) != borders.end())
      continue;
    PlacementPlan plan = joining_plan(map, with_borders(order, borders), joiner, weights);
    if (is_cheap(plan)) return plan;
  }
  return even;
}

// Orders of slices with the joiner beside a volcano: after it first, as the first Magma did.
std::vector<std::size_t> places_beside(const std::vector<VolcanoId>& order, VolcanoId beside) {
  const auto at =
      static_cast<std::size_t>(std::find(order.begin(), order.end(), beside) - order.begin());
  if (at == order.size()) return {order.size()};
  std::vector<std::size_t> places = {at + 1, at};
  if (at == 0) places.push_back(order.size());
  if (at + 1 == order.size()) places.push_back(0);
  return places;
}

// How far the largest share is above the mean: less is fairer.
std::uint64_t unfairness(const PlacementPlan& plan, const std::vector<VolcanoId>& order,
                         const Weights& weights) {
  std::uint64_t most = 0;
  for (VolcanoId id : order) {
    std::uint64_t load = 0;
    for (unsigned n = 0; n < kSlotCount; ++n)
      if (plan.owners[n] == id) load += weights.load(n);
    most = std::max(most, load);
  }
  return most * 50 / weights.total_load();  // in steps of 2 %
}

PlacementPlan best_contiguous_join(const LavaMap& map, VolcanoId joiner, VolcanoId beside,
                                   const Weights& weights) {
  const std::vector<VolcanoId> now = order_of(owners_of(map));
  std::optional<PlacementPlan> best;
  std::uint64_t best_unfairness = 0;
  for (std::size_t place : places_beside(now, beside)) {
    std::vector<VolcanoId> order = now;
    order.insert(order.begin() + static_cast<std::ptrdiff_t>(place), joiner);
    PlacementPlan plan = contiguous_join(map, order, place, weights);
    const std::uint64_t unfair = unfairness(plan, order, weights);
    // Of equally fair places the first that is cheap.
    const bool is_worse = best && (unfair > best_unfairness ||
                                   (unfair == best_unfairness &&
                                    (is_cheap(*best) || plan.copied_slots >= best->copied_slots)));
    if (is_worse) continue;
    best = std::move(plan);
    best_unfairness = unfair;
  }
  return *best;
}

// Of all orders of up to four volcanoes the one that copies least.
PlacementPlan best_contiguous(const LavaMap& map, std::vector<VolcanoId> order,
                              const Weights& weights) {
  std::sort(order.begin(), order.end());
  std::optional<PlacementPlan> best;
  do {
    PlacementPlan plan = plan_for(map, cut_evenly(order, weights), weights);
    if (!best || plan.copied_slots < best->copied_slots) best = std::move(plan);
  } while (std::next_permutation(order.begin(), order.end()));
  return *best;
}

bool may_own(const LavaMap& map, VolcanoId id) {
  const Volcano* volcano = map.find(id);
  return volcano != nullptr && volcano->stores() && volcano->state != VolcanoState::gone &&
         volcano->resumes != VolcanoState::leaving;
}

}  // namespace

Result<PlacementPlan> plan_join(const LavaMap& map, VolcanoId joiner, VolcanoId beside,
                                const Weights& weights) {
  const Volcano* volcano = map.find(joiner);
  if (volcano == nullptr) return fail(Code::not_found, "no such volcano");
  if (!volcano->stores()) return fail(Code::invalid, "a witness stores nothing");
  if (!may_own(map, joiner)) return fail(Code::busy, volcano->profile.nick + " is leaving or gone");
  const Owners now = owners_of(map);
  const std::vector<VolcanoId> order = order_of(now);
  if (std::find(order.begin(), order.end(), joiner) != order.end())
    return fail(Code::invalid, volcano->profile.nick + " owns slots");
  if (order.size() >= kSlotCount) return fail(Code::no_space, "every volcano has one slot");
  if (order.size() + 1 <= kContiguousMax) return best_contiguous_join(map, joiner, beside, weights);
  return joining_plan(map, take_share(now, joiner, beside, weights), joiner, weights);
}

Result<PlacementPlan> plan_leave(const LavaMap& map, VolcanoId leaver, const Weights& weights) {
  if (map.find(leaver) == nullptr) return fail(Code::not_found, "no such volcano");
  const Owners now = owners_of(map);
  std::vector<VolcanoId> owners = order_of(now), heirs;
  if (std::find(owners.begin(), owners.end(), leaver) == owners.end())
    return plan_for(map, now, weights);
  for (VolcanoId id : owners)
    if (id != leaver && may_own(map, id)) heirs.push_back(id);
  if (heirs.empty()) return fail(Code::busy, "no other volcano could take over");
  const bool are_others_leaving = heirs.size() + 1 < owners.size();
  if (heirs.size() <= kContiguousMax && !are_others_leaving)
    return best_contiguous(map, heirs, weights);
  return plan_for(map, hand_out(now, leaver, heirs, weights), weights);
}

}  // namespace magma::ring
