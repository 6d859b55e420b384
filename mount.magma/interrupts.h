// What to do when a signal reaches a process that waits for an answer. The kernel asks to
// interrupt a request at *any* signal, timers included; answering EINTR to those would break
// programs that use them (progress timers, profilers, Go's preemption) whenever a volcano is slow
// to answer. So a request is given up only if the process is about to die or a person or
// supervisor asked it to stop; else the signal waits, and is looked at again every now and then,
// because the kernel asks only once. The loop's thread only.
#pragma once

#include <sys/types.h>

#include <string_view>
#include <vector>

#include "libmagma/base/time.h"
#include "libmagma/client/client.h"

struct fuse_req;

namespace magma::mount {

// Whether the signals in a /proc/PID/status say that a process wants to stop waiting.
bool wants_to_stop(std::string_view proc_status);
// The same for a process or thread; true if it can't be told (gone, or of another namespace).
bool wants_to_stop(pid_t pid);

class Interrupts {
 public:
  static constexpr Duration kLookAgain = milliseconds(200);

  struct Waiting {
    fuse_req* request;
    client::CallId call;
    pid_t pid;
  };

  void add(Waiting waiting, Instant now);
  // The request now waits for another call; false if it isn't here.
  bool set_call(fuse_req* request, client::CallId call);
  void remove(fuse_req* request);
  Instant deadline() const { return waiting_.empty() ? Instant::never() : next_; }
  // Calls to be cancelled now.
  std::vector<client::CallId> due(Instant now);

 private:
  std::vector<Waiting> waiting_;  // few: at most the requests under way
  Instant next_{};
};

}  // namespace magma::mount
