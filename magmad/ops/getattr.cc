// getattr(inode): attributes; of a marked large file with the size authority's size and times.
#include "magmad/ops/ops.h"

namespace magma::ops {

void getattr(Shard& shard, RequestPtr request, wire::GetattrRequest message) {
  auto row = shard.inode(message.ino);
  if (!row) return shard.refuse(std::move(request), Code::stale);
  shard.answer(std::move(request), wire::AttrReply{attr_of(shard, message.ino, *row)});
}

}  // namespace magma::ops
