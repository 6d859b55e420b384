#include "libmagma/client/local_opens.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "libmagma/base/relatime.h"

namespace magma::client {

// ---- what is believed

void LocalOpens::learn(const wire::Attr& attr, Instant made_at) {
  const Instant until = own_.until(attr.ino, made_at, attr.believed_until);
  if (until == Instant{}) return;
  if (!S_ISREG(attr.mode) || attr.nlink != 1 || attr.is_partial) {
    known_.erase(attr.ino);
    return;
  }
  if (known_.size() >= kKnownMax) known_.clear();
  known_.insert_or_assign(attr.ino, attr);
}

void LocalOpens::changed(Ino ino, Instant now) {
  own_.changed(ino, now);
  known_.erase(ino);
}

void LocalOpens::access_time_set(Ino ino, WallTime atime, Instant made_at) {
  auto known = known_.find(ino);
  if (known == known_.end()) return;
  if (own_.until(ino, made_at, known->second.believed_until) == Instant{})
    known_.erase(known);
  else
    known->second.atime = atime;
}

const wire::Attr* LocalOpens::known(Ino ino, Instant now) const {
  if (names_changing_ > 0) return nullptr;
  auto found = known_.find(ino);
  return found == known_.end() || found->second.believed_until <= now ? nullptr : &found->second;
}

void LocalOpens::names_change_ends(Instant now) {
  --names_changing_;
  forget_all(now);
}

void LocalOpens::forget_all(Instant now) {
  own_.all_changed(now);
  known_.clear();
}

// ---- opens

const wire::Attr* LocalOpens::open(Ino ino, Instant now) {
  if (names_changing_ > 0) return nullptr;
  auto found = known_.find(ino);
  if (found == known_.end()) return nullptr;
  const Instant due = found->second.believed_until - kTellAhead;
  if (due <= now) return nullptr;
  auto [place, is_new] = opens_.try_emplace(ino);
  Open& open = place->second;
  if (is_new) {
    ++untold_;
    be_due(open, due);
  }
  ++open.count;
  return &found->second;
}

std::optional<LocalOpens::Closed> LocalOpens::close(Ino ino, bool was_read, WallTime now) {
  auto found = opens_.find(ino);
  if (found == opens_.end() || found->second.count == 0) return std::nullopt;
  Open& open = found->second;
  open.was_read = open.was_read || was_read;
  if (--open.count > 0) return Closed{};
  Closed closed{.is_told = open.state == State::told, .is_access_due = open.was_read};
  if (auto known = known_.find(ino); known != known_.end() && open.was_read) {
    const wire::Attr& attr = known->second;
    closed.is_access_due = is_access_time_due(attr.atime, attr.mtime, attr.ctime, now);
  }
  if (open.state != State::telling) end(found);  // else told() does
  return closed;
}

// ---- telling

void LocalOpens::be_due(Open& open, Instant at) {
  open.due = at;
  next_due_ = std::min(next_due_, at);
}

// Who waits may come back here.
void LocalOpens::now_told(Open& open) {
  if (std::exchange(open.state, State::told) == State::told) return;
  auto waiters = std::exchange(open.waiters, {});
  if (--untold_ == 0) {
    next_due_ = Instant::never();
    for (auto& then : std::exchange(all_waiters_, {})) waiters.push_back(std::move(then));
  }
  for (auto& then : waiters) then();
}

void LocalOpens::end(std::unordered_map<Ino, Open>::iterator ended) {
  Open open = std::move(ended->second);
  opens_.erase(ended);
  now_told(open);
}

void LocalOpens::tell_all(Instant now) {
  for (auto& [ino, open] : opens_)
    if (open.state == State::untold) be_due(open, std::min(open.due, now));
}

std::vector<Ino> LocalOpens::due(Instant now) {
  std::vector<Ino> due;
  if (now < next_due_) return due;
  next_due_ = Instant::never();
  for (auto& [ino, open] : opens_) {
    if (open.state != State::untold) continue;
    if (open.due > now) {
      next_due_ = std::min(next_due_, open.due);
      continue;
    }
    open.state = State::telling;
    due.push_back(ino);
  }
  std::sort(due.begin(), due.end());
  return due;
}

bool LocalOpens::is_closed(Ino ino) const {
  auto found = opens_.find(ino);
  return found == opens_.end() || found->second.count == 0;
}

void LocalOpens::told(Ino ino, Told how, Instant now) {
  auto found = opens_.find(ino);
  if (found == opens_.end() || found->second.state != State::telling) return;
  Open& open = found->second;
  if (open.count == 0 || how == Told::gone) return end(found);
  if (how == Told::done) return now_told(open);
  open.state = State::untold;
  be_due(open, now + kTellAgain);
}

void LocalOpens::when_told(Ino ino, Instant now, UniqueFunction<void()> then) {
  auto found = opens_.find(ino);
  if (found == opens_.end() || found->second.state == State::told) return then();
  be_due(found->second, std::min(found->second.due, now));
  found->second.waiters.push_back(std::move(then));
}

void LocalOpens::when_all_told(Instant now, UniqueFunction<void()> then) {
  if (untold_ == 0) return then();
  tell_all(now);
  all_waiters_.push_back(std::move(then));
}

}  // namespace magma::client
