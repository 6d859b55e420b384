// Messages of the operations that ask a volcano for itself, not for the ring's flares (kind `host`
// in flare_ops.def): they need no session, go to whichever volcano they are sent to, and are
// answered by it alone (magmad/host_requests.h). doc/protocol.md describes them for people.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/wire/replica_messages.h"

namespace magma::wire {

inline constexpr std::size_t kStatusSessionsMax = 256;            // told; there may be more
inline constexpr std::size_t kConsoleInputBytesMax = 16 * 1024;   // of one request
inline constexpr std::size_t kConsoleOutputBytesMax = 64 * 1024;  // of one reply
inline constexpr std::size_t kReasonBytesMax = 255;

// From anybody who has a key of the network.
struct StatusRequest {
  template <class Self, class Visit>
  static void fields(Self&, Visit&) {}
};

// A client's session with the volcano.
struct StatusSession {
  std::string host;            // what the client said when it began
  std::string address;         // where it is connected from; empty: it is not, just now
  std::string role;            // "client", "ring"; empty as above
  WallTime since;              // when it began
  std::uint64_t quiet_ns = 0;  // since its last request
  std::uint32_t opens = 0;     // files it holds open
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("host", s.host);
    v("address", s.address);
    v("role", s.role);
    v("since", s.since);
    v("quiet_ns", s.quiet_ns);
    v("opens", s.opens);
  }
};

// What lies in the volcano's storage, as it was counted last: a count goes through all rows, a few
// at a time, when a status is asked for and the last one is old.
struct StatusCensus {
  bool is_complete = false;  // false: the first count is under way, these are its numbers so far
  WallTime as_of;            // when that count began
  std::uint64_t inodes = 0;  // flares
  std::uint64_t keys = 0;    // of these with a key of their own: directories, files in chunks
  std::uint64_t bytes = 0;   // sizes of regular files, holes included
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("is_complete", s.is_complete);
    v("as_of", s.as_of);
    v("inodes", s.inodes);
    v("keys", s.keys);
    v("bytes", s.bytes);
  }
};

struct StatusCounter {  // a row of doc/metrics.md
  std::string name;     // "rpc.packets_sent"
  std::uint64_t value = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("name", s.name);
    v("value", s.value);
  }
};

struct StatusReply {
  std::string version;  // of magmad
  std::string nick;
  std::string fqdn;
  std::string address;                        // flare address
  std::array<std::uint8_t, 16> filesystem{};  // UUID
  WallTime started;
  std::uint64_t uptime_ns = 0;
  Epoch epoch;                    // of its slots; one more with each start
  std::uint64_t space_total = 0;  // bytes of the disk under the storage directory
  std::uint64_t space_free = 0;
  std::uint64_t space_available = 0;  // to files: free less the reserve
  StatusCensus census;
  std::uint32_t sessions_total = 0;
  std::vector<StatusSession> sessions{};  // at most kStatusSessionsMax
  std::vector<StatusCounter> counters{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("version", s.version);
    v("nick", s.nick);
    v("fqdn", s.fqdn);
    v("address", s.address);
    v("filesystem", s.filesystem);
    v("started", s.started);
    v("uptime_ns", s.uptime_ns);
    v("epoch", s.epoch);
    v("space_total", s.space_total);
    v("space_free", s.space_free);
    v("space_available", s.space_available);
    v("census", s.census);
    v("sessions_total", s.sessions_total);
    v("sessions", s.sessions);
    v("counters", s.counters);
  }
};

// From who has the network key; else `permission`. The volcano answers, then ends as at SIGTERM.
struct ShutdownRequest {
  std::string who;  // for the log: at most kReasonBytesMax bytes
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("who", s.who);
  }
};

// From anybody who has a key of the network. Answered when all that the volcano had acknowledged
// before, content and metadata, is on stable storage. `io`: it cannot be.
struct SyncRequest {
  template <class Self, class Visit>
  static void fields(Self&, Visit&) {}
};

// From anybody who has a key of the network: the whole ring, as the asked volcano knows it. It asks
// nobody: what it says of others is from the map, and from the coordinator's last word.
struct RingRequest {
  template <class Self, class Visit>
  static void fields(Self&, Visit&) {}
};

struct RingSlice {  // slots `first` to `last`, all with the same primary
  std::uint16_t first = 0;
  std::uint16_t last = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("first", s.first);
    v("last", s.last);
  }
};

enum class RingAlive : std::uint8_t { no = 0, yes = 1, unknown = 2 };
enum class RingVote : std::uint8_t { none = 0, learns = 1, votes = 2 };
// What a volcano has of slots whose primary is another one.
enum class RingMirror : std::uint8_t {
  none = 0,     // nothing
  in_sync = 1,  // every acknowledged change
  copying = 2,  // a part: the primary sends the rest
  behind = 3,   // it misses changes, and nothing is sent now
};

struct RingCopies {  // slots `first` to `last`, whose primary is another one
  std::uint16_t first = 0;
  std::uint16_t last = 0;
  RingMirror state{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("first", s.first);
    v("last", s.last);
    v("state", s.state);
  }
};

struct RingVolcano {
  std::uint16_t id = 0;  // ring::VolcanoId
  std::string nick, fqdn;
  std::string flare, node, console;  // addresses
  std::string version{};             // of its magmad; empty: not known
  std::uint8_t state = 0;            // ring::VolcanoState
  std::uint32_t starts = 0;
  RingAlive alive = RingAlive::unknown;
  std::uint64_t silent_ns = 0;  // since the coordinator, or who answers, heard of it
  RingVote vote = RingVote::none;
  bool is_coordinator = false;
  std::uint64_t lease_left_ns = 0;   // of its lease, as the coordinator granted it
  std::uint64_t entries_behind = 0;  // of the map's log, seen from the coordinator
  std::vector<RingSlice> slices{};   // whose primary it is
  std::vector<RingCopies> copies{};  // that it mirrors
  std::uint32_t slots_waiting = 0;   // of these: operations on them wait for it
  std::uint32_t backups = 0;         // slots of others that it has a copy of, in sync
  RingMirror mirror = RingMirror::none;
  std::uint64_t mirror_bytes_done = 0;  // of mirror_bytes_total; 0 of 0: not known
  std::uint64_t mirror_bytes_total = 0;
  std::uint64_t mirror_batches_behind = 0;
  std::optional<std::uint64_t> mirror_left_ns{};  // until it has all; nothing: not known
  bool has_census = false;                        // `keys` and `bytes` were counted
  std::uint64_t keys = 0;                         // flares it holds
  std::uint64_t bytes = 0;                        // sizes of their files
  std::uint64_t space_total = 0;                  // of its disk; 0: not known
  std::uint64_t space_available = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("id", s.id);
    v("nick", s.nick);
    v("fqdn", s.fqdn);
    v("flare", s.flare);
    v("node", s.node);
    v("console", s.console);
    v("version", s.version);
    v("state", s.state);
    v("starts", s.starts);
    v("alive", s.alive);
    v("silent_ns", s.silent_ns);
    v("vote", s.vote);
    v("is_coordinator", s.is_coordinator);
    v("lease_left_ns", s.lease_left_ns);
    v("entries_behind", s.entries_behind);
    v("slices", s.slices);
    v("copies", s.copies);
    v("slots_waiting", s.slots_waiting);
    v("backups", s.backups);
    v("mirror", s.mirror);
    v("mirror_bytes_done", s.mirror_bytes_done);
    v("mirror_bytes_total", s.mirror_bytes_total);
    v("mirror_batches_behind", s.mirror_batches_behind);
    v("mirror_left_ns", s.mirror_left_ns);
    v("has_census", s.has_census);
    v("keys", s.keys);
    v("bytes", s.bytes);
    v("space_total", s.space_total);
    v("space_available", s.space_available);
  }
};

// `not_found`: the volcano has no map yet.
struct RingReply {
  std::uint16_t self = 0;  // who answers
  std::array<std::uint8_t, 16> filesystem{};
  std::uint64_t version = 0;  // of the map
  std::uint32_t generation = 0;
  std::uint64_t membership = 0;
  std::uint8_t copies = 0;           // wanted
  std::uint8_t copies_had = 0;       // by the slot that has fewest; 0: one waits
  std::uint64_t term = 0;            // of Raft
  std::uint16_t coordinator = 0;     // 0: none is known
  std::uint64_t coordinator_ns = 0;  // since who answers heard of it
  std::uint8_t health = 0;           // ring::Health
  std::string reason{};              // of it, or a note if it is healthy; may be empty
  std::vector<RingVolcano> volcanoes{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("self", s.self);
    v("filesystem", s.filesystem);
    v("version", s.version);
    v("generation", s.generation);
    v("membership", s.membership);
    v("copies", s.copies);
    v("copies_had", s.copies_had);
    v("term", s.term);
    v("coordinator", s.coordinator);
    v("coordinator_ns", s.coordinator_ns);
    v("health", s.health);
    v("reason", s.reason);
    v("volcanoes", s.volcanoes);
  }
};

// What is compared next. All but the first are as the primary told them, not to be understood.
struct CompareCursor {
  bool is_content = false;  // bytes of contents; else rows
  std::uint8_t database = 0;
  std::uint8_t table = 0;
  bool is_inside = false;  // of the table: behind `after`
  MirrorKey after{};
  std::uint64_t offset = 0;  // not 0: in the content of `after` itself
  std::uint16_t stream = 0;  // which of the primary's streams to the mirror (replica_messages.h)
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("is_content", s.is_content);
    v("database", s.database);
    v("table", s.table);
    v("is_inside", s.is_inside);
    v("after", s.after);
    v("offset", s.offset);
    v("stream", s.stream);
  }
};

// From anybody who has a key of the network, to a primary: compares a piece of what it has with the
// mirror's. Both go on with their work; what is compared is as of one batch. Who asks goes on with
// `next` until there is none; nothing is kept for it meanwhile. `not_primary`: the asked volcano
// serves no slots; `not_found`: that volcano does not mirror it.
struct CompareRequest {
  std::uint16_t mirror = 0;    // ring::VolcanoId
  bool reads_content = false;  // after the rows, all contents are read and compared with their sums
  CompareCursor cursor{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("mirror", s.mirror);
    v("reads_content", s.reads_content);
    v("cursor", s.cursor);
  }
};

enum class DifferenceKind : std::uint8_t {
  missing = 1,          // the mirror has no such row
  surplus = 2,          // only the mirror has it
  other = 3,            // the rows are not the same
  damaged = 4,          // the mirror's content does not match the checksums
  damaged_here = 5,     // the primary's does not
  unreadable = 6,       // the mirror's content cannot be read
  unreadable_here = 7,  // the primary's cannot
};

struct Difference {
  DifferenceKind kind{};
  std::uint8_t table = 0;
  MirrorKey key{};           // of the row; of a content that of its row in the table chunk
  std::uint64_t offset = 0;  // in the content
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("kind", s.kind);
    v("table", s.table);
    v("key", s.key);
    v("offset", s.offset);
  }
};

struct CompareReply {
  bool is_in_sync = false;  // else nothing was compared: the mirror is away, or copies
  std::uint64_t rows = 0;   // compared
  std::uint64_t bytes = 0;  // read and compared, at each of both
  std::vector<Difference> differences{};
  std::optional<CompareCursor> next{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("is_in_sync", s.is_in_sync);
    v("rows", s.rows);
    v("bytes", s.bytes);
    v("differences", s.differences);
    v("next", s.next);
  }
};

// A talk with the volcano's console; from who has the network key, else `permission`;
// `unsupported` if the volcano has no console. The asker names the talk by a number of its choice,
// not 0; talks belong to their connection and end with it. The first request begins the talk.
//
// A request without input is a poll: answered when there is output, or the talk has ended, or after
// kConsolePollMax without either. There is one poll at a time: another one gets an empty answer to
// the first. A request with input, or with `is_end`, is answered at once and without output.
struct ConsoleRequest {
  std::uint64_t talk = 0;
  Bytes input{};        // at most kConsoleInputBytesMax; `overloaded`: not taken
  bool is_end = false;  // the talk is over
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("talk", s.talk);
    v("input", s.input);
    v("is_end", s.is_end);
  }
};
inline constexpr Duration kConsolePollMax = seconds(5);

struct ConsoleReply {
  Bytes output{};          // at most kConsoleOutputBytesMax
  bool has_ended = false;  // nothing more will come: the number is free again
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("output", s.output);
    v("has_ended", s.has_ended);
  }
};

}  // namespace magma::wire
