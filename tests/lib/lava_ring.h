// A lava map under test: every command that changes it is audited with check() and check_step(),
// and that it changed nothing when it was refused. Helpers to bring a ring into a state.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "libmagma/ring/map_commands.h"
#include "libmagma/ring/placement.h"

namespace magma::test {

using namespace magma::ring;

inline Profile profile(unsigned number) {
  const std::string n = std::to_string(number);
  const std::string ip =
      "10." + std::to_string(number / 250) + ".0." + std::to_string(number % 250);
  return {.nick = "v" + n,
          .fqdn = "v" + n + ".example.org",
          .flare = ip + ":12000",
          .node = ip + ":12001",
          .console = ip + ":12002"};
}
inline Profile named(std::string nick, unsigned number) {
  Profile p = profile(number);
  p.fqdn = nick + ".example.org";
  p.nick = std::move(nick);
  return p;
}

inline Slot slot(unsigned number) { return Slot(static_cast<std::uint16_t>(number)); }

struct LavaRing {
  LavaMap map;

  Result<Applied> apply(const Command& command) {
    LavaMap before = map;
    auto result = apply_command(map, command);
    if (result) {
      const std::string broken = check_step(before, map);
      CHECK_MESSAGE(broken.empty(), std::string(name_of(command)), ": ", broken);
      CHECK(result->version == map.version);
    } else {
      CHECK_MESSAGE(map == before, "refused, but it changed something");
    }
    return result;
  }
  Applied must(const Command& command) {
    auto result = apply(command);
    REQUIRE_MESSAGE(result.has_value(), std::string(name_of(command)), ": ",
                    describe(result.error()));
    return *result;
  }
  // The reason for which it is refused.
  std::string refused(Code code, const Command& command) {
    auto result = apply(command);
    REQUIRE_MESSAGE(!result.has_value(), std::string(name_of(command)), " was taken");
    CHECK_MESSAGE(result.error().code == code, std::string(name_of(command)), ": ",
                  describe(result.error()));
    CHECK_FALSE(result.error().detail.empty());
    return result.error().detail;
  }

  // Slots as they are now, for a command.
  std::vector<SlotAt> at(unsigned first, unsigned last) const {
    std::vector<SlotAt> slots;
    for (unsigned n = first; n <= last; ++n) slots.push_back({slot(n), map.slots[n].epoch});
    return slots;
  }
  const SlotEntry& entry(unsigned n) const { return map.slots[n]; }
  std::uint32_t starts(VolcanoId id) const { return map.find(id)->starts; }

  VolcanoId found(std::uint8_t copies = 2, Profile p = profile(1)) {
    return must(Found{.filesystem = {1, 2, 3}, .copies = copies, .profile = std::move(p)}).volcano;
  }
  VolcanoId add(Profile p) {
    return must(AddVolcano{.membership = map.membership, .profile = std::move(p)}).volcano;
  }
  void assign(std::vector<OwnerRun> runs) {
    must(Assign{.membership = map.membership, .runs = std::move(runs)});
  }
  void down(VolcanoId id) { must(VolcanoDown{.volcano = id, .starts = starts(id)}); }
  void start(VolcanoId id, bool has_lost = false) {
    must(VolcanoStarted{.volcano = id, .starts = starts(id), .has_lost = has_lost});
  }
  void add_replicas(unsigned first, unsigned last, VolcanoId id) {
    must(AddReplica{{at(first, last), id}});
    must(ReplicaInSync{{at(first, last), id}});
  }
  // Applies what moving_steps() says, with everything copied and served at once, to the end.
  void settle() {
    for (int round = 0; round < 100 && !is_settled(map); ++round) {
      for (const Command& command : moving_steps(map, kSlotCount)) must(command);
      for (const Command& command : answers()) must(command);
    }
    CHECK(is_settled(map));
  }
  // What volcanoes that are there would say: what catches up is in sync, primaries serve.
  std::vector<Command> answers() const {
    std::vector<Command> commands;
    for (const Volcano& v : map.volcanoes) {
      if (!v.is_alive()) continue;
      ReplicaInSync in_sync{{{}, v.id}};
      Serving serving{{{}, v.id}};
      for (unsigned n = 0; n < kSlotCount; ++n) {
        const SlotEntry& e = map.slots[n];
        if (e.state != SlotState::serving) continue;
        const Replica* r = e.replicas.find(v.id);
        if (r != nullptr && r->state == ReplicaState::catching_up)
          in_sync.slots.push_back({slot(n), e.epoch});
        if (e.primary() == v.id && e.last_serving != v.id)
          serving.slots.push_back({slot(n), e.epoch});
      }
      if (!in_sync.slots.empty()) commands.push_back(std::move(in_sync));
      if (!serving.slots.empty()) commands.push_back(std::move(serving));
    }
    return commands;
  }
  VolcanoId join(Profile p, VolcanoId beside) {
    const VolcanoId id = add(std::move(p));
    auto plan = plan_join(map, id, beside, Weights());
    REQUIRE(plan.has_value());
    assign(plan->changes);
    settle();
    must(VolcanoJoined{.membership = map.membership, .volcano = id});
    return id;
  }
};

}  // namespace magma::test
