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

// Bytes that go to one place of the file.
struct Piece {
  std::uint64_t offset = 0;
  ByteSpan bytes{};
  std::vector<std::uint32_t> page_sums{};
  std::uint64_t end() const { return offset + bytes.size(); }
};

// How many whole pages lie in the bytes: one checksum of the client's for each.
std::size_t whole_pages(std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t first = (offset + store::kPageBytes - 1) / store::kPageBytes;
  const std::uint64_t last = (offset + length) / store::kPageBytes;
  return last > first ? last - first : 0;
}

// What the write is of: one piece, unless it says otherwise. Nothing: it makes no sense.
std::optional<std::vector<Piece>> pieces_in(const wire::WriteRequest& message, ByteSpan bytes) {
  if (message.extents.empty())
    return std::vector<Piece>{{message.offset, bytes, message.page_sums}};
  if (message.append || message.extents.size() > wire::kExtentsMax) return std::nullopt;
  std::vector<Piece> pieces;
  std::uint64_t end = message.offset;
  std::size_t sums = 0;
  for (const wire::Extent& extent : message.extents) {
    const bool rises = extent.length > 0 && extent.offset >= end &&
                       extent.offset <= wire::kFileBytesMax && extent.length <= bytes.size();
    const std::size_t pages = whole_pages(extent.offset, extent.length);
    const bool has_sums = !message.page_sums.empty();
    if (!rises || (has_sums && sums + pages > message.page_sums.size())) return std::nullopt;
    Piece& piece = pieces.emplace_back(Piece{extent.offset, bytes.first(extent.length)});
    if (has_sums) {
      const auto from = message.page_sums.begin() + static_cast<std::ptrdiff_t>(sums);
      piece.page_sums.assign(from, from + static_cast<std::ptrdiff_t>(pages));
    }
    sums += pages;
    end = piece.end();
    bytes = bytes.subspan(extent.length);
  }
  const bool is_all = bytes.empty() && message.extents.front().offset == message.offset;
  if (!is_all) return std::nullopt;
  return pieces;
}

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

bool sums_match(const std::vector<Piece>& pieces) {
  return std::all_of(pieces.begin(), pieces.end(), [](const Piece& piece) {
    return sums_match(piece.page_sums, piece.offset, piece.bytes);
  });
}

// The write may be the second half of a copy.
void answer_written(Shard& shard, RequestPtr request, wire::WriteReply written) {
  written.may_delay = shard.has_plenty_of_space();
  if (request->op() != wire::FlareOp::copy) return shard.answer(std::move(request), written);
  auto length = static_cast<std::uint32_t>(request->payload.size());
  shard.answer(std::move(request), wire::CopyReply{length, written});
}

void write_in_row(Shard& shard, Ino ino, store::InodeRow& row,
                  const std::vector<Piece>& pieces) {
  Bytes data;
  const Piece& first = pieces.front();
  const bool is_whole = first.offset == 0 && first.bytes.size() >= row.size;
  if (row.place == store::ContentPlace::in_row && !is_whole)
    data = shard.get_raw(Shard::inline_key(ino)).value_or(Bytes{});
  if (data.size() < pieces.back().end()) data.resize(pieces.back().end());
  for (const Piece& piece : pieces)
    std::copy(piece.bytes.begin(), piece.bytes.end(),
              data.begin() + static_cast<std::ptrdiff_t>(piece.offset));
  shard.put_raw(Shard::inline_key(ino), data);
  row.place = store::ContentPlace::in_row;
}

// False: the request was taken.
bool write_home_file(Shard& shard, RequestPtr& request, Ino ino, store::InodeRow& row,
                     const std::vector<Piece>& pieces) {
  store::ContentId id{ring::home_of(ino), ino, 0};
  std::uint64_t end = pieces.back().end();
  std::uint64_t first =
      row.place == store::ContentPlace::in_row ? 0 : pieces.front().offset;
  if (!ensure_hot(shard, request, id, first, end - first)) return false;
  store::Version version = shard.version_of(id.slot);
  if (row.place == store::ContentPlace::in_row) {
    auto data = shard.get_raw(Shard::inline_key(ino)).value_or(Bytes{});
    if (auto written = shard.content().write(id, version, 0, data, {}); !written) {
      shard.refuse(std::move(request), written.error());
      return false;
    }
  }
  for (const Piece& piece : pieces) {
    auto written = shard.content().write(id, version, piece.offset, piece.bytes, piece.page_sums);
    if (written) continue;
    shard.refuse(std::move(request), written.error());
    return false;
  }
  // Not before: what is refused leaves the row as it was.
  if (row.place == store::ContentPlace::in_row) shard.erase(Shard::inline_key(ino));
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
  auto pieces = pieces_in(message, request->payload);
  const bool sets_what_it_may =
      !message.attributes || (message.attributes->ino == ino &&
                              (message.attributes->fields_set & ~wire::kSetWithWrite) == 0);
  if (!pieces || !sets_what_it_may) return shard.refuse(std::move(request), Code::malformed);
  if (message.append)  // the client did not know where its bytes would go
    pieces->front() = {row->size, request->payload, {}};
  const std::uint64_t offset = pieces->front().offset, end = pieces->back().end();
  if (end > wire::kFileBytesMax) return shard.refuse(std::move(request), Code::too_big);
  if (end > shard.config().small_file_bytes_max)
    return spill(shard, std::move(request), ino, message.key_for_chunks);
  if (!request->payload.empty()) {
    bool fits_row = std::max(row->size, end) <= Shard::kInlineBytesMax;
    const bool stays_in_row = row->place != store::ContentPlace::home_file && fits_row;
    // One piece is compared as it is written; of several none is written if one is wrong.
    if ((stays_in_row || pieces->size() > 1) && !sums_match(*pieces))
      return shard.refuse(std::move(request), Error{Code::checksum, "bytes of a write"});
    if (stays_in_row) {
      write_in_row(shard, ino, *row, *pieces);
    } else if (!write_home_file(shard, request, ino, *row, *pieces)) {
      return;
    }
    WallTime when = shard.time();
    row->size = std::max(row->size, end);
    row->mtime = when;
    row->ctime = std::max(row->ctime, when);
    ++row->data_version;
    if (message.kill_suidgid) row->mode = without_suid(*request, *row);
    drop_capability(shard, ino, *row);
    if (message.attributes) set_attributes(shard, *request, *message.attributes, *row, when);
    shard.put_inode(ino, *row);
  }
  wire::WriteReply reply{offset, row->size, row->mtime, row->data_version};
  if (message.attributes && !request->payload.empty()) reply.set_at = row->ctime;
  answer_written(shard, std::move(request), reply);
}

// One chunk's share of a write to a large file.
struct ChunkPiece {
  store::ContentId id;
  std::uint64_t start;  // in the chunk
  ByteSpan bytes;
  std::vector<std::uint32_t> page_sums;
};

// A piece that is cut loses its checksums: they are taken anew.
std::vector<ChunkPiece> pieces_of(Ino ino, const ring::Key& key,
                                  const std::vector<Piece>& wanted) {
  std::vector<ChunkPiece> pieces;
  for (const Piece& piece : wanted) {
    ByteSpan bytes = piece.bytes;
    std::uint64_t offset = piece.offset;
    while (!bytes.empty()) {
      auto chunk = static_cast<std::uint32_t>(offset / store::kChunkBytes);
      std::uint64_t start = offset % store::kChunkBytes;
      std::size_t length = std::min<std::uint64_t>(bytes.size(), store::kChunkBytes - start);
      const bool is_whole = length == piece.bytes.size();
      pieces.push_back({{crypto::key_of_chunk(key, chunk).slot(), ino, chunk},
                        start,
                        bytes.first(length),
                        is_whole ? piece.page_sums : std::vector<std::uint32_t>{}});
      bytes = bytes.subspan(length);
      offset += length;
    }
  }
  return pieces;
}

// Requires: not empty. Whether all are of one chunk.
bool is_one_chunk(const std::vector<ChunkPiece>& pieces) {
  return std::all_of(pieces.begin(), pieces.end(), [&](const ChunkPiece& piece) {
    return piece.id == pieces.front().id;
  });
}

// False: the request was taken.
bool ensure_all_hot(Shard& shard, RequestPtr& request, const std::vector<ChunkPiece>& pieces) {
  return std::all_of(pieces.begin(), pieces.end(), [&](const ChunkPiece& piece) {
    return ensure_hot(shard, request, piece.id, piece.start, piece.bytes.size());
  });
}

// False: the request was refused.
bool write_pieces(Shard& shard, RequestPtr& request, const std::vector<ChunkPiece>& pieces,
                  Ino ino, store::AuthorityRow& authority) {
  for (const ChunkPiece& piece : pieces) {
    auto row = shard.get<store::ChunkRow>(piece.id.row(store::Table::chunk));
    if (!row) row.emplace();
    // Every time: a power cut may have kept the chunk's row and lost the authority's.
    add_chunk(authority.chunks, piece.id.chunk);
    auto written = shard.content().write(piece.id, shard.version_of(piece.id.slot), piece.start,
                                         piece.bytes, piece.page_sums);
    if (!written) {
      // What earlier pieces put stays without effect: the size was not published.
      put_authority(shard, ino, authority);
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
  const auto wanted = pieces_in(message, request->payload);
  if (!wanted || message.append) return shard.refuse(std::move(request), Code::malformed);
  const auto pieces = pieces_of(message.ino, *message.key, *wanted);
  const bool is_here = !pieces.empty() && is_one_chunk(pieces) &&
                       pieces.front().id.slot == request->head.slot;
  if (!is_here) return shard.refuse(std::move(request), Code::malformed);
  const store::ContentId id = pieces.front().id;
  if (wanted->back().end() > wire::kFileBytesMax)
    return shard.refuse(std::move(request), Code::too_big);
  if (shard.is_space_short()) return shard.refuse_for_space(std::move(request));
  auto row = shard.get<store::ChunkRow>(id.row(store::Table::chunk));
  if (!row) return shard.refuse(std::move(request), Code::no_chunk);
  if (row->truncate_number > message.truncate_number)
    return shard.refuse(std::move(request), Code::behind_truncate);
  if (!ensure_all_hot(shard, request, pieces)) return;
  for (const ChunkPiece& piece : pieces) {
    auto written = shard.content().write(id, shard.version_of(id.slot), piece.start, piece.bytes,
                                         piece.page_sums);
    if (!written) {
      shard.put(id.row(store::Table::chunk), *row);  // of the pieces before
      return shard.refuse(std::move(request), written.error());
    }
    row->length = std::max(row->length, piece.start + piece.bytes.size());
  }
  shard.put(id.row(store::Table::chunk), *row);
  wire::WriteReply reply;
  reply.offset = message.offset;
  reply.is_published = false;
  reply.may_delay = shard.has_plenty_of_space();
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
    wire::WriteReply reply{offset, authority->size, authority->mtime, authority->data_version};
    reply.may_delay = shard.has_plenty_of_space();
    shard.answer(std::move(request), reply);
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
  auto wanted = pieces_in(message, request->payload);
  if (!wanted) return shard.refuse(std::move(request), Code::malformed);
  if (message.append) wanted->front() = {authority->size, request->payload, {}};
  const std::uint64_t offset = wanted->front().offset, end = wanted->back().end();
  if (end > wire::kFileBytesMax) return shard.refuse(std::move(request), Code::too_big);
  auto pieces = pieces_of(ino, key, *wanted);
  // An append goes to the authority's slot, any other write to the chunk's.
  ring::Slot asked = message.append || pieces.empty() ? key.slot() : pieces.front().id.slot;
  if (asked != request->head.slot || (!message.append && !is_one_chunk(pieces)))
    return shard.refuse(std::move(request), Code::malformed);
  const bool is_any_far = std::any_of(pieces.begin(), pieces.end(), [&](const ChunkPiece& piece) {
    return !shard.is_near(piece.id.slot);
  });
  if (is_any_far) return append_far(shard, std::move(request), message, *authority, pieces);
  if (!ensure_all_hot(shard, request, pieces)) return;
  if (!pieces.empty()) {
    if (!write_pieces(shard, request, pieces, ino, *authority)) return;
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
