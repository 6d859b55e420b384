// The commands of the console: one table, in commands.cc. A command is matched by whole words
// (`print cache`), case does not count; its arguments are the words that follow.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "magmad/console/session.h"

namespace magma::console {

using Arguments = std::vector<std::string>;

struct Command {
  std::string_view name;       // lower case, one blank between words
  std::string_view arguments;  // for help: "[PATH]"
  std::string_view help;       // one line
  Rights needs = Rights::all;
  unsigned arguments_min = 0;
  unsigned arguments_max = 0;
  // Nothing: it has ended already.
  std::unique_ptr<Running> (*run)(Session& session, Arguments arguments) = nullptr;
};
std::span<const Command> commands();

// Runs one line; says what is wrong with it. Nothing: it has ended already.
std::unique_ptr<Running> run_line(Session& session, std::string_view line);

// Commands over files (file_commands.cc).
std::unique_ptr<Running> run_cd(Session& session, Arguments arguments);
std::unique_ptr<Running> run_ls(Session& session, Arguments arguments);
std::unique_ptr<Running> run_cat(Session& session, Arguments arguments);
std::unique_ptr<Running> run_inspect(Session& session, Arguments arguments);
std::unique_ptr<Running> run_erase(Session& session, Arguments arguments);

}  // namespace magma::console
