// What the subcommands that talk to volcanoes share: a real loop with a UDP socket that drives a
// client::Client or a client::HostLink, so that a subcommand can be written as one step after the
// other: `await` runs the loop until a call is answered, or somebody presses Ctrl-C.
//
// While nothing is awaited nothing runs, so waiting for anything else (a pipe that is full) goes
// through the loop as well (Output): a session that is silent for ten seconds ends.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "libmagma/base/result.h"
#include "libmagma/client/client.h"
#include "libmagma/client/host_link.h"
#include "libmagma/client/listing.h"
#include "libmagma/client/paths.h"
#include "libmagma/sys_real/clock.h"
#include "libmagma/sys_real/loop.h"
#include "libmagma/sys_real/random.h"
#include "libmagma/sys_real/udp.h"
#include "magma_tools/target.h"

namespace magma::tools {

inline constexpr Duration kConnectPatience = seconds(4);  // until "no volcano answers"
inline constexpr Duration kOneOfManyPatience = milliseconds(450);  // until the next is asked
inline constexpr Duration kAnswerPatience = seconds(10);  // for one request to one volcano
inline constexpr Duration kStall = seconds(10);           // of a ring that was there
inline constexpr Duration kStopPatience = seconds(1);     // for the farewell

// Loop, socket and signals. One at a time in a process; not movable.
class Driver {
 public:
  static Result<std::unique_ptr<Driver>> make();
  ~Driver();
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  // Feeds `driven` (which outlives every await) with datagrams and time. Once.
  template <class Driven>
  void drive(Driven& driven) {
    on_datagram_ = [&driven](const sys::Address& from, MutableByteSpan datagram) {
      driven.on_datagram(from, datagram);
    };
    loop_.set_deadline([this, &driven] { return std::min(driven.deadline(), wake_at_); },
                       [this, &driven] {
                         if (driven.deadline() <= clock_.now()) driven.on_timer();
                         wake_if_due();
                       });
    loop_.on_flush([&driven] { driven.flush(); });
    loop_.set_spin(microseconds(50), [&driven] { return driven.is_waiting(); });
  }

  // Runs the loop until the callback that `begin` is given was called. `interrupted` at SIGINT and
  // SIGTERM; a callback that comes after that is ignored.
  template <class T>
  Result<T> await(UniqueFunction<void(client::Done<T>)> begin) {
    // Shared by this call and the callback, which may come later.
    auto answer = std::make_shared<std::optional<Result<T>>>();
    loop_.post([this, answer, begin = std::move(begin)]() mutable {
      begin([this, answer](Result<T> result) {
        *answer = std::move(result);
        loop_.stop();
      });
    });
    while (!*answer && !is_interrupted_) loop_.run();
    if (!*answer) return fail(Code::interrupted);
    return std::move(**answer);
  }
  // Runs the loop until the descriptor is ready for `events` (sys_real::kReadable, kWritable), or
  // for `longest`; whether it is.
  Result<bool> await_fd(int fd, unsigned events, Duration longest);
  // Lets time go by, and the session live.
  Result<void> pause(Duration time);

  // Asked first at SIGINT and SIGTERM: true, and nothing else happens.
  void on_interrupt(UniqueFunction<bool()> handler) { interrupt_handler_ = std::move(handler); }
  bool is_interrupted() const { return is_interrupted_; }
  // What is to be done after Ctrl-C can be awaited again; another Ctrl-C ends the process.
  void forget_interrupt() { is_interrupted_ = false; }

  sys_real::Clock& clock() { return clock_; }
  sys_real::Random& random() { return random_; }
  sys_real::UdpSocket& udp() { return *socket_; }
  sys_real::Loop& loop() { return loop_; }

 private:
  Driver() = default;
  Result<void> open();
  void wake_if_due();

  sys_real::Clock clock_;
  sys_real::Random random_;
  sys_real::Loop loop_{clock_};
  std::unique_ptr<sys_real::UdpSocket> socket_;
  sys_real::UdpSocket::OnDatagram on_datagram_;
  sys_real::Loop::Watch watch_;
  Instant wake_at_ = Instant::never();  // when await_fd and pause have waited long enough
  UniqueFunction<bool()> interrupt_handler_;
  bool is_interrupted_ = false;
  unsigned interrupts_ = 0;
};

// A session with the ring.
class Network {
 public:
  // Attaches; says why not as a whole sentence in the error's detail.
  static Result<std::unique_ptr<Network>> attach(const Target& target);
  // Ends the session, briefly.
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  Driver& driver() { return *driver_; }
  client::Client& client() { return *client_; }
  client::Tree& tree() { return *tree_; }
  const wire::AttachReply& attached() const { return attached_; }
  Result<client::Flare> resolve(std::string_view path, client::PathWalk::Last last);
  // Who has the slot, as the ring tells it; of a ring that knows nothing yet, who serves.
  std::vector<client::Holder> holders(ring::Slot slot) const;

 private:
  // Keys for files that outgrow their home: of a file that has no path here (bench).
  class Keys final : public client::KeySource {
   public:
    ring::Key key_of(Ino ino) override;
  };

  explicit Network(std::unique_ptr<Driver> driver) : driver_(std::move(driver)) {}

  std::unique_ptr<Driver> driver_;
  Keys keys_;
  std::unique_ptr<client::Client> client_;
  std::unique_ptr<client::Tree> tree_;
  wire::AttachReply attached_;
  std::optional<wire::RingReply> ring_{};
};

// For each volcano of a target any of which can say what is wanted: one that is down among several
// must not hold up the answer.
inline Duration patience_for(const Target& target) {
  return target.hosts.size() > 1 ? kOneOfManyPatience : kConnectPatience;
}

// A connection to one volcano.
class Host {
 public:
  // `host` is one name of the target. Errors as Network::attach.
  static Result<std::unique_ptr<Host>> connect(const Target& target, const std::string& host,
                                               crypto::Role role,
                                               Duration patience = kConnectPatience);
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  Driver& driver() { return *driver_; }
  client::HostLink& link() { return *link_; }
  const sys::Address& address() const { return address_; }
  template <class Message>
  Result<typename wire::OpOf<Message>::Reply> ask(const Message& message, Duration patience) {
    using Reply = typename wire::OpOf<Message>::Reply;
    return driver_->await<Reply>([this, message, patience](client::Done<Reply> done) {
      link_->call(message, patience, std::move(done));
    });
  }

 private:
  explicit Host(std::unique_ptr<Driver> driver) : driver_(std::move(driver)) {}

  std::unique_ptr<Driver> driver_;
  std::unique_ptr<client::HostLink> link_;
  sys::Address address_;
};

// Text and bytes to standard output. Text is gathered until flush() or 64 KiB. Errors: io, once the
// reader has gone (is_closed: nobody need be told) or the disk is full.
class Output {
 public:
  explicit Output(Driver& driver);
  Result<void> print(std::string_view text);
  Result<void> line(std::string_view text);
  Result<void> flush();
  Result<void> write(ByteSpan bytes);
  bool is_closed() const { return is_closed_; }

 private:
  Driver& driver_;
  bool may_block_ = false;  // a pipe, socket or terminal
  bool is_closed_ = false;
  std::string pending_;
};

}  // namespace magma::tools
