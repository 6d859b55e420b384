// rmdir(parent, name): the directory is locked at its own slot if it is empty (part
// remove_directory), then the entry goes; the parent's transaction is the commit point.
#include <dirent.h>

#include "magmad/ops/operations.h"
#include "magmad/ops/ops.h"

namespace magma::ops {

namespace {

void leave(Shard& shard, OpId op, const wire::RmdirRequest& message, Ino removed,
           Result<Bytes> prepared) {
  auto dir = prepared ? directory_of(shard, message.dir) : fail(prepared.error());
  if (!dir) {
    RequestPtr request = shard.operations().abort(op);
    if (dir.error().code == Code::locked)
      return shard.retry_later(std::move(request), milliseconds(2));
    return shard.refuse(std::move(request), dir.error());
  }
  shard.erase(Shard::entry_key(message.dir, message.name));
  --dir->row.nlink;
  touch_directory(shard, message.dir, dir->row, shard.time());
  RequestPtr request = shard.operations().commit(op, {}, ApplyWhen::durable_lazily);
  tell_directory(shard, *request, message.dir, dir->row, {removed});
  shard.answer(std::move(request), wire::EmptyReply{});
}

}  // namespace

void rmdir(Shard& shard, RequestPtr request, wire::RmdirRequest message) {
  if (auto error = name_error(message.name)) return shard.refuse(std::move(request), *error);
  if (shard.is_locked(message.dir)) return shard.park(std::move(request), message.dir);
  if (shard.is_locked(message.dir, message.name))
    return shard.park(std::move(request), message.dir, message.name);
  auto dir = directory_of(shard, message.dir);
  if (!dir) return shard.refuse(std::move(request), dir.error());
  auto entry = shard.get<store::EntryRow>(Shard::entry_key(message.dir, message.name));
  if (!entry) return shard.refuse(std::move(request), Code::not_found);
  if (entry->type != DT_DIR) return shard.refuse(std::move(request), Code::not_a_directory);

  ring::Slot home = request->head.slot;
  OpId op = shard.operations().begin(home, OperationKind::rmdir, std::move(request));
  shard.operations().hold(op, message.dir, message.name);
  auto prepared = [&shard, op, message, removed = entry->ino](Result<Bytes> answer) {
    leave(shard, op, message, removed, std::move(answer));
  };
  shard.operations().prepare(op, ring::home_of(entry->ino), PartKind::remove_directory,
                             wire::encode(RemoveDirectory{entry->ino}), std::move(prepared));
}

}  // namespace magma::ops
