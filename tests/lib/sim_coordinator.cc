#include "tests/lib/sim_coordinator.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "libmagma/base/check.h"
#include "libmagma/ring/placement.h"
#include "magmad/core/mirror_rules.h"
#include "magmad/core/slot_rules.h"
#include "magmad/core/tenure_rules.h"
#include "tests/lib/sim_cluster.h"

namespace magma::test {

namespace {

ring::SlotsOfVolcano all_slots(const ring::LavaMap& map, ring::VolcanoId volcano) {
  ring::SlotsOfVolcano all{.slots = {}, .volcano = volcano};
  for (std::uint16_t n = 0; n < ring::kSlotCount; ++n)
    all.slots.push_back({ring::Slot(n), map.slots[n].epoch});
  return all;
}

constexpr Duration kTick = milliseconds(100);
constexpr Duration kLease = seconds(2);
constexpr Duration kSilentMax = seconds(3);  // then a mirror is down
constexpr Duration kThere = seconds(1);
constexpr unsigned kCommandsATick = 4;
constexpr std::size_t kHistoryMax = 30;

const char* text_of(wire::MirrorState state) {
  switch (state) {
    case wire::MirrorState::away: return "away";
    case wire::MirrorState::copying: return "copying";
    case wire::MirrorState::in_sync: return "in_sync";
    case wire::MirrorState::released: return "released";
  }
  return "?";
}

std::string text_of(const std::vector<wire::MirrorFact>& facts) {
  std::string text;
  for (const auto& fact : facts)
    text += fmt::format(" [volcano {} {} epoch {} bytes {}/{} behind {}]", fact.volcano.value,
                        text_of(fact.state), fact.epoch.value, fact.bytes_done, fact.bytes_total,
                        fact.batches_behind);
  return text.empty() ? " nothing" : text;
}

std::string text_of(const ring::LavaMap& map) {
  const ring::SlotEntry& entry = map.slots[0];
  std::string text = fmt::format("version {} epoch {} replicas", map.version, entry.epoch.value);
  for (const auto& replica : entry.replicas)
    text += fmt::format(" {}:{}", replica.volcano.value,
                        replica.state == ring::ReplicaState::in_sync ? "in_sync" : "catching_up");
  return text;
}

}  // namespace

SimCoordinator::SimCoordinator(SimCluster& cluster, std::uint64_t seed)
    : cluster_(cluster), random_(seed), seats_(cluster.volcanoes()) {
  auto map = std::make_shared<ring::LavaMap>();
  const ring::Found found{.filesystem = {1},
                          .copies = static_cast<std::uint8_t>(cluster.copies()),
                          .profile = profile_of(0)};
  auto applied = ring::apply_command(*map, found);
  MAGMA_CHECK(applied.has_value());
  map_ = std::move(map);
  seats_[0].id = applied->volcano;
  if (cluster_.is_split()) split();
  tick();
}

// ---- a cluster that is split

void SimCoordinator::must(const ring::Command& command) {
  auto next = std::make_shared<ring::LavaMap>(*map_);
  auto applied = ring::apply_command(*next, command);
  MAGMA_CHECK(applied.has_value());
  if (applied->volcano != ring::kNoVolcano && std::holds_alternative<ring::AddVolcano>(command))
    seats_[applied->volcano.value - ring::kFounder.value].id = applied->volcano;
  map_ = std::move(next);
}

// Everybody has its slots alone, and says so; copies come by themselves.
void SimCoordinator::split() {
  const std::uint8_t copies = map_->copies;
  must(ring::SetCopies{.membership = map_->membership, .copies = 1});
  for (unsigned i = 1; i < seats_.size(); ++i)
    must(ring::AddVolcano{.membership = map_->membership, .profile = profile_of(i)});
  if (cluster_.is_moving()) {
    must(ring::SetCopies{.membership = map_->membership, .copies = copies});
    return;
  }
  ring::Assign assign{.membership = map_->membership, .runs = {}};
  for (std::uint16_t n = 0; n < ring::kSlotCount; ++n) {
    const ring::VolcanoId owner = cluster_.owners().owner(ring::Slot(n)).id;
    if (assign.runs.empty() || assign.runs.back().owner != owner)
      assign.runs.push_back({ring::Slot(n), ring::Slot(n), owner});
    assign.runs.back().last = ring::Slot(n);
  }
  must(assign);
  settle_owners();
  for (unsigned i = 1; i < seats_.size(); ++i)
    must(ring::VolcanoJoined{.membership = map_->membership, .volcano = seats_[i].id});
  must(ring::SetCopies{.membership = map_->membership, .copies = copies});
}

void SimCoordinator::settle_owners() {
  while (!ring::is_settled(*map_)) {
    for (const ring::Command& command : ring::moving_steps(*map_, ring::kSlotCount)) must(command);
    for (const Seat& seat : seats_) {
      ring::ReplicaInSync in_sync{{{}, seat.id}};
      ring::Serving serving{{{}, seat.id}};
      for (std::uint16_t n = 0; n < ring::kSlotCount; ++n) {
        const ring::SlotEntry& entry = map_->slots[n];
        const ring::Replica* replica = entry.replicas.find(seat.id);
        if (replica != nullptr && replica->state == ring::ReplicaState::catching_up)
          in_sync.slots.push_back({ring::Slot(n), entry.epoch});
        if (entry.primary() == seat.id && entry.last_serving != seat.id)
          serving.slots.push_back({ring::Slot(n), entry.epoch});
      }
      if (!in_sync.slots.empty()) must(in_sync);
      if (!serving.slots.empty()) must(serving);
    }
  }
}

bool SimCoordinator::has_last_map(unsigned index) const {
  return cluster_.volcano_runs(index) && seats_[index].version_has == map_->version &&
         seats_[index].start_sent == cluster_.starts_of(index);
}

bool SimCoordinator::is_split_at_peace() const {
  if (!ring::is_settled(*map_)) return false;
  for (const ring::SlotEntry& slot : map_->slots)
    if (slot.last_serving != slot.primary()) return false;
  for (unsigned i = 0; i < seats_.size(); ++i) {
    if (!has_last_map(i)) return false;
    if (cluster_.is_moving() && map_->find(seats_[i].id)->state != ring::VolcanoState::up)
      return false;
    if (cluster_.is_moving() &&
        cluster_.volcano(i).owned() != core::slots_to_serve(*map_, seats_[i].id))
      return false;
    for (const wire::MirrorFact& fact : cluster_.volcano(i).facts().mirrors)
      if (fact.state != wire::MirrorState::in_sync) return false;
  }
  return true;
}

std::optional<ring::ReplicaState> SimCoordinator::state_of(unsigned index) const {
  const ring::Replica* replica = map_->slots[0].replicas.find(seats_[index].id);
  if (replica == nullptr) return std::nullopt;
  return replica->state;
}

bool SimCoordinator::is_at_peace() const {
  if (!cluster_.volcano_runs(0)) return false;
  const auto facts = cluster_.volcano(0).facts().mirrors;
  for (unsigned i = 0; i < seats_.size(); ++i) {
    if (!is_in_sync(i) || !cluster_.volcano_runs(i)) return false;
    if (seats_[i].version_has != map_->version || seats_[i].start_sent != cluster_.starts_of(i))
      return false;
    if (i == 0) continue;
    const bool is_confirmed =
        std::any_of(facts.begin(), facts.end(), [&](const wire::MirrorFact& fact) {
          return fact.volcano == seats_[i].id && fact.state == wire::MirrorState::in_sync &&
                 fact.epoch == map_->slots[0].epoch;
        });
    if (!is_confirmed) return false;
  }
  return true;
}

std::string SimCoordinator::report() const {
  std::string text = "lava map: " + text_of(*map_) +
                     "\nthe coordinator was told of:" + text_of(told_) + "\nthe primary says:";
  text += cluster_.volcano_runs(0) ? text_of(cluster_.volcano(0).facts().mirrors) : " it is away";
  text += "\n";
  for (unsigned i = 0; i < seats_.size(); ++i)
    text += fmt::format("volcano {}: {}{}, has map {}\n", i + 1,
                        cluster_.volcano_runs(i) ? "runs" : "is away",
                        seats_[i].is_reachable ? "" : ", out of reach", seats_[i].version_has);
  if (cluster_.is_split())
    for (unsigned i = 0; i < seats_.size(); ++i)
      if (cluster_.volcano_runs(i))
        text += fmt::format("volcano {} says:{}\n", i + 1,
                            text_of(cluster_.volcano(i).facts().mirrors));
  text += "last commands:\n";
  for (const auto& line : history_) text += "  " + line + "\n";
  return text;
}

void SimCoordinator::tick() {
  hear();
  for (unsigned i = 0; i < kCommandsATick; ++i) {
    auto command = decide();
    if (!command || !apply(*command)) break;
  }
  for (unsigned i = 0; i < seats_.size(); ++i) tell(i);
  if (cluster_.is_moving()) renew_leases();
  cluster_.loop().after(kTick, [this, life = std::weak_ptr<int>(life_)] {
    if (!life.expired()) tick();
  });
}

// To who is there, as far as it has a map in which it is.
void SimCoordinator::renew_leases() {
  for (unsigned i = 0; i < seats_.size(); ++i) {
    Seat& seat = seats_[i];
    const auto& had = seat.view;
    if (!is_heard(i) || !had || seat.start_sent != cluster_.starts_of(i) ||
        seat.starts_heard != cluster_.starts_of(i) || !map_->is_alive(seat.id) ||
        had->map->version < seat.came_at || random_.chance(3))
      continue;
    seat.lease_ends = cluster_.now() + kLease;
    auto view = std::make_shared<node::RingView>(*had);
    view->lease_until = cluster_.volcano_now(i) + kLease;
    view->made = cluster_.volcano_now(i);
    seat.view = view;
    cluster_.tenures(i).set_ring(std::move(view));
    cluster_.touch_volcano(i);
  }
}

// ---- what it hears

bool SimCoordinator::is_heard(unsigned index) const {
  return seats_[index].is_reachable && cluster_.volcano_runs(index) &&
         !cluster_.faulty_disk(index).frozen();
}

bool SimCoordinator::is_there(ring::VolcanoId id) const {
  return std::any_of(seats_.begin(), seats_.end(), [&](const Seat& seat) {
    return seat.id == id && seat.heard_at != Instant{} && cluster_.now() - seat.heard_at < kThere;
  });
}

core::HeirState SimCoordinator::heir_state(ring::VolcanoId id) const {
  for (unsigned i = 0; i < seats_.size(); ++i) {
    if (seats_[i].id != id || !is_heard(i)) continue;
    const bool has_lost =
        seats_[i].starts_heard != cluster_.starts_of(i) && cluster_.tenures(i).has_lost();
    return {.is_there = !has_lost, .has_lost = has_lost};
  }
  return {};
}

void SimCoordinator::hear() {
  for (unsigned i = 0; i < seats_.size(); ++i)
    if (is_heard(i)) seats_[i].heard_at = cluster_.now();
  if (!cluster_.is_split()) {
    if (is_heard(0) && random_.chance(3)) told_ = cluster_.volcano(0).facts().mirrors;
    return;
  }
  for (unsigned i = 0; i < seats_.size(); ++i)
    if (is_heard(i) && random_.chance(3)) told_by_[seats_[i].id] = cluster_.tenures(i).facts();
}

// ---- what it decides

std::optional<ring::Command> SimCoordinator::decide() {
  if (auto command = who_came_or_went()) return command;
  if (is_hasty_)
    if (auto command = call_in_sync()) return command;
  if (cluster_.is_split()) {
    core::FactsOf told;
    for (const auto& [id, facts] : told_by_) told[id] = &facts;
    return core::next_slot_step(*map_, told,
                                [this](ring::VolcanoId id) { return is_there(id); });
  }
  return core::next_mirror_step(*map_, told_, [this](ring::VolcanoId id) { return is_there(id); });
}

std::optional<ring::Command> SimCoordinator::call_in_sync() {
  for (const ring::Replica& replica : map_->slots[0].replicas)
    if (replica.state == ring::ReplicaState::catching_up && map_->is_alive(replica.volcano))
      return ring::ReplicaInSync{all_slots(*map_, replica.volcano)};
  return std::nullopt;
}

std::optional<ring::Command> SimCoordinator::who_came_or_went() {
  for (unsigned i = 0; i < seats_.size(); ++i) {
    Seat& seat = seats_[i];
    if (!is_heard(i)) {
      const ring::Volcano* volcano = map_->find(seat.id);
      const bool is_fixed = i == 0 || cluster_.is_split();
      if ((is_fixed && !cluster_.is_moving()) || volcano == nullptr || !volcano->is_alive() ||
          cluster_.now() - seat.heard_at < kSilentMax || cluster_.now() < seat.lease_ends)
        continue;
      ++counters_.downs;
      return ring::VolcanoDown{.volcano = seat.id, .starts = volcano->starts};
    }
    if (seat.id == ring::kNoVolcano) {
      seat.starts_heard = cluster_.starts_of(i);
      return ring::AddVolcano{.membership = map_->membership, .profile = profile_of(i)};
    }
    const ring::Volcano& volcano = *map_->find(seat.id);
    const bool is_new = seat.starts_heard != cluster_.starts_of(i);
    if (!is_new && volcano.is_alive()) continue;
    if (is_new && cluster_.is_moving() && cluster_.tenures(i).has_lost()) {
      const core::AfterLoss after = core::next_after_loss(
          *map_, seat.id, [this](ring::VolcanoId id) { return heir_state(id); });
      if (after.before) return after.before;
      if (after.must_wait) continue;
      seat.has_lost = true;
    }
    seat.starts_heard = cluster_.starts_of(i);
    return ring::VolcanoStarted{.volcano = seat.id,
                                .starts = volcano.starts,
                                .has_lost = std::exchange(seat.has_lost, false)};
  }
  return std::nullopt;
}

bool SimCoordinator::apply(const ring::Command& command) {
  auto next = std::make_shared<ring::LavaMap>(*map_);
  auto applied = ring::apply_command(*next, command);
  std::string broken;
  if (!applied)
    broken = "refused: " + describe(applied.error());
  else if (broken = ring::check(*next); broken.empty())
    broken = ring::check_step(*map_, *next);
  std::string line = fmt::format("t={:.3f} {}", static_cast<double>(cluster_.now().ns) / 1e9,
                                 ring::name_of(command));
  if (!broken.empty()) {
    problem_ = "the lava map: " + line + ": " + broken;
    return false;
  }
  if (std::holds_alternative<ring::AddVolcano>(command)) {
    auto seat = std::find_if(seats_.begin(), seats_.end(), [&](const Seat& s) {
      return s.id == ring::kNoVolcano && s.starts_heard != 0;
    });
    seat->id = applied->volcano;
  }
  if (const auto* came = std::get_if<ring::VolcanoStarted>(&command))
    for (Seat& seat : seats_)
      if (seat.id == came->volcano) seat.came_at = applied->version;
  ++counters_.commands;
  counters_.in_syncs += std::holds_alternative<ring::ReplicaInSync>(command);
  counters_.behinds += std::holds_alternative<ring::ReplicaBehind>(command);
  counters_.drops += std::holds_alternative<ring::DropReplica>(command);
  map_ = std::move(next);
  history_.push_back(line + " -> " + text_of(*map_));
  if (history_.size() > kHistoryMax) history_.pop_front();
  return true;
}

ring::Profile SimCoordinator::profile_of(unsigned index) const {
  sys::Address address = cluster_.volcano_address(index);
  ring::Profile profile;
  profile.nick = cluster_.nick_of(index);
  profile.fqdn = profile.nick + ".example";
  profile.flare = address.text();
  profile.storage = 1000 + index;
  ++address.port;
  profile.node = address.text();
  ++address.port;
  profile.console = address.text();
  return profile;
}

// ---- what it tells

Duration SimCoordinator::delay() {
  if (random_.chance(20)) {
    ++counters_.late_views;
    return milliseconds(static_cast<std::int64_t>(500 + random_.below(3500)));
  }
  return milliseconds(static_cast<std::int64_t>(random_.below(300)));
}

// A new map, the same one now and then, and to a new process at once.
void SimCoordinator::tell(unsigned index) {
  Seat& seat = seats_[index];
  const std::uint64_t start = cluster_.starts_of(index);
  if (!is_heard(index) || seat.id == ring::kNoVolcano) return;
  if (seat.start_sent == start && seat.version_sent == map_->version && !random_.chance(20)) return;
  if (seat.start_sent != start) {
    seat.version_has = 0;
    seat.view = nullptr;
  }
  seat.start_sent = start;
  seat.version_sent = map_->version;
  seat.view_due = std::max(seat.view_due, cluster_.now() + delay());
  const bool is_told_start = seat.starts_heard == start;
  const std::weak_ptr<int> alive = life_;
  cluster_.loop().after(seat.view_due - cluster_.now(), [this, index, start, is_told_start,
                                                         map = map_, life = alive] {
    if (life.expired() || cluster_.starts_of(index) != start || !is_heard(index)) {
      if (!life.expired()) seats_[index].version_sent = 0;
      return;
    }
    auto view = std::make_shared<node::RingView>();
    view->is_start_known =
        !cluster_.is_moving() || (is_told_start && seats_[index].starts_heard == start);
    const Instant now = cluster_.volcano_now(index);
    view->map = map;
    view->self = seats_[index].id;
    view->made = now;
    view->term = raft::Term{1};
    view->leader = ring::kFounder;
    view->is_coordinator = seats_[index].id == ring::kFounder;
    view->leader_heard = now;
    const bool has_lease =
        map_->is_alive(seats_[index].id) && map->version >= seats_[index].came_at;
    if (has_lease) {
      view->lease_until = now + kLease;
      seats_[index].lease_ends = cluster_.now() + kLease;
    }
    seats_[index].version_has = map->version;
    seats_[index].view = view;
    cluster_.tenures(index).set_ring(std::move(view));
    cluster_.touch_volcano(index);
  });
}

}  // namespace magma::test
