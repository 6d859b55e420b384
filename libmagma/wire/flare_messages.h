// Messages of the flare protocol: a request is a RequestHead, the operation's request struct, and
// for `write` the bytes; a response is a ResponseHead, on success the operation's response struct,
// and for `read` and `open` the bytes. doc/protocol.md describes them for
// people, golden files pin them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/base/result.h"
#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/ring/key.h"
#include "libmagma/ring/slot.h"
#include "libmagma/wire/lock_messages.h"
#include "libmagma/wire/name_messages.h"
#include "libmagma/wire/operator_messages.h"
#include "libmagma/wire/peer_messages.h"
#include "libmagma/wire/replica_messages.h"
#include "libmagma/wire/session_messages.h"

namespace magma::wire {

inline constexpr std::uint32_t kProtocolVersion = 1;
inline constexpr std::size_t kNameBytesMax = 255;
// Why it can be no name of an entry (invalid, name_too_long), or nothing: 1 to 255 bytes, no '/',
// no NUL, not "." or "..".
std::optional<Code> name_error(std::string_view name);
inline constexpr std::size_t kLinkTargetBytesMax = 4095;
inline constexpr std::size_t kXattrNameBytesMax = 255;     // XATTR_NAME_MAX
inline constexpr std::size_t kXattrValueBytesMax = 65536;  // XATTR_SIZE_MAX
inline constexpr std::size_t kIoBytesMax = 1u << 20;       // payload of one read or write
inline constexpr std::size_t kExtentsMax = 64;             // pieces of one write
inline constexpr std::size_t kDelayedBytesMax = 64u << 20; // written at a client, not yet sent
inline constexpr std::size_t kLanes = 256;                 // of one session
inline constexpr std::uint16_t kNoLane = 0xffff;           // requests of kind read
inline constexpr std::uint64_t kFileBytesMax = std::uint64_t{1} << 44;  // 16 TiB

struct RequestHead {
  std::uint16_t op = 0;
  ring::Slot slot;          // the slot asked
  Epoch epoch;              // as the asker knows it
  SessionId session{};
  std::uint16_t lane = kNoLane;
  std::uint32_t sequence = 0;  // of the lane, from 1
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("op", s.op);
    v("slot", s.slot);
    v("epoch", s.epoch);
    v("session", s.session);
    v("lane", s.lane);
    v("sequence", s.sequence);
    v("uid", s.uid);
    v("gid", s.gid);
  }
};

// Content of a regular file as a client must know it to reach it.
struct Placement {
  bool in_chunks = false;              // false: at home; true: at the slots of `key`
  std::optional<ring::Key> key{};      // of a directory or a file in chunks
  std::uint64_t truncate_number = 0;
  std::uint64_t mark = 0;              // no longer used: 0
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("in_chunks", s.in_chunks);
    v("key", s.key);
    v("truncate_number", s.truncate_number);
    v("mark", s.mark);
  }
};

// Extended attributes a flare has; 0: none at all.
enum XattrKind : std::uint8_t {
  kXattrAny = 1,
  kXattrCapability = 2,   // security.capability: goes with any change of the content
  kXattrAclAccess = 4,
  kXattrAclDefault = 8,   // new flares in the directory get ACLs from it
};

struct Attr {
  Ino ino;
  std::uint32_t mode = 0;  // st_mode: type and permission bits
  std::uint32_t nlink = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint64_t rdev = 0;
  std::uint64_t size = 0;
  std::uint64_t blocks = 0;  // of 512 bytes
  WallTime atime, mtime, ctime, btime;
  std::uint64_t data_version = 0;  // rises with every content change
  std::uint8_t xattr_kinds = 0;    // XattrKind: which extended attributes it has
  Placement placement;
  // Size, blocks, mtime, ctime, data version and truncate number are not the file's: its size
  // authority is another volcano's, and is to be asked (ContentRequest).
  bool is_partial = false;
  Instant believed_until{};        // not on the wire: set by the client that was told
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("mode", s.mode);
    v("nlink", s.nlink);
    v("uid", s.uid);
    v("gid", s.gid);
    v("rdev", s.rdev);
    v("size", s.size);
    v("blocks", s.blocks);
    v("atime", s.atime);
    v("mtime", s.mtime);
    v("ctime", s.ctime);
    v("btime", s.btime);
    v("data_version", s.data_version);
    v("xattr_kinds", s.xattr_kinds);
    v("placement", s.placement);
    v("is_partial", s.is_partial);
  }
};

// With the answer to a change of names: the directory that got or lost the name, after the change
// (whose data_version it raised by one), so that clients need not ask; and other directories whose
// attributes the change made others.
struct NamesChanged {
  Attr directory;
  std::vector<Ino> others{};
  // If the asker may delay changes of names in the directory: so many inode numbers from the first
  // on are for files that it makes there.
  Ino first_number{};
  std::uint32_t numbers = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("directory", s.directory);
    v("others", s.others);
    v("first_number", s.first_number);
    v("numbers", s.numbers);
  }
};

struct ResponseHead {
  std::uint16_t code = 0;        // 0: done; else a number of errors.def
  std::uint32_t map_version = 0; // of the answering volcano's lava map: higher than yours, fetch it
  // For so long after it made the request the asker may believe what it is told here of flares: who
  // changes one of them waits until the asker has confirmed `changed`, or the time is over.
  std::uint16_t believe_ms = 0;
  std::optional<NamesChanged> names_changed{};  // not with an answer that is given again
  // Of create, tmpfile, open for writing, and getattr that wants it: the asker alone has the file
  // open, and may keep what it writes there for a while, until it is recalled (Change), its last
  // open for writing or its session ends. Who else asks for the file waits until it is sent.
  // Of unlink and rename that want it: nobody else knows anything of what is at home in the
  // directory's slot, and the asker may keep such changes for a while (ChangeNamesRequest), until
  // they are recalled. Of create NamesChanged::numbers tells that.
  bool may_delay = false;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("code", s.code);
    v("map_version", s.map_version);
    v("believe_ms", s.believe_ms);
    v("names_changed", s.names_changed);
    v("may_delay", s.may_delay);
  }
};

struct EmptyReply {
  template <class Self, class Visit>
  static void fields(Self&, Visit&) {}
};

struct AttrReply {
  Attr attr;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("attr", s.attr);
  }
};

// An entry and what it names; without attributes if they are another volcano's to tell.
struct EntryReply {
  Ino ino;
  std::uint8_t type = 0;  // DT_*
  std::optional<ring::Key> key{};
  std::optional<Attr> attr{};
  Instant believed_until{};  // not on the wire: that the name leads there
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("type", s.type);
    v("key", s.key);
    v("attr", s.attr);
  }
};

struct LookupRequest {  // to the directory's home
  Ino dir;
  std::string name;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("dir", s.dir);
    v("name", s.name);
  }
};

struct GetattrRequest {  // to the home
  Ino ino;
  bool wants_to_delay = false;  // ResponseHead::may_delay
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("wants_to_delay", s.wants_to_delay);
  }
};

struct ReadlinkRequest {
  Ino ino;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
  }
};

struct ReadlinkReply {
  std::string target;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("target", s.target);
  }
};

enum SetattrField : std::uint32_t {
  kSetMode = 1,
  kSetUid = 2,
  kSetGid = 4,
  kSetSize = 8,
  kSetAtime = 16,
  kSetMtime = 32,
  kSetAtimeNow = 64,   // the volcano's clock decides
  kSetMtimeNow = 128,
  kKillSuidGid = 256,  // clear set-user-id and set-group-id as write(2) does
};
// What may come along with a write (WriteRequest::attributes).
inline constexpr std::uint32_t kSetWithWrite = kSetMode | kSetUid | kSetGid | kSetAtime | kSetMtime;

struct SetattrRequest {  // to the home
  Ino ino{};
  std::uint32_t fields_set = 0;  // SetattrField
  std::uint32_t mode = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint64_t size = 0;
  WallTime atime{}, mtime{};
  ring::Key key_for_chunks{};  // used if the file outgrows its home now
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("fields_set", s.fields_set);
    v("mode", s.mode);
    v("uid", s.uid);
    v("gid", s.gid);
    v("size", s.size);
    v("atime", s.atime);
    v("mtime", s.mtime);
    v("key_for_chunks", s.key_for_chunks);
  }
};

// To the home. The bytes of a small file follow the reply if they are asked for.
struct OpenRequest {
  Ino ino;
  bool for_write = false;
  bool truncate = false;
  std::optional<std::uint64_t> content_unless{};  // wanted, but not of this data version
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("for_write", s.for_write);
    v("truncate", s.truncate);
    v("content_unless", s.content_unless);
  }
};

// To the home. The client holds the file open for reading, which it has not told yet because it
// holds a token of it: from now on that open counts as any other.
struct KeepRequest {
  Ino ino;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
  }
};

struct ReleaseRequest {  // to the home; one open description ended
  Ino ino;
  bool for_write = false;
  bool was_read = false;     // the access time is set, as relatime of mount(8) does
  bool was_untold = false;   // the open was never told: no open that counts has ended
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("for_write", s.for_write);
    v("was_read", s.was_read);
    v("was_untold", s.was_untold);
  }
};

struct ReleaseReply {
  WallTime atime{};  // as it is now, if the file was read; else 0
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("atime", s.atime);
  }
};

// To the home if the content is there (then `chunk` is 0 and `key` absent), else to the slot of
// the chunk; moved_to_chunks if the asker's placement is old, behind_truncate if its number is.
struct ReadRequest {
  Ino ino;
  std::uint64_t offset = 0;  // in the file
  std::uint32_t length = 0;  // within one chunk, at most kIoBytesMax
  std::optional<ring::Key> key{};
  std::uint64_t truncate_number = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("offset", s.offset);
    v("length", s.length);
    v("key", s.key);
    v("truncate_number", s.truncate_number);
  }
};

// The bytes follow. From home: exactly what the file has. From a chunk: what the chunk has; the
// asker fills with zeros up to the file's size.
struct ReadReply {
  std::uint64_t data_version = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("data_version", s.data_version);
  }
};

// A piece of the file, of a write of several.
struct Extent {
  std::uint64_t offset = 0;
  std::uint32_t length = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("offset", s.offset);
    v("length", s.length);
  }
};

struct WriteRequest {  // to the home or the chunk's slot, as ReadRequest; the bytes follow
  Ino ino;
  std::uint64_t offset = 0;  // ignored if `append`
  bool append = false;
  bool kill_suidgid = false;
  std::optional<ring::Key> key{};  // absent: to the home
  ring::Key key_for_chunks;        // used if the file outgrows its home now
  std::uint64_t truncate_number = 0;
  std::uint64_t mark = 0;  // no longer used
  std::vector<std::uint32_t> page_sums{};  // CRC32C of each whole, aligned 4 KiB page in the bytes
  // More than one piece: they follow one after the other, rise, and lie in one chunk; `offset` is
  // the first one's. Empty: all the bytes are one piece.
  std::vector<Extent> extents{};
  // To be set after it, of kSetWithWrite; for the home, which says so (WriteReply::set_at).
  std::optional<SetattrRequest> attributes{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("offset", s.offset);
    v("append", s.append);
    v("kill_suidgid", s.kill_suidgid);
    v("key", s.key);
    v("key_for_chunks", s.key_for_chunks);
    v("truncate_number", s.truncate_number);
    v("mark", s.mark);
    v("page_sums", s.page_sums);
    v("extents", s.extents);
    v("attributes", s.attributes);
  }
};

struct WriteReply {
  std::uint64_t offset = 0;  // where the bytes went
  std::uint64_t size = 0;    // of the file, after
  WallTime mtime;
  std::uint64_t data_version = 0;
  // False: only the offset is told. The size authority is another volcano's, and does not know yet
  // what was written (PublishRequest).
  bool is_published = true;
  bool may_delay = true;  // false: the space is nearly used up, who delays writes stops it
  std::optional<WallTime> set_at{};  // the ctime, if attributes that came along were set
  bool is_delayed = false;  // not on the wire: by the client, which keeps it for a while
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("offset", s.offset);
    v("size", s.size);
    v("mtime", s.mtime);
    v("data_version", s.data_version);
    v("is_published", s.is_published);
    v("may_delay", s.may_delay);
    v("set_at", s.set_at);
  }
};

// To the size authority of a file in chunks: what an Attr that is_partial does not tell.
struct ContentRequest {
  Ino ino;
  ring::Key key;  // of the file
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("key", s.key);
  }
};

struct ContentReply {
  std::uint64_t size = 0;
  std::uint64_t blocks = 0;  // of 512 bytes
  WallTime mtime, ctime;     // ctime: the later one of this and the inode's is the file's
  std::uint64_t data_version = 0;
  std::uint64_t truncate_number = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("size", s.size);
    v("blocks", s.blocks);
    v("mtime", s.mtime);
    v("ctime", s.ctime);
    v("data_version", s.data_version);
    v("truncate_number", s.truncate_number);
  }
};

// To the size authority: bytes were written to a chunk of another volcano. behind_truncate (with a
// MovedReply) if a truncate came between: then they are to be written again.
struct PublishRequest {
  Ino ino;
  ring::Key key;  // of the file
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::uint64_t truncate_number = 0;  // that they were written under
  bool kill_suidgid = false;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("key", s.key);
    v("offset", s.offset);
    v("length", s.length);
    v("truncate_number", s.truncate_number);
    v("kill_suidgid", s.kill_suidgid);
  }
};

// To the size authority, after no_chunk: the chunk is to be made at its volcano. behind_truncate as
// above.
struct ReserveRequest {
  Ino ino;
  ring::Key key;  // of the file
  std::uint32_t chunk = 0;
  std::uint64_t truncate_number = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("key", s.key);
    v("chunk", s.chunk);
    v("truncate_number", s.truncate_number);
  }
};

// To every slot that holds a part of the file: what was acknowledged there before is on stable
// storage after.
struct FsyncRequest {
  Ino ino;
  std::vector<std::uint32_t> chunks{};  // of this slot; empty at home
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("chunks", s.chunks);
  }
};

struct ReaddirRequest {
  Ino dir;
  std::uint64_t cookie = 0;  // continue after this one; 0 from the start
  std::uint32_t bytes_max = 65536;
  bool with_attributes = false;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("dir", s.dir);
    v("cookie", s.cookie);
    v("bytes_max", s.bytes_max);
    v("with_attributes", s.with_attributes);
  }
};

struct DirectoryEntry {
  std::string name;
  std::uint64_t cookie = 0;
  Ino ino;
  std::uint8_t type = 0;
  std::optional<Attr> attr{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("name", s.name);
    v("cookie", s.cookie);
    v("ino", s.ino);
    v("type", s.type);
    v("attr", s.attr);
  }
};

// Without "." and ".."; names of one cookie are never split over two replies.
struct ReaddirReply {
  std::vector<DirectoryEntry> entries{};
  bool end = false;
  Ino parent;  // for ".."
  std::uint64_t data_version = 0;  // of the directory
  Instant believed_until{};        // not on the wire: that the names lead there
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("entries", s.entries);
    v("end", s.end);
    v("parent", s.parent);
    v("data_version", s.data_version);
  }
};

struct StatfsRequest {
  template <class Self, class Visit>
  static void fields(Self&, Visit&) {}
};

struct StatfsReply {
  std::uint64_t block_bytes = 4096;
  std::uint64_t blocks = 0;
  std::uint64_t blocks_free = 0;
  std::uint64_t blocks_available = 0;
  std::uint64_t files = 0;
  std::uint64_t files_free = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("block_bytes", s.block_bytes);
    v("blocks", s.blocks);
    v("blocks_free", s.blocks_free);
    v("blocks_available", s.blocks_available);
    v("files", s.files);
    v("files_free", s.files_free);
  }
};

// Answers of code moved_to_chunks and behind_truncate carry the placement to use instead.
struct MovedReply {
  Ino ino;  // whose: of a copy, source or target
  Placement placement;
  std::uint64_t size = 0;
  bool is_partial = false;  // size and truncate number are to be asked for, as with Attr
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("placement", s.placement);
    v("size", s.size);
    v("is_partial", s.is_partial);
  }
};

// What is wrong with the name of an extended attribute (xattr(7)); nothing: it may be stored.
std::optional<Code> xattr_name_error(std::string_view name);

enum SetxattrFlag : std::uint32_t {  // setxattr(2)
  kXattrCreate = 1,
  kXattrReplace = 2,
  kXattrKillSgid = 4,  // of an ACL: clear set-group-id as chmod(2) by a stranger to the group does
};

struct SetxattrRequest {  // to the home
  Ino ino;
  std::string name;
  Bytes value{};
  std::uint32_t flags = 0;  // SetxattrFlag
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("name", s.name);
    v("value", s.value);
    v("flags", s.flags);
  }
};

struct GetxattrRequest {
  Ino ino;
  std::string name;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("name", s.name);
  }
};

struct GetxattrReply {
  Bytes value{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("value", s.value);
  }
};

struct ListxattrRequest {
  Ino ino;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
  }
};

struct ListxattrReply {
  std::vector<std::string> names{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("names", s.names);
  }
};

struct RemovexattrRequest {
  Ino ino;
  std::string name;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("name", s.name);
  }
};

enum FallocateMode : std::uint32_t {  // fallocate(2)
  kFallocateKeepSize = 1,
  kFallocatePunchHole = 2,
  kFallocateZeroRange = 16,
};

// To the home. The volcano does a part at a time: the asker goes on at `next` until it is the end.
struct FallocateRequest {
  Ino ino;
  std::uint32_t mode = 0;  // FallocateMode
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::uint64_t from = 0;  // offset, or `next` of the last answer
  bool kill_suidgid = false;
  ring::Key key_for_chunks;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("mode", s.mode);
    v("offset", s.offset);
    v("length", s.length);
    v("from", s.from);
    v("kill_suidgid", s.kill_suidgid);
    v("key_for_chunks", s.key_for_chunks);
  }
};

struct FallocateReply {
  std::uint64_t next = 0;  // offset + length: done
  Attr attr;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("next", s.next);
    v("attr", s.attr);
  }
};

struct SeekRequest {  // lseek(2) SEEK_DATA, SEEK_HOLE; to the home. no_device: past the last
  Ino ino;
  std::uint64_t offset = 0;
  bool data = true;  // false: the next hole
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("ino", s.ino);
    v("offset", s.offset);
    v("data", s.data);
  }
};

struct SeekReply {
  std::uint64_t offset = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("offset", s.offset);
  }
};

// A read and a write of the same bytes in one, at the slot `target` goes to; `unsupported` if the
// source's bytes are another volcano's. Fewer bytes only at the end of the source.
struct CopyRequest {
  ReadRequest source;
  WriteRequest target;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("source", s.source);
    v("target", s.target);
  }
};

struct CopyReply {
  std::uint32_t length = 0;  // bytes copied
  WriteReply written;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("length", s.length);
    v("written", s.written);
  }
};

enum class FlareOp : std::uint16_t {
#define MAGMA_FLARE_OP(name, number, Request, Response, kind, priority) name = number,
#include "libmagma/wire/flare_ops.def"
#undef MAGMA_FLARE_OP
};

enum class OpKind : std::uint8_t { read, change, session, host, client, mirror, peer };

std::string_view name_of(FlareOp op);  // "?" for a number that is none
bool is_known_op(std::uint16_t number);
OpKind kind_of(FlareOp op);
std::uint8_t priority_of(FlareOp op);  // rpc::Priority as its number

// The operation of a request struct.
template <class Request>
struct OpOf;
#define MAGMA_FLARE_OP(name, number, Request, Response, kind, priority) \
  template <>                                                           \
  struct OpOf<Request> {                                                \
    static constexpr FlareOp op = FlareOp::name;                        \
    using Reply = Response;                                             \
  };
#include "libmagma/wire/flare_ops.def"
#undef MAGMA_FLARE_OP

}  // namespace magma::wire
