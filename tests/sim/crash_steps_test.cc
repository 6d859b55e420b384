// A crash at every step: the process dies after the k-th change of the disk, for k = 1, 2, 3, ...
// until the operation gets through. After the restart another client sees exactly the old or
// exactly the new tree, never anything between, and the storage is clean. Everything older was
// synced, so this holds for power cuts as for kills.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "libmagma/crypto/path_hash.h"
#include "magmad/store/metadata_store.h"
#include "tests/lib/sometimes.h"
#include "tests/sim/scenario.h"

using namespace magma;
using namespace magma::test;

namespace {

const Ino kRoot = root_ino();
constexpr unsigned kManyParts = 997;
unsigned parts_now = 0;  // of the scenarios of the case that runs
constexpr std::uint64_t kStepsMax = 200;
constexpr std::uint64_t kChunk = 64u << 20;
constexpr std::uint64_t kBorderSize = kChunk + 50'000;  // of the file over a chunk border

struct Tree {
  Ino one, two, small, large, empty;
  Ino more{};  // of what a step makes for itself
};

enum class Content : std::uint8_t {
  stays,
  moves,  // new content may be lost by a power cut: only what was there before is compared
  pages,  // each page of `more` is the old or the new one: what is asked takes several requests
};

struct Step {
  const char* name;
  Content content;
  std::function<void(client::Client&, const Tree&, UniqueFunction<void(Code)>)> call;
  std::function<void(Scenario&, Tree&)> prepare = {};
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

wire::RenameRequest exchange(Ino from, const char* name, Ino to, const char* other) {
  return {from, name, to, other, wire::kRenameExchange};
}

// Directories that can be told from each other: both/ has a file and a directory, and two/sides a
// file only.
void make_directories(Scenario& s, Tree& t) {
  Ino both = s.mkdir(t.one, "both").value().ino;
  Ino sides = s.mkdir(t.two, "sides").value().ino;
  s.make_file(both, "here", pattern(100, 5));
  REQUIRE(s.mkdir(both, "below").has_value());
  s.make_file(sides, "there", pattern(200, 6));
}

void link_to(Scenario& s, Ino ino, Ino dir, const char* name) {
  auto linked = ask<wire::EntryReply>(s.cluster(), 0, [&](auto& c, auto answer) {
    c.link({ino, dir, name}, {}, std::move(answer));
  });
  REQUIRE(linked.has_value());
}

void make_links(Scenario& s, Tree& t) {
  t.more = s.make_file(t.one, "linked", pattern(90'000, 7));
  link_to(s, t.more, t.two, "far");
}

// One name, and that in another directory than its home's.
void make_remote(Scenario& s, Tree& t) {
  make_links(s, t);
  REQUIRE(s.unlink(t.one, "linked").has_value());
}

void make_border_file(Scenario& s, Tree& t) {
  auto file = s.create(t.two, "border");
  REQUIRE(file.has_value());
  t.more = file->ino;
  REQUIRE(s.write(t.more, kChunk - 50'000, pattern(100'000, 10)).has_value());
  REQUIRE(s.fsync(t.more).has_value());
}

// As the mount does it: a request for each chunk.
void punch(client::Client& c, wire::FallocateRequest request, Finish finish) {
  c.fallocate(request, {},
              [&c, request, finish = std::move(finish)](
                  Result<wire::FallocateReply> reply) mutable {
                if (!reply) return finish(reply.error().code);
                if (reply->next == request.offset + request.length) return finish({});
                request.from = reply->next;
                punch(c, request, std::move(finish));
              });
}

const std::vector<Step>& steps() {
  constexpr Content kStays = Content::stays;
  static const std::vector<Step> all = {
      {"mkdir", kStays,
       [](auto& c, const Tree& t, Finish f) {
         c.mkdir(mkdir_request(t.one, "new"), {}, tell<wire::EntryReply>(std::move(f)));
       }},
      {"rmdir", kStays,
       [](auto& c, const Tree& t, Finish f) { c.rmdir(t.one, "empty", {}, done(std::move(f))); }},
      {"rename a file across", kStays,
       [](auto& c, const Tree& t, Finish f) {
         c.rename({t.one, "small", t.two, "moved", 0}, {}, done(std::move(f)));
       }},
      {"rename a file over another across", kStays,
       [](auto& c, const Tree& t, Finish f) {
         c.rename({t.one, "small", t.two, "victim", 0}, {}, done(std::move(f)));
       }},
      {"rename a directory across", kStays,
       [](auto& c, const Tree& t, Finish f) {
         c.rename({t.one, "empty", t.two, "moved", 0}, {}, done(std::move(f)));
       }},
      {"rename a directory over another across", kStays,
       [](auto& c, const Tree& t, Finish f) {
         c.rename({t.one, "empty", t.two, "emptytoo", 0}, {}, done(std::move(f)));
       }},
      {"link across", kStays,
       [](auto& c, const Tree& t, Finish f) {
         c.link({t.small, t.two, "linked"}, {}, tell<wire::EntryReply>(std::move(f)));
       }},
      {"exchange two files across", kStays,
       [](auto& c, const Tree& t, Finish f) {
         c.rename(exchange(t.one, "small", t.two, "victim"), {}, done(std::move(f)));
       }},
      {"exchange two directories across", kStays,
       [](auto& c, const Tree& t, Finish f) {
         c.rename(exchange(t.one, "both", t.two, "sides"), {}, done(std::move(f)));
       },
       make_directories},
      {"exchange a file and a directory across", kStays,
       [](auto& c, const Tree& t, Finish f) {
         c.rename(exchange(t.one, "both", t.two, "victim"), {}, done(std::move(f)));
       },
       make_directories},
      {"exchange a directory and a file across", kStays,
       [](auto& c, const Tree& t, Finish f) {
         c.rename(exchange(t.one, "small", t.two, "sides"), {}, done(std::move(f)));
       },
       make_directories},
      {"unlink of a remote link", kStays,
       [](auto& c, const Tree& t, Finish f) { c.unlink(t.two, "far", {}, done(std::move(f))); },
       make_links},
      {"unlink of the last link, a remote one", kStays,
       [](auto& c, const Tree& t, Finish f) { c.unlink(t.two, "far", {}, done(std::move(f))); },
       make_remote},
      {"punch over a chunk border", Content::pages,
       [](auto& c, const Tree& t, Finish f) {
         punch(c,
               {.ino = t.more,
                .mode = wire::kFallocateKeepSize | wire::kFallocatePunchHole,
                .offset = kChunk - 20'000,
                .length = 50'000,
                .from = kChunk - 20'000,
                .kill_suidgid = false,
                .key_for_chunks = {}},
               std::move(f));
       },
       make_border_file},
      {"copy into a file that spills", Content::moves,
       [](auto& c, const Tree& t, Finish f) {
         c.copy(t.large, 1000, t.small, 60'000, 30'000, false, {},
                tell<std::uint64_t>(std::move(f)));
       }},
      {"spill", Content::moves,
       [](auto& c, const Tree& t, Finish f) {
         c.write(t.small, 60'000, pattern(30'000, 8), false, false, {},
                 tell<wire::WriteReply>(std::move(f)));
       }},
      {"truncate a large file", kStays,
       [](auto& c, const Tree& t, Finish f) {
         c.setattr(cut_to(t.large, 70'000), {}, tell<wire::Attr>(std::move(f)));
       }},
      {"make a large file larger", kStays,
       [](auto& c, const Tree& t, Finish f) {
         c.setattr(cut_to(t.large, 500'000), {}, tell<wire::Attr>(std::move(f)));
       }},
      {"delete a large file", kStays,
       [](auto& c, const Tree& t, Finish f) { c.unlink(t.two, "large", {}, done(std::move(f))); }}};
  return all;
}

Tree prepare(const Step& step, Scenario& s) {
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
  if (step.prepare) step.prepare(s, t);
  s.cluster().run_for(seconds(8));  // content is synced within 5 s
  return t;
}

// The 60,000 bytes that were synced must be there whatever became of the new ones.
void check_old_beginning(Scenario& s, const Tree& t) {
  auto bytes = s.read(t.small, 0, 60'000, 1);
  CHECK(bytes.has_value());
  const Bytes wanted = pattern(60'000, 2);
  std::size_t same = 0;
  while (bytes && same < bytes->size() && same < wanted.size() && (*bytes)[same] == wanted[same])
    ++same;
  CHECK(same == wanted.size());
}

// Of the file over a chunk border: as it was, or with the hole, page by page. `whole`: all of the
// hole is there.
void check_border_pages(Scenario& s, const Tree& t, bool whole) {
  constexpr std::uint64_t kBegin = kChunk - 50'000;
  Bytes old = pattern(100'000, 10), punched = old;
  std::fill_n(punched.begin() + 30'000, 50'000, std::uint8_t{0});
  auto attr = s.getattr(t.more, 1);
  CHECK((attr && attr->size == kBorderSize));
  auto before = s.read(t.more, kBegin - 100'000, 100'000, 1);
  CHECK((before && *before == Bytes(100'000)));
  auto bytes = s.read(t.more, kBegin, 200'000, 1);
  CHECK(bytes.has_value());
  CHECK((!bytes || bytes->size() == old.size()));
  if (!bytes || bytes->size() != old.size()) return;
  if (whole) CHECK(*bytes == punched);
  for (std::size_t at = 0, next = 0; at < old.size(); at = next) {
    next = std::min(old.size(), static_cast<std::size_t>(at + 4096 - (kBegin + at) % 4096));
    auto is_of = [&](const Bytes& other) {
      return std::equal(bytes->begin() + static_cast<std::ptrdiff_t>(at),
                        bytes->begin() + static_cast<std::ptrdiff_t>(next),
                        other.begin() + static_cast<std::ptrdiff_t>(at));
    };
    CAPTURE(at);
    CHECK((is_of(old) || is_of(punched)));
  }
}

// And it is a tree to work on: what recovery left under way ends.
void check_alive(Scenario& s, const Tree& t) {
  CHECK(s.mkdir(t.one, "alive", 1).has_value());
  s.cluster().run_for(seconds(3));
  s.crash(Crash::kill);
  auto problem = fsck_problem(s.cluster());
  CHECK_MESSAGE(!problem.has_value(), problem.value_or(""));
}

// Whether the operation got through before the crash.
bool crash_after(const Step& step, Crash how, std::uint64_t changes, const std::string& old_tree,
                 const std::string& new_tree) {
  CAPTURE(changes);
  Scenario s(77, 2, 0, parts_now);
  Tree t = prepare(step, s);
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
  if (step.content == Content::pages) {
    check_border_pages(s, t, was_answered && how == Crash::kill);
    check_alive(s, t);
    return got_through;
  }
  auto walked = walk_tree(s.cluster(), 1);
  const std::string refusal = walked ? "" : walked.error().detail;
  CAPTURE(refusal);
  CHECK(walked.has_value());
  if (!walked) return got_through;
  std::string tree = dump_of(walked->model);
  if (step.content == Content::moves && how == Crash::power_cut) {
    check_old_beginning(s, t);
  } else if (was_answered && how == Crash::kill) {
    CHECK(tree == new_tree);
  } else {
    CHECK((tree == old_tree || tree == new_tree));
    if (tree != old_tree && tree != new_tree) MESSAGE("tree is:\n" << tree);
  }
  check_alive(s, t);
  return got_through;
}

// The same, and the client that asked lives: it asks again until it is answered, and then all is
// done, and once. Whether the operation got through before the crash.
bool crash_and_go_on(const Step& step, std::uint64_t changes, const std::string& new_tree) {
  CAPTURE(changes);
  Scenario s(77, 2, 0, parts_now);
  Tree t = prepare(step, s);
  Code code = Code::fault;
  step.call(s.cluster().client(0), t, [&](Code c) { code = c; });
  s.cluster().touch_client(0);
  s.cluster().crash_volcano_after(changes, Crash::kill);
  s.cluster().run_until([&] { return !s.cluster().volcano_runs(); }, seconds(8));
  const bool got_through = s.cluster().volcano_runs();
  if (got_through) s.cluster().crash_volcano(Crash::kill);
  s.restart();
  CHECK(s.cluster().run_until([&] { return code != Code::fault; }, seconds(60)));
  CHECK(name_of(code) == name_of(Code{}));
  s.cluster().run_for(seconds(2));
  const std::string tree = s.dump(1);
  CHECK(tree == new_tree);
  check_alive(s, t);
  return got_through;
}

void crash_everywhere(Crash how, bool goes_on = false, unsigned parts = 0) {
  parts_now = parts;
  for (const Step& step : steps()) {
    const std::string name = step.name;
    CAPTURE(name);
    std::string old_tree, new_tree;
    {
      Scenario s(77, 2, 0, parts_now);
      Tree t = prepare(step, s);
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
    // A short run, or a slow build, has every fifth step, of each operation others.
    const std::uint64_t stride = sim_options().seeds < 200 ? 5 : 1;
    std::uint64_t changes = name.size() % stride;
    auto crashed_in_vain = [&] {
      return goes_on ? crash_and_go_on(step, changes, new_tree)
                     : crash_after(step, how, changes, old_tree, new_tree);
    };
    while (changes < kStepsMax && !crashed_in_vain()) changes += stride;
    CHECK(changes > 3);  // it never struck
    CHECK(changes < kStepsMax);
  }
}

}  // namespace

TEST_CASE("crash at every step: kill") { crash_everywhere(Crash::kill); }

TEST_CASE("crash at every step: kill, and the asker goes on") {
  crash_everywhere(Crash::kill, true);
}

TEST_CASE("crash at every step: power cut") { crash_everywhere(Crash::power_cut); }

// Nearly every slot is as if of another volcano.
TEST_CASE("crash at every step: kill, slots of other volcanoes") {
  crash_everywhere(Crash::kill, false, kManyParts);
}

TEST_CASE("crash at every step: kill, and the asker goes on, slots of other volcanoes") {
  if (sim_options().seeds < 200) return;  // a short run, or a slow build: the case before has most
  crash_everywhere(Crash::kill, true, kManyParts);
}

// The entry and the inode it leads to lie in two databases, and neither was synced.
TEST_CASE("crash at every step: power cut after a link to a file that was just made") {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    bool got_through = false;
    for (std::uint64_t changes = 0; changes < kStepsMax && !got_through; ++changes) {
      CAPTURE(seed);
      CAPTURE(changes);
      Scenario s(seed, 2);
      Ino one = s.mkdir(kRoot, "one").value().ino;
      Ino two = s.mkdir(kRoot, "two").value().ino;
      s.cluster().run_for(seconds(8));
      Ino file = s.create(one, "file").value().ino;
      bool answered = false;
      s.cluster().client(0).link({file, two, "linked"}, {},
                                 [&](Result<wire::EntryReply>) { answered = true; });
      s.cluster().touch_client(0);
      s.cluster().crash_volcano_after(changes, Crash::power_cut);
      s.cluster().run_until([&] { return answered || !s.cluster().volcano_runs(); }, seconds(8));
      got_through = s.cluster().volcano_runs();
      if (got_through) s.cluster().crash_volcano(Crash::power_cut);
      s.cluster().vanish_client(0);
      CHECK_FALSE(fsck_problem(s.cluster()).has_value());
      s.restart();
      s.cluster().run_for(seconds(3));
      auto walked = walk_tree(s.cluster(), 1);
      CHECK(walked.has_value());
      for (NodeId id : walked ? walked->model.all() : std::vector<NodeId>{})
        if (!walked->model.find(id)->is_directory())
          CHECK(walked->model.find(id)->nlink == walked->model.paths_of(id).size());
    }
    CHECK(got_through);
  }
}

// Each of two changes is answered in one database and has bytes or the size in the other's:
// whichever is committed first, a kill in between must not leave an answer without what it tells
// of, nor do a change twice.
void crash_crossing_writes(std::uint64_t size, std::uint64_t offset, bool append) {
  // A name in the root whose file has its size in database `size_in` and its second chunk in
  // `chunk_in`.
  auto name_with = [](unsigned size_in, unsigned chunk_in) {
    for (unsigned i = 0;; ++i) {
      const std::string name = "file" + std::to_string(i);
      const ring::Key key = crypto::key_of_path("/" + name);
      if (key.slot().value % store::kDatabases == size_in &&
          crypto::key_of_chunk(key, 1).slot().value % store::kDatabases == chunk_in)
        return name;
    }
  };
  const std::string names[] = {name_with(1, 2), name_with(2, 1)};
  const Bytes added = pattern(2000, 9);
  std::uint64_t changes = 0;
  for (bool got_through = false; !got_through; ++changes) {
    REQUIRE(changes < kStepsMax);
    CAPTURE(changes);
    Scenario s(78, 2);
    std::vector<Ino> files;
    for (const std::string& name : names) {
      files.push_back(s.create(kRoot, name).value().ino);
      REQUIRE(s.write(files.back(), size - 1000, pattern(1000, 3)).has_value());
    }
    unsigned answered = 0;
    for (Ino ino : files)
      s.cluster().client(0).write(ino, offset, added, append, false, {},
                                  [&](Result<wire::WriteReply> reply) {
                                    CHECK(reply.has_value());
                                    ++answered;
                                  });
    s.cluster().touch_client(0);
    s.cluster().crash_volcano_after(changes, Crash::kill);
    s.cluster().run_until([&] { return answered == 2 || !s.cluster().volcano_runs(); }, seconds(8));
    got_through = s.cluster().volcano_runs();
    if (got_through) s.cluster().crash_volcano(Crash::kill);
    s.restart();
    REQUIRE(s.cluster().run_until([&] { return answered == 2; }, seconds(60)));
    for (Ino ino : files) {
      auto bytes = s.read(ino, append ? size : offset, 4000, 1);
      REQUIRE(bytes.has_value());
      CHECK(*bytes == added);
    }
    s.crash(Crash::kill);
    CHECK_FALSE(fsck_problem(s.cluster()).has_value());
  }
  CHECK(changes > 3);
}

TEST_CASE("crash at every step: kill, writes of one batch that cross") {
  crash_crossing_writes(kChunk + 1000, kChunk + 500, false);
}

TEST_CASE("crash at every step: kill, appends over a chunk border that cross") {
  crash_crossing_writes(kChunk - 1000, 0, true);
}
