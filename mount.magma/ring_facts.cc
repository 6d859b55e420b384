#include "mount.magma/ring_facts.h"

namespace magma::mount {

void RingFacts::refresh(UniqueFunction<void()> then) {
  const Instant now = clock_.now();
  if (told_at_ && now - *told_at_ < kFresh) return then();
  if (waiting_.empty()) until_ = now + kPatience;
  waiting_.push_back(std::move(then));
  if (std::exchange(is_asked_, true)) return;
  client_.ring([this, life = std::weak_ptr<int>(life_)](Result<wire::RingReply> ring) {
    if (!life.expired()) take(std::move(ring));
  });
}

void RingFacts::take(Result<wire::RingReply> ring) {
  is_asked_ = false;
  if (ring) {
    told_at_ = clock_.now();
    known = std::move(*ring);
    profiles_.set(*known, clock_.wall_now());
  }
  let_go();
}

void RingFacts::let_go() {
  for (auto& then : std::exchange(waiting_, {})) then();
}

void RingFacts::on_timer() {
  if (deadline() <= clock_.now()) let_go();
}

}  // namespace magma::mount
