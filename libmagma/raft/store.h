// Where a Raft node keeps what must survive a crash. Real: magmad/store/raft_store.h; tests have
// one in memory that forgets what was not synced. Calls block; one thread at a time.
#pragma once

#include "libmagma/base/result.h"
#include "libmagma/raft/events.h"
#include "libmagma/raft/types.h"

namespace magma::raft {

class Store {
 public:
  virtual ~Store() = default;
  // All that was ever written, as Raft's constructor wants it; Stored{} if nothing was. Bytes that
  // can't be right are Code::malformed: the node must not start, as it may have voted.
  virtual Result<Stored> load() = 0;
  // Does what Persist says, all or nothing, and returns when it is on stable storage. Requires:
  // sequences rise. An error is final: nothing may be sent any more that waits for this, and the
  // next start decides what was written.
  virtual Result<void> write(const Persist& persist) = 0;
};

}  // namespace magma::raft
