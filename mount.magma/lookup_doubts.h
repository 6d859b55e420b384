// Look-ups that may be one half of a rename.
//
// rename(2) locks both directories, finds the source among the names the kernel believes, and asks
// for the target. If another mount renames the same file the same way meanwhile, the source is
// stale (the kernel cannot forget it: the directory is locked) and the answer says that the target
// is that very file. The kernel then takes source and target for two links of one file and says
// that it is done, without asking anybody (vfs_rename; rename(2)): two callers would both believe
// that they had moved it.
//
// So an answer that may be such a one is ESTALE first. The kernel lets its locks go and walks the
// path again, asking about every name (LOOKUP_REVAL). Twice in a row it would come to the caller,
// so the second answer says what is there. If that is in doubt again, the flare is told under
// another number (InodeTable::renew; not a directory). So it is if the kernel had something else
// under the name: then ESTALE makes it let go of that and ask again, under the same locks.
//
// Pure; one thread.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_map>

#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"

namespace magma::mount {

class LookupDoubts {
 public:
  // An answer that took longer may say what became so after the kernel's belief in another name of
  // the flare has ended: names are given to the kernel for so much less than they are believed.
  static constexpr Duration kSlow = milliseconds(200);
  // A thread that is to ask again is not told so about another name until it has, for so long.
  static constexpr Duration kRetryMax = seconds(60);
  static constexpr std::size_t kThreadsMax = 1024;

  enum class Answer : std::uint8_t {
    tell,
    ask_again,   // ESTALE
    tell_apart,  // as a flare of another number
  };

  // What is to be answered to `thread` (0: not known), which asked for `name` in `dir`.
  // `in_doubt`: the flare found may be known to the kernel under a name that is stale.
  Answer judge(pid_t thread, Ino dir, std::string_view name, bool in_doubt, Instant now);
  // The name is not there: the walk of the thread ends.
  void absent(pid_t thread) {
    if (!threads_.empty()) threads_.erase(thread);
  }
  std::size_t size() const { return threads_.size(); }

 private:
  struct Refused {
    Ino dir;
    std::string name;
    Instant at;
  };

  bool has_room(Instant now);

  std::unordered_map<pid_t, Refused> threads_;
};

}  // namespace magma::mount
