// copy_file_range(2): within a file and between two, offsets given and not, over the borders where
// a file changes its way of being stored, errors, times.
#include <fcntl.h>
#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

using Offset = std::optional<loff_t>;

std::string try_copy(int from, Offset in, int to, Offset out, std::size_t size,
                     unsigned flags = 0) {
  return did(::copy_file_range(from, in ? &*in : nullptr, to, out ? &*out : nullptr, size, flags));
}

// Copies all of it, however many calls that takes; how much was copied until the end of the source.
std::int64_t copy_all(int from, loff_t in, int to, loff_t out, std::int64_t size) {
  std::int64_t have = 0;
  while (have < size) {
    const auto before_in = in, before_out = out;
    const auto done = ::copy_file_range(from, &in, to, &out, std::size_t(size - have), 0);
    if (done <= 0) break;
    if (in != before_in + done || out != before_out + done) return -1;
    have += done;
  }
  return have;
}

TEST_CASE("copy_file_range: errors") {
  const Scratch dir("copy");
  make_file(dir / "from", "0123456789");
  make_file(dir / "to", "abc");
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0644) == 0);
  const Fd from = must_open(dir / "from", O_RDWR), to = must_open(dir / "to", O_RDWR);
  const Fd folder = must_open(dir.path(), O_RDONLY), fifo = must_open(dir / "fifo", O_RDWR);
  const Fd writer = must_open(dir / "from", O_WRONLY), reader = must_open(dir / "to", O_RDONLY);
  const Fd append = must_open(dir / "to", O_WRONLY | O_APPEND);
  const Fd path = must_open(dir / "from", O_PATH);
  CHECK(try_copy(from, 0, to, 0, 5, 1) == "EINVAL");
  CHECK(try_copy(writer, 0, to, 0, 5) == "EBADF");
  CHECK(try_copy(from, 0, reader, 0, 5) == "EBADF");
  CHECK(try_copy(from, 0, append, 0, 5) == "EBADF");
  CHECK(try_copy(-1, 0, to, 0, 5) == "EBADF");
  CHECK(try_copy(from, 0, -1, 0, 5) == "EBADF");
  CHECK(try_copy(path, 0, to, 0, 5) == "EBADF");
  CHECK(try_copy(folder, 0, to, 0, 5) == "EISDIR");
  CHECK(try_copy(from, 0, folder, 0, 5) == "EISDIR");
  CHECK(try_copy(fifo, {}, to, 0, 5) == "EINVAL");
  CHECK(try_copy(from, 0, fifo, {}, 5) == "EINVAL");
  CHECK(try_copy(from, 0, from, 4, 5) == "EINVAL");
  CHECK(try_copy(from, 4, from, 0, 5) == "EINVAL");
  CHECK(try_copy(from, 3, from, 3, 5) == "EINVAL");
  // Of numbers as wild as these the kernel says it before any file system sees them.
  CHECK(try_copy(from, -1, to, 0, 5) == "EOVERFLOW");
  CHECK(try_copy(from, 0, to, -1, 5) == "EOVERFLOW");
  CHECK(try_copy(from, 0, to, INT64_MAX - 2, 5) == "EFBIG");
  CHECK(read_all(dir / "to") == "abc");
  CHECK(read_all(dir / "from") == "0123456789");
}

TEST_CASE("copy_file_range: at the end of the source and nothing at all") {
  const Scratch dir("copy");
  make_file(dir / "from", "0123456789");
  make_file(dir / "to", "abc");
  const Fd from = must_open(dir / "from", O_RDWR), to = must_open(dir / "to", O_RDWR);
  Watch watch({dir / "to"});
  loff_t in = 10, out = 50;
  CHECK(::copy_file_range(from, &in, to, &out, 5, 0) == 0);
  in = 1'000;
  CHECK(::copy_file_range(from, &in, to, &out, 5, 0) == 0);
  in = 0;
  CHECK(::copy_file_range(from, &in, to, &out, 0, 0) == 0);
  CHECK(in == 0);
  CHECK(out == 50);
  CHECK(watch.moved() == "=");
  CHECK(info(to).st_size == 3);
  // More than there is: what there is.
  in = 7;
  CHECK(copy_all(from, in, to, out, 1'000'000) == 3);
  CHECK(watch.moved() == "mc");
  CHECK(read_all(dir / "to") == "abc" + std::string(47, '\0') + "789");
}

TEST_CASE("copy_file_range: offsets of the descriptors move only if none is given") {
  const Scratch dir("copy");
  make_file(dir / "from", "0123456789");
  make_file(dir / "to", "abcdefghij");
  const Fd from = must_open(dir / "from", O_RDONLY), to = must_open(dir / "to", O_RDWR);
  CHECK(::lseek(from, 2, SEEK_SET) == 2);
  CHECK(::lseek(to, 5, SEEK_SET) == 5);
  CHECK(::copy_file_range(from, nullptr, to, nullptr, 3, 0) == 3);
  CHECK(::lseek(from, 0, SEEK_CUR) == 5);
  CHECK(::lseek(to, 0, SEEK_CUR) == 8);
  loff_t in = 0, out = 0;
  CHECK(::copy_file_range(from, &in, to, &out, 2, 0) == 2);
  CHECK(in == 2);
  CHECK(out == 2);
  CHECK(::lseek(from, 0, SEEK_CUR) == 5);
  CHECK(::lseek(to, 0, SEEK_CUR) == 8);
  CHECK(read_all(dir / "to") == "01cde234ij");
}

TEST_CASE("copy_file_range: between files over every border") {
  const Scratch dir("copy");
  const std::int64_t edges[] = {0, 1, 4096, 16'385, 65'535, 65'537, 300'000};
  const auto source = pattern(400'000, 1), target = pattern(100'000, 2);
  make_file(dir / "from", source);
  const Fd from = must_open(dir / "from", O_RDONLY);
  for (const auto in : edges) {
    for (const auto out : edges) {
      for (const std::int64_t size : {1L, 4'096L, 65'536L, 250'000L}) {
        CAPTURE(in);
        CAPTURE(out);
        CAPTURE(size);
        make_file(dir / "to", target);
        const Fd to = must_open(dir / "to", O_RDWR);
        const auto wanted_size = std::min<std::int64_t>(size, 400'000 - in);
        REQUIRE(copy_all(from, in, to, out, size) == wanted_size);
        auto wanted = target;
        if (std::int64_t(wanted.size()) < out + wanted_size) {
          wanted.resize(std::size_t(out + wanted_size), '\0');
        }
        wanted.replace(std::size_t(out), std::size_t(wanted_size),
                       source.substr(std::size_t(in), std::size_t(wanted_size)));
        REQUIRE(difference(read_at(to, 0, wanted.size() + 1), wanted) == "");
      }
    }
  }
}

TEST_CASE("copy_file_range: within one file, forward, backward, adjacent") {
  const Scratch dir("copy");
  struct Row {
    std::int64_t in, out, size;
  };
  const Row table[] = {{0, 200'000, 100'000}, {200'000, 0, 100'000}, {0, 65'536, 65'536},
                       {65'536, 0, 65'536},   {0, 100'000, 100'000}, {250'000, 299'000, 1'000},
                       {0, 5, 5},             {290'000, 300'000, 10'000}};
  for (const auto& row : table) {
    CAPTURE(row.in);
    CAPTURE(row.out);
    const auto bytes = pattern(300'000, 3);
    make_file(dir / "file", bytes);
    const Fd fd = must_open(dir / "file", O_RDWR);
    REQUIRE(copy_all(fd, row.in, fd, row.out, row.size) == row.size);
    auto wanted = bytes;
    wanted.resize(std::max(wanted.size(), std::size_t(row.out + row.size)));
    wanted.replace(std::size_t(row.out), std::size_t(row.size),
                   bytes.substr(std::size_t(row.in), std::size_t(row.size)));
    CHECK(difference(read_all(dir / "file"), wanted) == "");
  }
}

TEST_CASE("copy_file_range: what was written a moment ago, holes, the border of 64 MiB") {
  const Scratch dir("copy");
  const Fd from = must_open(dir / "from", O_RDWR | O_CREAT);
  const Fd to = must_open(dir / "to", O_RDWR | O_CREAT);
  REQUIRE(did(::ftruncate(from, 66 * kMiB)) == "ok");
  REQUIRE(write_at(from, 64 * kMiB - 100, pattern(200, 1)));
  REQUIRE(write_at(from, 1'000'000, "early"));
  REQUIRE(copy_all(from, 0, to, 10, 66 * kMiB) == 66 * kMiB);
  CHECK(info(to).st_size == 66 * kMiB + 10);
  CHECK(difference(read_at(to, 64 * kMiB - 90, 200), pattern(200, 1)) == "");
  CHECK(read_at(to, 1'000'010, 5) == "early");
  CHECK(read_at(to, 2'000'000, 5) == std::string(5, '\0'));
  // Holes of the source overwrite what the target had.
  REQUIRE(write_at(to, 5 * kMiB, "old"));
  REQUIRE(copy_all(from, 5 * kMiB, to, 5 * kMiB, 4'096) == 4'096);
  CHECK(read_at(to, 5 * kMiB, 3) == std::string(3, '\0'));
}

}  // namespace
}  // namespace magma::posix
