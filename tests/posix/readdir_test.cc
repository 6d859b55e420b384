// getdents64(2) and readdir(3): what entries say, buffers of every size, positions, directories
// that change while they are read, many entries.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

struct Found {
  std::uint64_t inode;
  std::int64_t next;  // the position behind it
  unsigned char type;
  std::string name;
};

// One call of getdents64 with a buffer of this size: the outcome and what was in it.
std::string get_entries(int fd, std::size_t size, std::vector<Found>& found) {
  std::vector<char> buffer(size + 8);
  const auto got = ::syscall(SYS_getdents64, fd, buffer.data(), size);
  if (got < 0) return did(got);
  for (long at = 0; at < got;) {
    const char* entry = buffer.data() + at;
    Found one{};
    std::uint16_t length = 0;
    std::memcpy(&one.inode, entry, 8);
    std::memcpy(&one.next, entry + 8, 8);
    std::memcpy(&length, entry + 16, 2);
    one.type = static_cast<unsigned char>(entry[18]);
    one.name = entry + 19;
    found.push_back(one);
    at += length;
  }
  return got == 0 ? "end" : "ok";
}

std::vector<Found> all_entries(int fd, std::size_t size) {
  std::vector<Found> found;
  std::string word;
  while ((word = get_entries(fd, size, found)) == "ok") {
  }
  REQUIRE(word == "end");
  return found;
}

std::multiset<std::string> names_of(const std::vector<Found>& found) {
  std::multiset<std::string> names;
  for (const auto& each : found) names.insert(each.name);
  return names;
}

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};
using Dir = std::unique_ptr<DIR, CloseDir>;
Dir open_dir(const std::string& path) {
  Dir dir(::opendir(path.c_str()));
  REQUIRE(dir != nullptr);
  return dir;
}
std::string next_name(const Dir& dir) {
  const dirent* entry = ::readdir(dir.get());
  return entry != nullptr ? entry->d_name : "";
}

TEST_CASE("readdir: every kind of entry, its type and its inode number") {
  const Scratch dir("readdir");
  make_dir(dir / "d");
  const auto in = [&](const char* name) { return dir / "d/" + name; };
  make_file(in("file"));
  make_dir(in("dir"));
  REQUIRE(::symlink("dir", in("link").c_str()) == 0);
  REQUIRE(::link(in("file").c_str(), in("hardlink").c_str()) == 0);
  REQUIRE(::mkfifo(in("fifo").c_str(), 0644) == 0);
  REQUIRE(::mknod(in("sock").c_str(), S_IFSOCK | 0644, 0) == 0);
  REQUIRE(::mknod(in("char").c_str(), S_IFCHR | 0644, makedev(1, 3)) == 0);
  REQUIRE(::mknod(in("block").c_str(), S_IFBLK | 0644, makedev(7, 3)) == 0);
  const Fd fd = must_open(dir / "d", O_RDONLY | O_DIRECTORY);
  const auto found = all_entries(fd, 32'768);
  CHECK(found.size() == 10);
  const std::map<std::string, int> types = {
      {".", DT_DIR},     {"..", DT_DIR},    {"file", DT_REG},  {"dir", DT_DIR},
      {"link", DT_LNK},  {"hardlink", DT_REG}, {"fifo", DT_FIFO}, {"sock", DT_SOCK},
      {"char", DT_CHR},  {"block", DT_BLK}};
  for (const auto& each : found) {
    CAPTURE(each.name);
    REQUIRE(types.contains(each.name));
    CHECK(int(each.type) == types.at(each.name));
    CHECK(each.inode == info(in(each.name.c_str())).st_ino);
  }
  // A name replaced by another kind is told as that.
  REQUIRE(::unlink(in("file").c_str()) == 0);
  make_dir(in("file"));
  const Fd again = must_open(dir / "d", O_RDONLY | O_DIRECTORY);
  for (const auto& each : all_entries(again, 32'768)) {
    if (each.name == "file") CHECK(int(each.type) == DT_DIR);
  }
}

TEST_CASE("readdir: an empty directory and errors") {
  const Scratch dir("readdir");
  make_dir(dir / "empty");
  make_file(dir / "file");
  make_dir(dir / "closed", 0711);
  make_dir(dir / "no-x", 0744);
  make_file(dir / "no-x/inside");
  CHECK(names_of(all_entries(must_open(dir / "empty", O_RDONLY), 1024)) ==
        std::multiset<std::string>{".", ".."});
  std::vector<Found> found;
  const Fd file = must_open(dir / "file", O_RDONLY), path = must_open(dir / "empty", O_PATH);
  CHECK(get_entries(file, 1024, found) == "ENOTDIR");
  CHECK(get_entries(path, 1024, found) == "EBADF");
  CHECK(get_entries(-1, 1024, found) == "EBADF");
  for (const std::size_t size : {0, 1, 16, 23}) {
    CAPTURE(size);
    CHECK(get_entries(must_open(dir / "empty", O_RDONLY), size, found) == "EINVAL");
  }
  CHECK(found.empty());
  CHECK(did(::opendir((dir / "file").c_str()) != nullptr ? 0 : -1) == "ENOTDIR");
  const auto lists = [&](const char* name) {
    return as_user(kNobody, [&] {
      const Fd fd(::open((dir / name).c_str(), O_RDONLY | O_DIRECTORY));
      if (fd < 0) return did(fd);
      std::vector<Found> some;
      get_entries(fd, 4096, some);
      struct stat status {};
      return std::to_string(some.size()) + " " +
             did(::fstatat(fd, "inside", &status, 0));
    });
  };
  CHECK(lists("closed") == "EACCES");
  CHECK(lists("no-x") == "3 EACCES");
}

TEST_CASE("readdir: the same entries through buffers of every size") {
  const Scratch dir("readdir");
  make_dir(dir / "d");
  std::multiset<std::string> wanted = {".", ".."};
  for (std::size_t i = 0; i < 60; ++i) {
    const auto name = std::to_string(i) + std::string(i * 4, 'n');
    wanted.insert(name);
    make_file(dir / "d/" + name);
  }
  for (const std::size_t size : {280, 300, 512, 1'000, 4'096, 100'000}) {
    CAPTURE(size);
    const Fd fd = must_open(dir / "d", O_RDONLY | O_DIRECTORY);
    CHECK(names_of(all_entries(fd, size)) == wanted);
    // The end stays the end, and from the beginning it is all there again.
    std::vector<Found> found;
    CHECK(get_entries(fd, size, found) == "end");
    CHECK(::lseek(fd, 0, SEEK_SET) == 0);
    CHECK(names_of(all_entries(fd, size)) == wanted);
  }
  // A buffer too small for the next entry is an error and loses nothing.
  const Fd fd = must_open(dir / "d", O_RDONLY | O_DIRECTORY);
  std::vector<Found> found;
  std::string word;
  int refusals = 0;
  for (int i = 0; i < 500 && word != "end"; ++i) {
    word = get_entries(fd, 40, found);
    if (word == "ok" || word == "end") continue;
    REQUIRE(word == "EINVAL");
    ++refusals;
    word = get_entries(fd, 300, found);
  }
  CHECK(refusals > 0);
  CHECK(names_of(found) == wanted);
}

TEST_CASE("readdir: telldir and seekdir") {
  const Scratch dir("readdir");
  for (int i = 0; i < 500; ++i) make_file(dir / ("entry" + std::to_string(i)));
  const Dir all = open_dir(dir.path());
  std::vector<std::pair<long, std::string>> positions;
  for (;;) {
    const long at = ::telldir(all.get());
    const auto name = next_name(all);
    positions.emplace_back(at, name);
    if (name.empty()) break;
  }
  CHECK(positions.size() == 503);
  std::set<long> different;
  for (const auto& [at, name] : positions) different.insert(at);
  CHECK(different.size() == positions.size());
  // To any place and on from there, in another order than before, also after the end.
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const auto pick = (i * 211 + 7) % positions.size();
    ::seekdir(all.get(), positions[pick].first);
    REQUIRE(next_name(all) == positions[pick].second);
    if (pick + 1 < positions.size()) REQUIRE(next_name(all) == positions[pick + 1].second);
  }
  ::rewinddir(all.get());
  CHECK(next_name(all) == positions[0].second);
  // lseek on the descriptor takes the same numbers.
  const Fd fd = must_open(dir.path(), O_RDONLY | O_DIRECTORY);
  for (const std::size_t pick : {400U, 3U, 250U}) {
    CHECK(::lseek(fd, positions[pick].first, SEEK_SET) == positions[pick].first);
    std::vector<Found> found;
    REQUIRE(get_entries(fd, 4'096, found) == "ok");
    CHECK(found[0].name == positions[pick].second);
  }
  CHECK(did(::lseek(fd, -1, SEEK_SET)) == "EINVAL");
}

TEST_CASE("readdir: two descriptors are two readers, a copy is the same") {
  const Scratch dir("readdir");
  for (int i = 0; i < 50; ++i) make_file(dir / std::to_string(i));
  const Fd one = must_open(dir.path(), O_RDONLY), two = must_open(dir.path(), O_RDONLY);
  const Fd copy(::dup(one));
  std::vector<Found> by_one, by_two;
  for (;;) {
    const auto first = get_entries(one, 300, by_one), second = get_entries(two, 500, by_two);
    const auto third = get_entries(copy, 400, by_one);
    if (first == "end" && second == "end" && third == "end") break;
  }
  CHECK(by_one.size() == 52);
  CHECK(names_of(by_one) == names_of(by_two));
}

TEST_CASE("readdir: rewinddir sees what is new") {
  const Scratch dir("readdir");
  make_file(dir / "old");
  const Dir all = open_dir(dir.path());
  while (!next_name(all).empty()) {
  }
  make_file(dir / "new");
  REQUIRE(::unlink((dir / "old").c_str()) == 0);
  ::rewinddir(all.get());
  std::set<std::string> names;
  for (auto name = next_name(all); !name.empty(); name = next_name(all)) names.insert(name);
  CHECK(names == std::set<std::string>{".", "..", "new"});
}

TEST_CASE("readdir: removing what was read while reading empties the directory") {
  const Scratch dir("readdir");
  make_dir(dir / "d");
  for (const int count : {10, 700, 2'000}) {
    CAPTURE(count);
    for (int i = 0; i < count; ++i) make_file(dir / "d/" + std::to_string(i));
    const Fd fd = must_open(dir / "d", O_RDONLY | O_DIRECTORY);
    int removed = 0;
    for (;;) {
      std::vector<Found> found;
      if (get_entries(fd, 2'000, found) != "ok") break;
      for (const auto& each : found) {
        if (each.name == "." || each.name == "..") continue;
        REQUIRE(did(::unlinkat(fd, each.name.c_str(), 0)) == "ok");
        ++removed;
      }
    }
    CHECK(removed == count);
    CHECK(list(dir / "d").empty());
  }
}

TEST_CASE("readdir: names that are there throughout are seen exactly once") {
  const Scratch dir("readdir");
  std::multiset<std::string> keep;
  for (int i = 0; i < 300; ++i) {
    const auto name = "keep" + std::to_string(i * 7919);
    keep.insert(name);
    make_file(dir / name);
  }
  Helper busy([&](Channel& channel) {
    for (int i = 0; channel.hear(0).empty() && i < 1'000'000; ++i) {
      const auto name = dir / ("come" + std::to_string(i % 400));
      if (i / 400 % 2 == 0) {
        ::close(::open(name.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
      } else if (i % 3 == 0) {
        ::rename(name.c_str(), (dir / ("went" + std::to_string(i % 400))).c_str());
      } else {
        ::unlink(name.c_str());
      }
    }
  });
  int wrong = 0;
  for (int round = 0; round < 30; ++round) {
    const Fd fd = must_open(dir.path(), O_RDONLY | O_DIRECTORY);
    std::multiset<std::string> seen;
    for (const auto& each : all_entries(fd, std::size_t(300 + round * 200))) {
      if (each.name.starts_with("keep")) seen.insert(each.name);
    }
    if (seen != keep) ++wrong;
  }
  CHECK(wrong == 0);
  busy.say("end");
  CHECK(busy.end() == "ok");
}

TEST_CASE("readdir: two thousand entries, each once, with their own inode numbers") {
  const Scratch dir("readdir");
  std::multiset<std::string> wanted = {".", ".."};
  for (int i = 0; i < 2'000; ++i) {
    const auto name = "entry-with-a-longer-name-" + std::to_string(i * i);
    wanted.insert(name);
    make_file(dir / name);
  }
  const Fd fd = must_open(dir.path(), O_RDONLY | O_DIRECTORY);
  for (const std::size_t size : {400, 32'768}) {
    CHECK(::lseek(fd, 0, SEEK_SET) == 0);
    const auto found = all_entries(fd, size);
    CHECK((names_of(found) == wanted));
    std::set<std::uint64_t> inodes;
    for (const auto& each : found) inodes.insert(each.inode);
    CHECK(inodes.size() == found.size());
  }
  CHECK(links_of(dir.path()) == 2);
}

}  // namespace
}  // namespace magma::posix
