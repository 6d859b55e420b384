// A change whose answer was lost is asked for again and must have happened once: over the same
// connection, after the connection died, and after the volcano was killed between its commit and
// the answer. The answer is the first one's: never a false exists or not_found.
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/sim/scenario.h"

using namespace magma;
using namespace magma::test;

namespace {

const Ino kRoot = root_ino();

struct Prepared {
  Ino dir, other, file;
};

using Finish = UniqueFunction<void(Code)>;

template <class T>
client::Done<T> tell(Finish finish) {
  return [finish = std::move(finish)](Result<T> answer) mutable {
    finish(answer ? Code{} : answer.error().code);
  };
}

struct Change {
  const char* name;
  std::function<void(client::Client&, const Prepared&, Finish)> call;
};

const std::vector<Change>& changes() {
  static const std::vector<Change> all = {
      {"mkdir",
       [](auto& c, const Prepared& p, Finish f) {
         c.mkdir(mkdir_request(p.dir, "new"), {}, tell<wire::EntryReply>(std::move(f)));
       }},
      {"rmdir",
       [](auto& c, const Prepared& p, Finish f) {
         c.rmdir(p.dir, "empty", {}, tell<wire::EmptyReply>(std::move(f)));
       }},
      {"create",
       [](auto& c, const Prepared& p, Finish f) {
         c.create(create_request(p.dir, "created"), {}, tell<wire::EntryReply>(std::move(f)));
       }},
      {"symlink",
       [](auto& c, const Prepared& p, Finish f) {
         c.symlink({p.dir, "link", "somewhere"}, {}, tell<wire::EntryReply>(std::move(f)));
       }},
      {"unlink",
       [](auto& c, const Prepared& p, Finish f) {
         c.unlink(p.dir, "victim", {}, tell<wire::EmptyReply>(std::move(f)));
       }},
      {"rename here",
       [](auto& c, const Prepared& p, Finish f) {
         c.rename({p.dir, "victim", p.dir, "renamed", 0}, {}, tell<wire::EmptyReply>(std::move(f)));
       }},
      {"rename across",
       [](auto& c, const Prepared& p, Finish f) {
         c.rename({p.dir, "victim", p.other, "moved", 0}, {}, tell<wire::EmptyReply>(std::move(f)));
       }},
      {"rename of a directory across",
       [](auto& c, const Prepared& p, Finish f) {
         c.rename({p.dir, "empty", p.other, "moved", 0}, {}, tell<wire::EmptyReply>(std::move(f)));
       }},
      {"append",
       [](auto& c, const Prepared& p, Finish f) {
         c.write(p.file, 0, pattern(5000, 7), true, false, {},
                 tell<wire::WriteReply>(std::move(f)));
       }},
      {"append that spills", [](auto& c, const Prepared& p, Finish f) {
         c.write(p.file, 0, pattern(60'000, 7), true, false, {},
                 tell<wire::WriteReply>(std::move(f)));
       }}};
  return all;
}

Prepared prepare(Scenario& s) {
  Prepared p;
  p.dir = s.mkdir(kRoot, "dir").value().ino;
  p.other = s.mkdir(kRoot, "other").value().ino;
  REQUIRE(s.mkdir(p.dir, "empty").has_value());
  s.make_file(p.dir, "victim", pattern(20'000, 3));
  s.make_file(p.other, "there", pattern(10'000, 4));
  p.file = s.create(kRoot, "log").value().ino;
  REQUIRE(s.write(p.file, 0, pattern(20'000, 5)).has_value());
  return p;
}

std::string tree_after(const Change& change) {
  Scenario s(31);
  Prepared p = prepare(s);
  Code code = Code::fault;
  change.call(s.cluster().client(0), p, [&](Code c) { code = c; });
  s.cluster().touch_client(0);
  REQUIRE(s.cluster().run_until([&] { return code != Code::fault; }, seconds(60)));
  REQUIRE(code == Code{});
  return s.dump();
}

enum class Loss { reply, reply_and_connection, reply_and_kill };

void run(const Change& change, Loss loss, const std::string& expected) {
  const std::string name = change.name;
  CAPTURE(name);
  CAPTURE(static_cast<int>(loss));
  Scenario s(31);
  Prepared p = prepare(s);
  const std::string before_it = s.dump();
  const std::uint64_t before = s.cluster().volcano().stats().changes;
  Code code = Code::fault;
  s.cluster().drop_replies(true);
  change.call(s.cluster().client(0), p, [&](Code c) { code = c; });
  s.cluster().touch_client(0);
  s.cluster().run_for(milliseconds(300));
  CHECK(code == Code::fault);
  CHECK(s.cluster().volcano().stats().changes > before);  // it was done; the answer is on its way
  if (loss == Loss::reply_and_connection) s.cluster().run_for(seconds(20));
  if (loss == Loss::reply_and_kill) {
    s.crash(Crash::kill);
    CHECK_FALSE(fsck_problem(s.cluster()).has_value());
    s.restart();
  }
  s.cluster().drop_replies(false);
  const bool answered = s.cluster().run_until([&] { return code != Code::fault; }, seconds(120));
  CHECK(answered);
  if (!answered) return;
  // 20 s without an answer is longer than the lease: then the change may be refused as maybe done,
  // and be done or not.
  const std::string after = s.dump();
  if (loss == Loss::reply_and_connection && code != Code{}) {
    CHECK(class_of(code) == ErrorClass::maybe_done);
    CHECK((after == expected || after == before_it));
    return;
  }
  CHECK(name_of(code) == name_of(Code{}));
  CHECK(after == expected);
}

}  // namespace

TEST_CASE("exactly once: the answer is lost") {
  for (const Change& change : changes()) run(change, Loss::reply, tree_after(change));
}

TEST_CASE("exactly once: the answer is lost and the connection dies") {
  for (const Change& change : changes())
    run(change, Loss::reply_and_connection, tree_after(change));
}

TEST_CASE("exactly once: the volcano is killed between commit and answer") {
  for (const Change& change : changes()) run(change, Loss::reply_and_kill, tree_after(change));
}
