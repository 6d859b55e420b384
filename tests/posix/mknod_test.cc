// mknod(2), mkfifo(3), bind(2): every type by root and by a user, device numbers, fifos that carry
// bytes, sockets that are connected to, devices that work.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include <cstring>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

std::string try_mknod(const std::string& path, mode_t mode, dev_t device = 0) {
  return did(::mknod(path.c_str(), mode, device));
}

bool has_devices(const Scratch& dir) {
  struct statvfs status {};
  return ::statvfs(dir.path().c_str(), &status) == 0 && (status.f_flag & ST_NODEV) == 0;
}

TEST_CASE("mknod: every type by root") {
  const Scratch dir("mknod");
  struct Row {
    const char* name;
    mode_t mode;
    dev_t device;
    mode_t wanted;
  };
  const Row table[] = {
      {"zero", 0640, 0, S_IFREG | 0640},
      {"file", S_IFREG | 0604, 0, S_IFREG | 0604},
      {"fifo", S_IFIFO | 0600, 0, S_IFIFO | 0600},
      {"sock", S_IFSOCK | 0644, 0, S_IFSOCK | 0644},
      {"char", S_IFCHR | 0644, makedev(1, 3), S_IFCHR | 0644},
      {"block", S_IFBLK | 0644, makedev(7, 200), S_IFBLK | 0644},
      {"big", S_IFCHR | 0644, makedev(4095, 1048575), S_IFCHR | 0644},
      {"wide", S_IFBLK | 0644, makedev(300, 70000), S_IFBLK | 0644},
      {"none", S_IFCHR | 0644, makedev(0, 0), S_IFCHR | 0644},
      {"suid", S_IFREG | 06755, 0, S_IFREG | 06755},
      {"all", S_IFREG | 07777, 0, S_IFREG | 07755},
      {"fifo-all", S_IFIFO | 07777, 0, S_IFIFO | 07755},
  };
  for (const auto& row : table) {
    CAPTURE(row.name);
    Watch watch({dir.path()});
    CHECK(try_mknod(dir / row.name, row.mode, row.device) == "ok");
    CHECK(watch.moved() == "mc");
    const auto made = info(dir / row.name);
    CHECK(made.st_mode == row.wanted);
    CHECK(made.st_rdev == row.device);
    CHECK(made.st_nlink == 1);
    CHECK(made.st_size == 0);
    CHECK(nanoseconds(made.st_mtim) == nanoseconds(made.st_ctim));
    CHECK(try_mknod(dir / row.name, row.mode, row.device) == "EEXIST");
  }
  CHECK(links_of(dir.path()) == 2);
  // Device numbers are of devices only, and chmod leaves them alone.
  CHECK(try_mknod(dir / "fifo-with-number", S_IFIFO | 0644, makedev(1, 3)) == "ok");
  CHECK(info(dir / "fifo-with-number").st_rdev == 0);
  CHECK(did(::chmod((dir / "char").c_str(), 0600)) == "ok");
  CHECK(info(dir / "char").st_rdev == makedev(1, 3));
}

TEST_CASE("mknod: errors") {
  const Scratch dir("mknod");
  make_file(dir / "file");
  make_dir(dir / "closed", 0755);
  make_dir(dir / "open", 0777);
  REQUIRE(::symlink("none", (dir / "dangling").c_str()) == 0);
  CHECK(try_mknod(dir / "dir", S_IFDIR | 0755) == "EPERM");
  CHECK(try_mknod(dir / "link", S_IFLNK | 0755) == "EINVAL");
  CHECK(try_mknod(dir / "odd", 0030000 | 0644) == "EINVAL");
  CHECK(try_mknod(dir / "dangling", S_IFREG | 0644) == "EEXIST");
  CHECK(try_mknod(dir / "file", S_IFDIR | 0644) == "EPERM");
  CHECK(try_mknod(dir / "file/x", S_IFIFO | 0644) == "ENOTDIR");
  CHECK(try_mknod(dir / "none/x", S_IFIFO | 0644) == "ENOENT");
  CHECK(try_mknod(dir / "new/", S_IFIFO | 0644) == "ENOENT");
  const Fd file = must_open(dir / "file", O_RDONLY);
  CHECK(did(::mknodat(file, "x", S_IFIFO | 0644, 0)) == "ENOTDIR");
  CHECK(did(::mknodat(-1, "x", S_IFIFO | 0644, 0)) == "EBADF");

  struct Row {
    const char* path;
    mode_t mode;
    dev_t device;
    const char* wanted;
  };
  const Row table[] = {
      {"open/fifo", S_IFIFO | 0644, 0, "ok"},
      {"open/file", S_IFREG | 0644, 0, "ok"},
      {"open/zero", 0644, 0, "ok"},
      {"open/sock", S_IFSOCK | 0644, 0, "ok"},
      {"open/char", S_IFCHR | 0644, makedev(1, 3), "EPERM"},
      {"open/block", S_IFBLK | 0644, makedev(7, 0), "EPERM"},
      {"open/block0", S_IFBLK | 0644, makedev(0, 0), "EPERM"},
      {"open/whiteout", S_IFCHR | 0644, makedev(0, 0), "ok"},
      {"open/fifo", S_IFCHR | 0644, makedev(1, 3), "EEXIST"},
      {"closed/fifo", S_IFIFO | 0644, 0, "EACCES"},
      {"closed/file", S_IFREG | 0644, 0, "EACCES"},
      {"closed/char", S_IFCHR | 0644, makedev(1, 3), "EACCES"},
  };
  for (const auto& row : table) {
    CAPTURE(row.path);
    const auto call = [&] { return try_mknod(dir / row.path, row.mode, row.device); };
    CHECK(as_user(kNobody, call) == row.wanted);
  }
  CHECK(info(dir / "open/fifo").st_uid == kNobody.uid);
}

TEST_CASE("mknod: a fifo carries bytes between processes") {
  const Scratch dir("fifo");
  const auto path = dir / "fifo";
  REQUIRE(::mkfifo(path.c_str(), 0666) == 0);
  const auto sent = pattern(300'000, 8);
  Helper writer([&](Channel& channel) {
    const Fd fd(::open(path.c_str(), O_WRONLY));
    std::size_t have = 0;
    while (have < sent.size()) {
      const auto put =
          ::write(fd, sent.data() + have, std::min<std::size_t>(7'000, sent.size() - have));
      if (put <= 0) ::_exit(1);
      have += std::size_t(put);
    }
    channel.say("sent");
  });
  Fd reader = must_open(path, O_RDONLY);
  std::string got;
  char piece[4096];
  ssize_t count = 0;
  while ((count = ::read(reader, piece, sizeof piece)) > 0) got.append(piece, std::size_t(count));
  CHECK(difference(got, sent) == "");
  CHECK(writer.hear() == "sent");
  CHECK(writer.end() == "ok");
  CHECK(info(path).st_size == 0);
  // Nobody writes any more: end of file, not an error; without a reader writing is EPIPE.
  CHECK(::read(reader, piece, 1) == 0);
  const Fd both = must_open(path, O_WRONLY | O_NONBLOCK);
  pollfd wait{.fd = reader, .events = POLLIN, .revents = 0};
  CHECK(::poll(&wait, 1, 0) == 0);
  REQUIRE(::write(both, "x", 1) == 1);
  CHECK(::poll(&wait, 1, 1000) == 1);
  reader.reset();
  CHECK(try_write(both) == "EPIPE");
  CHECK(did(::lseek(both, 0, SEEK_SET)) == "ESPIPE");
  CHECK(did(::ftruncate(both, 0)) == "EINVAL");
  CHECK(did(::fsync(both)) == "EINVAL");
}

TEST_CASE("mknod: a fifo opened through two names and after a rename is one pipe") {
  const Scratch dir("fifo");
  REQUIRE(::mkfifo((dir / "one").c_str(), 0644) == 0);
  REQUIRE(::link((dir / "one").c_str(), (dir / "two").c_str()) == 0);
  const Fd reader = must_open(dir / "one", O_RDONLY | O_NONBLOCK);
  REQUIRE(::rename((dir / "two").c_str(), (dir / "three").c_str()) == 0);
  const Fd writer = must_open(dir / "three", O_WRONLY | O_NONBLOCK);
  REQUIRE(::write(writer, "abc", 3) == 3);
  char buffer[8] = {};
  CHECK(::read(reader, buffer, 8) == 3);
  CHECK(std::string(buffer) == "abc");
  REQUIRE(::unlink((dir / "one").c_str()) == 0);
  REQUIRE(::unlink((dir / "three").c_str()) == 0);
  REQUIRE(::write(writer, "def", 3) == 3);
  CHECK(::read(reader, buffer, 8) == 3);
}

// sun_path is short: bound and connected relative to the working directory, in a child.
std::string in_directory(const Scratch& dir, const std::function<std::string()>& call) {
  return in_child([&] {
    if (::chdir(dir.path().c_str()) != 0) return did(-1);
    return call();
  });
}
std::string with_address(const char* name, int fd, int (*call)(int, const sockaddr*, socklen_t)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, name, sizeof address.sun_path - 1);
  return did(call(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address));
}
int bind_to(int fd, const sockaddr* address, socklen_t size) { return ::bind(fd, address, size); }
int connect_to(int fd, const sockaddr* address, socklen_t size) {
  return ::connect(fd, address, size);
}
int new_socket() { return ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); }

TEST_CASE("bind: a socket that others connect to") {
  const Scratch dir("bind");
  make_file(dir / "file");
  REQUIRE(try_mknod(dir / "dead", S_IFSOCK | 0666) == "ok");
  const auto outcome = in_directory(dir, [&] {
    ::umask(027);
    const Fd server(new_socket()), client(new_socket()), other(new_socket());
    auto words = said({with_address("sock", server, bind_to), did(::listen(server, 5)),
                       with_address("sock", client, connect_to),
                       with_address("sock", other, bind_to), with_address("file", other, bind_to),
                       with_address("file", other, connect_to),
                       with_address("dead", other, connect_to),
                       with_address("none", other, connect_to),
                       with_address("none/x", other, bind_to)});
    const Fd accepted(::accept(server, nullptr, nullptr));
    char buffer[8] = {};
    words += said({" ", did(::send(client, "hello", 5, 0)), did(::recv(accepted, buffer, 8, 0))});
    words += std::string(" ") + buffer;
    // A new name for it; no name at all.
    words += said({" ", did(::rename("sock", "moved")), with_address("moved", other, connect_to),
                   did(::unlink("moved")), with_address("moved", Fd(new_socket()), connect_to)});
    return words;
  });
  CHECK(outcome ==
        "ok ok ok EADDRINUSE EADDRINUSE ECONNREFUSED ECONNREFUSED ENOENT ENOENT  ok ok hello  ok "
        "ok ok ENOENT");
  const auto kept = in_directory(dir, [&] {
    ::umask(027);
    return with_address("kept", Fd(new_socket()), bind_to);
  });
  CHECK(kept == "ok");
  CHECK(info(dir / "kept").st_mode == (S_IFSOCK | 0750));
  CHECK(try_open(dir / "kept", O_RDONLY) == "ENXIO");
}

TEST_CASE("bind: connecting needs write permission, binding that of the directory") {
  const Scratch dir("bind");
  const Fd server(new_socket());
  REQUIRE(::fcntl(server, F_GETFD) >= 0);
  const auto bound = in_directory(dir, [&] {
    return said({with_address("sock", server, bind_to), did(::listen(server, 5))});
  });
  REQUIRE(bound == "ok ok");
  const auto as_nobody = [&](int (*call)(int, const sockaddr*, socklen_t), const char* name) {
    return as_user(kNobody, [&] {
      if (::chdir(dir.path().c_str()) != 0) return did(-1);
      return with_address(name, Fd(new_socket()), call);
    });
  };
  REQUIRE(::chmod((dir / "sock").c_str(), 0755) == 0);
  CHECK(as_nobody(connect_to, "sock") == "EACCES");
  REQUIRE(::chmod((dir / "sock").c_str(), 0722) == 0);
  CHECK(as_nobody(connect_to, "sock") == "ok");
  CHECK(as_nobody(bind_to, "new") == "EACCES");
}

TEST_CASE("mknod: character devices work where the mount allows devices") {
  const Scratch dir("devices");
  const Umask scope(0);
  REQUIRE(try_mknod(dir / "null", S_IFCHR | 0666, makedev(1, 3)) == "ok");
  REQUIRE(try_mknod(dir / "zero", S_IFCHR | 0666, makedev(1, 5)) == "ok");
  REQUIRE(try_mknod(dir / "nothing", S_IFCHR | 0666, makedev(4001, 77)) == "ok");
  if (!has_devices(dir)) {
    CHECK(try_open(dir / "null", O_RDWR) == "EACCES");
    return;
  }
  const Fd null = must_open(dir / "null", O_RDWR);
  CHECK(::write(null, "abc", 3) == 3);
  char buffer[64];
  CHECK(::read(null, buffer, 8) == 0);
  const Fd zero = must_open(dir / "zero", O_RDONLY);
  std::memset(buffer, 'x', sizeof buffer);
  CHECK(::read(zero, buffer, sizeof buffer) == sizeof buffer);
  CHECK(std::string(buffer, sizeof buffer) == std::string(sizeof buffer, '\0'));
  CHECK(try_open(dir / "nothing", O_RDONLY) == "ENXIO");
  REQUIRE(::chmod((dir / "null").c_str(), 0600) == 0);
  CHECK(as_user(kNobody, [&] { return try_open(dir / "null", O_RDONLY); }) == "EACCES");
  CHECK(as_user(kNobody, [&] { return try_open(dir / "zero", O_RDWR); }) == "ok");
}

}  // namespace
}  // namespace magma::posix
