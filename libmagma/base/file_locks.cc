#include "libmagma/base/file_locks.h"

#include <algorithm>

#include "libmagma/base/check.h"

namespace magma::locks {
namespace {

bool are_compatible(LockType a, LockType b) {
  return a == LockType::shared && b == LockType::shared;
}

bool is_type(LockType type) { return type == LockType::shared || type == LockType::exclusive; }

// `ranges` of one owner after `range` became `type`, or unlocked without one.
std::vector<HeldRange> with_range(const std::vector<HeldRange>& ranges, LockRange range,
                                  std::optional<LockType> type) {
  std::vector<HeldRange> result;
  result.reserve(ranges.size() + 2);
  auto append = [&result](LockRange next, LockType next_type) {
    bool joins = !result.empty() && result.back().type == next_type &&
                 result.back().range.end + 1 == next.start;
    if (joins) {
      result.back().range.end = next.end;
    } else {
      result.push_back({next, next_type});
    }
  };
  for (const HeldRange& held : ranges) {
    if (held.range.start >= range.start) break;
    append({held.range.start, std::min(held.range.end, range.start - 1)}, held.type);
  }
  if (type) append(range, *type);
  for (const HeldRange& held : ranges) {
    if (held.range.end <= range.end) continue;
    append({std::max(held.range.start, range.end + 1), held.range.end}, held.type);
  }
  return result;
}

// The first of an owner's sorted ranges in the way of a lock of `type` on `range`.
const HeldRange* first_conflict(const std::vector<HeldRange>& ranges, LockRange range,
                                LockType type) {
  auto at = std::lower_bound(
      ranges.begin(), ranges.end(), range.start,
      [](const HeldRange& held, std::uint64_t start) { return held.range.end < start; });
  for (; at != ranges.end() && at->range.start <= range.end; ++at)
    if (!are_compatible(at->type, type)) return &*at;
  return nullptr;
}

// Whether the ranges could be those of one owner.
bool is_well_formed(const std::vector<HeldRange>& ranges) {
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const HeldRange& held = ranges[i];
    if (!held.range.is_valid() || !is_type(held.type)) return false;
    if (i == 0) continue;
    const HeldRange& before = ranges[i - 1];
    if (before.range.end >= held.range.start) return false;
    if (before.range.end + 1 == held.range.start && before.type == held.type) return false;
  }
  return !ranges.empty();
}

bool is_well_formed(const HeldLocks& held) {
  auto ascend = [](const auto& a, const auto& b) { return a.owner >= b.owner; };
  if (std::adjacent_find(held.posix.begin(), held.posix.end(), ascend) != held.posix.end() ||
      std::adjacent_find(held.flocks.begin(), held.flocks.end(), ascend) != held.flocks.end())
    return false;
  return count_of(held) <= kLocksPerInodeMax &&
         std::all_of(held.posix.begin(), held.posix.end(),
                     [](const HeldPosix& one) { return is_well_formed(one.ranges); }) &&
         std::all_of(held.flocks.begin(), held.flocks.end(),
                     [](const HeldFlock& one) { return is_type(one.type); });
}

// The part of a map keyed by owner that belongs to a session.
template <class Map>
auto of_session(Map& owners, SessionId session) {
  auto first = owners.lower_bound(LockOwner{session, 0});
  auto last = owners.upper_bound(LockOwner{session, std::numeric_limits<std::uint64_t>::max()});
  return std::pair(first, last);
}

}  // namespace

std::size_t count_of(const HeldLocks& held) {
  std::size_t count = held.flocks.size();
  for (const HeldPosix& one : held.posix) count += one.ranges.size();
  return count;
}

const FileLocks::Inode* FileLocks::find(Ino ino) const {
  auto found = inodes_.find(ino);
  return found == inodes_.end() ? nullptr : &found->second;
}

std::optional<Conflict> FileLocks::test(Ino ino, const LockRequest& request) const {
  MAGMA_CHECK(request.range.is_valid());
  const Inode* inode = find(ino);
  if (inode == nullptr) return std::nullopt;
  if (request.kind == LockKind::flock) {
    for (const auto& [owner, held] : inode->flocks)
      if (owner != request.owner && !are_compatible(held.type, request.type))
        return Conflict{owner, {}, held.type, held.pid};
    return std::nullopt;
  }
  std::optional<Conflict> first;
  for (const auto& [owner, held] : inode->posix) {
    if (owner == request.owner) continue;
    const HeldRange* found = first_conflict(held.ranges, request.range, request.type);
    if (found != nullptr && (!first || found->range.start < first->range.start))
      first = Conflict{owner, found->range, found->type, held.pid};
  }
  return first;
}

// Who is in the way of `request`, each once.
std::vector<LockOwner> FileLocks::blockers(Ino ino, const LockRequest& request) const {
  std::vector<LockOwner> result;
  const Inode* inode = find(ino);
  if (inode == nullptr) return result;
  for (const auto& [owner, held] : inode->posix)
    if (owner != request.owner &&
        first_conflict(held.ranges, request.range, request.type) != nullptr)
      result.push_back(owner);
  return result;
}

LockResult FileLocks::try_lock(Ino ino, const LockRequest& request) {
  MAGMA_CHECK(request.range.is_valid() && is_type(request.type));
  if (request.kind == LockKind::flock) return try_flock(ino, request);
  if (test(ino, request)) return {LockOutcome::conflict, false};
  std::vector<HeldRange> before;
  if (const Inode* inode = find(ino))
    if (auto held = inode->posix.find(request.owner); held != inode->posix.end())
      before = held->second.ranges;
  return set_ranges(ino, request.owner, with_range(before, request.range, request.type),
                    request.pid);
}

LockResult FileLocks::try_flock(Ino ino, const LockRequest& request) {
  bool was_dropped = false;
  if (const Inode* inode = find(ino)) {
    auto held = inode->flocks.find(request.owner);
    if (held != inode->flocks.end() && held->second.type == request.type)
      return {LockOutcome::granted, false};
    was_dropped = drop_owner(ino, LockKind::flock, request.owner);
  }
  if (test(ino, request)) return {LockOutcome::conflict, was_dropped};
  if (!was_dropped && count_of(held(ino, request.owner.session)) >= kLocksPerInodeMax)
    return {LockOutcome::too_many, false};
  inodes_[ino].flocks[request.owner] = {request.pid, request.type};
  changed(ino, request.owner.session);
  return {LockOutcome::granted, true};
}

LockResult FileLocks::unlock(Ino ino, LockKind kind, LockOwner owner, LockRange range) {
  MAGMA_CHECK(range.is_valid());
  if (kind == LockKind::flock) return {LockOutcome::granted, drop_owner(ino, kind, owner)};
  const Inode* inode = find(ino);
  if (inode == nullptr) return {LockOutcome::granted, false};
  auto held = inode->posix.find(owner);
  if (held == inode->posix.end()) return {LockOutcome::granted, false};
  return set_ranges(ino, owner, with_range(held->second.ranges, range, std::nullopt), std::nullopt);
}

// Makes `ranges` what the owner holds, unless the session would hold too many. `pid`: the new one.
LockResult FileLocks::set_ranges(Ino ino, LockOwner owner, std::vector<HeldRange> ranges,
                                 std::optional<std::uint32_t> pid) {
  Inode& inode = inodes_[ino];
  auto at = inode.posix.try_emplace(owner).first;
  PosixLocks& held = at->second;
  std::uint32_t new_pid = pid.value_or(held.pid);
  if (ranges == held.ranges && new_pid == held.pid) return {LockOutcome::granted, false};
  if (ranges.size() > held.ranges.size()) {
    std::size_t others = count_of(this->held(ino, owner.session)) - held.ranges.size();
    if (others + ranges.size() > kLocksPerInodeMax) {
      if (held.ranges.empty()) inode.posix.erase(at);
      return {LockOutcome::too_many, false};
    }
  }
  held.pid = new_pid;
  held.ranges = std::move(ranges);
  if (held.ranges.empty()) inode.posix.erase(at);
  changed(ino, owner.session);
  return {LockOutcome::granted, true};
}

bool FileLocks::drop_owner(Ino ino, LockKind kind, LockOwner owner) {
  auto found = inodes_.find(ino);
  if (found == inodes_.end()) return false;
  Inode& inode = found->second;
  std::size_t gone = kind == LockKind::posix ? inode.posix.erase(owner) : inode.flocks.erase(owner);
  if (gone == 0) return false;
  changed(ino, owner.session);
  return true;
}

FileLocks::Dropped FileLocks::drop_session(SessionId session) {
  Dropped dropped;
  if (auto holder = holders_.find(session); holder != holders_.end())
    dropped.inodes.assign(holder->second.begin(), holder->second.end());
  for (auto at = waiting_owners_.lower_bound({LockOwner{session, 0}, 0});
       at != waiting_owners_.end() && at->first.session == session; ++at)
    dropped.tickets.push_back(at->second);
  for (std::uint64_t ticket : dropped.tickets) forget(ticket);
  for (Ino ino : dropped.inodes) drop_held(ino, session);
  return dropped;
}

void FileLocks::drop_held(Ino ino, SessionId session) {
  auto found = inodes_.find(ino);
  if (found == inodes_.end()) return;
  Inode& inode = found->second;
  auto [posix_first, posix_last] = of_session(inode.posix, session);
  inode.posix.erase(posix_first, posix_last);
  auto [flock_first, flock_last] = of_session(inode.flocks, session);
  inode.flocks.erase(flock_first, flock_last);
  changed(ino, session);
}

// Keeps holders_ and inodes_ in step with the locks of the inode, and has its waits looked at.
void FileLocks::changed(Ino ino, SessionId session) {
  auto found = inodes_.find(ino);
  MAGMA_CHECK(found != inodes_.end());
  const Inode& inode = found->second;
  auto [posix_first, posix_last] = of_session(inode.posix, session);
  auto [flock_first, flock_last] = of_session(inode.flocks, session);
  if (posix_first != posix_last || flock_first != flock_last) {
    holders_[session].insert(ino);
  } else if (auto holder = holders_.find(session); holder != holders_.end()) {
    holder->second.erase(ino);
    if (holder->second.empty()) holders_.erase(holder);
  }
  if (!inode.waits.empty()) changed_.insert(ino);
  if (inode.posix.empty() && inode.flocks.empty() && inode.waits.empty()) inodes_.erase(found);
}

bool FileLocks::has_locks(Ino ino) const {
  const Inode* inode = find(ino);
  return inode != nullptr && !(inode->posix.empty() && inode->flocks.empty());
}

bool FileLocks::has_others(Ino ino, SessionId session) const {
  const Inode* inode = find(ino);
  if (inode == nullptr) return false;
  auto is_another = [session](const auto& held) { return held.first.session != session; };
  return std::any_of(inode->posix.begin(), inode->posix.end(), is_another) ||
         std::any_of(inode->flocks.begin(), inode->flocks.end(), is_another) ||
         std::any_of(inode->waits.begin(), inode->waits.end(), [&](const auto& wait) {
           return waits_.at(wait.second).request.owner.session != session;
         });
}

HeldLocks FileLocks::held(Ino ino, SessionId session) const {
  HeldLocks result;
  const Inode* inode = find(ino);
  if (inode == nullptr) return result;
  auto [posix_first, posix_last] = of_session(inode->posix, session);
  for (auto at = posix_first; at != posix_last; ++at)
    result.posix.push_back({at->first.id, at->second.pid, at->second.ranges});
  auto [flock_first, flock_last] = of_session(inode->flocks, session);
  for (auto at = flock_first; at != flock_last; ++at)
    result.flocks.push_back({at->first.id, at->second.pid, at->second.type});
  return result;
}

Result<void> FileLocks::restore(Ino ino, SessionId session, const HeldLocks& held) {
  if (!is_well_formed(held)) return fail(Code::malformed, "locks of a session");
  HeldLocks before = this->held(ino, session);
  drop_held(ino, session);
  auto refuse = [&]() -> Result<void> {
    drop_held(ino, session);
    MAGMA_CHECK(restore(ino, session, before).has_value());
    return fail(Code::malformed, "locks of a session conflict");
  };
  for (const HeldPosix& one : held.posix) {
    LockOwner owner{session, one.owner};
    for (const HeldRange& range : one.ranges)
      if (test(ino, {LockKind::posix, owner, range.range, range.type})) return refuse();
    inodes_[ino].posix[owner] = {one.pid, one.ranges};
    changed(ino, session);
  }
  for (const HeldFlock& one : held.flocks) {
    LockOwner owner{session, one.owner};
    if (test(ino, {LockKind::flock, owner, {}, one.type})) return refuse();
    inodes_[ino].flocks[owner] = {one.pid, one.type};
    changed(ino, session);
  }
  return {};
}

std::size_t FileLocks::waits_of(SessionId session) const {
  std::size_t count = 0;
  for (auto at = waiting_owners_.lower_bound({LockOwner{session, 0}, 0});
       at != waiting_owners_.end() && at->first.session == session; ++at)
    ++count;
  return count;
}

// Whether the owner of `request`, waiting for it, would wait for itself: a search over who waits
// for whom, from those in the way of `request`.
bool FileLocks::closes_cycle(Ino ino, const LockRequest& request) const {
  std::set<LockOwner> seen;
  std::vector<LockOwner> left;
  auto add_blockers = [&](Ino where, const LockRequest& what) {
    for (LockOwner owner : blockers(where, what))
      if (seen.insert(owner).second) left.push_back(owner);
  };
  std::size_t waits_seen = 0;
  add_blockers(ino, request);
  while (!left.empty() && !seen.contains(request.owner)) {
    LockOwner owner = left.back();
    left.pop_back();
    for (auto at = waiting_owners_.lower_bound({owner, 0});
         at != waiting_owners_.end() && at->first == owner; ++at) {
      const Wait& wait = waits_.at(at->second);
      if (wait.request.kind != LockKind::posix) continue;
      if (++waits_seen > kDeadlockWaitsMax) return false;
      add_blockers(wait.ino, wait.request);
    }
  }
  return seen.contains(request.owner);
}

WaitOutcome FileLocks::wait(Ino ino, const LockRequest& request, std::uint64_t ticket) {
  MAGMA_CHECK(request.range.is_valid() && is_type(request.type));
  std::uint64_t arrival = last_arrival_ + 1;
  if (auto known = waits_.find(ticket); known != waits_.end()) {
    MAGMA_CHECK(known->second.ino == ino);
    arrival = known->second.arrival;
    forget(ticket);
  }
  if (waits_of(request.owner.session) >= kWaitsPerSessionMax) return WaitOutcome::too_many;
  if (request.kind == LockKind::posix && closes_cycle(ino, request)) return WaitOutcome::deadlock;
  last_arrival_ = std::max(last_arrival_, arrival);
  waits_[ticket] = {ino, request, arrival};
  waiting_owners_.insert({request.owner, ticket});
  inodes_[ino].waits[arrival] = ticket;
  if (!test(ino, request)) changed_.insert(ino);
  return WaitOutcome::waiting;
}

void FileLocks::forget(std::uint64_t ticket) {
  auto wait = waits_.find(ticket);
  if (wait == waits_.end()) return;
  auto found = inodes_.find(wait->second.ino);
  MAGMA_CHECK(found != inodes_.end());
  found->second.waits.erase(wait->second.arrival);
  const Inode& inode = found->second;
  if (inode.posix.empty() && inode.flocks.empty() && inode.waits.empty()) inodes_.erase(found);
  waiting_owners_.erase({wait->second.request.owner, ticket});
  waits_.erase(wait);
}

std::vector<std::uint64_t> FileLocks::take_ready() {
  std::map<std::uint64_t, std::uint64_t> ready;  // arrival -> ticket
  for (Ino ino : std::exchange(changed_, {})) {
    const Inode* inode = find(ino);
    if (inode == nullptr) continue;
    for (const auto& [arrival, ticket] : inode->waits)
      if (!test(ino, waits_.at(ticket).request)) ready[arrival] = ticket;
  }
  std::vector<std::uint64_t> tickets;
  for (const auto& [arrival, ticket] : ready) tickets.push_back(ticket);
  return tickets;
}

}  // namespace magma::locks
