// Receiving: authentication, frames, putting messages together, acknowledgements and losses.
#include <algorithm>

#include "libmagma/base/check.h"
#include "libmagma/rpc/connection.h"

namespace magma::rpc {

namespace {
constexpr std::size_t kRangesOfAMessageMax = 4096;
constexpr unsigned kOpenRequestsSlack = 2;     // a cancel may come after the call that replaced it
constexpr unsigned kKnownRequestsSlack = 8;    // answered, the answer not yet acknowledged
constexpr Duration kResetDoubt = milliseconds(20);
constexpr unsigned kPersistentPeriods = 3;     // RFC 9002, 7.6.1
}  // namespace

crypto::Opener* Connection::opener_for(const Header& header) {
  if (header.key_phase == receive_phase_) return &opener_;
  if (header.number < receive_phase_first_) return opener_before_ ? &*opener_before_ : nullptr;
  if (!opener_after_) opener_after_.emplace(receive_key_.next());
  return &*opener_after_;
}

void Connection::adopt_next_key(std::uint64_t number) {
  opener_before_.emplace(std::move(opener_));
  opener_ = std::move(*opener_after_);
  opener_after_.reset();
  receive_key_ = receive_key_.next();
  receive_phase_ = !receive_phase_;
  receive_phase_first_ = number;
}

std::optional<MutableByteSpan> Connection::open(const Header& header, MutableByteSpan datagram) {
  if (!replay_.is_new(header.number)) {
    ++shared_.counters.packets_replayed;
    return std::nullopt;
  }
  crypto::Opener* opener = opener_for(header);
  if (opener == nullptr || datagram.size() < kPacketOverhead) {
    ++shared_.counters.packets_unauthentic;
    return std::nullopt;
  }
  auto plain = opener->open(header.number, datagram.first(kHeaderBytes),
                            datagram.subspan(kHeaderBytes));
  if (!plain) {
    ++shared_.counters.packets_unauthentic;
    return std::nullopt;
  }
  MAGMA_CHECK(replay_.mark(header.number));
  if (opener_after_ && opener == &*opener_after_) adopt_next_key(header.number);
  return *plain;
}

void Connection::on_packet(const sys::Address& from, const Header& header, MutableByteSpan frames,
                           Instant now) {
  last_received_ = last_activity_ = now;
  reset_at_ = Instant::never();
  // An older packet that was late says nothing of where the peer is now.
  const bool is_newest = header.number >= numbers_seen_;
  if (is_newest) numbers_seen_ = header.number + 1;
  if (from != peer_.address) {
    if (is_newest) on_other_address(from, now);
  } else if (is_newest) {
    challenged_.reset();  // it is where it was
  }
  const Seen seen = on_frames(frames, now);
  waiting_since_ = sent_.has_unacked() ? now : Instant::never();
  if (seen.is_stored) acks_.on_packet(header.number, frames.size(), seen.asks_for_ack, now);
}

Connection::Seen Connection::on_frames(MutableByteSpan frames, Instant now) {
  Seen seen;
  FrameReader reader(frames);
  Frame frame;
  while (reader.next(frame)) {
    if (frame.type != FrameType::ack && frame.type != FrameType::close) seen.asks_for_ack = true;
    if (!on_frame(frame, now)) seen.is_stored = false;
    if (is_closed_ || failure_) return seen;
  }
  if (reader.bad()) ++shared_.counters.packets_malformed;
  return seen;
}

bool Connection::on_frame(Frame& frame, Instant now) {
  switch (frame.type) {
    case FrameType::request:
    case FrameType::request_part: return on_request_frame(frame);
    case FrameType::response:
    case FrameType::response_part: return on_response_frame(frame);
    case FrameType::ack: on_ack_frame(frame, now); break;
    case FrameType::grant: on_grant_frame(frame); break;
    case FrameType::cancel: on_cancel_frame(frame.id); break;
    case FrameType::close: fail(Error{Code::connection_closed, "by the peer"}); break;
    case FrameType::credit: peer_credit_ = frame.offset; break;
    case FrameType::refuse: on_refuse_frame(frame); break;
    case FrameType::challenge:
      push_control({.type = FrameType::challenge_answer, .id = frame.id});
      break;
    case FrameType::challenge_answer:
      on_challenge_answer(frame.id, now);
      break;
    case FrameType::padding:
    case FrameType::ping: break;
  }
  return true;
}

// --- requests ---

// True once for every id. Ids are made in ascending order, but packets come in any.
bool Connection::is_new_request(std::uint64_t id) {
  if (id >= next_incoming_id_) {
    if (id - next_incoming_id_ + missing_.size() > kMissingMax) {
      ++shared_.counters.packets_malformed;
      fail(Error{Code::malformed, "request id out of range"});
      return false;
    }
    for (; next_incoming_id_ < id; ++next_incoming_id_) missing_.push_back(next_incoming_id_);
    ++next_incoming_id_;
    return true;
  }
  auto at = std::lower_bound(missing_.begin(), missing_.end(), id);
  if (at == missing_.end() || *at != id) return false;
  missing_.erase(at);
  return true;
}

void Connection::refuse(std::uint64_t id, Code code) {
  push_control({.type = FrameType::refuse, .id = id, .code = static_cast<std::uint16_t>(code)});
}

bool Connection::on_request_frame(Frame& frame) {
  Incoming* incoming = incoming_.find(frame.id);
  if (incoming == nullptr) {
    if (!is_new_request(frame.id)) return true;
    const std::size_t limit = shared_.config.limits.requests_in_flight_max;
    if (incoming_.size() >= limit * kKnownRequestsSlack) {
      fail(Error{Code::malformed, "too many requests"});
      return true;
    }
    if (incoming_open_ >= limit * kOpenRequestsSlack) {
      refuse(frame.id, Code::overloaded);
      return true;
    }
    if (frame.total > shared_.config.limits.message_bytes_max) {
      refuse(frame.id, Code::too_long);
      return true;
    }
    incoming = &incoming_.insert(frame.id);
    incoming->state = Incoming::State::receiving;
    incoming->request = {};
    ++incoming_open_;
  }
  if (incoming->state != Incoming::State::receiving) return true;
  if (frame.bytes.size() == frame.total && !incoming->request.is_begun) {
    deliver_request(frame.id, *incoming, frame.bytes);
    return true;
  }
  switch (store(incoming->request, frame)) {
    case Stored::part: return true;
    case Stored::no_room: return false;
    case Stored::bad: ++shared_.counters.packets_malformed; return true;
    case Stored::whole: break;
  }
  deliver_request(frame.id, *incoming,
                  {incoming->request.buffer.bytes.get(), incoming->request.total});
  return true;
}

void Connection::deliver_request(std::uint64_t id, Incoming& incoming, MutableByteSpan message) {
  Assembly assembly = std::move(incoming.request);
  incoming.request = {};
  incoming.state = Incoming::State::executing;
  ++shared_.counters.messages_received;
  shared_.handler.on_request(id_, RequestId{id}, message);
  release(assembly);
  if (!is_closed_) grant_waiting();
}

void Connection::on_cancel_frame(std::uint64_t id) {
  Incoming* incoming = incoming_.find(id);
  if (incoming == nullptr) {
    is_new_request(id);  // from now on it is an old one
    return;
  }
  const Incoming::State state = incoming->state;
  if (state == Incoming::State::answered) {
    drop_message(incoming->slot, incoming->generation);
  } else {
    --incoming_open_;
    release(incoming->request);
  }
  incoming_.erase(id);
  if (state == Incoming::State::executing) shared_.handler.on_cancel(id_, RequestId{id});
  if (!is_closed_) grant_waiting();
}

// --- responses ---

bool Connection::on_response_frame(Frame& frame) {
  Call* call = calls_.find(frame.id);
  if (call == nullptr) return true;  // answered, cancelled or given up
  if (frame.total > shared_.config.limits.message_bytes_max) {
    ++shared_.counters.packets_malformed;
    finish_call(frame.id, *call, magma::fail(Code::malformed, "the response is too long"));
    return true;
  }
  MutableByteSpan message = frame.bytes;
  if (frame.bytes.size() != frame.total || call->response.is_begun) {
    switch (store(call->response, frame)) {
      case Stored::part: return true;
      case Stored::no_room: return false;
      case Stored::bad: ++shared_.counters.packets_malformed; return true;
      case Stored::whole: break;
    }
    message = {call->response.buffer.bytes.get(), call->response.total};
  }
  ++shared_.counters.messages_received;
  finish_call(frame.id, *call, ByteSpan{message});
  return true;
}

void Connection::on_refuse_frame(const Frame& frame) {
  Call* call = calls_.find(frame.id);
  if (call == nullptr) return;
  const Code code = is_known(frame.code) ? static_cast<Code>(frame.code) : Code::malformed;
  finish_call(frame.id, *call, magma::fail(code));
}

// --- assembly and grants ---

Connection::Stored Connection::store(Assembly& assembly, const Frame& frame) {
  const std::uint64_t budget = shared_.config.limits.incoming_bytes_max;
  if (!assembly.is_begun) {
    std::uint32_t size = frame.total;
    // One message may always be completed, whatever else is held: progress needs it.
    if (partial_bytes_ + size > budget && granted_partial_ > 0) {
      if (size <= kUnscheduledBytes || partial_bytes_ + kUnscheduledBytes > budget)
        return Stored::no_room;
      size = kUnscheduledBytes;
    }
    assembly.buffer = shared_.buffers.take(size);
    assembly.total = frame.total;
    assembly.size = size;
    assembly.is_begun = true;
    partial_bytes_ += size;
    granted_partial_ += size == frame.total ? 1 : 0;
  }
  if (assembly.total != frame.total) return Stored::bad;
  if (frame.offset + frame.bytes.size() > assembly.size ||
      assembly.received.count() >= kRangesOfAMessageMax)
    return Stored::no_room;
  if (!frame.bytes.empty())
    std::memcpy(assembly.buffer.bytes.get() + frame.offset, frame.bytes.data(),
                frame.bytes.size());
  assembly.received.add(frame.offset,
                        frame.offset + static_cast<std::uint32_t>(frame.bytes.size()));
  if (assembly.is_whole()) return Stored::whole;
  if (frame.needs_grant && !assembly.is_grant_given) {
    if (assembly.size == assembly.total) {
      grant(assembly, frame.is_response, frame.id);
    } else if (!assembly.wants_grant) {
      assembly.wants_grant = true;
      waiting_grants_.push_back({frame.is_response, frame.id});
    }
  }
  return Stored::part;
}

void Connection::release(Assembly& assembly) {
  if (!assembly.is_begun) return;
  partial_bytes_ -= assembly.size;
  granted_partial_ -= assembly.size == assembly.total ? 1 : 0;
  shared_.buffers.give(std::move(assembly.buffer));
  assembly = {};
}

void Connection::grant(Assembly& assembly, bool is_response, std::uint64_t id) {
  assembly.is_grant_given = true;
  assembly.wants_grant = false;
  push_control({.type = FrameType::grant,
                .is_response = is_response,
                .id = id,
                .value = assembly.total});
}

// Budget may have become free: lets waiting messages go on, first come, first served.
void Connection::grant_waiting() {
  while (!waiting_grants_.empty()) {
    const Waiting next = waiting_grants_.front();
    Assembly* assembly = nullptr;
    if (next.is_response) {
      if (Call* call = calls_.find(next.id)) assembly = &call->response;
    } else if (Incoming* incoming = incoming_.find(next.id)) {
      assembly = &incoming->request;
    }
    if (assembly != nullptr && assembly->wants_grant) {
      const std::uint64_t held = partial_bytes_ - assembly->size;
      if (held + assembly->total > shared_.config.limits.incoming_bytes_max &&
          granted_partial_ > 0)
        return;
      BufferPool::Buffer larger = shared_.buffers.take(assembly->total);
      std::memcpy(larger.bytes.get(), assembly->buffer.bytes.get(), assembly->size);
      shared_.buffers.give(std::move(assembly->buffer));
      assembly->buffer = std::move(larger);
      partial_bytes_ = held + assembly->total;
      assembly->size = assembly->total;
      ++granted_partial_;
      grant(*assembly, next.is_response, next.id);
    }
    waiting_grants_.erase(waiting_grants_.begin());
  }
}

void Connection::on_grant_frame(const Frame& frame) {
  std::uint32_t slot = 0;
  OutMessage* m = nullptr;
  if (!frame.is_response) {
    if (Call* call = calls_.find(frame.id)) {
      slot = call->slot;
      m = out_.find(slot, call->generation);
    }
  } else if (Incoming* incoming = incoming_.find(frame.id)) {
    if (incoming->state == Incoming::State::answered) {
      slot = incoming->slot;
      m = out_.find(slot, incoming->generation);
    }
  }
  if (m == nullptr) return;
  m->grant_end = std::max(m->grant_end, std::min(frame.offset, m->total));
  out_.update(slot);
}

// --- acknowledgements and losses ---

void Connection::on_ack_frame(const Frame& frame, Instant now) {
  const auto on_acked = [&](std::uint64_t number, const SentPacket& packet) {
    on_acked_packet(number, packet, now);
  };
  const auto result = sent_.on_ack(frame, now, on_acked);
  if (!result.is_valid) {
    ++shared_.counters.packets_malformed;
    fail(Error{Code::malformed, "acknowledges what was never sent"});
    return;
  }
  shared_.counters.packets_spurious += result.spurious;
  if (!result.is_new) return;
  if (result.has_rtt) {
    const Duration sample =
        round_trip_.on_sample(result.rtt, std::min(microseconds(frame.delay_us), kAckDelay));
    congestion_.on_round_trip(sample, frame.largest, sent_.next_number());
  }
  probe_count_ = 0;
  probes_to_send_ = 0;
  detect_losses(now);
  sent_.trim(round_trip_.probe_timeout(), now);
}

void Connection::on_acked_packet(std::uint64_t number, const SentPacket& packet, Instant now) {
  if (packet.has_ack) acks_.on_ack_seen(packet.ack_largest);
  if (number >= send_phase_first_) send_phase_confirmed_ = true;
  if (packet.is_path_probe) {
    path_mtu_.on_probe_acked(packet.bytes, now);
    congestion_.set_datagram_bytes(path_mtu_.bytes());
  } else {
    path_mtu_.on_acked(packet.bytes);
  }
  if (packet.asks_for_ack && packet.state == SentPacket::State::in_flight)
    congestion_.on_ack(packet.bytes, packet.sent, now, round_trip_.smoothed(),
                       packet.was_limited);
  for (std::uint32_t i = 0; i < packet.frame_count; ++i) {
    const SentFrame& part = sent_.frame(packet.first_frame + i);
    if (part.type == FrameType::request || part.type == FrameType::response)
      acknowledge_part(part);
  }
}

void Connection::acknowledge_part(const SentFrame& part) {
  OutMessage* m = out_.find(part.slot, part.generation);
  if (m == nullptr) return;
  m->acked.add(part.offset, part.offset + part.length);
  if (m->acked.bytes() == m->total) {
    if (m->is_response) incoming_.erase(m->id);
    drop_message(part.slot, part.generation);
    return;
  }
  m->resend.remove(part.offset, part.offset + part.length);
  out_.update(part.slot);
}

void Connection::detect_losses(Instant now) {
  Instant first = Instant::never();
  Instant last{};
  std::uint64_t probes_lost = 0;
  bool is_black_hole = false;
  const std::uint64_t lost = sent_.detect_losses(round_trip_, now, [&](const SentPacket& p) {
    if (!p.asks_for_ack) return;
    if (p.is_path_probe) {
      ++probes_lost;
      path_mtu_.on_probe_lost(p.bytes, now);
      return;
    }
    is_black_hole |= path_mtu_.on_lost(p.bytes, p.sent, round_trip_.smoothed(), now);
    first = std::min(first, p.sent);
    last = std::max(last, p.sent);
    resend_frames(p);
  });
  if (is_black_hole) {
    ++shared_.counters.path_shrinks;
    congestion_.set_datagram_bytes(path_mtu_.bytes());
  }
  if (lost == probes_lost) return;
  shared_.counters.packets_lost += lost - probes_lost;
  congestion_.on_loss(last, now);
  if (round_trip_.has_sample() &&
      last - first > round_trip_.probe_timeout() * kPersistentPeriods)
    congestion_.on_persistent_congestion();
}

void Connection::resend_frames(const SentPacket& packet) {
  for (std::uint32_t i = 0; i < packet.frame_count; ++i) {
    const SentFrame part = sent_.frame(packet.first_frame + i);
    switch (part.type) {
      case FrameType::request:
      case FrameType::response: {
        OutMessage* m = out_.find(part.slot, part.generation);
        if (m == nullptr) break;
        if (m->total == 0) m->empty_to_send = true;
        m->resend.add(part.offset, part.offset + part.length);
        for (const ByteRange& r : m->acked.all()) m->resend.remove(r.begin, r.end);
        out_.hurry(part.slot);
        break;
      }
      case FrameType::credit: credit_to_send_ = true; break;
      case FrameType::grant:
      case FrameType::cancel:
      case FrameType::refuse:
      case FrameType::challenge_answer:
        push_control({.type = part.type,
                      .is_response = part.is_response,
                      .id = part.id,
                      .value = part.offset,
                      .code = static_cast<std::uint16_t>(part.length)});
        break;
      default: break;
    }
  }
}

void Connection::push_control(const Control& control) {
  // The peer would have to leave thousands of refusals unacknowledged: then it is no peer of ours.
  if (controls_.size() >= kControlsMax) {
    fail(Error{Code::overloaded, "control frames"});
    return;
  }
  controls_.push_back(control);
}

void Connection::on_reset(std::uint64_t number, Instant now) {
  if (number >= sent_.next_number() || reset_at_ != Instant::never()) return;
  reset_at_ = now + std::max(kResetDoubt, round_trip_.probe_timeout());
  ping_to_send_ = true;
}

}  // namespace magma::rpc
