// truncate(2), ftruncate(2): from every size to every size, what is read after growing again, files
// that others have open, times, errors, sizes up to 15 TiB.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdint>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

const std::int64_t kSizes[] = {0, 1, 4095, 4096, 16384, 16385, 65536, 65537, kMiB};
const std::int64_t kBigSizes[] = {0,          65536,           65537,           kMiB,
                                  64 * kMiB - 1, 64 * kMiB, 64 * kMiB + 1, 100 * kMiB};

std::string try_truncate(const std::string& path, std::int64_t size) {
  return did(::truncate(path.c_str(), size));
}

TEST_CASE("truncate: from every size to every size and back") {
  const Scratch dir("truncate");
  const auto path = dir / "file";
  for (const auto from : kSizes) {
    for (const auto to : kSizes) {
      CAPTURE(from);
      CAPTURE(to);
      const auto bytes = pattern(std::size_t(from), std::uint32_t(from + to));
      make_file(path, bytes);
      const bool by_descriptor = (from + to) % 2 != 0;
      const Fd fd = must_open(path, O_RDWR);
      CHECK((by_descriptor ? did(::ftruncate(fd, to)) : try_truncate(path, to)) == "ok");
      CHECK(info(path).st_size == to);
      CHECK(info(fd).st_size == to);
      auto wanted = bytes;
      wanted.resize(std::size_t(to), '\0');
      CHECK(difference(read_at(fd, 0, std::size_t(to) + 1), wanted) == "");
      // What was cut off is zero when the file is that long again.
      CHECK((by_descriptor ? try_truncate(path, from) : did(::ftruncate(fd, from))) == "ok");
      wanted.resize(std::size_t(from), '\0');
      CHECK(difference(read_all(path), wanted) == "");
    }
  }
}

TEST_CASE("truncate: big and sparse, around the border of 64 MiB") {
  const Scratch dir("truncate");
  const auto path = dir / "file";
  for (const auto from : kBigSizes) {
    for (const auto to : kBigSizes) {
      CAPTURE(from);
      CAPTURE(to);
      const Fd fd = must_open(path, O_RDWR | O_CREAT | O_TRUNC);
      REQUIRE(did(::ftruncate(fd, from)) == "ok");
      // The last bytes and the ones around the border are data.
      const auto start = std::max<std::int64_t>(0, from - 10);
      const auto border = 64 * kMiB - 5;
      REQUIRE(write_at(fd, start, pattern(std::size_t(from - start), 1)));
      if (from > border + 10) REQUIRE(write_at(fd, border, pattern(10, 2)));
      CHECK(try_truncate(path, to) == "ok");
      CHECK(info(path).st_size == to);
      CHECK(did(::ftruncate(fd, 100 * kMiB)) == "ok");
      const auto expect = [&](std::int64_t offset, std::size_t size) {
        std::string wanted(size, '\0');
        for (std::int64_t i = 0; i < std::int64_t(size); ++i) {
          const auto at = offset + i;
          if (at >= std::min(from, to)) continue;
          if (from > border + 10 && at >= border && at < border + 10) {
            wanted[std::size_t(i)] = pattern(10, 2)[std::size_t(at - border)];
          } else if (at >= start) {
            wanted[std::size_t(i)] = pattern(std::size_t(from - start), 1)[std::size_t(at - start)];
          }
        }
        CHECK(difference(read_at(fd, offset, size), wanted) == "");
      };
      for (const auto edge : {from, to, 64 * kMiB}) {
        if (edge <= 100 * kMiB - 100) expect(std::max<std::int64_t>(0, edge - 50), 100);
      }
      CHECK(read_at(fd, 100 * kMiB - 3, 10).size() == 3);
    }
  }
}

TEST_CASE("truncate: times move, also if the size stays") {
  const Scratch dir("truncate");
  const auto path = dir / "file";
  for (const auto from : {0L, 100L, 70'000L}) {
    for (const auto to : {0L, 99L, 100L, 70'000L, 80'000L}) {
      CAPTURE(from);
      CAPTURE(to);
      make_file(path, pattern(std::size_t(from), 1));
      const Fd fd = must_open(path, O_RDWR);
      Watch watch({path, dir.path()});
      CHECK(did(::ftruncate(fd, to)) == "ok");
      CHECK(watch.moved() == "mc =");
      REQUIRE(did(::ftruncate(fd, from)) == "ok");
      Watch by_path({path, dir.path()});
      CHECK(try_truncate(path, to) == "ok");
      CHECK(by_path.moved() == "mc =");
    }
  }
}

TEST_CASE("truncate: errors") {
  const Scratch dir("truncate");
  make_file(dir / "file", "abc", 0666);
  make_file(dir / "read-only", "abc", 0444);
  make_dir(dir / "dir", 0777);
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0666) == 0);
  REQUIRE(::mknod((dir / "sock").c_str(), S_IFSOCK | 0666, 0) == 0);
  REQUIRE(::symlink("file", (dir / "link").c_str()) == 0);
  struct Row {
    const char* path;
    std::int64_t size;
    const char* wanted;
  };
  const Row table[] = {
      {"file", -1, "EINVAL"},          {"none", -1, "EINVAL"},  {"file", INT64_MIN, "EINVAL"},
      {"file", INT64_MAX, "EFBIG"},    {"none", 0, "ENOENT"},   {"dir", 0, "EISDIR"},
      {"dir", -1, "EINVAL"},           {"fifo", 0, "EINVAL"},   {"sock", 0, "EINVAL"},
      {"link", 2, "ok"},
  };
  for (const auto& row : table) {
    CAPTURE(row.path);
    CAPTURE(row.size);
    CHECK(try_truncate(dir / row.path, row.size) == row.wanted);
  }
  CHECK(info(dir / "file").st_size == 2);
  const auto as_nobody = [&](const char* name) {
    return as_user(kNobody, [&] { return try_truncate(dir / name, 0); });
  };
  CHECK(as_nobody("read-only") == "EACCES");
  CHECK(as_nobody("dir") == "EISDIR");
  CHECK(as_nobody("file") == "ok");
  const Fd reader = must_open(dir / "file", O_RDONLY), path = must_open(dir / "file", O_PATH);
  const Fd folder = must_open(dir.path(), O_RDONLY), writer = must_open(dir / "file", O_WRONLY);
  const Fd fifo = must_open(dir / "fifo", O_RDWR);
  CHECK(did(::ftruncate(reader, 0)) == "EINVAL");
  CHECK(did(::ftruncate(path, 0)) == "EBADF");
  CHECK(did(::ftruncate(folder, 0)) == "EINVAL");
  CHECK(did(::ftruncate(fifo, 0)) == "EINVAL");
  CHECK(did(::ftruncate(-1, 0)) == "EBADF");
  CHECK(did(::ftruncate(writer, -1)) == "EINVAL");
  CHECK(did(::ftruncate(writer, INT64_MAX)) == "EFBIG");
  CHECK(did(::ftruncate(writer, 5)) == "ok");
}

TEST_CASE("truncate: RLIMIT_FSIZE") {
  const Scratch dir("truncate");
  make_file(dir / "file", "abc");
  const auto outcome = in_child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{.rlim_cur = 100'000, .rlim_max = 100'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const Fd fd(::open((dir / "file").c_str(), O_RDWR));
    const std::string bytes(2'000, 'x');
    auto words = said({try_truncate(dir / "file", 100'001), did(::ftruncate(fd, 100'001)),
                       did(::ftruncate(fd, 100'000)), did(::pwrite(fd, "x", 1, 100'000))});
    words += " " + std::to_string(::pwrite(fd, bytes.data(), bytes.size(), 99'000));
    return said({words, did(::fallocate(fd, 0, 0, 100'001))});
  });
  CHECK(outcome == "EFBIG EFBIG ok EFBIG 1000 EFBIG");
  CHECK(info(dir / "file").st_size == 100'000);
}

TEST_CASE("truncate: under descriptors of other processes") {
  const Scratch dir("truncate");
  const auto path = dir / "file";
  make_file(path, pattern(100'000, 4));
  Helper other([&](Channel& channel) {
    const Fd fd(::open(path.c_str(), O_RDWR));
    channel.say(difference(read_at(fd, 0, 100'001), pattern(100'000, 4)));
    for (;;) {
      const auto word = channel.hear();
      if (word.empty()) break;
      if (word == "write") write_at(fd, 60'000, "!");
      struct stat status {};
      ::fstat(fd, &status);
      const auto bytes = read_at(fd, 0, 200'000);
      channel.say(std::to_string(status.st_size) + " " + std::to_string(bytes.size()) + " " +
                  difference(bytes.substr(0, 10), pattern(100'000, 4).substr(0, 10)));
    }
  });
  CHECK(other.hear() == "");
  for (const auto size : {50'000, 20'000, 90'000, 10}) {
    CAPTURE(size);
    REQUIRE(try_truncate(path, size) == "ok");
    CHECK(other.ask("look") == std::to_string(size) + " " + std::to_string(size) + " ");
  }
  CHECK(other.ask("write") == "60001 60001 ");
  CHECK(difference(read_all(path),
                   pattern(100'000, 4).substr(0, 10) + std::string(59'990, '\0') + "!") == "");
}

TEST_CASE("truncate: sizes up to 15 TiB") {
  const Scratch dir("truncate");
  const Fd fd = must_open(dir / "file", O_RDWR | O_CREAT);
  constexpr std::int64_t kGiB = 1024 * kMiB, kTiB = 1024 * kGiB;
  for (const std::int64_t size : {2 * kGiB, 4 * kGiB + 1, 100 * kGiB, kTiB, 15 * kTiB}) {
    CAPTURE(size);
    CHECK(did(::ftruncate(fd, size)) == "ok");
    CHECK(info(fd).st_size == size);
    CHECK(::lseek(fd, 0, SEEK_END) == size);
    REQUIRE(write_at(fd, size - 3, "end"));
    CHECK(read_at(fd, size - 6, 10) == std::string("\0\0\0end", 6));
    CHECK(info(fd).st_blocks * 512 < 64 * kMiB);
  }
  CHECK(read_at(fd, 100 * kGiB - 3, 4) == std::string("end\0", 4));
  CHECK(did(::ftruncate(fd, 4)) == "ok");
  CHECK(read_at(fd, 0, 10) == std::string(4, '\0'));
  CHECK(did(::ftruncate(fd, kTiB)) == "ok");
  CHECK(read_at(fd, 100 * kGiB - 3, 3) == std::string(3, '\0'));
}

}  // namespace
}  // namespace magma::posix
