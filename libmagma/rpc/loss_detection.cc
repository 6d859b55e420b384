#include "libmagma/rpc/loss_detection.h"

#include <algorithm>

#include "libmagma/rpc/ack_tracker.h"

namespace magma::rpc {

namespace {
constexpr Duration kGranularity = milliseconds(1);
Duration distance(Duration a, Duration b) { return a > b ? a - b : b - a; }
}  // namespace

Duration RoundTrip::on_sample(Duration latest, Duration ack_delay) {
  latest_ = std::max(latest, nanoseconds(1));
  if (!has_sample_) {
    has_sample_ = true;
    min_ = smoothed_ = latest_;
    variation_ = latest_ / 2;
    return latest_;
  }
  min_ = std::min(min_, latest_);
  // RFC 9002, 5.3: the peer's own delay is not the path's, unless that would undercut the minimum.
  Duration adjusted = latest_;
  if (latest_ >= min_ + ack_delay) adjusted = latest_ - ack_delay;
  variation_ = variation_ * 3 / 4 + distance(smoothed_, adjusted) / 4;
  smoothed_ = smoothed_ * 7 / 8 + adjusted / 8;
  return adjusted;
}

Duration RoundTrip::loss_delay() const {
  return std::max(std::max(smoothed_, latest_) * 9 / 8, kGranularity);
}

Duration RoundTrip::probe_timeout() const {
  return smoothed_ + std::max(variation_ * 4, kGranularity) + kAckDelay;
}

void SentPackets::begin(Instant now) {
  SentPacket& p = packets_.push();
  p.sent = now;
  p.first_frame = frames_.end();
}

SentPacket& SentPackets::finish(std::size_t bytes, bool asks_for_ack) {
  SentPacket& p = packets_[packets_.end() - 1];
  p.bytes = static_cast<std::uint32_t>(bytes);
  p.asks_for_ack = asks_for_ack;
  if (asks_for_ack) {
    bytes_in_flight_ += bytes;
    ++asking_in_flight_;
    last_asking_sent_ = p.sent;
  }
  return p;
}

void SentPackets::abandon() {
  MAGMA_CHECK(packets_[packets_.end() - 1].frame_count == 0);
  packets_.pop_last();
}

void SentPackets::add_frame(const SentFrame& frame) {
  MAGMA_CHECK(!packets_.empty());
  frames_.push() = frame;
  ++packets_[packets_.end() - 1].frame_count;
}

void SentPackets::trim(Duration keep_lost, Instant now) {
  while (!packets_.empty()) {
    SentPacket& p = packets_[packets_.begin()];
    const bool is_done = p.state == SentPacket::State::acked || !p.asks_for_ack ||
                         (p.state == SentPacket::State::lost && p.sent + keep_lost <= now);
    if (!is_done) return;
    for (std::uint32_t i = 0; i < p.frame_count; ++i) frames_.pop();
    packets_.pop();
  }
}

}  // namespace magma::rpc
