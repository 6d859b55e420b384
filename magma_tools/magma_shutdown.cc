// magma shutdown [HOST]: ends a volcano cleanly, and waits until it answers no more; with --all the
// whole ring.
#include <unistd.h>

#include <cstdio>

#include <fmt/format.h>

#include "libmagma/client/ring_stop.h"
#include "magma_tools/command.h"
#include "magma_tools/ring_text.h"

namespace magma::tools {

namespace {

constexpr Duration kEndPatience = seconds(60);  // for its last syncs
constexpr Duration kProbePatience = milliseconds(500);

struct Arguments {
  TargetOptions target;
  bool yes = false;
  bool all = false;
};

std::string user_text() {
  const char* name = ::getlogin();
  char host[256] = {};
  if (::gethostname(host, sizeof host - 1) != 0) host[0] = '\0';
  return std::string(name == nullptr ? "uid " + std::to_string(::getuid()) : name) + "@" + host;
}

// On a terminal somebody is asked; without one --yes must be given.
bool is_confirmed(std::string_view command, bool yes, const std::string& question) {
  if (yes) return true;
  if (::isatty(STDIN_FILENO) != 1) {
    failed(command, "nobody can be asked here: give --yes");
    return false;
  }
  std::fprintf(stderr, "%s [y/N] ", client::printable(question).c_str());
  char answer[16] = {};
  const bool is_yes =
      std::fgets(answer, sizeof answer, stdin) != nullptr && (answer[0] == 'y' || answer[0] == 'Y');
  if (!is_yes) failed(command, "not confirmed: nothing was done");
  return is_yes;
}

// Waits until nobody answers at the address any more.
Result<bool> has_ended(const Target& target, const std::string& host) {
  sys_real::Clock clock;
  const Instant until = clock.now() + kEndPatience;
  while (clock.now() < until) {
    TRY_VALUE(auto driver, Driver::make());
    TRY_VALUE(auto addresses, addresses_of(target, host));
    client::HostLink link(target.keys, driver->clock(), driver->random(), driver->udp());
    driver->drive(link);
    auto connected = driver->await<sys::Address>([&](client::Done<sys::Address> done) {
      link.connect(addresses, crypto::Role::ring, kProbePatience, std::move(done));
    });
    // One that ends in the middle of the handshake looks as if the key were wrong.
    const bool is_ending = !connected && connected.error().code == Code::wrong_key;
    if (!connected && !is_ending && connected.error().code != Code::unreachable)
      return fail(connected.error());
    if (!connected && !is_ending) return true;
    link.close();
    link.flush();
    TRY(driver->pause(milliseconds(50)));
  }
  return false;
}

struct Ended {
  std::size_t ended = 0, away = 0, others = 0;
};

// Prints a line for each as it ends.
Result<Ended> end_all(const Target& target, std::vector<client::StopStep> steps) {
  Ended result;
  TRY_VALUE(auto driver, Driver::make());
  Driver& d = *driver;
  std::unique_ptr<client::RingStop> stop;
  auto tell = [&](const client::StopStep& step, client::StopResult how, std::string_view detail) {
    const bool is_good = how == client::StopResult::ended;
    ++(is_good ? result.ended : how == client::StopResult::away ? result.away : result.others);
    const std::string text = client::printable(client::stop_text(step, how, detail));
    if (!is_good) return (void)failed("shutdown", text);
    std::printf("%s\n", text.c_str());
    std::fflush(stdout);
  };
  bool is_over = false;
  client::Done<bool> over;
  stop = std::make_unique<client::RingStop>(std::move(steps), user_text(), target.keys, d.clock(),
                                            d.random(), d.udp(), std::move(tell), [&] {
                                              is_over = true;
                                              if (over) over(true);
                                            });
  d.drive(*stop);
  TRY(d.await<bool>([&](client::Done<bool> done) {
    over = std::move(done);
    if (is_over) over(true);
  }));
  return result;
}

int shut_down_all(const Target& target, bool yes) {
  if (!target.keys.ring) return failed("shutdown", needs_network_key(target, "shutting down"));
  auto ring = ask_ring(target);
  if (!ring) return failed("shutdown", ring.error());
  std::vector<client::StopStep> steps = client::stop_order(*ring);
  std::string nicks;
  for (const client::StopStep& step : steps) nicks += (nicks.empty() ? "" : ", ") + step.nick;
  const std::size_t count = steps.size();
  const std::string question =
      fmt::format("Shut down the whole ring ({})? Mounts wait until it is back.", nicks);
  if (!is_confirmed("shutdown", yes, question)) return kFailed;
  auto ended = end_all(target, std::move(steps));
  if (!ended) return failed("shutdown", ended.error());
  std::printf("%zu of %zu volcanoes have ended\n", ended->ended, count);
  if (ended->others > 0) return kFailed;
  return ended->away > 0 ? kProblems : kDone;
}

int shutdown(const Arguments& arguments) {
  auto target = find_target(arguments.target, look_around());
  if (!target) {
    failed("shutdown", target.error().detail);
    return target.error().code == Code::invalid ? kUsage : kFailed;
  }
  if (arguments.all) return shut_down_all(*target, arguments.yes);
  if (target->hosts.size() != 1)
    return failed("shutdown", "name one volcano, not " + target->hosts_text()), kUsage;
  return shut_down(*target, target->hosts.front(), "shutdown", arguments.yes);
}

}  // namespace

int shut_down(const Target& target, const std::string& name, std::string_view command, bool yes) {
  if (!target.keys.ring) return failed(command, needs_network_key(target, "shutting down"));
  std::string who;
  {
    auto host = Host::connect(target, name, crypto::Role::ring);
    if (!host) return failed(command, host.error().detail);
    auto status = (*host)->ask(wire::StatusRequest{}, kAnswerPatience);
    if (!status) return failed(command, name + ": " + describe(status.error()));
    who = status->nick + " at " + status->address;
  }
  const std::string question =
      "Shut down the volcano " + who + "? Its clients wait until it is back.";
  if (!is_confirmed(command, yes, question)) return kFailed;
  {
    auto host = Host::connect(target, name, crypto::Role::ring);
    if (!host) return failed(command, host.error().detail);
    auto done = (*host)->ask(wire::ShutdownRequest{user_text()}, kAnswerPatience);
    // It may end before its answer has come through.
    if (!done && done.error().code != Code::connection_closed)
      return failed(command, name + ": " + describe(done.error()));
  }
  auto ended = has_ended(target, name);
  if (!ended) return failed(command, name + ": " + describe(ended.error()));
  if (!*ended)
    return failed(command, name + " was told to end, but still answers after " +
                               duration_text(kEndPatience) + ": look at its log");
  std::printf("%s has shut down: it answers no more\n", client::printable(who).c_str());
  return kDone;
}

void add_shutdown(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("shutdown", "End a volcano, or the whole ring, cleanly");
  auto arguments = std::make_shared<Arguments>();  // shared by the parser and `chosen`
  add_host_options(*command, arguments->target);
  command->add_flag("--all", arguments->all, "All volcanoes of the ring that HOST is of");
  command->add_flag("-y,--yes", arguments->yes, "Do not ask");
  command->footer(
      "\nNeeds the network key: with a client key it is refused. Without --all one volcano ends,\n"
      "as at SIGTERM: all is on stable storage then, and clients wait until it is back. Returns\n"
      "when it answers no more; its last writes to the disk may take its process a moment longer.\n"
      "With --all the ring ends in order: who serves first, then mirrors, which have the same\n"
      "then, the coordinator last. Each is started again as ever, in any order.\n"
      "Exit codes: 0 it answers no more, 1 wrong usage, 2 failed or not confirmed, 4 some could\n"
      "not be reached, the others have ended.");
  command->callback(
      [arguments, &chosen] { chosen = [arguments] { return shutdown(*arguments); }; });
}

}  // namespace magma::tools
