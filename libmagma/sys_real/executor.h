// sys::Executor with a pool of store threads. Completions return to the loop in batches: one
// wake-up for all that finished since it last looked.
//
// run() is called on the loop's thread. The destructor runs what was queued, then joins; `done`
// callbacks that the loop has not run by then are destroyed unrun. Destroy it before the loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "libmagma/sys/executor.h"
#include "libmagma/sys_real/loop.h"

namespace magma::sys_real {

class ThreadPool final : public sys::Executor {
 public:
  ThreadPool(Loop& loop, unsigned threads);
  ~ThreadPool() override;
  void run(UniqueFunction<void()> work, UniqueFunction<void()> done) override;
  // In place when ShortJobs says so.
  void run_short(UniqueFunction<void()> work, UniqueFunction<void()> done) override;
  // Jobs whose `done` has not run yet. The queue has no bound of its own: callers bound what they
  // have under way.
  std::size_t under_way() const;
  std::size_t under_way_max() const;  // the most there ever were
  std::uint64_t done_in_place() const;

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;  // shared by the pool, its threads and the completions posted
};

}  // namespace magma::sys_real
