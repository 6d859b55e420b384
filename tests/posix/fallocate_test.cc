// fallocate(2), posix_fallocate(3): space beforehand, holes and zeros afterwards, over the borders
// where a file changes its way of being stored; errors; collapsing and inserting may be refused.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>

#include <cstdint>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

constexpr int kKeep = FALLOC_FL_KEEP_SIZE;
constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
constexpr int kZero = FALLOC_FL_ZERO_RANGE;

std::string try_fallocate(int fd, int mode, std::int64_t from, std::int64_t size) {
  return did(::fallocate(fd, mode, from, size));
}

TEST_CASE("fallocate: errors") {
  const Scratch dir("fallocate");
  make_file(dir / "file", "0123456789");
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0644) == 0);
  const Fd fd = must_open(dir / "file", O_RDWR), reader = must_open(dir / "file", O_RDONLY);
  const Fd folder = must_open(dir.path(), O_RDONLY), fifo = must_open(dir / "fifo", O_RDWR);
  const Fd path = must_open(dir / "file", O_PATH);
  for (const int mode : {0, kKeep, kPunch, kZero}) {
    CAPTURE(mode);
    CHECK(try_fallocate(fd, mode, -1, 10) == "EINVAL");
    CHECK(try_fallocate(fd, mode, 0, 0) == "EINVAL");
    CHECK(try_fallocate(fd, mode, 0, -1) == "EINVAL");
    CHECK(try_fallocate(fd, mode, INT64_MAX, 1) == "EFBIG");
    CHECK(try_fallocate(fd, mode, INT64_MAX - 5, 100) == "EFBIG");
    CHECK(try_fallocate(reader, mode, 0, 10) == "EBADF");
    CHECK(try_fallocate(folder, mode, 0, 10) == "EBADF");
    CHECK(try_fallocate(path, mode, 0, 10) == "EBADF");
    CHECK(try_fallocate(-1, mode, 0, 10) == "EBADF");
    CHECK(try_fallocate(fifo, mode, 0, 10) == "ESPIPE");
  }
  CHECK(try_fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4) == "EOPNOTSUPP");
  CHECK(try_fallocate(fd, kPunch | kZero, 0, 4) == "EOPNOTSUPP");
  CHECK(try_fallocate(fd, 0x4000, 0, 4) == "EOPNOTSUPP");
  const Fd append = must_open(dir / "file", O_WRONLY | O_APPEND);
  CHECK(try_fallocate(append, 0, 0, 5) == "ok");
  CHECK(read_all(dir / "file") == "0123456789");
  CHECK(error_name(::posix_fallocate(reader, 0, 5)) == "EBADF");
  CHECK(error_name(::posix_fallocate(fd, 0, 0)) == "EINVAL");
  CHECK(error_name(::posix_fallocate(fd, 0, 12)) == "ok");
  CHECK(read_all(dir / "file") == std::string("0123456789\0\0", 12));
}

TEST_CASE("fallocate: every mode over every border") {
  const Scratch dir("fallocate");
  const std::int64_t sizes[] = {0, 10, 4096, 16'385, 65'536, 65'537, 300'000};
  const std::int64_t edges[] = {0, 1, 4095, 4096, 16'384, 65'535, 65'537, 200'000};
  for (const auto size : sizes) {
    const auto bytes = pattern(std::size_t(size), std::uint32_t(size));
    for (const auto from : edges) {
      for (const auto to : edges) {
        if (to <= from) continue;
        for (const int mode : {0, kKeep, kPunch, kZero, kZero | kKeep}) {
          CAPTURE(size);
          CAPTURE(from);
          CAPTURE(to);
          CAPTURE(mode);
          make_file(dir / "file", bytes);
          const Fd fd = must_open(dir / "file", O_RDWR);
          REQUIRE(try_fallocate(fd, mode, from, to - from) == "ok");
          auto wanted = bytes;
          if ((mode & kKeep) == 0 && to > size) wanted.resize(std::size_t(to), '\0');
          if ((mode & ~kKeep) != 0) {
            for (auto i = from; i < std::min<std::int64_t>(to, std::int64_t(wanted.size())); ++i) {
              wanted[std::size_t(i)] = '\0';
            }
          }
          REQUIRE(info(fd).st_size == off_t(wanted.size()));
          REQUIRE(difference(read_at(fd, 0, wanted.size() + 1), wanted) == "");
        }
      }
    }
  }
}

TEST_CASE("fallocate: what was kept beyond the end does not show") {
  const Scratch dir("fallocate");
  make_file(dir / "file", "abc");
  const Fd fd = must_open(dir / "file", O_RDWR);
  REQUIRE(try_fallocate(fd, kKeep, 0, kMiB) == "ok");
  CHECK(info(fd).st_size == 3);
  CHECK(read_all(dir / "file") == "abc");
  CHECK(::lseek(fd, 0, SEEK_END) == 3);
  REQUIRE(write_at(fd, 100'000, "x"));
  CHECK(difference(read_all(dir / "file"), "abc" + std::string(99'997, '\0') + "x") == "");
  REQUIRE(did(::ftruncate(fd, 3)) == "ok");
  REQUIRE(did(::ftruncate(fd, 200)) == "ok");
  CHECK(read_all(dir / "file") == "abc" + std::string(197, '\0'));
}

TEST_CASE("fallocate: big ranges over the border of 64 MiB") {
  const Scratch dir("fallocate");
  const Fd fd = must_open(dir / "file", O_RDWR | O_CREAT);
  REQUIRE(try_fallocate(fd, 0, 0, 70 * kMiB) == "ok");
  CHECK(info(fd).st_size == 70 * kMiB);
  CHECK(read_at(fd, 64 * kMiB - 10, 20) == std::string(20, '\0'));
  REQUIRE(write_at(fd, 64 * kMiB - 10, "01234567890123456789"));
  REQUIRE(write_at(fd, 60 * kMiB, "inside"));
  REQUIRE(try_fallocate(fd, kPunch, 60 * kMiB, 4 * kMiB + 5) == "ok");
  CHECK(read_at(fd, 60 * kMiB, 6) == std::string(6, '\0'));
  CHECK(read_at(fd, 64 * kMiB - 10, 20) == std::string(15, '\0') + "56789");
  REQUIRE(try_fallocate(fd, kZero, 64 * kMiB + 7, 10 * kMiB) == "ok");
  CHECK(info(fd).st_size == 74 * kMiB + 7);
  CHECK(read_at(fd, 64 * kMiB, 10) == std::string("\0\0\0\0\0" "56\0\0\0", 10));
  // A hole punched beyond the end, and over it.
  REQUIRE(try_fallocate(fd, kPunch, 80 * kMiB, kMiB) == "ok");
  REQUIRE(try_fallocate(fd, kPunch, 64 * kMiB, 50 * kMiB) == "ok");
  CHECK(info(fd).st_size == 74 * kMiB + 7);
  CHECK(read_at(fd, 64 * kMiB, 10) == std::string(10, '\0'));
}

TEST_CASE("fallocate: times") {
  const Scratch dir("fallocate");
  struct Row {
    int mode;
    std::int64_t from, size;
    const char* wanted;
  };
  const Row table[] = {
      {0, 0, 200'000, "mc"},   {kPunch, 0, 5'000, "mc"}, {kZero, 0, 5'000, "mc"},
      {kZero, 0, 200'000, "mc"}, {kZero | kKeep, 0, 200'000, "mc"},
  };
  for (const auto& row : table) {
    CAPTURE(row.mode);
    CAPTURE(row.size);
    make_file(dir / "file", pattern(100'000, 1));
    const Fd fd = must_open(dir / "file", O_RDWR);
    Watch watch({dir / "file", dir.path()});
    REQUIRE(try_fallocate(fd, row.mode, row.from, row.size) == "ok");
    CHECK(watch.moved() == std::string(row.wanted) + " =");
  }
  // A refused one touches nothing.
  Watch watch({dir / "file"});
  const Fd fd = must_open(dir / "file", O_RDWR);
  CHECK(try_fallocate(fd, 0, 0, 0) == "EINVAL");
  CHECK(watch.moved() == "=");
}

TEST_CASE("fallocate: collapsing and inserting work or are refused") {
  const Scratch dir("fallocate");
  const auto bytes = pattern(300'000, 5);
  for (const int mode : {FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE}) {
    CAPTURE(mode);
    make_file(dir / "file", bytes);
    const Fd fd = must_open(dir / "file", O_RDWR);
    const auto outcome = try_fallocate(fd, mode, 65'536, 65'536);
    CHECK((outcome == "ok" || outcome == "EOPNOTSUPP"));
    auto wanted = bytes;
    if (outcome == "ok" && mode == FALLOC_FL_COLLAPSE_RANGE) wanted.erase(65'536, 65'536);
    if (outcome == "ok" && mode == FALLOC_FL_INSERT_RANGE) {
      wanted.insert(65'536, std::string(65'536, '\0'));
    }
    CHECK(difference(read_all(dir / "file"), wanted) == "");
    const auto unaligned = try_fallocate(fd, mode, 1, 3);
    CHECK((unaligned == "EINVAL" || unaligned == "EOPNOTSUPP"));
    CHECK(difference(read_all(dir / "file"), wanted) == "");
  }
}

}  // namespace
}  // namespace magma::posix
