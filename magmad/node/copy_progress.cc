#include "magmad/node/copy_progress.h"

namespace magma::node {

void CopyProgress::note(Instant now, const std::vector<wire::MirrorFact>& told) {
  std::map<ring::VolcanoId, ring::ProgressMeter> copying;
  for (const wire::MirrorFact& fact : told) {
    if (fact.state != wire::MirrorState::copying || fact.bytes_done >= fact.bytes_total) continue;
    ring::ProgressMeter& meter = copying[fact.volcano];
    if (auto known = meters_.find(fact.volcano); known != meters_.end()) meter = known->second;
    meter.note(now, {.slots = ring::kSlotCount, .bytes = fact.bytes_total - fact.bytes_done});
  }
  meters_ = std::move(copying);
}

std::map<ring::VolcanoId, Duration> CopyProgress::left() const {
  std::map<ring::VolcanoId, Duration> left;
  for (const auto& [volcano, meter] : meters_)
    if (const auto progress = meter.progress(); progress && progress->left)
      left[volcano] = *progress->left;
  return left;
}

}  // namespace magma::node
