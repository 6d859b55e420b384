#include "magmad/replication/mirror.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <set>
#include <utility>

#include "libmagma/base/log.h"
#include "libmagma/wire/codec.h"
#include "libmagma/wire/flare_messages.h"
#include "magmad/replication/catch_up.h"
#include "magmad/store/page_sums.h"

namespace magma::replication {

namespace {

using wire::MirrorChangeKind;

const store::RowKey kStateKey{store::Table::mirror, 0, 0, {}};

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

Mirror::Mirror(sys::Clock& clock, store::MetadataStore& metadata, store::ContentStore& content,
               UniqueFunction<void(Answer)>& send)
    : clock_(clock), metadata_(metadata), content_(content), send_(send) {}

Result<void> Mirror::begin(bool clean, bool lost_power) {
  TRY_VALUE(auto row, metadata_.get(kStateKey));
  if (row) {
    TRY_VALUE(state_, wire::decode<store::MirrorStateRow>(row->image));
  } else {
    TRY(put_state());
    TRY(metadata_.commit());
  }
  for (unsigned database = 0; database < store::kDatabases; ++database) {
    TRY_VALUE(oplog_last_[database], last_in_oplog(metadata_, database));
  }
  if (lost_power) {
    state_.stream = state_.durable_stream;
    state_.batch = state_.durable_batch;
    // So that a kill before the next batch does not bring back what it said before.
    TRY(put_state());
    TRY(metadata_.commit());
  }
  note_committed();
  TRY(content_.sweep(!clean));
  if (clean) return {};
  TRY_VALUE(torn_, hot_ranges(metadata_));
  if (torn_.size() > wire::kMirrorTornMax) {  // copied as a whole then
    state_.is_whole = state_committed_.is_whole = false;
    torn_.clear();
  }
  const Epoch epoch(static_cast<std::uint32_t>(state_.stream));
  TRY_VALUE(std::uint64_t ranges, content_.recover({epoch, Seq(0)}));
  log_info("recovered hot_ranges={}", ranges);
  return {};
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

// Nothing more of the run is done, and nothing that a batch of it has begun.
void Mirror::end_run(const Error& error) {
  ++generation_;  // first: the stores may call back
  run_ = 0;
  is_busy_ = false;
  metadata_.rollback();
  content_.rolled_back();
  state_ = state_committed_;
  oplog_last_ = oplog_last_committed_;
  if (batch_)
    for (const RequestPtr& request : batch_->requests) refuse(*request, error);
  for (const auto& [number, request] : waiting_) refuse(*request, error);
  batch_.reset();
  waiting_.clear();
}

// The primary begins another.
void Mirror::fail_run(const Error& error) {
  log_error("mirror_failed error={}", describe(error));
  end_run(error);
}

// ---- the order of a run

void Mirror::handle(RequestPtr request) {
  if (request->op() == wire::FlareOp::mirror_hello) {
    auto message = wire::decode<wire::MirrorHelloRequest>(request->body);
    if (!message) return refuse(*request, Error{Code::malformed, {}});
    return hello(std::move(request), *message);
  }
  auto head = wire::decode_front<wire::MirrorHead>(request->body);
  if (!head) return refuse(*request, Error{Code::malformed, {}});
  const auto [run, number] = head->first;
  if (run != run_ || run_ == 0 || number < next_)
    return refuse(*request, Error{Code::old_sequence, {}});
  if (waiting_.contains(number)) return refuse(*request, Error{Code::old_sequence, {}});
  if (number - next_ >= kWaitingMax) return refuse(*request, Error{Code::overloaded, {}});
  request->keep();
  waiting_[number] = std::move(request);
  take_next();
}

void Mirror::hello(RequestPtr request, const wire::MirrorHelloRequest& message) {
  if (message.head.run == 0) return refuse(*request, Error{Code::malformed, {}});
  end_run(Error{Code::old_sequence, {}});
  run_ = message.head.run;
  next_ = 1;
  wire::MirrorHelloReply reply;
  reply.is_whole = state_.is_whole && state_.primary == message.primary;
  reply.position = position();
  reply.torn = torn_;
  state_.primary = message.primary;
  log_info("mirrored_by volcano={} whole={} stream={} batch={}", message.primary, reply.is_whole,
           state_.stream, state_.batch);
  answer(*request, reply);
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
  next_change();
}

bool Mirror::is_sound(const Batch& batch) const {
  const wire::MirrorBatchRequest& all = batch.message;
  std::size_t bytes = 0;
  for (const wire::MirrorChange& change : all.changes) {
    if (!is_sound_change(change)) return false;
    if (change.kind == MirrorChangeKind::write) bytes += change.range.length;
  }
  return bytes == batch.bytes.size() && all.mark <= wire::MirrorMark::unknown &&
         std::all_of(all.rows.begin(), all.rows.end(),
                     [](const wire::MirrorRow& row) { return is_sound_row(row); }) &&
         std::all_of(all.log.begin(), all.log.end(), [](const wire::MirrorLog& log) {
           return log.slot.value < ring::kSlotCount;
         });
}

// The version its batch has at the primary, as far as it says so.
store::Version Mirror::version_of(ring::Slot slot) const {
  for (const wire::MirrorLog& log : batch_->message.log)
    if (log.slot == slot) return {log.epoch, log.seq};
  return {Epoch(static_cast<std::uint32_t>(batch_->message.position.stream)), Seq(0)};
}

void Mirror::next_change() {
  while (batch_->next_change < batch_->message.changes.size()) {
    const wire::MirrorChange& what = batch_->message.changes[batch_->next_change];
    const store::ContentId id = id_of(what.range);
    if (needs_prepared(what)) {
      if (auto settled = settle_cuts(id); !settled) return fail_run(settled.error());
      struct Waiting {
        bool is_inside = true;
        std::optional<Result<void>> result;
      };
      auto waiting = std::make_shared<Waiting>();  // shared with the callback
      content_.prepare_write(
          id, version_of(id.slot), what.range.offset, what.range.length,
          [this, waiting, generation = generation_,
           life = std::weak_ptr<int>(life_)](Result<void> done) {
            if (waiting->is_inside) {
              waiting->result = std::move(done);
              return;
            }
            if (!life.expired() && generation == generation_) prepared(std::move(done));
          });
      waiting->is_inside = false;
      if (!waiting->result) return;  // prepared() goes on
      if (!*waiting->result) return fail_run(waiting->result->error());
    }
    if (auto done = change(what); !done) return fail_change(what.range, done.error());
    ++batch_->next_change;
  }
  finish_batch();
}

void Mirror::prepared(Result<void> ready) {
  if (!ready) return fail_run(ready.error());
  const wire::MirrorChange& what = batch_->message.changes[batch_->next_change];
  if (auto done = change(what); !done) return fail_change(what.range, done.error());
  ++batch_->next_change;
  next_change();
  take_next();
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
  Result<void> done = put_rows(batch_->message.rows);
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
  const store::Version version{Epoch(static_cast<std::uint32_t>(state_.stream)), Seq(0)};
  for (unsigned database = 0; database < store::kDatabases; ++database) {
    if (oplog_last_[database] != wire::MirrorPosition{}) continue;
    oplog_last_[database] = position();
    TRY(metadata_.append_oplog(ring::Slot(static_cast<std::uint16_t>(database)), version,
                               wire::encode(store::OplogBody{state_.batch, {}, {}})));
  }
  return {};
}

Result<void> Mirror::mark(const wire::MirrorBatchRequest& message) {
  switch (message.mark) {
    case wire::MirrorMark::keep: return note_mixed();
    case wire::MirrorMark::unknown:
      TRY(metadata_.clear_oplog());
      oplog_last_.fill({});
      state_.is_whole = false;
      break;
    case wire::MirrorMark::whole:
      state_.is_whole = true;
      state_.is_mixed = false;
      state_.stream = message.position.stream;
      state_.batch = message.position.batch;
      torn_.clear();
      TRY(begin_oplog());
      break;
  }
  return put_state();
}

// After everything else of the batch: what it says is so then.
Result<void> Mirror::put_state() {
  metadata_.set_commit_order({1, 2, 3, 0});
  return metadata_.put(kStateKey, {}, wire::encode(state_));
}

Result<void> Mirror::note_mixed() {
  if (state_.is_mixed) return {};
  state_.is_mixed = true;
  return put_state();
}

void Mirror::note_committed() {
  state_committed_ = state_;
  oplog_last_committed_ = oplog_last_;
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
        key_of(row).slot().value % store::kDatabases != message.database)
      return fail(Code::malformed, "a row of the primary");
    told.insert(std::move(key));
  }
  std::vector<store::RowKey> gone;
  const auto visit = [&](const store::MetadataStore::ScanRow& row) {
    const wire::MirrorKey key{row.a, row.b, std::string(row.c)};
    if (!message.is_end && key > *told.rbegin()) return false;
    const bool is_before = !message.is_first && key <= message.after;
    if (!is_before && !told.contains(key)) gone.push_back({table, row.a, row.b, key.c});
    return true;
  };
  TRY(metadata_.scan_from(message.database,
                          {table, message.after.a, message.after.b, message.after.c}, visit));
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
  if (!replication::is_sound(message.range))
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
    TRY(content_.truncate(id, {Epoch(static_cast<std::uint32_t>(state_.stream)), Seq(0)},
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

// Contents first: rows that tell of them must not be durable before they are.
void Mirror::sync_all(UniqueFunction<void(Result<void>)> done) {
  content_.sync_all([this, life = std::weak_ptr<int>(life_), before = position(),
                     generation = generation_,
                     done = std::move(done)](Result<void> content) mutable {
    if (life.expired()) return;
    metadata_.sync_all([this, life, before, generation, done = std::move(done),
                        content = std::move(content)](Result<void> metadata) mutable {
      if (life.expired()) return;
      const bool is_durable = content && metadata;
      if (is_durable && generation == generation_ && state_.is_whole) {
        state_.durable_stream = state_committed_.durable_stream = before.stream;
        state_.durable_batch = state_committed_.durable_batch = before.batch;
      }
      done(content ? std::move(metadata) : std::move(content));
    });
  });
}

// ---- time

Instant Mirror::deadline() const {
  const bool is_durable =
      position() == wire::MirrorPosition{state_.durable_stream, state_.durable_batch};
  return state_.is_whole && !is_durable ? next_sync_ : Instant::never();
}

void Mirror::on_timer() {
  next_sync_ = clock_.now() + kSyncEvery;
  sync_all([](Result<void> done) {
    if (!done) log_error("mirror_sync_failed error={}", describe(done.error()));
  });
}

}  // namespace magma::replication
