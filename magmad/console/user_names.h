// Names of users and groups for listings. Looking one up may ask another machine (NSS: LDAP), so
// that happens on the executor, one batch at a time; what is known is kept for kKeepTime. The
// loop's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "libmagma/sys/clock.h"
#include "libmagma/sys/executor.h"
#include "magmad/console/backend.h"

namespace magma::console {

class UserNames {
 public:
  static constexpr std::size_t kNamesMax = 4096;  // of users, and of groups; then all are forgotten
  static constexpr Duration kKeepTime = seconds(300);

  UserNames(sys::Clock& clock, sys::Executor& executor);

  PendingPtr learn(std::vector<std::uint32_t> uids, std::vector<std::uint32_t> gids,
                   UniqueFunction<void()> done);
  // Reads what was learnt; refers to this object.
  client::NameSource& source() { return source_; }

 private:
  struct Wanted {
    std::vector<std::uint32_t> uids, gids;
    std::map<std::uint32_t, std::string> users, groups;  // answers; empty: has no name
  };
  struct Waiter {
    std::uint64_t id = 0;
    std::shared_ptr<Wanted> wanted;  // shared with the executor's work
    UniqueFunction<void()> done;
  };
  class Given;

  void start_next();
  void on_learnt();
  void give_up(std::uint64_t id);

  sys::Clock& clock_;
  sys::Executor& executor_;
  std::map<std::uint32_t, std::string> users_, groups_;
  Instant forget_at_{};
  std::deque<Waiter> waiting_;  // the first is being looked up if is_running_
  bool is_running_ = false;
  std::uint64_t last_id_ = 0;
  client::NameSource source_;
  std::shared_ptr<UserNames*> self_ = std::make_shared<UserNames*>(this);  // given out as weak_ptr
};

}  // namespace magma::console
