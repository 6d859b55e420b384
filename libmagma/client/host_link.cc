#include "libmagma/client/host_link.h"

#include <algorithm>

#include "libmagma/base/check.h"

namespace magma::client {

namespace {

rpc::EndpointConfig config_of(const crypto::Keyring& keys) {
  rpc::EndpointConfig config;
  config.keys = keys;
  return config;
}

}  // namespace

HostLink::HostLink(const crypto::Keyring& keys, sys::Clock& clock, sys::Random& random,
                   sys::Datagrams& datagrams)
    : clock_(clock),
      has_ring_key_(keys.ring.has_value()),
      endpoint_(config_of(keys), clock, random, datagrams, *this) {}

void HostLink::connect(const std::vector<sys::Address>& addresses, crypto::Role role,
                       Duration patience, Done<sys::Address> done) {
  MAGMA_CHECK(attempts_.empty());
  if (addresses.empty()) return done(fail(Code::unreachable, "no volcano was named"));
  if (role == crypto::Role::ring && !has_ring_key_)
    return done(fail(Code::bad_key_file, "it holds a client key; this needs the network key"));
  connect_done_ = std::move(done);
  for (const sys::Address& address : addresses)
    attempts_.push_back({address, endpoint_.connect(address, role, patience)});
}

void HostLink::end_connect(Result<sys::Address> result) {
  auto done = std::move(connect_done_);
  connect_done_ = nullptr;
  done(std::move(result));
}

// What most deserves to be told of why none of the addresses would do.
Error HostLink::connect_error() const {
  Error error{Code::unreachable, {}};
  for (const Attempt& attempt : attempts_) {
    if (class_of(attempt.error.code) == ErrorClass::final) error.code = attempt.error.code;
    if (!error.detail.empty()) error.detail += ", ";
    error.detail += attempt.address.text() + " (" + std::string(text_of(attempt.error.code)) + ")";
  }
  return error;
}

void HostLink::on_connected(rpc::ConnectionId connection, const rpc::PeerInfo& peer) {
  if (!connect_done_) return endpoint_.close(connection);  // another address was quicker
  is_up_ = true;
  connection_ = connection;
  filesystem_ = peer.filesystem;
  for (const Attempt& attempt : attempts_)
    if (attempt.connection != connection && attempt.error.code == Code{})
      endpoint_.close(attempt.connection);
  end_connect(peer.address);
}

void HostLink::on_closed(rpc::ConnectionId connection, const Error& reason) {
  if (is_up_ && connection == connection_) {
    is_up_ = false;
    if (lost_) lost_(reason);
    return;
  }
  if (!connect_done_) return;
  for (Attempt& attempt : attempts_)
    if (attempt.connection == connection) attempt.error = reason;
  const bool all_failed = std::all_of(attempts_.begin(), attempts_.end(),
                                      [](const Attempt& a) { return a.error.code != Code{}; });
  if (all_failed) end_connect(fail(connect_error()));
}

void HostLink::send(wire::FlareOp op, const Bytes& body, Duration patience, Answered answered) {
  if (!is_up_) return answered(fail(Code::connection_closed));
  wire::RequestHead head;
  head.op = static_cast<std::uint16_t>(op);
  rpc::Message message{.head = wire::encode(head), .tail = {}};
  message.head.insert(message.head.end(), body.begin(), body.end());
  const rpc::RequestId request =
      endpoint_.call(connection_, std::move(message),
                     static_cast<rpc::Priority>(wire::priority_of(op)), clock_.now() + patience);
  calls_.emplace(request.value, std::move(answered));
}

void HostLink::on_response(rpc::ConnectionId, rpc::RequestId request, Result<ByteSpan> message) {
  auto found = calls_.find(request.value);
  if (found == calls_.end()) return;
  Answered answered = std::move(found->second);
  calls_.erase(found);
  if (!message) return answered(fail(std::move(message.error())));
  auto front = wire::decode_front<wire::ResponseHead>(*message);
  if (!front) return answered(fail(Code::malformed, "the volcano's answer makes no sense"));
  if (front->first.code != 0) return answered(fail(static_cast<Code>(front->first.code)));
  answered(front->second);
}

void HostLink::close() {
  if (connect_done_) end_connect(fail(Code::interrupted));
  is_up_ = false;
  endpoint_.close_all();
}

void HostLink::on_timer() {
  endpoint_.on_timer();
  endpoint_.flush();
}

}  // namespace magma::client
