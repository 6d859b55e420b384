// When slow start should end before the path's queue overflows: HyStart++ (RFC 9406). The round
// trip grows when a queue does. If the fastest of a round is clearly slower than the fastest of the
// round before, growth goes on at a quarter of the speed (conservative slow start), and if that
// does not turn out to have been noise, slow start ends after five rounds. Pure arithmetic, owned
// by a Congestion.
#pragma once

#include <cstddef>
#include <cstdint>

#include "libmagma/base/time.h"

namespace magma::rpc {

class SlowStart {
 public:
  // `round_trip`: of packet `largest_acked`, without the peer's delay. `next_number`: of the next
  // packet to be sent. True: slow start has come to its end.
  bool on_round_trip(Duration round_trip, std::uint64_t largest_acked, std::uint64_t next_number);
  // By how much the window grows for `acked` bytes.
  std::size_t growth(std::size_t acked) const { return is_conservative_ ? acked / kSlower : acked; }
  bool is_conservative() const { return is_conservative_; }
  // Slow start begins anew, after persistent congestion.
  void restart() { *this = SlowStart(); }

 private:
  // RFC 9406, 4.3.
  static constexpr Duration kThresholdMin = milliseconds(4);
  static constexpr Duration kThresholdMax = milliseconds(16);
  static constexpr std::int64_t kThresholdPart = 8;
  static constexpr unsigned kSamplesMin = 8;
  static constexpr unsigned kConservativeRounds = 5;
  static constexpr std::size_t kSlower = 4;
  static constexpr Duration kNone = {Instant::never().ns};

  std::uint64_t round_end_ = 0;            // the round ends when this packet is acknowledged
  unsigned samples_ = 0;                   // of this round
  Duration fastest_ = kNone;
  Duration fastest_before_ = kNone;        // of the round before
  bool is_conservative_ = false;
  unsigned conservative_rounds_ = 0;
  Duration fastest_when_slower_{};         // when the conservative phase began
};

}  // namespace magma::rpc
