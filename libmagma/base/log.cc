#include "libmagma/base/log.h"

#include <unistd.h>

#include <array>
#include <atomic>

namespace magma {

namespace {

std::array<std::atomic<bool>, 128> channel_on{};
std::atomic<void (*)(LogLevel, std::string_view)> sink{nullptr};

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

void log_line(LogLevel level, std::string_view line) {
  if (auto* other = sink.load()) {
    other(level, line);
    return;
  }
  std::string text = fmt::format("<{}>{}\n", static_cast<int>(level), line);
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
