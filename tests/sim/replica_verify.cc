#include "tests/sim/replica_verify.h"

#include <utility>

#include <fmt/format.h>

#include "magmad/store/database.h"

namespace magma::test {

namespace {

constexpr Duration kPause = milliseconds(2);    // between pieces
constexpr Duration kAgain = milliseconds(300);  // when somebody is away
constexpr Duration kAnswerMax = seconds(70);    // by then the primary has answered or died

}  // namespace

void ReplicaVerify::start() {
  mirror_ = 1;
  cursor_ = {};
  ask();
}

bool ReplicaVerify::run_once(Duration limit) {
  const std::uint64_t before = counters_.rounds;
  start();
  const bool is_done = cluster_.run_until([&] { return counters_.rounds != before; }, limit);
  stop();
  return is_done;
}

void ReplicaVerify::ask_later(Duration after) {
  cluster_.loop().after(after, [this, asked = ++generation_, life = std::weak_ptr<int>(life_)] {
    if (!life.expired() && asked == generation_) ask();
  });
}

void ReplicaVerify::ask() {
  if (!cluster_.volcano_runs(0) || !cluster_.volcano_runs(mirror_)) return ask_later(kAgain);
  ask_later(kAnswerMax);  // unless it is answered: who dies answers nobody
  wire::CompareRequest request;
  request.mirror = cluster_.volcano(mirror_).config().self.value;
  request.reads_content = reads_content_;
  request.cursor = cursor_;
  cluster_.volcano(0).compare(std::move(request), [this, asked = generation_,
                                                   life = std::weak_ptr<int>(life_)](auto reply) {
    if (!life.expired() && asked == generation_) told(std::move(reply));
  });
  cluster_.touch_volcano(0);
}

void ReplicaVerify::told(Result<wire::CompareReply> reply) {
  if (!reply) {
    ++counters_.errors;
    return ask_later(kAgain);
  }
  if (!reply->is_in_sync) {
    ++counters_.not_in_sync;
    return ask_later(kAgain);
  }
  ++counters_.pieces;
  counters_.rows += reply->rows;
  counters_.bytes += reply->bytes;
  differences_.insert(differences_.end(), reply->differences.begin(), reply->differences.end());
  if (reply->next)
    cursor_ = *reply->next;
  else
    next_mirror();
  ask_later(kPause);
}

void ReplicaVerify::next_mirror() {
  cursor_ = {};
  if (++mirror_ < cluster_.volcanoes()) return;
  mirror_ = 1;
  ++counters_.rounds;
}

std::optional<std::string> ReplicaVerify::problem() const {
  if (differences_.empty()) return std::nullopt;
  const wire::Difference& first = differences_.front();
  return fmt::format("{} differences, the first: kind {}, {} a={:x} b={:x} c='{}' offset {}",
                     differences_.size(), static_cast<unsigned>(first.kind),
                     store::name_of(static_cast<store::Table>(first.table)), first.key.a,
                     first.key.b, first.key.c, first.offset);
}

}  // namespace magma::test
