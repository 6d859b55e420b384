// magma keygen FILE: a new network secret. magma keygen --client NETWORKKEY FILE: the client key
// of a network, for mounts: who has it can mount, but not join as a volcano.
#include <cstdio>
#include <memory>

#include "libmagma/crypto/network_key.h"
#include "libmagma/sys_real/key_file.h"
#include "libmagma/sys_real/random.h"
#include "magma_tools/tools.h"

namespace magma::tools {

namespace {

struct Arguments {
  std::string file;
  std::string client_of;  // network key file whose client key is written instead of a new secret
};

int failed(const Error& error) {
  std::fprintf(stderr, "magma keygen: %s\n",
               error.detail.empty() ? describe(error).c_str() : error.detail.c_str());
  return kFailed;
}

int keygen(const Arguments& arguments) {
  std::string text;
  if (arguments.client_of.empty()) {
    sys_real::Random random;
    text = crypto::network_key_file_text(crypto::make_secret(random));
  } else {
    auto keys = sys_real::read_key_file(arguments.client_of);
    if (!keys) return failed(keys.error());
    text = crypto::client_key_file_text(*keys);
  }
  if (auto written = sys_real::write_key_file(arguments.file, text); !written)
    return failed(written.error());
  std::printf("%s key written to %s: copy it only over a safe way\n",
              arguments.client_of.empty() ? "network" : "client", arguments.file.c_str());
  return kDone;
}

}  // namespace

void add_keygen(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("keygen", "Make a key file (mode 0600)");
  auto arguments = std::make_shared<Arguments>();  // shared by the parser and `chosen`
  command->add_option("FILE", arguments->file, "File to write; must not exist")->required();
  command->add_option("--client", arguments->client_of,
                      "Write the client key of this network key file instead");
  command->footer(
      "\nVolcanoes need the network key; for mounts and most of this tool the client key is\n"
      "enough.\n"
      "Exit codes: 0 done, 1 wrong usage, 2 failed.");
  command->callback([arguments, &chosen] { chosen = [arguments] { return keygen(*arguments); }; });
}

}  // namespace magma::tools
