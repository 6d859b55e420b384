// The invariants of a lava map, and of the step from one to the next.
#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "libmagma/ring/lava_map.h"
#include "libmagma/ring/profile_rules.h"

namespace magma::ring {

namespace {

std::string check_volcanoes(const LavaMap& map) {
  if (map.volcanoes.size() > kVolcanoesMax) return "too many volcanoes";
  std::set<std::string_view> nicks, fqdns, udp, consoles;
  std::set<std::uint64_t> storages;
  VolcanoId last = kNoVolcano;
  for (const Volcano& v : map.volcanoes) {
    if (v.id <= last) return fmt::format("volcano {} is not after {}", v.id.value, last.value);
    if (v.id >= map.next_id) return fmt::format("volcano {} is not below next_id", v.id.value);
    last = v.id;
    if (std::string bad = bad_profile(v.profile); !bad.empty())
      return fmt::format("volcano {}: {}", v.id.value, bad);
    const Profile& p = v.profile;
    if (!nicks.insert(p.nick).second) return fmt::format("two volcanoes have nick {}", p.nick);
    if (!fqdns.insert(p.fqdn).second) return fmt::format("two volcanoes have name {}", p.fqdn);
    if (p.storage != 0 && !storages.insert(p.storage).second)
      return fmt::format("two volcanoes have the storage directory of {}", p.nick);
    for (const std::string* address : {&p.flare, &p.node})
      if (!address->empty() && !udp.insert(*address).second)
        return fmt::format("two volcanoes have address {}", *address);
    if (!p.console.empty() && !consoles.insert(p.console).second)
      return fmt::format("two volcanoes have console {}", p.console);
    if (v.is_alive() ? v.resumes != v.state
                     : v.resumes == VolcanoState::down || v.resumes == VolcanoState::gone)
      return fmt::format("volcano {} resumes as what it cannot be", v.id.value);
  }
  return {};
}

std::string check_voters(const LavaMap& map) {
  if (map.voters.empty()) return "no voter";
  if (map.voters.size() > kVotersMax) return "too many voters";
  for (const auto* list : {&map.voters, &map.learners}) {
    VolcanoId last = kNoVolcano;
    for (VolcanoId id : *list) {
      if (id <= last) return "voters or learners are not ascending";
      if (map.find(id) == nullptr) return fmt::format("voter {} is no volcano", id.value);
      last = id;
    }
  }
  for (VolcanoId id : map.learners)
    if (std::binary_search(map.voters.begin(), map.voters.end(), id))
      return fmt::format("{} votes and learns", id.value);
  return {};
}

std::string check_fenced(const LavaMap& map) {
  if (map.fenced.size() > kFencedMax) return "too many fenced sessions";
  SessionId last{};
  for (const FencedSession& f : map.fenced) {
    if (f.session <= last) return "fenced sessions are not ascending";
    if (f.version > map.version) return "a session fenced by a later map";
    last = f.session;
  }
  return {};
}

// Ids as flags, so that the slots are checked without searching.
struct Known {
  std::vector<bool> stores, alive;
  explicit Known(const LavaMap& map)
      : stores(map.next_id.value + std::size_t{1}), alive(map.next_id.value + std::size_t{1}) {
    for (const Volcano& v : map.volcanoes) {
      stores[v.id.value] = v.stores();
      alive[v.id.value] = v.is_alive();
    }
  }
  bool is_store(VolcanoId id) const { return id.value < stores.size() && stores[id.value]; }
};

std::string check_slot(const SlotEntry& entry, const Known& known) {
  if (entry.replicas.empty()) return "no replica";
  if (entry.epoch.value == 0) return "no epoch";
  if (!known.is_store(entry.owner)) return "the owner stores nothing";
  if (!entry.replicas.has(entry.last_serving)) return "who served it last has no replica";
  for (const Replica* r = entry.replicas.begin(); r != entry.replicas.end(); ++r) {
    if (!known.is_store(r->volcano)) return "a replica on what is no volcano";
    for (const Replica* other = entry.replicas.begin(); other != r; ++other)
      if (other->volcano == r->volcano) return "two replicas on one volcano";
  }
  if (entry.replicas[0].state != ReplicaState::in_sync) return "the primary is not in sync";
  const bool is_primary_alive = known.alive[entry.primary().value];
  if (entry.state != (is_primary_alive ? SlotState::serving : SlotState::waiting))
    return is_primary_alive ? "its primary is there and it does not serve"
                            : "it serves and its primary is away";
  for (const Replica& r : entry.replicas) {
    if (r.volcano == entry.primary() || r.state != ReplicaState::in_sync) continue;
    if (!is_primary_alive) return "it waits and another replica is in sync";
    if (!known.alive[r.volcano.value]) return "a replica in sync is away";
  }
  return {};
}

bool same_members(const ReplicaList& a, const ReplicaList& b) {
  return a.size() == b.size() &&
         std::all_of(a.begin(), a.end(), [&](const Replica& r) { return b.has(r.volcano); });
}

bool one_fell_behind(const ReplicaList& before, const ReplicaList& after) {
  return std::any_of(before.begin(), before.end(), [&](const Replica& r) {
    const Replica* now = after.find(r.volcano);
    return r.state == ReplicaState::in_sync && now != nullptr &&
           now->state == ReplicaState::catching_up;
  });
}

std::string check_slot_step(const SlotEntry& before, const SlotEntry& after) {
  if (after.epoch < before.epoch) return "the epoch fell";
  if (!before.replicas.empty() && after.replicas.empty()) return "the last replica went";
  if (after.epoch > before.epoch || before.state == SlotState::empty) return {};
  if (before.primary() != after.primary()) return "another primary in the same epoch";
  if (!same_members(before.replicas, after.replicas)) return "other replicas in the same epoch";
  if (one_fell_behind(before.replicas, after.replicas)) return "a replica behind in the same epoch";
  return {};
}

}  // namespace

bool counts_fit(const LavaMap& map) {
  return map.version <= kCountMax && map.membership <= kCountMax &&
         map.generation <= kSmallCountMax &&
         std::all_of(map.volcanoes.begin(), map.volcanoes.end(),
                     [](const Volcano& v) { return v.starts <= kSmallCountMax; }) &&
         std::all_of(map.slots.begin(), map.slots.end(),
                     [](const SlotEntry& e) { return e.epoch.value <= kSmallCountMax; });
}

std::string check(const LavaMap& map) {
  if (map.slots.size() != kSlotCount) return "not 4096 slots";
  if (map.version == 0) return map == LavaMap{} ? "" : "a map without a ring has something in it";
  if (map.copies < 1 || map.copies > kCopiesMax) return "copies are 1 to 5";
  if (map.generation == 0) return "ring generation 0";
  if (!counts_fit(map)) return "a number is used up";
  if (map.next_id.value == 0) return "next_id 0";
  if (std::string bad = check_volcanoes(map); !bad.empty()) return bad;
  if (std::string bad = check_voters(map); !bad.empty()) return bad;
  if (std::string bad = check_fenced(map); !bad.empty()) return bad;
  const Known known(map);
  for (unsigned n = 0; n < kSlotCount; ++n)
    if (std::string bad = check_slot(map.slots[n], known); !bad.empty())
      return fmt::format("slot {}: {}", n, bad);
  return {};
}

std::string check_step(const LavaMap& before, const LavaMap& after) {
  if (std::string bad = check(after); !bad.empty()) return bad;
  if (after.version != before.version + 1) return "the version did not rise by one";
  if (after.generation < before.generation) return "the ring generation fell";
  if (after.next_id < before.next_id) return "an id could be given twice";
  if (after.membership < before.membership) return "the membership fell";
  for (unsigned n = 0; n < kSlotCount; ++n)
    if (std::string bad = check_slot_step(before.slots[n], after.slots[n]); !bad.empty())
      return fmt::format("slot {}: {}", n, bad);
  return {};
}

}  // namespace magma::ring
