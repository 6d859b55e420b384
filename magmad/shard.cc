#include "magmad/shard.h"

#include <sys/stat.h>

#include <algorithm>

#include "libmagma/base/check.h"
#include "libmagma/crypto/path_hash.h"
#include "magmad/ops/operations.h"
#include "magmad/ops/ops.h"

namespace magma {

namespace {

constexpr Duration kSessionCheckEvery = seconds(1);
// A client that has nothing to ask of one of several volcanoes notices its restart only when a
// connection has been silent for rpc::Limits::dead_after and keepalive, longer than its lease.
constexpr Duration kUnnoticed = seconds(6);
constexpr Duration kSyncEvery = seconds(1);       // DESIGN 4.1: metadata synced each second
constexpr std::size_t kStraysPerCommit = 256;
constexpr SessionId kUnknownSession{};  // no client has it

// The file that a request is about, if it is about one.
template <class Message>
Ino file_of(const Message& message) {
  if constexpr (requires { message.ino; })
    return message.ino;
  else if constexpr (requires { message.lock.ino; })
    return message.lock.ino;
  else
    return Ino();
}

store::RowKey slot_key(ring::Slot slot) {
  return {store::Table::slot, ring::with_counter(slot, 0), 0, {}};
}

}  // namespace

Shard::Shard(ShardConfig config, sys::Clock& clock, sys::Disk& disk,
             store::MetadataStore& metadata, store::ContentStore& content)
    : config_(std::move(config)),
      clock_(clock),
      disk_(disk),
      space_guard_(disk),
      metadata_(metadata),
      content_(content),
      operations_(std::make_unique<ops::Operations>(*this)),
      now_(clock.now()) {
  metadata_.before_commit([this] { write_oplog(); });
}

Shard::~Shard() = default;

Ino Shard::root() {
  static const Ino ino(
      ring::with_counter(crypto::key_of_path("/").slot(), kRootCounter));
  return ino;
}

void Shard::set_owners(SlotOwners owners, ring::VolcanoId self) {
  owned_ = owners.served_by(self);
  MAGMA_CHECK(owned_.any());
  while (!owns(first_owned_)) ++first_owned_.value;
  owners_ = std::move(owners);
}

Result<void> Shard::format() {
  store::InodeRow row;
  row.mode = S_IFDIR | 0755;
  row.nlink = 2;
  row.size = 4096;
  row.atime = row.mtime = row.ctime = row.btime = time();
  row.key = crypto::key_of_path("/");
  row.parent = root();
  for (unsigned index = 0; index < ring::kSlotCount; ++index) {
    const ring::Slot slot(static_cast<std::uint16_t>(index));
    if (!owns(slot)) continue;
    store::SlotRow initial{Epoch(0), kFirstCounter};
    TRY(metadata_.put(slot_key(slot), {}, wire::encode(initial)));
  }
  if (owns(ring::home_of(root())))
    TRY(metadata_.put(inode_key(root()), {}, wire::encode(row)));
  return metadata_.commit();
}

// ---- start

void Shard::carry_on(Tokens tokens, const ring::SlotMask& of) {
  tokens_ = std::move(tokens);
  tokens_.go_on();
  carried_ = of;
}

Result<void> Shard::begin(bool clean, const std::vector<wire::MirrorRange>& torn) {
  now_ = clock_.now();
  TRY(begin_epochs());
  if (!clean) {
    TRY_VALUE(std::uint64_t ranges, content_.recover({start_epoch(), Seq(0)}));
    stats_.ranges_recovered = ranges;
    log_info("recovered hot_ranges={}", ranges);
    TRY(doubt_hot_ranges(torn));
  }
  TRY(reload());
  std::vector<SessionId> sessions;
  for (auto& [id, session] : sessions_) {
    sessions.push_back(id);
    if (owners_) session.last_seen = now_ + kUnnoticed;
  }
  for (SessionId session : config_.believers)
    if (!sessions_.contains(session)) sessions.push_back(session);
  if (config_.may_others_believe) sessions.push_back(kUnknownSession);
  if (const ring::SlotMask unknown = owned_ & ~carried_; unknown.any())
    tokens_.begin_grace(sessions, now_ + wire::kTokenTerm + Tokens::kSlack, unknown);
  if (!clean) {
    TRY(drop_stray_chunks());
    TRY(ops::forget_missing_chunks(*this));
    TRY(ops::finish_truncates(*this));
  }
  TRY(content_.sweep(!clean));
  reap_orphans();
  // An oplog row in each database, so that what is missing before it can be told from what never
  // was (magmad/replication/oplog_reader.h).
  std::array<bool, store::kDatabases> has_row{};
  for (unsigned index = 0; index < ring::kSlotCount; ++index) {
    const ring::Slot slot(static_cast<std::uint16_t>(index));
    if (owns(slot) && !std::exchange(has_row[index % store::kDatabases], true)) version_of(slot);
  }
  return {};
}

// A kill may have fallen between the bytes and their rows.
Result<void> Shard::doubt_hot_ranges(const std::vector<wire::MirrorRange>& torn) {
  TRY_VALUE(auto ranges, replication::hot_ranges(metadata_));
  ranges.insert(ranges.end(), torn.begin(), torn.end());
  for (const wire::MirrorRange& range : ranges)
    if (owns(range.slot)) content_.add_doubtful(range);
  return {};
}

// Every start is a new epoch, the same of every slot, so that positions of this start are above all
// that whoever had a slot before has given out; counters jump past whatever he may have given out.
Result<void> Shard::begin_epochs() {
  Epoch last;
  for (unsigned index = 0; index < ring::kSlotCount; ++index) {
    ring::Slot slot(static_cast<std::uint16_t>(index));
    if (!owns(slot)) continue;
    TRY_VALUE(auto row, metadata_.get(slot_key(slot)));
    if (!row) return fail(Code::io, "slot row " + std::to_string(index) + " is missing");
    TRY_VALUE(auto image, wire::decode<store::SlotRow>(row->image));
    last = std::max(last, image.epoch);
    slots_[index].counter = image.counter_limit;
  }
  for (unsigned index = 0; index < ring::kSlotCount; ++index) {
    ring::Slot slot(static_cast<std::uint16_t>(index));
    if (!owns(slot)) continue;
    SlotState& state = slots_[index];
    state.epoch = Epoch(last.value + 1);
    state.seq = 0;
    state.counter_limit = state.durable_limit = state.counter + kCountersPerEpoch;
    store::SlotRow next{state.epoch, state.counter_limit};
    TRY(metadata_.put(slot_key(slot), {state.epoch, Seq(0)}, wire::encode(next)));
  }
  TRY(metadata_.commit());
  // Nobody may be told an epoch, or get a number of it, that a power cut could take back.
  return metadata_.sync_now();
}

// Rebuilds everything that lives in memory only from the rows.
Result<void> Shard::reload() {
  locks_.clear();
  parked_ = 0;
  ready_.clear();
  ready_steps_.clear();
  delayed_.clear();
  orphans_to_look_at_.clear();
  load_opens();
  TRY(load_file_locks());
  record_adopted_sessions();
  presume_writers();
  TRY(operations_->reload());
  if (batch_error_) return fail(*batch_error_);
  return {};
}

void Shard::load_opens() {
  std::unordered_map<SessionId, Session> old = std::move(sessions_);
  sessions_.clear();
  opens_.clear();
  names_rows_.clear();
  ended_sessions_.clear();
  std::unordered_map<SessionId, store::SessionRow> elsewhere;
  auto visit_session = [&](const store::MetadataStore::ScanRow& row) {
    const SessionId id(row.b);
    auto image = wire::decode<store::SessionRow>(row.image);
    if (!image) return true;
    if (row.a != session_key(id).a) {
      if (!image->fenced) elsewhere.emplace(id, std::move(*image));
    } else if (image->fenced) {
      ended_sessions_.push_back(id);
    } else {
      Session& session = remember_session(id);
      session.host = std::move(image->host);
      session.since = image->since;
      if (auto known = old.find(id); known != old.end()) {
        session.last_seen = known->second.last_seen;
        session.lanes = std::move(known->second.lanes);
        for (Lane& lane : session.lanes) lane.under_way = false;
      }
    }
    return true;
  };
  for (unsigned database = 0; database < store::kDatabases; ++database)
    if (auto scanned = metadata_.scan_database(database, store::Table::session, visit_session);
        !scanned)
      poison(scanned.error());
  if (owners_) adopt_sessions(std::move(elsewhere));
  for (unsigned database = 0; database < store::kDatabases; ++database) {
    auto visit_open = [&](const store::MetadataStore::ScanRow& row) {
      auto image = wire::decode<store::OpenRow>(row.image);
      if (!image || !owns_row(row.a)) return true;
      Session& session = adopt_session(SessionId(row.b));
      if (image->delays_names) {
        names_rows_[Ino(row.a)] = SessionId(row.b);
        return true;
      }
      session.opens[row.a] = *image;
      opens_[row.a].readers += image->readers;
      opens_[row.a].writers += image->writers;
      return true;
    };
    if (auto scanned = metadata_.scan_database(database, store::Table::open, visit_open); !scanned)
      poison(scanned.error());
  }
}

// The rows of sessions lie beside a volcano's first slot, and that has changed; or they are another
// volcano's, whose clients are this one's, too. What they hold is theirs also here.
void Shard::adopt_sessions(std::unordered_map<SessionId, store::SessionRow> rows) {
  for (auto& [id, row] : rows) {
    const bool has_ended = std::find(ended_sessions_.begin(), ended_sessions_.end(), id) !=
                           ended_sessions_.end();
    if (sessions_.contains(id) || has_ended) continue;
    Session& session = adopt_session(id);
    session.host = std::move(row.host);
    session.since = row.since;
  }
}

Shard::Session& Shard::remember_session(SessionId id) {
  Session& session = sessions_[id];
  session.last_seen = now_;
  session.lanes.resize(wire::kLanes);
  return session;
}

// The session of an open or a lock. A power cut may have lost its row, which lies in another
// database; what it holds ends with its lease.
Shard::Session& Shard::adopt_session(SessionId id) {
  if (auto known = sessions_.find(id); known != sessions_.end()) return known->second;
  adopted_.push_back(id);
  return remember_session(id);
}

// Gives adopted sessions a row again: else they would be known now and be gone with the next start.
void Shard::record_adopted_sessions() {
  for (SessionId id : std::exchange(adopted_, {})) {
    if (get<store::SessionRow>(session_key(id))) continue;
    const Session& session = sessions_.at(id);
    const WallTime since = session.since == WallTime{} ? time() : session.since;
    put(session_key(id), store::SessionRow{false, since, session.host});
  }
}

Result<void> Shard::drop_stray_chunks() {
  TRY_VALUE(auto strays, ops::stray_chunks(*this));
  if (batch_error_) return fail(*batch_error_);
  for (std::size_t i = 0; i < strays.size(); ++i) {
    ops::remove_chunk(*this, strays[i]);
    const bool is_last = i + 1 == strays.size();
    if ((is_last || (i + 1) % kStraysPerCommit == 0) && !commit_batch())
      return fail(Code::io, "stray chunks could not be removed");
  }
  if (!strays.empty()) log_info("dropped stray_chunks={}", strays.size());
  return {};
}

// Orphans whose opens ended with the last run.
void Shard::reap_orphans() {
  std::vector<Ino> orphans;
  for (unsigned database = 0; database < store::kDatabases; ++database) {
    auto visit = [&](const store::MetadataStore::ScanRow& row) {
      if (owns_row(row.a)) orphans.push_back(Ino(row.a));
      return true;
    };
    if (auto scanned = metadata_.scan_database(database, store::Table::orphan, visit); !scanned)
      poison(scanned.error());
  }
  for (Ino ino : orphans)
    if (!opens_.contains(ino.value)) ops::after_last_open(*this, ino, SessionId());
}

// ---- requests

void Shard::handle(RequestPtr request) {
  now_ = clock_.now();
  ++stats_.requests;
  new_step(request->head.session);
  if (!admit(request)) return;
  dispatch(std::move(request));
}

bool Shard::admit(RequestPtr& request) {
  const wire::RequestHead& head = request->head;
  if (!wire::is_known_op(head.op)) {
    refuse(std::move(request), Code::unknown_op);
    return false;
  }
  if (stopping_) {
    refuse(std::move(request), Code::shutting_down);
    return false;
  }
  wire::FlareOp op = request->op();
  if (op == wire::FlareOp::attach) return true;
  auto session = sessions_.find(head.session);
  if (session == sessions_.end()) {
    refuse(std::move(request), Code::unknown_session);
    return false;
  }
  session->second.last_seen = now_;
  if (session->second.connection != request->target.connection) {
    session->second.connection = request->target.connection;
    tokens_.heard_from(head.session);
  }
  if (op == wire::FlareOp::detach) return true;
  if (head.slot.value >= ring::kSlotCount) {
    refuse(std::move(request), Code::malformed);
    return false;
  }
  if (!owns(head.slot)) {
    refuse(std::move(request), Code::not_primary);
    return false;
  }
  if (head.epoch != slots_[head.slot.value].epoch) {
    refuse(std::move(request), Code::wrong_epoch);
    return false;
  }
  if (wire::kind_of(op) != wire::OpKind::change) return true;
  return admit_change(request, session->second);
}

// Done once: a change that was answered before gets the same answer; one that is under way takes
// over where the answer goes.
bool Shard::admit_change(RequestPtr& request, Session& session) {
  const wire::RequestHead& head = request->head;
  ++stats_.changes;
  if (head.lane >= wire::kLanes || head.sequence == 0) {
    refuse(std::move(request), Code::malformed);
    return false;
  }
  Lane& lane = session.lanes[head.lane];
  if (head.sequence < lane.sequence) {
    Request old = std::move(*request);
    request.reset();
    push_answer(old, false, Code::old_sequence, {}, {});
    return false;
  }
  if (head.sequence == lane.sequence && lane.under_way) {
    lane.target = request->target;
    request.reset();
    return false;
  }
  auto row = get<store::ReplyRow>({store::Table::reply, ring::with_counter(head.slot, head.lane),
                                   head.session.value, {}});
  if (row && row->sequence == head.sequence) {
    ++stats_.replays;
    lane.sequence = head.sequence;
    for (Answer& held : held_)
      if (held.session == head.session && held.lane == head.lane &&
          held.sequence == head.sequence) {
        held.target = request->target;
        request.reset();
        return false;
      }
    // Of the run before, perhaps, and those who were to be told of it then were not.
    tokens_.add_grace(head.session, step_.waits);
    push_answer(*request, row->code == 0, static_cast<Code>(row->code), std::move(row->body), {});
    answers_.back().is_replay = true;
    request.reset();
    return false;
  }
  if (row && row->sequence > head.sequence) {
    push_answer(*request, false, Code::old_sequence, {}, {});
    request.reset();
    return false;
  }
  lane.sequence = head.sequence;
  lane.under_way = true;
  lane.target = request->target;
  return true;
}

void Shard::dispatch(RequestPtr request) {
  if (wire::kind_of(request->op()) == wire::OpKind::change)
    begin_step(request->head.slot, request->head.session);
  else if (wire::kind_of(request->op()) == wire::OpKind::session)
    new_step(request->head.session);
  else
    new_step(request->head.session, request->head.slot);
  switch (request->op()) {
// Requests of kind host never come here: Volcano gives them to HostRequests.
#define MAGMA_FLARE_OP(name, number, RequestType, Response, kind, priority)                \
  case wire::FlareOp::name: {                                                              \
    if constexpr (wire::OpKind::kind == wire::OpKind::host ||                              \
                  wire::OpKind::kind == wire::OpKind::client ||                            \
                  wire::OpKind::kind == wire::OpKind::mirror ||                            \
                  wire::OpKind::kind == wire::OpKind::peer) {                              \
      return refuse(std::move(request), Code::unknown_op);                                 \
    } else {                                                                               \
      auto message = wire::decode_front<wire::RequestType>(request->body);                 \
      if (!message ||                                                                      \
          (wire::FlareOp::name != wire::FlareOp::write && !message->second.empty()))       \
        return refuse(std::move(request), Code::malformed);                                \
      request->payload = message->second;                                                  \
      if (recall_writes(request, file_of(message->first))) return;                         \
      if (recall_names(request)) return;                                                   \
      return ops::name(*this, std::move(request), std::move(message->first));              \
    }                                                                                      \
  }
#include "libmagma/wire/flare_ops.def"
#undef MAGMA_FLARE_OP
  }
}

void Shard::drop_connection(std::uint64_t) {
  // Requests under way go on: their answers are recorded, the client asks again on its next
  // connection. Answers to a connection that is gone are dropped by the endpoint.
}

// ---- rows

// A row of another volcano's slot would be an old one, or none.
bool Shard::may_use(const store::RowKey& key) {
  if (is_near(key.slot())) return true;
  MAGMA_CHECK(config_.pretended_parts == 0);
  poison(Error{Code::io, "a row of another volcano's slot was wanted"}, key);
  return false;
}

bool Shard::has(const store::RowKey& key) {
  if (!may_use(key)) return false;
  auto row = metadata_.get(key);
  if (!row) poison(row.error(), key);
  return row && row->has_value();
}

std::optional<Bytes> Shard::get_raw(const store::RowKey& key) {
  if (!may_use(key)) return std::nullopt;
  if (tokens_.has_unconfirmed()) note_reading(key);
  if (const std::uint64_t last = slots_[key.slot().value].last_batch; last > replicated_)
    step_.batch = std::max(step_.batch, last);
  auto row = metadata_.get(key);
  if (!row) {
    poison(row.error(), key);
    return std::nullopt;
  }
  if (!*row) return std::nullopt;
  return std::move((*row)->image);
}

void Shard::put_raw(const store::RowKey& key, ByteSpan image) {
  if (batch_error_ || !may_use(key)) return;
  note_change(key);
  store::Version version = version_of(key.slot());
  databases_touched_ |= 1u << (key.slot().value % store::kDatabases);
  touched_[key.slot().value].push_back(key);
  keep_row_for_mirrors(key, version, &image);
  if (auto done = metadata_.put(key, version, image); !done) poison(done.error(), key);
}

void Shard::erase(const store::RowKey& key) {
  if (batch_error_ || !may_use(key)) return;
  note_change(key);
  const store::Version version = version_of(key.slot());
  databases_touched_ |= 1u << (key.slot().value % store::kDatabases);
  touched_[key.slot().value].push_back(key);
  keep_row_for_mirrors(key, version, nullptr);
  if (auto done = metadata_.erase(key); !done) poison(done.error(), key);
}

void Shard::poison(Error error, const store::RowKey& where) {
  error.detail += fmt::format(" table={} a={:#x} b={:#x}", static_cast<int>(where.table), where.a,
                              where.b);
  poison(std::move(error));
}

void Shard::poison(Error error) {
  if (!batch_error_) batch_error_ = std::move(error);
}

store::RowKey Shard::entry_key(Ino dir, std::string_view name) {
  return {store::Table::entry, dir.value, crypto::name_hash(name), std::string(name)};
}

store::Version Shard::version_of(ring::Slot slot) {
  SlotState& state = slots_[slot.value];
  if (!state.touched) {
    state.touched = true;
    ++state.seq;
    touched_[slot.value];
  }
  state.last_batch = step_.batch = batch_ + 1;
  return {state.epoch, Seq(state.seq)};
}

std::uint64_t Shard::next_counter(ring::Slot slot) {
  SlotState& state = slots_[slot.value];
  if (state.counter == state.counter_limit) {
    state.counter_limit += kCountersPerEpoch;
    put(slot_key(slot), store::SlotRow{state.epoch, state.counter_limit});
  }
  return ring::with_counter(slot, state.counter++);
}

Ino Shard::new_inos(ring::Slot slot, std::uint32_t count) {
  SlotState& state = slots_[slot.value];
  if (state.counter + count > state.durable_limit) return Ino();
  const Ino first(ring::with_counter(slot, state.counter));
  state.counter += count;
  return first;
}

WallTime Shard::time() {
  WallTime wall = clock_.wall_now();
  last_time_ = wall > last_time_ ? wall : WallTime{last_time_.ns + 1};
  return last_time_;
}

// ---- locks

Shard::Lock* Shard::find_lock(Ino ino, std::string_view name) {
  auto found = locks_.find(LockKey{ino, std::string(name)});
  return found == locks_.end() ? nullptr : &found->second;
}

void Shard::lock(Ino ino, std::string_view name, OpId op) {
  auto [place, fresh] = locks_.try_emplace(LockKey{ino, std::string(name)});
  MAGMA_CHECK(fresh);
  place->second.op = op;
}

void Shard::unlock(Ino ino, std::string_view name, OpId op) {
  auto found = locks_.find(LockKey{ino, std::string(name)});
  if (found == locks_.end() || found->second.op != op) return;
  Lock freed = std::move(found->second);
  locks_.erase(found);
  for (auto& step : freed.waiters) ready_steps_.push_back(std::move(step));
  for (auto& request : freed.requests) {
    --parked_;
    ready_.push_back(std::move(request));
  }
}

void Shard::park(RequestPtr request, Ino ino, std::string_view name) {
  Lock* held = find_lock(ino, name);
  MAGMA_CHECK(held != nullptr);
  if (parked_ >= kParkedMax) return refuse(std::move(request), Code::overloaded);
  request->keep();
  ++parked_;
  held->requests.push_back(std::move(request));
}

void Shard::retry_later(RequestPtr request, Duration wait) {
  request->keep();
  auto shared = std::make_shared<RequestPtr>(std::move(request));
  later(wait, [this, shared] { ready_.push_back(std::move(*shared)); });
}

void Shard::later(Duration wait, UniqueFunction<void()> action) {
  delayed_.emplace(now_ + wait, std::move(action));
}

// ---- opens

Shard::OpenCount Shard::opens_of(Ino ino) const {
  auto found = opens_.find(ino.value);
  return found == opens_.end() ? OpenCount{} : found->second;
}

void Shard::add_open(SessionId session_id, Ino ino, bool for_write) {
  auto session = sessions_.find(session_id);
  if (session == sessions_.end()) return;
  store::OpenRow& row = session->second.opens[ino.value];
  OpenCount& count = opens_[ino.value];
  ++(for_write ? row.writers : row.readers);
  ++(for_write ? count.writers : count.readers);
  put({store::Table::open, ino.value, session_id.value, {}}, row);
}

bool Shard::has_open(SessionId session_id, Ino ino) const {
  auto session = sessions_.find(session_id);
  return session != sessions_.end() && session->second.opens.contains(ino.value);
}

bool Shard::drop_open(SessionId session_id, Ino ino, bool for_write) {
  auto session = sessions_.find(session_id);
  if (session == sessions_.end()) return false;
  auto held = session->second.opens.find(ino.value);
  if (held == session->second.opens.end()) return false;
  store::OpenRow& row = held->second;
  OpenCount& count = opens_[ino.value];
  std::uint32_t& mine = for_write ? row.writers : row.readers;
  if (mine == 0) return false;
  --mine;
  --(for_write ? count.writers : count.readers);
  store::RowKey key{store::Table::open, ino.value, session_id.value, {}};
  if (row.writers == 0) tokens_.end_writes(session_id, ino);
  if (row.readers == 0 && row.writers == 0) {
    session->second.opens.erase(held);
    erase(key);
  } else {
    put(key, row);
  }
  if (count.readers == 0 && count.writers == 0) opens_.erase(ino.value);
  return true;
}

// ---- space

// Hurries what gives blocks back: a step of each is behind a sync of the metadata.
void Shard::refuse_for_space(RequestPtr request) {
  if (request->short_since == Instant{}) request->short_since = now_;
  if (!space_guard_.may_wait(request->short_since, now_))
    return refuse(std::move(request), Code::no_space);
  next_sync_ = std::min(next_sync_, now_ + SpaceGuard::kCheckEvery);
  retry_later(std::move(request), SpaceGuard::kCheckEvery);
}

void Shard::refuse_or_wait(RequestPtr request, const Error& error) {
  if (error.code == Code::no_space) return refuse_for_space(std::move(request));
  refuse(std::move(request), error);
}

// ---- time

Instant Shard::deadline() const {
  Instant next = std::min({next_session_check_, next_sync_, tokens_.deadline()});
  if (!delayed_.empty()) next = std::min(next, delayed_.begin()->first);
  return has_work() ? Instant{} : next;
}

void Shard::run_delayed() {
  while (!delayed_.empty() && delayed_.begin()->first <= now_) {
    auto action = std::move(delayed_.begin()->second);
    delayed_.erase(delayed_.begin());
    action();
  }
}

void Shard::on_timer() {
  now_ = clock_.now();
  new_step(SessionId());
  tokens_.on_timer(now_);
  run_delayed();
  if (now_ >= next_session_check_) {
    next_session_check_ = now_ + kSessionCheckEvery;
    expire_sessions();
    clean_replies();
    refuse_old_recalls();
    sweep_names();
  }
  if (now_ >= next_sync_) {
    next_sync_ = now_ + kSyncEvery;
    content_.on_tick(now_);
    operations_->on_tick();
    if (!sync_running_) {
      sync_running_ = true;
      metadata_.sync_all([this](Result<void> synced) {
        sync_running_ = false;
        if (!synced) log_error("metadata_sync_failed error={}", describe(synced.error()));
      });
    }
  }
}

Result<void> Shard::stop() {
  stopping_ = true;
  UniqueFunction<void(Answer)> nowhere = [](Answer) {};
  flush(nowhere);
  TRY(content_.sync_now());
  return metadata_.close_clean();
}

}  // namespace magma
