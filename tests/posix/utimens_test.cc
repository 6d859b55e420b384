// utimensat(2), futimens(2): nanoseconds, UTIME_NOW and UTIME_OMIT, years far away, who may, links
// and descriptors.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <utime.h>

#include <ctime>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

struct Pair {
  timespec atime, mtime;
};

std::string try_times(const std::string& path, const Pair& pair, int flags = 0) {
  const timespec times[2] = {pair.atime, pair.mtime};
  return did(::utimensat(AT_FDCWD, path.c_str(), times, flags));
}
timespec at(std::int64_t seconds, long nanoseconds = 0) {
  return timespec{.tv_sec = seconds, .tv_nsec = nanoseconds};
}
std::string shown(const timespec& time) {
  return std::to_string(time.tv_sec) + "." + std::to_string(time.tv_nsec);
}

TEST_CASE("utimensat: every nanosecond and many years") {
  const Scratch dir("times");
  make_file(dir / "file", "abc");
  make_dir(dir / "dir");
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0644) == 0);
  REQUIRE(::mknod((dir / "char").c_str(), S_IFCHR | 0644, makedev(1, 3)) == 0);
  // ext4 has 34 bits for seconds, from 1901 to 2446.
  const timespec table[] = {
      at(0),
      at(0, 1),
      at(1, 999'999'999),
      at(-1),
      at(-1, 999'999'999),
      at(-2'147'483'648),
      at(2'147'483'647, 123'456'789),
      at(2'147'483'648, 1),
      at(4'294'967'295),
      at(4'294'967'296, 5),
      at(10'000'000'000, 7),
      at(15'032'385'534, 999'999'999),
      at(1'700'000'000, 100),
      at(1'700'000'000, 999'999'001),
  };
  for (const char* name : {"file", "dir", "fifo", "char"}) {
    for (const auto& time : table) {
      CAPTURE(name);
      CAPTURE(shown(time));
      const auto path = dir / name;
      CHECK(try_times(path, {time, at(1, 2)}) == "ok");
      // A file system may keep fewer years; then the last it has (of 64 bits of nanoseconds: 2262).
      const auto kept = [&](const timespec& got) {
        return shown(got) == shown(time) || shown(got) == "9223372036.854775807";
      };
      CHECK(kept(info(path).st_atim));
      CHECK(shown(info(path).st_mtim) == "1.2");
      CHECK(try_times(path, {at(3, 4), time}) == "ok");
      CHECK(shown(info(path).st_atim) == "3.4");
      CHECK(kept(info(path).st_mtim));
    }
  }
}

TEST_CASE("utimensat: UTIME_NOW and UTIME_OMIT") {
  const Scratch dir("times");
  make_file(dir / "file", "abc");
  make_dir(dir / "dir");
  const timespec now{.tv_sec = 0, .tv_nsec = UTIME_NOW}, omit{.tv_sec = 0, .tv_nsec = UTIME_OMIT};
  // The seconds beside UTIME_NOW and UTIME_OMIT mean nothing.
  const timespec odd_now{.tv_sec = -7, .tv_nsec = UTIME_NOW};
  const timespec odd_omit{.tv_sec = 1LL << 40, .tv_nsec = UTIME_OMIT};
  struct Row {
    timespec atime, mtime;
    const char *atime_wanted, *mtime_wanted;
  };
  const Row table[] = {
      {now, now, "now", "now"},   {now, omit, "now", "old"},       {omit, now, "old", "now"},
      {now, at(5, 6), "now", "5.6"}, {at(5, 6), now, "5.6", "now"}, {at(5, 6), omit, "5.6", "old"},
      {omit, at(5, 6), "old", "5.6"}, {odd_now, odd_omit, "now", "old"},
  };
  for (const char* name : {"file", "dir"}) {
    const auto path = dir / name;
    for (const auto& row : table) {
      CAPTURE(name);
      CAPTURE(row.atime_wanted);
      CAPTURE(row.mtime_wanted);
      REQUIRE(try_times(path, {at(100, 1), at(200, 2)}) == "ok");
      const auto before = info(path);
      tick();
      CHECK(try_times(path, {row.atime, row.mtime}) == "ok");
      const auto after = info(path);
      const auto word = [&](const timespec& time, const timespec& old) {
        if (shown(time) == shown(old)) return std::string("old");
        const auto age = std::time(nullptr) - time.tv_sec;
        return age >= -2 && age <= 60 ? std::string("now") : shown(time);
      };
      CHECK(word(after.st_atim, before.st_atim) == row.atime_wanted);
      CHECK(word(after.st_mtim, before.st_mtim) == row.mtime_wanted);
      CHECK(nanoseconds(after.st_ctim) > nanoseconds(before.st_ctim));
    }
    // Without an array: both now, and the same.
    CHECK(did(::utimensat(AT_FDCWD, path.c_str(), nullptr, 0)) == "ok");
    CHECK(shown(info(path).st_atim) == shown(info(path).st_mtim));
    // Both omitted: nothing happens, the path is not even looked up.
    Watch watch({path});
    CHECK(try_times(path, {omit, omit}) == "ok");
    CHECK(watch.moved() == "=");
    CHECK(try_times(dir / "none", {omit, omit}) == "ok");
  }
}

TEST_CASE("utimensat: errors") {
  const Scratch dir("times");
  make_file(dir / "file");
  const auto good = at(1, 1);
  for (const long wrong : {-1L, 1'000'000'000L, 2'000'000'000L}) {
    CAPTURE(wrong);
    CHECK(try_times(dir / "file", {at(1, wrong), good}) == "EINVAL");
    CHECK(try_times(dir / "file", {good, at(1, wrong)}) == "EINVAL");
    CHECK(try_times(dir / "none", {good, at(1, wrong)}) == "ENOENT");
  }
  CHECK(try_times(dir / "none", {good, good}) == "ENOENT");
  CHECK(try_times(dir / "file/x", {good, good}) == "ENOTDIR");
  CHECK(try_times(dir / "file", {good, good}, 0x40000) == "EINVAL");
  const timespec times[2] = {good, good};
  CHECK(did(::utimensat(-1, "file", times, 0)) == "EBADF");
  const Fd path = must_open(dir / "file", O_PATH);
  CHECK(did(::utimensat(path, "x", times, 0)) == "ENOTDIR");
  CHECK(did(::futimens(path, times)) == "EBADF");
  CHECK(did(::futimens(-1, times)) == "EBADF");
}

TEST_CASE("utimensat: links and descriptors") {
  const Scratch dir("times");
  make_file(dir / "file", "abc");
  REQUIRE(::symlink("file", (dir / "link").c_str()) == 0);
  const auto mtime = [&](const char* name) { return shown(info(dir / name).st_mtim); };
  CHECK(try_times(dir / "link", {at(1), at(2, 3)}) == "ok");
  CHECK(mtime("file") == "2.3");
  CHECK(mtime("link") != "2.3");
  CHECK(try_times(dir / "link", {at(1), at(4, 5)}, AT_SYMLINK_NOFOLLOW) == "ok");
  CHECK(mtime("file") == "2.3");
  CHECK(mtime("link") == "4.5");
  for (const int flags : {O_RDONLY, O_WRONLY, O_RDWR | O_APPEND}) {
    const Fd fd = must_open(dir / "file", flags);
    const timespec times[2] = {at(6, 7), at(8, flags)};
    CHECK(did(::futimens(fd, times)) == "ok");
    CHECK(mtime("file") == "8." + std::to_string(flags));
  }
  const Fd folder = must_open(dir.path(), O_RDONLY | O_DIRECTORY);
  const timespec times[2] = {at(6, 7), at(8, 9)};
  CHECK(did(::futimens(folder, times)) == "ok");
  CHECK(shown(info(dir.path()).st_mtim) == "8.9");
  CHECK(did(::utimensat(folder, "file", times, 0)) == "ok");
  CHECK(mtime("file") == "8.9");
  const Fd file = must_open(dir / "file", O_RDONLY);
  const timespec more[2] = {at(10), at(11, 12)};
  CHECK(did(::utimensat(file, "", more, AT_EMPTY_PATH)) == "ok");
  CHECK(mtime("file") == "11.12");
  // The older calls, with micro-seconds and seconds.
  const timeval micro[2] = {{.tv_sec = 20, .tv_usec = 21}, {.tv_sec = 22, .tv_usec = 23}};
  CHECK(did(::lutimes((dir / "link").c_str(), micro)) == "ok");
  CHECK(mtime("link") == "22.23000");
  const utimbuf seconds{.actime = 30, .modtime = 31};
  CHECK(did(::utime((dir / "file").c_str(), &seconds)) == "ok");
  CHECK(mtime("file") == "31.0");
}

TEST_CASE("utimensat: ctime moves, times of others do not") {
  const Scratch dir("times");
  make_file(dir / "file", "abc");
  make_file(dir / "other");
  Watch watch({dir / "file", dir / "other", dir.path()});
  CHECK(try_times(dir / "file", {at(1), at(2)}) == "ok");
  CHECK(watch.moved() == "a-m-c = =");
  // Set times last over reading the status, new names and chmod.
  REQUIRE(::chmod((dir / "file").c_str(), 0600) == 0);
  REQUIRE(::rename((dir / "file").c_str(), (dir / "renamed").c_str()) == 0);
  CHECK(shown(info(dir / "renamed").st_mtim) == "2.0");
  CHECK(shown(info(dir / "renamed").st_atim) == "1.0");
  // A write after it moves mtime, also through a descriptor opened before.
  const Fd fd = must_open(dir / "renamed", O_RDWR);
  REQUIRE(write_at(fd, 0, "x"));
  const timespec times[2] = {at(3), at(4)};
  REQUIRE(did(::futimens(fd, times)) == "ok");
  CHECK(shown(info(fd).st_mtim) == "4.0");
  CHECK(did(::fsync(fd)) == "ok");
  CHECK(shown(info(dir / "renamed").st_mtim) == "4.0");
  REQUIRE(write_at(fd, 1, "y"));
  CHECK(info(fd).st_mtim.tv_sec > 1'000'000'000);
}

TEST_CASE("utimensat: set after writing through a descriptor that is closed afterwards") {
  const Scratch dir("times");
  for (const std::size_t size : {1, 20'000, 70'000, 2'000'000}) {
    CAPTURE(size);
    Fd fd = must_open(dir / "file", O_RDWR | O_CREAT | O_TRUNC);
    REQUIRE(write_at(fd, 0, pattern(size, 1)));
    REQUIRE(try_times(dir / "file", {at(3, 1), at(4, 2)}) == "ok");
    fd.reset();
    CHECK(shown(info(dir / "file").st_mtim) == "4.2");
    CHECK(shown(info(dir / "file").st_atim) == "3.1");
  }
}

TEST_CASE("utimensat: who may") {
  const Scratch dir("times");
  struct File {
    const char* name;
    uid_t owner;
    mode_t mode;
  };
  const File files[] = {{"mine", kNobody.uid, 0}, {"writable", 0, 0666}, {"readable", 0, 0644},
                        {"closed", 0, 0}};
  const timespec now{.tv_sec = 0, .tv_nsec = UTIME_NOW}, omit{.tv_sec = 0, .tv_nsec = UTIME_OMIT};
  struct Row {
    Pair times;
    const char *mine, *writable, *readable, *closed;
  };
  const Row table[] = {
      {{now, now}, "ok", "ok", "EACCES", "EACCES"},
      {{at(1), at(2)}, "ok", "EPERM", "EPERM", "EPERM"},
      {{now, omit}, "ok", "EPERM", "EPERM", "EPERM"},
      {{omit, now}, "ok", "EPERM", "EPERM", "EPERM"},
      {{at(1), omit}, "ok", "EPERM", "EPERM", "EPERM"},
      {{now, at(2)}, "ok", "EPERM", "EPERM", "EPERM"},
      {{omit, omit}, "ok", "ok", "ok", "ok"},
  };
  for (const auto& file : files) {
    make_file(dir / file.name);
    own(dir / file.name, file.owner, file.owner);
    REQUIRE(::chmod((dir / file.name).c_str(), file.mode) == 0);
    for (const auto& row : table) {
      CAPTURE(file.name);
      CAPTURE(shown(row.times.atime));
      CAPTURE(shown(row.times.mtime));
      const std::string name = file.name;
      const auto wanted = name == "mine"       ? row.mine
                          : name == "writable" ? row.writable
                          : name == "readable" ? row.readable
                                               : row.closed;
      const auto call = [&] { return try_times(dir / file.name, row.times); };
      CHECK(as_user(kNobody, call) == wanted);
    }
    const auto null = [&] {
      return did(::utimensat(AT_FDCWD, (dir / file.name).c_str(), nullptr, 0));
    };
    CHECK(as_user(kNobody, null) == as_user(kNobody, [&] {
      return try_times(dir / file.name, {now, now});
    }));
  }
}

}  // namespace
}  // namespace magma::posix
