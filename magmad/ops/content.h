// Content of regular files at a volcano: in the row, in a home file, in chunks; growing from one
// to the next; changing size. Used by read, write, setattr, open, create.
#pragma once

#include "magmad/shard.h"

namespace magma::ops {

// Whether the range may be written now. If not, the request is taken and handled anew when it may
// (or refused), because everything may have changed by then.
bool ensure_hot(Shard& shard, RequestPtr& request, const store::ContentId& id,
                std::uint64_t offset, std::uint64_t length);

// Moves the content of a small file to the chunks of `key` by an operation (take_content), then
// handles the request anew. Takes the request.
void spill(Shard& shard, RequestPtr request, Ino ino, const ring::Key& key);

enum class Resize : std::uint8_t {
  done,   // the row is changed (not put)
  taken,  // the request was taken: it is handled anew later, or was refused
};
// Sets mode, owner and times, and what goes with them; the row is changed, not put. Not the size.
void set_attributes(Shard& shard, const Request& request, const wire::SetattrRequest& message,
                    store::InodeRow& row, WallTime when);

// Sets the size of a regular file; times and data version follow.
Resize set_size(Shard& shard, RequestPtr& request, Ino ino, store::InodeRow& row,
                std::uint64_t size, const ring::Key& key_for_chunks, WallTime when);

// 512-byte units that a large file's chunks take up on their disks, about. For its size authority.
std::uint64_t content_blocks(Shard& shard, Ino ino, const store::AuthorityRow& authority);

// The next data, or hole, of a large file at or after the offset (lseek(2)). For its authority.
Result<std::uint64_t> seek_content(Shard& shard, Ino ino, const ring::Key& key,
                                   std::uint64_t offset, bool data);

// Clears set-user-ID, and set-group-ID of group-executables, as write(2) and chown(2) do.
std::uint32_t without_suid(std::uint32_t mode);
// As write(2) by somebody: set-group-ID goes also without group execution from who is not in the
// group. Supplementary groups are not known here: for files with both bits they may lose it.
std::uint32_t without_suid(const Request& request, const store::InodeRow& row);
std::uint32_t without_suid(std::uint32_t uid, std::uint32_t gid, const store::InodeRow& row);

// What a write by somebody takes away of a file: set-user-ID and the like, security.capability. At
// the file's home, wherever that is.
void kill_privileges(Shard& shard, const Request& request, Ino ino);
void kill_privileges(Shard& shard, Ino ino, std::uint32_t uid, std::uint32_t gid);

}  // namespace magma::ops
