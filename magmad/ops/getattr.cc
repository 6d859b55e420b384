// getattr(inode): attributes; of a marked large file with the size authority's size and times.
#include <sys/stat.h>

#include "magmad/ops/ops.h"
#include "magmad/ops/parts.h"

namespace magma::ops {

void getattr(Shard& shard, RequestPtr request, wire::GetattrRequest message) {
  if (shard.is_locked(message.ino, kLinksLockName))
    return shard.park(std::move(request), message.ino, kLinksLockName);
  auto row = shard.inode(message.ino);
  if (!row) return shard.refuse(std::move(request), Code::stale);
  // An entry is being moved out of or into the directory: its link count is about to change.
  if (S_ISDIR(row->mode))
    if (auto name = shard.locked_name(message.ino))
      return shard.park(std::move(request), message.ino, *name);
  if (message.wants_to_delay) shard.let_delay(*request, message.ino);
  shard.answer(std::move(request), wire::AttrReply{attr_of(shard, message.ino, *row)});
}

}  // namespace magma::ops
