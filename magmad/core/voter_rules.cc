#include "magmad/core/voter_rules.h"

#include <algorithm>

namespace magma::core {

namespace {

using raft::MemberChange;
using ring::VolcanoId;

bool is_wanted(const ring::Volcano& volcano) {
  return volcano.state != ring::VolcanoState::gone &&
         volcano.resumes != ring::VolcanoState::leaving;
}

std::size_t count_stores(const ring::LavaMap& map) {
  return static_cast<std::size_t>(
      std::count_if(map.volcanoes.begin(), map.volcanoes.end(),
                    [](const ring::Volcano& v) { return v.stores() && is_wanted(v); }));
}

bool has_witness(const ring::LavaMap& map) {
  return std::any_of(map.volcanoes.begin(), map.volcanoes.end(),
                     [](const ring::Volcano& v) { return !v.stores() && is_wanted(v); });
}

// One look at the members, sorted into who should and may do what.
class View {
 public:
  View(const ring::LavaMap& map, const raft::Configuration& configuration, VolcanoId self,
       const std::vector<MemberState>& members)
      : map_(map), configuration_(configuration), self_(self), members_(members) {
    wanted_ = voters_wanted(map);
    const bool witness_votes = count_stores(map) == 2;
    for (const MemberState& member : members_) {
      const ring::Volcano* volcano = map.find(member.volcano);
      if (volcano == nullptr) continue;
      const bool may_vote = is_wanted(*volcano) && (volcano->stores() || witness_votes);
      if (configuration.has_voter(node_of(member.volcano))) {
        ++voters_;
        if (member.is_there) ++there_;
        if (!may_vote || member.is_long_gone) unfit_.push_back(member);
      } else if (configuration.has_learner(node_of(member.volcano)) && may_vote &&
                 member.is_there && member.has_caught_up) {
        fit_.push_back(member.volcano);
      }
    }
  }

  std::optional<MemberStep> step(Duration even_for) const {
    if (auto stranger = drop_stranger()) return stranger;
    if (auto newcomer = add_newcomer()) return newcomer;
    return voters_ % 2 == 0 ? step_from_even(even_for) : step_from_odd();
  }

 private:
  // A member that the map has no more, or a volcano that is no member yet.
  std::optional<MemberStep> drop_stranger() const {
    for (const auto* list : {&configuration_.learners, &configuration_.voters})
      for (raft::NodeId node : *list)
        if (map_.find(volcano_of(node)) == nullptr) return MemberStep{node, MemberChange::remove};
    return std::nullopt;
  }
  std::optional<MemberStep> add_newcomer() const {
    for (const ring::Volcano& volcano : map_.volcanoes)
      if (!configuration_.has(node_of(volcano.id)))
        return MemberStep{node_of(volcano.id), MemberChange::add_learner};
    return std::nullopt;
  }

  std::optional<MemberStep> step_from_odd() const {
    if (voters_ < wanted_) {
      // Only if it can become odd again.
      if (fit_.size() < 2) return std::nullopt;
      return promote();
    }
    if (voters_ > wanted_) return demote_spare();
    if (!unfit_.empty() && !fit_.empty()) return promote();
    return std::nullopt;
  }

  std::optional<MemberStep> step_from_even(Duration even_for) const {
    if (voters_ > wanted_) return demote_spare();
    if (!fit_.empty()) return promote();
    if (even_for >= kEvenMax) return demote_spare();
    return std::nullopt;
  }

  std::optional<MemberStep> promote() const {
    return MemberStep{node_of(fit_.front()), MemberChange::promote};
  }

  // Who should not vote first, then who is away, then the youngest. Never who leads, unless it is
  // to leave; and only while those who stay have a majority there, or it would never be committed.
  std::optional<MemberStep> demote_spare() const {
    const MemberState* spare = nullptr;
    int best = -1;
    for (const MemberState& member : members_) {
      if (!configuration_.has_voter(node_of(member.volcano))) continue;
      const bool is_unfit = std::any_of(unfit_.begin(), unfit_.end(), [&](const MemberState& u) {
        return u.volcano == member.volcano;
      });
      if (member.volcano == self_ && !is_unfit) continue;
      const int rank = (is_unfit ? 2 : 0) + (member.is_there ? 0 : 1);
      if (rank < best) continue;
      best = rank;
      spare = &member;  // of equals the last, which is the youngest
    }
    if (spare == nullptr) return std::nullopt;
    const std::size_t left = voters_ - 1;
    const std::size_t left_there = there_ - (spare->is_there ? 1 : 0);
    if (left == 0 || left_there < left / 2 + 1) return std::nullopt;
    return MemberStep{node_of(spare->volcano), MemberChange::demote};
  }

  const ring::LavaMap& map_;
  const raft::Configuration& configuration_;
  const VolcanoId self_;
  const std::vector<MemberState>& members_;
  std::size_t wanted_ = 1;
  std::size_t voters_ = 0;
  std::size_t there_ = 0;             // of these
  std::vector<MemberState> unfit_{};  // voters that should be replaced
  std::vector<VolcanoId> fit_{};      // learners that may vote at once
};

}  // namespace

std::size_t voters_wanted(const ring::LavaMap& map) {
  const std::size_t stores = count_stores(map);
  if (stores >= 5) return 5;
  if (stores >= 3 || (stores == 2 && has_witness(map))) return 3;
  return 1;
}

std::optional<MemberStep> next_member_step(const ring::LavaMap& map,
                                           const raft::Configuration& configuration,
                                           ring::VolcanoId self,
                                           const std::vector<MemberState>& members,
                                           Duration even_for) {
  return View(map, configuration, self, members).step(even_for);
}

}  // namespace magma::core
