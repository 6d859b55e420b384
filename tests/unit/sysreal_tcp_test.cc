// libmagma/sys_real/tcp and sock_diag over loopback.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <list>
#include <thread>

#include "libmagma/sys_real/clock.h"
#include "libmagma/sys_real/sock_diag.h"
#include "libmagma/sys_real/sockaddr.h"
#include "libmagma/sys_real/tcp.h"

using namespace magma;
using sys_real::Fd;
using sys_real::TcpConnection;
using sys_real::TcpListener;

namespace {

sys::Address address_of(std::string_view text) {
  auto address = sys::Address::parse(text, 0);
  REQUIRE(address.has_value());
  return *address;
}

// A blocking client.
Fd connect_to(const sys::Address& address, int family = 0) {
  if (family == 0) family = address.is_v4() ? AF_INET : AF_INET6;
  Fd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto where = sys_real::to_socket_address(address, family);
  REQUIRE(::connect(fd.get(), where.get(), where.length) == 0);
  return fd;
}

std::string read_all(int fd) {
  std::string all;
  char buffer[65536];
  for (ssize_t got; (got = ::read(fd, buffer, sizeof buffer)) > 0;)
    all.append(buffer, static_cast<std::size_t>(got));
  return all;
}

// A server that keeps what it accepts; run() until a condition or five seconds.
struct Server {
  explicit Server(std::string_view ip) : loop(clock) {
    auto made = TcpListener::listen(loop, address_of(ip), [this](auto connection) {
      accepted.push_back(std::move(connection));
    });
    REQUIRE_MESSAGE(made.has_value(), describe(made.error()));
    listener = std::move(*made);
    loop.set_deadline([this] { return next; },
                      [this] {
                        next = next + milliseconds(5);
                        if (is_done() || clock.now() > give_up) loop.stop();
                      });
  }
  bool run_until(UniqueFunction<bool()> condition) {
    is_done = std::move(condition);
    next = clock.now();
    give_up = next + seconds(5);
    loop.run();
    return is_done();
  }
  sys_real::Clock clock;
  sys_real::Loop loop;
  Instant next{}, give_up{};
  UniqueFunction<bool()> is_done;
  std::list<std::unique_ptr<TcpConnection>> accepted;
  std::unique_ptr<TcpListener> listener;
};

}  // namespace

TEST_CASE("sysreal tcp: bytes both ways, the peer's end and ours") {
  for (const char* ip : {"127.0.0.1", "::1"}) {
    Server server(ip);
    Fd client = connect_to(server.listener->local());
    REQUIRE(server.run_until([&] { return server.accepted.size() == 1; }));
    TcpConnection& connection = *server.accepted.front();
    CHECK(connection.local() == server.listener->local());
    std::string got;
    bool has_ended = false;
    REQUIRE(connection.start(
        [&](ByteSpan bytes) {
          CHECK_FALSE(has_ended);
          got += as_text(bytes);
          has_ended = bytes.empty();
        },
        [] {}, [](const Error& error) { FAIL(describe(error)); }));
    REQUIRE(::write(client.get(), "hello", 5) == 5);
    CHECK(server.run_until([&] { return got == "hello"; }));
    CHECK(connection.send(as_bytes("answer")) == 6);
    ::shutdown(client.get(), SHUT_WR);
    CHECK(server.run_until([&] { return has_ended; }));
    connection.end_sending();
    CHECK(read_all(client.get()) == "answer");
  }
}

TEST_CASE("sysreal tcp: a full socket takes fewer bytes and tells when it takes more") {
  Server server("127.0.0.1");
  Fd client = connect_to(server.listener->local());
  REQUIRE(server.run_until([&] { return server.accepted.size() == 1; }));
  TcpConnection& connection = *server.accepted.front();
  const Bytes data(64u << 20, 7);
  std::size_t sent = 0;
  unsigned rooms = 0;
  const auto send_on = [&] { sent += connection.send(ByteSpan(data).subspan(sent)); };
  REQUIRE(connection.start([](ByteSpan) {},
                           [&] {
                             ++rooms;
                             send_on();
                           },
                           [](const Error& error) { FAIL(describe(error)); }));
  send_on();
  CHECK(sent < data.size());
  CHECK(rooms == 0);
  std::string got;
  std::thread reader([&] { got = read_all(client.get()); });
  CHECK(server.run_until([&] { return sent == data.size(); }));
  connection.end_sending();
  reader.join();
  CHECK(got.size() == data.size());
  CHECK(rooms > 0);
}

TEST_CASE("sysreal tcp: what is not wanted stays in the kernel") {
  Server server("127.0.0.1");
  Fd client = connect_to(server.listener->local());
  REQUIRE(server.run_until([&] { return server.accepted.size() == 1; }));
  std::string got;
  TcpConnection& connection = *server.accepted.front();
  REQUIRE(
      connection.start([&](ByteSpan bytes) { got += as_text(bytes); }, [] {}, [](const Error&) {}));
  connection.set_reading(false);
  REQUIRE(::write(client.get(), "later", 5) == 5);
  const Instant until = server.clock.now() + milliseconds(50);
  server.run_until([&] { return server.clock.now() > until; });
  CHECK(got.empty());
  connection.set_reading(true);
  CHECK(server.run_until([&] { return got == "later"; }));
}

TEST_CASE("sysreal tcp: a connection that is reset is told once") {
  Server server("127.0.0.1");
  Fd client = connect_to(server.listener->local());
  REQUIRE(server.run_until([&] { return server.accepted.size() == 1; }));
  TcpConnection& connection = *server.accepted.front();
  unsigned told = 0;
  REQUIRE(connection.start([](ByteSpan bytes) { CHECK_FALSE(bytes.empty()); }, [] {},
                           [&](const Error&) { ++told; }));
  const linger at_once{1, 0};
  REQUIRE(::setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
  client.reset();
  CHECK(server.run_until([&] { return told == 1; }));
  CHECK(connection.send(as_bytes("lost")) == 4);
  CHECK(told == 1);
}

TEST_CASE("sysreal tcp: a port in use is said to be so") {
  Server server("127.0.0.1");
  auto second = TcpListener::listen(server.loop, server.listener->local(), [](auto) {});
  REQUIRE_FALSE(second.has_value());
  CHECK(second.error().code == Code::in_use);
  CHECK(second.error().detail.find(server.listener->local().text()) != std::string::npos);
}

// ---- sock_diag

namespace {

// The kernel knows a socket's peer by both addresses.
std::optional<std::uint32_t> uid_seen(const TcpConnection& connection) {
  auto uid = sys_real::uid_of_tcp_peer(connection.peer(), connection.local());
  REQUIRE_MESSAGE(uid.has_value(), describe(uid.error()));
  return *uid;
}

}  // namespace

TEST_CASE("sysreal sock_diag: the uid of a local peer, over IPv4, IPv6 and mapped") {
  for (const char* ip : {"127.0.0.1", "::1"}) {
    Server server(ip);
    Fd client = connect_to(server.listener->local());
    REQUIRE(server.run_until([&] { return server.accepted.size() == 1; }));
    CHECK(uid_seen(*server.accepted.front()) == ::geteuid());
  }
  Server server("127.0.0.1");
  Fd client = connect_to(server.listener->local(), AF_INET6);
  REQUIRE(server.run_until([&] { return server.accepted.size() == 1; }));
  CHECK(uid_seen(*server.accepted.front()) == ::geteuid());
}

TEST_CASE("sysreal sock_diag: another user's socket is another user's") {
  if (::geteuid() != 0) return;  // only root can be somebody else
  constexpr std::uint32_t kSomebody = 54321;
  Server server("127.0.0.1");
  int hold[2];
  REQUIRE(::pipe2(hold, O_CLOEXEC) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(hold[1]);
    if (::setuid(kSomebody) != 0) ::_exit(1);
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    const auto where = sys_real::to_socket_address(server.listener->local(), AF_INET);
    if (::connect(fd, where.get(), where.length) != 0) ::_exit(2);
    char byte;
    ::_exit(::read(hold[0], &byte, 1) == 0 ? 0 : 3);
  }
  Fd write_end(hold[1]);
  Fd read_end(hold[0]);
  CHECK(server.run_until([&] { return server.accepted.size() == 1; }));
  CHECK(uid_seen(*server.accepted.front()) == kSomebody);
  write_end.reset();
  int status = 0;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

TEST_CASE("sysreal sock_diag: a peer that has closed is nobody, not root") {
  Server server("127.0.0.1");
  Fd client = connect_to(server.listener->local());
  REQUIRE(server.run_until([&] { return server.accepted.size() == 1; }));
  const TcpConnection& connection = *server.accepted.front();
  // Half-closed it is still its owner's.
  ::shutdown(client.get(), SHUT_WR);
  CHECK(uid_seen(connection) == ::geteuid());
  client.reset();  // the kernel keeps an orphan in FIN_WAIT2, and tells uid 0 of it
  CHECK_FALSE(uid_seen(connection).has_value());
  server.accepted.clear();  // TIME_WAIT, uid 0 as well
  // A socket that listens on the port asked for is no peer.
  Fd other = connect_to(server.listener->local());
  REQUIRE(server.run_until([&] { return server.accepted.size() == 1; }));
  auto uid = sys_real::uid_of_tcp_peer(server.listener->local(), address_of("127.0.0.1:9"));
  REQUIRE(uid.has_value());
  CHECK_FALSE(uid->has_value());
}

TEST_CASE("sysreal sock_diag: addresses of nobody here") {
  auto uid = sys_real::uid_of_tcp_peer(address_of("192.0.2.1:1"), address_of("192.0.2.2:2"));
  REQUIRE(uid.has_value());
  CHECK_FALSE(uid->has_value());
  auto mixed = sys_real::uid_of_tcp_peer(address_of("192.0.2.1:1"), address_of("[::1]:2"));
  REQUIRE(mixed.has_value());
  CHECK_FALSE(mixed->has_value());
}
