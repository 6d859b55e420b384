#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>

#include "libmagma/crypto/path_hash.h"
#include "magmad/ops/authority.h"
#include "magmad/ops/content.h"
#include "magmad/ops/operations.h"
#include "magmad/ops/ops.h"

namespace magma::ops {

Result<Directory> directory_of(Shard& shard, Ino ino) {
  auto row = shard.inode(ino);
  if (!row) return fail(Code::not_found);
  if (!S_ISDIR(row->mode)) return fail(Code::not_a_directory);
  return Directory{ino, std::move(*row)};
}

std::uint8_t dirent_type(std::uint32_t mode) { return static_cast<std::uint8_t>(IFTODT(mode)); }

namespace {

constexpr Duration kLinger = seconds(1);

// Chunk files asked for their blocks by one stat; of a file with more, whole chunks are counted.
constexpr std::size_t kChunksAskedMax = 64;

// 512-byte units: what the content takes up on this volcano's disk.
std::uint64_t blocks_of(Shard& shard, Ino ino, const store::InodeRow& row) {
  if (row.place == store::ContentPlace::chunks && row.key) {
    if (!shard.is_near(row.key->slot())) return 0;
    auto authority = authority_of(shard, ino, *row.key);
    return authority ? content_blocks(shard, ino, *authority) : 0;
  }
  if (S_ISDIR(row.mode)) return 8;
  if (S_ISREG(row.mode)) return (row.size + store::kPageBytes - 1) / store::kPageBytes * 8;
  return 0;
}

}  // namespace

std::uint64_t content_blocks(Shard& shard, Ino ino, const store::AuthorityRow& authority) {
  std::uint64_t bytes = 0;
  auto chunks = chunks_from(authority.chunks, 0);
  // As for many, for those of other volcanoes: they are not asked.
  if (chunks.size() <= kChunksAskedMax && is_content_near(shard, authority)) {
    for (std::uint32_t chunk : chunks) {
      store::ContentId id{crypto::key_of_chunk(authority.key, chunk).slot(), ino, chunk};
      // A cut may be under way: what it takes no longer counts.
      std::uint64_t start = std::uint64_t{chunk} * store::kChunkBytes;
      std::uint64_t left = authority.size > start ? authority.size - start : 0;
      left = (left + store::kPageBytes - 1) / store::kPageBytes * store::kPageBytes;
      if (auto there = shard.content().allocated_bytes(id)) bytes += std::min(*there, left);
    }
    return (bytes + 511) / 512;
  }
  for (const auto& run : authority.chunks) {
    std::uint64_t start = std::uint64_t{run.first} * store::kChunkBytes;
    std::uint64_t end = (std::uint64_t{run.last} + 1) * store::kChunkBytes;
    if (start < authority.size) bytes += std::min(end, authority.size) - start;
  }
  return (bytes + 511) / 512;
}

wire::Attr attr_of(Shard& shard, Ino ino, const store::InodeRow& stored) {
  bool has_authority = stored.place == store::ContentPlace::chunks;
  const bool is_partial =
      has_authority && stored.key && !shard.is_near(stored.key->slot());
  store::InodeRow known;
  if (has_authority) known = with_authority(shard, ino, stored);
  const store::InodeRow& row = has_authority ? known : stored;
  shard.told(ino, Tokens::Of::flare);
  wire::Attr attr;
  attr.ino = ino;
  attr.mode = row.mode;
  attr.nlink = row.nlink;
  attr.uid = row.uid;
  attr.gid = row.gid;
  attr.rdev = row.rdev;
  attr.size = row.size;
  attr.blocks = blocks_of(shard, ino, row);
  attr.atime = row.atime;
  attr.mtime = row.mtime;
  attr.ctime = row.ctime;
  attr.btime = row.btime;
  attr.data_version = row.data_version;
  attr.xattr_kinds = row.xattr_kinds;
  attr.placement = {row.place == store::ContentPlace::chunks, row.key, row.truncate_number, 0};
  attr.is_partial = is_partial;
  return attr;
}

wire::EntryReply entry_reply(const store::EntryRow& entry) {
  wire::EntryReply reply;
  reply.ino = entry.ino;
  reply.type = entry.type;
  reply.key = entry.key;
  return reply;
}

wire::EntryReply entry_reply(Shard& shard, Ino ino, const store::InodeRow& row) {
  return {ino, dirent_type(row.mode), row.key, attr_of(shard, ino, row)};
}

std::optional<Directory> directory_for_new(Shard& shard, RequestPtr& request, Ino ino,
                                           std::string_view name) {
  for (std::string_view locked : {std::string_view{}, name})
    if (shard.is_locked(ino, locked)) {
      shard.park(std::move(request), ino, locked);
      return std::nullopt;
    }
  auto dir = directory_of(shard, ino);
  std::optional<Code> error;
  if (!dir)
    error = dir.error().code;
  else if (shard.get_raw(Shard::entry_key(ino, name)))
    error = Code::exists;
  else if (shard.is_space_short())
    error = Code::no_space;
  if (!error) return std::move(*dir);
  if (*error == Code::no_space)
    shard.refuse_for_space(std::move(request));
  else
    shard.refuse(std::move(request), *error);
  return std::nullopt;
}

store::InodeRow new_inode(const Request& request, const store::InodeRow& parent,
                          std::uint32_t mode, WallTime when) {
  store::InodeRow row;
  row.mode = mode;
  row.uid = request.head.uid;
  row.gid = request.head.gid;
  if ((parent.mode & S_ISGID) != 0) {
    row.gid = parent.gid;
    if (S_ISDIR(mode)) row.mode |= S_ISGID;
  }
  row.nlink = S_ISDIR(mode) ? 2 : 1;
  row.atime = row.mtime = row.ctime = row.btime = when;
  return row;
}

void touch_directory(Shard& shard, Ino ino, store::InodeRow& row, WallTime when) {
  row.mtime = when;
  row.ctime = std::max(row.ctime, when);
  ++row.data_version;
  shard.put_inode(ino, row);
}

void tell_directory(Shard& shard, Request& request, Ino dir, const store::InodeRow& row,
                    std::vector<Ino> others) {
  shard.told(dir, Tokens::Of::names);
  request.names_changed = wire::NamesChanged{attr_of(shard, dir, row), std::move(others)};
}

void drop_link(Shard& shard, Ino ino, store::InodeRow row, WallTime when, bool lingers) {
  if (row.nlink > 0) --row.nlink;
  row.ctime = std::max(row.ctime, when);
  if (row.nlink > 0) return shard.put_inode(ino, row);
  Shard::OpenCount opens = shard.opens_of(ino);
  const bool is_open = opens.readers + opens.writers > 0;
  shard.will_change(ino);
  const SessionId by = shard.asker();
  const bool is_believed = shard.is_believed_by_others(ino, by);
  if (!is_open && !lingers && !is_believed) return reap(shard, ino, row);
  shard.put_inode(ino, row);
  shard.put_raw(Shard::orphan_key(ino), {});
  if (is_open) return;
  if (lingers)
    shard.later(kLinger, [&shard, ino, by] { after_last_open(shard, ino, by); });
  else
    shard.look_again_at_orphan(ino, by);
}

void reap(Shard& shard, Ino ino, const store::InodeRow& row) {
  if (Shard::Lock* held = shard.find_lock(ino)) {
    // Its content is on the way to its chunks: an orphan until that operation has ended.
    shard.put_inode(ino, row);
    shard.put_raw(Shard::orphan_key(ino), {});
    held->waiters.push_back(
        [&shard, ino, by = shard.asker()] { after_last_open(shard, ino, by); });
    return;
  }
  ring::Slot home = ring::home_of(ino);
  shard.space_is_freed();
  switch (row.place) {
    case store::ContentPlace::none:
      break;
    case store::ContentPlace::in_row:
      shard.erase(Shard::inline_key(ino));
      break;
    case store::ContentPlace::home_file: {
      store::ContentId id{home, ino, 0};
      if (auto removed = shard.content().remove(id); !removed) shard.poison(removed.error());
      shard.erase(id.row(store::Table::chunk));
      break;
    }
    case store::ContentPlace::chunks:
      if (row.key)
        shard.operations().commit_now(home, OperationKind::drop_content,
                                      {{row.key->slot(), PartKind::drop_authority, false, 0,
                                        wire::encode(DropAuthority{ino})}},
                                      ApplyWhen::durable_lazily);
      break;
  }
  if (S_ISLNK(row.mode)) shard.erase(Shard::inline_key(ino));
  erase_xattrs(shard, ino, row);
  shard.drop_file_locks(ino);
  shard.erase(Shard::orphan_key(ino));
  shard.erase(Shard::inode_key(ino));
}

void remove_chunk(Shard& shard, const store::ContentId& id) {
  shard.version_of(id.slot);
  shard.space_is_freed();
  if (auto removed = shard.content().remove(id); !removed) shard.poison(removed.error());
  shard.erase(id.row(store::Table::chunk));
}

void after_last_open(Shard& shard, Ino ino, SessionId by) {
  auto row = shard.inode(ino);
  if (!row) return;
  Shard::OpenCount opens = shard.opens_of(ino);
  if (row->nlink > 0 || opens.readers + opens.writers > 0) return;
  if (shard.is_believed_by_others(ino, by)) return shard.look_again_at_orphan(ino, by);
  reap(shard, ino, *row);
}

}  // namespace magma::ops
