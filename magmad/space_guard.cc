#include "magmad/space_guard.h"

#include <algorithm>

#include "libmagma/base/log.h"
#include "libmagma/wire/flare_messages.h"

namespace magma {

std::uint64_t SpaceGuard::reserve_bytes(std::uint64_t total_bytes) {
  return std::clamp<std::uint64_t>(total_bytes / 20, 16u << 20, 256u << 20);
}

bool SpaceGuard::is_short(Instant now) {
  if (now < next_check_) return is_short_;
  next_check_ = now + kCheckEvery;
  auto space = disk_.space();
  if (!space) return is_short_;
  const std::uint64_t reserve = reserve_bytes(space->total_bytes);
  const bool is_short = space->free_bytes < reserve;
  above_reserve_ = is_short ? 0 : space->free_bytes - reserve;
  if (is_short != is_short_)
    log_warning("space state={} free={} reserve={}", is_short ? "short" : "ok", space->free_bytes,
                reserve);
  is_short_ = is_short;
  return is_short_;
}

bool SpaceGuard::has_plenty(Instant now, std::size_t clients) {
  return !is_short(now) && above_reserve_ / wire::kDelayedBytesMax > clients;
}

bool SpaceGuard::may_wait(Instant since, Instant now) {
  if (now < refuses_until_) return false;
  if (now - since < kWaitMax) return true;
  refuses_until_ = now + kRefuseFor;
  return false;
}

}  // namespace magma
