// Comparisons with mirrors (comparisons.h), as messages of their runs; what they are to have before
// an end.
#include <algorithm>
#include <utility>

#include "magmad/replication/source.h"

namespace magma::replication {

// One stream after the other.
void Source::compare(wire::CompareRequest request, Comparisons::Done done) {
  std::vector<const Mirror*> streams;
  for (const auto& mirror : mirrors_)
    if (mirror->id.value == request.mirror) streams.push_back(mirror.get());
  if (streams.empty()) return done(fail(Code::not_found));
  std::sort(streams.begin(), streams.end(),
            [](const Mirror* a, const Mirror* b) { return a->stream < b->stream; });
  auto found = std::find_if(streams.begin(), streams.end(), [&](const Mirror* mirror) {
    return mirror->stream >= request.cursor.stream;
  });
  if (found == streams.end()) return done(fail(Code::not_found));
  const Mirror& stream = **found++;
  if (stream.stream != request.cursor.stream) request.cursor = {.stream = stream.stream};
  std::optional<std::uint16_t> following;
  if (found != streams.end()) following = (*found)->stream;
  comparisons_.begin(std::move(request), stream.slots, following, std::move(done));
}

// What is sent now comes when it has all that was committed here. (After a batch that failed, rows
// may be others here until the next one tells of them.)
bool Source::has_everything(const Mirror& mirror) const {
  return mirror.phase == Phase::going && mirror.is_whole && mirror.queue.empty() &&
         mirror.has_marked && mirror.catch_up->is_done() && !shard_.has_doubts();
}

void Source::send_comparisons(Mirror& mirror) {
  if (held_back_ && held_at_ != shard_.position().batch)
    send_comparison(mirror, *std::exchange(held_back_, std::nullopt));
  while (!held_back_ && has_everything(mirror) && mirror.sent.size() < kRequestsMax) {
    auto asked = comparisons_.next(mirror.id, mirror.stream);
    if (!asked) return;
    if (is_disordered_) {
      held_back_ = std::move(asked);
      held_at_ = shard_.position().batch;
    } else {
      send_comparison(mirror, std::move(*asked));
    }
  }
}

void Source::send_comparison(Mirror& mirror, Comparisons::Asked asked) {
  send(mirror, std::move(asked.piece), {.comparison = asked.number});
}

bool Source::has_all(ring::VolcanoId id, const ring::SlotMask& slots) const {
  ring::SlotMask has;
  for (const auto& mirror : mirrors_)
    if (mirror->id == id && has_everything(*mirror) &&
        mirror->confirmed >= shard_.position().batch)
      has |= mirror->slots;
  return (slots & ~has).none();
}

bool Source::has_told_all() const {
  return std::all_of(mirrors_.begin(), mirrors_.end(), [&](const auto& mirror) {
    const bool is_waited_for = mirror->is_whole || mirror->must_have();
    return !is_waited_for || mirror->confirmed >= shard_.position().batch;
  });
}

Source::Stats Source::stats() const {
  Stats stats = stats_;
  stats.compared = comparisons_.stats();
  return stats;
}

}  // namespace magma::replication
