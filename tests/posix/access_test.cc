// Permission checks: every mode for every class of user, the classes' order, directories on the
// way, root, access(2) and faccessat(2).
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

constexpr uid_t kOwner = 60001;

struct Person {
  const char* name;
  User user;
  int shift;  // of his bits in the mode
};
const Person kPeople[] = {
    {"owner", {kOwner, 60001, {}}, 6},
    {"owner who is in the group", {kOwner, kTeam, {kTeam}}, 6},
    {"group", {60002, kTeam, {}}, 3},
    {"supplementary group", {60002, 60002, {60003, kTeam, 60004}}, 3},
    {"other", {60002, 60002, {60003}}, 0},
};

std::string letters(unsigned bits) {
  return std::string(bits & 4 ? "r" : "-") + (bits & 2 ? "w" : "-") + (bits & 1 ? "x" : "-");
}
std::string by_access(const std::string& path) {
  return std::string(::access(path.c_str(), R_OK) == 0 ? "r" : "-") +
         (::access(path.c_str(), W_OK) == 0 ? "w" : "-") +
         (::access(path.c_str(), X_OK) == 0 ? "x" : "-");
}

TEST_CASE("permissions: every mode of a file for every class of user") {
  const Scratch dir("access");
  for (unsigned bits = 0; bits < 8; ++bits) {
    // The class's own bits against all of the others', so that only the right ones can explain it.
    for (const auto& person : kPeople) {
      const unsigned mode = (0777U & ~(7U << person.shift)) | bits << person.shift;
      CAPTURE(person.name);
      CAPTURE(mode);
      const auto path = dir / (std::to_string(mode) + "." + std::to_string(person.user.gid));
      make_file(path, "abc");
      REQUIRE(::chown(path.c_str(), kOwner, kTeam) == 0);
      REQUIRE(::chmod(path.c_str(), mode) == 0);
      const auto outcome = as_user(person.user, [&] {
        return said({by_access(path), try_open(path, O_RDONLY), try_open(path, O_WRONLY),
                     try_open(path, O_RDWR)});
      });
      const auto word = [](bool may) { return std::string(may ? "ok" : "EACCES"); };
      CHECK(outcome == letters(bits) + " " + word(bits & 4) + " " + word(bits & 2) + " " +
                           word((bits & 6) == 6));
      ::unlink(path.c_str());
    }
  }
}

TEST_CASE("permissions: every mode of a directory for every class of user") {
  const Scratch dir("access");
  for (unsigned bits = 0; bits < 8; ++bits) {
    for (const auto& person : kPeople) {
      const unsigned mode = (0777U & ~(7U << person.shift)) | bits << person.shift;
      CAPTURE(person.name);
      CAPTURE(mode);
      const auto path = dir / "d";
      make_dir(path);
      make_file(path + "/file", "abc", 0644);
      REQUIRE(::chown(path.c_str(), kOwner, kTeam) == 0);
      REQUIRE(::chmod(path.c_str(), mode) == 0);
      const auto outcome = as_user(person.user, [&] {
        struct stat status {};
        return said({by_access(path), try_open(path, O_RDONLY | O_DIRECTORY),
                     did(::chdir(path.c_str())), did(::stat((path + "/file").c_str(), &status)),
                     did(::stat((path + "/none").c_str(), &status)),
                     try_open(path + "/new", O_WRONLY | O_CREAT),
                     did(::unlink((path + "/file").c_str()))});
      });
      const bool r = (bits & 4) != 0, x = (bits & 1) != 0, wx = (bits & 3) == 3;
      const auto word = [](bool may) { return std::string(may ? " ok" : " EACCES"); };
      CHECK(outcome == letters(bits) + word(r) + word(x) + word(x) + (x ? " ENOENT" : " EACCES") +
                           word(wx) + word(wx));
      REQUIRE(remove_tree(AT_FDCWD, path) == 0);
    }
  }
}

TEST_CASE("permissions: every directory on the way must be searchable") {
  const Scratch dir("access");
  const char* const steps[] = {"/a", "/a/b", "/a/b/c", "/a/b/c/d"};
  for (const char* step : steps) make_dir(dir.path() + step);
  const auto file = dir / "a/b/c/d/file";
  make_file(file, "abc", 0666);
  const auto call = [&] {
    struct stat status {};
    return said({try_open(file, O_RDWR), did(::stat(file.c_str(), &status)),
                 did(::truncate(file.c_str(), 3))});
  };
  CHECK(as_user(kNobody, call) == "ok ok ok");
  for (const char* step : steps) {
    CAPTURE(step);
    REQUIRE(::chmod((dir.path() + step).c_str(), 0766) == 0);
    CHECK(as_user(kNobody, call) == "EACCES EACCES EACCES");
    CHECK(call() == "ok ok ok");
    REQUIRE(::chmod((dir.path() + step).c_str(), 0711) == 0);
    CHECK(as_user(kNobody, call) == "ok ok ok");
  }
  // From a working directory or descriptor below the closed one it goes on.
  const Fd inside = must_open(dir / "a/b/c", O_RDONLY | O_DIRECTORY);
  REQUIRE(::chmod((dir / "a").c_str(), 0700) == 0);
  const auto relative = [&] {
    return said({did(::fchdir(inside)), try_open("d/file", O_RDONLY), try_open("..", O_PATH),
                 try_open("../../b/c/d/file", O_RDONLY), try_open("../../../a", O_PATH)});
  };
  CHECK(as_user(kNobody, relative) == "ok ok ok EACCES EACCES");
}

TEST_CASE("permissions: root may everything but run what nobody may run") {
  const Scratch dir("access");
  make_file(dir / "file", "#!/bin/true\n", 0);
  make_dir(dir / "dir", 0);
  own(dir / "file", kOwner, kTeam);
  CHECK(by_access(dir / "file") == "rw-");
  CHECK(by_access(dir / "dir") == "rwx");
  CHECK(try_open(dir / "file", O_RDWR) == "ok");
  CHECK(try_open(dir / "dir/new", O_WRONLY | O_CREAT) == "ok");
  const auto run = [&] {
    return in_child([&] {
      ::execl((dir / "file").c_str(), "file", nullptr);
      return did(-1);
    });
  };
  CHECK(run() == "EACCES");
  for (const mode_t mode : {0100U, 0010U, 0001U}) {
    REQUIRE(::chmod((dir / "file").c_str(), mode) == 0);
    CHECK(by_access(dir / "file") == "rwx");
    CHECK(run() == "");
  }
}

TEST_CASE("permissions: capabilities are what makes root root") {
  const Scratch dir("access");
  make_file(dir / "file", "abc", 0600);
  make_dir(dir / "dir", 0700);
  own(dir / "file", kOwner, kTeam);
  own(dir / "dir", kOwner, kTeam);
  const auto without = [&](unsigned capabilities, const std::function<std::string()>& call) {
    return in_child([&] {
      __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
      __user_cap_data_struct data[2]{};
      if (::syscall(SYS_capget, &header, data) != 0) return did(-1);
      data[0].effective &= ~capabilities;
      if (::syscall(SYS_capset, &header, data) != 0) return did(-1);
      return call();
    });
  };
  constexpr unsigned kOverride = 1U << CAP_DAC_OVERRIDE, kSearch = 1U << CAP_DAC_READ_SEARCH;
  const auto file = [&] {
    return said({try_open(dir / "file", O_RDONLY), try_open(dir / "file", O_WRONLY),
                 try_open(dir / "dir", O_RDONLY), try_open(dir / "dir/new", O_WRONLY | O_CREAT)});
  };
  CHECK(without(kOverride, file) == "ok EACCES ok EACCES");
  CHECK(without(kOverride | kSearch, file) == "EACCES EACCES EACCES EACCES");
  const auto owner = [&] {
    return said({did(::chmod((dir / "file").c_str(), 0600)),
                 did(::chown((dir / "file").c_str(), kOwner, kTeam))});
  };
  CHECK(without(1U << CAP_FOWNER, owner) == "EPERM ok");
  CHECK(without(1U << CAP_CHOWN, owner) == "ok EPERM");
  const auto device = [&] { return did(::mknod((dir / "c").c_str(), S_IFCHR | 0600, 0x103)); };
  CHECK(without(1U << CAP_MKNOD, device) == "EPERM");
}

TEST_CASE("access: errors and flags, real and effective ids") {
  const Scratch dir("access");
  make_file(dir / "file", "", 0600);
  make_dir(dir / "closed", 0700);
  REQUIRE(::symlink("file", (dir / "link").c_str()) == 0);
  REQUIRE(::symlink("none", (dir / "dangling").c_str()) == 0);
  const auto call = [&](const char* name, int mode) {
    return did(::access((dir / name).c_str(), mode));
  };
  CHECK(call("file", F_OK) == "ok");
  CHECK(call("file", 8) == "EINVAL");
  CHECK(call("none", F_OK) == "ENOENT");
  CHECK(call("file/x", F_OK) == "ENOTDIR");
  CHECK(call("dangling", F_OK) == "ENOENT");
  CHECK(did(::faccessat(AT_FDCWD, (dir / "dangling").c_str(), F_OK, AT_SYMLINK_NOFOLLOW)) == "ok");
  CHECK(did(::faccessat(AT_FDCWD, (dir / "file").c_str(), F_OK, 0x40000)) == "EINVAL");
  CHECK(as_user(kNobody, [&] { return call("file", F_OK); }) == "ok");
  CHECK(as_user(kNobody, [&] { return call("file", R_OK); }) == "EACCES");
  CHECK(as_user(kNobody, [&] { return call("link", R_OK); }) == "EACCES");
  CHECK(as_user(kNobody, [&] { return call("closed/x", F_OK); }) == "EACCES");
  // access asks for the real user, AT_EACCESS for the effective one.
  const auto mixed = in_child([&] {
    if (::setresuid(kNobody.uid, 0, 0) != 0) return did(-1);
    return said({call("file", R_OK), try_open(dir / "file", O_RDONLY),
                 did(::faccessat(AT_FDCWD, (dir / "file").c_str(), R_OK, AT_EACCESS))});
  });
  CHECK(mixed == "EACCES ok ok");
  const auto turned = in_child([&] {
    if (::setresuid(0, kNobody.uid, 0) != 0) return did(-1);
    return said({call("file", R_OK), try_open(dir / "file", O_RDONLY),
                 did(::faccessat(AT_FDCWD, (dir / "file").c_str(), R_OK, AT_EACCESS))});
  });
  CHECK(turned == "ok EACCES EACCES");
}

TEST_CASE("permissions: files are checked with the ids of the file system") {
  const Scratch dir("access");
  ::chmod(dir.path().c_str(), 0777);
  make_file(dir / "file", "", 0600);
  // What a file server does: it stays root and acts as its user.
  const auto outcome = in_child([&] {
    ::syscall(SYS_setfsgid, kNobody.gid);
    ::syscall(SYS_setfsuid, kNobody.uid);
    auto words = said({try_open(dir / "file", O_RDONLY), try_open(dir / "new", O_RDWR | O_CREAT)});
    ::syscall(SYS_setfsuid, 0);
    return said({words, try_open(dir / "file", O_RDONLY)});
  });
  CHECK(outcome == "EACCES ok ok");
  CHECK(info(dir / "new").st_uid == kNobody.uid);
  CHECK(info(dir / "new").st_gid == kNobody.gid);
}

TEST_CASE("permissions: programs run with suid and sgid where the mount allows it") {
  const Scratch dir("access");
  const auto options = mount_options(dir.path());
  const bool has_suid = options.find(",nosuid,") == std::string::npos;
  make_file(dir / "id", read_all("/usr/bin/id"), 0755);
  own(dir / "id", kOwner, kTeam);
  REQUIRE(::chmod((dir / "id").c_str(), 06755) == 0);
  const auto run = [&](const char* option) {
    return as_user(kNobody, [&] {
      int pipes[2];
      if (::pipe(pipes) != 0) return did(-1);
      if (::fork() == 0) {
        ::dup2(pipes[1], 1);
        ::execl((dir / "id").c_str(), "id", option, nullptr);
        ::_exit(1);
      }
      ::close(pipes[1]);
      char buffer[64];
      const auto got = ::read(pipes[0], buffer, sizeof buffer);
      std::string word(buffer, got > 0 ? std::size_t(got) : 0);
      while (!word.empty() && word.back() == '\n') word.pop_back();
      return word;
    });
  };
  CHECK(run("-u") == std::to_string(has_suid ? kOwner : kNobody.uid));
  CHECK(run("-g") == std::to_string(has_suid ? kTeam : kNobody.gid));
}

}  // namespace
}  // namespace magma::posix
