#include "libmagma/sys_real/mount_table.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

namespace magma::sys_real {

namespace {

constexpr std::size_t kTableBytesMax = 4 << 20;

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  while (true) {
    auto end = line.find(' ');
    words.push_back(line.substr(0, end));
    if (end == std::string_view::npos) return words;
    line.remove_prefix(end + 1);
  }
}

// \ooo stands for a byte (blank, tab, line feed, backslash).
std::string unescape(std::string_view text) {
  std::string plain;
  auto is_octal = [](char c) { return c >= '0' && c <= '7'; };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) && is_octal(text[i + 2]) &&
        is_octal(text[i + 3])) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                 (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

}  // namespace

// "36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw": optional fields before the "-".
std::vector<MountEntry> parse_mountinfo(std::string_view text) {
  std::vector<MountEntry> mounts;
  while (!text.empty()) {
    auto end = text.find('\n');
    auto words = words_of(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (words.size() < 9) continue;
    auto dash = std::find(words.begin() + 6, words.end(), "-");
    if (words.end() - dash < 3) continue;
    mounts.push_back({.device = std::string(words[2]),
                      .root = unescape(words[3]),
                      .mountpoint = unescape(words[4]),
                      .type = std::string(dash[1]),
                      .source = unescape(dash[2])});
  }
  return mounts;
}

std::optional<MountEntry> mounted_at(const std::vector<MountEntry>& mounts,
                                     std::string_view path) {
  auto found = std::find_if(mounts.rbegin(), mounts.rend(),
                            [&](const MountEntry& m) { return m.mountpoint == path; });
  if (found == mounts.rend()) return std::nullopt;
  return *found;
}

std::vector<MountEntry> read_mount_table() {
  const int fd = ::open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  std::string text;
  char part[16384];
  ssize_t got;
  while ((got = ::read(fd, part, sizeof part)) > 0 && text.size() < kTableBytesMax)
    text.append(part, static_cast<std::size_t>(got));
  ::close(fd);
  return parse_mountinfo(text);
}

}  // namespace magma::sys_real
