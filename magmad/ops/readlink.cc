// readlink(inode): the target of a symbolic link.
#include <sys/stat.h>

#include "magmad/ops/ops.h"

namespace magma::ops {

void readlink(Shard& shard, RequestPtr request, wire::ReadlinkRequest message) {
  auto row = shard.inode(message.ino);
  if (!row) return shard.refuse(std::move(request), Code::stale);
  if (!S_ISLNK(row->mode)) return shard.refuse(std::move(request), Code::invalid);
  auto target = shard.get_raw(Shard::inline_key(message.ino));
  if (!target) return shard.refuse(std::move(request), Error{Code::io, "link without target"});
  shard.answer(std::move(request), wire::ReadlinkReply{std::string(as_text(*target))});
}

}  // namespace magma::ops
