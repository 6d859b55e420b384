// Packets that a third one passes on: for a client that can reach some volcanoes only (`-o proxy`,
// and whoever finds a way closed). What is passed on stays sealed from end to end; who passes it on
// keeps no state of the connection, and both ends notice nothing but that the other's address has a
// relay (sys::Address). ADR 12.
//
// RELAYED PACKET, in clear, not authenticated; what it holds is (packet.h):
//   0      shard of the receiver
//   1      7, the type
//   2      where it is on its way, below
//   3      0
//   4-5    port, 6-21 IP address: of the end that is not on this leg
//   22-    the packet
//
//   client ---forward (for volcano)---> relay ---forwarded (from client)--> volcano
//   client <--returned (from volcano)-- relay <---back (for client)-------- volcano
//
// A relay passes packets on between clients that are connected to it, so have the network's key,
// and the volcanoes of its lava map. It passes on once: what it sends is never passed on again. Who
// forges the address of another can make it send no more bytes than it was sent, and only to those.
//
// Sans I/O, one thread. Used by EndpointImpl alone.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_set>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/sys/datagrams.h"

namespace magma::rpc {

inline constexpr std::size_t kRelayHeaderBytes = 22;
inline constexpr std::uint8_t kRelayType = 7;

enum class RelayLeg : std::uint8_t { forward = 1, forwarded = 2, back = 3, returned = 4 };

inline bool is_relay_packet(ByteSpan datagram) {
  return datagram.size() >= 2 && datagram[1] == kRelayType;
}

// Whom this endpoint is connected to: asked before a packet is passed on, so for packets of
// strangers, too.
class RelayClients {
 public:
  virtual ~RelayClients() = default;
  virtual bool is_connected_with(const sys::Address& client) const = 0;
};

class Relay final : public sys::Datagrams {
 public:
  struct Stats {
    std::uint64_t passed = 0, passed_bytes = 0, refused = 0;
  };
  // `accepts`: it is a volcano's, which takes packets from relays of any address.
  Relay(sys::Datagrams& datagrams, const RelayClients& clients, bool accepts)
      : datagrams_(datagrams), clients_(clients), accepts_(accepts) {}

  // Between these and its clients it passes packets on; none: it does not.
  void set_volcanoes(const std::vector<sys::Address>& volcanoes);

  // A relayed packet that came from there. For this endpoint: whom it is from, and the packet.
  struct Arrived {
    sys::Address from;
    MutableByteSpan packet;
  };
  std::optional<Arrived> take(const sys::Address& from, MutableByteSpan datagram);

  // To relayed addresses within relayed packets, to others as they are.
  void send(const sys::Address& to, ByteSpan bytes, std::size_t segment_size) override;
  bool send_probe(const sys::Address& to, ByteSpan datagram) override;
  std::size_t receive_buffer_bytes() const override { return datagrams_.receive_buffer_bytes(); }

  const Stats& stats() const { return stats_; }

 private:
  RelayLeg leg_away() const { return accepts_ ? RelayLeg::back : RelayLeg::forward; }
  void pass_on(const sys::Address& to, RelayLeg leg, const sys::Address& end,
               MutableByteSpan datagram);

  sys::Datagrams& datagrams_;
  const RelayClients& clients_;
  bool accepts_;
  std::unordered_set<sys::Address> volcanoes_;
  Bytes burst_;
  Stats stats_;
};

}  // namespace magma::rpc
