// Parts: what a slot does for an operation another slot coordinates. For each kind: how it is
// prepared, undone, applied, and what of it is rebuilt in memory after a restart. operations.h has
// the protocol and keeps the PartRow; this is the effect.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "libmagma/base/result.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/ring/key.h"
#include "magmad/store/content_store.h"
#include "magmad/store/rows.h"

namespace magma {
class Shard;
}

namespace magma::ops {

// Stored in intent and part rows: never reused.
enum class PartKind : std::uint8_t {
  make_directory = 1,    // the object of a new directory
  remove_directory = 2,  // the object of a directory that goes
  rename_source = 3,     // the entry a rename takes away
  drop_link = 4,         // one link of an inode less
  take_content = 5,      // content of a file that outgrew its home
  drop_authority = 6,    // all content of a large file
  cut_chunk = 7,         // truncate
  drop_chunk = 8,
  rename_lock = 9,       // the one lock for moving directories, at the root's slot
  set_parent = 10,       // of a moved directory
  drop_tree = 11,        // a directory in one that a power cut has undone, with all in it
  add_link = 12,         // one more link of an inode, before its entry is made
  touch_inode = 13,      // the change time of an inode that was moved
  resize = 14,           // of a large file, at its size authority
  set_content_time = 15, // the modification time of a large file, at its size authority
  kill_privileges = 16,  // set-user-ID and the like, of a file that was written
  make_chunk = 17,       // an empty chunk, before it is written
  put_bytes = 18,        // bytes of an append, before the size authority says that they are there
};

struct MakeDirectory {
  Ino ino{};  // chosen by the participant
  std::uint32_t mode = 0, uid = 0, gid = 0;
  Ino parent;
  ring::Key key;
  WallTime when;
  Bytes acl_access{};   // inherited: values of extended attributes, or empty
  Bytes acl_default{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("mode", s.mode);
    v("uid", s.uid);
    v("gid", s.gid);
    v("parent", s.parent);
    v("key", s.key);
    v("when", s.when);
    v("acl_access", s.acl_access);
    v("acl_default", s.acl_default);
  }
};

struct RemoveDirectory {
  Ino ino;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
  }
};

struct RenameSource {
  Ino dir;
  std::string name;
  store::EntryRow entry{};  // filled in by the participant
  WallTime when;
  std::optional<store::EntryRow> instead{};  // exchange: what the name leads to after
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("dir", s.dir);
    v("name", s.name);
    v("entry", s.entry);
    v("when", s.when);
    v("instead", s.instead);
  }
};

struct AddLink {
  Ino ino;
  std::uint8_t type = 0;  // DT_*, filled in by the participant
  WallTime when;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("type", s.type);
    v("when", s.when);
  }
};

struct DropLink {
  Ino ino;
  WallTime when;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("when", s.when);
  }
};

struct TakeContent {
  Ino ino;
  store::AuthorityRow authority{};
  Bytes data{};  // at most the small-file limit; empty in the stored PartRow
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("authority", s.authority);
    v("data", s.data);
  }
};

struct DropAuthority {
  Ino ino;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
  }
};

struct CutChunk {
  Ino ino;
  std::uint32_t chunk = 0;
  std::uint64_t length = 0;  // bytes of the chunk that stay
  std::uint64_t truncate_number = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("chunk", s.chunk);
    v("length", s.length);
    v("truncate_number", s.truncate_number);
  }
};

struct DropChunk {
  // Of a file that goes as a whole.
  static constexpr std::uint64_t kForGood = ~std::uint64_t{0};
  Ino ino;
  std::uint32_t chunk = 0;
  // A chunk written under this number or a later one is of after the truncate, and stays: the part
  // may be applied again after a restart.
  std::uint64_t truncate_number = kForGood;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("chunk", s.chunk);
    v("truncate_number", s.truncate_number);
  }
};

struct TouchInode {
  Ino ino;
  WallTime when;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("when", s.when);
  }
};

struct ResizeContent {
  Ino ino;
  ring::Key key;
  std::uint64_t size = 0;
  bool only_grows = false;
  WallTime when;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("key", s.key);
    v("size", s.size);
    v("only_grows", s.only_grows);
    v("when", s.when);
  }
};

struct SetContentTime {
  Ino ino;
  ring::Key key;
  WallTime mtime;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("key", s.key);
    v("mtime", s.mtime);
  }
};

struct KillPrivileges {
  Ino ino;
  std::uint32_t uid = 0, gid = 0;  // who wrote
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("uid", s.uid);
    v("gid", s.gid);
  }
};

struct MakeChunk {
  Ino ino;
  std::uint32_t chunk = 0;
  std::uint64_t truncate_number = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("chunk", s.chunk);
    v("truncate_number", s.truncate_number);
  }
};

struct PutBytes {
  Ino ino;
  std::uint32_t chunk = 0;
  std::uint64_t start = 0;  // in the chunk
  std::uint64_t truncate_number = 0;
  std::uint64_t length_before = 0;  // of the chunk, filled in by the participant
  Bytes data{};  // at most wire::kIoBytesMax; empty in what is stored
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("chunk", s.chunk);
    v("start", s.start);
    v("truncate_number", s.truncate_number);
    v("length_before", s.length_before);
    v("data", s.data);
  }
};

struct RenameLock {
  template <class Self, class Visit>
  static void fields(Self&, Visit&) {}
};

struct SetParent {
  Ino dir;
  Ino parent;
  WallTime when;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("dir", s.dir);
    v("parent", s.parent);
    v("when", s.when);
  }
};

struct PartPlace {
  OpId op;
  ring::Slot slot;
};

struct Prepared {
  Bytes record;  // kept in the PartRow, given to apply, abort and restore
  Bytes answer;  // for the coordinator
};

// Checks and prepares; `done` may be called later (waits for a lock or the disk). A lock held by
// an older operation answers `locked` (wait-die by operation id: the younger gives way).
void prepare_part(Shard& shard, PartPlace place, PartKind kind, Bytes body,
                  UniqueFunction<void(Result<Prepared>)> done);
void abort_part(Shard& shard, PartPlace place, PartKind kind, ByteSpan record);
// `record`: of the PartRow if the part was prepared, else the spec's body. Errors poison the batch.
// `is_redo`: there was no PartRow, so the part was never prepared, or a power cut took what was.
void apply_part(Shard& shard, PartPlace place, PartKind kind, ByteSpan record, bool is_redo);
// After a restart: takes the locks a prepared part holds.
void restore_part(Shard& shard, PartPlace place, PartKind kind, ByteSpan record);
// Frees the locks that it has, if any.
void release_part(Shard& shard, PartPlace place, PartKind kind, ByteSpan record);
// Whether applying twice would do harm, so that a PartRow must remember that it was done.
bool must_remember(PartKind kind);
// Whether the coordinator commits only when what was prepared is on stable storage.
bool must_be_durable(PartKind kind);
// The content that belongs to it, if there is one.
std::optional<store::ContentId> content_to_sync(PartKind kind, ring::Slot slot, ByteSpan record);
// Whose chunks the part cuts, by an operation of its own: the part is applied when that is.
std::optional<Ino> inode_being_cut(PartKind kind, ByteSpan body);
// Whether the answer to a prepare is the record itself, with which apply can redo the part.
bool is_answer_record(PartKind kind);

// Held on an inode while a truncate's cuts are still to be applied: its chunks wait for them.
inline constexpr std::string_view kContentLockName = "content";
// Held on an inode while an entry of it is gone but its count not yet down: who asks for it waits.
inline constexpr std::string_view kLinksLockName = "links";
// The key under which the rename lock is held in Shard's table of locks.
inline constexpr std::string_view kRenameLockName = "rename";

}  // namespace magma::ops
