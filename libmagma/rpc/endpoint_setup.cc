// Set-up of connections, both sides, and the packets that belong to none. The wire is described in
// handshaking.h. A stranger costs a server one HMAC and no memory.
#include <algorithm>

#include "libmagma/base/check.h"
#include "libmagma/rpc/endpoint.h"

namespace magma::rpc {

namespace {
constexpr Duration kFirstRetry = milliseconds(50);
constexpr Duration kHelloRetryMax = seconds(1);
constexpr Duration kInitRetryMax = milliseconds(200);
// HELLO answered, INIT not: the server could not read our INIT.
constexpr Duration kInitPatience = milliseconds(1500);
constexpr unsigned kInitsOfAnAttempt = 4;
constexpr std::size_t kHalfOpenMax = 1024;
constexpr std::size_t kKnownInitsMax = 65536;
constexpr std::uint32_t kUnscheduledLoopback = 8u << 20;
constexpr unsigned kResetsMax = 100;                     // in each kResetPeriod
constexpr Duration kResetPeriod = milliseconds(100);
constexpr std::size_t kResetBytes = kHeaderBytes + kSealBytes;

std::uint64_t key_of(const Nonce& nonce) { return load64(nonce.data()); }
}  // namespace

ConnectionId EndpointImpl::connect(const sys::Address& to, crypto::Role role, Duration patience,
                                   bool is_discovery) {
  const Instant now = clock_.now();
  Entry* entry = allocate(now);
  if (entry == nullptr) {
    deferred_closed_.push_back(ConnectionId{next_refused_id_++});
    return deferred_closed_.back();
  }
  entry->dial = std::make_unique<Dial>();
  Dial& dial = *entry->dial;
  dial.to = to;
  dial.is_discovery = is_discovery;
  dial.give_up = now + patience;
  dial.hello = {.version_min = kVersionMin,
                .version_max = kVersionMax,
                .role = role,
                .shard = config_.shard,
                .connection = entry->id};
  if (role == crypto::Role::ring && !config_.keys.ring) {
    fail_dial(*entry, Error{Code::wrong_key, "no ring key"});
  } else {
    send_hello(dial, now);
    arm(dial_deadline(dial));
  }
  return ConnectionId{entry->id};
}

// A new attempt with a new nonce: the answer to an earlier one may have been damaged or forged.
void EndpointImpl::send_hello(Dial& dial, Instant now) {
  random_.fill(dial.hello.nonce);
  dial.answer.reset();
  dial.initiator.reset();
  dial.packet = encode_hello(0, dial.hello);
  dial.backoff = kFirstRetry;
  dial.next_try = now + dial.backoff;
  send_set_up(dial.to, dial.packet);
}

void EndpointImpl::send_set_up(const sys::Address& to, ByteSpan packet) {
  datagrams_.send(to, packet, packet.size());
  ++counters_.packets_sent;
  counters_.bytes_sent += packet.size();
}

// Told by the next on_timer(): never from within the call that found it.
void EndpointImpl::fail_dial(Entry& entry, Error reason) {
  entry.dial->refused = std::move(reason);
  arm(Instant{});
}

Instant EndpointImpl::dial_deadline(const Dial& dial) const {
  if (dial.refused) return Instant{};
  Instant first = std::min(dial.give_up, dial.next_try);
  if (dial.answered != Instant::never()) first = std::min(first, dial.answered + kInitPatience);
  return first;
}

void EndpointImpl::dial_timer(Entry& entry, Instant now) {
  Dial& dial = *entry.dial;
  if (dial.refused) {
    const Error reason = *dial.refused;
    end(entry, reason, false, true, now);
    return;
  }
  const bool was_answered = dial.answered != Instant::never();
  if (was_answered && now >= std::min(dial.give_up, dial.answered + kInitPatience)) {
    end(entry, Error{Code::wrong_key, dial.to.text()}, false, true, now);
    return;
  }
  if (now >= dial.give_up) {
    end(entry, Error{Code::unreachable, dial.to.text()}, false, true, now);
    return;
  }
  if (now < dial.next_try) return;
  if (dial.answer && dial.init_count >= kInitsOfAnAttempt) {
    send_hello(dial, now);
    return;
  }
  send_set_up(dial.to, dial.packet);
  if (dial.answer) ++dial.init_count;
  dial.backoff = std::min(dial.backoff * 2, dial.answer ? kInitRetryMax : kHelloRetryMax);
  dial.next_try = now + dial.backoff;
}

HelloAnswer EndpointImpl::make_answer(const Hello& hello) const {
  HelloAnswer answer;
  answer.version = common_version(hello.version_min, hello.version_max);
  answer.version_min = kVersionMin;
  answer.version_max = kVersionMax;
  answer.shard = config_.shard;
  answer.filesystem = config_.filesystem;
  answer.nonce = hello.nonce;
  return answer;
}

void EndpointImpl::on_hello(const sys::Address& from, ByteSpan packet, Instant now) {
  if (!config_.accepts) {
    ++counters_.packets_unknown;
    return;
  }
  const std::optional<Hello> hello = decode_hello(packet);
  if (!hello) {
    ++counters_.packets_malformed;
    return;
  }
  HelloAnswer answer = make_answer(*hello);
  random_.fill(answer.server_nonce);
  answer.cookie = cookies_.make(from, *hello, answer, now);
  const Bytes reply = encode_hello_answer(*hello, answer);
  MAGMA_CHECK(reply.size() <= packet.size());
  send_set_up(from, reply);
}

void EndpointImpl::on_hello_answer(const sys::Address& from, const Header& header,
                                   ByteSpan packet, Instant now) {
  Entry* entry = find(header.connection);
  const std::optional<HelloAnswer> answer = decode_hello_answer(packet);
  if (!answer) {
    ++counters_.packets_malformed;
    return;
  }
  if (entry == nullptr || !entry->dial || entry->dial->answer || entry->dial->refused ||
      from != entry->dial->to || answer->nonce != entry->dial->hello.nonce) {
    ++counters_.packets_unknown;
    return;
  }
  Dial& dial = *entry->dial;
  if (answer->version < kVersionMin || answer->version > kVersionMax) {
    // It could have chosen one of ours: then it did not say this.
    if (common_version(answer->version_min, answer->version_max) != 0) return;
    fail_dial(*entry, Error{Code::wrong_version, dial.to.text()});
    return;
  }
  if (dial.is_discovery) {
    const ConnectionId id{entry->id};
    free_entry(*entry);
    handler_.on_hello(id, answer->filesystem);
    return;
  }
  if (config_.filesystem != crypto::Uuid{} && config_.filesystem != answer->filesystem) {
    fail_dial(*entry, Error{Code::wrong_filesystem, dial.to.text()});
    return;
  }
  dial.answer = *answer;
  dial.answered = std::min(dial.answered, now);
  dial.first_init = now;
  const crypto::Suite suite = crypto::preferred_suite();
  const crypto::Secret& psk =
      dial.hello.role == crypto::Role::ring ? *config_.keys.ring : config_.keys.client;
  dial.initiator.emplace(suite, psk, make_prologue(dial.hello, *answer, suite), random_);
  const Bytes noise =
      dial.initiator->write_first(encode_parameters(own_parameters(dial.to, entry->id)));
  dial.packet = encode_init(answer->shard, {.hello = dial.hello,
                                            .version = answer->version,
                                            .suite = suite,
                                            .server_nonce = answer->server_nonce,
                                            .cookie = answer->cookie,
                                            .noise = noise});
  dial.init_count = 1;
  dial.backoff = kFirstRetry;
  dial.next_try = now + dial.backoff;
  send_set_up(dial.to, dial.packet);
  arm(dial_deadline(dial));
}

Parameters EndpointImpl::own_parameters(const sys::Address& peer, std::uint64_t id) const {
  const bool is_near = peer.is_loopback();
  const Limits& limits = config_.limits;
  // A datagram must leave room for others in the receive buffer.
  const std::size_t datagram =
      is_near ? std::clamp<std::size_t>(datagrams_.receive_buffer_bytes() / 4, kHelloBytes,
                                        config_.datagram_bytes_loopback)
              : config_.datagram_bytes_max;
  return {.boot_id = boot_id_,
          .connection = id,
          .datagram_bytes = static_cast<std::uint32_t>(datagram),
          .message_bytes_max = static_cast<std::uint32_t>(limits.message_bytes_max),
          .requests_max = static_cast<std::uint32_t>(limits.requests_in_flight_max),
          .credit_bytes = shared_.credit_bytes,
          .unscheduled_bytes =
              is_near ? static_cast<std::uint32_t>(std::min<std::size_t>(
                            kUnscheduledLoopback, limits.incoming_bytes_max / 2))
                      : kUnscheduledBytes};
}

void EndpointImpl::forget_old_inits(Instant now) {
  const std::uint64_t generation = cookies_.generation(now);
  if (generation == known_generation_) return;
  known_generation_ = generation;
  for (auto it = known_inits_.begin(); it != known_inits_.end();) {
    const bool is_old = it->second.generation + 1 < generation;
    it = is_old && find(it->second.connection) == nullptr ? known_inits_.erase(it)
                                                          : std::next(it);
  }
}

void EndpointImpl::on_init(const sys::Address& from, ByteSpan packet, Instant now) {
  const std::optional<Init> init = config_.accepts ? decode_init(packet) : std::nullopt;
  if (!init) {
    ++(config_.accepts ? counters_.packets_malformed : counters_.packets_unknown);
    return;
  }
  HelloAnswer answer = make_answer(init->hello);
  answer.server_nonce = init->server_nonce;
  answer.cookie = init->cookie;
  if (answer.version == 0 || answer.version != init->version ||
      !cookies_.is_good(from, init->hello, answer, now)) {
    ++counters_.packets_unauthentic;
    return;
  }
  forget_old_inits(now);
  const std::uint64_t nonce_key = key_of(init->hello.nonce);
  if (auto known = known_inits_.find(nonce_key); known != known_inits_.end()) {
    // A duplicate: the client may not have got the answer. It is never a second connection.
    Entry* entry = find(known->second.connection);
    if (entry != nullptr && !entry->init_answer.empty()) {
      send_set_up(from, entry->init_answer);
    } else {
      ++counters_.packets_replayed;
    }
    return;
  }
  accept(from, *init, answer, nonce_key, now);
}

void EndpointImpl::accept(const sys::Address& from, const Init& init, const HelloAnswer& answer,
                          std::uint64_t nonce_key, Instant now) {
  const bool is_ring = init.hello.role == crypto::Role::ring;
  if (half_open_ >= kHalfOpenMax || known_inits_.size() >= kKnownInitsMax ||
      (is_ring && !config_.keys.ring)) {
    ++counters_.handshakes_refused;
    return;
  }
  crypto::Responder responder(init.suite, is_ring ? *config_.keys.ring : config_.keys.client,
                              make_prologue(init.hello, answer, init.suite), random_);
  Result<Bytes> payload = responder.read_first(init.noise);
  if (!payload) {
    ++counters_.handshakes_refused;
    ++counters_.packets_unauthentic;
    return;
  }
  const std::optional<Parameters> parameters = decode_parameters(*payload);
  if (!parameters || parameters->connection != init.hello.connection) {
    ++counters_.handshakes_refused;
    ++counters_.packets_malformed;
    return;
  }
  Entry* entry = allocate(now);
  if (entry == nullptr) {
    ++counters_.handshakes_refused;
    return;
  }
  auto finished = responder.write_second(encode_parameters(own_parameters(from, entry->id)));
  Bytes packet(kHeaderBytes);
  write_header(packet.data(), {.shard = init.hello.shard,
                               .type = PacketType::init_answer,
                               .connection = init.hello.connection});
  packet.insert(packet.end(), finished.message.begin(), finished.message.end());
  known_inits_[nonce_key] = {.connection = entry->id, .generation = cookies_.generation(now)};
  make_connection(*entry, from, init.hello.role, config_.filesystem, init.hello.shard,
                  *parameters, finished.keys, std::nullopt, now);
  ++half_open_;
  arm(now);
  entry->init_answer = std::move(packet);
  send_set_up(from, entry->init_answer);
}

void EndpointImpl::on_init_answer(const sys::Address& from, const Header& header,
                                  ByteSpan packet, Instant now) {
  Entry* entry = find(header.connection);
  if (entry == nullptr || !entry->dial || !entry->dial->initiator || from != entry->dial->to) {
    ++counters_.packets_unknown;
    return;
  }
  Dial& dial = *entry->dial;
  auto finished = dial.initiator->read_second(packet.subspan(kHeaderBytes));
  if (!finished) {
    ++counters_.packets_unauthentic;
    return;
  }
  const std::optional<Parameters> parameters = decode_parameters(finished->payload);
  if (!parameters) {
    ++counters_.packets_malformed;
    return;
  }
  std::optional<Duration> round_trip;
  if (dial.init_count == 1) round_trip = now - dial.first_init;
  make_connection(*entry, dial.to, dial.hello.role, dial.answer->filesystem, dial.answer->shard,
                  *parameters, finished->keys, round_trip, now);
  entry->dial.reset();
  ++half_open_;
  entry->connection->ping();  // tells the server that we have its answer
  announce(*entry, now);
}

void EndpointImpl::make_connection(Entry& entry, const sys::Address& peer, crypto::Role role,
                                   const crypto::Uuid& filesystem, std::uint8_t peer_shard,
                                   const Parameters& parameters, const crypto::SessionKeys& keys,
                                   std::optional<Duration> round_trip, Instant now) {
  const std::size_t own = peer.is_loopback() ? config_.datagram_bytes_loopback
                                             : config_.datagram_bytes_max;
  Connection::Setup setup;
  setup.id = ConnectionId{entry.id};
  setup.peer = {.address = peer,
                .role = role,
                .filesystem = filesystem,
                .boot_id = parameters.boot_id};
  setup.peer_shard = peer_shard;
  setup.peer_parameters = parameters;
  setup.datagram_bytes_max = std::min(static_cast<std::uint32_t>(own), parameters.datagram_bytes);
  setup.round_trip = round_trip;
  entry.connection = std::make_unique<Connection>(shared_, setup, keys, now);
}

// Both sides now know that the other has the keys.
void EndpointImpl::announce(Entry& entry, Instant now) {
  const std::uint64_t id = entry.id;
  entry.is_announced = true;
  entry.init_answer = {};
  --half_open_;
  ++count_;
  ++counters_.handshakes;
  note_peer(entry);
  mark_dirty(entry);
  const PeerInfo peer = entry.connection->peer();
  share_credit();
  // Who was at this address before a restart is gone for good.
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    Entry& other = *entries_[i];
    if (other.id == id || !other.connection || !other.is_announced) continue;
    const PeerInfo& before = other.connection->peer();
    if (before.address == peer.address && before.boot_id != peer.boot_id)
      end(other, Error{Code::connection_closed, "the peer has restarted"}, false, true, now);
  }
  if (find(id) != nullptr) handler_.on_connected(ConnectionId{id}, peer);
}

void EndpointImpl::on_data(const sys::Address& from, const Header& header,
                           MutableByteSpan datagram, Instant now) {
  Entry* entry = find(header.connection);
  if (entry == nullptr || !entry->connection) {
    ++counters_.packets_unknown;
    if (entry == nullptr) send_reset(from, header, datagram.size(), now);
    return;
  }
  Connection* connection = entry->connection.get();
  const std::optional<MutableByteSpan> frames = connection->open(header, datagram);
  if (!frames) return;
  if (!entry->is_announced) announce(*entry, now);
  if (connection->is_closed()) return;
  if (Entry* known = find(header.connection)) mark_dirty(*known);
  connection->on_packet(from, header, *frames, now);
  Entry* still = find(header.connection);
  if (still != nullptr && still->is_announced) note_peer(*still);
}

void EndpointImpl::send_reset(const sys::Address& to, const Header& header, std::size_t room,
                              Instant now) {
  if (room <= kResetBytes) return;
  if (now - resets_since_ >= kResetPeriod) {
    resets_since_ = now;
    resets_sent_ = 0;
  }
  if (resets_sent_++ >= kResetsMax) return;
  std::uint8_t packet[kResetBytes];
  write_header(packet, {.type = PacketType::reset,
                        .connection = header.connection,
                        .number = header.number});
  const auto tag = reset_tag(config_.keys.client, {packet, kHeaderBytes});
  std::copy(tag.begin(), tag.end(), packet + kHeaderBytes);
  send_set_up(to, packet);
}

void EndpointImpl::on_reset(const sys::Address& from, const Header& header, ByteSpan packet,
                            Instant now) {
  for (auto& entry : entries_) {
    if (!entry->connection || entry->connection->peer().address != from ||
        entry->connection->peer_connection() != header.connection)
      continue;
    const auto tag = reset_tag(config_.keys.client, packet.first(kHeaderBytes));
    if (!equal_tags(tag, packet.subspan(kHeaderBytes))) {
      ++counters_.packets_unauthentic;
      return;
    }
    entry->connection->on_reset(header.number, now);
    mark_dirty(*entry);
    return;
  }
  ++counters_.packets_unknown;
}

}  // namespace magma::rpc
