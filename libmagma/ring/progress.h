// How far a ring is on its way to what it should be, and whether it is well: for `magma status`,
// the console and --json. Computed from the map alone, on demand.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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
  healthy = 0,
  degraded = 1,  // all slots serve; some have fewer copies than they should, or a volcano is away
  stalled = 2,   // operations on some slots wait
};
std::string_view name_of(Health health);

struct HealthReport {
  Health health = Health::healthy;
  std::string reason{};  // a note, or nothing, if it is healthy
  // "degraded: one copy of everything; gromit is copying, 42 %, 3 min left"
  // "healthy (one volcano: one copy)"
  std::string text() const;
};

// What is known of a volcano besides the map.
struct VolcanoSeen {
  VolcanoId volcano;
  bool is_silent = false;  // it may not be called down yet
  std::optional<Duration> silent_for{};
  bool is_copying = false;            // its copies are being made
  std::optional<unsigned> percent{};  // of these
  std::optional<Duration> left{};     // until they are there
};
// Copies that should be: `copies`, or as many as there are volcanoes that store, if these are
// fewer; those that are away are counted until they are removed. A slot whose primary is silent
// waits.
HealthReport health_of(const LavaMap& map, const std::optional<Progress>& progress,
                       const std::vector<VolcanoSeen>& seen = {});

// Of the slot that has fewest: replicas in sync; 0 if it waits.
unsigned copies_had(const LavaMap& map);

// "40 s", "3 min", "2 h 5 min", "3 d 4 h": rounded up, so that a promise is kept.
std::string text_of(Duration left);

}  // namespace magma::ring
