// What the operations of the mount share: the client they turn requests into, the inodes the
// kernel knows, the open directories. fuse_name.cc, fuse_attr.cc, fuse_data.cc and fuse_dir.cc
// hold the operations; fuse_channel.cc reads the requests.
//
// Node ids: the root is 1 to the kernel, every other flare its inode number. st_ino is always the
// inode number.
//
// Coherence: entries and attributes are the kernel's as long as the volcano lets us believe them
// (believed_until), or until it says that somebody else has changed them (coherence.h). Absent
// names are asked each time, except in a directory that only this mount changes
// (client::DirectoryCache). Pages stay over an open only if the content's version is the one they
// were read from.
//
// One thread, the loop's.
#pragma once

#include "mount.magma/reply.h"

#include <optional>
#include <memory>
#include <deque>
#include <algorithm>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "libmagma/base/time.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/client/client.h"
#include "libmagma/client/profiles.h"
#include "libmagma/sys/clock.h"
#include "libmagma/sys/executor.h"
#include "libmagma/wire/flare_messages.h"
#include "mount.magma/coherence.h"
#include "mount.magma/fresh_listings.h"
#include "mount.magma/inode_table.h"
#include "mount.magma/lookup_doubts.h"
#include "mount.magma/interrupts.h"
#include "mount.magma/name_packs.h"
#include "mount.magma/ring_facts.h"
#include "mount.magma/seen_attrs.h"

namespace magma::mount {

inline constexpr Duration kTimeout = seconds(1);  // of what is no volcano's to tell
inline constexpr std::uint32_t kDirectoryBufferBytes = 65536;

// What libfuse does not pass on of the request it is about to dispatch.
struct RawRequest {
  std::uint32_t opcode = 0;
  std::uint64_t unique = 0;
  std::uint64_t node = 0;         // the flare it is about, as the kernel numbers it
  std::uint64_t other_node = 0;   // of a rename or link: the second one
  Ino victim{}, other_victim{};   // what is removed, moved or replaced: the kernel has it locked
  bool kills_privileges = false;  // clear set-user-id and set-group-id (HANDLE_KILLPRIV_V2)
  bool kills_sgid = false;        // of an ACL that is set (SETXATTR_EXT)
  bool is_tmpfile = false;        // came as TMPFILE, which libfuse does not know; sent on as CREATE
  bool is_statx = false;          // came as STATX; sent on as GETATTR
};

// One opendir: a reply of the ring's readdir, which serves several of the kernel.
struct OpenDirectory {
  Ino ino;
  std::vector<wire::DirectoryEntry> entries{};
  std::size_t next = 0;              // entry that follows `cookie`
  std::uint64_t cookie = 0;          // of the last entry given to the kernel
  std::uint64_t start = 0;           // the buffer holds what follows this cookie
  bool is_filled = false;
  bool end = false;                  // nothing follows the buffer
  bool with_attributes = false;
  Ino parent{};
  Instant believed_until{};
  std::uint64_t changes = 0;         // Filesystem::changes when it was asked
  // Of all that was listed since the start was asked for.
  Instant names_believed_until{};
  std::uint64_t name_changes = 0;    // Coherence::name_changes then
};

// Bytes of a small file that came with its open: the read that follows is answered with them.
struct OpenedContent {
  Bytes bytes;
  std::uint64_t version = 0;
  Instant until;
};

// When a look-up was asked.
struct Asked {
  Instant at;
  std::uint64_t name_changes = 0;  // Coherence::name_changes
};

struct Counters {  // documented in doc/metrics.md
  std::uint64_t requests = 0;
  std::uint64_t interrupts = 0;
  std::uint64_t interrupts_obeyed = 0;
};

class FuseChannel;

struct Filesystem {
  Filesystem(client::Client& the_client, sys::Clock& the_clock, InodeTable& the_inodes)
      : client(the_client), clock(the_clock), inodes(the_inodes) {}

  client::Client& client;
  sys::Clock& clock;
  InodeTable& inodes;
  FuseChannel* channel = nullptr;
  // Notifications to the kernel may wait for it, so not here: those about names for the locks of
  // directories, those about inodes not.
  sys::Executor* notifier = nullptr;
  sys::Executor* name_notifier = nullptr;
  RawRequest raw{};
  Interrupts interrupts{};
  Coherence coherence{*this};
  LookupDoubts lookup_doubts{};
  std::unordered_map<std::uint64_t, OpenDirectory> directories{};
  std::uint64_t next_directory = 1;
  FreshListings fresh_listings{};
  NamePacks name_packs{};
  // With what is asked for nobody: an answer may come when this is gone.
  std::shared_ptr<int> life = std::make_shared<int>();
  client::Profiles profiles{};
  RingFacts ring{client, clock, profiles};
  SeenAttrs seen{};
  // Removed by this mount, while the kernel knows them.
  std::unordered_map<Ino, wire::Attr> removed_flares{};
  std::set<std::pair<Ino, std::uint64_t>> record_lock_owners{};  // may hold locks
  // Owners that took record locks through an open file: of OFD locks the kernel tells no end.
  std::unordered_map<std::uint64_t, std::set<std::uint64_t>> lock_handles{};
  std::uint64_t next_handle = 1;
  std::unordered_set<fuse_req_t> waiting_for_locks{};            // end at any signal
  std::unordered_map<Ino, OpenedContent> opened_contents{};
  std::uint64_t content_changes = 0;  // of any file, by this mount; and locks it got
  std::unordered_set<Ino> read_since_open{};  // their access time may be due
  std::uint64_t changes = 0;      // changes of this mount that have come to their end
  fuse_req_t starting = nullptr;  // request whose call is being made and is not answered yet
  bool sets_access_times = true;  // false: mounted noatime
  bool is_ending = false;         // requests may go unanswered: nobody is there
  Counters counters{};

  // umount(8), findmnt(8) and df(1) ask for the root's attributes and the space: while no volcano
  // answers they get what was last known of it after kRootPatience, so that a mount can always be
  // taken away.
  // If nothing was ever known but volcanoes are there (one waits, perhaps, for the session of a
  // mount that ended without a word), it takes up to kRootPatienceMax before that is an error.
  static constexpr Duration kRootPatience = seconds(1);
  static constexpr Duration kRootPatienceMax = seconds(30);
  using SharedReply = std::shared_ptr<std::optional<Reply>>;  // with the callback: who is first
  struct RootWait {
    Instant due;
    SharedReply reply;
    bool wants_space = false;  // else attributes
    Instant since{};
  };
  std::optional<wire::Attr> root_attr{};
  std::optional<wire::StatfsReply> space{};
  std::deque<RootWait> root_waits{};
  // Takes the reply over; it is answered with what is known when its time has come.
  SharedReply wait_for_root(Reply reply, bool wants_space);
  // The reply, if it was not answered so; nullopt else.
  std::optional<Reply> take_root_wait(const SharedReply& waiting);

  // The kernel's number for a flare is its inode number, with the alias (InodeTable::renew) in bits
  // which no inode number has: a slot counts its inodes from 16 on.
  static constexpr unsigned kAliasShift = 46;
  static constexpr std::uint64_t kAliasMask = std::uint64_t{InodeTable::kAliasMax} << kAliasShift;
  Ino ino_of(fuse_ino_t node) const {
    return node == FUSE_ROOT_ID ? inodes.root() : Ino(node & ~kAliasMask);
  }
  fuse_ino_t node_of(Ino ino) const {
    if (ino == inodes.root()) return FUSE_ROOT_ID;
    return ino.value | std::uint64_t{inodes.alias_of(ino)} << kAliasShift;
  }

  // All numbers the kernel may have for it.
  std::vector<fuse_ino_t> nodes_of(Ino ino) const;

  // Makes a call for `request` (`start` returns its CallId) so that an interrupt ends it.
  template <class Start>
  void call(fuse_req_t request, Start start) {
    starting = request;
    const client::CallId id = start();
    const bool answered = starting != request;  // inside the call, or it went on to another call
    starting = nullptr;
    if (!answered) note_under_way(request);
    if (!answered && id != 0) let_interrupt(request, id);
  }
  // It waits for the ring: see Coherence.
  void note_under_way(fuse_req_t request);
  void let_interrupt(fuse_req_t request, client::CallId call);
  void on_interrupt(fuse_req_t request, client::CallId call);
  Instant deadline() const {
    const Instant due =
        std::min({interrupts.deadline(), ring.deadline(), coherence.deadline()});
    return root_waits.empty() ? due : std::min(due, root_waits.front().due);
  }
  void on_timer();

  // The kernel's view of a flare, and of an entry that names it (counts the look-up).
  struct stat stat_of(const wire::Attr& attr) const;
  static struct statvfs statvfs_of(const wire::StatfsReply& space);
  fuse_entry_param entry_of(const wire::Attr& attr, Duration name_timeout,
                            Duration attr_timeout) const;
  // May the kernel know a flare, which a look-up found under this name, by a name that is stale?
  bool is_in_doubt(Ino parent, std::string_view name, const wire::Attr& attr, Asked asked) const;
  // `until`: that the name leads there is believed.
  fuse_entry_param remember(Ino parent, std::string_view name, const wire::Attr& attr,
                            Instant until);
  Duration left(Instant believed_until) const {
    return std::max(believed_until - clock.now(), Duration{});
  }
  Duration name_left(Instant believed_until) const {  // see LookupDoubts::kSlow
    return std::max(left(believed_until) - LookupDoubts::kSlow, Duration{});
  }
  void forget(Ino ino, std::uint64_t count);
  // The kernel drops pages and attributes of the inode, then `done` is called.
  void invalidate(Ino ino, UniqueFunction<void()> done);
  void invalidate_attributes(Ino ino);
  // The kernel forgets names, then `done` is called. (No request may wait for it: the kernel holds
  // the directory while it waits for answers to look-ups.)
  void forget_names(Ino dir, std::vector<std::string> names, UniqueFunction<void()> done);
  // A change of this mount, done or not, has come to its end: of a flare's attributes or content;
  // of a name, and so of the directory.
  void changed(Ino ino) {
    ++changes;
    name_packs.forget(ino);
  }
  void name_changed(Ino dir, std::string_view name) {
    changed(dir);
    name_packs.forget(dir, name);
  }
  // A change of this mount has made the content of `ino` another one; 0: version not known.
  void content_changed(Ino ino, std::uint64_t version);
  // The same, of which the ring does not know yet: it tells the version later.
  void content_changed_here(Ino ino);
  static constexpr Duration kOpenedContentFresh = milliseconds(20);
  static constexpr std::size_t kOpenedContentsMax = 256;
  void keep_content(const wire::Attr& attr, Bytes bytes);
  // The ring has told of this version of the content: bytes of another one go.
  void content_seen(Ino ino, std::uint64_t version);
  // What a read wants, if the bytes that came with the open are there and fresh.
  std::optional<ByteSpan> kept_content(Ino ino, std::uint64_t offset, std::size_t size);
  void learn_attr(const wire::Attr& attr) {
    seen.learn(attr, attr.believed_until);
    content_seen(attr.ino, attr.data_version);
  }
  // A name that this mount has removed, or put something else under: what it led to may live on for
  // who holds it, and the ring may know nothing of that (see SeenAttrs).
  void note_removed(Ino dir, std::string_view name);
  // The attributes of such a flare if `error` says that the ring has none.
  wire::Attr* removed_flare(Ino ino, const Error& error);
  // Those of a directory that was removed, whatever the ring says: it had but the one name.
  wire::Attr* removed_directory(Ino ino);
};

// How long the kernel may believe attributes. Not at all those of a file with set-id bits: a write
// or truncating open clears them with the ring, without the kernel looking again.
inline Duration may_believe(const wire::Attr& attr, Duration timeout) {
  const bool may_be_cleared = S_ISREG(attr.mode) && (attr.mode & (S_ISUID | S_ISGID)) != 0;
  return may_be_cleared ? Duration{} : timeout;
}
// Answers a request that names a flare, asking for its attributes if the entry came without.
void answer_entry(Reply reply, Ino parent, std::string name, Result<wire::EntryReply> entry);
// Answers a look-up: as answer_entry, and see LookupDoubts.
void answer_lookup(Reply reply, Ino parent, std::string name, Asked asked,
                   Result<wire::EntryReply> entry);
// Answers getattr, or the statx it came as.
void answer_known(Reply reply, const wire::Attr& attr, Duration timeout);
// Answers a request whose result has nothing to tell.
void answer_empty(Reply reply, const Result<wire::EmptyReply>& result);
// The file_info of an open that saw `attr`: keeps the kernel's pages if they are of that version.
void set_cache_flags(Filesystem& filesystem, const wire::Attr& attr, fuse_file_info& file);
inline bool opens_for_write(int flags) { return (flags & O_ACCMODE) != O_RDONLY; }
inline bool is_name_too_long(std::string_view name) { return name.size() > wire::kNameBytesMax; }
// Of the process that makes a flare: the kernel leaves the umask to us (DONT_MASK), since a default
// ACL goes before it.
inline std::uint32_t umask_of(const Reply& reply) {
  return static_cast<std::uint32_t>(fuse_req_ctx(reply.request())->umask);
}
// The last descriptor of a file description with a flock has been closed.
void release_flock(Filesystem& filesystem, Ino ino, std::uint64_t owner);
// An open file description has ended: record locks taken through it go.
void release_record_locks(Filesystem& filesystem, Ino ino, std::uint64_t handle);

// Each file's operations.
void add_name_operations(fuse_lowlevel_ops& operations);
void add_attr_operations(fuse_lowlevel_ops& operations);
void add_data_operations(fuse_lowlevel_ops& operations);
void add_dir_operations(fuse_lowlevel_ops& operations);
void add_xattr_operations(fuse_lowlevel_ops& operations);
void add_lock_operations(fuse_lowlevel_ops& operations);
// After all others.
void put_profiles_before(fuse_lowlevel_ops& operations);

}  // namespace magma::mount
