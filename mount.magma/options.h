// The command line of mount.magma, in both of its styles:
//
//   mount.magma --host=H[,H...] [--ip=A] [-p PORT] KEY [-s] [-f] [-o OPTS] MOUNTPOINT
//   mount.magma SPEC DIR [-sfnv] [-o OPTS]        as mount(8) calls it; SPEC is H[,H...]:/
//
// The number of operands decides the style, and so what -f and -s mean: with one operand -f stays
// in the foreground and -s (one thread) is always so; with two -f only pretends (mount(8) -f) and
// -s tolerates unknown mount options. --foreground and --sloppy mean one thing in both.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libmagma/base/result.h"
#include "libmagma/base/time.h"

namespace magma::mount {

inline constexpr std::uint16_t kFlarePort = 12000;
inline constexpr std::string_view kDefaultKeyFile = "/etc/magma/key";
inline constexpr std::size_t kHostsMax = 64;

// Exit codes of mount(8).
enum ExitCode : int {
  kExitOk = 0,
  kExitUsage = 1,
  kExitSystem = 2,
  kExitMount = 32,
};

struct Options {
  std::vector<std::string> hosts;   // names or addresses, perhaps with :PORT
  std::uint16_t port = kFlarePort;  // of hosts that do not say
  std::string bind_ip;              // ours; empty: any
  std::string mountpoint;
  std::string passphrase;           // --key=TEXT, --keyphrase=TEXT
  std::string key_file;             // empty if not given
  bool foreground = false;
  bool fake = false;                // check everything, mount nothing
  bool sloppy = false;              // unknown mount options are ignored
  bool verbose = false;
  bool read_only = false;
  bool allow_other = false;         // asked for; root mounts have it anyway
  bool fail_when_away = false;      // onfail=eio
  Duration stall = seconds(5);
  bool through_hosts = false;       // proxy: other volcanoes are reached through the hosts
  std::vector<std::string> kernel_options;  // "noexec", "nosuid" ... for mount(2), last one wins
  std::string debug_channels;       // letters
  bool debug_all = false;
  bool show_help = false;
  bool show_version = false;
};

// `arguments` without the program's name. Errors: invalid, with a sentence for people.
Result<Options> parse_options(const std::vector<std::string>& arguments);
// Overwrites the text of --key and --keyphrase in the process's own arguments, which any user can
// read in /proc. True if there was one.
bool hide_key_arguments(int argc, char** argv);
// What /proc/mounts shows as the source: the hosts and ":/".
std::string source_name(const Options& options);
std::string help_text();

}  // namespace magma::mount
