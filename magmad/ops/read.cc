// read: from home (row or home file) or from a chunk. Bytes follow the reply.
#include <sys/stat.h>

#include <algorithm>
#include <memory>

#include "libmagma/crypto/path_hash.h"
#include "magmad/ops/authority.h"
#include "magmad/ops/ops.h"

namespace magma::ops {

namespace {

void read_content(Shard& shard, RequestPtr request, const store::ContentId& id,
                  std::uint64_t offset, std::uint64_t length, std::uint64_t data_version) {
  if (length == 0)
    return shard.answer_raw(std::move(request), wire::encode(wire::ReadReply{data_version}), {});
  request->keep();
  auto shared = std::make_shared<RequestPtr>(std::move(request));
  auto done = [&shard, shared, id, data_version](Result<Bytes> bytes) {
    shard.tells_content(**shared, id);
    if (!bytes) return shard.refuse(std::move(*shared), bytes.error());
    shard.answer_raw(std::move(*shared), wire::encode(wire::ReadReply{data_version}),
                     std::move(*bytes));
  };
  shard.content().read(id, offset, length, std::move(done));
}

void read_home(Shard& shard, RequestPtr request, const wire::ReadRequest& message) {
  if (shard.is_locked(message.ino)) return shard.park(std::move(request), message.ino);
  auto row = shard.inode(message.ino);
  if (!row) return shard.refuse(std::move(request), Code::stale);
  if (S_ISDIR(row->mode)) return shard.refuse(std::move(request), Code::is_a_directory);
  if (!S_ISREG(row->mode)) return shard.refuse(std::move(request), Code::invalid);
  if (row->place == store::ContentPlace::chunks)
    return shard.refuse_moved(std::move(request), Code::moved_to_chunks,
                              moved_reply(shard, message.ino, *row));
  std::uint64_t start = std::min(message.offset, row->size);
  std::uint64_t length = std::min<std::uint64_t>(message.length, row->size - start);
  if (row->place == store::ContentPlace::home_file)
    return read_content(shard, std::move(request), {ring::home_of(message.ino), message.ino, 0},
                        start, length, row->data_version);
  Bytes data;
  if (row->place == store::ContentPlace::in_row && length > 0) {
    auto whole = shard.get_raw(Shard::inline_key(message.ino));
    if (!whole || whole->size() < start + length)
      return shard.refuse(std::move(request), Error{Code::io, "content row is missing or short"});
    data.assign(whole->begin() + static_cast<std::ptrdiff_t>(start),
                whole->begin() + static_cast<std::ptrdiff_t>(start + length));
  }
  shard.answer_raw(std::move(request), wire::encode(wire::ReadReply{row->data_version}),
                   std::move(data));
}

// The size authority is another volcano's. Nobody knows a truncate number before all chunks that it
// cuts are cut, so an asker with an older one than the chunk's is behind, and no other. It is told
// no placement: that is to be asked for at the authority.
void read_far_chunk(Shard& shard, RequestPtr request, const wire::ReadRequest& message,
                    const store::ContentId& id, std::uint64_t start) {
  auto row = shard.get<store::ChunkRow>(id.row(store::Table::chunk));
  if (row && row->truncate_number > message.truncate_number)
    return shard.refuse(std::move(request), Code::behind_truncate);
  std::uint64_t there = row ? row->length : 0;
  start = std::min(start, there);
  std::uint64_t length = std::min<std::uint64_t>(message.length, there - start);
  read_content(shard, std::move(request), id, start, length, 0);
}

void read_chunk(Shard& shard, RequestPtr request, const wire::ReadRequest& message) {
  if (shard.is_locked(message.ino, kContentLockName))
    return shard.park(std::move(request), message.ino, kContentLockName);
  auto chunk = static_cast<std::uint32_t>(message.offset / store::kChunkBytes);
  std::uint64_t start = message.offset % store::kChunkBytes;
  ring::Slot slot = crypto::key_of_chunk(*message.key, chunk).slot();
  if (slot != request->head.slot || start + message.length > store::kChunkBytes)
    return shard.refuse(std::move(request), Code::malformed);
  if (!is_content_near(shard, *message.key))
    return read_far_chunk(shard, std::move(request), message, {slot, message.ino, chunk}, start);
  auto authority = authority_of(shard, message.ino, *message.key);
  if (!authority) return shard.refuse(std::move(request), Code::stale);
  if (message.truncate_number != authority->truncate_number)
    return shard.refuse_moved(std::move(request), Code::behind_truncate,
                              moved_reply(message.ino, *authority));
  store::ContentId id{slot, message.ino, chunk};
  auto row = shard.get<store::ChunkRow>(id.row(store::Table::chunk));
  std::uint64_t there = row ? row->length : 0;
  start = std::min(start, there);
  std::uint64_t length = std::min<std::uint64_t>(message.length, there - start);
  read_content(shard, std::move(request), id, start, length, authority->data_version);
}

}  // namespace

void read(Shard& shard, RequestPtr request, wire::ReadRequest message) {
  if (message.length > wire::kIoBytesMax || message.offset > wire::kFileBytesMax)
    return shard.refuse(std::move(request), Code::invalid);
  if (message.key) return read_chunk(shard, std::move(request), message);
  read_home(shard, std::move(request), message);
}

}  // namespace magma::ops
