// create(directory, name): makes a regular file and opens it: inode, entry and open in one
// transaction.
#include <sys/stat.h>

#include "magmad/ops/ops.h"

namespace magma::ops {

void create(Shard& shard, RequestPtr request, wire::CreateRequest message) {
  if (auto error = name_error(message.name)) return shard.refuse(std::move(request), *error);
  // Without O_EXCL `exists` makes the client look it up and open it: it may be at home elsewhere.
  auto dir = directory_for_new(shard, request, message.dir, message.name);
  if (!dir) return;

  WallTime when = shard.time();
  Ino ino = shard.new_ino(request->head.slot);
  store::InodeRow row =
      new_inode(*request, dir->row, S_IFREG | (message.mode & 07777), when);
  inherit_acl(shard, *dir, ino, row, message.umask);
  shard.put_inode(ino, row);
  shard.put(Shard::entry_key(message.dir, message.name),
            store::EntryRow{ino, dirent_type(row.mode), {}, 0});
  touch_directory(shard, message.dir, dir->row, when);
  tell_directory(shard, *request, message.dir, dir->row);
  if (message.wants_to_delay) shard.let_delay_names(*request, message.dir);
  shard.add_open(request->head.session, ino, message.for_write);
  const wire::EntryReply reply = entry_reply(shard, ino, row);
  if (message.for_write) shard.let_delay(*request, ino);
  shard.answer(std::move(request), reply);
}

}  // namespace magma::ops
