#include "magmad/options.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstring>

#include <CLI/CLI.hpp>

#include "config.h"
#include "libmagma/ring/lava_map.h"

namespace magma {

namespace {

// The kernel shows argv to everybody: what was a secret becomes x's.
void wipe_argument(int argc, char** argv, const std::string& secret) {
  for (int i = 1; i < argc; ++i) {
    char* found = secret.empty() ? nullptr : std::strstr(argv[i], secret.c_str());
    if (found != nullptr) std::memset(found, 'x', secret.size());
  }
}

std::string host_name() {
  char name[256] = {};
  if (gethostname(name, sizeof name - 1) != 0) return {};
  return name;
}

bool is_plain_name(const std::string& name) {
  constexpr std::size_t kNameBytesMax = 253;  // RFC 1035, 2.3.4
  return name.size() <= kNameBytesMax && name.front() != '.' &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_';
         });
}

Result<void> check_names(MagmadOptions& options) {
  if (options.nick.empty()) {
    options.nick = host_name();
    options.nick = options.nick.substr(0, options.nick.find('.'));
  }
  if (std::string why = nick_error(options.nick); !why.empty())
    return fail(Code::invalid, "-n '" + options.nick + "': " + why);
  if (options.fqdn.empty()) options.fqdn = host_name();
  const bool is_new = options.bootstrap || !options.ring.empty();
  if (is_new && options.fqdn.find('.') == std::string::npos)
    return fail(Code::invalid,
                "-s: a full name with a dot is needed, as in -s " + options.nick + ".example.org");
  if (is_new && !is_plain_name(options.fqdn))
    return fail(Code::invalid, "-s '" + options.fqdn +
                                   "': a full name has at most 253 letters, digits, '.', '-' or "
                                   "'_', the first no dot");
  return {};
}

Result<void> set_console(const std::string& text, MagmadOptions& options) {
  if (text == "none") {
    if (options.console_remote)
      return fail(Code::invalid, "--console-remote: there is no console with --console none");
    return {};
  }
  options.console = options.address;
  options.console->port = kConsolePort;
  if (text.empty()) return {};
  auto given = sys::Address::parse(text, kConsolePort);
  if (!given)
    return fail(Code::invalid, "--console " + text + ": ADDRESS:PORT is wanted, or none (" +
                                   given.error().detail + ")");
  options.console = *given;
  return {};
}

// In whose file it is, and in our words.
std::string config_error(const CLI::Option* config, std::string what) {
  constexpr std::string_view kUnknown = "INI was not able to parse ";
  if (what.starts_with(kUnknown)) what = "there is no option " + what.substr(kUnknown.size());
  return config->as<std::string>() + ": " + what;
}

}  // namespace

std::string nick_error(const std::string& nick) {
  if (nick.empty() || nick.size() > 63) return "a nickname has 1 to 63 characters";
  if (std::isalnum(static_cast<unsigned char>(nick[0])) == 0)
    return "a nickname begins with a letter or digit";
  for (char c : nick)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '.' && c != '_' && c != '-')
      return std::string("a nickname cannot hold '") + c + "'";
  return {};
}

Result<ParsedOptions> parse_options(int argc, char** argv) {
  ParsedOptions parsed;
  MagmadOptions& options = parsed.options;
  std::string ip = "127.0.0.1";
  std::string console;
  std::uint16_t port = kFlarePort;
  std::optional<std::uint16_t> node_port;
  std::optional<unsigned> copies;
  bool version = false;
  CLI::App app{"A volcano of a Magma lava network: serves one storage directory."};
  app.set_help_flag("-h,--help", "Show this help and exit");
  app.add_flag("-V,--version", version, "Show the version and exit")->configurable(false);
  app.set_config("--config", "", "Read options from this file: lines of NAME = VALUE");
  app.allow_config_extras(CLI::config_extras_mode::error);
  app.add_option("-n,--nick", options.nick, "Nickname of this volcano (default: host name)");
  app.add_option("-s,--fqdn", options.fqdn, "Full name of this host, with a dot");
  app.add_option("-i,--ip", ip, "Address to serve on (default 127.0.0.1)");
  app.add_option("-d,--directory", options.directory, "Storage directory")->required();
  auto* key_file =
      app.add_option("--key-file", options.key_file, "Key file (mode 0600) made by `magma keygen`");
  app.add_option("-k,--key", options.passphrase,
                 "Pass-phrase instead of a key file; other users may see it in ps")
      ->configurable(false)
      ->excludes(key_file);
  auto* bootstrap =
      app.add_flag("-b,--bootstrap", options.bootstrap, "Make a new lava network in -d")
          ->configurable(false);
  app.add_option("-r,--ring", options.ring,
                 "Join the lava ring of the volcano HOST[:PORT] (node port, default 12001)")
      ->configurable(false)
      ->excludes(bootstrap);
  auto* daemon = app.add_flag("--daemon", options.daemon, "Go to the background when ready")
                     ->configurable(false);
  app.add_flag("--take-over", options.take_over,
               "The founder of the ring is lost for good: serve this mirror's copy in its place")
      ->excludes("--bootstrap")
      ->excludes("--ring");
  app.add_flag("--make-only", options.make_only,
               "With -b: make the network's storage and exit, serving nothing")
      ->configurable(false)
      ->needs(bootstrap)
      ->excludes(daemon);
  app.add_option("-p,--port", port, "Flare port, UDP (default 12000)")->check(CLI::Range(1, 65535));
  app.add_option("--node-port", node_port, "Node port, UDP (default: one above -p, so 12001)")
      ->check(CLI::Range(1, 65535));
  app.add_option("--console", console,
                 "Console address ADDR:PORT, TCP, or none (default: the -i address, 12002)");
  app.add_flag("--console-remote", options.console_remote,
               "Let other machines log in at the console; telnet is clear text");
  app.add_option("--small-files", options.small_file_bytes,
                 "With -b: files up to this many bytes live with their directory (default 65536)")
      ->configurable(false)
      ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{1} << 20));
  app.add_option("--copies", copies, "With -b: volcanoes that each flare is to be on (default 2)")
      ->configurable(false)
      ->check(CLI::Range(1u, ring::kCopiesMax));
  app.add_flag("--one-primary", options.one_primary,
               "With -b: this volcano serves all of the keyspace, others only have copies")
      ->configurable(false);
  app.add_option("--pid-file", options.pid_file, "Write the process id here");
  app.add_option("--log-file", options.log_file, "With --daemon: write logs here");
  app.add_option("-D,--debug", options.log_channels, "Log channels by letter, e.g. -D ns");
  app.add_flag("-A,--debug-all", options.all_channels, "All log channels");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    parsed.print = app.help();
    return parsed;
  } catch (const CLI::ConfigError& error) {
    if (!version) return fail(Code::invalid, config_error(app.get_config_ptr(), error.what()));
  } catch (const CLI::ParseError& error) {
    if (!version) return fail(Code::invalid, error.what());
  }
  if (version) {
    parsed.print = std::string("magmad ") + PACKAGE_VERSION + "\n";
    return parsed;
  }
  wipe_argument(argc, argv, options.passphrase);
  TRY_VALUE(options.address, sys::Address::parse(ip, port));
  options.address.port = port;
  options.node_port = node_port.value_or(static_cast<std::uint16_t>(port + 1));
  if (options.node_port == 0 || options.node_port == port)
    return fail(Code::invalid, "--node-port: the node protocol needs a port of its own");
  if (options.address.is_any())
    return fail(Code::invalid, "-i " + ip +
                                   ": clients are told this address, so it must be one "
                                   "they can reach");
  TRY(set_console(console, options));
  if (options.small_file_bytes && !options.bootstrap)
    return fail(Code::invalid, "--small-files is fixed when the network is made: only with -b");
  if (copies && !options.bootstrap)
    return fail(Code::invalid, "--copies is said when the network is made: only with -b");
  if (options.one_primary && !options.bootstrap)
    return fail(Code::invalid, "--one-primary is said when the network is made: only with -b");
  if (copies) options.copies = static_cast<std::uint8_t>(*copies);
  TRY(check_names(options));
  return parsed;
}

}  // namespace magma
