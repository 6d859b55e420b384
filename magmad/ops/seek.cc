// seek(inode): the next data or hole (lseek(2) SEEK_DATA, SEEK_HOLE). What is never written is a
// hole only where its chunk, or the chunk's file, has one; small files are all data.
#include <sys/stat.h>

#include <algorithm>

#include "libmagma/crypto/path_hash.h"
#include "magmad/ops/authority.h"
#include "magmad/ops/content.h"
#include "magmad/ops/questions.h"
#include "magmad/ops/ops.h"

namespace magma::ops {

namespace {

// Next data (or hole) of one content at or after `from`, below `size`; `size` if there is none.
Result<std::uint64_t> seek_in(Shard& shard, const store::ContentId& id, std::uint64_t from,
                              std::uint64_t size, bool data) {
  TRY_VALUE(std::uint64_t found, shard.content().seek(id, from, data));
  return std::min(found, size);
}

Result<std::uint64_t> seek_chunks(Shard& shard, Ino ino, const store::AuthorityRow& authority,
                                  std::uint64_t offset, bool data) {
  std::uint64_t at = offset;
  while (at < authority.size) {
    auto chunk = static_cast<std::uint32_t>(at / store::kChunkBytes);
    std::uint64_t start = std::uint64_t{chunk} * store::kChunkBytes;
    if (!has_chunk(authority.chunks, chunk)) {
      if (!data) return at;
      auto next = std::find_if(authority.chunks.begin(), authority.chunks.end(),
                               [&](const store::ChunkRun& run) { return run.first > chunk; });
      if (next == authority.chunks.end()) return authority.size;
      at = std::uint64_t{next->first} * store::kChunkBytes;
      continue;
    }
    std::uint64_t end = std::min(store::kChunkBytes, authority.size - start);
    store::ContentId id{crypto::key_of_chunk(authority.key, chunk).slot(), ino, chunk};
    if (!shard.is_near(id.slot)) {  // another volcano's counts as data
      if (data) return at;
      at = start + store::kChunkBytes;
      continue;
    }
    TRY_VALUE(std::uint64_t found, seek_in(shard, id, at - start, end, data));
    if (found < end) return start + found;
    at = start + store::kChunkBytes;
  }
  return authority.size;
}

}  // namespace

// no_device: nothing there at or after the offset.
Result<std::uint64_t> seek_content(Shard& shard, Ino ino, const ring::Key& key,
                                   std::uint64_t offset, bool data) {
  auto authority = authority_of(shard, ino, key);
  if (!authority) return fail(Code::io, "the size authority is missing");
  if (offset >= authority->size) return fail(Code::no_device);
  TRY_VALUE(std::uint64_t found, seek_chunks(shard, ino, *authority, offset, data));
  if (data && found >= authority->size) return fail(Code::no_device);
  return found;
}

namespace {

void ask_authority(Shard& shard, RequestPtr request, const wire::SeekRequest& message,
                   const ring::Key& key) {
  auto told = [&shard](Result<Bytes> reply, RequestPtr asker) {
    auto found = reply ? wire::decode<wire::SeekReply>(*reply) : fail(reply.error());
    if (!found) return shard.refuse(std::move(asker), found.error());
    shard.answer(std::move(asker), *found);
  };
  const ring::Slot home = request->head.slot;
  shard.operations().ask(home, key.slot(), Question::seek,
                         wire::encode(AskSeek{message.ino, key, message.offset, message.data}),
                         std::move(request), std::move(told));
}

}  // namespace

void seek(Shard& shard, RequestPtr request, wire::SeekRequest message) {
  if (shard.is_locked(message.ino)) return shard.park(std::move(request), message.ino);
  if (shard.is_locked(message.ino, kContentLockName))
    return shard.park(std::move(request), message.ino, kContentLockName);
  auto row = shard.inode(message.ino);
  if (!row) return shard.refuse(std::move(request), Code::stale);
  if (!S_ISREG(row->mode)) return shard.refuse(std::move(request), Code::invalid);
  if (row->place == store::ContentPlace::chunks && row->key) {
    if (!is_content_near(shard, *row->key))
      return ask_authority(shard, std::move(request), message, *row->key);
    auto found = seek_content(shard, message.ino, *row->key, message.offset, message.data);
    if (!found) return shard.refuse(std::move(request), found.error());
    return shard.answer(std::move(request), wire::SeekReply{*found});
  }
  Result<std::uint64_t> found = std::uint64_t{0};
  std::uint64_t size = row->size;
  if (message.offset < size) {
    found = message.data ? message.offset : size;
    if (row->place == store::ContentPlace::home_file)
      found = seek_in(shard, {ring::home_of(message.ino), message.ino, 0}, message.offset, size,
                      message.data);
  }
  if (message.offset >= size) return shard.refuse(std::move(request), Code::no_device);
  if (!found) return shard.refuse(std::move(request), found.error());
  if (message.data && *found >= size) return shard.refuse(std::move(request), Code::no_device);
  shard.answer(std::move(request), wire::SeekReply{*found});
}

}  // namespace magma::ops
