// mkdir(2), rmdir(2), unlinkat(AT_REMOVEDIR): errors, modes, setgid directories, link counts of
// parents, times, directories that are gone while open or the working directory.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

std::string try_mkdir(const std::string& path, mode_t mode = 0755) {
  return did(::mkdir(path.c_str(), mode));
}
std::string try_rmdir(const std::string& path) { return did(::rmdir(path.c_str())); }

void make_one_of_each(const Scratch& dir) {
  make_file(dir / "file", "abc");
  make_dir(dir / "empty");
  make_dir(dir / "full");
  make_dir(dir / "full/child");
  const std::pair<const char*, const char*> links[] = {
      {"file", "link"}, {"empty", "dirlink"}, {"none", "dangling"}, {"loop", "loop"}};
  for (const auto& [target, name] : links) {
    REQUIRE(::symlink(target, (dir / name).c_str()) == 0);
  }
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0644) == 0);
}

TEST_CASE("mkdir: errors as root") {
  const Scratch dir("mkdir");
  make_one_of_each(dir);
  const std::pair<std::string, const char*> table[] = {
      {"file", "EEXIST"},         {"empty", "EEXIST"},        {"empty/", "EEXIST"},
      {"full", "EEXIST"},         {"link", "EEXIST"},         {"dirlink", "EEXIST"},
      {"dirlink/", "EEXIST"},     {"dangling", "EEXIST"},     {"dangling/", "EEXIST"},
      {"loop", "EEXIST"},         {"fifo", "EEXIST"},         {".", "EEXIST"},
      {"empty/.", "EEXIST"},      {"empty/..", "EEXIST"},     {"none/x", "ENOENT"},
      {"none/.", "ENOENT"},       {"file/x", "ENOTDIR"},      {"dangling/x", "ENOENT"},
      {"loop/x", "ELOOP"},        {"dirlink/new", "ok"},      {"slash/", "ok"},
      {"slashes///", "ok"},       {std::string(255, 'd'), "ok"},
      {std::string(256, 'd'), "ENAMETOOLONG"},
  };
  for (const auto& pair : table) {
    const auto& path = pair.first;
    const auto& wanted = pair.second;
    CAPTURE(path);
    CHECK(try_mkdir(dir / path) == wanted);
  }
  CHECK(try_mkdir("/") == "EEXIST");
  CHECK_FALSE(exists(dir / "none"));
  CHECK(S_ISDIR(info(dir / "empty/new").st_mode));
  CHECK(S_ISDIR(info(dir / "slash").st_mode));
}

TEST_CASE("mkdir: modes and umask") {
  const Scratch dir("mkdir");
  int number = 0;
  for (const mode_t umask : {0, 022, 077, 0777}) {
    const Umask scope(umask);
    for (const mode_t mode : {0, 0500, 0755, 0777, 01777, 02777, 04777, 07777}) {
      CAPTURE(umask);
      CAPTURE(mode);
      const auto path = dir / std::to_string(number++);
      CHECK(try_mkdir(path, mode) == "ok");
      // mkdir ignores suid and sgid.
      CHECK(mode_of(path) == (mode & ~umask & 01777));
    }
  }
}

TEST_CASE("mkdir: owner, group, times, link counts") {
  const Scratch dir("mkdir");
  ::chmod(dir.path().c_str(), 0777);
  CHECK(links_of(dir.path()) == 2);
  Watch watch({dir.path()});
  CHECK(as_user(60001, 60003, {kTeam}, [&] { return try_mkdir(dir / "new"); }) == "ok");
  CHECK(watch.moved() == "mc");
  const auto made = info(dir / "new");
  CHECK(made.st_uid == 60001);
  CHECK(made.st_gid == 60003);
  CHECK(made.st_nlink == 2);
  CHECK(nanoseconds(made.st_mtim) == nanoseconds(made.st_ctim));
  CHECK(nanoseconds(made.st_mtim) == nanoseconds(made.st_atim));
  CHECK(links_of(dir.path()) == 3);
  // The parent of the parent sees nothing.
  Watch above({dir.path(), dir / "new"});
  CHECK(try_mkdir(dir / "new/below") == "ok");
  CHECK(above.moved() == "= mc");
  CHECK(try_rmdir(dir / "new/below") == "ok");
  CHECK(above.moved() == "= mc");
  Watch gone({dir.path()});
  CHECK(try_rmdir(dir / "new") == "ok");
  CHECK(gone.moved() == "mc");
  CHECK(links_of(dir.path()) == 2);
}

TEST_CASE("mkdir: link counts of directories count subdirectories only") {
  const Scratch dir("nlink");
  for (int i = 0; i < 300; ++i) REQUIRE(try_mkdir(dir / ("d" + std::to_string(i))) == "ok");
  make_file(dir / "file");
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0644) == 0);
  REQUIRE(::symlink("d1", (dir / "link").c_str()) == 0);
  CHECK(links_of(dir.path()) == 302);
  for (int i = 0; i < 300; i += 2) REQUIRE(try_rmdir(dir / ("d" + std::to_string(i))) == "ok");
  CHECK(links_of(dir.path()) == 152);
  CHECK(links_of(dir / "d1") == 2);
  REQUIRE(try_mkdir(dir / "d1/a") == "ok");
  REQUIRE(try_mkdir(dir / "d1/b") == "ok");
  CHECK(links_of(dir / "d1") == 4);
  CHECK(links_of(dir.path()) == 152);
}

TEST_CASE("mkdir: a setgid directory hands down its group and the bit") {
  const Scratch dir("setgid");
  make_dir(dir / "shared");
  own(dir / "shared", 0, kTeam);
  REQUIRE(::chmod((dir / "shared").c_str(), 02777) == 0);
  const auto call = [&] {
    const auto in = [&](const char* name) { return dir / "shared/" + name; };
    return said({try_mkdir(in("dir"), 0777), try_open(in("file"), O_WRONLY | O_CREAT, 0666),
                 did(::mkfifo(in("fifo").c_str(), 0666)),
                 did(::symlink("x", in("link").c_str()))});
  };
  CHECK(as_user(kNobody, call) == "ok ok ok ok");
  for (const char* name : {"dir", "file", "fifo", "link"}) {
    CAPTURE(name);
    CHECK(info(dir / "shared/" + name).st_gid == kTeam);
    CHECK(info(dir / "shared/" + name).st_uid == kNobody.uid);
  }
  CHECK(mode_of(dir / "shared/dir") == 02755);
  CHECK(mode_of(dir / "shared/file") == 0644);
  CHECK(try_mkdir(dir / "shared/dir/deeper") == "ok");
  CHECK(mode_of(dir / "shared/dir/deeper") == 02755);
  CHECK(info(dir / "shared/dir/deeper").st_gid == kTeam);
  // The setgid bit of a file made there stays only with who is in the group.
  const auto make = [&](const char* name) {
    return try_open(dir / "shared/" + name, O_WRONLY | O_CREAT, 02775);
  };
  CHECK(as_user(kNobody, [&] { return make("outside"); }) == "ok");
  CHECK(as_user(60001, 60001, {kTeam}, [&] { return make("member"); }) == "ok");
  CHECK(make("root") == "ok");
  CHECK(mode_of(dir / "shared/outside") == 0755);
  CHECK(mode_of(dir / "shared/member") == 02755);
  CHECK(mode_of(dir / "shared/root") == 02755);
}

TEST_CASE("mkdir, rmdir: permissions") {
  const Scratch dir("mkdir");
  make_dir(dir / "closed", 0755);
  make_dir(dir / "closed/empty");
  make_dir(dir / "closed/full");
  make_dir(dir / "closed/full/child");
  make_file(dir / "closed/file");
  make_dir(dir / "sticky", 01777);
  make_dir(dir / "sticky/mine");
  own(dir / "sticky/mine", kNobody.uid, kNobody.gid);
  make_dir(dir / "sticky/roots", 0777);
  make_dir(dir / "sticky/full", 0777);
  make_dir(dir / "sticky/full/child", 0777);
  const std::pair<const char*, const char*> makes[] = {{"closed/new", "EACCES"},
                                                       {"closed/file", "EEXIST"},
                                                       {"closed/empty", "EEXIST"},
                                                       {"closed/file/x", "ENOTDIR"},
                                                       {"sticky/new", "ok"}};
  for (const auto& pair : makes) {
    const auto& path = pair.first;
    const auto& wanted = pair.second;
    CAPTURE(path);
    CHECK(as_user(kNobody, [&, p = path] { return try_mkdir(dir / p); }) == wanted);
  }
  const std::pair<const char*, const char*> removals[] = {
      {"closed/none", "ENOENT"},  {"closed/empty", "EACCES"}, {"closed/full", "EACCES"},
      {"closed/file", "EACCES"},  {"sticky/roots", "EPERM"},  {"sticky/full", "EPERM"},
      {"sticky/mine", "ok"},      {"sticky/new", "ok"},
  };
  for (const auto& pair : removals) {
    const auto& path = pair.first;
    const auto& wanted = pair.second;
    CAPTURE(path);
    CHECK(as_user(kNobody, [&, p = path] { return try_rmdir(dir / p); }) == wanted);
  }
  // The owner of a sticky directory may remove what is others'.
  own(dir / "sticky", kBob.uid, kBob.gid);
  CHECK(as_user(kBob, [&] { return try_rmdir(dir / "sticky/roots"); }) == "ok");
  CHECK(as_user(kBob, [&] { return try_rmdir(dir / "sticky/full"); }) == "ENOTEMPTY");
}

TEST_CASE("rmdir: errors as root") {
  const Scratch dir("rmdir");
  make_one_of_each(dir);
  const std::pair<std::string, const char*> table[] = {
      {"none", "ENOENT"},      {"file", "ENOTDIR"},       {"file/", "ENOTDIR"},
      {"file/x", "ENOTDIR"},   {"link", "ENOTDIR"},       {"dirlink", "ENOTDIR"},
      {"dirlink/", "ENOTDIR"}, {"dangling", "ENOTDIR"},   {"loop", "ENOTDIR"},
      {"loop/", "ENOTDIR"},    {"fifo", "ENOTDIR"},       {"full", "ENOTEMPTY"},
      {"empty/.", "EINVAL"},   {"full/.", "EINVAL"},      {".", "EINVAL"},
      {"full/..", "ENOTEMPTY"}, {"full/child/..", "ENOTEMPTY"}, {"dirlink/.", "EINVAL"},
      {std::string(256, 'd'), "ENAMETOOLONG"},
      {"full/child", "ok"},    {"full/", "ok"},           {"empty", "ok"},
      {"empty", "ENOENT"},
  };
  for (const auto& pair : table) {
    const auto& path = pair.first;
    const auto& wanted = pair.second;
    CAPTURE(path);
    CHECK(try_rmdir(dir / path) == wanted);
  }
  CHECK(try_rmdir("/") == "EBUSY");
  CHECK(exists(dir / "dirlink"));
}

TEST_CASE("rmdir: by unlinkat") {
  const Scratch dir("rmdir");
  make_one_of_each(dir);
  const Fd at = must_open(dir.path(), O_RDONLY | O_DIRECTORY);
  const auto remove = [&](const char* name, int flags) {
    return did(::unlinkat(at, name, flags));
  };
  CHECK(remove("empty", 0) == "EISDIR");
  CHECK(remove("file", AT_REMOVEDIR) == "ENOTDIR");
  CHECK(remove("full", AT_REMOVEDIR) == "ENOTEMPTY");
  CHECK(remove("none", AT_REMOVEDIR) == "ENOENT");
  CHECK(remove("empty", AT_SYMLINK_NOFOLLOW) == "EINVAL");
  CHECK(remove("empty", AT_REMOVEDIR) == "ok");
  const Fd file = must_open(dir / "file", O_RDONLY);
  CHECK(did(::unlinkat(file, "x", 0)) == "ENOTDIR");
  CHECK(did(::unlinkat(-1, "x", 0)) == "EBADF");
  CHECK(did(::mkdirat(file, "x", 0755)) == "ENOTDIR");
  CHECK(did(::mkdirat(-1, "x", 0755)) == "EBADF");
  CHECK(did(::mkdirat(at, "made", 0755)) == "ok");
  CHECK(did(::mkdirat(-1, (dir / "absolute").c_str(), 0755)) == "ok");
  CHECK(exists(dir / "made"));
}

TEST_CASE("rmdir: a directory without name that is still open") {
  const Scratch dir("rmdir");
  make_dir(dir / "gone");
  const Fd fd = must_open(dir / "gone", O_RDONLY | O_DIRECTORY);
  const auto outcome = in_child([&] {
    char buffer[4096];
    return said({did(::fchdir(fd)), did(::rmdir((dir / "gone").c_str())),
                 ::getcwd(buffer, sizeof buffer) != nullptr ? "ok" : did(-1),
                 try_open("new", O_WRONLY | O_CREAT), try_mkdir("new"), try_open(".", O_RDONLY),
                 did(::symlink("a", "b")), try_rmdir(".")});
  });
  CHECK(outcome == "ok ok ENOENT ENOENT ENOENT ok ENOENT EINVAL");
  CHECK(info(fd).st_nlink == 0);
  CHECK(S_ISDIR(info(fd).st_mode));
  CHECK(did(::openat(fd, "x", O_RDWR | O_CREAT, 0644)) == "ENOENT");
  CHECK(did(::mkdirat(fd, "x", 0755)) == "ENOENT");
  make_file(dir / "file");
  CHECK(did(::linkat(AT_FDCWD, (dir / "file").c_str(), fd, "x", 0)) == "ENOENT");
  CHECK(did(::renameat(AT_FDCWD, (dir / "file").c_str(), fd, "x")) == "ENOENT");
  char entries[1024];
  CHECK(did(::syscall(SYS_getdents64, int(fd), entries, sizeof entries)) == "ENOENT");
  CHECK(did(::fchmod(fd, 0700)) == "ok");
  // A new one of the same name is another directory.
  make_dir(dir / "gone");
  CHECK(info(fd).st_nlink == 0);
  CHECK(info(dir / "gone").st_nlink == 2);
}

TEST_CASE("mkdir and rmdir again and again by four processes") {
  const Scratch dir("mkdir");
  std::vector<std::unique_ptr<Helper>> helpers;
  for (int i = 0; i < 4; ++i) {
    helpers.push_back(std::make_unique<Helper>([&](Channel& channel) {
      int made = 0, removed = 0;
      std::string odd;
      for (int n = 0; n < 150; ++n) {
        const auto mkdir = try_mkdir(dir / "contended");
        made += mkdir == "ok" ? 1 : 0;
        if (mkdir != "ok" && mkdir != "EEXIST") odd += " mkdir:" + mkdir;
        const auto rmdir = try_rmdir(dir / "contended");
        removed += rmdir == "ok" ? 1 : 0;
        if (rmdir != "ok" && rmdir != "ENOENT") odd += " rmdir:" + rmdir;
      }
      channel.say(std::to_string(made) + " " + std::to_string(removed) + odd);
    }));
  }
  int made = 0, removed = 0;
  for (auto& helper : helpers) {
    const auto word = helper->hear(60'000);
    std::size_t used = 0;
    REQUIRE_FALSE(word.empty());
    made += std::stoi(word, &used);
    const auto rest = word.substr(used);
    removed += std::stoi(rest, &used);
    CHECK(rest.substr(used) == "");
  }
  CHECK(made == removed);
  CHECK_FALSE(exists(dir / "contended"));
  CHECK(links_of(dir.path()) == 2);
}

}  // namespace
}  // namespace magma::posix
