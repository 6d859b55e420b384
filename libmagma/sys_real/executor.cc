#include "libmagma/sys_real/executor.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "libmagma/base/check.h"

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
  std::size_t under_way = 0;  // the loop's thread only, as the next
  std::size_t under_way_max = 0;
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

std::size_t ThreadPool::under_way() const { return shared_->under_way; }
std::size_t ThreadPool::under_way_max() const { return shared_->under_way_max; }

}  // namespace magma::sys_real
