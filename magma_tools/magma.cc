// magma: the operator's tool. One subcommand a file (magma_*.cc); this is their table.
#include <cstdio>

#include <CLI/CLI.hpp>

#include "config.h"
#include "magma_tools/tools.h"

int main(int argc, char** argv) {
  using namespace magma::tools;
  CLI::App app{"Tools for Magma lava networks."};
  app.set_version_flag("-V,--version", std::string("magma ") + PACKAGE_VERSION);
  app.require_subcommand(1);

  KeygenArguments keygen_arguments;
  CLI::App* keygen_command = app.add_subcommand("keygen", "Make a key file (mode 0600)");
  keygen_command->add_option("FILE", keygen_arguments.file, "File to write; must not exist")
      ->required();
  keygen_command->add_option("--client", keygen_arguments.client_of,
                             "Write the client key of this network key file instead");

  FsckArguments fsck_arguments;
  CLI::App* fsck_command =
      app.add_subcommand("fsck", "Check a storage directory whose volcano is stopped");
  fsck_command->add_option("DIR", fsck_arguments.directory, "Storage directory (magmad -d)")
      ->required();
  fsck_command->add_flag("--deep", fsck_arguments.deep, "Also compare content with its checksums");
  fsck_command->add_flag("--json", fsck_arguments.json, "Report as JSON");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    int code = app.exit(error);
    return code == 0 ? kDone : kUsage;
  }
  if (keygen_command->parsed()) return keygen(keygen_arguments);
  if (fsck_command->parsed()) return fsck(fsck_arguments);
  return kUsage;
}
