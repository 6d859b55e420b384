// symlink(directory, name, target): inode, target and entry in one transaction.
#include <sys/stat.h>

#include "magmad/ops/ops.h"

namespace magma::ops {

void symlink(Shard& shard, RequestPtr request, wire::SymlinkRequest message) {
  if (auto error = name_error(message.name)) return shard.refuse(std::move(request), *error);
  if (message.target.empty()) return shard.refuse(std::move(request), Code::not_found);
  if (message.target.size() > wire::kLinkTargetBytesMax)
    return shard.refuse(std::move(request), Code::name_too_long);
  auto dir = directory_for_new(shard, request, message.dir, message.name);
  if (!dir) return;

  WallTime when = shard.time();
  Ino ino = shard.new_ino(request->head.slot);
  store::InodeRow row = new_inode(*request, dir->row, S_IFLNK | 0777, when);
  row.size = message.target.size();
  shard.put_inode(ino, row);
  shard.put_raw(Shard::inline_key(ino), as_bytes(message.target));
  shard.put(Shard::entry_key(message.dir, message.name),
            store::EntryRow{ino, dirent_type(row.mode), {}, 0});
  touch_directory(shard, message.dir, dir->row, when);
  tell_directory(shard, *request, message.dir, dir->row);
  shard.answer(std::move(request), entry_reply(shard, ino, row));
}

}  // namespace magma::ops
