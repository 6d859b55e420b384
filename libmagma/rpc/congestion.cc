#include "libmagma/rpc/congestion.h"

#include <algorithm>
#include <cmath>

namespace magma::rpc {

namespace {
constexpr double kCubicC = 0.4;         // RFC 9438, 5
constexpr double kCubicBeta = 0.7;
constexpr double kRenoAlpha = 3 * (1 - kCubicBeta) / (1 + kCubicBeta);
constexpr std::size_t kWindowBytesMax = 64u << 20;
constexpr std::size_t kBurstBytes = 64 * 1024;   // pacing lets a burst through: GSO pays then
constexpr double kPacingGain = 1.25;
constexpr double kPacingGainSlowStart = 2.0;
}  // namespace

Congestion::Congestion(const Config& config)
    : config_(config),
      window_(std::max(config.initial_window_bytes, 2 * config.datagram_bytes)),
      slow_start_threshold_(kWindowBytesMax),
      tokens_(kBurstBytes) {}

void Congestion::set_datagram_bytes(std::size_t bytes) {
  // What is kept in datagrams means the same bytes as before.
  const double ratio = static_cast<double>(config_.datagram_bytes) / static_cast<double>(bytes);
  window_max_ *= ratio;
  window_reno_ *= ratio;
  cubic_k_seconds_ *= std::cbrt(ratio);
  config_.datagram_bytes = bytes;
  window_ = std::max(window_, floor_bytes());
}

void Congestion::on_ack(std::size_t bytes, Instant sent, Instant now, Duration rtt,
                        bool was_limited) {
  if (sent <= recovery_start_ || !was_limited) return;
  if (window_ < slow_start_threshold_) {
    window_ = std::min(window_ + bytes, kWindowBytesMax);
    return;
  }
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
  const double target = std::clamp(kCubicC * t * t * t + window_max_, window, 1.5 * window);
  const double acked = static_cast<double>(bytes) / datagram;
  window_reno_ += kRenoAlpha * acked / window;
  const double grown = std::max(window + (target - window) / window * acked, window_reno_);
  window_ = std::min(static_cast<std::size_t>(grown * datagram), kWindowBytesMax);
}

void Congestion::on_loss(Instant sent, Instant now) {
  if (sent <= recovery_start_) return;
  recovery_start_ = now;
  const double window = static_cast<double>(window_) / static_cast<double>(config_.datagram_bytes);
  // Fast convergence: a flow that did not get back to its maximum leaves room to others.
  window_max_ = window < window_max_ ? window * (1 + kCubicBeta) / 2 : window;
  in_epoch_ = false;
  window_ = std::max(static_cast<std::size_t>(static_cast<double>(window_) * kCubicBeta),
                     floor_bytes());
  slow_start_threshold_ = window_;
}

void Congestion::on_persistent_congestion() {
  window_ = floor_bytes();
  in_epoch_ = false;
  recovery_start_ = Instant{-1};
}

void Congestion::refill(Instant now, Duration rtt) {
  const double gain = window_ < slow_start_threshold_ ? kPacingGainSlowStart : kPacingGain;
  rate_per_ns_ = gain * static_cast<double>(window_) /
                 static_cast<double>(std::max<std::int64_t>(rtt.ns, 1000));
  // Two milliseconds' worth: timers are no finer.
  const double bucket = std::max<double>(kBurstBytes, rate_per_ns_ * 2e6);
  tokens_ = std::min(bucket, tokens_ + rate_per_ns_ * static_cast<double>((now - refilled_).ns));
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
