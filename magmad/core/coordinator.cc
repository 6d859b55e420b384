#include "magmad/core/coordinator.h"

#include <algorithm>

#include "magmad/core/mirror_rules.h"
#include "magmad/core/slot_rules.h"

namespace magma::core {

namespace {

std::uint64_t as_ns(Duration d) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(d.ns, 0));
}

bool is_primary_of_any(const ring::LavaMap& map, ring::VolcanoId id) {
  return std::any_of(map.slots.begin(), map.slots.end(),
                     [&](const ring::SlotEntry& entry) { return entry.primary() == id; });
}

}  // namespace

void Coordinator::begin(Instant now, const std::vector<raft::Deadline>& rights,
                        ring::VolcanoId former) {
  since_ = now;
  former_ = former;
  handed_at_ = now;
  even_since_.reset();
  heard_.clear();
  for (const raft::Deadline& right : rights)
    heard_[ring::VolcanoId(static_cast<std::uint16_t>(right.holder))].lease_ends = right.ends;
}

void Coordinator::end() {
  since_.reset();
  heard_.clear();
}

Duration Coordinator::heard(ring::VolcanoId from, const wire::HeartbeatRequest& heartbeat,
                            Instant now, std::optional<Instant> own_lease) {
  Heard& heard = heard_[from];
  heard.at = now;
  heard.facts = heartbeat.facts;
  Duration lease = kLease;
  if (!planted_.grants_beyond_own_lease) {
    if (!own_lease) return {};
    lease = std::min(lease, *own_lease - now);
  }
  if (lease.ns <= 0) return {};
  heard.lease_ends = std::max(heard.lease_ends, now + lease + kLeaseSlack);
  return lease;
}

void Coordinator::saw(ring::VolcanoId from, Instant now) { heard_[from].at = now; }

void Coordinator::began_anew(ring::VolcanoId from) {
  auto found = heard_.find(from);
  if (found != heard_.end()) found->second.at.reset();
}

Instant Coordinator::silent_since(ring::VolcanoId volcano) const {
  auto found = heard_.find(volcano);
  const Instant begin = since_.value_or(Instant{});
  return found == heard_.end() ? begin : std::max(begin, found->second.at.value_or(begin));
}

bool Coordinator::is_there(ring::VolcanoId volcano, Instant now) const {
  if (volcano == self_) return true;
  auto found = heard_.find(volcano);
  return found != heard_.end() && found->second.at && now - *found->second.at < kThere;
}

bool Coordinator::was_heard_since(ring::VolcanoId volcano, Instant since) const {
  auto found = heard_.find(volcano);
  return found != heard_.end() && found->second.at && *found->second.at > since;
}

// A lease that is over, and silence on top; or a volcano that is back.
std::optional<ring::Command> Coordinator::who_came_or_went(const ring::LavaMap& map,
                                                           Instant now) const {
  for (const ring::Volcano& volcano : map.volcanoes) {
    if (!volcano.is_alive()) {
      if (is_there(volcano.id, now))
        return ring::VolcanoStarted{.volcano = volcano.id, .starts = volcano.starts};
      continue;
    }
    if (volcano.id == self_ || is_there(volcano.id, now)) continue;
    auto found = heard_.find(volcano.id);
    const bool was_heard = found != heard_.end() && found->second.at.has_value();
    const bool has_lease = found != heard_.end() && now < found->second.lease_ends;
    if (has_lease && !planted_.calls_down_within_lease) continue;
    const Duration grace = volcano.id == former_ ? kFormerGrace : kGrace;
    if (!was_heard && now < silent_since(volcano.id) + grace) continue;
    // Where slots are not shared no mirror takes a primary's place: its slots wait for it.
    if (!map.shares_slots && is_primary_of_any(map, volcano.id)) continue;
    return ring::VolcanoDown{.volcano = volcano.id, .starts = volcano.starts};
  }
  return std::nullopt;
}

// A mirror that is away for longer than patience loses its place to a volcano that is there and has
// no copy; without such a one it keeps it, and what it has.
std::optional<ring::Command> Coordinator::patience_over(const ring::LavaMap& map,
                                                        Instant now) const {
  if (map.shares_slots) return std::nullopt;  // its slots have fewer copies until it is back
  const ring::ReplicaList& replicas = map.slots.front().replicas;
  const bool has_spare =
      std::any_of(map.volcanoes.begin(), map.volcanoes.end(), [&](const ring::Volcano& volcano) {
        return volcano.stores() && volcano.is_alive() &&
               volcano.state != ring::VolcanoState::leaving && !replicas.has(volcano.id) &&
               is_there(volcano.id, now);
      });
  if (!has_spare) return std::nullopt;
  for (const ring::Volcano& volcano : map.volcanoes)
    if (volcano.state == ring::VolcanoState::down && replicas.has(volcano.id) &&
        now - silent_since(volcano.id) > kPatience)
      return ring::PatienceOver{.volcano = volcano.id, .starts = volcano.starts};
  return std::nullopt;
}

// By what all primaries said last.
std::optional<ring::Command> Coordinator::slot_step(const Situation& situation, Instant now) const {
  FactsOf told;
  for (const auto& [volcano, heard] : heard_) told[volcano] = &heard.facts;
  told[self_] = &situation.own;
  // Who is no member of Raft yet has no right that a coordinator which restarts would wait for.
  return next_slot_step(situation.map, told, [&](ring::VolcanoId id) {
    return is_there(id, now) && situation.configuration.has(node_of(id));
  });
}

// By what the primary said last: in a heartbeat, or here if it is this volcano.
std::optional<ring::Command> Coordinator::mirror_step(const Situation& situation,
                                                      Instant now) const {
  const ring::SlotEntry& slot = situation.map.slots.front();
  std::vector<wire::MirrorFact> told;
  if (slot.primary() == self_) {
    told = situation.own.mirrors;
  } else if (auto found = heard_.find(slot.primary()); found != heard_.end()) {
    told = found->second.facts.mirrors;
  }
  if (planted_.believes_old_facts)
    for (wire::MirrorFact& fact : told) fact.epoch = slot.epoch;
  return next_mirror_step(situation.map, told,
                          [&](ring::VolcanoId id) { return is_there(id, now); });
}

std::vector<MemberState> Coordinator::member_states(const Situation& situation, Instant now) const {
  std::vector<MemberState> members;
  for (const ring::Volcano& volcano : situation.map.volcanoes) {
    MemberState& member = members.emplace_back();
    member.volcano = volcano.id;
    member.is_there = is_there(volcano.id, now);
    member.is_long_gone = !member.is_there && now - silent_since(volcano.id) > kPatience;
    const auto follower = std::find_if(situation.followers.begin(), situation.followers.end(),
                                       [&](const Follower& f) { return f.volcano == volcano.id; });
    member.has_caught_up =
        volcano.id == self_ || (follower != situation.followers.end() && follower->is_close);
  }
  return members;
}

Decision Coordinator::next(const Situation& situation, Instant now) {
  if (!since_) return {};
  if (auto command = who_came_or_went(situation.map, now)) return *command;
  if (auto command = patience_over(situation.map, now)) return *command;
  const auto step =
      situation.map.shares_slots ? slot_step(situation, now) : mirror_step(situation, now);
  if (step) return *step;
  const std::size_t voters = situation.configuration.voters.size();
  if (voters % 2 == 1)
    even_since_.reset();
  else if (!even_since_)
    even_since_ = now;
  const auto members = member_states(situation, now);
  const Duration even_for = even_since_ ? now - *even_since_ : Duration{};
  if (auto member =
          next_member_step(situation.map, situation.configuration, self_, members, even_for))
    return *member;
  if (situation.preferred == self_ || now < *since_ + kSettled || now < handed_at_ + kTransferEvery)
    return {};
  const auto chosen = std::find_if(members.begin(), members.end(), [&](const MemberState& m) {
    return m.volcano == situation.preferred;
  });
  if (chosen == members.end() || !chosen->is_there || !chosen->has_caught_up ||
      !situation.configuration.has_voter(node_of(chosen->volcano)))
    return {};
  handed_at_ = now;
  return HandOver{chosen->volcano};
}

std::vector<raft::Deadline> Coordinator::rights(Instant now) const {
  std::vector<raft::Deadline> rights;
  for (const auto& [volcano, heard] : heard_)
    if (heard.lease_ends > now && rights.size() < raft::kDeadlinesMax)
      rights.push_back({volcano.value, heard.lease_ends});
  return rights;
}

std::vector<wire::VolcanoNews> Coordinator::table(const ring::LavaMap& map,
                                                  const std::vector<Follower>& followers,
                                                  const wire::VolcanoFacts& own,
                                                  Instant now) const {
  std::vector<wire::VolcanoNews> table;
  for (const ring::Volcano& volcano : map.volcanoes) {
    wire::VolcanoNews& news = table.emplace_back();
    news.volcano = volcano.id;
    if (volcano.id == self_) {
      news.was_heard = true;
      news.facts = own;
      continue;
    }
    for (const Follower& follower : followers)
      if (follower.volcano == volcano.id) news.entries_behind = follower.entries_behind;
    news.silent_ns = as_ns(now - silent_since(volcano.id));
    auto found = heard_.find(volcano.id);
    if (found == heard_.end()) continue;
    news.was_heard = found->second.at.has_value();
    news.lease_left_ns = as_ns(found->second.lease_ends - now);
    news.facts = found->second.facts;
  }
  return table;
}

}  // namespace magma::core
