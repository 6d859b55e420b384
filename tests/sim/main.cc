// main() of sim_tests. Besides doctest's options:
//   --seeds=N   how many random runs (MAGMA_SIM_SEEDS; default 200)
//   --first-seed=S   of those the first (MAGMA_SIM_FIRST_SEED; default 1)
//   --seed=S    one random run, with the product's log on stderr (MAGMA_SIM_SEED)
//   --mirror-seed=S   the same of the runs with mirrors
// At the end of a full run every SOMETIMES counter must have been reached.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tests/sim/sim_run.h"

namespace {

void take_number(const char* text, std::uint64_t& value) {
  if (text != nullptr) value = std::strtoull(text, nullptr, 10);
}

}  // namespace

int main(int argc, char** argv) {
  using magma::test::sim_options;
  take_number(std::getenv("MAGMA_SIM_SEEDS"), sim_options().seeds);
  take_number(std::getenv("MAGMA_SIM_FIRST_SEED"), sim_options().first_seed);
  const char* seed = std::getenv("MAGMA_SIM_SEED");
  const char* cases = "random runs*";
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument(argv[i]);
    if (argument.starts_with("--seeds=")) take_number(argv[i] + 8, sim_options().seeds);
    if (argument.starts_with("--first-seed="))
      take_number(argv[i] + 13, sim_options().first_seed);
    if (argument.starts_with("--seed=")) seed = argv[i] + 7;
    if (argument.starts_with("--mirror-seed=")) {
      seed = argv[i] + 14;
      cases = "mirror random runs*";
    }
  }
  doctest::Context context(argc, argv);
  if (seed != nullptr) {
    take_number(seed, sim_options().first_seed);
    sim_options().seeds = 1;
    sim_options().replay = true;
    context.setOption("test-case", cases);
  }
  return context.run();
}
