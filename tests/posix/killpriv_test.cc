// What changing a file takes from it: suid and sgid when somebody without CAP_FSETID does it, file
// capabilities (security.capability) whoever does it.
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

struct Change {
  const char* name;
  std::function<std::string(const std::string&)> call;
};

std::string with_fd(const std::string& path, int flags, const std::function<long(int)>& call) {
  const Fd fd(::open(path.c_str(), flags | O_CLOEXEC));
  if (fd < 0) return did(-1);
  return did(call(fd));
}

const std::vector<Change>& changes() {
  static const std::vector<Change> table = {
      {"write", [](auto& path) {
         return with_fd(path, O_WRONLY, [](int fd) { return ::write(fd, "x", 1); });
       }},
      {"write at the end", [](auto& path) {
         return with_fd(path, O_WRONLY | O_APPEND, [](int fd) { return ::write(fd, "x", 1); });
       }},
      {"pwrite", [](auto& path) {
         return with_fd(path, O_RDWR, [](int fd) { return ::pwrite(fd, "x", 1, 9'999); });
       }},
      {"pwritev2", [](auto& path) {
         return with_fd(path, O_RDWR, [](int fd) {
           const iovec piece{const_cast<char*>("x"), 1};
           return ::pwritev2(fd, &piece, 1, 0, RWF_DSYNC);
         });
       }},
      {"direct write", [](auto& path) {
         return with_fd(path, O_WRONLY | O_DIRECT, [](int fd) {
           char* buffer = static_cast<char*>(std::aligned_alloc(4096, 4096));
           std::memset(buffer, 'd', 4096);
           const long result = ::pwrite(fd, buffer, 4096, 0);
           std::free(buffer);
           return result;
         });
       }},
      {"truncate to less", [](auto& path) { return did(::truncate(path.c_str(), 1)); }},
      {"truncate to more", [](auto& path) { return did(::truncate(path.c_str(), 70'000)); }},
      {"ftruncate", [](auto& path) {
         return with_fd(path, O_WRONLY, [](int fd) { return ::ftruncate(fd, 2); });
       }},
      {"open O_TRUNC", [](auto& path) { return try_open(path, O_WRONLY | O_TRUNC); }},
      {"creat", [](auto& path) { return try_open(path, O_WRONLY | O_CREAT | O_TRUNC); }},
      {"fallocate", [](auto& path) {
         return with_fd(path, O_WRONLY, [](int fd) { return ::fallocate(fd, 0, 0, 20'000); });
       }},
      {"punch a hole", [](auto& path) {
         return with_fd(path, O_WRONLY, [](int fd) {
           return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8);
         });
       }},
      {"copy_file_range", [](auto& path) {
         const Fd from(::open((path + ".source").c_str(), O_RDONLY));
         return with_fd(path, O_WRONLY, [&](int fd) {
           return ::copy_file_range(from, nullptr, fd, nullptr, 5, 0);
         });
       }},
  };
  return table;
}

TEST_CASE("suid and sgid go when a user changes the file") {
  const Scratch dir("killpriv");
  const auto path = dir / "file";
  make_file(path + ".source", "source");
  struct Row {
    mode_t before, after;
  };
  // The setgid bit without x for the group goes too from who is not in the group.
  const Row table[] = {{06777, 0777}, {04766, 0766}, {02777, 0777}, {04666, 0666},
                       {02666, 0666}, {01777, 01777}};
  for (const auto& each : changes()) {
    for (const auto& row : table) {
      CAPTURE(each.name);
      CAPTURE(row.before);
      make_file(path, "0123456789");
      REQUIRE(::chmod(path.c_str(), row.before) == 0);
      CHECK(as_user(kNobody, [&] { return each.call(path); }) == "ok");
      CHECK(mode_of(path) == row.after);
    }
  }
}

TEST_CASE("the owner who is in the group keeps a setgid bit without x") {
  const Scratch dir("killpriv");
  const auto path = dir / "file";
  make_file(path + ".source", "source");
  struct Row {
    mode_t before, after;
  };
  const Row table[] = {{02666, 02666}, {06666, 02666}, {02777, 0777}};
  for (const auto& each : changes()) {
    for (const auto& row : table) {
      CAPTURE(each.name);
      CAPTURE(row.before);
      make_file(path, "0123456789");
      own(path, kNobody.uid, kTeam);
      REQUIRE(::chmod(path.c_str(), row.before) == 0);
      const auto call = [&] { return each.call(path); };
      CHECK(as_user(kNobody.uid, kNobody.gid, {kTeam}, call) == "ok");
      CHECK(mode_of(path) == row.after);
    }
  }
}

TEST_CASE("root keeps suid and sgid of what it changes") {
  const Scratch dir("killpriv");
  const auto path = dir / "file";
  make_file(path + ".source", "source");
  for (const auto& each : changes()) {
    CAPTURE(each.name);
    make_file(path, "0123456789");
    REQUIRE(::chmod(path.c_str(), 06777) == 0);
    CHECK(each.call(path) == "ok");
    CHECK(mode_of(path) == 06777);
  }
}

TEST_CASE("root without CAP_FSETID is a user here") {
  const Scratch dir("killpriv");
  const auto path = dir / "file";
  make_file(path, "0123456789");
  REQUIRE(::chmod(path.c_str(), 06777) == 0);
  const auto outcome = in_child([&] {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2]{};
    if (::syscall(SYS_capget, &header, data) != 0) return did(-1);
    data[0].effective &= ~(1U << CAP_FSETID);
    if (::syscall(SYS_capset, &header, data) != 0) return did(-1);
    return with_fd(path, O_WRONLY, [](int fd) { return ::write(fd, "x", 1); });
  });
  CHECK(outcome == "ok");
  CHECK(mode_of(path) == 0777);
}

TEST_CASE("what changes no bytes keeps suid and sgid") {
  const Scratch dir("killpriv");
  ::chmod(dir.path().c_str(), 0777);
  const auto path = dir / "file";
  make_file(path, "0123456789");
  own(path, kNobody.uid, kNobody.gid);
  REQUIRE(::chmod(path.c_str(), 06777) == 0);
  const auto outcome = as_user(kNobody, [&] {
    const Fd fd(::open(path.c_str(), O_RDWR));
    char byte = 0;
    const timespec times[2] = {{.tv_sec = 1, .tv_nsec = 0}, {.tv_sec = 2, .tv_nsec = 0}};
    return said({did(::write(fd, "", 0)), did(::read(fd, &byte, 1)), did(::fsync(fd)),
                 did(::futimens(fd, times)), did(::link(path.c_str(), (path + "2").c_str())),
                 did(::rename((path + "2").c_str(), (path + "3").c_str())),
                 did(::unlink((path + "3").c_str())),
                 did(::fsetxattr(fd, "user.x", "y", 1, 0))});
  });
  CHECK(outcome == "ok ok ok ok ok ok ok ok");
  CHECK(mode_of(path) == 06777);
}

// A version 2 capability attribute as setcap writes it: CAP_NET_RAW permitted and effective.
std::string capability() {
  const std::uint32_t words[5] = {VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE, 1U << CAP_NET_RAW,
                                  0, 0, 0};
  return {reinterpret_cast<const char*>(words), sizeof words};
}

TEST_CASE("security.capability goes when the file changes, also when root changes it") {
  const Scratch dir("killpriv");
  const auto path = dir / "file";
  make_file(path + ".source", "source");
  const auto has = [&] { return did(::getxattr(path.c_str(), "security.capability", nullptr, 0)); };
  const auto give = [&] {
    const auto value = capability();
    return did(::setxattr(path.c_str(), "security.capability", value.data(), value.size(), 0));
  };
  for (const auto& each : changes()) {
    CAPTURE(each.name);
    make_file(path, "0123456789", 0666);
    REQUIRE(give() == "ok");
    CHECK(each.call(path) == "ok");
    CHECK(has() == "ENODATA");
    REQUIRE(give() == "ok");
    CHECK(as_user(kNobody, [&] { return each.call(path); }) == "ok");
    CHECK(has() == "ENODATA");
  }
  make_file(path, "0123456789", 0666);
  REQUIRE(give() == "ok");
  CHECK(did(::chown(path.c_str(), 5, 5)) == "ok");
  CHECK(has() == "ENODATA");
  // chmod, new names and times leave it.
  REQUIRE(give() == "ok");
  CHECK(did(::chmod(path.c_str(), 0755)) == "ok");
  CHECK(did(::utimensat(AT_FDCWD, path.c_str(), nullptr, 0)) == "ok");
  CHECK(did(::link(path.c_str(), (path + "2").c_str())) == "ok");
  CHECK(has() == "ok");
}

}  // namespace
}  // namespace magma::posix
