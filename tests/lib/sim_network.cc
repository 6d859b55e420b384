#include "tests/lib/sim_network.h"

#include <algorithm>

#include "libmagma/base/check.h"

namespace magma::test {

SimNetwork::Port::~Port() { network_.ports_.erase(address_); }

void SimNetwork::Port::send(const sys::Address& to, ByteSpan bytes, std::size_t segment_size) {
  // What sys::Datagrams promises the real socket.
  MAGMA_CHECK(segment_size > 0 && !bytes.empty() && bytes.size() <= 65507);
  MAGMA_CHECK((bytes.size() + segment_size - 1) / segment_size <= 64);
  while (!bytes.empty()) {
    const std::size_t size = std::min(segment_size, bytes.size());
    network_.inject(address_, to, bytes.first(size));
    bytes = bytes.subspan(size);
  }
}

std::unique_ptr<SimNetwork::Port> SimNetwork::open(const sys::Address& address, Receive receive) {
  auto port = std::unique_ptr<Port>(new Port(*this, address, std::move(receive)));
  MAGMA_CHECK(ports_.emplace(address, port.get()).second);
  return port;
}

void SimNetwork::set_link_faults(const sys::Address& from, const sys::Address& to,
                                 const Faults& faults) {
  link_faults_[{from.ip, to.ip}] = faults;
}
void SimNetwork::cut(const sys::Address& from, const sys::Address& to) {
  cuts_.insert({from.ip, to.ip});
}
void SimNetwork::join(const sys::Address& from, const sys::Address& to) {
  cuts_.erase({from.ip, to.ip});
}

const Faults& SimNetwork::faults_of(const sys::Address& from, const sys::Address& to) const {
  const auto link = link_faults_.find({from.ip, to.ip});
  return link == link_faults_.end() ? faults_ : link->second;
}

void SimNetwork::inject(const sys::Address& from, const sys::Address& to, ByteSpan datagram) {
  ++datagrams_sent_;
  bytes_sent_ += datagram.size();
  if (tap_) tap_(from, to, datagram);
  transmit(from, to, datagram);
}

void SimNetwork::transmit(const sys::Address& from, const sys::Address& to, ByteSpan datagram) {
  const Faults& f = faults_of(from, to);
  if (cuts_.contains({from.ip, to.ip}) || datagram.size() > f.mtu || random_.chance(f.loss)) {
    ++datagrams_dropped_;
    return;
  }
  const int copies = random_.chance(f.duplicate) ? 2 : 1;
  for (int i = 0; i < copies; ++i) {
    Bytes bytes(datagram.begin(), datagram.end());
    if (!bytes.empty() && random_.chance(f.corrupt)) {
      for (std::uint64_t flips = 1 + random_.below(3); flips > 0; --flips)
        bytes[random_.below(bytes.size())] ^= static_cast<std::uint8_t>(1u << random_.below(8));
    }
    Duration delay = f.delay;
    if (f.jitter.ns > 0) delay = delay + nanoseconds(random_.between(0, f.jitter.ns));
    if (random_.chance(f.reorder))
      delay = delay + nanoseconds(random_.between(0, f.reorder_delay.ns));
    deliver_later(from, to, std::move(bytes), delay);
  }
}

void SimNetwork::deliver_later(const sys::Address& from, const sys::Address& to, Bytes datagram,
                               Duration delay) {
  after(delay, [this, from, to, bytes = std::move(datagram)]() mutable {
    const auto port = ports_.find(to);
    if (port == ports_.end()) {
      ++datagrams_dropped_;
      return;
    }
    port->second->receive_(from, bytes);
  });
}

void SimNetwork::schedule(Instant at, UniqueFunction<void()> event) {
  events_.push_back({std::max(at, clock_.now()), next_order_++, std::move(event)});
  std::push_heap(events_.begin(), events_.end(), Later{});
}

void SimNetwork::remove(Timed& timed) { std::erase(timed_, &timed); }

void SimNetwork::touch_all() {
  for (std::size_t i = 0; i < timed_.size(); ++i) timed_[i]->after_events();
}

bool SimNetwork::step(Instant limit) {
  touch_all();  // what was done since the last step may have something to send
  Timed* first = nullptr;
  Instant at = Instant::never();
  for (Timed* timed : timed_) {
    const Instant deadline = timed->deadline();
    if (deadline < at) {
      at = deadline;
      first = timed;
    }
  }
  if (!events_.empty() && events_.front().at <= at) {
    at = events_.front().at;
    first = nullptr;
  }
  if (at == Instant::never() || at > limit) return false;
  clock_.advance_to(std::max(at, clock_.now()));
  if (first != nullptr) {
    first->on_timer();
    return true;
  }
  std::pop_heap(events_.begin(), events_.end(), Later{});
  Event event = std::move(events_.back());
  events_.pop_back();
  event.run();
  return true;
}

void SimNetwork::run_for(Duration time) {
  const Instant end = clock_.now() + time;
  while (step(end)) {
  }
  clock_.advance_to(end);
}

bool SimNetwork::run_until(const std::function<bool()>& done, Duration time) {
  const Instant end = clock_.now() + time;
  while (!done()) {
    if (!step(end)) {
      clock_.advance_to(end);
      return done();
    }
  }
  return true;
}

}  // namespace magma::test
