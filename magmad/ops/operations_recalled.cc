// Messages between slots that wait until a client has sent the changes of names it delays.
#include <utility>

#include "magmad/ops/operations.h"
#include "magmad/shard.h"

namespace magma::ops {

// Whether the message waits for another client's delayed changes of names: it was taken then.
bool Operations::recalls_names(SlotMessage& message) {
  if (message.verb == Verb::abort && !recalled_.empty())
    std::erase_if(recalled_, [&](const Recalled& waiting) {
      return waiting.message.verb == Verb::prepare && waiting.message.op == message.op &&
             waiting.message.index == message.index && waiting.message.to == message.to;
    });
  if (message.verb != Verb::prepare && message.verb != Verb::question) return false;
  const NoticeId recall = shard_.tokens().recall_names(message.to, message.session, shard_.now());
  if (recall == 0) return false;
  recalled_.push_back({recall, shard_.now(), std::move(message)});
  return true;
}

void Operations::look_at_recalled() {
  for (Recalled& waiting : std::exchange(recalled_, {})) {
    if (shard_.tokens().is_open(waiting.recall))
      recalled_.push_back(std::move(waiting));
    else
      inbox_.push_back(std::move(waiting.message));
  }
}

// The client may be gone. Who coordinates the operation tries again.
void Operations::refuse_recalled(Instant since) {
  for (Recalled& waiting : std::exchange(recalled_, {})) {
    const SlotMessage& message = waiting.message;
    if (waiting.since >= since || message.verb != Verb::prepare)
      recalled_.push_back(std::move(waiting));
    else
      send(Verb::prepared, message.op, message.index, message.to, message.from, message.kind, {},
           Code::locked);
  }
}

}  // namespace magma::ops
