#include "magma_tools/target.h"

#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>

#include "libmagma/client/paths.h"
#include "libmagma/sys_real/key_file.h"
#include "libmagma/sys_real/resolve.h"

namespace magma::tools {

namespace {

constexpr std::string_view kMountType = "fuse.magma";
constexpr std::size_t kAddressesMax = 64;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

bool is_below(std::string_view path, std::string_view directory) {
  if (directory == "/") return path.starts_with('/');
  return path.starts_with(directory) &&
         (path.size() == directory.size() || path[directory.size()] == '/');
}

std::string path_below(std::string_view path, std::string_view mountpoint) {
  if (mountpoint != "/") path.remove_prefix(mountpoint.size());
  return path.empty() ? "/" : std::string(path);
}

// Takes hosts and path over from the mount that `path` lies on, if it is one of ours.
Result<bool> take_mount(Target& target, const Surroundings& around, std::string_view path) {
  const sys_real::MountEntry* mount = mount_of(around.mounts, path);
  if (mount == nullptr || mount->type != kMountType) return false;
  std::string_view source = mount->source;
  if (!source.ends_with(":/"))
    return fail(Code::invalid, mount->mountpoint + " is a mount of '" + mount->source +
                                   "', which names no volcano: use --host");
  source.remove_suffix(2);
  TRY_VALUE(target.hosts, parse_hosts(source));
  target.mountpoint = mount->mountpoint;
  target.path = plain_path(mount->root, "." + path_below(path, mount->mountpoint));
  return true;
}

std::string real_path_of(std::string_view path) {
  char real[PATH_MAX];
  return ::realpath(std::string(path).c_str(), real) == nullptr ? std::string() : std::string(real);
}

}  // namespace

Surroundings look_around() {
  Surroundings around;
  around.host = variable("MAGMA_HOST");
  around.key_file = variable("MAGMA_KEY_FILE");
  char directory[PATH_MAX];
  if (::getcwd(directory, sizeof directory) != nullptr) around.directory = directory;
  around.mounts = sys_real::read_mount_table();
  return around;
}

std::string Target::hosts_text() const {
  std::string text;
  for (const std::string& host : hosts) text += (text.empty() ? "" : ", ") + host;
  return text;
}

Result<std::vector<std::string>> parse_hosts(std::string_view text) {
  std::vector<std::string> hosts;
  std::string_view left = text;
  while (true) {
    const auto comma = left.find(',');
    hosts.emplace_back(left.substr(0, comma));
    if (hosts.back().empty())
      return fail(Code::invalid, "an empty host in '" + std::string(text) + "'");
    if (hosts.size() > kHostsMax)
      return fail(Code::invalid, "more than " + std::to_string(kHostsMax) + " hosts");
    if (comma == std::string_view::npos) return hosts;
    left.remove_prefix(comma + 1);
  }
}

std::string plain_path(std::string_view directory, std::string_view path) {
  const std::string whole =
      path.starts_with('/') ? std::string(path) : std::string(directory) + "/" + std::string(path);
  std::vector<std::string> kept;
  for (std::string& name : client::names_of_path(whole)) {
    if (name == ".") continue;
    if (name != "..")
      kept.push_back(std::move(name));
    else if (!kept.empty())
      kept.pop_back();
  }
  std::string plain;
  for (const std::string& name : kept) plain += "/" + name;
  return plain.empty() ? "/" : plain;
}

const sys_real::MountEntry* mount_of(const std::vector<sys_real::MountEntry>& mounts,
                                     std::string_view path) {
  const sys_real::MountEntry* best = nullptr;
  for (const auto& mount : mounts)  // in the order they were mounted: the later one is above
    if (is_below(path, mount.mountpoint) &&
        (best == nullptr || mount.mountpoint.size() >= best->mountpoint.size()))
      best = &mount;
  return best;
}

Result<Target> choose_target(const TargetOptions& options, const Surroundings& around,
                             std::optional<std::string_view> path, std::string_view real_path) {
  Target target;
  target.port = options.port;
  target.key_file = !options.key_file.empty() ? options.key_file : around.key_file;
  if (target.key_file.empty()) target.key_file = kDefaultKeyFile;
  const std::string& named = !options.hosts.empty() ? options.hosts : around.host;
  if (!named.empty()) {
    TRY_VALUE(target.hosts, parse_hosts(named));
    if (!path) return target;
    if (!path->starts_with('/'))
      return fail(Code::invalid, "'" + std::string(*path) + "': with " +
                                     (options.hosts.empty() ? "MAGMA_HOST" : "--host") +
                                     " the path is one of the network and begins with /");
    target.path = std::string(*path);
    return target;
  }
  if (!path) return fail(Code::invalid, "no volcano is named: use --host=HOST, or set MAGMA_HOST");
  const std::string plain = plain_path(around.directory, *path);
  TRY_VALUE(bool is_found, take_mount(target, around, plain));
  if (!is_found && !real_path.empty()) {
    TRY_VALUE(is_found, take_mount(target, around, real_path));
  }
  if (!is_found)
    return fail(Code::invalid, "'" + std::string(*path) +
                                   "' lies below no mount of Magma: use --host=HOST (the path is "
                                   "then one of the network), or set MAGMA_HOST");
  // "dir/" and "dir/." ask for a directory, there too.
  if (path->ends_with('/') && target.path != "/") target.path += '/';
  return target;
}

Result<Target> choose_here(const TargetOptions& options, const Surroundings& around,
                           std::optional<std::string_view> path) {
  auto target = choose_target(options, around, path);
  // Only when needed: a look at a mount whose volcano is away would hang.
  if (!target && path && options.hosts.empty() && around.host.empty())
    target = choose_target(options, around, path, real_path_of(*path));
  return target;
}

Result<Target> find_target(const TargetOptions& options, const Surroundings& around,
                           std::optional<std::string_view> path) {
  auto target = choose_here(options, around, path);
  if (!target) return target;
  auto keys = sys_real::read_key_file(target->key_file);
  if (!keys) {
    const bool is_default = target->key_file == kDefaultKeyFile;
    if (keys.error().code == Code::not_found && is_default)
      return fail(Code::not_found, "no key: there is no " + target->key_file +
                                       "; use --key-file=FILE, or set MAGMA_KEY_FILE");
    return fail(keys.error().code, keys.error().detail.empty()
                                       ? target->key_file + ": " + describe(keys.error())
                                       : describe(keys.error()));
  }
  target->keys = std::move(*keys);
  return target;
}

Result<std::vector<sys::Address>> addresses_of(const Target& target, std::string_view host) {
  return sys_real::resolve(host, target.port);
}

Result<std::vector<sys::Address>> addresses_of(const Target& target) {
  std::vector<sys::Address> addresses;
  Error last{Code::unreachable, "no host"};
  for (const std::string& host : target.hosts) {
    auto found = addresses_of(target, host);
    if (!found) {
      last = found.error();
      continue;
    }
    for (const sys::Address& address : *found)
      if (addresses.size() < kAddressesMax &&
          std::find(addresses.begin(), addresses.end(), address) == addresses.end())
        addresses.push_back(address);
  }
  if (addresses.empty()) return fail(std::move(last));
  return addresses;
}

Error connect_error(const Target& target, const Error& error) {
  const std::string where = error.detail.empty() ? target.hosts_text() : error.detail;
  switch (error.code) {
    case Code::unreachable:
    case Code::timeout:
      return {error.code, "no volcano answers at " + where + " (is magmad running there?)"};
    case Code::wrong_key:
      return {error.code, "wrong key: " + target.key_file + " is not of the network at " + where +
                              " (copy that network's key, or give --key-file)"};
    case Code::wrong_version:
      return {error.code, "the volcano at " + where + " speaks another version of the protocol"};
    case Code::interrupted: return {error.code, "interrupted"};
    default: return {error.code, "cannot reach " + where + ": " + std::string(text_of(error.code))};
  }
}

}  // namespace magma::tools
