// The way to the peer: a change of its address, and probes of the way's MTU.
//
// A connection is found by its id, so it outlives a change of address (a NAT that forgot, a laptop,
// an address given to another interface). As RFC 9000, 9, has it for a client that moves: an
// authentic packet with a higher number than all before, from another address, makes this end
// challenge that address with a random token. Until the token comes back, everything
// but the challenge still goes to the address that is known, so whoever sends our peer's packets on
// from elsewhere gets no more than kAmplification times the bytes that came from there. Then the
// connection moves; what was known of the way is forgotten, unless only the port is another.
#include "libmagma/rpc/connection.h"

namespace magma::rpc {

namespace {
constexpr Duration kChallengeEvery = milliseconds(250);
constexpr std::size_t kAmplification = 3;             // RFC 9000, 8.1
constexpr std::size_t kChallengeBytes = kPacketOverhead + 9;
// At most one challenge a packet, and no packet is smaller than one with one byte of frames.
static_assert(kChallengeBytes <= kAmplification * (kPacketOverhead + 1));
}  // namespace

Congestion::Config Connection::congestion_of(const sys::Address& peer) {
  constexpr std::size_t kInitialPackets = 10;         // RFC 9002, 7.2
  constexpr std::size_t kInitialBytesLoopback = 1u << 20;
  const bool is_near = peer.is_loopback();
  return {.datagram_bytes = PathMtu::kBaseBytes,
          .initial_window_bytes =
              is_near ? kInitialBytesLoopback : kInitialPackets * PathMtu::kBaseBytes,
          .is_paced = !is_near};
}

PathMtu::Config Connection::path_of(const sys::Address& peer, std::size_t bytes_max) {
  return {.bytes_max = bytes_max, .is_v4 = peer.is_v4(), .is_known = peer.is_loopback()};
}

void Connection::on_other_address(const sys::Address& from, Instant now) {
  if (challenged_ != from) {
    challenged_ = from;
    challenge_token_ = shared_.random.next();
  } else if (now - challenge_at_ < kChallengeEvery) {
    return;
  }
  challenge_at_ = now;
  send_challenge(now);
}

// A packet of its own to an address that has proved nothing yet.
void Connection::send_challenge(Instant now) {
  std::uint8_t packet[kChallengeBytes];
  const std::uint64_t number = sent_.next_number();
  write_header(packet, {.shard = peer_shard_,
                        .type = PacketType::data,
                        .key_phase = send_phase_,
                        .connection = peer_parameters_.connection,
                        .number = number});
  packet[kHeaderBytes] = static_cast<std::uint8_t>(FrameType::challenge);
  store64(packet + kHeaderBytes + 1, challenge_token_);
  sealer_.seal(number, {packet, kHeaderBytes}, {packet + kHeaderBytes, 9},
               {packet + kHeaderBytes, sizeof(packet) - kHeaderBytes});
  sent_.begin(now);
  sent_.finish(sizeof(packet), false);
  shared_.datagrams.send(*challenged_, packet, sizeof(packet));
  ++shared_.counters.packets_sent;
  shared_.counters.bytes_sent += sizeof(packet);
}

void Connection::on_challenge_answer(std::uint64_t token, Instant now) {
  if (!challenged_ || token != challenge_token_) return;
  const sys::Address address = *challenged_;
  challenged_.reset();
  move_to(address, now);
}

void Connection::move_to(const sys::Address& address, Instant now) {
  const bool is_other_path = address.ip != peer_.address.ip ||  // RFC 9000, 9.4
                             address.relay_ip != peer_.address.relay_ip;
  peer_.address = address;
  if (is_other_path) {
    path_mtu_ = PathMtu(path_of(address, datagram_bytes_max_));
    congestion_ = Congestion(congestion_of(address), now);
    congestion_.set_datagram_bytes(path_mtu_.bytes());
    round_trip_ = RoundTrip();
    round_trip_.on_sample(now - challenge_at_, Duration{});
  }
  // What was under way went to where the peer no longer is: their loss shows when something newer
  // is acknowledged.
  probe_count_ = 0;
  if (sent_.has_unacked()) send_probes();
}

// The loop ends: a probe that is sent is not due again, and one that our kernel refuses narrows
// the search.
void Connection::send_path_probes(Instant now) {
  while (const auto bytes = path_mtu_.probe_due(now)) {
    // Not while the path is in doubt: the loss of a probe should tell of its size.
    if (probe_count_ > 0 || window_room() < *bytes) return;
    if (send_path_probe(*bytes, now)) {
      path_mtu_.on_probe_sent();
    } else {
      path_mtu_.on_probe_refused(*bytes, now);
    }
  }
}

// A ping, padded. False if the kernel says that the link does not take it; its packet number is
// used up then, which is all there is to undo.
bool Connection::send_path_probe(std::size_t bytes, Instant now) {
  MutableByteSpan packet(shared_.burst.data(), bytes);
  const std::uint64_t number = sent_.next_number();
  write_header(packet.data(), {.shard = peer_shard_,
                               .type = PacketType::data,
                               .key_phase = send_phase_,
                               .connection = peer_parameters_.connection,
                               .number = number});
  MutableByteSpan frames = packet.subspan(kHeaderBytes, bytes - kPacketOverhead);
  FrameWriter out(frames);
  out.u8(static_cast<std::uint8_t>(FrameType::ping));
  out.zero_rest();
  sealer_.seal(number, packet.first(kHeaderBytes), frames, packet.subspan(kHeaderBytes));
  const bool is_sent = shared_.datagrams.send_probe(peer_.address, packet);
  const bool had_unacked = sent_.has_unacked();
  sent_.begin(now);
  sent_.finish(bytes, is_sent).is_path_probe = true;
  if (!is_sent) return false;
  if (!had_unacked) waiting_since_ = now;
  congestion_.on_sent(bytes, now, round_trip_.smoothed());
  ++shared_.counters.path_probes;
  ++shared_.counters.packets_sent;
  shared_.counters.bytes_sent += bytes;
  return true;
}

}  // namespace magma::rpc
