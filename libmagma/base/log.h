// Logs: one line an event, `event key=value ...`, on stderr with a journald priority prefix
// (sd-daemon(3): <3> error, <4> warning, <6> info, <7> debug). Channels carry the letters of
// `magmad -D`; warnings and errors are always written. Never log keys or payload.
// Thread-safe. A line a stranger can cause must be rate-limited by its caller (RateLimit).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "libmagma/base/time.h"

namespace magma {

enum class LogLevel : std::uint8_t { error = 3, warning = 4, info = 6, debug = 7 };

// A channel is one letter of the original's -D mask (doc: magmad(8)), e.g. 'n' network,
// 's' SQL, 'F' flare protocol, 'V' node protocol, 'd' directories, 'r' routing.
struct LogChannel {
  char letter;
  std::string_view what;
  bool is_always_on = false;
};
inline constexpr std::array kLogChannels = {
    LogChannel{'B', "boot"},
    LogChannel{'b', "balancer"},
    LogChannel{'c', "cache"},
    LogChannel{'d', "directories"},
    LogChannel{'F', "flare protocol"},
    LogChannel{'f', "flares"},
    LogChannel{'g', "garbage"},
    LogChannel{'m', "memory"},
    LogChannel{'N', "NFS"},
    LogChannel{'n', "network"},
    LogChannel{'r', "routing"},
    LogChannel{'s', "SQL"},
    LogChannel{'u', "utilities"},
    LogChannel{'V', "node protocol"},
    LogChannel{'v', "volcanoes"},
    LogChannel{'x', "locks"},
    LogChannel{'z', "warnings and errors", true},
};
void log_enable(char channel, bool on);
bool log_enabled(char channel);
void log_enable_all(bool on);
// Sends lines elsewhere (tests); nullptr restores stderr.
void log_to(void (*sink)(LogLevel level, std::string_view line));
void log_line(LogLevel level, std::string_view line);

template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::error, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_debug(char channel, fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(channel))
    log_line(LogLevel::debug, fmt::format(format, std::forward<Args>(args)...));
}

// Lets one line a second through; counts what it held back.
class RateLimit {
 public:
  // True if a line may be written now; `suppressed()` then says how many were not.
  bool allow(Instant now);
  std::uint64_t suppressed() const { return suppressed_; }

 private:
  Instant next_{};
  std::uint64_t suppressed_ = 0;
  std::uint64_t held_ = 0;
};

}  // namespace magma
