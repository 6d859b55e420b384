#include "tests/lib/sim_cluster.h"

#include <algorithm>

#include "libmagma/base/check.h"
#include "libmagma/crypto/path_hash.h"

namespace magma::test {

namespace {

constexpr unsigned kTimerSpinsMax = 1000;  // calls of on_timer of one node at one instant
constexpr std::size_t kReceiveBuffer = 4u << 20;
constexpr Duration kConnectPatience = seconds(30);
// Boot clocks of machines differ, and their wall clocks start in 2026.
constexpr std::int64_t kWallStart = 1'790'000'000'000'000'000;

}  // namespace

// A process with a socket: what volcanoes and clients have in common.
class SimNode : public sys::Clock, public sys::Datagrams {
 public:
  SimNode(SimCluster& cluster, sys::Address address, std::uint64_t seed)
      : cluster_(cluster),
        address_(address),
        random_(seed),
        boot_offset_(seconds(static_cast<std::int64_t>(random_.below(100'000)))) {}

  Instant now() override { return cluster_.loop_.now() + boot_offset_; }
  WallTime wall_now() override { return {kWallStart + cluster_.loop_.now().ns}; }
  void send(const sys::Address& to, ByteSpan bytes, std::size_t segment_size) override {
    if (!is_silent()) cluster_.send(*this, to, bytes, segment_size);
  }
  std::size_t receive_buffer_bytes() const override { return kReceiveBuffer; }

  // In loop time; never() if there is no process.
  Instant deadline() {
    if (!runs()) return Instant::never();
    Instant own = process_deadline();
    return own == Instant::never() ? own : own - boot_offset_;
  }
  const sys::Address& address() const { return address_; }
  void touch() { dirty_ = true; }

  virtual bool runs() const = 0;
  virtual bool is_silent() const { return !runs(); }
  virtual void receive(const sys::Address& from, Bytes& datagram) = 0;
  virtual void timer() = 0;
  virtual void flush() = 0;

 protected:
  virtual Instant process_deadline() = 0;
  friend class SimCluster;
  SimCluster& cluster_;
  sys::Address address_;
  SeedRandom random_;
  Duration boot_offset_;
  bool dirty_ = false;
  Instant spin_at_{};
  unsigned spins_ = 0;
};

namespace {

class LoopExecutor final : public SimExecutor {
 public:
  LoopExecutor(SimLoop& loop, SimNode& node, std::uint64_t seed)
      : SimExecutor(Times{}, seed), loop_(loop), node_(node) {}
  void schedule(Duration delay, UniqueFunction<void()> function) override {
    loop_.after(
        delay, [this, life = std::weak_ptr<int>(alive_), function = std::move(function)]() mutable {
          if (life.expired()) return;
          function();
          node_.touch();
        });
  }

 private:
  SimLoop& loop_;
  SimNode& node_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);  // shared with the loop, as weak_ptr
};

}  // namespace

class SimVolcano final : public SimNode {
 public:
  SimVolcano(SimCluster& cluster, sys::Address address, std::uint64_t seed)
      : SimNode(cluster, address, seed), faulty_(disk_) {}

  bool runs() const override { return volcano_ != nullptr; }
  bool is_silent() const override { return faulty_.frozen() || cluster_.drop_replies_; }
  void receive(const sys::Address& from, Bytes& datagram) override {
    volcano_->on_datagram(from, datagram);
  }
  void timer() override { volcano_->on_timer(); }
  void flush() override { volcano_->flush(); }
  Instant process_deadline() override { return volcano_->deadline(); }

  Result<void> start(const VolcanoConfig& config, bool create) {
    faulty_.thaw();
    executor_ = std::make_unique<LoopExecutor>(cluster_.loop_, *this, random_.next());
    auto started = Volcano::start(config, create, *this, random_, *this, faulty_, *executor_);
    if (!started) {
      executor_.reset();
      return fail(started.error());
    }
    volcano_ = std::move(*started);
    return {};
  }
  Result<void> stop() {
    auto stopped = volcano_->stop();
    volcano_.reset();
    executor_.reset();
    return stopped;
  }
  void crash(Crash how) {
    faulty_.freeze_after(0);
    executor_->drop();
    volcano_.reset();
    executor_.reset();
    if (how == Crash::kill)
      disk_.kill();
    else
      disk_.power_cut(random_);
  }

  SimDisk disk_;
  FaultyDisk faulty_;
  std::unique_ptr<LoopExecutor> executor_;
  std::unique_ptr<Volcano> volcano_;
};

class SimClient final : public SimNode, public client::KeySource {
 public:
  using SimNode::SimNode;
  bool runs() const override { return client_ != nullptr; }
  bool is_silent() const override { return silent_; }
  void receive(const sys::Address& from, Bytes& datagram) override {
    client_->on_datagram(from, datagram);
  }
  void timer() override { client_->on_timer(); }
  void flush() override { client_->flush(); }
  Instant process_deadline() override { return client_->deadline(); }
  ring::Key key_of(Ino ino) override {
    return crypto::key_of_path("/file/" + std::to_string(ino.value));
  }

  void make(client::ClientConfig config) {
    silent_ = false;
    client_ = std::make_unique<client::Client>(std::move(config), *this, random_, *this, *this);
    client_->set_listener(listener_);
  }
  void vanish() {
    silent_ = true;
    client_.reset();
  }

  std::unique_ptr<client::Client> client_;
  client::ChangeListener* listener_ = nullptr;

 private:
  bool silent_ = false;
};

SimCluster::SimCluster(Options options)
    : options_(options), random_(options.seed * 0x9e3779b97f4a7c15ULL + 1) {
  keys_ = crypto::keyring_from_network_secret(crypto::make_secret(random_));
  filesystem_ = crypto::make_uuid(random_);
  auto address = [&](unsigned host) {
    const auto last = static_cast<std::uint8_t>(host);
    return options_.loopback ? sys::Address::v4(127, 0, 0, last, 12000)
                             : sys::Address::v4(10, 0, 0, last, 12000);
  };
  volcano_ = std::make_unique<SimVolcano>(*this, address(1), random_.next());
  for (unsigned i = 0; i < options_.clients; ++i)
    clients_.push_back(std::make_unique<SimClient>(*this, address(100 + i), random_.next()));
}

SimCluster::~SimCluster() {
  for (auto& client : clients_) client->vanish();
  if (volcano_->runs()) volcano_->crash(Crash::kill);
}

bool SimCluster::start_volcano() {
  VolcanoConfig config;
  config.nick = "wallace";
  config.fqdn = "wallace.example";
  config.address = volcano_->address();
  config.filesystem = filesystem_;
  config.keys = keys_;
  config.small_file_bytes_max = options_.small_file_bytes_max;
  ++counters_.starts;
  mix(counters_.starts);
  auto started = volcano_->start(config, !formatted_);
  if (!started) {
    last_error_ =
        "start: " + std::string(name_of(started.error().code)) + " " + describe(started.error());
    return false;
  }
  formatted_ = true;
  volcano_->touch();
  return true;
}

bool SimCluster::stop_volcano() {
  ++counters_.clean_stops;
  auto stopped = volcano_->stop();
  if (!stopped) last_error_ = "stop: " + describe(stopped.error());
  return stopped.has_value();
}

void SimCluster::crash_volcano(Crash how) {
  crash_pending_ = how;
  crash_now();
}

void SimCluster::crash_volcano_after(std::uint64_t changes, Crash how) {
  crash_pending_ = how;
  volcano_->faulty_.freeze_after(changes);
}

void SimCluster::crash_now() {
  const Crash how = *crash_pending_;
  crash_pending_.reset();
  if (!volcano_->runs()) return;
  ++(how == Crash::kill ? counters_.kills : counters_.power_cuts);
  mix(static_cast<std::uint64_t>(how) + 77);
  volcano_->crash(how);
}

bool SimCluster::volcano_runs() const { return volcano_->runs(); }
Volcano& SimCluster::volcano() { return *volcano_->volcano_; }
SimDisk& SimCluster::disk() { return volcano_->disk_; }
FaultyDisk& SimCluster::faulty_disk() { return volcano_->faulty_; }

bool SimCluster::start_client(unsigned index, const crypto::Keyring* other_keys) {
  SimClient& node = *clients_[index];
  client::ClientConfig config;
  config.hosts = {volcano_->address()};
  config.keys =
      crypto::keyring_from_client_secret(other_keys != nullptr ? other_keys->client : keys_.client);
  config.host_name = "client" + std::to_string(index);
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

// ---- network

SimNode* SimCluster::node_at(const sys::Address& address) {
  if (volcano_->address() == address) return volcano_.get();
  for (auto& client : clients_)
    if (client->address() == address) return client.get();
  return nullptr;
}

bool SimCluster::is_cut(const SimNode& from, const sys::Address& to) const {
  return cut_.contains(from.address()) || cut_.contains(to);
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
    if (is_cut(from, to) || one_in_thousand(faults.loss)) {
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
  visit(*volcano_);
  for (auto& client : clients_) visit(*client);
}

void SimCluster::flush_nodes() {
  auto visit = [](SimNode& node) {
    if (!node.dirty_) return;
    node.dirty_ = false;
    if (node.runs()) node.flush();
  };
  visit(*volcano_);
  if (crash_pending_ && volcano_->faulty_.frozen()) crash_now();
  for (auto& client : clients_) visit(*client);
}

// To the next instant at which something happens, but not past `limit`.
void SimCluster::step(Instant limit) {
  Instant next = std::min(loop_.next(), limit);
  next = std::min(next, volcano_->deadline());
  for (auto& client : clients_) next = std::min(next, client->deadline());
  loop_.run_to(std::max(next, loop_.now()));
  if (crash_pending_ && volcano_->faulty_.frozen()) crash_now();
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
