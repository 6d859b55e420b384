// Time as the core sees it. Real: CLOCK_BOOTTIME and CLOCK_REALTIME; simulated in tests.
#pragma once

#include "libmagma/base/time.h"

namespace magma::sys {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual Instant now() = 0;       // never goes back
  virtual WallTime wall_now() = 0; // may jump; for file times and logs only
};

}  // namespace magma::sys
