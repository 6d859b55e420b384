// libmagma/sys_real/loop and executor. Real time, but no test waits for time to pass: deadlines are
// due within a millisecond.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <thread>
#include <vector>

#include "libmagma/sys_real/clock.h"
#include "libmagma/sys_real/executor.h"
#include "libmagma/sys_real/fd.h"
#include "libmagma/sys_real/loop.h"
#include "libmagma/sys_real/short_jobs.h"
#include "libmagma/sys_real/udp.h"

using namespace magma;
using sys_real::Fd;
using sys_real::Loop;

namespace {

Fd event_fd(unsigned count) { return Fd(::eventfd(count, EFD_NONBLOCK | EFD_CLOEXEC)); }

void drain(const Fd& fd) {
  std::uint64_t value;
  [[maybe_unused]] auto got = ::read(fd.get(), &value, sizeof value);
}

}  // namespace

TEST_CASE("loop: descriptors are served, then the flush runs once for all of them") {
  sys_real::Clock clock;
  Fd a = event_fd(1);
  Fd b = event_fd(1);
  Loop loop(clock);
  int served = 0;
  std::vector<int> served_at_flush;
  auto watch_a = loop.watch(a.get(), sys_real::kReadable, [&](unsigned) { drain(a), ++served; });
  auto watch_b = loop.watch(b.get(), sys_real::kReadable, [&](unsigned) { drain(b), ++served; });
  REQUIRE(watch_a.has_value());
  REQUIRE(watch_b.has_value());
  loop.on_flush([&] {
    served_at_flush.push_back(served);
    if (served == 2) loop.stop();
  });
  loop.run();
  CHECK(served_at_flush == std::vector<int>{0, 2});
}

TEST_CASE("loop: a watch may end itself, pause, and be for writing") {
  sys_real::Clock clock;
  Fd a = event_fd(1);
  Fd b = event_fd(0);
  Loop loop(clock);
  int served = 0;
  unsigned events = 0;
  std::optional<Loop::Watch> self;
  self = std::move(*loop.watch(a.get(), sys_real::kReadable, [&](unsigned) {
    ++served;
    self.reset();  // a stays readable: only the end of the watch stops the calls
  }));
  Loop::Watch other;
  other = std::move(*loop.watch(b.get(), sys_real::kWritable, [&](unsigned what) {
    events = what;
    other.set_events(0);
    loop.post([&] { loop.post([&] { loop.stop(); }); });
  }));
  loop.run();
  CHECK(served == 1);
  CHECK(events == sys_real::kWritable);
  other.reset();
}

TEST_CASE("loop: the deadline is kept, moved, and never early") {
  sys_real::Clock clock;
  Loop loop(clock);
  Instant due = clock.now() + seconds(3600);
  std::vector<Duration> late;
  loop.set_deadline([&] { return due; },
                    [&] {
                      late.push_back(clock.now() - due);
                      if (late.size() == 5) {
                        due = Instant::never();
                        loop.stop();
                      } else {
                        due = clock.now() + microseconds(200);
                      }
                    });
  loop.post([&] { due = clock.now() + microseconds(200); });  // earlier than the timer is set to
  loop.run();
  REQUIRE(late.size() == 5);
  for (Duration d : late) {
    CHECK(d >= Duration{});
    CHECK(d < seconds(10));
  }
}

TEST_CASE("loop: posts from many threads arrive once, in each thread's order") {
  sys_real::Clock clock;
  Loop loop(clock);
  constexpr int kThreads = 4;
  constexpr int kPosts = 1000;
  std::vector<std::vector<int>> got(kThreads);
  int left = kThreads * kPosts;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPosts; ++i)
        loop.post([&, t, i] {
          got[static_cast<std::size_t>(t)].push_back(i);
          if (--left == 0) loop.stop();
        });
    });
  }
  loop.run();
  for (auto& thread : threads) thread.join();
  for (auto& list : got) {
    REQUIRE(list.size() == kPosts);
    for (int i = 0; i < kPosts; ++i) REQUIRE(list[static_cast<std::size_t>(i)] == i);
  }
}

TEST_CASE("loop: what was posted and not run is destroyed with the loop") {
  sys_real::Clock clock;
  auto token = std::make_shared<int>(1);  // shared by the test and the posted function
  {
    Loop loop(clock);
    loop.post([token] { FAIL("must not run"); });
    CHECK(token.use_count() == 2);
  }
  CHECK(token.use_count() == 1);
}

TEST_CASE("loop: signals") {
  sys_real::Clock clock;
  Loop loop(clock);
  int hups = 0;
  loop.on_signal(SIGHUP, [&] {
    ++hups;
    loop.stop();
  });
  loop.post([] { ::raise(SIGHUP); });
  loop.run();
  CHECK(hups == 1);
}

TEST_CASE("loop: polls before it sleeps only while something is due") {
  sys_real::Clock clock;
  Fd fd = event_fd(0);
  Loop loop(clock);
  bool due = false;
  loop.set_spin(milliseconds(20), [&] { return due; });
  auto watch = loop.watch(fd.get(), sys_real::kReadable, [&](unsigned) {
    drain(fd);
    due = false;
    loop.stop();
  });
  REQUIRE(watch.has_value());
  std::uint64_t one = 1;
  REQUIRE(::write(fd.get(), &one, sizeof one) == sizeof one);
  loop.run();
  CHECK(loop.counters().spins == 0);
  due = true;
  REQUIRE(::write(fd.get(), &one, sizeof one) == sizeof one);
  loop.run();
  if (std::thread::hardware_concurrency() > 1) {
    CHECK(loop.counters().spins == 1);
    CHECK(loop.counters().spins_won == 1);
  }
}

TEST_CASE("loop: polling in vain is given up, for a while") {
  sys_real::Clock clock;
  Loop loop(clock);
  loop.set_spin(nanoseconds(1), [] { return true; });
  Instant due = clock.now();
  int rounds = 0;
  loop.set_deadline([&] { return due; },
                    [&] {
                      due = clock.now() + microseconds(100);
                      if (++rounds == 60) loop.stop();
                    });
  loop.run();
  CHECK(loop.counters().spins < loop.counters().iterations);
  if (std::thread::hardware_concurrency() > 1) CHECK(loop.counters().spins > 0);
}

TEST_CASE("loop: two UDP sockets answer each other") {
  sys_real::Clock clock;
  auto a = sys_real::UdpSocket::bind(sys::Address::v4(127, 0, 0, 1, 0), {}).value();
  auto b = sys_real::UdpSocket::bind(sys::Address::v4(127, 0, 0, 1, 0), {}).value();
  Loop loop(clock);
  int answers = 0;
  sys_real::UdpSocket::OnDatagram echo = [&](const sys::Address& from, MutableByteSpan bytes) {
    b->send(from, bytes, bytes.size());
  };
  sys_real::UdpSocket::OnDatagram again = [&](const sys::Address&, MutableByteSpan bytes) {
    if (++answers == 1000) return loop.stop();
    a->send(b->local(), bytes, bytes.size());
  };
  auto watch_a = loop.watch(a->fd(), sys_real::kReadable, [&](unsigned) { a->receive(again); });
  auto watch_b = loop.watch(b->fd(), sys_real::kReadable, [&](unsigned) { b->receive(echo); });
  a->send(b->local(), as_bytes("ping"), 4);
  loop.run();
  CHECK(answers == 1000);
}

TEST_CASE("executor: work leaves the loop's thread, done returns to it") {
  sys_real::Clock clock;
  Loop loop(clock);
  sys_real::ThreadPool pool(loop, 3);
  const auto here = std::this_thread::get_id();
  constexpr int kJobs = 500;
  std::atomic<int> worked{0};
  std::atomic<int> on_loop_thread{0};
  int done = 0;
  loop.post([&] {
    for (int i = 0; i < kJobs; ++i)
      pool.run(
          [&] {
            if (std::this_thread::get_id() == here) ++on_loop_thread;
            ++worked;
          },
          [&] {
            CHECK(std::this_thread::get_id() == here);
            if (++done == kJobs) loop.stop();
          });
    CHECK(pool.under_way() == kJobs);
  });
  loop.run();
  CHECK(worked == kJobs);
  CHECK(on_loop_thread == 0);
  CHECK(done == kJobs);
  CHECK(pool.under_way() == 0);
  CHECK(pool.under_way_max() == kJobs);
}

TEST_CASE("executor: short jobs that come one by one are done in place, others are not") {
  sys_real::Clock clock;
  Loop loop(clock);
  sys_real::ThreadPool pool(loop, 2);
  const auto here = std::this_thread::get_id();
  std::atomic<int> in_place{0};
  int left = 200;
  auto work = [&] { in_place += std::this_thread::get_id() == here; };
  UniqueFunction<void()> next;
  auto again = [&] {
    if (--left == 0) return loop.stop();
    loop.post([&] { next(); });
  };
  SUBCASE("one by one") {
    next = [&] { pool.run_short(work, again); };
    loop.post([&] { next(); });
    loop.run();
    CHECK(in_place > 0);
    CHECK(pool.done_in_place() == static_cast<std::uint64_t>(in_place));
  }
  SUBCASE("two at a time") {
    next = [&] {
      pool.run_short(work, [] {});
      pool.run_short(work, again);
    };
    loop.post([&] { next(); });
    loop.run();
    CHECK(in_place == 0);
  }
  SUBCASE("beside others") {
    next = [&] {
      pool.run([] {}, [] {});
      pool.run_short(work, again);
    };
    loop.post([&] { next(); });
    loop.run();
    CHECK(in_place == 0);
  }
}

using sys_real::ShortJobs;

struct ShortJobsRig {
  ShortJobs jobs{};
  Instant now{};
  // So many jobs alone, each of which takes `took`; how many were done in place.
  unsigned run(unsigned count, Duration took) {
    unsigned in_place = 0;
    for (unsigned i = 0; i < count; ++i) {
      const bool is_in_place = jobs.begins(now, true);
      now = now + took + microseconds(100);
      jobs.ended(now, took, is_in_place);
      in_place += is_in_place;
    }
    return in_place;
  }
};

TEST_CASE("short jobs: in place once they have proven to be alone and quick") {
  ShortJobsRig rig;
  CHECK(rig.run(ShortJobs::kAloneMin, microseconds(60)) == 0);
  CHECK(rig.run(1000, microseconds(60)) > 900);
  CHECK_FALSE(rig.jobs.begins(rig.now, false));
  CHECK_FALSE(rig.jobs.begins(rig.now, true));  // it was not alone just now
}

TEST_CASE("short jobs: never in place on a slow disk, nor while it is slow") {
  ShortJobsRig rig;
  CHECK(rig.run(1000, milliseconds(8)) == 0);
  CHECK(rig.run(1000, microseconds(60)) > 0);
  // Each of them a little too long: only until the average says so.
  CHECK(rig.run(1000, microseconds(400)) < 20);
}

TEST_CASE("short jobs: after a long one a pause, longer each time, and at most a minute") {
  ShortJobsRig rig;
  rig.run(200, microseconds(60));
  // How long none is done in place after one that took a second.
  auto pause = [&] {
    REQUIRE(rig.run(1, seconds(1)) == 1);
    const Instant paused = rig.now;
    while (rig.run(1, microseconds(60)) == 0) {
    }
    return rig.now - paused;
  };
  constexpr Duration kAlone = milliseconds(50);  // until it has proven to be quick and alone again
  for (int times : {1, 2, 4, 8, 16, 32}) {
    const Duration took = pause();
    CHECK(took >= ShortJobs::kPauseMin * times);
    CHECK(took < ShortJobs::kPauseMin * times + kAlone);
  }
  for (int i = 0; i < 3; ++i) CHECK(pause() < ShortJobs::kPauseMax + kAlone);
  rig.now = rig.now + ShortJobs::kForgivenAfter;
  CHECK(pause() < ShortJobs::kPauseMin + kAlone);
}

TEST_CASE("executor: what was queued is worked off at the end, its done callbacks are not run") {
  sys_real::Clock clock;
  Loop loop(clock);
  std::atomic<int> worked{0};
  auto token = std::make_shared<int>(1);  // shared by the test and the callbacks
  {
    sys_real::ThreadPool pool(loop, 1);
    for (int i = 0; i < 20; ++i) pool.run([&] { ++worked; }, [token] { FAIL("must not run"); });
  }
  CHECK(worked == 20);
  CHECK(token.use_count() == 1);
}
