#include "mount.magma/options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

namespace magma::mount {

namespace {

constexpr Duration kStallMax = seconds(24 * 3600);

// An option that takes a value, as `--name VALUE`, `--name=VALUE` or -x VALUE.
enum class Valued { host, ip, port, key, key_file, debug, mount_options, type };

struct ValuedName {
  std::string_view name;
  Valued option;
};
constexpr ValuedName kValued[] = {
    {"--host", Valued::host},         {"--ip", Valued::ip},
    {"-p", Valued::port},             {"--port", Valued::port},
    {"--key", Valued::key},           {"--keyphrase", Valued::key},
    {"--key-file", Valued::key_file}, {"--keyfile", Valued::key_file},
    {"--debug", Valued::debug},       {"-o", Valued::mount_options},
    {"--options", Valued::mount_options}, {"-t", Valued::type},
};

// Passed on to mount(2) through libfuse.
constexpr std::string_view kKernelOptions[] = {
    "dev",  "nodev",   "suid",       "nosuid", "exec", "noexec",
    "noatime", "nodiratime", "sync",   "async", "dirsync",
};
// Meant for mount(8), systemd or people, or true anyway.
constexpr std::string_view kIgnoredOptions[] = {
    "defaults", "_netdev", "auto",     "noauto",      "nofail",     "user",
    "nouser",   "users",   "nousers",  "owner",       "group",      "default_permissions",
    "atime",    "relatime", "norelatime", "diratime", "strictatime", "nostrictatime",
    "lazytime", "nolazytime", "silent", "loud",       "nomand",     "iversion", "noiversion",
};
constexpr std::string_view kIgnoredPrefixes[] = {"x-", "X-", "comment=", "user=", "uhelper="};

template <std::size_t N>
bool is_one_of(std::string_view word, const std::string_view (&words)[N]) {
  return std::find(std::begin(words), std::end(words), word) != std::end(words);
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    auto end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

Result<std::uint64_t> parse_number(std::string_view what, std::string_view text,
                                   std::uint64_t lowest, std::uint64_t highest) {
  std::uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < lowest ||
      number > highest)
    return fail(Code::invalid, std::string(what) + " takes a number from " +
                                   std::to_string(lowest) + " to " + std::to_string(highest) +
                                   ", not '" + std::string(text) + "'");
  return number;
}

Result<std::vector<std::string>> parse_hosts(std::string_view text) {
  std::vector<std::string> hosts = split(text, ',');
  if (hosts.size() > kHostsMax)
    return fail(Code::invalid, "more than " + std::to_string(kHostsMax) + " hosts");
  for (const auto& host : hosts)
    if (host.empty()) return fail(Code::invalid, "an empty host in '" + std::string(text) + "'");
  return hosts;
}

// H[,H...]:/ with IPv6 addresses in brackets.
Result<std::vector<std::string>> parse_spec(std::string_view spec) {
  auto colon = spec.rfind(":/");
  if (colon == std::string_view::npos || colon == 0)
    return fail(Code::invalid, "'" + std::string(spec) +
                                   "' does not name a Magma filesystem: write HOST[,HOST...]:/");
  std::string_view path = spec.substr(colon + 1);
  if (path.find_first_not_of('/') != std::string_view::npos)
    return fail(Code::invalid, "only the whole filesystem can be mounted: write '" +
                                   std::string(spec.substr(0, colon)) + ":/'");
  TRY_VALUE(auto hosts, parse_hosts(spec.substr(0, colon)));
  for (const auto& host : hosts)
    if (host.front() != '[' && std::count(host.begin(), host.end(), ':') > 1)
      return fail(Code::invalid, "put the IPv6 address '" + host + "' in [brackets]");
  return hosts;
}

class Parser {
 public:
  Result<Options> parse(const std::vector<std::string>& arguments);

 private:
  Result<bool> take_valued(const std::vector<std::string>& arguments, std::size_t& at);
  Result<void> set_valued(Valued option, std::string_view name, const std::string& value);
  Result<void> take_long(const std::string& argument);
  Result<void> take_short(const std::string& cluster);
  Result<void> apply_mount_options();
  Result<void> apply_mount_option(const std::string& option);
  Result<void> apply_operands();
  Result<void> check() const;

  Options options_;
  std::vector<std::string> operands_;
  std::vector<std::string> mount_options_;
  bool short_f_ = false;
  bool short_s_ = false;
};

Result<Options> Parser::parse(const std::vector<std::string>& arguments) {
  bool only_operands = false;
  for (std::size_t at = 0; at < arguments.size(); ++at) {
    const std::string& argument = arguments[at];
    if (only_operands || argument.size() < 2 || argument[0] != '-') {
      operands_.push_back(argument);
      continue;
    }
    if (argument == "--") {
      only_operands = true;
      continue;
    }
    TRY_VALUE(bool taken, take_valued(arguments, at));
    if (taken) continue;
    if (argument[1] == '-')
      TRY(take_long(argument));
    else
      TRY(take_short(argument));
  }
  if (options_.show_help || options_.show_version) return std::move(options_);
  TRY(apply_operands());
  TRY(apply_mount_options());
  TRY(check());
  return std::move(options_);
}

Result<bool> Parser::take_valued(const std::vector<std::string>& arguments, std::size_t& at) {
  const std::string& argument = arguments[at];
  for (const auto& [name, option] : kValued) {
    const bool is_long = name[1] == '-';
    if (argument == name) {
      if (at + 1 == arguments.size())
        return fail(Code::invalid, std::string(name) + " lacks its value");
      TRY(set_valued(option, name, arguments[++at]));
      return true;
    }
    if (!argument.starts_with(name)) continue;
    if (is_long && argument[name.size()] != '=') continue;
    TRY(set_valued(option, name, argument.substr(name.size() + (is_long ? 1 : 0))));
    return true;
  }
  return false;
}

Result<void> Parser::set_valued(Valued option, std::string_view name, const std::string& value) {
  if (value.empty()) return fail(Code::invalid, std::string(name) + " has an empty value");
  switch (option) {
    case Valued::host: {
      TRY_VALUE(auto hosts, parse_hosts(value));
      options_.hosts.insert(options_.hosts.end(), hosts.begin(), hosts.end());
      break;
    }
    case Valued::ip:
      options_.bind_ip = value;
      break;
    case Valued::port: {
      TRY_VALUE(auto port, parse_number(name, value, 1, 65535));
      options_.port = static_cast<std::uint16_t>(port);
      break;
    }
    case Valued::key:
      options_.passphrase = value;
      break;
    case Valued::key_file:
      options_.key_file = value;
      break;
    case Valued::debug:
      options_.debug_channels = value;
      break;
    case Valued::mount_options:
      for (auto& part : split(value, ',')) mount_options_.push_back(std::move(part));
      break;
    case Valued::type:  // mount(8) repeats the type it was given
      break;
  }
  return {};
}

Result<void> Parser::take_long(const std::string& argument) {
  if (argument == "--help")
    options_.show_help = true;
  else if (argument == "--version")
    options_.show_version = true;
  else if (argument == "--foreground")
    options_.foreground = true;
  else if (argument == "--fake")
    options_.fake = true;
  else if (argument == "--sloppy")
    options_.sloppy = true;
  else if (argument == "--verbose")
    options_.verbose = true;
  else if (argument == "--debug-all")
    options_.debug_all = true;
  else
    return fail(Code::invalid, "unknown option " + argument.substr(0, argument.find('=')));
  return {};
}

Result<void> Parser::take_short(const std::string& cluster) {
  for (char letter : cluster.substr(1)) {
    switch (letter) {
      case 'h': options_.show_help = true; break;
      case 'V': options_.show_version = true; break;
      case 'f': short_f_ = true; break;
      case 's': short_s_ = true; break;
      case 'v': options_.verbose = true; break;
      case 'n': break;  // no /etc/mtab: there is none to write
      case 'r': mount_options_.emplace_back("ro"); break;
      case 'w': mount_options_.emplace_back("rw"); break;
      default: return fail(Code::invalid, std::string("unknown option -") + letter);
    }
  }
  return {};
}

Result<void> Parser::apply_operands() {
  if (operands_.empty()) return fail(Code::invalid, "no mount point given");
  if (operands_.size() > 2)
    return fail(Code::invalid, "too many operands: '" + operands_[2] + "'");
  options_.mountpoint = operands_.back();
  if (operands_.size() == 1) {
    options_.foreground = options_.foreground || short_f_;
  } else {
    if (!options_.hosts.empty())
      return fail(Code::invalid, "--host is given and '" + operands_[0] + "' too: use one");
    TRY_VALUE(options_.hosts, parse_spec(operands_[0]));
    options_.fake = options_.fake || short_f_;
    options_.sloppy = options_.sloppy || short_s_;
  }
  if (options_.mountpoint.empty()) return fail(Code::invalid, "the mount point is empty");
  if (options_.hosts.empty()) options_.hosts.emplace_back("localhost");
  return {};
}

Result<void> Parser::apply_mount_options() {
  for (const auto& option : mount_options_) TRY(apply_mount_option(option));
  return {};
}

Result<void> Parser::apply_mount_option(const std::string& option) {
  const auto equals = option.find('=');
  const std::string name = option.substr(0, equals);
  const std::string value = equals == std::string::npos ? "" : option.substr(equals + 1);
  if (name == "key-file" || name == "keyfile") return set_valued(Valued::key_file, name, value);
  if (name == "port") return set_valued(Valued::port, name, value);
  if (name == "ip") return set_valued(Valued::ip, name, value);
  if (name == "debug") return set_valued(Valued::debug, name, value);
  if (name == "key" || name == "keyphrase")
    return fail(Code::invalid,
                "a key among the mount options could be read by anybody: use key-file=FILE");
  if (name == "onfail") {
    if (value != "wait" && value != "eio")
      return fail(Code::invalid, "onfail is wait or eio, not '" + value + "'");
    options_.fail_when_away = value == "eio";
    return {};
  }
  if (name == "stall") {
    TRY_VALUE(auto count, parse_number(name, value, 1,
                                       static_cast<std::uint64_t>(kStallMax.ms() / 1000)));
    options_.stall = seconds(static_cast<std::int64_t>(count));
    return {};
  }
  if (option == "proxy" || option == "noproxy") {
    options_.through_hosts = option == "proxy";
    return {};
  }
  if (option == "ro" || option == "rw") {
    options_.read_only = option == "ro";
    return {};
  }
  if (option == "allow_other") {
    options_.allow_other = true;
    return {};
  }
  if (option == "remount")
    return fail(Code::invalid, "remount is not supported: unmount, then mount again");
  if (is_one_of(option, kKernelOptions)) {
    options_.kernel_options.push_back(option);
    return {};
  }
  if (option.empty() || is_one_of(option, kIgnoredOptions)) return {};
  for (auto prefix : kIgnoredPrefixes)
    if (option.starts_with(prefix)) return {};
  if (options_.sloppy) return {};
  return fail(Code::invalid, "unknown mount option '" + name + "'");
}

Result<void> Parser::check() const {
  if (!options_.passphrase.empty() && !options_.key_file.empty())
    return fail(Code::invalid, "a key and a key file are given: use one");
  return {};
}

}  // namespace

Result<Options> parse_options(const std::vector<std::string>& arguments) {
  return Parser().parse(arguments);
}

bool hide_key_arguments(int argc, char** argv) {
  constexpr std::string_view kNames[] = {"--key", "--keyphrase"};
  bool found = false;
  for (int i = 1; i < argc; ++i) {
    for (auto name : kNames) {
      char* secret = nullptr;
      const std::string_view argument(argv[i]);
      if (argument == name && i + 1 < argc)
        secret = argv[i + 1];
      else if (argument.starts_with(name) && argument.substr(name.size()).starts_with('='))
        secret = argv[i] + name.size() + 1;
      if (secret == nullptr) continue;
      // Not the length either.
      const std::size_t size = std::strlen(secret);
      std::memset(secret, 0, size);
      if (size > 0) secret[0] = '*';
      found = true;
    }
  }
  return found;
}

std::string source_name(const Options& options) {
  std::string name;
  for (const auto& host : options.hosts) {
    if (!name.empty()) name += ',';
    const bool bare_ipv6 =
        host.front() != '[' && std::count(host.begin(), host.end(), ':') > 1;
    const bool has_port = host.front() == '[' ? host.find("]:") != std::string::npos
                                              : !bare_ipv6 && host.find(':') != std::string::npos;
    name += bare_ipv6 ? "[" + host + "]" : host;
    // Whoever finds the volcanoes by the mount (magma ls PATH) needs it.
    if (!has_port && options.port != kFlarePort) name += ':' + std::to_string(options.port);
  }
  return name + ":/";
}

std::string help_text() {
  return R"(Usage: mount.magma --host=HOST[,HOST...] [OPTION...] MOUNTPOINT
       mount.magma HOST[,HOST...]:/ MOUNTPOINT [-sfnv] [-o OPTIONS]   (for mount(8))

Mounts a Magma filesystem. Any volcano of it will do as HOST; several are tried in turn.

  --host=HOST[,HOST...]  volcanoes to ask first (localhost)
  --ip=ADDRESS           send from this local address
  -p, --port=PORT        their flare port (12000)
  --key-file=FILE        file with the network's or the client key (/etc/magma/key)
  --key=TEXT, --keyphrase=TEXT
                         pass-phrase; a key file is safer: arguments can be read by others
  -f, --foreground       stay in the foreground (with HOST:/ MOUNTPOINT, -f is --fake)
  -r, -w                 as -o ro, -o rw
  -s                     one thread, as always (with HOST:/ MOUNTPOINT, -s is --sloppy)
  --fake                 check everything and reach a volcano, but mount nothing
  --sloppy               ignore unknown mount options
  -v, --verbose          tell what is done
  --debug=MASK           log these channels, e.g. Fr; --debug-all: all of them
  -n, -t TYPE            accepted, as mount(8) passes them
  -o, --options=OPTIONS  mount options, with commas between:
       key-file=FILE, port=PORT, ip=ADDRESS, debug=MASK   as above
       onfail=wait       operations wait for a volcano that is away (default)
       onfail=eio        they fail with EIO after `stall`
       stall=SECONDS     (5)
       proxy             reach all volcanoes through those named here (noproxy)
       allow_other       other users may use the mount (always so if root mounts)
       ro, rw, dev, nodev, suid, nosuid, exec, noexec, noatime, nodiratime, sync, async, dirsync
  -h, --help             this text
  -V, --version

Unmount with umount MOUNTPOINT (as root) or fusermount3 -u MOUNTPOINT.
Exit codes: 0 mounted, 1 bad usage, 2 system error, 32 mount failed.
)";
}

}  // namespace magma::mount
