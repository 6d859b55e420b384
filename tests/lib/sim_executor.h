// The store threads, simulated: work starts a while after run() and its completion is delivered a
// while after that, so that a test notices code which takes a sync for covering writes made while
// it ran. Never delivers after drop(): the process has died.
//
// By itself it has its own time and queue (unit tests: run_all, run_for); the simulator derives
// from it and overrides schedule() with its event loop. One thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "libmagma/base/time.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/sys/executor.h"

namespace magma::test {

class SimExecutor : public sys::Executor {
 public:
  struct Times {
    Duration start = microseconds(20);    // run() to the begin of the work
    Duration service = microseconds(150); // from there to the delivery of `done`
    Duration jitter = microseconds(100);  // up to this is added to each
  };

  SimExecutor();
  explicit SimExecutor(Times times, std::uint64_t seed = 1);
  ~SimExecutor() override;

  void run(UniqueFunction<void()> work, UniqueFunction<void()> done) override;
  void run_short(UniqueFunction<void()> work, UniqueFunction<void()> done) override;
  // So many of a hundred short jobs are done in place; none at first.
  void set_in_place(unsigned percent) { in_place_percent_ = percent; }
  // Calls `function` after `delay`.
  virtual void schedule(Duration delay, UniqueFunction<void()> function);

  // All that was given to run() is forgotten: half of the work not yet begun never happens.
  void drop();
  std::uint64_t pending() const { return pending_; }

  // With the queue of its own only:
  void run_all();             // until nothing is scheduled
  void run_for(Duration time);
  bool run_one();             // the next function; false if there is none
  Instant now() const { return now_; }

 private:
  std::uint64_t next_random();
  Duration jitter();
  Times times_;
  std::uint64_t random_;
  std::uint64_t pending_ = 0;
  unsigned in_place_percent_ = 0;
  std::shared_ptr<int> life_ = std::make_shared<int>(0);  // shared with scheduled work, as weak_ptr
  Instant now_{};
  std::multimap<Instant, UniqueFunction<void()>> queue_;
};

}  // namespace magma::test
