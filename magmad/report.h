// What a volcano tells operators of itself: the console shows it. A snapshot, made on the volcano's
// thread; lists are cut so that making one takes no time that a request would feel.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "magmad/store/content_store.h"

namespace magma {

struct VolcanoReport {
  struct SessionLine {
    SessionId id{};
    std::string host;
    std::uint64_t opens = 0;  // flares it holds open
    Duration silent{};        // since its last request
  };
  std::uint64_t sessions = 0;
  std::uint64_t flares_open = 0;       // by any session
  std::uint64_t locks = 0;             // entries and inodes locked by operations under way
  std::uint64_t requests_waiting = 0;  // for locks
  std::uint64_t content_files_open = 0;
  std::uint64_t wal_bytes = 0;  // of rows committed and not yet in the databases
  std::vector<SessionLine> session_lines;
  std::vector<store::ContentId> content_files;  // least recently used first
};

}  // namespace magma
