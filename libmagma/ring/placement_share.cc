#include "libmagma/ring/placement_share.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "libmagma/base/check.h"

namespace magma::ring {

Owners cut_evenly(std::span<const VolcanoId> order, const Weights& weights) {
  MAGMA_CHECK(!order.empty() && order.size() <= kSlotCount);
  std::vector<unsigned> borders = {0};
  std::uint64_t before = 0;
  for (unsigned n = 0; n < kSlotCount && borders.size() < order.size(); ++n) {
    const auto next = borders.size();
    const auto left = static_cast<unsigned>(order.size() - next);  // borders still to be set
    const std::uint64_t goal = weights.total_load() / order.size() * next;
    // The border nearest to the goal; with a slot for each that is still to come.
    const bool is_near = before + weights.load(n) / 2 >= goal || kSlotCount - n <= left;
    if (n > borders.back() && is_near) borders.push_back(n);
    before += weights.load(n);
  }
  return with_borders(order, borders);
}

std::vector<unsigned> borders_of(const Owners& owners, std::span<const VolcanoId> order) {
  std::vector<unsigned> borders;
  unsigned at = 0;
  for (VolcanoId id : order) {
    borders.push_back(at);
    while (at < kSlotCount && owners[at] == id) ++at;
  }
  return borders;
}

Owners with_borders(std::span<const VolcanoId> order, std::span<const unsigned> borders) {
  MAGMA_CHECK(order.size() == borders.size() && borders[0] == 0);
  Owners owners(kSlotCount);
  for (std::size_t i = 0; i < order.size(); ++i) {
    const unsigned end = i + 1 < borders.size() ? borders[i + 1] : kSlotCount;
    std::fill(owners.begin() + borders[i], owners.begin() + end, order[i]);
  }
  return owners;
}

std::vector<VolcanoId> order_of(const Owners& owners) {
  std::vector<VolcanoId> order;
  for (unsigned n = 0; n < owners.size(); ++n)
    if ((n == 0 || owners[n] != owners[n - 1]) &&
        std::find(order.begin(), order.end(), owners[n]) == order.end())
      order.push_back(owners[n]);
  return order;
}

bool is_contiguous(const Owners& owners) {
  std::size_t runs = 0;
  for (unsigned n = 0; n < owners.size(); ++n) runs += n == 0 || owners[n] != owners[n - 1];
  return runs == order_of(owners).size();
}

namespace {

constexpr unsigned kShiftsMax = 256;
constexpr unsigned slot_before(unsigned slot) { return (slot + kSlotCount - 1) % kSlotCount; }

struct Span {  // of slots with one owner, within the keyspace
  unsigned first = 0, end = 0;
  unsigned size() const { return end - first; }
};

// Who owns how much, kept up to date while slots change hands.
class Shares {
 public:
  Shares(Owners owners, const Weights& weights) : owners_(std::move(owners)), weights_(weights) {
    for (unsigned n = 0; n < kSlotCount; ++n) {
      load_[owners_[n]] += weights.load(n);
      ++slots_[owners_[n]];
    }
  }
  const Owners& owners() const { return owners_; }
  Owners take() { return std::move(owners_); }
  const std::map<VolcanoId, std::uint64_t>& loads() const { return load_; }
  std::uint64_t load(VolcanoId id) const { return value(load_, id); }
  std::uint64_t slots(VolcanoId id) const { return value(slots_, id); }
  std::uint64_t load(Span span) const {
    std::uint64_t sum = 0;
    for (unsigned n = span.first; n < span.end; ++n) sum += weights_.load(n);
    return sum;
  }
  void give(Span span, VolcanoId to) {
    for (unsigned n = span.first; n < span.end; ++n) {
      load_[owners_[n]] -= weights_.load(n);
      --slots_[owners_[n]];
      owners_[n] = to;
      load_[to] += weights_.load(n);
      ++slots_[to];
    }
  }
  std::vector<Span> spans_of(VolcanoId id) const {
    std::vector<Span> spans;
    for (unsigned n = 0; n < kSlotCount; ++n) {
      if (owners_[n] != id) continue;
      if (!spans.empty() && spans.back().end == n)
        ++spans.back().end;
      else
        spans.push_back({n, n + 1});
    }
    return spans;
  }
  VolcanoId before(Span span) const { return owners_[slot_before(span.first)]; }
  VolcanoId after(Span span) const { return owners_[span.end % kSlotCount]; }
  // Load of the run that ends before `slot`, around the end of the keyspace.
  std::uint64_t load_of_run_before(unsigned slot) const {
    const VolcanoId id = owners_[slot_before(slot)];
    std::uint64_t sum = 0;
    unsigned n = slot_before(slot);
    for (unsigned i = 0; i < kSlotCount && owners_[n] == id; ++i, n = slot_before(n))
      sum += weights_.load(n);
    return sum;
  }
  // From `first` on, up to `limit`, as many slots as come nearest to `wanted`; one at least.
  Span piece_from(unsigned first, unsigned limit, std::uint64_t wanted) const {
    std::uint64_t sum = weights_.load(first);
    unsigned end = first + 1;
    while (end < limit && sum + weights_.load(end) / 2 < wanted) sum += weights_.load(end++);
    return {first, end};
  }
  // The same, downwards to `limit`.
  Span piece_to(unsigned end, unsigned limit, std::uint64_t wanted) const {
    std::uint64_t sum = weights_.load(end - 1);
    unsigned first = end - 1;
    while (first > limit && sum + weights_.load(first - 1) / 2 < wanted)
      sum += weights_.load(--first);
    return {first, end};
  }

 private:
  static std::uint64_t value(const std::map<VolcanoId, std::uint64_t>& values, VolcanoId id) {
    auto at = values.find(id);
    return at == values.end() ? 0 : at->second;
  }
  Owners owners_;
  const Weights& weights_;
  std::map<VolcanoId, std::uint64_t> load_, slots_;
};

// A newcomer's way to its share.
class Taker {
 public:
  Taker(Owners owners, VolcanoId joiner, const Weights& weights)
      : shares_(std::move(owners), weights), joiner_(joiner) {
    goal_ = weights.total_load() / (shares_.loads().size() + 1);
    pieces_ = std::min<std::uint64_t>(kRunsMax, kSlotCount / (shares_.loads().size() + 1));
    level_ = level();
  }
  Owners run(VolcanoId beside) {
    if (shares_.load(beside) > level_) take_from(beside);
    while (shares_.load(joiner_) < goal_)
      if (!take_from(fullest())) break;
    return shares_.take();
  }

 private:
  // Down to which the fullest, as many as there are pieces, must be emptied to make up the share.
  std::uint64_t level() const {
    std::vector<std::uint64_t> loads;
    for (const auto& [id, load] : shares_.loads()) loads.push_back(load);
    std::sort(loads.begin(), loads.end(), std::greater<>());
    loads.resize(std::min<std::size_t>(loads.size(), pieces_));
    std::uint64_t sum = 0, best = 0;
    for (std::size_t i = 0; i < loads.size(); ++i) {
      sum += loads[i];
      if (sum < goal_) continue;
      const std::uint64_t level = (sum - goal_) / (i + 1);
      if (level <= loads[i]) best = std::max(best, level);
    }
    return best;
  }
  // Of those that own about most, who stores most.
  VolcanoId fullest() {
    count_stored();
    std::uint64_t most = 0;
    for (const auto& [id, load] : shares_.loads())
      if (id != joiner_ && shares_.slots(id) > 1) most = std::max(most, load);
    VolcanoId best = kNoVolcano;
    for (const auto& [id, load] : shares_.loads())
      if (id != joiner_ && shares_.slots(id) > 1 && load + most / 50 >= most &&
          (best == kNoVolcano || stored_[id] > stored_[best]))
        best = id;
    return best;
  }

  // A piece that could be taken, and what else would change: how much more the newcomer mirrors,
  // and how much less the donor and the run's next owner would store.
  struct Piece {
    Span span;
    double mirror = 0;
    double donor_relief = 0;
    double next_relief = 0;
    double penalty = 0;
  };
  // How far the newcomer's mirror duty would be from its share and the piece from what is wanted,
  // less what it helps those who store more than others.
  void consider(std::optional<Piece>& best, Span run, std::uint64_t wanted, Piece piece) {
    if (piece.span.end <= piece.span.first) return;
    const double load = load_of(piece.span);
    const double mirror = mirrored_ + piece.mirror;
    const double share = static_cast<double>(shares_.load(joiner_)) + load;
    const double off = std::abs(mirror - share) + std::abs(static_cast<double>(wanted) - load);
    const double help = piece.donor_relief * excess(shares_.owners()[run.first]) +
                        piece.next_relief * excess(shares_.after(run));
    piece.penalty += (off - kHelpWeight * help) / static_cast<double>(wanted);
    if (!best || piece.penalty < best->penalty) best = piece;
  }
  // What a volcano stores above the others' mean, as part of the mean.
  double excess(VolcanoId id) const {
    double mean = 0;
    for (const auto& [other, stored] : stored_)
      if (other != joiner_) mean += static_cast<double>(stored);
    mean /= static_cast<double>(stored_.size() - stored_.count(joiner_));
    auto at = stored_.find(id);
    return at == stored_.end() ? 0 : (static_cast<double>(at->second) - mean) / mean;
  }
  // With two copies; more are spread alike.
  void count_stored() {
    stored_ = shares_.loads();
    const Owners& owners = shares_.owners();
    VolcanoId next = owners[0];  // of the last slot
    for (unsigned n = kSlotCount; n-- > 0;) {
      if (n + 1 < kSlotCount && owners[n + 1] != owners[n]) next = owners[n + 1];
      stored_[next] += shares_.load({n, n + 1});
    }
  }
  double load_of(Span span) const { return static_cast<double>(shares_.load(span)); }
  // The pieces of one run that could be taken: its beginning, its end, one out of its middle.
  void consider_run(std::optional<Piece>& best, Span run, std::uint64_t wanted, bool may_split) {
    const bool is_after_me = shares_.before(run) == joiner_;
    const bool is_before_me = shares_.after(run) == joiner_;
    const bool may_touch = shares_.spans_of(joiner_).size() < kRunsMax;
    const Span head = shares_.piece_from(run.first, run.end, wanted);
    const bool is_whole = head.end == run.end;
    if (is_whole && shares_.slots(shares_.owners()[run.first]) == run.size()) return;  // all it has
    const double head_load = load_of(head);
    const double before =
        is_after_me ? 0 : static_cast<double>(shares_.load_of_run_before(run.first));
    if ((is_after_me && run.first > 0) || may_touch)
      consider(best, run, wanted,
               {.span = head,
                .mirror = before,
                .donor_relief = is_whole ? before + head_load : before,
                .next_relief = is_whole ? 0 : head_load});
    if (is_whole) return;
    const Span tail = shares_.piece_to(run.end, run.first, wanted);
    const double rest = load_of({run.first, tail.first});
    if (is_before_me && run.end < kSlotCount)
      consider(best, run, wanted,
               {.span = tail, .mirror = -load_of(tail), .donor_relief = load_of(tail)});
    else if (may_touch)
      consider(best, run, wanted,
               {.span = tail, .mirror = rest, .donor_relief = load_of(tail), .next_relief = rest});
    if (!may_split || !may_touch || head.end + 1 >= run.end) return;
    const Span middle = shares_.piece_from(head.end, run.end, wanted);
    if (middle.end < run.end)
      consider(best, run, wanted,
               {.span = middle,
                .mirror = head_load,
                .next_relief = head_load + load_of(middle),
                .penalty = kSplitPenalty});
  }
  bool take_from(VolcanoId donor) {
    if (donor == kNoVolcano) return false;
    const std::uint64_t have = shares_.load(joiner_);
    const std::size_t used = shares_.spans_of(joiner_).size();
    const std::uint64_t left = goal_ > have ? goal_ - have : 1;
    const std::uint64_t pieces_left = used < pieces_ ? pieces_ - used : 1;
    const std::uint64_t over =
        shares_.load(donor) > level_ ? shares_.load(donor) - level_ : std::uint64_t{1};
    const std::uint64_t wanted =
        std::max<std::uint64_t>(1, std::min(left, std::max(over, left / pieces_left)));
    const std::vector<Span> runs = shares_.spans_of(donor);
    count_stored();
    std::optional<Piece> best;
    for (const Span& run : runs) consider_run(best, run, wanted, runs.size() < kRunsMax);
    if (!best) return false;
    // Without it the share is nearer to the goal.
    if (have > 0 && shares_.load(best->span) > 2 * left) return false;
    mirrored_ += best->mirror;
    shares_.give(best->span, joiner_);
    return true;
  }

  static constexpr double kSplitPenalty = 0.5;
  static constexpr double kHelpWeight = 4;
  Shares shares_;
  VolcanoId joiner_;
  std::uint64_t goal_ = 0, pieces_ = 0, level_ = 0;
  double mirrored_ = 0;
  std::map<VolcanoId, std::uint64_t> stored_;
};

// Shifts borders between runs of volcanoes whose loads differ by more than `apart`, the most
// different first.
void level_neighbours(Shares& shares, std::span<const VolcanoId> heirs, std::uint64_t apart) {
  const auto may_have = [&](VolcanoId id) {
    return std::find(heirs.begin(), heirs.end(), id) != heirs.end();
  };
  for (unsigned shifts = 0; shifts < kShiftsMax; ++shifts) {
    const Owners& owners = shares.owners();
    unsigned border = 0;  // between border - 1 and border
    std::uint64_t most = apart;
    for (unsigned n = 1; n < kSlotCount; ++n) {
      if (owners[n] == owners[n - 1]) continue;
      const std::uint64_t a = shares.load(owners[n - 1]), b = shares.load(owners[n]);
      const std::uint64_t difference = a > b ? a - b : b - a;
      if (difference <= most || !may_have(owners[n - 1]) || !may_have(owners[n])) continue;
      most = difference;
      border = n;
    }
    if (border == 0) return;
    const VolcanoId below = owners[border - 1], above = owners[border];
    const bool is_down = shares.load(above) > shares.load(below);  // slots go to the one below
    unsigned end = border;
    while (owners[is_down ? end : end - 1] == (is_down ? above : below) &&
           (is_down ? end + 1 < kSlotCount : end > 1))
      is_down ? ++end : --end;
    const Span piece =
        is_down ? shares.piece_from(border, end, most / 2) : shares.piece_to(border, end, most / 2);
    if (shares.load(piece) >= most || piece.size() >= shares.slots(is_down ? above : below)) return;
    shares.give(piece, is_down ? below : above);
  }
}

}  // namespace

Owners take_share(Owners owners, VolcanoId joiner, VolcanoId beside, const Weights& weights) {
  return Taker(std::move(owners), joiner, weights).run(beside);
}

Owners hand_out(Owners owners, VolcanoId leaver, std::span<const VolcanoId> heirs,
                const Weights& weights) {
  MAGMA_CHECK(!heirs.empty());
  Shares shares(std::move(owners), weights);
  const std::uint64_t goal = weights.total_load() / heirs.size();
  constexpr double kRunCost = 0.05;
  const std::uint64_t least = std::max<std::uint64_t>(1, shares.load(leaver) / (4 * kRunsMax));
  std::map<VolcanoId, std::size_t> runs;
  for (VolcanoId id : heirs) runs[id] = shares.spans_of(id).size();
  for (std::vector<Span> left = shares.spans_of(leaver); !left.empty();
       left = shares.spans_of(leaver)) {
    const Span run = *std::max_element(
        left.begin(), left.end(), [&](Span a, Span b) { return shares.load(a) < shares.load(b); });
    // Whose run would only grow. (One over the end of the keyspace counts as two.)
    const VolcanoId before = run.first > 0 ? shares.before(run) : kNoVolcano;
    const VolcanoId after = run.end < kSlotCount ? shares.after(run) : kNoVolcano;
    // The emptiest, where one more run for it counts as some load: so runs grow together.
    VolcanoId heir = kNoVolcano;
    double least_full = 0;
    for (VolcanoId id : heirs) {
      const bool is_neighbour = id == before || id == after;
      if (!is_neighbour && runs[id] >= kRunsMax) continue;
      const double full = static_cast<double>(shares.load(id)) / static_cast<double>(goal) +
                          (is_neighbour ? 0 : kRunCost * static_cast<double>(runs[id]) / kRunsMax);
      if (heir != kNoVolcano && full >= least_full) continue;
      heir = id;
      least_full = full;
    }
    // Its neighbours are the leaver's own, or away, and all others have their 16: the first heir.
    if (heir == kNoVolcano) heir = heirs.front();
    const std::uint64_t room = goal > shares.load(heir) ? goal - shares.load(heir) : 0;
    const std::uint64_t wanted = std::max(room, least);
    const Span piece = heir == after ? shares.piece_to(run.end, run.first, wanted)
                                     : shares.piece_from(run.first, run.end, wanted);
    shares.give(piece, heir);
    runs[heir] = shares.spans_of(heir).size();
    for (VolcanoId id : {before, after})
      if (runs.count(id) > 0) runs[id] = shares.spans_of(id).size();
  }
  level_neighbours(shares, heirs, goal / 10);
  return shares.take();
}

}  // namespace magma::ring
