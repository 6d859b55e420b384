#include "magma_tools/command.h"

#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <ctime>
#include <unordered_map>

#include <fmt/format.h>

namespace magma::tools {

namespace {

constexpr Duration kQuietTime = seconds(1);
constexpr Duration kProgressEvery = milliseconds(200);
constexpr std::size_t kNamesMax = 65536;  // remembered

template <class Look>
UniqueFunction<std::string(std::uint32_t)> remembered(Look look) {
  return
      [look, known = std::unordered_map<std::uint32_t, std::string>()](std::uint32_t id) mutable {
        if (auto found = known.find(id); found != known.end()) return found->second;
        if (known.size() >= kNamesMax) known.clear();
        return known.emplace(id, look(id)).first->second;
      };
}

}  // namespace

void add_target_options(CLI::App& command, TargetOptions& options) {
  command.add_option("--host", options.hosts,
                     "Volcanoes to ask, HOST[:PORT][,...] (MAGMA_HOST, or the mount of PATH)");
  command.add_option("-p,--port", options.port, "Their flare port")
      ->check(CLI::Range(1, 65535))
      ->capture_default_str();
  command.add_option("--key-file", options.key_file,
                     "File with the network's or the client key (MAGMA_KEY_FILE, /etc/magma/key)");
}

void add_host_options(CLI::App& command, TargetOptions& options) {
  auto* operand =
      command.add_option("HOST", options.hosts, "The volcano, HOST[:PORT] (MAGMA_HOST)");
  command.add_option("--host", options.hosts, "The same")->excludes(operand);
  command.add_option("-p,--port", options.port, "Its flare port")
      ->check(CLI::Range(1, 65535))
      ->capture_default_str();
  command.add_option("--key-file", options.key_file,
                     "File with the network's key (MAGMA_KEY_FILE, /etc/magma/key)");
}

int failed(std::string_view command, std::string_view text) {
  std::fprintf(stderr, "magma %.*s: %.*s\n", static_cast<int>(command.size()), command.data(),
               static_cast<int>(text.size()), text.data());
  return kFailed;
}

int failed(std::string_view command, const Error& error, const Output* output) {
  if (output != nullptr && output->is_closed()) return kFailed;
  return failed(command, client::printable(describe(error)));
}

Opened open_network(std::string_view command, const TargetOptions& options,
                    std::optional<std::string_view> path) {
  Opened opened;
  auto target = find_target(options, look_around(), path);
  if (!target) {
    failed(command, target.error().detail);
    opened.code = target.error().code == Code::invalid ? kUsage : kFailed;
    return opened;
  }
  opened.target = std::move(*target);
  auto network = Network::attach(opened.target);
  if (!network) {
    opened.code = failed(command, network.error().detail.empty() ? describe(network.error())
                                                                 : network.error().detail);
    return opened;
  }
  opened.network = std::move(*network);
  return opened;
}

std::string needs_network_key(const Target& target, std::string_view what) {
  return fmt::format(
      "{} holds a client key; {} needs the network key (each volcano has it in its "
      "storage directory: network.key)",
      target.key_file, what);
}

client::NameSource system_names() {
  return {.user = remembered([](std::uint32_t id) {
            const passwd* entry = ::getpwuid(id);
            return entry == nullptr ? std::string() : std::string(entry->pw_name);
          }),
          .group = remembered([](std::uint32_t id) {
            const group* entry = ::getgrgid(id);
            return entry == nullptr ? std::string() : std::string(entry->gr_name);
          })};
}

// ---- text

std::string json_text(std::string_view text) {
  const std::string whole(text);
  // A dump that refuses what is no UTF-8 throws; the replacing one differs.
  const Json replaced =
      Json::parse(Json(whole).dump(-1, ' ', false, Json::error_handler_t::replace), nullptr, false);
  return replaced.is_string() && replaced.get<std::string>() == whole ? whole
                                                                      : client::printable(text);
}

std::string dumped(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json attr_json(const wire::Attr& attr) {
  Json json = {{"type", client::type_text(attr.mode)},
               {"ino", attr.ino.value},
               {"mode", fmt::format("{:04o}", attr.mode & 07777)},
               {"nlink", attr.nlink},
               {"uid", attr.uid},
               {"gid", attr.gid},
               {"size", attr.size},
               {"blocks", attr.blocks},
               {"atime_ns", attr.atime.ns},
               {"mtime_ns", attr.mtime.ns},
               {"ctime_ns", attr.ctime.ns},
               {"btime_ns", attr.btime.ns}};
  if (S_ISCHR(attr.mode) || S_ISBLK(attr.mode)) json["rdev"] = attr.rdev;
  return json;
}

Json holders_json(const std::vector<client::Holder>& holders) {
  Json list = Json::array();
  for (const client::Holder& holder : holders)
    list.push_back({{"nick", holder.nick},
                    {"address", holder.address},
                    {"role", holder.is_primary ? "primary" : "mirror"},
                    {"state", holder.state.empty() ? Json() : Json(holder.state)}});
  return list;
}

Json flare_json(const client::Flare& flare, const std::vector<client::Holder>& holders) {
  Json json = {{"path", json_text(flare.path)}};
  json.update(attr_json(flare.attr));
  if (S_ISLNK(flare.attr.mode)) json["target"] = json_text(flare.target);
  json["key"] = flare.key.hex();
  json["slot"] = client::slot_text(flare.slot);
  json["in_chunks"] = flare.attr.placement.in_chunks;
  json["volcanoes"] = holders_json(holders);
  return json;
}

std::string time_text(WallTime when) {
  std::time_t whole = static_cast<std::time_t>(when.ns / 1'000'000'000);
  std::tm parts{};
  gmtime_r(&whole, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::string duration_text(Duration time) {
  const std::int64_t whole = time.ns / 1'000'000'000;
  if (whole < 60) return fmt::format("{:.1f} s", time.seconds());
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  if (whole < 86400) return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
  return fmt::format("{} d {} h", whole / 86400, whole % 86400 / 3600);
}

// ---- Progress

Progress::Progress(sys::Clock& clock)
    : clock_(clock), is_terminal_(::isatty(STDERR_FILENO) == 1), begun_(clock.now()) {}

Progress::~Progress() { wipe(); }

bool Progress::is_due() const {
  if (!is_terminal_) return false;
  const Instant now = clock_.now();
  return is_shown_ ? now - last_ >= kProgressEvery : now - begun_ >= kQuietTime;
}

void Progress::show(std::string_view text) {
  if (!is_due()) return;
  std::fprintf(stderr, "\r\033[K%.*s", static_cast<int>(text.size()), text.data());
  std::fflush(stderr);
  last_ = clock_.now();
  is_shown_ = true;
}

void Progress::wipe() {
  if (!is_shown_) return;
  std::fprintf(stderr, "\r\033[K");
  std::fflush(stderr);
  is_shown_ = false;
}

}  // namespace magma::tools
