#include "libmagma/ring/progress.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include <fmt/format.h>

namespace magma::ring {

Work work_left(const LavaMap& map, const Weights& weights) {
  Work work;
  if (map.version == 0) return work;
  const std::vector<Target> targets = targets_of(owners_of(map), map.copies);
  for (unsigned n = 0; n < kSlotCount; ++n)
    for (VolcanoId id : targets[n]) {
      const Replica* replica = map.slots[n].replicas.find(id);
      if (replica != nullptr && replica->state == ReplicaState::in_sync) continue;
      if (!map.is_alive(id)) continue;
      ++work.slots;
      work.bytes += weights.bytes(n);
    }
  return work;
}

unsigned Progress::percent() const {
  const std::uint64_t all = total.bytes > 0 ? total.bytes : total.slots;
  const std::uint64_t part = total.bytes > 0 ? done.bytes : done.slots;
  if (all == 0) return 100;
  return static_cast<unsigned>(static_cast<double>(part) * 100.0 / static_cast<double>(all));
}

namespace {
constexpr Duration kRateOver = seconds(30);  // the rate is of about this last time
constexpr Duration kRateAfter = seconds(2);  // and unknown before
constexpr Duration kLeftMax = seconds(366 * 86400);

std::uint64_t amount(const Work& work, const Work& total) {
  return total.bytes > 0 ? work.bytes : work.slots;
}
}  // namespace

void ProgressMeter::note(Instant now, Work left) {
  if (left.slots == 0) {
    *this = {};
    return;
  }
  const bool is_new = total_.slots == 0;
  const Work before = left_;
  // What is left grew: the ring has more to do than was known.
  total_.slots += left.slots > before.slots ? left.slots - before.slots : 0;
  total_.bytes += left.bytes > before.bytes ? left.bytes - before.bytes : 0;
  left_ = left;
  const Duration since = is_new ? Duration{} : now - last_;
  last_ = now;
  if (since.ns <= 0) return;
  const std::uint64_t was = amount(before, total_), is = amount(left, total_);
  const double moved = was > is ? static_cast<double>(was - is) / since.seconds() : 0;
  // A mean over all that was seen at first, an exponential one later.
  moved_for_ = std::min(moved_for_ + since, kRateOver);
  const double part = std::min(1.0, since.seconds() / moved_for_.seconds());
  per_second_ += (moved - per_second_) * part;
}

std::optional<Progress> ProgressMeter::progress() const {
  if (total_.slots == 0) return std::nullopt;
  Progress progress{
      .done = {.slots = total_.slots - left_.slots, .bytes = total_.bytes - left_.bytes},
      .total = total_,
      .left = std::nullopt};
  const double left = static_cast<double>(amount(left_, total_));
  if (moved_for_ < kRateAfter || per_second_ <= 0) return progress;
  const double wait = left / per_second_;
  if (wait < kLeftMax.seconds()) progress.left = nanoseconds(static_cast<std::int64_t>(wait * 1e9));
  return progress;
}

std::string_view name_of(Health health) {
  switch (health) {
    case Health::ok: return "ok";
    case Health::degraded: return "degraded";
    case Health::stalled: return "stalled";
  }
  return "unknown";
}

std::string HealthReport::text() const {
  std::string text(name_of(health));
  if (!reason.empty()) text += ": " + reason;
  return text;
}

std::string text_of(Duration left) {
  const std::int64_t seconds = std::max<std::int64_t>(0, (left.ns + 999'999'999) / 1'000'000'000);
  if (seconds <= 90) return fmt::format("{} s", seconds);
  const std::int64_t minutes = (seconds + 59) / 60;
  if (minutes <= 90) return fmt::format("{} min", minutes);
  if (minutes < 48 * 60) return fmt::format("{} h {} min", minutes / 60, minutes % 60);
  const std::int64_t hours = (minutes + 59) / 60;
  return fmt::format("{} d {} h", hours / 24, hours % 24);
}

namespace {

std::string slots_text(std::uint64_t slots, std::string_view one, std::string_view many) {
  return slots == 1 ? fmt::format("1 slot {}", one) : fmt::format("{} slots {}", slots, many);
}

unsigned copies_wanted(const LavaMap& map) {
  const auto stores = static_cast<unsigned>(
      std::count_if(map.volcanoes.begin(), map.volcanoes.end(), [](const Volcano& v) {
        return v.stores() &&
               (v.state == VolcanoState::gone ||
                (v.resumes != VolcanoState::joining && v.resumes != VolcanoState::leaving));
      }));
  return std::clamp<unsigned>(stores, 1, map.copies);
}

struct Counts {
  std::uint64_t waiting = 0;
  std::array<std::uint64_t, kReplicasMax + 1> with{};  // serving slots with so many in sync
};

Counts count_slots(const LavaMap& map) {
  Counts counts;
  for (const SlotEntry& entry : map.slots) {
    if (entry.state == SlotState::waiting)
      ++counts.waiting;
    else
      ++counts.with[entry.replicas.in_sync()];
  }
  return counts;
}

// Whose replicas the waiting slots wait for: "wallace", "wallace and 2 more".
std::string waited_for(const LavaMap& map) {
  std::vector<VolcanoId> ids;
  for (const SlotEntry& entry : map.slots)
    if (entry.state == SlotState::waiting) ids.push_back(entry.primary());
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  std::string text = map.nick_of(ids.front());
  if (ids.size() > 1) text += fmt::format(" and {} more", ids.size() - 1);
  return text;
}

// Volcanoes in a state, as "gromit is down" or "3 volcanoes are down"; empty for none.
std::string those_who(const LavaMap& map, VolcanoState state, std::string_view one,
                      std::string_view many) {
  std::size_t count = 0;
  const Volcano* found = nullptr;
  for (const Volcano& v : map.volcanoes)
    if (v.state == state) {
      ++count;
      found = &v;
    }
  if (count == 0) return {};
  if (count == 1) return fmt::format("{} {}", found->profile.nick, one);
  return fmt::format("{} volcanoes {}", count, many);
}

class Reasons {
 public:
  void add(std::string_view reason) {
    if (reason.empty()) return;
    if (!text_.empty()) text_ += ", ";
    text_ += reason;
  }
  bool empty() const { return text_.empty(); }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

}  // namespace

HealthReport health_of(const LavaMap& map, const std::optional<Progress>& progress) {
  if (map.version == 0) return {.health = Health::stalled, .reason = "there is no ring"};
  const Counts counts = count_slots(map);
  const unsigned wanted = copies_wanted(map);
  Reasons reasons;
  if (counts.waiting > 0)
    reasons.add(slots_text(counts.waiting, "waits for ", "wait for ") + waited_for(map));
  for (unsigned copies = 1; copies < wanted; ++copies)
    if (counts.with[copies] > 0)
      reasons.add(copies == 1 ? slots_text(counts.with[1], "has one copy", "have one copy")
                              : slots_text(counts.with[copies], "has", "have") +
                                    fmt::format(" {} of {} copies", copies, wanted));
  const bool are_copies_missing = !reasons.empty();
  reasons.add(those_who(map, VolcanoState::down, "is down", "are down"));
  reasons.add(those_who(map, VolcanoState::gone, "is gone", "are gone"));
  HealthReport report;
  if (!reasons.empty()) report.health = counts.waiting > 0 ? Health::stalled : Health::degraded;
  reasons.add(those_who(map, VolcanoState::joining, "joins", "join"));
  reasons.add(those_who(map, VolcanoState::leaving, "leaves", "leave"));
  if (progress && !progress->is_finished()) {
    reasons.add(
        fmt::format("{} {} %", are_copies_missing ? "resync" : "moved", progress->percent()));
    if (progress->left) reasons.add(text_of(*progress->left) + " left");
  }
  report.reason = reasons.take();
  return report;
}

}  // namespace magma::ring
