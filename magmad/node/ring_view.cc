#include "magmad/node/ring_view.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "libmagma/ring/progress.h"

namespace magma::node {

namespace {

using ring::VolcanoId;

std::uint64_t as_ns(Duration d) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(d.ns, 0));
}

bool holds(const std::vector<VolcanoId>& ids, VolcanoId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

const wire::VolcanoNews* news_of(const RingView& view, VolcanoId id) {
  for (const wire::VolcanoNews& news : view.table)
    if (news.volcano == id) return &news;
  return nullptr;
}

void add_liveness(wire::RingVolcano& told, const RingView& view, VolcanoId id, Instant now) {
  const auto set = [&](Duration silent) {
    told.silent_ns = as_ns(silent);
    told.alive = silent < kCoordinatorSilentMax ? wire::RingAlive::yes : wire::RingAlive::no;
  };
  if (id == view.self) return set({});
  if (id == view.leader && view.leader_heard) return set(now - *view.leader_heard);
  const wire::VolcanoNews* news = news_of(view, id);
  if (news == nullptr || !view.table_at) return;
  const Duration age = now - *view.table_at;
  told.silent_ns = news->silent_ns + as_ns(age);
  if (age > kTableFresh) return;  // unknown: nobody watches, or we do not hear who does
  told.alive =
      news->silent_ns < as_ns(kCoordinatorSilentMax) ? wire::RingAlive::yes : wire::RingAlive::no;
}

void add_facts(wire::RingVolcano& told, const wire::VolcanoFacts& facts) {
  told.version = facts.version;
  told.has_census = facts.has_census;
  told.keys = facts.keys;
  told.bytes = facts.bytes;
  told.space_total = facts.space_total;
  told.space_available = facts.space_available;
}

void add_slots(wire::RingVolcano& told, const ring::LavaMap& map, VolcanoId id) {
  for (const ring::Slice& slice : ring::slices_of(map, id))
    told.slices.push_back({slice.first.value, slice.last.value});
  bool is_mirror = false;
  for (const ring::SlotEntry& entry : map.slots) {
    if (entry.primary() == id) {
      if (entry.state == ring::SlotState::waiting) ++told.slots_waiting;
      continue;
    }
    const ring::Replica* replica = entry.replicas.find(id);
    if (replica == nullptr) continue;
    is_mirror = true;
    if (replica->state == ring::ReplicaState::in_sync) ++told.backups;
  }
  if (!is_mirror) return;
  told.mirror = told.backups > 0 ? wire::RingMirror::in_sync : wire::RingMirror::behind;
}

// Runs of slots that it mirrors, all alike.
void add_copies(wire::RingVolcano& told, const ring::LavaMap& map, VolcanoId id) {
  for (std::uint16_t slot = 0; slot < ring::kSlotCount; ++slot) {
    const ring::SlotEntry& entry = map.at(ring::Slot(slot));
    const ring::Replica* replica = entry.replicas.find(id);
    if (replica == nullptr || entry.primary() == id) continue;
    const auto state = replica->state == ring::ReplicaState::in_sync ? wire::RingMirror::in_sync
                                                                     : wire::RingMirror::behind;
    const bool goes_on = !told.copies.empty() && told.copies.back().state == state &&
                         told.copies.back().last + 1 == slot;
    if (goes_on)
      told.copies.back().last = slot;
    else
      told.copies.push_back({slot, slot, state});
  }
}

// What the map cannot know: how far the primary is with it.
void add_copying(wire::RingVolcano& told, const RingView& view, VolcanoId id) {
  if (told.mirror == wire::RingMirror::none) return;
  for (const wire::MirrorFact& fact : mirrors_of(view)) {
    if (fact.volcano != id) continue;
    told.mirror_bytes_done = fact.bytes_done;
    told.mirror_bytes_total = fact.bytes_total;
    told.mirror_batches_behind = fact.batches_behind;
    const bool is_moving =
        fact.state == wire::MirrorState::copying || fact.state == wire::MirrorState::in_sync;
    if (told.mirror == wire::RingMirror::behind && is_moving && view.map->is_alive(id))
      told.mirror = wire::RingMirror::copying;
  }
  if (told.mirror == wire::RingMirror::copying)
    for (wire::RingCopies& copies : told.copies)
      if (copies.state == wire::RingMirror::behind) copies.state = wire::RingMirror::copying;
  const auto left = view.copy_left.find(id);
  if (told.mirror == wire::RingMirror::copying && left != view.copy_left.end())
    told.mirror_left_ns = as_ns(left->second);
}

wire::RingVolcano line_of(const RingView& view, const ring::Volcano& volcano, Instant now) {
  const ring::LavaMap& map = *view.map;
  const ring::Profile& profile = volcano.profile;
  wire::RingVolcano told;
  told.id = volcano.id.value;
  told.nick = profile.nick;
  told.fqdn = profile.fqdn;
  told.flare = profile.flare;
  told.node = profile.node;
  told.console = profile.console;
  told.state = static_cast<std::uint8_t>(volcano.state);
  told.starts = volcano.starts;
  add_liveness(told, view, volcano.id, now);
  if (holds(map.voters, volcano.id)) told.vote = wire::RingVote::votes;
  if (holds(map.learners, volcano.id)) told.vote = wire::RingVote::learns;
  told.is_coordinator = coordinator_of(view, now) == volcano.id;
  if (volcano.id == view.self) {
    add_facts(told, view.own);
    if (view.lease_until) told.lease_left_ns = as_ns(*view.lease_until - now);
  } else if (const wire::VolcanoNews* news = news_of(view, volcano.id)) {
    add_facts(told, news->facts);
    const std::uint64_t age = view.table_at ? as_ns(now - *view.table_at) : 0;
    told.lease_left_ns = news->lease_left_ns > age ? news->lease_left_ns - age : 0;
    told.entries_behind = news->entries_behind;
  }
  add_slots(told, map, volcano.id);
  add_copies(told, map, volcano.id);
  add_copying(told, view, volcano.id);
  return told;
}

std::string voters_text(const ring::LavaMap& map) {
  std::string text;
  for (VolcanoId id : map.voters) text += (text.empty() ? "" : ", ") + map.nick_of(id);
  return text;
}

ring::VolcanoSeen seen_of(const wire::RingVolcano& volcano) {
  ring::VolcanoSeen seen{.volcano = VolcanoId(volcano.id)};
  seen.is_silent = volcano.alive == wire::RingAlive::no;
  if (volcano.alive != wire::RingAlive::yes && volcano.silent_ns > 0)
    seen.silent_for = nanoseconds(static_cast<std::int64_t>(volcano.silent_ns));
  seen.is_copying = volcano.mirror == wire::RingMirror::copying;
  if (volcano.mirror_bytes_total > 0)
    seen.percent = ring::Progress{.done = {.slots = 0, .bytes = volcano.mirror_bytes_done},
                                  .total = {.slots = 0, .bytes = volcano.mirror_bytes_total},
                                  .left = std::nullopt}
                       .percent();
  if (volcano.mirror_left_ns)
    seen.left = nanoseconds(static_cast<std::int64_t>(*volcano.mirror_left_ns));
  return seen;
}

void add_health(wire::RingReply& reply, const RingView& view, Instant now) {
  std::vector<ring::VolcanoSeen> seen;
  for (const wire::RingVolcano& volcano : reply.volcanoes) seen.push_back(seen_of(volcano));
  ring::HealthReport health = ring::health_of(*view.map, std::nullopt, seen);
  if (coordinator_of(view, now) == ring::kNoVolcano) {
    if (health.health == ring::Health::healthy) health = {.health = ring::Health::degraded};
    const bool is_one = view.map->voters.size() == 1;
    const std::string none = fmt::format("no coordinator is heard ({} {})", voters_text(*view.map),
                                         is_one ? "alone votes" : "vote");
    health.reason = health.reason.empty() ? none : none + "; " + health.reason;
  }
  reply.health = static_cast<std::uint8_t>(health.health);
  reply.reason = health.reason;
}

}  // namespace

VolcanoId coordinator_of(const RingView& view, Instant now) {
  if (view.leader == view.self) return view.is_coordinator ? view.self : ring::kNoVolcano;
  if (!view.leader_heard || now - *view.leader_heard >= kCoordinatorSilentMax)
    return ring::kNoVolcano;
  return view.leader;
}

const std::vector<wire::MirrorFact>& mirrors_of(const RingView& view) {
  static const std::vector<wire::MirrorFact> kNone;
  const VolcanoId primary = view.map->slots.front().primary();
  if (primary == ring::kNoVolcano) return kNone;
  if (primary == view.self) return view.own.mirrors;
  const wire::VolcanoNews* news = news_of(view, primary);
  return news != nullptr ? news->facts.mirrors : kNone;
}

wire::RingReply ring_reply(const RingView& view, Instant now) {
  const ring::LavaMap& map = *view.map;
  wire::RingReply reply;
  reply.self = view.self.value;
  reply.filesystem = map.filesystem;
  reply.version = map.version;
  reply.generation = map.generation;
  reply.membership = map.membership;
  reply.copies = map.copies;
  reply.copies_had = static_cast<std::uint8_t>(ring::copies_had(map));
  reply.term = view.term.value;
  reply.coordinator = coordinator_of(view, now).value;
  if (view.leader_heard && view.leader != view.self)
    reply.coordinator_ns = as_ns(now - *view.leader_heard);
  for (const ring::Volcano& volcano : map.volcanoes)
    reply.volcanoes.push_back(line_of(view, volcano, now));
  add_health(reply, view, now);
  return reply;
}

}  // namespace magma::node
