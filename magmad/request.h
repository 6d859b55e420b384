// A client's request while a volcano works on it: head, undecoded body, and whom to answer. It is
// owned by whoever must act next: the operation, a lock it waits for, an operation over several
// slots. Every request is answered exactly once or dropped with its connection.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/sys/clock.h"
#include "libmagma/wire/flare_messages.h"
#include "magmad/store/rows.h"

namespace magma {

struct ReplyTarget {
  std::uint64_t connection = 0;
  std::uint64_t request = 0;
};

struct Request {
  wire::RequestHead head;
  ReplyTarget target;
  ByteSpan body{};     // what follows the head: valid inside the handler unless keep() was called
  ByteSpan payload{};  // what follows the message (write): part of body, set anew at each handling
  Bytes kept{};
  Bytes copied{};      // the payload of a copy, read from its source
  std::optional<wire::NamesChanged> names_changed{};  // goes with the answer
  bool may_delay = false;                             // as well
  // What the answer must wait for besides what its step must (Answer).
  std::vector<std::uint64_t> waits{};
  std::uint64_t batch = 0;
  OpId applied{};
  std::optional<store::EntryRow> told_entry{};  // by another volcano

  Instant short_since{};  // when too little space was found for it

  // Copies the body so that the request may outlive the packet.
  void keep() {
    if (!kept.empty() || body.empty()) return;
    kept.assign(body.begin(), body.end());
    body = kept;
  }
  wire::FlareOp op() const { return static_cast<wire::FlareOp>(head.op); }
};
using RequestPtr = std::unique_ptr<Request>;

}  // namespace magma
