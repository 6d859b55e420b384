// fsync(2) and its family: what they accept and refuse; that the file is unchanged after them.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

TEST_CASE("fsync, fdatasync, syncfs, sync_file_range: files and directories opened in any way") {
  const Scratch dir("sync");
  make_file(dir / "file", pattern(200'000, 1));
  make_dir(dir / "dir");
  for (const int flags : {O_RDONLY, O_WRONLY, O_RDWR, O_WRONLY | O_APPEND, O_RDWR | O_SYNC}) {
    CAPTURE(flags);
    const Fd fd = must_open(dir / "file", flags);
    if ((flags & O_ACCMODE) != O_RDONLY) CHECK(try_write(fd) == "ok");
    CHECK(did(::fsync(fd)) == "ok");
    CHECK(did(::fdatasync(fd)) == "ok");
    CHECK(did(::syncfs(fd)) == "ok");
    CHECK(did(::sync_file_range(fd, 0, 0,
                                SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                    SYNC_FILE_RANGE_WAIT_AFTER)) == "ok");
  }
  const Fd folder = must_open(dir / "dir", O_RDONLY | O_DIRECTORY);
  CHECK(did(::fsync(folder)) == "ok");
  CHECK(did(::fdatasync(folder)) == "ok");
  CHECK(did(::syncfs(folder)) == "ok");
  make_file(dir / "dir/new");
  CHECK(did(::fsync(folder)) == "ok");
  REQUIRE(::unlink((dir / "dir/new").c_str()) == 0);
  REQUIRE(::rmdir((dir / "dir").c_str()) == 0);
  CHECK(did(::fsync(folder)) == "ok");
  // An unlinked file, and one that was truncated meanwhile.
  const Fd fd = must_open(dir / "file", O_RDWR);
  REQUIRE(did(::truncate((dir / "file").c_str(), 3)) == "ok");
  CHECK(did(::fsync(fd)) == "ok");
  REQUIRE(::unlink((dir / "file").c_str()) == 0);
  REQUIRE(write_at(fd, 100'000, "x"));
  CHECK(did(::fsync(fd)) == "ok");
  CHECK(info(fd).st_size == 100'001);
}

TEST_CASE("fsync, fdatasync, syncfs: wrong descriptors") {
  const Scratch dir("sync");
  make_file(dir / "file");
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0644) == 0);
  const Fd path = must_open(dir / "file", O_PATH), fifo = must_open(dir / "fifo", O_RDWR);
  for (const int fd : {-1, int(path)}) {
    CHECK(did(::fsync(fd)) == "EBADF");
    CHECK(did(::fdatasync(fd)) == "EBADF");
    CHECK(did(::syncfs(fd)) == "EBADF");
    CHECK(did(::sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE)) == "EBADF");
  }
  CHECK(did(::fsync(fifo)) == "EINVAL");
  CHECK(did(::fdatasync(fifo)) == "EINVAL");
  CHECK(did(::sync_file_range(fifo, 0, 0, SYNC_FILE_RANGE_WRITE)) == "ESPIPE");
  const Fd file = must_open(dir / "file", O_RDONLY);
  CHECK(did(::sync_file_range(file, 0, 0, 0x100)) == "EINVAL");
  CHECK(did(::sync_file_range(file, -1, 0, SYNC_FILE_RANGE_WRITE)) == "EINVAL");
}

TEST_CASE("fsync: times and sizes are what they were") {
  const Scratch dir("sync");
  const Fd fd = must_open(dir / "file", O_RDWR | O_CREAT);
  for (const std::size_t size : {1, 20'000, 70'000, 3'000'000}) {
    CAPTURE(size);
    REQUIRE(write_at(fd, 0, pattern(size, 1)));
    Watch watch({dir / "file", dir.path()});
    CHECK(did(::fsync(fd)) == "ok");
    CHECK(did(::fdatasync(fd)) == "ok");
    CHECK(watch.moved() == "= =");
    CHECK(info(fd).st_size == off_t(size));
    CHECK(difference(read_at(fd, 0, size + 1), pattern(size, 1)) == "");
  }
}

TEST_CASE("posix_fadvise and readahead are taken as hints") {
  const Scratch dir("sync");
  make_file(dir / "file", pattern(100'000, 1));
  const Fd fd = must_open(dir / "file", O_RDONLY), path = must_open(dir / "file", O_PATH);
  for (const int advice : {POSIX_FADV_NORMAL, POSIX_FADV_SEQUENTIAL, POSIX_FADV_RANDOM,
                           POSIX_FADV_WILLNEED, POSIX_FADV_DONTNEED, POSIX_FADV_NOREUSE}) {
    CAPTURE(advice);
    CHECK(error_name(::posix_fadvise(fd, 0, 0, advice)) == "ok");
    CHECK(difference(read_at(fd, 0, 100'001), pattern(100'000, 1)) == "");
  }
  CHECK(error_name(::posix_fadvise(fd, 0, 0, 77)) == "EINVAL");
  CHECK(error_name(::posix_fadvise(fd, 0, -1, POSIX_FADV_NORMAL)) == "EINVAL");
  CHECK(error_name(::posix_fadvise(path, 0, 0, POSIX_FADV_NORMAL)) == "EBADF");
  CHECK(did(::readahead(fd, 0, 100'000)) == "ok");
}

}  // namespace
}  // namespace magma::posix
