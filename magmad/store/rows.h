// What a volcano stores: rows of the tables of DIR/meta.{0..3}.db. Every row has a RowKey and an
// image: the encoding of one of the structs below. Replication, resync and the oplog speak of
// rows by key and image and know nothing of their meaning.
//
// The top 12 bits of RowKey::a name the slot a row belongs to, in every table: inode numbers and
// operation ids carry their slot there, other keys are built with ring::with_counter. A slot's
// rows are therefore one range of each table, and slot mod 4 names the database.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/ring/key.h"
#include "libmagma/ring/slot.h"
#include "libmagma/ring/slot_mask.h"

namespace magma::store {

inline constexpr unsigned kDatabases = 4;

// Numbers are stored in oplog rows and travel between replicas: never reused.
enum class Table : std::uint8_t {
  slot = 1,   // a = slot                                   SlotRow
  inode = 2,  // a = ino                                    InodeRow
  inline_data =
      3,  // a = ino                                    raw bytes: content up to 16 KiB, link target
  entry = 4,  // a = directory, b = name hash, c = name     EntryRow
  lock = 5,   // a = directory, b = name hash, c = name     LockRow: entry locked by an operation
  chunk = 6,  // a = slot|chunk, b = ino                    ChunkRow: content of this slot
  authority = 7,  // a = slot|0, b = ino                        AuthorityRow: at chunk 0's slot
  page_sums =
      8,  // a = slot|chunk, b = ino, c = 4-byte MiB    raw: CRC32C a 4 KiB page (page_sums.h)
  hot_range = 9,  // a = slot|chunk, b = ino, c = 4-byte range  raw, empty: 4 MiB range may be torn
  intent = 10,    // a = op id                                  IntentRow: at the coordinator
  part = 11,      // a = slot|0, b = op id                      PartRow: at a participant
  refusal = 12,   // a = op id                                  empty: this operation never happened
  reply = 13,     // a = slot|lane, b = session                 ReplyRow
  session = 14,   // a = 0, b = session                         SessionRow
  open = 15,      // a = ino, b = session                       OpenRow
  orphan =
      16,  // a = ino                                    empty: nlink 0, reaped after the last open
  xattr = 17,  // a = ino, c = name                          raw value
  removal =
      18,  // a = slot|chunk, b = ino                    raw: content file to be removed or cut;
           //   of this volcano alone, written by ContentStore, not replicated
  file_lock = 19,  // a = ino, b = session                       locks::HeldLocks
  mirror = 20,  // a = 0, b = 0                               MirrorStateRow: of earlier versions;
                //   b = a stream's number    MirrorStreamRow; a = 1: a primary has had mirrors;
                //   of this volcano alone, not replicated
};
inline constexpr std::uint8_t kTableLast = 20;

struct RowKey {
  Table table{};
  std::uint64_t a = 0;
  std::uint64_t b = 0;
  std::string c{};

  friend auto operator<=>(const RowKey&, const RowKey&) = default;
  ring::Slot slot() const {
    return ring::Slot(static_cast<std::uint16_t>(a >> ring::kCounterBits));
  }

  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("table", s.table);
    v("a", s.a);
    v("b", s.b);
    v("c", s.c);
  }
};

// (epoch, sequence) of the change that wrote a row.
struct Version {
  Epoch epoch;
  Seq seq;
  friend auto operator<=>(const Version&, const Version&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("epoch", s.epoch);
    v("seq", s.seq);
  }
};

struct Row {
  Version version;
  Bytes image;
};

struct SlotRow {
  Epoch epoch;
  std::uint64_t counter_limit = 0;  // no counter at or above this was ever given out
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("epoch", s.epoch);
    v("counter_limit", s.counter_limit);
  }
};

// Where a regular file's bytes are.
enum class ContentPlace : std::uint8_t {
  none = 0,       // not a regular file with content, or empty
  in_row = 1,     // inline_data row
  home_file = 2,  // one content file (chunk 0) of the home slot, up to the small-file limit
  chunks = 3,     // chunks at the slots of the file's key
};

enum class InodeState : std::uint8_t {
  alive = 0,
  pending = 1,  // a directory being made by `op`, not yet entered in its parent
  dying = 2,    // a directory being removed by `op`
  spilling = 3, // a file whose content moves to its chunks by `op`
};

struct InodeRow {
  std::uint32_t mode = 0;  // type and permission bits, st_mode
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t nlink = 0;
  std::uint64_t size = 0;  // of a file in chunks its size authority knows better
  WallTime atime, mtime, ctime, btime;
  std::uint64_t rdev = 0;
  ContentPlace place = ContentPlace::none;
  InodeState state = InodeState::alive;
  OpId op{};                        // of a state other than alive
  std::optional<ring::Key> key{};   // directories and large files
  Ino parent{};                     // directories: the directory above
  std::uint64_t truncate_number = 0;
  std::uint64_t mark = 0;           // of earlier versions; no longer looked at
  std::uint64_t data_version = 0;   // rises with each content change seen at home
  std::uint8_t xattr_kinds = 0;     // wire::XattrKind

  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("mode", s.mode);
    v("uid", s.uid);
    v("gid", s.gid);
    v("nlink", s.nlink);
    v("size", s.size);
    v("atime", s.atime);
    v("mtime", s.mtime);
    v("ctime", s.ctime);
    v("btime", s.btime);
    v("rdev", s.rdev);
    v("place", s.place);
    v("state", s.state);
    v("op", s.op);
    v("key", s.key);
    v("parent", s.parent);
    v("truncate_number", s.truncate_number);
    v("mark", s.mark);
    v("data_version", s.data_version);
    v("xattr_kinds", s.xattr_kinds);
  }
};

struct EntryRow {
  Ino ino;
  std::uint8_t type = 0;           // DT_* of readdir(3)
  std::optional<ring::Key> key{};  // of a subdirectory
  std::uint8_t fragbits = 0;       // reserved for split directories
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("type", s.type);
    v("key", s.key);
    v("fragbits", s.fragbits);
  }
};

struct LockRow {
  OpId op;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("op", s.op);
  }
};

// A content file of this slot: chunk 0 of a small file above 16 KiB, or a chunk of a large file.
struct ChunkRow {
  std::uint64_t length = 0;  // bytes that may hold data; beyond it the chunk reads as zeros
  std::uint64_t truncate_number = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("length", s.length);
    v("truncate_number", s.truncate_number);
  }
};

struct ChunkRun {  // chunks first..last exist
  std::uint32_t first = 0;
  std::uint32_t last = 0;
  friend auto operator<=>(const ChunkRun&, const ChunkRun&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("first", s.first);
    v("last", s.last);
  }
};

// Size authority of a large file, at the slot of chunk 0.
struct AuthorityRow {
  std::uint64_t mark = 0, refused = 0;  // of earlier versions; no longer looked at
  std::uint64_t size = 0;
  WallTime mtime, ctime;
  std::uint64_t truncate_number = 0;
  std::uint64_t data_version = 0;
  std::vector<ChunkRun> chunks{};  // sorted, not touching
  ring::Key key{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("mark", s.mark);
    v("refused", s.refused);
    v("size", s.size);
    v("mtime", s.mtime);
    v("ctime", s.ctime);
    v("truncate_number", s.truncate_number);
    v("data_version", s.data_version);
    v("chunks", s.chunks);
    v("key", s.key);
  }
};

// An operation over several slots, at its coordinator. `body` is the operation's own record
// (magmad/core/operations.h).
struct IntentRow {
  std::uint8_t kind = 0;
  std::uint8_t state = 0;  // OperationState
  Bytes body{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("kind", s.kind);
    v("state", s.state);
    v("body", s.body);
  }
};

// What a participant did for an operation; kept until the coordinator's end is durable.
struct PartRow {
  std::uint8_t kind = 0;
  std::uint8_t state = 0;
  Bytes body{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("kind", s.kind);
    v("state", s.state);
    v("body", s.body);
  }
};

// The remembered reply of one lane of a session at one slot.
struct ReplyRow {
  std::uint32_t sequence = 0;
  std::uint16_t code = 0;  // 0: done; else the error that was answered
  Bytes body{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("sequence", s.sequence);
    v("code", s.code);
    v("body", s.body);
  }
};

struct SessionRow {
  bool fenced = false;
  WallTime since;
  std::string host{};  // for people
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("fenced", s.fenced);
    v("since", s.since);
    v("host", s.host);
  }
};

// How far a mirror has come with a stream (libmagma/wire/replica_messages.h). Its number:
constexpr std::uint64_t stream_number(std::uint64_t primary, std::uint16_t stream) {
  return primary << 16 | stream;
}
struct MirrorStreamRow {
  ring::SlotRuns known{};      // of these slots it has all up to (epoch, batch)
  std::uint64_t epoch = 0;     // of the primary's
  std::uint64_t batch = 0;
  bool is_mixed = false;       // catching up: rows are of different moments
  // What is on stable storage in all databases: so far it has come if power is lost.
  std::uint64_t durable_epoch = 0;
  std::uint64_t durable_batch = 0;
  friend bool operator==(const MirrorStreamRow&, const MirrorStreamRow&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("known", s.known);
    v("epoch", s.epoch);
    v("batch", s.batch);
    v("is_mixed", s.is_mixed);
    v("durable_epoch", s.durable_epoch);
    v("durable_batch", s.durable_batch);
  }
};

// The same of earlier versions, whose mirrors had one stream, of all slots.
struct MirrorStateRow {
  std::uint64_t primary = 0;  // number of the volcano it has it from
  std::uint64_t stream = 0;
  std::uint64_t batch = 0;
  bool is_whole = false;  // false: a copy is under way, which must begin anew
  bool is_mixed = false;  // catching up: rows are of different moments
  // What is on stable storage in all databases: so far it has come if power is lost.
  std::uint64_t durable_stream = 0;
  std::uint64_t durable_batch = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("primary", s.primary);
    v("stream", s.stream);
    v("batch", s.batch);
    v("is_whole", s.is_whole);
    v("is_mixed", s.is_mixed);
    v("durable_stream", s.durable_stream);
    v("durable_batch", s.durable_batch);
  }
};

// Bytes of a content of the slot that an oplog row is of.
struct ContentRange {
  Ino ino;
  std::uint32_t chunk = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("chunk", s.chunk);
    v("offset", s.offset);
    v("length", s.length);
  }
};

// An oplog row: what a batch touched in a slot. A mirror that has all batches of this epoch before
// `batch` needs these rows and ranges, as they are now, and those of later oplog rows.
struct OplogBody {
  std::uint64_t batch = 0;
  std::vector<RowKey> keys{};
  std::vector<ContentRange> contents{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("batch", s.batch);
    v("keys", s.keys);
    v("contents", s.contents);
  }
};

struct OpenRow {
  std::uint32_t readers = 0;  // open descriptions of this session without write access
  std::uint32_t writers = 0;
  bool delays_names = false;  // of a directory: it may delay changes of names in it
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("readers", s.readers);
    v("writers", s.writers);
    v("delays_names", s.delays_names);
  }
};

}  // namespace magma::store
