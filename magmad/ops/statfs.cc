// statfs: space of the disk under the storage directory, less the reserve.
#include "magmad/ops/ops.h"

namespace magma::ops {

void statfs(Shard& shard, RequestPtr request, wire::StatfsRequest) {
  auto space = shard.space();
  if (!space) return shard.refuse(std::move(request), space.error());
  wire::StatfsReply reply;
  reply.block_bytes = 4096;
  reply.blocks = space->total_bytes / 4096;
  reply.blocks_free = space->free_bytes / 4096;
  std::uint64_t reserve = SpaceGuard::reserve_bytes(space->total_bytes);
  reply.blocks_available = space->free_bytes > reserve ? (space->free_bytes - reserve) / 4096 : 0;
  // Inodes are rows: as many as fit, a KiB each.
  reply.files_free = reply.blocks_available * 4;
  reply.files = reply.blocks * 4;
  shard.answer(std::move(request), reply);
}

}  // namespace magma::ops
