// Delayed changes of names: bounds, sessions, losses, answers that come inside.
#include <doctest/doctest.h>

#include "tests/unit/client_delayed_names_fixture.h"

using namespace magma;
using namespace magma::test;

TEST_CASE("delayed names: who waits for a directory") {
  Rig rig;
  rig.names.when_clean(kDir, rig.now, rig.note("unknown"));
  rig.names.when_all_clean(rig.now, rig.note("all unknown"));
  rig.grant();
  rig.grant(kOther);
  rig.names.when_clean(kDir, rig.now, rig.note("clean"));
  rig.names.when_all_clean(rig.now, rig.note("all clean"));
  CHECK(rig.log == Names{"unknown", "all unknown", "clean", "all clean"});
  rig.log.clear();

  rig.remove_many(2);
  rig.remove_many(2, kOther);
  rig.names.when_clean(kDir, rig.now, rig.note("one"));
  REQUIRE(rig.under_way() == 1);  // at once, and only it
  CHECK(rig.owner.requests[0].batch.dir == kDir);
  CHECK_FALSE(rig.remove());
  CHECK(rig.remove(kOther));
  rig.names.when_clean(kDir, rig.now, rig.note("two"));
  CHECK(rig.log.empty());
  rig.answer();
  CHECK(rig.log == Names{"one", "two"});
  // The token is still there.
  CHECK(rig.remove());
  CHECK(rig.names.is_dirty(kOther));
}

TEST_CASE("delayed names: who waits for all") {
  Rig rig;
  rig.grant();
  rig.grant(kOther);
  constexpr Ino kThird(3);
  rig.grant(kThird);
  rig.remove_many(2);
  rig.remove_many(2, kOther);
  rig.names.when_all_clean(rig.now, rig.note("all"));
  REQUIRE(rig.under_way() == 2);
  for (Ino dir : {kDir, kOther, kThird}) CHECK_FALSE(rig.remove(dir));
  rig.answer();
  CHECK(rig.log.empty());
  for (Ino dir : {kDir, kOther, kThird}) CHECK_FALSE(rig.remove(dir));
  rig.answer();
  CHECK(rig.log == Names{"all"});
  for (Ino dir : {kDir, kOther, kThird}) CHECK(rig.remove(dir));
}

TEST_CASE("delayed names: who waits may change names again") {
  Rig rig;
  rig.grant();
  rig.remove_many(1);
  rig.names.when_clean(kDir, rig.now, [&] { CHECK(rig.remove()); });
  rig.answer();
  CHECK(rig.names.has_dirty());
  CHECK(rig.names.is_dirty(kDir));
  CHECK(rig.drain() == numbered(1, 2));
  CHECK_FALSE(rig.names.has_dirty());
  rig.names.when_all_clean(rig.now, rig.note("all"));
  CHECK(rig.log == Names{"all"});
}

TEST_CASE("delayed names: what is last, where an inode is, which names are touched") {
  Rig rig;
  CHECK(rig.names.is_last(kDir, 0));
  CHECK(rig.names.dir_of(Ino(100)) == Ino());
  CHECK_FALSE(rig.names.touches(kDir, "a"));
  rig.grant();
  REQUIRE(rig.keep({.name = "a", .ino = Ino(100), .to_name = "b"}));
  REQUIRE(rig.keep({.name = "b", .ino = Ino(100), .to_name = "c"}));
  REQUIRE(rig.keep({.name = "d", .ino = Ino(101)}));
  CHECK_FALSE(rig.names.is_last(kDir, 0));
  auto check = [&](Names touched, Ino first, Ino second) {
    for (const char* name : {"a", "b", "c", "d", "e", "f"}) {
      CAPTURE(name);
      CHECK(rig.names.touches(kDir, name) ==
            (std::find(touched.begin(), touched.end(), name) != touched.end()));
      CHECK_FALSE(rig.names.touches(kOther, name));
    }
    CHECK(rig.names.dir_of(Ino(100)) == first);
    CHECK(rig.names.dir_of(Ino(101)) == second);
  };
  check({"a", "b", "c", "d"}, kDir, kDir);
  rig.pass(DelayedNames::kDelay);
  REQUIRE(rig.under_way() == 1);
  check({"a", "b", "c", "d"}, kDir, kDir);
  CHECK_FALSE(rig.names.is_last(kDir, 2));
  CHECK(rig.names.is_last(kDir, 3));
  REQUIRE(rig.keep({.name = "e", .ino = Ino(102)}));
  CHECK_FALSE(rig.names.is_last(kDir, 3));
  rig.answer_part(1);
  check({"b", "c", "d", "e"}, kDir, kDir);  // one of the two of that inode is done
  rig.pass(DelayedNames::kDelay);
  rig.answer_part(1);
  check({"d", "e"}, Ino(), kDir);
  rig.drain();
  check({}, Ino(), Ino());
  CHECK(rig.names.dir_of(Ino(102)) == Ino());
  CHECK(rig.names.is_last(kDir, 0));
}

TEST_CASE("delayed names: attributes that are told later are amended") {
  Rig rig;
  rig.grant();
  const wire::Attr before = rig.attr();
  auto is_same = [](const wire::Attr& a, const wire::Attr& b) {
    return a.mtime == b.mtime && a.ctime == b.ctime && a.data_version == b.data_version;
  };
  CHECK(is_same(rig.amended(before), before));
  rig.remove_many(3);
  const wire::Attr after = rig.attr();
  CHECK(is_same(rig.amended(before), after));
  CHECK(is_same(rig.amended(after), after));
  wire::Attr other = before;  // of another directory
  other.ino = kOther;
  CHECK(is_same(rig.amended(other), other));
  wire::Attr newer = after;
  ++newer.data_version;
  newer.mtime.ns += 1000;
  newer.ctime.ns += 1000;
  CHECK(is_same(rig.amended(newer), newer));
  wire::Attr owned = before;  // its owner was changed after them
  owned.ctime.ns = after.ctime.ns + 1000;
  owned.uid = 99;
  const wire::Attr amended = rig.amended(owned);
  CHECK(amended.ctime == owned.ctime);
  CHECK(amended.mtime == after.mtime);
  CHECK(amended.data_version == after.data_version);
  CHECK(amended.uid == 99);
  // Also while they are being sent; not after.
  rig.pass(DelayedNames::kDelay);
  CHECK(is_same(rig.amended(before), after));
  rig.answer();
  CHECK(is_same(rig.amended(before), before));
}

TEST_CASE("delayed names: a move that cannot be done is lost") {
  Rig rig;
  rig.grant();
  REQUIRE(rig.keep({.name = "a", .ino = Ino(100), .to_name = "b"}));
  REQUIRE(rig.keep({.name = "c", .ino = Ino(101), .to_name = "d"}));
  REQUIRE(rig.keep({.name = "e", .ino = Ino(102), .to_name = "f"}));
  rig.pass(DelayedNames::kDelay);
  wire::ChangeNamesReply reply;
  reply.done = 2;
  reply.lost = {1, 2, 7};  // of those done
  rig.answer(reply);
  REQUIRE(rig.owner.lost.size() == 1);
  CHECK(rig.owner.lost[0].dir == kDir);
  CHECK(rig.owner.lost[0].step.name == "c");
  CHECK(rig.owner.lost[0].step.to_name == "d");
  CHECK(rig.take_error(kOther) == Code{});
  CHECK(rig.take_error() == Code::io);
  CHECK(rig.take_error() == Code{});
  CHECK(rig.names.has_token(kDir));
  CHECK(rig.drain() == Names{"e"});
  CHECK(rig.owner.lost.size() == 1);
  CHECK(rig.take_error() == Code{});
}

TEST_CASE("delayed names: an error loses what was sent, and tells it") {
  Rig rig;
  rig.grant();
  rig.remove_many(kHurry);
  rig.remove_many(1);
  rig.names.when_all_clean(rig.now, rig.note("all"));
  rig.refuse(Code::io);
  Names lost;
  for (const FakeOwner::Lost& one : rig.owner.lost) lost.push_back(one.step.name);
  CHECK(lost == numbered(0, kHurry));
  CHECK_FALSE(rig.names.has_token(kDir));
  CHECK(rig.names.dir_of(Ino(100)) == Ino());
  CHECK(rig.log.empty());
  REQUIRE(rig.under_way() == 1);  // the newer one has its own luck
  CHECK(rig.batch() == numbered(kHurry, kHurry + 1));
  rig.answer();
  CHECK(rig.log == Names{"all"});
  CHECK_FALSE(rig.names.has_dirty());
  CHECK(rig.owner.lost.size() == kHurry);
  CHECK(rig.take_error() == Code::io);
  CHECK(rig.take_error() == Code{});
}

TEST_CASE("delayed names: too many requests: sent again after a while") {
  Rig rig;
  rig.grant();
  std::size_t many = 0;
  SUBCASE("few") { many = 3; }
  SUBCASE("so many that they hurry") { many = kHurry; }
  rig.remove_many(many);
  rig.pass(DelayedNames::kDelay);
  REQUIRE(rig.under_way() == 1);
  rig.refuse(Code::overloaded);
  CHECK(rig.names.is_dirty(kDir));
  CHECK(rig.names.has_token(kDir));
  CHECK(rig.under_way() == 0);  // not at once
  CHECK(rig.names.deadline() > rig.now);
  CHECK(rig.names.deadline() < rig.now + seconds(10));
  for (int i = 0; i < 3; ++i) rig.pass(milliseconds(1));
  CHECK(rig.under_way() == 0);
  REQUIRE(rig.remove());
  rig.pass(seconds(10));
  REQUIRE(rig.under_way() == 1);
  CHECK(rig.batch() == numbered(0, many + 1));
  rig.answer();
  CHECK_FALSE(rig.names.has_dirty());
  CHECK(rig.owner.lost.empty());
  CHECK(rig.take_error() == Code{});
}

TEST_CASE("delayed names: who waits while there are too many requests") {
  Rig rig;
  rig.grant();
  rig.remove_many(1);
  rig.names.recalled(kDir, rig.now, rig.note("recalled"));
  REQUIRE(rig.under_way() == 1);
  rig.refuse(Code::overloaded);
  CHECK(rig.under_way() == 0);
  CHECK(rig.log.empty());
  rig.pass(seconds(10));
  REQUIRE(rig.under_way() == 1);
  rig.answer();
  CHECK(rig.log == Names{"recalled"});
}

TEST_CASE("delayed names: the end calls who waits") {
  Rig rig;
  rig.grant();
  rig.grant(kOther);
  rig.remove_many(2);
  rig.remove_many(1, kOther);
  rig.names.recalled(kDir, rig.now, rig.note("recalled"));
  rig.names.when_clean(kOther, rig.now, rig.note("clean"));
  rig.names.when_all_clean(rig.now, rig.note("all"));
  CHECK(rig.log.empty());
  REQUIRE(rig.under_way() == 2);
  rig.names.end();
  std::sort(rig.log.begin(), rig.log.end());
  CHECK(rig.log == Names{"all", "clean", "recalled"});
  CHECK_FALSE(rig.names.has_dirty());
  CHECK(rig.names.deadline() == Instant::never());
  CHECK_FALSE(rig.remove());
  // What is answered afterwards is nobody's.
  rig.answer();
  rig.refuse(Code::fenced);
  rig.pass(seconds(1));
  CHECK(rig.under_way() == 0);
  rig.grant();
  CHECK_FALSE(rig.remove());
  rig.names.when_all_clean(rig.now, rig.note("later"));
  CHECK(rig.log.size() == 4);
  rig.names.end();
  CHECK(rig.log.size() == 4);
}

TEST_CASE("delayed names: others are refused while one's changes are not answered") {
  Rig rig;
  rig.grant();
  REQUIRE(rig.remove());
  CHECK_FALSE(rig.remove(kDir, kUid + 1));
  CHECK_FALSE(rig.remove(kDir, kUid, kGid + 1));
  REQUIRE(rig.remove());
  rig.pass(DelayedNames::kDelay);
  REQUIRE(rig.under_way() == 1);
  CHECK_FALSE(rig.remove(kDir, kUid + 1));
  rig.answer();
  REQUIRE(rig.remove(kDir, kUid + 1, kGid + 1));
  CHECK_FALSE(rig.remove());
  rig.pass(DelayedNames::kDelay);
  REQUIRE(rig.under_way() == 1);
  CHECK(rig.owner.requests[0].batch.uid == kUid + 1);
  CHECK(rig.owner.requests[0].batch.gid == kGid + 1);
}

TEST_CASE("delayed names: so many of a directory, and no more") {
  Rig rig;
  rig.grant();
  rig.grant(kOther);
  rig.remove_many(kHurry);  // under way
  std::size_t more = 0;
  while (more < 2 * DelayedNames::kStepsMax && rig.remove()) ++more;
  CHECK(more <= DelayedNames::kStepsMax);
  CHECK(more + kHurry >= DelayedNames::kStepsMax);
  CHECK(rig.remove(kOther));
  CHECK(rig.names.kept() == rig.count);
  rig.answer();
  CHECK(rig.remove());  // there is room again
  CHECK(rig.drain().size() == rig.count - kHurry);
}

TEST_CASE("delayed names: so many directories, and no more") {
  Rig rig;
  for (std::uint64_t i = 0; i < DelayedNames::kDirectoriesMax + 10; ++i) rig.grant(Ino(10 + i));
  CHECK(rig.names.directories() == DelayedNames::kDirectoriesMax);
  const Ino last(10 + DelayedNames::kDirectoriesMax + 9);
  CHECK(rig.remove(last));
  for (std::uint64_t i = 0; i < 50; ++i) rig.grant(Ino(5000 + i));
  CHECK(rig.names.is_dirty(last));  // changes are not forgotten
  CHECK(rig.names.directories() == DelayedNames::kDirectoriesMax);
}

TEST_CASE("delayed names: so many directories that all have changes") {
  Rig rig;
  for (std::uint64_t i = 0; i < DelayedNames::kDirectoriesMax + 10; ++i) {
    const wire::Attr attr = rig.attr(Ino(10 + i));
    rig.names.granted({attr}, rig.now, rig.now);
    rig.names.keep(attr, {.name = "a", .ino = Ino(100)}, kUid, kGid, rig.now);
  }
  CHECK(rig.names.directories() <= DelayedNames::kDirectoriesMax);
}

TEST_CASE("delayed names: an owner that answers inside") {
  Rig rig;
  Names sent;
  rig.owner.on_send = [&] {
    for (std::string& name : rig.answer()) sent.push_back(std::move(name));
  };
  rig.grant();
  rig.grant(kOther);
  // At once, by the timer, for who waits, for a recall, for another map.
  rig.remove_many(kHurry);
  CHECK(sent == numbered(0, kHurry));
  CHECK_FALSE(rig.names.has_dirty());
  rig.remove_many(2);
  rig.remove_many(1, kOther);
  rig.pass(DelayedNames::kDelay);
  CHECK(sent.size() == rig.count);
  rig.remove_many(1);
  rig.names.when_clean(kDir, rig.now, rig.note("clean"));
  CHECK(rig.log == Names{"clean"});
  rig.remove_many(1);
  rig.remove_many(1, kOther);
  rig.names.when_all_clean(rig.now, rig.note("all"));
  CHECK(rig.log == Names{"clean", "all"});
  rig.remove_many(1);
  rig.names.recalled(kDir, rig.now, rig.note("recalled"));
  CHECK(rig.log == Names{"clean", "all", "recalled"});
  rig.remove_many(1, kOther);
  rig.names.forget_tokens(rig.now);
  CHECK_FALSE(rig.names.has_dirty());
  CHECK(sent.size() == rig.count);
  CHECK(rig.names.directories() == 0);
  for (std::size_t i = 0; i < rig.count; ++i) CHECK(rig.names.dir_of(Ino(100 + i)) == Ino());
}

TEST_CASE("delayed names: an owner that does one at a time, inside") {
  Rig rig;
  Names sent;
  rig.owner.on_send = [&] {
    sent.push_back(rig.batch()[0]);
    rig.answer_part(1);
  };
  rig.grant();
  rig.remove_many(10);
  rig.names.recalled(kDir, rig.now, rig.note("recalled"));
  CHECK(sent == numbered(0, 10));
  CHECK(rig.log == Names{"recalled"});
  CHECK_FALSE(rig.names.has_dirty());
  CHECK(rig.names.batches() == 10);
}

TEST_CASE("delayed names: an owner that refuses inside") {
  Rig rig;
  int tries = 0;
  Code code{};
  std::size_t many = 0;
  SUBCASE("too many requests") {
    code = Code::overloaded;
    many = 3;
  }
  SUBCASE("too many requests, and many steps") {
    code = Code::overloaded;
    many = kHurry;
  }
  SUBCASE("another error") {
    code = Code::io;
    many = 3;
  }
  rig.owner.on_send = [&] {
    if (++tries <= 100) rig.refuse(code);
  };
  rig.grant();
  rig.remove_many(many);
  rig.pass(DelayedNames::kDelay);
  CHECK(tries == 1);
  if (code == Code::io) {
    CHECK_FALSE(rig.names.has_dirty());
    CHECK(rig.owner.lost.size() == many);
    return;
  }
  rig.owner.on_send = {};
  CHECK(rig.drain() == numbered(0, many));
}

TEST_CASE("delayed names: numbers that are not known, or come twice") {
  Rig rig;
  rig.grant();
  rig.remove_many(2);
  rig.names.sent(77, fail(Code::io), nullptr, rig.now);
  rig.pass(DelayedNames::kDelay);
  REQUIRE(rig.under_way() == 1);
  const std::uint64_t number = rig.owner.requests[0].number;
  rig.answer();
  rig.remove_many(1);
  rig.names.sent(number, fail(Code::io), nullptr, rig.now);
  CHECK(rig.owner.lost.empty());
  CHECK(rig.drain() == numbered(2, 3));
}
