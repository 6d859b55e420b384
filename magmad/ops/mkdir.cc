// mkdir(parent, name, key): the object is made at the slot of the key (part make_directory), then
// the entry at the parent; the parent's transaction is the commit point.
#include <dirent.h>
#include <sys/stat.h>

#include "magmad/ops/acl.h"
#include "magmad/ops/operations.h"
#include "magmad/ops/ops.h"

namespace magma::ops {

namespace {

void enter(Shard& shard, OpId op, const wire::MkdirRequest& message, WallTime when,
           Result<Bytes> prepared) {
  auto made = prepared ? wire::decode<MakeDirectory>(*prepared) : fail(prepared.error());
  auto dir = made ? directory_of(shard, message.dir) : fail(made.error());
  if (!dir) {
    RequestPtr request = shard.operations().abort(op);
    return shard.refuse_or_wait(std::move(request), dir.error());
  }
  shard.put(Shard::entry_key(message.dir, message.name),
            store::EntryRow{made->ino, DT_DIR, message.key, 0});
  ++dir->row.nlink;
  touch_directory(shard, message.dir, dir->row, when);
  RequestPtr request = shard.operations().commit(op, {}, ApplyWhen::durable_lazily);
  tell_directory(shard, *request, message.dir, dir->row);
  if (!shard.is_near(ring::home_of(made->ino)))
    return shard.answer(std::move(request),
                        entry_reply({made->ino, DT_DIR, message.key, 0}));
  auto row = shard.inode(made->ino);
  if (!row) return shard.refuse(std::move(request), Error{Code::io, "new directory is gone"});
  shard.answer(std::move(request), entry_reply(shard, made->ino, *row));
}

}  // namespace

void mkdir(Shard& shard, RequestPtr request, wire::MkdirRequest message) {
  if (auto error = name_error(message.name)) return shard.refuse(std::move(request), *error);
  auto dir = directory_for_new(shard, request, message.dir, message.name);
  if (!dir) return;
  if (dir->row.nlink >= kLinksMax) return shard.refuse(std::move(request), Code::too_many_links);

  WallTime when = shard.time();
  store::InodeRow shape =
      new_inode(*request, dir->row, S_IFDIR | (message.mode & 07777), when);
  Inherited inherited = inherited_from(shard, *dir, shape.mode, message.umask);
  MakeDirectory part{Ino{},        inherited.mode, shape.uid, shape.gid,
                     message.dir,  message.key,    when,      std::move(inherited.access),
                     std::move(inherited.standard)};
  ring::Slot home = request->head.slot;
  OpId op = shard.operations().begin(home, OperationKind::mkdir, std::move(request));
  shard.operations().hold(op, message.dir, message.name);
  auto prepared = [&shard, op, message, when](Result<Bytes> answer) {
    enter(shard, op, message, when, std::move(answer));
  };
  shard.operations().prepare(op, part.key.slot(), PartKind::make_directory, wire::encode(part),
                             std::move(prepared));
}

}  // namespace magma::ops
