// Whether a short blocking job is done on the loop's own thread.
//
// To hand a job to another thread and to be told of its end costs two wake-ups, 20 to 50 us
// together: as much as a fast disk needs for a page. A job done in place saves them and delays
// whatever else comes meanwhile. So that is for jobs that come one after another, with nothing
// beside them, on a disk that has proven to be fast; one that takes very long ends it for a while.
#pragma once

#include <algorithm>
#include <cstdint>

#include "libmagma/base/time.h"

namespace magma::sys_real {

class ShortJobs {
 public:
  static constexpr Duration kAverageMax = microseconds(150);
  static constexpr Duration kLong = milliseconds(5);
  static constexpr unsigned kAloneMin = 16;                // in a row, before one is done in place
  static constexpr Duration kPauseMin = seconds(1);        // after a long one, doubled by the next
  static constexpr Duration kPauseMax = seconds(60);
  static constexpr Duration kForgivenAfter = seconds(300);  // then the pause is short again

  // A job comes. `is_alone`: no other job is under way, and none came in the same round of the
  // loop. True: it is to be done in place.
  bool begins(Instant now, bool is_alone) {
    alone_ = is_alone ? std::min(alone_ + 1, kAloneMin + 1) : 0;
    return alone_ > kAloneMin && average_ <= kAverageMax && now >= paused_until_;
  }

  // One is over, in place or elsewhere; its work took `took`.
  void ended(Instant now, Duration took, bool was_in_place) {
    average_ = average_ + (took - average_) / kWeight;
    if (took < kLong) return;
    alone_ = 0;
    if (!was_in_place) return;
    if (now - paused_until_ >= kForgivenAfter) pause_ = kPauseMin;
    paused_until_ = now + pause_;
    pause_ = std::min(pause_ + pause_, kPauseMax);
  }

 private:
  static constexpr std::int64_t kWeight = 16;  // jobs, about, that the average remembers

  unsigned alone_ = 0;  // in a row
  Duration average_ = kLong;
  Instant paused_until_{};
  Duration pause_ = kPauseMin;
};

}  // namespace magma::sys_real
