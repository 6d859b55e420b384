#include "tests/lib/raft_cluster.h"

#include <cstdio>

#include <fmt/format.h>

#include "libmagma/base/check.h"

namespace magma::test {
namespace {

constexpr Duration kRight = seconds(2);  // a volcano's lease
constexpr std::uint64_t kHolders = 3;
constexpr std::size_t kStateBytes = 8;

std::uint64_t mixed(std::uint64_t digest, const raft::Entry& entry, raft::Index index) {
  std::uint64_t z = digest ^ (index.value * 0x9e3779b97f4a7c15ULL);
  for (std::uint8_t byte : entry.data) z = (z ^ byte) * 0x100000001b3ULL;
  return z ^ (z >> 29);
}

Bytes state_of(std::uint64_t digest) {
  Bytes out(kStateBytes);
  for (std::size_t i = 0; i < kStateBytes; ++i)
    out[i] = static_cast<std::uint8_t>(digest >> (8 * (kStateBytes - 1 - i)));
  return out;
}

}  // namespace

void write_to(raft::Stored& stored, const raft::Persist& persist) {
  stored.hard = persist.hard;
  auto& entries = stored.entries;
  if (persist.snapshot) {
    const std::uint64_t covered = persist.snapshot->last.index - stored.snapshot.last.index;
    entries.erase(entries.begin(),
                  entries.begin() + static_cast<std::ptrdiff_t>(
                                        std::min<std::uint64_t>(covered, entries.size())));
    stored.snapshot = *persist.snapshot;
  }
  const std::uint64_t kept = persist.first - stored.snapshot.last.index - 1;
  MAGMA_CHECK(kept <= entries.size());
  entries.resize(kept);
  entries.insert(entries.end(), persist.entries.begin(), persist.entries.end());
}

RaftCluster::RaftCluster(const Options& options)
    : options_(options), random_(options.seed * 2 + 1), node_random_(options.seed * 2) {}

void RaftCluster::add(raft::NodeId id, raft::Stored stored, ClockOf clock) {
  auto node = std::make_unique<Node>();
  node->id = id;
  node->clock = std::make_unique<DriftingClock>(clock_, clock.offset, clock.drift_ppm);
  node->durable = std::move(stored);
  Node& added = *nodes_.emplace(id, std::move(node)).first->second;
  start(added);
}

void RaftCluster::add_voters(std::uint64_t voters) {
  raft::Stored stored = raft::founding(raft::NodeId(1), state_of(0));
  for (std::uint64_t i = 2; i <= voters; ++i)
    stored.snapshot.configuration.voters.push_back(raft::NodeId(i));
  for (std::uint64_t i = 1; i <= voters; ++i) add(raft::NodeId(i), stored);
}

void RaftCluster::start(Node& node) {
  ++node.life;
  node.machine = {};
  node.rights.clear();
  node.role = raft::Role::follower;
  node.disk_stopped = false;
  node.disk_free_at = clock_.now();
  node.tick_at = Instant::never();
  node.raft = std::make_unique<raft::Raft>(node.id, node.durable, options_.settings, node_random_,
                                           node.clock->now(), options_.planted);
  checker_.started(*node.raft);
  step(node, raft::Tick{});
}

void RaftCluster::crash(raft::NodeId id) {
  Node& node = *nodes_.at(id);
  if (!node.raft) return;
  ++counters_.crashes;
  say(node, "!", "crash");
  node.raft.reset();
  ++node.life;
  std::uint64_t survive = random_.below(node.unsynced.size() + 1);
  for (; survive > 0; --survive) {
    write_to(node.durable, node.unsynced.front());
    node.unsynced.pop();
  }
  counters_.writes_lost += node.unsynced.size();
  node.unsynced = {};
}

void RaftCluster::restart(raft::NodeId id) {
  Node& node = *nodes_.at(id);
  if (node.raft) return;
  say(node, "!", "restart");
  start(node);
}

void RaftCluster::cut_off(raft::NodeId id) {
  for (const auto& [other, node] : nodes_) {
    if (other == id) continue;
    cut(id, other);
    cut(other, id);
  }
}

void RaftCluster::stop_disk(raft::NodeId id, bool stopped) {
  Node& node = *nodes_.at(id);
  if (node.disk_stopped == stopped) return;
  node.disk_stopped = stopped;
  if (stopped || node.unsynced.empty()) return;
  std::queue<raft::Persist> again;
  std::swap(again, node.unsynced);
  for (; !again.empty(); again.pop()) write(node, std::move(again.front()));
}

std::optional<Result<raft::Position>> RaftCluster::give(raft::NodeId id, raft::Event event) {
  Node& node = *nodes_.at(id);
  MAGMA_CHECK(node.raft != nullptr);
  node.answered.reset();
  step(node, std::move(event));
  return node.answered;
}

Result<raft::Position> RaftCluster::propose(raft::NodeId id, std::string_view text) {
  const ByteSpan bytes = as_bytes(text);
  return *give(id, raft::Propose{++cookies_, Bytes(bytes.begin(), bytes.end())});
}
Result<raft::Position> RaftCluster::change(raft::NodeId id, raft::NodeId node,
                                           raft::MemberChange change) {
  // Only who is gone from the lava map is removed, and nobody with a lease is gone.
  Node& leader = *nodes_.at(id);
  const auto right = leader.rights.find(node.value);
  if (change == raft::MemberChange::remove && node != id && right != leader.rights.end() &&
      right->second > leader.clock->now())
    return fail(Code::busy, "it has a right");
  return *give(id, raft::ChangeMember{++cookies_, node, change});
}
Result<raft::Position> RaftCluster::transfer(raft::NodeId id, raft::NodeId to) {
  std::vector<raft::Deadline> deadlines;
  for (const auto& [holder, ends] : nodes_.at(id)->rights) deadlines.push_back({holder, ends});
  return *give(id, raft::Transfer{++cookies_, to, std::move(deadlines)});
}

void RaftCluster::step(Node& node, raft::Event event) {
  ++counters_.steps;
  if (options_.prints) say(node, "<", raft::describe(event));
  raft::Output output = node.raft->step(std::move(event), node.clock->now());
  for (auto& action : output.actions) {
    if (options_.prints) say(node, ">", raft::describe(action));
    perform(node, action);
  }
  checker_.stepped(*node.raft);
  coordinate(node);
  plan_tick(node, output.deadline);
}

void RaftCluster::perform(Node& node, raft::Action& action) {
  if (auto* persist = std::get_if<raft::Persist>(&action)) {
    checker_.writes(*node.raft, *persist);
    write(node, std::move(*persist));
  } else if (auto* send = std::get_if<raft::Send>(&action)) {
    transmit(node, send->to, send->message);
  } else if (auto* restore = std::get_if<raft::Restore>(&action)) {
    ++counters_.restores;
    ByteReader in(restore->snapshot.state);
    node.machine = {restore->snapshot.last.index, in.get<std::uint64_t>()};
    checker_.has_state(node.id, node.machine.applied, node.machine.digest);
  } else if (auto* applied = std::get_if<raft::Apply>(&action)) {
    apply(node, *applied);
  } else if (auto* answered = std::get_if<raft::Answered>(&action)) {
    node.answered = answered->place;
  } else if (auto* standing = std::get_if<raft::Standing>(&action)) {
    if (standing->role == raft::Role::leader && node.role != raft::Role::leader)
      ++counters_.elections;
    node.role = standing->role;
    node.rights.clear();
    for (const auto& d : standing->deadlines) node.rights[d.holder] = d.ends;
    if (!standing->is_ready) return;
    std::map<std::uint64_t, Instant> known;
    for (const auto& [holder, ends] : node.rights) known[holder] = node.clock->true_time_of(ends);
    if (!known.empty()) ++counters_.transfers_won;
    counters_.deadlines_handed += known.size();
    checker_.coordinates(node.id, standing->term, clock_.now(), known);
  }
}

void RaftCluster::apply(Node& node, const raft::Apply& apply) {
  ++counters_.applied;
  if (apply.index != node.machine.applied + 1) checker_.violated("apply: out of order");
  node.machine = {apply.index, mixed(node.machine.digest, apply.entry, apply.index)};
  checker_.has_state(node.id, apply.index, node.machine.digest);
  checker_.is_durable(node.id, node.durable, apply.index, apply.entry);
  if (apply.index.value % options_.settings.snapshot_every != 0) return;
  Event event{.kind = Event::Kind::tick, .node = node.id, .life = node.life};
  event.bytes = state_of(node.machine.digest);
  event.sequence = apply.index.value;
  plan(std::move(event), clock_.now() + between(faults.disk_min, faults.disk_max));
}

// Grants and renews rights as the coordinator does, and compares leases.
void RaftCluster::coordinate(Node& node) {
  const Instant now = node.clock->now();
  const auto until = node.raft->lease_until(now);
  if (!until) return;
  for (const auto& [id, other] : nodes_) {
    if (other.get() == &node || !other->raft) continue;
    if (other->raft->lease_until(other->clock->now()))
      checker_.both_have_leases(node.id, id, clock_.now());
  }
  if (*until < now + kRight) return;
  const std::uint64_t holder = 1 + counters_.steps % kHolders;
  if (!node.raft->is_lasting_member(raft::NodeId(holder))) return;
  Instant& ends = node.rights[holder];
  if (now + kRight < ends + milliseconds(200)) return;
  ends = now + kRight;
  ++counters_.rights;
  checker_.granted(holder, node.raft->term(), node.clock->true_time_of(ends));
}

void RaftCluster::transmit(Node& from, raft::NodeId to, const raft::Message& message) {
  ++counters_.messages;
  if (std::holds_alternative<raft::SnapshotRequest>(message)) ++counters_.snapshots_sent;
  if (random_.chance(faults.loss) || (drop && drop(from.id, to, message))) {
    ++counters_.lost;
    return;
  }
  Event event{.kind = Event::Kind::message, .node = to, .from = from.id};
  event.bytes = raft::encode_message(message);
  const auto delay = [&] {
    Duration d = between(faults.delay_min, faults.delay_max);
    if (random_.chance(faults.slow)) d = d + between(Duration{}, faults.slow_max);
    return d;
  };
  if (random_.chance(faults.duplicate)) {
    ++counters_.duplicated;
    plan(event, clock_.now() + delay());
  }
  plan(std::move(event), clock_.now() + delay());
}

void RaftCluster::write(Node& node, raft::Persist persist) {
  const std::uint64_t sequence = persist.sequence;
  node.unsynced.push(std::move(persist));
  if (!node.disk_stopped) plan_sync(node, sequence);
}

void RaftCluster::plan_sync(Node& node, std::uint64_t sequence) {
  node.disk_free_at =
      std::max(node.disk_free_at, clock_.now()) + between(faults.disk_min, faults.disk_max);
  Event event{.kind = Event::Kind::synced, .node = node.id, .life = node.life};
  event.sequence = sequence;
  plan(std::move(event), node.disk_free_at);
}

void RaftCluster::plan_tick(Node& node, Instant local) {
  if (local == Instant::never()) return;
  const Instant at = std::max(node.clock->true_time_of(local), clock_.now());
  if (at >= node.tick_at) return;
  node.tick_at = at;
  plan(Event{.kind = Event::Kind::tick, .node = node.id, .life = node.life}, at);
}

void RaftCluster::plan(Event event, Instant at) {
  event.at = at;
  event.order = ++planned_;
  events_.push(std::move(event));
}

bool RaftCluster::run_one(Instant limit) {
  if (events_.empty() || events_.top().at > limit) return false;
  Event event = std::move(const_cast<Event&>(events_.top()));
  events_.pop();
  clock_.advance_to(std::max(event.at, clock_.now()));
  auto found = nodes_.find(event.node);
  if (found == nodes_.end() || !found->second->raft) return true;
  Node& node = *found->second;
  if (event.kind == Event::Kind::message) {
    if (cuts_.contains({event.from, event.node})) return true;
    auto message = raft::decode_message(event.bytes);
    MAGMA_CHECK(message.has_value());
    step(node, raft::Received{event.from, std::move(*message)});
    return true;
  }
  if (event.life != node.life) return true;
  if (event.kind == Event::Kind::tick && !event.bytes.empty()) {
    step(node, raft::SnapshotTaken{raft::Index(event.sequence), event.bytes});
  } else if (event.kind == Event::Kind::tick) {
    if (event.at == node.tick_at) node.tick_at = Instant::never();
    step(node, raft::Tick{});
  } else if (!node.disk_stopped && !node.unsynced.empty() &&
             node.unsynced.front().sequence == event.sequence) {
    write_to(node.durable, node.unsynced.front());
    node.unsynced.pop();
    step(node, raft::Persisted{event.sequence});
  }
  return true;
}

void RaftCluster::run_for(Duration time) {
  const Instant end = clock_.now() + time;
  while (!violation() && run_one(end)) {
  }
  clock_.advance_to(std::max(end, clock_.now()));
}

bool RaftCluster::run_until(const std::function<bool()>& condition, Duration limit) {
  const Instant end = clock_.now() + limit;
  while (!condition()) {
    if (violation() || !run_one(end)) return condition();
  }
  return true;
}

std::vector<raft::NodeId> RaftCluster::ids() const {
  std::vector<raft::NodeId> out;
  for (const auto& [id, node] : nodes_) out.push_back(id);
  return out;
}

std::optional<raft::NodeId> RaftCluster::ready_leader() const {
  std::optional<raft::NodeId> best;
  raft::Term term;
  for (const auto& [id, node] : nodes_) {
    if (!node->raft || !node->raft->is_ready() || node->raft->term() < term) continue;
    best = id;
    term = node->raft->term();
  }
  return best;
}

std::optional<Instant> RaftCluster::lease_until(raft::NodeId id) {
  Node& node = *nodes_.at(id);
  if (!node.raft) return std::nullopt;
  const auto until = node.raft->lease_until(node.clock->now());
  if (!until) return std::nullopt;
  return node.clock->true_time_of(*until);
}

void RaftCluster::say(const Node& node, const char* mark, const std::string& text) {
  if (!options_.prints) return;
  std::fprintf(stderr, "%10.3f ms  %llu %s %s\n", static_cast<double>(clock_.now().ns) / 1e6,
               static_cast<unsigned long long>(node.id.value), mark, text.c_str());
}

}  // namespace magma::test
