// Work that may block (fdatasync, a read that misses the page cache) leaves the loop thread here.
// Real: a pool of store threads. Simulated: runs at a later simulated time, or never, if the
// machine crashes first.
#pragma once

#include <utility>

#include "libmagma/base/unique_function.h"

namespace magma::sys {

class Executor {
 public:
  virtual ~Executor() = default;
  // Runs `work` on another thread (no shared state but what it owns), then `done` on the loop's.
  virtual void run(UniqueFunction<void()> work, UniqueFunction<void()> done) = 0;
  // As run(), for work that may be over sooner than another thread is awake (a read of a few pages
  // from a fast disk). Where jobs of this kind have proven to be, it may be done on this thread,
  // work and `done` inside the call.
  virtual void run_short(UniqueFunction<void()> work, UniqueFunction<void()> done) {
    run(std::move(work), std::move(done));
  }
};

}  // namespace magma::sys
