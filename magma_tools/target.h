// Which network a subcommand talks to, with which key, and what a path given to it means there.
//
// Hosts: --host, else MAGMA_HOST, else those of the fuse.magma mount that the path lies below (what
// /proc/self/mountinfo says its source is). Where a host is named, paths are those of the network;
// where the mount decides, they are the machine's own, and the part below the mount point is the
// path in the network. Key: --key-file, else MAGMA_KEY_FILE, else /etc/magma/key, as mount.magma.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libmagma/base/result.h"
#include "libmagma/crypto/network_key.h"
#include "libmagma/sys/address.h"
#include "libmagma/sys_real/mount_table.h"

namespace magma::tools {

inline constexpr std::uint16_t kFlarePort = 12000;
inline constexpr std::string_view kDefaultKeyFile = "/etc/magma/key";
inline constexpr std::size_t kHostsMax = 64;

// As given on the command line; empty: not given.
struct TargetOptions {
  std::string hosts;  // HOST[:PORT][,...]
  std::uint16_t port = kFlarePort;
  std::string key_file;
};

// What the process finds around it.
struct Surroundings {
  std::string host;       // MAGMA_HOST
  std::string key_file;   // MAGMA_KEY_FILE
  std::string directory;  // where it is; absolute
  std::vector<sys_real::MountEntry> mounts;
};
Surroundings look_around();

struct Target {
  std::vector<std::string> hosts;
  std::uint16_t port = kFlarePort;  // of hosts that do not say
  std::string key_file;
  std::string path;        // in the network; empty if none was given
  std::string mountpoint;  // if it was found by a mount
  crypto::Keyring keys;    // after load_key
  std::string hosts_text() const;
};

// "a,b:1,[::1]:2" as a list. Errors: invalid.
Result<std::vector<std::string>> parse_hosts(std::string_view text);
// An absolute path without ".", ".." and "//", as its text says: symlinks are not looked at.
std::string plain_path(std::string_view directory, std::string_view path);
// The mount that a plain path lies on: the uppermost of those with the longest mount point.
const sys_real::MountEntry* mount_of(const std::vector<sys_real::MountEntry>& mounts,
                                     std::string_view path);

// Pure: hosts, port, file of the key and path. `path` is as the user gave it, if the subcommand
// takes one; `real_path` the same with symlinks followed (used if the first lies on no mount).
// Errors: invalid, with a sentence that says what to give.
Result<Target> choose_target(const TargetOptions& options, const Surroundings& around,
                             std::optional<std::string_view> path, std::string_view real_path = {});
// choose_target for this process: looks at symlinks where that is needed.
Result<Target> choose_here(const TargetOptions& options, const Surroundings& around,
                           std::optional<std::string_view> path);
// choose_here, and the key read from its file. Errors: those, not_found and
// bad_key_file, each with a sentence.
Result<Target> find_target(const TargetOptions& options, const Surroundings& around,
                           std::optional<std::string_view> path = std::nullopt);
// The addresses of one host, or of all. Errors: unreachable.
Result<std::vector<sys::Address>> addresses_of(const Target& target, std::string_view host);
Result<std::vector<sys::Address>> addresses_of(const Target& target);

// Why nobody could be reached, in a sentence that names the hosts and what to do next.
Error connect_error(const Target& target, const Error& error);

}  // namespace magma::tools
