// link(2), linkat(2): errors and their order, counts and times, links of every kind of file, links
// across directories, what protected_hardlinks forbids users.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <fstream>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

std::string try_link(const std::string& from, const std::string& to) {
  return did(::link(from.c_str(), to.c_str()));
}

TEST_CASE("link: errors as root") {
  const Scratch dir("link");
  make_file(dir / "file");
  make_dir(dir / "dir");
  make_file(dir / "dir/inside");
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
      {"none", "new", "ENOENT"},          {"none", "file", "ENOENT"},
      {"none/x", "new", "ENOENT"},        {"dangling/x", "new", "ENOENT"},
      {"file/x", "new", "ENOTDIR"},       {"file/", "new", "ENOTDIR"},
      {"loop/x", "new", "ELOOP"},         {"dir", "new", "EPERM"},
      {"dir/", "new", "EPERM"},           {"dir", "file", "EEXIST"},
      {"dir", "none/x", "ENOENT"},        {".", "new", "EPERM"},
      {"dir/.", "new", "EPERM"},          {"file", "file", "EEXIST"},
      {"file", "dir", "EEXIST"},          {"file", "dir/", "EEXIST"},
      {"file", "link", "EEXIST"},         {"file", "dangling", "EEXIST"},
      {"file", "loop", "EEXIST"},         {"file", "dir/inside", "EEXIST"},
      {"file", "none/x", "ENOENT"},       {"file", "new/", "ENOENT"},
      {"file", "dir/.", "EEXIST"},        {"file", "file/x", "ENOTDIR"},
      {"file", "loop/x", "ELOOP"},        {"file", std::string(256, 'l'), "ENAMETOOLONG"},
      {std::string(256, 'l'), "new", "ENAMETOOLONG"},
      {"file", std::string(255, 'l'), "ok"}, {"file", "dirlink/new", "ok"},
  };
  for (const auto& row : table) {
    CAPTURE(row.from);
    CAPTURE(row.to);
    CHECK(try_link(dir / row.from, dir / row.to) == row.wanted);
  }
  CHECK(try_link("", dir / "new") == "ENOENT");
  CHECK(try_link(dir / "file", "") == "ENOENT");
  CHECK(links_of(dir / "file") == 3);
  CHECK_FALSE(exists(dir / "new"));
}

TEST_CASE("link: counts, times, one file under many names") {
  const Scratch dir("link");
  make_dir(dir / "a");
  make_dir(dir / "b");
  make_file(dir / "a/one", "abc", 0604);
  Watch watch({dir / "a", dir / "b", dir / "a/one"});
  CHECK(try_link(dir / "a/one", dir / "b/two") == "ok");
  CHECK(watch.moved() == "= mc c");
  CHECK(info(dir / "a/one").st_ino == info(dir / "b/two").st_ino);
  CHECK(links_of(dir / "a/one") == 2);
  CHECK(links_of(dir / "b/two") == 2);
  CHECK(links_of(dir / "b") == 2);

  // What is done through one name is seen through the other.
  REQUIRE(::chmod((dir / "b/two").c_str(), 0640) == 0);
  CHECK(mode_of(dir / "a/one") == 0640);
  make_file(dir / "b/two", "longer than before", 0640);
  CHECK(read_all(dir / "a/one") == "longer than before");
  REQUIRE(did(::setxattr((dir / "a/one").c_str(), "user.x", "y", 1, 0)) == "ok");
  CHECK(did(::getxattr((dir / "b/two").c_str(), "user.x", nullptr, 0)) == "ok");
  const Fd fd = must_open(dir / "a/one", O_RDWR);
  REQUIRE(did(::unlink((dir / "a/one").c_str())) == "ok");
  CHECK(info(fd).st_nlink == 1);
  REQUIRE(write_at(fd, 0, "LONGER"));
  CHECK(read_all(dir / "b/two") == "LONGER than before");
  // A directory whose file has another name elsewhere goes as any.
  CHECK(did(::rmdir((dir / "a").c_str())) == "ok");
  CHECK(read_all(dir / "b/two") == "LONGER than before");
  // A link of a link, back, and the last name.
  CHECK(try_link(dir / "b/two", dir / "three") == "ok");
  REQUIRE(did(::unlink((dir / "b/two").c_str())) == "ok");
  CHECK(links_of(dir / "three") == 1);
  CHECK(read_all(dir / "three") == "LONGER than before");
}

TEST_CASE("link: two hundred names over ten directories") {
  const Scratch dir("link");
  make_file(dir / "file", "abc");
  const auto name = [&](int i) {
    return dir / ("d" + std::to_string(i % 10) + "/" + std::to_string(i));
  };
  for (int i = 0; i < 10; ++i) make_dir(dir / ("d" + std::to_string(i)));
  for (int i = 0; i < 200; ++i) {
    REQUIRE(try_link(i == 0 ? dir / "file" : name(i / 2), name(i)) == "ok");
  }
  CHECK(links_of(dir / "file") == 201);
  REQUIRE(did(::unlink((dir / "file").c_str())) == "ok");
  for (int i = 0; i < 199; ++i) {
    REQUIRE(links_of(name(199)) == 200 - i);
    REQUIRE(did(::unlink(name(i * 7 % 199).c_str())) == "ok");
  }
  CHECK(links_of(name(199)) == 1);
  CHECK(read_all(name(199)) == "abc");
}

TEST_CASE("link: of links, fifos, sockets, devices") {
  const Scratch dir("link");
  REQUIRE(::symlink("none", (dir / "symlink").c_str()) == 0);
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0644) == 0);
  REQUIRE(::mknod((dir / "sock").c_str(), S_IFSOCK | 0644, 0) == 0);
  REQUIRE(::mknod((dir / "null").c_str(), S_IFCHR | 0644, makedev(1, 3)) == 0);
  for (const char* name : {"symlink", "fifo", "sock", "null"}) {
    CAPTURE(name);
    const auto more = dir / name + "2";
    CHECK(try_link(dir / name, more) == "ok");
    CHECK(info(more).st_ino == info(dir / name).st_ino);
    CHECK((info(more).st_mode & S_IFMT) == (info(dir / name).st_mode & S_IFMT));
    CHECK(links_of(more) == 2);
    REQUIRE(did(::unlink((dir / name).c_str())) == "ok");
    CHECK(links_of(more) == 1);
  }
  char target[16] = {};
  CHECK(::readlink((dir / "symlink2").c_str(), target, sizeof target) == 4);
}

TEST_CASE("link: linkat flags and descriptors") {
  const Scratch dir("link");
  make_file(dir / "file", "abc");
  REQUIRE(::symlink("file", (dir / "link").c_str()) == 0);
  REQUIRE(::symlink("none", (dir / "dangling").c_str()) == 0);
  const Fd at = must_open(dir.path(), O_RDONLY | O_DIRECTORY);
  const Fd file = must_open(dir / "file", O_RDONLY);
  const auto linkat = [](int from_at, const char* from, int to_at, const char* to, int flags) {
    return did(::linkat(from_at, from, to_at, to, flags));
  };
  CHECK(linkat(at, "link", at, "of-link", 0) == "ok");
  CHECK(S_ISLNK(info(dir / "of-link").st_mode));
  CHECK(linkat(at, "link", at, "of-file", AT_SYMLINK_FOLLOW) == "ok");
  CHECK(S_ISREG(info(dir / "of-file").st_mode));
  CHECK(linkat(at, "dangling", at, "x", AT_SYMLINK_FOLLOW) == "ENOENT");
  CHECK(linkat(file, "", at, "by-fd", AT_EMPTY_PATH) == "ok");
  CHECK(info(dir / "by-fd").st_ino == info(file).st_ino);
  CHECK(linkat(file, "", at, "x", 0) == "ENOENT");
  CHECK(linkat(at, "", at, "x", AT_EMPTY_PATH) == "EPERM");
  CHECK(linkat(at, "file", at, "x", AT_SYMLINK_NOFOLLOW) == "EINVAL");
  CHECK(linkat(at, "file", at, "x", 0x40000) == "EINVAL");
  CHECK(linkat(file, "x", at, "x", 0) == "ENOTDIR");
  CHECK(linkat(at, "file", file, "x", 0) == "ENOTDIR");
  CHECK(linkat(-1, "file", at, "x", 0) == "EBADF");
  CHECK(linkat(at, "file", -1, "x", 0) == "EBADF");
  CHECK(linkat(-1, (dir / "file").c_str(), -1, (dir / "absolute").c_str(), 0) == "ok");
}

TEST_CASE("link: permissions") {
  const Scratch dir("link");
  make_dir(dir / "mine", 0755);
  own(dir / "mine", kNobody.uid, kNobody.gid);
  make_dir(dir / "closed", 0755);
  make_dir(dir / "secret", 0700);
  make_file(dir / "secret/file");
  make_file(dir / "file", "", 0666);
  own(dir / "file", kNobody.uid, kNobody.gid);
  struct Row {
    const char *from, *to, *wanted;
  };
  const Row table[] = {
      {"file", "closed/new", "EACCES"},   {"secret/file", "mine/new", "EACCES"},
      {"secret/none", "mine/new", "EACCES"}, {"file", "secret/new", "EACCES"},
      {"none", "closed/new", "ENOENT"},   {"file", "closed", "EEXIST"},
      {"mine", "closed/new", "EACCES"},   {"mine", "mine/new", "EPERM"},
      {"file", "mine/new", "ok"},
  };
  for (const auto& row : table) {
    CAPTURE(row.from);
    CAPTURE(row.to);
    const auto call = [&] { return try_link(dir / row.from, dir / row.to); };
    CHECK(as_user(kNobody, call) == row.wanted);
  }
}

TEST_CASE("link: protected_hardlinks") {
  const Scratch dir("link");
  ::chmod(dir.path().c_str(), 0777);
  int is_protected = 0;
  std::ifstream("/proc/sys/fs/protected_hardlinks") >> is_protected;
  make_file(dir / "rw", "", 0666);
  make_file(dir / "r", "", 0644);
  make_file(dir / "suid", "", 04777);
  make_file(dir / "sgid", "", 02777);
  make_file(dir / "sgid-no-exec", "", 02666);
  make_file(dir / "mine", "", 06700);
  own(dir / "mine", kNobody.uid, kNobody.gid);
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0666) == 0);
  REQUIRE(::symlink("x", (dir / "symlink").c_str()) == 0);
  const std::string refused = is_protected != 0 ? "EPERM" : "ok";
  const std::pair<const char*, std::string> table[] = {
      {"rw", "ok"},        {"r", refused},           {"suid", refused},
      {"sgid", refused},   {"sgid-no-exec", "ok"},   {"mine", "ok"},
      {"fifo", refused},   {"symlink", refused},
  };
  for (const auto& pair : table) {
    const auto& name = pair.first;
    const auto& wanted = pair.second;
    CAPTURE(name);
    const auto from = dir / name, to = from + ".2";
    CHECK(as_user(kNobody, [&] { return try_link(from, to); }) == wanted);
    CHECK(try_link(from, from + ".root") == "ok");
  }
}

TEST_CASE("link: one name wanted by many processes") {
  const Scratch dir("link");
  std::vector<std::unique_ptr<Helper>> helpers;
  for (int i = 0; i < 4; ++i) {
    make_file(dir / ("source" + std::to_string(i)));
    helpers.push_back(std::make_unique<Helper>([&, i](Channel& channel) {
      channel.hear();
      std::string mine;
      const auto source = dir / ("source" + std::to_string(i));
      for (int name = 0; name < 50; ++name) {
        mine += try_link(source, dir / std::to_string(name)) == "ok" ? '1' : '0';
      }
      channel.say(mine);
    }));
  }
  for (auto& helper : helpers) helper->say("go");
  std::vector<int> winners(50, 0);
  for (std::size_t i = 0; i < helpers.size(); ++i) {
    const auto mine = helpers[i]->hear(60'000);
    REQUIRE(mine.size() == 50);
    std::int64_t own_links = 1;
    for (std::size_t name = 0; name < 50; ++name) {
      winners[name] += mine[name] == '1' ? 1 : 0;
      own_links += mine[name] == '1' ? 1 : 0;
    }
    CHECK(links_of(dir / ("source" + std::to_string(i))) == own_links);
  }
  CHECK(winners == std::vector<int>(50, 1));
}

}  // namespace
}  // namespace magma::posix
