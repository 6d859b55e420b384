// libmagma/sys_real/disk_posix in a temporary directory.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>

#include "libmagma/sys_real/disk_posix.h"
#include "tests/unit/sysreal_temp_dir.h"

using namespace magma;
using sys::Disk;
using sys_real::PosixDisk;

namespace {

std::unique_ptr<PosixDisk> open_disk(const std::string& path) {
  auto disk = PosixDisk::open_directory(path, true);
  REQUIRE_MESSAGE(disk.has_value(), describe(disk.error()));
  return std::move(*disk);
}

unsigned mode_of(const std::string& path) {
  struct stat s {};
  REQUIRE(::lstat(path.c_str(), &s) == 0);
  return s.st_mode & 07777;
}

std::string read_text(sys::File& file, std::size_t size, std::uint64_t offset) {
  Bytes out(size);
  auto got = file.read_at(out, offset);
  REQUIRE(got.has_value());
  return std::string(as_text(ByteSpan(out).first(*got)));
}

}  // namespace

TEST_CASE("disk: files are written, read, cut, and private") {
  TempDir dir;
  auto disk = open_disk(dir / "store");
  CHECK(mode_of(dir / "store") == 0700);
  REQUIRE(disk->make_directory("flares").has_value());
  REQUIRE(disk->make_directory("flares").has_value());
  REQUIRE(disk->make_directory("flares/ab").has_value());
  auto file = disk->open("flares/ab/1", Disk::Open::create_new);
  REQUIRE(file.has_value());
  CHECK(mode_of(dir / "store/flares/ab") == 0700);
  CHECK(mode_of(dir / "store/flares/ab/1") == 0600);
  REQUIRE((*file)->write_at(as_bytes("hello world"), 0).has_value());
  REQUIRE((*file)->write_at(as_bytes("!"), 100).has_value());
  CHECK(read_text(**file, 5, 6) == "world");
  CHECK(read_text(**file, 50, 98) == std::string("\0\0!", 3));
  CHECK(read_text(**file, 50, 200).empty());
  CHECK((*file)->size().value() == 101);
  REQUIRE((*file)->truncate(5).has_value());
  CHECK(read_text(**file, 50, 0) == "hello");
  CHECK((*file)->sync().has_value());
  CHECK(disk->sync_directory("flares/ab").has_value());
  CHECK(disk->sync_directory("").has_value());
  CHECK(disk->open("flares/ab/1", Disk::Open::create_new).error().code == Code::exists);
  auto again = disk->open("flares/ab/1", Disk::Open::existing_readonly);
  REQUIRE(again.has_value());
  CHECK(!(*again)->write_at(as_bytes("x"), 0).has_value());
}

TEST_CASE("disk: read_at_nowait reads what is in memory") {
  TempDir dir;
  auto disk = open_disk(dir.path());
  auto file = disk->open("f", Disk::Open::create);
  REQUIRE(file.has_value());
  Bytes data(100'000, 7);
  REQUIRE((*file)->write_at(data, 0).has_value());
  Bytes out(200'000);
  auto got = (*file)->read_at_nowait(out, 0);
  if (!got) {  // allowed: the page cache may have lost it
    CHECK(got.error().code == Code::would_block);
    return;
  }
  CHECK(*got == data.size());
  CHECK(std::equal(data.begin(), data.end(), out.begin()));
}

TEST_CASE("disk: only what is asked for comes into memory, and goes when told") {
  TempDir dir;
  auto disk = open_disk(dir.path());
  auto file = disk->open("f", Disk::Open::create);
  REQUIRE(file.has_value());
  (*file)->read_only_what_is_asked();
  constexpr std::uint64_t kMiB = 1 << 20;
  REQUIRE((*file)->write_at(Bytes(kMiB, 7), 0).has_value());
  REQUIRE((*file)->sync().has_value());
  Bytes page(4096);
  // Looked at by mincore(2): to read without waiting would begin to bring it.
  const int fd = ::open((dir.path() + "/f").c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  void* map = ::mmap(nullptr, kMiB, PROT_READ, MAP_SHARED, fd, 0);
  ::close(fd);
  REQUIRE(map != MAP_FAILED);
  auto in_memory = [map](std::uint64_t at) {
    unsigned char is_there = 0;
    REQUIRE(::mincore(static_cast<char*>(map) + at, 4096, &is_there) == 0);
    return (is_there & 1) != 0;
  };
  // The kernel leaves pages that somebody looks at in this moment (posix_fadvise(2): advice).
  auto drop = [&](std::uint64_t bytes) {
    bool is_gone = false;
    for (int tries = 0; tries < 100 && !is_gone; ++tries) {
      if (tries > 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      (*file)->drop_cache(0, bytes);
      is_gone = true;
      for (std::uint64_t at = 0; at < bytes; at += page.size()) is_gone &= !in_memory(at);
    }
    return is_gone;
  };
  if (!drop(kMiB)) {
    MESSAGE("this filesystem keeps files in memory: nothing to see");
    ::munmap(map, kMiB);
    return;
  }
  for (std::uint64_t at = 0; at < 64 * 1024; at += page.size())
    REQUIRE((*file)->read_at(page, at).has_value());
  CHECK_FALSE(in_memory(128 * 1024));
  CHECK_FALSE(in_memory(kMiB - 4096));
  CHECK(drop(4096));
  ::munmap(map, kMiB);
}

TEST_CASE("disk: holes") {
  TempDir dir;
  auto disk = open_disk(dir.path());
  auto file = disk->open("f", Disk::Open::create);
  REQUIRE(file.has_value());
  Bytes data(1 << 20, 1);
  REQUIRE((*file)->write_at(data, 0).has_value());
  REQUIRE((*file)->sync().has_value());
  auto before = (*file)->allocated_bytes().value();
  REQUIRE((*file)->punch_hole(64 * 1024, 512 * 1024).has_value());
  CHECK((*file)->size().value() == data.size());
  CHECK(read_text(**file, 3, 64 * 1024) == std::string(3, '\0'));
  CHECK(read_text(**file, 1, 64 * 1024 - 1) == "\x01");
  CHECK((*file)->allocated_bytes().value() <= before);
  CHECK((*file)->seek_data(data.size() + 1).value() == data.size());
  auto hole = (*file)->seek_hole(0).value();
  CHECK((hole == 64 * 1024 || hole == data.size()));  // where holes are not known, none is found
  CHECK((*file)->seek_data(0).value() == 0);
}

TEST_CASE("disk: rename, remove, list, exists") {
  TempDir dir;
  auto disk = open_disk(dir.path());
  REQUIRE(disk->make_directory("d").has_value());
  REQUIRE(disk->open("d/a", Disk::Open::create).has_value());
  REQUIRE(disk->open("d/b", Disk::Open::create).has_value());
  REQUIRE(disk->rename("d/a", "c").has_value());
  CHECK(disk->exists("c").value());
  CHECK(!disk->exists("d/a").value());
  CHECK(!disk->exists("nowhere/a").value());
  CHECK(!disk->exists("c/a").value());
  auto names = disk->list("").value();
  std::sort(names.begin(), names.end());
  CHECK(names == std::vector<std::string>{"c", "d"});
  CHECK(disk->list("d").value() == std::vector<std::string>{"b"});
  REQUIRE(disk->remove("d/b").has_value());
  CHECK(disk->remove("d/b").error().code == Code::not_found);
  CHECK(disk->open("d/b", Disk::Open::existing).error().code == Code::not_found);
  CHECK(disk->open("d", Disk::Open::existing_readonly).error().code == Code::is_a_directory);
  CHECK(disk->make_directory("c").error().code == Code::not_a_directory);
  auto space = disk->space().value();
  CHECK(space.total_bytes > 0);
  CHECK(space.free_bytes <= space.total_bytes);
}

TEST_CASE("disk: no path leads out of the directory") {
  TempDir dir;
  auto disk = open_disk(dir / "store");
  REQUIRE(std::filesystem::create_directory(dir / "outside"));
  std::filesystem::create_directory_symlink(dir / "outside", dir / "store/link");
  std::filesystem::create_symlink(dir / "outside/f", dir / "store/file");
  for (const char* path : {"../outside/f", "/etc/passwd", "link/f", "file", "link/../../outside/f",
                           "", ".", "a//b", "a/", "./a"}) {
    CAPTURE(path);
    CHECK(!disk->open(path, Disk::Open::create).has_value());
  }
  CHECK(!disk->make_directory("link/d").has_value());
  CHECK(!disk->list("link").has_value());
  CHECK(!disk->rename("link", "../outside/l").has_value());
  CHECK(std::filesystem::is_empty(dir / "outside"));
  REQUIRE(::mkfifo((dir / "store/fifo").c_str(), 0600) == 0);
  CHECK(!disk->open("fifo", Disk::Open::existing).has_value());  // and does not hang
}

TEST_CASE("disk: one process at a time uses a directory") {
  TempDir dir;
  {
    auto lock = sys_real::lock_directory(dir.path());
    REQUIRE(lock.has_value());
    pid_t child = ::fork();
    if (child == 0) {
      auto second = sys_real::lock_directory(dir.path());
      std::string holder = "process " + std::to_string(::getppid());
      bool refused = !second && second.error().code == Code::in_use &&
                     second.error().detail.find(holder) != std::string::npos;
      ::_exit(refused ? 0 : 1);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  CHECK(sys_real::lock_directory(dir.path()).has_value());
}
