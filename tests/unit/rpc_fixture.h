// Endpoints on a simulated network, for the rpc tests: a node is a port, an endpoint and a handler
// that records what happened to it.
#pragma once

#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "libmagma/crypto/network_key.h"
#include "libmagma/rpc/rpc.h"
#include "tests/lib/sim_network.h"

namespace magma::rpc::test {

using magma::test::Faults;
using magma::test::SimClock;
using magma::test::SimNetwork;
using magma::test::SimRandom;

inline crypto::Keyring keys_of(std::uint64_t seed) {
  SimRandom random(seed);
  return crypto::keyring_from_network_secret(crypto::make_secret(random));
}

inline const sys::Address kServer = sys::Address::v4(10, 0, 0, 1, 12000);
inline const sys::Address kClient = sys::Address::v4(10, 0, 0, 2, 40000);
inline const sys::Address kNearServer = sys::Address::v4(127, 0, 0, 1, 12000);
inline const sys::Address kNearClient = sys::Address::v4(127, 0, 0, 1, 40000);

inline EndpointConfig config_of(bool accepts, const crypto::Keyring& keys) {
  EndpointConfig config;
  if (accepts) config.filesystem.fill(0x5a);
  config.keys = keys;
  config.accepts = accepts;
  return config;
}

// Bytes of a message that say themselves whether they are right.
inline Bytes pattern(std::uint64_t seed, std::size_t size) {
  Bytes bytes(size);
  SimRandom(seed).fill(bytes);
  return bytes;
}

class Node : public Handler, public magma::test::Timed {
 public:
  struct Closed {
    ConnectionId connection;
    Code code;
    Instant at;
  };
  struct Answer {
    Result<Bytes> result;
    Instant at;
    int times = 0;
  };
  struct Request {
    ConnectionId connection;
    RequestId id;
    Bytes message;
  };

  Node(SimNetwork& network, const sys::Address& address, EndpointConfig config,
       std::uint64_t seed)
      : network_(network), random_(seed) {
    port = network.open(address, [this](const sys::Address& from, MutableByteSpan datagram) {
      endpoint->on_datagram(from, datagram);
    });
    endpoint = std::make_unique<Endpoint>(std::move(config), network.clock(), random_, *port,
                                          *this);
    network.add(*this);
  }
  ~Node() override {
    network_.remove(*this);
    endpoint.reset();
  }

  Instant deadline() override { return endpoint->deadline(); }
  void on_timer() override { endpoint->on_timer(); }
  void after_events() override { endpoint->flush(); }

  void on_connected(ConnectionId connection, const PeerInfo& peer) override {
    connected.emplace_back(connection, peer);
  }
  void on_closed(ConnectionId connection, const Error& reason) override {
    closed.push_back({connection, reason.code, network_.clock().now()});
  }
  void on_request(ConnectionId connection, RequestId request, ByteSpan message) override {
    requests.push_back({connection, request, Bytes(message.begin(), message.end())});
    if (on_request_hook) on_request_hook(requests.back());
  }
  void on_cancel(ConnectionId, RequestId request) override { cancelled.push_back(request); }
  void on_response(ConnectionId connection, RequestId request, Result<ByteSpan> message) override {
    Answer& answer = answers[{connection.value, request.value}];
    ++answer.times;
    answer.at = network_.clock().now();
    if (message) {
      answer.result = Bytes(message->begin(), message->end());
    } else {
      answer.result = fail(message.error());
    }
    ++answer_count;
  }
  void on_hello(ConnectionId, const crypto::Uuid& uuid) override { hellos.push_back(uuid); }

  const Answer* answer(ConnectionId connection, RequestId request) const {
    auto at = answers.find({connection.value, request.value});
    return at == answers.end() ? nullptr : &at->second;
  }

  std::unique_ptr<SimNetwork::Port> port;
  std::unique_ptr<Endpoint> endpoint;
  std::vector<std::pair<ConnectionId, PeerInfo>> connected;
  std::vector<Closed> closed;
  std::vector<Request> requests;
  std::vector<RequestId> cancelled;
  std::vector<crypto::Uuid> hellos;
  std::map<std::pair<std::uint64_t, std::uint64_t>, Answer> answers;
  std::size_t answer_count = 0;
  std::function<void(const Request&)> on_request_hook;

 private:
  SimNetwork& network_;
  SimRandom random_;
};

// A server that answers a request "seed u64, size u32, anything" with pattern(seed, size), and a
// client connected to it.
struct Pair {
  explicit Pair(std::uint64_t seed, const sys::Address& server_at = kServer,
                const sys::Address& client_at = kClient)
      : Pair(seed, config_of(true, keys_of(1)), config_of(false, keys_of(1)), server_at,
             client_at) {}
  Pair(std::uint64_t seed, EndpointConfig server_config, EndpointConfig client_config,
       const sys::Address& server_at = kServer, const sys::Address& client_at = kClient)
      : network(clock, seed),
        server(network, server_at, std::move(server_config), seed * 2 + 1),
        client(network, client_at, std::move(client_config), seed * 2 + 2) {
    server.on_request_hook = [this](const Node::Request& r) { answer_pattern(r); };
  }
  void answer_pattern(const Node::Request& r) {
    ByteReader in(r.message);
    const auto wanted = in.get<std::uint64_t>();
    const auto size = in.get<std::uint32_t>();
    if (in.bad()) return;
    server.endpoint->reply(r.connection, r.id, {.head = {}, .tail = pattern(wanted, size)},
                           Priority::data);
  }
  bool connect(crypto::Role role = crypto::Role::client, Duration patience = seconds(10)) {
    connection = client.endpoint->connect(server.port->address(), role, patience);
    return network.run_until(
        [&] { return client.endpoint->is_connected(connection) || !client.closed.empty(); },
        patience + seconds(1)) && client.endpoint->is_connected(connection);
  }
  // A request of `request_size` bytes (at least 12) for a response of `response_size`.
  RequestId ask(std::uint64_t seed, std::uint32_t response_size, std::size_t request_size = 12,
                Instant deadline = Instant::never(), Priority priority = Priority::metadata) {
    Message message;
    ByteWriter out(message.head);
    out.put(seed);
    out.put(response_size);
    message.tail = pattern(seed ^ 0xabcdef, request_size - 12);
    return client.endpoint->call(connection, std::move(message), priority, deadline);
  }

  SimClock clock;
  SimNetwork network;
  Node server;
  Node client;
  ConnectionId connection;
};

}  // namespace magma::rpc::test
