// Inside of an Endpoint: the table of connections, set-up of both sides, timers. One thread.
//
// A connection id is (counter << 16 | place in the table), so that a packet finds its connection
// without hashing and an old id never finds a new one. The counter starts at a random number.
//
// Handlers may call any function of the endpoint from a callback. Therefore a connection that ends
// leaves the table at once but is destroyed by Sweep, when the outermost call returns; and calls
// that fail at once are answered later, by flush() or on_timer().
#pragma once

#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "libmagma/rpc/connection.h"
#include "libmagma/rpc/relay.h"
#include "libmagma/rpc/rpc.h"

namespace magma::rpc {

class EndpointImpl final : RelayClients {
 public:
  EndpointImpl(EndpointConfig config, sys::Clock& clock, sys::Random& random,
               sys::Datagrams& datagrams, Handler& handler);

  ConnectionId connect(const sys::Address& to, crypto::Role role, Duration patience,
                       bool is_discovery);
  void set_keys(const crypto::Keyring& keys) { config_.keys = keys; }
  void close(ConnectionId connection);
  void close_all();
  RequestId call(ConnectionId connection, Message message, Priority priority, Instant deadline);
  void reply(ConnectionId connection, RequestId request, Message message, Priority priority);
  void cancel(ConnectionId connection, RequestId request);
  std::size_t unacknowledged(ConnectionId connection, RequestId request) const;
  void on_datagram(const sys::Address& from, MutableByteSpan datagram);
  void flush();
  Instant deadline() const;
  void on_timer();
  bool is_connected(ConnectionId connection) const;
  std::size_t connection_count() const { return count_; }
  std::size_t datagram_bytes(ConnectionId connection) const;
  Instant waiting_since(ConnectionId connection) const;
  void set_volcanoes(const std::vector<sys::Address>& volcanoes) {
    relay_.set_volcanoes(volcanoes);
  }
  const Counters& counters() const;

 private:
  friend class EndpointPeek;  // tests
  // The initiator's side of a set-up.
  struct Dial {
    sys::Address to;
    bool is_discovery = false;
    std::optional<Error> refused;          // known at once, told later
    Hello hello;
    std::optional<HelloAnswer> answer;
    std::optional<crypto::Initiator> initiator;
    Bytes packet;                          // to send again
    Instant give_up{};
    Instant answered = Instant::never();   // first HELLO answer of all
    Instant first_init{};
    Instant next_try{};
    Duration backoff{};
    unsigned init_count = 0;
  };
  struct Entry {
    std::uint64_t id = 0;                  // 0: free
    bool is_announced = false;             // the handler knows of it
    bool is_dirty = false;
    Instant made{};
    std::optional<sys::Address> peer;      // as it is among peers_
    std::unique_ptr<Dial> dial;
    std::unique_ptr<Connection> connection;
    Bytes init_answer;                     // until the client has shown that it has it
  };
  struct Deferred {
    ConnectionId connection;
    RequestId request;
    Error error;
  };
  struct Known {                           // an INIT that was accepted, by its nonce
    std::uint64_t connection = 0;
    std::uint64_t generation = 0;          // of the cookie secret
  };
  // Destroys ended connections when the outermost call returns.
  class Sweep {
   public:
    explicit Sweep(EndpointImpl& endpoint) : endpoint_(endpoint) { ++endpoint_.depth_; }
    ~Sweep() {
      if (--endpoint_.depth_ == 0) endpoint_.ended_.clear();
    }
    Sweep(const Sweep&) = delete;
    Sweep& operator=(const Sweep&) = delete;

   private:
    EndpointImpl& endpoint_;
  };

  bool is_connected_with(const sys::Address& client) const override {
    return peers_.contains(client);
  }
  void note_peer(Entry& entry);
  void forget_peer(Entry& entry);
  Entry* find(std::uint64_t id);
  const Entry* find(std::uint64_t id) const;
  Entry* allocate(Instant now);
  void mark_dirty(Entry& entry);
  void free_entry(Entry& entry);
  void end(Entry& entry, const Error& reason, bool tell, bool notify, Instant now);
  void end_if_failed(std::uint64_t id, Instant now);
  void share_credit();
  void settle(std::uint64_t id, Instant now);   // flush one, end it if it failed, arm its timer
  void deliver_deferred();
  void arm(Instant at) { armed_ = std::min(armed_, at); }

  // endpoint_setup.cc
  void send_hello(Dial& dial, Instant now);
  void fail_dial(Entry& entry, Error reason);
  void dial_timer(Entry& entry, Instant now);
  Instant dial_deadline(const Dial& dial) const;
  void send_set_up(const sys::Address& to, ByteSpan packet);
  void on_packet(const sys::Address& from, MutableByteSpan datagram);
  void on_hello(const sys::Address& from, ByteSpan packet, Instant now);
  void on_hello_answer(const sys::Address& from, const Header& header, ByteSpan packet,
                       Instant now);
  void on_init(const sys::Address& from, ByteSpan packet, Instant now);
  void accept(const sys::Address& from, const Init& init, const HelloAnswer& answer,
              std::uint64_t nonce_key, Instant now);
  void on_init_answer(const sys::Address& from, const Header& header, ByteSpan packet,
                      Instant now);
  void on_data(const sys::Address& from, const Header& header, MutableByteSpan datagram,
               Instant now);
  void send_reset(const sys::Address& to, const Header& header, std::size_t room, Instant now);
  void on_reset(const sys::Address& from, const Header& header, ByteSpan packet, Instant now);
  void announce(Entry& entry, Instant now);
  void make_connection(Entry& entry, const sys::Address& peer, crypto::Role role,
                       const crypto::Uuid& filesystem, std::uint8_t peer_shard,
                       const Parameters& parameters, const crypto::SessionKeys& keys,
                       std::optional<Duration> round_trip, Instant now);
  Parameters own_parameters(const sys::Address& peer, std::uint64_t id) const;
  HelloAnswer make_answer(const Hello& hello) const;
  void forget_old_inits(Instant now);

  EndpointConfig config_;
  sys::Clock& clock_;
  sys::Random& random_;
  Relay relay_;
  sys::Datagrams& datagrams_;  // the relay
  Handler& handler_;
  mutable Counters counters_;
  Shared shared_;
  CookieJar cookies_;
  std::uint64_t boot_id_;

  std::vector<std::unique_ptr<Entry>> entries_;
  std::vector<std::uint32_t> free_;
  std::uint32_t next_counter_;
  std::size_t count_ = 0;         // established, both sides
  std::unordered_map<sys::Address, unsigned> peers_;  // how many of these have that address
  std::size_t half_open_ = 0;     // accepted, client not heard since
  std::vector<std::unique_ptr<Connection>> ended_;
  unsigned depth_ = 0;
  std::vector<std::uint64_t> dirty_;
  std::vector<Deferred> deferred_;
  std::vector<ConnectionId> deferred_closed_;   // connect() with a full table
  std::uint64_t next_refused_id_;
  Instant armed_ = Instant::never();
  std::unordered_map<std::uint64_t, Known> known_inits_;
  std::uint64_t known_generation_ = 0;
  Instant resets_since_{};
  unsigned resets_sent_ = 0;
};

}  // namespace magma::rpc
