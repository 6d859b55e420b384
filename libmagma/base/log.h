// Logs: one line an event, `event key=value ...`, on stderr. The form is checked when a call is
// compiled; texts among the values are quoted and escaped where needed, so that nobody's name or
// path can look like another event or key. If stderr is the journal ($JOURNAL_STREAM, systemd.exec
// (5)) a line begins with its priority (sd-daemon(3): <3> error, <4> warning, <6> info, <7> debug),
// else with the time in UTC and the level's name.
//
// Channels carry the letters of `magmad -D`; warnings and errors are always written. Never log keys
// or payload. Thread-safe. A line a stranger can cause must be rate-limited by its caller
// (RateLimit).
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

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
// Sends lines elsewhere (syslog, tests), without priority or time; nullptr restores stderr.
void log_to(void (*sink)(LogLevel level, std::string_view line));
// Writes an event that is already in its form.
void log_line(LogLevel level, std::string_view line);

// A value as it stands in a line: itself if it is a plain word, else in double quotes, with
// backslash escapes for ", \, line ends and tabs, and \xNN for other bytes that are not printable
// ASCII. What is longer than kLogValueBytesMax is cut and ends in "...".
inline constexpr std::size_t kLogValueBytesMax = 1024;
std::string log_value(std::string_view text);

namespace log_detail {

struct Text {
  std::string_view text;
};

// How an argument of a log call is passed on: texts to be quoted, numbers as they are.
template <class T>
using Passed =
    std::conditional_t<std::convertible_to<T, std::string_view>, Text, std::remove_cvref_t<T>>;

// Not constexpr on purpose: calling it while a format is checked is the compiler's error message.
inline void a_log_call_has_the_form_event_key_value_and_no_quotes() {}

constexpr bool is_name(std::string_view text) {
  if (text.empty() || text[0] < 'a' || text[0] > 'z') return false;
  for (char c : text)
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_')) return false;
  return true;
}

// {} or {:spec} once, or a plain word; quotes come with the value.
constexpr bool is_value(std::string_view text) {
  if (text.empty()) return false;
  if (text.front() == '{') return text.find('}') == text.size() - 1;
  for (char c : text)
    if (c <= ' ' || c > '~' || c == '"' || c == '=' || c == '{' || c == '}') return false;
  return true;
}

constexpr bool is_event(std::string_view format) {
  std::size_t end = format.find(' ');
  if (!is_name(format.substr(0, end))) return false;
  while (end != std::string_view::npos) {
    format.remove_prefix(end + 1);
    end = format.find(' ');
    std::string_view pair = format.substr(0, end);
    std::size_t equals = pair.find('=');
    if (equals == std::string_view::npos || !is_name(pair.substr(0, equals)) ||
        !is_value(pair.substr(equals + 1)))
      return false;
  }
  return true;
}

template <class... Args>
struct Format {
  template <std::convertible_to<std::string_view> S>
  consteval Format(const S& format) : checked(format) {  // NOLINT: implicit like fmt's own
    if (!is_event(format)) a_log_call_has_the_form_event_key_value_and_no_quotes();
  }
  fmt::format_string<Passed<Args>...> checked;
};

template <class... Args>
void write(LogLevel level, const std::type_identity_t<Format<Args...>>& format,
           const Args&... args) {
  log_line(level, fmt::format(format.checked, Passed<Args>{args}...));
}

}  // namespace log_detail

template <class... Args>
using LogFormat = std::type_identity_t<log_detail::Format<Args...>>;

template <class... Args>
void log_error(LogFormat<Args...> format, const Args&... args) {
  log_detail::write<Args...>(LogLevel::error, format, args...);
}
template <class... Args>
void log_warning(LogFormat<Args...> format, const Args&... args) {
  log_detail::write<Args...>(LogLevel::warning, format, args...);
}
template <class... Args>
void log_info(LogFormat<Args...> format, const Args&... args) {
  log_detail::write<Args...>(LogLevel::info, format, args...);
}
template <class... Args>
void log_debug(char channel, LogFormat<Args...> format, const Args&... args) {
  if (log_enabled(channel)) log_detail::write<Args...>(LogLevel::debug, format, args...);
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

template <>
struct fmt::formatter<magma::log_detail::Text> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(const magma::log_detail::Text& value, Context& context) const {
    return fmt::formatter<std::string_view>::format(magma::log_value(value.text), context);
  }
};
