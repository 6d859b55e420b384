// The ring policy: who should own which slot, who should have copies, and what has to move for it.
// Used by the coordinator for join, drain, leave and loss, and for `--dry-run`. Pure computation.
//
// Owners make the ring: slots in order of the keyspace, its end joined to its start, cut into runs
// with the same owner. A slot should be on its owner and on the next owners up the ring until it
// has `copies` different ones. So a run that is put into another run, or taken out, changes who
// mirrors whom only for the runs before it, and a newcomer copies its share and its mirror duty,
// nobody else anything (with more than two copies now and then a little).
//
// Up to kContiguousMax volcanoes own one run each, of equal weight. Beyond, a newcomer takes runs,
// at most kRunsMax, from the fullest, and no volcano ever owns more than kRunsMax. It takes them
// out of longer runs such that the piece before them, which it mirrors, is about as long: its
// mirror duty is near its share.
//
// A plan is carried out by assigning the owners (one command) and then by moving_steps() again and
// again, until nothing is left: the map is all there is to know, so whoever becomes coordinator
// goes on. Every step leaves at least as many replicas in sync as there were.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "libmagma/base/result.h"
#include "libmagma/ring/lava_map.h"
#include "libmagma/ring/map_commands.h"

namespace magma::ring {

inline constexpr std::size_t kContiguousMax = 4;
inline constexpr std::size_t kRunsMax = 16;
// All of them: slots whose replicas change together stay together (magmad/tenures.h).
inline constexpr std::size_t kSlotsPerCommandMax = kSlotCount;

using Owners = std::vector<VolcanoId>;  // of the 4096 slots
Owners owners_of(const LavaMap& map);

// What each slot weighs, in bytes. A slot counts for at least an eighth of the mean, so that empty
// ones are shared out, too; without bytes all count the same.
class Weights {
 public:
  Weights() : Weights(std::span<const std::uint64_t>()) {}
  // Requires: no bytes or 4096 of them, together below 2^60.
  explicit Weights(std::span<const std::uint64_t> bytes);
  std::uint64_t bytes(unsigned slot) const { return bytes_[slot]; }
  std::uint64_t load(unsigned slot) const { return load_[slot]; }  // for sharing out
  std::uint64_t total_load() const { return total_load_; }

 private:
  std::vector<std::uint64_t> bytes_, load_;
  std::uint64_t total_load_ = 0;
};

// The volcanoes a slot should be on, the owner first.
struct Target {
  std::array<VolcanoId, kCopiesMax> volcanoes{};
  std::uint8_t count = 0;
  bool has(VolcanoId id) const;
  const VolcanoId* begin() const { return volcanoes.data(); }
  const VolcanoId* end() const { return volcanoes.data() + count; }
  friend bool operator==(const Target&, const Target&) = default;
};
// Of all 4096 slots. Fewer than `copies` where there are fewer owners.
std::vector<Target> targets_of(const Owners& owners, unsigned copies);

// Runs of a volcano on the ring; a run over the end of the keyspace counts as two.
std::size_t runs_of(const Owners& owners, VolcanoId volcano);

enum class MoveRole : std::uint8_t { primary = 0, backup = 1 };
struct Move {
  Slot slot;
  VolcanoId from;  // who is primary now: what is copied is copied from it
  VolcanoId to;
  MoveRole role = MoveRole::backup;  // what `to` will be
  bool is_copied = true;             // false: `to` has the slot and is to be its primary only
  friend bool operator==(const Move&, const Move&) = default;
};

struct PlacementPlan {
  Owners owners{};
  std::vector<OwnerRun> changes{};  // for Assign: slots with another owner than now
  std::vector<Move> moves{};        // by slot, the primary's first
  // Of the volcano that joins; 0 in other plans.
  std::uint64_t share_slots = 0, share_bytes = 0;    // what it owns
  std::uint64_t mirror_slots = 0, mirror_bytes = 0;  // what it has as a backup
  // To all volcanoes: copied, primaries and backups each counted.
  std::uint64_t copied_slots = 0, copied_bytes = 0;
};

// What must move to bring the slots to these owners.
PlacementPlan plan_for(const LavaMap& map, Owners owners, const Weights& weights);

// A volcano that owns nothing takes its share, at the ring's `beside`: after it, or before it if
// that is fairer or copies less than too much, while slices are contiguous; else from it first if
// it is one of the fullest. It copies at most 1.2 times its share and mirror duty: slices stay
// unequal if they must (one copy, 3 to 4 volcanoes).
// not_found: no such volcano. invalid: it owns slots, or stores none. busy: it is leaving or gone.
Result<PlacementPlan> plan_join(const LavaMap& map, VolcanoId joiner, VolcanoId beside,
                                const Weights& weights);

// Others take over what the volcano owns: to drain it, or because it is gone; then
// `magma lava remove`. not_found: no such volcano. busy: nobody else is there to take it.
Result<PlacementPlan> plan_leave(const LavaMap& map, VolcanoId leaver, const Weights& weights);

// The commands that may be applied next on the way from the map to its targets; each is legal after
// the ones before it. At most `catching_up_max` replicas catch up at a time: there are no more
// AddReplica while there are as many. ReplicaInSync comes from who copies, Serving from the
// primary: empty while all depends on them or on volcanoes that are away, and when nothing is left.
std::vector<Command> moving_steps(const LavaMap& map, std::size_t catching_up_max);
// Whether every slot has what it should have, as far as volcanoes are there.
bool is_settled(const LavaMap& map);

}  // namespace magma::ring
