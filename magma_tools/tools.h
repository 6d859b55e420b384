// The subcommands of `magma`, one a file. Each add_NAME adds its options and help to the command
// line; when its name was given, `chosen` becomes what is to be run. Errors go to stderr as one
// line `magma SUBCOMMAND: what failed`, naming the host or file and what to do next.
//
// Exit codes: 0 done; 1 wrong usage; 2 it failed; 4 it was done and problems were found (fsck,
// verify), or was done in part (status, when some volcanoes do not answer).
#pragma once

#include <functional>
#include <string>

#include <CLI/CLI.hpp>

namespace magma::tools {

inline constexpr int kDone = 0;
inline constexpr int kUsage = 1;
inline constexpr int kFailed = 2;
inline constexpr int kProblems = 4;

using Chosen = std::function<int()>;

void add_status(CLI::App& app, Chosen& chosen);
void add_lava(CLI::App& app, Chosen& chosen);
void add_ls(CLI::App& app, Chosen& chosen);
void add_cat(CLI::App& app, Chosen& chosen);
void add_inspect(CLI::App& app, Chosen& chosen);
void add_locate(CLI::App& app, Chosen& chosen);
void add_console(CLI::App& app, Chosen& chosen);
void add_shutdown(CLI::App& app, Chosen& chosen);
void add_sync(CLI::App& app, Chosen& chosen);
void add_verify(CLI::App& app, Chosen& chosen);
void add_bench(CLI::App& app, Chosen& chosen);
void add_keygen(CLI::App& app, Chosen& chosen);
void add_fsck(CLI::App& app, Chosen& chosen);
void add_dump(CLI::App& app, Chosen& chosen);

}  // namespace magma::tools
