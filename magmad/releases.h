// Asks volcanoes whether they no longer serve slots that the lava map has given to this one
// (wire::ReleasedRequest), again and again until they say so. Sends over the volcano's own
// endpoint; used by the Volcano, on its thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "libmagma/base/result.h"
#include "libmagma/ring/lava_map.h"
#include "libmagma/rpc/rpc.h"
#include "libmagma/sys/clock.h"

namespace magma {

// To be asked of one volcano.
struct ReleaseWanted {
  ring::VolcanoId of;
  std::string address;  // of its flare port
  ring::SlotMask slots{};
};

struct Released {
  ring::SlotMask slots{};
  std::vector<SessionId> believers{};  // as ShardConfig
  bool may_others_believe = false;
};

class Releases {
 public:
  static constexpr Duration kAskEvery = milliseconds(50);
  static constexpr Duration kAnswerMax = seconds(1);
  static constexpr Duration kDialPatience = seconds(2);

  // References outlive this.
  Releases(sys::Clock& clock, rpc::Endpoint& endpoint) : clock_(clock), endpoint_(endpoint) {}

  // From now on these, by a map of that version; what was released before by another is void.
  void ask(std::uint64_t version, std::vector<ReleaseWanted> wanted);
  // What all have released so far.
  const Released& released() const { return released_; }

  bool on_connected(rpc::ConnectionId connection);
  bool on_closed(rpc::ConnectionId connection);
  bool on_response(rpc::ConnectionId connection, rpc::RequestId request,
                   const Result<ByteSpan>& message);
  Instant deadline() const;
  void on_timer();

 private:
  struct Asked {
    ReleaseWanted wanted;
    rpc::ConnectionId connection{};
    bool is_connected = false;
    rpc::RequestId request{};  // under way; none: 0
    Instant due{};
  };
  Asked* find(rpc::ConnectionId connection);
  void send(Asked& asked);

  sys::Clock& clock_;
  rpc::Endpoint& endpoint_;
  std::uint64_t version_ = 0;
  std::vector<Asked> asked_;
  Released released_;
};

}  // namespace magma
