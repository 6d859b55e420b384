// Sparse files: what lseek(SEEK_DATA) and lseek(SEEK_HOLE) may answer. A file system is free to
// call a hole data, so only this is wanted: nothing written is ever called a hole, answers are
// ordered, the end of the file is a hole, ENXIO from the end on. And that holes take no space.
#include <fcntl.h>
#include <sys/stat.h>

#include <random>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

struct Extent {
  std::int64_t from, to;
};

// The data of a file as lseek tells it; the test case ends if the answers make no sense.
std::vector<Extent> extents(const Fd& fd) {
  std::vector<Extent> found;
  const std::int64_t size = info(fd).st_size;
  for (std::int64_t at = 0; at < size;) {
    const auto from = ::lseek(fd, at, SEEK_DATA);
    if (from < 0) {
      REQUIRE(did(from) == "ENXIO");
      break;
    }
    REQUIRE(from >= at);
    REQUIRE(from < size);
    REQUIRE(::lseek(fd, 0, SEEK_CUR) == from);
    const auto to = ::lseek(fd, from, SEEK_HOLE);
    REQUIRE(to > from);
    REQUIRE(to <= size);
    REQUIRE(::lseek(fd, 0, SEEK_CUR) == to);
    // A hole begins where it says: asked there again, it is there.
    REQUIRE(::lseek(fd, to - 1, SEEK_DATA) == to - 1);
    if (to < size) REQUIRE(::lseek(fd, to, SEEK_HOLE) == to);
    found.push_back({from, to});
    at = to;
  }
  return found;
}

bool covers(const std::vector<Extent>& all, Extent one) {
  for (const auto& each : all) {
    if (each.from <= one.from && one.to <= each.to) return true;
  }
  return false;
}

TEST_CASE("lseek: SEEK_DATA and SEEK_HOLE find what was written") {
  const Scratch dir("sparse");
  const std::vector<std::vector<Extent>> table = {
      {},
      {{0, 1}},
      {{0, 70'000}},
      {{100'000, 100'001}},
      {{65'536, 131'072}, {1 * kMiB, 2 * kMiB}},
      {{0, 4096}, {300'000, 300'500}, {3 * kMiB, 3 * kMiB + 1}},
      {{64 * kMiB - 10, 64 * kMiB + 10}},
      {{1 * kMiB, 1 * kMiB + 5}, {64 * kMiB, 64 * kMiB + 5}, {99 * kMiB, 100 * kMiB}},
  };
  for (const auto& written : table) {
    for (const std::int64_t tail : {0L, 1L, 500'000L}) {
      for (const bool syncs : {false, true}) {
        CAPTURE(written.size());
        CAPTURE(tail);
        CAPTURE(syncs);
        const Fd fd = must_open(dir / "file", O_RDWR | O_CREAT | O_TRUNC);
        for (const auto& piece : written) {
          REQUIRE(write_at(fd, piece.from, pattern(std::size_t(piece.to - piece.from), 1)));
        }
        const auto end = (written.empty() ? 0 : written.back().to) + tail;
        REQUIRE(did(::ftruncate(fd, end)) == "ok");
        if (syncs) REQUIRE(did(::fsync(fd)) == "ok");
        const auto found = extents(fd);
        for (const auto& piece : written) {
          CAPTURE(piece.from);
          CHECK(covers(found, piece));
        }
        for (const int whence : {SEEK_DATA, SEEK_HOLE}) {
          CHECK(did(::lseek(fd, end, whence)) == "ENXIO");
          CHECK(did(::lseek(fd, end + 10'000, whence)) == "ENXIO");
          CHECK(did(::lseek(fd, -1, whence)) == "ENXIO");
        }
        if (end > 0) {
          const auto hole = ::lseek(fd, end - 1, SEEK_HOLE);
          CHECK((hole == end || hole == end - 1));
        }
      }
    }
  }
}

TEST_CASE("lseek: data written, cut off, punched out and written again") {
  const Scratch dir("sparse");
  std::minstd_rand random(7);
  const Fd fd = must_open(dir / "file", O_RDWR | O_CREAT);
  constexpr std::int64_t kUnit = 65'536, kUnits = 32;
  std::vector<bool> is_written(kUnits, false);
  REQUIRE(did(::ftruncate(fd, kUnit * kUnits)) == "ok");
  for (int step = 0; step < 120; ++step) {
    const auto unit = std::size_t(random() % kUnits);
    const auto at = std::int64_t(unit) * kUnit;
    CAPTURE(step);
    switch (random() % 4) {
      case 0:
      case 1:
        REQUIRE(write_at(fd, at + 100, "data"));
        is_written[unit] = true;
        break;
      case 2:
        REQUIRE(did(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, kUnit)) ==
                "ok");
        is_written[unit] = false;
        break;
      default:
        if (step % 7 != 0) break;
        REQUIRE(did(::ftruncate(fd, at)) == "ok");
        REQUIRE(did(::ftruncate(fd, kUnit * kUnits)) == "ok");
        for (auto i = unit; i < kUnits; ++i) is_written[i] = false;
    }
    const auto found = extents(fd);
    for (std::size_t i = 0; i < kUnits; ++i) {
      if (!is_written[i]) continue;
      CAPTURE(i);
      REQUIRE(covers(found, {std::int64_t(i) * kUnit + 100, std::int64_t(i) * kUnit + 104}));
      REQUIRE(read_at(fd, std::int64_t(i) * kUnit + 100, 4) == "data");
    }
  }
}

TEST_CASE("lseek: a copy by extents equals the file") {
  const Scratch dir("sparse");
  const Fd from = must_open(dir / "from", O_RDWR | O_CREAT);
  for (int i = 0; i < 40; ++i) {
    REQUIRE(write_at(from, i * 333'333, pattern(std::size_t(1 + i * 997), std::uint32_t(i))));
  }
  REQUIRE(did(::ftruncate(from, 14'000'000)) == "ok");
  const Fd to = must_open(dir / "to", O_RDWR | O_CREAT);
  REQUIRE(did(::ftruncate(to, 14'000'000)) == "ok");
  for (const auto& piece : extents(from)) {
    REQUIRE(
        write_at(to, piece.from, read_at(from, piece.from, std::size_t(piece.to - piece.from))));
  }
  CHECK(difference(read_all(dir / "to"), read_all(dir / "from")) == "");
}

TEST_CASE("lseek: SEEK_DATA and SEEK_HOLE of what is no file with data") {
  const Scratch dir("sparse");
  make_file(dir / "empty");
  const Fd empty = must_open(dir / "empty", O_RDONLY), path = must_open(dir / "empty", O_PATH);
  CHECK(did(::lseek(empty, 0, SEEK_DATA)) == "ENXIO");
  CHECK(did(::lseek(empty, 0, SEEK_HOLE)) == "ENXIO");
  CHECK(did(::lseek(path, 0, SEEK_HOLE)) == "EBADF");
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0644) == 0);
  const Fd fifo = must_open(dir / "fifo", O_RDWR);
  CHECK(did(::lseek(fifo, 0, SEEK_DATA)) == "ESPIPE");
  // Only holes: all of it may be called either.
  const Fd hole = must_open(dir / "hole", O_RDWR | O_CREAT);
  REQUIRE(did(::ftruncate(hole, 10 * kMiB)) == "ok");
  CHECK(extents(hole).size() <= 1);
}

TEST_CASE("sparse files take little space and say so") {
  const Scratch dir("sparse");
  const Fd fd = must_open(dir / "file", O_RDWR | O_CREAT);
  REQUIRE(did(::ftruncate(fd, 100 * kMiB)) == "ok");
  CHECK(info(fd).st_blocks * 512 < kMiB);
  REQUIRE(write_at(fd, 50 * kMiB, pattern(std::size_t(2 * kMiB), 1)));
  REQUIRE(did(::fsync(fd)) == "ok");
  const auto blocks = info(fd).st_blocks * 512;
  CHECK(blocks >= 2 * kMiB);
  CHECK(blocks < 8 * kMiB);
  REQUIRE(did(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 50 * kMiB, kMiB)) ==
          "ok");
  CHECK(info(fd).st_blocks * 512 <= blocks - kMiB / 2);
  REQUIRE(did(::ftruncate(fd, 0)) == "ok");
  CHECK(info(fd).st_blocks * 512 < 65'536);
}

}  // namespace
}  // namespace magma::posix
