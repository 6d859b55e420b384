// The Node's other half: what it does while it leads.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "libmagma/base/log.h"
#include "libmagma/crypto/path_hash.h"
#include "libmagma/ring/profile_rules.h"
#include "magmad/node/node.h"

namespace magma::node {

using core::node_of;
using core::volcano_of;
using ring::VolcanoId;
using wire::NodeOutcome;

namespace {

// Heard of so lately: it keeps up, and is there. Short, because who is made a voter and is gone may
// leave the ring without a majority; Raft asks four times a second.
constexpr Duration kFollowerClose = milliseconds(400);
constexpr std::string_view kProfilesPath = "/.dht";

}  // namespace

// ---- decisions

std::vector<core::Coordinator::Follower> Node::followers() const {
  std::vector<core::Coordinator::Follower> followers;
  const Instant now = clock_.now();
  const raft::Index commit = raft_.commit_index();
  for (const raft::Raft::PeerState& peer : raft_.peers()) {
    core::Coordinator::Follower& follower = followers.emplace_back();
    follower.volcano = volcano_of(peer.node);
    follower.entries_behind = peer.match >= commit ? 0 : commit - peer.match;
    follower.is_close =
        follower.entries_behind == 0 && peer.last_heard && now - *peer.last_heard < kFollowerClose;
  }
  return followers;
}

// Who holds the key of /.dht, as in the first Magma.
VolcanoId Node::preferred_leader() const {
  static const ring::Slot slot = crypto::key_of_path(kProfilesPath).slot();
  const ring::SlotEntry& entry = map_->at(slot);
  return entry.state == ring::SlotState::serving ? entry.primary() : config_.self;
}

// Whether something was begun.
bool Node::coordinate() {
  const Instant now = clock_.now();
  if (is_deciding_ || now < act_at_ || !is_coordinator()) return false;
  const auto known = followers();
  const core::Decision decision = coordinator_.next({.map = *map_,
                                                     .configuration = raft_.configuration(),
                                                     .followers = known,
                                                     .preferred = preferred_leader(),
                                                     .own = facts_},
                                                    now);
  if (std::holds_alternative<std::monostate>(decision)) {
    act_at_ = now + kActAgain;
    return false;
  }
  is_deciding_ = true;
  if (const auto* command = std::get_if<ring::Command>(&decision)) {
    if (const auto* down = std::get_if<ring::VolcanoDown>(command)) called_down_ = down->volcano;
    propose(*command, [this, what = ring::name_of(*command)](Result<ring::Applied> result) {
      on_decided(what, result);
    });
  } else if (const auto* step = std::get_if<core::MemberStep>(&decision)) {
    log_info("members node={} change={}", step->node.value, static_cast<int>(step->change));
    change_member(*step, [this](Result<ring::Applied> result) { on_decided("members", result); });
  } else if (const auto* hand_over = std::get_if<core::HandOver>(&decision)) {
    log_info("leadership_handed_to volcano={}", hand_over->to.value);
    is_deciding_ = false;  // it ends with a Standing
    act_at_ = now + kActAgain;
    std::vector<raft::Deadline> rights = coordinator_.rights(now);
    if (lease_until_ && *lease_until_ > now && rights.size() < raft::kDeadlinesMax)
      rights.push_back({config_.self.value, *lease_until_});
    give(raft::Transfer{++last_cookie_, node_of(hand_over->to), std::move(rights)});
  }
  return true;
}

void Node::on_decided(std::string_view what, const Result<ring::Applied>& result) {
  is_deciding_ = false;
  called_down_ = ring::kNoVolcano;
  act_at_ = {};
  if (result) return;
  act_at_ = clock_.now() + kActAgain;
  log_debug('v', "decision_refused what={} error={}", what, describe(result.error()));
}

// ---- heartbeats

void Node::serve_heartbeat(const wire::NodeRequestHead& head, ByteSpan body, const ReplyTo& to) {
  auto request = decode_node<wire::HeartbeatRequest>(body);
  if (!request) return links_.refuse(to, Code::malformed);
  links_.trust(to, head.from);
  if (!is_coordinator()) return links_.refuse(to, Code::not_primary);
  if (map_->find(head.from) == nullptr) return links_.refuse(to, Code::not_found);
  const Instant now = clock_.now();
  // Who is away as far as the map knows, or is about to be, has no lease until the map says
  // otherwise; nor has one who is no member yet, for whom nobody waits after a restart
  // (raft::Raft::is_lasting_member).
  std::optional<Instant> lease = raft_.lease_until(now);
  const bool is_member = raft_.is_lasting_member(core::node_of(head.from));
  if (!map_->is_alive(head.from) || called_down_ == head.from || !is_member) lease.reset();
  wire::HeartbeatReply reply;
  const Duration granted = coordinator_.heard(head.from, *request, now, lease);
  reply.lease_ns = static_cast<std::uint64_t>(granted.ns);
  reply.map_version = map_->version;
  reply.clock = clock_.wall_now();
  if (request->wants_table) reply.table = coordinator_.table(*map_, followers(), facts_, now);
  if (watcher_ != nullptr && granted.ns > 0) watcher_->granted(raft_, head.from, now + granted);
  links_.answer(to, reply);
  if (!map_->is_alive(head.from) || !request->facts.mirrors.empty() || map_->shares_slots)
    act_at_ = {};
  pump();
}

// ---- starts

// Who decides, if not this volcano; `address` is where it is.
NodeOutcome Node::who_decides(std::string& address) const {
  if (is_coordinator()) return NodeOutcome::accepted;
  const VolcanoId leader = volcano_of(standing_.leader);
  const ring::Volcano* volcano = map_->find(leader);
  if (volcano == nullptr || leader == config_.self) return NodeOutcome::wait;
  address = volcano->profile.node;
  return NodeOutcome::ask_other;
}

void Node::serve_announce(const wire::NodeRequestHead& head, ByteSpan body, const ReplyTo& to) {
  auto request = decode_node<wire::AnnounceRequest>(body);
  if (!request) return links_.refuse(to, Code::malformed);
  links_.trust(to, head.from);
  wire::AnnounceReply reply;
  reply.outcome = who_decides(reply.address);
  if (reply.outcome != NodeOutcome::accepted) {
    reply.coordinator = volcano_of(standing_.leader);
    return links_.answer(to, reply);
  }
  if (map_->find(head.from) == nullptr) return links_.refuse(to, Code::not_found);
  if (!coming_up_.insert(head.from).second) {
    reply.outcome = NodeOutcome::wait;
    return links_.answer(to, reply);
  }
  bring_up(head.from, *request, [this, to, from = head.from](Result<ring::Applied> result) {
    coming_up_.erase(from);
    wire::AnnounceReply answer{.outcome = NodeOutcome::accepted};
    if (!result) {
      const Code code = result.error().code;
      const bool is_final = code == Code::exists || code == Code::invalid;
      answer.outcome = is_final ? NodeOutcome::refused : NodeOutcome::wait;
      answer.reason = result.error().detail;
    } else {
      answer.map_version = result->version;
    }
    links_.answer(to, answer);
  });
  pump();
}

// As far as it can take over from one that is back since `since`.
core::HeirState Node::heir_state(VolcanoId id, Instant since) const {
  const auto coming = coming_.find(id);
  if (coming != coming_.end() && clock_.now() - coming->second.at < core::kThere)
    return {.is_there = false, .has_lost = coming->second.has_lost};
  if (id == config_.self) return {.is_there = is_announced_, .has_lost = false};
  return {.is_there = coordinator_.was_heard_since(id, since), .has_lost = false};
}

// A command that comes before the rest of bring_up().
void Node::propose_before(const ring::Command& command, VolcanoId id,
                          const wire::AnnounceRequest& request, Done done) {
  propose(command, [this, id, request, done = std::move(done)](
                       Result<ring::Applied> result) mutable {
    if (!result) return done(std::move(result));
    bring_up(id, request, std::move(done));
  });
}

// The map learns where the volcano is now, and that it has started.
void Node::bring_up(VolcanoId id, const wire::AnnounceRequest& request, Done done) {
  const ring::Volcano* volcano = map_->find(id);
  if (volcano == nullptr) return done(fail(Code::not_found, "no such volcano"));
  auto known = boots_.find(id);
  if (known != boots_.end() && known->second == request.boot)
    return done(ring::Applied{.version = map_->version});
  Coming& coming = coming_[id];
  const bool is_new = coming.boot != request.boot;
  if (is_new) coming = {.boot = request.boot, .since = clock_.now()};
  coming.at = clock_.now();
  // Where slots are not shared nobody takes a primary's place, and it has what it has.
  coming.has_lost = request.has_lost && map_->shares_slots;
  if (is_new && coming.has_lost) coordinator_.began_anew(id);
  ring::Profile profile = request.profile;
  profile.storage = volcano->profile.storage;
  profile.roles = volcano->profile.roles;
  if (profile != volcano->profile) {
    const ring::VolcanoMoved moved{
        .membership = map_->membership, .volcano = id, .profile = profile};
    return propose_before(moved, id, request, std::move(done));
  }
  if (coming.has_lost) {
    const core::AfterLoss after =
        core::next_after_loss(*map_, id, [this, since = coming.since](VolcanoId other) {
          return heir_state(other, since);
        });
    if (after.before) return propose_before(*after.before, id, request, std::move(done));
    if (after.must_wait) return done(fail(Code::busy, "who has its slots was not heard of yet"));
  }
  const ring::VolcanoStarted started{
      .volcano = id, .starts = volcano->starts, .has_lost = coming.has_lost};
  propose(started, [this, id, boot = request.boot,
                    done = std::move(done)](Result<ring::Applied> result) mutable {
    if (result) {
      boots_[id] = boot;
      coming_.erase(id);
      if (coordinator_.is_active()) coordinator_.saw(id, clock_.now());
    }
    done(std::move(result));
  });
}

// ---- newcomers

// What speaks against a newcomer, for people.
std::optional<std::string> Node::why_not(const wire::JoinRequest& request) const {
  if (request.node_version_min > wire::kNodeVersion ||
      request.node_version_max < wire::kNodeVersion)
    return fmt::format(
        "it speaks version {} to {} of the node protocol, this ring version {}: run the same "
        "version of magmad on all",
        request.node_version_min, request.node_version_max, wire::kNodeVersion);
  if (request.filesystem != map_->filesystem)
    return "it wants to join filesystem " + crypto::uuid_text(request.filesystem) + ", this is " +
           crypto::uuid_text(map_->filesystem);
  if (std::string bad = ring::bad_profile(request.profile); !bad.empty()) return bad;
  if (request.profile.storage == 0) return "its storage directory has no number";
  if (std::string taken = ring::taken_in(*map_, request.profile, ring::kNoVolcano); !taken.empty())
    return taken + " is in use";
  return std::nullopt;
}

void Node::answer_join(const ReplyTo& to, wire::JoinReply reply) {
  reply.nick = config_.profile.nick;
  reply.small_files = config_.small_files;
  reply.shares_slots = map_->shares_slots;
  if (reply.outcome == NodeOutcome::refused) ++counters_.joins_refused;
  links_.answer(to, reply);
}

void Node::serve_join(ByteSpan body, const ReplyTo& to) {
  auto request = decode_node<wire::JoinRequest>(body);
  if (!request) return links_.refuse(to, Code::malformed);
  wire::JoinReply reply;
  reply.outcome = who_decides(reply.coordinator);
  if (reply.outcome != NodeOutcome::accepted) return answer_join(to, std::move(reply));
  const ring::Volcano* known = map_->find_storage(request->profile.storage);
  if (planted_.forgets_storage_numbers && known == nullptr)
    known = map_->find_nick(request->profile.nick);
  if (known != nullptr && request->filesystem == map_->filesystem) {
    reply.volcano = known->id;
    return answer_join(to, std::move(reply));
  }
  if (auto why = why_not(*request)) {
    log_warning("join_refused nick={} reason={}", request->profile.nick, *why);
    reply.outcome = NodeOutcome::refused;
    reply.reason = *why;
    return answer_join(to, std::move(reply));
  }
  take_in(*request, to);
  pump();
}

void Node::take_in(const wire::JoinRequest& request, const ReplyTo& to) {
  if (newcomers_ >= kNewcomersMax) return answer_join(to, {.outcome = NodeOutcome::wait});
  ++newcomers_;
  const ring::AddVolcano add{.membership = map_->membership, .profile = request.profile};
  propose(add, [this, to, nick = request.profile.nick](Result<ring::Applied> result) {
    --newcomers_;
    wire::JoinReply reply{.outcome = NodeOutcome::accepted};
    if (result) {
      ++counters_.joins;
      reply.volcano = result->volcano;
      if (coordinator_.is_active()) coordinator_.saw(result->volcano, clock_.now());
      log_info("joined volcano={} nick={}", result->volcano.value, nick);
    } else {
      const Code code = result.error().code;
      const bool is_final = code == Code::exists || code == Code::invalid || code == Code::no_space;
      reply.outcome = is_final ? NodeOutcome::refused : NodeOutcome::wait;
      reply.reason = result.error().detail;
    }
    answer_join(to, std::move(reply));
  });
}

}  // namespace magma::node
