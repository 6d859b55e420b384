// chown(2), lchown(2), fchown(2), fchownat(2): who may give what to whom, ids of every size, suid
// and sgid that go, times.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

constexpr uid_t kSame = uid_t(-1);

std::string try_chown(const std::string& path, uid_t uid, gid_t gid) {
  return did(::chown(path.c_str(), uid, gid));
}

TEST_CASE("chown: every kind of file, ids of every size") {
  const Scratch dir("chown");
  make_file(dir / "file");
  make_dir(dir / "dir");
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0644) == 0);
  REQUIRE(::mknod((dir / "sock").c_str(), S_IFSOCK | 0644, 0) == 0);
  REQUIRE(::mknod((dir / "char").c_str(), S_IFCHR | 0644, makedev(1, 3)) == 0);
  for (const char* name : {"file", "dir", "fifo", "sock", "char"}) {
    for (const uid_t id : {1U, 65534U, 65535U, 65536U, 70'000U, 0x7fffffffU, 0xfffffffeU, 0U}) {
      CAPTURE(name);
      CAPTURE(id);
      CHECK(try_chown(dir / name, id, id ^ 2) == "ok");
      CHECK(info(dir / name).st_uid == id);
      CHECK(info(dir / name).st_gid == (id ^ 2));
    }
    CHECK(try_chown(dir / name, 5, kSame) == "ok");
    CHECK(info(dir / name).st_gid == 2);
    CHECK(try_chown(dir / name, kSame, 6) == "ok");
    CHECK(info(dir / name).st_uid == 5);
    CHECK(info(dir / name).st_gid == 6);
  }
}

TEST_CASE("chown: ctime moves and nothing else") {
  const Scratch dir("chown");
  make_file(dir / "file", "abc");
  make_dir(dir / "dir");
  for (const char* name : {"file", "dir"}) {
    for (const uid_t uid : {5U, 5U, kSame}) {
      CAPTURE(name);
      CAPTURE(uid);
      Watch watch({dir / name, dir.path()});
      CHECK(try_chown(dir / name, uid, kSame) == "ok");
      CHECK(watch.moved() == "c =");
    }
  }
}

TEST_CASE("chown: links, descriptors, flags") {
  const Scratch dir("chown");
  make_file(dir / "file");
  REQUIRE(::symlink("file", (dir / "link").c_str()) == 0);
  REQUIRE(::symlink("none", (dir / "dangling").c_str()) == 0);
  const auto owner = [&](const char* name) { return info(dir / name).st_uid; };
  CHECK(try_chown(dir / "link", 5, 5) == "ok");
  CHECK(owner("file") == 5);
  CHECK(owner("link") == 0);
  CHECK(did(::lchown((dir / "link").c_str(), 6, 6)) == "ok");
  CHECK(owner("file") == 5);
  CHECK(owner("link") == 6);
  CHECK(try_chown(dir / "dangling", 7, 7) == "ENOENT");
  CHECK(did(::lchown((dir / "dangling").c_str(), 7, 7)) == "ok");
  CHECK(owner("dangling") == 7);

  const Fd folder = must_open(dir.path(), O_RDONLY | O_DIRECTORY);
  const Fd file = must_open(dir / "file", O_RDONLY);
  const Fd path = must_open(dir / "file", O_PATH);
  const auto chownat = [](int at, const char* name, uid_t uid, int flags) {
    return did(::fchownat(at, name, uid, kSame, flags));
  };
  CHECK(did(::fchown(file, 8, 8)) == "ok");
  CHECK(owner("file") == 8);
  CHECK(chownat(folder, "link", 9, 0) == "ok");
  CHECK(owner("file") == 9);
  CHECK(chownat(folder, "link", 10, AT_SYMLINK_NOFOLLOW) == "ok");
  CHECK(owner("link") == 10);
  CHECK(chownat(file, "", 11, AT_EMPTY_PATH) == "ok");
  CHECK(chownat(path, "", 12, AT_EMPTY_PATH) == "ok");
  CHECK(owner("file") == 12);
  CHECK(chownat(folder, "", 1, 0) == "ENOENT");
  CHECK(chownat(folder, "file", 1, 0x40000) == "EINVAL");
  CHECK(chownat(file, "x", 1, 0) == "ENOTDIR");
  CHECK(chownat(-1, "x", 1, 0) == "EBADF");
  CHECK(did(::fchown(path, 1, 1)) == "EBADF");
  CHECK(did(::fchown(-1, 1, 1)) == "EBADF");
}

TEST_CASE("chown: what a user may") {
  const Scratch dir("chown");
  make_dir(dir / "secret", 0700);
  make_file(dir / "secret/mine");
  own(dir / "secret/mine", kNobody.uid, kNobody.gid);
  make_file(dir / "mine");
  make_file(dir / "roots", "", 0666);
  const gid_t member = 60101, outside = 60999;
  struct Row {
    const char* path;
    uid_t uid;
    gid_t gid;
    const char* wanted;
  };
  const Row table[] = {
      {"mine", kNobody.uid, kNobody.gid, "ok"},
      {"mine", kNobody.uid, kSame, "ok"},
      {"mine", kSame, member, "ok"},
      {"mine", kNobody.uid, member, "ok"},
      {"mine", kSame, kNobody.gid, "ok"},
      {"mine", kSame, outside, "EPERM"},
      {"mine", 0, kSame, "EPERM"},
      {"mine", kBob.uid, kSame, "EPERM"},
      {"mine", kBob.uid, member, "EPERM"},
      {"roots", kNobody.uid, kSame, "EPERM"},
      {"roots", kSame, kNobody.gid, "EPERM"},
      {"roots", 0, kSame, "EPERM"},
      {"roots", kSame, 0, "EPERM"},
      {"secret/mine", kSame, member, "EACCES"},
      {"none", kSame, member, "ENOENT"},
  };
  for (const auto& row : table) {
    CAPTURE(row.path);
    CAPTURE(row.uid);
    CAPTURE(row.gid);
    own(dir / "mine", kNobody.uid, kNobody.gid);
    const auto call = [&] { return try_chown(dir / row.path, row.uid, row.gid); };
    CHECK(as_user(kNobody.uid, kNobody.gid, {member}, call) == row.wanted);
    if (std::string(row.wanted) == "EPERM") {
      CHECK(info(dir / "mine").st_gid == kNobody.gid);
    }
  }
  // A file in a group its owner left may keep it.
  own(dir / "mine", kNobody.uid, outside);
  CHECK(as_user(kNobody, [&] { return try_chown(dir / "mine", kSame, outside); }) == "ok");
}

TEST_CASE("chown: suid and sgid of programs go, also when root does it") {
  const Scratch dir("chown");
  make_file(dir / "file");
  make_dir(dir / "dir");
  struct Row {
    const char* name;
    mode_t before, by_root, by_owner;
  };
  const Row table[] = {
      {"file", 06777, 0777, 0777},   {"file", 04755, 0755, 0755},   {"file", 02755, 0755, 0755},
      {"file", 04600, 0600, 0600},   {"file", 02710, 0710, 0710},   {"file", 01777, 01777, 01777},
      // Without x for the group the bit meant mandatory locks: it stays for who is in the group.
      {"file", 02644, 02644, 02644}, {"file", 06644, 02644, 02644}, {"file", 02701, 02701, 02701},
      {"dir", 06777, 06777, 06777},  {"dir", 02755, 02755, 02755},
  };
  for (const auto& row : table) {
    CAPTURE(row.name);
    CAPTURE(row.before);
    const auto path = dir / row.name;
    for (const uid_t uid : {5U, kSame}) {
      REQUIRE(::lchown(path.c_str(), kNobody.uid, kNobody.gid) == 0);
      REQUIRE(::chmod(path.c_str(), row.before) == 0);
      CHECK(try_chown(path, uid, kSame) == "ok");
      CHECK(mode_of(path) == row.by_root);
    }
    for (const gid_t gid : {gid_t(60101), kNobody.gid}) {
      REQUIRE(::lchown(path.c_str(), kNobody.uid, kNobody.gid) == 0);
      REQUIRE(::chmod(path.c_str(), row.before) == 0);
      const auto call = [&] { return try_chown(path, kSame, gid); };
      CHECK(as_user(kNobody.uid, kNobody.gid, {60101}, call) == "ok");
      CHECK(mode_of(path) == row.by_owner);
    }
  }
}

TEST_CASE("chown: a refused one leaves suid and ctime alone") {
  const Scratch dir("chown");
  make_file(dir / "file");
  own(dir / "file", kNobody.uid, kNobody.gid);
  REQUIRE(::chmod((dir / "file").c_str(), 06755) == 0);
  Watch watch({dir / "file"});
  CHECK(as_user(kNobody, [&] { return try_chown(dir / "file", 0, 0); }) == "EPERM");
  CHECK(watch.moved() == "=");
  CHECK(mode_of(dir / "file") == 06755);
}

TEST_CASE("chown: supplementary groups count for access, all of them") {
  const Scratch dir("groups");
  make_file(dir / "file", "abc", 0640);
  // More groups than fit in any small fixed array; the wanted one is the last.
  std::vector<gid_t> groups;
  for (gid_t gid = 61'000; gid < 61'300; ++gid) groups.push_back(gid);
  own(dir / "file", 0, groups.back());
  const auto call = [&] { return try_open(dir / "file", O_RDONLY); };
  CHECK(as_user(60001, 60001, groups, call) == "ok");
  own(dir / "file", 0, groups.back() + 1);
  CHECK(as_user(60001, 60001, groups, call) == "EACCES");
  // The same for what only the server can decide: the setgid bit of a new owner's chmod.
  own(dir / "file", 60001, groups.back());
  const auto setgid = [&] { return did(::chmod((dir / "file").c_str(), 02750)); };
  CHECK(as_user(60001, 60001, groups, setgid) == "ok");
  CHECK(mode_of(dir / "file") == 02750);
}

}  // namespace
}  // namespace magma::posix
