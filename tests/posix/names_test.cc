// Names and paths: every byte a name may have, 255 bytes, names that differ in little, trees deeper
// than any path is long.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

TEST_CASE("names: every byte but the slash and NUL, alone and among others") {
  const Scratch dir("names");
  make_dir(dir / "d");
  std::vector<std::string> wanted;
  for (int byte = 1; byte < 256; ++byte) {
    if (byte == '/') continue;
    const std::string one(1, char(byte));
    if (one != ".") wanted.push_back(one);
    wanted.push_back("a" + one + "b");
    wanted.push_back(one + one + one);
  }
  for (const auto& name : wanted) {
    CAPTURE(name);
    REQUIRE(try_open(dir / "d/" + name, O_WRONLY | O_CREAT | O_EXCL) == "ok");
  }
  std::sort(wanted.begin(), wanted.end());
  CHECK((list(dir / "d") == wanted));
  for (const auto& name : wanted) {
    CAPTURE(name);
    REQUIRE(exists(dir / "d/" + name));
    REQUIRE(did(::rename((dir / "d/" + name).c_str(), (dir / "d/x" + name).c_str())) == "ok");
    REQUIRE(did(::unlink((dir / "d/x" + name).c_str())) == "ok");
  }
  CHECK(list(dir / "d").empty());
}

TEST_CASE("names: of every length up to 255 bytes") {
  const Scratch dir("names");
  for (std::size_t size = 1; size <= 255; ++size) {
    CAPTURE(size);
    std::string name = pattern(size, 3);
    std::replace(name.begin(), name.end(), '/', '_');
    if (name == "." || name == "..") continue;
    make_file(dir / name, std::to_string(size));
    REQUIRE(read_all(dir / name) == std::to_string(size));
    REQUIRE(list(dir.path()) == std::vector<std::string>{name});
    REQUIRE(did(::unlink((dir / name).c_str())) == "ok");
  }
  // 255 bytes are 255 bytes, not characters.
  std::string umlauts;
  for (int i = 0; i < 127; ++i) umlauts += "\xc3\xa4";
  CHECK(did(::mkdir((dir / umlauts).c_str(), 0755)) == "ok");
  CHECK(did(::mkdir((dir / (umlauts + "xy")).c_str(), 0755)) == "ENAMETOOLONG");
  CHECK(did(::rename((dir / umlauts).c_str(), (dir / (umlauts + "xy")).c_str())) == "ENAMETOOLONG");
  CHECK(did(::rename((dir / umlauts).c_str(), (dir / (umlauts + "x")).c_str())) == "ok");
}

TEST_CASE("names: that differ in little are different") {
  const Scratch dir("names");
  const std::string names[] = {
      "name", "Name", "NAME", "name ", " name", "name.", ".name", "..name", "...", "name\n",
      "\xc3\xa4", "a\xcc\x88", "\xe4", "\xff", "\xff\xff", "name~", "-rf", "*", "?", "name\\",
      "\\", "con", "name:stream", ".dht", "lost+found", "\x7f", "\x01", "%00", "%2f"};
  for (const auto& name : names) make_file(dir / name, "content of " + name);
  for (const auto& name : names) CHECK(read_all(dir / name) == "content of " + name);
  CHECK(list(dir.path()).size() == std::size(names));
}

TEST_CASE("paths: a tree deeper than PATH_MAX, step by step") {
  const Scratch dir("deep");
  constexpr int kDepth = 40;
  const std::string name(250, 'd');
  Fd at = must_open(dir.path(), O_RDONLY | O_DIRECTORY);
  std::vector<ino_t> inodes;
  for (int i = 0; i < kDepth; ++i) {
    inodes.push_back(info(at).st_ino);
    REQUIRE(did(::mkdirat(at, name.c_str(), 0755)) == "ok");
    at = Fd(::openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    REQUIRE(at >= 0);
  }
  // Ten thousand bytes from the root: everything works from a descriptor.
  const Fd file(::openat(at, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  REQUIRE(file >= 0);
  REQUIRE(write_at(file, 0, "deep"));
  CHECK(did(::linkat(at, "file", at, "link", 0)) == "ok");
  CHECK(did(::symlinkat("file", at, "symlink")) == "ok");
  CHECK(did(::renameat(at, "link", at, "renamed")) == "ok");
  CHECK(did(::fchmodat(at, "file", 0600, 0)) == "ok");
  CHECK(did(::utimensat(at, "file", nullptr, 0)) == "ok");
  struct stat status {};
  CHECK(did(::fstatat(at, "symlink", &status, 0)) == "ok");
  CHECK(status.st_nlink == 2);
  CHECK(did(::unlinkat(at, "renamed", 0)) == "ok");
  // And up again.
  Fd up(::dup(at));
  for (int i = kDepth - 1; i >= 0; --i) {
    up = Fd(::openat(up, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    REQUIRE(up >= 0);
    REQUIRE(info(up).st_ino == inodes[std::size_t(i)]);
  }
  // The lower half moves up and down as a whole.
  std::string path = dir.path();
  for (int i = 0; i < 10; ++i) path += "/" + name;
  REQUIRE(path.size() < 4096);
  REQUIRE(did(::rename(path.c_str(), (dir / "moved").c_str())) == "ok");
  CHECK(read_at(file, 0, 9) == "deep");
  REQUIRE(did(::fstatat(at, "file", &status, 0)) == "ok");
  CHECK(did(::rename((dir / "moved").c_str(), path.c_str())) == "ok");
  const Fd again(::openat(at, "file", O_RDONLY | O_CLOEXEC));
  CHECK(read_at(again, 0, 9) == "deep");
}

TEST_CASE("paths: a working directory deeper than PATH_MAX") {
  const Scratch dir("deep");
  const std::string name(250, 'w');
  const auto outcome = in_child([&] {
    if (::chdir(dir.path().c_str()) != 0) return did(-1);
    for (int i = 0; i < 20; ++i) {
      if (::mkdir(name.c_str(), 0755) != 0 || ::chdir(name.c_str()) != 0) return did(-1);
    }
    // Where the kernel has no room for the answer the C library finds it by reading every ".." and
    // comparing inode numbers.
    char buffer[16'384];
    auto words = said({try_open("file", O_RDWR | O_CREAT), try_open("./file", O_RDONLY),
                       ::getcwd(buffer, sizeof buffer) != nullptr ? "ok" : did(-1)});
    std::string wanted = dir.path();
    for (int i = 0; i < 20; ++i) wanted += "/" + name;
    if (buffer != wanted) words += " elsewhere";
    std::string up;
    for (int i = 0; i < 20; ++i) up += "../";
    words += " " + said({try_open(up + "top", O_WRONLY | O_CREAT)});
    return words;
  });
  CHECK(outcome == "ok ok ok ok");
  CHECK(exists(dir / "top"));
}

}  // namespace
}  // namespace magma::posix
