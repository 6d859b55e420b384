#include "tests/lib/node_ring.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "libmagma/base/check.h"
#include "libmagma/wire/lava_map_codec.h"
#include "tests/lib/raft_cluster.h"

namespace magma::test {

namespace {

constexpr Duration kTickEvery = milliseconds(400);  // as magmad's main loop
constexpr Duration kTickOften = milliseconds(150);  // of who has mirrors
constexpr std::uint16_t kNodePort = 12001;

std::uint64_t digest_of(const ring::LavaMap& map) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (std::uint8_t byte : wire::encode_map(map)) hash = (hash ^ byte) * 0x100000001b3ULL;
  return hash;
}

}  // namespace

// What is on the disk; a write is all or nothing.
class NodeRing::Store final : public raft::Store {
 public:
  explicit Store(raft::Stored& durable) : durable_(durable) {}
  Result<raft::Stored> load() override { return durable_; }
  Result<void> write(std::span<const raft::Persist> writes) override {
    if (fails) return fail(Code::no_space, "raft.db");
    for (const raft::Persist& persist : writes) write_to(durable_, persist);
    return {};
  }
  bool fails = false;

 private:
  raft::Stored& durable_;
};

class NodeRing::Executor final : public SimExecutor {
 public:
  Executor(Times times, std::uint64_t seed, SimNetwork& network)
      : SimExecutor(times, seed), network_(network) {}
  void schedule(Duration delay, UniqueFunction<void()> function) override {
    network_.after(delay,
                   [life = std::weak_ptr<int>(life_), function = std::move(function)]() mutable {
                     if (!life.expired()) function();
                   });
  }

 private:
  SimNetwork& network_;
  std::shared_ptr<int> life_ = std::make_shared<int>(0);  // shared with the schedule, as weak_ptr
};

struct NodeRing::Member final : Timed, node::NodeWatcher {
  Member(NodeRing& r, std::size_t i) : ring(r), index(i) {}

  // Timed
  Instant deadline() override {
    if (!node && !joining) return Instant::never();
    Instant due = node ? node->deadline() : joining->deadline();
    if (node) due = std::min(due, tick_at);
    return std::max(clock->true_time_of(due), ring.clock_.now());
  }
  void on_timer() override {
    if (node && tick_at <= clock->now()) {
      tick_at = clock->now() + (mirrors.empty() ? kTickEvery : kTickOften);
      if (!hangs) node->on_tick(facts());
    }
    if (node)
      node->on_timer();
    else if (joining)
      joining->on_timer();
    settle_join();
  }
  void after_events() override {
    if (node) node->flush();
    if (joining) joining->flush();
    settle_join();
  }
  // Outside of the newcomer's own calls.
  void settle_join() {
    if (!joined) return;
    Result<node::Joining::Accepted> result = std::move(*std::exchange(joined, std::nullopt));
    joining.reset();
    if (!result) {
      ++ring.counters_.joins_refused;
      refused = result.error();
      has_gone_on = true;
      port.reset();
      return;
    }
    ++ring.counters_.joins;
    papers = result->volcano;
    auto [known, is_new] = ring.storage_of_.try_emplace(papers, storage);
    if (known->second != storage)
      ring.checker_.violated(
          fmt::format("identity: volcano {} is two storage directories", papers.value));
    durable = {};
    ring.start_node(*this, !has_gone_on);
  }
  void receive(const sys::Address& from, MutableByteSpan datagram) {
    if (node)
      node->on_datagram(from, datagram);
    else if (joining)
      joining->on_datagram(from, datagram);
  }

  // What a primary says of a mirror.
  struct Mirror {
    Epoch epoch{};
    wire::MirrorState state = wire::MirrorState::copying;
    bool is_waited_for = false;  // it was said to be in sync in this epoch
    Instant copied_at{};         // true time
  };
  wire::VolcanoFacts facts();
  wire::MirrorFact look_at(Mirror& mirror, const ring::Replica& replica, Epoch epoch);

  // NodeWatcher
  void started(const raft::Raft& raft) override { ring.checker_.started(raft); }
  void writes(const raft::Raft& raft, const raft::Persist& persist) override {
    ring.checker_.writes(raft, persist);
  }
  void stepped(const raft::Raft& raft) override {
    ring.checker_.stepped(raft);
    if (node) ring.check_leases(*this);
  }
  void has_map(const raft::Raft&, raft::Index at, const ring::LavaMap& map) override {
    ring.check_map(*this, at, map);
  }
  void applied(const raft::Raft& raft, raft::Index at, const ring::Command& command,
               const ring::LavaMap& before) override;
  void granted(const raft::Raft& raft, ring::VolcanoId to, Instant until) override {
    ++ring.counters_.leases;
    ring.checker_.granted(to.value, raft.term(), clock->true_time_of(until));
  }
  void coordinates(const raft::Raft& raft, const std::vector<raft::Deadline>& rights) override {
    ++ring.counters_.elections;
    if (!rights.empty()) ++ring.counters_.transfers;
    std::map<std::uint64_t, Instant> known;
    for (const auto& right : rights) known[right.holder] = clock->true_time_of(right.ends);
    known[papers.value] = Instant::never();  // what it holds itself is no danger to it
    ring.checker_.coordinates(raft.self(), raft.term(), ring.clock_.now(), known);
  }
  void has_lease(const raft::Raft& raft, Instant until) override {
    ring.lease_of_[papers] = clock->true_time_of(until);
    if (raft.role() == raft::Role::leader)
      ring.checker_.granted(papers.value, raft.term(), clock->true_time_of(until));
  }

  NodeRing& ring;
  const std::size_t index;
  std::unique_ptr<DriftingClock> clock;
  std::unique_ptr<SimNetwork::Port> port;
  std::unique_ptr<Store> store;
  std::unique_ptr<Executor> executor;
  std::unique_ptr<node::Joining> joining;
  std::unique_ptr<node::Node> node;
  std::optional<Result<node::Joining::Accepted>> joined;
  node::RingViewPtr view;
  Instant tick_at{};
  std::map<ring::VolcanoId, Mirror> mirrors;
  bool hangs = false;
  // On the disk:
  std::string nick;
  std::uint64_t storage = 0;
  ring::VolcanoId papers;           // kNoVolcano: not taken in
  bool has_gone_on = false;         // an attempt to join was cut off
  std::optional<std::size_t> host;  // to join by
  raft::Stored durable;
  std::optional<Error> refused;
  std::pair<std::uint64_t, std::uint64_t> digest{};  // of the map of a version
};

wire::VolcanoFacts NodeRing::Member::facts() {
  wire::VolcanoFacts facts{.has_census = true, .keys = index};
  const ring::LavaMap& map = node->map();
  const ring::SlotEntry& slot = map.slots.front();
  // Before the map has this start it serves nothing.
  if (map.version == 0 || slot.primary() != papers || !node->view().is_start_known) return facts;
  for (const ring::Replica& replica : slot.replicas)
    if (replica.volcano != papers)
      facts.mirrors.push_back(look_at(mirrors[replica.volcano], replica, slot.epoch));
  std::erase_if(mirrors, [&](const auto& entry) { return !slot.replicas.has(entry.first); });
  // It acknowledges changes, with whom it waits for.
  std::erase_if(ring.complete_, [&](ring::VolcanoId id) {
    const ring::Replica* replica = slot.replicas.find(id);
    const bool is_in_sync = replica != nullptr && replica->state == ring::ReplicaState::in_sync;
    return !is_in_sync && !(mirrors.contains(id) && mirrors[id].is_waited_for);
  });
  ring.check_mirrors();
  return facts;
}

wire::MirrorFact NodeRing::Member::look_at(Mirror& mirror, const ring::Replica& replica,
                                           Epoch epoch) {
  using wire::MirrorState;
  const Instant now = ring.clock_.now();
  SimRandom& random = ring.mirror_random_;
  if (mirror.epoch != epoch) {
    const bool goes_on = replica.state == ring::ReplicaState::in_sync ||
                         (mirror.state == MirrorState::in_sync && random.chance(0.5));
    mirror.epoch = epoch;
    mirror.is_waited_for = goes_on;
    mirror.state = goes_on ? MirrorState::in_sync : MirrorState::copying;
    mirror.copied_at = now + milliseconds(random.between(50, 2000));
  }
  const bool is_there = ring.is_running(replica.volcano);
  if (mirror.state == MirrorState::copying && is_there && now >= mirror.copied_at) {
    mirror.state = MirrorState::in_sync;
    mirror.is_waited_for = true;
    ring.complete_.insert(replica.volcano);
  } else if (mirror.state == MirrorState::in_sync &&
             (!is_there || random.chance(ring.options_.release_chance))) {
    mirror.state = MirrorState::released;
  }
  if (mirror.state == MirrorState::in_sync) ring.told_in_sync_.insert({replica.volcano, epoch});
  return {.volcano = replica.volcano, .state = mirror.state, .epoch = epoch};
}

void NodeRing::Member::applied(const raft::Raft&, raft::Index at, const ring::Command& command,
                               const ring::LavaMap& before) {
  ++ring.counters_.commands;
  if (std::string broken = ring::check_step(before, node->map()); !broken.empty())
    ring.checker_.violated(
        fmt::format("map: {} at {}: {}", ring::name_of(command), at.value, broken));
  if (const auto* in_sync = std::get_if<ring::ReplicaInSync>(&command)) {
    ++ring.counters_.in_sync;
    const Epoch epoch = before.slots.front().epoch;
    if (!ring.told_in_sync_.contains({in_sync->volcano, epoch}))
      ring.checker_.violated(
          fmt::format("mirrors: the primary never said that {} is in sync in "
                      "epoch {}",
                      in_sync->volcano.value, epoch.value));
  }
  if (std::holds_alternative<ring::ReplicaBehind>(command)) ++ring.counters_.behind;
  const auto* down = std::get_if<ring::VolcanoDown>(&command);
  if (down == nullptr || !ring.downs_.insert(at).second) return;
  ++ring.counters_.downs;
  auto lease = ring.lease_of_.find(down->volcano);
  if (lease != ring.lease_of_.end() && lease->second > ring.clock_.now())
    ring.checker_.violated(
        fmt::format("nested leases: volcano {} is called down, and has its "
                    "lease for {} us more",
                    down->volcano.value, (lease->second - ring.clock_.now()).ns / 1000));
}

NodeRing::NodeRing(const Options& options)
    : options_(options),
      random_(options.seed * 2 + 1),
      node_random_(options.seed * 2),
      mirror_random_(options.seed * 7 + 1),
      network_(clock_, options.seed * 5 + 3) {
  keys_ = crypto::keyring_from_network_secret(crypto::make_secret(random_));
  filesystem_ = crypto::make_uuid(random_);
}

NodeRing::~NodeRing() {
  for (auto& member : members_) network_.remove(*member);
}

sys::Address NodeRing::address(std::size_t member) const {
  return sys::Address::v4(10, 0, 0, static_cast<std::uint8_t>(member + 1), kNodePort);
}

std::size_t NodeRing::add(std::string nick) {
  auto member = std::make_unique<Member>(*this, members_.size());
  member->nick = std::move(nick);
  member->storage = next_storage_++;
  const Duration offset = milliseconds(random_.between(1, 100'000));
  const std::int64_t drift = random_.between(-options_.drift_ppm_max, options_.drift_ppm_max);
  member->clock = std::make_unique<DriftingClock>(clock_, offset, drift);
  network_.add(*member);
  members_.push_back(std::move(member));
  return members_.size() - 1;
}

namespace {

ring::Profile profile_of(const std::string& nick, std::uint64_t storage, sys::Address node) {
  sys::Address flare = node;
  flare.port = 12000;
  return {.nick = nick,
          .fqdn = nick + ".example.org",
          .flare = flare.text(),
          .node = node.text(),
          .storage = storage};
}

}  // namespace

void NodeRing::found() {
  const std::size_t index = add("v1");
  Member& member = at(index);
  member.papers = ring::kFounder;
  storage_of_[member.papers] = member.storage;
  auto map = node::founded_map(filesystem_, profile_of(member.nick, member.storage, address(index)),
                               options_.copies);
  MAGMA_CHECK(map.has_value());
  member.durable = raft::founding(core::node_of(member.papers), wire::encode_map(*map));
  start_node(member, true);
}

void NodeRing::join(std::size_t member, std::size_t host) {
  at(member).host = host;
  start(member);
}

bool NodeRing::join_and_wait(std::size_t member, std::size_t host, Duration limit) {
  at(member).refused.reset();
  join(member, host);
  run_until([&] { return is_node(member) || refused(member); }, limit);
  return is_node(member);
}

void NodeRing::begin_join(Member& member) {
  member.refused.reset();
  member.port = network_.open(address(member.index),
                              [&member](const sys::Address& from, MutableByteSpan datagram) {
                                member.receive(from, datagram);
                              });
  member.joining = std::make_unique<node::Joining>(std::vector<sys::Address>{address(*member.host)},
                                                   *member.clock, node_random_, *member.port);
  node::Joining& joining = *member.joining;
  joining.discover([this, &member, &joining](Result<crypto::Uuid> filesystem) {
    if (!filesystem) {
      member.joined = fail(filesystem.error());
      return;
    }
    wire::JoinRequest request{
        .version = "1.2.3",
        .filesystem = *filesystem,
        .profile = profile_of(member.nick, member.storage, address(member.index))};
    joining.join(keys_, std::move(request), [&member](Result<node::Joining::Accepted> result) {
      member.joined = std::move(result);
    });
  });
}

void NodeRing::start_node(Member& member, bool is_first) {
  if (!member.port)
    member.port = network_.open(address(member.index),
                                [&member](const sys::Address& from, MutableByteSpan datagram) {
                                  member.receive(from, datagram);
                                });
  member.store = std::make_unique<Store>(member.durable);
  member.executor = std::make_unique<Executor>(
      SimExecutor::Times{
          .start = microseconds(100), .service = microseconds(300), .jitter = options_.disk_max},
      random_.next_word(), network_);
  member.tick_at = {};
  member.digest = {};
  node::NodeConfig config{.self = member.papers,
                          .profile = profile_of(member.nick, member.storage, address(member.index)),
                          .filesystem = filesystem_,
                          .keys = keys_,
                          .version = "1.2.3",
                          .small_files = 65536,
                          .is_first_start = is_first,
                          .raft = options_.raft};
  if (member.durable.snapshot.last.index > raft::Index{}) ++counters_.restores;
  member.node = std::make_unique<node::Node>(
      std::move(config), member.durable, *member.store, *member.clock, node_random_, *member.port,
      *member.executor, [&member](node::RingViewPtr view) { member.view = std::move(view); },
      options_.planted, &member);
}

void NodeRing::start(std::size_t index) {
  Member& member = at(index);
  if (member.node || member.joining) return;
  if (member.papers == ring::kNoVolcano) {
    if (member.host) begin_join(member);
    return;
  }
  start_node(member, false);
}

void NodeRing::crash(std::size_t index) {
  Member& member = at(index);
  if (!member.node && !member.joining) return;
  ++counters_.crashes;
  if (member.joining) member.has_gone_on = true;
  if (member.executor) member.executor->drop();
  member.node.reset();
  member.joining.reset();
  member.joined.reset();
  member.port.reset();
  member.executor.reset();
  member.view.reset();
  member.mirrors.clear();
  lease_of_.erase(member.papers);
}

void NodeRing::lose_disk(std::size_t index, std::string nick) {
  crash(index);
  Member& member = at(index);
  ++counters_.disks_lost;
  member.papers = ring::kNoVolcano;
  member.storage = next_storage_++;
  member.durable = {};
  member.has_gone_on = false;
  member.nick = std::move(nick);
}

void NodeRing::fail_disk(std::size_t member, bool fails) { at(member).store->fails = fails; }
void NodeRing::hang_shard(std::size_t member, bool hangs) { at(member).hangs = hangs; }

void NodeRing::cut(std::size_t from, std::size_t to) { network_.cut(address(from), address(to)); }
void NodeRing::cut_off(std::size_t member) {
  for (std::size_t other = 0; other < size(); ++other) {
    if (other == member) continue;
    cut(member, other);
    cut(other, member);
  }
}
void NodeRing::heal() {
  network_.join_all();
  network_.set_faults({});
}

void NodeRing::run_for(Duration time) {
  run_until([] { return false; }, time);
}
bool NodeRing::run_until(const std::function<bool()>& condition, Duration limit) {
  return network_.run_until([&] { return violation() || condition(); }, limit) && !violation();
}

bool NodeRing::is_up(std::size_t member) const {
  return at(member).node != nullptr || at(member).joining != nullptr;
}
bool NodeRing::is_node(std::size_t member) const { return at(member).node != nullptr; }
node::Node& NodeRing::node(std::size_t member) { return *at(member).node; }
ring::VolcanoId NodeRing::id(std::size_t member) const { return at(member).papers; }
const std::optional<Error>& NodeRing::refused(std::size_t member) const {
  return at(member).refused;
}
const node::RingViewPtr& NodeRing::view(std::size_t member) const { return at(member).view; }
std::uint64_t NodeRing::storage(std::size_t member) const { return at(member).storage; }
const raft::Stored& NodeRing::durable(std::size_t member) const { return at(member).durable; }

std::optional<std::size_t> NodeRing::coordinator() {
  for (std::size_t i = 0; i < size(); ++i)
    if (at(i).node && at(i).node->is_coordinator()) return i;
  return std::nullopt;
}

std::size_t NodeRing::voters() {
  const auto leader = coordinator();
  return leader ? node(*leader).map().voters.size() : 0;
}

bool NodeRing::is_at_peace() {
  const auto leader = coordinator();
  if (!leader) return false;
  const ring::LavaMap& map = node(*leader).map();
  for (std::size_t i = 0; i < size(); ++i) {
    const Member& member = at(i);
    if (!member.node) continue;
    if (member.node->map().version != map.version || !map.is_alive(member.papers)) return false;
    if (!member.node->lease_until() || *member.node->lease_until() <= member.clock->now())
      return false;
    if (!member.view ||
        node::coordinator_of(*member.view, member.clock->now()) != at(*leader).papers)
      return false;
  }
  return true;
}

bool NodeRing::has_its_copies() {
  if (!is_at_peace()) return false;
  const ring::LavaMap& map = node(*coordinator()).map();
  const std::size_t wanted = std::min<std::size_t>(map.copies, map.volcanoes.size());
  const ring::ReplicaList& replicas = map.slots.front().replicas;
  return replicas.size() == wanted && replicas.in_sync() == wanted;
}

bool NodeRing::is_running(ring::VolcanoId volcano) const {
  return std::any_of(members_.begin(), members_.end(), [&](const auto& member) {
    return member->node && member->papers == volcano && !member->hangs;
  });
}

void NodeRing::check_mirrors() {
  if (!newest_) return;
  const ring::SlotEntry& slot = newest_->slots.front();
  for (const ring::Replica& replica : slot.replicas)
    if (replica.volcano != slot.primary() && replica.state == ring::ReplicaState::in_sync &&
        !complete_.contains(replica.volcano))
      checker_.violated(
          fmt::format("mirrors: {} is in sync in epoch {} and lacks what was "
                      "acknowledged",
                      replica.volcano.value, slot.epoch.value));
}

void NodeRing::check_leases(Member& member) {
  trace_ = trace_ * 31 + member.index;
  const raft::Raft& raft = member.node->raft();
  if (!raft.lease_until(member.clock->now())) return;
  for (const auto& other : members_) {
    if (other.get() == &member || !other->node) continue;
    if (other->node->raft().lease_until(other->clock->now()))
      checker_.both_have_leases(raft.self(), other->node->raft().self(), clock_.now());
  }
}

void NodeRing::check_map(Member& member, raft::Index index, const ring::LavaMap& map) {
  if (member.digest.first != map.version || map.version == 0) {
    member.digest = {map.version, digest_of(map)};
    if (std::string broken = ring::check(map); !broken.empty())
      checker_.violated(fmt::format("map: after {}: {}", index.value, broken));
    for (const ring::SlotEntry& entry : map.slots)
      if (entry != map.slots.front())
        checker_.violated(fmt::format("mirrors: slots differ after {}", index.value));
  }
  if (!newest_ || newest_->version < map.version) {
    newest_ = std::make_shared<const ring::LavaMap>(map);
    check_mirrors();
  }
  checker_.has_state(core::node_of(member.papers), index, member.digest.second);
}

}  // namespace magma::test
