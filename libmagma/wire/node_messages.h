// The node protocol: what volcanoes tell each other about the ring itself, on the node port (UDP
// 12001), over connections made with the ring key only. doc/protocol.md describes it for people.
//
// A request is its head and its struct, an answer its head and, if the code is 0, its struct; both
// as codec.h encodes them. Who sends is named in the head: the connection shows only that it has
// the ring key, which all volcanoes share.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/base/result.h"
#include "libmagma/base/time.h"
#include "libmagma/ring/slot_mask.h"
#include "libmagma/ring/lava_map.h"

namespace magma::wire {

// What volcanoes that talk must have in common. A newcomer says which versions it speaks.
inline constexpr std::uint16_t kNodeVersion = 3;

inline constexpr std::size_t kRaftMessageBytesMax = 512 * 1024;
inline constexpr std::size_t kVersionBytesMax = 63;  // of the text `magmad --version` gives
inline constexpr std::size_t kNodeReasonBytesMax = 1024;

enum class NodeOp : std::uint16_t {
#define MAGMA_NODE_OP(name, number, Request, Response, priority) name = number,
#include "libmagma/wire/node_ops.def"
#undef MAGMA_NODE_OP
};
std::string_view name_of(NodeOp op);  // "?" for a number that is none
bool is_known_node_op(std::uint16_t number);
std::uint8_t priority_of(NodeOp op);  // rpc::Priority as its number

struct NodeRequestHead {
  std::uint16_t op = 0;
  ring::VolcanoId from;       // kNoVolcano: it has yet to join
  std::uint64_t storage = 0;  // of `from`: ring::Profile::storage
  ring::VolcanoId to;         // kNoVolcano: whoever is at that address
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("op", s.op);
    v("from", s.from);
    v("storage", s.storage);
    v("to", s.to);
  }
};

struct NodeResponseHead {
  std::uint16_t code = 0;  // 0, or a Code: then no struct follows
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("code", s.code);
  }
};

struct NodeEmpty {
  template <class Self, class Visit>
  static void fields(Self&, Visit&) {}
};

// A message of the Raft core (raft::encode_message). The answer says that it has come, nothing of
// what becomes of it. Code::not_found: `to` is not who is at that address, or `from` is none of
// the ring.
struct RaftRequest {
  Bytes message{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("message", s.message);
  }
};

enum class MirrorState : std::uint8_t {
  away = 1,      // not connected
  copying = 2,   // it does not have everything yet
  in_sync = 3,   // it has everything acknowledged; the primary waits for it from now on
  released = 4,  // it fell behind: the primary asks to be freed of waiting for it
};

// Slots and their epochs in the map of who speaks of them (ring::digest_of_epochs). In effect only
// while the map has these epochs: what was said before a change is void after it.
struct SlotsFact {
  ring::SlotRuns slots{};
  std::uint64_t epochs = 0;
  friend bool operator==(const SlotsFact&, const SlotsFact&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("slots", s.slots);
    v("epochs", s.epochs);
  }
};

// What the primary says of a volcano that mirrors slots of its: of each stream to it
// (replica_messages.h). In effect as a SlotsFact.
struct MirrorFact {
  ring::VolcanoId volcano;
  MirrorState state = MirrorState::away;
  Epoch epoch{};                 // of the first of the slots
  std::uint64_t bytes_done = 0;  // while copying: of bytes_total, as far as it is known
  std::uint64_t bytes_total = 0;
  std::uint64_t batches_behind = 0;
  SlotsFact about{};
  friend bool operator==(const MirrorFact&, const MirrorFact&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("volcano", s.volcano);
    v("state", s.state);
    v("epoch", s.epoch);
    v("bytes_done", s.bytes_done);
    v("bytes_total", s.bytes_total);
    v("batches_behind", s.batches_behind);
    v("about", s.about);
  }
};

// What a volcano tells of itself for the status of the ring.
struct VolcanoFacts {
  std::string version{};  // of its magmad
  bool has_census = false;
  std::uint64_t keys = 0;   // flares
  std::uint64_t bytes = 0;  // sizes of their files
  std::uint64_t space_total = 0;
  std::uint64_t space_available = 0;
  std::vector<MirrorFact> mirrors{};  // of a primary
  SlotsFact serving{};  // the slots it serves, as primary
  std::uint64_t membership = 0;  // of the map that it goes by, as to whose the slots are to be
  friend bool operator==(const VolcanoFacts&, const VolcanoFacts&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("version", s.version);
    v("has_census", s.has_census);
    v("keys", s.keys);
    v("bytes", s.bytes);
    v("space_total", s.space_total);
    v("space_available", s.space_available);
    v("mirrors", s.mirrors);
    v("serving", s.serving);
    v("membership", s.membership);
  }
};

// A volcano to the coordinator, every 0.5 s: it is there, and wants its lease renewed. not_primary:
// the asked one is not the coordinator, or has no lease itself.
struct HeartbeatRequest {
  std::uint64_t boot = 0;         // of this start of its magmad, at random
  std::uint64_t map_version = 0;  // that it has
  bool wants_table = false;
  VolcanoFacts facts{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("boot", s.boot);
    v("map_version", s.map_version);
    v("wants_table", s.wants_table);
    v("facts", s.facts);
  }
};

// What the coordinator knows of a volcano besides the map.
struct VolcanoNews {
  ring::VolcanoId volcano;
  bool was_heard = false;       // by this coordinator, ever
  std::uint64_t silent_ns = 0;  // since then
  std::uint64_t lease_left_ns = 0;
  std::uint64_t entries_behind = 0;
  VolcanoFacts facts{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("volcano", s.volcano);
    v("was_heard", s.was_heard);
    v("silent_ns", s.silent_ns);
    v("lease_left_ns", s.lease_left_ns);
    v("entries_behind", s.entries_behind);
    v("facts", s.facts);
  }
};

struct HeartbeatReply {
  std::uint64_t lease_ns = 0;        // from the sending of the request; 0: none now
  // Of the coordinator's map: the lease counts for who has one at least as new. Else a volcano that
  // was away would go on with a map in which it is primary of what others serve since.
  std::uint64_t map_version = 0;
  WallTime clock;                    // of the coordinator
  std::vector<VolcanoNews> table{};  // if it was wanted: all volcanoes, by number
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("lease_ns", s.lease_ns);
    v("map_version", s.map_version);
    v("clock", s.clock);
    v("table", s.table);
  }
};

// A volcano to the coordinator, after each start of its magmad until it is answered: so much of its
// profile as may have changed. exists: a nick, name or address that another has; not_found: the
// ring does not know it (any more).
struct AnnounceRequest {
  std::uint64_t boot = 0;
  ring::Profile profile{};
  bool has_lost = false;  // power was lost: what it had acknowledged others may have, and it not
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("boot", s.boot);
    v("profile", s.profile);
    v("has_lost", s.has_lost);
  }
};

enum class NodeOutcome : std::uint8_t {
  accepted = 1,
  ask_other = 2,  // `coordinator` is who decides
  wait = 3,       // nobody can decide now: ask again
  refused = 4,    // for good, with `reason`
};

struct AnnounceReply {
  NodeOutcome outcome = NodeOutcome::wait;
  std::string reason{};
  ring::VolcanoId coordinator{};
  std::string address{};  // its node address
  // With accepted: of a map in which this start is. What the primary of a slot does before it has
  // such a map is by epochs of an earlier start.
  std::uint64_t map_version = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("outcome", s.outcome);
    v("reason", s.reason);
    v("coordinator", s.coordinator);
    v("address", s.address);
    v("map_version", s.map_version);
  }
};

// Who has yet to join, to any volcano. Asked again with the same storage number the answer is the
// same, so a join that was cut off goes on.
struct JoinRequest {
  std::uint16_t node_version_min = kNodeVersion;
  std::uint16_t node_version_max = kNodeVersion;
  std::string version{};  // of its magmad
  ring::FilesystemId filesystem{};
  ring::Profile profile{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("node_version_min", s.node_version_min);
    v("node_version_max", s.node_version_max);
    v("version", s.version);
    v("filesystem", s.filesystem);
    v("profile", s.profile);
  }
};

struct JoinReply {
  NodeOutcome outcome = NodeOutcome::wait;
  std::string reason{};
  ring::VolcanoId volcano{};      // the newcomer's number, when accepted
  std::uint64_t small_files = 0;  // of this filesystem, bytes; when accepted
  std::string coordinator{};      // node address, with ask_other
  std::string nick{};             // of who answers
  bool shares_slots = false;      // of this ring; when accepted
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("outcome", s.outcome);
    v("reason", s.reason);
    v("volcano", s.volcano);
    v("small_files", s.small_files);
    v("coordinator", s.coordinator);
    v("nick", s.nick);
    v("shares_slots", s.shares_slots);
  }
};

// The operation of a request struct.
template <class Request>
struct NodeOpOf;
#define MAGMA_NODE_OP(name, number, Request, Response, priority) \
  template <>                                                    \
  struct NodeOpOf<Request> {                                     \
    static constexpr NodeOp op = NodeOp::name;                   \
    using Reply = Response;                                      \
  };
#include "libmagma/wire/node_ops.def"
#undef MAGMA_NODE_OP

// What is beyond the limits above, or names no enumerator: for what codec.h cannot know. Each is
// true for a message that may be acted on.
bool is_sound(const RaftRequest& message);
bool is_sound(const NodeEmpty& message);
bool is_sound(const HeartbeatRequest& message);
bool is_sound(const HeartbeatReply& message);
bool is_sound(const AnnounceRequest& message);
bool is_sound(const AnnounceReply& message);
bool is_sound(const JoinRequest& message);
bool is_sound(const JoinReply& message);

}  // namespace magma::wire
