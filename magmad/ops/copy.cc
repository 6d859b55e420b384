// copy: bytes of one file into another without a way over the network (copy_file_range(2)): a read
// of the source and a write of the target, with the rules of both. Where the source's bytes are
// another volcano's, the asker reads and writes them itself.
#include <sys/stat.h>

#include <algorithm>
#include <memory>

#include "libmagma/crypto/path_hash.h"
#include "magmad/ops/authority.h"
#include "magmad/ops/ops.h"

namespace magma::ops {

namespace {

// The bytes are there: the rest is a write.
void put(Shard& shard, RequestPtr request, wire::WriteRequest target) {
  if (request->copied.empty()) return shard.answer(std::move(request), wire::CopyReply{});
  request->payload = request->copied;
  target.page_sums.clear();
  write(shard, std::move(request), std::move(target));
}

void read_and_put(Shard& shard, RequestPtr request, wire::CopyRequest message,
                  const store::ContentId& id, std::uint64_t start, std::uint64_t there) {
  // What is past the content's end, but not the file's, is zeros.
  std::uint64_t length = message.source.length;
  std::uint64_t begin = std::min(start, there);
  std::uint64_t have = std::min(length, there - begin);
  if (have == 0) {
    request->copied.resize(length);
    return put(shard, std::move(request), std::move(message.target));
  }
  request->keep();
  auto shared = std::make_shared<RequestPtr>(std::move(request));
  shard.content().read(id, begin, have, [&shard, shared, length](Result<Bytes> bytes) {
    RequestPtr back = std::move(*shared);
    if (!bytes) return shard.refuse(std::move(back), bytes.error());
    bytes->resize(length);
    back->copied = std::move(*bytes);
    shard.rerun(std::move(back));
  });
}

void copy_from_home(Shard& shard, RequestPtr request, wire::CopyRequest message) {
  const Ino ino = message.source.ino;
  if (shard.is_locked(ino)) return shard.park(std::move(request), ino);
  auto row = shard.inode(ino);
  if (!row) return shard.refuse(std::move(request), Code::stale);
  if (!S_ISREG(row->mode)) return shard.refuse(std::move(request), Code::invalid);
  if (row->place == store::ContentPlace::chunks)
    return shard.refuse_moved(std::move(request), Code::moved_to_chunks,
                              moved_reply(shard, ino, *row));
  std::uint64_t start = std::min(message.source.offset, row->size);
  message.source.length = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(message.source.length, row->size - start));
  if (row->place == store::ContentPlace::home_file)
    return read_and_put(shard, std::move(request), std::move(message),
                        {ring::home_of(ino), ino, 0}, start, row->size);
  Bytes data;
  if (row->place == store::ContentPlace::in_row)
    data = shard.get_raw(Shard::inline_key(ino)).value_or(Bytes{});
  data.resize(row->size);
  request->copied.assign(
      data.begin() + static_cast<std::ptrdiff_t>(start),
      data.begin() + static_cast<std::ptrdiff_t>(start + message.source.length));
  put(shard, std::move(request), std::move(message.target));
}

void copy_from_chunk(Shard& shard, RequestPtr request, wire::CopyRequest message) {
  const wire::ReadRequest& source = message.source;
  if (shard.is_locked(source.ino, kContentLockName))
    return shard.park(std::move(request), source.ino, kContentLockName);
  auto chunk = static_cast<std::uint32_t>(source.offset / store::kChunkBytes);
  std::uint64_t start = source.offset % store::kChunkBytes;
  if (start + source.length > store::kChunkBytes)
    return shard.refuse(std::move(request), Code::malformed);
  auto authority = authority_of(shard, source.ino, *source.key);
  if (!authority) return shard.refuse(std::move(request), Code::stale);
  if (source.truncate_number != authority->truncate_number)
    return shard.refuse_moved(std::move(request), Code::behind_truncate,
                              moved_reply(source.ino, *authority));
  std::uint64_t size = std::max(authority->size, source.offset) - source.offset;
  message.source.length =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(source.length, size));
  store::ContentId id{crypto::key_of_chunk(*source.key, chunk).slot(), source.ino, chunk};
  auto row = shard.get<store::ChunkRow>(id.row(store::Table::chunk));
  read_and_put(shard, std::move(request), std::move(message), id, start, row ? row->length : 0);
}

}  // namespace

void copy(Shard& shard, RequestPtr request, wire::CopyRequest message) {
  if (message.source.length > wire::kIoBytesMax || message.source.offset > wire::kFileBytesMax ||
      message.target.append)
    return shard.refuse(std::move(request), Code::invalid);
  if (shard.recall_writes(request, message.source.ino)) return;
  if (shard.recall_writes(request, message.target.ino)) return;
  // What is not all of this volcano the asker copies itself.
  const bool is_source_near = shard.is_near(
      message.source.key
          ? crypto::key_of_chunk(*message.source.key,
                                 static_cast<std::uint32_t>(message.source.offset /
                                                            store::kChunkBytes)).slot()
          : ring::home_of(message.source.ino));
  if (!is_source_near || (message.source.key && !is_content_near(shard, *message.source.key)) ||
      (message.target.key && !is_content_near(shard, *message.target.key)))
    return shard.refuse(std::move(request), Code::unsupported);
  if (!request->copied.empty()) return put(shard, std::move(request), std::move(message.target));
  if (message.source.key) return copy_from_chunk(shard, std::move(request), std::move(message));
  copy_from_home(shard, std::move(request), std::move(message));
}

}  // namespace magma::ops
