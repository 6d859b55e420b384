// fallocate(inode): space for a range, a hole in it, or zeros (fallocate(2)). Space is not set
// aside: a range that would not fit now is refused with ENOSPC, and the file grows. Holes are made
// chunk by chunk, one in each request: the asker goes on at `next`.
#include <sys/stat.h>

#include <algorithm>

#include "libmagma/crypto/path_hash.h"
#include "magmad/ops/acl.h"
#include "magmad/ops/authority.h"
#include "magmad/ops/content.h"
#include "magmad/ops/ops.h"

namespace magma::ops {

namespace {

constexpr std::uint32_t kModes =
    wire::kFallocateKeepSize | wire::kFallocatePunchHole | wire::kFallocateZeroRange;

std::optional<Code> mode_error(std::uint32_t mode) {
  if ((mode & ~kModes) != 0) return Code::unsupported;
  const bool punches = (mode & wire::kFallocatePunchHole) != 0;
  if (punches && (mode & wire::kFallocateZeroRange) != 0) return Code::unsupported;
  if (punches && (mode & wire::kFallocateKeepSize) == 0) return Code::unsupported;
  return std::nullopt;
}

void zero_in_row(Shard& shard, Ino ino, std::uint64_t from, std::uint64_t to) {
  auto data = shard.get_raw(Shard::inline_key(ino)).value_or(Bytes{});
  to = std::min<std::uint64_t>(to, data.size());
  if (from >= to) return;
  std::fill(data.begin() + static_cast<std::ptrdiff_t>(from),
            data.begin() + static_cast<std::ptrdiff_t>(to), 0);
  shard.put_raw(Shard::inline_key(ino), data);
}

// False: the request was taken.
bool punch(Shard& shard, RequestPtr& request, const store::ContentId& id, std::uint64_t from,
           std::uint64_t to) {
  if (from >= to) return true;
  if (!ensure_hot(shard, request, id, from, to - from)) return false;
  auto done = shard.content().punch(id, shard.version_of(id.slot), from, to - from);
  if (done) return true;
  shard.refuse(std::move(request), done.error());
  return false;
}

// Makes zeros of [from, to) of a large file, within the first chunk there that exists. Where to go
// on, or nothing if the request was taken.
std::optional<std::uint64_t> punch_chunk(Shard& shard, RequestPtr& request, Ino ino,
                                         const store::AuthorityRow& authority, std::uint64_t from,
                                         std::uint64_t to) {
  for (const store::ChunkRun& run : authority.chunks) {
    std::uint64_t run_end = (std::uint64_t{run.last} + 1) * store::kChunkBytes;
    if (run_end <= from) continue;
    from = std::max(from, std::uint64_t{run.first} * store::kChunkBytes);
    if (from >= to) break;
    auto chunk = static_cast<std::uint32_t>(from / store::kChunkBytes);
    std::uint64_t start = std::uint64_t{chunk} * store::kChunkBytes;
    store::ContentId id{crypto::key_of_chunk(authority.key, chunk).slot(), ino, chunk};
    auto row = shard.get<store::ChunkRow>(id.row(store::Table::chunk));
    std::uint64_t length = row ? row->length : 0;
    std::uint64_t end = std::min({to - start, store::kChunkBytes, length});
    if (!punch(shard, request, id, from - start, end)) return std::nullopt;
    return std::min(to, start + store::kChunkBytes);
  }
  return to;
}

void finish(Shard& shard, RequestPtr request, const wire::FallocateRequest& message,
            store::InodeRow row, std::uint64_t next) {
  if (message.kill_suidgid) row.mode = without_suid(*request, row);
  drop_capability(shard, message.ino, row);
  shard.put_inode(message.ino, row);
  shard.answer(std::move(request),
               wire::FallocateReply{next, attr_of(shard, message.ino, row)});
}

// Of a file whose size authority is another volcano's: it can be made longer; holes and zeros are
// for the asker to write.
void at_authority(Shard& shard, RequestPtr request, const wire::FallocateRequest& message,
                  store::InodeRow row) {
  if ((message.mode & (wire::kFallocatePunchHole | wire::kFallocateZeroRange)) != 0)
    return shard.refuse(std::move(request), Code::unsupported);
  if (shard.is_space_short()) return shard.refuse_for_space(std::move(request));
  const std::uint64_t end = message.offset + message.length;
  WallTime when = shard.time();
  if ((message.mode & wire::kFallocateKeepSize) == 0)
    resize_elsewhere(shard, *request, {message.ino, *row.key, end, true, when});
  row.ctime = std::max(row.ctime, when);
  finish(shard, std::move(request), message, std::move(row), end);
}

}  // namespace

void fallocate(Shard& shard, RequestPtr request, wire::FallocateRequest message) {
  if (auto error = mode_error(message.mode)) return shard.refuse(std::move(request), *error);
  if (message.length == 0) return shard.refuse(std::move(request), Code::invalid);
  if (message.offset > wire::kFileBytesMax || message.length > wire::kFileBytesMax ||
      message.offset + message.length > wire::kFileBytesMax)
    return shard.refuse(std::move(request), Code::too_big);
  const Ino ino = message.ino;
  if (shard.is_locked(ino)) return shard.park(std::move(request), ino);
  if (shard.is_locked(ino, kContentLockName))
    return shard.park(std::move(request), ino, kContentLockName);
  auto row = shard.inode(ino);
  if (!row) return shard.refuse(std::move(request), Code::stale);
  if (S_ISDIR(row->mode)) return shard.refuse(std::move(request), Code::is_a_directory);
  if (!S_ISREG(row->mode)) return shard.refuse(std::move(request), Code::no_device);

  const bool is_elsewhere =
      row->place == store::ContentPlace::chunks && row->key && !is_content_near(shard, *row->key);
  if (is_elsewhere) return at_authority(shard, std::move(request), message, std::move(*row));
  store::InodeRow known = with_authority(shard, ino, *row);
  const bool makes_zeros =
      (message.mode & (wire::kFallocatePunchHole | wire::kFallocateZeroRange)) != 0;
  const std::uint64_t end = message.offset + message.length;
  const std::uint64_t from = std::clamp(message.from, message.offset, end);
  WallTime when = shard.time();
  if (!makes_zeros) {
    auto space = shard.space();
    std::uint64_t there = message.offset < known.size ? known.size - message.offset : 0;
    std::uint64_t wanted = message.length > there ? message.length - there : 0;
    bool fits = !space ||
                wanted + SpaceGuard::reserve_bytes(space->total_bytes) <= space->free_bytes;
    if (shard.is_space_short()) return shard.refuse_for_space(std::move(request));
    if (!fits) return shard.refuse(std::move(request), Code::no_space);
  }
  // Zeros first: the last request makes the file longer.
  std::uint64_t next = end;
  const std::uint64_t stop = std::min(end, known.size);
  if (makes_zeros && from < stop) {
    switch (row->place) {
      case store::ContentPlace::none:
        break;
      case store::ContentPlace::in_row:
        zero_in_row(shard, ino, from, stop);
        break;
      case store::ContentPlace::home_file:
        if (!punch(shard, request, {ring::home_of(ino), ino, 0}, from, stop)) return;
        break;
      case store::ContentPlace::chunks: {
        auto authority = authority_of(shard, ino, *row->key);
        if (!authority)
          return shard.refuse(std::move(request),
                              Error{Code::io, "the size authority is missing"});
        if (!is_content_near(shard, *authority))
          return shard.refuse(std::move(request), Code::unsupported);
        auto reached = punch_chunk(shard, request, ino, *authority, from, stop);
        if (!reached) return;
        if (*reached < stop) next = *reached;
        authority->mtime = when;
        authority->ctime = std::max(authority->ctime, when);
        ++authority->data_version;
        put_authority(shard, ino, *authority);
        break;
      }
    }
  }
  const bool grows = next == end && end > known.size &&
                     (message.mode & wire::kFallocateKeepSize) == 0;
  if (grows) {
    if (shard.is_space_short()) return shard.refuse(std::move(request), Code::no_space);
    if (set_size(shard, request, ino, *row, end, message.key_for_chunks, when) == Resize::taken)
      return;
  } else {
    row->mtime = when;
    row->ctime = std::max(row->ctime, when);
    ++row->data_version;
  }
  finish(shard, std::move(request), message, std::move(*row), next);
}

}  // namespace magma::ops
