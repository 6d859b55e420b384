// What is mounted where: /proc/self/mountinfo (proc(5)), for the check that a mount point is free
// and to find the device number of our own mount without a request to ourselves.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace magma::mount {

struct MountEntry {
  std::string device;      // "MAJOR:MINOR"
  std::string mountpoint;
  std::string type;        // "fuse.magma"
  std::string source;
};

// Lines that are not understood are left out.
std::vector<MountEntry> parse_mountinfo(std::string_view text);
// The uppermost mount at exactly this absolute path.
std::optional<MountEntry> mounted_at(const std::vector<MountEntry>& mounts, std::string_view path);
// Of this process; empty if /proc is not there.
std::vector<MountEntry> read_mount_table();

}  // namespace magma::mount
