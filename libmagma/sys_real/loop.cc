#include "libmagma/sys_real/loop.h"

#include <sys/timerfd.h>
#include <unistd.h>
#include <uv.h>

#include <mutex>
#include <thread>
#include <vector>

#include "libmagma/base/check.h"
#include "libmagma/sys_real/fd.h"

namespace magma::sys_real {

namespace {

// Polling is paused for kSpinPause sleeps after kSpinMissesMax polls in vain.
constexpr unsigned kSpinMissesMax = 8;
constexpr unsigned kSpinPause = 32;
// A deadline that is due again at once is served this often before descriptors get their turn.
constexpr unsigned kDeadlineRounds = 4;

struct SignalState {
  uv_signal_t handle{};
  UniqueFunction<void()> handler;
  bool* served = nullptr;
};

int uv_events(unsigned events) {
  return ((events & kReadable) != 0 ? UV_READABLE : 0) |
         ((events & kWritable) != 0 ? UV_WRITABLE : 0);
}

template <class Handle>
uv_handle_t* as_handle(Handle* handle) {
  return reinterpret_cast<uv_handle_t*>(handle);
}

}  // namespace

// Owned by libuv once closing: freed in the close callback.
class Loop::WatchState {
 public:
  uv_poll_t handle{};
  State* loop = nullptr;
  int fd = -1;
  UniqueFunction<void(unsigned)> ready;
};

struct Loop::State {
  explicit State(sys::Clock& c) : clock(c) {}

  sys::Clock& clock;
  uv_loop_t loop{};
  uv_prepare_t prepare{};
  uv_check_t check{};
  uv_async_t async{};
  Fd timer;
  Watch timer_watch;
  Instant timer_at = Instant::never();
  std::size_t watches = 0;
  std::vector<SignalState*> signals;

  UniqueFunction<Instant()> next_deadline;
  UniqueFunction<void()> on_deadline;
  std::vector<UniqueFunction<void()>> flushes;
  Duration spin_limit{};
  UniqueFunction<bool()> pending;
  unsigned spin_misses = 0;
  unsigned spin_paused = 0;

  bool stopping = false;
  bool served = false;  // something happened in this iteration
  LoopCounters counters;

  std::mutex mutex;  // guards posted
  std::vector<UniqueFunction<void()>> posted;

  void run_posted();
  void arm_timer();
  void end_iteration();
  bool spin();
};

void Loop::State::run_posted() {
  std::vector<UniqueFunction<void()>> batch;
  {
    std::lock_guard lock(mutex);
    batch.swap(posted);
  }
  for (auto& function : batch) function();
}

// Before the wait.
void Loop::State::arm_timer() {
  if (!next_deadline) return;
  Instant due = next_deadline();
  if (due == Instant::never() || timer_at <= due) return;
  // An all-zero time would disarm; the past is as good as now.
  std::int64_t ns = due.ns > 0 ? due.ns : 1;
  itimerspec spec{};
  spec.it_value.tv_sec = static_cast<time_t>(ns / 1'000'000'000);
  spec.it_value.tv_nsec = static_cast<long>(ns % 1'000'000'000);
  MAGMA_CHECK(::timerfd_settime(timer.get(), TFD_TIMER_ABSTIME, &spec, nullptr) == 0);
  timer_at = due;
  ++counters.timer_moves;
}

// After the wait.
void Loop::State::end_iteration() {
  ++counters.iterations;
  for (unsigned round = 0; next_deadline && round < kDeadlineRounds; ++round) {
    Instant due = next_deadline();
    if (due == Instant::never() || clock.now() < due) break;
    ++counters.deadlines;
    served = true;
    on_deadline();
  }
  if (!served) return;
  ++counters.wakeups;
  for (auto& flush : flushes) flush();
}

// True if something happened: no sleep is due.
bool Loop::State::spin() {
  if (spin_limit <= Duration{} || !pending || !pending()) return false;
  if (spin_paused > 0) {
    --spin_paused;
    return false;
  }
  ++counters.spins;
  Instant end = clock.now() + spin_limit;
  do {
    served = false;
    uv_run(&loop, UV_RUN_NOWAIT);
    if (served || stopping) {
      ++counters.spins_won;
      spin_misses = 0;
      return true;
    }
  } while (clock.now() < end);
  if (++spin_misses >= kSpinMissesMax) {
    spin_misses = 0;
    spin_paused = kSpinPause;
  }
  return false;
}

Loop::Loop(sys::Clock& clock) : state_(std::make_unique<State>(clock)) {
  State* s = state_.get();
  MAGMA_CHECK(uv_loop_init(&s->loop) == 0);
  MAGMA_CHECK(uv_prepare_init(&s->loop, &s->prepare) == 0);
  MAGMA_CHECK(uv_check_init(&s->loop, &s->check) == 0);
  s->prepare.data = s->check.data = s->async.data = s;
  uv_prepare_start(&s->prepare, [](uv_prepare_t* handle) noexcept {
    static_cast<State*>(handle->data)->arm_timer();
  });
  uv_check_start(&s->check, [](uv_check_t* handle) noexcept {
    static_cast<State*>(handle->data)->end_iteration();
  });
  MAGMA_CHECK(uv_async_init(&s->loop, &s->async, [](uv_async_t* handle) noexcept {
                auto* state = static_cast<State*>(handle->data);
                state->served = true;
                state->run_posted();
              }) == 0);
  s->timer = Fd(::timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC));
  MAGMA_CHECK(static_cast<bool>(s->timer));
  auto timer_watch = watch(s->timer.get(), kReadable, [s](unsigned) {
    std::uint64_t expirations;
    [[maybe_unused]] auto got = ::read(s->timer.get(), &expirations, sizeof expirations);
    s->timer_at = Instant::never();
  });
  MAGMA_CHECK(timer_watch.has_value());
  s->timer_watch = std::move(*timer_watch);
}

Loop::~Loop() {
  State* s = state_.get();
  s->timer_watch.reset();
  MAGMA_CHECK(s->watches == 0);
  uv_close(as_handle(&s->prepare), nullptr);
  uv_close(as_handle(&s->check), nullptr);
  uv_close(as_handle(&s->async), nullptr);
  for (SignalState* signal : s->signals) {
    uv_close(as_handle(&signal->handle),
             [](uv_handle_t* handle) noexcept { delete static_cast<SignalState*>(handle->data); });
  }
  uv_run(&s->loop, UV_RUN_DEFAULT);
  MAGMA_CHECK(uv_loop_close(&s->loop) == 0);
}

void Loop::run() {
  State* s = state_.get();
  s->stopping = false;
  for (auto& flush : s->flushes) flush();  // what was prepared before the loop ran
  while (!s->stopping) {
    if (s->spin()) continue;
    s->served = false;
    uv_run(&s->loop, UV_RUN_ONCE);
  }
}

void Loop::stop() { state_->stopping = true; }

Result<Loop::Watch> Loop::watch(int fd, unsigned events, UniqueFunction<void(unsigned)> ready) {
  auto state = std::make_unique<WatchState>();
  int error = uv_poll_init(&state_->loop, &state->handle, fd);
  if (error != 0) return fail(error_of_errno("watch", "descriptor", -error));
  state->handle.data = state.get();
  state->loop = state_.get();
  state->fd = fd;
  state->ready = std::move(ready);
  ++state_->watches;
  Watch watch(state.release());
  watch.set_events(events);
  return watch;
}

void Loop::Watch::set_events(unsigned events) {
  MAGMA_CHECK(state_ != nullptr);
  if (events == 0) {
    uv_poll_stop(&state_->handle);
    return;
  }
  auto on_ready = [](uv_poll_t* handle, int status, int what) noexcept {
    auto* state = static_cast<WatchState*>(handle->data);
    state->loop->served = true;
    unsigned came = kReadable | kWritable;  // an error: reading or writing will tell which
    if (status == 0)
      came = ((what & UV_READABLE) != 0 ? kReadable : 0) |
             ((what & UV_WRITABLE) != 0 ? kWritable : 0);
    state->ready(came);
  };
  MAGMA_CHECK(uv_poll_start(&state_->handle, uv_events(events), on_ready) == 0);
}

void Loop::Watch::reset() {
  if (state_ == nullptr) return;
  WatchState* state = std::exchange(state_, nullptr);
  --state->loop->watches;
  uv_poll_stop(&state->handle);
  uv_close(as_handle(&state->handle),
           [](uv_handle_t* handle) noexcept { delete static_cast<WatchState*>(handle->data); });
}

void Loop::set_deadline(UniqueFunction<Instant()> next, UniqueFunction<void()> on_deadline) {
  state_->next_deadline = std::move(next);
  state_->on_deadline = std::move(on_deadline);
}

void Loop::on_flush(UniqueFunction<void()> flush) { state_->flushes.push_back(std::move(flush)); }

void Loop::on_signal(int signal_number, UniqueFunction<void()> handler) {
  auto state = std::make_unique<SignalState>();
  MAGMA_CHECK(uv_signal_init(&state_->loop, &state->handle) == 0);
  state->handle.data = state.get();
  state->handler = std::move(handler);
  state->served = &state_->served;
  SignalState* signal = state.release();
  state_->signals.push_back(signal);
  auto on_signal = [](uv_signal_t* handle, int) noexcept {
    auto* self = static_cast<SignalState*>(handle->data);
    *self->served = true;
    self->handler();
  };
  MAGMA_CHECK(uv_signal_start(&signal->handle, on_signal, signal_number) == 0);
}

void Loop::post(UniqueFunction<void()> function) {
  bool first;
  {
    std::lock_guard lock(state_->mutex);
    first = state_->posted.empty();
    state_->posted.push_back(std::move(function));
  }
  // One wake-up for all that come before the loop's thread looks.
  if (first) uv_async_send(&state_->async);
}

void Loop::set_spin(Duration limit, UniqueFunction<bool()> pending) {
  state_->spin_limit = std::thread::hardware_concurrency() > 1 ? limit : Duration{};
  state_->pending = std::move(pending);
}

const LoopCounters& Loop::counters() const { return state_->counters; }
sys::Clock& Loop::clock() const { return state_->clock; }

}  // namespace magma::sys_real
