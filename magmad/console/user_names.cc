#include "magmad/console/user_names.h"

#include <grp.h>
#include <pwd.h>

#include <algorithm>
#include <array>
#include <utility>

namespace magma::console {

namespace {

constexpr std::size_t kRecordBytesMax = 64 * 1024;  // a group with thousands of members

std::string user_name(std::uint32_t uid) {
  std::vector<char> buffer(kRecordBytesMax);
  passwd record{};
  passwd* found = nullptr;
  if (::getpwuid_r(uid, &record, buffer.data(), buffer.size(), &found) != 0 || found == nullptr)
    return {};
  return found->pw_name;
}

std::string group_name(std::uint32_t gid) {
  std::vector<char> buffer(kRecordBytesMax);
  group record{};
  group* found = nullptr;
  if (::getgrgid_r(gid, &record, buffer.data(), buffer.size(), &found) != 0 || found == nullptr)
    return {};
  return found->gr_name;
}

// Leaves each number that is not known, once.
void keep_unknown(std::vector<std::uint32_t>& numbers,
                  const std::map<std::uint32_t, std::string>& known) {
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  std::erase_if(numbers, [&](std::uint32_t number) { return known.contains(number); });
}

std::string find_name(const std::map<std::uint32_t, std::string>& known, std::uint32_t number) {
  const auto found = known.find(number);
  return found == known.end() ? std::string() : found->second;
}

}  // namespace

class UserNames::Given final : public Pending {
 public:
  Given(std::weak_ptr<UserNames*> names, std::uint64_t id) : names_(std::move(names)), id_(id) {}
  ~Given() override {
    if (auto names = names_.lock()) (*names)->give_up(id_);
  }

 private:
  std::weak_ptr<UserNames*> names_;
  std::uint64_t id_;
};

UserNames::UserNames(sys::Clock& clock, sys::Executor& executor)
    : clock_(clock), executor_(executor) {
  source_.user = [this](std::uint32_t uid) { return find_name(users_, uid); };
  source_.group = [this](std::uint32_t gid) { return find_name(groups_, gid); };
}

PendingPtr UserNames::learn(std::vector<std::uint32_t> uids, std::vector<std::uint32_t> gids,
                            UniqueFunction<void()> done) {
  const Instant now = clock_.now();
  if (now >= forget_at_ || users_.size() > kNamesMax || groups_.size() > kNamesMax) {
    users_.clear();
    groups_.clear();
    forget_at_ = now + kKeepTime;
  }
  keep_unknown(uids, users_);
  keep_unknown(gids, groups_);
  if (uids.empty() && gids.empty()) {
    done();
    return nullptr;
  }
  auto wanted = std::make_shared<Wanted>();
  wanted->uids = std::move(uids);
  wanted->gids = std::move(gids);
  const std::uint64_t id = ++last_id_;
  waiting_.push_back({id, std::move(wanted), std::move(done)});
  start_next();
  return std::make_unique<Given>(self_, id);
}

void UserNames::start_next() {
  if (is_running_ || waiting_.empty()) return;
  is_running_ = true;
  auto wanted = waiting_.front().wanted;
  executor_.run(
      [wanted] {
        for (const std::uint32_t uid : wanted->uids) wanted->users[uid] = user_name(uid);
        for (const std::uint32_t gid : wanted->gids) wanted->groups[gid] = group_name(gid);
      },
      [weak = std::weak_ptr<UserNames*>(self_)] {
        if (auto names = weak.lock()) (*names)->on_learnt();
      });
}

void UserNames::on_learnt() {
  is_running_ = false;
  Waiter waiter = std::move(waiting_.front());
  waiting_.pop_front();
  users_.merge(waiter.wanted->users);
  groups_.merge(waiter.wanted->groups);
  start_next();
  if (waiter.done) waiter.done();
}

void UserNames::give_up(std::uint64_t id) {
  auto found = std::find_if(waiting_.begin(), waiting_.end(),
                            [&](const Waiter& waiter) { return waiter.id == id; });
  if (found == waiting_.end()) return;
  found->done = nullptr;
  if (found != waiting_.begin() || !is_running_) waiting_.erase(found);
}

}  // namespace magma::console
