// The connections of a client to the volcanoes it knows: one link per address, connected when
// something wants it and again after it was lost, with back-off. Owns the rpc::Endpoint. Used by
// Session and Requests. One thread.
//
// With a pass-phrase instead of keys, a volcano is asked for the filesystem's UUID first, from
// which the keys are derived. The UUID comes unauthenticated: until a handshake has succeeded,
// each volcano is connected to with the keys of the UUID it told.
//
// A volcano is dialed directly, or through one that is connected directly (libmagma/rpc/relay.h):
// for one attempt of three while it does not answer; then a direct way is tried every
// kTryDirectEvery, and taken when there is one. With Reach::proxy who is not among the volcanoes to
// begin with is dialed only through one of those. A way that has become silent is in doubt: another
// is tried, and taken if it answers, long before the connection is called dead.
//
// A link is up between on_link_up and on_link_down. Answers of a lost connection
// (connection_closed) come before its on_link_down.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "libmagma/base/result.h"
#include "libmagma/base/time.h"
#include "libmagma/client/id_map.h"
#include "libmagma/client/reach.h"
#include "libmagma/rpc/rpc.h"

namespace magma::client {

using LinkIndex = std::uint16_t;
inline constexpr LinkIndex kNoLink = 0xffff;
inline constexpr std::size_t kLinksMax = 1024;
inline constexpr std::size_t kInFlightMax = 1000;  // per link; below rpc::Limits' bound
inline constexpr Duration kBackoffFirst = milliseconds(50);
inline constexpr Duration kBackoffLast = seconds(1);
inline constexpr Duration kConnectPatience = seconds(2);
inline constexpr unsigned kDirectAttempts = 2;  // then one through another, and so on
inline constexpr Duration kTryDirectEvery = seconds(20);
inline constexpr Duration kSilentFor = milliseconds(800);  // then a way may be closed

using Token = std::uint64_t;  // what an answer belongs to; never 0

class LinkEvents {
 public:
  virtual ~LinkEvents() = default;
  virtual void on_link_up(LinkIndex link) = 0;
  virtual void on_link_down(LinkIndex link, const Error& reason) = 0;
  virtual void on_answer(LinkIndex link, Token token, Result<ByteSpan> message) = 0;
  // The volcano asks this client: to be answered by Links::reply.
  virtual void on_request(rpc::ConnectionId connection, rpc::RequestId request,
                          ByteSpan message) = 0;
  // Whether a link that is down should be connected again.
  virtual bool is_link_wanted(LinkIndex link) = 0;
};

class Links final : rpc::Handler {
 public:
  Links(rpc::EndpointConfig config, std::string passphrase, Reach reach, sys::Clock& clock,
        sys::Random& random, sys::Datagrams& datagrams, LinkEvents& events);

  // As add(), of a volcano to begin with.
  LinkIndex add_host(const sys::Address& address);
  // The link to that address, made if there is none; kNoLink if there are too many.
  LinkIndex add(const sys::Address& address);
  std::size_t count() const { return links_.size(); }
  const sys::Address& address(LinkIndex link) const { return links_[link].address; }
  std::size_t relayed() const;  // links that are up through another
  bool is_up(LinkIndex link) const { return links_[link].state == State::up; }
  bool is_any_up() const { return up_ > 0; }
  bool has_room(LinkIndex link) const {
    return is_up(link) && links_[link].tokens.size() < kInFlightMax;
  }
  // Connects, unless it is up or being connected or its back-off has not ended.
  void want(LinkIndex link);
  void want_all();

  // What was asked over that link was not answered in good time.
  void doubt(LinkIndex link);

  // Requires: has_room(link).
  rpc::RequestId send(LinkIndex link, rpc::Message message, rpc::Priority priority,
                      Instant deadline, Token token);
  // Gives a request up; no answer will come.
  void cancel(LinkIndex link, rpc::RequestId request);
  void close_all();

  const crypto::Uuid& filesystem() const { return filesystem_; }
  std::uint64_t reconnects() const { return reconnects_; }
  std::size_t in_flight() const { return in_flight_; }

  rpc::Endpoint& endpoint() { return endpoint_; }
  const rpc::Endpoint& endpoint() const { return endpoint_; }
  Instant deadline() const;
  void on_timer();

 private:
  enum class State : std::uint8_t { idle, connecting, up, resting };
  struct Link {
    sys::Address address;
    State state = State::idle;
    bool is_host = false;
    bool was_up = false;
    LinkIndex relay = kNoLink;  // of `connection`
    unsigned misses = 0;        // attempts in a row that got no answer
    rpc::ConnectionId connection;
    rpc::ConnectionId trial{};  // of another way, while it is up; 0: none
    LinkIndex trial_relay = kNoLink;
    Instant trial_at = Instant::never();
    Duration backoff = kBackoffFirst;
    Instant rest_until;
    IdMap tokens;  // by rpc request id
  };

  void on_connected(rpc::ConnectionId connection, const rpc::PeerInfo& peer) override;
  void on_closed(rpc::ConnectionId connection, const Error& reason) override;
  void on_hello(rpc::ConnectionId discovery, const crypto::Uuid& filesystem) override;
  void on_request(rpc::ConnectionId connection, rpc::RequestId request,
                  ByteSpan message) override {
    events_.on_request(connection, request, message);
  }
  void on_cancel(rpc::ConnectionId, rpc::RequestId) override {}
  void on_response(rpc::ConnectionId connection, rpc::RequestId request,
                   Result<ByteSpan> message) override;

  void connect(LinkIndex link);
  bool may_be_direct(const Link& link) const { return reach_ != Reach::proxy || link.is_host; }
  LinkIndex choose_relay(LinkIndex link) const;
  bool is_silent(const Link& link) const;
  LinkIndex next_relay(LinkIndex link) const;
  void try_way(LinkIndex link, LinkIndex relay);
  void on_trial(LinkIndex link);
  void lose(LinkIndex link, const Error& reason);
  void lose_relayed_by(LinkIndex relay);
  Result<void> derive_keys(const crypto::Uuid& filesystem);
  void rest(Link& link);
  LinkIndex find(rpc::ConnectionId connection) const;

  sys::Clock& clock_;
  sys::Random& random_;
  LinkEvents& events_;
  Reach reach_;
  std::string passphrase_;       // empty once it has served
  crypto::Uuid derived_for_{};   // whose keys the endpoint has
  std::vector<Link> links_;
  std::unordered_map<sys::Address, LinkIndex> by_address_;
  std::unordered_map<rpc::ConnectionId, LinkIndex> by_connection_;
  crypto::Uuid filesystem_{};
  bool knows_filesystem_ = false;
  bool is_closed_ = false;
  std::size_t up_ = 0;
  std::size_t in_flight_ = 0;
  std::uint64_t reconnects_ = 0;
  rpc::Endpoint endpoint_;  // last: its destructor must not meet dead members
};

}  // namespace magma::client
