#include "magmad/node/joining.h"

#include <utility>

#include <fmt/format.h>

#include "libmagma/base/log.h"
#include "magmad/node/links.h"

namespace magma::node {

Joining::Joining(std::vector<sys::Address> hosts, sys::Clock& clock, sys::Random& random,
                 sys::Datagrams& datagrams)
    : hosts_(std::move(hosts)), clock_(clock) {
  Links::Config config;
  config.accepts = false;
  endpoint_ = std::make_unique<rpc::Endpoint>(node_endpoint(config), clock, random, datagrams,
                                              static_cast<rpc::Handler&>(*this));
}

Joining::~Joining() = default;

// ---- the filesystem

void Joining::discover(UniqueFunction<void(Result<crypto::Uuid>)> done) {
  discovered_ = std::move(done);
  if (hosts_.empty()) return end_discovery(fail(Code::unreachable, "no address"));
  asked_ = hosts_[next_host_++];
  connection_ = endpoint_->discover(asked_, kDiscoverPatience);
}

void Joining::end_discovery(Result<crypto::Uuid> result) {
  connection_.reset();
  if (auto done = std::exchange(discovered_, nullptr)) done(std::move(result));
}

void Joining::on_hello(rpc::ConnectionId, const crypto::Uuid& filesystem) {
  next_host_ = 0;
  end_discovery(filesystem);
}

// ---- the join

void Joining::join(const crypto::Keyring& keys, wire::JoinRequest request,
                   UniqueFunction<void(Result<Accepted>)> done) {
  done_ = std::move(done);
  request_ = std::move(request);
  endpoint_->set_keys(keys);
  give_up_at_ = clock_.now() + kPatience;
  dial(asked_);  // who has answered already
}

void Joining::dial(const sys::Address& to) {
  if (connection_) endpoint_->close(*connection_);
  is_connected_ = false;
  asked_ = to;
  connection_ = endpoint_->connect(to, crypto::Role::ring, kDialPatience);
}

void Joining::dial_next() {
  next_host_ %= hosts_.size();
  dial(hosts_[next_host_++]);
}

void Joining::ask() {
  ask_at_ = Instant::never();
  if (!is_connected_) return dial_next();
  const wire::NodeRequestHead head{.op = static_cast<std::uint16_t>(wire::NodeOp::join),
                                   .from = ring::kNoVolcano,
                                   .storage = request_.profile.storage,
                                   .to = ring::kNoVolcano};
  rpc::Message message;
  message.head = encode_node_request(head, wire::encode(request_));
  endpoint_->call(*connection_, std::move(message), rpc::Priority::lock,
                  clock_.now() + Links::kAnswerIn);
}

void Joining::end(Result<Accepted> result) {
  give_up_at_ = ask_at_ = Instant::never();
  if (connection_) endpoint_->close(*connection_);
  connection_.reset();
  if (auto done = std::exchange(done_, nullptr)) done(std::move(result));
}

void Joining::on_reply(const wire::JoinReply& reply) {
  const std::string who = fmt::format("{} ({})", reply.nick, asked_.text());
  switch (reply.outcome) {
    case wire::NodeOutcome::accepted:
      return end(Accepted{.volcano = reply.volcano,
                          .small_files = reply.small_files,
                          .by = reply.nick,
                          .shares_slots = reply.shares_slots});
    case wire::NodeOutcome::refused:
      return end(fail(Code::invalid, fmt::format("{} refuses: {}", who, reply.reason)));
    case wire::NodeOutcome::ask_other: {
      auto address = sys::Address::parse(reply.coordinator, 0);
      if (address && address->port != 0) {
        last_reason_ = fmt::format("{} names {} as the coordinator, which does not answer", who,
                                   reply.coordinator);
        return dial(*address);
      }
      break;
    }
    case wire::NodeOutcome::wait: break;
  }
  last_reason_ = fmt::format("{} says that nobody can decide now{}{}", who,
                             reply.reason.empty() ? "" : ": ", reply.reason);
  ask_at_ = clock_.now() + kAskAgain;
}

void Joining::on_connected(rpc::ConnectionId connection, const rpc::PeerInfo& peer) {
  if (connection_ != connection || !done_) return;
  if (peer.filesystem != request_.filesystem)
    return end(fail(Code::wrong_filesystem,
                    fmt::format("{} is of another filesystem than the first that answered ({})",
                                asked_.text(), crypto::uuid_text(peer.filesystem))));
  is_connected_ = true;
  ask();
}

void Joining::on_closed(rpc::ConnectionId connection, const Error& reason) {
  if (connection_ != connection) return;
  connection_.reset();
  is_connected_ = false;
  const std::string who = asked_.text();
  if (discovered_) {
    if (reason.code == Code::unreachable && next_host_ < hosts_.size()) {
      asked_ = hosts_[next_host_++];
      connection_ = endpoint_->discover(asked_, kDiscoverPatience);
      return;
    }
    const bool is_old = reason.code == Code::wrong_version;
    return end_discovery(fail(
        reason.code, is_old ? fmt::format("{} speaks another version of the protocol: run the same "
                                          "version of magmad on all",
                                          who)
                            : fmt::format("no volcano answers at {}: is the address right, and "
                                          "the node port open (UDP)?",
                                          who)));
  }
  if (!done_) return;
  if (reason.code == Code::wrong_key)
    return end(fail(Code::wrong_key, who + " answers, but the key is not the one of its ring"));
  if (reason.code == Code::wrong_version)
    return end(fail(reason.code, who + " speaks another version of the protocol: run the same "
                                       "version of magmad on all"));
  if (last_reason_.empty()) last_reason_ = who + ": " + describe(reason);
  ask_at_ = clock_.now() + kAskAgain;
}

void Joining::on_response(rpc::ConnectionId connection, rpc::RequestId, Result<ByteSpan> message) {
  if (connection_ != connection || !done_) return;
  Result<ByteSpan> body =
      message ? decode_node_answer(*message) : Result<ByteSpan>(fail(message.error()));
  if (body) {
    auto reply = decode_node<wire::JoinReply>(*body);
    if (reply) return on_reply(*reply);
    body = fail(Code::malformed);
  }
  last_reason_ = asked_.text() + ": " + describe(body.error());
  if (body.error().code == Code::unknown_op || body.error().code == Code::malformed)
    return end(fail(Code::wrong_version,
                    asked_.text() + " does not understand the question to join: run the same "
                                    "version of magmad on all"));
  if (body.error().code != Code::connection_closed) ask_at_ = clock_.now() + kAskAgain;
}

// ---- time

void Joining::on_datagram(const sys::Address& from, MutableByteSpan datagram) {
  endpoint_->on_datagram(from, datagram);
}

Instant Joining::deadline() const {
  return std::min({endpoint_->deadline(), ask_at_, give_up_at_});
}

void Joining::on_timer() {
  const Instant now = clock_.now();
  if (endpoint_->deadline() <= now) endpoint_->on_timer();
  if (ask_at_ <= now) ask();
  if (give_up_at_ <= now)
    end(fail(Code::timeout,
             last_reason_.empty() ? "nobody of the ring has decided in time" : last_reason_));
}

}  // namespace magma::node
