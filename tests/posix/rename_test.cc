// rename(2): errors and their order, permissions, the sticky bit, times and link counts, open files
// and working directories that move, "..". What replaces what is in rename_replace_test.cc.
#include <fcntl.h>
#include <sys/stat.h>

#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

std::string try_rename(const std::string& from, const std::string& to) {
  return did(::rename(from.c_str(), to.c_str()));
}

TEST_CASE("rename: errors as root") {
  const Scratch dir("rename");
  make_file(dir / "file", "abc");
  make_dir(dir / "dir");
  make_dir(dir / "dir/sub");
  make_dir(dir / "dir/sub/deep");
  make_file(dir / "dir/inside");
  make_dir(dir / "empty");
  const std::pair<const char*, const char*> links[] = {
      {"file", "link"}, {"dir", "dirlink"}, {"none", "dangling"}, {"loop", "loop"}};
  for (const auto& [target, name] : links) {
    REQUIRE(::symlink(target, (dir / name).c_str()) == 0);
  }
  struct Row {
    std::string from, to;
    const char* wanted;
  };
  const Row table[] = {
      {"none", "new", "ENOENT"},
      {"none", "file", "ENOENT"},
      {"none", "empty", "ENOENT"},
      {"none/x", "new", "ENOENT"},
      {"file", "none/x", "ENOENT"},
      {"file/x", "new", "ENOTDIR"},
      {"file", "file/x", "ENOTDIR"},
      {"file/", "new", "ENOTDIR"},
      {"file", "new/", "ENOTDIR"},
      {"file", "empty/", "ENOTDIR"},
      {"file", "empty", "EISDIR"},
      {"file", "dir", "EISDIR"},
      {"dir", "file", "ENOTDIR"},
      {"dir", "file/", "ENOTDIR"},
      {"dir", "link", "ENOTDIR"},
      {"dir", "dirlink", "ENOTDIR"},
      {"dir", "dangling", "ENOTDIR"},
      {"empty", "dir", "ENOTEMPTY"},
      {"dir", "dir/x", "EINVAL"},
      {"dir", "dir/sub/x", "EINVAL"},
      {"dir", "dir/sub", "EINVAL"},
      {"dir", "dir/sub/deep", "EINVAL"},
      {"dir", "dirlink/x", "EINVAL"},
      {"dir/sub", "dir", "ENOTEMPTY"},
      {"dir/inside", "dir", "ENOTEMPTY"},
      {"dir/sub/deep", "dir", "ENOTEMPTY"},
      {"dir/.", "new", "EBUSY"},
      {"dir/..", "new", "EBUSY"},
      {".", "new", "EBUSY"},
      {"file", ".", "EBUSY"},
      {"empty", "dir/.", "EBUSY"},
      {"empty", "dir/..", "EBUSY"},
      {"loop/x", "new", "ELOOP"},
      {"file", "loop/x", "ELOOP"},
      {"dangling/x", "new", "ENOENT"},
      {"dirlink/", "new", "ENOTDIR"},
      {"file", std::string(256, 'r'), "ENAMETOOLONG"},
      {std::string(256, 'r'), "new", "ENAMETOOLONG"},
      {"file", "file", "ok"},
      {"dir", "dir", "ok"},
      {"link", "link", "ok"},
      {"dir/", "dir/", "ok"},
      {"empty/", "new/", "ok"},
      {"new", "empty/", "ok"},
      {"dangling", "moved", "ok"},
      {"loop", "moved2", "ok"},
      {"file", std::string(255, 'r'), "ok"},
  };
  for (const auto& row : table) {
    CAPTURE(row.from);
    CAPTURE(row.to);
    CHECK(try_rename(dir / row.from, dir / row.to) == row.wanted);
  }
  CHECK(try_rename("", dir / "new") == "ENOENT");
  CHECK(try_rename(dir / "dir", "") == "ENOENT");
  CHECK(read_all(dir / std::string(255, 'r')) == "abc");
  CHECK_FALSE(exists(dir / "new"));
  const Fd file = must_open(dir / std::string(255, 'r'), O_RDONLY);
  CHECK(did(::renameat(file, "x", AT_FDCWD, "y")) == "ENOTDIR");
  CHECK(did(::renameat(AT_FDCWD, (dir / "dir").c_str(), file, "y")) == "ENOTDIR");
  CHECK(did(::renameat(-1, "x", AT_FDCWD, "y")) == "EBADF");
}

TEST_CASE("rename: times and link counts of everything involved") {
  const Scratch dir("rename");
  make_dir(dir / "a");
  make_dir(dir / "b");
  make_file(dir / "a/file", "abc");
  make_dir(dir / "a/sub");
  make_file(dir / "a/other");
  const Fd file = must_open(dir / "a/file", O_RDONLY);
  const Fd sub = must_open(dir / "a/sub", O_RDONLY | O_DIRECTORY);
  const auto before = info(file);

  Watch same({dir / "a", dir / "b", dir / "a/other"});
  CHECK(try_rename(dir / "a/file", dir / "a/named") == "ok");
  CHECK(same.moved() == "mc = =");
  Watch across({dir / "a", dir / "b", dir / "a/sub", dir / "a/named"});
  CHECK(try_rename(dir / "a/named", dir / "b/named") == "ok");
  CHECK(nanoseconds(info(file).st_ctim) > nanoseconds(before.st_ctim));
  CHECK(nanoseconds(info(file).st_mtim) == nanoseconds(before.st_mtim));
  CHECK(info(file).st_nlink == 1);
  REQUIRE(try_rename(dir / "b/named", dir / "a/named") == "ok");
  CHECK(across.moved() == "mc mc = c");

  CHECK(links_of(dir / "a") == 3);
  CHECK(links_of(dir / "b") == 2);
  const auto sub_before = info(sub);
  tick();
  CHECK(try_rename(dir / "a/sub", dir / "b/sub") == "ok");
  CHECK(links_of(dir / "a") == 2);
  CHECK(links_of(dir / "b") == 3);
  CHECK(info(sub).st_nlink == 2);
  CHECK(info(sub).st_ino == info(dir / "b/sub").st_ino);
  CHECK(nanoseconds(info(sub).st_ctim) > nanoseconds(sub_before.st_ctim));
  // A rename that does nothing touches nothing.
  Watch still({dir / "a", dir / "a/named"});
  CHECK(try_rename(dir / "a/named", dir / "a/named") == "ok");
  CHECK(try_rename(dir / "a/none", dir / "a/named") == "ENOENT");
  CHECK(try_rename(dir / "a/named", dir / "b/sub") == "EISDIR");
  CHECK(still.moved() == "= =");
}

TEST_CASE("rename: of two names of one file does nothing") {
  const Scratch dir("rename");
  make_dir(dir / "a");
  make_file(dir / "one", "abc");
  REQUIRE(::link((dir / "one").c_str(), (dir / "two").c_str()) == 0);
  REQUIRE(::link((dir / "one").c_str(), (dir / "a/three").c_str()) == 0);
  Watch watch({dir.path(), dir / "one", dir / "a"});
  CHECK(try_rename(dir / "one", dir / "two") == "ok");
  CHECK(try_rename(dir / "one", dir / "a/three") == "ok");
  CHECK(try_rename(dir / "a/three", dir / "two") == "ok");
  CHECK(watch.moved() == "= = =");
  CHECK(links_of(dir / "one") == 3);
  CHECK(exists(dir / "two"));
  CHECK(exists(dir / "a/three"));
}

TEST_CASE("rename: a moved directory, its new parent and what is below") {
  const Scratch dir("rename");
  for (const char* name : {"a", "a/m", "a/m/below", "b", "b/c"}) make_dir(dir / name);
  make_file(dir / "a/m/below/file", "abc");
  const Fd moved = must_open(dir / "a/m", O_RDONLY | O_DIRECTORY);
  const Fd file = must_open(dir / "a/m/below/file", O_RDWR);
  Helper worker([&](Channel& channel) {
    channel.say(did(::chdir((dir / "a/m/below").c_str())));
    channel.hear();
    char buffer[4096];
    channel.say(::getcwd(buffer, sizeof buffer));
    channel.hear();
    channel.say(
        said({try_open("new", O_WRONLY | O_CREAT), try_open("../../x", O_WRONLY | O_CREAT)}));
  });
  REQUIRE(worker.hear() == "ok");
  CHECK(try_rename(dir / "a/m", dir / "b/c/n") == "ok");
  CHECK(worker.ask("where") == dir / "b/c/n/below");
  CHECK(worker.ask("create") == "ok ok");
  CHECK(exists(dir / "b/c/n/below/new"));
  CHECK(exists(dir / "b/c/x"));

  const Fd up(::openat(moved, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  CHECK(info(up).st_ino == info(dir / "b/c").st_ino);
  CHECK(info(dir / "b/c/n/..").st_ino == info(dir / "b/c").st_ino);
  CHECK(info(dir / "b/c/n/../..").st_ino == info(dir / "b").st_ino);
  REQUIRE(write_at(file, 3, "def"));
  CHECK(read_all(dir / "b/c/n/below/file") == "abcdef");
  CHECK(try_open(dir / "a/m/below/file", O_RDONLY) == "ENOENT");
  // Now b is above the moved one: it cannot go into it.
  CHECK(try_rename(dir / "b", dir / "b/c/n/below/b") == "EINVAL");
  CHECK(try_rename(dir / "a", dir / "b/c/n/below/a") == "ok");
  CHECK(try_rename(dir / "b/c/n/below/a", dir / "a") == "ok");
  CHECK(did(::mkdirat(moved, "by-descriptor", 0755)) == "ok");
  CHECK(exists(dir / "b/c/n/by-descriptor"));
}

TEST_CASE("rename: permissions") {
  const Scratch dir("rename");
  for (const char* name : {"closed", "mine", "mine2"}) make_dir(dir / name);
  own(dir / "mine", kNobody.uid, kNobody.gid);
  own(dir / "mine2", kNobody.uid, kNobody.gid);
  make_dir(dir / "secret", 0700);
  make_file(dir / "secret/file");
  make_file(dir / "closed/file");
  make_dir(dir / "closed/dir");
  make_file(dir / "mine/file");
  make_file(dir / "mine/file2");
  make_dir(dir / "mine/roots-dir");
  make_dir(dir / "mine/own-dir", 0);
  own(dir / "mine/own-dir", kNobody.uid, kNobody.gid);
  make_dir(dir / "mine/rw-dir", 0777);
  struct Row {
    const char *from, *to, *wanted;
  };
  const Row table[] = {
      {"closed/file", "mine/x", "EACCES"},   {"closed/none", "mine/x", "ENOENT"},
      {"mine/file", "closed/x", "EACCES"},   {"mine/file", "closed/file", "EACCES"},
      {"closed/file", "closed/x", "EACCES"}, {"secret/file", "mine/x", "EACCES"},
      {"mine/file", "secret/x", "EACCES"},   {"mine/file", "closed/dir", "EACCES"},
      {"closed/dir", "mine/file", "EACCES"},
      // Of another's directory the name may change, but not ".." in it.
      {"mine/roots-dir", "mine/renamed", "ok"}, {"mine/renamed", "mine2/roots-dir", "EACCES"},
      {"mine/own-dir", "mine2/own-dir", "EACCES"}, {"mine/rw-dir", "mine2/rw-dir", "ok"},
      // The files need no permission at all.
      {"mine/file", "mine2/file", "ok"},     {"mine/file2", "mine2/file", "ok"},
  };
  for (const auto& row : table) {
    CAPTURE(row.from);
    CAPTURE(row.to);
    const auto call = [&] { return try_rename(dir / row.from, dir / row.to); };
    CHECK(as_user(kNobody, call) == row.wanted);
  }
}

TEST_CASE("rename: sticky directories") {
  const Scratch dir("rename");
  make_dir(dir / "sticky", 01777);
  make_dir(dir / "free", 0777);
  for (const char* place : {"sticky", "free"}) {
    for (const char* name : {"/mine", "/mine2", "/mine3", "/bobs", "/bobs2", "/bobs3"}) {
      const User& who = name[1] == 'm' ? kNobody : kBob;
      make_file(dir / place + name, name, 0666);
      own(dir / place + name, who.uid, who.gid);
    }
  }
  struct Row {
    const char *from, *to, *wanted;
  };
  const Row table[] = {
      {"sticky/bobs", "sticky/x", "EPERM"}, {"sticky/bobs", "free/x", "EPERM"},
      {"sticky/mine", "sticky/bobs", "EPERM"}, {"free/mine", "sticky/bobs", "EPERM"},
      {"sticky/none", "sticky/bobs", "ENOENT"}, {"free/bobs", "sticky/x", "ok"},
      {"sticky/mine", "free/bobs2", "ok"},  {"sticky/mine2", "sticky/mine3", "ok"},
      {"free/mine2", "sticky/mine3", "ok"}, {"sticky/mine3", "sticky/y", "ok"},
  };
  for (const auto& row : table) {
    CAPTURE(row.from);
    CAPTURE(row.to);
    const auto call = [&] { return try_rename(dir / row.from, dir / row.to); };
    CHECK(as_user(kNobody, call) == row.wanted);
  }
  // The owner of the directory and root may.
  own(dir / "sticky", kNobody.uid, kNobody.gid);
  const auto call = [&] { return try_rename(dir / "sticky/bobs", dir / "sticky/y"); };
  CHECK(as_user(kNobody, call) == "ok");
  CHECK(try_rename(dir / "sticky/bobs2", dir / "sticky/bobs3") == "ok");
}

}  // namespace
}  // namespace magma::posix
