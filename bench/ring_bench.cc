// What the lava map costs, for rings of 4, 64 and 256 volcanoes: bytes, encode, decode, check, one
// command, the failover of a volcano, the plan and the steps of a join; and how even rings are
// that grew by joins, and what drains copy.
//   ring_bench [COPIES]
// Figures are the fastest of five runs of about 0.1 s.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "libmagma/base/check.h"
#include "libmagma/ring/placement.h"
#include "libmagma/sys_real/clock.h"
#include "libmagma/wire/lava_map_codec.h"

namespace {

using namespace magma;
using namespace magma::ring;

Profile profile(unsigned number) {
  const std::string n = std::to_string(number);
  const std::string ip =
      "10." + std::to_string(number / 250) + ".0." + std::to_string(number % 250);
  return {.nick = "volcano" + n,
          .fqdn = "volcano" + n + ".storage.example.org",
          .flare = ip + ":12000",
          .node = ip + ":12001",
          .console = ip + ":12002"};
}

// Everything where it should be, at once: as after all steps.
void place_all(LavaMap& map) {
  std::vector<Target> targets = targets_of(owners_of(map), map.copies);
  for (unsigned n = 0; n < kSlotCount; ++n) {
    SlotEntry& e = map.slots[n];
    if (std::equal(targets[n].begin(), targets[n].end(), e.replicas.begin(), e.replicas.end(),
                   [](VolcanoId id, const Replica& r) { return r.volcano == id; }))
      continue;
    e.replicas = ReplicaList();
    for (VolcanoId id : targets[n]) e.replicas.add({.volcano = id});
    e.last_serving = e.owner;
    e.epoch.value += 1 + n % 3;
  }
}

void must(LavaMap& map, const Command& command) {
  const auto done = apply_command(map, command);
  if (done) return;
  std::fprintf(stderr, "ring_bench: %s\n", describe(done.error()).c_str());
  std::exit(1);
}

LavaMap ring_of(unsigned volcanoes, std::uint8_t copies) {
  LavaMap map;
  must(map, Found{.filesystem = {}, .copies = copies, .profile = profile(1)});
  for (unsigned n = 2; n <= volcanoes; ++n) {
    must(map, AddVolcano{map.membership, profile(n)});
    const VolcanoId beside(static_cast<std::uint16_t>(1 + n * 7 % (n - 1)));
    const auto plan = plan_join(map, map.volcanoes.back().id, beside, Weights());
    MAGMA_CHECK(plan.has_value());
    must(map, Assign{map.membership, plan->changes});
    place_all(map);
    must(map, VolcanoJoined{map.membership, map.volcanoes.back().id});
  }
  return map;
}

template <class Work>
void measure(const char* name, Work work) {
  sys_real::Clock clock;
  double best_us = 1e12;
  for (int run = 0; run < 5; ++run) {
    const Instant begun = clock.now();
    std::uint64_t times = 0;
    Duration spent{};
    while ((spent = clock.now() - begun) < milliseconds(100)) {
      work();
      ++times;
    }
    best_us = std::min(best_us, static_cast<double>(spent.ns) / 1e3 / static_cast<double>(times));
  }
  std::printf("  %-44s %9.1f us\n", name, best_us);
}

void measure_ring(unsigned volcanoes, std::uint8_t copies) {
  const LavaMap map = ring_of(volcanoes, copies);
  const Bytes bytes = wire::encode_map(map);
  std::printf("%u volcanoes, %u copies: %zu bytes\n", volcanoes, unsigned{copies}, bytes.size());
  measure("encode", [&] { MAGMA_CHECK(wire::encode_map(map).size() == bytes.size()); });
  measure("decode and check", [&] { MAGMA_CHECK(wire::decode_map(bytes).has_value()); });
  measure("check", [&] { MAGMA_CHECK(check(map).empty()); });
  measure("copy the map, a command of one slot, back", [&] {
    LavaMap next = map;
    const VolcanoId backup = map.slots[7].replicas[map.slots[7].replicas.size() - 1].volcano;
    must(next, ReplicaBehind{{{{Slot(7), map.slots[7].epoch}}, backup}});
  });
  measure("copy the map, failover of a volcano", [&] {
    LavaMap next = map;
    must(next, VolcanoDown{VolcanoId(2), 1});
  });
  measure("steps to be taken when nothing is left",
          [&] { MAGMA_CHECK(moving_steps(map, kSlotCount).empty()); });
  LavaMap joining = map;
  must(joining, AddVolcano{joining.membership, profile(volcanoes + 1)});
  const VolcanoId joiner = joining.volcanoes.back().id;
  measure("plan a join",
          [&] { MAGMA_CHECK(plan_join(joining, joiner, VolcanoId(1), Weights()).has_value()); });
  measure("plan a drain",
          [&] { MAGMA_CHECK(plan_leave(map, VolcanoId(2), Weights()).has_value()); });
  const auto plan = plan_leave(map, VolcanoId(2), Weights());
  std::size_t held = 0;
  for (const SlotEntry& e : map.slots) held += e.replicas.has(VolcanoId(2));
  std::printf("  a drain copies %llu slots; the volcano had %zu\n",
              static_cast<unsigned long long>(plan->copied_slots), held);
}

}  // namespace

int main(int argc, char** argv) {
  const long copies = argc > 1 ? std::strtol(argv[1], nullptr, 10) : 2;
  if (copies < 1 || copies > long{kCopiesMax}) {
    std::fprintf(stderr, "ring_bench [COPIES]: 1 to %u\n", kCopiesMax);
    return 2;
  }
  for (unsigned volcanoes : {4u, 64u, 256u})
    measure_ring(volcanoes, static_cast<std::uint8_t>(copies));
  return 0;
}
