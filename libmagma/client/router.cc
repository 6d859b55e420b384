#include "libmagma/client/router.h"

#include "libmagma/base/log.h"

namespace magma::client {

namespace {
LinkIndex link_of(const wire::MapRun& run, Links& links) {
  if (run.replicas.empty()) return kNoLink;
  auto address = sys::Address::parse(run.replicas.front(), kFlarePort);
  if (!address) {
    log_warning("lava_map_bad_address text={}", run.replicas.front());
    return kNoLink;
  }
  return links.add(*address);
}
}  // namespace

bool Router::install(const wire::AttachReply& reply, bool force, Links& links) {
  if (!force && reply.map_version < version_) return false;
  std::array<Route, ring::kSlotCount> routes{};
  for (const wire::MapRun& run : reply.map) {
    if (run.first > run.last || run.last.value >= ring::kSlotCount) continue;
    Route route{.link = link_of(run, links), .epoch = run.epoch};
    for (unsigned slot = run.first.value; slot <= run.last.value; ++slot) routes[slot] = route;
    // The backups are where the next map may be had when the primary is gone.
    for (const std::string& replica : run.replicas)
      if (auto address = sys::Address::parse(replica, kFlarePort)) links.add(*address);
  }
  version_ = reply.map_version;
  if (routes == routes_) return false;
  routes_ = routes;
  return true;
}

}  // namespace magma::client
