#include "libmagma/rpc/endpoint.h"

#include <algorithm>

#include "libmagma/base/check.h"

namespace magma::rpc {

namespace {
constexpr std::size_t kBurstBytes = 65507;
constexpr std::uint32_t kCreditBytesMin = 128 * 1024;
constexpr Duration kHalfOpenLife = seconds(10);
constexpr std::uint64_t kIdPlaceMask = 0xffff;
// Ids of calls that were never made: apart from those of any connection.
constexpr std::uint64_t kRefusedIds = std::uint64_t{1} << 63;
}  // namespace

EndpointImpl::EndpointImpl(EndpointConfig config, sys::Clock& clock, sys::Random& random,
                           sys::Datagrams& datagrams, Handler& handler)
    : config_(std::move(config)),
      clock_(clock),
      random_(random),
      relay_(datagrams, *this, config_.accepts),
      datagrams_(relay_),
      handler_(handler),
      shared_{.config = config_,
              .random = random,
              .datagrams = relay_,
              .handler = handler,
              .counters = counters_,
              .buffers = {},
              .burst = Bytes(kBurstBytes)},
      cookies_(random),
      boot_id_(config_.boot_id != 0 ? config_.boot_id : random.next()),
      next_counter_(static_cast<std::uint32_t>(random.next())),
      next_refused_id_(kRefusedIds) {
  MAGMA_CHECK(config_.limits.connections_max <= kIdPlaceMask);
  MAGMA_CHECK(config_.datagram_bytes_max >= PathMtu::kBaseBytes &&
              config_.datagram_bytes_loopback >= PathMtu::kBaseBytes &&
              config_.datagram_bytes_loopback <= kBurstBytes &&
              config_.datagram_bytes_max <= kBurstBytes);
  share_credit();
}

EndpointImpl::Entry* EndpointImpl::find(std::uint64_t id) {
  const std::size_t place = id & kIdPlaceMask;
  if (id == 0 || place >= entries_.size() || entries_[place]->id != id) return nullptr;
  return entries_[place].get();
}

const EndpointImpl::Entry* EndpointImpl::find(std::uint64_t id) const {
  return const_cast<EndpointImpl*>(this)->find(id);
}

EndpointImpl::Entry* EndpointImpl::allocate(Instant now) {
  std::uint32_t place;
  if (!free_.empty()) {
    place = free_.back();
    free_.pop_back();
  } else {
    if (entries_.size() >= config_.limits.connections_max) return nullptr;
    place = static_cast<std::uint32_t>(entries_.size());
    entries_.push_back(std::make_unique<Entry>());
  }
  if (++next_counter_ == 0) ++next_counter_;
  Entry& entry = *entries_[place];
  entry = Entry{};
  entry.id = std::uint64_t{next_counter_} << 16 | place;
  entry.made = now;
  return &entry;
}

void EndpointImpl::free_entry(Entry& entry) {
  const auto place = static_cast<std::uint32_t>(entry.id & kIdPlaceMask);
  entry = Entry{};
  free_.push_back(place);
}

void EndpointImpl::mark_dirty(Entry& entry) {
  if (entry.is_dirty) return;
  entry.is_dirty = true;
  dirty_.push_back(entry.id);
}

void EndpointImpl::share_credit() {
  const auto half = static_cast<std::uint32_t>(
      std::min<std::size_t>(datagrams_.receive_buffer_bytes() / 2, 1u << 30));
  const auto share = half / static_cast<std::uint32_t>(std::max<std::size_t>(count_, 1));
  shared_.credit_bytes = std::max(share, std::min(kCreditBytesMin, half));
  for (auto& entry : entries_) {
    if (!entry->connection) continue;
    entry->connection->on_credit_changed();
    mark_dirty(*entry);
  }
}

// Takes the connection out of the table first: callbacks find it gone.
void EndpointImpl::end(Entry& entry, const Error& reason, bool tell, bool notify, Instant now) {
  const ConnectionId id{entry.id};
  const bool was_announced = entry.is_announced;
  Sweep sweep(*this);
  if (!entry.connection) {
    free_entry(entry);
    if (notify) handler_.on_closed(id, reason);
    return;
  }
  forget_peer(entry);
  ended_.push_back(std::move(entry.connection));
  Connection& connection = *ended_.back();
  free_entry(entry);
  was_announced ? --count_ : --half_open_;
  connection.close(tell, now);
  share_credit();
  if (notify && was_announced) handler_.on_closed(id, reason);
}

void EndpointImpl::end_if_failed(std::uint64_t id, Instant now) {
  Entry* entry = find(id);
  if (entry == nullptr || !entry->connection || !entry->connection->failure()) return;
  const Error reason = *entry->connection->failure();
  end(*entry, reason, reason.code != Code::connection_closed, true, now);
}

void EndpointImpl::close(ConnectionId connection) {
  if (Entry* entry = find(connection.value))
    end(*entry, Error{Code::connection_closed}, true, false, clock_.now());
}

void EndpointImpl::close_all() {
  for (std::size_t i = 0; i < entries_.size(); ++i)
    if (entries_[i]->id != 0) close(ConnectionId{entries_[i]->id});
}

RequestId EndpointImpl::call(ConnectionId connection, Message message, Priority priority,
                             Instant deadline) {
  Entry* entry = find(connection.value);
  Result<RequestId> made = magma::fail(Code::connection_closed);
  if (entry != nullptr && entry->connection && entry->is_announced) {
    made = entry->connection->call(std::move(message), priority, deadline);
    mark_dirty(*entry);
  }
  if (made) return *made;
  const RequestId request{next_refused_id_++};
  deferred_.push_back({connection, request, std::move(made).error()});
  return request;
}

void EndpointImpl::reply(ConnectionId connection, RequestId request, Message message,
                         Priority priority) {
  Entry* entry = find(connection.value);
  if (entry == nullptr || !entry->connection) return;
  entry->connection->reply(request, std::move(message), priority);
  mark_dirty(*entry);
}

void EndpointImpl::cancel(ConnectionId connection, RequestId request) {
  Sweep sweep(*this);
  Entry* entry = find(connection.value);
  if (entry != nullptr && entry->connection) {
    mark_dirty(*entry);
    entry->connection->cancel(request);
    return;
  }
  for (std::size_t i = 0; i < deferred_.size(); ++i) {
    if (deferred_[i].request != request || deferred_[i].connection != connection) continue;
    deferred_.erase(deferred_.begin() + static_cast<std::ptrdiff_t>(i));
    handler_.on_response(connection, request, magma::fail(Code::cancelled));
    return;
  }
}

std::size_t EndpointImpl::unacknowledged(ConnectionId connection, RequestId request) const {
  const Entry* entry = find(connection.value);
  if (entry == nullptr || !entry->connection) return 0;
  return entry->connection->unacknowledged(request);
}

void EndpointImpl::deliver_deferred() {
  std::vector<Deferred> due;
  due.swap(deferred_);
  for (const Deferred& d : due)
    handler_.on_response(d.connection, d.request, magma::fail(d.error));
  std::vector<ConnectionId> closed;
  closed.swap(deferred_closed_);
  for (ConnectionId id : closed)
    handler_.on_closed(id, Error{Code::overloaded, "too many connections"});
}

void EndpointImpl::settle(std::uint64_t id, Instant now) {
  Entry* entry = find(id);
  if (entry == nullptr || !entry->connection) return;
  if (!entry->connection->failure()) entry->connection->flush(now);
  end_if_failed(id, now);
  entry = find(id);
  if (entry != nullptr && entry->connection) arm(entry->connection->deadline(now));
}

void EndpointImpl::flush() {
  Sweep sweep(*this);
  if (!deferred_.empty() || !deferred_closed_.empty()) deliver_deferred();
  if (dirty_.empty()) return;
  const Instant now = clock_.now();
  for (std::size_t i = 0; i < dirty_.size(); ++i) {  // may grow meanwhile
    const std::uint64_t id = dirty_[i];
    if (Entry* entry = find(id)) {
      entry->is_dirty = false;
      settle(id, now);
    }
  }
  dirty_.clear();
}

Instant EndpointImpl::deadline() const {
  return deferred_.empty() && deferred_closed_.empty() ? armed_ : Instant{};
}

void EndpointImpl::on_timer() {
  Sweep sweep(*this);
  const Instant now = clock_.now();
  if (now >= armed_) {
    armed_ = Instant::never();
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      if (entries_[i]->id == 0) continue;
      const std::uint64_t id = entries_[i]->id;
      if (entries_[i]->dial) {
        dial_timer(*entries_[i], now);
        Entry* entry = find(id);
        if (entry != nullptr && entry->dial) arm(dial_deadline(*entry->dial));
        continue;
      }
      Entry& entry = *entries_[i];
      if (!entry.is_announced) {
        if (now - entry.made >= kHalfOpenLife) {
          end(entry, Error{Code::timeout}, false, false, now);
          continue;
        }
        arm(entry.made + kHalfOpenLife);
        continue;
      }
      if (entry.connection->deadline(now) <= now) entry.connection->on_timer(now);
      settle(id, now);
    }
  }
  flush();
}

bool EndpointImpl::is_connected(ConnectionId connection) const {
  const Entry* entry = find(connection.value);
  return entry != nullptr && entry->connection && entry->is_announced;
}

std::size_t EndpointImpl::datagram_bytes(ConnectionId connection) const {
  return is_connected(connection) ? find(connection.value)->connection->datagram_bytes() : 0;
}

Instant EndpointImpl::waiting_since(ConnectionId connection) const {
  return is_connected(connection) ? find(connection.value)->connection->waiting_since()
                                  : Instant::never();
}

// Of a connection that is established: its peer may have moved.
void EndpointImpl::note_peer(Entry& entry) {
  const sys::Address& address = entry.connection->peer().address;
  if (entry.peer == address) return;
  forget_peer(entry);
  entry.peer = address;
  ++peers_[address];
}

void EndpointImpl::forget_peer(Entry& entry) {
  if (!entry.peer) return;
  auto found = peers_.find(*entry.peer);
  if (--found->second == 0) peers_.erase(found);
  entry.peer.reset();
}

const Counters& EndpointImpl::counters() const {
  const Relay::Stats& relayed = relay_.stats();
  counters_.packets_relayed = relayed.passed;
  counters_.bytes_relayed = relayed.passed_bytes;
  counters_.packets_not_relayed = relayed.refused;
  return counters_;
}

void EndpointImpl::on_datagram(const sys::Address& from, MutableByteSpan datagram) {
  if (!is_relay_packet(datagram)) return on_packet(from, datagram);
  if (auto arrived = relay_.take(from, datagram)) on_packet(arrived->from, arrived->packet);
}

void EndpointImpl::on_packet(const sys::Address& from, MutableByteSpan datagram) {
  Sweep sweep(*this);
  Header header;
  ++counters_.packets_received;
  counters_.bytes_received += datagram.size();
  if (!read_header(datagram, header)) {
    ++counters_.packets_malformed;
    return;
  }
  const Instant now = clock_.now();
  switch (header.type) {
    case PacketType::data: on_data(from, header, datagram, now); break;
    case PacketType::hello: on_hello(from, datagram, now); break;
    case PacketType::hello_answer: on_hello_answer(from, header, datagram, now); break;
    case PacketType::init: on_init(from, datagram, now); break;
    case PacketType::init_answer: on_init_answer(from, header, datagram, now); break;
    case PacketType::reset: on_reset(from, header, datagram, now); break;
  }
}

// --- the public face ---

Endpoint::Endpoint(EndpointConfig config, sys::Clock& clock, sys::Random& random,
                   sys::Datagrams& datagrams, Handler& handler)
    : impl_(std::make_unique<EndpointImpl>(std::move(config), clock, random, datagrams,
                                           handler)) {}
Endpoint::~Endpoint() = default;

ConnectionId Endpoint::connect(const sys::Address& to, crypto::Role role, Duration patience) {
  return impl_->connect(to, role, patience, false);
}
ConnectionId Endpoint::discover(const sys::Address& to, Duration patience) {
  return impl_->connect(to, crypto::Role::client, patience, true);
}
void Endpoint::set_keys(const crypto::Keyring& keys) { impl_->set_keys(keys); }
void Endpoint::close(ConnectionId connection) { impl_->close(connection); }
void Endpoint::close_all() { impl_->close_all(); }
RequestId Endpoint::call(ConnectionId connection, Message message, Priority priority,
                         Instant deadline) {
  return impl_->call(connection, std::move(message), priority, deadline);
}
void Endpoint::reply(ConnectionId connection, RequestId request, Message message,
                     Priority priority) {
  impl_->reply(connection, request, std::move(message), priority);
}
void Endpoint::cancel(ConnectionId connection, RequestId request) {
  impl_->cancel(connection, request);
}
std::size_t Endpoint::unacknowledged(ConnectionId connection, RequestId request) const {
  return impl_->unacknowledged(connection, request);
}
void Endpoint::on_datagram(const sys::Address& from, MutableByteSpan datagram) {
  impl_->on_datagram(from, datagram);
}
void Endpoint::flush() { impl_->flush(); }
Instant Endpoint::deadline() const { return impl_->deadline(); }
void Endpoint::on_timer() { impl_->on_timer(); }
bool Endpoint::is_connected(ConnectionId connection) const {
  return impl_->is_connected(connection);
}
std::size_t Endpoint::connection_count() const { return impl_->connection_count(); }
std::size_t Endpoint::datagram_bytes(ConnectionId connection) const {
  return impl_->datagram_bytes(connection);
}
Instant Endpoint::waiting_since(ConnectionId connection) const {
  return impl_->waiting_since(connection);
}
void Endpoint::set_volcanoes(const std::vector<sys::Address>& volcanoes) {
  impl_->set_volcanoes(volcanoes);
}
const Counters& Endpoint::counters() const { return impl_->counters(); }

}  // namespace magma::rpc
