#include "tests/lib/sim_executor.h"

namespace magma::test {

SimExecutor::SimExecutor() : SimExecutor(Times{}) {}
SimExecutor::SimExecutor(Times times, std::uint64_t seed) : times_(times), random_(seed | 1) {}
SimExecutor::~SimExecutor() = default;

std::uint64_t SimExecutor::next_random() {
  random_ ^= random_ << 13;
  random_ ^= random_ >> 7;
  random_ ^= random_ << 17;
  return random_;
}

Duration SimExecutor::jitter() {
  const std::uint64_t random = next_random();
  if (times_.jitter.ns <= 0) return {};
  return nanoseconds(
      static_cast<std::int64_t>(random % static_cast<std::uint64_t>(times_.jitter.ns)));
}

void SimExecutor::run_short(UniqueFunction<void()> work, UniqueFunction<void()> done) {
  if (in_place_percent_ == 0 || next_random() % 100 >= in_place_percent_)
    return run(std::move(work), std::move(done));
  work();
  done();
}

void SimExecutor::run(UniqueFunction<void()> work, UniqueFunction<void()> done) {
  struct Job {
    UniqueFunction<void()> work, done;
  };
  auto job = std::make_unique<Job>(Job{std::move(work), std::move(done)});
  ++pending_;
  std::weak_ptr<int> life = life_;
  Duration service = times_.service + jitter();
  schedule(times_.start + jitter(), [this, life, service, job = std::move(job)]() mutable {
    if (life.expired()) return;
    job->work();
    schedule(service, [this, life, job = std::move(job)] {
      if (life.expired()) return;
      --pending_;
      job->done();
    });
  });
}

void SimExecutor::schedule(Duration delay, UniqueFunction<void()> function) {
  queue_.emplace(now_ + delay, std::move(function));
}

void SimExecutor::drop() {
  life_ = std::make_shared<int>(0);
  pending_ = 0;
  queue_.clear();
}

bool SimExecutor::run_one() {
  if (queue_.empty()) return false;
  auto first = queue_.begin();
  now_ = first->first;
  auto function = std::move(first->second);
  queue_.erase(first);
  function();
  return true;
}

void SimExecutor::run_all() {
  while (run_one()) {
  }
}

void SimExecutor::run_for(Duration time) {
  Instant end = now_ + time;
  while (!queue_.empty() && queue_.begin()->first <= end) run_one();
  now_ = end;
}

}  // namespace magma::test
