// stat(2), statx(2), statfs(2), statvfs(3): birth times, masks and flags, sizes and block counts,
// free space that moves; atime as relatime has it.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include <ctime>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

struct statx statx_of(const std::string& path, unsigned mask = STATX_ALL, int flags = 0) {
  struct statx result {};
  REQUIRE(did(::statx(AT_FDCWD, path.c_str(), flags | AT_SYMLINK_NOFOLLOW, mask, &result)) == "ok");
  return result;
}
std::string birth(const std::string& path) {
  const auto result = statx_of(path);
  REQUIRE((result.stx_mask & STATX_BTIME) != 0);
  return std::to_string(result.stx_btime.tv_sec) + "." + std::to_string(result.stx_btime.tv_nsec);
}

TEST_CASE("statx: says what stat says") {
  const Scratch dir("statx");
  make_file(dir / "file", pattern(10'000, 1), 04751);
  own(dir / "file", 5, 6);
  make_dir(dir / "dir");
  REQUIRE(::symlink("file", (dir / "link").c_str()) == 0);
  REQUIRE(::mknod((dir / "char").c_str(), S_IFCHR | 0644, makedev(300, 70'000)) == 0);
  for (const char* name : {"file", "dir", "link", "char"}) {
    for (const int flags : {AT_STATX_SYNC_AS_STAT, AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC}) {
      CAPTURE(name);
      CAPTURE(flags);
      const auto wanted = info(dir / name);
      const auto got = statx_of(dir / name, STATX_ALL, flags);
      CHECK((got.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
      CHECK(got.stx_mode == wanted.st_mode);
      CHECK(got.stx_nlink == wanted.st_nlink);
      CHECK(got.stx_uid == wanted.st_uid);
      CHECK(got.stx_gid == wanted.st_gid);
      CHECK(got.stx_ino == wanted.st_ino);
      CHECK(got.stx_size == std::uint64_t(wanted.st_size));
      CHECK(got.stx_blocks == std::uint64_t(wanted.st_blocks));
      CHECK(got.stx_blksize == std::uint32_t(wanted.st_blksize));
      CHECK(makedev(got.stx_dev_major, got.stx_dev_minor) == wanted.st_dev);
      CHECK(makedev(got.stx_rdev_major, got.stx_rdev_minor) == wanted.st_rdev);
      CHECK(got.stx_mtime.tv_sec == wanted.st_mtim.tv_sec);
      CHECK(got.stx_mtime.tv_nsec == wanted.st_mtim.tv_nsec);
      CHECK(got.stx_ctime.tv_nsec == wanted.st_ctim.tv_nsec);
      CHECK(got.stx_atime.tv_nsec == wanted.st_atim.tv_nsec);
    }
  }
}

TEST_CASE("statx: the birth time is that of making and stays") {
  const Scratch dir("statx");
  const auto before = std::time(nullptr) - 60;
  make_file(dir / "file");
  make_dir(dir / "dir");
  REQUIRE(::symlink("file", (dir / "link").c_str()) == 0);
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0644) == 0);
  for (const char* name : {"file", "dir", "link", "fifo"}) {
    CAPTURE(name);
    const auto path = dir / name;
    const auto born = birth(path);
    CHECK(std::stoll(born) >= before);
    CHECK(std::stoll(born) <= std::time(nullptr) + 60);
    tick();
    const timespec times[2] = {{.tv_sec = 1, .tv_nsec = 0}, {.tv_sec = 2, .tv_nsec = 0}};
    REQUIRE(did(::lchown(path.c_str(), 5, 6)) == "ok");
    REQUIRE(did(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW)) == "ok");
    REQUIRE(did(::rename(path.c_str(), (path + "2").c_str())) == "ok");
    CHECK(birth(path + "2") == born);
    CHECK(info(path + "2").st_mtim.tv_sec == 2);
  }
  const auto path = dir / "file2", born = birth(path);
  make_file(path, pattern(200'000, 1), 0600);
  REQUIRE(did(::truncate(path.c_str(), 10)) == "ok");
  CHECK(birth(path) == born);
  REQUIRE(did(::link(path.c_str(), (path + "3").c_str())) == "ok");
  CHECK(birth(path + "3") == born);
  // Made anew it is younger.
  REQUIRE(::unlink(path.c_str()) == 0);
  tick();
  make_file(path);
  CHECK(birth(path) != born);
}

TEST_CASE("statx: flags, masks, descriptors, errors") {
  const Scratch dir("statx");
  make_file(dir / "file", "abc");
  REQUIRE(::symlink("file", (dir / "link").c_str()) == 0);
  struct statx result {};
  const auto call = [&](int at, const std::string& path, int flags, unsigned mask = STATX_ALL) {
    return did(::statx(at, path.c_str(), flags, mask, &result));
  };
  CHECK(call(AT_FDCWD, dir / "file", 0, 0) == "ok");
  CHECK(call(AT_FDCWD, dir / "file", 0, 0x80000000U) == "EINVAL");
  CHECK(call(AT_FDCWD, dir / "file", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC) == "EINVAL");
  CHECK(call(AT_FDCWD, dir / "file", 0x40000) == "EINVAL");
  CHECK(call(AT_FDCWD, dir / "file", AT_NO_AUTOMOUNT) == "ok");
  CHECK(call(AT_FDCWD, dir / "link", 0) == "ok");
  CHECK(S_ISREG(result.stx_mode));
  CHECK(call(AT_FDCWD, dir / "link", AT_SYMLINK_NOFOLLOW) == "ok");
  CHECK(S_ISLNK(result.stx_mode));
  CHECK(call(AT_FDCWD, dir / "none", 0) == "ENOENT");
  CHECK(call(AT_FDCWD, dir / "file/x", 0) == "ENOTDIR");
  CHECK(call(-1, "file", 0) == "EBADF");
  const Fd file = must_open(dir / "file", O_RDONLY), folder = must_open(dir.path(), O_RDONLY);
  const Fd path = must_open(dir / "file", O_PATH);
  CHECK(call(file, "", AT_EMPTY_PATH) == "ok");
  CHECK(result.stx_size == 3);
  CHECK(call(path, "", AT_EMPTY_PATH) == "ok");
  CHECK(call(file, "", 0) == "ENOENT");
  CHECK(call(file, "x", 0) == "ENOTDIR");
  CHECK(call(folder, "file", 0) == "ok");
  struct stat status {};
  CHECK(did(::fstatat(folder, "link", &status, AT_SYMLINK_NOFOLLOW)) == "ok");
  CHECK(S_ISLNK(status.st_mode));
  CHECK(did(::fstatat(folder, "file", &status, 0x40000)) == "EINVAL");
  CHECK(did(::fstat(-1, &status)) == "EBADF");
}

TEST_CASE("stat: sizes, blocks, devices and inode numbers") {
  const Scratch dir("stat");
  for (const std::size_t size : {0, 1, 4096, 16'385, 65'537, 1'048'576}) {
    CAPTURE(size);
    make_file(dir / "file", pattern(size, 1));
    const Fd fd = must_open(dir / "file", O_RDONLY);
    REQUIRE(did(::fsync(fd)) == "ok");
    const auto status = info(dir / "file");
    CHECK(status.st_size == off_t(size));
    CHECK(status.st_blocks * 512 <= std::int64_t(size) + 2 * 65'536);
    if (size >= 65'536) CHECK(status.st_blocks * 512 >= std::int64_t(size));
    CHECK(status.st_blksize >= 512);
    CHECK(status.st_dev == info(dir.path()).st_dev);
    CHECK(status.st_ino == info(fd).st_ino);
    CHECK(status.st_ino != info(dir.path()).st_ino);
  }
  const auto inode = info(dir / "file").st_ino;
  make_file(dir / "other");
  CHECK(info(dir / "other").st_ino != inode);
}

TEST_CASE("statfs: what it says of the file system") {
  const Scratch dir("statfs");
  make_file(dir / "file");
  const Fd fd = must_open(dir / "file", O_RDONLY);
  struct statfs by_path {}, by_fd {};
  struct statvfs vfs {}, fvfs {};
  REQUIRE(did(::statfs(dir.path().c_str(), &by_path)) == "ok");
  REQUIRE(did(::fstatfs(fd, &by_fd)) == "ok");
  REQUIRE(did(::statvfs((dir / "file").c_str(), &vfs)) == "ok");
  REQUIRE(did(::fstatvfs(fd, &fvfs)) == "ok");
  CHECK(by_path.f_namelen == 255);
  CHECK(vfs.f_namemax == 255);
  CHECK(fvfs.f_namemax == 255);
  CHECK(by_path.f_type == by_fd.f_type);
  CHECK(by_path.f_blocks == by_fd.f_blocks);
  CHECK(by_path.f_bsize >= 512);
  CHECK(by_path.f_blocks > 0);
  CHECK(by_path.f_bfree <= by_path.f_blocks);
  CHECK(by_path.f_bavail <= by_path.f_bfree);
  CHECK(vfs.f_blocks == by_path.f_blocks);
  CHECK(vfs.f_frsize > 0);
  CHECK(by_path.f_ffree <= by_path.f_files);
  CHECK((vfs.f_flag & ST_RDONLY) == 0);
  CHECK(did(::fstatfs(-1, &by_fd)) == "EBADF");
  CHECK(as_user(kNobody, [&] { return did(::statfs(dir.path().c_str(), &by_path)); }) == "ok");
}

TEST_CASE("statfs: free space falls with 8 MiB written and comes back") {
  const Scratch dir("statfs");
  const auto free_bytes = [&] {
    struct statvfs vfs {};
    if (::statvfs(dir.path().c_str(), &vfs) != 0) return std::int64_t(-1);
    return std::int64_t(vfs.f_bfree * vfs.f_frsize);
  };
  // Others may use the same disk: three tries.
  bool fell = false, rose = false;
  for (int i = 0; i < 3 && !(fell && rose); ++i) {
    const auto before = free_bytes();
    make_file(dir / "file", pattern(std::size_t(8 * kMiB), 1));
    { REQUIRE(did(::fsync(must_open(dir / "file", O_RDONLY))) == "ok"); }
    fell = eventually(3'000, [&] { return free_bytes() <= before - 6 * kMiB; });
    const auto full = free_bytes();
    REQUIRE(::unlink((dir / "file").c_str()) == 0);
    rose = eventually(3'000, [&] { return free_bytes() >= full + 6 * kMiB; });
  }
  CHECK(fell);
  CHECK(rose);
}

TEST_CASE("atime: never goes back, and moves as relatime says where the mount has it") {
  const Scratch dir("atime");
  make_file(dir / "file", "abc");
  const auto path = dir / "file";
  const auto atime = [&] { return nanoseconds(info(path).st_atim); };
  const auto set = [&](std::int64_t atime_s, std::int64_t mtime_s) {
    const timespec times[2] = {{.tv_sec = atime_s, .tv_nsec = 0},
                               {.tv_sec = mtime_s, .tv_nsec = 0}};
    REQUIRE(did(::utimensat(AT_FDCWD, path.c_str(), times, 0)) == "ok");
  };
  const auto options = mount_options(dir.path());
  const bool has_relatime = options.find(",relatime,") != std::string::npos;
  const auto now = std::time(nullptr);
  struct Row {
    std::int64_t atime, mtime;
    bool moves;  // with relatime
  };
  const Row table[] = {
      {now - 5'000, now - 4'000, true},     // older than the content
      {now - 4'000, now - 5'000, true},     // older than ctime, which is now
      {now + 5'000, now - 5'000, false},    // newer than both
      {now - 200'000, now - 300'000, true},  // older than a day
  };
  for (const auto& row : table) {
    CAPTURE(row.atime - now);
    set(row.atime, row.mtime);
    const auto before = atime();
    tick();
    CHECK(read_all(path) == "abc");
    if (has_relatime && row.moves) {
      CHECK(eventually(3'000, [&] { return atime() > before; }));
    } else if (has_relatime) {
      CHECK(atime() == before);
    }
    CHECK(atime() >= before);
    CHECK(info(path).st_mtim.tv_sec == row.mtime);
  }
  // Never moved by O_NOATIME, nor by looking.
  set(now - 5'000, now - 4'000);
  const auto before = atime();
  const Fd fd = must_open(path, O_RDONLY | O_NOATIME);
  CHECK(try_read(fd) == "ok");
  CHECK(try_open(path, O_RDWR) == "ok");
  CHECK(did(::access(path.c_str(), R_OK)) == "ok");
  CHECK(atime() == before);
}

}  // namespace
}  // namespace magma::posix
