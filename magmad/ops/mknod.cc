// mknod(directory, name): fifo, socket, device or a regular file that is not opened: inode and
// entry in one transaction. Who may make devices is the client's kernel's to say.
#include <sys/stat.h>

#include "magmad/ops/ops.h"

namespace magma::ops {

void mknod(Shard& shard, RequestPtr request, wire::MknodRequest message) {
  if (auto error = name_error(message.name)) return shard.refuse(std::move(request), *error);
  std::uint32_t type = message.mode & S_IFMT;
  if (type == 0) type = S_IFREG;  // mknod(2)
  if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK && type != S_IFCHR &&
      type != S_IFBLK)
    return shard.refuse(std::move(request), Code::invalid);
  auto dir = directory_for_new(shard, request, message.dir, message.name);
  if (!dir) return;

  WallTime when = shard.time();
  Ino ino = shard.new_ino(request->head.slot);
  store::InodeRow row = new_inode(*request, dir->row, type | (message.mode & 07777), when);
  if (type == S_IFCHR || type == S_IFBLK) row.rdev = message.rdev;
  inherit_acl(shard, *dir, ino, row, message.umask);
  shard.put_inode(ino, row);
  shard.put(Shard::entry_key(message.dir, message.name),
            store::EntryRow{ino, dirent_type(row.mode), {}, 0});
  touch_directory(shard, message.dir, dir->row, when);
  tell_directory(shard, *request, message.dir, dir->row);
  shard.answer(std::move(request), entry_reply(shard, ino, row));
}

}  // namespace magma::ops
