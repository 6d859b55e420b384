// The batch of the shard: one transaction of many requests, its oplog rows, and what mirrors are
// told of it.
#include <algorithm>
#include <iterator>
#include <utility>

#include "libmagma/base/log.h"
#include "magmad/ops/operations.h"
#include "magmad/ops/ops.h"
#include "magmad/shard.h"

namespace magma {

namespace {

constexpr std::size_t kRoundsPerFlush = 256;  // chained steps of operations in one flush

}  // namespace

// ---- the batch

bool Shard::has_work() const {
  const bool is_held_to_look_at =
      !held_.empty() && (tokens_.ended() != held_looked_at_ || has_news_of_held_);
  const bool any_answer = !answers_.empty() || !answers_committed_.empty() || is_held_to_look_at;
  if (failed()) return any_answer;
  if (!orphans_to_look_at_.empty() && tokens_.ended() != orphans_looked_at_) return true;
  const bool is_recalling = !recalling_.empty() || operations_->has_recalled();
  if (is_recalling && tokens_.ended() != recalling_looked_at_) return true;
  return any_answer || !ready_.empty() || !ready_steps_.empty() || !touched_.empty() ||
         !logged_.empty() || batch_error_.has_value() || operations_->has_messages() ||
         metadata_.in_transaction();
}

void Shard::flush(UniqueFunction<void(Answer)>& send) {
  for (std::size_t round = 0; round < kRoundsPerFlush && has_work(); ++round) {
    now_ = clock_.now();
    operations_->deliver();
    look_at_orphans();
    look_at_recalls();
    run_steps();
    auto requests = std::move(ready_);
    ready_.clear();
    for (auto& request : requests) dispatch(std::move(request));
    finish_step();
    commit_batch();
    auto answers = std::move(answers_committed_);
    answers_committed_.clear();
    std::move(answers_.begin(), answers_.end(), std::back_inserter(answers));
    answers_.clear();
    step_.first_answer = 0;
    if (!held_.empty()) send_held(send);
    for (Answer& answer : answers) {
      if (is_held_back(answer))
        held_.push_back(std::move(answer));
      else
        send(std::move(answer));
    }
    if (config_.pretended_parts > 0) pretend_to_send();
  }
}

void Shard::look_at_orphans() {
  if (orphans_looked_at_ == tokens_.ended()) return;
  orphans_looked_at_ = tokens_.ended();
  for (auto [ino, by] : std::exchange(orphans_to_look_at_, {}))
    ready_steps_.push_back([this, ino, by] { ops::after_last_open(*this, ino, by); });
}

// As over a network: later, in order for each operation.
void Shard::pretend_to_send() {
  for (ops::SlotMessage& message : operations_->take_outgoing()) {
    const Duration takes =
        microseconds(200 + static_cast<std::int64_t>(message.op.value % 8) * 500);
    later(takes, [this, message = std::move(message)]() mutable {
      operations_->receive(std::move(message));
    });
  }
}

void Shard::run_steps() {
  const std::uint64_t failed_before = stats_.batches_failed;
  for (auto& step : std::exchange(ready_steps_, {})) {
    begin_step_of_any_slot();
    // They belonged to operations that are no more (reload).
    if (stats_.batches_failed != failed_before) return;
    step();
  }
}

// Contents that were touched; doubtful ones too, so that no mirror misses them.
void Shard::log_contents() {
  for (const wire::MirrorRange& range : content_.take_touched()) {
    version_of(range.slot);
    touched_contents_[range.slot.value].push_back(
        {range.ino, range.chunk, range.offset, range.length});
  }
}

// One oplog row a slot, of what is not in the oplog yet. In each commit, also in one that a content
// needs in the middle of a batch.
void Shard::write_oplog() {
  if (batch_error_) return;
  if (touched_.empty() && !content_.has_touched()) return;
  log_contents();
  for (auto& [slot, keys] : std::exchange(touched_, {})) {
    store::OplogBody body{batch_ + 1, std::move(keys), {}};
    if (auto contents = touched_contents_.extract(slot))
      body.contents = std::move(contents.mapped());
    scratch_.clear();
    wire::encode_to(scratch_, body);
    const ring::Slot which(slot);
    const store::Version version{slots_[slot].epoch, Seq(slots_[slot].seq)};
    if (mirror_hook_) mirror_log_.push_back({which, version.epoch, version.seq, scratch_});
    if (auto done = metadata_.append_oplog(which, version, scratch_); !done)
      return poison(done.error());
    logged_.push_back(which);
  }
}

bool Shard::commit_batch() {
  const bool any_rows =
      metadata_.in_transaction() || !touched_.empty() || content_.has_touched() || !logged_.empty();
  if (!batch_error_ && !any_rows) {
    operations_->committed();  // messages that changed no row
    return true;
  }
  write_oplog();
  if (!batch_error_)
    if (auto committed = metadata_.commit(); !committed) poison(committed.error());
  committed_first_.fill(0);
  if (batch_error_) {
    fail_batch();
    return false;
  }
  for (ring::Slot slot : std::exchange(logged_, {})) slots_[slot.value].touched = false;
  ++batch_;
  ++stats_.batches;
  content_.committed();
  tell_mirrors();
  operations_->committed();
  metadata_.checkpoint_if_due();
  return true;
}

// Nothing of the batch has happened: whoever was answered in it gets the error instead.
void Shard::fail_batch() {
  Error error = *batch_error_;
  ++stats_.batches_failed;
  ++stats_.io_errors;
  log_error("batch_failed error={} detail={} answers={}", name_of(error.code), error.detail,
            answers_.size());
  metadata_.rollback();
  content_.rolled_back();
  forget_effects();
  Code code = error.code == Code::no_space ? Code::no_space : Code::io;
  for (Answer& answer : answers_) {
    answer.ok = false;
    answer.code = code;
    answer.batch = answer.sync = 0;
    answer.applied = OpId();
    answer.is_replay = false;
    answer.is_believed = answer.may_delay = false;
    answer.body.clear();
    answer.payload.clear();
  }
  // Requests that wait in memory for what was rolled back are failed too; memory is read anew.
  std::vector<RequestPtr> waiting = operations_->take_requests();
  for (auto& [key, held] : locks_)
    for (auto& request : held.requests) waiting.push_back(std::move(request));
  for (auto& request : ready_) waiting.push_back(std::move(request));
  for (auto& [ticket, request] : lock_waits_) waiting.push_back(std::move(request));
  for (Recalling& recalling : std::exchange(recalling_, {}))
    waiting.push_back(std::move(recalling.request));
  lock_waits_.clear();
  for (auto& request : waiting)
    if (request) push_answer(*request, false, code, {}, {});
  batch_error_.reset();
  if (auto done = reload(); !done) {
    log_error("reload_failed error={}", describe(done.error()));
    broken_ = true;
  } else {
    later(seconds(1), [this] { reap_orphans(); });  // who was to be reaped, and when, is forgotten
  }
  batch_error_.reset();
}

// ---- mirrors

void Shard::mirror_to(UniqueFunction<void(replication::Effects)> hook) {
  mirror_hook_ = std::move(hook);
  content_.keep_changes(static_cast<bool>(mirror_hook_));
}

void Shard::keep_row_for_mirrors(const store::RowKey& key, const store::Version& version,
                                 const ByteSpan* image) {
  if (!mirror_hook_ || !replication::is_mirrored(key.table)) return;
  wire::MirrorRow& row = mirror_rows_.emplace_back();
  row.table = static_cast<std::uint8_t>(key.table);
  row.a = key.a;
  row.b = key.b;
  row.c = key.c;
  row.is_erased = image == nullptr;
  row.epoch = version.epoch;
  row.seq = version.seq;
  if (image != nullptr) row.image.assign(image->begin(), image->end());
}

void Shard::tell_mirrors() {
  replication::Effects effects;
  content_.take(effects);
  if (!mirror_hook_) return;
  effects.position = position();
  for (const store::RowKey& key : std::exchange(doubtful_rows_, {})) {
    if (auto row = metadata_.get(key))
      replication::add_row(effects.rows, key, *row);
    else
      doubtful_rows_.push_back(key);  // with the next batch
  }
  std::move(mirror_rows_.begin(), mirror_rows_.end(), std::back_inserter(effects.rows));
  mirror_rows_.clear();
  effects.log = std::exchange(mirror_log_, {});
  mirror_hook_(std::move(effects));
}

// Of a batch that failed. A part of it may have been committed for a content that waited, so its
// rows are sent with the next one, whatever they are then.
void Shard::forget_effects() {
  content_.forget_batch();
  for (const wire::MirrorRow& row : mirror_rows_)
    doubtful_rows_.push_back({static_cast<store::Table>(row.table), row.a, row.b, row.c});
  mirror_rows_.clear();
  mirror_log_.clear();
  for (auto& [slot, keys] : touched_) logged_.emplace_back(slot);
  touched_.clear();
  touched_contents_.clear();
  for (ring::Slot slot : std::exchange(logged_, {})) {
    slots_[slot.value].touched = false;
    slots_[slot.value].last_batch = std::min(slots_[slot.value].last_batch, batch_);
  }
}

std::uint64_t Shard::sync_mirrors() {
  if (!sync_hook_) return 0;
  // What is open is told to the mirrors before.
  const bool is_open = metadata_.in_transaction() || !touched_.empty() || !logged_.empty();
  if (!batch_error_ && is_open) commit_early();
  sync_hook_(++sync_);
  return sync_;
}

void Shard::set_replicated(std::uint64_t batch, std::uint64_t sync) {
  if (batch == replicated_ && sync == synced_) return;
  replicated_ = batch;
  synced_ = sync;
  has_news_of_held_ = true;
}

}  // namespace magma
