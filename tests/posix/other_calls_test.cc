// Calls that programs make beside the usual ones: openat2, file handles, inotify, ioctl, scripts
// and working directories on the mount.
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

TEST_CASE("openat2: how a path may be resolved") {
  const Scratch dir("openat2");
  make_dir(dir / "d");
  make_file(dir / "d/file", "abc");
  make_file(dir / "outside");
  REQUIRE(::symlink("file", (dir / "d/link").c_str()) == 0);
  REQUIRE(::symlink("../outside", (dir / "d/up").c_str()) == 0);
  REQUIRE(::symlink("/file", (dir / "d/absolute").c_str()) == 0);
  const Fd at = must_open(dir / "d", O_PATH | O_DIRECTORY);
  const auto call = [&](const char* path, std::uint64_t resolve, std::uint64_t flags = O_RDONLY) {
    open_how how{};
    how.flags = flags | O_CLOEXEC;
    how.resolve = resolve;
    const Fd fd(int(::syscall(SYS_openat2, int(at), path, &how, sizeof how)));
    return did(fd);
  };
  struct Row {
    const char* path;
    std::uint64_t resolve;
    const char* wanted;
  };
  const Row table[] = {
      {"file", 0, "ok"},
      {"link", RESOLVE_NO_SYMLINKS, "ELOOP"},
      {"file", RESOLVE_NO_SYMLINKS, "ok"},
      {"up", RESOLVE_BENEATH, "EXDEV"},
      {"../outside", RESOLVE_BENEATH, "EXDEV"},
      {"link", RESOLVE_BENEATH, "ok"},
      {"absolute", RESOLVE_IN_ROOT, "ok"},
      {"../../file", RESOLVE_IN_ROOT, "ok"},
      {"up", RESOLVE_IN_ROOT, "ENOENT"},
      {"../outside", RESOLVE_NO_XDEV, "ok"},
      {"/proc/version", RESOLVE_NO_XDEV, "EXDEV"},
      {"file", 0x8000, "EINVAL"},
  };
  for (const auto& row : table) {
    CAPTURE(row.path);
    CAPTURE(row.resolve);
    CHECK(call(row.path, row.resolve) == row.wanted);
  }
  // Unlike open, it refuses flags and modes that mean nothing.
  CHECK(call("file", 0, 1ULL << 40) == "EINVAL");
  CHECK(call("file", 0, O_PATH | O_WRONLY | O_TRUNC) == "EINVAL");
}

struct Handle {
  alignas(file_handle) unsigned char bytes[sizeof(file_handle) + MAX_HANDLE_SZ] = {};
  file_handle* get() { return reinterpret_cast<file_handle*>(bytes); }
};

TEST_CASE("name_to_handle_at and open_by_handle_at") {
  const Scratch dir("handle");
  make_file(dir / "file", "abc");
  const Fd mount = must_open(dir.path(), O_RDONLY | O_DIRECTORY);
  Handle handle{}, again{};
  int mount_id = 0;
  const auto name = [&](Handle& into, unsigned size) {
    into.get()->handle_bytes = size;
    return did(::name_to_handle_at(AT_FDCWD, (dir / "file").c_str(), into.get(), &mount_id, 0));
  };
  CHECK(name(handle, 0) == "EOVERFLOW");
  REQUIRE(name(handle, MAX_HANDLE_SZ) == "ok");
  REQUIRE(::rename((dir / "file").c_str(), (dir / "renamed").c_str()) == 0);
  REQUIRE(::rename((dir / "renamed").c_str(), (dir / "file").c_str()) == 0);
  REQUIRE(name(again, MAX_HANDLE_SZ) == "ok");
  CHECK(std::memcmp(handle.bytes, again.bytes, sizeof handle.bytes) == 0);
  {
    const Fd fd(::open_by_handle_at(mount, handle.get(), O_RDONLY | O_CLOEXEC));
    CHECK(read_at(fd, 0, 10) == "abc");
    CHECK(info(fd).st_ino == info(dir / "file").st_ino);
  }
  CHECK(as_user(kNobody, [&] {
    return did(::open_by_handle_at(mount, handle.get(), O_RDONLY));
  }) == "EPERM");
  REQUIRE(::unlink((dir / "file").c_str()) == 0);
  CHECK(did(::open_by_handle_at(mount, handle.get(), O_RDONLY | O_CLOEXEC)) == "ESTALE");
}

TEST_CASE("inotify: tells what is done through this mount") {
  const Scratch dir("inotify");
  make_file(dir / "file");
  const Fd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  REQUIRE(::inotify_add_watch(watch, dir.path().c_str(),
                              IN_CREATE | IN_MODIFY | IN_ATTRIB | IN_MOVED_FROM | IN_MOVED_TO |
                                  IN_DELETE | IN_CLOSE_WRITE) >= 0);
  make_file(dir / "new", "abc");
  REQUIRE(::chmod((dir / "file").c_str(), 0600) == 0);
  REQUIRE(::rename((dir / "new").c_str(), (dir / "moved").c_str()) == 0);
  REQUIRE(::mkdir((dir / "d").c_str(), 0755) == 0);
  REQUIRE(::unlink((dir / "file").c_str()) == 0);
  std::string heard;
  alignas(inotify_event) char buffer[8192];
  const auto size = ::read(watch, buffer, sizeof buffer);
  for (ssize_t at = 0; at < size;) {
    const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
    const std::pair<unsigned, const char*> words[] = {
        {IN_CREATE, "create"}, {IN_MODIFY, "modify"},     {IN_ATTRIB, "attrib"},
        {IN_MOVED_FROM, "from"}, {IN_MOVED_TO, "to"},     {IN_DELETE, "delete"},
        {IN_CLOSE_WRITE, "close"}};
    for (const auto& [bit, word] : words) {
      if ((event->mask & bit) != 0) heard += std::string(word) + ":" + event->name + " ";
    }
    at += ssize_t(sizeof(inotify_event) + event->len);
  }
  CHECK(heard ==
        "create:new modify:new attrib:new close:new attrib:file from:new to:moved create:d "
        "delete:file ");
}

TEST_CASE("ioctl: what every file knows, and refusals of the rest") {
  const Scratch dir("ioctl");
  make_file(dir / "file", "0123456789");
  make_file(dir / "other");
  const Fd fd = must_open(dir / "file", O_RDWR), other = must_open(dir / "other", O_RDWR);
  // As much as an unknown number may ask for: FUSE copies it before anybody is asked.
  static char large[16384];
  int number = 0;
  CHECK(did(::ioctl(fd, FIGETBSZ, &number)) == "ok");
  CHECK(number >= 512);
  CHECK(did(::ioctl(fd, 0x7a7a7a7a, large)) == "ENOTTY");
  // No sharing of blocks between files: cp --reflink=auto copies then.
  CHECK(did(::ioctl(other, FICLONE, int(fd))) == "EOPNOTSUPP");
  CHECK(info(other).st_size == 0);
  number = 1;
  CHECK(did(::ioctl(fd, FIOCLEX, &number)) == "ok");
  CHECK(did(::isatty(fd) == 1 ? 0 : -1) == "ENOTTY");
}

TEST_CASE("exec: programs and scripts on the mount") {
  const Scratch dir("exec");
  if (mount_options(dir.path()).find(",noexec,") != std::string::npos) return;
  make_file(dir / "script", "#!/bin/sh\nexec \"$(dirname \"$0\")/program\" \"$1\"\n", 0755);
  make_file(dir / "program", read_all("/bin/cat"), 0755);
  make_file(dir / "text", "shown\n");
  make_file(dir / "garbage", "garbage", 0755);
  make_file(dir / "empty", "", 0755);
  const auto run = [&](const char* name) {
    return in_child([&] {
      const Fd out(::open((dir / "output").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644));
      ::dup2(out, 1);
      ::execl((dir / name).c_str(), name, (dir / "text").c_str(), nullptr);
      return did(-1);
    });
  };
  CHECK(run("script") == "");
  CHECK(read_all(dir / "output") == "shown\n");
  CHECK(run("garbage") == "ENOEXEC");
  CHECK(run("text") == "EACCES");
  CHECK(run("none") == "ENOENT");
  REQUIRE(::chmod((dir / "program").c_str(), 0644) == 0);
  CHECK(run("program") == "EACCES");
}

}  // namespace
}  // namespace magma::posix
