// The network's files for console sessions: a client::Client inside magmad, on a UDP socket of its
// own, that talks to the volcano as any mount does, so it stays the same when files lie on many
// volcanoes. Started for the first command that needs it, stopped when nobody has needed it for
// kIdleMax. The loop's thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "libmagma/client/client.h"
#include "libmagma/client/paths.h"
#include "libmagma/sys/clock.h"
#include "libmagma/sys/datagrams.h"
#include "libmagma/sys/random.h"
#include "magmad/console/backend.h"

namespace magma::console {

// A socket for the client; closes with this object.
class RingSocket {
 public:
  virtual ~RingSocket() = default;
  virtual sys::Datagrams& datagrams() = 0;
};
using OnDatagram = UniqueFunction<void(const sys::Address& from, MutableByteSpan datagram)>;
using OpenRingSocket = UniqueFunction<Result<std::unique_ptr<RingSocket>>(OnDatagram)>;

class RingFiles final : public Files, private client::KeySource {
 public:
  static constexpr Duration kStartPatience = seconds(5);
  static constexpr Duration kStopPatience = milliseconds(500);
  static constexpr Duration kIdleMax = seconds(30);
  static constexpr Duration kStall = seconds(5);  // then a command fails rather than waits

  struct Config {
    sys::Address volcano;  // flare address
    crypto::Keyring keys;
    std::string host_name;  // for people
  };
  RingFiles(Config config, sys::Clock& clock, sys::Random& random, OpenRingSocket open_socket);
  ~RingFiles() override;

  // Where to reach the network from the next start on.
  void set_volcano(const sys::Address& volcano) { config_.volcano = volcano; }
  // What the volcano knows of the ring, from now on.
  void set_ring(wire::RingReply ring);
  PendingPtr open(Done<Files*> done);
  // Another socket, for who asks volcanoes otherwise than for files.
  Result<std::unique_ptr<RingSocket>> open_socket(OnDatagram on_datagram) {
    return open_socket_(std::move(on_datagram));
  }
  // How many sessions there are that may use it: none for kIdleMax, and it stops.
  void set_users(std::size_t users);
  // Ends the client, then calls `done`; nothing can be opened any more. Requires: nothing of Files
  // is in use.
  void stop(UniqueFunction<void()> done);

  void flush();
  Instant deadline() const;
  void on_timer();
  bool is_up() const { return state_ == State::running; }

  PendingPtr resolve(std::string_view path, client::PathWalk::Last last,
                     Done<client::Flare> done) override;
  std::unique_ptr<Listing> list(client::Flare directory) override;
  std::unique_ptr<Reading> read(client::Flare file) override;
  PendingPtr erase(const client::Flare& flare, Done<void> done) override;
  std::vector<client::Holder> holders(ring::Slot slot) override;

 private:
  enum class State : std::uint8_t { down, starting, running, stopping, failed };
  class Waiter;
  class Walk;
  class Erasure;

  ring::Key key_of(Ino ino) override;
  void start();
  void on_started(Result<wire::AttachReply> reply);
  void begin_stop();
  void take_down();
  void tell_waiters(const Result<Files*>& result);

  Config config_;
  sys::Clock& clock_;
  sys::Random& random_;
  OpenRingSocket open_socket_;
  State state_ = State::down;
  std::unique_ptr<RingSocket> socket_;
  std::unique_ptr<client::Client> client_;  // ends before socket_
  std::optional<client::Tree> tree_;        // ends before client_
  std::string nick_;
  std::optional<wire::RingReply> ring_{};
  std::map<std::uint64_t, Done<Files*>> waiters_;
  std::uint64_t last_waiter_ = 0;
  std::size_t users_ = 0;
  Instant idle_since_ = Instant::never();
  bool is_ending_ = false;  // stop() was called
  UniqueFunction<void()> stop_done_;
};

}  // namespace magma::console
