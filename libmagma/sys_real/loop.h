// The event loop of a process or shard, on libuv. One iteration: wait for descriptors, posted
// functions, signals or the deadline; serve them all; if the deadline has come, on_deadline; then
// every on_flush once. So an answer produced by any of many datagrams leaves with the others.
//
// The deadline is asked for before each wait; the timer is a CLOCK_BOOTTIME timerfd of nanosecond
// resolution that is moved only to fire earlier (a deadline that moves away costs nothing but one
// early wake-up).
//
// Polling before sleeping: waking a thread costs more than all the rest of a small operation. While
// `pending()` says that an answer is due, the loop polls for up to set_spin()'s duration before it
// sleeps; when that keeps being in vain it polls seldom.
//
// One thread, but for post(), which any thread may call. Watches end before the loop.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "libmagma/base/result.h"
#include "libmagma/base/time.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/sys/clock.h"

namespace magma::sys_real {

inline constexpr unsigned kReadable = 1;
inline constexpr unsigned kWritable = 2;

struct LoopCounters {
  std::uint64_t iterations = 0;
  std::uint64_t wakeups = 0;        // iterations that served something
  std::uint64_t deadlines = 0;
  std::uint64_t timer_moves = 0;
  std::uint64_t spins = 0;          // times the loop polled before it would have slept
  std::uint64_t spins_won = 0;      // ... and something came
};

class Loop {
 public:
  class WatchState;
  // A descriptor being watched; ends with this object, also from within its own callback. The
  // descriptor must stay open until then.
  class Watch {
   public:
    Watch() = default;
    Watch(Watch&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    Watch& operator=(Watch&& other) noexcept {
      if (this != &other) {
        reset();
        state_ = std::exchange(other.state_, nullptr);
      }
      return *this;
    }
    ~Watch() { reset(); }
    void reset();
    void set_events(unsigned events);  // of kReadable, kWritable; 0 pauses
    explicit operator bool() const { return state_ != nullptr; }

   private:
    friend class Loop;
    explicit Watch(WatchState* state) : state_(state) {}
    WatchState* state_ = nullptr;
  };

  explicit Loop(sys::Clock& clock);  // the clock outlives the loop; MAGMA_CHECKs that libuv starts
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void run();   // until stop()
  void stop();  // after the present iteration, flushes included; from the loop's thread

  // Calls `ready` with the events that came (both, at an error or hang-up).
  Result<Watch> watch(int fd, unsigned events, UniqueFunction<void(unsigned)> ready);
  // `next` tells when `on_deadline` is due (Instant::never() for not at all).
  void set_deadline(UniqueFunction<Instant()> next, UniqueFunction<void()> on_deadline);
  void on_flush(UniqueFunction<void()> flush);
  void on_signal(int signal_number, UniqueFunction<void()> handler);
  // Runs `function` on the loop's thread, in the order posted; from any thread. What is posted
  // after the last iteration is destroyed with the loop, unrun.
  void post(UniqueFunction<void()> function);
  // Zero turns polling off; it is off on machines with one processor.
  void set_spin(Duration limit, UniqueFunction<bool()> pending);

  const LoopCounters& counters() const;
  sys::Clock& clock() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace magma::sys_real
