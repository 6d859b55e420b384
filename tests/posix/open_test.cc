// open(2), creat(2): errors and their order, what creating sets, permissions. The flags with a life
// of their own (O_APPEND, O_PATH, O_TMPFILE, O_DIRECT) are in open_flags_test.cc.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

void make_one_of_each(const Scratch& dir) {
  make_file(dir / "file", "abc");
  make_dir(dir / "dir");
  make_file(dir / "dir/inside");
  const std::pair<const char*, const char*> links[] = {
      {"file", "link"}, {"dir", "dirlink"}, {"none", "dangling"}, {"loop", "loop"}};
  for (const auto& [target, name] : links) {
    REQUIRE(::symlink(target, (dir / name).c_str()) == 0);
  }
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0644) == 0);
  REQUIRE(::mknod((dir / "sock").c_str(), S_IFSOCK | 0644, 0) == 0);
}

TEST_CASE("open: errors as root") {
  const Scratch dir("open");
  make_one_of_each(dir);
  const std::string name255(255, 'm');
  struct Row {
    std::string path;
    int flags;
    const char* wanted;
  };
  const Row table[] = {
      {"none", O_RDONLY, "ENOENT"},
      {"none", O_WRONLY | O_TRUNC, "ENOENT"},
      {"none", O_RDONLY | O_DIRECTORY, "ENOENT"},
      {"none", O_RDONLY | O_NOFOLLOW, "ENOENT"},
      {"none/", O_WRONLY | O_CREAT, "EISDIR"},
      {"none/x", O_WRONLY | O_CREAT, "ENOENT"},
      {"file", O_RDONLY | O_DIRECTORY, "ENOTDIR"},
      {"file", O_WRONLY | O_DIRECTORY, "ENOTDIR"},
      {"file", O_WRONLY | O_CREAT | O_EXCL, "EEXIST"},
      {"file/", O_RDONLY, "ENOTDIR"},
      {"file/", O_RDONLY | O_CREAT, "EISDIR"},
      {"file/x", O_RDONLY | O_CREAT, "ENOTDIR"},
      {"dir", O_RDONLY, "ok"},
      {"dir/", O_RDONLY, "ok"},
      {"dir", O_RDONLY | O_DIRECTORY, "ok"},
      {"dir", O_RDONLY | O_NOFOLLOW, "ok"},
      {"dir", O_WRONLY, "EISDIR"},
      {"dir", O_RDWR, "EISDIR"},
      {"dir", O_RDONLY | O_TRUNC, "EISDIR"},
      {"dir", O_RDONLY | O_CREAT, "EISDIR"},
      {"dir", O_RDONLY | O_CREAT | O_EXCL, "EEXIST"},
      {"dir/", O_RDONLY | O_CREAT, "EISDIR"},
      {"dir/.", O_RDONLY | O_CREAT, "EISDIR"},
      {"dir/..", O_RDONLY | O_CREAT, "EISDIR"},
      {"link", O_RDWR, "ok"},
      {"link", O_RDONLY | O_NOFOLLOW, "ELOOP"},
      {"link", O_RDONLY | O_CREAT, "ok"},
      {"link", O_RDONLY | O_CREAT | O_NOFOLLOW, "ELOOP"},
      {"link", O_RDONLY | O_CREAT | O_EXCL, "EEXIST"},
      {"link", O_RDONLY | O_DIRECTORY, "ENOTDIR"},
      {"link/", O_RDONLY, "ENOTDIR"},
      {"dirlink", O_RDONLY | O_DIRECTORY, "ok"},
      {"dirlink", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, "ENOTDIR"},
      {"dirlink", O_RDONLY | O_NOFOLLOW, "ELOOP"},
      {"dirlink/", O_RDONLY | O_NOFOLLOW, "ok"},
      {"dirlink/inside", O_RDONLY | O_NOFOLLOW, "ok"},
      {"dirlink", O_WRONLY, "EISDIR"},
      {"dangling", O_RDONLY, "ENOENT"},
      {"dangling", O_RDONLY | O_NOFOLLOW, "ELOOP"},
      {"dangling", O_RDONLY | O_CREAT | O_EXCL, "EEXIST"},
      {"dangling", O_RDONLY | O_CREAT | O_NOFOLLOW, "ELOOP"},
      {"loop", O_RDONLY, "ELOOP"},
      {"loop", O_RDONLY | O_CREAT, "ELOOP"},
      {"loop", O_RDONLY | O_CREAT | O_EXCL, "EEXIST"},
      {"sock", O_RDONLY, "ENXIO"},
      {"sock", O_WRONLY, "ENXIO"},
      {"sock", O_RDWR | O_CREAT, "ENXIO"},
      {"fifo", O_WRONLY | O_NONBLOCK, "ENXIO"},
      {"fifo", O_RDONLY | O_NONBLOCK, "ok"},
      {"fifo", O_RDWR, "ok"},
      {"fifo", O_RDONLY | O_DIRECTORY, "ENOTDIR"},
      {"fifo", O_RDWR | O_TRUNC, "ok"},
      {name255, O_RDONLY, "ENOENT"},
      {name255, O_RDONLY | O_CREAT, "ok"},
      {name255 + "m", O_RDONLY | O_CREAT, "ENAMETOOLONG"},
  };
  for (const auto& row : table) {
    CAPTURE(row.path);
    CAPTURE(row.flags);
    CHECK(try_open(dir / row.path, row.flags) == row.wanted);
  }
  CHECK(read_all(dir / "file") == "abc");
  CHECK_FALSE(exists(dir / "none"));
}

TEST_CASE("open: O_CREAT through a dangling link makes its target") {
  const Scratch dir("open");
  make_dir(dir / "dir");
  REQUIRE(::symlink("dir/new", (dir / "dangling").c_str()) == 0);
  REQUIRE(::symlink("dangling", (dir / "chain").c_str()) == 0);
  CHECK(try_open(dir / "chain", O_WRONLY | O_CREAT) == "ok");
  CHECK(S_ISREG(info(dir / "dir/new").st_mode));
  CHECK(S_ISLNK(info(dir / "dangling").st_mode));
}

TEST_CASE("open: modes and umask of a created file") {
  const Scratch dir("open");
  int number = 0;
  for (const mode_t umask : {0, 022, 077, 0777, 0111}) {
    const Umask scope(umask);
    for (const mode_t mode : {0, 0400, 0644, 0666, 0777, 01777, 04755, 02755, 02644, 07777}) {
      CAPTURE(umask);
      CAPTURE(mode);
      const auto path = dir / std::to_string(number++);
      CHECK(try_open(path, O_WRONLY | O_CREAT, mode) == "ok");
      CHECK(mode_of(path) == (mode & ~umask));
      // Opened again, the mode and the umask mean nothing.
      CHECK(try_open(path, O_WRONLY | O_CREAT, 0123) == "ok");
      CHECK(mode_of(path) == (mode & ~umask));
    }
  }
}

TEST_CASE("open: the descriptor that created a file may do what it asked for") {
  const Scratch dir("open");
  ::chmod(dir.path().c_str(), 0777);
  for (const mode_t mode : {0, 0400, 0200, 0111}) {
    CAPTURE(mode);
    const auto path = dir / std::to_string(mode);
    const auto outcome = as_user(kNobody, [&] {
      const Fd fd(::open(path.c_str(), O_RDWR | O_CREAT, mode));
      char byte = 0;
      return said({did(::write(fd, "x", 1)), did(::pread(fd, &byte, 1, 0)),
                   try_open(path, O_RDWR | O_CREAT)});
    });
    CHECK(outcome == "ok ok EACCES");
  }
}

TEST_CASE("open: owner, group and times of a created file") {
  const Scratch dir("open");
  ::chmod(dir.path().c_str(), 0777);
  Watch watch({dir.path()});
  const auto outcome =
      as_user(60001, 60003, {kTeam}, [&] { return try_open(dir / "new", O_RDWR | O_CREAT); });
  CHECK(outcome == "ok");
  CHECK(watch.moved() == "mc");
  const auto made = info(dir / "new");
  CHECK(made.st_uid == 60001);
  CHECK(made.st_gid == 60003);
  CHECK(made.st_nlink == 1);
  CHECK(made.st_size == 0);
  CHECK(made.st_blocks == 0);
  CHECK(nanoseconds(made.st_mtim) == nanoseconds(made.st_ctim));
  CHECK(nanoseconds(made.st_atim) == nanoseconds(made.st_mtim));
  // Not equal: with multigrain timestamps ext4 stamps the directory a little later.
  CHECK(nanoseconds(made.st_mtim) <= nanoseconds(info(dir.path()).st_mtim));
  Watch again({dir.path(), dir / "new"});
  CHECK(try_open(dir / "new", O_RDWR | O_CREAT) == "ok");
  CHECK(try_open(dir / "new", O_RDWR) == "ok");
  CHECK(try_open(dir / "new", O_RDWR | O_CREAT | O_EXCL) == "EEXIST");
  CHECK(again.moved() == "= =");
}

TEST_CASE("open: O_TRUNC") {
  const Scratch dir("open");
  for (const int flags : {O_WRONLY, O_RDWR, O_RDONLY, O_WRONLY | O_CREAT, O_WRONLY | O_APPEND}) {
    for (const std::size_t size : {0, 1, 4096, 16385, 65537}) {
      CAPTURE(flags);
      CAPTURE(size);
      const auto path = dir / "file";
      make_file(path, pattern(size, 1));
      Watch watch({dir.path(), path});
      CHECK(try_open(path, flags | O_TRUNC) == "ok");
      CHECK(watch.moved() == "= mc");
      CHECK(info(path).st_size == 0);
      CHECK(read_all(path).empty());
    }
  }
  // creat() is O_WRONLY | O_CREAT | O_TRUNC.
  make_file(dir / "file", "abc", 0640);
  const Fd fd(::creat((dir / "file").c_str(), 0777));
  CHECK(info(fd).st_size == 0);
  CHECK(mode_of(dir / "file") == 0640);
  CHECK(try_read(fd) == "EBADF");
  CHECK(try_write(fd) == "ok");
}

TEST_CASE("open: O_TRUNC under another descriptor that goes on writing") {
  const Scratch dir("open");
  const auto path = dir / "file";
  const Fd writer = must_open(path, O_RDWR | O_CREAT);
  REQUIRE(::write(writer, "0123456789", 10) == 10);
  CHECK(try_open(path, O_WRONLY | O_TRUNC) == "ok");
  CHECK(info(writer).st_size == 0);
  REQUIRE(::write(writer, "ab", 2) == 2);
  CHECK(read_all(path) == std::string(10, '\0') + "ab");
}

TEST_CASE("open: permissions") {
  const Scratch dir("open");
  make_dir(dir / "no-write", 0755);
  make_dir(dir / "no-search", 0766);
  make_dir(dir / "no-read", 0733);
  for (const char* place : {"no-write", "no-search", "no-read"}) {
    make_file(dir / place + "/rw", "abc", 0666);
    make_file(dir / place + "/r", "abc", 0644);
    make_file(dir / place + "/w", "abc", 0622);
    make_file(dir / place + "/none", "abc", 0600);
  }
  struct Row {
    const char* path;
    int flags;
    const char* wanted;
  };
  const int creat = O_CREAT, excl = O_CREAT | O_EXCL;
  const Row table[] = {
      {"no-write/rw", O_RDWR, "ok"},
      {"no-write/rw", O_RDWR | creat, "ok"},
      {"no-write/rw", O_RDWR | excl, "EEXIST"},
      {"no-write/none", O_RDWR | excl, "EEXIST"},
      {"no-write/r", O_RDONLY, "ok"},
      {"no-write/r", O_WRONLY, "EACCES"},
      {"no-write/r", O_RDWR, "EACCES"},
      {"no-write/r", O_RDONLY | O_TRUNC, "EACCES"},
      {"no-write/r", O_WRONLY | O_TRUNC, "EACCES"},
      {"no-write/w", O_WRONLY, "ok"},
      {"no-write/w", O_WRONLY | O_APPEND, "ok"},
      {"no-write/w", O_RDONLY, "EACCES"},
      {"no-write/w", O_RDWR, "EACCES"},
      {"no-write/none", O_RDONLY, "EACCES"},
      {"no-write/none", O_RDONLY | O_DIRECTORY, "ENOTDIR"},
      {"no-write/none", O_PATH, "ok"},
      {"no-write/new", O_RDWR | creat, "EACCES"},
      {"no-write/new", O_RDWR | excl, "EACCES"},
      {"no-write/new", O_RDWR, "ENOENT"},
      {"no-write", O_WRONLY, "EISDIR"},
      {"no-write", O_TMPFILE | O_RDWR, "EACCES"},
      {"no-search/rw", O_RDWR, "EACCES"},
      {"no-search/new", O_RDWR | creat, "EACCES"},
      {"no-search/missing", O_RDONLY, "EACCES"},
      {"no-search", O_RDONLY, "ok"},
      {"no-read/rw", O_RDWR, "ok"},
      {"no-read/new", O_RDWR | creat, "ok"},
      {"no-read", O_RDONLY, "EACCES"},
      {"no-read", O_PATH, "ok"},
  };
  for (const auto& row : table) {
    CAPTURE(row.path);
    CAPTURE(row.flags);
    CHECK(as_user(kNobody, [&] { return try_open(dir / row.path, row.flags); }) == row.wanted);
  }
  CHECK(read_all(dir / "no-write/r") == "abc");
}

TEST_CASE("open: O_NOATIME is for the owner") {
  const Scratch dir("open");
  make_file(dir / "theirs", "", 0666);
  own(dir / "theirs", kNobody.uid, kNobody.gid);
  const auto call = [&] { return try_open(dir / "theirs", O_RDONLY | O_NOATIME); };
  CHECK(as_user(kNobody, call) == "ok");
  CHECK(as_user(kBob, call) == "EPERM");
  CHECK(call() == "ok");
}

TEST_CASE("open: a running program cannot be written, a file open for writing not be run") {
  const Scratch dir("open");
  const auto program = dir / "program";
  make_file(program, read_all("/bin/sleep"), 0755);
  const auto run = [&](const char* seconds) {
    ::execl(program.c_str(), program.c_str(), seconds, nullptr);
    return did(-1);
  };
  {
    const Fd writer = must_open(program, O_WRONLY);
    CHECK(in_child([&] { return run("0"); }) == "ETXTBSY");
  }
  const auto size = info(program).st_size;
  Helper running([&](Channel& channel) { channel.say(run("60")); });
  // The end of the channel closes when the program runs: it is close-on-exec.
  CHECK(running.hear() == "");
  CHECK(try_open(program, O_WRONLY) == "ETXTBSY");
  CHECK(try_open(program, O_RDWR | O_TRUNC) == "ETXTBSY");
  CHECK(did(::truncate(program.c_str(), 0)) == "ETXTBSY");
  CHECK(try_open(program, O_RDONLY) == "ok");
  CHECK(info(program).st_size == size);
  CHECK(did(::unlink(program.c_str())) == "ok");
  running.kill();
}

TEST_CASE("open: of many processes that want O_EXCL one gets it") {
  const Scratch dir("open");
  constexpr int kProcesses = 4, kNames = 60;
  std::vector<std::string> won;
  std::vector<std::unique_ptr<Helper>> helpers;
  for (int i = 0; i < kProcesses; ++i) {
    helpers.push_back(std::make_unique<Helper>([&](Channel& channel) {
      channel.hear();
      std::string mine;
      for (int name = 0; name < kNames; ++name) {
        const auto path = dir / std::to_string(name);
        mine += try_open(path, O_WRONLY | O_CREAT | O_EXCL) == "ok" ? '1' : '0';
      }
      channel.say(mine);
    }));
  }
  for (auto& helper : helpers) helper->say("go");
  for (auto& helper : helpers) won.push_back(helper->hear());
  for (std::size_t name = 0; name < kNames; ++name) {
    int winners = 0;
    for (const auto& mine : won) winners += mine.size() == kNames && mine[name] == '1' ? 1 : 0;
    CAPTURE(name);
    CHECK(winners == 1);
  }
}

}  // namespace
}  // namespace magma::posix
