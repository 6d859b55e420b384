// What this end has received and owes an acknowledgement for. Used by a Connection; one thread.
//
// Policy: a packet that asks for an ack is acknowledged at once if it left a gap or filled one, or
// after kAckEveryBytes, or after some packets; otherwise within kAckDelay, so that a response
// usually carries the ack of its request and the next request the ack of that response.
//
// After how many packets: a sender whose window is smaller than that many waits for kAckDelay every
// round trip. So when several packets had to wait that long the number becomes half of them; with
// every acknowledgement by number it rises by one, for each costs both ends a packet.
#pragma once

#include <cstdint>

#include "libmagma/base/time.h"
#include "libmagma/rpc/packet.h"

namespace magma::rpc {

inline constexpr Duration kAckDelay = milliseconds(5);
inline constexpr std::size_t kAckEveryBytes = 128 * 1024;
inline constexpr unsigned kAckEveryPackets = 32;     // at most; at least:
inline constexpr unsigned kAckEveryPacketsMin = 2;

class AckTracker {
 public:
  // An authenticated packet arrived. Requires: it is new (replay window).
  void on_packet(std::uint64_t number, std::size_t bytes, bool asks_for_ack, Instant now);
  bool has_ack_to_send() const { return owed_packets_ > 0; }
  bool is_due(Instant now) const { return at_once_ || (owed_packets_ > 0 && now >= due_); }
  Instant deadline() const;
  void ask_at_once() {
    if (owed_packets_ > 0) at_once_ = true;
  }

  // Appends an ack frame with as many ranges as fit. Requires: room for kAckFrameBytes and at
  // least one packet received. Returns the largest number acknowledged.
  std::uint64_t write(FrameWriter& out, Instant now);
  // The peer has seen an ack of ours that reached up to `largest`: older ranges need no repeating.
  void on_ack_seen(std::uint64_t largest);

 private:
  static constexpr unsigned kRangesMax = 64;
  void insert(std::uint64_t number);

  // Highest first.
  Frame::Range ranges_[kRangesMax];
  unsigned count_ = 0;
  unsigned owed_packets_ = 0;
  std::size_t owed_bytes_ = 0;
  bool at_once_ = false;
  unsigned every_packets_ = kAckEveryPacketsMin * 4;
  Instant due_{};
  Instant largest_at_{};
};

}  // namespace magma::rpc
