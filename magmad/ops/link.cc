// link(inode, directory, name), coordinated by the directory's home: the inode's count goes up
// first (part add_link, undone if the operation is), the inode is made durable, then the entry is
// made, which is the commit point. In one transaction if the inode lies at the same slot.
#include <dirent.h>
#include <sys/stat.h>

#include "magmad/ops/operations.h"
#include "magmad/ops/ops.h"

namespace magma::ops {

namespace {

void enter(Shard& shard, OpId op, const wire::LinkRequest& message, Result<Bytes> prepared) {
  auto link = prepared ? wire::decode<AddLink>(*prepared) : fail(prepared.error());
  auto dir = link ? directory_of(shard, message.dir) : fail(link.error());
  if (!dir) {
    RequestPtr request = shard.operations().abort(op);
    if (dir.error().code == Code::locked)
      return shard.retry_later(std::move(request), milliseconds(2));
    return shard.refuse(std::move(request), dir.error());
  }
  shard.put(Shard::entry_key(message.dir, message.name),
            store::EntryRow{message.ino, link->type, {}, 0});
  touch_directory(shard, message.dir, dir->row, shard.time());
  RequestPtr request = shard.operations().commit(op, {}, ApplyWhen::durable_lazily);
  tell_directory(shard, *request, message.dir, dir->row);
  if (!shard.is_near(ring::home_of(message.ino)))
    return shard.answer(std::move(request), entry_reply({message.ino, link->type, {}, 0}));
  auto row = shard.inode(message.ino);
  if (!row) return shard.refuse(std::move(request), Error{Code::io, "the linked inode is gone"});
  shard.answer(std::move(request), entry_reply(shard, message.ino, *row));
}

}  // namespace

std::optional<Code> link_error(Shard& shard, Ino ino, const std::optional<store::InodeRow>& row) {
  if (!row) return Code::stale;
  if (S_ISDIR(row->mode)) return Code::permission;
  // Without a name it can get one only while it is open: O_TMPFILE.
  Shard::OpenCount opens = shard.opens_of(ino);
  if (row->nlink == 0 && opens.readers + opens.writers == 0) return Code::not_found;
  if (row->nlink >= kLinksMax) return Code::too_many_links;
  return std::nullopt;
}

void add_link(Shard& shard, Ino ino, store::InodeRow& row, WallTime when) {
  if (row.nlink++ == 0) shard.erase(Shard::orphan_key(ino));
  row.ctime = std::max(row.ctime, when);
  shard.put_inode(ino, row);
}

void link(Shard& shard, RequestPtr request, wire::LinkRequest message) {
  if (auto error = name_error(message.name)) return shard.refuse(std::move(request), *error);
  ring::Slot home = request->head.slot;
  auto dir = directory_for_new(shard, request, message.dir, message.name);
  if (!dir) return;
  if (ring::home_of(message.ino) == home) {
    auto row = shard.inode(message.ino);
    if (auto error = link_error(shard, message.ino, row))
      return shard.refuse(std::move(request), *error);
    WallTime when = shard.time();
    add_link(shard, message.ino, *row, when);
    shard.put(Shard::entry_key(message.dir, message.name),
              store::EntryRow{message.ino, dirent_type(row->mode), {}, 0});
    touch_directory(shard, message.dir, dir->row, when);
    tell_directory(shard, *request, message.dir, dir->row);
    return shard.answer(std::move(request), entry_reply(shard, message.ino, *row));
  }
  OpId op = shard.operations().begin(home, OperationKind::link, std::move(request));
  shard.operations().hold(op, message.dir, message.name);
  AddLink part{message.ino, 0, shard.time()};
  auto prepared = [&shard, op, message](Result<Bytes> answer) {
    // Another volcano has made it durable before it answered.
    if (!answer || !shard.is_near(ring::home_of(message.ino)))
      return enter(shard, op, message, std::move(answer));
    // The entry may become durable before the inode it leads to, which lies in another database.
    auto synced = [&shard, op, message, part = std::move(*answer)](Result<void> done) mutable {
      if (!shard.operations().is_active(op)) return;
      if (!done) return enter(shard, op, message, fail(done.error()));
      enter(shard, op, message, std::move(part));
    };
    shard.metadata().sync(ring::home_of(message.ino).value % store::kDatabases,
                          shard.as_step<void>(std::move(synced)));
  };
  shard.operations().prepare(op, ring::home_of(message.ino), PartKind::add_link,
                             wire::encode(part), std::move(prepared));
}

}  // namespace magma::ops
