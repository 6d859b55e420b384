// Clocks of the simulator. SimClock is the one true time, moved by whoever runs the simulation.
// DriftingClock is a machine's view of it: another offset, a slightly other rate.
#pragma once

#include "libmagma/base/check.h"
#include "libmagma/sys/clock.h"

namespace magma::test {

class SimClock : public sys::Clock {
 public:
  Instant now() override { return now_; }
  WallTime wall_now() override { return {kWallStartNs + now_.ns}; }
  void advance_to(Instant at) {
    MAGMA_CHECK(at >= now_);
    now_ = at;
  }
  void advance(Duration by) { now_ = now_ + by; }

 private:
  static constexpr std::int64_t kWallStartNs = 1'600'000'000'000'000'000;
  Instant now_{1'000'000'000};
};

class DriftingClock : public sys::Clock {
 public:
  // `drift_ppm`: microseconds this clock gains per second of true time.
  DriftingClock(SimClock& base, Duration offset, std::int64_t drift_ppm)
      : base_(base), start_(base.now()), offset_(offset), drift_ppm_(drift_ppm) {}
  Instant now() override { return base_.now() + offset_ + gained(base_.now() - start_); }
  WallTime wall_now() override {
    return {base_.wall_now().ns + offset_.ns + gained(base_.now() - start_).ns};
  }
  // The earliest true time at which now() is at least `local`.
  Instant true_time_of(Instant local) const {
    if (local == Instant::never()) return local;
    const Duration passed = local - offset_ - start_;
    Instant guess = start_ + passed;
    for (int i = 0; i < 4; ++i) guess = start_ + (passed - gained(guess - start_));
    while (guess + offset_ + gained(guess - start_) < local) guess = guess + nanoseconds(1);
    return guess;
  }

 private:
  Duration gained(Duration passed) const {
    constexpr std::int64_t kMillion = 1'000'000;
    return nanoseconds(passed.ns / kMillion * drift_ppm_ +
                       passed.ns % kMillion * drift_ppm_ / kMillion);
  }
  SimClock& base_;
  Instant start_;
  Duration offset_;
  std::int64_t drift_ppm_;
};

}  // namespace magma::test
