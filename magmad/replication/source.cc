#include "magmad/replication/source.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "libmagma/base/log.h"
#include "libmagma/wire/codec.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::replication {

namespace {

const store::RowKey kPromiseKey{store::Table::mirror, ring::with_counter(ring::Slot(0), 1), 0, {}};

constexpr std::uint64_t kAll = std::numeric_limits<std::uint64_t>::max();

template <class Message>
Bytes encoded(wire::FlareOp op, const Message& message) {
  wire::RequestHead head;
  head.op = static_cast<std::uint16_t>(op);
  Bytes bytes;
  wire::encode_to(bytes, head);
  wire::encode_to(bytes, message);
  return bytes;
}

bool is_sound(const wire::MirrorHelloReply& reply) {
  return ring::is_sound(reply.known) && reply.torn.size() <= wire::kMirrorTornMax &&
         std::all_of(reply.torn.begin(), reply.torn.end(),
                     [](const wire::MirrorRange& range) { return replication::is_sound(range); });
}

bool is_sound(const wire::MirrorCheckReply& reply, const wire::MirrorRange& checked) {
  return std::all_of(reply.different.begin(), reply.different.end(),
                     [&](const wire::MirrorSpan& span) {
                       return span.offset <= checked.length &&
                              span.length <= checked.length - span.offset;
                     });
}

std::size_t bytes_of(const Effects& effects) {
  std::size_t bytes = 0;
  for (const ContentChange& change : effects.changes) bytes += change.bytes.size();
  for (const wire::MirrorRow& row : effects.rows) bytes += row.image.size() + 64;
  return bytes;
}

}  // namespace

Source::Source(ring::VolcanoId self, bool awaits_ring, sys::Clock& clock, sys::Random& random,
               rpc::Endpoint& endpoint, Shard& shard, store::MetadataStore& metadata,
               store::ContentStore& content)
    : self_(self),
      clock_(clock),
      random_(random),
      endpoint_(endpoint),
      shard_(shard),
      metadata_(metadata),
      content_(content),
      awaits_ring_(awaits_ring),
      comparisons_(clock, metadata, content) {
  auto row = metadata_.get(kPromiseKey);
  has_promised_ = !row || row->has_value();  // the careful way, if it cannot be read
  settle();
}

Source::~Source() = default;

// ---- the map

std::map<ring::VolcanoId, Source::Backup> Source::backups_of(const ring::LavaMap& map) const {
  std::map<ring::VolcanoId, Backup> backups;
  for (unsigned n = 0; n < ring::kSlotCount; ++n) {
    const ring::SlotEntry& slot = map.slots[n];
    if (slot.primary() != self_ || !shard_.owned()[n]) continue;
    for (const ring::Replica& replica : slot.replicas) {
      if (replica.volcano == self_ || map.find(replica.volcano) == nullptr) continue;
      Backup& backup = backups[replica.volcano];
      backup.all.set(n);
      if (replica.state == ring::ReplicaState::in_sync) backup.in_sync.set(n);
    }
  }
  return backups;
}

// What a mirror has no longer to have; a stream with fewer slots begins anew.
void Source::drop_slots(const std::map<ring::VolcanoId, Backup>& backups) {
  for (const auto& mirror : mirrors_) {
    auto found = backups.find(mirror->id);
    const ring::SlotMask left =
        found == backups.end() ? ring::SlotMask() : mirror->slots & found->second.all;
    if (left == mirror->slots) continue;
    log_info("mirror_dropped volcano={} stream={} slots={} left={}", mirror->id.value,
             mirror->stream, mirror->slots.count(), left.count());
    lose(*mirror, "dropped");
    mirror->slots = left;
  }
  std::erase_if(mirrors_, [](const auto& mirror) { return mirror->slots.none(); });
}

Source::Mirror& Source::add_stream(ring::VolcanoId id) {
  std::uint16_t stream = 0;
  for (const auto& mirror : mirrors_)
    if (mirror->id == id) stream = std::max<std::uint16_t>(stream, mirror->stream + 1u);
  Mirror& added = *mirrors_.emplace_back(std::make_unique<Mirror>());
  added.id = id;
  added.stream = stream;
  added.away_since = clock_.now();
  return added;
}

// What a mirror has newly to have is a stream of its own; it joins another that has not begun.
void Source::add_streams(const std::map<ring::VolcanoId, Backup>& backups) {
  for (const auto& [id, backup] : backups) {
    ring::SlotMask missing = backup.all;
    Mirror* place = nullptr;
    for (const auto& mirror : mirrors_) {
      if (mirror->id != id) continue;
      missing &= ~mirror->slots;
      const bool has_begun = mirror->phase == Phase::greeting || mirror->phase == Phase::going;
      if (!has_begun && !mirror->must_have()) place = mirror.get();
    }
    if (missing.none()) continue;
    if (place == nullptr) place = &add_stream(id);
    place->slots |= missing;
  }
}

void Source::set_map(const ring::LavaMap& map) {
  if (map.version == 0 || (map_version_ && map.version <= *map_version_)) return;
  map_version_ = map.version;
  epochs_.resize(ring::kSlotCount);
  for (unsigned n = 0; n < ring::kSlotCount; ++n) epochs_[n] = map.slots[n].epoch;
  const auto backups = backups_of(map);
  drop_slots(backups);
  add_streams(backups);
  for (const auto& stream : mirrors_) {
    Mirror& mirror = *stream;
    const Backup& backup = backups.at(mirror.id);
    const bool was_in_sync =
        std::exchange(mirror.is_in_sync, (backup.in_sync & mirror.slots).any());
    mirror.epoch = epochs_[ring::first_of(mirror.slots).value];
    mirror.about = {ring::runs_of(mirror.slots), ring::digest_of_epochs(map, mirror.slots)};
    const auto is_void = [&](const ring::SlotAt& at) {
      return at.epoch != epochs_[at.slot.value];
    };
    if (std::all_of(mirror.told_in_sync.begin(), mirror.told_in_sync.end(), is_void))
      mirror.told_in_sync.clear();
    // The ring does not hear it. It may not hear us either: it is whole when it has answered anew.
    if (was_in_sync && !mirror.is_in_sync) lose(mirror, "behind");
    const std::string& address = map.find(mirror.id)->profile.flare;
    if (mirror.address == address) continue;
    mirror.address = address;
    if (mirror.phase == Phase::away) mirror.dial_at = {};
  }
  if (const bool was_alone = std::exchange(is_alone_, has_lone_slots(map)); was_alone != is_alone_)
    log_info("slots_with_one_copy state={}", is_alone_ ? "answers_wait_for_own_disk" : "ended");
  settle();
}

bool Source::has_lone_slots(const ring::LavaMap& map) const {
  const bool are_others =
      std::any_of(map.volcanoes.begin(), map.volcanoes.end(), [this](const ring::Volcano& v) {
        return v.id != self_ && v.stores() &&
               v.state != ring::VolcanoState::joining && v.state != ring::VolcanoState::gone;
      });
  if (map.copies < 2 || !are_others) return false;
  for (unsigned n = 0; n < ring::kSlotCount; ++n)
    if (shard_.owned()[n] && map.slots[n].replicas.in_sync() < 2) return true;
  return false;
}

// One at a time: what comes meanwhile shares the next one. A content that cannot be synced (the
// store says so in the log) is refused from its next write on, and keeps nobody else waiting: what
// was under way for it is answered all the same.
void Source::sync_what_is_alone() {
  const std::uint64_t batch = shard_.position().batch;
  if (!is_alone_ || is_syncing_own_ || own_synced_ >= batch) return;
  is_syncing_own_ = true;
  const std::weak_ptr<int> life = life_;
  store::sync_everything(content_, metadata_,
                         [this, life, batch](const Result<void>&, const Result<void>& rows) {
                           if (life.expired()) return;
                           is_syncing_own_ = false;
                           if (!rows) return;  // the store has failed: nothing is acknowledged
                           own_synced_ = batch;
                           is_ready_ = true;
                           settle();
                         });
}

std::vector<wire::MirrorFact> Source::facts() {
  std::vector<wire::MirrorFact> facts;
  const Instant now = clock_.now();
  for (const auto& mirror : mirrors_) {
    wire::MirrorFact& fact = facts.emplace_back();
    fact.volcano = mirror->id;
    fact.epoch = mirror->epoch;
    fact.about = mirror->about;
    if (mirror->is_whole && !has_promised_) {
      wants_to_promise_ = !is_promising_;
      fact.state = wire::MirrorState::copying;
    } else if (mirror->is_whole) {
      if (!mirror->is_in_sync) note_told(*mirror);
      fact.state = mirror->is_in_sync || mirror->has_what_was_answered()
                       ? wire::MirrorState::in_sync
                       : wire::MirrorState::copying;
    } else if (mirror->must_be_released(now)) {
      fact.state = wire::MirrorState::released;
    } else {
      fact.state =
          mirror->phase == Phase::going ? wire::MirrorState::copying : wire::MirrorState::away;
    }
    if (mirror->catch_up) {
      fact.bytes_done = mirror->catch_up->bytes_done();
      fact.bytes_total = mirror->catch_up->bytes_total();
    }
    const std::uint64_t last = shard_.position().batch;
    fact.batches_behind = last - std::min(last, mirror->confirmed);
  }
  settle();
  return facts;
}

// From now on the map may say so of these slots, until their epochs are others. What was answered
// before, while the mirror was not waited for, it must have as well.
void Source::note_told(Mirror& mirror) {
  if (mirror.told_in_sync.empty()) {
    mirror.answered_batch = shard_.position().batch;
    mirror.answered_sync = last_sync_;
  }
  mirror.told_in_sync.clear();
  for (unsigned n = 0; n < ring::kSlotCount; ++n)
    if (mirror.slots[n])
      mirror.told_in_sync.push_back({ring::Slot(static_cast<std::uint16_t>(n)), epochs_[n]});
}

// Remembers that from now on others may count on a mirror: a start that does not know the map must
// ask first.
Result<void> Source::begin_promise() {
  wants_to_promise_ = false;
  if (has_promised_ || is_promising_) return {};
  store::MirrorStateRow row;
  row.primary = self_.value;
  TRY(metadata_.put(kPromiseKey, {}, wire::encode(row)));
  TRY(metadata_.commit());
  is_promising_ = true;
  metadata_.sync(kPromiseKey.slot().value % store::kDatabases,
                 [this, life = std::weak_ptr<int>(life_)](Result<void> done) {
                   if (life.expired()) return;
                   is_promising_ = false;
                   has_promised_ = done.has_value();
                 });
  return {};
}

// Nobody can be answered while it has yet to catch up: a little is waited for, a copy is not.
bool Source::Mirror::must_be_released(Instant now) const {
  if (!must_have() || is_whole) return false;
  return now - away_since >= kReleaseAfter || (catch_up && catch_up->is_copy());
}

// ---- connections

Source::Mirror* Source::find(rpc::ConnectionId connection) {
  for (const auto& mirror : mirrors_)
    if (mirror->phase != Phase::away && mirror->connection == connection) return mirror.get();
  return nullptr;
}

void Source::dial(Mirror& mirror) {
  auto address = sys::Address::parse(mirror.address, 0);
  mirror.dial_at = clock_.now() + kDialAgain;
  if (!address) {
    log_error("mirror_address volcano={} address={}", mirror.id.value, mirror.address);
    mirror.dial_at = Instant::never();
    return;
  }
  mirror.phase = Phase::dialing;
  mirror.connection = endpoint_.connect(*address, crypto::Role::ring, kDialPatience);
}

bool Source::on_connected(rpc::ConnectionId connection) {
  Mirror* mirror = find(connection);
  if (mirror == nullptr || mirror->phase != Phase::dialing) return false;
  greet(*mirror);
  return true;
}

void Source::greet(Mirror& mirror) {
  mirror.phase = Phase::greeting;
  mirror.run = random_.next() | 1;
  mirror.next_number = 1;
  wire::MirrorHelloRequest hello;
  hello.head = {mirror.run, 0};
  hello.primary = self_.value;
  hello.position = shard_.position();
  hello.stream = mirror.stream;
  hello.slots = ring::runs_of(mirror.slots);
  const rpc::RequestId request =
      endpoint_.call(mirror.connection, {encoded(wire::FlareOp::mirror_hello, hello), {}},
                     rpc::Priority::lock, Instant::never());
  note_sent(mirror, request, {.op = wire::FlareOp::mirror_hello, .at = clock_.now()});
}

bool Source::on_closed(rpc::ConnectionId connection) {
  Mirror* mirror = find(connection);
  if (mirror == nullptr) return false;
  mirror->connection = {};
  lose(*mirror, "closed");
  return true;
}

// The run is over; another begins with a new connection.
void Source::lose(Mirror& mirror, const char* why) {
  if (mirror.phase == Phase::away) return;
  if (mirror.phase != Phase::dialing) {
    ++stats_.runs_lost;
    log_info("mirror_lost volcano={} why={} whole={}", mirror.id.value, why, mirror.is_whole);
  }
  if (mirror.is_whole) mirror.away_since = clock_.now();
  mirror.phase = Phase::away;
  const rpc::ConnectionId connection = std::exchange(mirror.connection, {});
  mirror.dial_at = clock_.now() + kDialAgain;
  mirror.greeted.reset();
  mirror.catch_up.reset();
  mirror.has_marked = mirror.is_whole = mirror.is_synced = mirror.marks_answered = false;
  mirror.queue.clear();
  mirror.live_bytes = 0;
  for (const auto& [request, sent] : std::exchange(mirror.sent, {}))
    if (sent.comparison != 0) comparisons_.lost(sent.comparison);
  // Last, because it answers what was under way, which is nobody's now.
  if (connection != rpc::ConnectionId()) endpoint_.close(connection);
  settle();
}

bool Source::on_response(rpc::ConnectionId connection, rpc::RequestId request,
                         const Result<ByteSpan>& message) {
  Mirror* mirror = find(connection);
  if (mirror == nullptr) return false;
  auto found = mirror->sent.find(request.value);
  if (found == mirror->sent.end()) return true;
  const Sent sent = found->second;
  mirror->sent.erase(found);
  if (sent.batch != 0) mirror->live_bytes -= std::min(sent.bytes, mirror->live_bytes);
  auto head = message ? wire::decode_front<wire::ResponseHead>(*message) : fail(message.error());
  if (!head || head->first.code != 0) {
    const Code code = head ? static_cast<Code>(head->first.code) : head.error().code;
    if (sent.comparison != 0 && head) {
      comparisons_.refused(sent.comparison, code);
      return true;
    }
    if (sent.comparison != 0) comparisons_.lost(sent.comparison);
    log_info("mirror_refused volcano={} op={} error={}", mirror->id.value, wire::name_of(sent.op),
             name_of(code));
    lose(*mirror, "refused");
    return true;
  }
  answered(*mirror, sent, head->second);
  return true;
}

void Source::answered(Mirror& mirror, const Sent& sent, ByteSpan body) {
  switch (sent.op) {
    case wire::FlareOp::mirror_hello: {
      auto reply = wire::decode<wire::MirrorHelloReply>(body);
      if (!reply || !is_sound(*reply)) return lose(mirror, "malformed");
      mirror.greeted = std::move(*reply);
      break;  // pump() begins
    }
    case wire::FlareOp::mirror_check: {
      auto reply = wire::decode<wire::MirrorCheckReply>(body);
      if (!reply || !is_sound(*reply, sent.checked)) return lose(mirror, "malformed");
      if (mirror.catch_up) mirror.catch_up->checked(sent.checked, *reply);
      break;
    }
    case wire::FlareOp::mirror_sync:
      if (sent.sync == 0) mirror.is_synced = true;
      break;
    case wire::FlareOp::mirror_compare:
    case wire::FlareOp::mirror_scrub: return comparisons_.answered(sent.comparison, body);
    default:
      if (sent.is_whole_mark) mirror.marks_answered = true;
      break;
  }
  if (!mirror.is_whole && mirror.is_synced && mirror.marks_answered) {
    mirror.is_whole = true;
    log_info("mirror_in_sync volcano={} batch={}", mirror.id.value, shard_.position().batch);
  }
  confirm(mirror);
}

// ---- what goes out

void Source::on_batch(Effects effects) {
  ++stats_.batches;
  auto shared = std::make_shared<const Effects>(std::move(effects));
  const std::size_t bytes = bytes_of(*shared);
  for (const auto& mirror : mirrors_) {
    if (mirror->phase != Phase::going) continue;
    if (!concerns(*shared, mirror->slots)) {
      confirm(*mirror);
      continue;
    }
    mirror->catch_up->changed(*shared);
    mirror->queue.push_back({.batch = shared->position.batch, .effects = shared, .bytes = bytes});
    mirror->live_bytes += bytes;
  }
  settle();
}

void Source::on_sync(std::uint64_t sync) {
  last_sync_ = sync;
  for (const auto& mirror : mirrors_)
    if (mirror->phase == Phase::going)
      mirror->queue.push_back({.batch = 0, .effects = nullptr, .bytes = 0, .sync = sync});
  settle();
}

void Source::send(Mirror& mirror, Piece piece, Sent sent) {
  const wire::MirrorHead head{mirror.run, mirror.next_number++};
  sent.at = clock_.now();
  if (sent.batch == 0) sent.bytes = piece.size();
  rpc::Message message;
  std::visit(
      [&](auto& body) {
        body.head = head;
        sent.op = wire::OpOf<std::decay_t<decltype(body)>>::op;
        message.head = encoded(sent.op, body);
      },
      piece.message);
  message.tail = std::move(piece.bytes);
  ++stats_.pieces;
  stats_.bytes += message.size();
  // One priority: the mirror does them in their order, so none gains by coming before another.
  const rpc::RequestId request = endpoint_.call(mirror.connection, std::move(message),
                                                rpc::Priority::data, Instant::never());
  note_sent(mirror, request, sent);
}

void Source::note_sent(Mirror& mirror, rpc::RequestId request, const Sent& sent) {
  if (mirror.sent.empty()) mirror.watch = {.since = sent.at, .next = sent.at + kWatchEvery};
  mirror.sent[request.value] = sent;
}

void Source::send_live(Mirror& mirror) {
  while (!mirror.queue.empty() && mirror.sent.size() < kRequestsMax) {
    const Live live = std::move(mirror.queue.front());
    mirror.queue.pop_front();
    if (!live.effects) {
      send(mirror, Piece{wire::MirrorSyncRequest{}}, {.sync = live.sync});
      continue;
    }
    const bool is_done = mirror.has_marked && mirror.catch_up->is_done();
    if (!is_done) mirror.has_marked = false;  // something is to be sent before it is whole again
    const auto mark = is_done ? wire::MirrorMark::whole : wire::MirrorMark::keep;
    auto pieces = pieces_of(*live.effects, mirror.slots, mark, mirror.catch_up.get());
    for (Piece& piece : pieces)
      send(mirror, std::move(piece),
           {.batch = live.batch, .bytes = &piece == &pieces.back() ? live.bytes : 0});
  }
}

Result<void> Source::send_catch_up(Mirror& mirror) {
  std::size_t under_way = 0;
  for (const auto& [request, sent] : mirror.sent)
    if (sent.batch == 0) under_way += sent.bytes;
  while (mirror.queue.empty() && under_way < kCatchUpBytes && mirror.sent.size() < kRequestsMax) {
    TRY_VALUE(auto piece, mirror.catch_up->next());
    if (!piece) break;
    under_way += piece->size();
    Sent sent;
    if (const auto* check = std::get_if<wire::MirrorCheckRequest>(&piece->message))
      sent.checked = check->range;
    send(mirror, std::move(*piece), sent);
  }
  if (mirror.queue.empty() && mirror.catch_up->is_done() && !mirror.has_marked) mark_whole(mirror);
  return {};
}

// It has all that was committed when it has this; and it is durable there before it counts.
void Source::mark_whole(Mirror& mirror) {
  mirror.has_marked = true;
  wire::MirrorBatchRequest message;
  message.position = shard_.position();
  message.mark = wire::MirrorMark::whole;
  send(mirror, Piece{std::move(message)}, {.is_whole_mark = true});
  if (!mirror.is_synced) send(mirror, Piece{wire::MirrorSyncRequest{}}, {});
}

Result<void> Source::begin_catch_up(Mirror& mirror) {
  const wire::MirrorHelloReply greeted = *std::exchange(mirror.greeted, std::nullopt);
  TRY_VALUE(mirror.catch_up, CatchUp::begin(metadata_, content_, mirror.slots,
                                             shard_.position(), greeted));
  mirror.catch_up->on_ready([this] { is_ready_ = true; });
  mirror.phase = Phase::going;
  ++(mirror.catch_up->is_copy() ? stats_.copies : stats_.catch_ups);
  log_info("mirror_begins volcano={} stream={} slots={} how={} its_epoch={} its_batch={} batch={}",
           mirror.id.value, mirror.stream, mirror.slots.count(),
           mirror.catch_up->is_copy() ? "copy" : "oplog", greeted.position.stream,
           greeted.position.batch, shard_.position().batch);
  return {};
}

void Source::pump() {
  is_ready_ = false;
  if (wants_to_promise_)
    if (auto begun = begin_promise(); !begun)
      log_error("mirrors_not_noted error={}", describe(begun.error()));
  for (const auto& mirror : mirrors_) {
    if (mirror->phase == Phase::away && clock_.now() >= mirror->dial_at) dial(*mirror);
    Result<void> done;
    if (mirror->greeted) done = begin_catch_up(*mirror);
    listen();
    if (done && mirror->phase == Phase::going) {
      send_live(*mirror);
      done = send_catch_up(*mirror);
      if (done) send_comparisons(*mirror);
    }
    if (done) continue;
    log_error("mirror_failed volcano={} error={}", mirror->id.value, describe(done.error()));
    lose(*mirror, "error");
    mirror->dial_at = clock_.now() + seconds(5);
  }
  listen();
  sync_what_is_alone();
  settle();
}

// The shard keeps what batches do only while somebody wants it.
void Source::listen() {
  const bool is_wanted = std::any_of(mirrors_.begin(), mirrors_.end(), [](const auto& mirror) {
    return mirror->phase == Phase::going;
  });
  if (is_wanted == is_listening_) return;
  is_listening_ = is_wanted;
  if (!is_wanted) return shard_.mirror_to(nullptr);
  shard_.mirror_to([this](Effects effects) { on_batch(std::move(effects)); });
}

// ---- how far all have come

void Source::confirm(Mirror& mirror) {
  std::uint64_t batch = shard_.position().batch + 1, sync = last_sync_ + 1;  // the first missing
  const auto misses = [&](std::uint64_t of_batch, std::uint64_t of_sync) {
    if (of_batch != 0) batch = std::min(batch, of_batch);
    if (of_sync != 0) sync = std::min(sync, of_sync);
  };
  for (const auto& [request, sent] : mirror.sent) misses(sent.batch, sent.sync);
  for (const Live& live : mirror.queue) misses(live.batch, live.sync);
  mirror.answered = batch - 1;
  if (mirror.is_whole) {
    mirror.confirmed = std::max(mirror.confirmed, batch - 1);
    mirror.synced = std::max(mirror.synced, sync - 1);
  }
  settle();
}

void Source::settle() {
  std::uint64_t batch = is_blind() ? 0 : kAll, sync = batch;
  bool is_any = false;
  for (const auto& mirror : mirrors_) {
    if (mirror->must_have()) {
      is_any = true;
      batch = std::min(batch, mirror->confirmed);
      sync = std::min(sync, mirror->synced);
    }
    // One that catches up must not fall behind for ever.
    if (mirror->phase == Phase::going && mirror->live_bytes > kBacklogBytes)
      batch = std::min(batch, mirror->answered);
  }
  if (is_alone_ && !is_careless_) batch = std::min(batch, own_synced_);
  if (is_impatient_) batch = sync = kAll;
  if (is_any || awaits_ring_) shard_.on_sync_mirrors([this](std::uint64_t n) { on_sync(n); });
  shard_.set_replicated(batch, sync);
}

// ---- time

Instant Source::deadline() const {
  if (is_ready_ || wants_to_promise_) return {};
  Instant next = comparisons_.deadline();
  for (const auto& mirror : mirrors_) {
    if (mirror->phase == Phase::away) next = std::min(next, mirror->dial_at);
    if (mirror->greeted) return {};
    if (!mirror->sent.empty()) next = std::min(next, mirror->watch.next);
  }
  return next;
}

// Of the messages up to that request that are not answered: their number, and bytes that have not
// arrived. Syncs are answered in no order.
std::size_t Source::left_up_to(const Mirror& mirror, std::uint64_t request) const {
  std::size_t left = 0;
  for (const auto& [id, sent] : mirror.sent)
    if (id <= request && !sent.waits_for_disk())
      left += 1 + endpoint_.unacknowledged(mirror.connection, rpc::RequestId(id));
  return left;
}

void Source::watch(Mirror& mirror) {
  const Instant now = clock_.now();
  Watch& watch = mirror.watch;
  watch.next = now + kWatchEvery;
  const std::size_t left = left_up_to(mirror, watch.last_request);
  if (left < watch.left) watch.since = now;
  watch.left = left;
  if (left == 0) {  // all of that is done: what is under way now is next
    watch.last_request = mirror.sent.empty() ? 0 : mirror.sent.rbegin()->first;
    watch.left = left_up_to(mirror, watch.last_request);
    watch.since = now;
  }
  // A sync begins when all before it is done.
  bool is_behind = false;
  for (auto& [id, sent] : mirror.sent) {
    if (!sent.waits_for_disk())
      is_behind = true;
    else if (is_behind)
      sent.at = now;
  }
}

bool Source::is_stuck(const Mirror& mirror) const {
  const Instant now = clock_.now();
  if (mirror.watch.left > 0 && now - mirror.watch.since >= kAnswerMax) return true;
  return std::any_of(mirror.sent.begin(), mirror.sent.end(), [&](const auto& sent) {
    return sent.second.waits_for_disk() && now - sent.second.at >= kSyncMax;
  });
}

// While one is slow: whether a mirror that has nothing to answer, or only waits for its disk, is
// cut off would show late. It has everything, and is told so, which it can answer at once.
void Source::ask_if_there(Mirror& mirror) {
  const bool waits_for_disk =
      std::all_of(mirror.sent.begin(), mirror.sent.end(),
                  [](const auto& sent) { return sent.second.waits_for_disk(); });
  if (!waits_for_disk || !has_everything(mirror)) return;
  wire::MirrorBatchRequest message;
  message.position = shard_.position();
  message.mark = wire::MirrorMark::whole;
  send(mirror, Piece{std::move(message)}, {});
}

// pump() follows with the flush.
void Source::on_timer() {
  comparisons_.on_timer();
  bool is_any_slow = false;
  for (const auto& mirror : mirrors_) {
    if (mirror->sent.empty() || clock_.now() < mirror->watch.next) continue;
    watch(*mirror);
    is_any_slow = true;
    if (is_stuck(*mirror)) lose(*mirror, "silent");
  }
  if (!is_any_slow) return;
  for (const auto& mirror : mirrors_) ask_if_there(*mirror);
}

}  // namespace magma::replication
