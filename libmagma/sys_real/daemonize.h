// What makes a program a well-behaved daemon: going to the background only when it is usable,
// a pid file, and systemd's notification protocol (sd_notify(3), spoken by hand: one datagram).
// All of it before threads are started, but for notify().
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "libmagma/base/result.h"
#include "libmagma/base/time.h"
#include "libmagma/sys_real/fd.h"

namespace magma::sys_real {

// The start of a daemon. fork_now() returns in the child only; the parent waits and exits with 0
// when the child calls ready(), with the child's line and code at failed(), and with an error when
// the child dies without a word. In the foreground (the default) both concern this process.
class Background {
 public:
  Background() = default;
  // Requires: no threads yet (libuv, too, is started after).
  static Result<Background> fork_now();
  // The daemon is usable. In the background: it leaves the parent's session and process group,
  // stdout and stderr go to `log_path` (appended to, made 0600; /dev/null if empty), stdin to
  // /dev/null, and the parent ends.
  Result<void> ready(const std::string& log_path = {});
  // Writes `line` to stderr (the parent's) and ends this process with `code` (1-255).
  [[noreturn]] void failed(std::string_view line, int code);
  bool is_child() const { return static_cast<bool>(to_parent_); }

 private:
  explicit Background(Fd to_parent) : to_parent_(std::move(to_parent)) {}
  Fd to_parent_;
};

// A file with our process id; removed at the end, if it is still ours.
class PidFile {
 public:
  static Result<PidFile> write(const std::string& path);
  PidFile(PidFile&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  PidFile& operator=(PidFile&&) = delete;
  ~PidFile();

 private:
  explicit PidFile(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

// Sends a state to $NOTIFY_SOCKET: "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=...". Does
// nothing without a service manager. Any thread.
void notify(std::string_view state);
// How often to send WATCHDOG=1 (half of $WATCHDOG_USEC); nothing if nobody watches us.
std::optional<Duration> watchdog_interval();

}  // namespace magma::sys_real
