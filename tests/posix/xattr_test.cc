// Extended attributes: setting, getting, listing, removing by path, link and descriptor; flags,
// sizes and errors; who may what in user., trusted. and security.; what lives and dies with the
// file. Values stay small enough together for the 4 KiB that ext4 has for them.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

std::string set(const std::string& path, const std::string& name, const std::string& value,
                int flags = 0) {
  return did(::lsetxattr(path.c_str(), name.c_str(), value.data(), value.size(), flags));
}
std::string get(const std::string& path, const std::string& name) {
  std::string value(65'536, '\0');
  const auto size = ::lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
  if (size < 0) return did(size);
  value.resize(std::size_t(size));
  return "=" + value;
}
std::string remove(const std::string& path, const std::string& name) {
  return did(::lremovexattr(path.c_str(), name.c_str()));
}
// Names, sorted, with blanks between.
std::string listed(const std::string& path) {
  std::string names(65'536, '\0');
  const auto size = ::llistxattr(path.c_str(), names.data(), names.size());
  if (size < 0) return did(size);
  names.resize(std::size_t(size));
  std::vector<std::string> each;
  for (std::size_t at = 0; at < names.size();) {
    const auto end = names.find('\0', at);
    if (end == std::string::npos) return "no NUL at the end";
    each.push_back(names.substr(at, end - at));
    at = end + 1;
  }
  std::sort(each.begin(), each.end());
  std::string all;
  for (const auto& name : each) all += (all.empty() ? "" : " ") + name;
  return all;
}

TEST_CASE("xattr: set, get, replace, list, remove on files and directories") {
  const Scratch dir("xattr");
  make_file(dir / "file");
  make_dir(dir / "dir");
  for (const char* name : {"file", "dir"}) {
    for (const char* space : {"user.", "trusted.", "security."}) {
      CAPTURE(name);
      CAPTURE(space);
      const auto path = dir / name;
      const auto one = std::string(space) + "one", two = std::string(space) + "two";
      CHECK(listed(path) == "");
      CHECK(get(path, one) == "ENODATA");
      CHECK(set(path, one, "value") == "ok");
      CHECK(get(path, one) == "=value");
      CHECK(set(path, one, "a longer value") == "ok");
      CHECK(get(path, one) == "=a longer value");
      CHECK(set(path, two, "") == "ok");
      CHECK(get(path, two) == "=");
      CHECK(listed(path) == one + " " + two);
      CHECK(set(path, one, "x", XATTR_CREATE) == "EEXIST");
      CHECK(set(path, one, "y", XATTR_REPLACE) == "ok");
      CHECK(get(path, one) == "=y");
      CHECK(remove(path, one) == "ok");
      CHECK(remove(path, one) == "ENODATA");
      CHECK(get(path, one) == "ENODATA");
      CHECK(set(path, one, "x", XATTR_REPLACE) == "ENODATA");
      CHECK(set(path, one, "x", XATTR_CREATE) == "ok");
      CHECK(remove(path, one) == "ok");
      CHECK(remove(path, two) == "ok");
      CHECK(listed(path) == "");
    }
  }
}

TEST_CASE("xattr: values of any bytes and names of any kind") {
  const Scratch dir("xattr");
  make_file(dir / "file");
  const auto path = dir / "file";
  std::string all_bytes;
  for (int i = 0; i < 256; ++i) all_bytes += char(i);
  CHECK(set(path, "user.bytes", all_bytes) == "ok");
  CHECK(get(path, "user.bytes") == "=" + all_bytes);
  for (const std::size_t size : {0, 1, 60, 255, 256, 1'000, 2'000, 3'500}) {
    CAPTURE(size);
    CHECK(set(path, "user.bytes", pattern(size, 1)) == "ok");
    CHECK(get(path, "user.bytes") == "=" + pattern(size, 1));
  }
  CHECK(remove(path, "user.bytes") == "ok");
  const std::string names[] = {"user.x", "user.with blank", "user.a.b.c", "user.\xff\xfe\n",
                               "user." + std::string(250, 'n'), "user.USER", "user.user"};
  for (const auto& name : names) CHECK(set(path, name, name) == "ok");
  for (const auto& name : names) CHECK(get(path, name) == "=" + name);
  for (const auto& name : names) CHECK(remove(path, name) == "ok");
  // Twenty of them, each changed, in an order of their own.
  for (int i = 0; i < 20; ++i)
    CHECK(set(path, "user." + std::to_string(i), pattern(90, 7)) == "ok");
  for (int i = 19; i >= 0; --i) {
    CHECK(set(path, "user." + std::to_string(i), pattern(std::size_t(i) * 6, 8)) == "ok");
  }
  for (int i = 0; i < 20; ++i) {
    CHECK(get(path, "user." + std::to_string(i)) == "=" + pattern(std::size_t(i) * 6, 8));
  }
}

TEST_CASE("xattr: errors of names, flags, sizes, buffers") {
  const Scratch dir("xattr");
  make_file(dir / "file");
  const auto path = dir / "file";
  REQUIRE(set(path, "user.ten", "0123456789") == "ok");
  const std::pair<std::string, const char*> names[] = {
      {"", "ERANGE"},         {"user." + std::string(251, 'n'), "ERANGE"},
      {std::string(300, 'n'), "ERANGE"}, {"user.", "EINVAL"}, {"user", "EOPNOTSUPP"},
      {"other.x", "EOPNOTSUPP"}, {"system.x", "EOPNOTSUPP"}, {"User.x", "EOPNOTSUPP"},
      {".x", "EOPNOTSUPP"},
  };
  for (const auto& pair : names) {
    const auto& name = pair.first;
    const auto& wanted = pair.second;
    CAPTURE(name);
    CHECK(set(path, name, "x") == wanted);
    CHECK(get(path, name) == wanted);
    CHECK(remove(path, name) == wanted);
  }
  CHECK(set(path, "user.x", "x", 4) == "EINVAL");
  CHECK(set(path, "user.x", "x", XATTR_CREATE | XATTR_REPLACE) == "ENODATA");
  CHECK(set(path, "user.ten", "x", XATTR_CREATE | XATTR_REPLACE) == "EEXIST");
  CHECK(set(path, "user.big", std::string(65'537, 'b')) == "E2BIG");
  CHECK(get(path, "user.big") == "ENODATA");
  char buffer[64];
  const auto get_into = [&](std::size_t size) {
    return ::getxattr(path.c_str(), "user.ten", buffer, size);
  };
  CHECK(get_into(0) == 10);
  CHECK(did(get_into(9)) == "ERANGE");
  CHECK(get_into(10) == 10);
  CHECK(get_into(64) == 10);
  CHECK(::listxattr(path.c_str(), nullptr, 0) == 9);
  CHECK(did(::listxattr(path.c_str(), buffer, 8)) == "ERANGE");
  CHECK(::listxattr(path.c_str(), buffer, 9) == 9);
  CHECK(std::string(buffer, 9) == std::string("user.ten\0", 9));
  make_file(dir / "none");
  CHECK(::listxattr((dir / "none").c_str(), nullptr, 0) == 0);
  CHECK(::listxattr((dir / "none").c_str(), buffer, 1) == 0);
}

TEST_CASE("xattr: by descriptor and through links") {
  const Scratch dir("xattr");
  make_file(dir / "file");
  REQUIRE(::symlink("file", (dir / "link").c_str()) == 0);
  char buffer[16] = {};
  for (const int flags : {O_RDONLY, O_WRONLY, O_RDWR}) {
    const Fd fd = must_open(dir / "file", flags);
    const auto value = "v" + std::to_string(flags);
    CHECK(did(::fsetxattr(fd, "user.fd", value.data(), 2, 0)) == "ok");
    CHECK(::fgetxattr(fd, "user.fd", buffer, 16) == 2);
    CHECK(get(dir / "file", "user.fd") == "=" + value);
    CHECK(::flistxattr(fd, nullptr, 0) == 8);
  }
  CHECK(did(::setxattr((dir / "link").c_str(), "user.link", "x", 1, 0)) == "ok");
  CHECK(listed(dir / "file") == "user.fd user.link");
  CHECK(::getxattr((dir / "link").c_str(), "user.link", buffer, 16) == 1);
  CHECK(did(::removexattr((dir / "link").c_str(), "user.link")) == "ok");
  const Fd path = must_open(dir / "file", O_PATH);
  for (const int fd : {int(path), -1}) {
    CHECK(did(::fsetxattr(fd, "user.x", "y", 1, 0)) == "EBADF");
    CHECK(did(::fgetxattr(fd, "user.fd", buffer, 16)) == "EBADF");
    CHECK(did(::flistxattr(fd, buffer, 16)) == "EBADF");
    CHECK(did(::fremovexattr(fd, "user.fd")) == "EBADF");
  }
}

TEST_CASE("xattr: user attributes are for files and directories, the others for every kind") {
  const Scratch dir("xattr");
  REQUIRE(::symlink("nothing", (dir / "link").c_str()) == 0);
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0666) == 0);
  REQUIRE(::mknod((dir / "sock").c_str(), S_IFSOCK | 0666, 0) == 0);
  REQUIRE(::mknod((dir / "char").c_str(), S_IFCHR | 0666, makedev(1, 3)) == 0);
  for (const char* name : {"link", "fifo", "sock", "char"}) {
    CAPTURE(name);
    const auto path = dir / name;
    CHECK(set(path, "user.x", "y") == "EPERM");
    CHECK(get(path, "user.x") == "ENODATA");
    CHECK(remove(path, "user.x") == "EPERM");
    CHECK(set(path, "trusted.x", "y") == "ok");
    CHECK(get(path, "trusted.x") == "=y");
    CHECK(set(path, "security.x", "z") == "ok");
    CHECK(listed(path) == "security.x trusted.x");
    CHECK(remove(path, "trusted.x") == "ok");
    CHECK(remove(path, "security.x") == "ok");
  }
}

TEST_CASE("xattr: what a user may") {
  const Scratch dir("xattr");
  make_file(dir / "mine", "", 0600);
  own(dir / "mine", kNobody.uid, kNobody.gid);
  make_file(dir / "mine-closed", "", 0);
  own(dir / "mine-closed", kNobody.uid, kNobody.gid);
  make_file(dir / "readable", "", 0644);
  make_file(dir / "writable", "", 0622);
  make_file(dir / "closed", "", 0600);
  struct Row {
    const char *file, *set, *get, *list;
  };
  const Row table[] = {
      {"mine", "ok", "=root", "security.x user.x"},
      {"mine-closed", "EACCES", "EACCES", "security.x user.x"},
      {"readable", "EACCES", "=root", "security.x user.x"},
      {"writable", "ok", "EACCES", "security.x user.x"},
      {"closed", "EACCES", "EACCES", "security.x user.x"},
  };
  for (const auto& row : table) {
    CAPTURE(row.file);
    const auto path = dir / row.file;
    for (const char* name : {"user.x", "trusted.x", "security.x"}) {
      REQUIRE(set(path, name, "root") == "ok");
    }
    CHECK(as_user(kNobody, [&] { return get(path, "user.x"); }) == row.get);
    CHECK(as_user(kNobody, [&] { return set(path, "user.x", "user"); }) == row.set);
    CHECK(as_user(kNobody, [&] { return remove(path, "user.x"); }) == row.set);
    REQUIRE(set(path, "user.x", "root") == "ok");
    // Trusted attributes do not exist for users; those of security may be read, not written.
    CHECK(as_user(kNobody, [&] { return listed(path); }) == row.list);
    CHECK(as_user(kNobody, [&] { return get(path, "trusted.x"); }) == "ENODATA");
    CHECK(as_user(kNobody, [&] { return set(path, "trusted.x", "y"); }) == "EPERM");
    CHECK(as_user(kNobody, [&] { return remove(path, "trusted.x"); }) == "EPERM");
    CHECK(as_user(kNobody, [&] { return get(path, "security.x"); }) == "=root");
    CHECK(as_user(kNobody, [&] { return set(path, "security.x", "y"); }) == "EPERM");
    CHECK(as_user(kNobody, [&] { return remove(path, "security.x"); }) == "EPERM");
    CHECK(listed(path) == "security.x trusted.x user.x");
  }
}

TEST_CASE("xattr: in a sticky directory user attributes are the owner's business") {
  const Scratch dir("xattr");
  make_dir(dir / "sticky", 01777);
  make_dir(dir / "plain", 0777);
  const auto call = [&](const char* name) {
    return as_user(kNobody, [&] { return set(dir / name, "user.x", "y"); });
  };
  CHECK(call("sticky") == "EPERM");
  CHECK(call("plain") == "ok");
  own(dir / "sticky", kNobody.uid, kNobody.gid);
  CHECK(call("sticky") == "ok");
  CHECK(as_user(kBob, [&] { return get(dir / "sticky", "user.x"); }) == "=y");
  CHECK(as_user(kBob, [&] { return remove(dir / "sticky", "user.x"); }) == "EPERM");
}

TEST_CASE("xattr: ctime moves with every change and nothing moves with none") {
  const Scratch dir("xattr");
  make_file(dir / "file");
  const auto path = dir / "file";
  const auto moved = [&](const std::function<std::string()>& call, const char* wanted) {
    Watch watch({path, dir.path()});
    CHECK(call() == wanted);
    return watch.moved();
  };
  CHECK(moved([&] { return set(path, "user.x", "y"); }, "ok") == "c =");
  CHECK(moved([&] { return set(path, "user.x", "z"); }, "ok") == "c =");
  CHECK(moved([&] { return get(path, "user.x"); }, "=z") == "= =");
  CHECK(moved([&] { return listed(path); }, "user.x") == "= =");
  CHECK(moved([&] { return set(path, "user.x", "z", XATTR_CREATE); }, "EEXIST") == "= =");
  CHECK(moved([&] { return remove(path, "user.none"); }, "ENODATA") == "= =");
  CHECK(moved([&] { return remove(path, "user.x"); }, "ok") == "c =");
}

TEST_CASE("xattr: they belong to the file, not to the name") {
  const Scratch dir("xattr");
  make_file(dir / "file", "abc");
  REQUIRE(set(dir / "file", "user.x", "y") == "ok");
  REQUIRE(::link((dir / "file").c_str(), (dir / "link").c_str()) == 0);
  CHECK(get(dir / "link", "user.x") == "=y");
  REQUIRE(::rename((dir / "file").c_str(), (dir / "renamed").c_str()) == 0);
  CHECK(get(dir / "renamed", "user.x") == "=y");
  make_file(dir / "file");
  CHECK(listed(dir / "file") == "");
  REQUIRE(::rename((dir / "renamed").c_str(), (dir / "file").c_str()) == 0);
  CHECK(get(dir / "link", "user.x") == "=y");
  // Truncating, writing, chmod and chown leave them; the last unlink takes them.
  make_file(dir / "link", pattern(100'000, 1), 0600);
  own(dir / "link", 5, 5);
  CHECK(get(dir / "link", "user.x") == "=y");
  const Fd fd = must_open(dir / "link", O_RDWR);
  REQUIRE(::unlink((dir / "link").c_str()) == 0);
  REQUIRE(::unlink((dir / "file").c_str()) == 0);
  char buffer[8];
  CHECK(::fgetxattr(fd, "user.x", buffer, 8) == 1);
  CHECK(did(::fsetxattr(fd, "user.more", "z", 1, 0)) == "ok");
  CHECK(did(::fremovexattr(fd, "user.x")) == "ok");
  make_file(dir / "file");
  CHECK(listed(dir / "file") == "");
}

}  // namespace
}  // namespace magma::posix
