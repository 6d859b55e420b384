// Slot -> the primary to send to, from the newest lava map that was seen. Clients and volcanoes
// that forward have one each. Maps come from anywhere, in any order; the newest counts: the higher
// ring generation, and within one the higher version. Who has seen generation g + 1 refuses g.
// One thread.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "libmagma/base/strong.h"
#include "libmagma/ring/lava_map.h"

namespace magma::ring {

// Which map somebody has: carried in handshakes and in answers.
struct MapStamp {
  std::uint32_t generation = 0;
  std::uint64_t version = 0;
  friend auto operator<=>(const MapStamp&, const MapStamp&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("generation", s.generation);
    v("version", s.version);
  }
};
inline MapStamp stamp_of(const LavaMap& map) { return {map.generation, map.version}; }

enum class MapVerdict : std::uint8_t {
  taken = 0,  // newer than mine: it is mine now
  same = 1,
  stale = 2,     // older than mine: who sent it should have mine
  outvoted = 3,  // of an older ring generation: who sent it must rejoin
  foreign = 4,   // of another filesystem, or no ring's at all
};

class SlotRouter {
 public:
  struct Route {
    VolcanoId volcano;  // the primary; kNoVolcano: no map yet
    Epoch epoch;
    bool serves = false;  // false: it is away, and nobody else can be asked
    friend bool operator==(const Route&, const Route&) = default;
  };

  MapVerdict offer(const LavaMap& map);
  // What a map with that stamp would be to me; never foreign, `taken` if it would be.
  MapVerdict judge(const MapStamp& stamp) const;

  MapStamp stamp() const { return stamp_; }
  // Clients drop all caches when this changes.
  std::uint32_t generation() const { return stamp_.generation; }
  Route route(Slot slot) const { return routes_[slot.value % kSlotCount]; }
  // Flare address; empty for an unknown volcano.
  std::string address(VolcanoId volcano) const;
  // Of all who are there: where the next map may be had.
  std::vector<std::string> addresses() const;

 private:
  MapStamp stamp_;
  FilesystemId filesystem_{};
  std::array<Route, kSlotCount> routes_{};
  struct Place {
    std::string flare;
    bool is_alive = false;
  };
  std::map<VolcanoId, Place> places_;
};

}  // namespace magma::ring
