#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <set>

#include "libmagma/crypto/replay_window.h"

using magma::crypto::ReplayWindow;

namespace {
// What the window must do, said with a set of everything ever seen.
struct Model {
  std::set<std::uint64_t> seen;
  bool is_new(std::uint64_t number) const {
    if (seen.empty()) return true;
    const std::uint64_t highest = *seen.rbegin();
    if (number < highest && highest - number >= ReplayWindow::kWidth) return false;
    return !seen.contains(number);
  }
};

void compare(std::uint64_t start, std::uint64_t jump_max, unsigned seed) {
  CAPTURE(start);
  CAPTURE(jump_max);
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  ReplayWindow window;
  Model model;
  std::uint64_t highest = start;
  for (int i = 0; i < 20000; ++i) {
    std::uint64_t number = 0;
    if (random() % 2 == 0 && highest < UINT64_MAX - jump_max)
      number = highest + random() % jump_max;
    else
      number = highest - std::min(highest, random() % (ReplayWindow::kWidth + 200));
    const bool expected = model.is_new(number);
    REQUIRE(window.is_new(number) == expected);
    REQUIRE(window.mark(number) == expected);
    if (expected) model.seen.insert(number);
    highest = *model.seen.rbegin();
    REQUIRE(window.highest() == highest);
    REQUIRE_FALSE(window.is_new(number));
  }
}
}  // namespace

TEST_CASE("replay_window: each number once, from 0") {
  ReplayWindow window;
  CHECK(window.is_new(0));
  CHECK(window.mark(0));
  CHECK_FALSE(window.mark(0));
  CHECK(window.mark(1));
  CHECK_FALSE(window.mark(1));
}

TEST_CASE("replay_window: asking changes nothing") {
  ReplayWindow window;
  CHECK(window.is_new(100000));
  CHECK(window.highest() == 0);
  CHECK(window.mark(0));
}

TEST_CASE("replay_window: the edge is exactly its width behind the highest") {
  for (std::uint64_t highest : {4096u, 5000u, 4159u, 4160u, 1u << 20}) {
    ReplayWindow window;
    CHECK(window.mark(highest));
    CHECK(window.is_new(highest - ReplayWindow::kWidth + 1));
    CHECK_FALSE(window.is_new(highest - ReplayWindow::kWidth));
    CHECK(window.mark(highest - ReplayWindow::kWidth + 1));
    CHECK_FALSE(window.mark(highest - ReplayWindow::kWidth + 1));
  }
}

TEST_CASE("replay_window: the last number") {
  ReplayWindow window;
  CHECK(window.mark(3));
  CHECK(window.mark(UINT64_MAX));
  CHECK_FALSE(window.mark(UINT64_MAX));
  CHECK_FALSE(window.is_new(3));
  CHECK(window.mark(UINT64_MAX - 4095));
  CHECK_FALSE(window.is_new(UINT64_MAX - 4096));
}

TEST_CASE("replay_window: agrees with a set") {
  for (unsigned seed = 1; seed <= 3; ++seed) {
    compare(0, 3, seed);
    compare(0, 70, seed);
    compare(123456789, 5000, seed);
    compare(UINT64_MAX - 20000, 10, seed);
    compare(1000, 1u << 30, seed);
  }
}
