// Two mounts of one file system agree: what is finished on one is seen on the other at once or
// within a second (open, stat, readdir, content), appends of both never meet, unlinked and renamed
// files stay what they were for who has them open. MAGMA_POSIX_DIR2 is the other mount; without it
// both are the same directory. Locks: mounts_locks_test.cc.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

// The promise is one second; the rest is for a busy machine.
constexpr int kAgreed = 1'500;

bool seen(const std::function<bool()>& condition) { return eventually(kAgreed, condition); }

std::string content(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return fd < 0 ? did(-1) : read_at(fd, 0, 8'000'000);
}

// How many of four processes, two at each mount, got each of kNames names, all trying at once.
constexpr int kNames = 60;
std::vector<int> winners(const std::function<bool(bool here, const std::string& name)>& try_one) {
  std::vector<std::unique_ptr<Helper>> helpers;
  for (int who = 0; who < 4; ++who) {
    helpers.push_back(std::make_unique<Helper>([&, who](Channel& channel) {
      channel.hear();
      std::string mine;
      for (int i = 0; i < kNames; ++i)
        mine += try_one(who % 2 == 0, std::to_string(i)) ? '1' : '0';
      channel.say(mine);
    }));
  }
  for (auto& helper : helpers) helper->say("go");
  std::vector<int> won(kNames, 0);
  for (auto& helper : helpers) {
    const auto mine = helper->hear(60'000);
    REQUIRE(mine.size() == kNames);
    for (std::size_t i = 0; i < kNames; ++i) won[i] += mine[i] == '1' ? 1 : 0;
  }
  return won;
}

TEST_CASE("two mounts: what one makes the other finds") {
  const Scratch dir("mounts");
  REQUIRE(seen([&] { return exists(dir.other("")); }));
  struct Row {
    const char* name;
    std::function<std::string(const std::string&)> make;
    mode_t type;
  };
  const Row table[] = {
      {"file", [](auto& path) { return try_open(path, O_WRONLY | O_CREAT); }, S_IFREG},
      {"dir", [](auto& path) { return did(::mkdir(path.c_str(), 0755)); }, S_IFDIR},
      {"link", [](auto& path) { return did(::symlink("file", path.c_str())); }, S_IFLNK},
      {"fifo", [](auto& path) { return did(::mkfifo(path.c_str(), 0644)); }, S_IFIFO},
  };
  for (const auto& row : table) {
    CAPTURE(row.name);
    // Asked for before: the other side may remember that it is not there, for a second.
    CHECK_FALSE(exists(dir.other(row.name)));
    CHECK(row.make(dir / row.name) == "ok");
    CHECK(seen([&] { return exists(dir.other(row.name)); }));
    CHECK((info(dir.other(row.name)).st_mode & S_IFMT) == row.type);
    CHECK(info(dir.other(row.name)).st_ino == info(dir / row.name).st_ino);
    // And back.
    const auto back = std::string(row.name) + "-back";
    CHECK_FALSE(exists(dir / back));
    CHECK(row.make(dir.other(back)) == "ok");
    CHECK(seen([&] { return exists(dir / back); }));
  }
  CHECK(seen([&] { return list(dir.path()).size() == 8 && list(dir.other("")).size() == 8; }));
  // Both making the same name: O_EXCL knows better than any memory.
  CHECK(try_open(dir / "one", O_WRONLY | O_CREAT | O_EXCL) == "ok");
  CHECK(try_open(dir.other("one"), O_WRONLY | O_CREAT | O_EXCL) == "EEXIST");
  CHECK(did(::mkdir(dir.other("two").c_str(), 0755)) == "ok");
  CHECK(did(::mkdir((dir / "two").c_str(), 0755)) == "EEXIST");
}

TEST_CASE("two mounts: bytes written here are read there, of every size") {
  const Scratch dir("mounts");
  for (const std::size_t size : {0, 1, 4'096, 16'385, 65'537, 1'048'577, 5'000'000}) {
    CAPTURE(size);
    const auto bytes = pattern(size, std::uint32_t(size));
    make_file(dir / "file", bytes);
    CHECK(seen([&] { return content(dir.other("file")) == bytes; }));
    CHECK(info(dir.other("file")).st_size == off_t(size));
    const auto changed = pattern(size / 2 + 10, 77);
    make_file(dir.other("file"), changed);
    CHECK(seen([&] { return content(dir / "file") == changed; }));
  }
}

TEST_CASE("two mounts: a descriptor that stays open sees what the other writes") {
  const Scratch dir("mounts");
  make_file(dir / "file", "start");
  REQUIRE(seen([&] { return exists(dir.other("file")); }));
  const Fd here = must_open(dir / "file", O_RDWR), there = must_open(dir.other("file"), O_RDWR);
  for (int i = 0; i < 8; ++i) {
    CAPTURE(i);
    const std::int64_t offset = i * 9'000;
    const auto bytes = pattern(100, std::uint32_t(i));
    REQUIRE(write_at(i % 2 == 0 ? here : there, offset, bytes));
    const auto& reader = i % 2 == 0 ? there : here;
    CHECK(seen([&] { return info(reader).st_size == offset + 100; }));
    CHECK(seen([&] { return read_at(reader, offset, 200) == bytes; }));
    // Written over what the reader has read already.
    REQUIRE(write_at(i % 2 == 0 ? here : there, offset, "again"));
    CHECK(seen([&] { return read_at(reader, offset, 5) == "again"; }));
  }
  REQUIRE(did(::ftruncate(here, 10)) == "ok");
  CHECK(seen([&] { return info(there).st_size == 10; }));
  CHECK(seen([&] { return read_at(there, 0, 100).size() == 10; }));
  REQUIRE(did(::ftruncate(there, 100'000)) == "ok");
  CHECK(seen([&] { return read_at(here, 10, 1'000) == std::string(1'000, '\0'); }));
}

TEST_CASE("two mounts: attributes, extended attributes, links, removals") {
  const Scratch dir("mounts");
  make_file(dir / "file", "abc", 0644);
  const auto here = dir / "file", there = dir.other("file");
  REQUIRE(seen([&] { return exists(there); }));
  REQUIRE(did(::chmod(here.c_str(), 0600)) == "ok");
  CHECK(seen([&] { return mode_of(there) == 0600; }));
  REQUIRE(did(::chown(there.c_str(), 5, 6)) == "ok");
  CHECK(seen([&] { return info(here).st_uid == 5; }));
  const timespec times[2] = {{.tv_sec = 1, .tv_nsec = 2}, {.tv_sec = 3, .tv_nsec = 4}};
  REQUIRE(did(::utimensat(AT_FDCWD, here.c_str(), times, 0)) == "ok");
  CHECK(seen([&] { return nanoseconds(info(there).st_mtim) == 3'000'000'004; }));
  CHECK(did(::getxattr(there.c_str(), "user.x", nullptr, 0)) == "ENODATA");
  REQUIRE(did(::setxattr(here.c_str(), "user.x", "y", 1, 0)) == "ok");
  CHECK(seen([&] { return ::getxattr(there.c_str(), "user.x", nullptr, 0) == 1; }));
  REQUIRE(did(::link(there.c_str(), dir.other("more").c_str())) == "ok");
  CHECK(seen([&] { return exists(dir / "more") && links_of(here) == 2; }));
  REQUIRE(did(::unlink((dir / "more").c_str())) == "ok");
  CHECK(seen([&] { return !exists(dir.other("more")) && links_of(there) == 1; }));
  // Removed here, gone there; made again it is the new one on both.
  REQUIRE(did(::unlink(there.c_str())) == "ok");
  CHECK(seen([&] { return !exists(here) && try_open(here, O_RDONLY) == "ENOENT"; }));
  make_file(here, "new");
  CHECK(seen([&] { return content(there) == "new"; }));
  CHECK(did(::mkdir((dir / "d").c_str(), 0755)) == "ok");
  CHECK(seen([&] { return exists(dir.other("d")); }));
  CHECK(did(::rmdir(dir.other("d").c_str())) == "ok");
  CHECK(seen([&] { return !exists(dir / "d"); }));
}

TEST_CASE("two mounts: permissions taken here are taken there") {
  const Scratch dir("mounts");
  make_dir(dir / "d");
  make_file(dir / "d/file", "abc", 0644);
  const auto call = [&] { return try_open(dir.other("d/file"), O_RDONLY); };
  CHECK(seen([&] { return as_user(kNobody, call) == "ok"; }));
  REQUIRE(did(::chmod((dir / "d/file").c_str(), 0600)) == "ok");
  CHECK(seen([&] { return as_user(kNobody, call) == "EACCES"; }));
  REQUIRE(did(::chmod((dir / "d/file").c_str(), 0644)) == "ok");
  CHECK(seen([&] { return as_user(kNobody, call) == "ok"; }));
  REQUIRE(did(::chmod((dir / "d").c_str(), 0700)) == "ok");
  CHECK(seen([&] { return as_user(kNobody, call) == "EACCES"; }));
}

TEST_CASE("two mounts: renames are seen, of files, directories, over others") {
  const Scratch dir("mounts");
  for (const char* name : {"a", "a/sub", "b"}) make_dir(dir / name);
  make_file(dir / "a/file", "file");
  make_file(dir / "a/sub/deep", "deep");
  make_file(dir / "b/target", "target");
  REQUIRE(seen([&] { return content(dir.other("a/sub/deep")) == "deep"; }));
  REQUIRE(seen([&] { return content(dir.other("b/target")) == "target"; }));
  const Fd there = must_open(dir.other("a/file"), O_RDWR);
  const Fd folder = must_open(dir.other("a/sub"), O_RDONLY | O_DIRECTORY);
  const Fd replaced = must_open(dir.other("b/target"), O_RDONLY);
  REQUIRE(did(::rename((dir / "a/file").c_str(), (dir / "b/target").c_str())) == "ok");
  REQUIRE(did(::rename((dir / "a/sub").c_str(), (dir / "b/sub").c_str())) == "ok");
  CHECK(seen([&] { return content(dir.other("b/target")) == "file"; }));
  CHECK(seen([&] { return content(dir.other("b/sub/deep")) == "deep"; }));
  CHECK(seen([&] { return !exists(dir.other("a/file")) && !exists(dir.other("a/sub")); }));
  CHECK(seen([&] { return links_of(dir.other("a")) == 2 && links_of(dir.other("b")) == 3; }));
  // What was open there goes on under the new name.
  REQUIRE(write_at(there, 0, "FILE"));
  CHECK(seen([&] { return content(dir / "b/target") == "FILE"; }));
  CHECK(read_at(replaced, 0, 10) == "target");
  CHECK(did(::openat(folder, "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0644)) == "ok");
  CHECK(seen([&] { return exists(dir / "b/sub/new"); }));
  // Up from a directory that the other mount moved.
  CHECK(seen([&] {
    const Fd up(::openat(folder, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return up >= 0 && info(up).st_ino == info(dir / "b").st_ino;
  }));
}

TEST_CASE("two mounts: a file unlinked here lives while it is open there") {
  const Scratch dir("mounts");
  for (const std::size_t size : {10, 20'000, 100'000, 3'000'000}) {
    CAPTURE(size);
    const auto bytes = pattern(size, 9);
    make_file(dir / "file", bytes);
    REQUIRE(seen([&] { return exists(dir.other("file")); }));
    const Fd there = must_open(dir.other("file"), O_RDWR);
    const auto inode = info(there).st_ino;
    REQUIRE(did(::unlink((dir / "file").c_str())) == "ok");
    CHECK(difference(read_at(there, 0, size + 1), bytes) == "");
    CHECK(seen([&] { return info(there).st_nlink == 0; }));
    REQUIRE(write_at(there, std::int64_t(size), "more"));
    CHECK(info(there).st_size == off_t(size) + 4);
    REQUIRE(did(::ftruncate(there, 5)) == "ok");
    CHECK(read_at(there, 0, 10) == bytes.substr(0, 5));
    // A new file of this name is another one, seen by both.
    make_file(dir / "file", "new");
    CHECK(seen([&] { return content(dir.other("file")) == "new"; }));
    CHECK(info(dir.other("file")).st_ino != inode);
    CHECK(read_at(there, 0, 10) == bytes.substr(0, 5));
    REQUIRE(did(::unlink(dir.other("file").c_str())) == "ok");
    REQUIRE(seen([&] { return !exists(dir / "file"); }));
  }
}

TEST_CASE("two mounts: appends of four processes on both lose and tear nothing") {
  const Scratch dir("mounts");
  make_file(dir / "log");
  REQUIRE(seen([&] { return exists(dir.other("log")); }));
  constexpr int kProcesses = 4, kRecords = 300;
  const auto record = [](int who, int i) {
    return std::to_string(who) + ":" + std::to_string(i) + ":" +
           std::string(std::size_t((i * 53 + who) % 300), char('a' + who)) + "\n";
  };
  std::vector<std::unique_ptr<Helper>> helpers;
  for (int who = 0; who < kProcesses; ++who) {
    helpers.push_back(std::make_unique<Helper>([&, who](Channel& channel) {
      const auto path = who % 2 == 0 ? dir / "log" : dir.other("log");
      const Fd fd(::open(path.c_str(), O_WRONLY | O_APPEND));
      channel.hear();
      for (int i = 0; i < kRecords; ++i) {
        const auto bytes = record(who, i);
        if (::write(fd, bytes.data(), bytes.size()) != ssize_t(bytes.size())) ::_exit(1);
      }
      channel.say("done");
    }));
  }
  for (auto& helper : helpers) helper->say("go");
  for (auto& helper : helpers) CHECK(helper->hear(60'000) == "done");
  std::size_t wanted = 0;
  for (int who = 0; who < kProcesses; ++who) {
    for (int i = 0; i < kRecords; ++i) wanted += record(who, i).size();
  }
  for (const auto& path : {dir / "log", dir.other("log")}) {
    CHECK(seen([&] { return content(path).size() == wanted; }));
    const auto all = content(path);
    int next[kProcesses] = {}, wrong = 0;
    for (std::size_t at = 0; at < all.size();) {
      const auto end = std::min(all.find('\n', at), all.size() - 1);
      const int who = std::clamp(all[at] - '0', 0, kProcesses - 1);
      if (all.substr(at, end + 1 - at) != record(who, next[who]++)) ++wrong;
      at = end + 1;
    }
    CHECK(wrong == 0);
    for (const int count : next) CHECK(count == kRecords);
  }
}

TEST_CASE("two mounts: writers of different parts of one file do not disturb each other") {
  const Scratch dir("mounts");
  make_file(dir / "file");
  REQUIRE(seen([&] { return exists(dir.other("file")); }));
  constexpr int kPieces = 200, kSize = 1'000;
  std::vector<std::unique_ptr<Helper>> helpers;
  for (int who = 0; who < 2; ++who) {
    helpers.push_back(std::make_unique<Helper>([&, who](Channel& channel) {
      const auto path = who == 0 ? dir / "file" : dir.other("file");
      const Fd fd(::open(path.c_str(), O_RDWR));
      channel.hear();
      for (int i = who; i < kPieces; i += 2) {
        if (!write_at(fd, i * kSize, pattern(kSize, std::uint32_t(i)))) ::_exit(1);
      }
      channel.say("done");
    }));
  }
  for (auto& helper : helpers) helper->say("go");
  for (auto& helper : helpers) CHECK(helper->hear(60'000) == "done");
  std::string wanted;
  for (int i = 0; i < kPieces; ++i) wanted += pattern(kSize, std::uint32_t(i));
  for (const auto& path : {dir / "file", dir.other("file")}) {
    CHECK(seen([&] { return content(path) == wanted; }));
    CHECK(difference(content(path), wanted) == "");
  }
}

TEST_CASE("two mounts: a shared mapping is seen by the other after msync") {
  const Scratch dir("mounts");
  make_file(dir / "file", std::string(20'000, '-'));
  REQUIRE(seen([&] { return content(dir.other("file")).size() == 20'000; }));
  const Fd fd = must_open(dir / "file", O_RDWR);
  auto* memory = static_cast<char*>(
      ::mmap(nullptr, 20'000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  REQUIRE(memory != MAP_FAILED);
  memory[12'345] = 'M';
  CHECK(did(::msync(memory, 20'000, MS_SYNC)) == "ok");
  CHECK(seen([&] { return content(dir.other("file"))[12'345] == 'M'; }));
  ::munmap(memory, 20'000);
}

// A mount may get a small file's bytes with the answer to open.
TEST_CASE("two mounts: what is changed between open and read is read") {
  const Scratch dir("mounts");
  make_file(dir / "source", "SOURCE");
  struct Row {
    const char* name;
    std::function<bool(const std::string& path, int reader)> change;
    std::string wanted;
  };
  auto with = [](const std::string& path, int flags, auto act) {
    const Fd fd(::open(path.c_str(), flags | O_CLOEXEC, 0644));
    return fd >= 0 && act(static_cast<int>(fd));
  };
  auto write_there = [&](const char* name) {
    return with(dir.other(name), O_WRONLY, [](int fd) { return write_at(fd, 0, "new"); });
  };
  const Row table[] = {
      {"nothing", [](const std::string&, int) { return true; }, "old-old"},
      {"write", [&](const std::string& path, int) {
         return with(path, O_WRONLY, [](int fd) { return write_at(fd, 0, "new"); });
       }, "new-old"},
      {"append", [&](const std::string& path, int) {
         return with(path, O_WRONLY | O_APPEND, [](int fd) { return write_at(fd, 0, "+"); });
       }, "old-old+"},
      {"truncate", [](const std::string& path, int) {
         return ::truncate(path.c_str(), 3) == 0;
       }, "old"},
      {"longer", [](const std::string& path, int) { return ::truncate(path.c_str(), 8) == 0; },
       std::string("old-old\0", 8)},
      {"O_TRUNC", [&](const std::string& path, int) {
         return with(path, O_WRONLY | O_TRUNC, [](int) { return true; });
       }, ""},
      {"O_CREAT and O_TRUNC", [&](const std::string& path, int) {
         return with(path, O_WRONLY | O_CREAT | O_TRUNC, [](int) { return true; });
       }, ""},
      {"hole", [&](const std::string& path, int) {
         return with(path, O_WRONLY, [](int fd) {
           return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 3) == 0;
         });
       }, std::string("\0\0\0-old", 7)},
      {"copy", [&](const std::string& path, int) {
         const Fd from(::open((dir / "source").c_str(), O_RDONLY | O_CLOEXEC));
         return with(path, O_WRONLY, [&](int fd) {
           return ::copy_file_range(from, nullptr, fd, nullptr, 6, 0) == 6;
         });
       }, "SOURCEd"},
      // By the other mount; then this one looks: by a lock, by another open, by asking.
      {"lock", [&](const std::string&, int reader) {
         return write_there("lock") && ::flock(reader, LOCK_SH) == 0;
       }, "new-old"},
      {"open", [&](const std::string& path, int) {
         return write_there("open") &&
                with(path, O_RDWR, [](int fd) { return read_at(fd, 0, 100) == "new-old"; });
       }, "new-old"},
      {"statx", [&](const std::string&, int reader) {
         struct statx now = {};
         return write_there("statx") &&
                ::statx(reader, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_ALL, &now) == 0;
       }, "new-old"},
  };
  for (const Row& row : table) {
    CAPTURE(row.name);
    const std::string path = dir / row.name;
    make_file(dir.other(row.name), "old-old");
    REQUIRE(seen([&] { return exists(path); }));
    const Fd reader(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(reader >= 0);
    CHECK(row.change(path, reader));
    CHECK(read_at(reader, 0, 100) == row.wanted);
  }
}

TEST_CASE("two mounts: of both that want a name with O_EXCL one gets it") {
  const Scratch dir("mounts");
  REQUIRE(seen([&] { return exists(dir.other("")); }));
  CHECK(winners([&](bool here, const std::string& name) {
          const auto path = here ? dir / name : dir.other(name);
          return try_open(path, O_WRONLY | O_CREAT | O_EXCL) == "ok";
        }) == std::vector<int>(kNames, 1));
}

TEST_CASE("two mounts: of both that claim a file by renaming it one gets it") {
  const Scratch dir("mounts");
  for (const char* name : {"new", "cur"}) make_dir(dir / name);
  REQUIRE(seen([&] { return exists(dir.other("cur")); }));
  auto move = [](const std::string& from, const std::string& to) {
    return did(::rename(from.c_str(), to.c_str()));
  };
  // The other side has just seen the old name, and may have it open.
  for (const bool is_open : {false, true}) {
    CAPTURE(is_open);
    make_file(dir / "new/one", "content");
    REQUIRE(seen([&] { return content(dir.other("new/one")) == "content"; }));
    const Fd held(is_open ? ::open(dir.other("new/one").c_str(), O_RDWR | O_CLOEXEC) : -1);
    CHECK(move(dir / "new/one", dir / "cur/one") == "ok");
    CHECK(move(dir.other("new/one"), dir.other("cur/one")) == "ENOENT");
    CHECK(info(dir.other("cur/one")).st_ino == info(dir / "cur/one").st_ino);
    CHECK(content(dir.other("cur/one")) == "content");
    if (is_open) {
      CHECK(read_at(held, 0, 100) == "content");
      CHECK(info(held).st_ino == info(dir / "cur/one").st_ino);
      REQUIRE(write_at(held, 0, "CON"));
      CHECK(seen([&] { return content(dir / "cur/one") == "CONtent"; }));
      CHECK(seen([&] { return content(dir.other("cur/one")) == "CONtent"; }));
    }
    CHECK(move(dir.other("cur/one"), dir.other("new/two")) == "ok");
    CHECK(move(dir / "cur/one", dir / "new/two") == "ENOENT");
    CHECK(did(::unlink((dir / "new/two").c_str())) == "ok");
  }
  // Two names of one file: a rename of the one to the other does nothing, as ever.
  make_file(dir / "new/a", "a");
  REQUIRE(did(::link((dir / "new/a").c_str(), (dir / "cur/a").c_str())) == "ok");
  REQUIRE(seen([&] { return links_of(dir.other("cur/a")) == 2; }));
  CHECK(move(dir.other("new/a"), dir.other("cur/a")) == "ok");
  CHECK(exists(dir / "new/a"));
  // Many, all at once.
  for (int i = 0; i < kNames; ++i) make_file(dir / ("new/" + std::to_string(i)), "x");
  REQUIRE(seen([&] { return list(dir.other("new")).size() == kNames + 1; }));
  CHECK(winners([&](bool here, const std::string& name) {
          auto path = [&](const std::string& folder) {
            return here ? dir / (folder + name) : dir.other(folder + name);
          };
          return move(path("new/"), path("cur/")) == "ok";
        }) == std::vector<int>(kNames, 1));
}

}  // namespace
}  // namespace magma::posix
