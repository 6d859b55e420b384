// libmagma/sys_real: key files, host names, going to the background, service notification.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>

#include "libmagma/sys_real/daemonize.h"
#include "libmagma/sys_real/key_file.h"
#include "libmagma/sys_real/random.h"
#include "libmagma/sys_real/resolve.h"
#include "tests/unit/sysreal_temp_dir.h"

using namespace magma;
using namespace magma::sys_real;

namespace {

std::string key_text() { return "magma-key-v1 network " + std::string(64, 'a') + "\n"; }

void write_text(const std::string& path, const std::string& text, mode_t mode) {
  std::ofstream(path, std::ios::binary) << text;
  REQUIRE(::chmod(path.c_str(), mode) == 0);
}

std::string why_refused(const std::string& path) {
  auto key = read_key_file(path);
  REQUIRE(!key.has_value());
  CHECK(key.error().code == Code::bad_key_file);
  return key.error().detail;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

struct Ended {
  int code;
  std::string said;  // on stderr
};

// Runs `parent` in a child of ours with stderr captured; returns when that child has ended.
template <class Function>
Ended run_parent(Function parent) {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  std::fflush(nullptr);  // else the child would write our buffered output again
  pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[1]);
    parent();
    ::_exit(99);
  }
  ::close(ends[1]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  Ended ended{WIFEXITED(status) ? WEXITSTATUS(status) : -1, {}};
  char part[256];
  for (ssize_t got; (got = ::read(ends[0], part, sizeof part)) > 0;)
    ended.said.append(part, static_cast<std::size_t>(got));
  ::close(ends[0]);
  return ended;
}

}  // namespace

TEST_CASE("key file: a private one is read, others are refused with the reason") {
  TempDir dir;
  write_text(dir / "key", key_text(), 0600);
  auto key = read_key_file(dir / "key");
  REQUIRE_MESSAGE(key.has_value(), describe(key.error()));
  CHECK(key->network.has_value());
  write_text(dir / "key", key_text(), 0400);
  CHECK(read_key_file(dir / "key").has_value());

  write_text(dir / "key", key_text(), 0644);
  std::string why = why_refused(dir / "key");
  CHECK(why == "key file " + (dir / "key") + ": mode 0644, must be 0600 (chmod 600 " +
                   (dir / "key") + ")");
  write_text(dir / "key", key_text(), 0620);
  CHECK(has(why_refused(dir / "key"), "mode 0620"));
  write_text(dir / "key", "nonsense\n", 0600);
  why_refused(dir / "key");
  write_text(dir / "key", std::string(5000, '#'), 0600);
  CHECK(has(why_refused(dir / "key"), "5000 bytes"));
  CHECK(has(why_refused(dir.path()), "not a regular file"));
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0600) == 0);
  CHECK(has(why_refused(dir / "fifo"), "not a regular file"));
  CHECK(read_key_file(dir / "none").error().code == Code::not_found);
  if (::geteuid() == 0) {
    write_text(dir / "key", key_text(), 0600);
    REQUIRE(::chown((dir / "key").c_str(), 12345, 12345) == 0);
    CHECK(has(why_refused(dir / "key"), "owned by uid 12345"));
  }
}

TEST_CASE("key file: written private, never over another") {
  TempDir dir;
  REQUIRE(write_key_file(dir / "key", key_text()).has_value());
  struct stat s {};
  REQUIRE(::stat((dir / "key").c_str(), &s) == 0);
  CHECK((s.st_mode & 07777) == 0600);
  CHECK(read_key_file(dir / "key").has_value());
  CHECK(write_key_file(dir / "key", "other").error().code == Code::exists);
  CHECK(read_key_file(dir / "key").has_value());
}

TEST_CASE("random: fills, and differs") {
  sys_real::Random random;
  Bytes a(1000);
  Bytes b(1000);
  random.fill(a);
  random.fill(b);
  CHECK(a != b);
  CHECK(std::count(a.begin(), a.end(), 0) < 100);
}

TEST_CASE("resolve: numbers and localhost") {
  auto numeric = resolve("127.0.0.1:7", 12000);
  REQUIRE(numeric.has_value());
  CHECK(*numeric == std::vector{sys::Address::v4(127, 0, 0, 1, 7)});
  auto named = resolve("localhost", 12000);
  REQUIRE_MESSAGE(named.has_value(), describe(named.error()));
  CHECK(std::all_of(named->begin(), named->end(),
                    [](const auto& a) { return a.is_loopback() && a.port == 12000; }));
  auto with_port = resolve("localhost:99", 12000);
  REQUIRE(with_port.has_value());
  CHECK(with_port->front().port == 99);
  CHECK(resolve("", 1).error().code == Code::invalid);
  CHECK(resolve("localhost:x", 1).error().code == Code::invalid);
  CHECK(resolve("no-such-host.invalid", 1).error().code == Code::unreachable);
}

TEST_CASE("background: the parent ends when the child is ready, and the child goes on") {
  TempDir dir;
  int alive[2];
  REQUIRE(::pipe(alive) == 0);
  Ended ended = run_parent([&] {
    const pid_t group = ::getpgrp();
    auto daemon = Background::fork_now();
    // Until it is ready it stays in the group it was started in: autofs wants that of a mount.
    if (!daemon || !daemon->is_child() || ::getpgrp() != group) ::_exit(50);
    if (!daemon->ready(dir / "log") || ::getsid(0) != ::getpid()) ::_exit(51);
    ::dprintf(STDERR_FILENO, "logged\n");
    [[maybe_unused]] auto wrote = ::write(alive[1], "x", 1);
    ::_exit(0);
  });
  CHECK(ended.code == 0);
  CHECK(ended.said.empty());
  char byte = 0;
  CHECK(::read(alive[0], &byte, 1) == 1);
  std::ifstream log(dir / "log");
  CHECK(std::string(std::istreambuf_iterator<char>(log), {}) == "logged\n");
  ::close(alive[0]);
  ::close(alive[1]);
}

TEST_CASE("background: the child's failure is the parent's") {
  Ended said = run_parent([] {
    auto daemon = Background::fork_now();
    if (!daemon) ::_exit(50);
    daemon->failed("the port is taken", 3);
  });
  CHECK(said.code == 3);
  CHECK(said.said == "the port is taken\n");
  Ended exited = run_parent([] {
    auto daemon = Background::fork_now();
    if (!daemon) ::_exit(50);
    ::_exit(7);
  });
  CHECK(exited.code == 7);
  Ended killed = run_parent([] {
    auto daemon = Background::fork_now();
    if (!daemon) ::_exit(50);
    ::kill(::getpid(), SIGKILL);
  });
  CHECK(killed.code == 1);
  CHECK(has(killed.said, "signal 9"));
}

TEST_CASE("pid file: ours, and removed") {
  TempDir dir;
  {
    auto file = PidFile::write(dir / "pid");
    REQUIRE(file.has_value());
    PidFile moved = std::move(*file);
    std::ifstream in(dir / "pid");
    int pid = 0;
    in >> pid;
    CHECK(pid == ::getpid());
  }
  CHECK(::access((dir / "pid").c_str(), F_OK) != 0);
  {
    auto file = PidFile::write(dir / "pid");
    std::ofstream(dir / "pid") << "1\n";  // somebody else's by now
  }
  CHECK(::access((dir / "pid").c_str(), F_OK) == 0);
}

TEST_CASE("notify: one datagram to the service manager's socket") {
  TempDir dir;
  Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string path = dir / "notify";
  REQUIRE(path.size() < sizeof address.sun_path);
  std::memcpy(address.sun_path, path.c_str(), path.size());
  REQUIRE(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  ::unsetenv("NOTIFY_SOCKET");
  notify("READY=1");
  ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
  notify("READY=1\nSTATUS=serving");
  ::unsetenv("NOTIFY_SOCKET");
  char text[100];
  ssize_t got = ::recv(socket.get(), text, sizeof text, 0);
  REQUIRE(got > 0);
  CHECK(std::string(text, static_cast<std::size_t>(got)) == "READY=1\nSTATUS=serving");
  CHECK(::recv(socket.get(), text, sizeof text, 0) < 0);

  ::setenv("WATCHDOG_USEC", "3000000", 1);
  CHECK(watchdog_interval() == milliseconds(1500));
  ::setenv("WATCHDOG_PID", "1", 1);
  CHECK(!watchdog_interval());
  ::unsetenv("WATCHDOG_PID");
  ::setenv("WATCHDOG_USEC", "soon", 1);
  CHECK(!watchdog_interval());
  ::unsetenv("WATCHDOG_USEC");
}
