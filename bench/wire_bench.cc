// The rpc layer over real sockets: how fast requests full of bytes go to another process, on
// whatever path is between. `make -C BUILD bench/wire_bench`; bench/wire_bench.sh lays paths of
// several MTUs between network namespaces, with delay and loss, and runs it on each.
//   wire_bench serve ADDRESS:PORT
//   wire_bench put ADDRESS:PORT [seconds [bytes of a request [requests in flight]]]
// Encrypted as always, but with a key that everybody knows.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "libmagma/rpc/rpc.h"
#include "libmagma/sys_real/clock.h"
#include "libmagma/sys_real/loop.h"
#include "libmagma/sys_real/random.h"
#include "libmagma/sys_real/udp.h"

namespace {

using namespace magma;

constexpr Duration kPatience = seconds(10);

class Side : public rpc::Handler {
 public:
  Side(const sys::Address& self, bool accepts) : loop_(clock_) {
    auto socket = sys_real::UdpSocket::bind(self);
    if (!socket) quit(describe(socket.error()));
    socket_ = std::move(*socket);
    rpc::EndpointConfig config;
    config.accepts = accepts;
    crypto::Secret secret;
    config.keys = crypto::keyring_from_network_secret(secret);
    endpoint = std::make_unique<rpc::Endpoint>(config, clock_, random_, *socket_, *this);
    on_datagram_ = [this](const sys::Address& from, MutableByteSpan datagram) {
      endpoint->on_datagram(from, datagram);
    };
    watch_ = *loop_.watch(socket_->fd(), sys_real::kReadable, [this](unsigned events) {
      if ((events & sys_real::kReadable) != 0) socket_->receive(on_datagram_);
      if ((events & sys_real::kWritable) != 0) socket_->on_writable();
    });
    socket_->on_want_writable([this](bool wanted) {
      watch_.set_events(sys_real::kReadable | (wanted ? sys_real::kWritable : 0));
    });
    loop_.set_deadline([this] { return std::min(endpoint->deadline(), end); },
                       [this] {
                         if (clock_.now() >= end) loop_.stop();
                         endpoint->on_timer();
                       });
    loop_.on_flush([this] { endpoint->flush(); });
    loop_.on_signal(SIGTERM, [this] { loop_.stop(); });
  }
  void run() { loop_.run(); }
  Instant now() { return clock_.now(); }
  const sys_real::UdpSocket& socket() const { return *socket_; }

  [[noreturn]] static void quit(const std::string& why) {
    std::fprintf(stderr, "wire_bench: %s\n", why.c_str());
    std::exit(1);
  }
  void on_connected(rpc::ConnectionId, const rpc::PeerInfo&) override {}
  void on_closed(rpc::ConnectionId, const Error&) override {}
  void on_request(rpc::ConnectionId id, rpc::RequestId request, ByteSpan) override {
    endpoint->reply(id, request, {.head = Bytes(16), .tail = {}}, rpc::Priority::data);
  }
  void on_cancel(rpc::ConnectionId, rpc::RequestId) override {}
  void on_response(rpc::ConnectionId, rpc::RequestId, Result<ByteSpan>) override {}

  std::unique_ptr<rpc::Endpoint> endpoint;
  Instant end = Instant::never();

 private:
  sys_real::Clock clock_;
  sys_real::Random random_;
  sys_real::Loop loop_;
  std::unique_ptr<sys_real::UdpSocket> socket_;
  sys_real::UdpSocket::OnDatagram on_datagram_;
  sys_real::Loop::Watch watch_;
};

class Sender : public Side {
 public:
  Sender(const sys::Address& self, std::size_t bytes, unsigned in_flight)
      : Side(self, false), bytes_(bytes), in_flight_(in_flight) {}
  void on_connected(rpc::ConnectionId id, const rpc::PeerInfo&) override {
    begun = now();
    end = begun + patience;
    connection = id;
    for (unsigned i = 0; i < in_flight_; ++i) send();
  }
  void on_closed(rpc::ConnectionId, const Error& error) override { quit(describe(error)); }
  void on_response(rpc::ConnectionId, rpc::RequestId, Result<ByteSpan> response) override {
    if (!response) quit(describe(response.error()));
    ++done;
    send();
  }

  rpc::ConnectionId connection;
  Instant begun{};
  Duration patience{};
  std::uint64_t done = 0;

 private:
  void send() {
    endpoint->call(connection, {.head = Bytes(64), .tail = Bytes(bytes_)}, rpc::Priority::data,
                   Instant::never());
  }
  std::size_t bytes_;
  unsigned in_flight_;
};

void put(const sys::Address& to, Duration time, std::size_t bytes, unsigned in_flight) {
  sys::Address any = to.is_v4() ? sys::Address::v4(0, 0, 0, 0, 0) : sys::Address{};
  Sender sender(any, bytes, in_flight);
  sender.patience = time;
  sender.end = sender.now() + kPatience + time;
  sender.endpoint->connect(to, crypto::Role::client, kPatience);
  sender.run();
  const auto& c = sender.endpoint->counters();
  const double spent = (sender.now() - sender.begun).seconds();
  std::printf("%8.1f MB/s  datagrams of %zu, %llu sent, %.3f %% lost, %llu spurious, %llu probe "
              "timeouts\n",
              static_cast<double>(sender.done * bytes) / spent / 1e6,
              sender.endpoint->datagram_bytes(sender.connection),
              static_cast<unsigned long long>(c.packets_sent),
              100.0 * static_cast<double>(c.packets_lost) / static_cast<double>(c.packets_sent),
              static_cast<unsigned long long>(c.packets_spurious),
              static_cast<unsigned long long>(c.timeouts_probe));
}

}  // namespace

int main(int argc, char** argv) {
  const auto address = sys::Address::parse(argc > 2 ? argv[2] : "", 0);
  if (!address || address->port == 0) {
    std::fprintf(stderr, "wire_bench serve|put ADDRESS:PORT [seconds [bytes [in flight]]]\n");
    return 2;
  }
  if (std::strcmp(argv[1], "serve") == 0) {
    Side server(*address, true);
    server.run();
    return 0;
  }
  put(*address, nanoseconds(static_cast<std::int64_t>((argc > 3 ? std::atof(argv[3]) : 3) * 1e9)),
      argc > 4 ? std::strtoul(argv[4], nullptr, 10) : std::size_t{1} << 20,
      argc > 5 ? static_cast<unsigned>(std::strtoul(argv[5], nullptr, 10)) : 4);
  return 0;
}
