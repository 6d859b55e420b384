// Delayed changes of names: when they are kept and sent.
#include <doctest/doctest.h>

#include "tests/unit/client_delayed_names_fixture.h"

using namespace magma;
using namespace magma::test;

TEST_CASE("delayed names: nothing is kept without a token") {
  Rig rig;
  CHECK_FALSE(rig.names.has_token(kDir));
  CHECK_FALSE(rig.remove());
  rig.grant(kOther);
  CHECK_FALSE(rig.names.has_token(kDir));
  CHECK_FALSE(rig.remove());
  CHECK_FALSE(rig.names.is_dirty(kDir));
  CHECK_FALSE(rig.names.has_dirty());
  CHECK(rig.names.kept() == 0);
  CHECK(rig.names.deadline() == Instant::never());
  rig.pass(seconds(1));
  CHECK(rig.under_way() == 0);

  DelayedNames off(rig.owner, false);
  off.granted({rig.attr()}, rig.now, rig.now);
  CHECK_FALSE(off.has_token(kDir));
  CHECK_FALSE(off.wants_token(kDir, rig.now));
  CHECK_FALSE(off.wants_token(kDir, rig.now));
}

TEST_CASE("delayed names: the second change within a second wants a token") {
  Rig rig;
  CHECK_FALSE(rig.names.wants_token(kDir, rig.now));
  rig.pass(milliseconds(1));
  CHECK_FALSE(rig.names.wants_token(kOther, rig.now));
  rig.pass(milliseconds(1));
  CHECK(rig.names.wants_token(kDir, rig.now));
  rig.pass(DelayedNames::kSoon);
  CHECK(rig.names.wants_token(kDir, rig.now));
  CHECK_FALSE(rig.names.wants_token(kOther, rig.now));
  rig.pass(DelayedNames::kSoon + nanoseconds(1));
  CHECK_FALSE(rig.names.wants_token(kDir, rig.now));
  rig.pass(milliseconds(1));
  CHECK(rig.names.wants_token(kDir, rig.now));
  // Where changes are delayed already, it is worth one in other directories as well.
  rig.grant();
  REQUIRE(rig.remove());
  CHECK(rig.names.wants_token(Ino(49), rig.now));
  rig.pass(DelayedNames::kSoon + nanoseconds(1));
  CHECK_FALSE(rig.names.wants_token(Ino(48), rig.now));
  // Many others in between: it may be forgotten, which is no harm; the newest are not.
  for (std::uint64_t i = 0; i < 1000; ++i) CHECK_FALSE(rig.names.wants_token(Ino(50 + i), rig.now));
  CHECK(rig.names.wants_token(Ino(50 + 999), rig.now));
}

TEST_CASE("delayed names: the attributes after a change") {
  Rig rig;
  rig.grant();
  const Instant granted_at = rig.now;
  const wire::Attr before = rig.attr();
  wire::Attr last = before;
  for (int i = 0; i < 100; ++i) {
    rig.now = rig.now + nanoseconds(i % 3 == 0 ? 10 : 3'000'000);
    const auto after = rig.remove();
    REQUIRE(after);
    CHECK(after->ino == kDir);
    CHECK(after->mtime > last.mtime);
    CHECK(after->ctime >= after->mtime);
    CHECK(after->data_version == last.data_version + 1);
    CHECK(after->mtime.ns <= before.mtime.ns + (rig.now - granted_at).ns);
    CHECK(after->mode == before.mode);
    last = *after;
  }
  // A change says the time that the attributes have.
  REQUIRE(rig.under_way() == 1);
  const std::vector<wire::NameStep> steps = rig.take().batch.steps;
  for (std::size_t i = 1; i < steps.size(); ++i) CHECK(steps[i].at > steps[i - 1].at);
  CHECK(steps[0].at > before.mtime);
  CHECK(rig.names.kept() == 100);

  // At one moment: a nanosecond each, not less.
  Rig same;
  same.grant();
  WallTime at = same.attr().mtime;
  for (int i = 0; i < 10; ++i) {
    wire::NameStep step{.name = "a", .ino = Ino(100)};
    const auto after = same.names.keep(same.attr(), step, kUid, kGid, same.now);
    REQUIRE(after);
    CHECK(after->mtime > at);
    CHECK(after->mtime.ns <= at.ns + 1);
    at = after->mtime;
  }
}

TEST_CASE("delayed names: times rise when a reply tells the clock, too") {
  Rig rig;
  rig.grant();
  REQUIRE(rig.remove());
  const WallTime first = rig.attr().mtime;
  rig.pass(DelayedNames::kDelay);
  wire::ChangeNamesReply reply;
  reply.done = 1;
  reply.time = first;  // a clock that stood
  rig.answer(reply);
  const auto after = rig.remove();
  REQUIRE(after);
  CHECK(after->mtime > first);
  // It is not ahead of the clock that was told last.
  const Instant told_at = rig.now;
  rig.pass(DelayedNames::kDelay);
  reply.time = {rig.ring_time().ns - 500'000};
  rig.answer(reply);
  const Instant answered_at = rig.now;
  CHECK(answered_at > told_at);
  rig.now = rig.now + milliseconds(5);
  const auto later = rig.remove();
  REQUIRE(later);
  CHECK(later->mtime > after->mtime);
  CHECK(later->mtime.ns <= reply.time.ns + (rig.now - answered_at).ns);
}

TEST_CASE("delayed names: a directory's time does not go back") {
  // Something else that this client asked for has changed the directory later than the grant.
  Rig rig;
  rig.grant();
  rig.now = rig.now + seconds(20);
  rig.attr().mtime = rig.attr().ctime = rig.ring_time();
  ++rig.attr().data_version;
  const WallTime told = rig.attr().mtime;
  const auto after = rig.remove();
  REQUIRE(after);
  CHECK(after->mtime > told);
  CHECK(after->ctime > told);
}

TEST_CASE("delayed names: sent a little later by the timer") {
  Rig rig;
  rig.grant();
  REQUIRE(rig.keep({.name = "a", .ino = Ino(100)}));
  const Instant first = rig.now;
  CHECK(rig.names.deadline() <= first + DelayedNames::kDelay);
  rig.pass(milliseconds(1));
  REQUIRE(rig.keep({.name = "b", .ino = Ino(101), .to_name = "c"}));
  CHECK(rig.names.is_dirty(kDir));
  CHECK(rig.names.has_dirty());
  rig.pass(first + DelayedNames::kDelay - nanoseconds(1) - rig.now);
  CHECK(rig.under_way() == 0);
  CHECK(rig.names.deadline() > rig.now);
  rig.pass(nanoseconds(1));
  REQUIRE(rig.under_way() == 1);
  CHECK(rig.names.deadline() == Instant::never());
  const DelayedNames::Batch& batch = rig.owner.requests[0].batch;
  CHECK(batch.dir == kDir);
  CHECK(batch.uid == kUid);
  CHECK(batch.gid == kGid);
  CHECK(rig.batch() == Names{"a", "b"});
  CHECK(batch.steps[0].ino == Ino(100));
  CHECK(batch.steps[0].to_name.empty());
  CHECK(batch.steps[1].ino == Ino(101));
  CHECK(batch.steps[1].to_name == "c");
  CHECK(batch.steps[1].at == rig.attr().mtime);
  CHECK(rig.names.is_dirty(kDir));
  rig.answer();
  CHECK_FALSE(rig.names.is_dirty(kDir));
  CHECK_FALSE(rig.names.has_dirty());
  CHECK(rig.names.has_token(kDir));
  CHECK(rig.names.kept() == 2);
  CHECK(rig.names.batches() == 1);
  CHECK(rig.owner.lost.empty());
  rig.pass(seconds(1));
  CHECK(rig.under_way() == 0);
  // Each directory has its own time.
  rig.grant(kOther);
  REQUIRE(rig.remove());
  rig.pass(milliseconds(1));
  REQUIRE(rig.remove(kOther));
  rig.pass(milliseconds(1));
  REQUIRE(rig.under_way() == 1);
  CHECK(rig.owner.requests[0].batch.dir == kDir);
  rig.pass(milliseconds(1));
  REQUIRE(rig.under_way() == 2);
  CHECK(rig.owner.requests[1].batch.dir == kOther);
}

TEST_CASE("delayed names: many are sent at once, one request at a time, in order") {
  Rig rig;
  rig.grant();
  rig.remove_many(kHurry - 1);
  CHECK(rig.under_way() == 0);
  rig.remove_many(1);
  REQUIRE(rig.under_way() == 1);
  CHECK(rig.batch() == numbered(0, kHurry));
  rig.remove_many(2 * kHurry + 3);
  rig.pass(seconds(1));
  CHECK(rig.under_way() == 1);
  // What came meanwhile has waited long enough.
  rig.answer();
  REQUIRE(rig.under_way() == 1);
  CHECK(rig.batch()[0] == "n" + std::to_string(kHurry));
  CHECK(rig.drain() == numbered(kHurry, rig.count));
}

TEST_CASE("delayed names: a young change waits for its own time after a reply") {
  Rig rig;
  rig.grant();
  rig.remove_many(kHurry);
  REQUIRE(rig.under_way() == 1);
  rig.pass(milliseconds(10));
  rig.remove_many(1);
  const Instant at = rig.now;
  rig.answer();
  CHECK(rig.under_way() == 0);
  CHECK(rig.names.deadline() <= at + DelayedNames::kDelay);
  rig.pass(DelayedNames::kDelay);
  CHECK(rig.under_way() == 1);
}

TEST_CASE("delayed names: a request has no more than it may") {
  Rig rig;
  rig.grant();
  rig.remove_many(kHurry);
  rig.remove_many(2 * wire::kNameStepsMax + 5);
  Names all = rig.answer();
  for (std::size_t expected : {wire::kNameStepsMax, wire::kNameStepsMax, std::size_t{5}}) {
    rig.pass(DelayedNames::kDelay);
    REQUIRE(rig.under_way() == 1);
    CHECK(rig.batch().size() == expected);
    for (std::string& name : rig.answer()) all.push_back(std::move(name));
  }
  CHECK(all == numbered(0, rig.count));
  CHECK(rig.under_way() == 0);
  CHECK_FALSE(rig.names.has_dirty());
}

TEST_CASE("delayed names: what is not done is sent again before what is newer") {
  Rig rig;
  rig.grant();
  rig.remove_many(5);
  rig.pass(DelayedNames::kDelay);
  rig.remove_many(2);
  rig.answer_part(2);
  CHECK(rig.names.is_dirty(kDir));
  CHECK(rig.names.dir_of(Ino(101)) == Ino());
  CHECK(rig.names.dir_of(Ino(102)) == kDir);
  rig.pass(DelayedNames::kDelay);
  REQUIRE(rig.under_way() == 1);
  CHECK(rig.batch() == numbered(2, 7));
  rig.answer_part(1);
  rig.pass(DelayedNames::kDelay);
  REQUIRE(rig.under_way() == 1);
  CHECK(rig.batch() == numbered(3, 7));
  rig.answer();
  CHECK_FALSE(rig.names.has_dirty());
  CHECK(rig.owner.lost.empty());
  // More than was asked for is no more than all; nothing is an error.
  rig.remove_many(1);
  rig.pass(DelayedNames::kDelay);
  rig.answer_part(1000);
  CHECK_FALSE(rig.names.has_dirty());
  CHECK(rig.take_error() == Code{});
  rig.remove_many(1);
  rig.pass(DelayedNames::kDelay);
  rig.answer_part(0);
  CHECK_FALSE(rig.names.has_dirty());
  CHECK(rig.owner.lost.size() == 1);
  CHECK(rig.take_error() == Code::io);
}

TEST_CASE("delayed names: the next session sends what this one did not") {
  Rig rig;
  rig.grant();
  rig.grant(kOther);
  rig.remove_many(3);
  rig.pass(DelayedNames::kDelay);
  REQUIRE(rig.under_way() == 1);
  rig.remove_many(2);
  rig.names.session_lost();
  CHECK_FALSE(rig.names.has_token(kDir));
  CHECK_FALSE(rig.names.has_token(kOther));
  CHECK_FALSE(rig.remove());
  CHECK_FALSE(rig.remove(kOther));
  rig.names.granted({rig.attr(kOther)}, rig.now, rig.now);
  CHECK_FALSE(rig.names.has_token(kOther));
  SUBCASE("the answer comes before the next session") {
    rig.refuse(Code::fenced);
    rig.pass(seconds(5));
    CHECK(rig.under_way() == 0);
    CHECK(rig.names.is_dirty(kDir));
    CHECK(rig.names.dir_of(Ino(100)) == kDir);
    CHECK(rig.names.touches(kDir, "n0"));
    rig.names.session_renewed(rig.now);
  }
  SUBCASE("the answer comes after it") {
    rig.pass(seconds(5));
    rig.names.session_renewed(rig.now);
    CHECK(rig.under_way() == 1);
    rig.refuse(Code::fenced);
  }
  SUBCASE("somebody waits") {
    rig.names.when_clean(kDir, rig.now, rig.note("clean"));
    rig.names.when_all_clean(rig.now, rig.note("all clean"));
    rig.refuse(Code::fenced);
    rig.pass(seconds(5));
    CHECK(rig.under_way() == 0);
    CHECK(rig.log.empty());
    rig.names.session_renewed(rig.now);
  }
  const std::size_t waiting = rig.log.size();
  CHECK(waiting == 0);
  REQUIRE(rig.under_way() == 1);
  CHECK(rig.batch() == numbered(0, 5));
  CHECK_FALSE(rig.names.has_token(kDir));
  CHECK_FALSE(rig.remove());
  rig.answer();
  CHECK_FALSE(rig.names.has_dirty());
  CHECK_FALSE(rig.names.has_token(kDir));
  CHECK(rig.names.directories() == 0);
  CHECK(rig.owner.lost.empty());
  CHECK(rig.take_error() == Code{});
  // The new session may give it.
  rig.grant();
  CHECK(rig.remove());
}

TEST_CASE("delayed names: a fenced request may be answered before the session is lost") {
  Rig rig;
  rig.grant();
  rig.remove_many(3);
  rig.pass(DelayedNames::kDelay);
  rig.refuse(Code::fenced);
  rig.names.session_lost();
  while (rig.under_way() > 0) rig.refuse(Code::fenced);
  CHECK(rig.names.is_dirty(kDir));
  rig.names.session_renewed(rig.now);
  REQUIRE(rig.under_way() == 1);
  CHECK(rig.batch() == numbered(0, 3));
  rig.answer();
  CHECK_FALSE(rig.names.has_dirty());
  CHECK(rig.owner.lost.empty());
}

TEST_CASE("delayed names: another map sends all, and no token is counted on") {
  Rig rig;
  rig.grant();
  rig.grant(kOther);
  const Instant made_at = rig.now;
  rig.remove_many(2);
  rig.names.forget_tokens(rig.now);
  REQUIRE(rig.under_way() == 1);
  CHECK(rig.batch() == numbered(0, 2));
  CHECK_FALSE(rig.names.has_token(kDir));
  CHECK_FALSE(rig.names.has_token(kOther));
  CHECK_FALSE(rig.remove());
  CHECK_FALSE(rig.remove(kOther));
  rig.pass(milliseconds(1));
  rig.names.granted({rig.attr(kOther)}, made_at, rig.now);
  CHECK_FALSE(rig.names.has_token(kOther));
  rig.answer();
  CHECK_FALSE(rig.names.has_dirty());
  CHECK_FALSE(rig.names.has_token(kDir));
}

TEST_CASE("delayed names: a recall is answered when everything is") {
  Rig rig;
  rig.grant();
  const Instant made_at = rig.now;
  rig.remove_many(kHurry);
  REQUIRE(rig.under_way() == 1);
  rig.remove_many(2);
  rig.names.recalled(kDir, rig.now, rig.note("recalled"));
  const Instant recalled_at = rig.now;
  CHECK_FALSE(rig.names.has_token(kDir));
  CHECK_FALSE(rig.remove());
  CHECK(rig.log.empty());
  rig.answer();
  CHECK(rig.log.empty());
  REQUIRE(rig.under_way() == 1);  // at once
  CHECK(rig.batch() == numbered(kHurry, kHurry + 2));
  rig.answer_part(1);
  CHECK(rig.log.empty());
  REQUIRE(rig.under_way() == 1);
  rig.answer();
  CHECK(rig.log == Names{"recalled"});
  CHECK_FALSE(rig.remove());
  // Answers to what was asked before it give nothing.
  rig.pass(milliseconds(1));
  for (Instant made : {made_at, recalled_at}) {
    rig.names.granted({rig.attr()}, made, rig.now);
    CHECK_FALSE(rig.names.has_token(kDir));
    CHECK_FALSE(rig.remove());
  }
  rig.names.granted({rig.attr()}, recalled_at + nanoseconds(1), rig.now);
  CHECK(rig.names.has_token(kDir));
  CHECK(rig.remove());
}

TEST_CASE("delayed names: a recall that comes before the grant") {
  Rig rig;
  const Instant made_at = rig.now;
  rig.pass(milliseconds(1));
  rig.names.recalled(kDir, rig.now, rig.note("recalled"));
  CHECK(rig.log == Names{"recalled"});
  rig.pass(milliseconds(1));
  rig.names.granted({rig.attr()}, made_at, rig.now);
  rig.names.granted({rig.attr(kOther)}, made_at, rig.now);
  CHECK_FALSE(rig.remove());
  CHECK(rig.remove(kOther));
}

TEST_CASE("delayed names: a recall of a clean directory is answered at once") {
  Rig rig;
  rig.grant();
  rig.names.recalled(kDir, rig.now, rig.note("recalled"));
  CHECK(rig.log == Names{"recalled"});
  CHECK_FALSE(rig.remove());
  CHECK(rig.under_way() == 0);
}

TEST_CASE("delayed names: a grant while changes are not answered changes nothing") {
  Rig rig;
  rig.grant();
  rig.remove_many(1);
  const wire::Attr after = rig.attr();
  rig.names.recalled(kDir, rig.now, rig.note("recalled"));
  rig.pass(milliseconds(1));
  rig.names.granted({rig.attr()}, rig.now, rig.now);
  CHECK_FALSE(rig.names.has_token(kDir));
  CHECK_FALSE(rig.remove());
  rig.answer();
  CHECK(rig.log == Names{"recalled"});
  CHECK(rig.attr().data_version == after.data_version);
}

TEST_CASE("delayed names: a volcano that is nearly full takes the token with the answer") {
  Rig rig;
  rig.grant();
  rig.remove_many(kHurry);
  rig.remove_many(1);
  wire::ChangeNamesReply reply;
  reply.done = kHurry;
  reply.may_delay = false;
  rig.answer(reply);
  CHECK_FALSE(rig.names.has_token(kDir));
  CHECK_FALSE(rig.remove());
  REQUIRE(rig.under_way() == 1);  // at once
  CHECK(rig.batch() == numbered(kHurry, kHurry + 1));
  rig.answer();
  CHECK_FALSE(rig.names.has_dirty());
  CHECK_FALSE(rig.names.has_token(kDir));
}
