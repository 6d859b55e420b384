// How long the copies that a primary is making will take, from what it tells of them time after
// time. Used by Node for its views.
#pragma once

#include <map>
#include <vector>

#include "libmagma/base/time.h"
#include "libmagma/ring/progress.h"
#include "libmagma/wire/node_messages.h"

namespace magma::node {

class CopyProgress {
 public:
  // What the primary said last; `now` never goes back. Who is not copying is forgotten.
  void note(Instant now, const std::vector<wire::MirrorFact>& told);
  // Until they have everything. Who is missing: too early to tell, or nothing moves.
  std::map<ring::VolcanoId, Duration> left() const;

 private:
  std::map<ring::VolcanoId, ring::ProgressMeter> meters_;
};

}  // namespace magma::node
