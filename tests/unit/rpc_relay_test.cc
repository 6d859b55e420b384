// A client that reaches a volcano only through another one, which passes its packets on.
#include "libmagma/rpc/packet.h"
#include "libmagma/rpc/relay.h"
#include "tests/unit/rpc_fixture.h"

namespace magma::rpc::test {
namespace {

const sys::Address kRelay = sys::Address::v4(10, 0, 0, 3, 12000);

// `pair.server` is cut off from the client; `relay` reaches both.
struct Relayed {
  explicit Relayed(std::uint64_t seed)
      : pair(seed), relay(pair.network, kRelay, config_of(true, keys_of(1)), seed * 2 + 3) {
    pair.network.set_faults({.delay = milliseconds(1)});
    pair.network.cut(kClient, kServer);
    pair.network.cut(kServer, kClient);
    relay.endpoint->set_volcanoes({kServer, kRelay});
  }
  void connect_to_relay() {
    to_relay = pair.client.endpoint->connect(kRelay, crypto::Role::client, seconds(5));
    REQUIRE(pair.network.run_until(
        [&] { return pair.client.endpoint->is_connected(to_relay) && !relay.connected.empty(); },
        seconds(6)));
  }
  bool connect(Duration patience = seconds(3)) {
    pair.connection = pair.client.endpoint->connect(kServer.through(kRelay), crypto::Role::client,
                                                    patience);
    return pair.network.run_until(
               [&] {
                 return pair.client.endpoint->is_connected(pair.connection) ||
                        !pair.client.closed.empty();
               },
               patience + seconds(1)) &&
           pair.client.endpoint->is_connected(pair.connection);
  }
  std::uint64_t passed() { return relay.endpoint->counters().packets_relayed; }
  std::uint64_t refused() { return relay.endpoint->counters().packets_not_relayed; }

  Pair pair;
  Node relay;
  ConnectionId to_relay;
};

// A relayed packet, as its header says (relay.h).
Bytes packet(RelayLeg leg, const sys::Address& end, ByteSpan inner) {
  Bytes bytes(kRelayHeaderBytes + inner.size());
  bytes[1] = kRelayType;
  bytes[2] = static_cast<std::uint8_t>(leg);
  store16(bytes.data() + 4, end.port);
  std::copy(end.ip.begin(), end.ip.end(), bytes.begin() + 6);
  std::copy(inner.begin(), inner.end(), bytes.begin() + kRelayHeaderBytes);
  return bytes;
}

struct Nobody final : RelayClients {
  bool is_connected_with(const sys::Address&) const override { return false; }
};

struct Sent final : sys::Datagrams {
  void send(const sys::Address& to, ByteSpan bytes, std::size_t segment_size) override {
    trains.push_back({to, {bytes.begin(), bytes.end()}, segment_size});
  }
  std::size_t receive_buffer_bytes() const override { return 1u << 20; }
  struct Train {
    sys::Address to;
    Bytes bytes;
    std::size_t segment;
  };
  std::vector<Train> trains;
};

}  // namespace

TEST_CASE("relay: requests and answers of any size reach who cannot be reached directly") {
  Relayed relayed(51);
  relayed.connect_to_relay();
  REQUIRE(relayed.connect());
  relayed.pair.network.run_for(milliseconds(20));
  REQUIRE(relayed.pair.server.connected.size() == 1);
  CHECK(relayed.pair.server.connected[0].second.address == kClient.through(kRelay));
  CHECK(relayed.pair.client.connected[1].second.address == kServer.through(kRelay));
  relayed.pair.network.set_faults({.loss = 0.02, .delay = milliseconds(1), .mtu = 8972});
  for (std::uint32_t i = 0; i < 20; ++i) relayed.pair.ask(i, 300'000, 300'000);
  REQUIRE(relayed.pair.network.run_until(
      [&] { return relayed.pair.client.answer_count == 20; }, seconds(20)));
  std::uint32_t i = 0;
  for (const auto& [id, answer] : relayed.pair.client.answers) {
    REQUIRE(answer.result.has_value());
    CHECK(*answer.result == pattern(i++, 300'000));
  }
  CHECK(relayed.passed() > 100);
  // The whole way was searched for what it takes, the header of the relay included.
  const std::size_t found = relayed.pair.client.endpoint->datagram_bytes(relayed.pair.connection);
  CHECK(found > 8000);
  CHECK(found <= 8972 - kRelayHeaderBytes);
  CHECK(relayed.relay.requests.empty());
}

TEST_CASE("relay: nothing is passed on for who is not connected to the relay") {
  Relayed relayed(52);
  CHECK_FALSE(relayed.connect());
  CHECK(relayed.passed() == 0);
  CHECK(relayed.refused() > 0);
  CHECK(relayed.pair.server.connected.empty());
}

TEST_CASE("relay: nothing is passed on to who is not in the map, nor by who is not asked to") {
  Relayed relayed(53);
  relayed.connect_to_relay();
  SUBCASE("not in the map") { relayed.relay.endpoint->set_volcanoes({kRelay}); }
  SUBCASE("it passes nothing on") { relayed.relay.endpoint->set_volcanoes({}); }
  CHECK_FALSE(relayed.connect());
  CHECK(relayed.passed() == 0);
  CHECK(relayed.pair.server.connected.empty());
}

TEST_CASE("relay: when the client's connection to it has ended, nothing more is passed on") {
  Relayed relayed(54);
  relayed.connect_to_relay();
  REQUIRE(relayed.connect());
  relayed.pair.ask(1, 1000);
  REQUIRE(relayed.pair.network.run_until([&] { return relayed.pair.client.answer_count == 1; },
                                         seconds(5)));
  relayed.pair.client.endpoint->close(relayed.to_relay);
  relayed.pair.network.run_for(seconds(1));
  const std::uint64_t before = relayed.passed();
  relayed.pair.ask(2, 1000);
  relayed.pair.network.run_for(seconds(2));
  CHECK(relayed.pair.client.answer_count == 1);
  CHECK(relayed.passed() == before);
}

TEST_CASE("relay: of two connections of a client one may end") {
  Relayed relayed(55);
  relayed.connect_to_relay();
  const ConnectionId other =
      relayed.pair.client.endpoint->connect(kRelay, crypto::Role::client, seconds(5));
  relayed.pair.network.run_for(seconds(1));
  REQUIRE(relayed.relay.connected.size() == 2);
  relayed.pair.client.endpoint->close(other);
  relayed.pair.network.run_for(seconds(1));
  CHECK(relayed.relay.endpoint->connection_count() == 1);
  CHECK(relayed.connect());
}

TEST_CASE("relay: a packet is passed on once") {
  Sent sent;
  Nobody nobody;
  Relay relay(sent, nobody, true);
  relay.set_volcanoes({kServer, kRelay});
  const Bytes inner(40, 5);
  // To this volcano: its to take, whatever map it has; and no client's word makes it send.
  Bytes own = packet(RelayLeg::forwarded, kClient, inner);
  auto arrived = relay.take(kServer, own);
  REQUIRE(arrived);
  CHECK(arrived->from == kClient.through(kServer));
  CHECK(std::equal(inner.begin(), inner.end(), arrived->packet.begin(), arrived->packet.end()));
  for (Bytes bytes : {packet(RelayLeg::forward, kServer, inner),
                      packet(RelayLeg::back, kClient, inner),
                      packet(RelayLeg::returned, kServer, inner),
                      packet(RelayLeg::forwarded, kClient,
                             packet(RelayLeg::forward, kServer, inner)),
                      packet(static_cast<RelayLeg>(9), kServer, inner),
                      packet(RelayLeg::forwarded, {}, inner),
                      packet(RelayLeg::forwarded, kClient, {})})
    CHECK_FALSE(relay.take(kClient, bytes));
  for (std::size_t size = 2; size <= kRelayHeaderBytes; ++size) {
    Bytes cut(own.begin(), own.begin() + static_cast<std::ptrdiff_t>(size));
    CHECK_FALSE(relay.take(kClient, cut));
  }
  CHECK(sent.trains.empty());
  CHECK(relay.stats().passed == 0);
}

TEST_CASE("relay: a train of packets leaves as trains that fit, each with its header") {
  Sent sent;
  Nobody nobody;
  Relay relay(sent, nobody, false);
  const Bytes bytes = pattern(7, 65000);
  relay.send(kServer.through(kRelay), bytes, 1100);
  REQUIRE(sent.trains.size() == 2);
  Bytes joined;
  for (const auto& train : sent.trains) {
    CHECK(train.to == kRelay);
    CHECK(train.segment == 1100 + kRelayHeaderBytes);
    CHECK(train.bytes.size() <= 65507);
    for (std::size_t at = 0; at < train.bytes.size(); at += train.segment) {
      CHECK(train.bytes[at + 1] == kRelayType);
      const std::size_t end = std::min(train.bytes.size(), at + train.segment);
      joined.insert(joined.end(),
                    train.bytes.begin() + static_cast<std::ptrdiff_t>(at + kRelayHeaderBytes),
                    train.bytes.begin() + static_cast<std::ptrdiff_t>(end));
    }
  }
  CHECK(joined == bytes);
  relay.send(kServer, bytes, 1100);
  CHECK(sent.trains.back().bytes == bytes);
}

TEST_CASE("address: who is reached through another is another than who is reached directly") {
  const sys::Address relayed = kServer.through(kRelay);
  CHECK(relayed.text() == "10.0.0.1:12000 via 10.0.0.3:12000");
  CHECK(relayed != kServer);
  CHECK(relayed.direct() == kServer);
  CHECK(relayed.next_hop() == kRelay);
  CHECK(kServer.next_hop() == kServer);
  CHECK(kNearServer.is_loopback());
  CHECK_FALSE(kNearServer.through(kRelay).is_loopback());
  CHECK(std::hash<sys::Address>()(relayed) != std::hash<sys::Address>()(kServer));
}

}  // namespace magma::rpc::test
