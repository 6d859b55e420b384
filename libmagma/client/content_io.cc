#include "libmagma/client/content_io.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "libmagma/base/check.h"
#include "libmagma/crypto/checksum.h"
#include "libmagma/crypto/path_hash.h"

namespace magma::client {

std::vector<std::uint32_t> page_sums_of(std::uint64_t offset, ByteSpan bytes) {
  std::vector<std::uint32_t> sums;
  std::uint64_t skip = (kPageBytes - offset % kPageBytes) % kPageBytes;
  if (bytes.size() < skip + kPageBytes) return sums;
  sums.reserve((bytes.size() - skip) / kPageBytes);
  for (std::size_t at = skip; at + kPageBytes <= bytes.size(); at += kPageBytes)
    sums.push_back(crypto::crc32c(bytes.subspan(at, kPageBytes)));
  return sums;
}

std::vector<std::uint32_t> page_sums_of(const std::vector<wire::Extent>& extents,
                                        ByteSpan bytes) {
  std::vector<std::uint32_t> sums;
  for (const wire::Extent& extent : extents) {
    const auto more = page_sums_of(extent.offset, bytes.first(extent.length));
    sums.insert(sums.end(), more.begin(), more.end());
    bytes = bytes.subspan(extent.length);
  }
  return sums;
}

void ContentIo::Operation::reset() {
  std::vector<Token> kept = std::move(requests);
  kept.clear();
  *this = Operation{};
  requests = std::move(kept);
}

ContentIo::ContentIo(Config config, Requests& requests, FileTable& files, KeySource& keys,
                     sys::Clock& clock)
    : config_(config), requests_(requests), files_(files), keys_(keys), clock_(clock) {}

// ---- common

namespace {
struct FailWith {
  Error error;
  Bytes bytes{};
  void operator()(std::monostate) {}
  void operator()(ContentIo::PiecesDone& done) {
    done(fail(std::move(error)), std::move(bytes));
  }
  template <class T>
  void operator()(Done<T>& done) {
    done(fail(std::move(error)));
  }
};
}  // namespace

ContentIo::Id ContentIo::admit(Operation::Kind kind, Ino ino, Credentials who, Done3& done) {
  if (slab_.size() >= kOperationsMax) {
    std::visit(FailWith{.error = {Code::overloaded, "too many calls under way"}}, done);
    return 0;
  }
  Id id = slab_.take();
  Operation& op = *find(id);
  op.kind = kind;
  op.ino = ino;
  op.who = who;
  op.since = clock_.now();
  op.done = std::move(done);
  return id;
}

// Ends an operation: with its result, or with `error` if it has a code.
void ContentIo::finish(Id id, Error error, const wire::WriteReply* written) {
  Operation& op = *find(id);
  Done3 done = std::move(op.done);
  Bytes bytes = std::move(op.bytes);
  std::uint32_t position = op.position;
  bool was_in_flight = op.kind == Operation::Kind::write && !op.is_waiting;
  if (was_in_flight) bytes_in_flight_ -= op.length;
  slab_.give_back(id);
  if (was_in_flight) pump_writes();
  if (error.code != Code{})
    return std::visit(FailWith{.error = std::move(error), .bytes = std::move(bytes)}, done);
  if (auto* read_done = std::get_if<Done<Bytes>>(&done)) (*read_done)(std::move(bytes));
  if (auto* write_done = std::get_if<Done<wire::WriteReply>>(&done)) (*write_done)(*written);
  if (auto* pieces = std::get_if<PiecesDone>(&done)) (*pieces)(*written, std::move(bytes));
  if (auto* synced = std::get_if<Done<wire::EmptyReply>>(&done)) (*synced)(wire::EmptyReply());
  if (auto* copied = std::get_if<Done<std::uint64_t>>(&done)) (*copied)(std::uint64_t{position});
}

template <class Message>
void ContentIo::begin_part(Id id, ring::Slot slot, const Message& message, RawDone done,
                           Bytes tail) {
  Credentials who = find(id)->who;
  Token token = requests_.begin(slot, who, message, AnyDone(std::move(done)), std::move(tail));
  // The part may be over already, and with it the operation.
  Operation* op = find(id);
  if (op == nullptr || token == 0) return;
  op->requests.push_back(token);
  if (op->is_bound) requests_.bind_to_session(token);
}

void ContentIo::note_failure(Operation& op, Answer& answer) {
  if (answer.code == Code::no_chunk) {
    op.is_moved = op.wants_chunk = true;
    return;
  }
  if (answer.code == Code::behind_truncate && answer.body.empty()) {
    op.is_moved = op.is_behind = true;
    return;
  }
  if (answer.code == Code::moved_to_chunks || answer.code == Code::behind_truncate) {
    auto moved = wire::decode<wire::MovedReply>(answer.body);
    if (moved && (moved->ino == op.ino || moved->ino == op.source)) {
      files_.learn_moved(moved->ino, *moved, clock_.now());
      op.is_moved = true;
      op.is_behind = moved->is_partial && moved->ino == op.ino;
      return;
    }
    answer.code = Code::malformed;
  }
  if (op.error.code == Code{}) op.error = Error{answer.code, std::move(answer.detail)};
}

// After a part was answered. False: other parts are under way, the operation has failed, or it has
// begun again elsewhere; there is nothing more to do for the caller.
bool ContentIo::is_settled(Id id, Operation& op) {
  if (op.pending > 0) return false;
  op.requests.clear();
  if (op.error.code != Code{}) {
    finish(id, std::move(op.error), nullptr);
    return false;
  }
  if (!op.is_moved) return true;
  op.is_moved = false;
  ++moved_;
  const bool is_behind = std::exchange(op.is_behind, false);
  const bool wants_chunk = std::exchange(op.wants_chunk, false);
  if (++op.moves > kMovesMax)
    finish(id, Error{Code::io, "the content keeps moving"}, nullptr);
  else if (is_behind)
    ask_attr(id);
  else if (wants_chunk)
    reserve(id);
  else
    step(id);
  return false;
}

void ContentIo::step(Id id) {
  switch (find(id)->kind) {
    case Operation::Kind::read: return step_read(id);
    case Operation::Kind::write: return step_write(id);
    case Operation::Kind::fsync: return step_fsync(id);
    case Operation::Kind::copy: return step_copy(id);
    case Operation::Kind::none: break;
  }
  MAGMA_CHECK(false);
}

// Asks home for the attributes, then goes on with the operation.
void ContentIo::ask_attr(Id id) {
  Operation& op = *find(id);
  op.has_asked_attr = true;
  op.pending = 1;
  wire::GetattrRequest message;
  message.ino = op.ino;
  begin_part(id, ring::home_of(op.ino), message, [this, id](Answer& answer) {
    Operation* asker = find(id);
    if (asker == nullptr) return;
    --asker->pending;
    if (answer.is_ok()) {
      auto reply = wire::decode<wire::AttrReply>(answer.body);
      if (reply)
        files_.learn(reply->attr, clock_.now());
      else
        answer.code = Code::malformed;
    }
    if (!answer.is_ok()) note_failure(*asker, answer);
    if (is_settled(id, *asker)) step(id);
  });
}

void ContentIo::cancel(CallId call) {
  Id id = call & ~kOperationBit;
  Operation* op = find(id);
  if (op == nullptr) return;
  std::vector<Token> parts = std::move(op->requests);
  op->requests.clear();
  finish(id, Error{Code::interrupted, {}}, nullptr);
  for (Token part : parts) requests_.abandon(part);
}

// ---- read

CallId ContentIo::read(Ino ino, std::uint64_t offset, std::uint32_t length, Credentials who,
                       Done<Bytes> done) {
  if (length > wire::kIoBytesMax) {
    done(fail(Code::invalid, "read of more than 1 MiB"));
    return 0;
  }
  if (length == 0 || offset >= wire::kFileBytesMax) {
    done(Bytes{});
    return 0;
  }
  Done3 any = std::move(done);
  Id id = admit(Operation::Kind::read, ino, who, any);
  if (id == 0) return 0;
  Operation& op = *find(id);
  op.offset = offset;
  op.length = length;
  step_read(id);
  return id | kOperationBit;
}

void ContentIo::step_read(Id id) {
  Operation& op = *find(id);
  const File* file = files_.find(op.ino);
  op.bytes.clear();
  if (file == nullptr || !file->placement.in_chunks) {
    op.pending = 1;
    return read_part(id, op.offset, op.length, 0, nullptr);
  }
  if (op.offset + op.length > file->size && !op.has_asked_attr &&
      (!file->size_at || clock_.now() - *file->size_at > kSizeFresh))
    return ask_attr(id);
  if (op.offset >= file->size) return finish(id, {}, nullptr);
  auto length =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(op.length, file->size - op.offset));
  op.bytes.resize(length);
  std::uint64_t border = (op.offset / kChunkBytes + 1) * kChunkBytes;
  wire::Placement placement = file->placement;
  if (op.offset + length <= border) {
    op.pending = 1;
    return read_part(id, op.offset, length, 0, &placement);
  }
  auto first = static_cast<std::uint32_t>(border - op.offset);
  std::uint64_t offset = op.offset;
  op.pending = 2;
  read_part(id, offset, first, 0, &placement);
  if (find(id) != nullptr) read_part(id, border, length - first, first, &placement);
}

// `at`: where in the result the part begins. `placement`: null for a file at home.
void ContentIo::read_part(Id id, std::uint64_t offset, std::uint32_t length, std::uint32_t at,
                          const wire::Placement* placement) {
  Operation& op = *find(id);
  wire::ReadRequest message;
  message.ino = op.ino;
  message.offset = offset;
  message.length = length;
  ring::Slot slot = ring::home_of(op.ino);
  if (placement != nullptr) {
    message.key = placement->key;
    message.truncate_number = placement->truncate_number;
    slot = crypto::key_of_chunk(*placement->key, chunk_of(offset)).slot();
  }
  begin_part(id, slot, message,
             [this, id, at, length](Answer& answer) { on_read(id, at, length, answer); });
}

void ContentIo::on_read(Id id, std::uint32_t at, std::uint32_t length, Answer& answer) {
  Operation* op = find(id);
  if (op == nullptr) return;
  --op->pending;
  if (answer.is_ok()) {
    auto front = wire::decode_front<wire::ReadReply>(answer.body);
    if (!front || front->second.size() > length) {
      answer.code = Code::malformed;
    } else if (op->bytes.empty()) {  // from home: exactly what the file has
      op->bytes.assign(front->second.begin(), front->second.end());
    } else if (!front->second.empty()) {  // from a chunk: the rest of the part stays zero
      std::memcpy(op->bytes.data() + at, front->second.data(), front->second.size());
    }
  }
  if (!answer.is_ok()) note_failure(*op, answer);
  if (is_settled(id, *op)) finish(id, {}, nullptr);
}

// ---- write

CallId ContentIo::write(Ino ino, std::uint64_t offset, Bytes bytes, bool append,
                        bool kill_suidgid, Credentials who, Done<wire::WriteReply> done) {
  if (append) offset = 0;
  if (bytes.size() > wire::kIoBytesMax || offset > wire::kFileBytesMax - bytes.size()) {
    bool is_long = bytes.size() > wire::kIoBytesMax;
    done(fail(is_long ? Code::invalid : Code::too_big));
    return 0;
  }
  Done3 any = std::move(done);
  Id id = admit(Operation::Kind::write, ino, who, any);
  if (id == 0) return 0;
  Operation& op = *find(id);
  op.offset = offset;
  op.length = static_cast<std::uint32_t>(bytes.size());
  op.bytes = std::move(bytes);
  op.append = append;
  op.kill_suidgid = kill_suidgid;
  op.is_waiting = true;
  start_or_queue(id);
  return id | kOperationBit;
}

CallId ContentIo::write_pieces(Pieces pieces, Credentials who, PiecesDone done) {
  Done3 any = std::move(done);
  Id id = admit(Operation::Kind::write, pieces.ino, who, any);
  if (id == 0) return 0;
  Operation& op = *find(id);
  op.offset = pieces.extents.front().offset;
  op.length = static_cast<std::uint32_t>(pieces.bytes.size());
  op.bytes = std::move(pieces.bytes);
  if (pieces.extents.size() > 1) op.extents = std::move(pieces.extents);
  op.attributes = std::move(pieces.attributes);
  op.kill_suidgid = pieces.kill_suidgid;
  op.is_bound = true;
  // Who delays writes has a limit of its own.
  bytes_in_flight_ += op.length;
  step_write(id);
  return id | kOperationBit;
}

// A write is always let through when nothing else is in flight, however long it is.
void ContentIo::start_or_queue(Id id) {
  Operation& op = *find(id);
  bool has_room = bytes_in_flight_ + op.length <= config_.write_bytes_in_flight_max;
  if (!waiting_writes_.empty() || (!has_room && bytes_in_flight_ > 0)) {
    waiting_writes_.push_back(id);
    return;
  }
  op.is_waiting = false;
  bytes_in_flight_ += op.length;
  step_write(id);
}

void ContentIo::pump_writes() {
  if (is_pumping_) return;
  is_pumping_ = true;
  while (!waiting_writes_.empty()) {
    Id id = waiting_writes_.front();
    Operation* op = find(id);
    if (op != nullptr) {
      bool has_room = bytes_in_flight_ + op->length <= config_.write_bytes_in_flight_max;
      if (!has_room && bytes_in_flight_ > 0) break;
    }
    waiting_writes_.pop_front();
    if (op == nullptr) continue;  // cancelled
    op->is_waiting = false;
    bytes_in_flight_ += op->length;
    step_write(id);
  }
  is_pumping_ = false;
}

void ContentIo::step_write(Id id) {
  Operation& op = *find(id);
  const File* file = files_.find(op.ino);
  wire::WriteRequest message;
  message.ino = op.ino;
  message.append = op.append;
  message.kill_suidgid = op.kill_suidgid;
  message.offset = op.offset + op.position;
  ring::Slot slot = ring::home_of(op.ino);
  std::uint32_t length = op.length - op.position;
  if (file != nullptr && file->placement.in_chunks) {
    const wire::Placement& placement = file->placement;
    message.key = placement.key;
    message.truncate_number = op.truncate_number = placement.truncate_number;
    std::uint32_t chunk = 0;  // the size authority takes appends, wherever they end up
    if (!op.append) {
      chunk = chunk_of(message.offset);
      std::uint64_t room = kChunkBytes - message.offset % kChunkBytes;
      if (op.extents.empty())
        length = static_cast<std::uint32_t>(std::min<std::uint64_t>(length, room));
    }
    slot = crypto::key_of_chunk(*placement.key, chunk).slot();
  } else if (op.append || op.offset + op.length > small_file_bytes_max_ ||
             op.offset + op.span() > small_file_bytes_max_) {
    message.key_for_chunks = keys_.key_of(op.ino);
  }
  op.part_length = length;
  op.pending = 1;
  // The payload is moved along if it is all one part, and comes back with the answer.
  Bytes tail;
  if (length == op.length)
    tail = std::move(op.bytes);
  else
    tail.assign(op.bytes.begin() + op.position, op.bytes.begin() + op.position + length);
  message.extents = op.extents;
  if (!message.key && length == op.length) message.attributes = op.attributes;
  if (!op.extents.empty())
    message.page_sums = page_sums_of(op.extents, tail);
  else if (!op.append)
    message.page_sums = page_sums_of(message.offset, tail);
  begin_part(id, slot, message, [this, id](Answer& answer) { on_written(id, answer); },
             std::move(tail));
}

void ContentIo::on_written(Id id, Answer& answer) {
  Operation* op = find(id);
  if (op == nullptr) return;
  --op->pending;
  if (op->part_length == op->length) op->bytes = std::move(answer.tail);
  auto reply = answer.is_ok() ? wire::decode<wire::WriteReply>(answer.body) : fail(answer.code);
  if (answer.is_ok() && !reply) answer.code = Code::malformed;
  if (!answer.is_ok()) note_failure(*op, answer);
  if (!is_settled(id, *op)) return;
  if (reply->is_published) return part_written(id, *reply);
  publish(id, reply->offset);
}

// The size authority has the chunk made, then the write is sent again.
void ContentIo::reserve(Id id) {
  Operation& op = *find(id);
  const File* file = files_.find(op.ino);
  if (file == nullptr || !file->placement.key) return step(id);
  wire::ReserveRequest message;
  message.ino = op.ino;
  message.key = *file->placement.key;
  message.chunk = chunk_of(op.offset + op.position);
  message.truncate_number = file->placement.truncate_number;
  op.pending = 1;
  begin_part(id, message.key.slot(), message, [this, id](Answer& answer) {
    Operation* asker = find(id);
    if (asker == nullptr) return;
    --asker->pending;
    if (!answer.is_ok()) note_failure(*asker, answer);
    if (is_settled(id, *asker)) step(id);
  });
}

// The chunk has the bytes; the size authority, which is another volcano's, does not know yet.
void ContentIo::publish(Id id, std::uint64_t offset) {
  Operation& op = *find(id);
  const File* file = files_.find(op.ino);
  if (file == nullptr || !file->placement.key) return step(id);
  wire::PublishRequest message;
  message.ino = op.ino;
  message.key = *file->placement.key;
  message.offset = offset;
  message.length = op.span();
  message.truncate_number = op.truncate_number;
  message.kill_suidgid = op.kill_suidgid;
  op.pending = 1;
  begin_part(id, message.key.slot(), message,
             [this, id](Answer& answer) { on_published(id, answer); });
}

void ContentIo::on_published(Id id, Answer& answer) {
  Operation* op = find(id);
  if (op == nullptr) return;
  --op->pending;
  auto reply = answer.is_ok() ? wire::decode<wire::WriteReply>(answer.body) : fail(answer.code);
  if (answer.is_ok() && !reply) answer.code = Code::malformed;
  if (!answer.is_ok()) note_failure(*op, answer);
  if (is_settled(id, *op)) part_written(id, *reply);
}

void ContentIo::part_written(Id id, wire::WriteReply written) {
  Operation* op = find(id);
  files_.learn_write(op->ino, written, op->span(), small_file_bytes_max_, clock_.now());
  op->moves = 0;
  op->position += op->part_length;
  if (op->position < op->length) return step_write(id);
  if (!op->append) written.offset = op->offset;
  finish(id, {}, &written);
}

// ---- copy

CallId ContentIo::copy(Ino from, std::uint64_t from_offset, Ino to, std::uint64_t to_offset,
                       std::uint64_t length, bool kill_suidgid, Credentials who,
                       Done<std::uint64_t> done) {
  length = std::min<std::uint64_t>(length, kCopyBytesMax);
  if (from_offset >= wire::kFileBytesMax || length == 0) {
    done(std::uint64_t{0});
    return 0;
  }
  if (to_offset > wire::kFileBytesMax - length) {
    done(fail(Code::too_big));
    return 0;
  }
  Done3 any = std::move(done);
  Id id = admit(Operation::Kind::copy, to, who, any);
  if (id == 0) return 0;
  Operation& op = *find(id);
  op.source = from;
  op.source_offset = from_offset;
  op.offset = to_offset;
  op.length = static_cast<std::uint32_t>(length);
  op.kill_suidgid = kill_suidgid;
  step_copy(id);
  return id | kOperationBit;
}

// A piece: within one chunk of the source and one of the target, at most what a write may have.
void ContentIo::step_copy(Id id) {
  Operation& op = *find(id);
  wire::CopyRequest message;
  wire::ReadRequest& read = message.source;
  wire::WriteRequest& write = message.target;
  std::uint64_t length = std::min<std::uint64_t>(op.length - op.position, wire::kIoBytesMax);
  read.ino = op.source;
  read.offset = op.source_offset + op.position;
  const File* source = files_.find(op.source);
  if (source != nullptr && source->placement.in_chunks) {
    read.key = source->placement.key;
    read.truncate_number = source->placement.truncate_number;
    length = std::min(length, kChunkBytes - read.offset % kChunkBytes);
  }
  write.ino = op.ino;
  write.offset = op.offset + op.position;
  write.kill_suidgid = op.kill_suidgid;
  ring::Slot slot = ring::home_of(op.ino);
  const File* target = files_.find(op.ino);
  if (target != nullptr && target->placement.in_chunks) {
    const wire::Placement& placement = target->placement;
    write.key = placement.key;
    write.truncate_number = placement.truncate_number;
    length = std::min(length, kChunkBytes - write.offset % kChunkBytes);
    slot = crypto::key_of_chunk(*placement.key, chunk_of(write.offset)).slot();
  } else if (write.offset + length > small_file_bytes_max_) {
    write.key_for_chunks = keys_.key_of(op.ino);
  }
  read.length = static_cast<std::uint32_t>(length);
  op.part_length = read.length;
  if (op.copies_itself) return copy_piece(id);
  op.pending = 1;
  begin_part(id, slot, message, [this, id](Answer& answer) { on_copied(id, answer); });
}

// A piece of which not all is one volcano's: it goes through here.
void ContentIo::copy_piece(Id id) {
  Operation& op = *find(id);
  auto got = [this, id](Result<Bytes> bytes) {
    Operation* asker = find(id);
    if (asker == nullptr) return;
    if (!bytes) return piece_copied(id, fail(bytes.error()));
    const auto length = static_cast<std::uint32_t>(bytes->size());
    if (length == 0) return piece_copied(id, length);
    write(asker->ino, asker->offset + asker->position, std::move(*bytes), false,
          asker->kill_suidgid, asker->who,
          [this, id, length](Result<wire::WriteReply> written) {
            piece_copied(id, written ? Result<std::uint32_t>(length) : fail(written.error()));
          });
  };
  read(op.source, op.source_offset + op.position, op.part_length, op.who, std::move(got));
}

void ContentIo::piece_copied(Id id, Result<std::uint32_t> copied) {
  Operation* op = find(id);
  if (op == nullptr) return;
  if (!copied && op->position == 0) return finish(id, copied.error(), nullptr);
  op->position += copied.value_or(0);
  const bool is_last = !copied || *copied < op->part_length || op->position == op->length;
  if (is_last) return finish(id, {}, nullptr);
  step_copy(id);
}

void ContentIo::on_copied(Id id, Answer& answer) {
  Operation* op = find(id);
  if (op == nullptr) return;
  --op->pending;
  std::uint32_t copied = 0;
  if (answer.code == Code::unsupported) {
    op->requests.clear();
    op->copies_itself = true;
    return copy_piece(id);
  }
  if (answer.is_ok()) {
    auto reply = wire::decode<wire::CopyReply>(answer.body);
    if (reply && reply->length <= op->part_length) {
      copied = reply->length;
      if (copied > 0)
        files_.learn_write(op->ino, reply->written, copied, small_file_bytes_max_, clock_.now());
    } else {
      answer.code = Code::malformed;
    }
  }
  if (!answer.is_ok()) note_failure(*op, answer);
  if (op->error.code != Code{} && op->position > 0)
    op->error = Error{};  // what was copied before counts, as with write(2)
  else if (!is_settled(id, *op))
    return;
  op->moves = 0;
  op->position += copied;
  if (copied < op->part_length || op->position == op->length) return finish(id, {}, nullptr);
  step_copy(id);
}

// ---- fsync

CallId ContentIo::fsync(Ino ino, Credentials who, Done<wire::EmptyReply> done) {
  Done3 any = std::move(done);
  Id id = admit(Operation::Kind::fsync, ino, who, any);
  if (id == 0) return 0;
  step_fsync(id);
  return id | kOperationBit;
}

void ContentIo::step_fsync(Id id) {
  Operation& op = *find(id);
  const File* file = files_.find(op.ino);
  bool is_in_chunks = file != nullptr && file->placement.in_chunks;
  if (file != nullptr && file->may_have_spilled && !is_in_chunks && !op.has_asked_attr)
    return ask_attr(id);
  Ino ino = op.ino;
  if (!is_in_chunks) {
    if (file != nullptr) op.stamp = file->stamp;
    op.pending = 1;
    return fsync_part(id, ring::home_of(ino), {});
  }
  op.stamp = file->stamp;
  ring::Key key = *file->placement.key;
  std::vector<std::pair<ring::Slot, std::uint32_t>> chunks;
  chunks.reserve(file->written.size() + 1);
  chunks.emplace_back(key.slot(), 0);
  for (const WrittenChunk& written : file->written)
    if (written.chunk != 0)
      chunks.emplace_back(crypto::key_of_chunk(key, written.chunk).slot(), written.chunk);
  std::sort(chunks.begin(), chunks.end());
  std::uint32_t slots = 1;
  for (std::size_t i = 1; i < chunks.size(); ++i)
    if (chunks[i].first != chunks[i - 1].first) ++slots;
  op.pending = 1 + slots;
  fsync_part(id, ring::home_of(ino), {});
  for (std::size_t from = 0; from < chunks.size() && find(id) != nullptr;) {
    std::vector<std::uint32_t> numbers;
    std::size_t to = from;
    for (; to < chunks.size() && chunks[to].first == chunks[from].first; ++to)
      numbers.push_back(chunks[to].second);
    fsync_part(id, chunks[from].first, std::move(numbers));
    from = to;
  }
}

void ContentIo::fsync_part(Id id, ring::Slot slot, std::vector<std::uint32_t> chunks) {
  wire::FsyncRequest message;
  message.ino = find(id)->ino;
  message.chunks = std::move(chunks);
  begin_part(id, slot, message, [this, id](Answer& answer) { on_synced(id, answer); });
}

void ContentIo::on_synced(Id id, Answer& answer) {
  Operation* op = find(id);
  if (op == nullptr) return;
  --op->pending;
  if (!answer.is_ok()) note_failure(*op, answer);
  if (!is_settled(id, *op)) return;
  if (File* file = files_.find(op->ino)) {
    FileTable::clear_written(*file, op->stamp);
    if (file->written.empty()) file->may_have_spilled = false;
  }
  finish(id, {}, nullptr);
}

// ---- time

// Writes that wait for room have no request whose stall could be noticed.
Instant ContentIo::deadline() const {
  if (!config_.fail_when_away || waiting_writes_.empty()) return Instant::never();
  const Operation* first = const_cast<Slab<Operation>&>(slab_).find(waiting_writes_.front());
  return first == nullptr ? Instant{} : first->since + config_.stall;
}

void ContentIo::on_timer() {
  if (!config_.fail_when_away) return;
  Instant now = clock_.now();
  while (!waiting_writes_.empty()) {
    Id id = waiting_writes_.front();
    const Operation* op = find(id);
    if (op != nullptr && now - op->since < config_.stall) return;
    waiting_writes_.pop_front();
    if (op != nullptr) finish(id, Error{Code::io, "volcano away: no room for writes"}, nullptr);
  }
}

}  // namespace magma::client
