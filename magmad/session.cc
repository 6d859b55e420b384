// Sessions: a client's lease with the volcano, and what ends with it (opens, reply records).
// DESIGN.md section 6: one session with the ring, 10 s lease, renewed by any request.
#include <algorithm>

#include "libmagma/base/log.h"
#include "magmad/ops/ops.h"
#include "magmad/shard.h"

namespace magma {

namespace {

constexpr std::size_t kReplyRowsPerCleaning = 2000;
constexpr std::size_t kHostBytesMax = 255;

}  // namespace

// Beside the other rows of this volcano's first slot: another volcano has rows of its own.
store::RowKey Shard::session_key(SessionId id) const {
  return {store::Table::session, ring::with_counter(first_owned_, 0), id.value, {}};
}

// Of slots of other volcanoes it tells whose they are; their epochs they tell themselves.
std::vector<wire::MapRun> Shard::map_of_slots() const {
  std::vector<wire::MapRun> map;
  for (unsigned index = 0; index < ring::kSlotCount; ++index) {
    const ring::Slot slot(static_cast<std::uint16_t>(index));
    const std::string& address = owns(slot) ? config_.address : owners_->owner(slot).address;
    const Epoch epoch = owns(slot) ? epoch_of(slot) : Epoch(0);
    wire::add_slot(map, slot, epoch, address);
  }
  if (owners_ && !map.empty())
    for (const std::string& other : owners_->others) map.front().replicas.push_back(other);
  return map;
}

void Shard::attach(RequestPtr request, const wire::AttachRequest& message) {
  auto known = sessions_.find(message.session);
  if (message.session.value == 0) return refuse(std::move(request), Code::malformed);
  if (known == sessions_.end()) {
    if (!message.fresh) return refuse(std::move(request), Code::unknown_session);
    if (get<store::SessionRow>(session_key(message.session)))
      return refuse(std::move(request), Code::fenced);
    if (sessions_.size() >= kSessionsMax) return refuse(std::move(request), Code::overloaded);
    Session& session = remember_session(message.session);
    session.host = message.host.substr(0, kHostBytesMax);
    session.since = time();
    session.connection = request->target.connection;
    put(session_key(message.session), store::SessionRow{false, session.since, session.host});
    tokens_.shorten_grace(message.session, now_ + milliseconds(message.believes_ms));
    log_info("session_begin session={:#x} host={}", message.session.value,
             session.host);
  } else {
    known->second.last_seen = now_;
    known->second.connection = request->target.connection;
    tokens_.heard_from(message.session);
    tokens_.shorten_grace(message.session, now_ + milliseconds(message.believes_ms));
  }
  wire::AttachReply reply;
  reply.nick = config_.nick;
  reply.small_file_bytes_max = config_.small_file_bytes_max;
  reply.root = root();
  reply.map_version = start_epoch().value;
  reply.map = map_of_slots();
  if (owners_) reply.owners_version = owners_->version;
  answer(std::move(request), reply);
}

void Shard::detach(RequestPtr request, const wire::DetachRequest& message) {
  if (message.session != request->head.session)
    return refuse(std::move(request), Code::malformed);
  end_session(message.session);
  answer(std::move(request), wire::EmptyReply{});
}

std::vector<SessionId> Shard::believers() const {
  std::vector<SessionId> all = config_.believers;
  for (const auto& [id, session] : sessions_) all.push_back(id);
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

std::vector<Shard::SessionInfo> Shard::sessions(std::size_t count_max) const {
  std::vector<SessionInfo> told;
  for (const auto& [id, session] : sessions_) {
    if (told.size() == count_max) break;
    told.push_back({.id = id,
                    .host = session.host,
                    .since = session.since,
                    .last_seen = std::min(session.last_seen, clock_.now()),
                    .connection = session.connection,
                    .opens = session.opens.size()});
  }
  return told;
}

// Releases what the session holds. Its row goes with its reply rows (clean_replies), so that a
// late request of it is refused as long as a reply of it might be asked for.
void Shard::end_session(SessionId id) {
  auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  auto opens = found->second.opens;
  for (const auto& [ino, row] : opens) {
    for (std::uint32_t i = 0; i < row.readers; ++i) drop_open(id, Ino(ino), false);
    for (std::uint32_t i = 0; i < row.writers; ++i) drop_open(id, Ino(ino), true);
    if (opens_of(Ino(ino)).readers + opens_of(Ino(ino)).writers == 0 ||
        opens_of(Ino(ino)).writers == 0)
      ops::after_last_open(*this, Ino(ino), id);
  }
  std::vector<Ino> delayed;
  for (const auto& [dir, session] : names_rows_)
    if (session == id) delayed.push_back(dir);
  for (Ino dir : delayed) drop_names_row(dir);
  drop_file_locks(id);
  sessions_.erase(id);
  tokens_.forget(id);
  put(session_key(id), store::SessionRow{true, time(), {}});
  ended_sessions_.push_back(id);
  log_info("session_end session={:#x} opens={}", id.value, opens.size());
}

void Shard::expire_sessions() {
  std::vector<SessionId> expired;
  for (const auto& [id, session] : sessions_)
    if (now_ - session.last_seen > wire::kSessionLease) expired.push_back(id);
  for (SessionId id : expired) {
    log_warning("session_expired session={:#x}", id.value);
    end_session(id);
  }
}

VolcanoReport Shard::report(std::size_t lines_max) {
  VolcanoReport report;
  report.sessions = sessions_.size();
  report.flares_open = opens_.size();
  report.locks = locks_.size();
  report.requests_waiting = parked_;
  report.content_files_open = content_.stats().files_open;
  report.wal_bytes = metadata_.stats().wal_bytes;
  report.content_files = content_.open_contents(lines_max);
  for (SessionInfo& session : sessions(lines_max))
    report.session_lines.push_back(
        {session.id, std::move(session.host), session.opens, clock_.now() - session.last_seen});
  return report;
}

// Drops the reply rows of ended sessions, some at a time, then the sessions' own rows.
void Shard::clean_replies() {
  if (ended_sessions_.empty()) return;
  SessionId id = ended_sessions_.back();
  std::vector<store::RowKey> keys;
  for (unsigned database = 0; database < store::kDatabases; ++database) {
    auto visit = [&](const store::MetadataStore::ScanRow& row) {
      if (row.b == id.value && owns_row(row.a))
        keys.push_back({store::Table::reply, row.a, row.b, {}});
      return keys.size() < kReplyRowsPerCleaning;
    };
    if (auto done = metadata_.scan_database(database, store::Table::reply, visit); !done)
      return poison(done.error());
  }
  for (const auto& key : keys) erase(key);
  if (keys.size() < kReplyRowsPerCleaning) {
    erase(session_key(id));
    ended_sessions_.pop_back();
  }
}

namespace ops {

void attach(Shard& shard, RequestPtr request, wire::AttachRequest message) {
  shard.attach(std::move(request), message);
}
void detach(Shard& shard, RequestPtr request, wire::DetachRequest message) {
  shard.detach(std::move(request), message);
}

}  // namespace ops

}  // namespace magma
