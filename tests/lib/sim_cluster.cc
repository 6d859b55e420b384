#include "tests/lib/sim_cluster.h"

#include <algorithm>
#include <utility>

#include "libmagma/base/check.h"
#include "tests/lib/sim_coordinator.h"
#include "tests/lib/sim_nodes.h"

namespace magma::test {

namespace {

constexpr unsigned kTimerSpinsMax = 1000;  // calls of on_timer of one node at one instant
constexpr Duration kConnectPatience = seconds(30);
constexpr unsigned kMirrorsMax = 4;

}  // namespace

SimCluster::SimCluster(Options options)
    : options_(options), random_(options.seed * 0x9e3779b97f4a7c15ULL + 1) {
  MAGMA_CHECK(options.mirrors <= kMirrorsMax);
  keys_ = crypto::keyring_from_network_secret(crypto::make_secret(random_));
  filesystem_ = crypto::make_uuid(random_);
  auto address = [&](unsigned host) {
    const auto last = static_cast<std::uint8_t>(host);
    return options_.loopback ? sys::Address::v4(127, 0, 0, last, 12000)
                             : sys::Address::v4(10, 0, 0, last, 12000);
  };
  auto add_volcano = [&](unsigned index) {
    const ring::VolcanoId number(static_cast<std::uint16_t>(ring::kFounder.value + index));
    volcanoes_.push_back(
        std::make_unique<SimVolcano>(*this, address(1 + index), random_.next(), number));
  };
  add_volcano(0);
  for (unsigned i = 0; i < options_.clients; ++i)
    clients_.push_back(std::make_unique<SimClient>(*this, address(100 + i), random_.next()));
  MAGMA_CHECK(options_.split == 0 || options_.mirrors == 0);
  for (unsigned i = 1; i <= options_.mirrors || i < options_.split; ++i) add_volcano(i);
  MAGMA_CHECK(!options_.moving || options_.split > 0);
  if (options_.split > 0) split_slots();
  if (options_.mirrors > 0 || options_.copies > 1 || options_.moving)
    coordinator_ = std::make_unique<SimCoordinator>(*this, random_.next());
}

SimCluster::~SimCluster() {
  for (auto& client : clients_) client->vanish();
  for (auto& volcano : volcanoes_)
    if (volcano->runs()) volcano->crash(Crash::kill);
}

void SimCluster::split_slots() {
  SlotOwners& owners = owners_.emplace();
  for (unsigned i = 0; i < options_.split; ++i)
    owners.owners.push_back({ring::VolcanoId(static_cast<std::uint16_t>(ring::kFounder.value + i)),
                             volcano_address(i).text()});
  for (unsigned slot = 0; slot < ring::kSlotCount; ++slot) {
    constexpr std::uint32_t kSpread = 2654435761;
    const unsigned at = options_.spread == Spread::hashed ? (slot + 1) * kSpread >> 20 : slot;
    owners.owner_of[slot] = static_cast<std::uint16_t>(at * options_.split / ring::kSlotCount);
    if (options_.moving) owners.owner_of[slot] = 0;
  }
}

// ---- volcanoes

std::string SimCluster::nick_of(unsigned index) const {
  static constexpr const char* kNicks[] = {"wallace", "gromit", "penguin", "feathers", "shaun"};
  return kNicks[index];
}

bool SimCluster::start_volcano(unsigned index) {
  SimVolcano& node = *volcanoes_[index];
  VolcanoConfig config;
  config.nick = nick_of(index);
  config.fqdn = config.nick + ".example";
  config.address = node.address();
  config.filesystem = filesystem_;
  config.keys = keys_;
  config.small_file_bytes_max = options_.small_file_bytes_max;
  config.pretended_parts = options_.pretended_parts;
  config.serves = index == 0 || (index < options_.split && !options_.moving);
  if (config.serves) config.owners = owners_;
  config.awaits_ring = config.serves && coordinator_ != nullptr;
  ++(config.serves ? counters_.starts : counters_.mirror_starts);
  mix(counters_.starts + (counters_.mirror_starts << 32));
  if (auto started = node.start(std::move(config), options_.moving); !started) {
    last_error_ =
        "start: " + std::string(name_of(started.error().code)) + " " + describe(started.error());
    return false;
  }
  node.touch();
  return true;
}

bool SimCluster::stop_volcano(unsigned index) {
  ++counters_.clean_stops;
  auto stopped = volcanoes_[index]->stop();
  if (!stopped) last_error_ = "stop: " + describe(stopped.error());
  return stopped.has_value();
}

void SimCluster::crash_volcano(Crash how, unsigned index) {
  volcanoes_[index]->crash_pending_ = how;
  crash_now(*volcanoes_[index]);
}

void SimCluster::crash_volcano_after(std::uint64_t changes, Crash how, unsigned index) {
  volcanoes_[index]->crash_pending_ = how;
  volcanoes_[index]->storage_->faulty.freeze_after(changes);
}

void SimCluster::crash_now(SimVolcano& volcano) {
  const Crash how = *volcano.crash_pending_;
  volcano.crash_pending_.reset();
  if (!volcano.runs()) return;
  ++(how == Crash::kill ? counters_.kills : counters_.power_cuts);
  mix(static_cast<std::uint64_t>(how) + 77);
  volcano.crash(how);
}

bool SimCluster::volcano_runs(unsigned index) const { return volcanoes_[index]->runs(); }
bool SimCluster::primaries_run() const {
  for (unsigned i = 1; i < options_.split; ++i)
    if (!volcano_runs(i)) return false;
  return volcano_runs(0);
}
Volcano& SimCluster::volcano(unsigned index) { return volcanoes_[index]->tenures_->volcano(); }
SimDisk& SimCluster::disk(unsigned index) { return volcanoes_[index]->storage_->disk; }
FaultyDisk& SimCluster::faulty_disk(unsigned index) { return volcanoes_[index]->storage_->faulty; }
void SimCluster::hang_disk(unsigned index, bool hangs) {
  volcanoes_[index]->executor_->hang(hangs);
}
void SimCluster::touch_volcano(unsigned index) { volcanoes_[index]->touch(); }
Instant SimCluster::volcano_now(unsigned index) { return volcanoes_[index]->now(); }
sys::Address SimCluster::volcano_address(unsigned index) const {
  return volcanoes_[index]->address();
}
Tenures& SimCluster::tenures(unsigned index) { return *volcanoes_[index]->tenures_; }
std::uint64_t SimCluster::changes_of_slots(unsigned index) const {
  const SimVolcano& volcano = *volcanoes_[index];
  return volcano.tenure_count_ + (volcano.runs() ? volcano.tenures_->count() - 1 : 0);
}
const std::optional<ring::SlotMask>& SimCluster::served_at_end(unsigned index) const {
  return volcanoes_[index]->served_;
}
std::uint64_t SimCluster::starts_of(unsigned index) const { return volcanoes_[index]->starts_; }

void SimCluster::lose_disk(unsigned index) {
  SimVolcano& volcano = *volcanoes_[index];
  MAGMA_CHECK(!volcano.runs());
  auto empty = std::make_unique<SimStorage>(volcano.storage_->number);
  lost_storages_.push_back(std::exchange(volcano.storage_, std::move(empty)));
}

void SimCluster::replace_primary(unsigned mirror) {
  MAGMA_CHECK(mirror != 0 && !volcano_runs(0) && !volcano_runs(mirror));
  coordinator_.reset();
  cut_ways_.clear();
  std::swap(volcanoes_[0]->storage_, volcanoes_[mirror]->storage_);
  lose_disk(mirror);
}

bool SimCluster::start_client(unsigned index, const crypto::Keyring* other_keys) {
  SimClient& node = *clients_[index];
  client::ClientConfig config;
  config.hosts = {volcano_address(options_.host)};
  // With a proxy a second one may be asked to pass packets on, too.
  const bool is_proxy = options_.reach == client::Reach::proxy;
  for (unsigned i = 1; i < (is_proxy ? std::min(options_.split, 2u) : options_.split); ++i)
    config.hosts.push_back(volcano_address(i));
  config.reach = options_.reach;
  config.keys =
      crypto::keyring_from_client_secret(other_keys != nullptr ? other_keys->client : keys_.client);
  config.host_name = "client" + std::to_string(index);
  config.delays_writes = config.delays_names = options_.delays_writes;
  config.fail_when_away = options_.fails_when_away;
  node.make(std::move(config));
  bool answered = false, connected = false;
  node.client_->start(kConnectPatience, [&](Result<wire::AttachReply> reply) {
    answered = true;
    connected = reply.has_value();
    if (!reply) last_error_ = std::string(name_of(reply.error().code));
  });
  node.touch();
  run_until([&] { return answered; }, kConnectPatience + seconds(5));
  if (!answered) last_error_ = "start of the client was never answered";
  if (!connected) node.vanish();
  return connected;
}

Instant SimCluster::client_now(unsigned index) { return clients_[index]->now(); }

void SimCluster::set_listener(unsigned index, client::ChangeListener* listener) {
  SimClient& node = *clients_[index];
  node.listener_ = listener;
  if (node.client_) node.client_->set_listener(listener);
}

void SimCluster::stop_client(unsigned index) {
  SimClient& node = *clients_[index];
  bool done = false;
  node.client_->stop(seconds(5), [&] { done = true; });
  node.touch();
  run_until([&] { return done; }, seconds(10));
  node.vanish();
}

void SimCluster::vanish_client(unsigned index) { clients_[index]->vanish(); }
void SimCluster::touch_client(unsigned index) { clients_[index]->touch(); }
client::Client& SimCluster::client(unsigned index) { return *clients_[index]->client_; }
bool SimCluster::client_exists(unsigned index) const { return clients_[index]->runs(); }

void SimCluster::partition_client(unsigned index, bool cut) {
  if (cut)
    cut_.insert(clients_[index]->address());
  else
    cut_.erase(clients_[index]->address());
}

void SimCluster::cut_client(unsigned index, unsigned volcano, bool cut) {
  const sys::Address here = clients_[index]->address(), there = volcano_address(volcano);
  for (const auto& way : {std::pair(here, there), std::pair(there, here)}) {
    if (cut)
      cut_ways_.insert(way);
    else
      cut_ways_.erase(way);
  }
}

void SimCluster::cut_volcanoes(unsigned from, unsigned to, bool cut) {
  const auto way = std::pair(volcano_address(from), volcano_address(to));
  if (cut)
    cut_ways_.insert(way);
  else
    cut_ways_.erase(way);
}

// ---- network

SimNode* SimCluster::node_at(const sys::Address& address) {
  for (auto& volcano : volcanoes_)
    if (volcano->address() == address) return volcano.get();
  for (auto& client : clients_)
    if (client->address() == address) return client.get();
  return nullptr;
}

bool SimCluster::is_cut(const SimNode& from, const sys::Address& to) const {
  return cut_.contains(from.address()) || cut_.contains(to) ||
         (!cut_ways_.empty() && cut_ways_.contains({from.address(), to}));
}

void SimCluster::send(SimNode& from, const sys::Address& to, ByteSpan bytes,
                      std::size_t segment_size) {
  MAGMA_CHECK(segment_size > 0 && bytes.size() <= 65507 * 64);
  while (!bytes.empty()) {
    ByteSpan segment = bytes.first(std::min(segment_size, bytes.size()));
    bytes = bytes.subspan(segment.size());
    ++counters_.datagrams;
    mix(static_cast<std::uint64_t>(loop_.now().ns));
    mix(segment.size() << 32 | from.address().ip[15] << 8 | to.ip[15]);
    for (std::size_t i = 0; i < segment.size(); i += 61) mix(segment[i]);
    if (is_cut(from, to) || segment.size() > path_bytes() || one_in_thousand(faults.loss)) {
      ++counters_.lost;
      continue;
    }
    Bytes datagram(segment.begin(), segment.end());
    if (one_in_thousand(faults.duplicate)) {
      ++counters_.duplicated;
      plan_delivery(from.address(), to, datagram);
    }
    if (one_in_thousand(faults.corrupt)) {
      ++counters_.corrupted;
      datagram[random_.below(datagram.size())] ^= static_cast<std::uint8_t>(1u << random_.below(8));
    }
    plan_delivery(from.address(), to, std::move(datagram));
  }
}

// What the network takes: usual sizes of links, and one path that becomes narrower.
std::size_t SimCluster::path_bytes() const {
  constexpr std::size_t kSmall = 1252;
  constexpr std::size_t kOrdinary = 1472;
  constexpr std::size_t kJumbo = 8972;
  if (options_.loopback) return 65507;
  switch (options_.seed % 4) {
    case 0: return kSmall;
    case 1: return kOrdinary;
    case 2: return kJumbo;
    default: return loop_.now() - Instant{} < seconds(1) ? kJumbo : kOrdinary;
  }
}

// Delays come in steps of 10 us, so that datagrams meet in one batch as they do for real.
void SimCluster::plan_delivery(const sys::Address& from, const sys::Address& to, Bytes datagram) {
  auto spread = [&](Duration range) {
    constexpr std::int64_t kStep = 10'000;
    auto steps = static_cast<std::uint64_t>(std::max<std::int64_t>(range.ns / kStep, 1));
    return nanoseconds(static_cast<std::int64_t>(random_.below(steps)) * kStep);
  };
  Duration delay = faults.delay_min + spread(faults.delay_max - faults.delay_min);
  if (one_in_thousand(faults.reorder)) {
    ++counters_.reordered;
    delay = delay + spread(faults.reorder_delay_max);
  }
  loop_.after(delay, [this, from, to, datagram = std::move(datagram)]() mutable {
    deliver(from, to, std::move(datagram));
  });
}

void SimCluster::deliver(const sys::Address& from, const sys::Address& to, Bytes datagram) {
  SimNode* node = node_at(to);
  if (node == nullptr || !node->runs()) return;
  node->receive(from, datagram);
  node->touch();
}

// ---- time

void SimCluster::run_timers() {
  auto visit = [&](SimNode& node) {
    if (node.deadline() > loop_.now()) return;
    if (node.spin_at_ != loop_.now()) node.spins_ = 0;
    node.spin_at_ = loop_.now();
    // A process that is due again and again without time passing would burn a CPU for real.
    MAGMA_CHECK(++node.spins_ < kTimerSpinsMax);
    node.timer();
    node.touch();
  };
  for (auto& volcano : volcanoes_) visit(*volcano);
  for (auto& client : clients_) visit(*client);
}

void SimCluster::crash_who_is_due() {
  for (auto& volcano : volcanoes_)
    if (volcano->is_due_to_crash()) crash_now(*volcano);
}

void SimCluster::flush_nodes() {
  auto visit = [](SimNode& node) {
    if (!node.dirty_) return;
    node.dirty_ = false;
    if (node.runs()) node.flush();
  };
  for (auto& volcano : volcanoes_) visit(*volcano);
  crash_who_is_due();
  for (auto& client : clients_) visit(*client);
}

// To the next instant at which something happens, but not past `limit`.
void SimCluster::step(Instant limit) {
  Instant next = std::min(loop_.next(), limit);
  for (auto& volcano : volcanoes_) next = std::min(next, volcano->deadline());
  for (auto& client : clients_) next = std::min(next, client->deadline());
  loop_.run_to(std::max(next, loop_.now()));
  crash_who_is_due();
  run_timers();
  flush_nodes();
}

bool SimCluster::run_until(UniqueFunction<bool()> condition, Duration limit) {
  const Instant end = loop_.now() + limit;
  flush_nodes();
  while (!condition()) {
    if (loop_.now() >= end) return false;
    step(end);
  }
  return true;
}

void SimCluster::run_for(Duration time) {
  run_until([] { return false; }, time);
}

}  // namespace magma::test
