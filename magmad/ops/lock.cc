// Advisory locks of files: lock, lock_wait, test_lock, set_locks. FileLocks has the rules; here are
// the rows that keep them over a restart (one for each inode and session) and the requests that
// wait.
#include <sys/stat.h>

#include "magmad/ops/authority.h"
#include "magmad/ops/ops.h"

namespace magma::ops {

using namespace locks;

namespace {

// Requests of one wait are answered at least this often, so that nobody takes the volcano for dead.
constexpr Duration kWaitMax = milliseconds(500);

std::optional<Code> lock_error(const wire::LockRequest& message) {
  const bool known = (message.kind == wire::LockKind::record ||
                      message.kind == wire::LockKind::flock) &&
                     message.type >= wire::LockType::shared && message.type <= wire::LockType::none;
  if (!known || message.first > message.last) return Code::invalid;
  return std::nullopt;
}

LockRequest request_of(SessionId session, const wire::LockRequest& message) {
  return {.kind = message.kind == wire::LockKind::flock ? LockKind::flock : LockKind::posix,
          .owner = {session, message.owner},
          .range = {message.first, message.last},
          .type = message.type == wire::LockType::exclusive ? LockType::exclusive
                                                            : LockType::shared,
          .pid = message.pid};
}

}  // namespace

void lock(Shard& shard, RequestPtr request, wire::LockRequest message) {
  if (auto error = lock_error(message)) return shard.refuse(std::move(request), *error);
  const SessionId session = request->head.session;
  auto row = shard.inode(message.ino);
  if (!row) return shard.refuse(std::move(request), Code::stale);
  LockRequest wanted = request_of(session, message);
  FileLocks& locks = shard.file_locks();
  LockResult result = message.type == wire::LockType::none
                          ? locks.unlock(message.ino, wanted.kind, wanted.owner, wanted.range)
                          : locks.try_lock(message.ino, wanted);
  if (result.changed) shard.put_file_locks(message.ino, session);
  shard.wake_file_locks();
  switch (result.outcome) {
    case LockOutcome::granted:
      return shard.answer(
          std::move(request),
          wire::LockReply{with_authority(shard, message.ino, *row).data_version});
    case LockOutcome::conflict: return shard.refuse(std::move(request), Code::would_block);
    case LockOutcome::too_many: return shard.refuse(std::move(request), Code::no_locks);
  }
}

// Of a client that had the token of the file: nobody else can have locks on it.
void set_locks(Shard& shard, RequestPtr request, wire::SetLocksRequest message) {
  const SessionId session = request->head.session;
  if (!shard.inode(message.ino)) return shard.refuse(std::move(request), Code::stale);
  if (auto done = shard.file_locks().restore(message.ino, session, message.held); !done)
    return shard.refuse(std::move(request), done.error());
  shard.put_file_locks(message.ino, session);
  shard.wake_file_locks();
  shard.answer(std::move(request), wire::EmptyReply{});
}

void lock_wait(Shard& shard, RequestPtr request, wire::LockWaitRequest message) {
  const wire::LockRequest& wish = message.lock;
  if (auto error = lock_error(wish); error || wish.type == wire::LockType::none)
    return shard.refuse(std::move(request), Code::invalid);
  LockRequest wanted = request_of(request->head.session, wish);
  if (!shard.file_locks().test(wish.ino, wanted))
    return shard.answer(std::move(request), wire::EmptyReply{});
  shard.park_for_file_lock(std::move(request), wish.ino, wanted, kWaitMax);
}

void test_lock(Shard& shard, RequestPtr request, wire::TestLockRequest message) {
  const wire::LockRequest& wish = message.lock;
  if (auto error = lock_error(wish); error || wish.type == wire::LockType::none)
    return shard.refuse(std::move(request), Code::invalid);
  if (!shard.inode(wish.ino)) return shard.refuse(std::move(request), Code::stale);
  const SessionId session = request->head.session;
  auto conflict = shard.file_locks().test(wish.ino, request_of(session, wish));
  wire::TestLockReply reply;
  if (conflict) {
    reply.type = conflict->type == LockType::exclusive ? wire::LockType::exclusive
                                                       : wire::LockType::shared;
    reply.pid = conflict->owner.session == session ? conflict->pid : 0;
    reply.first = conflict->range.start;
    reply.last = conflict->range.end;
  }
  shard.answer(std::move(request), reply);
}

}  // namespace magma::ops

namespace magma {

namespace {

store::RowKey file_lock_key(Ino ino, SessionId session) {
  return {store::Table::file_lock, ino.value, session.value, {}};
}

}  // namespace

void Shard::put_file_locks(Ino ino, SessionId session) {
  locks::HeldLocks held = file_locks_.held(ino, session);
  if (held.empty())
    erase(file_lock_key(ino, session));
  else
    put(file_lock_key(ino, session), held);
}

// Requests whose lock may be free now are answered: their clients ask again.
void Shard::wake_file_locks() {
  for (std::uint64_t ticket : file_locks_.take_ready()) end_file_lock_wait(ticket, std::nullopt);
}

void Shard::end_file_lock_wait(std::uint64_t ticket, std::optional<Code> error) {
  file_locks_.forget(ticket);
  auto found = lock_waits_.find(ticket);
  if (found == lock_waits_.end()) return;
  RequestPtr request = std::move(found->second);
  lock_waits_.erase(found);
  if (error)
    refuse(std::move(request), *error);
  else
    answer(std::move(request), wire::EmptyReply{});
}

void Shard::park_for_file_lock(RequestPtr request, Ino ino, const locks::LockRequest& wanted,
                               Duration longest) {
  std::uint64_t ticket = ++last_lock_ticket_;
  switch (file_locks_.wait(ino, wanted, ticket)) {
    case locks::WaitOutcome::deadlock: return refuse(std::move(request), Code::deadlock);
    case locks::WaitOutcome::too_many: return refuse(std::move(request), Code::no_locks);
    case locks::WaitOutcome::waiting: break;
  }
  request->keep();
  lock_waits_.emplace(ticket, std::move(request));
  later(longest, [this, ticket] { end_file_lock_wait(ticket, std::nullopt); });
}

// The inode goes: nobody can have it open, so these are locks of clients that forgot to say so.
void Shard::drop_file_locks(Ino ino) {
  if (!file_locks_.has_locks(ino)) return;
  std::vector<SessionId> holders;
  for (const auto& [id, session] : sessions_)
    if (!file_locks_.held(ino, id).empty()) holders.push_back(id);
  for (SessionId id : holders) {
    if (auto done = file_locks_.restore(ino, id, {}); !done) poison(done.error());
    erase(file_lock_key(ino, id));
  }
  wake_file_locks();
}

void Shard::drop_file_locks(SessionId session) {
  auto dropped = file_locks_.drop_session(session);
  for (Ino ino : dropped.inodes) erase(file_lock_key(ino, session));
  for (std::uint64_t ticket : dropped.tickets) end_file_lock_wait(ticket, Code::fenced);
  wake_file_locks();
}

Result<void> Shard::load_file_locks() {
  file_locks_ = {};
  lock_waits_.clear();
  Result<void> good;
  std::vector<SessionId> holders;
  auto visit = [&](const store::MetadataStore::ScanRow& row) {
    if (!owns_row(row.a)) return true;
    auto held = wire::decode<locks::HeldLocks>(row.image);
    good = held ? file_locks_.restore(Ino(row.a), SessionId(row.b), *held) : fail(held.error());
    holders.push_back(SessionId(row.b));
    return good.has_value();
  };
  for (unsigned database = 0; database < store::kDatabases && good; ++database)
    TRY(metadata_.scan_database(database, store::Table::file_lock, visit));
  for (SessionId id : holders) adopt_session(id);
  return good;
}

}  // namespace magma
