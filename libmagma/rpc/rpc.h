// Messages over sealed datagrams. An Endpoint is one UDP port of a volcano or a client: it makes
// and accepts connections, cuts messages into packets, resends what is lost, keeps to the
// congestion window and the receiver's credit, and hands whole messages to its Handler.
//
// Sans I/O: it sends through sys::Datagrams, is fed by on_datagram, and wants on_timer called at
// deadline(). One thread. A request is answered at most once; a request whose connection closes is
// answered connection_closed (the caller decides whether to ask again: the reply records of the
// volcano make that safe).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/base/result.h"
#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/crypto/network_key.h"
#include "libmagma/sys/address.h"
#include "libmagma/sys/clock.h"
#include "libmagma/sys/datagrams.h"
#include "libmagma/sys/random.h"

namespace magma::rpc {

using ConnectionId = Strong<struct ConnectionIdTag, std::uint64_t>;
using RequestId = Strong<struct RequestIdTag, std::uint64_t>;  // unique on its connection

// Lower is more urgent; a connection sends fragments of more urgent messages first.
enum class Priority : std::uint8_t { heartbeat, lock, metadata, data, background };
inline constexpr unsigned kPriorities = 5;

// A message: head, then tail. Two parts so that a large payload is moved in, not copied behind the
// head; the receiver gets one contiguous run of bytes.
struct Message {
  Bytes head;
  Bytes tail;
  std::size_t size() const { return head.size() + tail.size(); }
};

struct Limits {
  std::size_t message_bytes_max = (1u << 20) + 65536;   // one message, either way
  std::size_t connections_max = 4096;
  std::size_t requests_in_flight_max = 1024;            // per connection, each way
  std::size_t incoming_bytes_max = 64u << 20;           // partly received messages, per connection
  Duration idle_close = seconds(60);                    // silent peer: connection_closed
  Duration keepalive = seconds(3);                      // when idle, so that death is noticed
  Duration dead_after = seconds(10);                    // unacknowledged for this long: closed
};

// IPv4 and UDP over Ethernet with jumbo frames of 9000 bytes.
inline constexpr std::size_t kDatagramBytesMax = 8972;

struct EndpointConfig {
  crypto::Uuid filesystem{};      // a server announces it; a client learns it from HELLO
  crypto::Keyring keys;           // a server needs `ring` too if it accepts ring peers
  bool accepts = false;           // server: answers HELLO
  std::uint8_t shard = 0;         // byte 0 of every packet sent to us
  // Largest datagram sent and taken, UDP payload. What the path takes is found out (path_mtu.h);
  // loopback is believed to take its bound.
  std::size_t datagram_bytes_max = kDatagramBytesMax;
  std::size_t datagram_bytes_loopback = 65507;
  Limits limits;
  // Told to peers inside the sealed handshake, so that they notice a restart. 0: a random one.
  // Endpoints that share an address (the shards of a volcano) must have the same.
  std::uint64_t boot_id = 0;
  // A direction changes its key after this many packets. AES-GCM allows 2^23 packets of 16 KiB
  // (RFC 9001, B.1); ours may have 64 KiB.
  std::uint64_t rekey_packets = 1u << 21;
};

struct PeerInfo {
  sys::Address address;
  crypto::Role role = crypto::Role::client;
  crypto::Uuid filesystem{};
  std::uint64_t boot_id = 0;      // of the peer: another number after its restart
};

class Handler {
 public:
  virtual ~Handler() = default;
  virtual void on_connected(ConnectionId connection, const PeerInfo& peer) = 0;
  // The connection is gone, its requests have been answered connection_closed before this call.
  // Reasons: unreachable (no HELLO answer in time), wrong_key (HELLO answered, handshake not),
  // wrong_version, connection_closed (by the peer), timeout (peer went silent).
  virtual void on_closed(ConnectionId connection, const Error& reason) = 0;
  // `message` is valid inside the call only; it is a mutable view so that a handler may decode in
  // place.
  virtual void on_request(ConnectionId connection, RequestId request, ByteSpan message) = 0;
  // The peer no longer wants the answer (best effort).
  virtual void on_cancel(ConnectionId connection, RequestId request) = 0;
  // Answer to a call(): the message, or connection_closed, timeout (deadline passed), cancelled.
  virtual void on_response(ConnectionId connection, RequestId request,
                           Result<ByteSpan> message) = 0;
  // Answer to discover(): the UUID a volcano at that address announces in clear, not authenticated.
  virtual void on_hello(ConnectionId discovery, const crypto::Uuid& filesystem) {
    (void)discovery;
    (void)filesystem;
  }
};

struct Counters {  // documented in doc/metrics.md
  std::uint64_t packets_sent = 0, packets_received = 0, bytes_sent = 0, bytes_received = 0;
  std::uint64_t packets_lost = 0, packets_spurious = 0, packets_replayed = 0;
  std::uint64_t packets_unauthentic = 0, packets_malformed = 0, packets_unknown = 0;
  std::uint64_t messages_sent = 0, messages_received = 0, acks_sent = 0, timeouts_probe = 0;
  std::uint64_t handshakes = 0, handshakes_refused = 0, rekeys = 0;
  std::uint64_t path_probes = 0, path_shrinks = 0;
  std::uint64_t packets_relayed = 0, bytes_relayed = 0, packets_not_relayed = 0;
};

class EndpointImpl;

class Endpoint {
 public:
  // References outlive the endpoint.
  Endpoint(EndpointConfig config, sys::Clock& clock, sys::Random& random,
           sys::Datagrams& datagrams, Handler& handler);
  ~Endpoint();

  // Starts HELLO and handshake with a volcano, through another one if `to` is relayed;
  // on_connected or on_closed follows. Gives up after `patience` (on_closed unreachable, or
  // wrong_key if HELLO was answered but the handshake not).
  ConnectionId connect(const sys::Address& to, crypto::Role role, Duration patience);
  // Asks the volcano at `to` for its filesystem's UUID, which is the salt of a pass-phrase, before
  // there are keys: on_hello, or on_closed (unreachable, wrong_version), follows. Then derive the
  // keys, set_keys(), connect().
  ConnectionId discover(const sys::Address& to, Duration patience);
  // Replaces the keys for connections made from now on.
  void set_keys(const crypto::Keyring& keys);
  // Says goodbye to the peer; requests under way are answered connection_closed; on_closed follows
  // only for closures this call did not ask for.
  void close(ConnectionId connection);
  void close_all();

  // Sends a request. on_response follows exactly once unless the endpoint is destroyed, never from
  // within this call: too_long and overloaded (more than the peer takes at once) are answered
  // without sending, connection_closed if it is not connected. `deadline` is when to give up
  // (Instant::never(): none but the connection's death).
  RequestId call(ConnectionId connection, Message message, Priority priority, Instant deadline);
  // Answers a request; ignored if its connection is gone or it was answered already.
  void reply(ConnectionId connection, RequestId request, Message message, Priority priority);
  // Gives a call up: on_response(cancelled) at once, and the peer is told.
  void cancel(ConnectionId connection, RequestId request);
  // Bytes of the request that the peer has not acknowledged; 0 if it has all, or was answered. So
  // a slow path can be told from a peer that does nothing.
  std::size_t unacknowledged(ConnectionId connection, RequestId request) const;

  // One received datagram, decrypted in place. Never blocks, never fails: what is not ours, not
  // authentic or not well-formed is counted and dropped.
  void on_datagram(const sys::Address& from, MutableByteSpan datagram);
  // Sends what is due: to be called after each batch of on_datagram/call/reply.
  void flush();
  Instant deadline() const;
  void on_timer();

  bool is_connected(ConnectionId connection) const;
  std::size_t connection_count() const;
  // The largest packet that is sent to that peer now, bytes of UDP payload; 0 if not connected.
  std::size_t datagram_bytes(ConnectionId connection) const;
  // Since when the peer has not acknowledged what it should; never(): it has, or is not connected.
  Instant waiting_since(ConnectionId connection) const;
  // The flare addresses of the ring. From now on packets are passed on between them and the clients
  // that are connected to this endpoint (relay.h).
  void set_volcanoes(const std::vector<sys::Address>& volcanoes);
  const Counters& counters() const;

 private:
  std::unique_ptr<EndpointImpl> impl_;
};

}  // namespace magma::rpc
