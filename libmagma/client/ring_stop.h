// Ends the volcanoes of a ring, one after the other: first who serves slots, so that who mirrors
// them has everything and stays as it is; then who holds no vote, who votes, and the coordinator
// last. Each is asked, and waited for until it answers no more. Used by magma shutdown --all and by
// the console.
//
// Who cannot be reached is told of and left as it is. If a primary was asked and does not end, the
// others are not asked: they may lack what it still does.
//
// Sans I/O, one thread, driven as HostLink.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "libmagma/client/host_link.h"
#include "libmagma/wire/operator_messages.h"

namespace magma::client {

struct StopStep {
  std::uint16_t id = 0;  // ring::VolcanoId
  std::string nick;
  std::string address;      // flare
  bool is_primary = false;  // of some slots
};
// All volcanoes of the ring in the order of their end.
std::vector<StopStep> stop_order(const wire::RingReply& ring);

enum class StopResult : std::uint8_t {
  ended,    // it answers no more
  away,     // it could not be reached
  refused,  // it would not
  stays,    // it was asked, and still answers
  skipped,  // it was not asked, because of one before it
};
// "gromit at 192.0.2.2:12000 has ended"
std::string stop_text(const StopStep& step, StopResult result, std::string_view detail);

class RingStop {
 public:
  static constexpr Duration kConnectPatience = seconds(4);
  static constexpr Duration kAnswerPatience = seconds(10);
  static constexpr Duration kProbePatience = milliseconds(500);
  static constexpr Duration kProbeEvery = milliseconds(250);
  static constexpr Duration kEndPatience = seconds(60);  // for its last syncs

  using Tell = UniqueFunction<void(const StopStep&, StopResult, std::string_view detail)>;
  // `who` is for their logs. `tell` is called for each step, `done` at the end: neither inside a
  // call but on_timer() and flush(). References outlive it.
  RingStop(std::vector<StopStep> steps, std::string who, const crypto::Keyring& keys,
           sys::Clock& clock, sys::Random& random, sys::Datagrams& datagrams, Tell tell,
           UniqueFunction<void()> done);
  ~RingStop();

  void on_datagram(const sys::Address& from, MutableByteSpan datagram);
  void flush();
  Instant deadline() const;
  void on_timer();
  bool is_waiting() const { return link_ != nullptr && link_->is_waiting(); }

 private:
  enum class Phase : std::uint8_t { connecting, asking, probing, resting };
  void begin_step();
  void connect(Phase phase, Duration patience);
  void ask();
  void advance();
  void end_step(StopResult result, std::string detail);
  void came(Result<void> result) { came_ = std::move(result); }

  const std::vector<StopStep> steps_;
  const std::string who_;
  const crypto::Keyring keys_;
  sys::Clock& clock_;
  sys::Random& random_;
  sys::Datagrams& datagrams_;
  Tell tell_;
  UniqueFunction<void()> done_;
  std::size_t at_ = 0;
  Phase phase_ = Phase::connecting;
  Instant asked_at_{};
  Instant probe_at_ = Instant::never();
  std::optional<Result<void>> came_{};  // the answer to what this phase waits for
  std::unique_ptr<HostLink> link_;
};

}  // namespace magma::client
