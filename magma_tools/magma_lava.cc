// magma lava: the ring, and what is done to its volcanoes.
#include <cstdio>

#include <fmt/format.h>

#include "magma_tools/command.h"
#include "magma_tools/ring_text.h"

namespace magma::tools {

namespace {

struct Arguments {
  TargetOptions target;
  std::string node;
  bool json = false;
  bool yes = false;
};

int target_failed(const Error& error) {
  failed("lava", error.detail);
  return error.code == Code::invalid ? kUsage : kFailed;
}

int show(const Arguments& arguments) {
  auto target = find_target(arguments.target, look_around());
  if (!target) return target_failed(target.error());
  auto ring = ask_ring(*target);
  if (!ring) return failed("lava", ring.error());
  std::fputs((arguments.json ? dumped(ring_json(*ring)) : ring_text(*ring)).c_str(), stdout);
  if (std::fflush(stdout) != 0) return failed("lava", "standard output cannot be written");
  return kDone;
}

int stop(const Arguments& arguments) {
  auto target = find_target(arguments.target, look_around());
  if (!target) return target_failed(target.error());
  auto ring = ask_ring(*target);
  if (!ring) return failed("lava", ring.error());
  const wire::RingVolcano* volcano = find_volcano(*ring, arguments.node);
  if (volcano == nullptr)
    return failed("lava",
                  "the ring has no volcano " + arguments.node + ": `magma lava` lists them");
  return shut_down(*target, volcano->flare, "lava", arguments.yes);
}

}  // namespace

void add_lava(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("lava", "The lava ring, and its volcanoes");
  auto arguments = std::make_shared<Arguments>();  // shared by the parsers and `chosen`
  add_target_options(*command, arguments->target);
  command->add_flag("--json", arguments->json, "As JSON");
  command->add_flag("-y,--yes", arguments->yes, "With stop: do not ask");
  command->footer(
      "\nWithout a subcommand: the ring, as a volcano of it knows it.\n"
      "Exit codes: 0 done, 1 wrong usage, 2 failed.");
  command->require_subcommand(0, 1);
  CLI::App* stop_command =
      command->add_subcommand("stop", "Ends the volcano NODE (nick, full name or address) cleanly");
  stop_command->add_option("NODE", arguments->node, "Which")->required();
  stop_command->fallthrough();  // options of `lava` may follow
  stop_command->footer(
      "\nNeeds the network key. The volcano stays in the ring: its slots wait until it is back.\n"
      "Exit codes: 0 it answers no more, 1 wrong usage, 2 failed or not confirmed.");
  command->callback([arguments, stop_command, &chosen] {
    const bool stops = stop_command->parsed();
    chosen = [arguments, stops] { return stops ? stop(*arguments) : show(*arguments); };
  });
}

}  // namespace magma::tools
