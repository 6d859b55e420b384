// The flags of open(2) with a life of their own: O_APPEND, O_PATH, O_TMPFILE, O_DIRECT, O_SYNC, the
// access mode 3, and what F_GETFL and F_SETFL say about them.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

struct Free {
  void operator()(char* memory) const { std::free(memory); }
};
using Aligned = std::unique_ptr<char, Free>;
Aligned aligned(std::size_t size) {
  return Aligned(static_cast<char*>(std::aligned_alloc(4096, size)));
}

TEST_CASE("open: O_APPEND writes at the end wherever the offset is") {
  const Scratch dir("append");
  const auto path = dir / "file";
  make_file(path, "0123456789");
  const Fd fd = must_open(path, O_RDWR | O_APPEND);
  CHECK(::lseek(fd, 0, SEEK_CUR) == 0);
  CHECK(::lseek(fd, 3, SEEK_SET) == 3);
  REQUIRE(::write(fd, "ab", 2) == 2);
  CHECK(::lseek(fd, 0, SEEK_CUR) == 12);
  CHECK(read_all(path) == "0123456789ab");
  // Linux appends with pwrite() as well; the offset stays.
  ::lseek(fd, 1, SEEK_SET);
  REQUIRE(::pwrite(fd, "cd", 2, 0) == 2);
  CHECK(::lseek(fd, 0, SEEK_CUR) == 1);
  CHECK(read_all(path) == "0123456789abcd");
  // The offset of reading is the same one.
  char byte = 0;
  REQUIRE(::read(fd, &byte, 1) == 1);
  CHECK(byte == '1');
  // After a truncation by somebody else the end is elsewhere.
  REQUIRE(::truncate(path.c_str(), 2) == 0);
  REQUIRE(::write(fd, "!", 1) == 1);
  CHECK(read_all(path) == "01!");
  REQUIRE(::truncate(path.c_str(), 5) == 0);
  REQUIRE(::write(fd, "!", 1) == 1);
  CHECK(read_all(path) == std::string("01!\0\0!", 6));
}

TEST_CASE("open: O_APPEND set and cleared by fcntl, RWF_APPEND for one write") {
  const Scratch dir("append");
  const auto path = dir / "file";
  make_file(path, "0123");
  const Fd fd = must_open(path, O_RDWR);
  const int flags = ::fcntl(fd, F_GETFL);
  REQUIRE(did(::fcntl(fd, F_SETFL, flags | O_APPEND)) == "ok");
  CHECK((::fcntl(fd, F_GETFL) & O_APPEND) != 0);
  REQUIRE(::write(fd, "A", 1) == 1);
  CHECK(read_all(path) == "0123A");
  REQUIRE(did(::fcntl(fd, F_SETFL, flags)) == "ok");
  REQUIRE(::pwrite(fd, "B", 1, 0) == 1);
  CHECK(read_all(path) == "B123A");
  const iovec piece{const_cast<char*>("C"), 1};
  REQUIRE(::pwritev2(fd, &piece, 1, 0, RWF_APPEND) == 1);
  CHECK(read_all(path) == "B123AC");
}

TEST_CASE("open: O_APPEND of one file through two descriptors") {
  const Scratch dir("append");
  const auto path = dir / "file";
  const Fd one = must_open(path, O_WRONLY | O_CREAT | O_APPEND);
  const Fd two = must_open(path, O_WRONLY | O_APPEND);
  std::string wanted;
  for (int i = 0; i < 300; ++i) {
    const auto bytes = pattern(std::size_t(1 + i * 7 % 300), std::uint32_t(i));
    REQUIRE(::write(i % 3 == 0 ? one : two, bytes.data(), bytes.size()) == ssize_t(bytes.size()));
    wanted += bytes;
  }
  CHECK(difference(read_all(path), wanted) == "");
}

TEST_CASE("open: O_APPEND by four processes at once loses and tears nothing") {
  const Scratch dir("append");
  const auto path = dir / "file";
  constexpr int kProcesses = 4, kRecords = 400;
  std::vector<std::unique_ptr<Helper>> helpers;
  for (int who = 0; who < kProcesses; ++who) {
    helpers.push_back(std::make_unique<Helper>([&, who](Channel& channel) {
      const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644));
      channel.hear();
      for (int i = 0; i < kRecords; ++i) {
        std::string record = std::to_string(who) + ":" + std::to_string(i) + ":";
        record += std::string(std::size_t((i * 37 + who) % 200), char('a' + who)) + "\n";
        if (::write(fd, record.data(), record.size()) != ssize_t(record.size())) ::_exit(1);
      }
      channel.say("done");
    }));
  }
  for (auto& helper : helpers) helper->say("go");
  for (auto& helper : helpers) CHECK(helper->hear(60'000) == "done");
  int next[kProcesses] = {};
  int bad = 0;
  const auto all = read_all(path);
  for (std::size_t at = 0; at < all.size();) {
    const auto end = all.find('\n', at);
    REQUIRE(end != std::string::npos);
    const int who = all[at] - '0';
    REQUIRE((who >= 0 && who < kProcesses));
    const int i = next[who]++;
    std::string wanted = std::to_string(who) + ":" + std::to_string(i) + ":";
    wanted += std::string(std::size_t((i * 37 + who) % 200), char('a' + who));
    if (all.substr(at, end - at) != wanted) ++bad;
    at = end + 1;
  }
  CHECK(bad == 0);
  for (const int count : next) CHECK(count == kRecords);
}

TEST_CASE("open: O_PATH names a file and does no more") {
  const Scratch dir("opath");
  make_file(dir / "file", "abc", 0000);
  make_dir(dir / "dir");
  make_file(dir / "dir/inside", "x");
  REQUIRE(::symlink("file", (dir / "link").c_str()) == 0);
  const auto outcome = as_user(kNobody, [&] {
    const Fd fd(::open((dir / "file").c_str(), O_PATH));
    struct stat status {};
    char buffer[8];
    return said({did(fd), did(::fstat(fd, &status)), try_read(fd), try_write(fd),
                 did(::fchmod(fd, 0644)), did(::fchown(fd, 1, 1)), did(::ftruncate(fd, 0)),
                 did(::fsync(fd)), did(::fgetxattr(fd, "user.x", buffer, 8)),
                 did(::lseek(fd, 0, SEEK_SET)), did(::flock(fd, LOCK_EX)),
                 did(::mmap(nullptr, 9, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED ? 0 : -1)});
  });
  CHECK(outcome ==
        "ok ok EBADF EBADF EBADF EBADF EBADF EBADF EBADF EBADF EBADF EBADF");

  const Fd file = must_open(dir / "file", O_PATH | O_RDWR);
  CHECK((::fcntl(file, F_GETFL) & O_PATH) != 0);
  CHECK(info(file).st_ino == info(dir / "file").st_ino);
  const auto through = "/proc/self/fd/" + std::to_string(file);
  CHECK(read_all(through) == "abc");
  CHECK(did(::linkat(AT_FDCWD, through.c_str(), AT_FDCWD, (dir / "more").c_str(),
                     AT_SYMLINK_FOLLOW)) == "ok");
  CHECK(links_of(dir / "more") == 2);

  const Fd folder = must_open(dir / "dir", O_PATH | O_DIRECTORY);
  CHECK(did(::faccessat(folder, "inside", F_OK, 0)) == "ok");
  CHECK(did(::openat(folder, "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0644)) == "ok");
  CHECK(in_child([&] { return said({did(::fchdir(folder)), did(::unlink("new"))}); }) == "ok ok");
  char entries[1024];
  CHECK(did(::syscall(SYS_getdents64, int(folder), entries, sizeof entries)) == "EBADF");

  const Fd link = must_open(dir / "link", O_PATH | O_NOFOLLOW);
  CHECK(S_ISLNK(info(link).st_mode));
  char target[16] = {};
  CHECK(::readlinkat(link, "", target, sizeof target) == 4);
  CHECK(std::string(target) == "file");
  CHECK(did(::fchownat(link, "", 5, 6, AT_EMPTY_PATH)) == "ok");
  CHECK(info(dir / "link").st_uid == 5);
  CHECK(try_open(dir / "link", O_PATH | O_NOFOLLOW | O_DIRECTORY) == "ENOTDIR");
}

TEST_CASE("open: O_TMPFILE") {
  const Scratch dir("tmpfile");
  make_file(dir / "file");
  CHECK(try_open(dir.path(), O_TMPFILE | O_RDONLY) == "EINVAL");
  CHECK(try_open(dir / "none", O_TMPFILE | O_RDWR) == "ENOENT");
  CHECK(try_open(dir / "file", O_TMPFILE | O_RDWR) == "ENOTDIR");
  Watch watch({dir.path()});
  Fd fd = must_open(dir.path(), O_TMPFILE | O_RDWR, 0664);
  CHECK(watch.moved() == "=");
  CHECK(list(dir.path()) == std::vector<std::string>{"file"});
  CHECK(info(fd).st_nlink == 0);
  CHECK((info(fd).st_mode & 07777) == 0644);
  const auto bytes = pattern(70'000, 3);
  REQUIRE(write_at(fd, 0, bytes));
  CHECK(read_at(fd, 0, bytes.size()) == bytes);
  CHECK(info(fd).st_size == 70'000);

  SUBCASE("named through /proc") {
    const auto through = "/proc/self/fd/" + std::to_string(fd);
    const auto link = [&](const char* name) {
      return did(::linkat(AT_FDCWD, through.c_str(), AT_FDCWD, (dir / name).c_str(),
                          AT_SYMLINK_FOLLOW));
    };
    Watch again({dir.path()});
    CHECK(link("file") == "EEXIST");
    CHECK(link("none/x") == "ENOENT");
    CHECK(link("named") == "ok");
    CHECK(link("twice") == "ok");
    CHECK(again.moved() == "mc");
    CHECK(info(fd).st_nlink == 2);
    fd.reset();
    CHECK(difference(read_all(dir / "named"), bytes) == "");
  }
  SUBCASE("named by AT_EMPTY_PATH") {
    CHECK(did(::linkat(fd, "", AT_FDCWD, (dir / "named").c_str(), AT_EMPTY_PATH)) == "ok");
    CHECK(did(::unlink((dir / "named").c_str())) == "ok");
    // A file that had a name and lost it cannot get one again.
    CHECK(did(::linkat(fd, "", AT_FDCWD, (dir / "again").c_str(), AT_EMPTY_PATH)) == "ENOENT");
  }
  SUBCASE("never named with O_EXCL") {
    const Fd never = must_open(dir.path(), O_TMPFILE | O_RDWR | O_EXCL);
    CHECK(did(::linkat(never, "", AT_FDCWD, (dir / "x").c_str(), AT_EMPTY_PATH)) == "ENOENT");
  }
  SUBCASE("every one is another file") {
    const Fd other = must_open(dir.path(), O_TMPFILE | O_WRONLY);
    CHECK(info(other).st_ino != info(fd).st_ino);
    CHECK(info(other).st_size == 0);
    CHECK(try_read(other) == "EBADF");
  }
}

TEST_CASE("open: O_TMPFILE as a user, owner and group, umask, setgid directory") {
  const Scratch dir("tmpfile");
  make_dir(dir / "shared", 02777);
  own(dir / "shared", 0, kTeam);
  const auto outcome = as_user(kNobody, [&] {
    ::umask(027);
    const Fd fd(::open((dir / "shared").c_str(), O_TMPFILE | O_WRONLY, 0666));
    const auto through = "/proc/self/fd/" + std::to_string(fd);
    return said({did(fd), did(::linkat(AT_FDCWD, through.c_str(), AT_FDCWD,
                                       (dir / "shared/named").c_str(), AT_SYMLINK_FOLLOW))});
  });
  CHECK(outcome == "ok ok");
  const auto named = info(dir / "shared/named");
  CHECK(named.st_uid == kNobody.uid);
  CHECK(named.st_gid == kTeam);
  CHECK((named.st_mode & 07777) == 0640);
}

TEST_CASE("open: O_DIRECT with aligned buffers, beside buffered descriptors") {
  const Scratch dir("direct");
  const auto path = dir / "file";
  constexpr std::size_t kSize = 256 * 1024;
  const auto buffer = aligned(kSize);
  const auto bytes = pattern(kSize, 9);
  const Fd direct = must_open(path, O_RDWR | O_CREAT | O_DIRECT);
  const Fd buffered = must_open(path, O_RDWR);
  CHECK((::fcntl(direct, F_GETFL) & O_DIRECT) != 0);
  std::memcpy(buffer.get(), bytes.data(), kSize);
  for (const std::size_t size : {4096U, 16384U, 65536U, unsigned(kSize)}) {
    CAPTURE(size);
    REQUIRE(::pwrite(direct, buffer.get(), size, 0) == ssize_t(size));
    CHECK(difference(read_at(buffered, 0, size), bytes.substr(0, size)) == "");
  }
  REQUIRE(write_at(buffered, 8192, "buffered"));
  std::memset(buffer.get(), 0, kSize);
  REQUIRE(::pread(direct, buffer.get(), 4096, 8192) == 4096);
  CHECK(std::string_view(buffer.get(), 8) == "buffered");
  // The last piece may be short; at the end there is nothing.
  REQUIRE(did(::ftruncate(direct, 10'000)) == "ok");
  CHECK(::pread(direct, buffer.get(), 8192, 8192) == 10'000 - 8192);
  CHECK(::pread(direct, buffer.get(), 4096, 12'288) == 0);
  // Set and cleared by fcntl.
  REQUIRE(did(::fcntl(buffered, F_SETFL, ::fcntl(buffered, F_GETFL) | O_DIRECT)) == "ok");
  CHECK(::pread(buffered, buffer.get(), 4096, 0) == 4096);
  CHECK(std::string_view(buffer.get(), 4096) == std::string_view(bytes).substr(0, 4096));
}

TEST_CASE("open: O_DIRECT unaligned either works or is EINVAL") {
  const Scratch dir("direct");
  const auto path = dir / "file";
  const auto bytes = pattern(8192, 4);
  make_file(path, bytes);
  const auto buffer = aligned(8192);
  const Fd direct = must_open(path, O_RDWR | O_DIRECT);
  const auto got = ::pread(direct, buffer.get(), 100, 1001);
  if (got < 0) CHECK(did(got) == "EINVAL");
  if (got >= 0) CHECK(std::string(buffer.get(), std::size_t(got)) == bytes.substr(1001, 100));
  const auto put = ::pwrite(direct, "xyz", 3, 1001);
  if (put < 0) CHECK(did(put) == "EINVAL");
  auto wanted = bytes;
  if (put >= 0) wanted.replace(1001, 3, "xyz");
  CHECK(difference(read_all(path), wanted) == "");
}

TEST_CASE("open: O_SYNC and O_DSYNC, and access mode 3") {
  const Scratch dir("flags");
  for (const int flag : {O_SYNC, O_DSYNC}) {
    const Fd fd = must_open(dir / "file", O_RDWR | O_CREAT | flag);
    CHECK((::fcntl(fd, F_GETFL) & flag) == flag);
    CHECK(try_write(fd) == "ok");
  }
  const Fd neither = must_open(dir / "file", 3);
  CHECK(try_read(neither) == "EBADF");
  CHECK(try_write(neither) == "EBADF");
  CHECK(info(neither).st_size == 1);
  make_file(dir / "r", "", 0444);
  CHECK(as_user(kNobody, [&] { return try_open(dir / "r", 3); }) == "EACCES");
}

}  // namespace
}  // namespace magma::posix
