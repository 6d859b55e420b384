// write: to home (row or home file) or to a chunk. The bytes follow the request. A write that
// takes a small file past the limit first moves it to its chunks and answers moved_to_chunks.
#include <sys/stat.h>

#include <algorithm>

#include "libmagma/crypto/checksum.h"
#include "libmagma/crypto/path_hash.h"
#include "magmad/ops/authority.h"
#include "magmad/ops/content.h"
#include "magmad/ops/ops.h"

namespace magma::ops {

namespace {

// The client's checksums of the whole pages in `bytes` at `offset`; none given is fine.
bool sums_match(const std::vector<std::uint32_t>& sums, std::uint64_t offset, ByteSpan bytes) {
  if (sums.empty()) return true;
  std::uint64_t first = (offset + store::kPageBytes - 1) / store::kPageBytes * store::kPageBytes;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    std::uint64_t at = first + i * store::kPageBytes - offset;
    if (at + store::kPageBytes > bytes.size()) return false;
    if (crypto::crc32c(bytes.subspan(at, store::kPageBytes)) != sums[i]) return false;
  }
  return true;
}

// The write may be the second half of a copy.
void answer_written(Shard& shard, RequestPtr request, const wire::WriteReply& written) {
  if (request->op() != wire::FlareOp::copy) return shard.answer(std::move(request), written);
  auto length = static_cast<std::uint32_t>(request->payload.size());
  shard.answer(std::move(request), wire::CopyReply{length, written});
}

void write_in_row(Shard& shard, Ino ino, store::InodeRow& row, std::uint64_t offset,
                  ByteSpan bytes) {
  Bytes data;
  if (row.place == store::ContentPlace::in_row && (offset > 0 || bytes.size() < row.size))
    data = shard.get_raw(Shard::inline_key(ino)).value_or(Bytes{});
  if (data.size() < offset + bytes.size()) data.resize(offset + bytes.size());
  std::copy(bytes.begin(), bytes.end(), data.begin() + static_cast<std::ptrdiff_t>(offset));
  shard.put_raw(Shard::inline_key(ino), data);
  row.place = store::ContentPlace::in_row;
}

// False: the request was taken.
bool write_home_file(Shard& shard, RequestPtr& request, Ino ino, store::InodeRow& row,
                     std::uint64_t offset, ByteSpan bytes, const wire::WriteRequest& message) {
  store::ContentId id{ring::home_of(ino), ino, 0};
  std::uint64_t end = offset + bytes.size();
  std::uint64_t first = row.place == store::ContentPlace::in_row ? 0 : offset;
  if (!ensure_hot(shard, request, id, first, end - first)) return false;
  store::Version version = shard.version_of(id.slot);
  if (row.place == store::ContentPlace::in_row) {
    auto data = shard.get_raw(Shard::inline_key(ino)).value_or(Bytes{});
    if (auto written = shard.content().write(id, version, 0, data, {}); !written) {
      shard.refuse(std::move(request), written.error());
      return false;
    }
    shard.erase(Shard::inline_key(ino));
  }
  bool own_sums = message.append;  // the client did not know where its bytes would go
  auto written = shard.content().write(id, version, offset, bytes,
                                       own_sums ? std::vector<std::uint32_t>{} : message.page_sums);
  if (!written) {
    shard.refuse(std::move(request), written.error());
    return false;
  }
  row.place = store::ContentPlace::home_file;
  shard.put(id.row(store::Table::chunk),
            store::ChunkRow{std::max(row.size, end), row.truncate_number});
  return true;
}

void write_home(Shard& shard, RequestPtr request, const wire::WriteRequest& message) {
  Ino ino = message.ino;
  if (shard.is_locked(ino)) return shard.park(std::move(request), ino);
  auto row = shard.inode(ino);
  if (!row) return shard.refuse(std::move(request), Code::stale);
  if (S_ISDIR(row->mode)) return shard.refuse(std::move(request), Code::is_a_directory);
  if (!S_ISREG(row->mode)) return shard.refuse(std::move(request), Code::invalid);
  if (row->place == store::ContentPlace::chunks)
    return shard.refuse_moved(std::move(request), Code::moved_to_chunks,
                              moved_reply(shard, ino, *row));
  if (shard.is_space_short()) return shard.refuse_for_space(std::move(request));
  ByteSpan bytes = request->payload;
  std::uint64_t offset = message.append ? row->size : message.offset;
  std::uint64_t end = offset + bytes.size();
  if (end > wire::kFileBytesMax) return shard.refuse(std::move(request), Code::too_big);
  if (end > shard.config().small_file_bytes_max)
    return spill(shard, std::move(request), ino, message.key_for_chunks);
  if (!bytes.empty()) {
    bool fits_row = std::max(row->size, end) <= Shard::kInlineBytesMax;
    if (row->place != store::ContentPlace::home_file && fits_row) {
      if (!message.append && !sums_match(message.page_sums, offset, bytes))
        return shard.refuse(std::move(request), Error{Code::checksum, "bytes of a write"});
      write_in_row(shard, ino, *row, offset, bytes);
    } else if (!write_home_file(shard, request, ino, *row, offset, bytes, message)) {
      return;
    }
    WallTime when = shard.time();
    row->size = std::max(row->size, end);
    row->mtime = when;
    row->ctime = std::max(row->ctime, when);
    ++row->data_version;
    if (message.kill_suidgid) row->mode = without_suid(*request, *row);
    drop_capability(shard, ino, *row);
    shard.put_inode(ino, *row);
  }
  answer_written(shard, std::move(request),
                 wire::WriteReply{offset, row->size, row->mtime, row->data_version});
}

// One chunk's share of a write to a large file.
struct ChunkPiece {
  store::ContentId id;
  std::uint64_t start;  // in the chunk
  ByteSpan bytes;
};

std::vector<ChunkPiece> pieces_of(Ino ino, const ring::Key& key, std::uint64_t offset,
                                  ByteSpan bytes) {
  std::vector<ChunkPiece> pieces;
  while (!bytes.empty()) {
    auto chunk = static_cast<std::uint32_t>(offset / store::kChunkBytes);
    std::uint64_t start = offset % store::kChunkBytes;
    std::size_t length = std::min<std::uint64_t>(bytes.size(), store::kChunkBytes - start);
    pieces.push_back(
        {{crypto::key_of_chunk(key, chunk).slot(), ino, chunk}, start, bytes.first(length)});
    bytes = bytes.subspan(length);
    offset += length;
  }
  return pieces;
}

// False: the request was refused.
bool write_pieces(Shard& shard, RequestPtr& request, const std::vector<ChunkPiece>& pieces,
                  const wire::WriteRequest& message, store::AuthorityRow& authority) {
  for (const ChunkPiece& piece : pieces) {
    auto row = shard.get<store::ChunkRow>(piece.id.row(store::Table::chunk));
    if (!row) row.emplace();
    // Every time: a power cut may have kept the chunk's row and lost the authority's.
    add_chunk(authority.chunks, piece.id.chunk);
    bool own_sums = message.append || pieces.size() > 1;
    auto written = shard.content().write(
        piece.id, shard.version_of(piece.id.slot), piece.start, piece.bytes,
        own_sums ? std::vector<std::uint32_t>{} : message.page_sums);
    if (!written) {
      // What earlier pieces put stays without effect: the size was not published.
      put_authority(shard, message.ino, authority);
      shard.refuse(std::move(request), written.error());
      return false;
    }
    row->length = std::max(row->length, piece.start + piece.bytes.size());
    row->truncate_number = authority.truncate_number;
    shard.put(piece.id.row(store::Table::chunk), *row);
  }
  return true;
}

// The size authority is another volcano's: it makes the chunk before it is written, and is told by
// the asker afterwards. A chunk that was cut since then knows a newer truncate number, one that was
// dropped is not there.
void write_far_chunk(Shard& shard, RequestPtr request, const wire::WriteRequest& message) {
  auto pieces = pieces_of(message.ino, *message.key, message.offset, request->payload);
  if (message.append || pieces.size() != 1 || pieces.front().id.slot != request->head.slot)
    return shard.refuse(std::move(request), Code::malformed);
  const ChunkPiece& piece = pieces.front();
  if (message.offset + piece.bytes.size() > wire::kFileBytesMax)
    return shard.refuse(std::move(request), Code::too_big);
  if (shard.is_space_short()) return shard.refuse_for_space(std::move(request));
  auto row = shard.get<store::ChunkRow>(piece.id.row(store::Table::chunk));
  if (!row) return shard.refuse(std::move(request), Code::no_chunk);
  if (row->truncate_number > message.truncate_number)
    return shard.refuse(std::move(request), Code::behind_truncate);
  if (!ensure_hot(shard, request, piece.id, piece.start, piece.bytes.size())) return;
  auto written = shard.content().write(piece.id, shard.version_of(piece.id.slot), piece.start,
                                       piece.bytes, message.page_sums);
  if (!written) return shard.refuse(std::move(request), written.error());
  row->length = std::max(row->length, piece.start + piece.bytes.size());
  shard.put(piece.id.row(store::Table::chunk), *row);
  wire::WriteReply reply;
  reply.offset = message.offset;
  reply.is_published = false;
  shard.answer(std::move(request), reply);
}

// An append of which bytes go to other volcanoes: they put them there, then they count. One after
// the other: the content is locked meanwhile.
struct Append : std::enable_shared_from_this<Append> {
  Append(Shard& s, wire::WriteRequest m) : shard(s), message(std::move(m)) {}

  Shard& shard;
  wire::WriteRequest message;
  OpId op{};
  std::uint64_t offset = 0, end = 0;
  std::vector<std::uint32_t> chunks{};
  std::size_t left = 0;
  std::optional<Error> error{};

  void prepared(Result<Bytes> answer) {
    if (!answer && !error) error = answer.error();
    if (--left > 0) return;
    auto authority = authority_of(shard, message.ino, *message.key);
    if (!error && !authority) error = Error{Code::stale, {}};
    if (error) return shard.refuse_or_wait(shard.operations().abort(op), *error);
    for (std::uint32_t chunk : chunks) add_chunk(authority->chunks, chunk);
    WallTime when = shard.time();
    authority->size = std::max(authority->size, end);
    authority->mtime = when;
    authority->ctime = std::max(authority->ctime, when);
    ++authority->data_version;
    put_authority(shard, message.ino, *authority);
    RequestPtr request = shard.operations().commit(op, {}, ApplyWhen::durable_lazily);
    if (message.kill_suidgid) kill_privileges(shard, *request, message.ino);
    shard.answer(std::move(request), wire::WriteReply{offset, authority->size, authority->mtime,
                                                      authority->data_version});
  }
};

void append_far(Shard& shard, RequestPtr request, const wire::WriteRequest& message,
                const store::AuthorityRow& authority, const std::vector<ChunkPiece>& pieces) {
  auto append = std::make_shared<Append>(shard, message);
  append->offset = authority.size;
  append->end = authority.size + request->payload.size();
  std::vector<std::pair<ring::Slot, Bytes>> parts;
  for (const ChunkPiece& piece : pieces) {
    append->chunks.push_back(piece.id.chunk);
    parts.emplace_back(piece.id.slot,
                       wire::encode(PutBytes{message.ino, piece.id.chunk, piece.start,
                                             authority.truncate_number, 0,
                                             Bytes(piece.bytes.begin(), piece.bytes.end())}));
  }
  append->left = parts.size();
  const ring::Slot home = request->head.slot;
  append->op = shard.operations().begin(home, OperationKind::append, std::move(request));
  shard.operations().hold(append->op, message.ino, kContentLockName);
  for (auto& [slot, body] : parts)
    shard.operations().prepare(
        append->op, slot, PartKind::put_bytes, std::move(body),
        [append](Result<Bytes> answer) { append->prepared(std::move(answer)); });
}

void write_chunk(Shard& shard, RequestPtr request, const wire::WriteRequest& message) {
  if (shard.is_locked(message.ino, kContentLockName))
    return shard.park(std::move(request), message.ino, kContentLockName);
  Ino ino = message.ino;
  const ring::Key& key = *message.key;
  if (!is_content_near(shard, key)) return write_far_chunk(shard, std::move(request), message);
  auto authority = authority_of(shard, ino, key);
  if (!authority) return shard.refuse(std::move(request), Code::stale);
  if (authority->truncate_number != message.truncate_number)
    return shard.refuse_moved(std::move(request), Code::moved_to_chunks,
                              moved_reply(ino, *authority));
  if (shard.is_space_short()) return shard.refuse_for_space(std::move(request));
  std::uint64_t offset = message.append ? authority->size : message.offset;
  std::uint64_t end = offset + request->payload.size();
  if (end > wire::kFileBytesMax) return shard.refuse(std::move(request), Code::too_big);
  auto pieces = pieces_of(ino, key, offset, request->payload);
  // An append goes to the authority's slot, any other write to the chunk's.
  ring::Slot asked = message.append || pieces.empty() ? key.slot() : pieces.front().id.slot;
  if (asked != request->head.slot || (!message.append && pieces.size() > 1))
    return shard.refuse(std::move(request), Code::malformed);
  const bool is_any_far = std::any_of(pieces.begin(), pieces.end(), [&](const ChunkPiece& piece) {
    return !shard.is_near(piece.id.slot);
  });
  if (is_any_far) return append_far(shard, std::move(request), message, *authority, pieces);
  for (const ChunkPiece& piece : pieces)
    if (!ensure_hot(shard, request, piece.id, piece.start, piece.bytes.size())) return;
  if (!pieces.empty()) {
    if (!write_pieces(shard, request, pieces, message, *authority)) return;
    WallTime when = shard.time();
    authority->size = std::max(authority->size, end);
    authority->mtime = when;
    authority->ctime = std::max(authority->ctime, when);
    ++authority->data_version;
    put_authority(shard, ino, *authority);
    if (message.kill_suidgid) kill_privileges(shard, *request, ino);
  }
  answer_written(shard, std::move(request),
                 wire::WriteReply{offset, authority->size, authority->mtime,
                                  authority->data_version});
}

}  // namespace

void write(Shard& shard, RequestPtr request, wire::WriteRequest message) {
  if (request->payload.size() > wire::kIoBytesMax)
    return shard.refuse(std::move(request), Code::invalid);
  if (message.offset > wire::kFileBytesMax)
    return shard.refuse(std::move(request), Code::too_big);
  if (message.key) return write_chunk(shard, std::move(request), message);
  write_home(shard, std::move(request), message);
}

}  // namespace magma::ops
