// Slot -> volcano and epoch, from the lava maps of AttachReplies. Used by Requests for every
// request it sends. One thread.
//
// A volcano that has only some of the slots (the map is *split*) tells the epochs of its own, and
// of the others whose they are, with epoch 0: their owners are asked.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

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
  // Of the map that the volcano there has told.
  std::uint32_t version(LinkIndex link) const {
    if (!is_split_) return version_;
    return link < versions_.size() ? versions_[link] : 0;
  }

  // Takes the map over that came over `from`, unless it is older (or `force`); links for its
  // volcanoes are added to `links`. True if a route changed. Runs that make no sense are left out.
  bool install(const wire::AttachReply& reply, LinkIndex from, bool force, Links& links);

  struct Owner {
    LinkIndex link = kNoLink;
    ring::Slot slot;  // one of its slots
  };
  // Whether the slots are several volcanoes'.
  bool is_split() const { return is_split_; }
  // Whether another volcano may get slots while this client is there.
  bool may_change() const { return may_change_; }
  const std::vector<Owner>& owners() const { return owners_; }
  // Whether the volcano that has told it serves any slot; else it only says who does.
  static bool is_of_owner(const wire::AttachReply& reply);
  // The links of all volcanoes that it names are added.
  static std::vector<LinkIndex> links_of_named(const wire::AttachReply& reply, Links& links);
  // The link by which the map names the volcano that has told it; kNoLink: by none.
  static LinkIndex link_of_teller(const wire::AttachReply& reply, Links& links);

 private:
  void find_owners();

  std::array<Route, ring::kSlotCount> routes_{};
  // Of the lava map by which the slot's volcano was told: two may tell different things while slots
  // move, and the newer map is right.
  std::array<std::uint64_t, ring::kSlotCount> told_by_{};
  std::uint32_t version_ = 0;
  std::vector<std::uint32_t> versions_;  // by link, if it is split
  std::vector<Owner> owners_;            // one a link, if it is split
  bool is_split_ = false;
  bool may_change_ = false;
};

inline constexpr std::uint16_t kFlarePort = 12000;

}  // namespace magma::client
