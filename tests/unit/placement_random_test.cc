// The ring policy on rings of 1 to 64 volcanoes at random: joins beside anybody, drains, losses,
// volcanoes that go and come while slots move, slots of any weight. After each command the map is
// audited, after each plan what the policy promises. The same with mistakes planted: each must be
// complained about. A failure prints its seed.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include <fmt/format.h>

#include "libmagma/ring/placement_share.h"
#include "tests/lib/lava_ring.h"
#include "tests/lib/sim_random.h"

using namespace magma;
using namespace magma::ring;
using namespace magma::test;

namespace {

enum class Mistake {
  none,
  keeps_epoch,        // of a slot whose replica was dropped
  promotes_unsynced,  // before it is in sync
  drops_early,        // a backup in sync, when the newcomer's replica is only added
  backup_on_same,     // two replicas on one volcano
  forgets_backups,    // only primaries are moved
  takes_from_one,     // the share from a single volcano
  takes_anywhere,     // single slots from all over the ring
  copies_twice,       // a plan that moves others' slots about, too
};
constexpr Mistake kMistakes[] = {Mistake::keeps_epoch,     Mistake::promotes_unsynced,
                                 Mistake::drops_early,     Mistake::backup_on_same,
                                 Mistake::forgets_backups, Mistake::takes_from_one,
                                 Mistake::takes_anywhere,  Mistake::copies_twice};

// The policy once more, as plainly as it can be said.
std::vector<std::set<VolcanoId>> wanted_sets(const Owners& owners, unsigned copies) {
  std::vector<std::set<VolcanoId>> sets(kSlotCount);
  for (unsigned n = 0; n < kSlotCount; ++n) {
    if (n > 0 && owners[n] == owners[n - 1])
      sets[n] = sets[n - 1];
    else
      for (unsigned i = 0; i < kSlotCount && sets[n].size() < copies; ++i)
        sets[n].insert(owners[(n + i) % kSlotCount]);
  }
  return sets;
}

class Rehearsal {
 public:
  struct Counts {
    unsigned joins = 0, leaves = 0, losses = 0, downs = 0, commands = 0, waited = 0;
    double worst_ratio = 0, lowest = 1, highest = 1, least_stored = 1, most_stored = 1;
    std::size_t most_runs = 0;
  };

  Rehearsal(std::uint64_t seed, unsigned copies, Mistake mistake)
      : random_(seed), mistake_(mistake), copies_(copies) {
    if (random_.chance(0.7)) {
      std::vector<std::uint64_t> bytes(kSlotCount);
      for (auto& b : bytes) b = (1 + random_.below(1 + seed % 20)) << 20;
      weights_ = Weights(bytes);
    }
    apply(Found{.filesystem = {},
                .copies = static_cast<std::uint8_t>(copies),
                .profile = profile(next_++)});
  }
  const std::string& complaint() const { return complaint_; }
  const Counts& counts() const { return counts_; }
  std::size_t size() const { return map_.volcanoes.size(); }

  // `breakages`: chance in each round of the moving that a volcano goes.
  void join(double breakages) {
    if (!well()) return;
    ++counts_.joins;
    apply(AddVolcano{map_.membership, profile(next_++)});
    const VolcanoId joiner = map_.volcanoes.back().id;
    const auto order = order_of(owners_of(map_));
    const VolcanoId beside = order[random_.below(order.size())];
    auto plan = plan_join(map_, joiner, beside, weights_);
    if (!plan) return complain("no plan: " + describe(plan.error()));
    if (mistake_ >= Mistake::takes_from_one && size() > 6) *plan = spoiled(joiner);
    audit_join(*plan, joiner);
    apply(Assign{map_.membership, plan->changes});
    if (breakages < 0) return finish_at_once(joiner);
    work(breakages);
    if (well()) apply(VolcanoJoined{map_.membership, joiner});
  }
  void leave(double breakages) {
    if (!well() || size() < 2) return;
    ++counts_.leaves;
    const VolcanoId leaver = somebody();
    move_vote(leaver);
    apply(SetLeaving{map_.membership, leaver, true});
    hand_out(leaver);
    work(breakages);
    if (well()) apply(RemoveVolcano{map_.membership, leaver});
  }
  void lose() {
    if (!well() || size() < 3 || copies_ < 2) return;
    ++counts_.losses;
    const VolcanoId lost = somebody();
    move_vote(lost);
    go_down(lost);
    serve();
    apply(PatienceOver{lost, map_.find(lost)->starts});
    hand_out(lost);
    work(0);
    if (well()) apply(RemoveVolcano{map_.membership, lost});
  }
  // A drain or loss on a big ring: only who owns what, without the steps.
  void leave_at_once() {
    if (!well()) return;
    ++counts_.leaves;
    const VolcanoId leaver = somebody();
    move_vote(leaver);
    auto plan = plan_leave(map_, leaver, weights_);
    if (!plan) return complain("no plan: " + describe(plan.error()));
    audit_runs(plan->owners);
    apply(Assign{map_.membership, plan->changes});
    place_all();
    apply(RemoveVolcano{map_.membership, leaver});
  }
  // After joins alone.
  void audit_fairness() {
    if (!well()) return;
    std::map<VolcanoId, double> load, stored;
    const auto targets = targets_of(owners_of(map_), copies_);
    for (unsigned n = 0; n < kSlotCount; ++n) {
      load[map_.slots[n].owner] += static_cast<double>(weights_.load(n));
      for (VolcanoId id : targets[n]) stored[id] += static_cast<double>(weights_.load(n));
    }
    const double fair = static_cast<double>(weights_.total_load()) / static_cast<double>(size());
    if (load.size() != size()) complain("a volcano owns nothing");
    for (const auto& [id, l] : load) {
      counts_.lowest = std::min(counts_.lowest, l / fair);
      counts_.highest = std::max(counts_.highest, l / fair);
      const double part =
          stored[id] / fair / std::min<double>(copies_, static_cast<double>(size()));
      counts_.least_stored = std::min(counts_.least_stored, part);
      counts_.most_stored = std::max(counts_.most_stored, part);
      // With one copy and four slices, third parties would have to copy for more.
      const double bound = copies_ == 1 && size() == kContiguousMax ? 0.16 : 0.1;
      if (std::abs(l / fair - 1) > bound)
        complain(
            fmt::format("volcano {} of {} has {:.3f} of a fair share", id.value, size(), l / fair));
    }
  }

 private:
  bool well() const { return complaint_.empty(); }
  void complain(std::string what) {
    if (complaint_.empty()) complaint_ = std::move(what);
  }
  // There is one voter; to another one if it is `id`.
  void move_vote(VolcanoId id) {
    if (map_.voters[0] != id) return;
    const VolcanoId heir = map_.volcanoes[map_.volcanoes[0].id == id ? 1 : 0].id;
    std::vector<VolcanoId> both = {std::min(id, heir), std::max(id, heir)};
    apply(SetVoters{map_.membership, {id}, {heir}});
    apply(SetVoters{map_.membership, both, {}});
    apply(SetVoters{map_.membership, {heir}, {}});
  }
  VolcanoId somebody() { return map_.volcanoes[random_.below(size())].id; }

  void apply(const Command& command) {
    if (!well()) return;
    ++counts_.commands;
    const LavaMap before = map_;
    auto done = apply_command(map_, command);
    if (!done)
      return complain(std::string(name_of(command)) + " refused: " + describe(done.error()));
    if (mistake_ == Mistake::keeps_epoch)
      if (const auto* drop = std::get_if<DropReplica>(&command))
        map_.at(drop->slots[0].slot).epoch = drop->slots[0].epoch;
    if (mistake_ == Mistake::backup_on_same)
      if (const auto* add = std::get_if<AddReplica>(&command)) {
        ReplicaList& replicas = map_.at(add->slots[0].slot).replicas;
        replicas[replicas.size() - 1].volcano = replicas[0].volcano;
      }
    if (std::string broken = check_step(before, map_); !broken.empty())
      complain(std::string(name_of(command)) + ": " + broken);
  }

  // A step of a plan: nowhere fewer copies, unless there were more than there should be.
  void apply_step(const Command& command) {
    const LavaMap before = map_;
    const auto targets = targets_of(owners_of(map_), map_.copies);
    apply(command);
    for (unsigned n = 0; n < kSlotCount && well(); ++n) {
      const std::size_t had = before.slots[n].replicas.in_sync();
      if (map_.slots[n].replicas.in_sync() < std::min<std::size_t>(had, targets[n].count))
        complain(fmt::format("{}: slot {} has fewer copies", name_of(command), n));
    }
  }

  // Mistakes of who makes the steps.
  void spoil(std::vector<Command>& steps) {
    if (mistake_ == Mistake::forgets_backups) {
      for (Command& command : steps)
        if (auto* add = std::get_if<AddReplica>(&command))
          std::erase_if(add->slots,
                        [&](const SlotAt& at) { return map_.at(at.slot).owner != add->volcano; });
      std::erase_if(steps, [](const Command& command) {
        const auto* add = std::get_if<AddReplica>(&command);
        return add != nullptr && add->slots.empty();
      });
    }
    if (mistake_ != Mistake::promotes_unsynced && mistake_ != Mistake::drops_early) return;
    for (unsigned n = 0; n < kSlotCount; ++n) {
      const SlotEntry& e = map_.slots[n];
      const SlotAt at{slot(n), e.epoch};
      for (const Replica& r : e.replicas) {
        const bool is_new = r.state == ReplicaState::catching_up;
        if (is_new && mistake_ == Mistake::promotes_unsynced)
          steps = {Promote{{{at}, r.volcano}}};
        else if (!is_new && r.volcano != e.primary() && e.replicas.in_sync() < e.replicas.size() &&
                 mistake_ == Mistake::drops_early && r.volcano != e.last_serving)
          steps = {DropReplica{{{at}, r.volcano}}};
        else
          continue;
        return;
      }
    }
  }
  // Mistakes of who plans a join.
  PlacementPlan spoiled(VolcanoId joiner) {
    Owners owners = owners_of(map_);
    const std::size_t share = kSlotCount / size();
    if (mistake_ == Mistake::takes_from_one) {
      std::size_t taken = 0;
      const VolcanoId donor = owners[0];
      for (unsigned n = kSlotCount; n-- > 1 && taken < share;)
        if (owners[n] == donor) (owners[n] = joiner, ++taken);
    } else if (mistake_ == Mistake::takes_anywhere) {
      for (std::size_t i = 0; i < share; ++i) owners[i * kSlotCount / share] = joiner;
    } else {
      std::rotate(owners.begin(), owners.begin() + 500, owners.end());
      owners = take_share(owners, joiner, joiner, weights_);
    }
    PlacementPlan plan = plan_for(map_, owners, weights_);
    const auto targets = targets_of(owners, copies_);
    for (unsigned n = 0; n < kSlotCount; ++n) {
      plan.share_slots += owners[n] == joiner;
      plan.mirror_slots += owners[n] != joiner && targets[n].has(joiner);
    }
    return plan;
  }

  void audit_join(const PlacementPlan& plan, VolcanoId joiner) {
    // Counted again, from the policy as plainly as it can be said.
    std::uint64_t slots = 0, copied = 0, bytes = 0, copied_bytes = 0;
    const auto wanted = wanted_sets(plan.owners, copies_);
    for (unsigned n = 0; n < kSlotCount; ++n)
      for (VolcanoId id : wanted[n]) {
        if (id == joiner) ++slots, bytes += weights_.bytes(n);
        if (map_.slots[n].replicas.has(id)) continue;
        ++copied;
        copied_bytes += weights_.bytes(n);
      }
    if (copied != plan.copied_slots || slots != plan.share_slots + plan.mirror_slots)
      complain("the plan's sums are wrong");
    const double ratio = static_cast<double>(copied) / static_cast<double>(slots);
    const double byte_ratio =
        bytes == 0 ? 0 : static_cast<double>(copied_bytes) / static_cast<double>(bytes);
    counts_.worst_ratio = std::max({counts_.worst_ratio, ratio, byte_ratio});
    if (std::max(ratio, byte_ratio) > 1.2)
      complain(fmt::format("a join copies {:.2f} of share and mirror duty", ratio));
    audit_runs(plan.owners);
  }
  void audit_runs(const Owners& owners) {
    const auto order = order_of(owners);
    if (order.size() <= kContiguousMax && !is_contiguous(owners)) complain("not contiguous");
    for (VolcanoId id : order) {
      const std::size_t runs = runs_of(owners, id);
      counts_.most_runs = std::max(counts_.most_runs, runs);
      if (runs > kRunsMax) complain(fmt::format("volcano {} has {} runs", id.value, runs));
    }
  }

  void hand_out(VolcanoId leaver) {
    if (!well()) return;
    auto plan = plan_leave(map_, leaver, weights_);
    if (!plan) return complain("no plan: " + describe(plan.error()));
    audit_runs(plan->owners);
    if (!plan->changes.empty()) apply(Assign{map_.membership, plan->changes});
  }

  // Until all is where it should be; volcanoes go and come meanwhile.
  void work(double breakages) {
    for (int round = 0; round < 400 && well(); ++round) {
      const bool is_quiet = round > 40;
      if (!is_quiet && random_.chance(breakages)) go_down(somebody());
      if (is_quiet || random_.chance(0.3)) come_back();
      std::vector<Command> steps = moving_steps(map_, is_quiet ? kSlotCount : 700);
      spoil(steps);
      for (const Command& step : steps) {
        if (random_.chance(breakages / 10)) {  // the plan was made before this: epochs differ
          go_down(somebody());
          break;
        }
        apply_step(step);
      }
      copy(is_quiet ? 1 : 0.7);
      if (random_.chance(0.8) || is_quiet) serve();
      if (is_settled(map_) && all_there()) break;
    }
    audit_settled();
  }
  bool all_there() const {
    return std::all_of(map_.volcanoes.begin(), map_.volcanoes.end(), [](const Volcano& v) {
      return v.is_alive() || v.state == VolcanoState::gone;
    });
  }
  void go_down(VolcanoId id) {
    if (!map_.is_alive(id)) return;
    ++counts_.downs;
    apply(VolcanoDown{id, map_.find(id)->starts});
    for (const SlotEntry& e : map_.slots) counts_.waited += e.state == SlotState::waiting;
  }
  void come_back() {
    for (VolcanoId id : ids())
      if (const Volcano* v = map_.find(id); v->state == VolcanoState::down)
        apply(VolcanoStarted{id, v->starts, random_.chance(0.3)});
  }
  std::vector<VolcanoId> ids() const {
    std::vector<VolcanoId> result;
    for (const Volcano& v : map_.volcanoes) result.push_back(v.id);
    return result;
  }
  // Of each volcano's replicas that catch up, some are in sync now.
  void copy(double part) {
    for (VolcanoId id : ids()) {
      ReplicaInSync done{{{}, id}};
      for (unsigned n = 0; n < kSlotCount; ++n) {
        const SlotEntry& e = map_.slots[n];
        const Replica* r = e.replicas.find(id);
        if (r != nullptr && r->state == ReplicaState::catching_up && map_.is_alive(id) &&
            e.state == SlotState::serving && random_.chance(part))
          done.slots.push_back({slot(n), e.epoch});
      }
      if (!done.slots.empty()) apply(done);
    }
  }
  void serve() {
    for (VolcanoId id : ids()) {
      Serving serving{{{}, id}};
      for (unsigned n = 0; n < kSlotCount; ++n) {
        const SlotEntry& e = map_.slots[n];
        if (e.primary() == id && e.last_serving != id && e.state == SlotState::serving)
          serving.slots.push_back({slot(n), e.epoch});
      }
      if (!serving.slots.empty()) apply(serving);
    }
  }
  void audit_settled() {
    const auto wanted = wanted_sets(owners_of(map_), copies_);
    for (unsigned n = 0; n < kSlotCount && well(); ++n) {
      const SlotEntry& e = map_.slots[n];
      std::set<VolcanoId> have;
      for (const Replica& r : e.replicas)
        if (r.state == ReplicaState::in_sync) have.insert(r.volcano);
      if (have != wanted[n] || e.primary() != e.owner || e.replicas.size() != have.size())
        complain(fmt::format("slot {} is not where it should be", n));
    }
  }
  // What all the steps of a join come to, without them.
  void finish_at_once(VolcanoId joiner) {
    if (!well()) return;
    place_all();
    apply(VolcanoJoined{map_.membership, joiner});
  }
  void place_all() {
    const auto targets = targets_of(owners_of(map_), copies_);
    for (unsigned n = 0; n < kSlotCount; ++n) {
      SlotEntry& e = map_.slots[n];
      e.replicas = ReplicaList();
      for (VolcanoId id : targets[n]) e.replicas.add({.volcano = id});
      e.last_serving = e.owner;
      ++e.epoch.value;
    }
  }

  SimRandom random_;
  Mistake mistake_;
  unsigned copies_;
  Weights weights_;
  LavaMap map_;
  unsigned next_ = 1;
  std::string complaint_;
  Counts counts_;
};

}  // namespace

TEST_CASE("placement: 64 volcanoes join one after the other") {
  Rehearsal::Counts all;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const unsigned copies = seed <= 2 ? 2 : seed == 3 ? 1 : static_cast<unsigned>(seed - 1);
    CAPTURE(seed);
    CAPTURE(copies);
    Rehearsal ring(seed, copies, Mistake::none);
    while (ring.size() < 64 && ring.complaint().empty()) {
      ring.join(-1);
      ring.audit_fairness();
    }
    REQUIRE(ring.complaint() == "");
    const Rehearsal::Counts& c = ring.counts();
    MESSAGE("seed ", seed, ", ", copies, " copies: keys ", c.lowest, " to ", c.highest,
            " of fair, stored ", c.least_stored, " to ", c.most_stored, ", copied at most ",
            c.worst_ratio, " of share and mirror duty, at most ", c.most_runs, " runs");
  }
}

TEST_CASE("placement: every step of joins up to 16 volcanoes") {
  Rehearsal ring(77, 2, Mistake::none);
  while (ring.size() < 16 && ring.complaint().empty()) ring.join(0);
  ring.audit_fairness();
  REQUIRE(ring.complaint() == "");
  MESSAGE(ring.counts().commands, " commands");
}

TEST_CASE("placement: joins, drains and losses while volcanoes go and come") {
  unsigned joins = 0, leaves = 0, losses = 0, downs = 0, commands = 0, waited = 0;
  for (std::uint64_t seed = 100; seed < 106; ++seed) {
    CAPTURE(seed);
    SimRandom events(seed);
    Rehearsal ring(seed, static_cast<unsigned>(1 + events.below(3)), Mistake::none);
    for (int i = 0; i < 8; ++i) {
      const std::uint64_t event = events.below(10);
      if (event < 5 || ring.size() < 3)
        ring.join(0.2);
      else if (event < 7)
        ring.leave(0.2);
      else
        ring.lose();
    }
    REQUIRE(ring.complaint() == "");
    joins += ring.counts().joins;
    leaves += ring.counts().leaves;
    losses += ring.counts().losses;
    downs += ring.counts().downs;
    commands += ring.counts().commands;
    waited += ring.counts().waited;
  }
  MESSAGE(joins, " joins, ", leaves, " drains, ", losses, " losses, ", downs, " times down, ",
          commands, " commands, ", waited, " slots had to wait");
  CHECK(leaves > 3);
  CHECK(losses > 1);
  CHECK(downs > 30);
  CHECK(waited > 0);
}

TEST_CASE("placement: a ring of 64 is drained down to 3, and stays fair") {
  Rehearsal ring(9, 2, Mistake::none);
  while (ring.size() < 64 && ring.complaint().empty()) ring.join(-1);
  while (ring.size() > 3 && ring.complaint().empty()) {
    ring.leave_at_once();
    ring.audit_fairness();
  }
  REQUIRE(ring.complaint() == "");
  MESSAGE("keys ", ring.counts().lowest, " to ", ring.counts().highest, " of fair, stored ",
          ring.counts().least_stored, " to ", ring.counts().most_stored);
}

TEST_CASE("placement: planted mistakes are found") {
  for (Mistake mistake : kMistakes) {
    CAPTURE(static_cast<int>(mistake));
    Rehearsal ring(5, 2, mistake);
    for (int i = 0; i < 7; ++i) {
      ring.join(0);
      ring.audit_fairness();
    }
    CHECK(ring.complaint() != "");
    MESSAGE("mistake ", static_cast<int>(mistake), ": ", ring.complaint());
  }
}
