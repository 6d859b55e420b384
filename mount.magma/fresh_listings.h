// Directories that this mount has listed to the end so lately that the kernel may list them again
// from its memory: every name it has is still believed, most for a while. Later the directory is
// better read anew, which renews what is believed of all its names at once; from the kernel's
// memory each would be looked up by itself.
//
// The kernel forgets a listing by itself when this mount changes the directory, and when its
// attributes have changed. Here it is forgotten as soon as the ring tells of a change.
//
// Pure; one thread. Bounded: kDirectoriesMax.
#pragma once

#include <algorithm>
#include <cstddef>
#include <unordered_map>

#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/wire/session_messages.h"

namespace magma::mount {

class FreshListings {
 public:
  static constexpr std::size_t kDirectoriesMax = 4096;
  // A listing whose names are believed for less is not worth keeping.
  static constexpr Duration kWorthKeeping = wire::kTokenTerm / 2;

  // All of it was listed; its names are believed until then.
  void add(Ino directory, Instant believed_until, Instant now) {
    if (believed_until - now < kWorthKeeping) return;
    if (listings_.size() >= kDirectoriesMax && !listings_.contains(directory))
      std::erase_if(listings_, [&](const auto& each) { return !is_worth(each.second, now); });
    if (listings_.size() >= kDirectoriesMax) listings_.clear();
    listings_[directory] = believed_until;
  }
  // Something in it, or the directory itself, has been changed by others.
  void forget(Ino directory) {
    if (!listings_.empty()) listings_.erase(directory);
  }
  bool contains(Ino directory, Instant now) const {
    auto found = listings_.find(directory);
    return found != listings_.end() && is_worth(found->second, now);
  }
  std::size_t size() const { return listings_.size(); }

 private:
  static bool is_worth(Instant until, Instant now) { return until - now >= kWorthKeeping; }

  std::unordered_map<Ino, Instant> listings_;
};

}  // namespace magma::mount
