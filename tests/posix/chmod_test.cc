// chmod(2), fchmod(2), fchmodat(2): every mode on every kind of file, who may, the setgid bit of
// who is not in the group, times.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

std::string try_chmod(const std::string& path, mode_t mode) {
  return did(::chmod(path.c_str(), mode));
}

TEST_CASE("chmod: every mode on every kind of file by root") {
  const Scratch dir("chmod");
  make_file(dir / "file");
  make_dir(dir / "dir");
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0644) == 0);
  REQUIRE(::mknod((dir / "sock").c_str(), S_IFSOCK | 0644, 0) == 0);
  REQUIRE(::mknod((dir / "char").c_str(), S_IFCHR | 0644, makedev(1, 3)) == 0);
  REQUIRE(::mknod((dir / "block").c_str(), S_IFBLK | 0644, makedev(7, 3)) == 0);
  for (const char* name : {"file", "dir", "fifo", "sock", "char", "block"}) {
    CAPTURE(name);
    const auto type = info(dir / name).st_mode & S_IFMT;
    for (mode_t mode = 0; mode <= 07777; mode += 0111 - 07) {
      CAPTURE(mode);
      REQUIRE(try_chmod(dir / name, mode) == "ok");
      REQUIRE(info(dir / name).st_mode == (type | mode));
    }
    // All bits one by one; bits beyond 07777 are ignored.
    for (mode_t bit = 1; bit <= 04000; bit <<= 1) {
      CAPTURE(bit);
      CHECK(try_chmod(dir / name, bit) == "ok");
      CHECK(mode_of(dir / name) == bit);
    }
    CHECK(try_chmod(dir / name, 0170000 | 0640) == "ok");
    CHECK(info(dir / name).st_mode == (type | 0640));
  }
}

TEST_CASE("chmod: ctime moves and nothing else, also if the mode stays") {
  const Scratch dir("chmod");
  make_file(dir / "file", "abc", 0644);
  make_dir(dir / "dir", 0755);
  for (const char* name : {"file", "dir"}) {
    for (const mode_t mode : {0600U, 0600U, 04711U}) {
      CAPTURE(name);
      CAPTURE(mode);
      Watch watch({dir / name, dir.path()});
      CHECK(try_chmod(dir / name, mode) == "ok");
      CHECK(watch.moved() == "c =");
    }
  }
  Watch watch({dir / "file"});
  CHECK(as_user(kNobody, [&] { return try_chmod(dir / "file", 0600); }) == "EPERM");
  CHECK(watch.moved() == "=");
}

TEST_CASE("chmod: fchmod and fchmodat") {
  const Scratch dir("chmod");
  make_file(dir / "file", "", 0644);
  REQUIRE(::symlink("file", (dir / "link").c_str()) == 0);
  REQUIRE(::symlink("none", (dir / "dangling").c_str()) == 0);
  for (const int flags : {O_RDONLY, O_WRONLY, O_RDWR}) {
    const Fd fd = must_open(dir / "file", flags);
    CHECK(did(::fchmod(fd, 0600 + mode_t(flags))) == "ok");
    CHECK(mode_of(dir / "file") == 0600 + mode_t(flags));
  }
  const Fd folder = must_open(dir.path(), O_RDONLY | O_DIRECTORY);
  CHECK(did(::fchmod(folder, 0711)) == "ok");
  CHECK(mode_of(dir.path()) == 0711);
  CHECK(did(::fchmodat(folder, "file", 0640, 0)) == "ok");
  CHECK(did(::fchmodat(folder, "link", 0604, 0)) == "ok");
  CHECK(mode_of(dir / "file") == 0604);
  CHECK(did(::fchmodat(folder, "dangling", 0604, 0)) == "ENOENT");
  CHECK(did(::fchmodat(folder, "link", 0600, AT_SYMLINK_NOFOLLOW)) == "EOPNOTSUPP");
  CHECK(mode_of(dir / "file") == 0604);
  CHECK(mode_of(dir / "link") == 0777);
  CHECK(did(::fchmodat(folder, "file", 0600, 0x40000)) == "EINVAL");
  const Fd path = must_open(dir / "file", O_PATH);
  CHECK(did(::fchmod(path, 0600)) == "EBADF");
  CHECK(did(::fchmod(-1, 0600)) == "EBADF");
  CHECK(did(::fchmodat(path, "x", 0600, 0)) == "ENOTDIR");
  CHECK(did(::fchmodat(-1, "x", 0600, 0)) == "EBADF");
}

TEST_CASE("chmod: permissions") {
  const Scratch dir("chmod");
  make_dir(dir / "secret", 0700);
  make_file(dir / "secret/mine");
  own(dir / "secret/mine", kNobody.uid, kNobody.gid);
  make_file(dir / "mine", "", 0);
  own(dir / "mine", kNobody.uid, kNobody.gid);
  make_file(dir / "roots", "", 0666);
  make_dir(dir / "roots-dir", 0777);
  const std::pair<const char*, const char*> table[] = {
      {"mine", "ok"},          {"roots", "EPERM"},   {"roots-dir", "EPERM"},
      {"secret/mine", "EACCES"}, {"none", "ENOENT"}, {"mine/x", "ENOTDIR"},
  };
  for (const auto& pair : table) {
    const auto& path = pair.first;
    const auto& wanted = pair.second;
    CAPTURE(path);
    CHECK(as_user(kNobody, [&, p = path] { return try_chmod(dir / p, 0600); }) == wanted);
  }
  // By a descriptor of somebody else's file that may be written: still not.
  const auto by_descriptor = [&] {
    const Fd fd(::open((dir / "roots").c_str(), O_RDWR));
    return did(::fchmod(fd, 0600));
  };
  CHECK(as_user(kNobody, by_descriptor) == "EPERM");
  // The group of the file does not make an owner.
  own(dir / "roots", 0, kTeam);
  CHECK(as_user(60001, kTeam, {}, [&] { return try_chmod(dir / "roots", 0600); }) == "EPERM");
}

TEST_CASE("chmod: the setgid bit goes if the owner is not in the group") {
  const Scratch dir("chmod");
  make_file(dir / "file");
  make_dir(dir / "dir");
  for (const char* name : {"file", "dir"}) {
    struct Row {
      gid_t owned_by;
      mode_t mode, wanted;
    };
    const Row table[] = {
        {kTeam, 02755, 0755},   {kTeam, 06755, 04755},  {kTeam, 02644, 0644},
        {kTeam, 07777, 05777},  {kNobody.gid, 02755, 02755}, {kNobody.gid, 06755, 06755},
        {60101, 02755, 02755},  {60101, 02644, 02644},  {kTeam, 01755, 01755},
    };
    for (const auto& row : table) {
      CAPTURE(name);
      CAPTURE(row.owned_by);
      CAPTURE(row.mode);
      own(dir / name, kNobody.uid, row.owned_by);
      const auto call = [&] { return try_chmod(dir / name, row.mode); };
      CHECK(as_user(kNobody.uid, kNobody.gid, {60101, 60102}, call) == "ok");
      CHECK(mode_of(dir / name) == row.wanted);
      CHECK(call() == "ok");
      CHECK(mode_of(dir / name) == row.mode);
    }
  }
}

TEST_CASE("chmod: open descriptors keep what they may") {
  const Scratch dir("chmod");
  ::chmod(dir.path().c_str(), 0777);
  make_file(dir / "file", "abc", 0666);
  own(dir / "file", kNobody.uid, kNobody.gid);
  const auto outcome = as_user(kNobody, [&] {
    const auto path = dir / "file";
    const Fd fd(::open(path.c_str(), O_RDWR));
    return said({try_chmod(path, 0), try_open(path, O_RDONLY), try_read(fd), try_write(fd),
                 did(::ftruncate(fd, 1)), did(::truncate(path.c_str(), 0))});
  });
  CHECK(outcome == "ok EACCES ok ok ok EACCES");
}

TEST_CASE("chmod: a directory without x hides what is in it at once") {
  const Scratch dir("chmod");
  make_dir(dir / "d", 0755);
  make_file(dir / "d/file", "abc");
  const auto call = [&] { return try_open(dir / "d/file", O_RDONLY); };
  CHECK(as_user(kNobody, call) == "ok");
  REQUIRE(try_chmod(dir / "d", 0744) == "ok");
  CHECK(as_user(kNobody, call) == "EACCES");
  REQUIRE(try_chmod(dir / "d", 0711) == "ok");
  CHECK(as_user(kNobody, call) == "ok");
  REQUIRE(try_chmod(dir / "d/file", 0600) == "ok");
  CHECK(as_user(kNobody, call) == "EACCES");
}

}  // namespace
}  // namespace magma::posix
