// What rename(2) and renameat2(2) do when the destination exists: every kind over every kind in one
// directory and across two, RENAME_NOREPLACE, RENAME_EXCHANGE, replaced files that are open, and
// that a replaced name is never missing.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cstdio>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

std::string try_rename2(const std::string& from, const std::string& to, unsigned flags) {
  return did(::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags));
}

const char* const kKinds[] = {"none", "file", "linked", "empty", "full", "symlink", "fifo", "sock"};

// Something of a kind at a path; "linked" is a file that has a second name beside it.
void make(const std::string& kind, const std::string& path) {
  if (kind == "file" || kind == "linked") make_file(path, "content of " + path);
  if (kind == "linked") REQUIRE(::link(path.c_str(), (path + ".more").c_str()) == 0);
  if (kind == "empty" || kind == "full") make_dir(path);
  if (kind == "full") make_file(path + "/inside");
  if (kind == "symlink") REQUIRE(::symlink("full", path.c_str()) == 0);
  if (kind == "fifo") REQUIRE(::mkfifo(path.c_str(), 0644) == 0);
  if (kind == "sock") REQUIRE(::mknod(path.c_str(), S_IFSOCK | 0644, 0) == 0);
}
bool is_dir(const std::string& kind) { return kind == "empty" || kind == "full"; }

std::string wanted_of_rename(const std::string& from, const std::string& to) {
  if (from == "none") return "ENOENT";
  if (to == "none") return "ok";
  if (is_dir(from) && !is_dir(to)) return "ENOTDIR";
  if (!is_dir(from) && is_dir(to)) return "EISDIR";
  return to == "full" ? "ENOTEMPTY" : "ok";
}

void check_replace(const Scratch& dir, const std::string& from_kind, const std::string& to_kind,
                   bool is_across) {
  CAPTURE(from_kind);
  CAPTURE(to_kind);
  CAPTURE(is_across);
  make_dir(dir / "a");
  make_dir(dir / "b");
  const auto from = dir / "a/from", to = dir / (is_across ? "b/to" : "a/to");
  make(from_kind, from);
  make(to_kind, to);
  const Fd target(to_kind == "none" ? -1 : ::open(to.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  const ino_t moved = from_kind == "none" ? 0 : info(from).st_ino;
  const auto wanted = wanted_of_rename(from_kind, to_kind);
  CHECK(did(::rename(from.c_str(), to.c_str())) == wanted);
  if (wanted == "ok") {
    CHECK_FALSE(exists(from));
    CHECK(info(to).st_ino == moved);
    if (target >= 0) CHECK(info(target).st_nlink == (to_kind == "linked" ? 1 : 0));
  } else {
    CHECK(exists(from) == (from_kind != "none"));
    CHECK(exists(to) == (to_kind != "none"));
    if (moved != 0) CHECK(info(from).st_ino == moved);
  }
  std::int64_t dirs_a = 2, dirs_b = 2;
  for (const auto& name : list(dir / "a")) dirs_a += S_ISDIR(info(dir / "a/" + name).st_mode);
  for (const auto& name : list(dir / "b")) dirs_b += S_ISDIR(info(dir / "b/" + name).st_mode);
  CHECK(links_of(dir / "a") == dirs_a);
  CHECK(links_of(dir / "b") == dirs_b);
  REQUIRE(remove_tree(AT_FDCWD, dir / "a") == 0);
  REQUIRE(remove_tree(AT_FDCWD, dir / "b") == 0);
}

TEST_CASE("rename: every kind over every kind") {
  const Scratch dir("replace");
  for (const char* from : kKinds) {
    for (const char* to : kKinds) {
      check_replace(dir, from, to, false);
      check_replace(dir, from, to, true);
    }
  }
}

TEST_CASE("rename: times when something is replaced") {
  const Scratch dir("replace");
  make_dir(dir / "a");
  make_dir(dir / "b");
  make_file(dir / "a/from");
  make_file(dir / "b/to");
  REQUIRE(::link((dir / "b/to").c_str(), (dir / "more").c_str()) == 0);
  REQUIRE(::link((dir / "a/from").c_str(), (dir / "from").c_str()) == 0);
  Watch watch({dir / "a", dir / "b", dir / "from", dir / "more"});
  CHECK(did(::rename((dir / "a/from").c_str(), (dir / "b/to").c_str())) == "ok");
  CHECK(watch.moved() == "mc mc c c");
  CHECK(links_of(dir / "from") == 2);
  CHECK(links_of(dir / "more") == 1);
}

TEST_CASE("rename: a replaced file lives on while it is open") {
  const Scratch dir("replace");
  make_file(dir / "old", pattern(70'000, 1));
  make_file(dir / "new", "new");
  const Fd old = must_open(dir / "old", O_RDWR);
  CHECK(did(::rename((dir / "new").c_str(), (dir / "old").c_str())) == "ok");
  CHECK(difference(read_at(old, 0, 70'001), pattern(70'000, 1)) == "");
  CHECK(info(old).st_nlink == 0);
  REQUIRE(write_at(old, 70'000, "more"));
  CHECK(info(old).st_size == 70'004);
  CHECK(read_all(dir / "old") == "new");
}

TEST_CASE("rename: RENAME_NOREPLACE") {
  const Scratch dir("noreplace");
  for (const char* from : kKinds) {
    for (const char* to : kKinds) {
      CAPTURE(from);
      CAPTURE(to);
      make(from, dir / "from");
      make(to, dir / "to");
      const bool is_there = std::string(from) != "none", is_taken = std::string(to) != "none";
      const auto wanted = !is_there ? "ENOENT" : is_taken ? "EEXIST" : "ok";
      CHECK(try_rename2(dir / "from", dir / "to", RENAME_NOREPLACE) == wanted);
      for (const auto& name : list(dir.path())) {
        REQUIRE(remove_tree(AT_FDCWD, dir / name) == 0);
      }
    }
  }
  make_file(dir / "file");
  make_dir(dir / "dir");
  make_dir(dir / "dir/sub");
  CHECK(try_rename2(dir / "file", dir / "file", RENAME_NOREPLACE) == "EEXIST");
  CHECK(try_rename2(dir / "dir", dir / "dir/sub", RENAME_NOREPLACE) == "EEXIST");
  CHECK(try_rename2(dir / "dir", dir / "dir/new", RENAME_NOREPLACE) == "EINVAL");
  CHECK(try_rename2(dir / "dir", dir / "new/", RENAME_NOREPLACE) == "ok");
}

TEST_CASE("rename: RENAME_EXCHANGE of every kind with every kind") {
  const Scratch dir("exchange");
  for (const char* from : kKinds) {
    for (const char* to : kKinds) {
      CAPTURE(from);
      CAPTURE(to);
      make_dir(dir / "a");
      make_dir(dir / "b");
      make(from, dir / "a/x");
      make(to, dir / "b/y");
      const bool are_both = std::string(from) != "none" && std::string(to) != "none";
      const ino_t x = are_both ? info(dir / "a/x").st_ino : 0;
      const ino_t y = are_both ? info(dir / "b/y").st_ino : 0;
      const auto got = try_rename2(dir / "a/x", dir / "b/y", RENAME_EXCHANGE);
      CHECK(got == (are_both ? "ok" : "ENOENT"));
      if (are_both) {
        CHECK(info(dir / "a/x").st_ino == y);
        CHECK(info(dir / "b/y").st_ino == x);
        CHECK(links_of(dir / "a") == (is_dir(to) ? 3 : 2));
        CHECK(links_of(dir / "b") == (is_dir(from) ? 3 : 2));
        if (is_dir(to)) CHECK(info(dir / "a/x/..").st_ino == info(dir / "a").st_ino);
        if (is_dir(from)) CHECK(info(dir / "b/y/..").st_ino == info(dir / "b").st_ino);
        CHECK(try_rename2(dir / "b/y", dir / "a/x", RENAME_EXCHANGE) == "ok");
        CHECK(info(dir / "a/x").st_ino == x);
      }
      REQUIRE(remove_tree(AT_FDCWD, dir / "a") == 0);
      REQUIRE(remove_tree(AT_FDCWD, dir / "b") == 0);
    }
  }
}

TEST_CASE("rename: RENAME_EXCHANGE in one directory, times, errors") {
  const Scratch dir("exchange");
  make_dir(dir / "d");
  make_dir(dir / "d/sub");
  make_dir(dir / "d/sub/deep");
  make_file(dir / "d/file", "abc");
  Watch watch({dir / "d", dir / "d/sub", dir / "d/file"});
  CHECK(try_rename2(dir / "d/sub", dir / "d/file", RENAME_EXCHANGE) == "ok");
  CHECK(exists(dir / "d/file/deep"));
  CHECK(links_of(dir / "d") == 3);
  REQUIRE(try_rename2(dir / "d/sub", dir / "d/file", RENAME_EXCHANGE) == "ok");
  CHECK(watch.moved() == "mc c c");
  REQUIRE(try_rename2(dir / "d/sub", dir / "d/file", RENAME_EXCHANGE) == "ok");
  CHECK(read_all(dir / "d/sub") == "abc");
  REQUIRE(try_rename2(dir / "d/sub", dir / "d/file", RENAME_EXCHANGE) == "ok");
  CHECK(try_rename2(dir / "d/file", dir / "d/file", RENAME_EXCHANGE) == "ok");
  struct Row {
    const char *from, *to, *wanted;
  };
  const Row table[] = {
      {"d", "d/sub", "EINVAL"},       {"d/sub", "d", "EINVAL"},     {"d", "d/sub/deep", "EINVAL"},
      {"d/sub/deep", "d", "EINVAL"},  {"d/file", "d", "EINVAL"},    {"d", "d/file", "EINVAL"},
      {"d/none", "d", "ENOENT"},      {"d", "d/none", "ENOENT"},    {"d/file/", "d/sub", "ENOTDIR"},
      {"d/sub", "d/file/", "ENOTDIR"}, {"d/.", "d/sub", "EBUSY"},
  };
  for (const auto& row : table) {
    CAPTURE(row.from);
    CAPTURE(row.to);
    CHECK(try_rename2(dir / row.from, dir / row.to, RENAME_EXCHANGE) == row.wanted);
  }
  CHECK(read_all(dir / "d/file") == "abc");
}

TEST_CASE("rename: RENAME_EXCHANGE needs what two renames would") {
  const Scratch dir("exchange");
  make_dir(dir / "sticky", 01777);
  make_dir(dir / "mine", 0777);
  make_dir(dir / "closed", 0755);
  for (const char* name : {"sticky/mine", "sticky/bobs", "mine/mine", "closed/file"}) {
    make_file(dir / name, name);
    own(dir / name, std::string(name).ends_with("mine") ? kNobody.uid : kBob.uid, 0);
  }
  make_dir(dir / "mine/roots");
  make_dir(dir / "sticky/my-dir");
  own(dir / "sticky/my-dir", kNobody.uid, 0);
  struct Row {
    const char *from, *to, *wanted;
  };
  const Row table[] = {
      {"sticky/mine", "sticky/bobs", "EPERM"}, {"sticky/bobs", "mine/mine", "EPERM"},
      {"mine/mine", "closed/file", "EACCES"},  {"mine/roots", "sticky/mine", "EACCES"},
      {"sticky/mine", "mine/roots", "EACCES"}, {"sticky/mine", "mine/mine", "ok"},
      {"sticky/my-dir", "mine/mine", "ok"},
  };
  for (const auto& row : table) {
    CAPTURE(row.from);
    CAPTURE(row.to);
    const auto call = [&] { return try_rename2(dir / row.from, dir / row.to, RENAME_EXCHANGE); };
    CHECK(as_user(kNobody, call) == row.wanted);
  }
}

TEST_CASE("rename: renameat2 flags that do not exist or do not go together") {
  const Scratch dir("flags");
  make_file(dir / "a");
  make_file(dir / "b");
  for (const unsigned flags : {8U, 0x80000000U, unsigned(RENAME_NOREPLACE | RENAME_EXCHANGE),
                               unsigned(RENAME_WHITEOUT | RENAME_EXCHANGE)}) {
    CAPTURE(flags);
    CHECK(try_rename2(dir / "a", dir / "b", flags) == "EINVAL");
  }
  // Whiteouts are for overlayfs: done or refused.
  const auto whiteout = try_rename2(dir / "a", dir / "c", RENAME_WHITEOUT);
  CHECK((whiteout == "EINVAL" || (whiteout == "ok" && S_ISCHR(info(dir / "a").st_mode))));
}

TEST_CASE("rename: a name that is replaced again and again is never missing") {
  const Scratch dir("replace");
  const auto name = dir / "name", temporary = dir / "temporary";
  make_file(name, std::string(5000, 'a'));
  Helper writer([&](Channel& channel) {
    for (int i = 0; i < 300; ++i) {
      const Fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0644));
      write_at(fd, 0, std::string(5000, char('a' + i % 26)));
      if (::rename(temporary.c_str(), name.c_str()) != 0) ::_exit(1);
    }
    channel.say("done");
  });
  int missing = 0, torn = 0, rounds = 0;
  while (writer.hear(0).empty() && rounds++ < 100'000) {
    const Fd fd(::open(name.c_str(), O_RDONLY | O_CLOEXEC));
    if (fd < 0) ++missing;
    const auto bytes = read_at(fd, 0, 6000);
    if (fd >= 0 && (bytes.size() != 5000 || bytes != std::string(5000, bytes[0]))) ++torn;
  }
  CHECK(missing == 0);
  CHECK(torn == 0);
  CHECK(writer.end() == "ok");
}

TEST_CASE("rename: four processes move directories into each other and no loop appears") {
  const Scratch dir("loops");
  for (const char* name : {"a", "b", "c"}) make_dir(dir / name);
  std::vector<std::unique_ptr<Helper>> helpers;
  for (int who = 0; who < 4; ++who) {
    helpers.push_back(std::make_unique<Helper>([&, who](Channel& channel) {
      const std::string names = "abc";
      std::string odd;
      for (std::size_t i = 0; i < 200; ++i) {
        const std::string from(1, names[(i + std::size_t(who)) % 3]);
        const std::string into(1, names[(i / 3 + std::size_t(who) + 1) % 3]);
        for (const auto& [f, t] : {std::pair{from, into + "/" + from}, {into + "/" + from, from}}) {
          const auto word = did(::rename((dir / f).c_str(), (dir / t).c_str()));
          if (word != "ok" && word != "ENOENT" && word != "EINVAL" && word != "ENOTEMPTY") {
            odd += " " + word;
          }
        }
      }
      channel.say("done" + odd);
    }));
  }
  for (auto& helper : helpers) CHECK(helper->hear(60'000) == "done");
  // All three are still there, each once.
  int found = 0;
  const std::function<void(const std::string&)> walk = [&](const std::string& path) {
    for (const auto& name : list(path)) {
      REQUIRE(++found <= 3);
      walk(path + "/" + name);
    }
  };
  walk(dir.path());
  CHECK(found == 3);
}

}  // namespace
}  // namespace magma::posix
