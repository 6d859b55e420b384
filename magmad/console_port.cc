#include "magmad/console_port.h"

#include <algorithm>
#include <utility>

#include "libmagma/base/log.h"
#include "libmagma/sys_real/sock_diag.h"

namespace magma {

namespace {

// Peers that are only being turned away, and sockets that wait for the peer's end, beyond the
// console's sessions: more than these are told so and closed at once.
constexpr std::size_t kConnectionsMax = console::Console::kSessionsMax + 64;

// A reader who is faster than the disk shall not keep the loop.
constexpr std::size_t kBytesPerRound = 128 * 1024;

class RealRingSocket final : public console::RingSocket {
 public:
  static Result<std::unique_ptr<console::RingSocket>> open(sys_real::Loop& loop,
                                                           const sys::Address& address,
                                                           console::OnDatagram on_datagram) {
    std::unique_ptr<RealRingSocket> made(new RealRingSocket);
    TRY_VALUE(made->udp_, sys_real::UdpSocket::bind(address));
    made->on_datagram_ = std::move(on_datagram);
    RealRingSocket& s = *made;
    TRY_VALUE(s.watch_, loop.watch(s.udp_->fd(), sys_real::kReadable, [&s](unsigned events) {
      if ((events & sys_real::kWritable) != 0) s.udp_->on_writable();
      if ((events & sys_real::kReadable) != 0) s.udp_->receive(s.on_datagram_);
    }));
    s.udp_->on_want_writable([&s](bool want) {
      s.watch_.set_events(sys_real::kReadable | (want ? sys_real::kWritable : 0));
    });
    return made;
  }
  sys::Datagrams& datagrams() override { return *udp_; }

 private:
  RealRingSocket() = default;
  std::unique_ptr<sys_real::UdpSocket> udp_;
  console::OnDatagram on_datagram_;
  sys_real::Loop::Watch watch_;  // ends before udp_
};

}  // namespace

console::OpenRingSocket ring_socket_opener(sys_real::Loop& loop, const sys::Address& address) {
  sys::Address any_port = address;
  any_port.port = 0;
  return [&loop, any_port](console::OnDatagram on_datagram) {
    return RealRingSocket::open(loop, any_port, std::move(on_datagram));
  };
}

Result<std::unique_ptr<ConsolePort>> ConsolePort::listen(sys_real::Loop& loop, sys::Clock& clock,
                                                         const sys::Address& address) {
  std::unique_ptr<ConsolePort> port(new ConsolePort(clock));
  ConsolePort& p = *port;
  TRY_VALUE(p.listener_, sys_real::TcpListener::listen(
                             loop, address, [&p](auto tcp) { p.on_connection(std::move(tcp)); }));
  return port;
}

console::Peer ConsolePort::peer_of(const sys_real::TcpConnection& tcp) {
  console::Peer peer;
  peer.address = tcp.peer();
  auto uid = sys_real::uid_of_tcp_peer(tcp.peer(), tcp.local());
  if (!uid && diag_failures_.allow(clock_.now()))
    log_warning("console_peer_unknown error={}", describe(uid.error()));
  if (uid) peer.uid = *uid;
  peer.is_local =
      peer.uid.has_value() || tcp.peer().is_loopback() || tcp.peer().ip == tcp.local().ip;
  return peer;
}

void ConsolePort::on_connection(std::unique_ptr<sys_real::TcpConnection> tcp) {
  if (connections_.size() >= kConnectionsMax) {
    tcp->send(as_bytes("This console has too many connections: try again later.\r\n"));
    return;
  }
  connections_.push_back({});
  Connection& connection = connections_.back();
  connection.tcp = std::move(tcp);
  auto opened = console_->open(peer_of(*connection.tcp));
  auto started =
      connection.tcp->start([this, &connection](ByteSpan bytes) { on_bytes(connection, bytes); },
                            [] {},  // on_flush sees to it
                            [&connection](const Error& error) {
                              connection.is_over = true;
                              log_debug('n', "console_broken error={}", describe(error));
                            });
  if (opened) connection.session = *opened;
  if (!started) {
    log_warning("console_not_served error={}", describe(started.error()));
    connection.is_over = true;
  } else if (!opened) {
    // A line fits into any socket's empty buffer.
    connection.tcp->send(as_bytes(opened.error() + "\r\n"));
    say_goodbye(connection);
  }
}

void ConsolePort::on_bytes(Connection& connection, ByteSpan bytes) {
  if (connection.session == nullptr) {
    // Only waiting for the end, which is there or not worth more patience.
    if (bytes.empty()) connection.is_over = true;
    return;
  }
  if (bytes.empty())
    connection.session->receive_end();
  else
    connection.session->receive(bytes);
}

// Moves what can be moved.
void ConsolePort::move_bytes(Connection& connection) {
  console::Session& session = *connection.session;
  for (std::size_t left = kBytesPerRound; !connection.is_over && !session.output().empty();) {
    const ByteSpan bytes = session.output().first(std::min(left, session.output().size()));
    const std::size_t took = connection.tcp->send(bytes);
    const bool is_full = took < bytes.size();
    session.sent(took);
    left -= took;
    if (is_full) break;
    if (left == 0) {
      connection.tcp->ask_for_room();  // goes on in the next round, after the others
      break;
    }
  }
  if (connection.is_over) return;
  connection.tcp->set_reading(session.wants_input());
  if (session.is_finished()) say_goodbye(connection);
}

void ConsolePort::end_session(Connection& connection) {
  if (connection.session == nullptr) return;
  console_->close(std::exchange(connection.session, nullptr));
}

void ConsolePort::say_goodbye(Connection& connection) {
  end_session(connection);
  connection.tcp->end_sending();
  connection.tcp->set_reading(true);
  connection.close_at = clock_.now() + kFarewellMax;
}

void ConsolePort::on_flush() {
  for (auto at = connections_.begin(); at != connections_.end();) {
    if (at->session != nullptr && !at->is_over) move_bytes(*at);
    if (at->is_over) {
      end_session(*at);
      at = connections_.erase(at);
    } else {
      ++at;
    }
  }
}

Instant ConsolePort::deadline() const {
  Instant due = Instant::never();
  for (const Connection& connection : connections_) due = std::min(due, connection.close_at);
  return due;
}

void ConsolePort::on_timer() {
  const Instant now = clock_.now();
  for (Connection& connection : connections_)
    if (connection.close_at <= now) connection.is_over = true;
}

}  // namespace magma
