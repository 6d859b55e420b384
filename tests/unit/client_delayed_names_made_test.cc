// Files that a client makes later (client/delayed_names.h): their numbers, who waits for them, what
// becomes of those that cannot be made.
#include <doctest/doctest.h>

#include "tests/unit/client_delayed_names_fixture.h"

using namespace magma;
using namespace magma::client;
using namespace magma::test;

namespace {

struct MakingRig : Rig {
  explicit MakingRig(std::uint32_t many = 512) {
    numbers = many;
    grant();
  }
};

}  // namespace

TEST_CASE("made files: they have the numbers in turn, and none without one") {
  MakingRig rig(3);
  for (std::uint64_t i = 0; i < 3; ++i)
    CHECK(rig.make("n" + std::to_string(i)) == Ino(kFirstNumber.value + i));
  CHECK(rig.names.next_number(kDir) == Ino());
  CHECK(rig.make("n3") == Ino());
  CHECK(rig.names.made() == 3);
  CHECK(rig.names.next_number(kOther) == Ino());
  rig.pass(DelayedNames::kDelay);
  CHECK(rig.batch() == numbered(0, 3));
  CHECK(rig.owner.requests[0].batch.steps[1].made->mode == 0644);
}

TEST_CASE("made files: more numbers are asked for before they are used up") {
  MakingRig rig(DelayedNames::kNumbersLow + 10);
  for (int i = 0; i < 5; ++i) rig.make("n" + std::to_string(i));
  rig.pass(DelayedNames::kDelay);
  CHECK_FALSE(rig.owner.requests[0].batch.wants_numbers);
  rig.answer();
  for (int i = 5; i < 20; ++i) rig.make("n" + std::to_string(i));
  rig.pass(DelayedNames::kDelay);
  CHECK(rig.owner.requests[0].batch.wants_numbers);
  CHECK(rig.names.next_number(kDir) == Ino(kFirstNumber.value + 20));
  rig.answer();
  CHECK(rig.names.next_number(kDir) == Ino(kFirstNumber.value + 1000));
}

TEST_CASE("made files: what is asked about one waits for it alone") {
  MakingRig rig;
  const Ino first = rig.make("n0");
  CHECK(rig.names.is_made_later(first));
  CHECK(rig.names.dir_of(first) == kDir);
  rig.names.when_made(first, rig.now, rig.note("first"));
  REQUIRE(rig.under_way() == 1);  // at once
  const Ino second = rig.make("n1");
  REQUIRE(second != Ino());  // others are made meanwhile
  rig.names.when_made(second, rig.now, rig.note("second"));
  rig.make("n2");
  CHECK(rig.log.empty());
  rig.answer();
  CHECK(rig.log == std::vector<std::string>{"first"});
  CHECK_FALSE(rig.names.is_made_later(first));
  REQUIRE(rig.under_way() == 1);  // somebody waits: without delay
  rig.answer();
  CHECK(rig.log.back() == "second");
  rig.names.when_made(first, rig.now, rig.note("at once"));
  CHECK(rig.log.back() == "at once");
}

TEST_CASE("made files: one that is closed before it is sent is not opened") {
  MakingRig rig;
  const Ino first = rig.make("n0"), second = rig.make("n1");
  CHECK_FALSE(rig.names.close_made(first, false));  // opened otherwise
  CHECK(rig.names.close_made(first, true));
  CHECK_FALSE(rig.names.close_made(first, true));
  CHECK_FALSE(rig.names.close_made(Ino(77), true));
  rig.pass(DelayedNames::kDelay);
  CHECK_FALSE(rig.owner.requests[0].batch.steps[0].made->is_open);
  CHECK(rig.owner.requests[0].batch.steps[1].made->is_open);
  CHECK_FALSE(rig.names.close_made(second, true));  // too late
  rig.names.session_lost();
  rig.refuse(Code::fenced);
  rig.names.session_renewed(rig.now);
  REQUIRE(rig.under_way() == 1);
  CHECK_FALSE(rig.owner.requests[0].batch.steps[1].made->is_open);  // of no use to anybody now
}

TEST_CASE("made files: one that cannot be made is told of, and its number is nobody's") {
  MakingRig rig;
  const Ino first = rig.make("n0"), second = rig.make("n1");
  rig.names.when_made(first, rig.now, rig.note("told"));
  wire::ChangeNamesReply reply;
  reply.done = 2;
  reply.lost = {0};
  rig.pass(DelayedNames::kDelay);
  rig.answer(std::move(reply));
  CHECK(rig.log == std::vector<std::string>{"told"});
  CHECK(rig.names.is_never_made(first));
  CHECK_FALSE(rig.names.is_never_made(second));
  CHECK_FALSE(rig.names.is_made_later(first));
  REQUIRE(rig.owner.lost.size() == 1);
  CHECK(rig.owner.lost[0].step.name == "n0");
  CHECK(rig.take_error() == Code::io);
}

TEST_CASE("made files: they are made in the next session, in their order") {
  MakingRig rig;
  const Ino first = rig.make("n0");
  rig.names.when_made(first, rig.now, rig.note("made"));
  rig.make("n1");
  rig.names.session_lost();
  rig.refuse(Code::fenced);
  CHECK(rig.names.is_made_later(first));
  CHECK(rig.log.empty());
  CHECK(rig.make("n2") == Ino());
  rig.names.session_renewed(rig.now);
  CHECK(rig.drain() == numbered(0, 2));
  CHECK(rig.log == std::vector<std::string>{"made"});
}

TEST_CASE("made files: who waits is called when the client ends") {
  MakingRig rig;
  const Ino first = rig.make("n0");
  rig.names.when_made(first, rig.now, rig.note("ended"));
  rig.names.end();
  CHECK(rig.log == std::vector<std::string>{"ended"});
  CHECK_FALSE(rig.names.is_made_later(first));
}
