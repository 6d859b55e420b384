// How much may be in flight to one peer, and how fast it may leave: CUBIC (RFC 9438) after a slow
// start that ends early (slow_start.h), and a token bucket for pacing (RFC 9002, 7.7). Pure
// arithmetic; a Connection reports what happened.
#pragma once

#include <cstddef>
#include <cstdint>

#include "libmagma/base/time.h"
#include "libmagma/rpc/slow_start.h"

namespace magma::rpc {

class Congestion {
 public:
  struct Config {
    std::size_t datagram_bytes;
    std::size_t initial_window_bytes;
    bool is_paced;
  };
  // What was sent before `start`, on another path, is no concern of its.
  explicit Congestion(const Config& config, Instant start = Instant{-1});

  std::size_t window_bytes() const { return window_; }
  bool is_slow_start() const { return window_ < slow_start_threshold_; }
  // Packets are of another size from now on; the window in bytes stays.
  void set_datagram_bytes(std::size_t bytes);
  // A sample, as SlowStart::on_round_trip() wants it.
  void on_round_trip(Duration round_trip, std::uint64_t largest_acked, std::uint64_t next_number);
  // `rtt`: smoothed. `was_limited`: the window was what held the sender back (RFC 9002, 7.8: else
  // it must not grow).
  void on_ack(std::size_t bytes, Instant sent, Instant now, Duration rtt, bool was_limited);
  // At most one reduction for all packets sent before the last one.
  void on_loss(Instant sent, Instant now);
  void on_persistent_congestion();

  // Pacing: when the next packet may leave (Instant{}: now).
  Instant next_send(Instant now) const;
  void on_sent(std::size_t bytes, Instant now, Duration rtt);

 private:
  std::size_t floor_bytes() const { return 2 * config_.datagram_bytes; }
  double burst_bytes() const;
  void grow_cubic(std::size_t bytes, Instant now, Duration rtt);
  void refill(Instant now, Duration rtt);

  Config config_;
  std::size_t window_;
  std::size_t slow_start_threshold_;
  SlowStart slow_start_;
  Instant recovery_start_;
  // CUBIC, windows in datagrams.
  double window_max_ = 0;
  double window_prior_ = 0;        // when it was last reduced
  double cubic_k_seconds_ = 0;
  double window_reno_ = 0;
  Instant epoch_start_{};
  bool in_epoch_ = false;
  Instant idle_since_ = Instant::never();  // the epoch's clock stands: the window is not used up
  // Pacing.
  double tokens_ = 0;
  double rate_per_ns_ = 0;
  Instant refilled_{};
};

}  // namespace magma::rpc
