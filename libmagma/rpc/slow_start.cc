#include "libmagma/rpc/slow_start.h"

#include <algorithm>

namespace magma::rpc {

bool SlowStart::on_round_trip(Duration round_trip, std::uint64_t largest_acked,
                              std::uint64_t next_number) {
  bool is_over = false;
  if (largest_acked >= round_end_) {
    is_over = is_conservative_ && ++conservative_rounds_ >= kConservativeRounds;
    fastest_before_ = fastest_;
    fastest_ = kNone;
    samples_ = 0;
    round_end_ = next_number;
  }
  fastest_ = std::min(fastest_, round_trip);
  if (++samples_ < kSamplesMin) return is_over;
  if (is_conservative_) {
    // It was noise, or the queue has drained: on as before.
    if (fastest_ < fastest_when_slower_) is_conservative_ = false;
  } else if (fastest_before_ != kNone) {
    const Duration threshold =
        std::clamp(fastest_before_ / kThresholdPart, kThresholdMin, kThresholdMax);
    if (fastest_ >= fastest_before_ + threshold) {
      is_conservative_ = true;
      conservative_rounds_ = 0;
      fastest_when_slower_ = fastest_;
    }
  }
  return is_over;
}

}  // namespace magma::rpc
