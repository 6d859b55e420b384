// tmpfile(directory): a regular file without a name, opened as it is made (open(2), O_TMPFILE). It
// is an orphan from the start: reaped after its last open unless link gives it a name.
#include <sys/stat.h>

#include "magmad/ops/ops.h"

namespace magma::ops {

void tmpfile(Shard& shard, RequestPtr request, wire::TmpfileRequest message) {
  if (shard.is_locked(message.dir)) return shard.park(std::move(request), message.dir);
  auto dir = directory_of(shard, message.dir);
  if (!dir) return shard.refuse(std::move(request), dir.error());
  if (shard.is_space_short()) return shard.refuse_for_space(std::move(request));

  Ino ino = shard.new_ino(request->head.slot);
  store::InodeRow row =
      new_inode(*request, dir->row, S_IFREG | (message.mode & 07777), shard.time());
  row.nlink = 0;
  inherit_acl(shard, *dir, ino, row, message.umask);
  shard.put_inode(ino, row);
  shard.put_raw(Shard::orphan_key(ino), {});
  shard.add_open(request->head.session, ino, message.for_write);
  const wire::EntryReply reply = entry_reply(shard, ino, row);
  if (message.for_write) shard.let_delay(*request, ino);
  shard.answer(std::move(request), reply);
}

}  // namespace magma::ops
