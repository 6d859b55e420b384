#include "mount.magma/interrupts.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>

namespace magma::mount {

namespace {

constexpr std::uint64_t bit(int signal) { return std::uint64_t{1} << (signal - 1); }

// Asked to stop, even if the program catches it.
constexpr std::uint64_t kAsked = bit(SIGINT) | bit(SIGQUIT) | bit(SIGTERM) | bit(SIGHUP);
// Whose default is not to end the process (signal(7)).
constexpr std::uint64_t kHarmless = bit(SIGCHLD) | bit(SIGURG) | bit(SIGWINCH) | bit(SIGCONT) |
                                    bit(SIGSTOP) | bit(SIGTSTP) | bit(SIGTTIN) | bit(SIGTTOU);

// The hexadecimal mask after "\nNAME:\t".
std::optional<std::uint64_t> mask_of(std::string_view status, std::string_view name) {
  auto at = status.find(name);
  if (at == std::string_view::npos) return std::nullopt;
  at = status.find_first_not_of(" \t", at + name.size());
  if (at == std::string_view::npos) return std::nullopt;
  std::uint64_t mask = 0;
  auto [end, error] = std::from_chars(status.data() + at, status.data() + status.size(), mask, 16);
  if (error != std::errc()) return std::nullopt;
  return mask;
}

}  // namespace

bool wants_to_stop(std::string_view status) {
  auto own = mask_of(status, "\nSigPnd:"), shared = mask_of(status, "\nShdPnd:");
  auto blocked = mask_of(status, "\nSigBlk:"), ignored = mask_of(status, "\nSigIgn:");
  auto caught = mask_of(status, "\nSigCgt:");
  if (!own || !shared || !blocked || !ignored || !caught) return true;
  const std::uint64_t pending = *own | *shared;
  if ((pending & bit(SIGKILL)) != 0) return true;
  const std::uint64_t active = pending & ~*blocked & ~*ignored;
  const std::uint64_t fatal = ~*caught & ~kHarmless;
  return (active & (kAsked | fatal)) != 0;
}

bool wants_to_stop(pid_t pid) {
  if (pid <= 0) return true;
  const std::string path = "/proc/" + std::to_string(pid) + "/status";
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return true;
  std::array<char, 8192> text;
  const auto size = ::read(fd, text.data(), text.size());
  ::close(fd);
  if (size <= 0) return true;
  return wants_to_stop(std::string_view(text.data(), static_cast<std::size_t>(size)));
}

void Interrupts::add(Waiting waiting, Instant now) {
  if (waiting_.empty()) next_ = now + kLookAgain;
  waiting_.push_back(waiting);
}

bool Interrupts::set_call(fuse_req* request, client::CallId call) {
  for (auto& waiting : waiting_) {
    if (waiting.request != request) continue;
    waiting.call = call;
    return true;
  }
  return false;
}

void Interrupts::remove(fuse_req* request) {
  std::erase_if(waiting_, [&](const Waiting& w) { return w.request == request; });
}

std::vector<client::CallId> Interrupts::due(Instant now) {
  std::vector<client::CallId> calls;
  if (now < deadline()) return calls;
  next_ = now + kLookAgain;
  for (const auto& waiting : waiting_)
    if (wants_to_stop(waiting.pid)) calls.push_back(waiting.call);
  return calls;
}

}  // namespace magma::mount
