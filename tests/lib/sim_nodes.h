// The processes of a simulated cluster, each with its socket, clock and randomness: volcanoes on
// their simulated disks, and clients. Used by sim_cluster.cc alone. One thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "libmagma/client/client.h"
#include "libmagma/crypto/path_hash.h"
#include "magmad/tenures.h"
#include "tests/lib/faulty_disk.h"
#include "tests/lib/sim_cluster.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/sim_executor.h"

namespace magma::test {

inline constexpr std::size_t kSimReceiveBuffer = 4u << 20;
// Wall clocks start in 2026.
inline constexpr std::int64_t kSimWallStart = 1'790'000'000'000'000'000;

// A process with a socket: what volcanoes and clients have in common. Boot clocks of machines
// differ.
class SimNode : public sys::Clock, public sys::Datagrams {
 public:
  SimNode(SimCluster& cluster, sys::Address address, std::uint64_t seed)
      : cluster_(cluster),
        address_(address),
        random_(seed),
        boot_offset_(seconds(static_cast<std::int64_t>(random_.below(100'000)))) {}

  Instant now() override { return cluster_.loop_.now() + boot_offset_; }
  WallTime wall_now() override { return {kSimWallStart + cluster_.loop_.now().ns}; }
  void send(const sys::Address& to, ByteSpan bytes, std::size_t segment_size) override {
    if (!is_silent()) cluster_.send(*this, to, bytes, segment_size);
  }
  std::size_t receive_buffer_bytes() const override { return kSimReceiveBuffer; }

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

class LoopExecutor final : public SimExecutor {
 public:
  static constexpr unsigned kInPlacePercent = 40;
  LoopExecutor(SimLoop& loop, SimNode& node, std::uint64_t seed)
      : SimExecutor(Times{}, seed), loop_(loop), node_(node) {
    set_in_place(kInPlacePercent);
  }
  void schedule(Duration delay, UniqueFunction<void()> function) override {
    loop_.after(
        delay, [this, life = std::weak_ptr<int>(alive_), function = std::move(function)]() mutable {
          if (life.expired()) return;
          if (hangs_) return held_.push_back(std::move(function));
          function();
          node_.touch();
        });
  }
  // Nothing more is begun or done until it no longer hangs.
  void hang(bool hangs) {
    hangs_ = hangs;
    set_in_place(hangs ? 0 : kInPlacePercent);
    for (auto& function : std::exchange(held_, {})) schedule({}, std::move(function));
  }

 private:
  bool hangs_ = false;
  std::vector<UniqueFunction<void()>> held_;
  SimLoop& loop_;
  SimNode& node_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);  // shared with the loop, as weak_ptr
};

// A storage directory. It outlives processes, and goes to another machine if that is to go on with
// it: with it goes the number that its volcano has in the ring.
struct SimStorage {
  SimStorage(ring::VolcanoId who) : number(who), faulty(disk) {}
  ring::VolcanoId number;
  bool is_formatted = false;
  std::uint64_t boot = 1;  // starts of the machine
  SimDisk disk;
  FaultyDisk faulty;
};

class SimVolcano final : public SimNode {
 public:
  SimVolcano(SimCluster& cluster, sys::Address address, std::uint64_t seed, ring::VolcanoId number)
      : SimNode(cluster, address, seed), storage_(std::make_unique<SimStorage>(number)) {}

  void cut_power() {
    storage_->disk.power_cut(random_);
    ++storage_->boot;
  }
  bool runs() const override { return tenures_ != nullptr; }
  bool is_silent() const override { return storage_->faulty.frozen() || cluster_.drop_replies_; }
  void receive(const sys::Address& from, Bytes& datagram) override {
    tenures_->on_datagram(from, datagram);
  }
  void timer() override { tenures_->on_timer(); }
  void flush() override { tenures_->flush(); }
  Instant process_deadline() override { return tenures_->deadline(); }

  Result<void> start(VolcanoConfig config, bool follows_map) {
    storage_->faulty.thaw();
    config.self = storage_->number;
    config.machine_boot = storage_->boot;
    executor_ = std::make_unique<LoopExecutor>(cluster_.loop_, *this, random_.next());
    auto started = Tenures::start(std::move(config), !storage_->is_formatted, follows_map, *this,
                                  random_, *this, storage_->faulty, *executor_);
    if (!started) {
      executor_.reset();
      return fail(started.error());
    }
    storage_->is_formatted = true;
    ++starts_;
    tenures_ = std::move(*started);
    return {};
  }
  Result<void> stop() {
    note_served();
    auto stopped = tenures_->stop();
    tenures_.reset();
    executor_.reset();
    return stopped;
  }
  void crash(Crash how) {
    note_served();
    storage_->faulty.freeze_after(0);
    executor_->drop();
    tenures_.reset();
    executor_.reset();
    if (how == Crash::kill)
      storage_->disk.kill();
    else
      cut_power();
  }
  void note_served() {
    served_.reset();
    tenure_count_ += tenures_->count() - 1;
    if (!tenures_->failed()) served_ = tenures_->volcano().owned();
  }
  bool is_due_to_crash() const { return crash_pending_ && storage_->faulty.frozen(); }

  std::unique_ptr<SimStorage> storage_;
  std::unique_ptr<LoopExecutor> executor_;
  std::unique_ptr<Tenures> tenures_;
  std::optional<ring::SlotMask> served_{};  // when it ended; none: it was between two tenures
  std::uint64_t tenure_count_ = 0;          // changes of slots of processes that have ended
  std::optional<Crash> crash_pending_;
  std::uint64_t starts_ = 0;
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

}  // namespace magma::test
