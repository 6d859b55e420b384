#include "magmad/replication/comparisons.h"

#include <algorithm>
#include <utility>

#include "libmagma/wire/codec.h"
#include "libmagma/wire/flare_messages.h"
#include "magmad/replication/slot_rows.h"

namespace magma::replication {

namespace {

using store::Table;
using wire::DifferenceKind;

bool is_sound(const wire::CompareCursor& cursor) {
  return cursor.database < store::kDatabases && cursor.table <= store::kTableLast &&
         cursor.after.c.size() <= Comparisons::kKeyBytesMax &&
         cursor.offset <= store::kChunkBytes && cursor.offset % store::kPageBytes == 0;
}

// The first table that is compared from that number on; behind the last if there is none.
std::uint8_t table_from(std::uint8_t table) {
  while (table <= store::kTableLast && !is_compared(table)) ++table;
  return table;
}

// Where to go on in its stream when the cursor's table has come to its end.
std::optional<wire::CompareCursor> behind_table(const wire::CompareCursor& cursor,
                                                bool reads_content) {
  wire::CompareCursor next;
  next.stream = cursor.stream;
  next.is_content = cursor.is_content;
  next.database = cursor.database;
  next.table =
      cursor.is_content ? std::uint8_t{0} : table_from(static_cast<std::uint8_t>(cursor.table + 1));
  const bool has_more = !cursor.is_content && next.table <= store::kTableLast;
  if (has_more) return next;
  next.table = 0;
  if (++next.database < store::kDatabases) return next;
  if (cursor.is_content || !reads_content) return std::nullopt;
  next.database = 0;
  next.is_content = true;
  return next;
}

wire::MirrorKey key_of(const wire::MirrorRange& range) {
  const store::RowKey key = id_of(range).row(Table::chunk);
  return {key.a, key.b, key.c};
}

}  // namespace

void Comparisons::begin(wire::CompareRequest request, const ring::SlotMask& slots,
                        std::optional<std::uint16_t> following, Done done) {
  if (!is_sound(request.cursor)) return done(fail(Code::malformed));
  if (under_way_.size() >= kUnderWayMax) return done(fail(Code::overloaded));
  Comparison& added = under_way_[++last_number_];
  added.request = std::move(request);
  added.slots = slots;
  added.following = following;
  added.done = std::move(done);
  added.until = clock_.now() + kPatience;
}

std::optional<wire::CompareCursor> Comparisons::behind(const Comparison& comparison,
                                                       const wire::CompareCursor& cursor) {
  auto next = behind_table(cursor, comparison.request.reads_content);
  if (!next && comparison.following) next = wire::CompareCursor{.stream = *comparison.following};
  return next;
}

std::optional<Comparisons::Asked> Comparisons::next(ring::VolcanoId mirror, std::uint16_t stream) {
  for (auto at = under_way_.begin(); at != under_way_.end();) {
    auto& [number, comparison] = *at++;  // it may end here
    if (comparison.is_asked || comparison.request.mirror != mirror.value ||
        comparison.request.cursor.stream != stream)
      continue;
    comparison.reply.is_in_sync = true;
    auto piece = make_piece(comparison);
    if (!piece || !*piece) {
      finish(number, piece ? Result<void>() : fail(std::move(piece.error())));
      continue;
    }
    comparison.is_asked = true;
    Asked asked{std::move(**piece), number};
    scrub_next(number);
    return asked;
  }
  return std::nullopt;
}

Result<std::optional<Piece>> Comparisons::make_piece(Comparison& comparison) {
  ++stats_.pieces;
  if (comparison.request.cursor.is_content) return content_piece(comparison);
  TRY_VALUE(Piece piece, rows_piece(comparison));
  return std::optional(std::move(piece));
}

// ---- rows

Result<Piece> Comparisons::rows_piece(Comparison& comparison) {
  wire::CompareCursor& cursor = comparison.request.cursor;
  cursor.table = table_from(cursor.table);
  if (cursor.table > store::kTableLast) return fail(Code::malformed);
  RowRange range{.database = cursor.database, .table = static_cast<Table>(cursor.table)};
  if (cursor.is_inside) range.after = cursor.after;
  TRY_VALUE(RowsSeen seen, see_rows(metadata_, comparison.slots, range, kRowsMax, kRowBytesMax));
  wire::MirrorCompareRequest message;
  message.database = cursor.database;
  message.table = cursor.table;
  message.is_first = !cursor.is_inside;
  message.after = cursor.after;
  message.is_end = seen.is_end;
  if (!seen.is_end) message.last = seen.rows.back().key;
  message.digest = digest_of(seen.rows);
  if (seen.is_end) {
    comparison.reply.next = behind(comparison, cursor);
  } else {
    comparison.reply.next = cursor;
    comparison.reply.next->is_inside = true;
    comparison.reply.next->after = seen.rows.back().key;
  }
  comparison.ours = std::move(seen.rows);
  return Piece{std::move(message)};
}

// If the mirror has more rows than it tells, only those up to its last one are compared, and the
// next piece begins there.
Result<void> Comparisons::take_rows(Comparison& comparison, const wire::MirrorCompareReply& reply) {
  std::vector<wire::ComparedRow>& ours = comparison.ours;
  comparison.reply.rows = ours.size();
  if (reply.is_same) return {};
  wire::CompareCursor& cursor = comparison.request.cursor;
  const wire::MirrorKey* before = cursor.is_inside ? &cursor.after : nullptr;
  for (const wire::ComparedRow& row : reply.rows) {
    if (before != nullptr && row.key <= *before) return fail(Code::malformed, "rows of a mirror");
    before = &row.key;
  }
  if (reply.is_cut) {
    if (reply.rows.empty()) return fail(Code::malformed, "rows of a mirror");
    const wire::MirrorKey& last = reply.rows.back().key;
    std::erase_if(ours, [&](const wire::ComparedRow& row) { return row.key > last; });
    comparison.reply.rows = ours.size();
    comparison.reply.next = cursor;
    comparison.reply.next->is_inside = true;
    comparison.reply.next->after = last;
  }
  comparison.reply.differences = differences_of(static_cast<Table>(cursor.table), ours, reply.rows);
  return {};
}

// ---- contents

Result<std::optional<Piece>> Comparisons::content_piece(Comparison& comparison) {
  wire::CompareCursor at = comparison.request.cursor;
  std::size_t looked_at = 0;
  std::uint64_t bytes = 0;
  bool is_end = true;
  auto visit = [&](const store::MetadataStore::ScanRow& row) {
    wire::MirrorKey key{row.a, row.b, std::string(row.c)};
    const bool goes_on = at.is_inside && key == at.after && at.offset > 0;
    if (at.is_inside && key <= at.after && !goes_on) return true;
    if (++looked_at > kContentRowsMax || bytes >= kContentBytesMax ||
        comparison.ranges.size() >= wire::kScrubRangesMax) {
      is_end = false;
      return false;
    }
    auto chunk = wire::decode<store::ChunkRow>(row.image);
    const std::uint64_t length = chunk ? std::min(chunk->length, store::kChunkBytes) : 0;
    const std::uint64_t from = goes_on ? at.offset : 0;
    std::uint64_t take = std::min(length - std::min(from, length), kContentBytesMax - bytes);
    const bool is_whole = from + take >= length;
    if (!is_whole) take -= take % store::kPageBytes;
    is_end = is_whole;
    if (take == 0 && !is_whole) return false;
    const store::ContentId id{ring::Slot(static_cast<std::uint16_t>(row.a >> ring::kCounterBits)),
                              Ino(row.b), static_cast<std::uint32_t>(row.a & ring::kCounterMask)};
    if (take > 0) comparison.ranges.push_back(range_of(id, from, take));
    bytes += take;
    at.is_inside = true;
    at.after = std::move(key);
    at.offset = is_whole ? 0 : from + take;
    return is_whole;
  };
  store::RowKey from{Table::chunk, 0, 0, {}};
  if (at.is_inside) from = {Table::chunk, at.after.a, at.after.b, at.after.c};
  TRY(scan_slots(metadata_, at.database, from, comparison.slots, visit));
  comparison.reply.bytes = bytes;
  comparison.reply.next = is_end ? behind(comparison, at) : std::optional(at);
  if (comparison.ranges.empty()) return std::nullopt;
  wire::MirrorScrubRequest message;
  message.ranges = comparison.ranges;
  return Piece{std::move(message)};
}

Result<void> Comparisons::take_damage(Comparison& comparison, const wire::MirrorScrubReply& reply) {
  comparison.has_theirs = true;
  if (reply.damaged.size() > comparison.ranges.size())
    return fail(Code::malformed, "damage of a mirror");
  for (const wire::MirrorDamage& damage : reply.damaged) {
    if (damage.which >= comparison.ranges.size())
      return fail(Code::malformed, "damage of a mirror");
    const bool is_wrong = damage.code == static_cast<std::uint16_t>(Code::checksum);
    comparison.reply.differences.push_back(
        {is_wrong ? DifferenceKind::damaged : DifferenceKind::unreadable,
         static_cast<std::uint8_t>(Table::chunk), key_of(comparison.ranges[damage.which]),
         damage.offset});
  }
  return {};
}

// The own contents, one after the other.
void Comparisons::scrub_next(std::uint64_t number) {
  auto found = under_way_.find(number);
  if (found == under_way_.end()) return;
  const Comparison& comparison = found->second;
  if (comparison.scrubbed >= comparison.ranges.size()) return settle(number);
  const wire::MirrorRange& range = comparison.ranges[comparison.scrubbed];
  content_.scrub(id_of(range), range.offset, range.length,
                 [this, number, life = std::weak_ptr<int>(life_)](auto bad) {
                   if (!life.expired()) scrubbed(number, bad);
                 });
}

void Comparisons::scrubbed(std::uint64_t number, const Result<std::optional<std::uint64_t>>& bad) {
  auto found = under_way_.find(number);
  if (found == under_way_.end()) return;
  Comparison& comparison = found->second;
  const wire::MirrorRange& range = comparison.ranges[comparison.scrubbed++];
  if (!bad || *bad)
    comparison.reply.differences.push_back(
        {bad ? DifferenceKind::damaged_here : DifferenceKind::unreadable_here,
         static_cast<std::uint8_t>(Table::chunk), key_of(range), bad ? **bad : range.offset});
  scrub_next(number);
}

// ---- the end of a piece

void Comparisons::answered(std::uint64_t number, ByteSpan body) {
  auto found = under_way_.find(number);
  if (found == under_way_.end()) return;
  Comparison& comparison = found->second;
  Result<void> taken;
  if (comparison.request.cursor.is_content) {
    auto reply = wire::decode<wire::MirrorScrubReply>(body);
    taken = reply ? take_damage(comparison, *reply) : fail(std::move(reply.error()));
    if (taken) return settle(number);
  } else {
    auto reply = wire::decode<wire::MirrorCompareReply>(body);
    taken = reply ? take_rows(comparison, *reply) : fail(std::move(reply.error()));
  }
  finish(number, std::move(taken));
}

// A piece of contents ends when both have read them.
void Comparisons::settle(std::uint64_t number) {
  const Comparison& comparison = under_way_.at(number);
  if (comparison.has_theirs && comparison.scrubbed == comparison.ranges.size()) finish(number, {});
}

void Comparisons::finish(std::uint64_t number, Result<void> result) {
  auto ended = under_way_.extract(number);
  if (ended.empty()) return;
  Comparison& comparison = ended.mapped();
  stats_.differences += comparison.reply.differences.size();
  if (result)
    comparison.done(std::move(comparison.reply));
  else
    comparison.done(fail(std::move(result.error())));
}

void Comparisons::refused(std::uint64_t number, Code code) { finish(number, fail(code)); }

void Comparisons::not_in_sync(std::uint64_t number) {
  auto found = under_way_.find(number);
  if (found == under_way_.end()) return;
  found->second.reply = {};
  finish(number, {});
}

// ---- time

Instant Comparisons::deadline() const {
  Instant next = Instant::never();
  for (const auto& [number, comparison] : under_way_)
    if (!comparison.is_asked) next = std::min(next, comparison.until);
  return next;
}

void Comparisons::on_timer() {
  const Instant now = clock_.now();
  std::vector<std::uint64_t> ended;
  for (const auto& [number, comparison] : under_way_)
    if (!comparison.is_asked && comparison.until <= now) ended.push_back(number);
  for (std::uint64_t number : ended) not_in_sync(number);
}

}  // namespace magma::replication
