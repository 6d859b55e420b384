// The one event loop of a simulation: simulated time and what is to happen when. Events of one
// instant run in the order they were planned, so a run is a function of its seed.
#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "libmagma/base/time.h"
#include "libmagma/base/unique_function.h"

namespace magma::test {

class SimLoop {
 public:
  Instant now() const { return now_; }
  void after(Duration delay, UniqueFunction<void()> action) {
    events_.emplace(std::pair(now_ + delay, planned_++), std::move(action));
  }
  Instant next() const { return events_.empty() ? Instant::never() : events_.begin()->first.first; }
  // Goes to `time` and runs what is planned up to then. Requires: not before now().
  void run_to(Instant time) {
    now_ = time;
    while (!events_.empty() && events_.begin()->first.first <= now_) {
      auto action = std::move(events_.begin()->second);
      events_.erase(events_.begin());
      ++ran_;
      action();
    }
  }
  std::uint64_t ran() const { return ran_; }

 private:
  Instant now_{seconds(1000).ns};
  std::uint64_t planned_ = 0;
  std::uint64_t ran_ = 0;
  std::map<std::pair<Instant, std::uint64_t>, UniqueFunction<void()>> events_;
};

}  // namespace magma::test
