// magma inspect PATH: what a flare is and where it lies, and the same of its directory.
#include "magma_tools/command.h"

namespace magma::tools {

namespace {

struct Arguments {
  TargetOptions target;
  std::string path;
  bool json = false;
};

Result<void> show(const Arguments& arguments, Network& network, Output& output,
                  const std::string& path) {
  using Last = client::PathWalk::Last;
  TRY_VALUE(client::Flare flare, network.resolve(path, Last::keep));
  TRY_VALUE(client::Flare parent, network.resolve(flare.parent_path, Last::keep));
  const auto holders = network.holders(flare.slot);
  const auto parent_holders = network.holders(parent.slot);
  if (arguments.json) {
    TRY(output.print(dumped(
        {{"flare", flare_json(flare, holders)}, {"parent", flare_json(parent, parent_holders)}})));
  } else {
    client::NameSource names = system_names();
    TRY(output.print(client::inspect_text(flare, holders, names)));
    TRY(output.line("parent"));
    TRY(output.print(client::inspect_text(parent, parent_holders, names)));
  }
  return output.flush();
}

int inspect(const Arguments& arguments) {
  Opened opened = open_network("inspect", arguments.target, arguments.path);
  if (!opened.network) return opened.code;
  Output output(opened.network->driver());
  auto shown = show(arguments, *opened.network, output, opened.target.path);
  return shown ? kDone : failed("inspect", shown.error(), &output);
}

}  // namespace

void add_inspect(CLI::App& app, Chosen& chosen) {
  CLI::App* command =
      app.add_subcommand("inspect", "Show a flare's attributes, key, slot and owner");
  auto arguments = std::make_shared<Arguments>();  // shared by the parser and `chosen`
  add_target_options(*command, arguments->target);
  command->add_option("PATH", arguments->path, "Any flare; a symlink is shown itself")->required();
  command->add_flag("--json", arguments->json, "As JSON: flare, parent");
  command->footer(
      "\nAfter the flare, its directory is shown in the same way. The key is the SHA-1 of the\n"
      "path, or the one that a directory or large file was made with. The slot says which\n"
      "volcanoes hold the flare: of small files it is their directory's.\n"
      "Exit codes: 0 done, 1 wrong usage, 2 failed.");
  command->callback([arguments, &chosen] { chosen = [arguments] { return inspect(*arguments); }; });
}

}  // namespace magma::tools
