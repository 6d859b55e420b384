// Work that may block (fdatasync, a read that misses the page cache) leaves the loop thread here.
// Real: a pool of store threads. Simulated: runs at a later simulated time, or never, if the
// machine crashes first.
#pragma once

#include "libmagma/base/unique_function.h"

namespace magma::sys {

class Executor {
 public:
  virtual ~Executor() = default;
  // Runs `work` on another thread (no shared state but what it owns), then `done` on the loop's.
  virtual void run(UniqueFunction<void()> work, UniqueFunction<void()> done) = 0;
};

}  // namespace magma::sys
