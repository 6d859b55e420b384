// The commands of the lava map's state machine, one struct each, and apply_command().
//
// A command says what its sender had seen, so that one that comes late is refused and changes
// nothing: the epochs of the slots it is about, the `starts` of a volcano, the map's `membership`
// or ring generation. It is refused with
//   wrong_epoch   what the sender had seen is not so any more: look at the map, decide anew
//   not_found     no such volcano or session
//   exists        nick, name or address in use, a replica there already, a ring there already
//   busy          now is not the time: the detail says what must happen first
//   invalid       it never makes sense
//   no_space      a limit of lava_map.h
// and a detail for people. A command over several slots changes all of them or none.
//
// When a volcano may be called down (its lease is over) and when a replica is in sync is for the
// sender to know: the map takes its word.
#pragma once

#include <cstdint>
#include <string_view>
#include <variant>
#include <vector>

#include "libmagma/base/result.h"
#include "libmagma/base/strong.h"
#include "libmagma/ring/lava_map.h"

namespace magma::ring {

struct SlotAt {  // a slot as the sender saw it
  Slot slot;
  Epoch epoch;
  friend bool operator==(const SlotAt&, const SlotAt&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("slot", s.slot);
    v("epoch", s.epoch);
  }
};

// --- the ring and its volcanoes -----------------------------------------------------------------

// The first command: volcano 1 is up, votes, owns and has every slot. exists: there is a ring.
struct Found {
  FilesystemId filesystem{};
  std::uint8_t copies = 2;
  Profile profile{};
  bool shares_slots = false;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("filesystem", s.filesystem);
    v("copies", s.copies);
    v("profile", s.profile);
    v("shares_slots", s.shares_slots);
  }
};

// A new volcano, joining; it has no slot, and its first start is behind it. Applied::volcano is its
// number.
struct AddVolcano {
  std::uint64_t membership = 0;
  Profile profile{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("membership", s.membership);
    v("profile", s.profile);
  }
};

// A volcano started its magmad (again) and is there: what it was before it was down; joining, if it
// was gone. Every slot whose primary it is gets a new epoch. With `has_lost` it may have lost what
// it acknowledged (its machine crashed, or its disk is new): where another replica in sync is there
// or was not lost, that one is primary, and it catches up; one that was to take over and has not
// served yet gives the slot back to who served last, also if that one is away.
struct VolcanoStarted {
  VolcanoId volcano;
  std::uint32_t starts = 0;  // before this one
  bool has_lost = false;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("volcano", s.volcano);
    v("starts", s.starts);
    v("has_lost", s.has_lost);
  }
};

// A volcano does not answer and its lease is over. Each slot of which it is primary goes to the
// replica in sync that is next in the list and there; where there is none the slot waits. Its other
// replicas are catching up from now on.
struct VolcanoDown {
  VolcanoId volcano;
  std::uint32_t starts = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("volcano", s.volcano);
    v("starts", s.starts);
  }
};

// A joining volcano has its share. busy: an owner's slot is not on it yet.
struct VolcanoJoined {
  std::uint64_t membership = 0;
  VolcanoId volcano;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("membership", s.membership);
    v("volcano", s.volcano);
  }
};

// A volcano is to be drained (up or joining -> leaving), or is to stay (leaving -> up). It keeps
// its slots until they are assigned to others.
struct SetLeaving {
  std::uint64_t membership = 0;
  VolcanoId volcano;
  bool is_leaving = false;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("membership", s.membership);
    v("volcano", s.volcano);
    v("is_leaving", s.is_leaving);
  }
};

// A volcano that is down has been away too long: its replicas are dropped but where it is primary
// (slots that wait for it). Its slots are still to be assigned to others. busy: not down.
struct PatienceOver {
  VolcanoId volcano;
  std::uint32_t starts = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("volcano", s.volcano);
    v("starts", s.starts);
  }
};

// A volcano without slot, replica or vote is forgotten. busy: it has one.
struct RemoveVolcano {
  std::uint64_t membership = 0;
  VolcanoId volcano;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("membership", s.membership);
    v("volcano", s.volcano);
  }
};

// Another nick, name or address; roles and storage directory stay (invalid).
struct VolcanoMoved {
  std::uint64_t membership = 0;
  VolcanoId volcano;
  Profile profile{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("membership", s.membership);
    v("volcano", s.volcano);
    v("profile", s.profile);
  }
};

// --- slots --------------------------------------------------------------------------------------

struct OwnerRun {
  Slot first, last;  // inclusive; first <= last
  VolcanoId owner;
  friend bool operator==(const OwnerRun&, const OwnerRun&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("first", s.first);
    v("last", s.last);
    v("owner", s.owner);
  }
};

// Who is to have these slots (placement.h); nothing moves by that. Runs ascend and do not overlap.
// busy: to a volcano that is leaving or gone.
struct Assign {
  std::uint64_t membership = 0;
  std::vector<OwnerRun> runs{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("membership", s.membership);
    v("runs", s.runs);
  }
};

// The six below: one volcano's replica of these slots. Slots ascend, at least one.
struct SlotsOfVolcano {
  std::vector<SlotAt> slots{};
  VolcanoId volcano;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("slots", s.slots);
    v("volcano", s.volcano);
  }
};
// A replica more, last and catching up. busy: the volcano is away, or the list is full.
struct AddReplica : SlotsOfVolcano {};
// A replica has every acknowledged change. busy: it is away.
struct ReplicaInSync : SlotsOfVolcano {};
// A backup misses changes. busy: it is the primary.
struct ReplicaBehind : SlotsOfVolcano {};
// Another primary; the old one is a backup in sync, if it is there, else catching up. busy: the
// replica is not in sync (but the last serving one may return if its successor never served).
struct Promote : SlotsOfVolcano {};
// A replica less. busy: it is the primary.
struct DropReplica : SlotsOfVolcano {};
// The primary serves: it met the other replicas, and is who the slot waits for from now on. busy:
// it is not the primary, or away.
struct Serving : SlotsOfVolcano {};

// `magma lava promote --i-accept-loss`: a replica that is there becomes primary of slots that wait,
// in sync or not. What only the old primary had is lost. The ring generation rises.
struct AcceptLoss {
  std::uint32_t generation = 0;
  std::vector<SlotAt> slots{};
  VolcanoId volcano;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("generation", s.generation);
    v("slots", s.slots);
    v("volcano", s.volcano);
  }
};

// Acknowledged changes may be lost: all replicas of a slot crashed. Clients drop their caches.
struct RaiseGeneration {
  std::uint32_t generation = 0;  // before
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("generation", s.generation);
  }
};

// --- sessions, voters, copies -------------------------------------------------------------------

// exists: it is fenced. invalid: session 0. no_space: kFencedMax.
struct FenceSession {
  SessionId session;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("session", s.session);
  }
};

// No volcano knows the session any more. `version`: that of FencedSession.
struct ForgetSession {
  SessionId session;
  std::uint64_t version = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("session", s.session);
    v("version", s.version);
  }
};

// Voters and learners, each ascending. At most one voter more or less than before (Ongaro's
// thesis, 4.1), and a new one has been a learner (invalid).
struct SetVoters {
  std::uint64_t membership = 0;
  std::vector<VolcanoId> voters{};
  std::vector<VolcanoId> learners{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("membership", s.membership);
    v("voters", s.voters);
    v("learners", s.learners);
  }
};

struct SetCopies {
  std::uint64_t membership = 0;
  std::uint8_t copies = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("membership", s.membership);
    v("copies", s.copies);
  }
};

// --- all of them --------------------------------------------------------------------------------

enum class CommandKind : std::uint8_t {
#define MAGMA_MAP_COMMAND(name, number, Struct) name = number,
#include "libmagma/ring/map_commands.def"
#undef MAGMA_MAP_COMMAND
};

// The alternatives follow map_commands.def; std::monostate is no command.
// clang-format off
using Command = std::variant<std::monostate
#define MAGMA_MAP_COMMAND(name, number, Struct) , Struct
#include "libmagma/ring/map_commands.def"
#undef MAGMA_MAP_COMMAND
    >;
// clang-format on

std::string_view name_of(const Command& command);  // "add_replica"; "none"

struct Applied {
  std::uint64_t version = 0;  // of the map after it
  VolcanoId volcano{};        // of Found and AddVolcano: the new one
};

// Applies a command to the map: the same result for the same map and command, everywhere. On an
// error, as above, the map is as it was. Afterwards check(map) is empty if it was before.
// (Not called apply: that would mean std::apply as well.)
Result<Applied> apply_command(LavaMap& map, const Command& command);

}  // namespace magma::ring
