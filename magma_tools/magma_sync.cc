// magma sync DIR: everything written through the mount at DIR is on stable storage when it returns.
//
// Two steps. syncfs(2) makes the kernel hand what it still has in its page cache (pages of mmap) to
// mount.magma, which passes each write on at once. Linux tells no FUSE server of a syncfs, other
// than virtiofs, so that alone makes nothing durable: then each volcano of the network is asked
// (`sync`) to bring all that it has acknowledged to stable storage.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>

#include "magma_tools/command.h"

namespace magma::tools {

namespace {

constexpr Duration kSyncPatience = seconds(120);

struct Arguments {
  TargetOptions target;
  std::string directory;
};

// As a user writes it, the path decides: what is named besides only says how to get there.
Result<Target> find_mount(const Arguments& arguments) {
  Surroundings around = look_around();
  around.host.clear();
  TargetOptions options = arguments.target;
  options.hosts.clear();
  TRY_VALUE(Target target, find_target(options, around, arguments.directory));
  if (!arguments.target.hosts.empty()) {
    TRY_VALUE(target.hosts, parse_hosts(arguments.target.hosts));
  }
  return target;
}

Result<void> sync_kernel(const std::string& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return fail(code_of_errno(errno), directory + ": " + std::strerror(errno));
  const int result = ::syncfs(fd);
  const int error = errno;
  ::close(fd);
  if (result != 0)
    return fail(code_of_errno(error),
                directory + ": an earlier write has failed: " + std::strerror(error));
  return {};
}

// Addresses of all volcanoes of the network.
Result<std::set<std::string>> volcanoes_of(const Target& target) {
  TRY_VALUE(auto network, Network::attach(target));
  std::set<std::string> addresses;
  for (const wire::MapRun& run : network->attached().map)
    addresses.insert(run.replicas.begin(), run.replicas.end());
  return addresses;
}

Result<void> sync_volcano(const Target& target, const std::string& address) {
  TRY_VALUE(auto host, Host::connect(target, address, crypto::Role::client));
  auto done = host->ask(wire::SyncRequest{}, kSyncPatience);
  if (!done) return fail(done.error().code, address + ": " + describe(done.error()));
  return {};
}

int sync(const Arguments& arguments) {
  auto target = find_mount(arguments);
  if (!target) {
    failed("sync", target.error().detail);
    return target.error().code == Code::invalid ? kUsage : kFailed;
  }
  sys_real::Clock clock;
  const Instant begun = clock.now();
  if (auto done = sync_kernel(arguments.directory); !done)
    return failed("sync", done.error().detail);
  auto volcanoes = volcanoes_of(*target);
  if (!volcanoes) return failed("sync", volcanoes.error().detail);
  for (const std::string& address : *volcanoes)
    if (auto done = sync_volcano(*target, address); !done)
      return failed("sync",
                    done.error().detail.empty() ? describe(done.error()) : done.error().detail);
  std::printf("%s: all that was written is on stable storage (%zu volcano%s, %.3f s)\n",
              client::printable(target->mountpoint).c_str(), volcanoes->size(),
              volcanoes->size() == 1 ? "" : "es", (clock.now() - begun).seconds());
  return kDone;
}

}  // namespace

void add_sync(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("sync", "Make what was written through a mount durable");
  auto arguments = std::make_shared<Arguments>();  // shared by the parser and `chosen`
  add_target_options(*command, arguments->target);
  command->add_option("DIR", arguments->directory, "Any path on the mount, of this machine")
      ->required();
  command->footer(
      "\nsync(1) does not do it: the kernel tells mount.magma nothing of syncfs(2). This command\n"
      "calls syncfs(2), so that the kernel writes back what it holds of mmap, and then has\n"
      "every volcano bring all that it has acknowledged to stable storage, from whichever mount it "
      "came.\n"
      "Without it that takes up to six seconds. --host only says how to reach the volcanoes.\n"
      "Exit codes: 0 all is durable, 1 wrong usage, 2 it is not, or nobody knows.");
  command->callback([arguments, &chosen] { chosen = [arguments] { return sync(*arguments); }; });
}

}  // namespace magma::tools
