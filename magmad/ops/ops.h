// The operations a client may ask for, one file each (magmad/ops/<name>.cc). Each function answers
// its request now or hands it to whatever must happen first. Rows are changed only after every
// check has passed.
#pragma once

#include <string_view>

#include "magmad/shard.h"

namespace magma::ops {

#define MAGMA_FLARE_OP(name, number, Request, Response, kind, priority) \
  void name(Shard& shard, RequestPtr request, wire::Request message);
// attach and detach belong to the session (magmad/session.cc).
#include "libmagma/wire/flare_ops.def"
#undef MAGMA_FLARE_OP

// ---- shared by several operations (common.cc)

using wire::name_error;

struct Directory {
  Ino ino;
  store::InodeRow row;
};
// The directory a request wants to work in, checked: exists, is a directory, is not being removed.
Result<Directory> directory_of(Shard& shard, Ino ino);

// What a client is told of an inode; asks the size authority of a marked file.
wire::Attr attr_of(Shard& shard, Ino ino, const store::InodeRow& row);
wire::EntryReply entry_reply(Shard& shard, Ino ino, const store::InodeRow& row);
// Of a flare of another volcano: without attributes, for which the client asks there.
wire::EntryReply entry_reply(const store::EntryRow& entry);

// The directory a new name is to be entered in: no such name yet, nothing locked, space left. If
// not, the request was refused or waits.
std::optional<Directory> directory_for_new(Shard& shard, RequestPtr& request, Ino dir,
                                           std::string_view name);
// A new inode's row with owner, group (that of a set-group-ID directory) and times.
store::InodeRow new_inode(const Request& request, const store::InodeRow& parent,
                          std::uint32_t mode, WallTime when);
// Applies the directory's default ACL, or else the umask, to a new inode (acl.cc).
void inherit_acl(Shard& shard, const Directory& dir, Ino ino, store::InodeRow& row,
                 std::uint32_t umask);
// The extended attributes of an inode that goes.
void erase_xattrs(Shard& shard, Ino ino, const store::InodeRow& row);
// A change of content takes security.capability away. The row is changed, not put.
void drop_capability(Shard& shard, Ino ino, store::InodeRow& row);

inline constexpr std::uint32_t kLinksMax = 65000;  // as ext4
// Why an inode cannot get one more link, or nothing; and one more link.
std::optional<Code> link_error(Shard& shard, Ino ino, const std::optional<store::InodeRow>& row);
void add_link(Shard& shard, Ino ino, store::InodeRow& row, WallTime when);
void touch_directory(Shard& shard, Ino ino, store::InodeRow& row, WallTime when);
// The answer will tell the client of the directory after the change. `others`: directories whose
// attributes changed as well.
void tell_directory(Shard& shard, Request& request, Ino dir, const store::InodeRow& row,
                    std::vector<Ino> others = {});
std::uint8_t dirent_type(std::uint32_t mode);

// Gives back one link of an inode of this volcano; reaps it with the last one unless it is open, or
// may be by a client that holds a token of it and has not told (keep).
// `lingers`: not at once, because something else has its name now, and who has just looked the name
// up must still be able to open what he found (rename(2): the name is never missing).
void drop_link(Shard& shard, Ino ino, store::InodeRow row, WallTime when, bool lingers = false);
// Removes an inode nobody can reach any more, with its content.
void reap(Shard& shard, Ino ino, const store::InodeRow& row);
// Removes a chunk: its row, its bytes.
void remove_chunk(Shard& shard, const store::ContentId& id);
// After an unclean start (strays.cc): the chunks that no size authority names, to be removed; then,
// in the open batch, size authorities no longer name chunks that are not there, and truncates of
// which only the inode's half is there are done to their end.
Result<std::vector<store::ContentId>> stray_chunks(Shard& shard);
Result<void> forget_missing_chunks(Shard& shard);
Result<void> finish_truncates(Shard& shard);
// After the last open of an inode went away, or nobody believes any more that it has a name: an
// orphan is reaped. `by`: who let it go, and so has it open no more; no session: nobody did.
void after_last_open(Shard& shard, Ino ino, SessionId by);

}  // namespace magma::ops
