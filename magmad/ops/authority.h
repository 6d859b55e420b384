// The size authority of a large file: the slot of its chunk 0 keeps size, times, truncate number
// and the set of chunks (ADR 8). Slots of the same volcano use its row directly; for those of
// others there are parts (parts.h), questions (questions.h), and requests of clients (publish.cc).
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

// Size and times as the authority knows them, into a copy of the row; as they are if the authority
// is another volcano's.
store::InodeRow with_authority(Shard& shard, Ino ino, const store::InodeRow& row);

// utimes of a large file: the authority's mtime is set too, which is the one that is told.
void set_authority_mtime(Shard& shard, Request& request, Ino ino, const store::InodeRow& row,
                         WallTime mtime);

// Whether the step under way may use the authority's row; and all the file's chunks.
bool is_content_near(Shard& shard, const ring::Key& key);
bool is_content_near(Shard& shard, const store::AuthorityRow& row);
// As truncate_content, of a file whose authority is another volcano's: the answer to the request
// waits for it.
void resize_elsewhere(Shard& shard, Request& request, const ResizeContent& body);

// Cuts or extends a large file, at the authority: new truncate number, chunks cut by an operation.
void truncate_content(Shard& shard, Ino ino, store::AuthorityRow& row, std::uint64_t size,
                      WallTime when);

wire::MovedReply moved_reply(Ino ino, const store::AuthorityRow& row);
wire::MovedReply moved_reply(Shard& shard, Ino ino, const store::InodeRow& row);

}  // namespace magma::ops
