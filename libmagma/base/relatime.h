// When reading a file sets its access time: as relatime of mount(8).
#pragma once

#include "libmagma/base/time.h"

namespace magma {

// It is due if it is not younger than the last change, or a day old.
constexpr bool is_access_time_due(WallTime atime, WallTime mtime, WallTime ctime, WallTime now) {
  constexpr std::int64_t kDay = std::int64_t{24} * 3600 * 1'000'000'000;
  return atime <= mtime || atime <= ctime || now.ns - atime.ns >= kDay;
}

}  // namespace magma
