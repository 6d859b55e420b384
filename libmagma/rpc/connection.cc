// The caller's side of a connection: calls, replies, cancelling, deadlines, closing. Receiving is
// in connection_receive.cc, sending in connection_send.cc.
#include "libmagma/rpc/connection.h"

#include <algorithm>

#include "libmagma/base/check.h"

namespace magma::rpc {

Connection::Connection(Shared& shared, const Setup& setup, const crypto::SessionKeys& keys,
                       Instant now)
    : shared_(shared),
      id_(setup.id),
      peer_(setup.peer),
      peer_shard_(setup.peer_shard),
      peer_parameters_(setup.peer_parameters),
      datagram_bytes_max_(setup.datagram_bytes_max),
      send_key_(keys.send),
      receive_key_(keys.receive),
      sealer_(keys.send),
      opener_(keys.receive),
      congestion_(congestion_of(setup.peer.address)),
      path_mtu_(path_of(setup.peer.address, setup.datagram_bytes_max)),
      peer_credit_(setup.peer_parameters.credit_bytes),
      last_received_(now),
      last_activity_(now),
      credit_told_(shared.credit_bytes) {
  congestion_.set_datagram_bytes(path_mtu_.bytes());
  if (setup.round_trip) round_trip_.on_sample(*setup.round_trip, Duration{});
}

Result<RequestId> Connection::call(Message message, Priority priority, Instant deadline) {
  const RequestId request{next_call_id_};
  if (message.size() > peer_parameters_.message_bytes_max) return magma::fail(Code::too_long);
  if (calls_.size() >=
      std::min<std::size_t>(peer_parameters_.requests_max,
                            shared_.config.limits.requests_in_flight_max))
    return magma::fail(Code::overloaded);
  ++next_call_id_;
  const std::uint32_t slot = out_.add(request.value, false, std::move(message), priority);
  Call& call = calls_.insert(request.value);
  call.deadline = deadline;
  call.slot = slot;
  call.generation = out_.at(slot).generation;
  call.response = {};
  calls_deadline_ = std::min(calls_deadline_, deadline);
  queue_message(slot);
  return request;
}

void Connection::queue_message(std::uint32_t slot) {
  OutMessage& m = out_.at(slot);
  if (m.grant_end < m.total &&
      unscheduled_used_ + m.total <= peer_parameters_.unscheduled_bytes) {
    m.grant_end = m.total;
    m.charged = m.total;
    unscheduled_used_ += m.total;
  }
  out_.update(slot);
}

void Connection::drop_message(std::uint32_t slot, std::uint32_t generation) {
  OutMessage* m = out_.find(slot, generation);
  if (m == nullptr) return;
  unscheduled_used_ -= m->charged;
  out_.remove(slot);
}

void Connection::reply(RequestId request, Message message, Priority priority) {
  Incoming* incoming = incoming_.find(request.value);
  if (incoming == nullptr || incoming->state != Incoming::State::executing) return;
  --incoming_open_;
  if (message.size() > peer_parameters_.message_bytes_max) {
    push_control({.type = FrameType::refuse,
                  .id = request.value,
                  .code = static_cast<std::uint16_t>(Code::too_long)});
    incoming_.erase(request.value);
    return;
  }
  incoming->state = Incoming::State::answered;
  incoming->slot = out_.add(request.value, true, std::move(message), priority);
  incoming->generation = out_.at(incoming->slot).generation;
  queue_message(incoming->slot);
}

// Answers a call and forgets it. The handler may do anything in the callback.
void Connection::finish_call(std::uint64_t id, Call& call, Result<ByteSpan> result) {
  drop_message(call.slot, call.generation);
  Assembly assembly = std::move(call.response);
  call.response = {};
  calls_.erase(id);
  shared_.handler.on_response(id_, RequestId{id}, std::move(result));
  release(assembly);
  if (!is_closed_) grant_waiting();
}

void Connection::cancel(RequestId request) {
  Call* call = calls_.find(request.value);
  if (call == nullptr) return;
  push_control({.type = FrameType::cancel, .id = request.value});
  finish_call(request.value, *call, magma::fail(Code::cancelled));
}

std::size_t Connection::unacknowledged(RequestId request) {
  const Call* call = calls_.find(request.value);
  const OutMessage* m = call == nullptr ? nullptr : out_.find(call->slot, call->generation);
  return m == nullptr ? 0 : m->total - static_cast<std::size_t>(m->acked.bytes());
}

void Connection::expire_calls(Instant now) {
  if (now < calls_deadline_) return;
  Instant earliest = Instant::never();
  for (std::uint64_t id : calls_.ids()) {
    Call* call = calls_.find(id);
    if (call == nullptr) continue;
    if (call->deadline > now) {
      earliest = std::min(earliest, call->deadline);
      continue;
    }
    push_control({.type = FrameType::cancel, .id = id});
    finish_call(id, *call, magma::fail(Code::timeout));
    if (is_closed_) return;
  }
  // Calls made by the callbacks are not in `earliest`: ask again soon rather than miss one.
  calls_deadline_ = earliest;
  for (std::uint64_t id : calls_.ids())
    calls_deadline_ = std::min(calls_deadline_, calls_.find(id)->deadline);
}

void Connection::fail(Error error) {
  if (!failure_) failure_ = std::move(error);
}

void Connection::on_credit_changed() {
  // Small changes are not worth a frame.
  const std::uint32_t now_bytes = shared_.credit_bytes;
  if (now_bytes < credit_told_ - credit_told_ / 4 || now_bytes > credit_told_ + credit_told_ / 4)
    credit_to_send_ = true;
}

void Connection::close(bool tell, Instant now) {
  if (is_closed_) return;
  if (tell) {
    push_control({.type = FrameType::close,
                  .code = static_cast<std::uint16_t>(Code::connection_closed)});
    probes_to_send_ = std::max(probes_to_send_, 1u);
    send_packets(now);
  }
  is_closed_ = true;
  for (std::uint64_t id : calls_.ids())
    if (Call* call = calls_.find(id))
      finish_call(id, *call, magma::fail(Code::connection_closed));
}

}  // namespace magma::rpc
