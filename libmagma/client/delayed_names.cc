#include "libmagma/client/delayed_names.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "libmagma/base/log.h"

namespace magma::client {

namespace {
constexpr Duration kAgain = milliseconds(100);  // after too many requests
constexpr std::size_t kRecentMax = 64;
constexpr std::size_t kErrorsMax = 1024;
constexpr std::size_t kSyncedMax = 16384;
constexpr std::size_t kNeverMadeMax = 16384;
constexpr std::int64_t kSlower = 1000;  // our clock may run faster by one part in so many
}  // namespace

WallTime DelayedNames::Clock::at(Instant now) const {
  const std::int64_t passed = std::max(now - here, Duration{}).ns;
  return WallTime{ring.ns + passed - passed / kSlower};
}

DelayedNames::Directory* DelayedNames::find(Ino dir) {
  auto found = directories_.find(dir);
  return found == directories_.end() ? nullptr : &found->second;
}

const DelayedNames::Directory* DelayedNames::find(Ino dir) const {
  auto found = directories_.find(dir);
  return found == directories_.end() ? nullptr : &found->second;
}

// ---- what the ring tells

// The directory's time of change is the volcano's of a moment ago: the answer's change made it.
void DelayedNames::granted(const wire::NamesChanged& told, Instant made_at, Instant now) {
  const wire::Attr& attr = told.directory;
  if (!is_on_ || is_away_ || recalls_.until(attr.ino, made_at, Instant::never()) == Instant{})
    return;
  if (find(attr.ino) == nullptr && !make_room()) return;
  Directory& directory = directories_[attr.ino];
  if (directory.is_dirty()) return;
  directory.has_token = true;
  directory.clock = {attr.mtime, now};
  directory.last_at = attr.mtime;
  take_numbers(directory, told);
}

// Those that were left are not used: nothing but more of them is to be had.
void DelayedNames::take_numbers(Directory& directory, const wire::NamesChanged& told) {
  if (told.numbers == 0) return;
  directory.next_number = told.first_number;
  directory.numbers = told.numbers;
}

void DelayedNames::recalled(Ino dir, Instant now, UniqueFunction<void()> done) {
  recalls_.changed(dir, now);
  if (Directory* directory = find(dir)) directory->has_token = false;
  when_clean(dir, now, std::move(done));
}

void DelayedNames::forget_tokens(Instant now) {
  recalls_.all_changed(now);
  std::vector<Ino> all;
  for (auto& [dir, directory] : directories_) {
    directory.has_token = false;
    directory.due = now;
    all.push_back(dir);
  }
  for (Ino dir : all) pump(dir, now);
  for (Ino dir : all) settle(dir);
}

void DelayedNames::session_lost() {
  is_away_ = true;
  for (auto& [dir, directory] : directories_) directory.has_token = false;
}

void DelayedNames::session_renewed(Instant now) {
  is_away_ = false;
  forget_tokens(now);
}

void DelayedNames::amend(wire::Attr& attr) const {
  const Directory* directory = dirty_ == 0 ? nullptr : find(attr.ino);
  if (directory == nullptr || !directory->is_dirty() ||
      directory->attr.data_version <= attr.data_version)
    return;
  attr.mtime = directory->attr.mtime;
  attr.ctime = std::max(attr.ctime, directory->attr.ctime);
  attr.data_version = directory->attr.data_version;
}

// ---- what programs do

bool DelayedNames::wants_token(Ino dir, Instant now) {
  if (!is_on_) return false;
  const bool is_at_work = last_kept_ != Instant{} && now - last_kept_ <= kSoon;
  auto known = std::find_if(recent_.begin(), recent_.end(),
                            [&](const Change& change) { return change.dir == dir; });
  if (known != recent_.end()) {
    const bool is_soon = now - known->at <= kSoon;
    known->at = now;
    return is_soon || is_at_work;
  }
  expect_changes(dir, now);
  return is_at_work;
}

void DelayedNames::expect_changes(Ino dir, Instant now) {
  if (recent_.size() >= kRecentMax) recent_.pop_front();
  recent_.push_back({dir, now});
}

Ino DelayedNames::next_number(Ino dir) const {
  const Directory* directory = find(dir);
  return directory == nullptr || directory->numbers == 0 ? Ino() : directory->next_number;
}

bool DelayedNames::has_token(Ino dir) const {
  const Directory* directory = find(dir);
  return directory != nullptr && directory->has_token;
}

std::optional<wire::Attr> DelayedNames::keep(const wire::Attr& attr, wire::NameStep step,
                                             std::uint32_t uid, std::uint32_t gid, Instant now) {
  Directory* directory = find(attr.ino);
  if (directory == nullptr || !directory->has_token || is_away_ || has_ended_) return std::nullopt;
  const bool is_dirty = directory->is_dirty();
  // Who waits for it to be clean must not wait for ever.
  if (!directory->waiters.empty() || !all_waiters_.empty() ||
      directory->steps.size() >= kStepsMax ||
      (is_dirty && (directory->uid != uid || directory->gid != gid)))
    return std::nullopt;
  const WallTime at = std::max(
      {directory->clock.at(now), WallTime{directory->last_at.ns + 1}, WallTime{attr.ctime.ns + 1}});
  directory->last_at = step.at = at;
  directory->attr = attr;
  directory->attr.mtime = at;
  directory->attr.ctime = std::max(attr.ctime, at);
  ++directory->attr.data_version;
  directory->uid = uid;
  directory->gid = gid;
  if (directory->steps.empty()) {
    directory->due = now + kDelay;
    next_due_ = std::min(next_due_, directory->due);
  }
  count_in(step.ino, attr.ino);
  if (step.made) {
    made_[step.ino].dir = attr.ino;
    ++made_count_;
    directory->next_number = Ino(step.ino.value + 1);
    --directory->numbers;
  }
  directory->steps.push_back(std::move(step));
  last_kept_ = now;
  ++kept_;
  dirty_ += !is_dirty;
  const wire::Attr after = directory->attr;
  pump(attr.ino, now);
  return after;
}

void DelayedNames::synced(Ino ino) {
  if (!is_on_ || !synced_.insert(ino).second) return;
  synced_order_.push_back(ino);
  if (synced_order_.size() <= kSyncedMax) return;
  synced_.erase(synced_order_.front());
  synced_order_.pop_front();
}

bool DelayedNames::is_dirty(Ino dir) const {
  const Directory* directory = dirty_ == 0 ? nullptr : find(dir);
  return directory != nullptr && directory->is_dirty();
}

bool DelayedNames::is_last(Ino dir, std::size_t done) const {
  const Directory* directory = find(dir);
  return directory == nullptr ||
         (directory->steps.empty() && directory->sending.size() <= done);
}

Ino DelayedNames::dir_of(Ino ino) const {
  auto found = moving_.find(ino);
  return found == moving_.end() ? Ino() : found->second.dir;
}

void DelayedNames::when_made(Ino ino, Instant now, UniqueFunction<void()> then) {
  auto found = made_.find(ino);
  if (found == made_.end()) return then();
  const Ino dir = found->second.dir;
  found->second.waiters.push_back(std::move(then));
  find(dir)->due = now;
  pump(dir, now);
}

// Of a step that is under way the volcano may know the open; if it is sent again, in another
// session, it opens nothing.
bool DelayedNames::close_made(Ino ino, bool for_write) {
  auto found = made_.find(ino);
  if (found == made_.end()) return false;
  Directory& directory = *find(found->second.dir);
  auto close_one = [&](auto& steps) {
    auto step = std::find_if(steps.rbegin(), steps.rend(), [&](const wire::NameStep& other) {
      return other.ino == ino && other.made && other.made->is_open &&
             other.made->for_write == for_write;
    });
    if (step == steps.rend()) return false;
    step->made->is_open = false;
    return true;
  };
  if (close_one(directory.steps)) return true;
  close_one(directory.sending);
  return false;
}

bool DelayedNames::touches(Ino dir, std::string_view name) const {
  const Directory* directory = dirty_ == 0 ? nullptr : find(dir);
  if (directory == nullptr) return false;
  auto is_of = [&](const wire::NameStep& step) {
    return step.name == name || step.to_name == name;
  };
  return std::any_of(directory->steps.begin(), directory->steps.end(), is_of) ||
         std::any_of(directory->sending.begin(), directory->sending.end(), is_of);
}

void DelayedNames::when_clean(Ino dir, Instant now, UniqueFunction<void()> then) {
  if (!is_dirty(dir)) return then();
  Directory& directory = *find(dir);
  directory.waiters.push_back(std::move(then));
  directory.due = now;
  pump(dir, now);
}

void DelayedNames::when_all_clean(Instant now, UniqueFunction<void()> then) {
  if (dirty_ == 0) return then();
  all_waiters_.push_back(std::move(then));
  std::vector<Ino> all;
  for (auto& [dir, directory] : directories_) {
    if (!directory.is_dirty()) continue;
    directory.due = now;
    all.push_back(dir);
  }
  for (Ino dir : all) pump(dir, now);
}

std::optional<Error> DelayedNames::take_error(Ino dir) {
  auto found = errors_.find(dir);
  if (found == errors_.end()) return std::nullopt;
  Error error = std::move(found->second);
  errors_.erase(found);
  return error;
}

void DelayedNames::end() {
  has_ended_ = true;
  next_due_ = Instant::never();
  for (const auto& [dir, directory] : directories_)
    if (directory.is_dirty())
      log_warning("name_changes_lost directory={:#x} changes={}", dir.value,
                  directory.steps.size() + directory.sending.size());
  std::vector<UniqueFunction<void()>> waiters = std::exchange(all_waiters_, {});
  for (auto& [dir, directory] : std::exchange(directories_, {}))
    std::move(directory.waiters.begin(), directory.waiters.end(), std::back_inserter(waiters));
  for (auto& [ino, made] : std::exchange(made_, {}))
    std::move(made.waiters.begin(), made.waiters.end(), std::back_inserter(waiters));
  dirty_ = 0;
  moving_.clear();
  for (auto& then : waiters) then();
}

// ---- sending

void DelayedNames::pump(Ino dir, Instant now) {
  Directory* directory = find(dir);
  if (directory == nullptr || directory->steps.empty() || !directory->sending.empty() ||
      is_away_ || has_ended_)
    return;
  const bool is_due = directory->due <= now || directory->steps.size() >= kHurrySteps;
  if (!is_due || directory->not_before > now) {
    next_due_ = std::min(next_due_, std::max(directory->due, directory->not_before));
    return;
  }
  Batch batch{.dir = dir, .uid = directory->uid, .gid = directory->gid};
  batch.wants_numbers = directory->numbers > 0 && directory->numbers < kNumbersLow;
  const std::size_t count = std::min(directory->steps.size(), wire::kNameStepsMax);
  for (std::size_t i = 0; i < count; ++i) {
    directory->sending.push_back(std::move(directory->steps.front()));
    directory->steps.pop_front();
  }
  batch.steps = directory->sending;
  directory->number = ++last_number_;
  under_way_.emplace(last_number_, dir);
  ++batches_;
  owner_.send_names(batch, last_number_);
}

void DelayedNames::sent(std::uint64_t number, Result<wire::ChangeNamesReply> result,
                        const wire::NamesChanged* told, Instant now) {
  auto of = under_way_.extract(number);
  if (!of || has_ended_) return;
  const Ino dir = of.mapped();
  Directory& directory = *find(dir);
  std::vector<wire::NameStep> steps = std::exchange(directory.sending, {});
  std::size_t done = 0;
  if (result) {
    done = std::min<std::size_t>(result->done, steps.size());
    if (done == 0) result = fail(Code::malformed);
  }
  if (result) {
    directory.clock = {result->time, now};
    if (!result->may_delay) directory.has_token = false;
    if (told != nullptr) take_numbers(directory, *told);
    for (std::uint32_t index : result->lost)
      if (index < done) lose(dir, steps[index]);
  } else if (result.error().code == Code::overloaded) {
    directory.not_before = now + kAgain;
  } else if (result.error().code != Code::fenced) {
    done = steps.size();
    directory.has_token = false;
    for (const wire::NameStep& step : steps) lose(dir, step);
  }
  std::vector<UniqueFunction<void()>> waiters;
  for (std::size_t i = 0; i < done; ++i) {
    count_out(steps[i]);
    auto more = take_waiters(steps[i]);
    std::move(more.begin(), more.end(), std::back_inserter(waiters));
  }
  directory.steps.insert(directory.steps.begin(),
                         std::make_move_iterator(steps.begin() + static_cast<std::ptrdiff_t>(done)),
                         std::make_move_iterator(steps.end()));
  const bool is_waited_for =
      !directory.waiters.empty() || !all_waiters_.empty() ||
      std::any_of(directory.steps.begin(), directory.steps.end(),
                  [&](const wire::NameStep& step) {
                    auto made = made_.find(step.ino);
                    return made != made_.end() && !made->second.waiters.empty();
                  });
  if (is_waited_for || !directory.has_token) directory.due = now;
  pump(dir, now);
  settle(dir);
  for (auto& then : waiters) then();
}

std::vector<UniqueFunction<void()>> DelayedNames::take_waiters(const wire::NameStep& step) {
  auto made = step.made ? made_.extract(step.ino) : decltype(made_)::node_type{};
  return made ? std::move(made.mapped().waiters) : std::vector<UniqueFunction<void()>>{};
}

// Tells who waits for it. Nothing may be used after it: they may call anything.
void DelayedNames::settle(Ino dir) {
  Directory* directory = find(dir);
  if (directory == nullptr || directory->is_dirty()) return;
  std::vector<UniqueFunction<void()>> waiters = std::exchange(directory->waiters, {});
  const bool was_dirty = directory->number != 0;
  directory->number = 0;
  dirty_ -= was_dirty;
  if (!directory->has_token) directories_.erase(dir);
  if (was_dirty && dirty_ == 0)
    for (auto& then : std::exchange(all_waiters_, {})) waiters.push_back(std::move(then));
  for (auto& then : waiters) then();
}

void DelayedNames::lose(Ino dir, const wire::NameStep& step) {
  log_warning("name_change_lost directory={:#x} name={} to={}", dir.value, step.name,
              step.to_name);
  if (step.made && never_made_.size() < kNeverMadeMax) never_made_.insert(step.ino);
  if (errors_.size() < kErrorsMax)
    errors_[dir] = Error{Code::io, "a change of the name " + step.name + " was lost"};
  owner_.on_name_lost(dir, step);
}

void DelayedNames::on_timer(Instant now) {
  if (now < next_due_) return;
  next_due_ = Instant::never();
  std::vector<Ino> due;
  for (auto& [dir, directory] : directories_) {
    if (directory.steps.empty() || !directory.sending.empty()) continue;
    const Instant at = std::max(directory.due, directory.not_before);
    if (at <= now)
      due.push_back(dir);
    else
      next_due_ = std::min(next_due_, at);
  }
  for (Ino dir : due) pump(dir, now);
}

// ---- bookkeeping

void DelayedNames::count_in(Ino ino, Ino dir) {
  Moving& moving = moving_[ino];
  moving.dir = dir;
  ++moving.steps;
}

void DelayedNames::count_out(const wire::NameStep& step) {
  auto found = moving_.find(step.ino);
  if (found != moving_.end() && --found->second.steps == 0) moving_.erase(found);
}

// Forgets a token: the volcano recalls one that is not used.
bool DelayedNames::make_room() {
  if (directories_.size() < kDirectoriesMax) return true;
  auto clean = std::find_if(directories_.begin(), directories_.end(),
                            [](const auto& item) { return !item.second.is_dirty(); });
  if (clean == directories_.end()) return false;
  directories_.erase(clean);
  return true;
}

}  // namespace magma::client
