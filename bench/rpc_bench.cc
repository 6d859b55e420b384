// What the rpc layer itself costs: two endpoints in one thread that hand each other their
// datagrams by memcpy. CPU of both sides together, AEAD included, no sockets.
//   rpc_bench [seconds per figure]
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "libmagma/rpc/rpc.h"

namespace {

using namespace magma;

class BenchClock : public sys::Clock {
 public:
  Instant now() override { return {ns_ += 50}; }  // moves a little with every question
  WallTime wall_now() override { return {ns_}; }
  void advance(Duration by) { ns_ += by.ns; }

 private:
  std::int64_t ns_ = 1'000'000'000;
};

class BenchRandom : public sys::Random {
 public:
  void fill(MutableByteSpan bytes) override {
    for (auto& b : bytes) {
      state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
      b = static_cast<std::uint8_t>(state_ >> 56);
    }
  }

 private:
  std::uint64_t state_ = 42;
};

// A wire: one flat buffer, so that the harness allocates nothing per datagram.
class Wire : public sys::Datagrams {
 public:
  void send(const sys::Address&, ByteSpan bytes, std::size_t segment_size) override {
    while (!bytes.empty()) {
      const std::size_t size = std::min(segment_size, bytes.size());
      sizes.push_back(size);
      data.insert(data.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
      bytes = bytes.subspan(size);
    }
  }
  std::size_t receive_buffer_bytes() const override { return 16u << 20; }
  Bytes data;
  std::vector<std::size_t> sizes;
};

class Side : public rpc::Handler {
 public:
  Side(const sys::Address& self, bool accepts, BenchClock& clock, const crypto::Keyring& keys)
      : address(self) {
    rpc::EndpointConfig config;
    config.accepts = accepts;
    config.keys = keys;
    endpoint = std::make_unique<rpc::Endpoint>(config, clock, random, wire, *this);
  }
  void on_connected(rpc::ConnectionId id, const rpc::PeerInfo&) override { connection = id; }
  void on_closed(rpc::ConnectionId, const Error& e) override {
    std::fprintf(stderr, "closed: %s\n", describe(e).c_str());
    std::exit(1);
  }
  void on_request(rpc::ConnectionId id, rpc::RequestId request, ByteSpan) override {
    endpoint->reply(id, request, {.head = Bytes(64), .tail = Bytes(response_tail)},
                    rpc::Priority::data);
  }
  void on_cancel(rpc::ConnectionId, rpc::RequestId) override {}
  void on_response(rpc::ConnectionId, rpc::RequestId, Result<ByteSpan> message) override {
    if (!message) std::exit(1);
    ++answered;
    bytes += message->size();
  }

  sys::Address address;
  BenchRandom random;
  Wire wire;
  std::unique_ptr<rpc::Endpoint> endpoint;
  rpc::ConnectionId connection;
  std::size_t response_tail = 0;
  std::uint64_t answered = 0;
  std::uint64_t bytes = 0;
};

void deliver(Side& from, Side& to) {
  Bytes data;
  std::vector<std::size_t> sizes;
  static thread_local Bytes spare_data;
  static thread_local std::vector<std::size_t> spare_sizes;
  data.swap(spare_data);
  sizes.swap(spare_sizes);
  data.clear();
  sizes.clear();
  data.swap(from.wire.data);
  sizes.swap(from.wire.sizes);
  std::size_t at = 0;
  for (const std::size_t size : sizes) {
    to.endpoint->on_datagram(from.address, {data.data() + at, size});
    at += size;
  }
  to.endpoint->flush();
  spare_data.swap(data);
  spare_sizes.swap(sizes);
}

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

void run(const char* name, bool is_near, std::size_t response_tail, unsigned in_flight,
         double limit_seconds) {
  BenchClock clock;
  BenchRandom random;
  const auto keys = crypto::keyring_from_network_secret(crypto::make_secret(random));
  const auto ip = is_near ? sys::Address::v4(127, 0, 0, 1, 1) : sys::Address::v4(10, 0, 0, 1, 1);
  auto ip2 = ip;
  ip2.port = 2;
  Side server(ip, true, clock, keys);
  Side client(ip2, false, clock, keys);
  server.response_tail = response_tail;
  client.connection = client.endpoint->connect(ip, crypto::Role::client, seconds(5));
  auto pump = [&] {
    deliver(client, server);
    deliver(server, client);
    clock.advance(microseconds(20));
    if (client.endpoint->deadline() <= clock.now()) client.endpoint->on_timer();
    if (server.endpoint->deadline() <= clock.now()) server.endpoint->on_timer();
  };
  for (int i = 0; i < 10; ++i) pump();
  std::uint64_t asked = 0;
  const double start = cpu_seconds();
  double spent = 0;
  while ((spent = cpu_seconds() - start) < limit_seconds) {
    for (int i = 0; i < 64; ++i) {
      while (asked - client.answered < in_flight) {
        client.endpoint->call(client.connection, {.head = Bytes(64), .tail = {}},
                              rpc::Priority::metadata, Instant::never());
        ++asked;
      }
      client.endpoint->flush();
      pump();
    }
  }
  const auto& c = server.endpoint->counters();
  std::printf("%-38s %9.0f pairs/s  %6.2f us/pair  %8.0f MB/s  lost %llu probes %llu "
              "packets/pair %.2f\n",
              name, static_cast<double>(client.answered) / spent,
              spent * 1e6 / static_cast<double>(client.answered),
              static_cast<double>(client.bytes) / spent / 1e6,
              static_cast<unsigned long long>(c.packets_lost),
              static_cast<unsigned long long>(c.timeouts_probe),
              static_cast<double>(c.packets_sent + client.endpoint->counters().packets_sent) /
                  static_cast<double>(client.answered));
}

}  // namespace

int main(int argc, char** argv) {
  const double limit = argc > 1 ? std::atof(argv[1]) : 1.0;
  run("64-byte pairs, loopback, 1 in flight", true, 0, 1, limit);
  run("64-byte pairs, loopback, 16 in flight", true, 0, 16, limit);
  run("64-byte pairs, network, 1 in flight", false, 0, 1, limit);
  run("1 MiB responses, loopback, 1", true, 1 << 20, 1, limit);
  run("1 MiB responses, loopback, 4", true, 1 << 20, 4, limit);
  run("1 MiB responses, network, 4", false, 1 << 20, 4, limit);
  return 0;
}
