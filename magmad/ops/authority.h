// The size authority of a large file: the slot of its chunk 0 keeps size, times, truncate number
// and the set of chunks while the file is marked (DESIGN.md 2.6). These are the questions other
// slots of this volcano ask it directly.
#pragma once

#include <cstdint>
#include <optional>

#include "magmad/ops/operations.h"
#include "magmad/shard.h"

namespace magma::ops {

store::RowKey authority_key(Ino ino, const ring::Key& key);
std::optional<store::AuthorityRow> authority_of(Shard& shard, Ino ino, const ring::Key& key);
void put_authority(Shard& shard, Ino ino, const store::AuthorityRow& row);

// Chunks in a row of runs: membership, insertion (keeps runs sorted and apart), those from `first`
// on taken out.
bool has_chunk(const std::vector<store::ChunkRun>& runs, std::uint32_t chunk);
void add_chunk(std::vector<store::ChunkRun>& runs, std::uint32_t chunk);
std::vector<std::uint32_t> chunks_from(const std::vector<store::ChunkRun>& runs,
                                       std::uint32_t first);
void remove_chunks_from(std::vector<store::ChunkRun>& runs, std::uint32_t first);

// Marks an inode at home for writing: from now on its authority is the truth. The row is changed,
// not put; the authority's row is put. io if the authority's row is missing.
Result<void> mark_inode(Shard& shard, Ino ino, store::InodeRow& row);
// Ends the mark: the authority's size and times are written back to the inode's row, which is put.
void end_mark(Shard& shard, Ino ino, store::InodeRow row);
// Size and times as the authority knows them, into a copy of the row (unmarked: as it is).
store::InodeRow with_authority(Shard& shard, Ino ino, const store::InodeRow& row);

// utimes of a large file: the authority's mtime is set too, which is the one that is told.
void set_authority_mtime(Shard& shard, Ino ino, const store::InodeRow& row, WallTime mtime);

// Cuts or extends a large file, at the authority: new truncate number, chunks cut by an operation.
void truncate_content(Shard& shard, Ino ino, store::AuthorityRow& row, std::uint64_t size,
                      WallTime when);

wire::MovedReply moved_reply(Ino ino, const store::AuthorityRow& row);
wire::MovedReply moved_reply(Shard& shard, Ino ino, const store::InodeRow& row);

}  // namespace magma::ops
