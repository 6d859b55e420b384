// Chunks that no file names. A chunk's row and the size authority's lie in two databases: a power
// cut can keep the first and lose the second, which was to list the chunk. Its bytes were never
// promised; left there, they would come back when the file grows over them.
#include "libmagma/crypto/path_hash.h"
#include "magmad/ops/authority.h"
#include "magmad/ops/ops.h"

namespace magma::ops {

namespace {

// Whether the file's size authority names the chunk. An authority that is missing says nothing:
// that is fsck's business, and no reason to throw bytes away.
bool is_named(Shard& shard, const store::ContentId& id) {
  auto inode = shard.inode(id.ino);
  if (!inode || inode->place != store::ContentPlace::chunks || !inode->key) return false;
  if (crypto::key_of_chunk(*inode->key, id.chunk).slot() != id.slot) return false;
  auto authority = authority_of(shard, id.ino, *inode->key);
  return !authority || has_chunk(authority->chunks, id.chunk);
}

}  // namespace

Result<std::vector<store::ContentId>> stray_chunks(Shard& shard) {
  std::vector<store::ContentId> found;
  for (unsigned index = 0; index < ring::kSlotCount; ++index) {
    ring::Slot slot(static_cast<std::uint16_t>(index));
    auto visit = [&](const store::MetadataStore::ScanRow& row) {
      found.push_back({slot, Ino(row.b), static_cast<std::uint32_t>(row.a & ring::kCounterMask)});
      return true;
    };
    // Chunk 0 lies with the authority: one transaction.
    store::RowKey from{store::Table::chunk, ring::with_counter(slot, 1), 0, {}};
    store::RowKey to{store::Table::chunk, ring::with_counter(slot, ring::kCounterMask),
                     ~std::uint64_t{0}, {}};
    TRY(shard.metadata().scan(from, to, visit));
  }
  std::erase_if(found, [&](const store::ContentId& id) { return is_named(shard, id); });
  return found;
}

}  // namespace magma::ops
