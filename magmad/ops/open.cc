// open(inode), keep and release: opens are counted per session, so that an unlinked file lives
// until its last close.
#include <sys/stat.h>

#include "libmagma/base/relatime.h"
#include "magmad/ops/authority.h"
#include "magmad/ops/content.h"
#include "magmad/ops/ops.h"

namespace magma::ops {

namespace {

// The bytes that go with the answer: of a file in its row, if they are wanted.
Bytes wanted_content(Shard& shard, const wire::OpenRequest& message, const store::InodeRow& row) {
  if (!message.content_unless || *message.content_unless == row.data_version) return {};
  if (message.for_write || row.place != store::ContentPlace::in_row) return {};
  auto whole = shard.get_raw(Shard::inline_key(message.ino));
  // Missing or short: who reads it is told.
  return whole && whole->size() == row.size ? std::move(*whole) : Bytes{};
}

}  // namespace

void open(Shard& shard, RequestPtr request, wire::OpenRequest message) {
  if (shard.is_locked(message.ino)) return shard.park(std::move(request), message.ino);
  auto row = shard.inode(message.ino);
  if (!row) return shard.refuse(std::move(request), Code::stale);
  bool is_regular = S_ISREG(row->mode);
  if (!is_regular && message.for_write)
    return shard.refuse(std::move(request),
                        S_ISDIR(row->mode) ? Code::is_a_directory : Code::invalid);
  bool changed = false;
  if (message.truncate && is_regular) {
    if (set_size(shard, request, message.ino, *row, 0, {}, shard.time()) == Resize::taken) return;
    drop_capability(shard, message.ino, *row);
    changed = true;
  }
  shard.add_open(request->head.session, message.ino, message.for_write);
  if (changed) shard.put_inode(message.ino, *row);
  if (message.for_write) shard.let_delay(*request, message.ino);
  Bytes content = wanted_content(shard, message, *row);
  const wire::AttrReply reply{attr_of(shard, message.ino, *row)};
  shard.answer_raw(std::move(request), wire::encode(reply), std::move(content));
}

// Tells nothing of the file and waits for nobody: a change of it may be waiting for this.
void keep(Shard& shard, RequestPtr request, wire::KeepRequest message) {
  if (!shard.has(Shard::inode_key(message.ino)))
    return shard.refuse(std::move(request), Code::stale);
  shard.add_open(request->head.session, message.ino, false);
  shard.answer(std::move(request), wire::EmptyReply{});
}

namespace {

// The access time follows as relatime of mount(8): when it is older than a change, or than a day.
// Gives what it is then.
WallTime touch_access(Shard& shard, Ino ino) {
  auto row = shard.inode(ino);
  if (!row) return {};
  store::InodeRow known = with_authority(shard, ino, *row);
  WallTime when = shard.time();
  if (!S_ISREG(row->mode) || known.size == 0 ||
      !is_access_time_due(row->atime, known.mtime, known.ctime, when))
    return row->atime;
  row->atime = when;
  shard.put_inode(ino, *row);
  return when;
}

}  // namespace

void release(Shard& shard, RequestPtr request, wire::ReleaseRequest message) {
  wire::ReleaseReply reply;
  if (message.was_read) reply.atime = touch_access(shard, message.ino);
  const SessionId session = request->head.session;
  if (!message.was_untold && shard.drop_open(session, message.ino, message.for_write)) {
    Shard::OpenCount left = shard.opens_of(message.ino);
    bool last = left.readers + left.writers == 0;
    if (last || (message.for_write && left.writers == 0))
      after_last_open(shard, message.ino, session);
  }
  shard.answer(std::move(request), reply);
}

}  // namespace magma::ops
