// Connections of a volcano to the others, on the node port, and the messages over them
// (libmagma/wire/node_messages.h). Sans I/O, one thread: the node's.
//
// A volcano is called by its number. If there is no connection it is dialled at the address the map
// has; meanwhile a few messages wait. A connection that the other side made serves as well: so one
// can be answered whose address is not known here, or has changed. Nothing is sent twice: who wants
// an answer asks again.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>

#include "libmagma/base/unique_function.h"
#include "libmagma/rpc/rpc.h"
#include "libmagma/wire/codec.h"
#include "libmagma/wire/node_messages.h"

namespace magma::node {

// Where an answer goes.
struct ReplyTo {
  rpc::ConnectionId connection;
  rpc::RequestId request;
  wire::NodeOp op{};
};

class Links final : private rpc::Handler {
 public:
  static constexpr std::size_t kInFlightMax = 64;  // requests to one volcano, not answered yet
  static constexpr std::size_t kWaitingMax = 16;   // messages to one that is being dialled
  static constexpr Duration kDialPatience = milliseconds(1500);
  static constexpr Duration kDialAgain = milliseconds(300);  // after one that failed
  static constexpr Duration kAnswerIn = seconds(2);
  static constexpr Duration kDeadAfter = seconds(4);  // of silence

  // A request from a volcano, or from who has yet to join: authentic in that it has the ring key.
  // `body` is valid inside the call only.
  using OnRequest =
      UniqueFunction<void(const wire::NodeRequestHead& head, ByteSpan body, ReplyTo to)>;
  // The body of an answer; or why there is none: unreachable, connection_closed, timeout,
  // overloaded, malformed, or what the other side said.
  using OnAnswer = UniqueFunction<void(Result<ByteSpan> body)>;

  struct Config {
    ring::VolcanoId self;  // kNoVolcano: yet to join
    std::uint64_t storage = 0;
    crypto::Uuid filesystem{};
    crypto::Keyring keys;
    bool accepts = true;
    std::size_t datagram_bytes_max = rpc::kDatagramBytesMax;
  };
  Links(Config config, sys::Clock& clock, sys::Random& random, sys::Datagrams& datagrams,
        OnRequest on_request);
  ~Links() override;

  // Where volcano `id` is to be found.
  void set_address(ring::VolcanoId id, const std::string& address);
  // Sends a request. `done` is called once, never from within this call (unless the links end).
  template <class Request>
  void call(ring::VolcanoId to, const Request& request, OnAnswer done) {
    send(to, wire::NodeOpOf<Request>::op, wire::encode(request), std::move(done));
  }
  template <class Reply>
  void answer(const ReplyTo& to, const Reply& reply) {
    respond(to, 0, wire::encode(reply));
  }
  void refuse(const ReplyTo& to, Code code) { respond(to, static_cast<std::uint16_t>(code), {}); }
  // `from` was told to be who it says it is: its connection may be used to call it.
  void trust(const ReplyTo& to, ring::VolcanoId from);

  void on_datagram(const sys::Address& from, MutableByteSpan datagram) {
    endpoint_->on_datagram(from, datagram);
  }
  void flush();
  Instant deadline() const;
  void on_timer();
  void close_all();
  const rpc::Counters& counters() const { return endpoint_->counters(); }
  std::uint64_t dropped() const { return dropped_; }
  bool is_connected(ring::VolcanoId id) const;

 private:
  struct Waiting {
    wire::NodeOp op{};
    Bytes body;
    OnAnswer done;
  };
  struct Peer {
    std::string address{};
    std::optional<rpc::ConnectionId> connection{};  // made, usable
    std::optional<rpc::ConnectionId> dialling{};
    Instant dial_again{};
    std::size_t in_flight = 0;
    std::deque<Waiting> waiting{};
  };
  struct Call {
    ring::VolcanoId to;
    OnAnswer done;
  };
  using CallKey = std::pair<std::uint64_t, std::uint64_t>;  // connection, request

  void send(ring::VolcanoId to, wire::NodeOp op, Bytes body, OnAnswer done);
  void send_now(ring::VolcanoId to, Peer& peer, wire::NodeOp op, const Bytes& body, OnAnswer done);
  void dial(ring::VolcanoId to, Peer& peer);
  void respond(const ReplyTo& to, std::uint16_t code, Bytes body);
  void send_waiting(ring::VolcanoId to);
  void fail_waiting(Peer& peer, const Error& reason);
  void fail_later(OnAnswer done, Error reason);
  void lose(rpc::ConnectionId connection, const Error& reason);

  // rpc::Handler
  void on_connected(rpc::ConnectionId connection, const rpc::PeerInfo& peer) override;
  void on_closed(rpc::ConnectionId connection, const Error& reason) override;
  void on_request(rpc::ConnectionId connection, rpc::RequestId request, ByteSpan message) override;
  void on_cancel(rpc::ConnectionId, rpc::RequestId) override {}
  void on_response(rpc::ConnectionId connection, rpc::RequestId request,
                   Result<ByteSpan> message) override;

  Config config_;
  sys::Clock& clock_;
  OnRequest on_request_;
  std::unique_ptr<rpc::Endpoint> endpoint_;
  std::map<ring::VolcanoId, Peer> peers_;
  std::map<CallKey, Call> calls_;
  std::set<std::uint64_t> strangers_;              // connections without the ring key, to be closed
  std::deque<std::pair<OnAnswer, Error>> failed_;  // to be told by flush()
  std::uint64_t dropped_ = 0;
};

// What both Links and a newcomer's connection use: the limits of a node connection.
rpc::EndpointConfig node_endpoint(const Links::Config& config);
// A request or an answer as bytes.
Bytes encode_node_request(const wire::NodeRequestHead& head, ByteSpan body);
// The body of an answer, or what it was refused with.
Result<ByteSpan> decode_node_answer(ByteSpan message);
// A struct that came, if it may be acted on; else malformed.
template <class Message>
Result<Message> decode_node(ByteSpan body) {
  auto message = wire::decode<Message>(body);
  if (!message || !wire::is_sound(*message)) return fail(Code::malformed);
  return std::move(*message);
}

}  // namespace magma::node
