// The Raft log of a volcano: DIR/raft.db, one SQLite file, WAL and synchronous=FULL, so a commit is
// on stable storage when it returns. Used by the store thread alone (calls block on the disk).
//
// Schema; an image is a struct of libmagma/raft/types.h as libmagma/wire encodes it, and its
// CRC32C, big-endian:
//
//   hard(id INTEGER PRIMARY KEY, image)      one row, id 1: HardState
//   snapshot(id INTEGER PRIMARY KEY, image)  one row, id 1: Snapshot
//   entry(id INTEGER PRIMARY KEY, image)     id: the index; Entry. From the snapshot's last + 1 on
//                                            without a gap
#pragma once

#include <memory>
#include <string_view>

#include "libmagma/base/result.h"
#include "libmagma/raft/store.h"
#include "libmagma/sys/disk.h"

namespace magma::store {

inline constexpr std::string_view kRaftPath = "raft.db";
inline constexpr int kRaftFormat = 1;  // PRAGMA user_version

// A new file; Code::exists if there is one. Durable, and empty, when it returns.
Result<std::unique_ptr<raft::Store>> create_raft_store(sys::Disk& disk);
// The existing one. Never made anew: a voter that forgot its votes would vote twice. not_found,
// not_magma, too_new, checksum (damaged), or what the disk says. `disk` outlives the store.
Result<std::unique_ptr<raft::Store>> open_raft_store(sys::Disk& disk);

// Removes one that was never used: no node of its number has run. Fine if there is none.
Result<void> remove_raft_store(sys::Disk& disk);

}  // namespace magma::store
