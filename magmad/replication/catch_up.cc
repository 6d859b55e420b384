#include "magmad/replication/catch_up.h"

#include <algorithm>
#include <set>
#include <utility>

#include "libmagma/base/log.h"
#include "libmagma/wire/codec.h"
#include "libmagma/wire/flare_messages.h"
#include "magmad/replication/slot_rows.h"
#include "magmad/store/page_sums.h"

namespace magma::replication {

namespace {

using store::Table;
using wire::MirrorChangeKind;

store::RowKey key_in(Table table, const std::optional<wire::MirrorKey>& after) {
  if (!after) return {table, 0, 0, {}};
  return {table, after->a, after->b, after->c};
}

std::size_t bytes_of(const wire::MirrorRow& row) { return row.image.size() + row.c.size() + 48; }

Result<wire::MirrorPosition> position_of(const store::MetadataStore::OplogRow& row) {
  TRY_VALUE(auto body, wire::decode<store::OplogBody>(row.image));
  return wire::MirrorPosition{row.version.epoch.value, body.batch};
}

bool overlap(const wire::MirrorRange& a, const wire::MirrorRange& b) {
  return a.slot == b.slot && a.ino == b.ino && a.chunk == b.chunk &&
         a.offset < b.offset + b.length && b.offset < a.offset + a.length;
}

}  // namespace

// ---- the oplog

// The first id whose position is beyond; positions of the slots rise with ids.
Result<std::uint64_t> CatchUp::first_after(unsigned database, const wire::MirrorPosition& position,
                                           const store::MetadataStore::OplogEnds& ends) {
  std::uint64_t low = ends.first, high = ends.last + 1;
  std::optional<Error> broken;
  while (low < high) {
    const std::uint64_t middle = low + (high - low) / 2;
    bool is_beyond = true;  // so is the end, where no row of the slots follows
    auto visit = [&](const store::MetadataStore::OplogRow& row) {
      auto found = position_of(row);
      if (!found)
        broken = found.error();
      else
        is_beyond = *found > position;
      return false;
    };
    TRY(scan_oplog_of(metadata_, database, middle, slots_, visit));
    if (broken) return fail(std::move(*broken));
    if (is_beyond)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

// Whether the oplog of each database goes back to the position: the slots' oldest row is not beyond
// it, so none that was trimmed is. One of the next batch would not do: others of it may be trimmed.
Result<bool> CatchUp::find_in_oplog(const wire::MirrorPosition& position) {
  for (unsigned database = 0; database < store::kDatabases; ++database) {
    TRY_VALUE(auto ends, metadata_.oplog_ends(database));
    oplog_next_[database] = ends.last + 1;
    if (!first_slot_in(slots_, database)) continue;
    if (ends.first == 0) return false;
    bool is_there = false;
    auto visit = [&](const store::MetadataStore::OplogRow& row) {
      auto oldest = position_of(row);
      is_there = oldest && *oldest <= position;
      return false;
    };
    TRY(scan_oplog_of(metadata_, database, ends.first, slots_, visit));
    if (!is_there) return false;
    TRY_VALUE(oplog_next_[database], first_after(database, position, ends));
    oplog_last_[database] = ends.last;
  }
  return true;
}

Result<std::unique_ptr<CatchUp>> CatchUp::begin(store::MetadataStore& metadata,
                                                store::ContentStore& content,
                                                const ring::SlotMask& slots,
                                                const wire::MirrorPosition& position,
                                                const wire::MirrorHelloReply& mirror) {
  std::unique_ptr<CatchUp> catch_up(new CatchUp(metadata, content, slots));
  bool is_found = false;
  if ((slots & ~ring::set_of(mirror.known)).none()) {
    if (mirror.position > position) {
      log_warning("mirror_ahead stream={} batch={} own_stream={} own_batch={} action={}",
                  mirror.position.stream, mirror.position.batch, position.stream, position.batch,
                  "it is made equal to this volcano, whose storage is older");
    } else {
      TRY_VALUE(is_found, catch_up->find_in_oplog(mirror.position));
    }
  }
  catch_up->is_copy_ = !is_found;
  catch_up->phase_ = is_found ? Phase::tables : Phase::mark;
  for (const wire::MirrorRange& range : mirror.torn) catch_up->add_range(range);
  return catch_up;
}

// Some rows of it, in the form of a batch.
Result<void> CatchUp::read_oplog() {
  std::set<store::RowKey> keys;
  Effects effects;
  std::optional<Error> broken;
  auto visit = [&](const store::MetadataStore::OplogRow& row) {
    const bool is_enough = effects.log.size() >= kOplogRowsMax || keys.size() >= kRowsMax;
    if (is_enough) return false;
    oplog_next_[database_] = row.id + 1;
    auto body = wire::decode<store::OplogBody>(row.image);
    if (!body) {
      broken = body.error();
      return false;
    }
    effects.log.push_back({row.slot, row.version.epoch, row.version.seq,
                           Bytes(row.image.begin(), row.image.end())});
    if (row.id > oplog_last_[database_]) return true;
    for (store::RowKey& key : body->keys)
      if (is_mirrored(key.table)) keys.insert(std::move(key));
    for (const store::ContentRange& range : body->contents)
      add_range({row.slot, range.ino, range.chunk, range.offset, range.length});
    return true;
  };
  TRY(scan_oplog_of(metadata_, database_, oplog_next_[database_], slots_, visit));
  if (broken) return fail(std::move(*broken));
  for (const store::RowKey& key : keys) {
    TRY_VALUE(auto row, metadata_.get(key));
    add_row(effects.rows, key, row);
  }
  if (effects.log.empty()) {
    if (++database_ == store::kDatabases) phase_ = Phase::done;
    return {};
  }
  for (Piece& piece : pieces_of(effects, slots_, wire::MirrorMark::keep))
    made_.push_back(std::move(piece));
  return {};
}

// ---- rows

Piece CatchUp::mark_unknown() {
  wire::MirrorBatchRequest message;
  message.mark = wire::MirrorMark::unknown;
  phase_ = Phase::tables;
  return Piece{std::move(message)};
}

// After the oplog's way only the slots' rows are copied as a whole: a start writes them all.
void CatchUp::next_table() {
  after_.reset();
  do {
    ++table_;
  } while (table_ <= store::kTableLast && !is_mirrored(static_cast<Table>(table_)));
  const bool is_last = !is_copy_ || table_ > store::kTableLast;
  if (!is_last) return;
  table_ = 1;
  if (++database_ < store::kDatabases) return;
  database_ = 0;
  phase_ = is_copy_ ? Phase::contents : Phase::oplog;
}

Result<Piece> CatchUp::rows_piece() {
  static_assert(static_cast<int>(Table::slot) == 1);
  const auto table = static_cast<Table>(table_);
  wire::MirrorRowsRequest message;
  message.database = static_cast<std::uint8_t>(database_);
  message.table = table_;
  message.is_first = !after_;
  if (after_) message.after = *after_;
  message.is_end = true;
  std::size_t bytes = 0;
  auto visit = [&](const store::MetadataStore::ScanRow& row) {
    wire::MirrorKey key{row.a, row.b, std::string(row.c)};
    if (after_ && key <= *after_) return true;
    if (message.rows.size() == kRowsMax || bytes > wire::kMirrorBytesMax) {
      message.is_end = false;
      return false;
    }
    wire::MirrorRow& told = message.rows.emplace_back();
    told = {table_, row.a,     row.b,          std::move(key.c),
            false,  row.version.epoch, row.version.seq, Bytes(row.image.begin(), row.image.end())};
    bytes += bytes_of(told);
    if (table == Table::chunk)
      if (auto chunk = wire::decode<store::ChunkRow>(row.image)) bytes_total_ += chunk->length;
    return true;
  };
  TRY(scan_slots(metadata_, database_, key_in(table, after_), slots_, visit));
  if (message.is_end) {
    next_table();
  } else {
    const wire::MirrorRow& last = message.rows.back();
    after_ = wire::MirrorKey{last.a, last.b, last.c};
  }
  return Piece{std::move(message)};
}

// ---- contents

Result<std::optional<Piece>> CatchUp::check_piece() {
  while (database_ < store::kDatabases) {
    std::optional<store::ContentId> id;
    std::uint64_t length = 0;
    auto visit = [&](const store::MetadataStore::ScanRow& row) {
      wire::MirrorKey key{row.a, row.b, std::string(row.c)};
      if (after_ && key <= *after_) return true;
      after_ = std::move(key);
      auto chunk = wire::decode<store::ChunkRow>(row.image);
      if (!chunk) return true;  // fsck tells of it
      id = store::ContentId{ring::Slot(static_cast<std::uint16_t>(row.a >> ring::kCounterBits)),
                            Ino(row.b), static_cast<std::uint32_t>(row.a & ring::kCounterMask)};
      length = std::min(chunk->length, store::kChunkBytes);
      return false;
    };
    TRY(scan_slots(metadata_, database_, key_in(Table::chunk, after_), slots_, visit));
    if (!id) {
      ++database_;
      after_.reset();
      continue;
    }
    wire::MirrorCheckRequest message;
    message.range = range_of(*id, 0, length);
    auto sums = [&](const store::MetadataStore::ScanRow& row) {
      if (auto part = store::four_byte_number(row.c))
        message.sums.push_back({*part, Bytes(row.image.begin(), row.image.end())});
      return true;
    };
    TRY(metadata_.scan(id->row(Table::page_sums), id->row(Table::page_sums, std::string(4, '\xff')),
                       sums));
    ++checks_;
    return Piece{std::move(message)};
  }
  phase_ = Phase::done;
  return std::nullopt;
}

void CatchUp::checked(const wire::MirrorRange& range, const wire::MirrorCheckReply& reply) {
  if (checks_ > 0) --checks_;
  std::uint64_t different = 0;
  for (const wire::MirrorSpan& span : reply.different) {
    different += span.length;
    add_range(range_of(id_of(range), span.offset, span.length));
  }
  bytes_done_ += range.length - std::min(different, range.length);
}

void CatchUp::add_range(const wire::MirrorRange& range) {
  if (!is_copy_) bytes_total_ += range.length;
  ranges_.push_back(range);
}

// Reads at the front of the ranges; several small ones would gain little.
void CatchUp::begin_read() {
  reading_ = std::make_shared<Reading>();
  wire::MirrorRange& range = ranges_.front();
  reading_->range = range;
  reading_->range.length = std::min(range.length, kReadBytes);
  content_.read(id_of(range), range.offset, reading_->range.length,
                [this, reading = reading_, life = std::weak_ptr<int>(life_)](Result<Bytes> bytes) {
                  if (life.expired()) return;
                  reading->result = std::move(bytes);
                  if (reading == reading_ && ready_) ready_();
                });
}

Result<std::optional<Piece>> CatchUp::range_piece() {
  wire::MirrorRange& range = ranges_.front();
  const store::ContentId id = id_of(range);
  if (reading_ && !reading_->result) return std::nullopt;
  if (reading_ && reading_->is_stale) reading_.reset();
  wire::MirrorBatchRequest message;
  if (!reading_) {
    TRY_VALUE(auto row, metadata_.get(id.row(Table::chunk)));
    std::optional<store::ChunkRow> chunk;
    if (row) {
      TRY_VALUE(chunk, wire::decode<store::ChunkRow>(row->image));
    }
    const std::uint64_t length = chunk ? std::min(chunk->length, store::kChunkBytes) : 0;
    if (range.offset >= length || range.offset + range.length > length) {
      // What the range has beyond the end was cut or removed.
      const std::uint64_t left = range.offset < length ? length - range.offset : 0;
      bytes_done_ += range.length - left;
      range.length = left;
      message.changes.push_back({chunk ? MirrorChangeKind::truncate : MirrorChangeKind::remove,
                                 range_of(id, length, chunk ? store::kChunkBytes - length : 0)});
      if (left == 0) ranges_.pop_front();
      return Piece{std::move(message)};
    }
    if (range.length == 0) {
      ranges_.pop_front();
      return next();
    }
    begin_read();
    if (!reading_->result) return std::nullopt;
  }
  const std::shared_ptr<Reading> read = std::exchange(reading_, nullptr);
  const std::uint64_t length = read->range.length;
  range.offset += length;
  range.length -= length;
  bytes_done_ += length;
  if (range.length == 0) ranges_.pop_front();
  if (!*read->result) {
    // The mirror keeps what it has there; the scrubber or fsck tells of the damage here.
    log_error("not_mirrored ino={:#x} chunk={} offset={} error={}", id.ino.value, id.chunk,
              read->range.offset, describe(read->result->error()));
    return next();
  }
  message.changes.push_back({MirrorChangeKind::write, read->range});
  return Piece{std::move(message), std::move(**read->result)};
}

void CatchUp::changed(const Effects& effects) {
  for (const wire::MirrorRange& range : effects.doubtful)
    if (slots_[range.slot.value]) add_range(range);
  if (!reading_) return;
  for (const ContentChange& change : effects.changes)
    if (overlap(change.what.range, reading_->range)) reading_->is_stale = true;
}

Result<std::optional<Piece>> CatchUp::next() {
  while (phase_ == Phase::oplog && made_.empty() && ranges_.empty()) TRY(read_oplog());
  if (!made_.empty()) {
    Piece piece = std::move(made_.front());
    made_.pop_front();
    return piece;
  }
  if (phase_ == Phase::mark) return mark_unknown();
  if (phase_ == Phase::tables) {
    TRY_VALUE(Piece piece, rows_piece());
    return piece;
  }
  if (!ranges_.empty()) return range_piece();
  if (phase_ != Phase::contents || checks_ >= kChecksMax) return std::nullopt;
  return check_piece();
}

// ---- batches

bool concerns(const Effects& effects, const ring::SlotMask& slots) {
  if (slots.all()) return true;
  const auto any = [&](const auto& list, auto slot_of) {
    return std::any_of(list.begin(), list.end(),
                       [&](const auto& item) { return slots[slot_of(item).value]; });
  };
  return any(effects.log, [](const wire::MirrorLog& log) { return log.slot; }) ||
         any(effects.rows, [](const wire::MirrorRow& row) { return slot_of(row); }) ||
         any(effects.changes, [](const ContentChange& change) { return change.what.range.slot; }) ||
         any(effects.doubtful, [](const wire::MirrorRange& range) { return range.slot; });
}

std::vector<Piece> pieces_of(const Effects& effects, const ring::SlotMask& slots,
                             wire::MirrorMark mark, const CatchUp* beside) {
  std::vector<Piece> pieces;
  std::size_t size = 0;
  const auto current = [&](std::size_t more, bool is_data) -> wire::MirrorBatchRequest& {
    const bool is_full = !pieces.empty() && (size + more > wire::kMirrorBytesMax ||
                                             (is_data && !pieces.back().bytes.empty()));
    if (pieces.empty() || is_full) {
      Piece& piece = pieces.emplace_back();
      auto& message = piece.message.emplace<wire::MirrorBatchRequest>();
      message.position = effects.position;
      message.is_last = false;
      size = 0;
    }
    size += more;
    return std::get<wire::MirrorBatchRequest>(pieces.back().message);
  };
  for (const ContentChange& change : effects.changes) {
    if (!slots[change.what.range.slot.value]) continue;
    const bool is_large = change.bytes.size() > wire::kMirrorBytesMax;
    current(is_large ? 64 : change.bytes.size() + 64, is_large).changes.push_back(change.what);
    Bytes& bytes = pieces.back().bytes;
    bytes.insert(bytes.end(), change.bytes.begin(), change.bytes.end());
  }
  for (const wire::MirrorRow& row : effects.rows)
    if (slots[slot_of(row).value]) current(bytes_of(row), false).rows.push_back(row);
  for (const wire::MirrorLog& log : effects.log)
    if (slots[log.slot.value] && (beside == nullptr || !beside->brings_log_of(log.slot)))
      current(log.image.size() + 32, false).log.push_back(log);
  auto& last = current(0, false);
  last.is_last = true;
  last.mark = mark;
  return pieces;
}

}  // namespace magma::replication
