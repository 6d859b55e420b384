// The lava map: who holds which slot, and everything else the volcanoes of a ring agree on. It is
// the state of the replicated state machine: the leader's log holds commands (map_commands.h), and
// every member that applies the same commands to the same map has the same map, byte for byte.
// Clients are told what concerns them (AttachReply). No I/O, no clock; one thread at a time.
//
// Words. The *owner* of a slot is whom the placement gives it: owners make the ring. A slot should
// be on its owner and on the next owners up the keyspace, around its end, until it has `copies`
// different volcanoes (placement.h). Its *replicas* are who has it now, the primary first. So a
// map with a join or a drain under way says itself what is still to be moved, and who had a slot
// before he was away gets it back.
//
// A replica is *in sync* if it has every acknowledged change; the primary always is. One that is
// catching up gets new changes, but nobody waits for it. The *last serving* replica is the primary
// that last said it serves the slot: a promotion alone does not change it.
//
// What always holds: check() in this file, check_step() for two successive maps.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libmagma/base/result.h"
#include "libmagma/base/strong.h"
#include "libmagma/ring/slice.h"
#include "libmagma/ring/slot.h"
#include "libmagma/ring/slot_mask.h"

namespace magma::ring {

// A volcano of a ring: 1 to kVolcanoIdMax, never given twice; 0 is none.
using VolcanoId = Strong<struct VolcanoIdTag, std::uint16_t>;
inline constexpr VolcanoId kNoVolcano{};
inline constexpr VolcanoId kFounder{1};
inline constexpr std::uint16_t kVolcanoIdMax = 0xfffe;

// Limits. What would break one is refused with `no_space` or `too_long`.
inline constexpr unsigned kCopiesMax = 5;
inline constexpr unsigned kReplicasMax = kCopiesMax + 1;  // one more while it moves
inline constexpr std::size_t kVolcanoesMax = 512;
inline constexpr std::size_t kVotersMax = 5;
inline constexpr std::size_t kFencedMax = 1024;
inline constexpr std::size_t kNickBytesMax = 63;     // as a host's name
inline constexpr std::size_t kFqdnBytesMax = 253;    // RFC 1035, 2.3.4, less the dots around
inline constexpr std::size_t kAddressBytesMax = 47;  // "[v6 address]:port"
// Bytes of an encoded map. What would make it longer is refused, but for commands that a failure
// calls for; slots in runs of one with six replicas each take 148 KiB, so this is never exceeded:
inline constexpr std::size_t kMapBytesMax = 128 * 1024;
inline constexpr std::size_t kMapBytesHardMax = kMapBytesMax + kSlotCount * 37;

// Versions and memberships; epochs, starts and generations. A command never goes beyond.
inline constexpr std::uint64_t kCountMax = std::uint64_t{1} << 62;
inline constexpr std::uint32_t kSmallCountMax = std::uint32_t{1} << 31;

enum class ReplicaState : std::uint8_t { in_sync = 0, catching_up = 1 };

struct Replica {
  VolcanoId volcano;
  ReplicaState state = ReplicaState::in_sync;
  friend bool operator==(const Replica&, const Replica&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("volcano", s.volcano);
    v("state", s.state);
  }
};

// Up to kReplicasMax replicas in place, primary first.
class ReplicaList {
 public:
  const Replica* begin() const { return items_.data(); }
  const Replica* end() const { return items_.data() + size_; }
  Replica* begin() { return items_.data(); }
  Replica* end() { return items_.data() + size_; }
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  bool is_full() const { return size_ == kReplicasMax; }
  const Replica& operator[](std::size_t i) const { return items_[i]; }
  Replica& operator[](std::size_t i) { return items_[i]; }
  const Replica* find(VolcanoId volcano) const;
  Replica* find(VolcanoId volcano);
  bool has(VolcanoId volcano) const { return find(volcano) != nullptr; }
  std::size_t in_sync() const;  // how many
  void add(Replica replica);    // Requires: not full.
  void remove(VolcanoId volcano);
  void move_to_front(VolcanoId volcano);  // Requires: has(volcano).
  void move_to_back(VolcanoId volcano);   // Requires: has(volcano).
  friend bool operator==(const ReplicaList& a, const ReplicaList& b);

 private:
  std::array<Replica, kReplicasMax> items_{};
  std::uint8_t size_ = 0;
};

enum class SlotState : std::uint8_t {
  empty = 0,    // of a map without a ring: no replica
  serving = 1,  // the primary's volcano is there
  waiting = 2,  // no replica that is in sync is there: operations on the slot wait
};

struct SlotEntry {
  Epoch epoch;  // one higher with every change of the replicas, of the primary, or of one in sync
                // to catching up; and with every start of the primary's volcano
  SlotState state = SlotState::empty;
  VolcanoId owner;
  VolcanoId last_serving;
  ReplicaList replicas;
  friend bool operator==(const SlotEntry&, const SlotEntry&) = default;
  VolcanoId primary() const { return replicas.empty() ? kNoVolcano : replicas[0].volcano; }
};

enum class VolcanoState : std::uint8_t {
  joining = 0,  // there; takes its share over
  up = 1,       // there
  down = 2,     // away, and expected back: its slots are not copied elsewhere
  leaving = 3,  // there; being drained
  gone = 4,     // away for longer than patience: others take its slots over
};

std::string_view name_of(VolcanoState state);  // "joining"; "unknown" for a number that is none

// Bits of Volcano::roles.
inline constexpr std::uint8_t kStores = 1;   // holds slots
inline constexpr std::uint8_t kWitness = 2;  // votes only; never with kStores

// What a volcano says of itself. Texts are as sys::Address::text() writes them, so that equal
// addresses are equal texts; console, and a witness's flare address, may be empty.
struct Profile {
  std::string nick{};
  std::string fqdn{};
  std::string flare{};    // "192.0.2.1:12000"
  std::string node{};     // "192.0.2.1:12001"
  std::string console{};  // "192.0.2.1:12002"
  std::uint8_t roles = kStores;
  // Number of its storage directory, made at random with it: who comes with the same nick from
  // another directory is another volcano. 0: not told (maps of tests).
  std::uint64_t storage = 0;
  friend bool operator==(const Profile&, const Profile&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("nick", s.nick);
    v("fqdn", s.fqdn);
    v("flare", s.flare);
    v("node", s.node);
    v("console", s.console);
    v("roles", s.roles);
    v("storage", s.storage);
  }
};

struct Volcano {
  VolcanoId id;
  Profile profile;
  VolcanoState state = VolcanoState::joining;
  VolcanoState resumes = VolcanoState::joining;  // the state it takes when it is back
  std::uint32_t starts = 0;                      // of its magmad, since it joined
  friend bool operator==(const Volcano&, const Volcano&) = default;
  // Whether it is there, as far as the map knows.
  bool is_alive() const { return state != VolcanoState::down && state != VolcanoState::gone; }
  bool stores() const { return (profile.roles & kStores) != 0; }
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("id", s.id);
    v("profile", s.profile);
    v("state", s.state);
    v("resumes", s.resumes);
    v("starts", s.starts);
  }
};

// A session whose lease ended: no volcano serves it. Its locks and opens pass on when every volcano
// has a map of this version or has lost its lease.
struct FencedSession {
  SessionId session;
  std::uint64_t version = 0;  // of the map that fenced it
  friend bool operator==(const FencedSession&, const FencedSession&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("session", s.session);
    v("version", s.version);
  }
};

using FilesystemId = std::array<std::uint8_t, 16>;  // UUID

struct LavaMap {
  std::uint64_t version = 0;     // one higher with each command; 0: no ring yet
  std::uint32_t generation = 0;  // of the ring: higher when acknowledged changes may have been lost
  std::uint64_t membership = 0;  // one higher with each change of volcanoes, voters, owners, copies
  FilesystemId filesystem{};
  std::uint8_t copies = 2;  // 1 to kCopiesMax
  bool shares_slots = false;  // all who store are to own some; else the founder owns all
  VolcanoId next_id{1};
  std::vector<Volcano> volcanoes{};  // by id
  std::vector<VolcanoId> voters{};   // ascending
  std::vector<VolcanoId> learners{};
  std::vector<FencedSession> fenced{};  // by session
  std::vector<SlotEntry> slots = std::vector<SlotEntry>(kSlotCount);

  friend bool operator==(const LavaMap&, const LavaMap&) = default;

  const Volcano* find(VolcanoId id) const;  // nullptr: unknown
  Volcano* find(VolcanoId id);
  const Volcano* find_nick(std::string_view nick) const;
  const Volcano* find_storage(std::uint64_t storage) const;  // nullptr also for 0
  bool is_alive(VolcanoId id) const;  // false for an unknown one
  const SlotEntry& at(Slot slot) const { return slots[slot.value % kSlotCount]; }
  SlotEntry& at(Slot slot) { return slots[slot.value % kSlotCount]; }
  bool is_fenced(SessionId session) const;
  std::string nick_of(VolcanoId id) const;  // "volcano 7" for an unknown one
};

// Of the epochs that these slots have in the map: another number if one is another (FNV-1a; nobody
// has a reason to look for two maps with the same one).
std::uint64_t digest_of_epochs(const LavaMap& map, const SlotMask& slots);

// The invariant that `map` breaks, as text; empty if it breaks none.
std::string check(const LavaMap& map);
// Whether versions, epochs and the like are within the limits above.
bool counts_fit(const LavaMap& map);
// As check(), of the step from `before` to `after` by one command.
std::string check_step(const LavaMap& before, const LavaMap& after);

// Runs of slots with the same primary, from slot 0 up, as users see them: start and stop key.
struct OwnedSlice {
  Slice slice;
  VolcanoId volcano;
  friend bool operator==(const OwnedSlice&, const OwnedSlice&) = default;
};
std::vector<OwnedSlice> slices(const LavaMap& map);
std::vector<Slice> slices_of(const LavaMap& map, VolcanoId volcano);

// --- the encoded form ---------------------------------------------------------------------------
// Slots in runs, and replica sets and epochs apart: epochs of neighbours differ when their replicas
// do not. encode_map() and decode_map() of wire/lava_map_codec.h use it.
struct SlotSet {  // what many slots have in common
  SlotState state = SlotState::empty;
  VolcanoId owner;
  VolcanoId last_serving;
  std::vector<Replica> replicas{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("state", s.state);
    v("owner", s.owner);
    v("last_serving", s.last_serving);
    v("replicas", s.replicas);
  }
};
struct SetRun {
  std::uint16_t slots = 0;  // 1 to 4096
  std::uint16_t set = 0;    // index of MapForm::sets
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("slots", s.slots);
    v("set", s.set);
  }
};
struct EpochRun {
  std::uint16_t slots = 0;
  Epoch epoch;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("slots", s.slots);
    v("epoch", s.epoch);
  }
};
inline constexpr std::uint8_t kMapFormat = 2;  // 1 had no shares_slots

struct MapForm {
  std::uint8_t format = kMapFormat;
  std::uint64_t version = 0;
  std::uint32_t generation = 0;
  std::uint64_t membership = 0;
  FilesystemId filesystem{};
  std::uint8_t copies = 0;
  bool shares_slots = false;
  VolcanoId next_id;
  std::vector<Volcano> volcanoes{};
  std::vector<VolcanoId> voters{};
  std::vector<VolcanoId> learners{};
  std::vector<FencedSession> fenced{};
  std::vector<SlotSet> sets{};     // in order of their first slot
  std::vector<SetRun> runs{};      // of all 4096 slots, each as long as it can be
  std::vector<EpochRun> epochs{};  // the same
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("format", s.format);
    v("version", s.version);
    v("generation", s.generation);
    v("membership", s.membership);
    v("filesystem", s.filesystem);
    v("copies", s.copies);
    v("shares_slots", s.shares_slots);
    v("next_id", s.next_id);
    v("volcanoes", s.volcanoes);
    v("voters", s.voters);
    v("learners", s.learners);
    v("fenced", s.fenced);
    v("sets", s.sets);
    v("runs", s.runs);
    v("epochs", s.epochs);
  }
};
MapForm to_form(const LavaMap& map);
// `too_new`: another format. `malformed`, with the reason: runs that do not make 4096 slots or are
// not the ones to_form() makes, unknown states, or a map that breaks an invariant of check().
Result<LavaMap> from_form(const MapForm& form);

// Bytes of a map's encoding. The first is quick and counts sets that are used twice twice.
std::size_t encoded_bytes_at_most(const LavaMap& map);
std::size_t encoded_bytes(const LavaMap& map);

}  // namespace magma::ring
