// Where a Raft node keeps what must survive a crash. Real: magmad/store/raft_store.h; tests have
// one in memory that forgets what was not synced. Calls block; one thread at a time.
#pragma once

#include <span>

#include "libmagma/base/result.h"
#include "libmagma/raft/events.h"
#include "libmagma/raft/types.h"

namespace magma::raft {

class Store {
 public:
  virtual ~Store() = default;
  // All that was ever written, as Raft's constructor wants it; Stored{} if nothing was. Bytes that
  // can't be right are Code::checksum: the node must not start, as it may have voted.
  virtual Result<Stored> load() = 0;
  // Does what each Persist says, in order, all or nothing, and returns when it is on stable
  // storage. An error is final, for this and all later writes: what waits for them must never be
  // sent, and the next start finds out what was written.
  virtual Result<void> write(std::span<const Persist> writes) = 0;
};

// What a founder writes before its node starts for the first time.
Persist founding_write(NodeId founder, Bytes state);

}  // namespace magma::raft
