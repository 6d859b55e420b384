// Sending: what goes into a packet, bursts, probe timeouts, key changes, timers.
#include <algorithm>

#include "libmagma/base/check.h"
#include "libmagma/rpc/connection.h"

namespace magma::rpc {

namespace {
constexpr std::size_t kSegmentsMax = 64;
// Where datagrams are large a packet may be cut to what the window still has room for; below this
// it is not worth one.
constexpr std::size_t kPacketBytesWorthSending = 4096;
constexpr std::uint32_t kPartBytesWorthSending = 256;
constexpr std::uint32_t kKeepWholeBytes = 1024;    // shorter messages are not split
constexpr unsigned kProbes = 2;                    // RFC 9002, 6.2.4
// From this timeout in a row on, probes are small: nothing large may get through any more.
constexpr unsigned kTimeoutsUntilSmall = 2;
constexpr unsigned kBackoffMax = 6;
constexpr Duration kProbeTimeoutMax = seconds(1);
}  // namespace

std::size_t Connection::window_room() const {
  const std::size_t window = std::min<std::size_t>(congestion_.window_bytes(), peer_credit_);
  const std::size_t in_flight = sent_.bytes_in_flight();
  if (in_flight == 0) return std::max(window, datagram_bytes());
  return window > in_flight ? window - in_flight : 0;
}

bool Connection::may_send_messages(Instant now) const {
  if (out_.empty()) return false;
  if (probes_to_send_ > 0) return true;
  if (window_room() < std::min(datagram_bytes(), kPacketBytesWorthSending)) return false;
  return congestion_.next_send(now) <= now;
}

std::size_t Connection::packet_limit(bool with_messages) const {
  const std::size_t limit = datagram_bytes();
  if (!with_messages) return limit;
  if (probes_to_send_ > 0)
    return probe_count_ >= kTimeoutsUntilSmall ? PathMtu::kBaseBytes : limit;
  return std::clamp(window_room(), std::min(limit, kPacketBytesWorthSending), limit);
}

void Connection::flush(Instant now) {
  if (is_closed_) return;
  send_path_probes(now);
  send_packets(now);
}

void Connection::send_packets(Instant now) {
  Bytes& burst = shared_.burst;
  std::size_t used = 0;
  std::size_t segment = 0;
  std::size_t segments = 0;
  auto send = [&] {
    if (used == 0) return;
    shared_.datagrams.send(peer_.address, {burst.data(), used}, segment);
    shared_.counters.packets_sent += segments;
    shared_.counters.bytes_sent += used;
    used = segments = 0;
  };
  for (;;) {
    maybe_rekey();
    const bool with_messages = may_send_messages(now);
    if (!with_messages && controls_.empty() && !ping_to_send_ && !credit_to_send_ &&
        !acks_.is_due(now))
      break;
    if (used + datagram_bytes() > burst.size() || segments == kSegmentsMax) send();
    const std::size_t limit = packet_limit(with_messages);
    const std::size_t size = build_packet({burst.data() + used, limit}, with_messages, now);
    if (size == 0) break;
    if (segments == 0) segment = size;
    used += size;
    ++segments;
    if (size < segment || size < datagram_bytes()) send();  // only the last one may be shorter
  }
  send();
  sent_.trim(round_trip_.probe_timeout(), now);
  pace_at_ = out_.empty() ? Instant::never() : congestion_.next_send(now);
}

std::size_t Connection::build_packet(MutableByteSpan out, bool with_messages, Instant now) {
  const std::uint64_t number = sent_.next_number();
  write_header(out.data(), {.shard = peer_shard_,
                            .type = PacketType::data,
                            .key_phase = send_phase_,
                            .connection = peer_parameters_.connection,
                            .number = number});
  MutableByteSpan frames = out.subspan(kHeaderBytes, out.size() - kPacketOverhead);
  sent_.begin(now);
  const Built built = write_frames(frames, with_messages, now);
  if (built.frame_bytes == 0) {
    sent_.abandon();
    return 0;
  }
  const std::size_t size = built.frame_bytes + kPacketOverhead;
  sealer_.seal(number, out.first(kHeaderBytes), frames.first(built.frame_bytes),
               out.subspan(kHeaderBytes));
  const bool had_unacked = sent_.has_unacked();
  SentPacket& packet = sent_.finish(size, built.asks_for_ack);
  packet.has_ack = built.ack_largest.has_value();
  packet.ack_largest = built.ack_largest.value_or(0);
  packet.was_limited = sent_.bytes_in_flight() * 2 >= congestion_.window_bytes();
  if (built.asks_for_ack) {
    if (!had_unacked) waiting_since_ = now;
    last_activity_ = now;
    if (probes_to_send_ > 0) --probes_to_send_;
    congestion_.on_sent(size, now, round_trip_.smoothed());
  }
  return size;
}

Connection::Built Connection::write_frames(MutableByteSpan frames, bool with_messages,
                                           Instant now) {
  Built built;
  FrameWriter out(frames);
  if (acks_.has_ack_to_send()) {
    built.ack_largest = acks_.write(out, now);
    ++shared_.counters.acks_sent;
  }
  write_controls(out, built);
  if (with_messages) write_messages(out, built);
  // Equal sizes make a burst: only the last packet may be shorter.
  if (built.has_more && out.room() > 0) out.zero_rest();
  built.frame_bytes = out.size();
  return built;
}

void Connection::write_controls(FrameWriter& out, Built& built) {
  if (ping_to_send_ && out.room() >= kControlFrameBytesMax) {
    out.u8(static_cast<std::uint8_t>(FrameType::ping));
    ping_to_send_ = false;
    built.asks_for_ack = true;
  }
  if (credit_to_send_ && out.room() >= kControlFrameBytesMax) {
    out.u8(static_cast<std::uint8_t>(FrameType::credit));
    out.u32(shared_.credit_bytes);
    credit_told_ = shared_.credit_bytes;
    credit_to_send_ = false;
    built.asks_for_ack = true;
    sent_.add_frame({.type = FrameType::credit});
  }
  std::size_t done = 0;
  for (; done < controls_.size() && out.room() >= kControlFrameBytesMax; ++done) {
    const Control& c = controls_[done];
    out.u8(static_cast<std::uint8_t>(c.type));
    if (c.type == FrameType::close) {
      out.u16(c.code);
      continue;
    }
    if (c.type == FrameType::grant) out.u8(c.is_response ? 1 : 0);
    out.u64(c.id);
    if (c.type == FrameType::grant) out.u32(c.value);
    if (c.type == FrameType::refuse) out.u16(c.code);
    built.asks_for_ack = true;
    sent_.add_frame({.type = c.type,
                     .is_response = c.is_response,
                     .offset = c.value,
                     .length = c.code,
                     .id = c.id});
  }
  controls_.erase(controls_.begin(), controls_.begin() + static_cast<std::ptrdiff_t>(done));
}

void Connection::write_messages(FrameWriter& out, Built& built) {
  for (;;) {
    const std::uint32_t slot = out_.first();
    if (slot == OutMessage::kNone) return;
    if (!write_message(out, slot)) {
      built.has_more = true;
      return;
    }
    built.asks_for_ack = true;
  }
}

// False if too little room is left in this packet for the message's next part.
bool Connection::write_message(FrameWriter& out, std::uint32_t slot) {
  OutMessage& m = out_.at(slot);
  const bool is_again = !m.resend.empty();
  const ByteRange range =
      is_again ? m.resend.front() : ByteRange{m.next_offset, std::min(m.grant_end, m.total)};
  const bool is_whole = range.begin == 0 && range.end == m.total;
  std::uint32_t length = range.end - range.begin;
  const FrameType whole = m.is_response ? FrameType::response : FrameType::request;
  if (is_whole && out.room() >= kWholeFrameBytes + length) {
    out.u8(static_cast<std::uint8_t>(whole));
    out.u8(static_cast<std::uint8_t>(m.priority));
    out.u64(m.id);
  } else {
    if (length <= kKeepWholeBytes && out.room() < kPartFrameBytes + length) return false;
    if (out.room() < kPartFrameBytes + std::min(length, kPartBytesWorthSending)) return false;
    length = static_cast<std::uint32_t>(
        std::min<std::size_t>(length, out.room() - kPartFrameBytes));
    out.u8(static_cast<std::uint8_t>(m.is_response ? FrameType::response_part
                                                   : FrameType::request_part));
    const unsigned flag = m.grant_end < m.total ? kNeedsGrant : 0u;
    out.u8(static_cast<std::uint8_t>(static_cast<unsigned>(m.priority) | flag));
    out.u64(m.id);
    out.u32(range.begin);
    out.u32(m.total);
  }
  out.u16(static_cast<std::uint16_t>(length));
  if (length > 0) m.copy_to(out, range.begin, length);
  sent_.add_frame({.type = whole,
                   .slot = slot,
                   .generation = m.generation,
                   .offset = range.begin,
                   .length = length});
  m.empty_to_send = false;
  if (is_again) {
    m.resend.remove(range.begin, range.begin + length);
  } else {
    m.next_offset += length;
    if (m.next_offset == m.total) ++shared_.counters.messages_sent;
  }
  out_.update(slot);
  return true;
}

void Connection::maybe_rekey() {
  if (sent_.next_number() - send_phase_first_ < shared_.config.rekey_packets ||
      !send_phase_confirmed_)
    return;
  send_key_ = send_key_.next();
  sealer_ = crypto::Sealer(send_key_);
  send_phase_ = !send_phase_;
  send_phase_first_ = sent_.next_number();
  send_phase_confirmed_ = false;
  ++shared_.counters.rekeys;
}

Instant Connection::probe_time() const {
  if (!sent_.has_unacked()) return Instant::never();
  const std::int64_t backoff = std::int64_t{1} << std::min(probe_count_, kBackoffMax);
  return sent_.last_asking_sent() +
         std::min(round_trip_.probe_timeout() * backoff, kProbeTimeoutMax);
}

void Connection::on_probe_timeout() {
  ++probe_count_;
  ++shared_.counters.timeouts_probe;
  send_probes();
}

// Puts what was sent first and is not acknowledged into line again, beyond the window.
void Connection::send_probes() {
  probes_to_send_ = kProbes;
  unsigned found = 0;
  for (std::uint64_t n = sent_.first_number(); n < sent_.next_number() && found < kProbes; ++n) {
    const SentPacket& packet = *sent_.find(n);
    if (packet.state != SentPacket::State::in_flight || !packet.asks_for_ack) continue;
    resend_frames(packet);
    ++found;
  }
  if (out_.empty() && controls_.empty()) ping_to_send_ = true;
}

void Connection::on_timer(Instant now) {
  if (is_closed_) return;
  const Limits& limits = shared_.config.limits;
  if (now >= reset_at_) {
    fail(Error{Code::connection_closed, "the peer has restarted"});
  } else if (waiting_since_ != Instant::never() && now - waiting_since_ >= limits.dead_after) {
    fail(Error{Code::timeout, "no acknowledgement"});
  } else if (now - last_received_ >= limits.idle_close) {
    fail(Error{Code::timeout, "silence"});
  }
  if (failure_) return;
  if (now >= sent_.loss_time()) {
    detect_losses(now);
  } else if (now >= probe_time()) {
    on_probe_timeout();
  }
  if (now - last_activity_ >= limits.keepalive) ping_to_send_ = true;
  expire_calls(now);
}

Instant Connection::deadline(Instant now) const {
  if (is_closed_) return Instant::never();
  if (failure_) return now;
  const Limits& limits = shared_.config.limits;
  Instant first = std::min(last_activity_ + limits.keepalive, last_received_ + limits.idle_close);
  if (waiting_since_ != Instant::never())
    first = std::min(first, waiting_since_ + limits.dead_after);
  first = std::min({first, reset_at_, acks_.deadline(), sent_.loss_time(), calls_deadline_});
  // With the loss timer armed the probe waits (RFC 9002, 6.2.1).
  if (sent_.loss_time() == Instant::never()) first = std::min(first, probe_time());
  if (!out_.empty() && pace_at_ > now) first = std::min(first, pace_at_);
  first = std::min(first, path_mtu_.deadline());
  return first;
}

}  // namespace magma::rpc
