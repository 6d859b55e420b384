// unlink(directory, name): one transaction if the inode is at home here; of a remote entry the
// entry goes and an intent takes the link down at the inode's home.
#include <dirent.h>

#include "magmad/ops/operations.h"
#include "magmad/ops/ops.h"

namespace magma::ops {

void unlink(Shard& shard, RequestPtr request, wire::UnlinkRequest message) {
  if (auto error = name_error(message.name)) return shard.refuse(std::move(request), *error);
  if (shard.is_locked(message.dir, message.name))
    return shard.park(std::move(request), message.dir, message.name);
  auto dir = directory_of(shard, message.dir);
  if (!dir) return shard.refuse(std::move(request), dir.error());
  auto key = Shard::entry_key(message.dir, message.name);
  auto entry = shard.get<store::EntryRow>(key);
  if (!entry) return shard.refuse(std::move(request), Code::not_found);
  if (entry->type == DT_DIR) return shard.refuse(std::move(request), Code::is_a_directory);
  ring::Slot home = request->head.slot;
  bool is_remote = ring::home_of(entry->ino) != home;

  WallTime when = shard.time();
  if (is_remote) {
    if (shard.is_locked(entry->ino, kLinksLockName))
      return shard.park(std::move(request), entry->ino, kLinksLockName);
    OpId op = shard.operations().commit_now(home, OperationKind::unlink,
                                  {{ring::home_of(entry->ino), PartKind::drop_link, false, 0,
                                    wire::encode(DropLink{entry->ino, when})}},
                                  ApplyWhen::durable);
    shard.operations().hold_links_until_applied(op, *request);
  } else if (auto row = shard.inode(entry->ino)) {
    drop_link(shard, entry->ino, std::move(*row), when);
  }
  shard.erase(key);
  touch_directory(shard, message.dir, dir->row, when);
  tell_directory(shard, *request, message.dir, dir->row);
  if (message.wants_to_delay) request->may_delay = shard.let_delay_names(*request, message.dir);
  shard.answer(std::move(request), wire::EmptyReply{});
}

}  // namespace magma::ops
