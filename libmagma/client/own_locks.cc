#include "libmagma/client/own_locks.h"

#include <algorithm>
#include <utility>

#include "libmagma/base/log.h"

namespace magma::client {

namespace {

constexpr SessionId kSelf{1};  // all locks here are of one session

bool is_known(const wire::LockRequest& request) {
  const bool is_kind = request.kind == wire::LockKind::record ||
                       request.kind == wire::LockKind::flock;
  return is_kind && request.type >= wire::LockType::shared &&
         request.type <= wire::LockType::none && request.first <= request.last;
}

locks::LockKind kind_of(const wire::LockRequest& request) {
  return request.kind == wire::LockKind::flock ? locks::LockKind::flock : locks::LockKind::posix;
}

locks::LockRequest request_of(const wire::LockRequest& request) {
  return {.kind = kind_of(request),
          .owner = {kSelf, request.owner},
          .range = {request.first, request.last},
          .type = request.type == wire::LockType::exclusive ? locks::LockType::exclusive
                                                            : locks::LockType::shared,
          .pid = request.pid};
}

}  // namespace

bool OwnLocks::decides(Ino ino, const wire::LockRequest& request, bool has_token) const {
  if (!has_token || has_ended_ || !is_known(request)) return false;
  auto found = files_.find(ino);
  if (found == files_.end()) return true;
  const File& file = found->second;
  return !file.is_busy() && file.waiters.empty() && !file.is_unsure;
}

locks::LockResult OwnLocks::apply(const wire::LockRequest& request) {
  const locks::LockRequest wanted = request_of(request);
  return request.type == wire::LockType::none
             ? locks_.unlock(request.ino, wanted.kind, wanted.owner, wanted.range)
             : locks_.try_lock(request.ino, wanted);
}

std::optional<locks::LockOutcome> OwnLocks::lock(const wire::LockRequest& request,
                                                 bool has_token) {
  if (!decides(request.ino, request, has_token)) return std::nullopt;
  const locks::LockResult result = apply(request);
  ++decided_;
  if (result.changed) files_[request.ino].is_unsent = true;
  return result.outcome;
}

std::optional<wire::TestLockReply> OwnLocks::test(const wire::LockRequest& request,
                                                  bool has_token) const {
  if (request.type == wire::LockType::none || !decides(request.ino, request, has_token))
    return std::nullopt;
  wire::TestLockReply reply;
  if (auto conflict = locks_.test(request.ino, request_of(request))) {
    reply.type = conflict->type == locks::LockType::exclusive ? wire::LockType::exclusive
                                                              : wire::LockType::shared;
    reply.pid = conflict->pid;
    reply.first = conflict->range.start;
    reply.last = conflict->range.end;
  }
  return reply;
}

void OwnLocks::begin_change(Ino ino) {
  File& file = files_[ino];
  // In which order the volcano does two of them nobody tells.
  if (++file.changes > 1) file.is_unsure = true;
}

void OwnLocks::ended_change(const wire::LockRequest& request, Code code) {
  File& file = files_[request.ino];
  if (file.changes > 0) --file.changes;
  if (code == Code{}) {
    if (apply(request).outcome != locks::LockOutcome::granted) file.is_unsure = true;
  } else if (code == Code::would_block && request.kind == wire::LockKind::flock) {
    // A lock that was to be converted is gone (flock(2)).
    locks_.drop_owner(request.ino, locks::LockKind::flock, {kSelf, request.owner});
  } else if (code == Code::stale) {
    forget_locks(request.ino);  // the inode is gone
  } else if (code != Code::would_block && code != Code::no_locks) {
    file.is_unsure = true;
  }
  forget_if_idle(request.ino);
}

void OwnLocks::begin_question(Ino ino) { ++files_[ino].questions; }

void OwnLocks::ended_question(Ino ino) {
  File& file = files_[ino];
  if (file.questions > 0) --file.questions;
  forget_if_idle(ino);
}

bool OwnLocks::is_unsent(Ino ino) const {
  auto found = files_.find(ino);
  return found != files_.end() && found->second.is_unsent;
}

void OwnLocks::when_sent(Ino ino, UniqueFunction<void()> then) {
  if (!is_unsent(ino) || has_ended_) return then();
  File& file = files_[ino];
  file.waiters.push_back(std::move(then));
  if (file.sending == 0 && file.again == Instant::never()) send(ino, file);
}

void OwnLocks::send(Ino ino, File& file) {
  file.sending = ++last_number_;
  ++sets_;
  owner_.send_locks(ino, locks_.held(ino, kSelf), file.sending);
}

void OwnLocks::send_all() {
  std::vector<Ino> unsent;
  for (const auto& [ino, file] : files_)
    if (file.is_unsent && file.sending == 0 && file.again == Instant::never())
      unsent.push_back(ino);
  for (Ino ino : unsent)
    if (auto found = files_.find(ino); found != files_.end()) send(ino, found->second);
}

// A file that is gone has no locks. Those that the volcano cannot take are lost; but for a mistake
// of ours that does not happen.
void OwnLocks::sent(Ino ino, std::uint64_t number, const Result<wire::EmptyReply>& result,
                    Instant now) {
  auto found = files_.find(ino);
  if (found == files_.end() || found->second.sending != number) return;  // of a session before
  File& file = found->second;
  file.sending = 0;
  if (result) return told(ino);
  const Code code = result.error().code;
  if (code != Code::stale)
    log_warning("locks_not_sent ino={:016x} error={}", ino.value, describe(result.error()));
  if (code == Code::stale || code == Code::malformed) {
    forget_locks(ino);
    return told(ino);
  }
  // With the session, if that has ended, session_lost() ends it.
  file.again = now + kPause;
  next_due_ = std::min(next_due_, file.again);
}

void OwnLocks::told(Ino ino) {
  File& file = files_[ino];
  file.is_unsent = false;
  auto waiters = std::exchange(file.waiters, {});
  forget_if_idle(ino);
  for (auto& waiter : waiters) waiter();
}

void OwnLocks::on_timer(Instant now) {
  if (now < next_due_) return;
  next_due_ = Instant::never();
  std::vector<Ino> due;
  for (auto& [ino, file] : files_) {
    if (file.again <= now)
      due.push_back(ino);
    else
      next_due_ = std::min(next_due_, file.again);
  }
  for (Ino ino : due)
    if (auto found = files_.find(ino); found != files_.end()) {
      found->second.again = Instant::never();
      send(ino, found->second);
    }
}

void OwnLocks::forget_locks(Ino ino) { (void)locks_.restore(ino, kSelf, {}); }

void OwnLocks::closed(Ino ino) {
  auto found = files_.find(ino);
  if (found != files_.end() && (found->second.is_busy() || found->second.is_unsent)) return;
  forget_locks(ino);
  if (found != files_.end()) found->second.is_unsure = false;
  forget_if_idle(ino);
}

// Calls under way are made again in the new session, or told as failed: they end later.
void OwnLocks::session_lost() {
  locks_ = {};
  std::vector<UniqueFunction<void()>> waiters;
  std::vector<Ino> inodes;
  for (auto& [ino, file] : files_) {
    file.is_unsent = false;
    file.sending = 0;
    file.again = Instant::never();
    file.is_unsure = file.changes > 1;
    for (auto& waiter : std::exchange(file.waiters, {})) waiters.push_back(std::move(waiter));
    inodes.push_back(ino);
  }
  for (Ino ino : inodes) forget_if_idle(ino);
  for (auto& waiter : waiters) waiter();
}

void OwnLocks::end() {
  has_ended_ = true;
  session_lost();
}

void OwnLocks::forget_if_idle(Ino ino) {
  auto found = files_.find(ino);
  if (found == files_.end()) return;
  const File& file = found->second;
  const bool is_needed = file.is_busy() || file.is_unsent || file.is_unsure;
  if (!is_needed && file.waiters.empty()) files_.erase(found);
}

}  // namespace magma::client
