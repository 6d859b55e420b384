// A deterministic network in memory: ports by address, one queue of events ordered by time (then
// by age, so a run depends on the seed alone), faults by probability, links that can be cut.
// Also the engine that moves the simulated clock: it runs datagrams, scheduled functions and the
// timers of Timed objects, one at a time, each at its time.
//
// Used by the rpc tests and by the simulated cluster. One thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "libmagma/base/unique_function.h"
#include "libmagma/sys/datagrams.h"
#include "tests/lib/sim_clock.h"
#include "tests/lib/sim_random.h"

namespace magma::test {

struct Faults {
  double loss = 0;
  double duplicate = 0;
  double reorder = 0;      // delayed by up to reorder_delay more than its neighbours
  double corrupt = 0;      // one to three bits flipped
  Duration delay = microseconds(20);
  Duration jitter{};       // 0 to this much more
  Duration reorder_delay = milliseconds(2);
  std::size_t mtu = 65507; // larger datagrams vanish
};

// Something with timers. `deadline` and `on_timer` in true simulated time.
class Timed {
 public:
  virtual ~Timed() = default;
  virtual Instant deadline() = 0;
  virtual void on_timer() = 0;
  // After a batch of datagrams or any event that may have touched the object.
  virtual void after_events() {}
};

class SimNetwork {
 public:
  using Receive = std::function<void(const sys::Address& from, MutableByteSpan datagram)>;

  // A node's socket. Closing (destroying) it loses what is on the way to it.
  class Port : public sys::Datagrams {
   public:
    ~Port() override;
    void send(const sys::Address& to, ByteSpan bytes, std::size_t segment_size) override;
    std::size_t receive_buffer_bytes() const override { return receive_buffer_bytes_; }
    void set_receive_buffer_bytes(std::size_t bytes) { receive_buffer_bytes_ = bytes; }
    const sys::Address& address() const { return address_; }

   private:
    friend class SimNetwork;
    Port(SimNetwork& network, const sys::Address& address, Receive receive)
        : network_(network), address_(address), receive_(std::move(receive)) {}
    SimNetwork& network_;
    sys::Address address_;
    Receive receive_;
    std::size_t receive_buffer_bytes_ = 8u << 20;
  };

  SimNetwork(SimClock& clock, std::uint64_t seed) : clock_(clock), random_(seed) {}

  // Requires: no other port has this address.
  std::unique_ptr<Port> open(const sys::Address& address, Receive receive);
  void set_faults(const Faults& faults) { faults_ = faults; }
  const Faults& faults() const { return faults_; }
  // Faults of the way from one IP to another only.
  void set_link_faults(const sys::Address& from, const sys::Address& to, const Faults& faults);
  void clear_link_faults() { link_faults_.clear(); }
  // Nothing gets from one IP to the other (one direction) until joined.
  void cut(const sys::Address& from, const sys::Address& to);
  void join(const sys::Address& from, const sys::Address& to);
  void join_all() { cuts_.clear(); }
  // Sees every datagram as it is sent, before any fault.
  using Tap = std::function<void(const sys::Address& from, const sys::Address& to, ByteSpan)>;
  void set_tap(Tap tap) { tap_ = std::move(tap); }
  // Puts a datagram on its way as if `from` had sent it; it meets the same faults.
  void inject(const sys::Address& from, const sys::Address& to, ByteSpan datagram);

  void schedule(Instant at, UniqueFunction<void()> event);
  void after(Duration delay, UniqueFunction<void()> event) {
    schedule(clock_.now() + delay, std::move(event));
  }
  void add(Timed& timed) { timed_.push_back(&timed); }
  void remove(Timed& timed);

  // Runs the next event or timer if it is due by `limit`; false if there is none.
  bool step(Instant limit = Instant::never());
  // Runs everything due within `time`, then the clock stands at its end.
  void run_for(Duration time);
  // Runs until `done` or `time` has passed; whether `done`.
  bool run_until(const std::function<bool()>& done, Duration time);

  SimClock& clock() { return clock_; }
  SimRandom& random() { return random_; }
  std::uint64_t datagrams_sent() const { return datagrams_sent_; }
  std::uint64_t bytes_sent() const { return bytes_sent_; }
  std::uint64_t datagrams_dropped() const { return datagrams_dropped_; }

 private:
  using Ip = std::array<std::uint8_t, 16>;
  struct Event {
    Instant at{};
    std::uint64_t order = 0;
    UniqueFunction<void()> run;
  };
  struct Later {
    bool operator()(const Event& a, const Event& b) const {
      return a.at != b.at ? a.at > b.at : a.order > b.order;
    }
  };
  const Faults& faults_of(const sys::Address& from, const sys::Address& to) const;
  void transmit(const sys::Address& from, const sys::Address& to, ByteSpan datagram);
  void deliver_later(const sys::Address& from, const sys::Address& to, Bytes datagram,
                     Duration delay);
  void touch_all();

  SimClock& clock_;
  SimRandom random_;
  Faults faults_;
  std::map<std::pair<Ip, Ip>, Faults> link_faults_;
  std::set<std::pair<Ip, Ip>> cuts_;
  std::map<sys::Address, Port*> ports_;
  std::vector<Event> events_;   // a heap by Later
  std::uint64_t next_order_ = 0;
  std::vector<Timed*> timed_;
  Tap tap_;
  std::uint64_t datagrams_sent_ = 0;
  std::uint64_t bytes_sent_ = 0;
  std::uint64_t datagrams_dropped_ = 0;
};

}  // namespace magma::test
