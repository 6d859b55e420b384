// The size of packets to one peer: datagram packetization layer path MTU discovery (RFC 8899) over
// the acknowledgements that there are anyway. Pure: a Connection sends the probes it asks for and
// reports what became of them and of all other packets. All sizes are UDP payload in bytes.
//
//   base     kBaseBytes pass everywhere: IPv6 demands a path of 1280 (RFC 8200, 5), and the HELLO
//            of that size came through.
//   search   a probe is a ping padded to the size in question; it carries nothing that its loss
//            would delay, and its loss is no congestion (RFC 8899, 3). First the two sizes that
//            most networks have, then bisection. A size fails when kProbesPerSize are lost
//            (MAX_PROBES), or at once when our own kernel refuses it.
//   complete the search ends when what is known to pass and what is known to fail lie close. After
//            kRaiseAfter (PMTU_RAISE_TIMER) everything above is tried anew.
//   black hole: the path has become narrower without a word. Packets over the base are lost for
//            kBlackHoleRounds round trips and none so large arrives, while something does: back to
//            the base, search again.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>

#include "libmagma/base/time.h"

namespace magma::rpc {

class PathMtu {
 public:
  static constexpr std::size_t kBaseBytes = 1200;        // BASE_PLPMTU
  static constexpr unsigned kProbesPerSize = 3;          // RFC 8899, 5.1.2
  static constexpr Duration kRaiseAfter = seconds(600);  // RFC 8899, 5.1.1
  static constexpr unsigned kBlackHoleRounds = 4;

  struct Config {
    std::size_t bytes_max;   // what both ends can take; at least kBaseBytes
    bool is_v4;              // 20 bytes less of headers
    bool is_known;           // the path takes bytes_max (loopback): no search until it fails
  };
  explicit PathMtu(const Config& config);

  // No packet may be larger.
  std::size_t bytes() const { return bytes_; }
  bool is_searching() const { return candidate_ != 0; }

  // The size of the probe that should be sent now, if one should; ask again after each event.
  std::optional<std::size_t> probe_due(Instant now);
  void on_probe_sent() { is_probe_out_ = true; }
  // Our own kernel did not take it: the link is narrower.
  void on_probe_refused(std::size_t bytes, Instant now) { fail_size(bytes, now); }
  void on_probe_acked(std::size_t bytes, Instant now);
  void on_probe_lost(std::size_t bytes, Instant now);

  // Any other packet. on_lost: true if that uncovers a black hole; bytes() is the base then.
  void on_acked(std::size_t bytes) {
    if (lost_rounds_ > 0 && bytes >= smallest_lost_) lost_rounds_ = 0;
  }
  bool on_lost(std::size_t bytes, Instant sent, Duration round_trip, Instant now);
  // When probe_due() will next have something to say of itself: the raise timer.
  Instant deadline() const { return raise_at_; }

 private:
  void choose(Instant now);                 // the next candidate, or the end of the search
  void fail_size(std::size_t bytes, Instant now);
  void start_again(Instant now);

  Config config_;
  std::size_t bytes_;
  std::size_t failed_;                      // the smallest size that is known not to pass
  std::size_t candidate_ = 0;               // 0: the search is complete
  unsigned probes_lost_ = 0;                // of the candidate
  bool is_probe_out_ = false;
  Instant raise_at_ = Instant::never();
  // Black hole.
  unsigned lost_rounds_ = 0;
  std::size_t smallest_lost_ = 0;
  Instant last_lost_sent_{};
};

}  // namespace magma::rpc
