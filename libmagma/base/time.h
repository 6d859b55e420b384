// Monotonic time inside Magma: Instant (CLOCK_BOOTTIME at the edge, simulated in tests) and
// Duration, both nanoseconds. Wall-clock time of files is a plain WallTime; it never decides
// anything.
#pragma once

#include <compare>
#include <cstdint>
#include <limits>

namespace magma {

struct Duration {
  std::int64_t ns = 0;
  friend constexpr auto operator<=>(const Duration&, const Duration&) = default;
  friend constexpr Duration operator+(Duration a, Duration b) { return {a.ns + b.ns}; }
  friend constexpr Duration operator-(Duration a, Duration b) { return {a.ns - b.ns}; }
  friend constexpr Duration operator*(Duration a, std::int64_t k) { return {a.ns * k}; }
  friend constexpr Duration operator/(Duration a, std::int64_t k) { return {a.ns / k}; }
  constexpr std::int64_t ms() const { return ns / 1'000'000; }
  constexpr double seconds() const { return static_cast<double>(ns) / 1e9; }
};
constexpr Duration nanoseconds(std::int64_t n) { return {n}; }
constexpr Duration microseconds(std::int64_t n) { return {n * 1'000}; }
constexpr Duration milliseconds(std::int64_t n) { return {n * 1'000'000}; }
constexpr Duration seconds(std::int64_t n) { return {n * 1'000'000'000}; }

struct Instant {
  std::int64_t ns = 0;
  friend constexpr auto operator<=>(const Instant&, const Instant&) = default;
  friend constexpr Instant operator+(Instant a, Duration b) { return {a.ns + b.ns}; }
  friend constexpr Instant operator-(Instant a, Duration b) { return {a.ns - b.ns}; }
  friend constexpr Duration operator-(Instant a, Instant b) { return {a.ns - b.ns}; }
  static constexpr Instant never() { return {std::numeric_limits<std::int64_t>::max()}; }
};

// Nanoseconds since 1970-01-01 UTC; may be negative (files older than that).
struct WallTime {
  std::int64_t ns = 0;
  friend constexpr auto operator<=>(const WallTime&, const WallTime&) = default;
};

}  // namespace magma
