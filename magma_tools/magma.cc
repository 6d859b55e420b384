// magma: the operator's tool. One subcommand a file (magma_*.cc); this is their table.
#include <cstdio>

#include <CLI/CLI.hpp>

#include "config.h"
#include "libmagma/sys_real/memory.h"
#include "magma_tools/tools.h"

namespace {

constexpr const char* kFooter = R"(
Exit codes: 0 done; 1 wrong usage; 2 it failed; 4 problems were found (fsck, verify), or some
of several volcanoes do not answer (status).

Which network: --host, else the environment variable MAGMA_HOST, else the mount that PATH lies
below. With a named host PATH is a path of the network ("/a/b"), else one of this machine
("/mnt/magma/a/b"). Which key: --key-file, else MAGMA_KEY_FILE, else /etc/magma/key.
`magma SUBCOMMAND --help` tells the options of each.)";

}  // namespace

int main(int argc, char** argv) {
  using namespace magma::tools;
  magma::sys_real::keep_large_buffers();
  CLI::App app{"Tools for Magma lava networks.", "magma"};
  app.set_version_flag("-V,--version", std::string("magma ") + PACKAGE_VERSION);
  app.require_subcommand(1);
  app.footer(kFooter);

  Chosen chosen;
  add_status(app, chosen);
  add_lava(app, chosen);
  add_ls(app, chosen);
  add_cat(app, chosen);
  add_inspect(app, chosen);
  add_locate(app, chosen);
  add_console(app, chosen);
  add_shutdown(app, chosen);
  add_sync(app, chosen);
  add_verify(app, chosen);
  add_bench(app, chosen);
  add_keygen(app, chosen);
  add_fsck(app, chosen);
  add_dump(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kDone : kUsage;
  }
  return chosen ? chosen() : kUsage;
}
