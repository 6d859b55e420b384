// What `ls` and `inspect` print, as text: of the console and of the tools. Pure functions.
//
//   drwxr-xr-x root     root            4096 src
//   lrwxrwxrwx tom      users              5 now -> today
//   -- total entries: 2
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "libmagma/base/unique_function.h"
#include "libmagma/client/paths.h"
#include "libmagma/ring/slot.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::client {

// Turns numbers into names; an empty name (or no function): the number is shown.
struct NameSource {
  UniqueFunction<std::string(std::uint32_t uid)> user{};
  UniqueFunction<std::string(std::uint32_t gid)> group{};
};

// "drwxr-sr-t": type and permissions, as ls(1) shows them.
std::string mode_text(std::uint32_t mode);
// "regular file", "directory", "symlink", "character device", "block device", "fifo", "socket".
std::string_view type_text(std::uint32_t mode);
// Bytes of a name that a terminal may show: control characters (of Unicode too), marks that turn
// the direction of text, and what is not UTF-8 become \n, \t or \xNN, a backslash becomes two.
std::string printable(std::string_view name);

// One line of `ls`, without a line feed: mode, user and group (padded to 8), size (11 wide; of a
// device its numbers), name, " -> target" of a symlink.
std::string listing_line(std::string_view name, const wire::Attr& attr, std::string_view target,
                         NameSource& names);
// "-- total entries: 5"
std::string total_line(std::uint64_t entries);

// A volcano that holds a flare: "wallace (10.0.0.1:12000)"; of a mirror whose state is known,
// "gromit (10.0.0.2:12000), in sync". The first is the owner.
struct Holder {
  std::string nick{};  // empty: not known
  std::string address;
  bool is_primary = true;
  std::string state{};  // of a mirror: "in sync", "copying", "behind"
};
std::string holder_text(const Holder& holder);

// Lines with line feeds: path, type, uid, gid, size, key, slot (three hex digits), owner and
// replicas, in this order; of a symlink its target too.
std::string inspect_text(const Flare& flare, const std::vector<Holder>& holders, NameSource& names);
std::string bytes_text(std::uint64_t bytes);  // "1.5 GiB"
std::string slot_text(ring::Slot slot);  // "420": the first three digits of its keys

}  // namespace magma::client
