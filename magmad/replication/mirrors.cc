#include "magmad/replication/mirrors.h"

#include <algorithm>
#include <utility>

#include "libmagma/base/log.h"
#include "libmagma/wire/codec.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::replication {

namespace {

// Of earlier versions, and of a volcano that has nothing yet.
const store::RowKey kStateKey{store::Table::mirror, 0, 0, {}};

wire::MirrorPosition position_of(const store::MirrorStreamRow& row) {
  return {row.epoch, row.batch};
}

wire::MirrorPosition durable_of(const store::MirrorStreamRow& row) {
  return {row.durable_epoch, row.durable_batch};
}

void set_position(store::MirrorStreamRow& row, const wire::MirrorPosition& position) {
  row.epoch = position.stream;
  row.batch = position.batch;
}

// What is known of these slots by the streams that have them: as far as all of them have come.
struct Known {
  store::MirrorStreamRow row{};
  bool is_of_one = true;  // stream
};

void add_known(Known& known, const ring::SlotMask& slots, const store::MirrorStreamRow& row) {
  store::MirrorStreamRow& all = known.row;
  const ring::SlotMask both = (ring::set_of(all.known) | ring::set_of(row.known)) & slots;
  if (all.known.empty()) {
    all = row;
  } else {
    known.is_of_one = known.is_of_one && position_of(all) == position_of(row) && !all.is_mixed &&
                      !row.is_mixed;
    set_position(all, std::min(position_of(all), position_of(row)));
    const wire::MirrorPosition durable = std::min(durable_of(all), durable_of(row));
    all.durable_epoch = durable.stream;
    all.durable_batch = durable.batch;
    all.is_mixed = all.is_mixed || row.is_mixed;
  }
  all.known = ring::runs_of(both);
}

}  // namespace

// ---- the start

Result<void> Mirrors::begin(bool clean, bool lost_power) {
  TRY(take_over_state_row());
  TRY(read_rows(lost_power));
  if (clean) return {};
  TRY_VALUE(torn_, hot_ranges(metadata_));
  return {};
}

// For fsck, which else would miss everything.
Result<void> Mirrors::put_blank_row() {
  TRY(metadata_.put(kStateKey, {}, wire::encode(store::MirrorStateRow{})));
  has_blank_row_ = true;
  return metadata_.commit();
}

Result<void> Mirrors::set_owned(const ring::SlotMask& owned) {
  owned_ = owned;
  for (const auto& [number, mirror] : streams_) {
    if (mirror->run() != 0 && (mirror->slots() & owned).any())
      mirror->end_run(Error{Code::not_primary, {}});
    TRY(mirror->forget(owned));
  }
  TRY(drop_empty_but(0));
  if (metadata_.in_transaction()) TRY(metadata_.commit());
  for (const auto& [number, mirror] : streams_) mirror->note_committed();
  return {};
}

// All is synced by the stop that follows: so far it is durable, and until then the row is not.
Result<void> Mirrors::note_left(ring::VolcanoId to, const ring::SlotMask& slots,
                                const wire::MirrorPosition& position) {
  std::uint16_t number = 0;
  while (streams_.contains(store::stream_number(to.value, number))) ++number;
  store::MirrorStreamRow row;
  row.known = ring::runs_of(slots);
  set_position(row, position);
  row.durable_epoch = position.stream;
  row.durable_batch = position.batch;
  TRY(metadata_.put({store::Table::mirror, 0, store::stream_number(to.value, number), {}}, {},
                    wire::encode(row)));
  return metadata_.commit();
}

Result<void> Mirrors::recover(bool clean) {
  if (streams_.empty()) TRY(put_blank_row());
  TRY(content_.sweep(!clean));
  if (clean) return {};
  std::uint64_t epoch = 0;
  for (const auto& [number, mirror] : streams_) epoch = std::max(epoch, mirror->state().epoch);
  TRY_VALUE(std::uint64_t ranges,
            content_.recover({Epoch(static_cast<std::uint32_t>(epoch)), Seq(0)}));
  log_info("recovered hot_ranges={}", ranges);
  return {};
}

// Earlier versions had one stream, of all slots.
Result<void> Mirrors::take_over_state_row() {
  TRY_VALUE(auto row, metadata_.get(kStateKey));
  if (!row) return {};
  TRY_VALUE(auto state, wire::decode<store::MirrorStateRow>(row->image));
  if (state.is_whole) {
    store::MirrorStreamRow stream;
    stream.known = ring::runs_of(ring::all_slots());
    set_position(stream, {state.stream, state.batch});
    stream.is_mixed = state.is_mixed;
    stream.durable_epoch = state.durable_stream;
    stream.durable_batch = state.durable_batch;
    TRY(metadata_.put({store::Table::mirror, 0, store::stream_number(state.primary, 0), {}}, {},
                      wire::encode(stream)));
  }
  TRY(metadata_.erase(kStateKey));
  return metadata_.commit();
}

Result<void> Mirrors::read_rows(bool lost_power) {
  std::map<std::uint64_t, Bytes> images;
  auto visit = [&](const store::MetadataStore::ScanRow& row) {
    if (row.a == 0) images[row.b] = Bytes(row.image.begin(), row.image.end());
    return true;
  };
  TRY(metadata_.scan_database(0, store::Table::mirror, visit));
  for (const auto& [number, image] : images) {
    TRY_VALUE(auto row, wire::decode<store::MirrorStreamRow>(image));
    if (lost_power && position_of(row) != durable_of(row)) {
      set_position(row, durable_of(row));
      // So that a kill before the next batch does not bring back what it said before.
      TRY(metadata_.put({store::Table::mirror, 0, number, {}}, {}, wire::encode(row)));
    }
    TRY(stream(number).restore(std::move(row)));
  }
  return metadata_.in_transaction() ? metadata_.commit() : Result<void>();
}

Mirror& Mirrors::stream(std::uint64_t number) {
  auto& mirror = streams_[number];
  if (!mirror)
    mirror = std::make_unique<Mirror>(number, clock_, metadata_, content_, send_);
  return *mirror;
}

// ---- requests

void Mirrors::refuse(const Request& request, const Error& error) {
  ++refused_;
  Answer answer;
  answer.target = request.target;
  answer.op = request.op();
  answer.ok = false;
  answer.code = error.code;
  send_(std::move(answer));
}

Mirror* Mirrors::with_run(std::uint64_t run) {
  for (const auto& [number, mirror] : streams_)
    if (run != 0 && mirror->run() == run) return mirror.get();
  return nullptr;
}

void Mirrors::handle(RequestPtr request) {
  if (request->op() == wire::FlareOp::mirror_hello) {
    request->keep();
    hellos_.push_back(std::move(request));
    return;
  }
  auto head = wire::decode_front<wire::MirrorHead>(request->body);
  if (!head) return refuse(*request, Error{Code::malformed, {}});
  Mirror* mirror = with_run(head->first.run);
  if (mirror == nullptr) return refuse(*request, Error{Code::old_sequence, {}});
  mirror->take(std::move(request), head->first.number);
}

bool Mirrors::has_work() const {
  return !hellos_.empty() || std::any_of(streams_.begin(), streams_.end(), [](const auto& stream) {
           return stream.second->has_work();
         });
}

void Mirrors::pump() {
  for (RequestPtr& request : std::exchange(hellos_, {})) hello(std::move(request));
  for (const auto& [number, mirror] : streams_) {
    mirror->pump();
    if (mirror->take_whole_mark())
      std::erase_if(torn_, [to = mirror.get()](const wire::MirrorRange& range) {
        return to->slots()[range.slot.value];
      });
    for (wire::MirrorRange& range : mirror->take_torn()) torn_.push_back(std::move(range));
  }
}

void Mirrors::hello(RequestPtr request) {
  auto message = wire::decode<wire::MirrorHelloRequest>(request->body);
  if (!message) return refuse(*request, Error{Code::malformed, {}});
  auto reply = begin_run(*message);
  if (!reply) {
    metadata_.rollback();
    for (const auto& [number, mirror] : streams_) mirror->undo();
    log_warning("mirror_hello_refused primary={} error={}", message->primary,
                describe(reply.error()));
    return refuse(*request, reply.error());
  }
  Answer answer;
  answer.target = request->target;
  answer.op = request->op();
  answer.body = wire::encode(*reply);
  send_(std::move(answer));
}

Result<wire::MirrorHelloReply> Mirrors::begin_run(const wire::MirrorHelloRequest& message) {
  if (message.head.run == 0 || message.primary == 0 || message.primary > ring::kVolcanoIdMax ||
      message.slots.empty() || !ring::is_sound(message.slots) || with_run(message.head.run))
    return fail(Code::malformed, "hello of a primary");
  const ring::SlotMask slots = ring::set_of(message.slots);
  if ((slots & owned_).any()) return fail(Code::not_primary, "slots that are served here");
  const std::uint64_t number = store::stream_number(message.primary, message.stream);
  if (!streams_.contains(number) && streams_.size() >= kStreamsMax) return fail(Code::overloaded);
  Known known;
  for (const auto& [other, mirror] : streams_) {
    const bool is_same = other == number;
    const ring::SlotMask theirs = ring::set_of(mirror->state().known);
    if (is_same || (mirror->run() != 0 && (mirror->slots() & slots).any()))
      mirror->end_run(Error{Code::old_sequence, {}});
    if (other >> 16 == message.primary && (theirs & slots).any())
      add_known(known, slots, mirror->state());
    if (!is_same) TRY(mirror->forget(slots));
  }
  TRY(drop_empty_but(number));
  Mirror& mirror = stream(number);
  TRY(mirror.begin_run(message.head.run, slots, known.row, known.is_of_one));
  if (std::exchange(has_blank_row_, false)) TRY(metadata_.erase(kStateKey));
  if (metadata_.in_transaction()) TRY(metadata_.commit());
  for (const auto& [other, committed] : streams_) committed->note_committed();
  wire::MirrorHelloReply reply;
  reply.known = known.row.known;
  reply.position = position_of(known.row);
  reply.torn = torn_of(slots);
  if (reply.torn.size() > wire::kMirrorTornMax) {  // copied as a whole then
    reply.torn.clear();
    reply.known.clear();
  }
  log_info("mirrored_by volcano={} stream={} slots={} known={} epoch={} batch={}",
           message.primary, message.stream, slots.count(), ring::set_of(reply.known).count(),
           reply.position.stream, reply.position.batch);
  return reply;
}

// Streams of which nothing is left.
Result<void> Mirrors::drop_empty_but(std::uint64_t number) {
  for (auto at = streams_.begin(); at != streams_.end();) {
    const auto& [other, mirror] = *at;
    if (other == number || mirror->run() != 0 || !mirror->state().known.empty()) {
      ++at;
      continue;
    }
    TRY(metadata_.erase({store::Table::mirror, 0, other, {}}));
    at = streams_.erase(at);
  }
  return {};
}

void Mirrors::add_torn(const std::vector<wire::MirrorRange>& torn) {
  torn_.insert(torn_.end(), torn.begin(), torn.end());
}

std::vector<wire::MirrorRange> Mirrors::torn_of(const ring::SlotMask& slots) {
  std::vector<wire::MirrorRange> torn;
  std::copy_if(torn_.begin(), torn_.end(), std::back_inserter(torn),
               [&](const wire::MirrorRange& range) { return slots[range.slot.value]; });
  return torn;
}

// ---- time

Instant Mirrors::deadline() const {
  if (has_work()) return {};
  Instant next = Instant::never();
  for (const auto& [number, mirror] : streams_) next = std::min(next, mirror->deadline());
  return next;
}

void Mirrors::on_timer() {
  const Instant now = clock_.now();
  for (const auto& [number, mirror] : streams_)
    if (mirror->deadline() <= now) mirror->on_timer();
}

Mirror::Stats Mirrors::stats() const {
  Mirror::Stats all;
  all.refused = refused_;
  for (const auto& [number, mirror] : streams_) {
    const Mirror::Stats one = mirror->stats();
    all.batches += one.batches;
    all.rows += one.rows;
    all.bytes += one.bytes;
    all.checks += one.checks;
    all.refused += one.refused;
    all.compares += one.compares;
  }
  return all;
}

}  // namespace magma::replication
