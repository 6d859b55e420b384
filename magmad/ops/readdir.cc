// readdir(directory, cookie): entries in the order of their name hashes, which are their cookies:
// stable however the directory changes meanwhile. With attributes where they are this volcano's.
#include <sys/stat.h>

#include "libmagma/base/check.h"
#include "magmad/ops/ops.h"
#include "magmad/ops/parts.h"

namespace magma::ops {

namespace {

constexpr std::size_t kEntriesMax = 4096;
constexpr std::uint32_t kReplyBytesMax = 256 * 1024;
constexpr std::size_t kEntryOverhead = 40;
constexpr std::size_t kAttrOverhead = 150;

// Whether getattr would wait: the link count is about to change. The asker does without attributes.
bool is_link_count_open(Shard& shard, Ino ino, const store::InodeRow& row) {
  if (shard.is_locked(ino, kLinksLockName)) return true;
  return S_ISDIR(row.mode) && shard.locked_name(ino).has_value();
}

}  // namespace

void readdir(Shard& shard, RequestPtr request, wire::ReaddirRequest message) {
  auto dir = directory_of(shard, message.dir);
  if (!dir) return shard.refuse(std::move(request), dir.error());
  wire::ReaddirReply reply;
  reply.parent = dir->row.parent;
  reply.data_version = dir->row.data_version;
  reply.end = true;
  std::size_t budget = std::min(message.bytes_max, kReplyBytesMax);
  std::size_t used = 0;
  bool bad = false;
  auto visit = [&](const store::MetadataStore::ScanRow& row) {
    bool same_cookie = !reply.entries.empty() && reply.entries.back().cookie == row.b;
    if (!same_cookie && (used >= budget || reply.entries.size() >= kEntriesMax)) {
      reply.end = false;
      return false;
    }
    auto entry = wire::decode<store::EntryRow>(row.image);
    if (!entry) {
      bad = true;
      return false;
    }
    wire::DirectoryEntry& item = reply.entries.emplace_back();
    item.name = std::string(row.c);
    item.cookie = row.b;
    item.ino = entry->ino;
    item.type = entry->type;
    used += item.name.size() + kEntryOverhead + (message.with_attributes ? kAttrOverhead : 0);
    return true;
  };
  if (message.cookie < ~std::uint64_t{0} >> 1) {
    store::RowKey from{store::Table::entry, message.dir.value, message.cookie + 1, {}};
    store::RowKey to{store::Table::entry, message.dir.value, ~std::uint64_t{0} >> 1,
                     std::string(wire::kNameBytesMax + 1, '\xff')};
    if (auto done = shard.metadata().scan(from, to, visit); !done)
      return shard.refuse(std::move(request), done.error());
  }
  if (bad) return shard.refuse(std::move(request), Error{Code::io, "malformed entry"});
  // A locked entry is being moved or made: ask again when that is decided.
  for (const auto& item : reply.entries)
    if (shard.is_locked(message.dir, item.name))
      return shard.park(std::move(request), message.dir, item.name);
  shard.told(message.dir, Tokens::Of::names);
  if (message.with_attributes)
    for (auto& item : reply.entries) {
      if (!shard.is_near(ring::home_of(item.ino))) continue;
      auto row = shard.inode(item.ino);
      if (!row || is_link_count_open(shard, item.ino, *row)) continue;
      if (shard.has_writes_elsewhere(item.ino)) continue;
      item.attr = attr_of(shard, item.ino, *row);
      if (item.attr->is_partial) item.attr.reset();
    }
  shard.answer(std::move(request), reply);
}

}  // namespace magma::ops
