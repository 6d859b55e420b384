// How a newcomer gets into a ring, before it is a Node: asks a volcano of the ring for the
// filesystem's number, then (its owner has made keys of that) shows the ring key and asks to be
// taken in. Whoever is asked names the coordinator, who decides. Sans I/O, one thread, one attempt.
//
// Every error's detail is a sentence for people: who refused, and why.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "libmagma/base/unique_function.h"
#include "libmagma/rpc/rpc.h"
#include "libmagma/wire/node_messages.h"

namespace magma::node {

class Joining final : private rpc::Handler {
 public:
  static constexpr Duration kDiscoverPatience = seconds(4);
  static constexpr Duration kDialPatience = seconds(3);
  static constexpr Duration kAskAgain = milliseconds(300);
  static constexpr Duration kPatience = seconds(20);  // of the whole join

  struct Accepted {
    ring::VolcanoId volcano;
    std::uint64_t small_files = 0;
    std::string by{};  // nick
    bool shares_slots = false;
  };

  // `hosts`: addresses of one volcano, tried in this order. References outlive it.
  Joining(std::vector<sys::Address> hosts, sys::Clock& clock, sys::Random& random,
          sys::Datagrams& datagrams);
  ~Joining() override;

  // The filesystem of who is at the hosts, as it says in clear. Errors: unreachable, wrong_version.
  void discover(UniqueFunction<void(Result<crypto::Uuid>)> done);
  // To be taken in. Once, after discover(). Errors: wrong_key; exists, invalid ... (refused);
  // unreachable, timeout (nobody who decides).
  void join(const crypto::Keyring& keys, wire::JoinRequest request,
            UniqueFunction<void(Result<Accepted>)> done);

  void on_datagram(const sys::Address& from, MutableByteSpan datagram);
  void flush() { endpoint_->flush(); }
  Instant deadline() const;
  void on_timer();

 private:
  void dial(const sys::Address& to);
  void dial_next();
  void ask();
  void on_reply(const wire::JoinReply& reply);
  void end_discovery(Result<crypto::Uuid> result);
  void end(Result<Accepted> result);

  void on_connected(rpc::ConnectionId connection, const rpc::PeerInfo& peer) override;
  void on_closed(rpc::ConnectionId connection, const Error& reason) override;
  void on_request(rpc::ConnectionId, rpc::RequestId, ByteSpan) override {}
  void on_cancel(rpc::ConnectionId, rpc::RequestId) override {}
  void on_response(rpc::ConnectionId connection, rpc::RequestId request,
                   Result<ByteSpan> message) override;
  void on_hello(rpc::ConnectionId discovery, const crypto::Uuid& filesystem) override;

  std::vector<sys::Address> hosts_;
  sys::Clock& clock_;
  std::unique_ptr<rpc::Endpoint> endpoint_;
  UniqueFunction<void(Result<crypto::Uuid>)> discovered_;
  UniqueFunction<void(Result<Accepted>)> done_;
  wire::JoinRequest request_{};
  std::size_t next_host_ = 0;
  std::optional<rpc::ConnectionId> connection_{};
  sys::Address asked_{};  // who is dialled or asked
  bool is_connected_ = false;
  Instant ask_at_ = Instant::never();
  Instant give_up_at_ = Instant::never();
  std::string last_reason_{};
};

}  // namespace magma::node
