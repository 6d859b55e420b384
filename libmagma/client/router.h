// Slot -> volcano and epoch, from the lava map of an AttachReply. Used by Requests for every
// request it sends. One thread.
#pragma once

#include <array>
#include <cstdint>

#include "libmagma/base/strong.h"
#include "libmagma/client/links.h"
#include "libmagma/ring/slot.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::client {

struct Route {
  LinkIndex link = kNoLink;  // of the slot's primary; kNoLink while it has none
  Epoch epoch;
  friend bool operator==(const Route&, const Route&) = default;
};

class Router {
 public:
  Route route(ring::Slot slot) const { return routes_[slot.value % ring::kSlotCount]; }
  std::uint32_t version() const { return version_; }

  // Takes the map over unless it is older (or `force`), links for its volcanoes are added to
  // `links`. True if a route changed. Runs that make no sense are left out.
  bool install(const wire::AttachReply& reply, bool force, Links& links);

 private:
  std::array<Route, ring::kSlotCount> routes_{};
  std::uint32_t version_ = 0;
};

inline constexpr std::uint16_t kFlarePort = 12000;

}  // namespace magma::client
