// What is mounted where: /proc/self/mountinfo (proc(5)). For the check that a mount point is free,
// to find the device number of our own mount without a request to ourselves, and to tell from a
// path which network it lies in.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace magma::sys_real {

struct MountEntry {
  std::string device;      // "MAJOR:MINOR"
  std::string root;        // what of the filesystem is mounted: "/" unless it is a bind mount
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

}  // namespace magma::sys_real
