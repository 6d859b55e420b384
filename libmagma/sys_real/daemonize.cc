#include "libmagma/sys_real/daemonize.h"

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "libmagma/base/check.h"

namespace magma::sys_real {

namespace {

// What the child sends: one byte, the exit code (0: ready), then the line to print.
void write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t wrote = ::write(fd, bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return;  // nobody is left to hear it
    bytes.remove_prefix(static_cast<std::size_t>(wrote));
  }
}

[[noreturn]] void wait_for_child(int from_child, pid_t child) {
  std::string said;
  char part[512];
  while (true) {
    ssize_t got = ::read(from_child, part, sizeof part);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    said.append(part, static_cast<std::size_t>(got));
  }
  if (!said.empty()) {
    write_all(STDERR_FILENO, std::string_view(said).substr(1));
    ::_exit(static_cast<unsigned char>(said[0]));
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) != 0) ::_exit(WEXITSTATUS(status));
  std::string line = WIFSIGNALED(status)
                         ? "died at start by signal " + std::to_string(WTERMSIG(status)) + "\n"
                         : "ended before it was ready\n";
  write_all(STDERR_FILENO, line);
  ::_exit(1);
}

}  // namespace

Result<Background> Background::fork_now() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno("pipe", "");
  Fd from_child(ends[0]);
  Fd to_parent(ends[1]);
  std::fflush(nullptr);  // else both would write what is buffered
  pid_t child = ::fork();
  if (child < 0) return fail_errno("fork", "");
  if (child > 0) {
    to_parent.reset();
    wait_for_child(from_child.get(), child);
  }
  ::signal(SIGPIPE, SIG_IGN);  // the parent may be gone when we report
  return Background(std::move(to_parent));
}

Result<void> Background::ready(const std::string& log_path) {
  if (!to_parent_) return {};
  Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return fail_errno("open", "/dev/null");
  constexpr int kAppend = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
  Fd log(log_path.empty() ? ::fcntl(null.get(), F_DUPFD_CLOEXEC, 3)
                          : ::open(log_path.c_str(), kAppend, 0600));
  if (!log) return fail_errno("open", log_path);
  // Only now: to systemd's automount a process of the group it started is the one that mounts, and
  // any other that looks at the mount point has to wait for the mount (autofs's oz mode).
  if (::setsid() < 0) return fail_errno("setsid", "");
  std::fflush(nullptr);
  if (::dup2(null.get(), STDIN_FILENO) < 0 || ::dup2(log.get(), STDOUT_FILENO) < 0 ||
      ::dup2(log.get(), STDERR_FILENO) < 0)
    return fail_errno("dup2", log_path);
  write_all(to_parent_.get(), std::string_view("\0", 1));
  to_parent_.reset();
  return {};
}

void Background::failed(std::string_view line, int code) {
  MAGMA_CHECK(code > 0 && code < 256);
  std::string text;
  if (to_parent_) text.push_back(static_cast<char>(code));
  text.append(line);
  if (text.empty() || text.back() != '\n') text.push_back('\n');
  write_all(to_parent_ ? to_parent_.get() : STDERR_FILENO, text);
  ::_exit(code);
}

Result<PidFile> PidFile::write(const std::string& path) {
  Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!fd) return fail_errno("open", path);
  std::string text = std::to_string(::getpid()) + "\n";
  if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return fail_errno("write", path);
  return PidFile(path);
}

PidFile::~PidFile() {
  if (path_.empty()) return;
  Fd fd(::open(path_.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  char text[32];
  ssize_t got = fd ? ::read(fd.get(), text, sizeof text) : 0;
  long owner = 0;
  if (got > 0) std::from_chars(text, text + got, owner);
  if (owner == ::getpid()) ::unlink(path_.c_str());
}

void notify(std::string_view state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || (path[0] != '/' && path[0] != '@')) return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::size_t length = std::strlen(path);
  if (length >= sizeof address.sun_path) return;
  std::memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = '\0';  // abstract
  Fd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return;
  // Best effort: a service manager that does not listen is not our failure.
  const auto* to = reinterpret_cast<const sockaddr*>(&address);
  auto to_length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  [[maybe_unused]] auto sent =
      ::sendto(fd.get(), state.data(), state.size(), MSG_NOSIGNAL, to, to_length);
}

std::optional<Duration> watchdog_interval() {
  const char* text = std::getenv("WATCHDOG_USEC");
  if (text == nullptr) return std::nullopt;
  if (const char* pid = std::getenv("WATCHDOG_PID");
      pid != nullptr && pid != std::to_string(::getpid()))
    return std::nullopt;
  std::int64_t micros = 0;
  std::string_view digits(text);
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), micros);
  if (error != std::errc() || end != digits.data() + digits.size() || micros <= 0)
    return std::nullopt;
  return microseconds(micros) / 2;
}

}  // namespace magma::sys_real
