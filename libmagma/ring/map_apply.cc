// apply_command(): each command on a copy of the map, which replaces the map if nothing was wrong.
#include <algorithm>

#include <fmt/format.h>

#include "libmagma/ring/map_commands.h"
#include "libmagma/ring/map_slot_steps.h"
#include "libmagma/ring/profile_rules.h"

namespace magma::ring {

namespace {

Result<void> expect_membership(LavaMap& map, std::uint64_t membership) {
  if (map.membership != membership)
    return fail(Code::wrong_epoch,
                fmt::format("the membership is {}, not {}", map.membership, membership));
  ++map.membership;
  return {};
}

Result<Volcano*> find_volcano(LavaMap& map, VolcanoId id) {
  Volcano* volcano = map.find(id);
  if (volcano == nullptr) return fail(Code::not_found, fmt::format("no volcano {}", id.value));
  return volcano;
}

Result<Volcano*> find_start(LavaMap& map, VolcanoId id, std::uint32_t starts) {
  TRY_VALUE(Volcano * volcano, find_volcano(map, id));
  if (volcano->starts != starts)
    return fail(Code::wrong_epoch, fmt::format("{} has started {} times, not {}",
                                               volcano->profile.nick, volcano->starts, starts));
  return volcano;
}

void set_state(Volcano& volcano, VolcanoState state) { volcano.state = volcano.resumes = state; }

bool owns_any(const LavaMap& map, VolcanoId id) {
  return std::any_of(map.slots.begin(), map.slots.end(),
                     [&](const SlotEntry& e) { return e.owner == id; });
}

// --- the ring and its volcanoes ------------------------------------------------------------------

Result<void> change(LavaMap& map, const Found& c, Applied& applied) {
  if (map.version != 0) return fail(Code::exists, "there is a ring");
  if (c.copies < 1 || c.copies > kCopiesMax) return fail(Code::invalid, "copies are 1 to 5");
  if (std::string bad = bad_profile(c.profile); !bad.empty()) return fail(Code::invalid, bad);
  if (c.profile.roles != kStores) return fail(Code::invalid, "the founder stores");
  const VolcanoId id{1};
  map.generation = 1;
  map.membership = 1;
  map.filesystem = c.filesystem;
  map.copies = c.copies;
  map.shares_slots = c.shares_slots;
  map.next_id = VolcanoId(2);
  map.volcanoes.push_back({.id = id, .profile = c.profile, .starts = 1});
  set_state(map.volcanoes.back(), VolcanoState::up);
  map.voters = {id};
  for (SlotEntry& entry : map.slots) {
    entry.epoch = Epoch(1);
    entry.state = SlotState::serving;
    entry.owner = entry.last_serving = id;
    entry.replicas.add({.volcano = id});
  }
  applied.volcano = id;
  return {};
}

Result<void> change(LavaMap& map, const AddVolcano& c, Applied& applied) {
  TRY(expect_membership(map, c.membership));
  if (std::string bad = bad_profile(c.profile); !bad.empty()) return fail(Code::invalid, bad);
  if (std::string taken = taken_in(map, c.profile, kNoVolcano); !taken.empty())
    return fail(Code::exists, taken + " is in use");
  if (map.volcanoes.size() >= kVolcanoesMax)
    return fail(Code::no_space, "the ring has 512 volcanoes");
  if (map.next_id.value > kVolcanoIdMax) return fail(Code::no_space, "no number left");
  map.volcanoes.push_back({.id = map.next_id, .profile = c.profile, .starts = 1});
  applied.volcano = map.next_id;
  ++map.next_id.value;
  return {};
}

Result<void> change(LavaMap& map, const VolcanoStarted& c, Applied&) {
  TRY_VALUE(Volcano * volcano, find_start(map, c.volcano, c.starts));
  if (volcano->state == VolcanoState::gone) ++map.membership;
  ++volcano->starts;
  set_state(*volcano, volcano->resumes);
  for (SlotEntry& entry : map.slots) volcano_came(map, entry, c.volcano, c.has_lost);
  return {};
}

Result<void> change(LavaMap& map, const VolcanoDown& c, Applied&) {
  TRY_VALUE(Volcano * volcano, find_start(map, c.volcano, c.starts));
  if (!volcano->is_alive()) return fail(Code::exists, "it is down");
  volcano->state = VolcanoState::down;
  for (SlotEntry& entry : map.slots) volcano_went(map, entry, c.volcano);
  return {};
}

Result<void> change(LavaMap& map, const VolcanoJoined& c, Applied&) {
  TRY(expect_membership(map, c.membership));
  TRY_VALUE(Volcano * volcano, find_volcano(map, c.volcano));
  if (volcano->state != VolcanoState::joining) return fail(Code::invalid, "it is not joining");
  if (volcano->stores()) {
    if (!owns_any(map, c.volcano)) return fail(Code::busy, "it has no share");
    for (const SlotEntry& entry : map.slots)
      if (entry.owner == c.volcano && entry.primary() != c.volcano)
        return fail(Code::busy, "it does not have all of its share");
  }
  set_state(*volcano, VolcanoState::up);
  return {};
}

Result<void> change(LavaMap& map, const SetLeaving& c, Applied&) {
  TRY(expect_membership(map, c.membership));
  TRY_VALUE(Volcano * volcano, find_volcano(map, c.volcano));
  if (volcano->state == VolcanoState::gone) return fail(Code::busy, "it is gone");
  const VolcanoState wanted = c.is_leaving ? VolcanoState::leaving : VolcanoState::up;
  if ((volcano->resumes == VolcanoState::leaving) == c.is_leaving)
    return fail(Code::exists, c.is_leaving ? "it is leaving" : "it is not leaving");
  volcano->resumes = wanted;
  if (volcano->is_alive()) volcano->state = wanted;
  return {};
}

Result<void> change(LavaMap& map, const PatienceOver& c, Applied&) {
  TRY_VALUE(Volcano * volcano, find_start(map, c.volcano, c.starts));
  if (volcano->state != VolcanoState::down) return fail(Code::busy, "it is not down");
  volcano->state = VolcanoState::gone;
  volcano->resumes = VolcanoState::joining;
  for (SlotEntry& entry : map.slots) volcano_is_gone(entry, c.volcano);
  ++map.membership;
  return {};
}

Result<void> change(LavaMap& map, const RemoveVolcano& c, Applied&) {
  TRY(expect_membership(map, c.membership));
  TRY(find_volcano(map, c.volcano));
  if (std::count(map.voters.begin(), map.voters.end(), c.volcano) > 0)
    return fail(Code::busy, "it votes");
  if (std::count(map.learners.begin(), map.learners.end(), c.volcano) > 0)
    return fail(Code::busy, "it learns");
  for (const SlotEntry& entry : map.slots) {
    if (entry.owner == c.volcano) return fail(Code::busy, "it owns slots");
    if (entry.replicas.has(c.volcano)) return fail(Code::busy, "it has replicas");
  }
  std::erase_if(map.volcanoes, [&](const Volcano& v) { return v.id == c.volcano; });
  return {};
}

Result<void> change(LavaMap& map, const VolcanoMoved& c, Applied&) {
  TRY(expect_membership(map, c.membership));
  TRY_VALUE(Volcano * volcano, find_volcano(map, c.volcano));
  if (std::string bad = bad_profile(c.profile); !bad.empty()) return fail(Code::invalid, bad);
  if (c.profile.roles != volcano->profile.roles) return fail(Code::invalid, "the roles stay");
  if (c.profile.storage != volcano->profile.storage)
    return fail(Code::invalid, "another storage directory is another volcano");
  if (std::string taken = taken_in(map, c.profile, c.volcano); !taken.empty())
    return fail(Code::exists, taken + " is in use");
  volcano->profile = c.profile;
  return {};
}

// --- slots ---------------------------------------------------------------------------------------

Result<void> change(LavaMap& map, const Assign& c, Applied&) {
  TRY(expect_membership(map, c.membership));
  if (c.runs.empty()) return fail(Code::invalid, "no slots");
  unsigned next = 0;
  for (const OwnerRun& run : c.runs) {
    if (run.first.value < next || run.last < run.first || run.last.value >= kSlotCount)
      return fail(Code::invalid, "runs of slots ascend");
    next = run.last.value + 1u;
    TRY_VALUE(const Volcano* owner, find_volcano(map, run.owner));
    if (!owner->stores()) return fail(Code::invalid, "a witness stores nothing");
    if (owner->state == VolcanoState::gone || owner->resumes == VolcanoState::leaving)
      return fail(Code::busy, owner->profile.nick + " is leaving or gone");
    for (unsigned n = run.first.value; n < next; ++n) map.slots[n].owner = run.owner;
  }
  return {};
}

// A command on slots: each as its sender saw it.
template <class C>
Result<void> change_slots(LavaMap& map, const C& c) {
  TRY(find_volcano(map, c.volcano));
  if (c.slots.empty()) return fail(Code::invalid, "no slots");
  unsigned next = 0;
  for (const SlotAt& at : c.slots) {
    if (at.slot.value < next || at.slot.value >= kSlotCount)
      return fail(Code::invalid, "slots ascend");
    next = at.slot.value + 1u;
    SlotEntry& entry = map.at(at.slot);
    if (entry.epoch != at.epoch)
      return fail(Code::wrong_epoch, fmt::format("slot {} is in epoch {}, not {}", at.slot.value,
                                                 entry.epoch.value, at.epoch.value));
    if (auto done = step(map, entry, c); !done)
      return fail(done.error().code,
                  fmt::format("slot {}: {}", at.slot.value, done.error().detail));
  }
  return {};
}

template <class C>
requires std::derived_from<C, SlotsOfVolcano> Result<void> change(LavaMap& map, const C& c,
                                                                  Applied&) {
  return change_slots(map, c);
}

Result<void> raise_generation(LavaMap& map, std::uint32_t generation) {
  if (map.generation != generation)
    return fail(Code::wrong_epoch,
                fmt::format("the ring generation is {}, not {}", map.generation, generation));
  ++map.generation;
  return {};
}

Result<void> change(LavaMap& map, const AcceptLoss& c, Applied&) {
  TRY(raise_generation(map, c.generation));
  return change_slots(map, c);
}

Result<void> change(LavaMap& map, const RaiseGeneration& c, Applied&) {
  return raise_generation(map, c.generation);
}

// --- sessions, voters, copies --------------------------------------------------------------------

auto place_of(LavaMap& map, SessionId session) {
  return std::lower_bound(map.fenced.begin(), map.fenced.end(), session,
                          [](const FencedSession& f, SessionId s) { return f.session < s; });
}

Result<void> change(LavaMap& map, const FenceSession& c, Applied&) {
  if (c.session.value == 0) return fail(Code::invalid, "session 0");
  auto at = place_of(map, c.session);
  if (at != map.fenced.end() && at->session == c.session)
    return fail(Code::exists, "the session is fenced");
  if (map.fenced.size() >= kFencedMax) return fail(Code::no_space, "1024 sessions are fenced");
  map.fenced.insert(at, {.session = c.session, .version = map.version + 1});
  return {};
}

Result<void> change(LavaMap& map, const ForgetSession& c, Applied&) {
  auto at = place_of(map, c.session);
  if (at == map.fenced.end() || at->session != c.session)
    return fail(Code::not_found, "the session is not fenced");
  if (at->version != c.version) return fail(Code::wrong_epoch, "fenced by another map");
  map.fenced.erase(at);
  return {};
}

bool ascends(const std::vector<VolcanoId>& ids) {
  return std::adjacent_find(ids.begin(), ids.end(), std::greater_equal<>()) == ids.end();
}

std::size_t missing_from(const std::vector<VolcanoId>& list, const std::vector<VolcanoId>& other) {
  return static_cast<std::size_t>(std::count_if(list.begin(), list.end(), [&](VolcanoId id) {
    return !std::binary_search(other.begin(), other.end(), id);
  }));
}

Result<void> change(LavaMap& map, const SetVoters& c, Applied&) {
  TRY(expect_membership(map, c.membership));
  if (!ascends(c.voters) || !ascends(c.learners))
    return fail(Code::invalid, "voters and learners ascend");
  if (c.voters.empty()) return fail(Code::invalid, "no voter");
  if (c.voters.size() > kVotersMax) return fail(Code::no_space, "at most five vote");
  for (const auto* list : {&c.voters, &c.learners})
    for (VolcanoId id : *list) TRY(find_volcano(map, id));
  if (missing_from(c.learners, c.voters) != c.learners.size())
    return fail(Code::invalid, "a volcano votes or learns");
  if (missing_from(c.voters, map.voters) + missing_from(map.voters, c.voters) > 1)
    return fail(Code::invalid, "one voter at a time");
  for (VolcanoId id : c.voters)
    if (!std::binary_search(map.voters.begin(), map.voters.end(), id) &&
        !std::binary_search(map.learners.begin(), map.learners.end(), id))
      return fail(Code::invalid, map.nick_of(id) + " has not been a learner");
  map.voters = c.voters;
  map.learners = c.learners;
  return {};
}

Result<void> change(LavaMap& map, const SetCopies& c, Applied&) {
  TRY(expect_membership(map, c.membership));
  if (c.copies < 1 || c.copies > kCopiesMax) return fail(Code::invalid, "copies are 1 to 5");
  map.copies = c.copies;
  return {};
}

Result<void> change(LavaMap&, const std::monostate&, Applied&) {
  return fail(Code::invalid, "no command");
}

// Whether a command may be refused because the map has no room: never one that a failure calls for.
bool may_wait_for_room(const Command& command) {
  return std::holds_alternative<AddVolcano>(command) ||
         std::holds_alternative<VolcanoMoved>(command) || std::holds_alternative<Assign>(command) ||
         std::holds_alternative<AddReplica>(command) ||
         std::holds_alternative<FenceSession>(command) ||
         std::holds_alternative<SetVoters>(command);
}

}  // namespace

std::string_view name_of(const Command& command) {
  static constexpr std::string_view kNames[] = {
      "none",
#define MAGMA_MAP_COMMAND(name, number, Struct) #name,
#include "libmagma/ring/map_commands.def"
#undef MAGMA_MAP_COMMAND
  };
  return kNames[command.index()];
}

Result<Applied> apply_command(LavaMap& map, const Command& command) {
  if (map.version == 0 && !std::holds_alternative<Found>(command))
    return fail(Code::not_found, "there is no ring");
  LavaMap next = map;
  Applied applied;
  TRY(std::visit([&](const auto& c) { return change(next, c, applied); }, command));
  applied.version = ++next.version;
  if (!counts_fit(next)) return fail(Code::no_space, "a number of the map is used up");
  if (may_wait_for_room(command) && encoded_bytes_at_most(next) > kMapBytesMax &&
      encoded_bytes(next) > kMapBytesMax)
    return fail(Code::no_space, "the lava map would be longer than 128 KiB");
  map = std::move(next);
  return applied;
}

}  // namespace magma::ring
