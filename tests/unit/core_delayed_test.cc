// What clients tell a volcano after they have told their programs: changes of names, files that
// they have made, locks. It takes what makes sense, once, and refuses the rest.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include "tests/unit/core_fixture.h"

using namespace magma;
using namespace magma::test;

namespace {

struct DelayedBench : ShardBench {
  // A file is made so that its answer brings numbers; the first of them.
  Ino numbers(const std::string& name) {
    wire::CreateRequest request{root(), name, 0644, 0, true, true, true};
    REQUIRE(ask(request, ring::home_of(root())));
    REQUIRE(last.names_changed);
    CHECK(last.names_changed->numbers == wire::kNumbersGiven);
    return last.names_changed->first_number;
  }
  Result<wire::ChangeNamesReply> change(std::vector<wire::NameStep> steps) {
    return ask(wire::ChangeNamesRequest{root(), std::move(steps)}, ring::home_of(root()));
  }
  // So that the client may count on what the answer says.
  std::vector<std::uint32_t> lost(std::vector<wire::NameStep> steps) {
    const std::size_t count = steps.size();
    auto reply = change(std::move(steps));
    REQUIRE(reply);
    CHECK(reply->done == count);
    CHECK(reply->may_delay);
    return reply->lost;
  }
};

wire::NameStep made(const std::string& name, Ino ino, bool is_open = false) {
  return {.name = name, .ino = ino, .made = wire::MadeFile{0640, is_open, is_open}};
}

Ino after(Ino first, std::uint64_t by) { return Ino(first.value + by); }

}  // namespace

TEST_CASE("made files: a step makes the file, once") {
  DelayedBench b;
  const Ino first = b.numbers("one");
  CHECK(b.lost({made("file", first), made("other", after(first, 1))}).empty());
  const auto attr = b.getattr(first);
  REQUIRE(attr);
  CHECK(attr->mode == (S_IFREG | 0640));
  CHECK(attr->nlink == 1);
  CHECK(b.lookup(b.root(), "file")->ino == first);
  CHECK(b.write(first, 0, "content") == Code{});
  const auto rows = b.rows(store::Table::inode);
  CHECK(b.lost({made("file", first)}).empty());  // it comes again
  CHECK(b.rows(store::Table::inode) == rows);
  CHECK(b.read(first, 0, 100) == "content");
  // Renamed meanwhile: it is made, under whatever name.
  REQUIRE(b.rename(b.root(), "file", b.root(), "moved"));
  CHECK(b.lost({made("file", first)}).empty());
  CHECK_FALSE(b.lookup(b.root(), "file"));
}

TEST_CASE("made files: a name that is taken is lost, what follows is done") {
  DelayedBench b;
  const Ino first = b.numbers("one");
  REQUIRE(b.create(b.root(), "taken"));
  CHECK(b.lost({made("taken", first), made("free", after(first, 1))}) ==
        std::vector<std::uint32_t>{0});
  CHECK_FALSE(b.getattr(first));
  CHECK(b.lookup(b.root(), "free")->ino == after(first, 1));
}

TEST_CASE("made files: those that are open are counted, and live without their names") {
  DelayedBench b;
  const Ino first = b.numbers("one");
  CHECK(b.lost({made("open", first, true), made("closed", after(first, 1))}).empty());
  CHECK(b.lost({made("open", first, true)}).empty());  // comes again: opened once
  REQUIRE(b.unlink(b.root(), "open"));
  REQUIRE(b.unlink(b.root(), "closed"));
  b.pass(seconds(6));
  CHECK(b.getattr(first));
  CHECK_FALSE(b.getattr(after(first, 1)));
  REQUIRE(b.release(first));
  b.pass(seconds(6));
  CHECK_FALSE(b.getattr(first));
}

TEST_CASE("made files: made, moved and removed in one request, also when it comes again") {
  DelayedBench b;
  const Ino first = b.numbers("one");
  const std::vector<wire::NameStep> steps{
      made("a", first), made("b", after(first, 1)),
      wire::NameStep{.name = "a", .ino = first, .to_name = "c"},
      wire::NameStep{.name = "b", .ino = after(first, 1)}};
  for (int i = 0; i < 2; ++i) {
    CHECK(b.lost(steps).empty());
    CHECK(b.lookup(b.root(), "c")->ino == first);
    CHECK_FALSE(b.lookup(b.root(), "a"));
    CHECK_FALSE(b.lookup(b.root(), "b"));
  }
}

TEST_CASE("made files: numbers stay given over kills and power cuts") {
  DelayedBench b;
  for (int round = 0; round < 4; ++round) {
    const Ino first = b.numbers("n" + std::to_string(round));
    if (round % 2 == 0)
      b.kill();
    else
      b.power_cut(round);
    b.attach();
    const Ino other = b.create(b.root(), "o" + std::to_string(round))->ino;
    CHECK((other.value < first.value || other.value >= first.value + wire::kNumbersGiven));
    const Ino last_given = after(first, wire::kNumbersGiven - 1);
    CHECK(b.lost({made("m" + std::to_string(round), last_given)}).empty());
  }
}

TEST_CASE("delayed names: steps that make no sense are refused, and nothing is done") {
  DelayedBench b;
  const Ino first = b.numbers("one");
  auto is_refused = [&](wire::NameStep step) {
    auto reply = b.change({made("good", first), std::move(step)});
    return !reply && reply.error().code == Code::malformed && !b.getattr(first);
  };
  CHECK(is_refused(made("never given", Ino(first.value + 1'000'000'000))));
  CHECK(is_refused(made("..", after(first, 1))));
  CHECK(is_refused(made("", after(first, 1))));
  const ring::Slot elsewhere(static_cast<std::uint16_t>(ring::home_of(first).value ^ 1));
  CHECK(is_refused(made("of another slot", Ino(ring::with_counter(elsewhere, 1)))));
  wire::NameStep step = made("mode", after(first, 1));
  step.made->mode = S_IFDIR | 0755;
  CHECK(is_refused(step));
  step = made("both", after(first, 1));
  step.to_name = "moved";
  CHECK(is_refused(step));
  CHECK(is_refused({.name = "one", .ino = first, .to_name = "a/b"}));
  CHECK(is_refused({.name = "one", .ino = first, .to_name = "one"}));
  CHECK(b.change({}).error().code == Code::malformed);
  CHECK(b.change(std::vector<wire::NameStep>(wire::kNameStepsMax + 1, made("x", first)))
            .error()
            .code == Code::malformed);
}

TEST_CASE("own locks: a set that makes no sense is refused, and what was held stays") {
  DelayedBench b;
  const Ino file = b.create(b.root(), "file")->ino;
  auto set = [&](locks::HeldLocks held) {
    auto reply = b.ask(wire::SetLocksRequest{file, std::move(held)}, ring::home_of(file));
    return reply ? Code{} : reply.error().code;
  };
  const locks::HeldRange low{{0, 9}, locks::LockType::exclusive};
  const locks::HeldLocks good{.posix = {{.owner = 1, .pid = 7, .ranges = {low}}}, .flocks = {}};
  CHECK(set(good) == Code{});
  CHECK(b.rows(store::Table::file_lock) == 1);
  const locks::HeldRange upside_down{{9, 0}, locks::LockType::exclusive};
  CHECK(set({.posix = {{.owner = 1, .pid = 7, .ranges = {upside_down}}}, .flocks = {}}) ==
        Code::malformed);
  // Two programs of one client have the same bytes.
  CHECK(set({.posix = {{.owner = 1, .pid = 7, .ranges = {low}},
                       {.owner = 2, .pid = 8, .ranges = {low}}},
             .flocks = {}}) == Code::malformed);
  CHECK(b.rows(store::Table::file_lock) == 1);
  CHECK(b.ask(wire::SetLocksRequest{Ino(12345), good}, ring::home_of(file)).error().code ==
        Code::stale);
  CHECK(set({}) == Code{});
  CHECK(b.rows(store::Table::file_lock) == 0);
}
