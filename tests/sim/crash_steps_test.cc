// A crash at every step: the process dies after the k-th change of the disk, for k = 1, 2, 3, ...
// until the operation gets through. After the restart another client sees exactly the old or
// exactly the new tree, never anything between, and the storage is clean. Everything older was
// synced, so this holds for power cuts as for kills.
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/lib/sometimes.h"
#include "tests/sim/scenario.h"

using namespace magma;
using namespace magma::test;

namespace {

const Ino kRoot = root_ino();
constexpr std::uint64_t kStepsMax = 200;

struct Tree {
  Ino one, two, small, large, empty;
};

struct Step {
  const char* name;
  bool moves_content;  // new content may be lost by a power cut: only the old tree is compared
  std::function<void(client::Client&, const Tree&, UniqueFunction<void(Code)>)> call;
};

template <class T>
client::Done<T> tell(UniqueFunction<void(Code)> finish) {
  return [finish = std::move(finish)](Result<T> answer) mutable {
    finish(answer ? Code{} : answer.error().code);
  };
}

using Finish = UniqueFunction<void(Code)>;

client::Done<wire::EmptyReply> done(Finish finish) {
  return tell<wire::EmptyReply>(std::move(finish));
}

wire::SetattrRequest cut_to(Ino ino, std::uint64_t size) {
  wire::SetattrRequest request;
  request.ino = ino;
  request.fields_set = wire::kSetSize;
  request.size = size;
  return request;
}

const std::vector<Step>& steps() {
  static const std::vector<Step> all = {
      {"mkdir", false,
       [](auto& c, const Tree& t, Finish f) {
         c.mkdir(mkdir_request(t.one, "new"), {}, tell<wire::EntryReply>(std::move(f)));
       }},
      {"rmdir", false,
       [](auto& c, const Tree& t, Finish f) { c.rmdir(t.one, "empty", {}, done(std::move(f))); }},
      {"rename a file across", false,
       [](auto& c, const Tree& t, Finish f) {
         c.rename({t.one, "small", t.two, "moved", 0}, {}, done(std::move(f)));
       }},
      {"rename a file over another across", false,
       [](auto& c, const Tree& t, Finish f) {
         c.rename({t.one, "small", t.two, "victim", 0}, {}, done(std::move(f)));
       }},
      {"rename a directory across", false,
       [](auto& c, const Tree& t, Finish f) {
         c.rename({t.one, "empty", t.two, "moved", 0}, {}, done(std::move(f)));
       }},
      {"rename a directory over another across", false,
       [](auto& c, const Tree& t, Finish f) {
         c.rename({t.one, "empty", t.two, "emptytoo", 0}, {}, done(std::move(f)));
       }},
      {"spill", true,
       [](auto& c, const Tree& t, Finish f) {
         c.write(t.small, 60'000, pattern(30'000, 8), false, false, {},
                 tell<wire::WriteReply>(std::move(f)));
       }},
      {"truncate a large file", false,
       [](auto& c, const Tree& t, Finish f) {
         c.setattr(cut_to(t.large, 70'000), {}, tell<wire::Attr>(std::move(f)));
       }},
      {"delete a large file", false,
       [](auto& c, const Tree& t, Finish f) { c.unlink(t.two, "large", {}, done(std::move(f))); }}};
  return all;
}

Tree prepare(Scenario& s) {
  Tree t;
  t.one = s.mkdir(kRoot, "one").value().ino;
  t.two = s.mkdir(kRoot, "two").value().ino;
  t.empty = s.mkdir(t.one, "empty").value().ino;
  REQUIRE(s.mkdir(t.two, "emptytoo").has_value());
  t.small = s.make_file(t.one, "small", pattern(60'000, 2));
  s.make_file(t.two, "victim", pattern(30'000, 3));
  t.large = s.make_file(t.two, "large", pattern(300'000, 4));
  auto opened = ask<wire::Attr>(s.cluster(), 0, [&](auto& c, auto answer) {
    c.open(t.small, true, false, {}, std::move(answer));
  });
  REQUIRE(opened.has_value());
  s.cluster().run_for(seconds(8));  // content is synced within 5 s
  return t;
}

// Whether the operation got through before the crash.
bool crash_after(const Step& step, Crash how, std::uint64_t changes, const std::string& old_tree,
                 const std::string& new_tree) {
  CAPTURE(changes);
  Scenario s(77, 2);
  Tree t = prepare(s);
  bool answered = false;
  step.call(s.cluster().client(0), t, [&](Code) { answered = true; });
  s.cluster().touch_client(0);
  s.cluster().crash_volcano_after(changes, how);
  // What an operation leaves to do after its answer is done in seconds.
  s.cluster().run_until([&] { return !s.cluster().volcano_runs(); }, seconds(8));
  const bool got_through = s.cluster().volcano_runs();
  if (got_through) s.cluster().crash_volcano(how);
  const bool was_answered = answered;
  s.cluster().vanish_client(0);
  auto problem = fsck_problem(s.cluster());
  CHECK_MESSAGE(!problem.has_value(), problem.value_or(""));
  s.restart();
  sometimes("crash steps");
  auto walked = walk_tree(s.cluster(), 1);
  const std::string refusal = walked ? "" : walked.error().detail;
  CAPTURE(refusal);
  CHECK(walked.has_value());
  if (!walked) return got_through;
  std::string tree = dump_of(walked->model);
  const bool content_may_be_lost = step.moves_content && how == Crash::power_cut;
  if (content_may_be_lost) {
    // The 60,000 bytes that were synced must be there whatever became of the new ones.
    auto bytes = s.read(t.small, 0, 60'000, 1);
    CHECK(bytes.has_value());
    const Bytes wanted = pattern(60'000, 2);
    std::size_t same = 0;
    while (bytes && same < bytes->size() && same < wanted.size() && (*bytes)[same] == wanted[same])
      ++same;
    CHECK(same == wanted.size());
  } else if (was_answered && how == Crash::kill) {
    CHECK(tree == new_tree);
  } else {
    CHECK((tree == old_tree || tree == new_tree));
    if (tree != old_tree && tree != new_tree) MESSAGE("tree is:\n" << tree);
  }
  // And it is a tree to work on: what recovery left under way ends.
  CHECK(s.mkdir(t.one, "alive", 1).has_value());
  s.cluster().run_for(seconds(3));
  s.crash(Crash::kill);
  problem = fsck_problem(s.cluster());
  CHECK_MESSAGE(!problem.has_value(), problem.value_or(""));
  return got_through;
}

void crash_everywhere(Crash how) {
  for (const Step& step : steps()) {
    const std::string name = step.name;
    CAPTURE(name);
    std::string old_tree, new_tree;
    {
      Scenario s(77, 2);
      Tree t = prepare(s);
      old_tree = s.dump(1);
      Code code = Code::fault;
      step.call(s.cluster().client(0), t, [&](Code c) { code = c; });
      s.cluster().touch_client(0);
      REQUIRE(s.cluster().run_until([&] { return code != Code::fault; }, seconds(60)));
      REQUIRE(name_of(code) == name_of(Code{}));
      s.cluster().run_for(seconds(2));
      new_tree = s.dump(1);
      REQUIRE(old_tree != new_tree);
    }
    std::uint64_t changes = 0;
    while (changes < kStepsMax && !crash_after(step, how, changes, old_tree, new_tree)) ++changes;
    CHECK(changes > 3);  // it never struck
    CHECK(changes < kStepsMax);
  }
}

}  // namespace

TEST_CASE("crash at every step: kill") { crash_everywhere(Crash::kill); }

TEST_CASE("crash at every step: power cut") { crash_everywhere(Crash::power_cut); }
