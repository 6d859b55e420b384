#include "magmad/console/commands.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "libmagma/base/log.h"
#include "magmad/console/text.h"
#include "magmad/store/content_store.h"

namespace magma::console {

namespace {

using RunningPtr = std::unique_ptr<Running>;

// What a command that changes something leaves in the log.
void log_command(const Session& session, std::string_view what) {
  log_info("console_command who={} command={}", session.who(), what);
}

// Lines, as many at a time as there is room for.
class Lines final : public Running {
 public:
  Lines(Session& session, std::vector<std::string> lines)
      : session_(session), lines_(std::move(lines)) {}
  void go_on() override {
    while (at_ < lines_.size() && session_.has_room()) session_.say(lines_[at_++]);
  }
  bool is_done() const override { return at_ == lines_.size(); }

 private:
  Session& session_;
  std::vector<std::string> lines_;
  std::size_t at_ = 0;
};

RunningPtr say_lines(Session& session, std::vector<std::string> lines) {
  return std::make_unique<Lines>(session, std::move(lines));
}

// ---- the console itself

std::string syntax_of(const Command& command) {
  std::string text(command.name);
  if (!command.arguments.empty()) text += " " + std::string(command.arguments);
  return text;
}

RunningPtr run_help(Session& session, Arguments) {
  std::size_t width = 0;
  for (const Command& command : commands()) width = std::max(width, syntax_of(command).size());
  std::vector<std::string> lines;
  for (const Command& command : commands()) {
    const bool is_refused = command.needs == Rights::all && session.rights() == Rights::guest;
    lines.push_back(fmt::format("{:>{}}  {}{}", syntax_of(command), width, command.help,
                                is_refused ? " (after login)" : ""));
  }
  return say_lines(session, std::move(lines));
}

RunningPtr run_pwd(Session& session, Arguments) {
  session.say(client::printable(session.cwd()));
  return nullptr;
}

RunningPtr run_exit(Session& session, Arguments) {
  session.say("Goodbye.");
  session.leave();
  return nullptr;
}

RunningPtr run_login(Session& session, Arguments) {
  if (session.rights() == Rights::all)
    session.say("You may use all commands already.");
  else
    session.ask_key();
  return nullptr;
}

// ---- the volcano

void say_volcano(Session& session, const LavaLine& line) {
  session.say(fmt::format("{} ({})", line.nick, line.fqdn));
  session.say("  address     " + line.address);
  session.say("  alive       " + line.alive);
  if (!line.state.empty()) session.say("  state       " + line.state);
  if (!line.vote.empty()) session.say("  vote        " + line.vote);
  if (!line.holds.empty()) session.say("  holds       " + line.holds);
  for (const ring::Slice& slice : line.slices) {
    session.say("  start key   " + slice.start_key().hex());
    session.say("  stop key    " + slice.stop_key().hex());
  }
  session.say("  keys        " + (line.keys ? std::to_string(*line.keys) : "not counted yet"));
  session.say("  bandwidth   not measured by this version");
  if (line.total_bytes == 0) return session.say("  storage     not known");
  session.say(fmt::format("  storage     {} free of {}", client::bytes_text(line.free_bytes),
                          client::bytes_text(line.total_bytes)));
}

void say_ring(Session& session, const LavaReport& report) {
  for (const LavaLine& line : report.lines) say_volcano(session, line);
  if (report.health.empty()) return;
  session.say("Copies: " + report.copies + ".");
  session.say("The ring is " + report.health + ".");
}

class Lava final : public Running {
 public:
  explicit Lava(Session& session) : session_(session) {}
  void go_on() override {
    if (std::exchange(is_asked_, true)) return;
    pending_ = session_.backend().lava([this](Result<LavaReport> report) {
      is_done_ = true;
      if (!report)
        session_.complain("lava", report.error());
      else
        say_ring(session_, *report);
      session_.pump();
    });
  }
  bool is_done() const override { return is_done_; }

 private:
  Session& session_;
  PendingPtr pending_;
  bool is_asked_ = false;
  bool is_done_ = false;
};

RunningPtr run_lava(Session& session, Arguments) { return std::make_unique<Lava>(session); }

RunningPtr run_cache_load(Session& session, Arguments) {
  std::vector<std::string> lines{"Held in memory of what is on disk:"};
  for (const CacheReport::Load& load : session.backend().caches().loads)
    lines.push_back(fmt::format("{:>10}  {}{}", load.count, load.what,
                                load.note.empty() ? "" : " (" + load.note + ")"));
  return say_lines(session, std::move(lines));
}

RunningPtr run_print_cache(Session& session, Arguments) {
  const CacheReport report = session.backend().caches();
  std::vector<std::string> lines{
      "Content files held open, least recently used first ([inode] [chunk] [slot]):"};
  for (const CacheReport::File& file : report.files)
    lines.push_back(
        fmt::format("[{:016x}] [{}] [{:03x}]", file.ino.value, file.chunk, file.slot.value));
  if (report.files_more > 0) lines.push_back(fmt::format("and {} more", report.files_more));
  lines.push_back("Sessions of mounts and tools ([session] [silent for] [opens] host):");
  for (const CacheReport::SessionLine& session_line : report.sessions)
    lines.push_back(fmt::format("[{:016x}] [{:.1f} s] [{}] {}", session_line.id,
                                session_line.silent.seconds(), session_line.opens,
                                client::printable(session_line.host)));
  if (report.sessions_more > 0) lines.push_back(fmt::format("and {} more", report.sessions_more));
  return say_lines(session, std::move(lines));
}

RunningPtr run_print_acl(Session& session, Arguments) {
  return say_lines(session, describe_access(session.backend().rules()));
}

std::string channel_line(const LogChannel& channel) {
  const bool is_on = channel.is_always_on || log_enabled(channel.letter);
  return fmt::format("[{}] {}  {}{}", is_on ? '*' : ' ', channel.letter, channel.what,
                     channel.is_always_on ? " (always on)" : "");
}

RunningPtr run_print_debug(Session& session, Arguments) {
  std::vector<std::string> lines;
  for (const LogChannel& channel : kLogChannels) lines.push_back(channel_line(channel));
  return say_lines(session, std::move(lines));
}

void switch_channel(Session& session, const std::string& name, bool on) {
  const auto* found = std::find_if(kLogChannels.begin(), kLogChannels.end(), [&](const auto& c) {
    return name.size() == 1 && c.letter == name[0];
  });
  if (found == kLogChannels.end())
    return session.say(
        fmt::format("There is no channel '{}': print debug lists them.", client::printable(name)));
  if (found->is_always_on && !on)
    return session.say(fmt::format("Channel {} ({}) is always on.", name, found->what));
  log_command(session, fmt::format("debug {} {}", on ? "on" : "off", name));
  log_enable(found->letter, on);
  session.say(channel_line(*found));
}

RunningPtr run_debug_on(Session& session, Arguments arguments) {
  switch_channel(session, arguments[0], true);
  return nullptr;
}
RunningPtr run_debug_off(Session& session, Arguments arguments) {
  switch_channel(session, arguments[0], false);
  return nullptr;
}

// The other volcanoes first: a line for each. Who has left by then changes nothing.
class Shutdown final : public Running {
 public:
  explicit Shutdown(Session& session) : session_(session) {}
  void go_on() override {
    if (std::exchange(is_asked_, true)) return;
    session_.say("The network stops: everything is synced, mounts wait until it is started again.");
    pending_ = session_.backend().shut_down(
        session_.who(),
        [this](std::string line) {
          session_.say(line);
          session_.pump();
        },
        [this] {
          is_done_ = true;
          session_.leave();
          session_.pump();
        });
  }
  bool is_done() const override { return is_done_; }

 private:
  Session& session_;
  PendingPtr pending_;
  bool is_asked_ = false;
  bool is_done_ = false;
};

RunningPtr run_shutdown(Session& session, Arguments) {
  log_command(session, "shutdown");
  return std::make_unique<Shutdown>(session);
}

constexpr Command kCommands[] = {
    {"help", "", "this list", Rights::guest, 0, 0, run_help},
    {"pwd", "", "the present directory", Rights::guest, 0, 0, run_pwd},
    {"cd", "[PATH]", "goes to a directory; / if none is named", Rights::all, 0, 1, run_cd},
    {"ls", "[PATH]", "lists a directory, or shows one file", Rights::all, 0, 1, run_ls},
    {"cat", "PATH", "the content of a file, as it is", Rights::all, 1, 1, run_cat},
    {"inspect", "[PATH]", "type, owner, size, key and volcano of a flare and of its parent",
     Rights::all, 0, 1, run_inspect},
    {"erase", "PATH", "removes a file; directories are refused", Rights::all, 1, 1, run_erase},
    {"lava", "", "the volcanoes: what they hold, storage, whether they are alive", Rights::all, 0,
     0, run_lava},
    {"cache load", "", "how much is held in memory", Rights::all, 0, 0, run_cache_load},
    {"print cache", "", "open content files and sessions", Rights::all, 0, 0, run_print_cache},
    {"print debug", "", "the log channels, [*] those that are on", Rights::all, 0, 0,
     run_print_debug},
    {"print acl", "", "who may connect to what", Rights::guest, 0, 0, run_print_acl},
    {"debug on", "X", "switches log channel X on", Rights::all, 1, 1, run_debug_on},
    {"debug off", "X", "switches log channel X off", Rights::all, 1, 1, run_debug_off},
    {"login", "", "asks for the network key; all commands after", Rights::guest, 0, 0, run_login},
    {"exit", "", "ends this session", Rights::guest, 0, 0, run_exit},
    {"quit", "", "the same", Rights::guest, 0, 0, run_exit},
    {"shutdown", "", "stops the whole network, cleanly", Rights::all, 0, 0, run_shutdown},
};

// How many of `words` are the command's name; 0: it is another.
std::size_t match(const Command& command, const Arguments& words) {
  std::string_view name = command.name;
  std::size_t count = 0;
  while (!name.empty()) {
    const std::string_view word = name.substr(0, name.find(' '));
    if (count == words.size() || !same_word(words[count], word)) return 0;
    name.remove_prefix(std::min(name.size(), word.size() + 1));
    ++count;
  }
  return count;
}

// The whole syntaxes of commands that begin with this word: what may have been meant.
std::string suggestion(const std::string& word) {
  std::string text;
  for (const Command& command : commands())
    if (same_word(command.name.substr(0, command.name.find(' ')), word))
      text += (text.empty() ? "" : ", ") + syntax_of(command);
  return text;
}

}  // namespace

std::span<const Command> commands() { return kCommands; }

std::unique_ptr<Running> run_line(Session& session, std::string_view line) {
  auto words = split_words(line);
  if (!words) {
    session.say("This cannot be read: " + words.error().detail + ".");
    return nullptr;
  }
  if (words->empty()) return nullptr;
  for (const Command& command : commands()) {
    const std::size_t count = match(command, *words);
    if (count == 0) continue;
    const std::size_t given = words->size() - count;
    if (given < command.arguments_min || given > command.arguments_max) {
      session.say(fmt::format("{} arguments. Usage: {}",
                              given < command.arguments_min ? "Too few" : "Too many",
                              syntax_of(command)));
      return nullptr;
    }
    if (command.needs == Rights::all && session.rights() == Rights::guest) {
      session.say(fmt::format("{} is for root, for the user magmad runs as, and after login.",
                              command.name));
      return nullptr;
    }
    words->erase(words->begin(), words->begin() + static_cast<std::ptrdiff_t>(count));
    return command.run(session, std::move(*words));
  }
  const std::string meant = suggestion(words->front());
  session.say(meant.empty() ? fmt::format("Command unknown: {}. Type help to see the commands.",
                                          client::printable(words->front()))
                            : fmt::format("Command unknown. Did you mean: {}?", meant));
  return nullptr;
}

}  // namespace magma::console
