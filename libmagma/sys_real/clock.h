// The machine's clocks: CLOCK_BOOTTIME (goes on while the machine is suspended, so a lease ends
// there too) and CLOCK_REALTIME. Any thread.
#pragma once

#include "libmagma/sys/clock.h"

namespace magma::sys_real {

class Clock final : public sys::Clock {
 public:
  Instant now() override;
  WallTime wall_now() override;
};

}  // namespace magma::sys_real
