#include <doctest/doctest.h>

#include <string>

#include "mount.magma/lookup_doubts.h"

namespace {

using magma::Ino;
using magma::Instant;
using magma::milliseconds;
using magma::seconds;
using magma::mount::LookupDoubts;
using Answer = LookupDoubts::Answer;

constexpr Ino kDir{100};
constexpr Ino kOther{101};

TEST_CASE("lookup doubts: who is in doubt asks once more, then is told") {
  LookupDoubts doubts;
  const Instant now = Instant{} + seconds(1000);
  CHECK(doubts.judge(7, kDir, "x", false, now) == Answer::tell);
  CHECK(doubts.judge(7, kDir, "x", true, now) == Answer::ask_again);
  CHECK(doubts.judge(8, kDir, "x", true, now) == Answer::ask_again);
  // The retry walks the path: other names on the way are told, whatever is in doubt.
  CHECK(doubts.judge(7, kOther, "x", true, now) == Answer::tell);
  CHECK(doubts.judge(7, kDir, "y", true, now) == Answer::tell);
  CHECK(doubts.judge(7, kDir, "x", false, now + seconds(30)) == Answer::tell);
  CHECK(doubts.judge(8, kDir, "x", true, now) == Answer::tell_apart);
  CHECK(doubts.size() == 0);
  CHECK(doubts.judge(7, kDir, "x", true, now) == Answer::ask_again);
}

TEST_CASE("lookup doubts: a retry ends with a name that is not there, or after a minute") {
  LookupDoubts doubts;
  const Instant now = Instant{} + seconds(1000);
  CHECK(doubts.judge(7, kDir, "x", true, now) == Answer::ask_again);
  doubts.absent(8);
  CHECK(doubts.size() == 1);
  doubts.absent(7);
  CHECK(doubts.size() == 0);
  CHECK(doubts.judge(7, kDir, "y", true, now) == Answer::ask_again);
  const Instant later = now + LookupDoubts::kRetryMax;
  CHECK(doubts.judge(7, kDir, "z", true, later - milliseconds(1)) == Answer::tell);
  CHECK(doubts.judge(7, kDir, "z", true, later) == Answer::ask_again);
}

TEST_CASE("lookup doubts: threads that are not known or too many are never refused") {
  LookupDoubts doubts;
  const Instant now = Instant{} + seconds(1000);
  CHECK(doubts.judge(0, kDir, "x", true, now) == Answer::tell_apart);
  CHECK(doubts.judge(0, kDir, "x", false, now) == Answer::tell);
  CHECK(doubts.size() == 0);
  const auto max = static_cast<pid_t>(LookupDoubts::kThreadsMax);
  for (pid_t thread = 1; thread <= max; ++thread)
    CHECK(doubts.judge(thread, kDir, "x", true, now) == Answer::ask_again);
  CHECK(doubts.judge(max + 1, kDir, "x", true, now) == Answer::tell_apart);
  CHECK(doubts.size() == LookupDoubts::kThreadsMax);
  const Instant later = now + LookupDoubts::kRetryMax;
  CHECK(doubts.judge(max + 1, kDir, "x", true, later) == Answer::ask_again);
  CHECK(doubts.size() == 1);
}

}  // namespace
