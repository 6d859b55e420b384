#include "libmagma/ring/slot_router.h"

namespace magma::ring {

MapVerdict SlotRouter::judge(const MapStamp& stamp) const {
  if (stamp == stamp_) return MapVerdict::same;
  if (stamp > stamp_) return MapVerdict::taken;
  return stamp.generation < stamp_.generation ? MapVerdict::outvoted : MapVerdict::stale;
}

MapVerdict SlotRouter::offer(const LavaMap& map) {
  if (map.version == 0) return MapVerdict::foreign;
  if (stamp_.version != 0 && map.filesystem != filesystem_) return MapVerdict::foreign;
  const MapVerdict verdict = judge(stamp_of(map));
  if (verdict != MapVerdict::taken) return verdict;
  stamp_ = stamp_of(map);
  filesystem_ = map.filesystem;
  for (unsigned n = 0; n < kSlotCount; ++n) {
    const SlotEntry& entry = map.slots[n];
    routes_[n] = {.volcano = entry.primary(),
                  .epoch = entry.epoch,
                  .serves = entry.state == SlotState::serving};
  }
  places_.clear();
  for (const Volcano& v : map.volcanoes)
    places_[v.id] = {.flare = v.profile.flare, .is_alive = v.is_alive()};
  return verdict;
}

std::string SlotRouter::address(VolcanoId volcano) const {
  auto at = places_.find(volcano);
  return at == places_.end() ? std::string() : at->second.flare;
}

std::vector<std::string> SlotRouter::addresses() const {
  std::vector<std::string> addresses;
  for (const auto& [id, place] : places_)
    if (place.is_alive && !place.flare.empty()) addresses.push_back(place.flare);
  return addresses;
}

}  // namespace magma::ring
