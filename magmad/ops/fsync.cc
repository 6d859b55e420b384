// fsync: content files of the inode at this slot, then all metadata of the volcano: the file, and
// the entries and directories that lead to it.
#include <memory>

#include "magmad/ops/ops.h"

namespace magma::ops {

namespace {

void sync_metadata(Shard& shard, RequestPtr request) {
  auto shared = std::make_shared<RequestPtr>(std::move(request));
  shard.metadata().sync_all([&shard, shared](Result<void> synced) {
    if (!synced) return shard.refuse(std::move(*shared), synced.error());
    shard.answer(std::move(*shared), wire::EmptyReply{});
  });
}

// Syncs the contents one after the other, then the metadata.
void sync_contents(Shard& shard, RequestPtr request, std::vector<store::ContentId> left) {
  if (left.empty()) return sync_metadata(shard, std::move(request));
  store::ContentId id = left.back();
  left.pop_back();
  auto shared = std::make_shared<RequestPtr>(std::move(request));
  shard.content().sync(id, [&shard, shared, left = std::move(left)](Result<void> synced) mutable {
    if (!synced) return shard.refuse(std::move(*shared), synced.error());
    sync_contents(shard, std::move(*shared), std::move(left));
  });
}

}  // namespace

void fsync(Shard& shard, RequestPtr request, wire::FsyncRequest message) {
  std::vector<store::ContentId> contents;
  ring::Slot slot = request->head.slot;
  for (std::uint32_t chunk : message.chunks) contents.push_back({slot, message.ino, chunk});
  if (message.chunks.empty()) {
    auto row = shard.inode(message.ino);
    if (!row) return shard.refuse(std::move(request), Code::stale);
    if (row->place == store::ContentPlace::home_file) contents.push_back({slot, message.ino, 0});
  }
  request->keep();
  sync_contents(shard, std::move(request), std::move(contents));
}

}  // namespace magma::ops
