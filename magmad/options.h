// Command line of magmad (magmad(8)).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "libmagma/base/result.h"
#include "libmagma/sys/address.h"

namespace magma {

inline constexpr std::uint16_t kFlarePort = 12000;
inline constexpr std::uint16_t kNodePort = 12001;
inline constexpr std::uint16_t kConsolePort = 12002;

struct MagmadOptions {
  std::string nick;
  std::string fqdn;
  std::string passphrase;  // -k; wiped from argv by parse_options
  std::string key_file;
  sys::Address address;  // -i and -p
  std::uint16_t node_port = kNodePort;
  std::optional<sys::Address> console;  // nothing with --console none
  bool console_remote = false;
  std::string directory;
  bool bootstrap = false;  // -b
  std::string ring;        // -r: HOST[:PORT] of a volcano of the ring to join; empty: none
  bool make_only = false;  // with -b: make the storage and end
  bool take_over = false;  // the founder is lost: this mirror founds the ring anew
  std::optional<std::uint64_t> small_file_bytes;
  std::optional<std::uint8_t> copies;  // with -b
  bool one_primary = false;            // with -b
  bool daemon = false;
  std::string pid_file;
  std::string log_file;       // with --daemon: where stderr goes
  std::string log_channels;   // -D letters
  bool all_channels = false;  // -A
};

// What the command line asks for instead of running: text for stdout and an exit code.
struct ParsedOptions {
  MagmadOptions options;
  std::optional<std::string> print;  // --help, --version
};

// `invalid` with one line that says what is wrong. Secrets in argv are overwritten with 'x'. Reads
// the file of --config, whose lines are long options; what argv has counts more.
Result<ParsedOptions> parse_options(int argc, char** argv);

// "" if the text may be a nickname (1 to 63 of A-Z a-z 0-9 . _ -, the first a letter or digit),
// else why not.
std::string nick_error(const std::string& nick);

}  // namespace magma
