// setattr(inode): mode, owner, size, times in one transaction; a new size may first need the file
// to move to its chunks.
#include <sys/stat.h>

#include "magmad/ops/acl.h"
#include "magmad/ops/authority.h"
#include "magmad/ops/content.h"
#include "magmad/ops/ops.h"
#include "magmad/ops/parts.h"

namespace magma::ops {

namespace {

void set_owner_and_mode(const Request& request, const wire::SetattrRequest& message,
                        store::InodeRow& row) {
  bool chown = (message.fields_set & (wire::kSetUid | wire::kSetGid)) != 0;
  if ((message.fields_set & wire::kSetUid) != 0) row.uid = message.uid;
  if ((message.fields_set & wire::kSetGid) != 0) row.gid = message.gid;
  const bool is_directory = S_ISDIR(row.mode);
  if (!chown && !is_directory && (message.fields_set & wire::kKillSuidGid) != 0)
    row.mode = without_suid(request, row);
  else if (chown && !is_directory)
    row.mode = without_suid(row.mode);
  if ((message.fields_set & wire::kSetMode) != 0)
    row.mode = (row.mode & S_IFMT) | (message.mode & 07777);
}

// chown(2) and truncate(2) take security.capability away, chmod(2) changes the access ACL.
void follow_xattrs(Shard& shard, const wire::SetattrRequest& message, store::InodeRow& row) {
  constexpr std::uint32_t kTakesCapability =
      wire::kSetUid | wire::kSetGid | wire::kSetSize | wire::kKillSuidGid;
  if ((message.fields_set & kTakesCapability) != 0) drop_capability(shard, message.ino, row);
  if ((message.fields_set & wire::kSetMode) != 0) acl_follows_mode(shard, message.ino, row);
}

void set_times(const wire::SetattrRequest& message, store::InodeRow& row, WallTime when) {
  if ((message.fields_set & wire::kSetAtimeNow) != 0)
    row.atime = when;
  else if ((message.fields_set & wire::kSetAtime) != 0)
    row.atime = message.atime;
  if ((message.fields_set & wire::kSetMtimeNow) != 0)
    row.mtime = when;
  else if ((message.fields_set & wire::kSetMtime) != 0)
    row.mtime = message.mtime;
}

}  // namespace

void set_attributes(Shard& shard, const Request& request, const wire::SetattrRequest& message,
                    store::InodeRow& row, WallTime when) {
  set_owner_and_mode(request, message, row);
  follow_xattrs(shard, message, row);
  set_times(message, row, when);
  row.ctime = std::max(row.ctime, when);
}

void setattr(Shard& shard, RequestPtr request, wire::SetattrRequest message) {
  if (shard.is_locked(message.ino)) return shard.park(std::move(request), message.ino);
  if (shard.is_locked(message.ino, kLinksLockName))
    return shard.park(std::move(request), message.ino, kLinksLockName);
  auto row = shard.inode(message.ino);
  if (!row) return shard.refuse(std::move(request), Code::stale);
  // As getattr: the answer tells the link count of a directory, which may be about to change.
  if (S_ISDIR(row->mode))
    if (auto name = shard.locked_name(message.ino))
      return shard.park(std::move(request), message.ino, *name);
  WallTime when = shard.time();
  if ((message.fields_set & wire::kSetSize) != 0) {
    if (S_ISDIR(row->mode)) return shard.refuse(std::move(request), Code::is_a_directory);
    if (!S_ISREG(row->mode)) return shard.refuse(std::move(request), Code::invalid);
    if (message.size > wire::kFileBytesMax) return shard.refuse(std::move(request), Code::too_big);
    if (message.size > row->size && shard.is_space_short())
      return shard.refuse_for_space(std::move(request));
    if (set_size(shard, request, message.ino, *row, message.size, message.key_for_chunks, when) ==
        Resize::taken)
      return;
  }
  // A large file's mtime is the authority's.
  if ((message.fields_set & (wire::kSetMtime | wire::kSetMtimeNow)) != 0)
    set_authority_mtime(shard, *request, message.ino, *row,
                        (message.fields_set & wire::kSetMtimeNow) != 0 ? when : message.mtime);
  set_attributes(shard, *request, message, *row, when);
  shard.put_inode(message.ino, *row);
  shard.answer(std::move(request), wire::AttrReply{attr_of(shard, message.ino, *row)});
}

}  // namespace magma::ops
