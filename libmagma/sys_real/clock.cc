#include "libmagma/sys_real/clock.h"

#include <time.h>

#include "libmagma/base/check.h"

namespace magma::sys_real {

namespace {

std::int64_t read_clock(clockid_t id) {
  timespec t{};
  MAGMA_CHECK(::clock_gettime(id, &t) == 0);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

}  // namespace

Instant Clock::now() { return {read_clock(CLOCK_BOOTTIME)}; }

WallTime Clock::wall_now() { return {read_clock(CLOCK_REALTIME)}; }

}  // namespace magma::sys_real
