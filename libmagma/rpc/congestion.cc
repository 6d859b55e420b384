#include "libmagma/rpc/congestion.h"

#include <algorithm>
#include <cmath>

namespace magma::rpc {

namespace {
constexpr double kCubicC = 0.4;         // RFC 9438, 5.1
constexpr double kCubicBeta = 0.7;      // RFC 9438, 4.6
constexpr double kRenoAlpha = 3 * (1 - kCubicBeta) / (1 + kCubicBeta);
constexpr double kTargetMax = 1.5;      // of the window, RFC 9438, 4.2
constexpr std::size_t kWindowBytesMax = 64u << 20;
constexpr double kPacingGain = 1.25;
constexpr double kPacingGainSlowStart = 2.0;
// What may leave in one burst: what the pace allows in the time that timers are late, at least as
// much as an initial window (RFC 9002, 7.7), so that segmentation offload pays. Short queues on the
// way hold that.
constexpr double kBurstDatagrams = 10;
constexpr Duration kBurstTime = milliseconds(2);
}  // namespace

Congestion::Congestion(const Config& config, Instant start)
    : config_(config),
      window_(std::max(config.initial_window_bytes, 2 * config.datagram_bytes)),
      slow_start_threshold_(kWindowBytesMax),
      recovery_start_(start),
      tokens_(burst_bytes()) {}

void Congestion::set_datagram_bytes(std::size_t bytes) {
  // What is kept in datagrams means the same bytes as before.
  const double ratio = static_cast<double>(config_.datagram_bytes) / static_cast<double>(bytes);
  window_max_ *= ratio;
  window_prior_ *= ratio;
  window_reno_ *= ratio;
  cubic_k_seconds_ *= std::cbrt(ratio);
  config_.datagram_bytes = bytes;
  window_ = std::max(window_, floor_bytes());
}

void Congestion::on_round_trip(Duration round_trip, std::uint64_t largest_acked,
                               std::uint64_t next_number) {
  // Without pacing (loopback) a round trip says more about the scheduler than about a queue.
  if (!config_.is_paced || !is_slow_start()) return;
  if (slow_start_.on_round_trip(round_trip, largest_acked, next_number))
    slow_start_threshold_ = window_;
}

void Congestion::on_ack(std::size_t bytes, Instant sent, Instant now, Duration rtt,
                        bool was_limited) {
  if (sent <= recovery_start_) return;
  if (!was_limited) {
    if (idle_since_ == Instant::never()) idle_since_ = now;
    return;
  }
  if (is_slow_start()) {
    window_ = std::min(window_ + slow_start_.growth(bytes), kWindowBytesMax);
    idle_since_ = Instant::never();
    return;
  }
  // Time in which there was nothing to send is no time to grow by (RFC 9438, 4.2).
  if (idle_since_ != Instant::never()) epoch_start_ = epoch_start_ + (now - idle_since_);
  idle_since_ = Instant::never();
  grow_cubic(bytes, now, rtt);
}

void Congestion::grow_cubic(std::size_t bytes, Instant now, Duration rtt) {
  const double datagram = static_cast<double>(config_.datagram_bytes);
  const double window = static_cast<double>(window_) / datagram;
  if (!in_epoch_) {
    in_epoch_ = true;
    epoch_start_ = now;
    window_reno_ = window;
    window_max_ = std::max(window_max_, window);
    cubic_k_seconds_ = std::cbrt((window_max_ - window) / kCubicC);
  }
  const double t = (now - epoch_start_ + rtt).seconds() - cubic_k_seconds_;
  const double target =
      std::clamp(kCubicC * t * t * t + window_max_, window, kTargetMax * window);
  const double acked = static_cast<double>(bytes) / datagram;
  // As fast as Reno at least; once it is where it was, Reno's own one a round trip (4.3).
  const double alpha = window_reno_ < window_prior_ ? kRenoAlpha : 1;
  window_reno_ += alpha * acked / window;
  const double grown = std::max(window + (target - window) / window * acked, window_reno_);
  window_ = std::min(static_cast<std::size_t>(grown * datagram), kWindowBytesMax);
}

void Congestion::on_loss(Instant sent, Instant now) {
  if (sent <= recovery_start_) return;
  recovery_start_ = now;
  const double window = static_cast<double>(window_) / static_cast<double>(config_.datagram_bytes);
  // Fast convergence: a flow that did not get back to its maximum leaves room to others (4.7).
  window_max_ = window < window_max_ ? window * (1 + kCubicBeta) / 2 : window;
  window_prior_ = window;
  in_epoch_ = false;
  window_ = std::max(static_cast<std::size_t>(static_cast<double>(window_) * kCubicBeta),
                     floor_bytes());
  slow_start_threshold_ = window_;
}

void Congestion::on_persistent_congestion() {
  window_ = floor_bytes();
  in_epoch_ = false;
  recovery_start_ = Instant{-1};
  slow_start_.restart();
}

double Congestion::burst_bytes() const {
  return std::max(kBurstDatagrams * static_cast<double>(config_.datagram_bytes),
                  rate_per_ns_ * static_cast<double>(kBurstTime.ns));
}

void Congestion::refill(Instant now, Duration rtt) {
  const double gain = is_slow_start() ? kPacingGainSlowStart : kPacingGain;
  rate_per_ns_ = gain * static_cast<double>(window_) /
                 static_cast<double>(std::max<std::int64_t>(rtt.ns, 1000));
  tokens_ = std::min(burst_bytes(),
                     tokens_ + rate_per_ns_ * static_cast<double>((now - refilled_).ns));
  refilled_ = now;
}

Instant Congestion::next_send(Instant now) const {
  if (!config_.is_paced) return Instant{};
  const double tokens = tokens_ + rate_per_ns_ * static_cast<double>((now - refilled_).ns);
  if (tokens > 0 || rate_per_ns_ <= 0) return Instant{};
  return now + nanoseconds(static_cast<std::int64_t>(-tokens / rate_per_ns_) + 1);
}

void Congestion::on_sent(std::size_t bytes, Instant now, Duration rtt) {
  if (!config_.is_paced) return;
  refill(now, rtt);
  tokens_ -= static_cast<double>(bytes);
}

}  // namespace magma::rpc
