// magma console [HOST]: a talk with a volcano's console over the flare protocol: authenticated and
// sealed, with no port but the flare port.
//
// The console works line by line and does not echo, so a terminal keeps its own line editing.
// Ctrl-C breaks off the command that runs, as with telnet; three in a row end the talk.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "magma_tools/command.h"

namespace magma::tools {

namespace {

constexpr unsigned kInterruptsMax = 3;  // without a word of the console between
constexpr std::uint8_t kBreak = 0x03;   // what ^C and ^D send
constexpr std::uint8_t kEnd = 0x04;

struct Arguments {
  TargetOptions target;
};

class Talk {
 public:
  Talk(Host& host, std::string name)
      : host_(host), output_(host.driver()), name_(std::move(name)) {}

  int run() {
    number_ = std::max<std::uint64_t>(host_.driver().random().next(), 1);
    host_.driver().on_interrupt([this] { return interrupt(); });
    if (auto watched = watch_input(); !watched) return failed("console", watched.error());
    auto talked = talk();
    if (!talked) return failed("console", name_ + ": " + reason(talked.error()));
    return kDone;
  }

 private:
  Result<void> watch_input() {
    auto watch = host_.driver().loop().watch(STDIN_FILENO, sys_real::kReadable,
                                             [this](unsigned) { read_input(); });
    // A file cannot be waited for: it is read piece by piece, as the console takes it.
    is_file_ = !watch.has_value();
    if (watch) watch_ = std::move(*watch);
    return {};
  }

  Result<void> talk() {
    if (is_file_) read_input();
    while (true) {
      const Duration patience = wire::kConsolePollMax + kAnswerPatience;
      TRY_VALUE(auto reply, host_.ask(wire::ConsoleRequest{.talk = number_}, patience));
      if (input_error_) return fail(*input_error_);
      if (!reply.output.empty()) interrupts_ = 0;
      TRY(output_.write(reply.output));
      if (reply.has_ended) return {};
      send_input();  // what was refused before
    }
  }

  bool interrupt() {
    if (++interrupts_ >= kInterruptsMax) return false;
    pending_.push_back(kBreak);
    send_input();
    return true;
  }

  void read_input() {
    std::uint8_t part[wire::kConsoleInputBytesMax];
    const ssize_t got = ::read(STDIN_FILENO, part, sizeof part);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (got > 0) {
      pending_.insert(pending_.end(), part, part + got);
    } else {
      // The end leaves as ^D on an empty line does, once all commands are done.
      if (!pending_.empty() ? pending_.back() != '\n' : last_sent_ != '\n')
        pending_.push_back('\n');
      pending_.push_back(kEnd);
      input_has_ended_ = true;
    }
    watch_.reset();
    send_input();
  }

  // One request with input at a time, so that bytes come in their order.
  void send_input() {
    if (is_sending_ || pending_.empty()) return;
    is_sending_ = true;
    wire::ConsoleRequest request{.talk = number_};
    const std::size_t size = std::min(pending_.size(), wire::kConsoleInputBytesMax);
    request.input.assign(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(size));
    host_.link().call(request, kAnswerPatience, [this, size](Result<wire::ConsoleReply> reply) {
      is_sending_ = false;
      on_sent(size, reply ? std::nullopt : std::optional(reply.error()));
    });
  }

  void on_sent(std::size_t size, const std::optional<Error>& error) {
    if (error) {
      // Taken later, when the console has said something (talk).
      if (error->code == Code::overloaded) return;
      input_error_ = *error;
      return;
    }
    last_sent_ = pending_[size - 1];
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(size));
    if (!pending_.empty()) return send_input();
    if (input_has_ended_) return;
    if (is_file_) return read_input();
    if (!watch_) {
      if (auto watched = watch_input(); !watched) input_error_ = watched.error();
    }
  }

  static std::string reason(const Error& error) {
    switch (error.code) {
      case Code::unsupported: return "this volcano has no console";
      case Code::connection_closed: return "the connection was lost (has the volcano ended?)";
      case Code::interrupted: return "interrupted";
      default: return describe(error);
    }
  }

  Host& host_;
  Output output_;
  std::string name_;
  std::uint64_t number_ = 0;
  sys_real::Loop::Watch watch_;
  bool is_file_ = false;
  Bytes pending_;  // typed, not yet taken by the volcano
  std::uint8_t last_sent_ = '\n';
  bool is_sending_ = false;
  bool input_has_ended_ = false;
  std::optional<Error> input_error_{};
  unsigned interrupts_ = 0;
};

int console(const Arguments& arguments) {
  auto target = find_target(arguments.target, look_around());
  if (!target) {
    failed("console", target.error().detail);
    return target.error().code == Code::invalid ? kUsage : kFailed;
  }
  if (target->hosts.size() != 1)
    return failed("console", "name one volcano, not " + target->hosts_text()), kUsage;
  if (!target->keys.ring) return failed("console", needs_network_key(*target, "the console"));
  auto host = Host::connect(*target, target->hosts.front(), crypto::Role::ring);
  if (!host) return failed("console", host.error().detail);
  return Talk(**host, target->hosts.front()).run();
}

}  // namespace

void add_console(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("console", "Talk with a volcano's console");
  auto arguments = std::make_shared<Arguments>();  // shared by the parser and `chosen`
  add_host_options(*command, arguments->target);
  command->footer(
      "\nNeeds the network key. Lines are read from standard input (`help` lists the commands)\n"
      "and answers printed; the end of input, `exit` or `quit` leave. Ctrl-C breaks off the "
      "command\n"
      "that runs; pressed three times in a row it leaves.\n"
      "Exit codes: 0 left, 1 wrong usage, 2 failed or the connection was lost.");
  command->callback([arguments, &chosen] { chosen = [arguments] { return console(*arguments); }; });
}

}  // namespace magma::tools
