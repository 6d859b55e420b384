// create(directory, name): makes a regular file and opens it: inode, entry and open in one
// transaction.
#include <sys/stat.h>

#include "magmad/ops/ops.h"

namespace magma::ops {

void create(Shard& shard, RequestPtr request, wire::CreateRequest message) {
  if (auto error = name_error(message.name)) return shard.refuse(std::move(request), *error);
  if (shard.is_locked(message.dir)) return shard.park(std::move(request), message.dir);
  if (shard.is_locked(message.dir, message.name))
    return shard.park(std::move(request), message.dir, message.name);
  auto dir = directory_of(shard, message.dir);
  if (!dir) return shard.refuse(std::move(request), dir.error());
  auto key = Shard::entry_key(message.dir, message.name);
  // Without O_EXCL the client looks it up and opens it: it may be at home elsewhere.
  if (shard.get_raw(key)) return shard.refuse(std::move(request), Code::exists);
  if (shard.is_space_short()) return shard.refuse(std::move(request), Code::no_space);

  WallTime when = shard.time();
  Ino ino = shard.new_ino(request->head.slot);
  store::InodeRow row =
      new_inode(shard, *request, dir->row, S_IFREG | (message.mode & 07777), when);
  shard.put_inode(ino, row);
  shard.put(key, store::EntryRow{ino, dirent_type(row.mode), {}, 0});
  touch_directory(shard, message.dir, dir->row, when);
  shard.add_open(request->head.session, ino, message.for_write);
  shard.answer(std::move(request), entry_reply(shard, ino, row));
}

}  // namespace magma::ops
