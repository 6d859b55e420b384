// A connection to one volcano, for what is asked of it alone and not of the ring: status, shutdown,
// console (kind `host` in flare_ops.def). No session, no retries: a request is sent once, over this
// connection. Used by the tools.
//
// Sans I/O, one thread, driven as Client. Callbacks are called exactly once, unless the link is
// destroyed first. It must not be destroyed from within one.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "libmagma/base/result.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/rpc/rpc.h"
#include "libmagma/wire/codec.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::client {

class HostLink final : rpc::Handler {
 public:
  template <class T>
  using Done = UniqueFunction<void(Result<T>)>;

  HostLink(const crypto::Keyring& keys, sys::Clock& clock, sys::Random& random,
           sys::Datagrams& datagrams);

  // Connects to whichever of the addresses (of one volcano) answers first. Once. Errors:
  // unreachable, wrong_key, wrong_version, with each address in the detail; bad_key_file for role
  // ring without the network key.
  void connect(const std::vector<sys::Address>& addresses, crypto::Role role, Duration patience,
               Done<sys::Address> done);
  // The connection that was made has been lost.
  void on_lost(UniqueFunction<void(const Error&)> lost) { lost_ = std::move(lost); }
  const crypto::Uuid& filesystem() const { return filesystem_; }

  // Errors: those of the volcano, timeout, connection_closed, malformed. Never answered inside,
  // unless there is no connection.
  template <class Message>
  void call(const Message& message, Duration patience,
            Done<typename wire::OpOf<Message>::Reply> done) {
    using Reply = typename wire::OpOf<Message>::Reply;
    send(wire::OpOf<Message>::op, wire::encode(message), patience,
         [done = std::move(done)](Result<ByteSpan> body) mutable {
           if (!body) return done(fail(std::move(body.error())));
           done(wire::decode<Reply>(*body));
         });
  }
  // Says goodbye; what is under way gets connection_closed.
  void close();

  void on_datagram(const sys::Address& from, MutableByteSpan datagram) {
    endpoint_.on_datagram(from, datagram);
  }
  void flush() { endpoint_.flush(); }
  Instant deadline() const { return endpoint_.deadline(); }
  void on_timer();
  bool is_waiting() const { return !calls_.empty(); }

 private:
  using Answered = UniqueFunction<void(Result<ByteSpan>)>;
  struct Attempt {
    sys::Address address;
    rpc::ConnectionId connection;
    Error error{};  // code 0: it may still succeed
  };

  void send(wire::FlareOp op, const Bytes& body, Duration patience, Answered answered);
  void end_connect(Result<sys::Address> result);
  Error connect_error() const;

  void on_connected(rpc::ConnectionId connection, const rpc::PeerInfo& peer) override;
  void on_closed(rpc::ConnectionId connection, const Error& reason) override;
  void on_request(rpc::ConnectionId, rpc::RequestId, ByteSpan) override {}
  void on_cancel(rpc::ConnectionId, rpc::RequestId) override {}
  void on_response(rpc::ConnectionId connection, rpc::RequestId request,
                   Result<ByteSpan> message) override;

  sys::Clock& clock_;
  std::vector<Attempt> attempts_;
  Done<sys::Address> connect_done_;
  bool has_ring_key_ = false;
  bool is_up_ = false;
  rpc::ConnectionId connection_;
  crypto::Uuid filesystem_{};
  UniqueFunction<void(const Error&)> lost_;
  std::unordered_map<std::uint64_t, Answered> calls_;  // by request id
  rpc::Endpoint endpoint_;  // last: its destructor must not meet dead members
};

}  // namespace magma::client
