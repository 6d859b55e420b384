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
    case Health::healthy: return "healthy";
    case Health::degraded: return "degraded";
    case Health::stalled: return "stalled";
  }
  return "unknown";
}

std::string HealthReport::text() const {
  const std::string word(name_of(health));
  if (reason.empty()) return word;
  return health == Health::healthy ? fmt::format("{} ({})", word, reason) : word + ": " + reason;
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

// How many volcanoes should have a copy, if there were enough copies wanted.
unsigned count_stores(const LavaMap& map) {
  return static_cast<unsigned>(
      std::count_if(map.volcanoes.begin(), map.volcanoes.end(), [](const Volcano& v) {
        return v.stores() && (v.state == VolcanoState::gone || v.resumes != VolcanoState::leaving);
      }));
}

struct Counts {
  std::uint64_t waiting = 0;
  std::array<std::uint64_t, kReplicasMax + 1> with{};  // serving slots with so many in sync
};

// Words with commas between.
class Reasons {
 public:
  void add(std::string_view reason) {
    if (reason.empty()) return;
    if (!text_.empty()) text_ += ", ";
    text_ += reason;
  }
  bool empty() const { return text_.empty(); }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// "1 slot has one copy", "37 slots have 2 of 3 copies", "one copy of everything".
std::string copies_text(std::uint64_t slots, unsigned copies, unsigned wanted) {
  const std::string amount =
      wanted == 2 ? "one copy" : fmt::format("{} of {} copies", copies, wanted);
  if (slots == kSlotCount) return amount + " of everything";
  return slots == 1 ? "1 slot has " + amount : fmt::format("{} slots have {}", slots, amount);
}

// One look at a map, and at what is known besides.
class Doctor {
 public:
  Doctor(const LavaMap& map, const std::vector<VolcanoSeen>& seen) : map_(map), seen_(seen) {
    for (const SlotEntry& entry : map.slots) {
      if (waits(entry))
        ++counts_.waiting;
      else
        ++counts_.with[entry.replicas.in_sync()];
    }
    stores_ = count_stores(map);
    wanted_ = std::clamp<unsigned>(stores_, 1, map.copies);
  }

  HealthReport report(const std::optional<Progress>& progress) const {
    const Reasons state = slots();
    Reasons why = absences();
    HealthReport report;
    if (!state.empty() || !why.empty())
      report.health = counts_.waiting > 0 ? Health::stalled : Health::degraded;
    add_work(why);
    if (progress && !progress->is_finished()) {
      why.add(fmt::format("{} {} %", state.empty() ? "moved" : "resync", progress->percent()));
      if (progress->left) why.add(text_of(*progress->left) + " left");
    }
    if (report.health == Health::healthy && why.empty()) why.add(note());
    report.reason = state.text();
    if (!state.empty() && !why.empty()) report.reason += "; ";
    report.reason += why.text();
    return report;
  }

 private:
  const VolcanoSeen* seen(VolcanoId id) const {
    const auto at = std::find_if(seen_.begin(), seen_.end(),
                                 [&](const VolcanoSeen& s) { return s.volcano == id; });
    return at == seen_.end() ? nullptr : &*at;
  }
  bool is_away(const Volcano& volcano) const {
    if (volcano.state == VolcanoState::down) return true;
    const VolcanoSeen* known = seen(volcano.id);
    return volcano.is_alive() && known != nullptr && known->is_silent;
  }
  bool waits(const SlotEntry& entry) const {
    if (entry.state == SlotState::waiting) return true;
    const VolcanoSeen* known = seen(entry.primary());
    return known != nullptr && known->is_silent;
  }

  // What the slots lack.
  Reasons slots() const {
    Reasons reasons;
    if (counts_.waiting == kSlotCount)
      reasons.add("everything waits for " + waited_for());
    else if (counts_.waiting > 0)
      reasons.add(counts_.waiting == 1
                      ? "1 slot waits for " + waited_for()
                      : fmt::format("{} slots wait for {}", counts_.waiting, waited_for()));
    for (unsigned copies = 1; copies < wanted_; ++copies)
      if (counts_.with[copies] > 0) reasons.add(copies_text(counts_.with[copies], copies, wanted_));
    return reasons;
  }

  // Whose replicas the waiting slots wait for: "wallace", "wallace and 2 more".
  std::string waited_for() const {
    std::vector<VolcanoId> ids;
    for (const SlotEntry& entry : map_.slots)
      if (waits(entry)) ids.push_back(entry.primary());
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    std::string text = map_.nick_of(ids.front());
    if (ids.size() > 1) text += fmt::format(" and {} more", ids.size() - 1);
    return text;
  }

  // Volcanoes of which something holds, as "gromit is gone" or "3 volcanoes are gone".
  template <class Holds>
  std::string those_who(Holds holds, std::string_view one, std::string_view many) const {
    const auto count = std::count_if(map_.volcanoes.begin(), map_.volcanoes.end(), holds);
    if (count == 0) return {};
    if (count > 1) return fmt::format("{} volcanoes {}", count, many);
    const auto found = std::find_if(map_.volcanoes.begin(), map_.volcanoes.end(), holds);
    return fmt::format("{} {}", found->profile.nick, one);
  }

  Reasons absences() const {
    std::string one = "is away";
    for (const Volcano& volcano : map_.volcanoes)
      if (const VolcanoSeen* known = seen(volcano.id);
          is_away(volcano) && known && known->silent_for)
        one = "is away for " + text_of(*known->silent_for);
    Reasons reasons;
    reasons.add(those_who([&](const Volcano& v) { return is_away(v); }, one, "are away"));
    reasons.add(those_who([](const Volcano& v) { return v.state == VolcanoState::gone; }, "is gone",
                          "are gone"));
    return reasons;
  }

  void add_work(Reasons& reasons) const {
    for (const Volcano& volcano : map_.volcanoes)
      if (!is_away(volcano) && volcano.is_alive()) reasons.add(work_of(volcano));
    reasons.add(those_who([&](const Volcano& v) { return is_moving(v); }, "joins", "join"));
    reasons.add(those_who([](const Volcano& v) { return v.state == VolcanoState::leaving; },
                          "leaves", "leave"));
  }

  // It is taking over slots that others have had.
  bool is_moving(const Volcano& volcano) const {
    return volcano.state == VolcanoState::joining &&
           std::any_of(map_.slots.begin(), map_.slots.end(), [&](const SlotEntry& entry) {
             return entry.owner == volcano.id && entry.primary() != volcano.id;
           });
  }

  // "gromit is copying, 42 %, 3 min left", "gromit is behind"; empty if it has what it should.
  std::string work_of(const Volcano& volcano) const {
    const bool is_behind =
        std::any_of(map_.slots.begin(), map_.slots.end(), [&](const SlotEntry& entry) {
          const Replica* replica = entry.replicas.find(volcano.id);
          return replica != nullptr && replica->state == ReplicaState::catching_up;
        });
    if (!is_behind || counts_.waiting == kSlotCount) return {};
    const VolcanoSeen* known = seen(volcano.id);
    if (known == nullptr || !known->is_copying) return volcano.profile.nick + " is behind";
    std::string text = volcano.profile.nick + " is copying";
    if (known->percent) text += fmt::format(", {} %", *known->percent);
    if (known->left) text += ", " + text_of(*known->left) + " left";
    return text;
  }

  // Why there are fewer copies than were asked for, though nothing is wrong.
  std::string note() const {
    if (wanted_ >= map_.copies) return {};
    return wanted_ == 1 ? "one volcano: one copy"
                        : fmt::format("{} volcanoes: {} copies", stores_, wanted_);
  }

  const LavaMap& map_;
  const std::vector<VolcanoSeen>& seen_;
  Counts counts_;
  unsigned stores_ = 0;
  unsigned wanted_ = 1;
};

}  // namespace

HealthReport health_of(const LavaMap& map, const std::optional<Progress>& progress,
                       const std::vector<VolcanoSeen>& seen) {
  if (map.version == 0) return {.health = Health::stalled, .reason = "there is no ring"};
  return Doctor(map, seen).report(progress);
}

unsigned copies_had(const LavaMap& map) {
  std::size_t fewest = kReplicasMax;
  for (const SlotEntry& entry : map.slots)
    fewest = std::min(
        fewest, entry.state == SlotState::serving ? entry.replicas.in_sync() : std::size_t{0});
  return static_cast<unsigned>(fewest);
}

}  // namespace magma::ring
