#include "libmagma/ring/lava_map.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "libmagma/base/check.h"

namespace magma::ring {

const Replica* ReplicaList::find(VolcanoId volcano) const {
  const Replica* at =
      std::find_if(begin(), end(), [&](const Replica& r) { return r.volcano == volcano; });
  return at == end() ? nullptr : at;
}

Replica* ReplicaList::find(VolcanoId volcano) {
  return const_cast<Replica*>(std::as_const(*this).find(volcano));
}

std::size_t ReplicaList::in_sync() const {
  return static_cast<std::size_t>(std::count_if(
      begin(), end(), [](const Replica& r) { return r.state == ReplicaState::in_sync; }));
}

void ReplicaList::add(Replica replica) {
  MAGMA_CHECK(size_ < kReplicasMax);
  items_[size_++] = replica;
}

void ReplicaList::remove(VolcanoId volcano) {
  Replica* kept =
      std::remove_if(begin(), end(), [&](const Replica& r) { return r.volcano == volcano; });
  size_ = static_cast<std::uint8_t>(kept - begin());
}

void ReplicaList::move_to_front(VolcanoId volcano) {
  Replica* at = find(volcano);
  MAGMA_CHECK(at != nullptr);
  std::rotate(begin(), at, at + 1);
}

void ReplicaList::move_to_back(VolcanoId volcano) {
  Replica* at = find(volcano);
  MAGMA_CHECK(at != nullptr);
  std::rotate(at, at + 1, end());
}

bool operator==(const ReplicaList& a, const ReplicaList& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

const Volcano* LavaMap::find(VolcanoId id) const {
  auto at = std::lower_bound(volcanoes.begin(), volcanoes.end(), id,
                             [](const Volcano& v, VolcanoId wanted) { return v.id < wanted; });
  return at == volcanoes.end() || at->id != id ? nullptr : &*at;
}

Volcano* LavaMap::find(VolcanoId id) { return const_cast<Volcano*>(std::as_const(*this).find(id)); }

std::string_view name_of(VolcanoState state) {
  switch (state) {
    case VolcanoState::joining: return "joining";
    case VolcanoState::up: return "up";
    case VolcanoState::down: return "down";
    case VolcanoState::leaving: return "leaving";
    case VolcanoState::gone: return "gone";
  }
  return "unknown";
}

const Volcano* LavaMap::find_nick(std::string_view nick) const {
  for (const Volcano& v : volcanoes)
    if (v.profile.nick == nick) return &v;
  return nullptr;
}

const Volcano* LavaMap::find_storage(std::uint64_t storage) const {
  if (storage == 0) return nullptr;
  for (const Volcano& v : volcanoes)
    if (v.profile.storage == storage) return &v;
  return nullptr;
}

bool LavaMap::is_alive(VolcanoId id) const {
  const Volcano* volcano = find(id);
  return volcano != nullptr && volcano->is_alive();
}

bool LavaMap::is_fenced(SessionId session) const {
  auto at =
      std::lower_bound(fenced.begin(), fenced.end(), session,
                       [](const FencedSession& f, SessionId wanted) { return f.session < wanted; });
  return at != fenced.end() && at->session == session;
}

std::string LavaMap::nick_of(VolcanoId id) const {
  const Volcano* volcano = find(id);
  return volcano != nullptr ? volcano->profile.nick : "volcano " + std::to_string(id.value);
}

std::vector<OwnedSlice> slices(const LavaMap& map) {
  std::vector<OwnedSlice> result;
  for (unsigned n = 0; n < kSlotCount; ++n) {
    const Slot slot(static_cast<std::uint16_t>(n));
    const VolcanoId primary = map.slots[n].primary();
    if (primary == kNoVolcano) continue;
    if (!result.empty() && result.back().volcano == primary &&
        result.back().slice.last.value + 1u == n)
      result.back().slice.last = slot;
    else
      result.push_back({{slot, slot}, primary});
  }
  return result;
}

std::vector<Slice> slices_of(const LavaMap& map, VolcanoId volcano) {
  std::vector<Slice> result;
  for (const OwnedSlice& owned : slices(map))
    if (owned.volcano == volcano) result.push_back(owned.slice);
  return result;
}

// --- the encoded form ----------------------------------------------------------------------------

namespace {

bool are_alike(const SlotEntry& a, const SlotEntry& b) {
  return a.state == b.state && a.owner == b.owner && a.last_serving == b.last_serving &&
         a.replicas == b.replicas;
}

using SetKey = std::tuple<SlotState, VolcanoId, VolcanoId, std::vector<std::uint32_t>>;
SetKey key_of(const SlotEntry& entry) {
  std::vector<std::uint32_t> replicas;
  for (const Replica& r : entry.replicas)
    replicas.push_back(std::uint32_t{r.volcano.value} << 8 | static_cast<std::uint8_t>(r.state));
  return {entry.state, entry.owner, entry.last_serving, std::move(replicas)};
}

SlotSet set_of(const SlotEntry& entry) {
  return {.state = entry.state,
          .owner = entry.owner,
          .last_serving = entry.last_serving,
          .replicas = {entry.replicas.begin(), entry.replicas.end()}};
}

bool is_known(VolcanoState state) { return state <= VolcanoState::gone; }

tl::unexpected<Error> malformed(const char* what) { return fail(Code::malformed, what); }

// What a set says of a slot, but for the epoch.
Result<SlotEntry> entry_of(const SlotSet& set) {
  if (set.state > SlotState::waiting) return malformed("state of a slot");
  if (set.replicas.size() > kReplicasMax) return malformed("too many replicas");
  SlotEntry entry;
  entry.state = set.state;
  entry.owner = set.owner;
  entry.last_serving = set.last_serving;
  for (const Replica& replica : set.replicas) {
    if (replica.state > ReplicaState::catching_up) return malformed("state of a replica");
    entry.replicas.add(replica);
  }
  return entry;
}

Result<std::vector<SlotEntry>> slots_of(const MapForm& form) {
  if (form.sets.size() > kSlotCount) return malformed("too many sets");
  std::vector<SlotEntry> entries;
  for (const SlotSet& set : form.sets) {
    TRY_VALUE(SlotEntry entry, entry_of(set));
    entries.push_back(entry);
  }
  std::vector<SlotEntry> slots;
  slots.reserve(kSlotCount);
  for (const SetRun& run : form.runs) {
    if (run.set >= entries.size()) return malformed("a run of no set");
    if (run.slots == 0 || run.slots > kSlotCount - slots.size()) return malformed("length of run");
    slots.insert(slots.end(), run.slots, entries[run.set]);
  }
  if (slots.size() != kSlotCount) return malformed("runs do not make 4096 slots");
  std::size_t at = 0;
  for (const EpochRun& run : form.epochs) {
    if (run.slots == 0 || run.slots > kSlotCount - at) return malformed("length of epochs");
    for (std::size_t end = at + run.slots; at < end; ++at) slots[at].epoch = run.epoch;
  }
  if (at != kSlotCount) return malformed("epochs do not make 4096 slots");
  return slots;
}

// Whether the runs are those that to_form() makes, so that a map has one encoding.
bool is_canonical(const MapForm& form, const LavaMap& map) {
  const MapForm again = to_form(map);
  auto same_runs = [](const SetRun& a, const SetRun& b) {
    return a.slots == b.slots && a.set == b.set;
  };
  return again.sets.size() == form.sets.size() && again.epochs.size() == form.epochs.size() &&
         std::equal(form.runs.begin(), form.runs.end(), again.runs.begin(), again.runs.end(),
                    same_runs);
}

}  // namespace

MapForm to_form(const LavaMap& map) {
  MapForm form{.version = map.version,
               .generation = map.generation,
               .membership = map.membership,
               .filesystem = map.filesystem,
               .copies = map.copies,
               .shares_slots = map.shares_slots,
               .next_id = map.next_id,
               .volcanoes = map.volcanoes,
               .voters = map.voters,
               .learners = map.learners,
               .fenced = map.fenced};
  std::map<SetKey, std::uint16_t> known;
  for (unsigned n = 0; n < kSlotCount; ++n) {
    const SlotEntry& entry = map.slots[n];
    if (n > 0 && are_alike(entry, map.slots[n - 1])) {
      ++form.runs.back().slots;
    } else {
      auto [at, is_new] =
          known.try_emplace(key_of(entry), static_cast<std::uint16_t>(form.sets.size()));
      if (is_new) form.sets.push_back(set_of(entry));
      form.runs.push_back({.slots = 1, .set = at->second});
    }
    if (n > 0 && entry.epoch == map.slots[n - 1].epoch)
      ++form.epochs.back().slots;
    else
      form.epochs.push_back({.slots = 1, .epoch = entry.epoch});
  }
  return form;
}

Result<LavaMap> from_form(const MapForm& form) {
  if (form.format != kMapFormat) return fail(Code::too_new, "lava map");
  for (const Volcano& volcano : form.volcanoes)
    if (!is_known(volcano.state) || !is_known(volcano.resumes))
      return malformed("state of a volcano");
  LavaMap map{.version = form.version,
              .generation = form.generation,
              .membership = form.membership,
              .filesystem = form.filesystem,
              .copies = form.copies,
              .shares_slots = form.shares_slots,
              .next_id = form.next_id,
              .volcanoes = form.volcanoes,
              .voters = form.voters,
              .learners = form.learners,
              .fenced = form.fenced,
              .slots = {}};
  TRY_VALUE(map.slots, slots_of(form));
  if (std::string broken = check(map); !broken.empty())
    return fail(Code::malformed, std::move(broken));
  if (!is_canonical(form, map)) return malformed("runs are not as long as they can be");
  return map;
}

namespace {

std::size_t bytes_of(const SlotEntry& entry) {  // as a SlotSet
  return 1 + 2 + 2 + 4 + 3 * entry.replicas.size();
}

// All but sets, runs and epochs: head, counts of seven lists, widths as in fields().
std::size_t bytes_without_slots(const LavaMap& map) {
  std::size_t bytes = 1 + 8 + 4 + 8 + 16 + 1 + 1 + 2 + 7 * 4;
  for (const Volcano& v : map.volcanoes) {
    const Profile& p = v.profile;
    bytes += 2 + 5 * 4 + 1 + 8 + 1 + 1 + 4 + p.nick.size() + p.fqdn.size() + p.flare.size() +
             p.node.size() + p.console.size();
  }
  return bytes + (map.voters.size() + map.learners.size()) * 2 + map.fenced.size() * 16;
}

// `bytes_of_set(entry)` is asked for each run.
template <class BytesOfSet>
std::size_t count_bytes(const LavaMap& map, BytesOfSet bytes_of_set) {
  std::size_t bytes = bytes_without_slots(map);
  for (unsigned n = 0; n < kSlotCount; ++n) {
    const SlotEntry& entry = map.slots[n];
    if (n == 0 || !are_alike(entry, map.slots[n - 1])) bytes += 4 + bytes_of_set(entry);
    if (n == 0 || entry.epoch != map.slots[n - 1].epoch) bytes += 6;
  }
  return bytes;
}

}  // namespace

std::size_t encoded_bytes_at_most(const LavaMap& map) { return count_bytes(map, bytes_of); }

std::size_t encoded_bytes(const LavaMap& map) {
  std::set<SetKey> known;
  return count_bytes(map, [&](const SlotEntry& entry) {
    return known.insert(key_of(entry)).second ? bytes_of(entry) : 0;
  });
}

std::uint64_t digest_of_epochs(const LavaMap& map, const SlotMask& slots) {
  constexpr std::uint64_t kBasis = 14695981039346656037u, kPrime = 1099511628211u;
  std::uint64_t digest = kBasis;
  const auto add = [&](std::uint64_t value, unsigned bytes) {
    for (unsigned i = 0; i < bytes; ++i) digest = (digest ^ (value >> 8 * i & 0xff)) * kPrime;
  };
  for (unsigned n = 0; n < kSlotCount; ++n) {
    if (!slots[n]) continue;
    add(n, 2);
    add(map.slots[n].epoch.value, 4);
  }
  return digest;
}

}  // namespace magma::ring
