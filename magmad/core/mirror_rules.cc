#include "magmad/core/mirror_rules.h"

#include <algorithm>

namespace magma::core {

namespace {

using ring::LavaMap;
using ring::Replica;
using ring::ReplicaState;
using ring::VolcanoId;
using wire::MirrorFact;
using wire::MirrorState;

// One command for the whole keyspace. 4096 slots take 24 KiB, whatever their epochs.
template <class C>
ring::Command for_all_slots(const LavaMap& map, VolcanoId volcano) {
  C command;
  command.volcano = volcano;
  command.slots.reserve(map.slots.size());
  for (unsigned n = 0; n < ring::kSlotCount; ++n)
    command.slots.push_back({ring::Slot(static_cast<std::uint16_t>(n)), map.slots[n].epoch});
  return command;
}

// Slots change together here. Where they do not, they are somebody else's to move (placement.h).
bool are_all_alike(const LavaMap& map) {
  const ring::SlotEntry& first = map.slots.front();
  return std::all_of(map.slots.begin(), map.slots.end(), [&](const ring::SlotEntry& entry) {
    return entry.state == first.state && entry.replicas == first.replicas;
  });
}

// Who may have a copy: in the order of the ring, from the primary on and around its end.
std::vector<VolcanoId> candidates(const LavaMap& map, VolcanoId primary) {
  std::vector<VolcanoId> ids;
  for (const ring::Volcano& volcano : map.volcanoes)
    if (volcano.id != primary && volcano.stores() && volcano.is_alive() &&
        volcano.state != ring::VolcanoState::leaving)
      ids.push_back(volcano.id);
  std::rotate(ids.begin(), std::upper_bound(ids.begin(), ids.end(), primary), ids.end());
  return ids;
}

// One look at the map, and at what the primary says of it.
class View {
 public:
  View(const LavaMap& map, const std::vector<MirrorFact>& told)
      : map_(map), slot_(map.slots.front()), told_(told) {}

  // The primary waits for it in vain. What it says of one that the map has not in sync means the
  // same: it may have begun to wait, and only a higher epoch ends that.
  std::optional<ring::Command> free_primary() const {
    for (const Replica& replica : backups()) {
      if (!says(replica.volcano, MirrorState::released)) continue;
      if (replica.state == ReplicaState::in_sync)
        return for_all_slots<ring::ReplicaBehind>(map_, replica.volcano);
      return for_all_slots<ring::DropReplica>(map_, replica.volcano);
    }
    return std::nullopt;
  }

  std::optional<ring::Command> take_in_sync() const {
    for (const Replica& replica : backups())
      if (replica.state == ReplicaState::catching_up && map_.is_alive(replica.volcano) &&
          says(replica.volcano, MirrorState::in_sync))
        return for_all_slots<ring::ReplicaInSync>(map_, replica.volcano);
    return std::nullopt;
  }

  // A volcano that is away and expected back keeps its place.
  std::optional<ring::Command> add_replica(const std::function<bool(VolcanoId)>& is_there) const {
    const auto counted =
        std::count_if(slot_.replicas.begin(), slot_.replicas.end(), [&](const Replica& replica) {
          return map_.find(replica.volcano)->state != ring::VolcanoState::gone;
        });
    if (counted >= map_.copies || slot_.replicas.is_full()) return std::nullopt;
    for (VolcanoId id : wanted())
      if (!slot_.replicas.has(id) && is_there(id)) return for_all_slots<ring::AddReplica>(map_, id);
    return std::nullopt;
  }

  // Rather one that is not in sync, and the last of equals.
  std::optional<ring::Command> drop_replica() const {
    if (slot_.replicas.size() <= map_.copies) return std::nullopt;
    const auto rest = backups();
    const auto behind = std::find_if(rest.rbegin(), rest.rend(), [](const Replica& replica) {
      return replica.state == ReplicaState::catching_up;
    });
    const VolcanoId spare = (behind != rest.rend() ? *behind : rest.back()).volcano;
    return for_all_slots<ring::DropReplica>(map_, spare);
  }

 private:
  std::vector<Replica> backups() const {
    return {slot_.replicas.begin() + 1, slot_.replicas.end()};
  }

  bool says(VolcanoId volcano, MirrorState state) const {
    return std::any_of(told_.begin(), told_.end(), [&](const MirrorFact& fact) {
      return fact.volcano == volcano && fact.state == state && fact.epoch == slot_.epoch;
    });
  }

  // Who should have a copy; those who have one come first, so that nothing is copied in vain.
  std::vector<VolcanoId> wanted() const {
    std::vector<VolcanoId> ids = candidates(map_, slot_.primary());
    std::stable_partition(ids.begin(), ids.end(),
                          [&](VolcanoId id) { return slot_.replicas.has(id); });
    ids.resize(std::min<std::size_t>(ids.size(), map_.copies - 1u));
    return ids;
  }

  const LavaMap& map_;
  const ring::SlotEntry& slot_;  // as all
  const std::vector<MirrorFact>& told_;
};

}  // namespace

std::optional<ring::Command> next_mirror_step(const LavaMap& map,
                                              const std::vector<MirrorFact>& told,
                                              const std::function<bool(VolcanoId)>& is_there) {
  // While the primary is down nobody can be copied from, or is waited for.
  if (map.version == 0 || map.slots.front().state != ring::SlotState::serving) return std::nullopt;
  if (!are_all_alike(map)) return std::nullopt;
  const View view(map, told);
  if (auto command = view.free_primary()) return command;
  if (auto command = view.take_in_sync()) return command;
  if (auto command = view.add_replica(is_there)) return command;
  return view.drop_replica();
}

}  // namespace magma::core
