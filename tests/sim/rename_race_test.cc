// Renames of directories that cross each other: each ends, whoever comes first.
#include <doctest/doctest.h>

#include <array>
#include <memory>

#include "tests/sim/scenario.h"

using namespace magma;
using namespace magma::test;

namespace {

const Ino kRoot = root_ino();

struct Move {
  Ino from;
  std::string name;
  Ino to;
  std::string new_name;
};

// Both at once, the second `later`; whether both were answered in time.
bool cross(Scenario& s, const Move& first, const Move& second, Duration later) {
  auto answers = std::make_shared<unsigned>(0);
  auto begin = [&](unsigned client, const Move& move) {
    const wire::RenameRequest request{.from_dir = move.from,
                                      .from_name = move.name,
                                      .to_dir = move.to,
                                      .to_name = move.new_name};
    s.cluster().client(client).rename(request, {},
                                      [answers](Result<wire::EmptyReply>) { ++*answers; });
    s.cluster().touch_client(client);
  };
  begin(0, first);
  s.cluster().run_for(later);
  begin(1, second);
  return s.cluster().run_until([&] { return *answers == 2; }, seconds(5));
}

}  // namespace

TEST_CASE("rename race: one moves a directory away from a name that another moves one to") {
  for (unsigned parts : {0u, 3u})
    for (unsigned round = 0; round < 40; ++round) {
      CAPTURE(parts);
      CAPTURE(round);
      Scenario s(100 + round, 2, 0, parts);
      std::array<Ino, 3> dirs{};
      for (std::size_t i = 0; i < dirs.size(); ++i)
        dirs[i] = s.mkdir(kRoot, std::to_string(3 * round + i)).value().ino;  // any slots
      REQUIRE(s.mkdir(dirs[0], "x").has_value());
      REQUIRE(s.mkdir(dirs[1], "y").has_value());
      const Move away{dirs[1], "y", dirs[2], "z"}, there{dirs[0], "x", dirs[1], "y"};
      const Duration later = microseconds(20 * static_cast<std::int64_t>(round));
      REQUIRE(cross(s, round % 2 == 0 ? away : there, round % 2 == 0 ? there : away, later));
      // In a circle: each to where the other is from.
      const Move one{dirs[1], "y", dirs[2], "z"}, other{dirs[2], "z", dirs[1], "y"};
      REQUIRE(cross(s, one, other, later));
    }
}
