#include "magmad/replication/mirror.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <set>
#include <utility>

#include "libmagma/base/log.h"
#include "libmagma/wire/codec.h"
#include "libmagma/wire/flare_messages.h"
#include "magmad/replication/slot_rows.h"
#include "magmad/store/page_sums.h"

namespace magma::replication {

namespace {

using wire::MirrorChangeKind;

constexpr std::size_t kOplogRowsSought = 4096;  // after an end in the middle of catching up

store::RowKey key_of(const wire::MirrorRow& row) {
  return {static_cast<store::Table>(row.table), row.a, row.b, row.c};
}

bool is_sound_row(const wire::MirrorRow& row) {
  return row.table >= 1 && row.table <= store::kTableLast &&
         is_mirrored(static_cast<store::Table>(row.table));
}

bool is_sound_change(const wire::MirrorChange& change) {
  if (!is_sound(change.range)) return false;
  if (change.kind == MirrorChangeKind::write) return change.range.length <= wire::kIoBytesMax;
  return change.kind >= MirrorChangeKind::write && change.kind <= MirrorChangeKind::remove;
}

bool needs_prepared(const wire::MirrorChange& change) {
  return change.kind == MirrorChangeKind::write || change.kind == MirrorChangeKind::punch;
}

// A row of the table chunk that goes takes its content with it.
std::optional<store::ContentId> content_of(store::Table table, std::uint64_t a, std::uint64_t b) {
  if (table != store::Table::chunk) return std::nullopt;
  return store::ContentId{ring::Slot(static_cast<std::uint16_t>(a >> ring::kCounterBits)), Ino(b),
                          static_cast<std::uint32_t>(a & ring::kCounterMask)};
}

}  // namespace

Mirror::Mirror(std::uint64_t number, sys::Clock& clock, store::MetadataStore& metadata,
               store::ContentStore& content, UniqueFunction<void(Answer)>& send)
    : number_(number), clock_(clock), metadata_(metadata), content_(content), send_(send) {}

// ---- what is known

Result<void> Mirror::restore(store::MirrorStreamRow row) {
  if (!ring::is_sound(row.known)) return fail(Code::io, "a mirror's row is malformed");
  state_ = std::move(row);
  slots_ = ring::set_of(state_.known);
  oplog_last_.fill(position());
  if (state_.is_mixed) TRY(find_in_oplog());
  note_committed();
  return {};
}

// A kill in the middle of catching up may have left rows of the oplog that are beyond position().
Result<void> Mirror::find_in_oplog() {
  const ring::SlotMask known = ring::set_of(state_.known);
  for (unsigned database = 0; database < store::kDatabases; ++database) {
    if (!first_slot_in(known, database)) continue;
    TRY_VALUE(auto ends, metadata_.oplog_ends(database));
    const std::uint64_t from = ends.last - std::min<std::uint64_t>(ends.last, kOplogRowsSought);
    std::optional<Error> broken;
    auto visit = [&](const store::MetadataStore::OplogRow& row) {
      auto body = wire::decode<store::OplogBody>(row.image);
      if (!body)
        broken = body.error();
      else
        oplog_last_[database] = std::max(
            oplog_last_[database], wire::MirrorPosition{row.version.epoch.value, body->batch});
      return !broken;
    };
    TRY(scan_oplog_of(metadata_, database, from, known, visit));
    if (broken) return fail(std::move(*broken));
    // They may lie further back: then it is as if nothing were known.
    if (from > ends.first && oplog_last_[database] == position()) state_.known.clear();
  }
  return {};
}

Result<void> Mirror::forget(const ring::SlotMask& slots) {
  const ring::SlotMask known = ring::set_of(state_.known);
  if ((known & slots).none()) return {};
  state_.known = ring::runs_of(known & ~slots);
  return put_state();
}

Result<void> Mirror::begin_run(std::uint64_t run, const ring::SlotMask& slots,
                               store::MirrorStreamRow known, bool is_of_one) {
  run_ = run;
  next_ = 1;
  slots_ = slots;
  // Rows of the oplog that came by several streams are not in one order.
  if (!is_of_one) {
    TRY(forget_oplog(slots));
    oplog_last_.fill({});
  }
  if (known == state_) return {};
  state_ = std::move(known);
  return put_state();
}

void Mirror::note_committed() {
  state_committed_ = state_;
  oplog_last_committed_ = oplog_last_;
}

// ---- answers

void Mirror::answer_with(const Request& request, Bytes body) {
  Answer answer;
  answer.target = request.target;
  answer.op = request.op();
  answer.body = std::move(body);
  send_(std::move(answer));
}

void Mirror::refuse(const Request& request, const Error& error) {
  ++stats_.refused;
  Answer answer;
  answer.target = request.target;
  answer.op = request.op();
  answer.ok = false;
  answer.code = error.code;
  send_(std::move(answer));
}

void Mirror::end_run(const Error& error) {
  ++generation_;  // first: the stores may call back
  run_ = 0;
  is_busy_ = false;
  prepared_.reset();
  if (batch_)
    for (const RequestPtr& request : batch_->requests) refuse(*request, error);
  for (const auto& [number, request] : waiting_) refuse(*request, error);
  batch_.reset();
  waiting_.clear();
}

void Mirror::undo() {
  state_ = state_committed_;
  oplog_last_ = oplog_last_committed_;
}

void Mirror::roll_back() {
  metadata_.rollback();
  content_.rolled_back();
  undo();
}

// The primary begins another.
void Mirror::fail_run(const Error& error) {
  log_error("mirror_failed stream={:#x} error={}", number_, describe(error));
  roll_back();
  end_run(error);
}

// ---- the order of a run

void Mirror::take(RequestPtr request, std::uint64_t number) {
  if (number < next_ || waiting_.contains(number))
    return refuse(*request, Error{Code::old_sequence, {}});
  if (number - next_ >= kWaitingMax) return refuse(*request, Error{Code::overloaded, {}});
  request->keep();
  waiting_[number] = std::move(request);
}

bool Mirror::has_work() const {
  if (is_busy_) return prepared_ && prepared_->result;
  return !waiting_.empty() && waiting_.begin()->first == next_;
}

void Mirror::pump() {
  if (is_busy_ && prepared_ && prepared_->result) next_change();
  take_next();
}

void Mirror::take_next() {
  while (!is_busy_ && !waiting_.empty() && waiting_.begin()->first == next_) {
    RequestPtr request = std::move(waiting_.begin()->second);
    waiting_.erase(waiting_.begin());
    ++next_;
    do_next(std::move(request));
  }
}

void Mirror::do_next(RequestPtr request) {
  switch (request->op()) {
    case wire::FlareOp::mirror_batch: {
      auto message = wire::decode_front<wire::MirrorBatchRequest>(request->body);
      if (!message) break;
      return batch(std::move(request), std::move(message->first), message->second);
    }
    case wire::FlareOp::mirror_rows: {
      auto message = wire::decode<wire::MirrorRowsRequest>(request->body);
      if (!message) break;
      auto done = rows(*message);
      if (done) return answer(*request, wire::EmptyReply{});
      refuse(*request, done.error());
      return fail_run(done.error());
    }
    case wire::FlareOp::mirror_check: {
      auto message = wire::decode<wire::MirrorCheckRequest>(request->body);
      if (!message) break;
      auto reply = check(*message);
      if (reply) return answer(*request, *reply);
      refuse(*request, reply.error());
      return fail_run(reply.error());
    }
    case wire::FlareOp::mirror_compare: {
      auto message = wire::decode<wire::MirrorCompareRequest>(request->body);
      if (!message) break;
      auto reply = compare(*message);
      // The run is as good as before.
      return reply ? answer(*request, *reply) : refuse(*request, reply.error());
    }
    case wire::FlareOp::mirror_scrub: {
      auto message = wire::decode<wire::MirrorScrubRequest>(request->body);
      if (!message) break;
      const Request asked{.head = request->head, .target = request->target};
      auto begun = begin_scrub(std::move(request), std::move(*message));
      if (!begun) refuse(asked, begun.error());
      return;
    }
    case wire::FlareOp::mirror_sync: return sync(std::move(request));
    default: break;
  }
  const Error malformed{Code::malformed, "message of a primary"};
  refuse(*request, malformed);
  fail_run(malformed);
}

// ---- batches

void Mirror::batch(RequestPtr request, wire::MirrorBatchRequest message, ByteSpan bytes) {
  if (!batch_) batch_ = std::make_unique<Batch>();
  wire::MirrorBatchRequest& all = batch_->message;
  all.position = message.position;
  all.mark = message.mark;
  std::move(message.changes.begin(), message.changes.end(), std::back_inserter(all.changes));
  std::move(message.rows.begin(), message.rows.end(), std::back_inserter(all.rows));
  std::move(message.log.begin(), message.log.end(), std::back_inserter(all.log));
  batch_->bytes.insert(batch_->bytes.end(), bytes.begin(), bytes.end());
  batch_->size += request->body.size();
  request->body = {};
  request->kept.clear();
  batch_->requests.push_back(std::move(request));
  if (batch_->size > kBatchBytesMax) return fail_run(Error{Code::too_long, "a batch"});
  if (!message.is_last) return;
  if (!is_sound(*batch_)) return fail_run(Error{Code::malformed, "a batch of the primary"});
  is_busy_ = true;
  for (std::size_t i = 0; i < all.changes.size(); ++i)
    batch_->last_change[id_of(all.changes[i].range)] = i;
  next_change();
}

bool Mirror::is_sound(const Batch& batch) const {
  const wire::MirrorBatchRequest& all = batch.message;
  std::size_t bytes = 0;
  for (const wire::MirrorChange& change : all.changes) {
    if (!is_sound_change(change) || !slots_[change.range.slot.value]) return false;
    if (change.kind == MirrorChangeKind::write) bytes += change.range.length;
  }
  return bytes == batch.bytes.size() && all.mark <= wire::MirrorMark::unknown &&
         std::all_of(all.rows.begin(), all.rows.end(),
                     [&](const wire::MirrorRow& row) {
                       return is_sound_row(row) && slots_[slot_of(row).value];
                     }) &&
         std::all_of(all.log.begin(), all.log.end(), [&](const wire::MirrorLog& log) {
           return log.slot.value < ring::kSlotCount && slots_[log.slot.value];
         });
}

// The version its batch has at the primary, as far as it says so.
store::Version Mirror::version_of(ring::Slot slot) const {
  for (const wire::MirrorLog& log : batch_->message.log)
    if (log.slot == slot) return {log.epoch, log.seq};
  return {Epoch(static_cast<std::uint32_t>(batch_->message.position.stream)), Seq(0)};
}

// A cut happens with the batch's rows, unless something follows in the same content.
void Mirror::next_change() {
  const std::vector<wire::MirrorChange>& changes = batch_->message.changes;
  while (batch_->next_change < changes.size()) {
    const std::size_t index = batch_->next_change;
    const wire::MirrorChange& what = changes[index];
    if (needs_prepared(what)) {
      auto ready = prepare(what);
      if (!ready) return;  // pump() goes on
      if (!*ready) return fail_run(ready->error());
    } else if (batch_->last_change.at(id_of(what.range)) == index) {
      batch_->late.push_back(index);
      ++batch_->next_change;
      continue;
    }
    if (auto done = change(what); !done) return fail_change(what.range, done.error());
    ++batch_->next_change;
  }
  finish_batch();
}

// Nothing while the store is still at it.
std::optional<Result<void>> Mirror::prepare(const wire::MirrorChange& what) {
  if (auto before = std::exchange(prepared_, nullptr)) return std::move(before->result);
  const store::ContentId id = id_of(what.range);
  if (auto settled = settle_cuts(id); !settled) return settled;
  auto waiting = std::make_shared<Waiting>();  // shared with the callback
  content_.prepare_write(id, version_of(id.slot), what.range.offset, what.range.length,
                         [waiting](Result<void> done) { waiting->result = std::move(done); });
  if (waiting->result) return std::move(waiting->result);
  prepared_ = std::move(waiting);
  // The volcano's own batches go on meanwhile: none of this is in them.
  if (auto done = commit(); !done) {
    prepared_.reset();
    return done;
  }
  return std::nullopt;
}

// A page that has rotten here cannot be changed in part: the next run brings it whole.
void Mirror::fail_change(const wire::MirrorRange& range, const Error& error) {
  if (error.code == Code::checksum && torn_.size() < wire::kMirrorTornMax) {
    const store::PageRange pages = store::pages_of(range.offset, range.length);
    torn_.push_back(range_of(id_of(range), pages.first * store::kPageBytes,
                             pages.count * store::kPageBytes));
  }
  fail_run(Error(error));
}

// What is written behind a cut or a removal waits for it, and that follows a commit.
Result<void> Mirror::settle_cuts(const store::ContentId& id) {
  if (std::find(batch_->cut.begin(), batch_->cut.end(), id) == batch_->cut.end()) return {};
  return commit();
}

Result<void> Mirror::change(const wire::MirrorChange& what) {
  const store::ContentId id = id_of(what.range);
  const wire::MirrorRange& range = what.range;
  switch (what.kind) {
    case MirrorChangeKind::write: {
      const ByteSpan bytes = ByteSpan(batch_->bytes).subspan(batch_->next_byte, range.length);
      batch_->next_byte += range.length;
      stats_.bytes += range.length;
      return content_.write(id, version_of(id.slot), range.offset, bytes, {});
    }
    case MirrorChangeKind::punch:
      return content_.punch(id, version_of(id.slot), range.offset, range.length);
    case MirrorChangeKind::truncate:
      batch_->cut.push_back(id);
      return content_.truncate(id, version_of(id.slot), range.offset);
    case MirrorChangeKind::remove: batch_->cut.push_back(id); return content_.remove(id);
  }
  return {};
}

void Mirror::finish_batch() {
  Result<void> done;
  for (std::size_t index : batch_->late)
    if (done) done = change(batch_->message.changes[index]);
  if (done) done = put_rows(batch_->message.rows);
  if (done) done = put_log(batch_->message.log);
  if (done) done = mark(batch_->message);
  if (done) done = commit();
  if (!done) return fail_run(done.error());
  ++stats_.batches;
  const std::unique_ptr<Batch> finished = std::move(batch_);
  is_busy_ = false;
  for (const RequestPtr& request : finished->requests) answer(*request, wire::EmptyReply{});
}

Result<void> Mirror::put_rows(const std::vector<wire::MirrorRow>& rows) {
  stats_.rows += rows.size();
  for (const wire::MirrorRow& row : rows) {
    if (row.is_erased)
      TRY(metadata_.erase(key_of(row)));
    else
      TRY(metadata_.put(key_of(row), {row.epoch, row.seq}, row.image));
  }
  return {};
}

Result<void> Mirror::put_log(const std::vector<wire::MirrorLog>& log) {
  for (const wire::MirrorLog& row : log) {
    TRY_VALUE(auto body, wire::decode<store::OplogBody>(row.image));
    const wire::MirrorPosition position{row.epoch.value, body.batch};
    wire::MirrorPosition& last = oplog_last_[row.slot.value % store::kDatabases];
    // Of one batch there are many rows.
    if (position < last) continue;
    last = position;
    TRY(metadata_.append_oplog(row.slot, {row.epoch, row.seq}, row.image));
  }
  return {};
}

// A row without content in each database that has none, as at the start of a primary.
Result<void> Mirror::begin_oplog() {
  const store::Version version{Epoch(static_cast<std::uint32_t>(state_.epoch)), Seq(0)};
  for (unsigned database = 0; database < store::kDatabases; ++database) {
    const auto slot = first_slot_in(slots_, database);
    if (!slot || oplog_last_[database] != wire::MirrorPosition{}) continue;
    oplog_last_[database] = position();
    TRY(metadata_.append_oplog(*slot, version,
                               wire::encode(store::OplogBody{state_.batch, {}, {}})));
  }
  return {};
}

Result<void> Mirror::forget_oplog(const ring::SlotMask& slots) {
  return slots.all() ? metadata_.clear_oplog() : metadata_.forget_oplog(slots);
}

Result<void> Mirror::mark(const wire::MirrorBatchRequest& message) {
  switch (message.mark) {
    case wire::MirrorMark::keep: return note_mixed();
    case wire::MirrorMark::unknown:
      TRY(forget_oplog(slots_));
      oplog_last_.fill({});
      state_.known.clear();
      break;
    case wire::MirrorMark::whole:
      state_.known = ring::runs_of(slots_);
      state_.is_mixed = false;
      state_.epoch = message.position.stream;
      state_.batch = message.position.batch;
      has_become_whole_ = true;
      TRY(begin_oplog());
      break;
  }
  return put_state();
}

// After everything else of the batch: what it says is so then.
Result<void> Mirror::put_state() {
  metadata_.set_commit_order({1, 2, 3, 0});
  return metadata_.put({store::Table::mirror, 0, number_, {}}, {}, wire::encode(state_));
}

Result<void> Mirror::note_mixed() {
  if (state_.is_mixed) return {};
  state_.is_mixed = true;
  return put_state();
}

Result<void> Mirror::commit() {
  if (metadata_.in_transaction()) {
    TRY(metadata_.commit());
    note_committed();
  }
  content_.committed();
  metadata_.checkpoint_if_due();
  if (batch_) batch_->cut.clear();
  return {};
}

// ---- copies

Result<void> Mirror::rows(const wire::MirrorRowsRequest& message) {
  const auto table = static_cast<store::Table>(message.table);
  if (message.table < 1 || message.table > store::kTableLast || !is_mirrored(table) ||
      message.database >= store::kDatabases || (message.rows.empty() && !message.is_end))
    return fail(Code::malformed, "rows of the primary");
  std::set<wire::MirrorKey> told;
  for (const wire::MirrorRow& row : message.rows) {
    wire::MirrorKey key{row.a, row.b, row.c};
    const bool is_in_order = told.empty() ? message.is_first || key > message.after
                                          : key > *told.rbegin();
    if (row.table != message.table || row.is_erased || !is_in_order ||
        !slots_[slot_of(row).value] ||
        key_of(row).slot().value % store::kDatabases != message.database)
      return fail(Code::malformed, "a row of the primary");
    told.insert(std::move(key));
  }
  std::vector<store::RowKey> gone;
  auto visit = [&](const store::MetadataStore::ScanRow& row) {
    const wire::MirrorKey key{row.a, row.b, std::string(row.c)};
    if (!message.is_end && key > *told.rbegin()) return false;
    const bool is_before = !message.is_first && key <= message.after;
    if (!is_before && !told.contains(key)) gone.push_back({table, row.a, row.b, key.c});
    return true;
  };
  TRY(scan_slots(metadata_, message.database,
                 {table, message.after.a, message.after.b, message.after.c}, slots_, visit));
  for (const store::RowKey& key : gone) {
    TRY(metadata_.erase(key));
    if (auto id = content_of(table, key.a, key.b)) TRY(content_.remove(*id));
  }
  TRY(put_rows(message.rows));
  TRY(note_mixed());
  return commit();
}

// Pages whose sums differ, as spans of bytes.
Result<wire::MirrorCheckReply> Mirror::check(const wire::MirrorCheckRequest& message) {
  if (!replication::is_sound(message.range) || !slots_[message.range.slot.value])
    return fail(Code::malformed, "a check of the primary");
  ++stats_.checks;
  const store::ContentId id = id_of(message.range);
  const store::PageRange all = store::pages_of(0, store::kChunkBytes);
  TRY_VALUE(auto own, store::get_sums(metadata_, id, all));
  std::vector<std::uint32_t> told(all.count, store::zero_page_sum());
  for (const wire::MirrorSums& sums : message.sums) {
    if (sums.image.size() % 4 != 0 || sums.image.size() / 4 > store::kPagesPerRow ||
        sums.part >= store::kChunkBytes / store::kSumsRangeBytes)
      return fail(Code::malformed, "sums of the primary");
    for (std::size_t i = 0; i < sums.image.size() / 4; ++i) {
      std::uint32_t sum = 0;
      for (std::size_t byte = 0; byte < 4; ++byte) sum = sum << 8 | sums.image[i * 4 + byte];
      told[sums.part * store::kPagesPerRow + i] = sum;
    }
  }
  const std::uint64_t pages = store::pages_of(0, message.range.length).count;
  // What follows the end within its page shows in that page's sum alone.
  const bool ends_otherwise = message.range.length % store::kPageBytes != 0 &&
                              own[pages - 1] != told[pages - 1];
  const bool is_longer =
      std::any_of(own.begin() + static_cast<std::ptrdiff_t>(pages), own.end(),
                  [](std::uint32_t sum) { return sum != store::zero_page_sum(); });
  if (is_longer || ends_otherwise) {
    TRY(content_.truncate(id, {Epoch(static_cast<std::uint32_t>(state_.epoch)), Seq(0)},
                          message.range.length));
    TRY(commit());
  }
  wire::MirrorCheckReply reply;
  for (std::uint64_t page = 0; page < pages; ++page) {
    if (own[page] == told[page]) continue;
    const std::uint64_t offset = page * store::kPageBytes;
    const std::uint64_t end = std::min(offset + store::kPageBytes, message.range.length);
    if (!reply.different.empty() &&
        reply.different.back().offset + reply.different.back().length == offset)
      reply.different.back().length += end - offset;
    else
      reply.different.push_back({offset, end - offset});
  }
  return reply;
}

// What comes after it does not wait.
void Mirror::sync(RequestPtr request) {
  sync_all([this, request = std::move(request)](Result<void> done) {
    if (done)
      answer(*request, wire::EmptyReply{});
    else
      refuse(*request, done.error());
  });
}

// Which batch is durable is known when contents and rows are.
void Mirror::sync_all(UniqueFunction<void(Result<void>)> done) {
  store::sync_everything(
      content_, metadata_,
      [this, life = std::weak_ptr<int>(life_), before = position(), generation = generation_,
       done = std::move(done)](Result<void> contents, Result<void> rows) mutable {
        if (life.expired()) return;
        const bool is_durable = contents && rows;
        if (is_durable && generation == generation_ && !state_.known.empty()) {
          state_.durable_epoch = state_committed_.durable_epoch = before.stream;
          state_.durable_batch = state_committed_.durable_batch = before.batch;
        }
        done(contents ? std::move(rows) : std::move(contents));
      });
}

// ---- time

Instant Mirror::deadline() const {
  const bool is_durable =
      position() == wire::MirrorPosition{state_.durable_epoch, state_.durable_batch};
  return !state_.known.empty() && !is_durable ? next_sync_ : Instant::never();
}

void Mirror::on_timer() {
  next_sync_ = clock_.now() + kSyncEvery;
  sync_all([](Result<void> done) {
    if (!done) log_error("mirror_sync_failed error={}", describe(done.error()));
  });
}

}  // namespace magma::replication
