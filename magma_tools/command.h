// What subcommands have in common: the options that name a network, error lines, names of users,
// JSON of a flare.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "libmagma/client/listing.h"
#include "magma_tools/remote.h"
#include "magma_tools/target.h"
#include "magma_tools/tools.h"

namespace magma::tools {

using Json = nlohmann::ordered_json;

// --host, --port, --key-file.
void add_target_options(CLI::App& command, TargetOptions& options);
// As these, with [HOST] as an operand too.
void add_host_options(CLI::App& command, TargetOptions& options);

// Prints `magma COMMAND: TEXT` to stderr.
int failed(std::string_view command, std::string_view text);
// An error that is no sentence of its own: its text and detail. Nothing is printed if the reader of
// our output has gone.
int failed(std::string_view command, const Error& error, const Output* output = nullptr);

// The network of a path (or none), attached. nullptr: it was said why not, and `code` is what to
// end with.
struct Opened {
  std::unique_ptr<Network> network;
  Target target;
  int code = kDone;
};
Opened open_network(std::string_view command, const TargetOptions& options,
                    std::optional<std::string_view> path = std::nullopt);

// Ends the volcano at `host` cleanly, after asking unless `yes`. The exit code.
int shut_down(const Target& target, const std::string& host, std::string_view command, bool yes);

// Why a client key will not do for `what`, and where the network key is.
std::string needs_network_key(const Target& target, std::string_view what);

// Names of this machine's users and groups, each looked up once.
client::NameSource system_names();

// A text as JSON can hold it: what is not UTF-8 is escaped as in `ls`.
std::string json_text(std::string_view text);
std::string dumped(const Json& json);  // on several lines
Json attr_json(const wire::Attr& attr);
Json holders_json(const std::vector<client::Holder>& holders);
Json flare_json(const client::Flare& flare, const std::vector<client::Holder>& holders);
std::string time_text(WallTime when);      // 2026-11-21T10:00:00Z
std::string duration_text(Duration time);  // "3 d 4 h", "12 min", "5.2 s"

// A line on the terminal that is written over; wiped at the end. Nothing is shown for what is quick
// (a second), or if stderr is no terminal.
class Progress {
 public:
  explicit Progress(sys::Clock& clock);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  // Whether a line would be shown now: making one may cost.
  bool is_due() const;
  void show(std::string_view text);
  void wipe();

 private:
  sys::Clock& clock_;
  bool is_terminal_;
  Instant begun_;
  Instant last_{};
  bool is_shown_ = false;
};

}  // namespace magma::tools
