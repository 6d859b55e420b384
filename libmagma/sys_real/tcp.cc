#include "libmagma/sys_real/tcp.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <utility>

#include "libmagma/base/log.h"
#include "libmagma/sys_real/sockaddr.h"

namespace magma::sys_real {

namespace {

// A peer whose machine is gone is noticed after about two minutes.
constexpr int kKeepIdleSeconds = 60;
constexpr int kKeepIntervalSeconds = 15;
constexpr int kKeepProbes = 4;

Result<void> set_option(int fd, int level, int name, int value, std::string_view what) {
  if (::setsockopt(fd, level, name, &value, sizeof value) != 0) return fail_errno("set", what);
  return {};
}

Result<sys::Address> local_of(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0)
    return fail_errno("getsockname", "TCP socket");
  return from_socket_address(reinterpret_cast<const sockaddr*>(&storage));
}

// Options that make a connection better; it works without them.
void tune(int fd) {
  const bool is_tuned =
      set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE") &&
      set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepIdleSeconds, "TCP_KEEPIDLE") &&
      set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepIntervalSeconds, "TCP_KEEPINTVL") &&
      set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, kKeepProbes, "TCP_KEEPCNT") &&
      set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY") &&
      // Telnet's urgent mark stays where it is in the stream.
      set_option(fd, SOL_SOCKET, SO_OOBINLINE, 1, "SO_OOBINLINE");
  if (!is_tuned) log_debug('n', "tcp_options_not_set errno={}", errno);
}

}  // namespace

// ---- TcpConnection

TcpConnection::TcpConnection(Loop& loop, Fd fd, const sys::Address& local, const sys::Address& peer)
    : loop_(loop), fd_(std::move(fd)), local_(local), peer_(peer) {
  tune(fd_.get());
}

Result<void> TcpConnection::start(UniqueFunction<void(ByteSpan)> received,
                                  UniqueFunction<void()> room,
                                  UniqueFunction<void(const Error&)> broken) {
  received_ = std::move(received);
  room_ = std::move(room);
  broken_ = std::move(broken);
  TRY_VALUE(watch_,
            loop_.watch(fd_.get(), kReadable, [this](unsigned events) { on_ready(events); }));
  watch_for();
  return {};
}

void TcpConnection::watch_for() {
  if (!watch_) return;
  const unsigned events =
      is_broken_ ? 0 : (reads_ && !has_ended_ ? kReadable : 0u) | (wants_room_ ? kWritable : 0u);
  watch_.set_events(events);
}

void TcpConnection::on_ready(unsigned events) {
  if ((events & kWritable) != 0 && wants_room_ && !is_broken_) {
    wants_room_ = false;
    watch_for();
    room_();
  }
  if ((events & kReadable) != 0 && reads_ && !has_ended_ && !is_broken_) read_some();
}

void TcpConnection::read_some() {
  std::uint8_t bytes[kTcpReadBytes];
  const ssize_t got = ::recv(fd_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
  if (got < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return;
    return fail_with(error_of_errno("receive", peer_.text(), errno));
  }
  if (got == 0) {
    has_ended_ = true;
    watch_for();
  }
  received_(ByteSpan(bytes, static_cast<std::size_t>(got)));
}

std::size_t TcpConnection::send(ByteSpan bytes) {
  std::size_t done = 0;
  while (done < bytes.size() && !is_broken_) {
    const ssize_t took =
        ::send(fd_.get(), bytes.data() + done, bytes.size() - done, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (took >= 0) {
      done += static_cast<std::size_t>(took);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      wants_room_ = true;
      watch_for();
      return done;
    } else if (errno != EINTR) {
      fail_with(error_of_errno("send", peer_.text(), errno));
    }
  }
  return bytes.size();
}

void TcpConnection::ask_for_room() {
  wants_room_ = true;
  watch_for();
}

void TcpConnection::set_reading(bool on) {
  if (reads_ == on) return;
  reads_ = on;
  watch_for();
}

void TcpConnection::end_sending() {
  // A connection that is gone already is ended as well.
  if (!is_broken_) ::shutdown(fd_.get(), SHUT_WR);
}

void TcpConnection::fail_with(Error error) {
  if (std::exchange(is_broken_, true)) return;
  watch_for();
  if (broken_) broken_(error);
}

// ---- TcpListener

Result<std::unique_ptr<TcpListener>> TcpListener::listen(Loop& loop, const sys::Address& address,
                                                         OnConnection on_connection) {
  std::unique_ptr<TcpListener> listener(new TcpListener(loop, std::move(on_connection)));
  TRY(listener->set_up(address));
  return listener;
}

Result<void> TcpListener::set_up(const sys::Address& address) {
  const int family = address.is_v4() ? AF_INET : AF_INET6;
  fd_ = Fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd_) return fail_errno("socket", "TCP");
  // Connections of an earlier run in TIME_WAIT are no reason not to start.
  TRY(set_option(fd_.get(), SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR"));
  if (family == AF_INET6)
    TRY(set_option(fd_.get(), IPPROTO_IPV6, IPV6_V6ONLY, address.is_any() ? 0 : 1, "IPV6_V6ONLY"));
  const SocketAddress where = to_socket_address(address, family);
  if (::bind(fd_.get(), where.get(), where.length) != 0) {
    if (errno == EADDRINUSE) return fail(Code::in_use, "TCP port " + address.text() + " is in use");
    return fail_errno("bind TCP", address.text());
  }
  if (::listen(fd_.get(), kTcpBacklog) != 0) {
    if (errno == EADDRINUSE) return fail(Code::in_use, "TCP port " + address.text() + " is in use");
    return fail_errno("listen on TCP", address.text());
  }
  TRY_VALUE(local_, local_of(fd_.get()));
  reserve_ = Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  TRY_VALUE(watch_, loop_.watch(fd_.get(), kReadable, [this](unsigned) { accept_some(); }));
  return {};
}

void TcpListener::accept_some() {
  for (unsigned i = 0; i < kTcpAcceptsMax; ++i) {
    sockaddr_storage storage{};
    socklen_t length = sizeof storage;
    Fd fd(::accept4(fd_.get(), reinterpret_cast<sockaddr*>(&storage), &length,
                    SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      const bool is_out = errno == EMFILE || errno == ENFILE;
      if (is_out && shed_one()) continue;
      return;
    }
    auto local = local_of(fd.get());
    if (!local) continue;  // gone before we could look
    on_connection_(std::make_unique<TcpConnection>(
        loop_, std::move(fd), *local,
        from_socket_address(reinterpret_cast<const sockaddr*>(&storage))));
  }
}

// Out of descriptors: without this the listener would stay readable and the loop would spin.
bool TcpListener::shed_one() {
  reserve_.reset();
  { Fd turned_away(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC)); }
  reserve_ = Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  return static_cast<bool>(reserve_);
}

}  // namespace magma::sys_real
