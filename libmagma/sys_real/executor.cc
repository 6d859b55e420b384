#include "libmagma/sys_real/executor.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "libmagma/base/check.h"
#include "libmagma/sys_real/short_jobs.h"

namespace magma::sys_real {

struct ThreadPool::Shared {
  struct Job {
    UniqueFunction<void()> work;
    UniqueFunction<void()> done;
  };

  explicit Shared(Loop& l) : loop(l) {}

  Loop& loop;
  std::mutex mutex;  // guards the next four
  std::condition_variable wake;
  std::deque<Job> queue;
  std::vector<UniqueFunction<void()>> finished;
  bool stopping = false;
  std::size_t under_way = 0;  // the loop's thread only, as the next four
  std::size_t under_way_max = 0;
  ShortJobs short_jobs;
  std::uint64_t done_in_place = 0;
  std::uint64_t last_round = 0;  // of the loop, in which a short job came
  std::vector<std::thread> threads;

  void work_on(const std::shared_ptr<Shared>& self);
  void deliver();
};

void ThreadPool::Shared::work_on(const std::shared_ptr<Shared>& self) {
  std::unique_lock lock(mutex);
  while (true) {
    wake.wait(lock, [this] { return stopping || !queue.empty(); });
    if (queue.empty()) return;
    Job job = std::move(queue.front());
    queue.pop_front();
    lock.unlock();
    job.work();
    job.work = nullptr;  // what it owns ends on this thread
    lock.lock();
    bool first = finished.empty();
    finished.push_back(std::move(job.done));
    if (!first || stopping) continue;
    lock.unlock();
    loop.post([self] { self->deliver(); });
    lock.lock();
  }
}

void ThreadPool::Shared::deliver() {
  std::vector<UniqueFunction<void()>> batch;
  {
    std::lock_guard lock(mutex);
    batch.swap(finished);
  }
  under_way -= batch.size();
  for (auto& done : batch)
    if (done) done();
}

ThreadPool::ThreadPool(Loop& loop, unsigned threads) : shared_(std::make_shared<Shared>(loop)) {
  MAGMA_CHECK(threads > 0);
  // Signals are the loop's business.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (unsigned i = 0; i < threads; ++i) {
    shared_->threads.emplace_back([shared = shared_] { shared->work_on(shared); });
    pthread_setname_np(shared_->threads.back().native_handle(),
                       ("store-" + std::to_string(i)).c_str());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(shared_->mutex);
    shared_->stopping = true;
  }
  shared_->wake.notify_all();
  for (auto& thread : shared_->threads) thread.join();
  shared_->finished.clear();
}

void ThreadPool::run(UniqueFunction<void()> work, UniqueFunction<void()> done) {
  ++shared_->under_way;
  shared_->under_way_max = std::max(shared_->under_way_max, shared_->under_way);
  {
    std::lock_guard lock(shared_->mutex);
    shared_->queue.push_back({std::move(work), std::move(done)});
  }
  shared_->wake.notify_one();
}

void ThreadPool::run_short(UniqueFunction<void()> work, UniqueFunction<void()> done) {
  Shared& s = *shared_;
  sys::Clock& clock = s.loop.clock();
  const std::uint64_t round = s.loop.counters().iterations;
  const bool is_alone = s.under_way == 0 && round != std::exchange(s.last_round, round);
  if (s.short_jobs.begins(clock.now(), is_alone)) {
    const Instant begin = clock.now();
    work();
    const Instant end = clock.now();
    s.short_jobs.ended(end, end - begin, true);
    ++s.done_in_place;
    if (done) done();
    return;
  }
  auto took = std::make_unique<Duration>();
  auto timed = [work = std::move(work), &clock, took = took.get()]() mutable {
    const Instant begin = clock.now();
    work();
    *took = clock.now() - begin;
  };
  run(std::move(timed), [&s, done = std::move(done), took = std::move(took)]() mutable {
    s.short_jobs.ended(s.loop.clock().now(), *took, false);
    if (done) done();
  });
}

std::uint64_t ThreadPool::done_in_place() const { return shared_->done_in_place; }

std::size_t ThreadPool::under_way() const { return shared_->under_way; }
std::size_t ThreadPool::under_way_max() const { return shared_->under_way_max; }

}  // namespace magma::sys_real
