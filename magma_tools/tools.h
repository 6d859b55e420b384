// The subcommands of `magma`: each takes its parsed arguments and returns an exit code. Errors go
// to stderr as one line `magma SUBCOMMAND: what failed`.
//
// Exit codes: 0 done; 1 wrong usage; 2 it failed; fsck: 4 problems were found (as fsck(8)).
#pragma once

#include <string>

namespace magma::tools {

inline constexpr int kDone = 0;
inline constexpr int kUsage = 1;
inline constexpr int kFailed = 2;
inline constexpr int kProblems = 4;

struct KeygenArguments {
  std::string file;
  std::string client_of;  // network key file whose client key is written instead of a new secret
};
int keygen(const KeygenArguments& arguments);

struct FsckArguments {
  std::string directory;
  bool deep = false;
  bool json = false;
};
int fsck(const FsckArguments& arguments);

}  // namespace magma::tools
