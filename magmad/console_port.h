// The console's TCP port: between sockets and console::Console. Belongs to main.cc, with the real
// loop. It finds out who connects (uid_of_tcp_peer), moves bytes, and keeps nothing but what the
// session holds; a peer that does not read, or whose command is busy, is not read from either.
//
// on_flush() after each round of the loop does all that may destroy something.
#pragma once

#include <list>
#include <memory>

#include "libmagma/sys_real/loop.h"
#include "libmagma/sys_real/tcp.h"
#include "libmagma/sys_real/udp.h"
#include "magmad/console/console.h"

namespace magma {

class ConsolePort {
 public:
  // Until a peer has seen our end and told its own, the socket stays: closed at once, with bytes of
  // the peer unread, the kernel would throw away what we said last (RFC 2525, 2.17).
  static constexpr Duration kFarewellMax = seconds(2);

  // Takes the port: in_use if somebody has it. References outlive this object.
  static Result<std::unique_ptr<ConsolePort>> listen(sys_real::Loop& loop, sys::Clock& clock,
                                                     const sys::Address& address);
  // To be called before the loop runs. `console` outlives the port.
  void serve(console::Console& console) { console_ = &console; }
  const sys::Address& local() const { return listener_->local(); }

  void on_flush();
  Instant deadline() const;
  void on_timer();

 private:
  struct Connection {
    std::unique_ptr<sys_real::TcpConnection> tcp;
    console::Session* session = nullptr;  // nothing: it is only being ended
    bool is_over = false;                 // the peer is gone
    Instant close_at = Instant::never();  // after our end
  };

  explicit ConsolePort(sys::Clock& clock) : clock_(clock) {}
  void on_connection(std::unique_ptr<sys_real::TcpConnection> tcp);
  console::Peer peer_of(const sys_real::TcpConnection& tcp);
  void on_bytes(Connection& connection, ByteSpan bytes);
  void move_bytes(Connection& connection);
  void say_goodbye(Connection& connection);
  void end_session(Connection& connection);

  sys::Clock& clock_;
  console::Console* console_ = nullptr;  // there once serve() was called
  std::list<Connection> connections_;
  std::unique_ptr<sys_real::TcpListener> listener_;
  RateLimit diag_failures_;
};

// A socket for the console's client of the ring, on any port of the volcano's own address.
console::OpenRingSocket ring_socket_opener(sys_real::Loop& loop, const sys::Address& address);

}  // namespace magma
