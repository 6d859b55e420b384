// symlink(2), readlink(2): targets of every length and of any bytes, short buffers, chains and
// loops, owners and times of links, what follows a link and what does not.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cstring>
#include <fstream>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

std::string try_symlink(const std::string& target, const std::string& path) {
  return did(::symlink(target.c_str(), path.c_str()));
}

std::string target_of(const std::string& path) {
  char buffer[5000];
  const ssize_t size = ::readlink(path.c_str(), buffer, sizeof buffer);
  return size < 0 ? did(size) : std::string(buffer, std::size_t(size));
}

TEST_CASE("symlink: errors as root") {
  const Scratch dir("symlink");
  make_file(dir / "file");
  make_dir(dir / "dir");
  REQUIRE(try_symlink("dir", dir / "dirlink") == "ok");
  REQUIRE(try_symlink("none", dir / "dangling") == "ok");
  REQUIRE(try_symlink("loop", dir / "loop") == "ok");
  const std::pair<std::string, const char*> table[] = {
      {"file", "EEXIST"},      {"dir", "EEXIST"},        {"dir/", "EEXIST"},
      {"dirlink", "EEXIST"},   {"dirlink/", "EEXIST"},   {"dangling", "EEXIST"},
      {"loop", "EEXIST"},      {".", "EEXIST"},          {"dir/..", "EEXIST"},
      {"file/x", "ENOTDIR"},   {"none/x", "ENOENT"},     {"dangling/x", "ENOENT"},
      {"loop/x", "ELOOP"},     {"new/", "ENOENT"},       {std::string(256, 's'), "ENAMETOOLONG"},
      {std::string(255, 's'), "ok"}, {"dirlink/new", "ok"},
  };
  for (const auto& pair : table) {
    const auto& path = pair.first;
    const auto& wanted = pair.second;
    CAPTURE(path);
    CHECK(try_symlink("target", dir / path) == wanted);
  }
  CHECK(try_symlink("target", "") == "ENOENT");
  CHECK(try_symlink("", dir / "new") == "ENOENT");
  CHECK(try_symlink("", dir / "file") == "ENOENT");
  CHECK(try_symlink(std::string(4096, 't'), dir / "new") == "ENAMETOOLONG");
  CHECK_FALSE(exists(dir / "new"));
  const Fd file = must_open(dir / "file", O_RDONLY);
  CHECK(did(::symlinkat("x", file, "y")) == "ENOTDIR");
  CHECK(did(::symlinkat("x", -1, "y")) == "EBADF");
}

TEST_CASE("symlink: targets of every length, of any bytes") {
  const Scratch dir("symlink");
  for (const std::size_t size : {1, 2, 58, 59, 60, 61, 127, 128, 255, 256, 1000, 2047, 2048, 4094,
                                 4095}) {
    CAPTURE(size);
    const auto target = pattern(size, std::uint32_t(size));
    const auto path = dir / std::to_string(size);
    CHECK(try_symlink(target, path) == "ok");
    CHECK(difference(target_of(path), target) == "");
    const auto status = info(path);
    CHECK(status.st_size == off_t(size));
    CHECK(status.st_mode == (S_IFLNK | 0777));
    CHECK(status.st_nlink == 1);
  }
  for (const char* target :
       {"/", "//", ".", "..", "a/", "a//b", " ", "\n", "/none/x", "\xff\xfe"}) {
    CAPTURE(target);
    CHECK(try_symlink(target, dir / "odd") == "ok");
    CHECK(target_of(dir / "odd") == target);
    CHECK(did(::unlink((dir / "odd").c_str())) == "ok");
  }
}

TEST_CASE("symlink: owner, mode, times") {
  const Scratch dir("symlink");
  ::chmod(dir.path().c_str(), 0777);
  const Umask scope(077);
  Watch watch({dir.path()});
  CHECK(as_user(kNobody, [&] { return try_symlink("none", dir / "link"); }) == "ok");
  CHECK(watch.moved() == "mc");
  const auto made = info(dir / "link");
  CHECK(made.st_uid == kNobody.uid);
  CHECK(made.st_gid == kNobody.gid);
  CHECK((made.st_mode & 07777) == 0777);
  CHECK(nanoseconds(made.st_mtim) == nanoseconds(made.st_ctim));
  // The link's own owner and times.
  Watch link({dir / "link", dir.path()});
  CHECK(did(::lchown((dir / "link").c_str(), 5, 6)) == "ok");
  CHECK(info(dir / "link").st_uid == 5);
  CHECK(link.moved() == "c =");
  const timespec times[2] = {{.tv_sec = 1, .tv_nsec = 2}, {.tv_sec = 3, .tv_nsec = 4}};
  CHECK(did(::utimensat(AT_FDCWD, (dir / "link").c_str(), times, AT_SYMLINK_NOFOLLOW)) == "ok");
  CHECK(nanoseconds(info(dir / "link").st_mtim) == 3'000'000'004);
  CHECK(target_of(dir / "link") == "none");
}

TEST_CASE("readlink: errors and buffers") {
  const Scratch dir("readlink");
  make_file(dir / "file");
  make_dir(dir / "dir");
  REQUIRE(try_symlink("0123456789", dir / "link") == "ok");
  REQUIRE(try_symlink("dir", dir / "dirlink") == "ok");
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0644) == 0);
  const std::pair<const char*, const char*> table[] = {
      {"file", "EINVAL"},   {"dir", "EINVAL"},      {"dir/", "EINVAL"},   {"fifo", "EINVAL"},
      {".", "EINVAL"},      {"none", "ENOENT"},     {"file/x", "ENOTDIR"}, {"file/", "ENOTDIR"},
      {"link/", "ENOENT"},  {"dirlink/", "EINVAL"}, {"dirlink", "dir"},
  };
  for (const auto& pair : table) {
    const auto& path = pair.first;
    const auto& wanted = pair.second;
    CAPTURE(path);
    CHECK(target_of(dir / path) == wanted);
  }
  for (std::size_t size = 1; size <= 12; ++size) {
    CAPTURE(size);
    char buffer[16];
    std::memset(buffer, '#', sizeof buffer);
    const std::size_t wanted = std::min<std::size_t>(size, 10);
    CHECK(::readlink((dir / "link").c_str(), buffer, size) == ssize_t(wanted));
    CHECK(std::string(buffer, wanted) == std::string("0123456789").substr(0, wanted));
    CHECK(buffer[wanted] == '#');
  }
  char buffer[16];
  CHECK(did(::syscall(SYS_readlinkat, AT_FDCWD, (dir / "link").c_str(), buffer, 0)) == "EINVAL");
  CHECK(did(::readlinkat(-1, "link", buffer, 16)) == "EBADF");
  const Fd file = must_open(dir / "file", O_RDONLY);
  CHECK(did(::readlinkat(file, "link", buffer, 16)) == "ENOTDIR");
  const Fd link = must_open(dir / "link", O_PATH | O_NOFOLLOW);
  CHECK(::readlinkat(link, "", buffer, 16) == 10);
  // A link may be read by everybody who gets there.
  CHECK(as_user(kNobody, [&] { return target_of(dir / "link"); }) == "0123456789");
}

TEST_CASE("symlink: chains of forty are followed and of forty-one not") {
  const Scratch dir("symlink");
  make_file(dir / "0", "end");
  for (int i = 1; i <= 41; ++i) {
    REQUIRE(try_symlink(std::to_string(i - 1), dir / std::to_string(i)) == "ok");
  }
  CHECK(read_all(dir / "1") == "end");
  CHECK(read_all(dir / "40") == "end");
  CHECK(try_open(dir / "41", O_RDONLY) == "ELOOP");
  struct stat status {};
  CHECK(did(::stat((dir / "41").c_str(), &status)) == "ELOOP");
  CHECK(did(::lstat((dir / "41").c_str(), &status)) == "ok");
  // Loops of one, two and three.
  const std::pair<const char*, const char*> loops[] = {
      {"a", "a"}, {"c", "b"}, {"b", "c"}, {"y/..", "x"}, {"z", "y"}, {"x", "z"}};
  for (const auto& [target, name] : loops) REQUIRE(try_symlink(target, dir / name) == "ok");
  for (const char* name : {"a", "b", "c", "x", "y", "z", "a/q", "x/q"}) {
    CAPTURE(name);
    CHECK(try_open(dir / name, O_RDONLY) == "ELOOP");
  }
}

TEST_CASE("symlink: targets are found from where the link is") {
  const Scratch dir("symlink");
  make_dir(dir / "a");
  make_dir(dir / "b");
  make_file(dir / "a/file", "in a");
  make_file(dir / "b/file", "in b");
  REQUIRE(try_symlink("file", dir / "a/link") == "ok");
  REQUIRE(try_symlink("../b/file", dir / "a/up") == "ok");
  REQUIRE(try_symlink(dir / "b", dir / "a/absolute") == "ok");
  CHECK(read_all(dir / "a/link") == "in a");
  CHECK(read_all(dir / "a/up") == "in b");
  CHECK(read_all(dir / "a/absolute/file") == "in b");
  CHECK(read_all(dir / "a/absolute/../a/link") == "in a");
  REQUIRE(::rename((dir / "a/link").c_str(), (dir / "b/link").c_str()) == 0);
  CHECK(read_all(dir / "b/link") == "in b");
  // The target may come, go and come back as something else.
  REQUIRE(try_symlink("later", dir / "link") == "ok");
  CHECK(try_open(dir / "link", O_RDONLY) == "ENOENT");
  make_file(dir / "later", "now");
  CHECK(read_all(dir / "link") == "now");
  REQUIRE(::unlink((dir / "later").c_str()) == 0);
  CHECK(try_open(dir / "link", O_RDONLY) == "ENOENT");
  make_dir(dir / "later");
  CHECK(try_open(dir / "link", O_RDONLY | O_DIRECTORY) == "ok");
  REQUIRE(::unlink((dir / "link").c_str()) == 0);
  REQUIRE(try_symlink("a/file", dir / "link") == "ok");
  CHECK(read_all(dir / "link") == "in a");
}

TEST_CASE("symlink: chmod, chown, truncate and utimensat follow it") {
  const Scratch dir("symlink");
  make_file(dir / "file", "abc");
  REQUIRE(try_symlink("file", dir / "link") == "ok");
  const auto link = dir / "link";
  Watch watch({link});
  CHECK(did(::chmod(link.c_str(), 0600)) == "ok");
  CHECK(did(::chown(link.c_str(), 5, 6)) == "ok");
  CHECK(did(::truncate(link.c_str(), 1)) == "ok");
  const timespec times[2] = {{.tv_sec = 1, .tv_nsec = 0}, {.tv_sec = 2, .tv_nsec = 0}};
  CHECK(did(::utimensat(AT_FDCWD, link.c_str(), times, 0)) == "ok");
  const auto file = info(dir / "file");
  CHECK(file.st_mode == (S_IFREG | 0600));
  CHECK(file.st_uid == 5);
  CHECK(file.st_size == 1);
  CHECK(file.st_mtim.tv_sec == 2);
  // Following it may move the atime of the link, nothing else.
  CHECK((watch.moved() == "=" || watch.moved() == "a"));
  CHECK(info(link).st_uid == 0);
}

TEST_CASE("symlink: protected_symlinks in a sticky directory") {
  const Scratch dir("symlink");
  int is_protected = 0;
  std::ifstream("/proc/sys/fs/protected_symlinks") >> is_protected;
  make_dir(dir / "sticky", 01777);
  make_file(dir / "file", "abc");
  REQUIRE(try_symlink("../file", dir / "sticky/nobodys") == "ok");
  own(dir / "sticky/nobodys", kNobody.uid, kNobody.gid);
  const auto call = [&] { return try_open(dir / "sticky/nobodys", O_RDONLY); };
  CHECK(as_user(kNobody, call) == "ok");
  CHECK(as_user(kBob, call) == (is_protected != 0 ? "EACCES" : "ok"));
}

}  // namespace
}  // namespace magma::posix
