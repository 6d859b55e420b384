// What every call that takes a path answers when the path itself is wrong: one table of calls, one
// table of wrong paths. The errors that belong to a single call are in the file of that call.
#include <dirent.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

#include <cstdio>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

const std::string kLong256(256, 'n');

struct PathCall {
  const char* name;
  std::function<std::string(const Scratch&, const char*)> call;
  // What it answers for a name that is not there, for one with a slash behind, for a file with a
  // slash behind.
  const char* missing = "ENOENT";
  const char* missing_slash = "ENOENT";
  const char* file_slash = "ENOTDIR";
};

std::string try_exec(const char* path) {
  return in_child([&] {
    char name[] = "x";
    char* arguments[] = {name, nullptr};
    return did(::execv(path, arguments));
  });
}

std::string try_watch(const char* path) {
  const Fd watch(::inotify_init1(IN_CLOEXEC));
  return did(::inotify_add_watch(watch, path, IN_MODIFY));
}

std::string try_statx(const char* path) {
  struct statx result {};
  return did(::statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &result));
}

const std::vector<PathCall>& reading_calls() {
  static const std::vector<PathCall> calls = {
      {"stat", [](auto&, auto path) { struct stat s {}; return did(::stat(path, &s)); }},
      {"lstat", [](auto&, auto path) { struct stat s {}; return did(::lstat(path, &s)); }},
      {"statx", [](auto&, auto path) { return try_statx(path); }},
      {"statfs", [](auto&, auto path) { struct statfs s {}; return did(::statfs(path, &s)); }},
      {"access", [](auto&, auto path) { return did(::access(path, F_OK)); }},
      {"open to read", [](auto&, auto path) { return try_open(path, O_RDONLY); }},
      {"open to write", [](auto&, auto path) { return try_open(path, O_WRONLY); }},
      {"open O_DIRECTORY", [](auto&, auto path) { return try_open(path, O_DIRECTORY); }},
      {"open O_PATH", [](auto&, auto path) { return try_open(path, O_PATH); }},
      {"open O_TRUNC", [](auto&, auto path) { return try_open(path, O_WRONLY | O_TRUNC); }},
      {"open O_TMPFILE", [](auto&, auto path) { return try_open(path, O_TMPFILE | O_RDWR); }},
      {"chdir", [](auto&, auto path) { return in_child([&] { return did(::chdir(path)); }); }},
      {"readlink", [](auto&, auto path) { char b[9]; return did(::readlink(path, b, 9)); }},
      {"exec", [](auto&, auto path) { return try_exec(path); }},
      {"inotify", [](auto&, auto path) { return try_watch(path); }},
      {"getxattr", [](auto&, auto path) { return did(::getxattr(path, "user.a", nullptr, 0)); }},
      {"lgetxattr", [](auto&, auto path) { return did(::lgetxattr(path, "user.a", nullptr, 0)); }},
      {"listxattr", [](auto&, auto path) { return did(::listxattr(path, nullptr, 0)); }},
  };
  return calls;
}

const std::vector<PathCall>& changing_calls() {
  static const std::vector<PathCall> calls = {
      {"open O_CREAT", [](auto&, auto path) { return try_open(path, O_RDWR | O_CREAT); }, "ok",
       "EISDIR", "EISDIR"},
      {"open O_EXCL",
       [](auto&, auto path) { return try_open(path, O_RDWR | O_CREAT | O_EXCL); }, "ok", "EISDIR",
       "EISDIR"},
      {"mkdir", [](auto&, auto path) { return did(::mkdir(path, 0755)); }, "ok", "ok", "EEXIST"},
      {"mknod of a file", [](auto&, auto path) { return did(::mknod(path, S_IFREG | 0644, 0)); },
       "ok", "ENOENT", "EEXIST"},
      {"mkfifo", [](auto&, auto path) { return did(::mkfifo(path, 0644)); }, "ok", "ENOENT",
       "EEXIST"},
      {"symlink", [](auto&, auto path) { return did(::symlink("x", path)); }, "ok", "ENOENT",
       "EEXIST"},
      {"link to",
       [](auto& dir, auto path) { return did(::link((dir / "source").c_str(), path)); }, "ok",
       "ENOENT", "EEXIST"},
      {"link from",
       [](auto& dir, auto path) { return did(::link(path, (dir / "target").c_str())); }},
      {"rename to",
       [](auto& dir, auto path) { return did(::rename((dir / "source").c_str(), path)); }, "ok",
       "ENOTDIR", "ENOTDIR"},
      {"rename from",
       [](auto& dir, auto path) { return did(::rename(path, (dir / "target").c_str())); }},
      {"rmdir", [](auto&, auto path) { return did(::rmdir(path)); }},
      {"unlink", [](auto&, auto path) { return did(::unlink(path)); }},
      {"truncate", [](auto&, auto path) { return did(::truncate(path, 0)); }},
      {"chmod", [](auto&, auto path) { return did(::chmod(path, 0600)); }},
      {"chown", [](auto&, auto path) { return did(::chown(path, 1, 1)); }},
      {"lchown", [](auto&, auto path) { return did(::lchown(path, 1, 1)); }},
      {"utimensat", [](auto&, auto path) { return did(::utimensat(AT_FDCWD, path, nullptr, 0)); }},
      {"setxattr", [](auto&, auto path) { return did(::setxattr(path, "user.a", "b", 1, 0)); }},
      {"removexattr", [](auto&, auto path) { return did(::removexattr(path, "user.a")); }},
  };
  return calls;
}

void check_path_errors(const PathCall& each) {
  const Scratch dir("path");
  make_file(dir / "file");
  make_file(dir / "source");
  make_dir(dir / "closed", 0700);
  make_file(dir / "closed/file");
  REQUIRE(::symlink("loop", (dir / "loop").c_str()) == 0);
  REQUIRE(::symlink("nowhere/at/all", (dir / "dangling").c_str()) == 0);
  // Behind a component that is a directory a path may be as long as it likes, up to PATH_MAX.
  std::string long_path = dir.path();
  while (long_path.size() < 4095) long_path += "/.";
  long_path.resize(4096, '/');

  const std::pair<std::string, std::string> table[] = {
      {"", "ENOENT"},
      {dir / "none/x", "ENOENT"},
      {dir / "none/../file", "ENOENT"},
      {dir / "dangling/x", "ENOENT"},
      {dir / "file/x", "ENOTDIR"},
      {dir / "file/.", "ENOTDIR"},
      {dir / "file/..", "ENOTDIR"},
      {dir / "loop/x", "ELOOP"},
      {dir / kLong256, "ENAMETOOLONG"},
      {dir / (kLong256 + "/x"), "ENAMETOOLONG"},
      {long_path, "ENAMETOOLONG"},
      {dir / "missing/", each.missing_slash},
      {dir / "file/", each.file_slash},
  };
  for (const auto& pair : table) {
    const auto& path = pair.first;
    const auto& wanted = pair.second;
    if (path == dir / "missing/" && wanted == "ok") continue;
    CAPTURE(path);
    CHECK(each.call(dir, path.c_str()) == wanted);
  }
  const auto closed_file = dir / "closed/file", closed_none = dir / "closed/none";
  CHECK(as_user(kNobody, [&] { return each.call(dir, closed_file.c_str()); }) == "EACCES");
  CHECK(as_user(kNobody, [&] { return each.call(dir, closed_none.c_str()); }) == "EACCES");
  CHECK(each.call(dir, (dir / "missing").c_str()) == each.missing);
}

TEST_CASE("path errors of calls that read") {
  for (const auto& each : reading_calls()) {
    CAPTURE(each.name);
    check_path_errors(each);
  }
}

TEST_CASE("path errors of calls that change") {
  for (const auto& each : changing_calls()) {
    CAPTURE(each.name);
    check_path_errors(each);
  }
}

TEST_CASE("paths: dots, double slashes, trailing slashes, 4095 bytes") {
  const Scratch dir("path");
  make_dir(dir / "a");
  make_dir(dir / "a/b");
  make_file(dir / "a/b/file", "here");
  for (const char* path : {"a/b/file", "a//b///file", "./a/./b/./file", "a/../a/b/../b/file",
                           "a/b/../../a/b/file"}) {
    CAPTURE(path);
    CHECK(read_all(dir / path) == "here");
  }
  for (const char* path : {"a/", "a//", "a/.", "a/./", "a/b/..", "a/b/../"}) {
    CAPTURE(path);
    CHECK(info(dir / path).st_ino == info(dir / "a").st_ino);
  }
  std::string path = dir.path();
  const std::string end = "/a/b/file";
  while (path.size() + end.size() < 4094) path += "/.";
  while (path.size() + end.size() < 4095) path += "/";
  path += end;
  REQUIRE(path.size() == 4095);
  CHECK(read_all(path) == "here");
  CHECK(try_open("/" + path, O_RDONLY) == "ENAMETOOLONG");
}

}  // namespace
}  // namespace magma::posix
