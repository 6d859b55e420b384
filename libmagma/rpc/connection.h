// One established connection: keys, acknowledgements, congestion window, messages both ways.
// Made by the EndpointImpl when a handshake has succeeded; never calls the socket but through
// Shared, never reads a clock. One thread.
//
// Callbacks of the Handler may call back into the endpoint and so into this connection, also
// close() it: after each callback is_closed() is asked before anything is touched. The object
// itself lives until the endpoint's outermost call has ended.
//
// Bounds: requests in flight (Limits, each way), bytes of partly received messages (Limits), 64
// ranges of acknowledgements, kMissingMax ids of requests not yet seen.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "libmagma/crypto/handshake.h"
#include "libmagma/crypto/replay_window.h"
#include "libmagma/rpc/ack_tracker.h"
#include "libmagma/rpc/congestion.h"
#include "libmagma/rpc/handshaking.h"
#include "libmagma/rpc/id_table.h"
#include "libmagma/rpc/loss_detection.h"
#include "libmagma/rpc/messages.h"
#include "libmagma/rpc/path_mtu.h"
#include "libmagma/rpc/rpc.h"

namespace magma::rpc {

// What the connections of an endpoint have in common.
struct Shared {
  const EndpointConfig& config;
  sys::Random& random;
  sys::Datagrams& datagrams;
  Handler& handler;
  Counters& counters;
  BufferPool buffers;
  Bytes burst;                      // packets of one send() are put together here
  std::uint32_t credit_bytes = 0;   // each peer's share of the receive buffer
};

class Connection {
 public:
  struct Setup {
    ConnectionId id;
    PeerInfo peer;
    std::uint8_t peer_shard = 0;
    Parameters peer_parameters;
    std::uint32_t datagram_bytes_max = 0;     // both ends can take
    std::uint32_t own_unscheduled_bytes = 0;  // what we allowed the peer
    std::optional<Duration> round_trip;       // of the handshake
  };
  Connection(Shared& shared, const Setup& setup, const crypto::SessionKeys& keys, Instant now);

  const PeerInfo& peer() const { return peer_; }
  ConnectionId id() const { return id_; }
  // Since when a packet that asks for an acknowledgement waits for one; never(): none does.
  Instant waiting_since() const { return waiting_since_; }
  bool is_closed() const { return is_closed_; }
  // Set when the connection found that it must end; the endpoint then closes it.
  const std::optional<Error>& failure() const { return failure_; }
  // The largest packet that is sent now, bytes.
  std::size_t datagram_bytes() const { return path_mtu_.bytes(); }
  std::uint64_t peer_connection() const { return peer_parameters_.connection; }

  // `request` has been made by next_request_id().
  RequestId next_request_id() { return RequestId{next_call_id_}; }
  // An error: answer the call with it; nothing was sent.
  Result<RequestId> call(Message message, Priority priority, Instant deadline);
  void reply(RequestId request, Message message, Priority priority);
  void cancel(RequestId request);
  std::size_t unacknowledged(RequestId request);

  // The frames of a datagram, decrypted in place; nullopt if it is a replay or not authentic.
  std::optional<MutableByteSpan> open(const Header& header, MutableByteSpan datagram);
  // Takes what open() has returned.
  void on_packet(const sys::Address& from, const Header& header, MutableByteSpan frames,
                 Instant now);
  struct Seen {
    bool is_stored = true;      // false: there was no room for it, it must not be acknowledged
    bool asks_for_ack = false;
  };
  // The frames of an authentic packet. Public for the fuzzer, which has no keys.
  Seen on_frames(MutableByteSpan frames, Instant now);
  // The peer's machine says it knows nothing of packet `number`; believed if it stays silent.
  void on_reset(std::uint64_t number, Instant now);
  void flush(Instant now);
  void on_timer(Instant now);
  Instant deadline(Instant now) const;
  void ping() { ping_to_send_ = true; }
  void on_credit_changed();

  // Ends it: tells the peer if `tell`, answers all calls connection_closed.
  void close(bool tell, Instant now);

 private:
  friend class ConnectionPeek;      // tests
  struct Call {
    Instant deadline{};
    std::uint32_t slot = 0;         // of the request while it is being sent
    std::uint32_t generation = 0;
    Assembly response;
  };
  struct Incoming {
    enum class State : std::uint8_t { receiving, executing, answered };
    State state = State::receiving;
    std::uint32_t slot = 0;         // of the response, when answered
    std::uint32_t generation = 0;
    Assembly request;
  };
  struct Control {                  // a small frame waiting to be sent
    FrameType type{};
    bool is_response = false;
    std::uint64_t id = 0;
    std::uint32_t value = 0;
    std::uint16_t code = 0;
  };
  enum class Stored : std::uint8_t { part, whole, no_room, bad };
  static constexpr std::size_t kMissingMax = 8192;
  static constexpr std::size_t kControlsMax = 16384;

  // connection.cc: the calls' side
  void finish_call(std::uint64_t id, Call& call, Result<ByteSpan> result);
  void queue_message(std::uint32_t slot);
  void drop_message(std::uint32_t slot, std::uint32_t generation);
  void expire_calls(Instant now);
  void fail(Error error);
  // connection_receive.cc
  crypto::Opener* opener_for(const Header& header);
  void adopt_next_key(std::uint64_t number);
  bool on_frame(Frame& frame, Instant now);   // false: no room
  bool on_request_frame(Frame& frame);
  bool on_response_frame(Frame& frame);
  bool is_new_request(std::uint64_t id);
  void on_cancel_frame(std::uint64_t id);
  void on_refuse_frame(const Frame& frame);
  void on_grant_frame(const Frame& frame);
  Stored store(Assembly& assembly, const Frame& frame);
  void release(Assembly& assembly);
  void grant(Assembly& assembly, bool is_response, std::uint64_t id);
  void grant_waiting();
  void deliver_request(std::uint64_t id, Incoming& incoming, MutableByteSpan message);
  void refuse(std::uint64_t id, Code code);
  void on_ack_frame(const Frame& frame, Instant now);
  void on_acked_packet(std::uint64_t number, const SentPacket& packet, Instant now);
  void acknowledge_part(const SentFrame& part);
  void detect_losses(Instant now);
  void resend_frames(const SentPacket& packet);
  void push_control(const Control& control);
  // connection_path.cc: where the peer is, and what the way there takes
  void on_other_address(const sys::Address& from, Instant now);
  void send_challenge(Instant now);
  void on_challenge_answer(std::uint64_t token, Instant now);
  void move_to(const sys::Address& address, Instant now);
  static Congestion::Config congestion_of(const sys::Address& peer);
  static PathMtu::Config path_of(const sys::Address& peer, std::size_t bytes_max);
  void send_path_probes(Instant now);
  bool send_path_probe(std::size_t bytes, Instant now);
  // connection_send.cc
  struct Built {
    std::size_t frame_bytes = 0;
    bool asks_for_ack = false;
    std::optional<std::uint64_t> ack_largest;
    bool has_more = false;
  };
  std::size_t window_room() const;
  bool may_send_messages(Instant now) const;
  // Seals a packet of at most out.size() bytes; its size, 0 if there was nothing to put in.
  std::size_t build_packet(MutableByteSpan out, bool with_messages, Instant now);
  Built write_frames(MutableByteSpan frames, bool with_messages, Instant now);
  void send_packets(Instant now);
  std::size_t packet_limit(bool with_messages) const;
  void write_controls(FrameWriter& out, Built& built);
  void write_messages(FrameWriter& out, Built& built);
  bool write_message(FrameWriter& out, std::uint32_t slot);
  void maybe_rekey();
  void on_probe_timeout();
  void send_probes();
  Instant probe_time() const;

  Shared& shared_;
  const ConnectionId id_;
  PeerInfo peer_;
  const std::uint8_t peer_shard_;
  const Parameters peer_parameters_;
  const std::size_t datagram_bytes_max_;   // both ends can take
  bool is_closed_ = false;
  std::optional<Error> failure_;

  // Sealing.
  crypto::DirectionKey send_key_;
  crypto::DirectionKey receive_key_;   // of the present phase
  crypto::Sealer sealer_;
  crypto::Opener opener_;
  std::optional<crypto::Opener> opener_before_;
  std::optional<crypto::Opener> opener_after_;
  bool send_phase_ = false;
  bool receive_phase_ = false;
  bool send_phase_confirmed_ = true;       // a packet of it was acknowledged
  std::uint64_t send_phase_first_ = 0;     // packet numbers
  std::uint64_t receive_phase_first_ = 0;
  crypto::ReplayWindow replay_;

  // Recovery.
  AckTracker acks_;
  SentPackets sent_;
  RoundTrip round_trip_;
  Congestion congestion_;
  PathMtu path_mtu_;
  unsigned probe_count_ = 0;               // timeouts in a row
  unsigned probes_to_send_ = 0;            // may exceed the window
  std::uint32_t peer_credit_ = 0;
  Instant last_received_{};
  Instant last_activity_{};
  Instant waiting_since_ = Instant::never();  // first unanswered packet that asks for an ack
  Instant reset_at_ = Instant::never();
  Instant pace_at_{};

  // Messages.
  OutQueue out_;
  std::uint64_t unscheduled_used_ = 0;
  std::vector<Control> controls_;
  bool ping_to_send_ = false;
  bool credit_to_send_ = false;
  std::uint32_t credit_told_ = 0;
  IdTable<Call> calls_;
  std::uint64_t next_call_id_ = 1;
  Instant calls_deadline_ = Instant::never();  // not after the earliest; may be too early
  IdTable<Incoming> incoming_;
  std::size_t incoming_open_ = 0;              // not answered yet
  std::uint64_t next_incoming_id_ = 1;
  std::vector<std::uint64_t> missing_;         // ids below it that have not come; sorted
  std::uint64_t partial_bytes_ = 0;            // held by assemblies
  unsigned granted_partial_ = 0;               // assemblies that are begun and may complete
  struct Waiting {
    bool is_response;
    std::uint64_t id;
  };
  std::vector<Waiting> waiting_grants_;

  // Address change.
  std::uint64_t numbers_seen_ = 0;         // one more than the highest packet number received
  std::optional<sys::Address> challenged_;
  std::uint64_t challenge_token_ = 0;
  Instant challenge_at_{};
};

}  // namespace magma::rpc
