#include "magmad/ops/content.h"

#include <sys/stat.h>

#include <memory>

#include "magmad/ops/authority.h"
#include "magmad/ops/operations.h"
#include "magmad/ops/ops.h"

namespace magma::ops {

bool ensure_hot(Shard& shard, RequestPtr& request, const store::ContentId& id,
                std::uint64_t offset, std::uint64_t length) {
  // The callback comes inside the call if the range is hot already, else after a sync.
  struct Wait {
    bool inside = true;
    std::optional<Result<void>> answer;
    RequestPtr request;
  };
  auto wait = std::make_shared<Wait>();
  auto ready = [&shard, wait](Result<void> hot) {
    if (wait->inside) {
      wait->answer = std::move(hot);
      return;
    }
    if (!wait->request) return;
    if (hot)
      shard.rerun(std::move(wait->request));
    else
      shard.refuse(std::move(wait->request), hot.error());
  };
  shard.content().prepare_write(id, shard.version_of(id.slot), offset, length, std::move(ready));
  wait->inside = false;
  if (!wait->answer) {
    request->keep();
    wait->request = std::move(request);
    return false;
  }
  if (*wait->answer) return true;
  shard.refuse(std::move(request), wait->answer->error());
  return false;
}

namespace {

void spilled(Shard& shard, OpId op, Ino ino, const ring::Key& key, Result<Bytes> prepared) {
  auto row = prepared ? shard.inode(ino) : std::nullopt;
  if (!row) {
    RequestPtr request = shard.operations().abort(op);
    Error error = prepared ? Error{Code::stale, {}} : prepared.error();
    return shard.refuse_or_wait(std::move(request), error);
  }
  // At the home slot itself chunk 0 is the same file as the home file.
  bool same_file = key.slot() == ring::home_of(ino);
  if (row->place == store::ContentPlace::home_file && !same_file) {
    store::ContentId id{ring::home_of(ino), ino, 0};
    if (auto removed = shard.content().remove(id); !removed) shard.poison(removed.error());
    shard.erase(id.row(store::Table::chunk));
  } else if (row->place == store::ContentPlace::in_row) {
    shard.erase(Shard::inline_key(ino));
  }
  row->place = store::ContentPlace::chunks;
  row->key = key;
  shard.put_inode(ino, *row);
  RequestPtr request = shard.operations().commit(op, {}, ApplyWhen::at_once);
  shard.rerun(std::move(request));
}

// What was taken must be on stable storage before the commit: it takes the only other copy away.
void sync_taken(Shard& shard, OpId op, Ino ino, const ring::Key& key) {
  auto finish = [&shard, op, ino, key](Result<void> synced) {
    if (!shard.operations().is_active(op)) return;
    if (!synced) return spilled(shard, op, ino, key, fail(synced.error()));
    spilled(shard, op, ino, key, Bytes{});
  };
  auto content_synced = [&shard, op, key, finish](Result<void> synced) {
    if (!shard.operations().is_active(op)) return;
    if (!synced) return finish(std::move(synced));
    shard.metadata().sync(key.slot().value % store::kDatabases, shard.as_step<void>(finish));
  };
  shard.content().sync({key.slot(), ino, 0}, shard.as_step<void>(std::move(content_synced)));
}

void send_content(Shard& shard, OpId op, Ino ino, const ring::Key& key, Result<Bytes> data) {
  if (!shard.operations().is_active(op)) return;
  auto row = data ? shard.inode(ino) : std::nullopt;
  if (!row) {
    RequestPtr request = shard.operations().abort(op);
    Error error = data ? Error{Code::stale, {}} : data.error();
    return shard.refuse(std::move(request), error);
  }
  TakeContent part;
  part.ino = ino;
  part.data = std::move(*data);
  part.authority.size = row->size;
  part.authority.mtime = row->mtime;
  part.authority.ctime = row->ctime;
  part.authority.truncate_number = row->truncate_number;
  part.authority.data_version = row->data_version;
  part.authority.key = key;
  auto prepared = [&shard, op, ino, key](Result<Bytes> answer) {
    // Another volcano has made it durable before it answered.
    if (!answer || !shard.is_near(key.slot()))
      return spilled(shard, op, ino, key, std::move(answer));
    sync_taken(shard, op, ino, key);
  };
  shard.operations().prepare(op, key.slot(), PartKind::take_content, wire::encode(part),
                             std::move(prepared));
}

}  // namespace

void spill(Shard& shard, RequestPtr request, Ino ino, const ring::Key& key) {
  if (key == ring::Key{}) return shard.refuse(std::move(request), Code::malformed);
  auto row = shard.inode(ino);
  if (!row) return shard.refuse(std::move(request), Code::stale);
  ring::Slot home = ring::home_of(ino);
  OpId op = shard.operations().begin(home, OperationKind::spill, std::move(request));
  shard.operations().hold(op, ino, {});
  auto read = [&shard, op, ino, key](Result<Bytes> data) {
    send_content(shard, op, ino, key, std::move(data));
  };
  switch (row->place) {
    case store::ContentPlace::in_row:
      return read(shard.get_raw(Shard::inline_key(ino)).value_or(Bytes{}));
    case store::ContentPlace::home_file:
      return shard.content().read({home, ino, 0}, 0, row->size,
                                  shard.as_step<Bytes>(std::move(read)));
    default:
      return read(Bytes{});
  }
}

std::uint32_t without_suid(std::uint32_t mode) {
  mode &= ~static_cast<std::uint32_t>(S_ISUID);
  if ((mode & S_IXGRP) != 0) mode &= ~static_cast<std::uint32_t>(S_ISGID);
  return mode;
}

std::uint32_t without_suid(const Request& request, const store::InodeRow& row) {
  return without_suid(request.head.uid, request.head.gid, row);
}

std::uint32_t without_suid(std::uint32_t uid, std::uint32_t gid, const store::InodeRow& row) {
  std::uint32_t mode = without_suid(row.mode);
  bool is_stranger = uid != 0 && gid != row.gid;
  // The kernel asks only if something is to go.
  if (is_stranger && S_ISREG(mode)) mode &= ~static_cast<std::uint32_t>(S_ISGID);
  return mode;
}

void kill_privileges(Shard& shard, Ino ino, std::uint32_t uid, std::uint32_t gid) {
  auto row = shard.inode(ino);
  if (!row) return;
  bool has_capability = (row->xattr_kinds & wire::kXattrCapability) != 0;
  std::uint32_t mode = without_suid(uid, gid, *row);
  if (mode == row->mode && !has_capability) return;
  row->mode = mode;
  drop_capability(shard, ino, *row);
  shard.put_inode(ino, *row);
}

void kill_privileges(Shard& shard, const Request& request, Ino ino) {
  const ring::Slot home = ring::home_of(ino);
  if (shard.is_near(home)) return kill_privileges(shard, ino, request.head.uid, request.head.gid);
  shard.operations().commit_now(
      request.head.slot, OperationKind::inode,
      {{home, PartKind::kill_privileges, false, 0,
        wire::encode(KillPrivileges{ino, request.head.uid, request.head.gid})}},
      ApplyWhen::at_once);
}

namespace {

void resize_in_row(Shard& shard, Ino ino, store::InodeRow& row, std::uint64_t size) {
  if (size == 0) {
    if (row.place == store::ContentPlace::in_row) shard.erase(Shard::inline_key(ino));
    row.place = store::ContentPlace::none;
    return;
  }
  Bytes data;
  if (row.place == store::ContentPlace::in_row)
    data = shard.get_raw(Shard::inline_key(ino)).value_or(Bytes{});
  data.resize(size);
  shard.put_raw(Shard::inline_key(ino), data);
  row.place = store::ContentPlace::in_row;
}

// False: the request was taken.
bool resize_home_file(Shard& shard, RequestPtr& request, Ino ino, store::InodeRow& row,
                      std::uint64_t size) {
  store::ContentId id{ring::home_of(ino), ino, 0};
  if (row.place == store::ContentPlace::in_row) {
    auto data = shard.get_raw(Shard::inline_key(ino)).value_or(Bytes{});
    if (!ensure_hot(shard, request, id, 0, data.size())) return false;
    auto written = shard.content().write(id, shard.version_of(id.slot), 0, data, {});
    if (!written) {
      shard.refuse(std::move(request), written.error());
      return false;
    }
    shard.erase(Shard::inline_key(ino));
  } else if (row.place == store::ContentPlace::home_file && size == 0) {
    if (auto removed = shard.content().remove(id); !removed) shard.poison(removed.error());
    shard.erase(id.row(store::Table::chunk));
    row.place = store::ContentPlace::none;
    return true;
  } else if (row.place == store::ContentPlace::home_file) {
    // Bytes beyond the cut share a page with bytes that stay: that page's range is written.
    if (!ensure_hot(shard, request, id, 0, std::max<std::uint64_t>(1, std::min(row.size, size))))
      return false;
    auto cut = shard.content().truncate(id, shard.version_of(id.slot), size);
    if (!cut) {
      shard.refuse(std::move(request), cut.error());
      return false;
    }
  }
  row.place = store::ContentPlace::home_file;
  shard.put(id.row(store::Table::chunk), store::ChunkRow{size, row.truncate_number});
  return true;
}

}  // namespace

Resize set_size(Shard& shard, RequestPtr& request, Ino ino, store::InodeRow& row,
                std::uint64_t size, const ring::Key& key_for_chunks, WallTime when) {
  if (row.place == store::ContentPlace::chunks) {
    if (shard.is_locked(ino, kContentLockName)) {
      shard.park(std::move(request), ino, kContentLockName);
      return Resize::taken;
    }
    if (!shard.is_near(row.key->slot())) {
      resize_elsewhere(shard, *request, {ino, *row.key, size, false, when});
      row.size = size;
      row.mtime = when;
      row.ctime = std::max(row.ctime, when);
      return Resize::done;
    }
    auto authority = authority_of(shard, ino, *row.key);
    if (!authority) {
      shard.refuse(std::move(request), Error{Code::io, "the size authority's row is missing"});
      return Resize::taken;
    }
    truncate_content(shard, ino, *authority, size, when);
    row.truncate_number = authority->truncate_number;
    row.data_version = authority->data_version;
  } else if (size > shard.config().small_file_bytes_max) {
    spill(shard, std::move(request), ino, key_for_chunks);
    return Resize::taken;
  } else {
    if (row.place != store::ContentPlace::home_file && size <= Shard::kInlineBytesMax)
      resize_in_row(shard, ino, row, size);
    else if (!resize_home_file(shard, request, ino, row, size))
      return Resize::taken;
    ++row.truncate_number;
    ++row.data_version;
  }
  row.size = size;
  row.mtime = when;
  row.ctime = std::max(row.ctime, when);
  return Resize::done;
}

}  // namespace magma::ops
