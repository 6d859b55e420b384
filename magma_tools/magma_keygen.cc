// magma keygen FILE: a new network secret. magma keygen --client NETWORKKEY FILE: the client key
// of a network, for mounts: who has it can mount, but not join as a volcano.
#include <cstdio>

#include "libmagma/crypto/network_key.h"
#include "libmagma/sys_real/key_file.h"
#include "libmagma/sys_real/random.h"
#include "magma_tools/tools.h"

namespace magma::tools {

namespace {

int failed(const Error& error) {
  std::fprintf(stderr, "magma keygen: %s\n",
               error.detail.empty() ? describe(error).c_str() : error.detail.c_str());
  return kFailed;
}

}  // namespace

int keygen(const KeygenArguments& arguments) {
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

}  // namespace magma::tools
