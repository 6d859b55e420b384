// The console of a volcano: its sessions, and what their commands need. Sans I/O, the loop's
// thread. Who carries bytes (ConsolePort: TCP; the flare protocol's `console` operation:
// ConsoleGateway) opens a session, feeds it, takes its output and closes it.
//
// Bounds: kSessionsMax sessions, of them kGuestsMax of people with few rights, so that those never
// keep root out; what each holds is bounded in session.h.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "libmagma/base/log.h"
#include "libmagma/sys/disk.h"
#include "libmagma/sys/executor.h"
#include "magmad/console/access.h"
#include "magmad/console/backend.h"
#include "magmad/console/key_gate.h"
#include "magmad/console/ring_files.h"
#include "magmad/console/ring_shutdown.h"
#include "magmad/console/session.h"
#include "magmad/console/user_names.h"

namespace magma {
class Volcano;
}

namespace magma::console {

class Console final : private Backend {
 public:
  static constexpr std::size_t kSessionsMax = 64;
  static constexpr std::size_t kGuestsMax = 32;
  static constexpr Duration kLavaPatience = milliseconds(700);  // for the count of flares

  struct Config {
    AccessRules rules;
    std::string version;
  };
  // References outlive the console. `shut_down` is called for the shutdown command, at most once.
  Console(Config config, Volcano& volcano, sys::Clock& clock, sys::Random& random,
          sys::Executor& executor, OpenRingSocket open_socket, UniqueFunction<void()> shut_down);
  ~Console() override;

  // Another one serves from now on (magmad/tenures.h).
  void set_volcano(Volcano& volcano) { volcano_ = &volcano; }
  // A new session, owned by the console until close(); or why there is none, one line for the peer.
  tl::expected<Session*, std::string> open(const Peer& peer);
  tl::expected<Session*, std::string> open(SessionOptions options);
  // Not from within a call of the session.
  void close(Session* session);
  std::size_t session_count() const { return sessions_.size(); }

  // Every session says so and ends; then the client of the ring is ended, then `done` is called.
  void stop(UniqueFunction<void()> done);

  void flush();
  Instant deadline() const;
  void on_timer();

 private:
  // Backend
  const Identity& identity() const override { return identity_; }
  const AccessRules& rules() const override { return config_.rules; }
  PendingPtr open_files(Done<Files*> done) override;
  PendingPtr lava(Done<LavaReport> done) override;
  CacheReport caches() override;
  PendingPtr check_key(std::string key, Done<bool> done) override {
    return gate_.check(std::move(key), std::move(done));
  }
  PendingPtr learn_names(std::vector<std::uint32_t> uids, std::vector<std::uint32_t> gids,
                         UniqueFunction<void()> done) override {
    return names_.learn(std::move(uids), std::move(gids), std::move(done));
  }
  client::NameSource& names() override { return names_.source(); }
  void warn(std::string_view line) override;
  PendingPtr shut_down(std::string_view who, UniqueFunction<void(std::string)> tell,
                       UniqueFunction<void()> done) override;

  void begin_shutdown(std::string_view who);
  void flush_shutdown();

  class LavaWaiter;
  void step_census();
  LavaReport lava_report(std::optional<std::uint64_t> keys, const sys::DiskSpace& space) const;
  void tell_lava(const Result<LavaReport>& result);

  Config config_;
  Identity identity_;
  Volcano* volcano_;
  sys::Clock& clock_;
  UniqueFunction<void()> shut_down_;
  sys::Random& random_;
  RingFiles files_;
  std::unique_ptr<RingShutdown> shutdown_;  // under way
  KeyGate gate_;
  UserNames names_;
  std::map<std::uint64_t, Done<LavaReport>> lava_waiters_;
  std::uint64_t last_lava_waiter_ = 0;
  Instant lava_until_{};
  bool is_ending_ = false;
  std::map<Session*, std::unique_ptr<Session>> sessions_;  // end before what they use
  RateLimit warnings_;
  RateLimit arrivals_;
};

}  // namespace magma::console
