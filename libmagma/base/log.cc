#include "libmagma/base/log.h"

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>

namespace magma {

namespace {

std::array<std::atomic<bool>, 128> channel_on{};
std::atomic<void (*)(LogLevel, std::string_view)> sink{nullptr};

// $JOURNAL_STREAM is DEVICE:INODE of the stream that systemd connected us to. Looked at for each
// line: a daemon that goes to the background gives its stderr away.
bool stderr_is_journal() {
  static const std::string stream = [] {
    const char* text = std::getenv("JOURNAL_STREAM");
    return std::string(text == nullptr ? "" : text);
  }();
  struct stat s {};
  return !stream.empty() && ::fstat(STDERR_FILENO, &s) == 0 &&
         stream == fmt::format("{}:{}", s.st_dev, s.st_ino);
}

// For people who read a log file; nothing is decided by it.
std::string utc_now() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);  // lint: allow (the log needs no clock to be handed in)
  tm parts{};
  ::gmtime_r(&now.tv_sec, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                     now.tv_nsec / 1'000'000);
}

std::string_view name_of(LogLevel level) {
  switch (level) {
    case LogLevel::error: return "error";
    case LogLevel::warning: return "warning";
    case LogLevel::info: return "info";
    case LogLevel::debug: return "debug";
  }
  return "?";
}

}  // namespace

void log_enable(char channel, bool on) {
  auto index = static_cast<unsigned char>(channel);
  if (index < channel_on.size()) channel_on[index].store(on, std::memory_order_relaxed);
}

bool log_enabled(char channel) {
  auto index = static_cast<unsigned char>(channel);
  return index < channel_on.size() && channel_on[index].load(std::memory_order_relaxed);
}

void log_enable_all(bool on) {
  for (auto& channel : channel_on) channel.store(on, std::memory_order_relaxed);
}

void log_to(void (*new_sink)(LogLevel, std::string_view)) { sink.store(new_sink); }

std::string log_value(std::string_view text) {
  const bool is_cut = text.size() > kLogValueBytesMax;
  if (is_cut) text = text.substr(0, kLogValueBytesMax);
  if (!is_cut && log_detail::is_value(text) && text.front() != '{' &&
      text.find('\\') == std::string_view::npos)
    return std::string(text);
  std::string quoted = "\"";
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      quoted += {'\\', c};
    else if (c == '\n')
      quoted += "\\n";
    else if (c == '\r')
      quoted += "\\r";
    else if (c == '\t')
      quoted += "\\t";
    else if (byte < 0x20 || byte > 0x7e)
      quoted += fmt::format("\\x{:02x}", byte);
    else
      quoted += c;
  }
  return quoted + (is_cut ? "...\"" : "\"");
}

void log_line(LogLevel level, std::string_view line) {
  if (auto* other = sink.load()) {
    other(level, line);
    return;
  }
  std::string text = (stderr_is_journal() ? fmt::format("<{}>", static_cast<int>(level))
                                          : fmt::format("{} {} ", utc_now(), name_of(level)));
  text.append(line);
  text += '\n';
  // One write(2) a line: lines of several threads do not mix. Nothing sensible can be done if
  // stderr is gone.
  [[maybe_unused]] auto written = ::write(STDERR_FILENO, text.data(), text.size());
}

bool RateLimit::allow(Instant now) {
  if (now < next_) {
    ++held_;
    return false;
  }
  suppressed_ = held_;
  held_ = 0;
  next_ = now + seconds(1);
  return true;
}

}  // namespace magma
