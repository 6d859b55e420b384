// libmagma/sys_real/udp over loopback, with and without segmentation offload.
#include <doctest/doctest.h>
#include <poll.h>

#include <algorithm>
#include <vector>

#include "libmagma/sys_real/udp.h"

using namespace magma;
using sys_real::UdpOptions;
using sys_real::UdpSocket;

namespace {

constexpr int kPatienceMs = 5000;

std::unique_ptr<UdpSocket> open_socket(std::string_view ip, UdpOptions options = {}) {
  auto address = sys::Address::parse(ip, 0);
  REQUIRE(address.has_value());
  auto socket = UdpSocket::bind(*address, options);
  REQUIRE_MESSAGE(socket.has_value(), describe(socket.error()));
  return std::move(*socket);
}

struct Got {
  sys::Address from;
  Bytes bytes;
};

// Receives until there are `wanted` datagrams or nothing comes any more.
std::vector<Got> receive_all(UdpSocket& socket, std::size_t wanted) {
  std::vector<Got> all;
  UdpSocket::OnDatagram keep = [&](const sys::Address& from, MutableByteSpan bytes) {
    all.push_back({from, Bytes(bytes.begin(), bytes.end())});
  };
  while (all.size() < wanted) {
    pollfd ready{socket.fd(), POLLIN, 0};
    if (::poll(&ready, 1, kPatienceMs) <= 0) break;
    socket.receive(keep);
  }
  return all;
}

Bytes pattern(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::uint8_t>(i * 7 + i / 256);
  return bytes;
}

// Sends `total` bytes in segments and expects them back as those datagrams, in order.
void check_train(UdpSocket& from, UdpSocket& to, std::size_t total, std::size_t segment) {
  CAPTURE(total);
  CAPTURE(segment);
  Bytes sent = pattern(total);
  from.send(to.local(), sent, segment);
  std::size_t count = (total + segment - 1) / segment;
  auto got = receive_all(to, count);
  REQUIRE(got.size() == count);
  Bytes joined;
  for (std::size_t i = 0; i < count; ++i) {
    CHECK(got[i].bytes.size() == std::min(segment, total - i * segment));
    CHECK(got[i].from == from.local());
    joined.insert(joined.end(), got[i].bytes.begin(), got[i].bytes.end());
  }
  CHECK(joined == sent);
}

void check_all_sizes(const char* ip, UdpOptions sender, UdpOptions receiver) {
  auto a = open_socket(ip, sender);
  auto b = open_socket(ip, receiver);
  check_train(*a, *b, 1, 1);
  check_train(*a, *b, 1200, 1200);
  check_train(*a, *b, 1201, 1200);        // the last one is one byte
  check_train(*a, *b, 64 * 1000, 1000);   // as many segments as one call takes
  check_train(*a, *b, 46 * 1400 + 17, 1400);
  check_train(*a, *b, 65487, 65487);      // the largest that also fits IPv6 and loopback's MTU
  CHECK(a->counters().send_errors == 0);
  CHECK(b->counters().receive_errors == 0);
}

}  // namespace

TEST_CASE("udp: trains over IPv4 arrive as the datagrams they are made of") {
  for (bool gso : {true, false})
    for (bool gro : {true, false}) {
      CAPTURE(gso);
      CAPTURE(gro);
      check_all_sizes("127.0.0.1", {.gso = gso, .gro = gro}, {.gso = gso, .gro = gro});
    }
}

TEST_CASE("udp: trains over IPv6") {
  if (!UdpSocket::bind(*sys::Address::parse("::1", 0), {})) {
    MESSAGE("no IPv6 on this machine");
    return;
  }
  check_all_sizes("::1", {}, {});
  check_all_sizes("::1", {.gso = false}, {.gro = false});
}

TEST_CASE("udp: a socket bound to :: speaks IPv4 too") {
  auto any = UdpSocket::bind(*sys::Address::parse("::", 0), {});
  if (!any) {
    MESSAGE("no IPv6 on this machine");
    return;
  }
  auto v4 = open_socket("127.0.0.1");
  Bytes hello = pattern(100);
  v4->send(sys::Address::v4(127, 0, 0, 1, (*any)->local().port), hello, 100);
  auto got = receive_all(**any, 1);
  REQUIRE(got.size() == 1);
  CHECK(got[0].from == v4->local());
  (*any)->send(got[0].from, hello, 100);
  auto back = receive_all(*v4, 1);
  REQUIRE(back.size() == 1);
  CHECK(back[0].bytes == hello);
}

TEST_CASE("udp: offload is used where the kernel has it, and saves calls") {
  auto a = open_socket("127.0.0.1");
  auto b = open_socket("127.0.0.1");
  if (!a->uses_gso() || !b->uses_gro()) {
    MESSAGE("no UDP_SEGMENT or UDP_GRO here");
    return;
  }
  check_train(*a, *b, 40 * 1400, 1400);
  CHECK(a->counters().send_calls == 1);
  CHECK(b->counters().receive_calls <= 2);
  CHECK(b->counters().datagrams_received == 40);
  CHECK(a->uses_gso());
}

TEST_CASE("udp: a datagram that the path cannot carry is lost, not fragmented, nor fatal") {
  auto a = open_socket("127.0.0.1");
  auto b = open_socket("127.0.0.1");
  // IPv6 is out of reach of an IPv4 socket.
  a->send(*sys::Address::parse("::1", b->local().port), pattern(100), 100);
  CHECK(a->counters().send_errors == 1);
  check_train(*a, *b, 3000, 1000);
  CHECK(a->uses_gso() == b->uses_gso());
}

TEST_CASE("udp: the receive buffer is what the kernel says") {
  auto small = open_socket("127.0.0.1", {.buffer_bytes = 64 * 1024});
  CHECK(small->receive_buffer_bytes() == 2 * 64 * 1024);  // socket(7): doubled for bookkeeping
  auto usual = open_socket("127.0.0.1");
  CHECK(usual->receive_buffer_bytes() >= small->receive_buffer_bytes());
}

TEST_CASE("udp: an address in use says so") {
  auto a = open_socket("127.0.0.1");
  auto b = UdpSocket::bind(a->local(), {});
  REQUIRE(!b.has_value());
  CHECK(b.error().code == Code::in_use);
}

TEST_CASE("udp: what a full socket refuses waits in order, up to a bound") {
  auto a = open_socket("127.0.0.1");
  auto b = open_socket("127.0.0.1");
  std::vector<bool> wanted;
  a->on_want_writable([&](bool on) { wanted.push_back(on); });
  a->pretend_full(true);
  Bytes datagram = pattern(3000);
  for (std::uint8_t i = 0; i < 100; ++i) {
    datagram[0] = i;
    a->send(b->local(), datagram, 1000);
  }
  CHECK(wanted == std::vector<bool>{true});
  CHECK(a->queued_bytes() == 300'000);
  a->on_writable();  // a false alarm
  CHECK(a->queued_bytes() == 300'000);
  a->pretend_full(false);
  a->send(b->local(), pattern(10), 10);  // must not overtake
  a->on_writable();
  CHECK(wanted == std::vector<bool>{true, false});
  CHECK(a->queued_bytes() == 0);
  auto got = receive_all(*b, 301);
  REQUIRE(got.size() == 301);
  for (std::size_t i = 0; i < 100; ++i) CHECK(got[3 * i].bytes[0] == i);
  CHECK(got[300].bytes.size() == 10);

  a->pretend_full(true);
  Bytes large = pattern(64'000);
  for (int i = 0; i < 200; ++i) a->send(b->local(), large, 1000);
  CHECK(a->queued_bytes() <= sys_real::kSendQueueBytesMax);
  CHECK(a->queued_bytes() > sys_real::kSendQueueBytesMax - large.size());
  CHECK(a->counters().datagrams_dropped == 64 * (200 - a->queued_bytes() / large.size()));
}
