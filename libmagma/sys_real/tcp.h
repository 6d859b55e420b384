// TCP: a listener that hands over connections, and a connection that is read and written without
// ever waiting. Neither keeps bytes: what a peer does not take yet stays with the connection's
// owner, who is asked again when there is room (back-pressure), and what the owner does not want
// yet stays in the kernel.
//
// One thread, the loop's. Callbacks may destroy the object they come from only through the loop's
// next round (Loop::post) or on_flush, never inside the call.
#pragma once

#include <cstdint>
#include <memory>

#include "libmagma/base/bytes.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/sys/address.h"
#include "libmagma/sys_real/fd.h"
#include "libmagma/sys_real/loop.h"

namespace magma::sys_real {

inline constexpr int kTcpBacklog = 128;
inline constexpr unsigned kTcpAcceptsMax = 32;           // a wake-up: others get their turn
inline constexpr std::size_t kTcpReadBytes = 16 * 1024;  // a wake-up and connection

class TcpConnection {
 public:
  // What was accepted, not yet served.
  TcpConnection(Loop& loop, Fd fd, const sys::Address& local, const sys::Address& peer);

  // `received` gets what came, up to kTcpReadBytes at a time; empty at the peer's end of sending,
  // after which it is not called again. `room`: the socket takes bytes again after send() took
  // fewer than all. `broken`: an error; nothing can be sent or received any more, and nothing is
  // called after. Reading is on at first.
  Result<void> start(UniqueFunction<void(ByteSpan)> received, UniqueFunction<void()> room,
                     UniqueFunction<void(const Error&)> broken);
  // How many bytes the kernel took; fewer than all: `room` follows. All if the connection is
  // broken, which `broken` tells.
  std::size_t send(ByteSpan bytes);
  // `room` will be called although nothing was left over.
  void ask_for_room();
  void set_reading(bool on);
  // No more bytes will be sent; the peer sees the end.
  void end_sending();

  const sys::Address& local() const { return local_; }
  const sys::Address& peer() const { return peer_; }

 private:
  void on_ready(unsigned events);
  void read_some();
  void watch_for();
  void fail_with(Error error);

  Loop& loop_;
  Fd fd_;
  sys::Address local_;
  sys::Address peer_;
  UniqueFunction<void(ByteSpan)> received_;
  UniqueFunction<void()> room_;
  UniqueFunction<void(const Error&)> broken_;
  bool reads_ = true;
  bool has_ended_ = false;  // the peer's sending
  bool wants_room_ = false;
  bool is_broken_ = false;
  Loop::Watch watch_;  // ends before fd_
};

class TcpListener {
 public:
  using OnConnection = UniqueFunction<void(std::unique_ptr<TcpConnection>)>;

  // Port 0: the kernel chooses; see local(). in_use if another socket has the port.
  static Result<std::unique_ptr<TcpListener>> listen(Loop& loop, const sys::Address& address,
                                                     OnConnection on_connection);
  const sys::Address& local() const { return local_; }

 private:
  TcpListener(Loop& loop, OnConnection on_connection)
      : loop_(loop), on_connection_(std::move(on_connection)) {}
  Result<void> set_up(const sys::Address& address);
  void accept_some();
  bool shed_one();

  Loop& loop_;
  OnConnection on_connection_;
  Fd fd_;
  Fd reserve_;  // given up for a moment when descriptors run out, to turn newcomers away
  sys::Address local_;
  Loop::Watch watch_;
};

}  // namespace magma::sys_real
