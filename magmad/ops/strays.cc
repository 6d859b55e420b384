// What a crash between the commits of two databases leaves of a large file, as far as both are this
// volcano's.
//
// Chunks that no file names. A chunk's row and the size authority's lie in two databases: a power
// cut can keep the first and lose the second, which was to list the chunk. Its bytes were never
// promised; left there, they would come back when the file grows over them.
//
// Chunks that are named and are not there: the same the other way round. They read as zeros.
//
// Truncates half done. The inode's row and the answer that is kept for the asker lie in one
// database, the size authority's in another: the first can be there without the second. The asker
// would be told that all is done, so it is done now: the inode's truncate number is the higher one.
#include "libmagma/crypto/path_hash.h"
#include "magmad/ops/authority.h"
#include "magmad/ops/ops.h"

namespace magma::ops {

namespace {

// Whether the file's size authority names the chunk. An authority that is missing says nothing:
// that is fsck's business, and no reason to throw bytes away.
bool is_named(Shard& shard, const store::ContentId& id) {
  if (!shard.owns(ring::home_of(id.ino))) return true;
  auto inode = shard.inode(id.ino);
  if (!inode || inode->place != store::ContentPlace::chunks || !inode->key) return false;
  if (crypto::key_of_chunk(*inode->key, id.chunk).slot() != id.slot) return false;
  if (!shard.owns(inode->key->slot())) return true;
  auto authority = authority_of(shard, id.ino, *inode->key);
  return !authority || has_chunk(authority->chunks, id.chunk);
}

}  // namespace

Result<std::vector<store::ContentId>> stray_chunks(Shard& shard) {
  std::vector<store::ContentId> found;
  for (unsigned index = 0; index < ring::kSlotCount; ++index) {
    ring::Slot slot(static_cast<std::uint16_t>(index));
    if (!shard.owns(slot)) continue;
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

Result<void> forget_missing_chunks(Shard& shard) {
  std::vector<std::pair<Ino, store::AuthorityRow>> found;
  auto visit = [&](const store::MetadataStore::ScanRow& row) {
    auto authority = wire::decode<store::AuthorityRow>(row.image);
    if (!authority || !shard.owns(authority->key.slot())) return true;
    std::vector<store::ChunkRun> there;
    bool is_any_missing = false;
    for (std::uint32_t chunk : chunks_from(authority->chunks, 0)) {
      store::ContentId id{crypto::key_of_chunk(authority->key, chunk).slot(), Ino(row.b), chunk};
      // Chunk 0 lies with the authority. Others may be another volcano's: one that is gone is made
      // anew when it is written.
      if (chunk == 0 || !shard.owns(id.slot) || shard.get_raw(id.row(store::Table::chunk)))
        add_chunk(there, chunk);
      else
        is_any_missing = true;
    }
    if (!is_any_missing) return true;
    authority->chunks = std::move(there);
    found.emplace_back(Ino(row.b), std::move(*authority));
    return true;
  };
  for (unsigned database = 0; database < store::kDatabases; ++database)
    TRY(shard.metadata().scan_database(database, store::Table::authority, visit));
  for (const auto& [ino, authority] : found) put_authority(shard, ino, authority);
  return {};
}

Result<void> finish_truncates(Shard& shard) {
  std::vector<std::pair<Ino, store::AuthorityRow>> behind;
  auto visit = [&](const store::MetadataStore::ScanRow& row) {
    auto authority = wire::decode<store::AuthorityRow>(row.image);
    if (!authority || !shard.owns(authority->key.slot())) return true;
    if (!shard.owns(ring::home_of(Ino(row.b)))) return true;
    auto inode = shard.inode(Ino(row.b));
    if (authority && inode && inode->place == store::ContentPlace::chunks &&
        inode->key == authority->key && inode->truncate_number > authority->truncate_number)
      behind.emplace_back(Ino(row.b), std::move(*authority));
    return true;
  };
  for (unsigned database = 0; database < store::kDatabases; ++database)
    TRY(shard.metadata().scan_database(database, store::Table::authority, visit));
  for (auto& [ino, authority] : behind) {
    auto inode = shard.inode(ino);
    authority.truncate_number = inode->truncate_number - 1;
    truncate_content(shard, ino, authority, inode->size, inode->mtime);
  }
  return {};
}

}  // namespace magma::ops
