#include "magmad/ops/parts.h"

#include <dirent.h>
#include <sys/stat.h>

#include <memory>

#include "libmagma/base/check.h"
#include "libmagma/crypto/path_hash.h"
#include "magmad/ops/acl.h"
#include "magmad/ops/authority.h"
#include "magmad/ops/content.h"
#include "magmad/ops/operations.h"
#include "magmad/ops/ops.h"
#include "magmad/shard.h"

namespace magma::ops {

namespace {

using Done = UniqueFunction<void(Result<Prepared>)>;

// Runs `again` when (ino, name) is free if this operation is older than the holder, else answers
// `locked`.
template <class Again>
void wait_or_die(Shard& shard, PartPlace place, Ino ino, std::string_view name, Done done,
                 Again again) {
  Shard::Lock* held = shard.find_lock(ino, name);
  MAGMA_CHECK(held != nullptr);
  if (held->op < place.op) return done(fail(Code::locked));
  auto shared = std::make_shared<Done>(std::move(done));
  held->waiters.push_back([shared, again]() mutable { again(std::move(*shared)); });
}

// ---- make_directory

store::InodeRow new_directory(const MakeDirectory& body) {
  store::InodeRow row;
  row.mode = body.mode;
  row.uid = body.uid;
  row.gid = body.gid;
  row.nlink = 2;
  row.size = 4096;
  row.atime = row.mtime = row.ctime = row.btime = body.when;
  row.key = body.key;
  row.parent = body.parent;
  return row;
}

void prepare_make_directory(Shard& shard, PartPlace place, MakeDirectory body, Done done) {
  if (shard.is_space_short()) return done(fail(Code::no_space));
  body.ino = shard.new_ino(place.slot);
  store::InodeRow row = new_directory(body);
  row.state = store::InodeState::pending;
  row.op = place.op;
  put_inherited(shard, body.ino, row, {body.acl_access, body.acl_default, row.mode});
  shard.put_inode(body.ino, row);
  Bytes record = wire::encode(body);
  done(Prepared{record, record});
}

// ---- remove_directory

// An entry that another operation holds is on its way in or out: it does not count.
bool has_entries(Shard& shard, Ino dir, OpId asker) {
  bool found = false;
  auto visit = [&](const store::MetadataStore::ScanRow& row) {
    const Shard::Lock* held = shard.find_lock(dir, row.c);
    found = held == nullptr || held->op == asker;
    return !found;
  };
  store::RowKey from{store::Table::entry, dir.value, 0, {}};
  store::RowKey to{store::Table::entry, dir.value, ~std::uint64_t{0} >> 1,
                   std::string(wire::kNameBytesMax + 1, '\xff')};
  if (auto done = shard.metadata().scan(from, to, visit); !done) shard.poison(done.error());
  return found;
}

void prepare_remove_directory(Shard& shard, PartPlace place, RemoveDirectory body, Done done) {
  auto row = shard.inode(body.ino);
  if (!row) return done(fail(Code::not_found));
  if (!S_ISDIR(row->mode)) return done(fail(Code::not_a_directory));
  if (shard.is_locked(body.ino)) {
    auto again = [&shard, place, body](Done later) {
      prepare_remove_directory(shard, place, body, std::move(later));
    };
    return wait_or_die(shard, place, body.ino, {}, std::move(done), again);
  }
  if (has_entries(shard, body.ino, place.op)) return done(fail(Code::not_empty));
  // Some entry is being made or taken away by an operation under way: asked again when it ended.
  if (shard.has_name_locks(body.ino)) return done(fail(Code::locked));
  shard.lock(body.ino, {}, place.op);
  done(Prepared{wire::encode(body), {}});
}

// ---- rename_source

void prepare_rename_source(Shard& shard, PartPlace place, RenameSource body, Done done) {
  if (shard.is_locked(body.dir) || shard.is_locked(body.dir, body.name)) {
    bool whole = shard.is_locked(body.dir);
    auto again = [&shard, place, body](Done later) {
      prepare_rename_source(shard, place, body, std::move(later));
    };
    return wait_or_die(shard, place, body.dir, whole ? std::string_view{} : body.name,
                       std::move(done), again);
  }
  auto dir = directory_of(shard, body.dir);
  if (!dir) return done(fail(dir.error()));
  auto entry = shard.get<store::EntryRow>(Shard::entry_key(body.dir, body.name));
  if (!entry) return done(fail(Code::not_found));
  body.entry = *entry;
  shard.lock(body.dir, body.name, place.op);
  // From now on nobody is told of it; who was, knows better before the rename is answered.
  if (shard.is_far(place.slot, ring::coordinator_of(place.op))) {
    shard.will_change(body.dir);
    shard.will_change(body.dir, body.name);
  }
  Bytes record = wire::encode(body);
  done(Prepared{record, record});
}

void apply_rename_source(Shard& shard, PartPlace place, const RenameSource& body) {
  auto entry = shard.get<store::EntryRow>(Shard::entry_key(body.dir, body.name));
  if (entry && entry->ino == body.entry.ino) {
    if (body.instead)
      shard.put(Shard::entry_key(body.dir, body.name), *body.instead);
    else
      shard.erase(Shard::entry_key(body.dir, body.name));
    if (auto row = shard.inode(body.dir)) {
      if (entry->type == DT_DIR) --row->nlink;
      if (body.instead && body.instead->type == DT_DIR) ++row->nlink;
      touch_directory(shard, body.dir, *row, body.when);
    }
  }
  shard.unlock(body.dir, body.name, place.op);
}

// ---- add_link

void prepare_add_link(Shard& shard, PartPlace place, AddLink body, Done done) {
  if (shard.is_locked(body.ino)) {
    auto again = [&shard, place, body](Done later) {
      prepare_add_link(shard, place, body, std::move(later));
    };
    return wait_or_die(shard, place, body.ino, {}, std::move(done), again);
  }
  auto row = shard.inode(body.ino);
  if (auto error = link_error(shard, body.ino, row)) return done(fail(*error));
  body.type = dirent_type(row->mode);
  add_link(shard, body.ino, *row, body.when);
  Bytes record = wire::encode(body);
  done(Prepared{record, record});
}

// ---- drop_tree

void drop_directory(Shard& shard, Ino dir) {
  auto row = shard.inode(dir);
  if (!row) return;
  erase_xattrs(shard, dir, *row);
  shard.drop_file_locks(dir);
  shard.forget_names(dir);
  shard.erase(Shard::inode_key(dir));
}

// A directory that a power cut has undone (its entry was lost, its object was not) may have got
// entries in the meantime: they were never synced, for that would have synced the directory's own
// entry, and they go with it. So do those of a directory whose removal was durable and theirs not.
void drop_tree(Shard& shard, ring::Slot slot, Ino dir) {
  struct Found {
    std::string name;
    store::EntryRow row;
  };
  std::vector<Found> entries;
  auto visit = [&](const store::MetadataStore::ScanRow& row) {
    if (auto entry = wire::decode<store::EntryRow>(row.image))
      entries.push_back({std::string(row.c), *entry});
    return true;
  };
  store::RowKey from{store::Table::entry, dir.value, 0, {}};
  store::RowKey to{store::Table::entry, dir.value, ~std::uint64_t{0} >> 1,
                   std::string(wire::kNameBytesMax + 1, '\xff')};
  if (auto done = shard.metadata().scan(from, to, visit); !done) shard.poison(done.error());
  std::vector<PartSpec> parts;
  for (const Found& entry : entries) {
    ring::Slot home = ring::home_of(entry.row.ino);
    shard.erase(Shard::entry_key(dir, entry.name));
    if (entry.row.type == DT_DIR) {
      parts.push_back({home, PartKind::drop_tree, false, 0,
                       wire::encode(RemoveDirectory{entry.row.ino})});
    } else if (home != slot) {
      parts.push_back({home, PartKind::drop_link, false, 0,
                       wire::encode(DropLink{entry.row.ino, shard.time()})});
    } else if (auto row = shard.inode(entry.row.ino)) {
      drop_link(shard, entry.row.ino, std::move(*row), shard.time());
    }
  }
  if (!parts.empty())
    shard.operations().commit_now(slot, OperationKind::drop_tree, std::move(parts),
                                  ApplyWhen::durable_lazily);
  drop_directory(shard, dir);
}

// ---- take_content

void prepare_take_content(Shard& shard, PartPlace place, TakeContent body, Done done) {
  if (shard.is_space_short()) return done(fail(Code::no_space));
  store::ContentId id{place.slot, body.ino, 0};
  auto state = std::make_shared<std::pair<TakeContent, Done>>(std::move(body), std::move(done));
  auto ready = [&shard, id, state, place](Result<void> hot) {
    auto& [content, finish] = *state;
    if (!hot) return finish(fail(hot.error()));
    if (!content.data.empty()) {
      auto written = shard.content().write(id, shard.version_of(place.slot), 0, content.data, {});
      if (!written) return finish(fail(written.error()));
    }
    shard.put(id.row(store::Table::chunk),
              store::ChunkRow{content.data.size(), content.authority.truncate_number});
    content.authority.chunks = {{0, 0}};
    put_authority(shard, content.ino, content.authority);
    content.data.clear();
    finish(Prepared{wire::encode(content), {}});
  };
  std::uint64_t length = std::max<std::uint64_t>(1, state->first.data.size());
  shard.content().prepare_write(id, shard.version_of(place.slot), 0, length, std::move(ready));
}

// ---- make_chunk, put_bytes

void prepare_make_chunk(Shard& shard, PartPlace place, const MakeChunk& body, Done done) {
  if (shard.is_space_short()) return done(fail(Code::no_space));
  store::ContentId id{place.slot, body.ino, body.chunk};
  auto key = id.row(store::Table::chunk);
  if (!shard.get_raw(key)) shard.put(key, store::ChunkRow{0, body.truncate_number});
  done(Prepared{wire::encode(body), {}});
}

// Somebody else may have made it as well, and written to it.
void abort_make_chunk(Shard& shard, PartPlace place, const MakeChunk& body) {
  store::ContentId id{place.slot, body.ino, body.chunk};
  auto row = shard.get<store::ChunkRow>(id.row(store::Table::chunk));
  if (row && row->length == 0) remove_chunk(shard, id);
}

void prepare_put_bytes(Shard& shard, PartPlace place, PutBytes body, Done done) {
  if (shard.is_space_short()) return done(fail(Code::no_space));
  store::ContentId id{place.slot, body.ino, body.chunk};
  const std::uint64_t start = body.start, length = std::max<std::size_t>(1, body.data.size());
  auto state = std::make_shared<std::pair<PutBytes, Done>>(std::move(body), std::move(done));
  auto ready = [&shard, id, state](Result<void> hot) {
    auto& [bytes, finish] = *state;
    if (!hot) return finish(fail(hot.error()));
    auto row = shard.get<store::ChunkRow>(id.row(store::Table::chunk));
    if (!row) row.emplace(store::ChunkRow{0, bytes.truncate_number});
    auto written =
        shard.content().write(id, shard.version_of(id.slot), bytes.start, bytes.data, {});
    if (!written) return finish(fail(written.error()));
    bytes.length_before = row->length;
    row->length = std::max<std::uint64_t>(row->length, bytes.start + bytes.data.size());
    shard.put(id.row(store::Table::chunk), *row);
    bytes.data.clear();
    Bytes record = wire::encode(bytes);
    finish(Prepared{record, record});
  };
  shard.content().prepare_write(id, shard.version_of(place.slot), start, length,
                                std::move(ready));
}

// What lies behind the file's end must be zeros when the file grows over it.
void abort_put_bytes(Shard& shard, PartPlace place, const PutBytes& body) {
  store::ContentId id{place.slot, body.ino, body.chunk};
  auto row = shard.get<store::ChunkRow>(id.row(store::Table::chunk));
  if (!row || row->length <= body.length_before) return;
  row->length = body.length_before;
  auto cut = shard.content().truncate(id, shard.version_of(id.slot), row->length);
  if (!cut) shard.poison(cut.error());
  shard.put(id.row(store::Table::chunk), *row);
}

// ---- rename_lock

void prepare_rename_lock(Shard& shard, PartPlace place, Done done) {
  // Taken before any other lock (ops/rename.cc), so waiting for it cannot close a circle.
  if (Shard::Lock* held = shard.find_lock(Ino(0), kRenameLockName)) {
    auto shared = std::make_shared<Done>(std::move(done));
    held->waiters.push_back(
        [&shard, place, shared] { prepare_rename_lock(shard, place, std::move(*shared)); });
    return;
  }
  shard.lock(Ino(0), kRenameLockName, place.op);
  done(Prepared{});
}

void apply_drop_authority(Shard& shard, PartPlace place, const DropAuthority& body) {
  store::RowKey key{store::Table::authority, ring::with_counter(place.slot, 0), body.ino.value, {}};
  auto row = shard.get<store::AuthorityRow>(key);
  if (!row) return;
  std::vector<PartSpec> parts;
  for (std::uint32_t chunk : chunks_from(row->chunks, 0))
    parts.push_back({crypto::key_of_chunk(row->key, chunk).slot(), PartKind::drop_chunk, false, 0,
                     wire::encode(DropChunk{body.ino, chunk})});
  shard.erase(key);
  if (!parts.empty())
    shard.operations().commit_now(place.slot, OperationKind::drop_chunks, std::move(parts),
                                  ApplyWhen::durable_lazily);
}

void apply_cut_chunk(Shard& shard, PartPlace place, const CutChunk& body) {
  store::ContentId id{place.slot, body.ino, body.chunk};
  auto row = shard.get<store::ChunkRow>(id.row(store::Table::chunk));
  if (!row || row->truncate_number >= body.truncate_number) return;
  row->truncate_number = body.truncate_number;
  if (row->length > body.length) {
    row->length = body.length;
    auto cut = shard.content().truncate(id, shard.version_of(place.slot), body.length);
    if (!cut) shard.poison(cut.error());
  }
  shard.put(id.row(store::Table::chunk), *row);
}

void apply_touch_inode(Shard& shard, const TouchInode& body) {
  auto row = shard.inode(body.ino);
  if (!row || row->ctime >= body.when) return;
  row->ctime = body.when;
  shard.put_inode(body.ino, *row);
}

void apply_resize(Shard& shard, const ResizeContent& body) {
  auto authority = authority_of(shard, body.ino, body.key);
  if (!authority || (body.only_grows && authority->size >= body.size)) return;
  truncate_content(shard, body.ino, *authority, body.size, body.when);
}

void apply_set_content_time(Shard& shard, const SetContentTime& body) {
  auto authority = authority_of(shard, body.ino, body.key);
  if (!authority) return;
  authority->mtime = body.mtime;
  put_authority(shard, body.ino, *authority);
}

void apply_drop_link(Shard& shard, const DropLink& body) {
  if (auto row = shard.inode(body.ino)) drop_link(shard, body.ino, *row, body.when, true);
}

// Decodes a record; a malformed one poisons the batch: what is stored must be readable.
template <class T>
std::optional<T> record_as(Shard& shard, ByteSpan record) {
  auto body = wire::decode<T>(record);
  if (body) return std::move(*body);
  shard.poison(Error{Code::io, "malformed part record"});
  return std::nullopt;
}

template <class T>
std::optional<T> body_as(ByteSpan raw, Done& done) {
  auto body = wire::decode<T>(raw);
  if (body) return std::move(*body);
  done(fail(Code::malformed));
  return std::nullopt;
}

}  // namespace

void prepare_part(Shard& shard, PartPlace place, PartKind kind, Bytes raw, Done done) {
  switch (kind) {
    case PartKind::make_directory:
      if (auto body = body_as<MakeDirectory>(raw, done))
        prepare_make_directory(shard, place, *body, std::move(done));
      return;
    case PartKind::remove_directory:
      if (auto body = body_as<RemoveDirectory>(raw, done))
        prepare_remove_directory(shard, place, *body, std::move(done));
      return;
    case PartKind::rename_source:
      if (auto body = body_as<RenameSource>(raw, done))
        prepare_rename_source(shard, place, std::move(*body), std::move(done));
      return;
    case PartKind::take_content:
      if (auto body = body_as<TakeContent>(raw, done))
        prepare_take_content(shard, place, std::move(*body), std::move(done));
      return;
    case PartKind::add_link:
      if (auto body = body_as<AddLink>(raw, done))
        prepare_add_link(shard, place, *body, std::move(done));
      return;
    case PartKind::rename_lock:
      return prepare_rename_lock(shard, place, std::move(done));
    case PartKind::make_chunk:
      if (auto body = body_as<MakeChunk>(raw, done))
        prepare_make_chunk(shard, place, *body, std::move(done));
      return;
    case PartKind::put_bytes:
      if (auto body = body_as<PutBytes>(raw, done))
        prepare_put_bytes(shard, place, std::move(*body), std::move(done));
      return;
    case PartKind::drop_link:
    case PartKind::drop_authority:
    case PartKind::cut_chunk:
    case PartKind::drop_chunk:
    case PartKind::set_parent:
    case PartKind::drop_tree:
    case PartKind::touch_inode:
    case PartKind::resize:
    case PartKind::set_content_time:
    case PartKind::kill_privileges:
      break;
  }
  done(fail(Code::malformed));
}

void abort_part(Shard& shard, PartPlace place, PartKind kind, ByteSpan record) {
  switch (kind) {
    case PartKind::make_directory:
      if (auto body = record_as<MakeDirectory>(shard, record))
        drop_tree(shard, place.slot, body->ino);
      return;
    case PartKind::remove_directory:
      if (auto body = record_as<RemoveDirectory>(shard, record))
        shard.unlock(body->ino, {}, place.op);
      return;
    case PartKind::rename_source:
      if (auto body = record_as<RenameSource>(shard, record))
        shard.unlock(body->dir, body->name, place.op);
      return;
    case PartKind::take_content:
      if (auto body = record_as<TakeContent>(shard, record)) {
        // At the file's own home, chunk 0 may be the home file it still lives in.
        auto row = place.slot == ring::home_of(body->ino) ? shard.inode(body->ino) : std::nullopt;
        if (!row || row->place != store::ContentPlace::home_file)
          remove_chunk(shard, {place.slot, body->ino, 0});
        shard.erase(authority_key(body->ino, body->authority.key));
      }
      return;
    case PartKind::add_link:
      if (auto body = record_as<AddLink>(shard, record))
        if (auto row = shard.inode(body->ino))
          drop_link(shard, body->ino, std::move(*row), shard.time());
      return;
    case PartKind::rename_lock:
      return shard.unlock(Ino(0), kRenameLockName, place.op);
    case PartKind::make_chunk:
      if (auto body = record_as<MakeChunk>(shard, record)) abort_make_chunk(shard, place, *body);
      return;
    case PartKind::put_bytes:
      if (auto body = record_as<PutBytes>(shard, record)) abort_put_bytes(shard, place, *body);
      return;
    case PartKind::drop_link:
    case PartKind::drop_authority:
    case PartKind::cut_chunk:
    case PartKind::drop_chunk:
    case PartKind::set_parent:
    case PartKind::drop_tree:
    case PartKind::touch_inode:
    case PartKind::resize:
    case PartKind::set_content_time:
    case PartKind::kill_privileges:
      return;  // never prepared
  }
}

void apply_part(Shard& shard, PartPlace place, PartKind kind, ByteSpan record, bool is_redo) {
  switch (kind) {
    case PartKind::make_directory: {
      auto body = record_as<MakeDirectory>(shard, record);
      if (!body || body->ino == Ino{}) return;
      auto row = shard.inode(body->ino);
      if (row && (row->state != store::InodeState::pending || row->op != place.op)) return;
      if (!row && !is_redo) return;  // removed again meanwhile
      if (!row) {
        row = new_directory(*body);
        put_inherited(shard, body->ino, *row, {body->acl_access, body->acl_default, row->mode});
      }
      row->state = store::InodeState::alive;
      row->op = OpId{};
      shard.put_inode(body->ino, *row);
      return;
    }
    case PartKind::remove_directory:
      if (auto body = record_as<RemoveDirectory>(shard, record)) {
        // A power cut that took the part may have brought entries back: they had been removed.
        if (is_redo)
          drop_tree(shard, place.slot, body->ino);
        else
          drop_directory(shard, body->ino);
        shard.unlock(body->ino, {}, place.op);
      }
      return;
    case PartKind::rename_source:
      if (auto body = record_as<RenameSource>(shard, record))
        apply_rename_source(shard, place, *body);
      return;
    case PartKind::take_content:
    case PartKind::make_chunk:
    case PartKind::put_bytes:
      return;  // all was done when it was prepared
    case PartKind::touch_inode:
      if (auto body = record_as<TouchInode>(shard, record)) apply_touch_inode(shard, *body);
      return;
    case PartKind::resize:
      if (auto body = record_as<ResizeContent>(shard, record)) apply_resize(shard, *body);
      return;
    case PartKind::set_content_time:
      if (auto body = record_as<SetContentTime>(shard, record))
        apply_set_content_time(shard, *body);
      return;
    case PartKind::kill_privileges:
      if (auto body = record_as<KillPrivileges>(shard, record))
        kill_privileges(shard, body->ino, body->uid, body->gid);
      return;
    case PartKind::add_link:
      // A power cut took what was prepared, the row's new count with it.
      if (auto body = record_as<AddLink>(shard, record); body && is_redo)
        if (auto row = shard.inode(body->ino)) add_link(shard, body->ino, *row, body->when);
      return;
    case PartKind::rename_lock:
      return shard.unlock(Ino(0), kRenameLockName, place.op);
    case PartKind::drop_link:
      if (auto body = record_as<DropLink>(shard, record)) apply_drop_link(shard, *body);
      return;
    case PartKind::drop_authority:
      if (auto body = record_as<DropAuthority>(shard, record))
        apply_drop_authority(shard, place, *body);
      return;
    case PartKind::cut_chunk:
      if (auto body = record_as<CutChunk>(shard, record)) apply_cut_chunk(shard, place, *body);
      return;
    case PartKind::drop_chunk:
      if (auto body = record_as<DropChunk>(shard, record)) {
        store::ContentId id{place.slot, body->ino, body->chunk};
        auto row = shard.get<store::ChunkRow>(id.row(store::Table::chunk));
        bool is_newer = row && body->truncate_number != DropChunk::kForGood &&
                        row->truncate_number >= body->truncate_number;
        if (!is_newer) remove_chunk(shard, id);
      }
      return;
    case PartKind::drop_tree:
      if (auto body = record_as<RemoveDirectory>(shard, record))
        drop_tree(shard, place.slot, body->ino);
      return;
    case PartKind::set_parent: {
      auto body = record_as<SetParent>(shard, record);
      auto row = body ? shard.inode(body->dir) : std::nullopt;
      if (!row) return;
      row->parent = body->parent;
      row->ctime = std::max(row->ctime, body->when);
      shard.put_inode(body->dir, *row);
      return;
    }
  }
}

namespace {

// What a prepared part holds: a directory, an entry of one, or the rename lock.
std::optional<LockKey> lock_of(Shard& shard, PartKind kind, ByteSpan record) {
  switch (kind) {
    case PartKind::remove_directory:
      if (auto body = record_as<RemoveDirectory>(shard, record)) return LockKey{body->ino, {}};
      return std::nullopt;
    case PartKind::rename_source:
      if (auto body = record_as<RenameSource>(shard, record))
        return LockKey{body->dir, body->name};
      return std::nullopt;
    case PartKind::rename_lock:
      return LockKey{Ino(0), std::string(kRenameLockName)};
    default:
      return std::nullopt;
  }
}

}  // namespace

void restore_part(Shard& shard, PartPlace place, PartKind kind, ByteSpan record) {
  const auto key = lock_of(shard, kind, record);
  if (key && !shard.is_locked(key->ino, key->name)) shard.lock(key->ino, key->name, place.op);
}

void release_part(Shard& shard, PartPlace place, PartKind kind, ByteSpan record) {
  if (const auto key = lock_of(shard, kind, record))
    shard.unlock(key->ino, key->name, place.op);
}

bool is_answer_record(PartKind kind) {
  return kind == PartKind::make_directory || kind == PartKind::rename_source ||
         kind == PartKind::add_link || kind == PartKind::put_bytes;
}

// The entry that is taken away may have been made, or its directory, by an intent of that slot.
bool must_be_durable(PartKind kind) {
  return kind == PartKind::add_link || kind == PartKind::take_content ||
         kind == PartKind::rename_source;
}

std::optional<store::ContentId> content_to_sync(PartKind kind, ring::Slot slot, ByteSpan record) {
  if (kind != PartKind::take_content) return std::nullopt;
  auto body = wire::decode<TakeContent>(record);
  return body ? std::optional(store::ContentId{slot, body->ino, 0}) : std::nullopt;
}

std::optional<Ino> inode_being_cut(PartKind kind, ByteSpan raw) {
  if (kind != PartKind::resize) return std::nullopt;
  auto body = wire::decode<ResizeContent>(raw);
  return body ? std::optional(body->ino) : std::nullopt;
}

bool must_remember(PartKind kind) {
  return kind == PartKind::make_directory || kind == PartKind::rename_source ||
         kind == PartKind::drop_link || kind == PartKind::set_parent ||
         kind == PartKind::add_link || kind == PartKind::resize ||
         kind == PartKind::set_content_time;
}

}  // namespace magma::ops
