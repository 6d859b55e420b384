// Attributes that are set on a file whose writes are delayed.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include "tests/unit/client_write_back_fixture.h"

namespace magma::test::write_back {
namespace {

const WallTime kThen{77};

TEST_CASE("delayed attributes: three calls go as one request, behind the writes") {
  Rig rig;
  rig.grant();
  CHECK(rig.write(0, "bytes").path == Path::kept);
  wire::SetattrRequest change = set_fields(wire::kSetAtime | wire::kSetMtime);
  change.atime = change.mtime = kThen;
  auto times = rig.set(change);
  REQUIRE(times);
  CHECK(times->mtime == kThen);
  CHECK(times->size == 5);
  CHECK_FALSE(is_believed(*times));
  change = set_fields(wire::kSetUid | wire::kSetGid | wire::kKillSuidGid);
  change.uid = 7;
  change.gid = 8;
  auto owner = rig.set(change);
  REQUIRE(owner);
  CHECK(owner->mtime == kThen);
  auto mode = rig.set_mode(0600);
  REQUIRE(mode);
  CHECK(mode->mode == (S_IFREG | 0600));
  CHECK(mode->uid == 7);
  CHECK(rig.back.sets() == 3);
  CHECK(rig.under_way() == 0);
  CHECK(rig.owner.sets.empty());

  rig.back.when_clean(kFile, rig.now, rig.note("clean"));
  REQUIRE(rig.under_way() == 1);
  CHECK(rig.owner.sets.empty());
  REQUIRE(rig.owner.requests.front().flush.attributes);
  const wire::SetattrRequest sent = *rig.owner.requests.front().flush.attributes;
  CHECK(sent.ino == kFile);
  CHECK(sent.fields_set == (wire::kSetAtime | wire::kSetMtime | wire::kSetUid | wire::kSetGid |
                            wire::kSetMode));
  CHECK(sent.mode == 0600);
  CHECK(sent.uid == 7);
  CHECK(sent.gid == 8);
  CHECK(sent.mtime == kThen);
  CHECK(rig.log.empty());
  rig.answer();
  CHECK(rig.owner.sets.empty());
  CHECK(rig.log == std::vector<std::string>{"clean"});
  CHECK_FALSE(rig.back.has_dirty());
}

TEST_CASE("delayed attributes: a volcano that does not set them with the write is asked after it") {
  Rig rig;
  rig.owner.sets_with_writes = false;
  rig.grant();
  CHECK(rig.write(0, "bytes").path == Path::kept);
  CHECK(rig.set_mode(0600));
  rig.back.when_clean(kFile, rig.now, rig.note("clean"));
  rig.answer();
  CHECK(rig.log.empty());
  CHECK(rig.amended().mode == (S_IFREG | 0600));
  REQUIRE(rig.owner.sets.size() == 1);
  CHECK(rig.owner.sets.front().attributes.change.mode == 0600);
  rig.set_done(rig.owner.attr(kFile));
  CHECK(rig.log == std::vector<std::string>{"clean"});
}

TEST_CASE("delayed attributes: only the last of several writes takes them along") {
  Rig rig;
  rig.grant();
  CHECK(rig.write_big(0) == Path::kept);
  CHECK(rig.write_big(kMiB) == Path::kept);
  CHECK(rig.set_mode(0600));
  rig.back.when_clean(kFile, rig.now, rig.note("clean"));
  CHECK(rig.under_way() == 2);
  for (const auto& request : rig.owner.requests) CHECK_FALSE(request.flush.attributes);
  rig.answer();
  CHECK(rig.owner.sets.empty());
  rig.answer();
  CHECK(rig.owner.sets.size() == 1);
  rig.set_done(rig.owner.attr(kFile));
  CHECK(rig.log == std::vector<std::string>{"clean"});
}

TEST_CASE("delayed attributes: those of a write that is refused are set all the same") {
  Rig rig;
  rig.grant();
  CHECK(rig.write(0, "bytes").path == Path::kept);
  CHECK(rig.set_mode(0600));
  rig.pass(WriteBack::kDelay);
  rig.refuse(Code::no_space);
  REQUIRE(rig.owner.sets.size() == 1);
  rig.set_done(rig.owner.attr(kFile));
  CHECK(rig.back.error_of(kFile)->code == Code::no_space);
  CHECK_FALSE(rig.back.has_dirty());
}

TEST_CASE("delayed attributes: with a write that a lost session took along they are sent again") {
  Rig rig;
  rig.grant();
  CHECK(rig.write(0, "bytes").path == Path::kept);
  CHECK(rig.set_mode(0600));
  rig.pass(WriteBack::kDelay);
  rig.lose_session();
  rig.back.session_renewed(rig.now);
  rig.verified();
  REQUIRE(rig.under_way() == 1);
  CHECK(rig.owner.requests.front().flush.attributes);
  rig.answer();
  CHECK_FALSE(rig.back.has_dirty());
  CHECK_FALSE(rig.back.error_of(kFile));
}

TEST_CASE("delayed attributes: without writes they are sent after a second") {
  Rig rig;
  rig.grant();
  CHECK(rig.set_mode(0600));
  CHECK(rig.back.is_dirty(kFile));
  rig.pass(WriteBack::kDelay - nanoseconds(1));
  CHECK(rig.owner.sets.empty());
  CHECK(rig.back.deadline() <= rig.now + nanoseconds(1));
  rig.pass(nanoseconds(1));
  REQUIRE(rig.owner.sets.size() == 1);
  // What comes meanwhile goes after it.
  CHECK(rig.set_mode(0640));
  rig.set_done(rig.owner.attr(kFile));
  CHECK(rig.back.is_dirty(kFile));
  rig.pass(WriteBack::kDelay);
  REQUIRE(rig.owner.sets.size() == 1);
  CHECK(rig.owner.sets.front().attributes.change.mode == 0640);
  rig.set_done(rig.owner.attr(kFile));
  CHECK_FALSE(rig.back.is_dirty(kFile));
}

TEST_CASE("delayed attributes: whoever is told of the file is told of them") {
  Rig rig;
  rig.grant();
  CHECK(rig.set_mode(0600));
  CHECK(rig.amended().mode == (S_IFREG | 0600));
  CHECK_FALSE(is_believed(rig.amended()));
  rig.back.when_clean(kFile, rig.now, rig.note("clean"));
  CHECK(rig.set_mode(0640) == std::nullopt);  // somebody waits: one after the other
  CHECK(rig.amended().mode == (S_IFREG | 0600));
  rig.set_done(rig.owner.attr(kFile));
  CHECK(rig.amended().mode == (S_IFREG | 0644));
  CHECK(is_believed(rig.amended()));
}

TEST_CASE("delayed attributes: a write after them waits until they are sent") {
  Rig rig;
  rig.grant();
  CHECK(rig.set(set_fields(wire::kSetMtime)));
  CHECK(rig.write(0, "x").path == Path::wait);
  REQUIRE(rig.owner.sets.size() == 1);
  CHECK(rig.write(0, "x").path == Path::wait);
  CHECK(rig.log.empty());
  rig.set_done(rig.owner.attr(kFile));
  CHECK(rig.log == std::vector<std::string>{"later", "later"});
  CHECK(rig.write(0, "x").path == Path::kept);
}

TEST_CASE("delayed attributes: a recall waits for them, and nothing is delayed after it") {
  Rig rig;
  rig.grant();
  CHECK(rig.set_mode(0600));
  rig.back.recalled(kFile, rig.now, rig.note("told"));
  CHECK(rig.log.empty());
  CHECK_FALSE(rig.set_mode(0640));
  rig.set_done(rig.owner.attr(kFile));
  CHECK(rig.log == std::vector<std::string>{"told"});
  CHECK_FALSE(rig.set_mode(0640));
}

TEST_CASE("delayed attributes: what changes more than it says is not delayed") {
  Rig rig;
  CHECK_FALSE(rig.set_mode(0600));  // no token
  rig.grant();
  CHECK_FALSE(rig.set(set_fields(wire::kSetSize)));
  CHECK_FALSE(rig.set(set_fields(wire::kSetMtimeNow)));
  CHECK_FALSE(rig.set(set_fields(wire::kKillSuidGid)));  // it moves the time alone
  CHECK_FALSE(rig.set_mode(04755));
  CHECK_FALSE(rig.back.is_dirty(kFile));
  CHECK(rig.set_mode(0600));
  CHECK_FALSE(rig.back.set({set_fields(wire::kSetMode), 2, 2}, rig.now));  // of another user
  rig.back.forget_attributes(kFile);
  CHECK_FALSE(rig.set_mode(0640));

  const auto refuses = [](auto change) {
    Rig other;
    wire::Attr attr = other.owner.attr(kFile);
    change(attr);
    other.pass(nanoseconds(1));
    other.back.granted(attr, other.now, other.now);
    CHECK(other.write(0, "x").path == Path::kept);
    return !other.set_mode(0600);
  };
  CHECK(refuses([](wire::Attr& attr) { attr.xattr_kinds = wire::kXattrAny; }));
  CHECK(refuses([](wire::Attr& attr) { attr.nlink = 2; }));
  CHECK(refuses([](wire::Attr& attr) { attr.mode |= S_ISGID; }));
  CHECK_FALSE(refuses([](wire::Attr&) {}));
}

TEST_CASE("delayed attributes: names that are changed make what is known of the file unsure") {
  Rig rig;
  rig.grant();
  rig.back.named(kFile, Ino(9), "name");
  rig.back.forget_attributes(Ino(9), "other");
  CHECK(rig.set_mode(0600));
  rig.back.forget_attributes(Ino(9), "name");
  CHECK_FALSE(rig.set_mode(0640));
  rig.back.when_clean(kFile, rig.now, rig.note("clean"));
  CHECK(rig.owner.sets.size() == 1);  // what was set stays
}

TEST_CASE("delayed attributes: one that is refused is told by close") {
  Rig rig;
  rig.grant();
  CHECK(rig.set_mode(0600));
  rig.back.when_clean(kFile, rig.now, rig.note("clean"));
  rig.set_done(fail(Code::no_space));
  CHECK(rig.log == std::vector<std::string>{"clean"});
  REQUIRE(rig.back.error_of(kFile));
  CHECK(rig.back.error_of(kFile)->code == Code::no_space);
  CHECK(rig.owner.lost == std::vector<Ino>{kFile});
  CHECK_FALSE(rig.set_mode(0640));
}

TEST_CASE("delayed attributes: a new session sends them again, if nobody has set others") {
  // Bits: changed by others, under way when it ends, the token is had again.
  for (unsigned bits = 0; bits < 8; ++bits) {
    const bool is_changed = (bits & 1) != 0, is_under_way = (bits & 2) != 0;
    CAPTURE(bits);
    Rig rig;
    rig.grant();
    CHECK(rig.set_mode(0600));
    if (is_under_way) rig.pass(WriteBack::kDelay);
    CHECK(rig.owner.sets.size() == (is_under_way ? 1 : 0));
    rig.back.session_lost(rig.now);
    if (is_under_way) rig.set_done(fail(Code::fenced));
    rig.back.session_renewed(rig.now);
    CHECK(rig.owner.verifies == std::vector<Ino>{kFile});
    if (is_changed) rig.owner.ctime = WallTime{2000};
    if ((bits & 4) != 0) rig.grant();
    rig.verified();
    CHECK(rig.owner.sets.size() == (is_changed ? 0 : 1));
    CHECK(rig.back.error_of(kFile).has_value() == is_changed);
    if (!is_changed) rig.set_done(rig.owner.attr(kFile));
    CHECK_FALSE(rig.back.has_dirty());
  }
}

TEST_CASE("delayed attributes: what the last session has done already is not lost") {
  Rig rig;
  rig.grant();
  CHECK(rig.set_mode(0644));  // as it is
  rig.pass(WriteBack::kDelay);
  rig.back.session_lost(rig.now);
  rig.set_done(fail(Code::fenced));
  rig.back.session_renewed(rig.now);
  rig.owner.ctime = WallTime{2000};
  rig.verified();
  CHECK(rig.owner.sets.empty());
  CHECK_FALSE(rig.back.error_of(kFile));
  CHECK_FALSE(rig.back.has_dirty());
}

TEST_CASE("delayed attributes: what the last session has done, and others since, are told apart") {
  Rig rig;
  rig.grant();
  CHECK(rig.set_mode(0644));  // as it is
  rig.pass(WriteBack::kDelay);
  wire::SetattrRequest change = set_fields(wire::kSetUid);
  change.uid = 7;
  CHECK(rig.set(change));
  rig.back.session_lost(rig.now);
  rig.set_done(fail(Code::fenced));
  rig.back.session_renewed(rig.now);
  rig.owner.ctime = WallTime{2000};  // the first was done, and its answer lost
  rig.grant();
  rig.verified();
  REQUIRE(rig.owner.sets.size() == 1);
  CHECK(rig.owner.sets.front().attributes.change.uid == 7);
  rig.set_done(rig.owner.attr(kFile));
  CHECK_FALSE(rig.back.error_of(kFile));
}

TEST_CASE("delayed attributes: a write that was not delayed moves the ctime, too") {
  Rig rig;
  rig.grant();
  WriteBack::Write through{.ino = kFile, .may_delay = false};
  CHECK(rig.write(through, bytes_of("x")).path == Path::through);
  rig.owner.store(kFile, 0, as_bytes(std::string_view("x")));
  wire::WriteReply reply = rig.owner.reply_of(kFile);
  reply.mtime = rig.owner.ctime = WallTime{2000};
  rig.back.ended_through(kFile, &reply, true, rig.now);
  CHECK(rig.set_mode(0600));
  rig.back.session_lost(rig.now);
  rig.back.session_renewed(rig.now);
  rig.verified();
  CHECK_FALSE(rig.back.error_of(kFile));
  CHECK(rig.owner.sets.size() == 1);
}

TEST_CASE("delayed attributes: a user's writes, which clear set-id bits, do not hinder them") {
  Rig rig;
  rig.grant();
  WriteBack::Write write{.ino = kFile, .kill_suidgid = true};
  CHECK(rig.write(write, bytes_of("x")).path == Path::kept);
  CHECK(rig.set_mode(0600));
}

TEST_CASE("delayed attributes: it is told when they are with the ring") {
  Rig rig;
  rig.grant();
  CHECK(rig.set_mode(0600));
  rig.pass(WriteBack::kDelay);
  CHECK(rig.owner.attributes_told.empty());
  rig.set_done(rig.owner.attr(kFile));
  CHECK(rig.owner.attributes_told.size() == 1);
  CHECK(rig.write(0, "x").path == Path::kept);
  CHECK(rig.set_mode(0600));
  rig.pass(WriteBack::kDelay);
  rig.answer();
  CHECK(rig.owner.attributes_told.size() == 2);
}

TEST_CASE("delayed attributes: gone with the file, and at the end of the client") {
  Rig rig;
  rig.grant();
  CHECK(rig.set_mode(0600));
  rig.back.session_lost(rig.now);
  rig.back.session_renewed(rig.now);
  rig.back.verified(kFile, nullptr, rig.now);
  CHECK(rig.back.error_of(kFile)->code == Code::stale);
  CHECK_FALSE(rig.back.has_dirty());

  Rig other;
  other.grant();
  CHECK(other.set_mode(0600));
  other.back.end();
  CHECK(other.back.error_of(kFile));
  CHECK_FALSE(other.back.has_dirty());
}

}  // namespace
}  // namespace magma::test::write_back
