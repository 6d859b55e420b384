#include "libmagma/client/listing.h"

#include <sys/stat.h>

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

namespace magma::client {

namespace {

std::string name_of(UniqueFunction<std::string(std::uint32_t)>& source, std::uint32_t id) {
  std::string name = source ? source(id) : std::string();
  return name.empty() ? std::to_string(id) : printable(name);
}

// st_rdev as Linux packs it (makedev(3)).
std::uint64_t major_of(std::uint64_t device) {
  return (device >> 8 & 0xfff) | (device >> 32 & 0xfffff000);
}
std::uint64_t minor_of(std::uint64_t device) {
  return (device & 0xff) | (device >> 12 & 0xffffff00);
}

std::string size_text(const wire::Attr& attr) {
  if (S_ISCHR(attr.mode) || S_ISBLK(attr.mode))
    return fmt::format("{}, {}", major_of(attr.rdev), minor_of(attr.rdev));
  return std::to_string(attr.size);
}

struct Character {
  std::uint32_t point = 0;
  std::size_t bytes = 0;  // 0: this is no UTF-8
};

// The character that `text` begins with (RFC 3629, section 4). Requires: not empty.
Character first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < size) return {};
  std::uint32_t point = lead & (0xffu >> (size + 1));
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    point = point << 6 | (byte(i) & 0x3f);
  }
  const std::uint32_t lowest = size == 4 ? 0x10000 : size == 3 ? 0x800 : 0x80;
  if (point < lowest || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return {};
  return {point, size};
}

bool is_shown(std::uint32_t point) {
  if (point < 0x20 || (point >= 0x7f && point < 0xa0)) return false;
  const bool is_separator = point == 0x2028 || point == 0x2029;
  const bool turns = point == 0x200e || point == 0x200f || (point >= 0x202a && point <= 0x202e) ||
                     (point >= 0x2066 && point <= 0x2069);
  return !is_separator && !turns;
}

}  // namespace

std::string_view type_text(std::uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG: return "regular file";
    case S_IFDIR: return "directory";
    case S_IFLNK: return "symlink";
    case S_IFCHR: return "character device";
    case S_IFBLK: return "block device";
    case S_IFIFO: return "fifo";
    case S_IFSOCK: return "socket";
    default: return "unknown";
  }
}

std::string mode_text(std::uint32_t mode) {
  std::string text = "?rwxrwxrwx";
  switch (mode & S_IFMT) {
    case S_IFREG: text[0] = '-'; break;
    case S_IFDIR: text[0] = 'd'; break;
    case S_IFLNK: text[0] = 'l'; break;
    case S_IFCHR: text[0] = 'c'; break;
    case S_IFBLK: text[0] = 'b'; break;
    case S_IFIFO: text[0] = 'p'; break;
    case S_IFSOCK: text[0] = 's'; break;
    default: break;
  }
  for (unsigned bit = 0; bit < 9; ++bit)
    if ((mode & (0400u >> bit)) == 0) text[bit + 1] = '-';
  // Set-id and sticky share a place with "may execute": a capital says that it may not.
  const auto mark = [&](std::uint32_t flag, std::size_t place, char with, char without) {
    if ((mode & flag) != 0) text[place] = text[place] == 'x' ? with : without;
  };
  mark(S_ISUID, 3, 's', 'S');
  mark(S_ISGID, 6, 's', 'S');
  mark(S_ISVTX, 9, 't', 'T');
  return text;
}

std::string printable(std::string_view name) {
  std::string text;
  while (!name.empty()) {
    const Character next = first_character(name);
    const std::size_t bytes = std::max<std::size_t>(next.bytes, 1);
    const std::string_view raw = name.substr(0, bytes);
    name.remove_prefix(bytes);
    if (raw == "\\") {
      text += "\\\\";
    } else if (next.bytes > 0 && is_shown(next.point)) {
      text += raw;
    } else if (raw == "\n") {
      text += "\\n";
    } else if (raw == "\t") {
      text += "\\t";
    } else {
      for (char c : raw) text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return text;
}

std::string listing_line(std::string_view name, const wire::Attr& attr, std::string_view target,
                         NameSource& names) {
  std::string line =
      fmt::format("{} {:<8} {:<8} {:>11} {}", mode_text(attr.mode), name_of(names.user, attr.uid),
                  name_of(names.group, attr.gid), size_text(attr), printable(name));
  if (S_ISLNK(attr.mode)) line += " -> " + printable(target);
  return line;
}

std::string total_line(std::uint64_t entries) {
  return fmt::format("-- total entries: {}", entries);
}

std::string holder_text(const Holder& holder) {
  const std::string state = holder.state.empty() ? std::string() : ", " + holder.state;
  return (holder.nick.empty() ? holder.address
                              : fmt::format("{} ({})", holder.nick, holder.address)) +
         state;
}

std::string slot_text(ring::Slot slot) { return fmt::format("{:03x}", slot.value); }

std::string inspect_text(const Flare& flare, const std::vector<Holder>& holders,
                         NameSource& names) {
  const auto with_name = [](std::uint32_t id, UniqueFunction<std::string(std::uint32_t)>& source) {
    const std::string name = name_of(source, id);
    const std::string number = std::to_string(id);
    return name == number ? number : fmt::format("{} ({})", number, name);
  };
  std::string text;
  const auto line = [&](std::string_view what, std::string_view value) {
    text += fmt::format("{:<8} {}\n", what, value);
  };
  line("path", printable(flare.path));
  line("type", type_text(flare.attr.mode));
  if (S_ISLNK(flare.attr.mode)) line("target", printable(flare.target));
  line("uid", with_name(flare.attr.uid, names.user));
  line("gid", with_name(flare.attr.gid, names.group));
  line("size", std::to_string(flare.attr.size));
  line("key", flare.key.hex());
  line("slot", slot_text(flare.slot));
  if (holders.empty()) line("owner", "unknown");
  for (std::size_t i = 0; i < holders.size(); ++i)
    line(i == 0 ? "owner" : "replica", holder_text(holders[i]));
  return text;
}

std::string bytes_text(std::uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace magma::client
