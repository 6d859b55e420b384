// mmap(2), msync(2): private and shared mappings beside read and write, ends of files within a
// page, truncation under a mapping, protections, times.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <csignal>
#include <cstring>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

constexpr int kRead = PROT_READ, kBoth = PROT_READ | PROT_WRITE;

class Mapping {
 public:
  Mapping(int fd, std::size_t size, int protection, int flags, std::int64_t offset = 0)
      : size_(size),
        bytes_(static_cast<char*>(::mmap(nullptr, size, protection, flags, fd, offset))) {
    REQUIRE(bytes_ != MAP_FAILED);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { ::munmap(bytes_, size_); }
  char& operator[](std::size_t at) { return bytes_[at]; }
  void put(std::size_t at, const std::string& with) {
    std::memcpy(bytes_ + at, with.data(), with.size());
  }
  std::string get(std::size_t at, std::size_t size) const { return {bytes_ + at, size}; }
  std::string sync(int flags = MS_SYNC) { return did(::msync(bytes_, size_, flags)); }

 private:
  std::size_t size_;
  char* bytes_;
};

std::string try_mmap(int fd, std::size_t size, int protection, int flags,
                     std::int64_t offset = 0) {
  void* memory = ::mmap(nullptr, size, protection, flags, fd, offset);
  if (memory == MAP_FAILED) return did(-1);
  ::munmap(memory, size);
  return "ok";
}

TEST_CASE("mmap: errors") {
  const Scratch dir("mmap");
  make_file(dir / "file", pattern(10'000, 1));
  const Fd reader = must_open(dir / "file", O_RDONLY), writer = must_open(dir / "file", O_WRONLY);
  const Fd both = must_open(dir / "file", O_RDWR), folder = must_open(dir.path(), O_RDONLY);
  const Fd path = must_open(dir / "file", O_PATH);
  CHECK(try_mmap(reader, 4096, kRead, MAP_SHARED) == "ok");
  CHECK(try_mmap(reader, 4096, kBoth, MAP_SHARED) == "EACCES");
  CHECK(try_mmap(reader, 4096, kBoth, MAP_PRIVATE) == "ok");
  CHECK(try_mmap(writer, 4096, kRead, MAP_SHARED) == "EACCES");
  CHECK(try_mmap(writer, 4096, kRead, MAP_PRIVATE) == "EACCES");
  CHECK(try_mmap(writer, 4096, PROT_WRITE, MAP_SHARED) == "EACCES");
  CHECK(try_mmap(both, 0, kRead, MAP_SHARED) == "EINVAL");
  CHECK(try_mmap(both, 4096, kRead, MAP_SHARED, 1) == "EINVAL");
  CHECK(try_mmap(both, 4096, kRead, 0) == "EINVAL");
  CHECK(try_mmap(both, 4096, kRead | PROT_EXEC, MAP_PRIVATE) == "ok");
  CHECK(try_mmap(both, 4096, kRead, MAP_SHARED, 1 << 30) == "ok");
  CHECK(try_mmap(folder, 4096, kRead, MAP_PRIVATE) == "ENODEV");
  CHECK(try_mmap(path, 4096, kRead, MAP_PRIVATE) == "EBADF");
  CHECK(try_mmap(-1, 4096, kRead, MAP_SHARED) == "EBADF");
  void* memory = ::mmap(nullptr, 4096, kRead, MAP_SHARED, reader, 0);
  REQUIRE(memory != MAP_FAILED);
  CHECK(did(::mprotect(memory, 4096, kBoth)) == "EACCES");
  CHECK(did(::msync(memory, 4096, MS_SYNC | MS_ASYNC)) == "EINVAL");
  CHECK(did(::msync(static_cast<char*>(memory) + 1, 10, MS_SYNC)) == "EINVAL");
  REQUIRE(::munmap(memory, 4096) == 0);
  CHECK(did(::msync(memory, 4096, MS_SYNC)) == "ENOMEM");
}

TEST_CASE("mmap: shared, read and write see each other") {
  const Scratch dir("mmap");
  for (const std::size_t size : {100U, 4096U, 20'000U, 65'536U, 70'000U, 1'100'000U}) {
    CAPTURE(size);
    const auto bytes = pattern(size, 2);
    make_file(dir / "file", bytes);
    const Fd fd = must_open(dir / "file", O_RDWR), other = must_open(dir / "file", O_RDWR);
    Mapping map(fd, size, kBoth, MAP_SHARED);
    CHECK(difference(map.get(0, size), bytes) == "");
    // A write is in the mapping at once, a store in what read gives.
    REQUIRE(write_at(other, std::int64_t(size / 2), "write"));
    CHECK(map.get(size / 2, 5) == "write");
    map.put(size / 3, "store");
    CHECK(read_at(other, std::int64_t(size / 3), 5) == "store");
    CHECK(map.sync() == "ok");
    auto wanted = bytes;
    wanted.replace(size / 2, 5, "write").replace(size / 3, 5, "store");
    CHECK(difference(read_all(dir / "file"), wanted) == "");
    CHECK(info(fd).st_size == off_t(size));
  }
}

TEST_CASE("mmap: two shared mappings, also of two processes, are one") {
  const Scratch dir("mmap");
  const auto path = dir / "file";
  make_file(path, std::string(8192, '-'));
  const Fd fd = must_open(path, O_RDWR), other = must_open(path, O_RDWR);
  Mapping one(fd, 8192, kBoth, MAP_SHARED), two(other, 4096, kBoth, MAP_SHARED, 4096);
  one.put(5000, "one");
  CHECK(two.get(5000 - 4096, 3) == "one");
  Helper process([&](Channel& channel) {
    const Fd mine(::open(path.c_str(), O_RDWR));
    auto* memory = static_cast<char*>(::mmap(nullptr, 8192, kBoth, MAP_SHARED, mine, 0));
    channel.say("ready");
    channel.hear();
    const std::string seen(memory + 5000, 3);
    std::memcpy(memory + 100, "child", 5);
    channel.say(seen);
  });
  REQUIRE(process.hear() == "ready");
  one.put(5000, "two");
  CHECK(process.ask("look") == "two");
  CHECK(one.get(100, 5) == "child");
  CHECK(process.end() == "ok");
  CHECK(read_at(fd, 100, 5) == "child");
}

TEST_CASE("mmap: private changes stay private") {
  const Scratch dir("mmap");
  make_file(dir / "file", pattern(10'000, 3));
  const Fd reader = must_open(dir / "file", O_RDONLY), writer = must_open(dir / "file", O_WRONLY);
  {
    Watch watch({dir / "file"});
    Mapping map(reader, 10'000, kBoth, MAP_PRIVATE);
    map.put(5'000, "private");
    CHECK(map.sync() == "ok");
    CHECK(map.get(5'000, 7) == "private");
    CHECK((watch.moved() == "=" || watch.moved() == "a"));
    // Where nothing private is, what others write is seen.
    REQUIRE(write_at(writer, 100, "public"));
    CHECK(map.get(100, 6) == "public");
  }
  auto wanted = pattern(10'000, 3);
  wanted.replace(100, 6, "public");
  CHECK(difference(read_all(dir / "file"), wanted) == "");
}

TEST_CASE("mmap: the rest of the last page is zeros and stays out of the file") {
  const Scratch dir("mmap");
  make_file(dir / "file", std::string(5'000, 'x'));
  const Fd fd = must_open(dir / "file", O_RDWR);
  {
    Mapping map(fd, 8'192, kBoth, MAP_SHARED);
    CHECK(map.get(5'000, 3'192) == std::string(3'192, '\0'));
    map.put(5'000, "beyond");
    CHECK(map.sync() == "ok");
  }
  CHECK(info(fd).st_size == 5'000);
  CHECK(read_at(fd, 0, 9'000) == std::string(5'000, 'x'));
  REQUIRE(did(::ftruncate(fd, 9'000)) == "ok");
  CHECK(difference(read_all(dir / "file"), std::string(5'000, 'x') + std::string(4'000, '\0')) ==
        "");
}

std::string signal_of(const std::function<void()>& call) {
  return in_child([&] {
    std::signal(SIGBUS, [](int) { ::_exit(70); });
    std::signal(SIGSEGV, [](int) { ::_exit(71); });
    call();
    return std::string("no signal");
  });
}

TEST_CASE("mmap: beyond the last page is SIGBUS, also after a truncate; grown again it is zeros") {
  const Scratch dir("mmap");
  make_file(dir / "file", std::string(20'000, 'x'));
  const Fd fd = must_open(dir / "file", O_RDWR);
  Mapping map(fd, 32'768, kBoth, MAP_SHARED);
  CHECK(map[19'999] == 'x');
  CHECK(signal_of([&] { map[20'480] = 'y'; }) == "exit code 70");
  CHECK(signal_of([&] { map[16'384] = 'x'; }) == "no signal");
  REQUIRE(did(::truncate((dir / "file").c_str(), 4'500)) == "ok");
  CHECK(signal_of([&] { map[8'192] = 'y'; }) == "exit code 70");
  CHECK(map.get(4'490, 20) == std::string(10, 'x') + std::string(10, '\0'));
  REQUIRE(did(::ftruncate(fd, 12'000)) == "ok");
  CHECK(map.get(4'500, 7'500) == std::string(7'500, '\0'));
  map.put(11'000, "again");
  CHECK(map.sync() == "ok");
  CHECK(read_at(fd, 11'000, 5) == "again");
  CHECK(read_at(fd, 4'500, 100) == std::string(100, '\0'));
}

TEST_CASE("mmap: a mapping outlives its descriptor and the name") {
  const Scratch dir("mmap");
  make_file(dir / "file", std::string(10'000, 'x'));
  Fd fd = must_open(dir / "file", O_RDWR);
  Mapping map(fd, 10'000, kBoth, MAP_SHARED);
  fd.reset();
  map.put(0, "closed");
  CHECK(map.sync() == "ok");
  CHECK(read_all(dir / "file").substr(0, 6) == "closed");
  REQUIRE(::rename((dir / "file").c_str(), (dir / "renamed").c_str()) == 0);
  map.put(0, "moved ");
  CHECK(map.sync() == "ok");
  CHECK(read_all(dir / "renamed").substr(0, 6) == "moved ");
  REQUIRE(::unlink((dir / "renamed").c_str()) == 0);
  map.put(9'000, "unlinked");
  CHECK(map.sync() == "ok");
  CHECK(map.get(9'000, 8) == "unlinked");
}

TEST_CASE("mmap: stores into holes and over the border of 64 MiB") {
  const Scratch dir("mmap");
  const Fd fd = must_open(dir / "file", O_RDWR | O_CREAT);
  REQUIRE(did(::ftruncate(fd, 65 * kMiB)) == "ok");
  const auto size = std::size_t(2 * kMiB);
  {
    Mapping map(fd, size, kBoth, MAP_SHARED, 63 * kMiB);
    CHECK(map.get(0, 100) == std::string(100, '\0'));
    map.put(std::size_t(kMiB) - 5, "0123456789");
    map.put(size - 3, "end");
  }
  // Unmapped without msync: what was stored is there nevertheless.
  CHECK(read_at(fd, 64 * kMiB - 5, 10) == "0123456789");
  CHECK(read_at(fd, 65 * kMiB - 3, 10) == "end");
  CHECK(read_at(fd, 63 * kMiB, 100) == std::string(100, '\0'));
}

TEST_CASE("mmap: stores move mtime and ctime by the time of msync") {
  const Scratch dir("mmap");
  make_file(dir / "file", std::string(10'000, 'x'));
  const Fd fd = must_open(dir / "file", O_RDWR);
  const timespec old[2] = {{.tv_sec = 100, .tv_nsec = 0}, {.tv_sec = 200, .tv_nsec = 0}};
  REQUIRE(did(::futimens(fd, old)) == "ok");
  const auto before = info(fd);
  tick();
  Mapping map(fd, 10'000, kBoth, MAP_SHARED);
  map.put(100, "store");
  CHECK(map.sync() == "ok");
  CHECK(nanoseconds(info(fd).st_mtim) > nanoseconds(before.st_mtim));
  CHECK(nanoseconds(info(fd).st_ctim) > nanoseconds(before.st_ctim));
}

TEST_CASE("mmap: a hole punched under a mapping reads as zeros") {
  const Scratch dir("mmap");
  make_file(dir / "file", std::string(100'000, 'x'));
  const Fd fd = must_open(dir / "file", O_RDWR);
  Mapping map(fd, 100'000, kBoth, MAP_SHARED);
  CHECK(map[50'000] == 'x');
  REQUIRE(did(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 40'000, 20'000)) == "ok");
  CHECK(map.get(39'990, 20) == std::string(10, 'x') + std::string(10, '\0'));
  CHECK(map.get(59'990, 20) == std::string(10, '\0') + std::string(10, 'x'));
  map.put(50'000, "filled");
  CHECK(map.sync() == "ok");
  CHECK(read_at(fd, 50'000, 6) == "filled");
}

}  // namespace
}  // namespace magma::posix
