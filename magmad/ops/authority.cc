#include "magmad/ops/authority.h"

#include <algorithm>

#include "libmagma/crypto/path_hash.h"

namespace magma::ops {

store::RowKey authority_key(Ino ino, const ring::Key& key) {
  return {store::Table::authority, ring::with_counter(key.slot(), 0), ino.value, {}};
}

std::optional<store::AuthorityRow> authority_of(Shard& shard, Ino ino, const ring::Key& key) {
  return shard.get<store::AuthorityRow>(authority_key(ino, key));
}

void put_authority(Shard& shard, Ino ino, const store::AuthorityRow& row) {
  shard.put(authority_key(ino, row.key), row);
}

bool has_chunk(const std::vector<store::ChunkRun>& runs, std::uint32_t chunk) {
  return std::any_of(runs.begin(), runs.end(), [&](const store::ChunkRun& run) {
    return run.first <= chunk && chunk <= run.last;
  });
}

void add_chunk(std::vector<store::ChunkRun>& runs, std::uint32_t chunk) {
  auto after = std::find_if(runs.begin(), runs.end(),
                            [&](const store::ChunkRun& run) { return run.first > chunk; });
  if (after != runs.begin()) {
    auto before = after - 1;
    if (chunk <= before->last) return;
    if (before->last + 1 == chunk) {
      before->last = chunk;
      if (after != runs.end() && after->first == chunk + 1) {
        before->last = after->last;
        runs.erase(after);
      }
      return;
    }
  }
  if (after != runs.end() && after->first == chunk + 1) {
    after->first = chunk;
    return;
  }
  runs.insert(after, {chunk, chunk});
}

std::vector<std::uint32_t> chunks_from(const std::vector<store::ChunkRun>& runs,
                                       std::uint32_t first) {
  std::vector<std::uint32_t> chunks;
  for (const auto& run : runs)
    for (std::uint64_t chunk = std::max(run.first, first); chunk <= run.last; ++chunk)
      chunks.push_back(static_cast<std::uint32_t>(chunk));
  return chunks;
}

void remove_chunks_from(std::vector<store::ChunkRun>& runs, std::uint32_t first) {
  std::erase_if(runs, [&](const store::ChunkRun& run) { return run.first >= first; });
  if (!runs.empty() && runs.back().last >= first) runs.back().last = first - 1;
}

store::InodeRow with_authority(Shard& shard, Ino ino, const store::InodeRow& row) {
  store::InodeRow result = row;
  // At rest both rows say the same, but they are in two databases: a crash may fall between their
  // commits, and then the authority's decides.
  if (row.place != store::ContentPlace::chunks || !row.key) return result;
  if (!shard.is_near(row.key->slot())) return result;
  auto authority = authority_of(shard, ino, *row.key);
  if (!authority) return result;
  result.size = authority->size;
  result.mtime = authority->mtime;
  result.ctime = std::max(row.ctime, authority->ctime);
  result.truncate_number = authority->truncate_number;
  result.data_version = authority->data_version;
  return result;
}

void set_authority_mtime(Shard& shard, Request& request, Ino ino, const store::InodeRow& row,
                         WallTime mtime) {
  if (row.place != store::ContentPlace::chunks || !row.key) return;
  if (!shard.is_near(row.key->slot())) {
    request.applied = shard.operations().commit_now(
        ring::home_of(ino), OperationKind::inode,
        {{row.key->slot(), PartKind::set_content_time, false, 0,
          wire::encode(SetContentTime{ino, *row.key, mtime})}},
        ApplyWhen::at_once);
    return;
  }
  auto authority = authority_of(shard, ino, *row.key);
  if (!authority) return;
  authority->mtime = mtime;
  put_authority(shard, ino, *authority);
}

bool is_content_near(Shard& shard, const ring::Key& key) {
  return shard.is_near(key.slot());
}

bool is_content_near(Shard& shard, const store::AuthorityRow& row) {
  for (std::uint32_t chunk : chunks_from(row.chunks, 0))
    if (!shard.is_near(crypto::key_of_chunk(row.key, chunk).slot())) return false;
  return true;
}

void resize_elsewhere(Shard& shard, Request& request, const ResizeContent& body) {
  request.applied = shard.operations().commit_now(
      ring::home_of(body.ino), OperationKind::resize,
      {{body.key.slot(), PartKind::resize, false, 0, wire::encode(body)}}, ApplyWhen::at_once);
}

void truncate_content(Shard& shard, Ino ino, store::AuthorityRow& row, std::uint64_t size,
                      WallTime when) {
  std::vector<PartSpec> parts;
  ++row.truncate_number;
  if (size < row.size) {
    auto keep_chunks = static_cast<std::uint32_t>((size + store::kChunkBytes - 1) /
                                                  store::kChunkBytes);
    // Chunk 0 stays as long as the file does: its slot is the authority.
    keep_chunks = std::max(keep_chunks, 1u);
    for (std::uint32_t chunk : chunks_from(row.chunks, keep_chunks))
      parts.push_back({crypto::key_of_chunk(row.key, chunk).slot(), PartKind::drop_chunk, false, 0,
                       wire::encode(DropChunk{ino, chunk, row.truncate_number})});
    remove_chunks_from(row.chunks, keep_chunks);
    std::uint32_t last = keep_chunks - 1;
    std::uint64_t start = std::uint64_t{last} * store::kChunkBytes;
    if (has_chunk(row.chunks, last) && size - start < store::kChunkBytes)
      parts.push_back({crypto::key_of_chunk(row.key, last).slot(), PartKind::cut_chunk, false, 0,
                       wire::encode(CutChunk{ino, last, size - start, row.truncate_number})});
  }
  row.size = size;
  row.mtime = when;
  row.ctime = std::max(row.ctime, when);
  ++row.data_version;
  put_authority(shard, ino, row);
  if (parts.empty()) return;
  OpId op = shard.operations().commit_now(row.key.slot(), OperationKind::truncate,
                                          std::move(parts), ApplyWhen::durable);
  shard.operations().hold_until_applied(op, ino, kContentLockName);
}

wire::MovedReply moved_reply(Ino ino, const store::AuthorityRow& row) {
  wire::MovedReply moved;
  moved.ino = ino;
  moved.placement = {true, row.key, row.truncate_number, 0};
  moved.size = row.size;
  return moved;
}

wire::MovedReply moved_reply(Shard& shard, Ino ino, const store::InodeRow& row) {
  store::InodeRow known = with_authority(shard, ino, row);
  wire::MovedReply moved;
  moved.ino = ino;
  moved.placement = {known.place == store::ContentPlace::chunks, known.key,
                     known.truncate_number, 0};
  moved.size = known.size;
  moved.is_partial = known.key && !shard.is_near(known.key->slot());
  return moved;
}

}  // namespace magma::ops
