// How far a ring is on its way to what it should be, and whether it is well: for `magma status`,
// the console and --json. Computed from the map alone, on demand.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "libmagma/base/time.h"
#include "libmagma/ring/lava_map.h"
#include "libmagma/ring/placement.h"

namespace magma::ring {

// Replicas that are to come into being or to catch up, on volcanoes that are there. A slot with two
// of them counts twice.
struct Work {
  std::uint64_t slots = 0;
  std::uint64_t bytes = 0;
  friend bool operator==(const Work&, const Work&) = default;
};
Work work_left(const LavaMap& map, const Weights& weights);

struct Progress {
  Work done, total;
  std::optional<Duration> left;  // absent: too early to tell, or nothing moves
  unsigned percent() const;      // 0 to 100; by bytes, by slots if there are no bytes; rounded down
  bool is_finished() const { return done == total; }
};

// Follows the work that is left. A total is what was left at first and what came on top; it is
// forgotten when nothing is left.
class ProgressMeter {
 public:
  // The work left at `now`; `now` never goes back.
  void note(Instant now, Work left);
  // Absent: nothing was to be done.
  std::optional<Progress> progress() const;

 private:
  Work left_, total_;
  Instant last_{};
  Duration moved_for_{};   // time that was watched
  double per_second_ = 0;  // bytes, or slots while there are no bytes
};

enum class Health : std::uint8_t {
  ok = 0,
  degraded = 1,  // all slots serve; some have fewer copies than they should, or a volcano is away
  stalled = 2,   // operations on some slots wait
};
std::string_view name_of(Health health);

struct HealthReport {
  Health health = Health::ok;
  std::string reason{};  // empty for a ring at rest
  // "degraded: 37 slots have one copy, gromit is down, resync 42 %, 3 min left"
  std::string text() const;
};
// Copies that should be: `copies`, or as many as there are volcanoes with a share, if these are
// fewer; those that are away are counted until they are removed.
HealthReport health_of(const LavaMap& map, const std::optional<Progress>& progress);

// "40 s", "3 min", "2 h 5 min", "3 d 4 h": rounded up, so that a promise is kept.
std::string text_of(Duration left);

}  // namespace magma::ring
