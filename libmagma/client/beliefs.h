// What this client may still believe of what volcanoes told it (ResponseHead::believe_ms). A
// `changed` message ends the belief in a flare; an answer to a request that was made before it came
// may have been given before the change, so it is not believed either. One thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <unordered_map>

#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"

namespace magma::client {

class Beliefs {
 public:
  static constexpr std::size_t kChangesMax = 4096;

  void changed(Ino ino, Instant now) {
    if (changed_at_.size() >= kChangesMax) all_changed(now);
    changed_at_[ino] = now;
  }
  void all_changed(Instant now) {
    all_changed_at_ = now;
    changed_at_.clear();
  }
  // Until when an answer to a request made at `made_at` is believed of `ino`, if the volcano allows
  // it until `until`; zero: not at all.
  Instant until(Ino ino, Instant made_at, Instant until) {
    if (made_at <= all_changed_at_) return {};
    if (auto found = changed_at_.find(ino); found != changed_at_.end() && made_at <= found->second)
      return {};
    last_ = std::max(last_, until);
    return until;
  }
  // An answer has come that will be believed until then, perhaps only when the rest of it has come.
  void may_come(Instant until) { last_ = std::max(last_, until); }
  // When the last belief ends.
  Instant last() const { return last_; }

 private:
  std::unordered_map<Ino, Instant> changed_at_;
  Instant all_changed_at_{};
  Instant last_{};
};

}  // namespace magma::client
