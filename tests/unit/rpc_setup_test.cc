// Connection set-up and its enemies: wrong keys, silence, replays, forgeries, restarts.
#include <deque>

#include "libmagma/rpc/packet.h"
#include "tests/unit/rpc_fixture.h"

namespace magma::rpc::test {
namespace {

struct Datagram {
  sys::Address from, to;
  Bytes bytes;
};

}  // namespace

TEST_CASE("rpc: both ends learn whom they talk to") {
  Pair pair(1);
  REQUIRE(pair.connect(crypto::Role::ring));
  pair.network.run_for(milliseconds(10));
  REQUIRE(pair.server.connected.size() == 1);
  REQUIRE(pair.client.connected.size() == 1);
  const PeerInfo& server = pair.client.connected[0].second;
  const PeerInfo& client = pair.server.connected[0].second;
  CHECK(server.address == kServer);
  CHECK(client.address == kClient);
  CHECK(client.role == crypto::Role::ring);
  CHECK(server.filesystem[0] == 0x5a);
  CHECK(server.boot_id != 0);
  CHECK(server.boot_id != client.boot_id);
  CHECK(pair.server.endpoint->connection_count() == 1);
}

TEST_CASE("rpc: a wrong key is told within two seconds") {
  Pair pair(2, config_of(true, keys_of(1)), config_of(false, keys_of(2)));
  const Instant start = pair.clock.now();
  CHECK_FALSE(pair.connect());
  REQUIRE(pair.client.closed.size() == 1);
  CHECK(pair.client.closed[0].code == Code::wrong_key);
  CHECK(pair.client.closed[0].at - start < seconds(2));
  CHECK(pair.server.connected.empty());
  CHECK(pair.server.endpoint->counters().handshakes_refused > 0);
}

TEST_CASE("rpc: nobody there") {
  SimClock clock;
  SimNetwork network(clock, 3);
  Node client(network, kClient, config_of(false, keys_of(1)), 3);
  const Instant start = clock.now();
  client.endpoint->connect(kServer, crypto::Role::client, seconds(3));
  network.run_for(seconds(10));
  REQUIRE(client.closed.size() == 1);
  CHECK(client.closed[0].code == Code::unreachable);
  CHECK(client.closed[0].at == start + seconds(3));
}

TEST_CASE("rpc: the client key does not open the ring role") {
  auto client_config = config_of(false, keys_of(1));
  SUBCASE("an honest client finds out by itself") {
    client_config.keys = crypto::keyring_from_client_secret(keys_of(1).client);
  }
  SUBCASE("a lying client is refused by the server") {
    client_config.keys.ring = keys_of(1).client;
  }
  Pair pair(4, config_of(true, keys_of(1)), client_config);
  CHECK_FALSE(pair.connect(crypto::Role::ring));
  REQUIRE(pair.client.closed.size() == 1);
  CHECK(pair.client.closed[0].code == Code::wrong_key);
  CHECK(pair.server.connected.empty());
}

TEST_CASE("rpc: set-up survives heavy loss") {
  int connected = 0;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    Pair pair(seed);
    pair.network.set_faults({.loss = 0.2, .duplicate = 0.2, .reorder = 0.3});
    connected += pair.connect() ? 1 : 0;
    pair.network.run_for(seconds(1));
    CHECK(pair.server.connected.size() <= 1);
  }
  CHECK(connected >= 98);
}

TEST_CASE("rpc: discovery tells the UUID without a key") {
  auto client_config = config_of(false, crypto::Keyring{});
  Pair pair(5, config_of(true, keys_of(1)), client_config);
  pair.client.endpoint->discover(kServer, seconds(1));
  pair.network.run_for(seconds(2));
  REQUIRE(pair.client.hellos.size() == 1);
  CHECK(pair.client.hellos[0][0] == 0x5a);
  CHECK(pair.client.closed.empty());
  pair.client.endpoint->set_keys(keys_of(1));
  CHECK(pair.connect());
}

TEST_CASE("rpc: another filesystem") {
  auto client_config = config_of(false, keys_of(1));
  client_config.filesystem.fill(1);
  Pair pair(6, config_of(true, keys_of(1)), client_config);
  CHECK_FALSE(pair.connect());
  REQUIRE(pair.client.closed.size() == 1);
  CHECK(pair.client.closed[0].code == Code::wrong_filesystem);
}

TEST_CASE("rpc: replaying every packet changes nothing") {
  Pair pair(7);
  std::vector<Datagram> taped;
  pair.network.set_tap([&](const sys::Address& from, const sys::Address& to, ByteSpan bytes) {
    taped.push_back({from, to, Bytes(bytes.begin(), bytes.end())});
  });
  REQUIRE(pair.connect());
  for (std::uint64_t i = 0; i < 20; ++i) pair.ask(i, 3000, 3000);
  pair.network.run_for(milliseconds(200));
  pair.network.set_tap(nullptr);
  REQUIRE(pair.client.answer_count == 20);
  REQUIRE(pair.server.requests.size() == 20);
  for (int round = 0; round < 3; ++round) {
    for (const Datagram& d : taped) pair.network.inject(d.from, d.to, d.bytes);
    pair.network.run_for(milliseconds(100));
  }
  CHECK(pair.client.answer_count == 20);
  CHECK(pair.server.requests.size() == 20);
  CHECK(pair.server.connected.size() == 1);
  CHECK(pair.client.connected.size() == 1);
  CHECK(pair.server.endpoint->connection_count() == 1);
  CHECK(pair.client.closed.empty());
  CHECK(pair.server.endpoint->counters().packets_replayed > 20);
  // Neither after the connection has gone, nor long after, nor at another server with the key.
  pair.client.endpoint->close(pair.connection);
  pair.network.run_for(seconds(5));
  CHECK(pair.server.endpoint->connection_count() == 0);
  for (const Duration wait : {seconds(1), seconds(300)}) {
    pair.network.run_for(wait);
    for (const Datagram& d : taped) pair.network.inject(d.from, d.to, d.bytes);
    pair.network.run_for(seconds(10));
    CHECK(pair.server.requests.size() == 20);
    CHECK(pair.server.connected.size() == 1);
    CHECK(pair.server.endpoint->connection_count() == 0);
  }
}

TEST_CASE("rpc: an INIT counts once, from its address, while its cookie lives") {
  Pair pair(17);
  std::vector<Bytes> inits;
  std::size_t answers = 0;
  pair.network.set_tap([&](const sys::Address&, const sys::Address&, ByteSpan bytes) {
    Header header;
    REQUIRE(read_header(bytes, header));
    if (header.type == PacketType::init) inits.emplace_back(bytes.begin(), bytes.end());
    if (header.type == PacketType::init_answer) ++answers;
  });
  const auto stranger = sys::Address::v4(10, 0, 0, 66, 6666);
  auto inject_all = [&] {
    const std::vector<Bytes> taped = inits;
    for (const Bytes& init : taped) {
      pair.network.inject(kClient, kServer, init);
      pair.network.inject(stranger, kServer, init);
    }
    pair.network.run_for(milliseconds(10));
  };
  // The first INIT is taken, its answer lost: a duplicate gets the same answer again, the same
  // bytes from elsewhere none.
  pair.network.cut(kServer, kClient);
  pair.connection = pair.client.endpoint->connect(kServer, crypto::Role::client, seconds(20));
  pair.network.run_for(milliseconds(10));
  pair.network.join_all();
  REQUIRE(pair.network.run_until([&] { return answers == 1; }, milliseconds(500)));
  REQUIRE(inits.size() == 1);
  inject_all();
  CHECK(answers <= 2);
  REQUIRE(pair.network.run_until(
      [&] { return pair.server.endpoint->connection_count() == 1; }, seconds(5)));
  const auto before = answers;
  inject_all();
  CHECK(answers == before);
  CHECK(pair.server.endpoint->connection_count() == 1);
  pair.client.endpoint->close(pair.connection);
  pair.network.run_for(seconds(1));
  inject_all();
  CHECK(answers == before);
  pair.network.run_for(seconds(600));
  inject_all();
  CHECK(answers == before);
  CHECK(pair.server.connected.size() == 1);
}

TEST_CASE("rpc: who repeats a packet from elsewhere gets no traffic") {
  Pair pair(18);
  REQUIRE(pair.connect());
  pair.network.run_for(milliseconds(50));
  const auto thief = sys::Address::v4(10, 0, 0, 66, 6666);
  std::size_t thief_bytes = 0;
  auto ear = pair.network.open(thief, [&](const sys::Address&, MutableByteSpan bytes) {
    thief_bytes += bytes.size();
  });
  std::vector<Bytes> taken;
  pair.network.cut(kClient, kServer);
  pair.network.set_tap([&](const sys::Address& from, const sys::Address&, ByteSpan bytes) {
    if (from == kClient) taken.emplace_back(bytes.begin(), bytes.end());
  });
  const auto id = pair.ask(1, 50'000, 100);
  pair.network.run_for(milliseconds(1));
  pair.network.set_tap(nullptr);
  REQUIRE(taken.size() == 1);
  ear->send(kServer, taken[0], taken[0].size());
  pair.network.run_for(milliseconds(2));
  pair.network.join_all();
  pair.network.run_for(seconds(2));
  CHECK(pair.server.requests.size() == 1);
  CHECK(thief_bytes > 0);
  CHECK(thief_bytes <= taken[0].size());
  CHECK(*pair.client.answer(pair.connection, id)->result == pattern(1, 50'000));
}

TEST_CASE("rpc: strangers get no more bytes than they sent") {
  SimClock clock;
  SimNetwork network(clock, 8);
  Node server(network, kServer, config_of(true, keys_of(1)), 8);
  SimRandom random(8);
  std::uint64_t sent = 0;
  std::uint64_t got = 0;
  auto stranger = network.open(kClient, [&](const sys::Address&, MutableByteSpan bytes) {
    got += bytes.size();
    CHECK(got <= sent);
  });
  for (int i = 0; i < 20000; ++i) {
    Bytes packet(random.below(3) == 0 ? 1200 : random.below(1300));
    random.fill(packet);
    if (packet.size() >= 2) packet[1] = static_cast<std::uint8_t>(random.below(8));
    if (packet.size() >= 24) {  // a plausible HELLO
      packet[16] = packet[18] = 0;
      packet[17] = packet[19] = 1;
      packet[20] = 1;
      packet[22] = packet[23] = 0;
    }
    if (packet.empty()) continue;
    sent += packet.size();
    stranger->send(kServer, packet, packet.size());
    network.run_for(microseconds(100));
  }
  network.run_for(seconds(1));
  CHECK(got > 0);
  CHECK(got <= sent);
  CHECK(server.endpoint->connection_count() == 0);
  CHECK(server.connected.empty());
}

TEST_CASE("rpc: damaged and forged packets are dropped, the connection lives") {
  Pair pair(9);
  REQUIRE(pair.connect());
  SimRandom random(9);
  std::vector<Datagram> taped;
  pair.network.set_tap([&](const sys::Address& from, const sys::Address& to, ByteSpan bytes) {
    taped.push_back({from, to, Bytes(bytes.begin(), bytes.end())});
  });
  for (std::uint64_t i = 0; i < 5; ++i) pair.ask(i, 2000, 2000);
  pair.network.run_for(milliseconds(50));
  pair.network.set_tap(nullptr);
  for (const Datagram& d : taped) {
    for (int i = 0; i < 50; ++i) {
      Bytes bad = d.bytes;
      bad[random.below(bad.size())] ^= static_cast<std::uint8_t>(1u << random.below(8));
      store64(bad.data() + 8, load64(bad.data() + 8) + random.below(3) * 1000);
      pair.network.inject(d.from, d.to, bad);
    }
  }
  pair.network.run_for(seconds(1));
  CHECK(pair.server.requests.size() == 5);
  CHECK(pair.client.closed.empty());
  CHECK(pair.server.closed.empty());
  const auto id = pair.ask(77, 5000);
  pair.network.run_for(seconds(1));
  REQUIRE(pair.client.answer(pair.connection, id) != nullptr);
  CHECK(*pair.client.answer(pair.connection, id)->result == pattern(77, 5000));
}

TEST_CASE("rpc: a restarted server closes the old connection soon") {
  SimClock clock;
  SimNetwork network(clock, 10);
  auto server = std::make_unique<Node>(network, kServer, config_of(true, keys_of(1)), 1);
  Node client(network, kClient, config_of(false, keys_of(1)), 2);
  const auto connection = client.endpoint->connect(kServer, crypto::Role::client, seconds(5));
  network.run_for(seconds(1));
  REQUIRE(client.connected.size() == 1);
  server.reset();
  server = std::make_unique<Node>(network, kServer, config_of(true, keys_of(1)), 3);
  const Instant asked = clock.now();
  const auto request = client.endpoint->call(connection, {.head = Bytes(20), .tail = {}},
                                             Priority::metadata, Instant::never());
  network.run_for(seconds(9));
  REQUIRE(client.answer(connection, request) != nullptr);
  CHECK(client.answer(connection, request)->result.error().code == Code::connection_closed);
  REQUIRE(client.closed.size() == 1);
  CHECK(client.closed[0].code == Code::connection_closed);
  CHECK(client.closed[0].at - asked < seconds(1));
  CHECK(server->requests.empty());
}

TEST_CASE("rpc: a peer with a new boot id replaces the one before at its address") {
  SimClock clock;
  SimNetwork network(clock, 11);
  Node server(network, kServer, config_of(true, keys_of(1)), 1);
  auto client = std::make_unique<Node>(network, kClient, config_of(false, keys_of(1)), 2);
  client->endpoint->connect(kServer, crypto::Role::ring, seconds(5));
  network.run_for(seconds(1));
  REQUIRE(server.connected.size() == 1);
  client.reset();
  client = std::make_unique<Node>(network, kClient, config_of(false, keys_of(1)), 3);
  client->endpoint->connect(kServer, crypto::Role::ring, seconds(5));
  network.run_for(milliseconds(100));
  REQUIRE(server.connected.size() == 2);
  REQUIRE(server.closed.size() == 1);
  CHECK(server.closed[0].connection == server.connected[0].first);
  CHECK(server.closed[0].code == Code::connection_closed);
}

TEST_CASE("rpc: an idle connection stays, a dead peer is noticed") {
  Pair pair(12);
  REQUIRE(pair.connect());
  const auto before = pair.network.datagrams_sent();
  pair.network.run_for(seconds(300));
  CHECK(pair.client.closed.empty());
  CHECK(pair.server.closed.empty());
  CHECK(pair.network.datagrams_sent() - before < 500);
  pair.network.cut(kServer, kClient);
  const Instant cut = pair.clock.now();
  const auto id = pair.ask(1, 10);
  pair.network.run_for(seconds(30));
  REQUIRE(pair.client.closed.size() == 1);
  CHECK(pair.client.closed[0].code == Code::timeout);
  CHECK(pair.client.closed[0].at - cut <= seconds(14));
  CHECK(pair.client.answer(pair.connection, id)->result.error().code == Code::connection_closed);
  CHECK(pair.server.endpoint->connection_count() == 0);
}

TEST_CASE("rpc: a partition shorter than patience loses nothing") {
  Pair pair(13);
  REQUIRE(pair.connect());
  pair.network.cut(kClient, kServer);
  std::vector<RequestId> ids;
  for (std::uint64_t i = 0; i < 10; ++i) ids.push_back(pair.ask(i, 20000, 20000));
  pair.network.run_for(seconds(5));
  pair.network.join_all();
  const Instant joined = pair.clock.now();
  REQUIRE(pair.network.run_until([&] { return pair.client.answer_count == 10; }, seconds(5)));
  CHECK(pair.clock.now() - joined < milliseconds(1500));
  CHECK(pair.client.closed.empty());
}

TEST_CASE("rpc: closing answers what is under way and tells the peer") {
  Pair pair(14);
  REQUIRE(pair.connect());
  pair.server.on_request_hook = nullptr;
  const auto id = pair.ask(1, 10);
  pair.network.run_for(milliseconds(10));
  pair.client.endpoint->close(pair.connection);
  CHECK(pair.client.answer(pair.connection, id)->result.error().code == Code::connection_closed);
  CHECK(pair.client.closed.empty());
  pair.network.run_for(milliseconds(10));
  REQUIRE(pair.server.closed.size() == 1);
  CHECK(pair.server.closed[0].code == Code::connection_closed);
  const auto late = pair.ask(2, 10);
  pair.network.run_for(milliseconds(10));
  CHECK(pair.client.answer(pair.connection, late)->result.error().code ==
        Code::connection_closed);
}

TEST_CASE("rpc: handlers may close and call from any callback") {
  Pair pair(15);
  REQUIRE(pair.connect());
  pair.server.on_request_hook = [&](const Node::Request& r) {
    pair.server.endpoint->close(r.connection);
    pair.server.endpoint->reply(r.connection, r.id, {}, Priority::data);
    pair.server.endpoint->call(r.connection, {}, Priority::data, Instant::never());
  };
  for (std::uint64_t i = 0; i < 10; ++i) pair.ask(i, 10);
  pair.network.run_for(seconds(1));
  CHECK(pair.server.requests.size() == 1);
  CHECK(pair.client.answer_count == 10);
  CHECK(pair.server.answer_count == 1);
  CHECK(pair.client.closed.size() == 1);
}

TEST_CASE("rpc: a peer at a new address proves that it is there") {
  Pair pair(16);
  REQUIRE(pair.connect());
  pair.network.run_for(milliseconds(50));
  // The client's datagrams now come from elsewhere, and only what is sent there reaches it.
  const auto moved = sys::Address::v4(10, 0, 0, 3, 41000);
  std::deque<Datagram> to_server;
  auto other = pair.network.open(moved, [&](const sys::Address& from, MutableByteSpan bytes) {
    pair.client.endpoint->on_datagram(from, bytes);
  });
  pair.network.cut(kServer, kClient);
  pair.network.cut(kClient, kServer);
  pair.network.set_tap([&](const sys::Address& from, const sys::Address& to, ByteSpan bytes) {
    if (from == kClient) to_server.push_back({from, to, Bytes(bytes.begin(), bytes.end())});
  });
  const auto id = pair.ask(5, 100);
  for (int i = 0; i < 200 && pair.client.answer(pair.connection, id) == nullptr; ++i) {
    pair.network.run_for(milliseconds(10));
    for (; !to_server.empty(); to_server.pop_front())
      other->send(kServer, to_server.front().bytes, to_server.front().bytes.size());
  }
  REQUIRE(pair.client.answer(pair.connection, id) != nullptr);
  CHECK(*pair.client.answer(pair.connection, id)->result == pattern(5, 100));
  CHECK(pair.server.requests.size() == 1);
}

}  // namespace magma::rpc::test
