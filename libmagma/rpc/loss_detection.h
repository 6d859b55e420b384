// What was sent and not yet acknowledged, after RFC 9002: round-trip time, loss by packet and time
// threshold, probe timeout. Used by a Connection; one thread.
//
// Packets stand in a ring by number, their frames in a second ring in the same order, so neither
// sending nor acknowledging allocates in the steady state. A packet declared lost stays in the
// ring for a while: an acknowledgement that comes later after all shows the loss to be spurious
// and raises the packet threshold.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "libmagma/base/check.h"
#include "libmagma/base/time.h"
#include "libmagma/rpc/packet.h"

namespace magma::rpc {

// What a sent packet carried, enough to acknowledge it or to send it again.
struct SentFrame {
  FrameType type{};
  bool is_response = false;       // grants
  std::uint32_t slot = 0;         // messages: place of the OutMessage
  std::uint32_t generation = 0;   // messages: of that place
  std::uint32_t offset = 0;       // messages; value of a control frame
  std::uint32_t length = 0;       // messages; code of a control frame
  std::uint64_t id = 0;           // control frames
};

struct SentPacket {
  enum class State : std::uint8_t { in_flight, acked, lost };
  State state = State::in_flight;
  bool asks_for_ack = false;
  bool was_limited = false;           // the congestion window held the sender back then
  bool has_ack = false;
  bool is_path_probe = false;         // of the path's MTU: its loss is no congestion
  std::uint32_t bytes = 0;
  std::uint32_t frame_count = 0;
  Instant sent{};
  std::uint64_t first_frame = 0;      // absolute position in the frame ring
  std::uint64_t ack_largest = 0;      // what the ack frame in it reached, if has_ack
};

// A growing power-of-two ring addressed by absolute position.
template <class T>
class Ring {
 public:
  std::uint64_t begin() const { return begin_; }
  std::uint64_t end() const { return end_; }
  bool empty() const { return begin_ == end_; }
  T& operator[](std::uint64_t at) { return items_[at & (items_.size() - 1)]; }
  T& push() {
    if (end_ - begin_ == items_.size()) grow();
    return (*this)[end_++] = T{};
  }
  void pop() { ++begin_; }
  void pop_last() { --end_; }

 private:
  void grow() {
    std::vector<T> larger(items_.empty() ? 64 : items_.size() * 2);
    for (std::uint64_t i = begin_; i < end_; ++i) larger[i & (larger.size() - 1)] = (*this)[i];
    items_.swap(larger);
  }
  std::vector<T> items_;
  std::uint64_t begin_ = 0;
  std::uint64_t end_ = 0;
};

class RoundTrip {
 public:
  // Returns the sample without the peer's delay.
  Duration on_sample(Duration latest, Duration ack_delay);
  Duration smoothed() const { return smoothed_; }
  Duration latest() const { return latest_; }
  Duration loss_delay() const;      // 9/8 of the round trip, at least the timer granularity
  Duration probe_timeout() const;   // without backoff
  bool has_sample() const { return has_sample_; }

 private:
  bool has_sample_ = false;
  Duration latest_{};
  Duration min_{};
  Duration smoothed_ = milliseconds(100);
  Duration variation_ = milliseconds(50);
};

class SentPackets {
 public:
  std::uint64_t next_number() const { return packets_.end(); }
  std::size_t bytes_in_flight() const { return bytes_in_flight_; }
  bool has_unacked() const { return asking_in_flight_ > 0; }

  // The next packet, numbered next_number(): begin, its frames, then finish (or abandon, if it had
  // none after all).
  void begin(Instant now);
  void add_frame(const SentFrame& frame);
  SentPacket& finish(std::size_t bytes, bool asks_for_ack);
  void abandon();
  SentFrame& frame(std::uint64_t at) { return frames_[at]; }
  SentPacket* find(std::uint64_t number) {
    return number >= packets_.begin() && number < packets_.end() ? &packets_[number] : nullptr;
  }

  struct AckResult {
    bool is_valid = true;            // false: it acknowledges what was never sent
    bool is_new = false;             // some packet was newly acknowledged
    bool has_rtt = false;
    Duration rtt{};
    std::uint64_t spurious = 0;
  };
  // Calls on_acked(number, packet) for each packet newly acknowledged, also for one that had been
  // declared lost (its state says lost still).
  template <class OnAcked>
  AckResult on_ack(const Frame& ack, Instant now, OnAcked&& on_acked);

  // Declares lost what the thresholds say and calls on_lost(packet) for each.
  template <class OnLost>
  std::uint64_t detect_losses(const RoundTrip& rtt, Instant now, OnLost&& on_lost);
  // When the time threshold will next declare a loss.
  Instant loss_time() const { return loss_time_; }
  Instant last_asking_sent() const { return last_asking_sent_; }
  // Drops finished packets from the front.
  void trim(Duration keep_lost, Instant now);
  std::uint64_t first_number() const { return packets_.begin(); }

 private:
  static constexpr std::uint64_t kPacketThreshold = 3;
  static constexpr std::uint64_t kPacketThresholdMax = 128;
  void leave_flight(SentPacket& p) {
    bytes_in_flight_ -= p.asks_for_ack ? p.bytes : 0;
    asking_in_flight_ -= p.asks_for_ack ? 1 : 0;
  }

  Ring<SentPacket> packets_;
  Ring<SentFrame> frames_;
  std::size_t bytes_in_flight_ = 0;
  std::size_t asking_in_flight_ = 0;
  std::uint64_t largest_acked_ = 0;
  bool any_acked_ = false;
  std::uint64_t scan_from_ = 0;      // all below are no longer in flight
  std::uint64_t packet_threshold_ = kPacketThreshold;
  Instant loss_time_ = Instant::never();
  Instant last_asking_sent_{};
};

template <class OnAcked>
SentPackets::AckResult SentPackets::on_ack(const Frame& ack, Instant now, OnAcked&& on_acked) {
  AckResult result;
  if (ack.largest >= packets_.end()) {
    result.is_valid = false;
    return result;
  }
  bool newly_asking = false;
  for (unsigned i = ack.range_count; i-- > 0;) {
    const Frame::Range& range = ack.ranges[i];
    for (std::uint64_t n = range.low > packets_.begin() ? range.low : packets_.begin();
         n <= range.high && n < packets_.end(); ++n) {
      SentPacket& p = packets_[n];
      if (p.state == SentPacket::State::acked) continue;
      if (p.state == SentPacket::State::lost) {
        ++result.spurious;
        if (ack.largest - n >= packet_threshold_)
          packet_threshold_ = std::min(ack.largest - n + 1, kPacketThresholdMax);
      } else {
        leave_flight(p);
      }
      result.is_new = true;
      newly_asking = newly_asking || p.asks_for_ack;
      if (n == ack.largest && newly_asking) {
        result.has_rtt = true;
        result.rtt = now - p.sent;
      }
      on_acked(n, p);
      p.state = SentPacket::State::acked;
    }
  }
  if (!any_acked_ || ack.largest > largest_acked_) largest_acked_ = ack.largest;
  any_acked_ = true;
  return result;
}

template <class OnLost>
std::uint64_t SentPackets::detect_losses(const RoundTrip& rtt, Instant now, OnLost&& on_lost) {
  loss_time_ = Instant::never();
  if (!any_acked_) return 0;
  std::uint64_t lost = 0;
  const Duration delay = rtt.loss_delay();
  if (scan_from_ < packets_.begin()) scan_from_ = packets_.begin();
  bool all_done = true;
  for (std::uint64_t n = scan_from_; n < packets_.end() && n <= largest_acked_; ++n) {
    SentPacket& p = packets_[n];
    if (p.state == SentPacket::State::in_flight) {
      if (largest_acked_ - n >= packet_threshold_ || p.sent + delay <= now) {
        leave_flight(p);
        p.state = SentPacket::State::lost;
        lost += p.asks_for_ack ? 1 : 0;
        on_lost(p);
      } else {
        if (p.asks_for_ack) loss_time_ = std::min(loss_time_, p.sent + delay);
        all_done = false;
      }
    }
    if (all_done) scan_from_ = n + 1;
  }
  return lost;
}

}  // namespace magma::rpc
