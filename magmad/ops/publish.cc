// What clients ask the size authority of a large file whose home or chunks are other volcanoes':
// content (size and times), reserve (a chunk is to be made), publish (one was written).
#include <algorithm>

#include "libmagma/crypto/path_hash.h"
#include "magmad/ops/authority.h"
#include "magmad/ops/content.h"
#include "magmad/ops/operations.h"
#include "magmad/ops/ops.h"

namespace magma::ops {

namespace {

// The authority's row, or the request was taken: it waits for a truncate, or there is none, or the
// asker knows an older truncate number.
std::optional<store::AuthorityRow> authority_for(Shard& shard, RequestPtr& request, Ino ino,
                                                 const ring::Key& key,
                                                 std::optional<std::uint64_t> truncate_number) {
  if (shard.is_locked(ino, kContentLockName)) {
    shard.park(std::move(request), ino, kContentLockName);
    return std::nullopt;
  }
  if (key.slot() != request->head.slot) {
    shard.refuse(std::move(request), Code::malformed);
    return std::nullopt;
  }
  auto authority = authority_of(shard, ino, key);
  if (!authority) {
    shard.refuse(std::move(request), Code::stale);
    return std::nullopt;
  }
  if (!truncate_number || *truncate_number == authority->truncate_number) return authority;
  shard.refuse_moved(std::move(request), Code::behind_truncate, moved_reply(ino, *authority));
  return std::nullopt;
}

}  // namespace

void content(Shard& shard, RequestPtr request, wire::ContentRequest message) {
  auto authority = authority_for(shard, request, message.ino, message.key, {});
  if (!authority) return;
  shard.told(message.ino, Tokens::Of::flare);
  wire::ContentReply reply;
  reply.size = authority->size;
  reply.blocks = content_blocks(shard, message.ino, *authority);
  reply.mtime = authority->mtime;
  reply.ctime = authority->ctime;
  reply.data_version = authority->data_version;
  reply.truncate_number = authority->truncate_number;
  shard.answer(std::move(request), reply);
}

void publish(Shard& shard, RequestPtr request, wire::PublishRequest message) {
  if (message.offset > wire::kFileBytesMax || message.length > wire::kFileBytesMax)
    return shard.refuse(std::move(request), Code::malformed);
  auto authority = authority_for(shard, request, message.ino, message.key,
                                 message.truncate_number);
  if (!authority) return;
  WallTime when = shard.time();
  authority->size = std::max(authority->size, message.offset + message.length);
  authority->mtime = when;
  authority->ctime = std::max(authority->ctime, when);
  ++authority->data_version;
  put_authority(shard, message.ino, *authority);
  if (message.kill_suidgid) kill_privileges(shard, *request, message.ino);
  wire::WriteReply reply{message.offset, authority->size, authority->mtime,
                         authority->data_version};
  reply.may_delay = shard.has_plenty_of_space();
  shard.answer(std::move(request), reply);
}

// The chunk is made at its slot, then the authority's row names it, which is the commit point.
void reserve(Shard& shard, RequestPtr request, wire::ReserveRequest message) {
  auto authority = authority_for(shard, request, message.ino, message.key,
                                 message.truncate_number);
  if (!authority) return;
  if (std::uint64_t{message.chunk} * store::kChunkBytes >= wire::kFileBytesMax)
    return shard.refuse(std::move(request), Code::too_big);
  const ring::Slot home = request->head.slot;
  OpId op = shard.operations().begin(home, OperationKind::reserve, std::move(request));
  auto prepared = [&shard, op, message](Result<Bytes> made) {
    auto row = made ? authority_of(shard, message.ino, message.key) : std::nullopt;
    if (!row) {
      const Error error = made ? Error{Code::stale, {}} : made.error();
      return shard.refuse_or_wait(shard.operations().abort(op), error);
    }
    add_chunk(row->chunks, message.chunk);
    put_authority(shard, message.ino, *row);
    RequestPtr asker = shard.operations().commit(op, {}, ApplyWhen::durable_lazily);
    shard.answer(std::move(asker), wire::EmptyReply{});
  };
  shard.operations().prepare(
      op, crypto::key_of_chunk(message.key, message.chunk).slot(), PartKind::make_chunk,
      wire::encode(MakeChunk{message.ino, message.chunk, message.truncate_number}),
      std::move(prepared));
}

}  // namespace magma::ops
