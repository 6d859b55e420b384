#include "magmad/node/links.h"

#include <utility>
#include <vector>

#include "libmagma/base/log.h"

namespace magma::node {

namespace {

constexpr std::size_t kMessageBytesMax = wire::kRaftMessageBytesMax + 1024;
constexpr std::size_t kConnectionsMax = 2048;  // two for each of 512 volcanoes, and newcomers

}  // namespace

rpc::EndpointConfig node_endpoint(const Links::Config& config) {
  rpc::EndpointConfig endpoint;
  endpoint.filesystem = config.filesystem;
  endpoint.keys = config.keys;
  endpoint.accepts = config.accepts;
  endpoint.datagram_bytes_max = config.datagram_bytes_max;
  endpoint.limits.message_bytes_max = kMessageBytesMax;
  endpoint.limits.connections_max = kConnectionsMax;
  endpoint.limits.requests_in_flight_max = 2 * Links::kInFlightMax;
  endpoint.limits.incoming_bytes_max = 8 * kMessageBytesMax;
  endpoint.limits.keepalive = seconds(1);
  endpoint.limits.dead_after = Links::kDeadAfter;
  return endpoint;
}

Bytes encode_node_request(const wire::NodeRequestHead& head, ByteSpan body) {
  Bytes message;
  wire::encode_to(message, head);
  message.insert(message.end(), body.begin(), body.end());
  return message;
}

Result<ByteSpan> decode_node_answer(ByteSpan message) {
  auto head = wire::decode_front<wire::NodeResponseHead>(message);
  if (!head) return fail(Code::malformed);
  if (head->first.code != 0) return fail(static_cast<Code>(head->first.code));
  return head->second;
}

Links::Links(Config config, sys::Clock& clock, sys::Random& random, sys::Datagrams& datagrams,
             OnRequest on_request)
    : config_(std::move(config)), clock_(clock), on_request_(std::move(on_request)) {
  endpoint_ = std::make_unique<rpc::Endpoint>(node_endpoint(config_), clock, random, datagrams,
                                              static_cast<rpc::Handler&>(*this));
}

Links::~Links() = default;

void Links::set_address(ring::VolcanoId id, const std::string& address) {
  Peer& peer = peers_[id];
  if (peer.address == address) return;
  peer.address = address;
  peer.dial_again = {};
}

bool Links::is_connected(ring::VolcanoId id) const {
  auto found = peers_.find(id);
  return found != peers_.end() && found->second.connection.has_value();
}

// ---- requests

void Links::send(ring::VolcanoId to, wire::NodeOp op, Bytes body, OnAnswer done) {
  Peer& peer = peers_[to];
  if (peer.connection) return send_now(to, peer, op, body, std::move(done));
  if (!peer.dialling) dial(to, peer);
  if (!peer.dialling) return fail_later(std::move(done), Error{Code::unreachable});
  if (peer.waiting.size() >= kWaitingMax) {
    ++dropped_;  // the oldest is the one that is of least use
    fail_later(std::move(peer.waiting.front().done), Error{Code::overloaded});
    peer.waiting.pop_front();
  }
  peer.waiting.push_back({op, std::move(body), std::move(done)});
}

void Links::send_now(ring::VolcanoId to, Peer& peer, wire::NodeOp op, const Bytes& body,
                     OnAnswer done) {
  if (peer.in_flight >= kInFlightMax) {
    ++dropped_;
    return fail_later(std::move(done), Error{Code::overloaded});
  }
  const wire::NodeRequestHead head{.op = static_cast<std::uint16_t>(op),
                                   .from = config_.self,
                                   .storage = config_.storage,
                                   .to = to};
  rpc::Message message;
  message.head = encode_node_request(head, body);
  const rpc::RequestId request =
      endpoint_->call(*peer.connection, std::move(message),
                      static_cast<rpc::Priority>(wire::priority_of(op)), clock_.now() + kAnswerIn);
  ++peer.in_flight;
  calls_.emplace(CallKey{peer.connection->value, request.value}, Call{to, std::move(done)});
}

void Links::dial(ring::VolcanoId to, Peer& peer) {
  const Instant now = clock_.now();
  if (now < peer.dial_again || peer.address.empty()) return;
  auto address = sys::Address::parse(peer.address, 0);
  if (!address || address->port == 0) return;
  peer.dial_again = now + kDialAgain;
  peer.dialling = endpoint_->connect(*address, crypto::Role::ring, kDialPatience);
  log_debug('V', "node_dial volcano={} address={}", to.value, peer.address);
}

void Links::fail_later(OnAnswer done, Error reason) {
  failed_.emplace_back(std::move(done), std::move(reason));
}

void Links::fail_waiting(Peer& peer, const Error& reason) {
  for (Waiting& waiting : peer.waiting) fail_later(std::move(waiting.done), reason);
  peer.waiting.clear();
}

void Links::send_waiting(ring::VolcanoId to) {
  Peer& peer = peers_[to];
  while (peer.connection && !peer.waiting.empty()) {
    Waiting waiting = std::move(peer.waiting.front());
    peer.waiting.pop_front();
    send_now(to, peer, waiting.op, waiting.body, std::move(waiting.done));
  }
}

// ---- answers

void Links::respond(const ReplyTo& to, std::uint16_t code, Bytes body) {
  rpc::Message message;
  wire::encode_to(message.head, wire::NodeResponseHead{.code = code});
  message.tail = std::move(body);
  endpoint_->reply(to.connection, to.request, std::move(message),
                   static_cast<rpc::Priority>(wire::priority_of(to.op)));
}

void Links::trust(const ReplyTo& to, ring::VolcanoId from) {
  Peer& peer = peers_[from];
  if (peer.connection && endpoint_->is_connected(*peer.connection)) return;
  peer.connection = to.connection;
  send_waiting(from);
}

// ---- rpc::Handler

void Links::on_connected(rpc::ConnectionId connection, const rpc::PeerInfo& info) {
  if (info.role != crypto::Role::ring) {
    log_debug('V', "node_stranger address={}", info.address.text());
    strangers_.insert(connection.value);
    return;
  }
  for (auto& [id, peer] : peers_) {
    if (peer.dialling != connection) continue;
    peer.dialling.reset();
    peer.connection = connection;
    return send_waiting(id);
  }
}

void Links::on_closed(rpc::ConnectionId connection, const Error& reason) {
  strangers_.erase(connection.value);
  lose(connection, reason);
}

void Links::lose(rpc::ConnectionId connection, const Error& reason) {
  for (auto& [id, peer] : peers_) {
    if (peer.dialling == connection) {
      peer.dialling.reset();
      log_debug('V', "node_unreachable volcano={} reason={}", id.value, describe(reason));
      fail_waiting(peer, reason);
    }
    if (peer.connection == connection) {
      peer.connection.reset();
      log_debug('V', "node_link_closed volcano={} reason={}", id.value, describe(reason));
    }
  }
}

void Links::on_request(rpc::ConnectionId connection, rpc::RequestId request, ByteSpan message) {
  ReplyTo to{connection, request, wire::NodeOp::raft};
  if (strangers_.contains(connection.value)) return refuse(to, Code::permission);
  auto head = wire::decode_front<wire::NodeRequestHead>(message);
  if (!head) return refuse(to, Code::malformed);
  if (!wire::is_known_node_op(head->first.op)) return refuse(to, Code::unknown_op);
  to.op = static_cast<wire::NodeOp>(head->first.op);
  on_request_(head->first, head->second, to);
}

void Links::on_response(rpc::ConnectionId connection, rpc::RequestId request,
                        Result<ByteSpan> message) {
  auto found = calls_.find({connection.value, request.value});
  if (found == calls_.end()) return;
  Call call = std::move(found->second);
  calls_.erase(found);
  --peers_[call.to].in_flight;
  if (!message) return call.done(fail(std::move(message).error()));
  call.done(decode_node_answer(*message));
}

// ---- time

void Links::flush() {
  while (!failed_.empty()) {
    auto [done, error] = std::move(failed_.front());
    failed_.pop_front();
    done(fail(std::move(error)));
  }
  for (std::uint64_t stranger : std::exchange(strangers_, {}))
    endpoint_->close(rpc::ConnectionId(stranger));
  endpoint_->flush();
}

Instant Links::deadline() const { return endpoint_->deadline(); }

void Links::on_timer() {
  if (endpoint_->deadline() <= clock_.now()) endpoint_->on_timer();
}

void Links::close_all() {
  endpoint_->close_all();
  endpoint_->flush();
}

}  // namespace magma::node
