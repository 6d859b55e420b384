// A peer whose address changes while its connection lives: an address translator between client and
// server that gives the client another address or port, late packets, a thief who repeats packets.
#include "libmagma/rpc/handshaking.h"
#include "libmagma/rpc/path_mtu.h"
#include "tests/unit/rpc_fixture.h"

namespace magma::rpc::test {
namespace {

const sys::Address kInside = sys::Address::v4(10, 0, 0, 9, 12000);
constexpr std::size_t kChallengeBytes = kPacketOverhead + 9;
const sys::Address kOutside = sys::Address::v4(10, 0, 1, 1, 50000);

// The client knows the server by the translator's inner address, the server the client by the outer
// one, which rebind() changes.
class Translator {
 public:
  Translator(SimNetwork& network, const sys::Address& outside) : network_(network) {
    inner_ = network.open(kInside, [this](const sys::Address&, MutableByteSpan datagram) {
      outer_->send(kServer, datagram, datagram.size());
    });
    rebind(outside);
  }
  void rebind(const sys::Address& outside) {
    outer_.reset();  // what is on the way there is lost
    outer_ = network_.open(outside, [this](const sys::Address&, MutableByteSpan datagram) {
      inner_->send(kClient, datagram, datagram.size());
    });
  }

 private:
  SimNetwork& network_;
  std::unique_ptr<SimNetwork::Port> inner_;
  std::unique_ptr<SimNetwork::Port> outer_;
};

struct Moving {
  explicit Moving(std::uint64_t seed) : pair(seed), translator(pair.network, kOutside) {
    pair.network.set_faults({.delay = milliseconds(1)});
    pair.connection = pair.client.endpoint->connect(kInside, crypto::Role::client, seconds(5));
    pair.network.run_for(seconds(1));
    REQUIRE(pair.server.connected.size() == 1);
    REQUIRE(pair.server.connected[0].second.address == kOutside);
    at_server = pair.server.connected[0].first;
    watch();
  }
  // Counts how often the server began to send to another address, challenges apart.
  void watch() {
    pair.network.set_tap([this](const sys::Address& from, const sys::Address& to, ByteSpan bytes) {
      if (from != kServer || bytes.size() == kChallengeBytes || to == sends_to) return;
      sends_to = to;
      ++changes;
    });
  }

  Pair pair;
  Translator translator;
  ConnectionId at_server;
  sys::Address sends_to = kOutside;
  unsigned changes = 0;
};

}  // namespace

TEST_CASE("rpc: a connection follows its peer to another address, and nothing is lost") {
  Moving moving(31);
  Pair& pair = moving.pair;
  CHECK(pair.server.endpoint->datagram_bytes(moving.at_server) == 8972);
  for (std::uint32_t i = 0; i < 30; ++i) pair.ask(i, 300'000, 300'000);
  for (int i = 1; i <= 5; ++i) {
    pair.network.run_for(milliseconds(8));
    moving.translator.rebind(sys::Address::v4(10, 0, 1, static_cast<std::uint8_t>(1 + i), 50000));
  }
  CHECK(pair.client.answer_count < 30);
  CHECK(pair.network.run_until([&] { return pair.client.answer_count == 30; }, seconds(10)));
  for (const auto& [id, answer] : pair.client.answers) CHECK(answer.result.has_value());
  CHECK(moving.changes >= 1);
  CHECK(moving.changes <= 5);
  CHECK(pair.client.closed.empty());
  CHECK(pair.server.closed.empty());
  CHECK(pair.server.connected.size() == 1);
}

TEST_CASE("rpc: at another address the path is not known, at another port it is") {
  for (const bool only_port : {false, true}) {
    CAPTURE(only_port);
    Moving moving(32);
    Pair& pair = moving.pair;
    REQUIRE(pair.server.endpoint->datagram_bytes(moving.at_server) == 8972);
    moving.translator.rebind(only_port ? sys::Address::v4(10, 0, 1, 1, 50001)
                                       : sys::Address::v4(10, 0, 1, 2, 50000));
    std::size_t smallest = 65507;
    pair.ask(1, 10);
    const bool done = pair.network.run_until(
        [&] {
          smallest = std::min(smallest, pair.server.endpoint->datagram_bytes(moving.at_server));
          return pair.client.answer_count == 1;
        },
        seconds(5));
    CHECK(done);
    CHECK(moving.changes == 1);
    pair.network.run_for(milliseconds(1));
    CHECK(smallest == (only_port ? 8972u : PathMtu::kBaseBytes));
    pair.network.run_for(seconds(2));
    CHECK(pair.server.endpoint->datagram_bytes(moving.at_server) == 8972);
  }
}

TEST_CASE("rpc: packets that were late do not move a connection back") {
  Moving moving(33);
  Pair& pair = moving.pair;
  // Three requests leave from the old address but stay on the way.
  std::vector<Bytes> late;
  pair.network.cut(kOutside, kServer);
  pair.network.set_tap([&](const sys::Address& from, const sys::Address& to, ByteSpan bytes) {
    if (from == kOutside && to == kServer) late.emplace_back(bytes.begin(), bytes.end());
  });
  for (std::uint32_t i = 0; i < 3; ++i) {
    pair.ask(i, 10, 100);
    pair.network.run_for(milliseconds(2));
  }
  moving.watch();
  pair.network.join_all();
  REQUIRE(late.size() >= 3);
  moving.translator.rebind(sys::Address::v4(10, 0, 1, 2, 50000));
  pair.network.run_for(seconds(2));
  REQUIRE(pair.client.answer_count == 3);
  CHECK(moving.changes == 1);
  std::size_t to_old = 0;
  auto old = pair.network.open(kOutside, [&](const sys::Address&, MutableByteSpan bytes) {
    to_old += bytes.size();
  });
  for (const Bytes& packet : late) old->send(kServer, packet, packet.size());
  pair.ask(9, 100'000);
  pair.network.run_for(seconds(2));
  CHECK(pair.client.answer_count == 4);
  CHECK(moving.changes == 1);
  CHECK(to_old == 0);
}

TEST_CASE("rpc: an address that does not answer its challenge gets three times what it sent") {
  Pair pair(34);
  REQUIRE(pair.connect());
  pair.network.run_for(milliseconds(50));
  const auto thief = sys::Address::v4(10, 0, 0, 66, 6666);
  std::size_t received = 0;
  std::size_t sent = 0;
  auto ear = pair.network.open(thief, [&](const sys::Address&, MutableByteSpan bytes) {
    received += bytes.size();
    CHECK(bytes.size() == kChallengeBytes);
    CHECK(received <= 3 * sent);
  });
  // The thief takes the client's packets off the wire and sends them on as its own, for seconds.
  pair.network.set_tap([&](const sys::Address& from, const sys::Address&, ByteSpan bytes) {
    if (from != kClient) return;
    sent += bytes.size();
    ear->send(kServer, bytes, bytes.size());
  });
  pair.network.cut(kClient, kServer);
  for (std::uint32_t i = 0; i < 50; ++i) {
    pair.ask(i, 50'000, 12);
    pair.network.run_for(milliseconds(100));
  }
  CHECK(received > 0);
  pair.network.set_tap(nullptr);
  pair.network.join_all();
  CHECK(pair.network.run_until([&] { return pair.client.answer_count == 50; }, seconds(10)));
  CHECK(pair.server.requests.size() == 50);
}

TEST_CASE("rpc: a flood from addresses that are not there costs no state and no handshake") {
  SimClock clock;
  SimNetwork network(clock, 35);
  Node server(network, kServer, config_of(true, keys_of(1)), 35);
  Node client(network, kClient, config_of(false, keys_of(1)), 36);
  SimRandom random(35);
  std::uint64_t flood_bytes = 0;
  std::uint64_t answer_bytes = 0;
  // INITs of a real client, whose cookie was made for its own address.
  Bytes init;
  network.set_tap([&](const sys::Address& from, const sys::Address&, ByteSpan bytes) {
    if (from == kServer) answer_bytes += bytes.size();
    if (from == kClient && bytes.size() > 1 && (bytes[1] & 0x0f) == 3)
      init.assign(bytes.begin(), bytes.end());
  });
  client.endpoint->connect(kServer, crypto::Role::client, seconds(5));
  network.run_for(seconds(1));
  REQUIRE(server.connected.size() == 1);
  REQUIRE_FALSE(init.empty());
  const auto before = server.endpoint->counters();
  answer_bytes = 0;
  const auto late = client.endpoint->connect(kServer, crypto::Role::client, seconds(5));
  const Instant begun = clock.now();
  Instant connected = Instant::never();
  for (int i = 0; i < 20'000; ++i) {
    const auto from = sys::Address::v4(172, 16, static_cast<std::uint8_t>(random.below(256)),
                                       static_cast<std::uint8_t>(random.below(256)),
                                       static_cast<std::uint16_t>(1 + random.below(60'000)));
    Bytes packet = init;
    if (i % 2 == 0) {
      packet = encode_hello(0, {.version_min = 1, .version_max = 1,
                                .role = crypto::Role::client, .connection = 1 + random.below(99)});
    } else {
      random.fill(MutableByteSpan(packet).subspan(30, 16));  // another nonce
    }
    flood_bytes += packet.size();
    network.inject(from, kServer, packet);
    network.run_for(microseconds(50));
    if (connected == Instant::never() && client.endpoint->is_connected(late))
      connected = clock.now();
  }
  const auto& after = server.endpoint->counters();
  CHECK(connected - begun < seconds(1));
  CHECK(after.handshakes == before.handshakes + 1);
  // Nothing got as far as the key: every INIT fell to its cookie.
  CHECK(after.handshakes_refused == before.handshakes_refused);
  CHECK(after.packets_unauthentic >= before.packets_unauthentic + 10'000);
  CHECK(server.endpoint->connection_count() == 2);
  CHECK(answer_bytes < flood_bytes / 5);
}

}  // namespace magma::rpc::test
