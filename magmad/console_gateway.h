// The console of a volcano as the flare protocol's `console` operation needs it (HostRequests):
// people who have the network key talk to it through `magma console`, without its TCP port. The
// console implements this; a volcano without one answers that it has none.
//
// Sans I/O, the volcano's thread. A talk is named by a number that its opener chooses; it is open
// from a successful open() to close(). Bounds are the console's: it takes no more input than
// wants_input() allows, and keeps a bounded output until it is taken.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "libmagma/base/bytes.h"
#include "libmagma/base/result.h"
#include "libmagma/base/unique_function.h"

namespace magma {

class ConsoleGateway {
 public:
  using TalkId = std::uint64_t;

  virtual ~ConsoleGateway() = default;
  // Begins a talk with somebody who has shown the network key, so with all rights, and who speaks
  // no telnet. `who` is for logs: an address. `changed` is called when there is output, room for
  // input or an end where there was none before: never from within a call of this interface, and
  // whatever it calls of this interface, close() included, must be fine.
  // Errors: overloaded (too many talks), exists.
  virtual Result<void> open(TalkId talk, std::string_view who, UniqueFunction<void()> changed) = 0;
  // What was typed. Requires: open, wants_input().
  virtual void input(TalkId talk, ByteSpan bytes) = 0;
  virtual bool wants_input(TalkId talk) const = 0;
  // Takes up to `bytes_max` of what the console has said; nothing if there is none.
  virtual Bytes take_output(TalkId talk, std::size_t bytes_max) = 0;
  // It has ended from the console's side, and all output was taken.
  virtual bool has_ended(TalkId talk) const = 0;
  // The talk is over: breaks off what runs in it and forgets it. Fine if it is not open.
  virtual void close(TalkId talk) = 0;
};

}  // namespace magma
