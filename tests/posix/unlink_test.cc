// unlink(2) and files that live on without a name: errors and their order, sticky directories,
// times, link counts, everything a descriptor of an unlinked file still can do.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <cstring>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

std::string try_unlink(const std::string& path) { return did(::unlink(path.c_str())); }

TEST_CASE("unlink: errors as root") {
  const Scratch dir("unlink");
  make_file(dir / "file", "abc");
  make_dir(dir / "dir");
  const std::pair<const char*, const char*> links[] = {
      {"file", "link"}, {"dir", "dirlink"}, {"none", "dangling"}, {"loop", "loop"}};
  for (const auto& [target, name] : links) {
    REQUIRE(::symlink(target, (dir / name).c_str()) == 0);
  }
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0644) == 0);
  const std::pair<std::string, const char*> table[] = {
      {"none", "ENOENT"},      {"none/", "ENOENT"},       {"dir", "EISDIR"},
      {"dir/", "EISDIR"},      {"dir/.", "EISDIR"},       {"dir/..", "EISDIR"},
      {".", "EISDIR"},         {"file/", "ENOTDIR"},      {"file/x", "ENOTDIR"},
      {"link/", "ENOTDIR"},    {"dirlink/", "ENOTDIR"},   {"dangling/", "ENOTDIR"},
      {"dirlink/none", "ENOENT"}, {"loop/x", "ELOOP"},    {std::string(256, 'u'), "ENAMETOOLONG"},
      {"link", "ok"},          {"dirlink", "ok"},         {"dangling", "ok"},
      {"loop", "ok"},          {"fifo", "ok"},
  };
  for (const auto& pair : table) {
    const auto& path = pair.first;
    const auto& wanted = pair.second;
    CAPTURE(path);
    CHECK(try_unlink(dir / path) == wanted);
  }
  CHECK(list(dir.path()) == std::vector<std::string>{"dir", "file"});
  CHECK(try_unlink(dir / "file") == "ok");
  CHECK(try_unlink(dir / "file") == "ENOENT");
}

TEST_CASE("unlink: permissions and the sticky bit") {
  const Scratch dir("unlink");
  make_dir(dir / "closed", 0755);
  make_dir(dir / "open", 0777);
  make_dir(dir / "sticky", 01777);
  make_dir(dir / "bobs", 01777);
  own(dir / "bobs", kBob.uid, kBob.gid);
  for (const char* place : {"closed", "open", "sticky", "bobs"}) {
    make_file(dir / place + "/roots", "", 0666);
    make_file(dir / place + "/roots2", "", 0666);
    make_file(dir / place + "/mine", "", 0);
    own(dir / place + "/mine", kNobody.uid, kNobody.gid);
    make_dir(dir / place + "/dir");
  }
  struct Row {
    const User& who;
    const char* path;
    const char* wanted;
  };
  const Row table[] = {
      {kNobody, "closed/none", "ENOENT"}, {kNobody, "closed/mine", "EACCES"},
      {kNobody, "closed/roots", "EACCES"}, {kNobody, "closed/dir", "EACCES"},
      {kNobody, "open/dir", "EISDIR"},    {kNobody, "open/roots", "ok"},
      {kNobody, "open/mine", "ok"},       {kNobody, "sticky/none", "ENOENT"},
      {kNobody, "sticky/roots", "EPERM"}, {kNobody, "sticky/dir", "EPERM"},
      {kBob, "sticky/mine", "EPERM"},     {kNobody, "sticky/mine", "ok"},
      {kNobody, "bobs/roots", "EPERM"},   {kBob, "bobs/roots", "ok"},
      {kBob, "bobs/mine", "ok"},
  };
  for (const auto& row : table) {
    CAPTURE(row.who.uid);
    CAPTURE(row.path);
    CHECK(as_user(row.who, [&] { return try_unlink(dir / row.path); }) == row.wanted);
  }
  CHECK(try_unlink(dir / "sticky/roots") == "ok");
  CHECK(try_unlink(dir / "bobs/roots2") == "ok");
}

TEST_CASE("unlink: times and link counts") {
  const Scratch dir("unlink");
  make_file(dir / "one", "abc");
  REQUIRE(::link((dir / "one").c_str(), (dir / "two").c_str()) == 0);
  Watch watch({dir.path(), dir / "two"});
  CHECK(try_unlink(dir / "one") == "ok");
  CHECK(watch.moved() == "mc c");
  CHECK(links_of(dir / "two") == 1);
  Watch last({dir.path()});
  CHECK(try_unlink(dir / "none") == "ENOENT");
  CHECK(last.moved() == "=");
  CHECK(try_unlink(dir / "two") == "ok");
  CHECK(last.moved() == "mc");
}

TEST_CASE("unlink: a file lives on while it is open") {
  const Scratch dir("gone");
  for (const std::size_t size : {0, 1000, 16'385, 65'537, 1'048'576}) {
    CAPTURE(size);
    const auto path = dir / "file";
    const auto bytes = pattern(size, 5);
    make_file(path, bytes);
    const Fd fd = must_open(path, O_RDWR);
    const Fd reader = must_open(path, O_RDONLY);
    const auto before = info(fd);
    CHECK(try_unlink(path) == "ok");
    CHECK_FALSE(exists(path));
    const auto after = info(fd);
    CHECK(after.st_nlink == 0);
    CHECK(after.st_ino == before.st_ino);
    CHECK(nanoseconds(after.st_mtim) == nanoseconds(before.st_mtim));
    CHECK(nanoseconds(after.st_ctim) >= nanoseconds(before.st_ctim));
    CHECK(difference(read_at(reader, 0, size + 1), bytes) == "");
    // It grows and shrinks as any other.
    REQUIRE(write_at(fd, std::int64_t(size), "more"));
    CHECK(difference(read_at(reader, 0, size + 9), bytes + "more") == "");
    REQUIRE(did(::ftruncate(fd, 200'000)) == "ok");
    CHECK(info(reader).st_size == 200'000);
    CHECK(read_at(reader, 199'999, 10) == std::string(1, size > 199'999 ? bytes[199'999] : '\0'));
    REQUIRE(did(::ftruncate(fd, 0)) == "ok");
    CHECK(read_at(reader, 0, 1).empty());
    CHECK(did(::fchmod(fd, 0600)) == "ok");
    CHECK(did(::fchown(fd, 7, 8)) == "ok");
    const timespec times[2] = {{.tv_sec = 5, .tv_nsec = 6}, {.tv_sec = 7, .tv_nsec = 8}};
    CHECK(did(::futimens(fd, times)) == "ok");
    CHECK(did(::fsetxattr(fd, "user.x", "y", 1, 0)) == "ok");
    CHECK(did(::fsync(fd)) == "ok");
    const auto changed = info(reader);
    CHECK((changed.st_mode & 07777) == 0600);
    CHECK(changed.st_uid == 7);
    CHECK(nanoseconds(changed.st_mtim) == 7'000'000'008);
    // No way back to a name.
    CHECK(did(::linkat(fd, "", AT_FDCWD, path.c_str(), AT_EMPTY_PATH)) == "ENOENT");
    const auto through = "/proc/self/fd/" + std::to_string(fd);
    CHECK(did(::linkat(AT_FDCWD, through.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW)) ==
          "ENOENT");
    // It can be opened once more through /proc, and a new file may have its name meanwhile.
    make_file(path, "new");
    const Fd again = must_open(through, O_RDWR);
    CHECK(info(again).st_ino == before.st_ino);
    REQUIRE(write_at(again, 0, "old"));
    CHECK(read_at(fd, 0, 9) == "old");
    CHECK(read_all(path) == "new");
    CHECK(info(path).st_ino != before.st_ino);
    REQUIRE(try_unlink(path) == "ok");
  }
}

TEST_CASE("unlink: the name goes at once, also when another process has the file open") {
  const Scratch dir("gone");
  const auto path = dir / "file";
  make_file(path, "abc");
  Helper holder([&](Channel& channel) {
    const Fd fd(::open(path.c_str(), O_RDWR));
    channel.say(did(fd));
    channel.hear();
    write_at(fd, 3, "def");
    channel.say(read_at(fd, 0, 100));
  });
  REQUIRE(holder.hear() == "ok");
  CHECK(try_unlink(path) == "ok");
  CHECK(list(dir.path()).empty());
  CHECK(try_open(path, O_RDONLY) == "ENOENT");
  CHECK(holder.ask("go") == "abcdef");
  CHECK(holder.end() == "ok");
}

TEST_CASE("unlink: an unlinked file stays mapped") {
  const Scratch dir("gone");
  const auto path = dir / "file";
  make_file(path, pattern(8192, 6));
  Fd fd = must_open(path, O_RDWR);
  auto* memory = static_cast<char*>(
      ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  REQUIRE(memory != MAP_FAILED);
  fd.reset();
  CHECK(try_unlink(path) == "ok");
  CHECK(difference(std::string_view(memory, 8192), pattern(8192, 6)) == "");
  memory[5000] = 'x';
  CHECK(did(::msync(memory, 8192, MS_SYNC)) == "ok");
  CHECK(memory[5000] == 'x');
  ::munmap(memory, 8192);
}

TEST_CASE("unlink: a directory empty but for an open unlinked file can be removed") {
  const Scratch dir("gone");
  make_dir(dir / "sub");
  const Fd fd = must_open(dir / "sub/file", O_RDWR | O_CREAT);
  CHECK(did(::rmdir((dir / "sub").c_str())) == "ENOTEMPTY");
  CHECK(try_unlink(dir / "sub/file") == "ok");
  CHECK(did(::rmdir((dir / "sub").c_str())) == "ok");
  REQUIRE(write_at(fd, 0, "still here"));
  CHECK(read_at(fd, 0, 100) == "still here");
}

TEST_CASE("unlink: names made again have nothing of what they had") {
  const Scratch dir("gone");
  const auto path = dir / "name";
  make_file(path, "content", 0604);
  REQUIRE(did(::setxattr(path.c_str(), "user.x", "y", 1, 0)) == "ok");
  own(path, 5, 6);
  REQUIRE(try_unlink(path) == "ok");
  make_file(path, "");
  CHECK(info(path).st_size == 0);
  CHECK(info(path).st_uid == 0);
  CHECK(did(::getxattr(path.c_str(), "user.x", nullptr, 0)) == "ENODATA");
  // Of another kind as well.
  REQUIRE(try_unlink(path) == "ok");
  make_dir(path);
  CHECK(S_ISDIR(info(path).st_mode));
  REQUIRE(::rmdir(path.c_str()) == 0);
  REQUIRE(::symlink("x", path.c_str()) == 0);
  CHECK(S_ISLNK(info(path).st_mode));
}

TEST_CASE("unlink: of many processes that remove a name one does it") {
  const Scratch dir("gone");
  constexpr int kNames = 100;
  for (int i = 0; i < kNames; ++i) make_file(dir / std::to_string(i));
  std::vector<std::unique_ptr<Helper>> helpers;
  for (int i = 0; i < 3; ++i) {
    helpers.push_back(std::make_unique<Helper>([&](Channel& channel) {
      channel.hear();
      std::string mine;
      for (int name = 0; name < kNames; ++name) {
        mine += try_unlink(dir / std::to_string(name)) == "ok" ? '1' : '0';
      }
      channel.say(mine);
    }));
  }
  for (auto& helper : helpers) helper->say("go");
  std::vector<int> winners(kNames, 0);
  for (auto& helper : helpers) {
    const auto mine = helper->hear(60'000);
    REQUIRE(mine.size() == kNames);
    for (std::size_t i = 0; i < kNames; ++i) winners[i] += mine[i] == '1' ? 1 : 0;
  }
  CHECK(winners == std::vector<int>(kNames, 1));
  CHECK(list(dir.path()).empty());
}

}  // namespace
}  // namespace magma::posix
