#include "magmad/peers.h"

#include <algorithm>
#include <utility>

#include "libmagma/base/check.h"
#include "libmagma/base/log.h"
#include "libmagma/wire/codec.h"

namespace magma {

namespace {

constexpr std::size_t kLateMax = 64;  // messages that plant_lateness keeps
constexpr std::size_t kMessageBytes = 64;  // of one without its body, about

template <class Message>
Bytes encoded(wire::FlareOp op, const Message& message) {
  wire::RequestHead head;
  head.op = static_cast<std::uint16_t>(op);
  Bytes bytes;
  wire::encode_to(bytes, head);
  wire::encode_to(bytes, message);
  return bytes;
}

wire::PeerMessage to_wire(ops::SlotMessage message) {
  return {.verb = static_cast<std::uint8_t>(message.verb),
          .op = message.op,
          .index = message.index,
          .from = message.from,
          .to = message.to,
          .from_epoch = message.from_epoch,
          .to_epoch = message.to_epoch,
          .kind = static_cast<std::uint8_t>(message.kind),
          .code = message.code,
          .body = std::move(message.body),
          .session = message.session};
}

ops::SlotMessage from_wire(wire::PeerMessage message) {
  ops::SlotMessage told;
  told.verb = static_cast<ops::Verb>(message.verb);
  told.op = message.op;
  told.index = message.index;
  told.from = message.from;
  told.to = message.to;
  told.from_epoch = message.from_epoch;
  told.to_epoch = message.to_epoch;
  told.kind = static_cast<ops::PartKind>(message.kind);
  told.code = message.code;
  told.body = std::move(message.body);
  told.session = message.session;
  return told;
}

// The slot that decides the operation, or asks the question, tells these; the other side the rest.
bool is_of_coordinator(ops::Verb verb) {
  switch (verb) {
    case ops::Verb::prepare:
    case ops::Verb::abort:
    case ops::Verb::apply:
    case ops::Verb::settle:
    case ops::Verb::forget:
    case ops::Verb::unknown:
    case ops::Verb::known:
    case ops::Verb::question: return true;
    default: return false;
  }
}

std::size_t bytes_of(const wire::PeerMessage& message) {
  return message.body.size() + kMessageBytes;
}

}  // namespace

Peers::Peers(const SlotOwners& owners, ring::VolcanoId self, sys::Clock& clock,
             sys::Random& random, rpc::Endpoint& endpoint, SlotTalk& slots,
             UniqueFunction<void(Answer)>& send)
    : self_(self),
      own_(owners.served_by(self)),
      clock_(clock),
      random_(random),
      endpoint_(endpoint),
      slots_(slots),
      send_(send),
      peer_of_(ring::kSlotCount),
      generation_(slots.generation()) {
  MAGMA_CHECK(own_.any());
  for (const SlotOwners::Owner& owner : owners.owners) {
    if (owner.id == self) continue;
    Peer& peer = peers_.emplace_back();
    peer.id = owner.id;
    peer.address = owner.address;
    peer.slots = owners.slots_of(owner.id);
    peer.epochs.resize(ring::kSlotCount);
    peer.dial_at = clock_.now() + (self_ > peer.id ? kHigherWaits : Duration{});
  }
  for (Peer& peer : peers_)
    for (unsigned slot = 0; slot < ring::kSlotCount; ++slot)
      if (peer.slots[slot]) peer_of_[slot] = &peer;
}

// ---- connections

Peers::Peer* Peers::find(rpc::ConnectionId connection) {
  if (connection == rpc::ConnectionId()) return nullptr;
  for (Peer& peer : peers_)
    if (peer.connection == connection) return &peer;
  return nullptr;
}

bool Peers::has_dialed(rpc::ConnectionId connection) const {
  return std::any_of(peers_.begin(), peers_.end(), [&](const Peer& peer) {
    return peer.is_dialed && peer.connection == connection;
  });
}

bool Peers::has_run_with(ring::VolcanoId id) const {
  return std::any_of(peers_.begin(), peers_.end(), [&](const Peer& peer) {
    return peer.id == id && peer.phase == Phase::going;
  });
}

std::size_t Peers::waiting() const {
  std::size_t count = 0;
  for (const Peer& peer : peers_) count += peer.queue.size();
  return count;
}

void Peers::dial(Peer& peer) {
  auto address = sys::Address::parse(peer.address, 0);
  if (!address) {
    log_error("peer_address volcano={} address={}", peer.id.value, peer.address);
    peer.dial_at = Instant::never();
    return;
  }
  peer.phase = Phase::dialing;
  peer.is_dialed = true;
  peer.connection = endpoint_.connect(*address, crypto::Role::ring, kDialPatience);
}

bool Peers::on_connected(rpc::ConnectionId connection) {
  Peer* peer = find(connection);
  if (peer == nullptr || peer->phase != Phase::dialing) return false;
  ask_to_begin(*peer);
  return true;
}

void Peers::ask_to_begin(Peer& peer) {
  peer.phase = Phase::asking;
  peer.my_run = random_.next() | 1;
  peer.asked_at = clock_.now();
  const wire::PeerBeginRequest message{
      .volcano = self_.value, .run = peer.my_run, .slots = own_slots()};
  peer.begin_request =
      endpoint_.call(peer.connection, {encoded(wire::FlareOp::peer_begin, message), {}},
                     rpc::Priority::lock, Instant::never());
}

void Peers::on_closed(rpc::ConnectionId connection) {
  Peer* peer = find(connection);
  if (peer == nullptr) return;
  peer->connection = {};
  lose(*peer, "closed");
}

// Another begins with a new connection.
void Peers::lose(Peer& peer, const char* why) {
  if (peer.phase == Phase::going) {
    ++stats_.runs_lost;
    log_info("peer_run_lost volcano={} why={} waiting={}", peer.id.value, why, peer.queue.size());
  }
  forget_run(peer);
  const auto less = static_cast<std::int64_t>(random_.next() % 256) * peer.backoff.ns / 512;
  peer.dial_at = clock_.now() + peer.backoff - nanoseconds(less);
  if (self_ > peer.id) peer.dial_at = peer.dial_at + kHigherWaits;
  peer.backoff = std::min(peer.backoff * 2, kBackoffLast);
}

void Peers::forget_run(Peer& peer) {
  peer.phase = Phase::away;
  peer.begin.reset();
  peer.begin_request = {};
  peer.my_run = peer.its_run = 0;
  stats_.dropped += peer.queue.size();
  peer.queue.clear();
  peer.queue_bytes = 0;
  peer.next_number = peer.expected = 1;
  peer.in_flight.clear();
  peer.arrived.clear();
  const rpc::ConnectionId connection = std::exchange(peer.connection, {});
  const bool was_dialed = std::exchange(peer.is_dialed, false);
  if (connection == rpc::ConnectionId()) return;
  // Last, because it answers what was under way, which is nobody's now.
  endpoint_.close(connection);
  if (!was_dialed && drop_hook_) drop_hook_(connection);
}

bool Peers::on_response(rpc::ConnectionId connection, rpc::RequestId request,
                        const Result<ByteSpan>& message) {
  Peer* peer = find(connection);
  if (peer == nullptr) return false;
  const bool is_begin = peer->phase == Phase::asking && peer->begin_request == request;
  if (!is_begin && peer->in_flight.erase(request.value) == 0) return false;
  auto head = message ? wire::decode_front<wire::ResponseHead>(*message) : fail(message.error());
  if (head && head->first.code == 0) {
    if (is_begin) on_begun(*peer, head->second);
    return true;
  }
  const Code code = head ? static_cast<Code>(head->first.code) : head.error().code;
  log_info("peer_refused volcano={} is_begin={} error={}", peer->id.value, is_begin,
           name_of(code));
  lose(*peer, "refused");
  return true;
}

// ---- the begin of a run

std::vector<wire::PeerSlots> Peers::own_slots() const {
  std::vector<wire::PeerSlots> runs;
  for (unsigned index = 0; index < ring::kSlotCount; ++index) {
    if (!own_[index]) continue;
    const ring::Slot slot(static_cast<std::uint16_t>(index));
    const Epoch epoch = slots_.epoch_of(slot);
    const bool is_next = !runs.empty() && runs.back().last.value + 1u == index;
    if (is_next && runs.back().epoch == epoch)
      runs.back().last = slot;
    else
      runs.push_back({slot, slot, epoch});
  }
  return runs;
}

// Whether the peer has these slots by what this volcano was told. It may not serve all of its own
// yet.
bool Peers::are_slots_of(const Peer& peer, const std::vector<wire::PeerSlots>& told) const {
  OwnedSlots slots;
  for (const wire::PeerSlots& run : told) {
    if (run.first > run.last || run.last.value >= ring::kSlotCount) return false;
    for (unsigned slot = run.first.value; slot <= run.last.value; ++slot) slots.set(slot);
  }
  return (slots & ~peer.slots).none();
}

void Peers::handle(RequestPtr request) {
  request->op() == wire::FlareOp::peer_begin ? on_begin(*request) : on_messages(*request);
}

void Peers::on_begin(const Request& request) {
  constexpr auto op = wire::FlareOp::peer_begin;
  auto message = wire::decode<wire::PeerBeginRequest>(request.body);
  if (!message || message->run == 0) return refuse(request.target, op, Code::malformed);
  auto peer = std::find_if(peers_.begin(), peers_.end(), [&](const Peer& other) {
    return other.id.value == message->volcano;
  });
  if (peer == peers_.end() || !are_slots_of(*peer, message->slots)) {
    // One of the two has an older map.
    log_info("peer_disagrees volcano={}", message->volcano);
    return refuse(request.target, op, Code::wrong_epoch);
  }
  const rpc::ConnectionId connection(request.target.connection);
  // Both have asked: the other takes this one's.
  if (peer->phase == Phase::asking && peer->is_dialed && self_ < peer->id)
    return refuse(request.target, op, Code::overloaded);
  if (peer->phase == Phase::going) ++stats_.runs_lost;
  if (peer->connection == connection) peer->connection = {};
  forget_run(*peer);
  peer->phase = Phase::asking;
  peer->asked_at = clock_.now();
  peer->connection = connection;
  peer->begin = Begin{connection, request.target.request, message->run, std::move(message->slots)};
}

void Peers::on_begun(Peer& peer, ByteSpan body) {
  auto reply = wire::decode<wire::PeerBeginReply>(body);
  if (!reply || reply->run == 0 || !are_slots_of(peer, reply->slots)) {
    log_error("peer_disagrees volcano={}", peer.id.value);
    return lose(peer, "malformed");
  }
  peer.begin = Begin{peer.connection, 0, reply->run, std::move(reply->slots)};
}

void Peers::begin(Peer& peer) {
  const Begin told = *std::exchange(peer.begin, std::nullopt);
  peer.served.reset();
  for (const wire::PeerSlots& run : told.slots)
    for (unsigned slot = run.first.value; slot <= run.last.value; ++slot) {
      peer.epochs[slot] = run.epoch;
      peer.served.set(slot);
    }
  peer.its_run = told.run;
  if (told.request != 0) peer.my_run = random_.next() | 1;
  peer.phase = Phase::going;
  peer.backoff = kBackoffFirst;
  ++stats_.runs;
  log_info("peer_run_begins volcano={} is_dialed={}", peer.id.value, peer.is_dialed);
  if (!is_forgetful_) slots_.begin_anew_with(peer.served);
  for (wire::PeerMessage& message : std::exchange(peer.late, {}))
    slots_.receive(from_wire(std::move(message)));
  if (told.request != 0)
    answer({told.connection.value, told.request}, wire::FlareOp::peer_begin,
           wire::PeerBeginReply{.run = peer.my_run, .slots = own_slots()});
}

// ---- what comes

void Peers::on_messages(const Request& request) {
  constexpr auto op = wire::FlareOp::peer_messages;
  Peer* peer = find(rpc::ConnectionId(request.target.connection));
  auto message = wire::decode<wire::PeerMessagesRequest>(request.body);
  if (!message) return refuse(request.target, op, Code::malformed);
  if (peer == nullptr || peer->my_run == 0 || message->run != peer->my_run)
    return refuse(request.target, op, Code::old_sequence);
  if (message->number >= peer->expected + kWindow) {
    refuse(request.target, op, Code::malformed);
    return lose(*peer, "malformed");
  }
  Arrived arrived{std::move(message->messages), request.target};
  const bool is_new = message->number >= peer->expected &&
                      peer->arrived.try_emplace(message->number, std::move(arrived)).second;
  if (!is_new) answer(request.target, op, wire::EmptyReply{});
}

bool Peers::is_sound(const Peer& peer, const wire::PeerMessage& message) const {
  if (message.verb < static_cast<std::uint8_t>(ops::Verb::prepare) ||
      message.verb > static_cast<std::uint8_t>(ops::Verb::known))
    return false;
  if (message.from.value >= ring::kSlotCount || message.to.value >= ring::kSlotCount) return false;
  if (!own_[message.to.value] || !peer.served[message.from.value]) return false;
  const bool is_coordinator = is_of_coordinator(static_cast<ops::Verb>(message.verb));
  if (ring::coordinator_of(message.op) != (is_coordinator ? message.from : message.to))
    return false;
  return message.to_epoch == slots_.epoch_of(message.to) &&
         message.from_epoch == peer.epochs[message.from.value];
}

void Peers::take_arrived(Peer& peer) {
  for (auto next = peer.arrived.find(peer.expected); next != peer.arrived.end();
       next = peer.arrived.find(peer.expected)) {
    Arrived arrived = std::move(next->second);
    peer.arrived.erase(next);
    ++peer.expected;
    for (wire::PeerMessage& message : arrived.messages) {
      if (!is_sound(peer, message)) {
        ++stats_.refused;
        log_error("peer_message_unsound volcano={} verb={} op={:#x} from={} to={}", peer.id.value,
                  message.verb, message.op.value, message.from.value, message.to.value);
        return lose(peer, "unsound");
      }
      ++stats_.received;
      if (is_late_ && peer.late.size() < kLateMax) peer.late.push_back(message);
      slots_.receive(from_wire(std::move(message)));
    }
    answer(arrived.target, wire::FlareOp::peer_messages, wire::EmptyReply{});
  }
}

// ---- what goes

void Peers::queue_outgoing() {
  for (ops::SlotMessage& message : slots_.take_outgoing()) {
    Peer* peer = peer_of_[message.to.value];
    if (peer == nullptr || peer->phase != Phase::going || !peer->served[message.to.value]) {
      ++stats_.dropped;
      continue;
    }
    message.from_epoch = slots_.epoch_of(message.from);
    message.to_epoch = peer->epochs[message.to.value];
    peer->queue.push_back(to_wire(std::move(message)));
    peer->queue_bytes += bytes_of(peer->queue.back());
    if (peer->queue.size() > kQueueMax || peer->queue_bytes > kQueueBytesMax) lose(*peer, "full");
  }
}

bool Peers::has_room(const Peer& peer) const {
  return std::all_of(peer.in_flight.begin(), peer.in_flight.end(), [&](const auto& sent) {
    return peer.next_number < sent.second.number + kWindow;
  });
}

void Peers::send_queue(Peer& peer) {
  while (!peer.queue.empty() && has_room(peer)) {
    wire::PeerMessagesRequest request{.run = peer.its_run, .number = peer.next_number++};
    std::size_t bytes = 0;
    do {
      const std::size_t more = bytes_of(peer.queue.front());
      bytes += more;
      peer.queue_bytes -= more;
      request.messages.push_back(std::move(peer.queue.front()));
      peer.queue.pop_front();
    } while (!peer.queue.empty() && request.messages.size() < kRequestMessages &&
             bytes + bytes_of(peer.queue.front()) <= kRequestBytes);
    stats_.sent += request.messages.size();
    const rpc::RequestId id =
        endpoint_.call(peer.connection, {encoded(wire::FlareOp::peer_messages, request), {}},
                       rpc::Priority::metadata, Instant::never());
    peer.in_flight[id.value] = {request.number, clock_.now()};
  }
}

void Peers::pump() {
  if (std::exchange(generation_, slots_.generation()) != slots_.generation())
    for (Peer& peer : peers_) lose(peer, "memory");
  for (Peer& peer : peers_) {
    check_time(peer);
    if (peer.phase == Phase::away && clock_.now() >= peer.dial_at) dial(peer);
    if (peer.begin) begin(peer);
    if (peer.phase == Phase::going) take_arrived(peer);
  }
  queue_outgoing();
  for (Peer& peer : peers_)
    if (peer.phase == Phase::going) send_queue(peer);
}

// ---- time

void Peers::check_time(Peer& peer) {
  const Instant now = clock_.now();
  if (peer.phase == Phase::asking && now - peer.asked_at >= kBeginMax) return lose(peer, "silent");
  const bool is_silent =
      std::any_of(peer.in_flight.begin(), peer.in_flight.end(),
                  [&](const auto& sent) { return now - sent.second.at >= kAnswerMax; });
  if (is_silent) lose(peer, "silent");
}

Instant Peers::deadline() const {
  Instant next = Instant::never();
  for (const Peer& peer : peers_) {
    if (peer.begin) return {};
    if (peer.phase == Phase::going && peer.arrived.contains(peer.expected)) return {};
    if (peer.phase == Phase::away) next = std::min(next, peer.dial_at);
    if (peer.phase == Phase::asking) next = std::min(next, peer.asked_at + kBeginMax);
    for (const auto& [id, sent] : peer.in_flight) next = std::min(next, sent.at + kAnswerMax);
  }
  return next;
}

// ---- answers

template <class Reply>
void Peers::answer(ReplyTarget target, wire::FlareOp op, const Reply& reply) {
  Answer told;
  told.target = target;
  told.op = op;
  told.body = wire::encode(reply);
  send_(std::move(told));
}

void Peers::refuse(ReplyTarget target, wire::FlareOp op, Code code) {
  Answer told;
  told.target = target;
  told.op = op;
  told.ok = false;
  told.code = code;
  send_(std::move(told));
}

}  // namespace magma
