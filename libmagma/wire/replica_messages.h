// Messages of replication: from the primary to a volcano that mirrors it, over the flare port, with
// the ring key. Part of the flare protocol (flare_messages.h), operations of kind `mirror`.
//
// A *stream* carries what a primary does in some of its slots to one mirror. A primary has several
// streams to one mirror when it is not equally far with all slots; each slot is in one of them.
//
// A *run* is one course of messages of a stream, begun by a hello. The mirror does what the
// messages of a run say in the order of their numbers (1, 2, 3 ...; the hello is 0), and answers
// each when it is done; messages of a run that has ended are refused (old_sequence). So whatever
// was sent before has happened when something is answered.
//
// A *position* says how far a mirror has come: it has what the primary had committed when that
// batch ended. They begin with the primary's epoch, so they only rise.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/base/strong.h"
#include "libmagma/ring/slot.h"
#include "libmagma/ring/slot_mask.h"

namespace magma::wire {

// About as much as one message may hold besides one write's bytes (kIoBytesMax).
inline constexpr std::size_t kMirrorBytesMax = 32 * 1024;
inline constexpr std::size_t kMirrorTornMax = 4096;    // of MirrorHelloReply
inline constexpr std::size_t kCompareListedMax = 512;  // rows of MirrorCompareReply
inline constexpr std::size_t kScrubRangesMax = 64;     // of MirrorScrubRequest

struct MirrorHead {
  std::uint64_t run = 0;
  std::uint64_t number = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("run", s.run);
    v("number", s.number);
  }
};

struct MirrorPosition {
  std::uint64_t stream = 0;
  std::uint64_t batch = 0;
  friend auto operator<=>(const MirrorPosition&, const MirrorPosition&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("stream", s.stream);
    v("batch", s.batch);
  }
};

// A row as it is now (doc/disk-format.md); or that there is none.
struct MirrorRow {
  std::uint8_t table = 0;
  std::uint64_t a = 0;
  std::uint64_t b = 0;
  std::string c{};
  bool is_erased = false;
  Epoch epoch;  // version of the row
  Seq seq;
  Bytes image{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("table", s.table);
    v("a", s.a);
    v("b", s.b);
    v("c", s.c);
    v("is_erased", s.is_erased);
    v("epoch", s.epoch);
    v("seq", s.seq);
    v("image", s.image);
  }
};

// Bytes of a content: of a chunk at its slot, of a small file at its home.
struct MirrorRange {
  ring::Slot slot;
  Ino ino;
  std::uint32_t chunk = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  friend auto operator<=>(const MirrorRange&, const MirrorRange&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("slot", s.slot);
    v("ino", s.ino);
    v("chunk", s.chunk);
    v("offset", s.offset);
    v("length", s.length);
  }
};

enum class MirrorChangeKind : std::uint8_t {
  write = 1,     // the range has these bytes, which follow the message
  truncate = 2,  // the content is cut or extended to `offset` bytes
  punch = 3,     // the range is a hole
  remove = 4,    // there is no such content
};

struct MirrorChange {
  MirrorChangeKind kind{};
  MirrorRange range{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("kind", s.kind);
    v("range", s.range);
  }
};

struct MirrorLog {  // a row of the oplog
  ring::Slot slot;
  Epoch epoch;
  Seq seq;
  Bytes image{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("slot", s.slot);
    v("epoch", s.epoch);
    v("seq", s.seq);
    v("image", s.image);
  }
};

// Begins a run; earlier ones of the stream, or with one of its slots, end. not_primary: the asked
// volcano serves one of the slots itself, or is no mirror.
struct MirrorHelloRequest {
  MirrorHead head{};
  std::uint64_t primary = 0;  // number of the volcano that asks
  MirrorPosition position{};  // of the primary
  std::uint16_t stream = 0;   // of this primary
  ring::SlotRuns slots{};     // at least one
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("head", s.head);
    v("primary", s.primary);
    v("position", s.position);
    v("stream", s.stream);
    v("slots", s.slots);
  }
};

struct MirrorHelloReply {
  ring::SlotRuns known{};  // of these slots it has all of `position`; of others who knows what
  MirrorPosition position{};
  std::vector<MirrorRange> torn{};  // whose bytes a crash may have left between two states
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("known", s.known);
    v("position", s.position);
    v("torn", s.torn);
  }
};

enum class MirrorMark : std::uint8_t {
  keep = 0,     // what is known of the mirror's position stays so
  whole = 1,    // the mirror has everything of the stream's slots up to `position`
  unknown = 2,  // a copy begins: nothing is known of what it has, until it is whole
};

// What a batch of the primary changed; in several messages if it is much. All of it happens when
// the last one has come, in one transaction: changes of content in their order, then rows. The
// bytes of writes follow the message, one after the other.
struct MirrorBatchRequest {
  MirrorHead head{};
  MirrorPosition position{};  // after it
  bool is_last = true;        // of this batch
  MirrorMark mark = MirrorMark::keep;
  std::vector<MirrorChange> changes{};
  std::vector<MirrorRow> rows{};
  std::vector<MirrorLog> log{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("head", s.head);
    v("position", s.position);
    v("is_last", s.is_last);
    v("mark", s.mark);
    v("changes", s.changes);
    v("rows", s.rows);
    v("log", s.log);
  }
};

struct MirrorKey {
  std::uint64_t a = 0;
  std::uint64_t b = 0;
  std::string c{};
  friend auto operator<=>(const MirrorKey&, const MirrorKey&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("a", s.a);
    v("b", s.b);
    v("c", s.c);
  }
};

// These are all the rows of the table in this database, of the stream's slots, whose key is above
// `after` (if `is_first`: from the first on) and at most the last row's key (if `is_end`: to the
// table's end). The mirror drops others that it has there, and the content of chunks that it drops.
struct MirrorRowsRequest {
  MirrorHead head{};
  std::uint8_t database = 0;
  std::uint8_t table = 0;
  bool is_first = false;
  bool is_end = false;
  MirrorKey after{};
  std::vector<MirrorRow> rows{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("head", s.head);
    v("database", s.database);
    v("table", s.table);
    v("is_first", s.is_first);
    v("is_end", s.is_end);
    v("after", s.after);
    v("rows", s.rows);
  }
};

struct MirrorSums {  // of one MiB of a content: doc/disk-format.md, page_sums
  std::uint32_t part = 0;
  Bytes image{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("part", s.part);
    v("image", s.image);
  }
};

// Compares a content: which ranges differ? A longer one is cut to `range.length`.
struct MirrorCheckRequest {
  MirrorHead head{};
  MirrorRange range{};  // offset 0
  std::vector<MirrorSums> sums{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("head", s.head);
    v("range", s.range);
    v("sums", s.sums);
  }
};

struct MirrorSpan {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("offset", s.offset);
    v("length", s.length);
  }
};

struct MirrorCheckReply {
  std::vector<MirrorSpan> different{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("different", s.different);
  }
};

// The first bytes of a SHA-256.
using RowDigest = std::array<std::uint8_t, 16>;

// Do both have the same rows? Those of the table in this database, of the stream's slots, whose key
// is above `after` (if `is_first`: from the first on) and at most `last` (if `is_end`: to the
// table's end). Changes nothing. Of the primary as when it sent this, so in the run's order with
// its batches.
struct MirrorCompareRequest {
  MirrorHead head{};
  std::uint8_t database = 0;
  std::uint8_t table = 0;
  bool is_first = false;
  bool is_end = false;
  MirrorKey after{};
  MirrorKey last{};
  RowDigest digest{};  // of the digests of all its rows, in the order of their keys
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("head", s.head);
    v("database", s.database);
    v("table", s.table);
    v("is_first", s.is_first);
    v("is_end", s.is_end);
    v("after", s.after);
    v("last", s.last);
    v("digest", s.digest);
  }
};

struct ComparedRow {
  MirrorKey key{};
  RowDigest digest{};  // of key, version and image; of page_sums without the version
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("key", s.key);
    v("digest", s.digest);
  }
};

struct MirrorCompareReply {
  bool is_same = false;
  bool is_cut = false;              // there are more rows than are told
  std::vector<ComparedRow> rows{};  // unless it is the same: at most kCompareListedMax
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("is_same", s.is_same);
    v("is_cut", s.is_cut);
    v("rows", s.rows);
  }
};

// Reads contents and compares them with the mirror's own checksums; what comes after it does not
// wait.
struct MirrorScrubRequest {
  MirrorHead head{};
  std::vector<MirrorRange> ranges{};  // at most kScrubRangesMax, of kIoBytesMax in all
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("head", s.head);
    v("ranges", s.ranges);
  }
};

struct MirrorDamage {
  std::uint32_t which = 0;   // of the ranges
  std::uint16_t code = 0;    // checksum, or why it could not be read
  std::uint64_t offset = 0;  // of the first page that is damaged
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("which", s.which);
    v("code", s.code);
    v("offset", s.offset);
  }
};

struct MirrorScrubReply {
  std::vector<MirrorDamage> damaged{};  // at most one a range
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("damaged", s.damaged);
  }
};

// Answered when everything before it is on stable storage.
struct MirrorSyncRequest {
  MirrorHead head{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("head", s.head);
  }
};

}  // namespace magma::wire
