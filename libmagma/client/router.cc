#include "libmagma/client/router.h"

#include <algorithm>

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

bool Router::is_of_owner(const wire::AttachReply& reply) {
  return std::any_of(reply.map.begin(), reply.map.end(),
                     [](const wire::MapRun& run) { return run.epoch != Epoch(0); });
}

std::vector<LinkIndex> Router::links_of_named(const wire::AttachReply& reply, Links& links) {
  std::vector<LinkIndex> named;
  for (const wire::MapRun& run : reply.map) {
    const LinkIndex link = link_of(run, links);
    if (link != kNoLink && std::find(named.begin(), named.end(), link) == named.end())
      named.push_back(link);
  }
  return named;
}

LinkIndex Router::link_of_teller(const wire::AttachReply& reply, Links& links) {
  for (const wire::MapRun& run : reply.map)
    if (run.epoch != Epoch(0)) return link_of(run, links);
  return kNoLink;
}

bool Router::install(const wire::AttachReply& reply, LinkIndex from, bool force, Links& links) {
  if (!force && reply.map_version < version(from)) return false;
  const bool is_split =
      std::any_of(reply.map.begin(), reply.map.end(),
                  [](const wire::MapRun& run) { return run.epoch == Epoch(0); });
  std::array<Route, ring::kSlotCount> routes{};
  for (const wire::MapRun& run : reply.map) {
    if (run.first > run.last || run.last.value >= ring::kSlotCount) continue;
    const Route told{.link = link_of(run, links), .epoch = run.epoch};
    for (unsigned slot = run.first.value; slot <= run.last.value; ++slot) {
      if (!force && reply.owners_version < told_by_[slot]) {
        // Its epoch its owner knows best, whoever told that it is the owner.
        const bool is_owner = told.epoch != Epoch(0) && told.link == routes_[slot].link;
        routes[slot] = is_owner ? told : routes_[slot];
        continue;
      }
      told_by_[slot] = reply.owners_version;
      // What the owner itself has told of a slot stays.
      const bool is_known = told.epoch == Epoch(0) && routes_[slot].link == told.link;
      routes[slot] = is_known ? routes_[slot] : told;
    }
    // The backups are where the next map may be had when the primary is gone.
    for (const std::string& replica : run.replicas)
      if (auto address = sys::Address::parse(replica, kFlarePort)) links.add(*address);
  }
  is_split_ = is_split;
  may_change_ = reply.owners_version != 0;
  version_ = reply.map_version;
  if (is_split && from != kNoLink) {
    if (versions_.size() <= from) versions_.resize(from + 1u);
    versions_[from] = reply.map_version;
  }
  if (routes == routes_) return false;
  routes_ = routes;
  find_owners();
  return true;
}

void Router::find_owners() {
  owners_.clear();
  if (!is_split_) return;
  std::vector<bool> is_listed;
  for (unsigned slot = 0; slot < ring::kSlotCount; ++slot) {
    const LinkIndex link = routes_[slot].link;
    if (link == kNoLink) continue;
    if (is_listed.size() <= link) is_listed.resize(link + 1u);
    if (is_listed[link]) continue;
    is_listed[link] = true;
    owners_.push_back({link, ring::Slot(static_cast<std::uint16_t>(slot))});
  }
}

}  // namespace magma::client
