// magma cat PATH...: the bytes of files, as they are.
#include "magma_tools/command.h"

namespace magma::tools {

namespace {

struct Arguments {
  TargetOptions target;
  std::vector<std::string> paths;
};

Result<void> print_file(Network& network, Output& output, const std::string& path) {
  TRY_VALUE(client::Flare flare, network.resolve(path, client::PathWalk::Last::follow));
  client::FileReader reader(network.tree(), std::move(flare), {});
  while (true) {
    TRY_VALUE(Bytes bytes, network.driver().await<Bytes>(
                               [&](client::Done<Bytes> done) { reader.next(std::move(done)); }));
    if (bytes.empty()) return {};
    TRY(output.write(bytes));
  }
}

// As cat(1): a file that fails is told, the others are still shown.
int cat(const Arguments& arguments) {
  Opened opened = open_network("cat", arguments.target, arguments.paths.front());
  if (!opened.network) return opened.code;
  Output output(opened.network->driver());
  int code = kDone;
  for (const std::string& given : arguments.paths) {
    auto path = choose_here(arguments.target, look_around(), given);
    if (!path) return failed("cat", path.error().detail), kUsage;
    if (path->hosts != opened.target.hosts)
      return failed("cat", given + " is of another network than " + arguments.paths.front()),
             kUsage;
    if (auto done = print_file(*opened.network, output, path->path); !done) {
      code = failed("cat", done.error(), &output);
      if (output.is_closed() || done.error().code == Code::interrupted) return code;
    }
  }
  return code;
}

}  // namespace

void add_cat(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("cat", "Print the bytes of files");
  auto arguments = std::make_shared<Arguments>();  // shared by the parser and `chosen`
  add_target_options(*command, arguments->target);
  command->add_option("PATH", arguments->paths, "Files; all of one network")->required();
  command->footer(
      "\nSymlinks are followed, absolute ones from the network's root. Access times do not\n"
      "change.\n"
      "Exit codes: 0 done, 1 wrong usage, 2 a file could not be read (the others were).");
  command->callback([arguments, &chosen] { chosen = [arguments] { return cat(*arguments); }; });
}

}  // namespace magma::tools
