// lookup(directory, name): the entry and the attributes of what it names.
#include <sys/stat.h>

#include "magmad/ops/ops.h"
#include "magmad/ops/parts.h"

namespace magma::ops {

void lookup(Shard& shard, RequestPtr request, wire::LookupRequest message) {
  if (auto error = name_error(message.name)) return shard.refuse(std::move(request), *error);
  if (shard.is_locked(message.dir, message.name))
    return shard.park(std::move(request), message.dir, message.name);
  auto entry = shard.get<store::EntryRow>(Shard::entry_key(message.dir, message.name));
  if (!entry) {
    auto dir = directory_of(shard, message.dir);
    return shard.refuse(std::move(request), dir ? Code::not_found : dir.error().code);
  }
  if (!shard.is_near(ring::home_of(entry->ino))) {
    shard.told(message.dir, Tokens::Of::names);
    return shard.answer(std::move(request), entry_reply(*entry));
  }
  if (shard.is_locked(entry->ino, kLinksLockName))
    return shard.park(std::move(request), entry->ino, kLinksLockName);
  if (shard.recall_writes(request, entry->ino)) return;
  if (shard.recall_names(request, ring::home_of(entry->ino))) return;
  auto row = shard.inode(entry->ino);
  // An entry without its inode: fsck's business; to the client the file is unreadable, not absent.
  if (!row) return shard.refuse(std::move(request), Error{Code::io, "entry without inode"});
  // As getattr: the answer tells the link count of a directory, which may be about to change.
  if (S_ISDIR(row->mode))
    if (auto name = shard.locked_name(entry->ino))
      return shard.park(std::move(request), entry->ino, *name);
  shard.told(message.dir, Tokens::Of::names);
  shard.answer(std::move(request), entry_reply(shard, entry->ino, *row));
}

}  // namespace magma::ops
