#include "libmagma/client/links.h"

#include <algorithm>

#include "libmagma/base/check.h"
#include "libmagma/base/log.h"

namespace magma::client {

Links::Links(rpc::EndpointConfig config, std::string passphrase, sys::Clock& clock,
             sys::Random& random, sys::Datagrams& datagrams, LinkEvents& events)
    : clock_(clock),
      random_(random),
      events_(events),
      passphrase_(std::move(passphrase)),
      endpoint_(std::move(config), clock, random, datagrams, *this) {}

LinkIndex Links::add(const sys::Address& address) {
  auto known = by_address_.find(address);
  if (known != by_address_.end()) return known->second;
  if (links_.size() >= kLinksMax) return kNoLink;
  auto index = static_cast<LinkIndex>(links_.size());
  links_.emplace_back().address = address;
  by_address_.emplace(address, index);
  return index;
}

void Links::want(LinkIndex link) {
  if (links_[link].state == State::idle && !is_closed_) connect(link);
}

void Links::want_all() {
  for (std::size_t i = 0; i < links_.size(); ++i) want(static_cast<LinkIndex>(i));
}

void Links::connect(LinkIndex index) {
  Link& link = links_[index];
  link.state = State::connecting;
  link.connection =
      passphrase_.empty()
          ? endpoint_.connect(link.address, crypto::Role::client, kConnectPatience)
          : endpoint_.discover(link.address, kConnectPatience);
  by_connection_[link.connection] = index;
}

// Blocks for 70 ms (scrypt); once, unless volcanoes tell different UUIDs.
Result<void> Links::derive_keys(const crypto::Uuid& filesystem) {
  if (passphrase_.empty() || filesystem == derived_for_) return {};
  TRY_VALUE(crypto::Secret secret, crypto::secret_from_passphrase(passphrase_, filesystem));
  endpoint_.set_keys(crypto::keyring_from_network_secret(secret));
  derived_for_ = filesystem;
  return {};
}

void Links::on_hello(rpc::ConnectionId discovery, const crypto::Uuid& filesystem) {
  LinkIndex index = find(discovery);
  if (index == kNoLink) return;
  by_connection_.erase(discovery);
  Link& link = links_[index];
  if (auto derived = derive_keys(filesystem); !derived) {
    rest(link);
    return events_.on_link_down(index, derived.error());
  }
  link.connection = endpoint_.connect(link.address, crypto::Role::client, kConnectPatience);
  by_connection_[link.connection] = index;
}

// Waits before the next attempt: a little less than the back-off, so that clients that lost the
// same volcano do not come back as one.
void Links::rest(Link& link) {
  auto less = static_cast<std::int64_t>(random_.next() % 256) * link.backoff.ns / 1024;
  link.state = State::resting;
  link.rest_until = clock_.now() + link.backoff - nanoseconds(less);
  link.backoff = std::min(link.backoff * 2, kBackoffLast);
}

LinkIndex Links::find(rpc::ConnectionId connection) const {
  auto found = by_connection_.find(connection);
  return found == by_connection_.end() ? kNoLink : found->second;
}

rpc::RequestId Links::send(LinkIndex index, rpc::Message message, rpc::Priority priority,
                           Instant deadline, Token token) {
  Link& link = links_[index];
  MAGMA_CHECK(link.state == State::up);
  rpc::RequestId request =
      endpoint_.call(link.connection, std::move(message), priority, deadline);
  link.tokens.put(request.value, token);
  ++in_flight_;
  return request;
}

void Links::cancel(LinkIndex index, rpc::RequestId request) {
  Link& link = links_[index];
  if (link.tokens.take(request.value) == 0) return;
  --in_flight_;
  endpoint_.cancel(link.connection, request);
}

void Links::close_all() {
  is_closed_ = true;
  endpoint_.close_all();
  for (Link& link : links_) {
    link.state = State::idle;
    link.tokens.clear();
  }
  by_connection_.clear();
  up_ = 0;
  in_flight_ = 0;
}

void Links::on_connected(rpc::ConnectionId connection, const rpc::PeerInfo& peer) {
  LinkIndex index = find(connection);
  if (index == kNoLink) return;
  Link& link = links_[index];
  if (knows_filesystem_ && peer.filesystem != filesystem_) {
    log_warning("volcano_of_another_filesystem address={}", link.address.text());
    endpoint_.close(connection);
    by_connection_.erase(connection);
    rest(link);
    events_.on_link_down(index, Error{Code::wrong_filesystem, link.address.text()});
    return;
  }
  filesystem_ = peer.filesystem;
  knows_filesystem_ = true;
  passphrase_.assign(passphrase_.size(), '\0');
  passphrase_.clear();
  link.state = State::up;
  ++up_;
  if (link.was_up) ++reconnects_;
  link.was_up = true;
  log_debug('n', "link_up address={}", link.address.text());
  events_.on_link_up(index);
}

void Links::on_closed(rpc::ConnectionId connection, const Error& reason) {
  LinkIndex index = find(connection);
  if (index == kNoLink) return;
  by_connection_.erase(connection);
  Link& link = links_[index];
  if (link.state == State::up) --up_;
  in_flight_ -= link.tokens.size();
  link.tokens.clear();
  rest(link);
  log_debug('n', "link_down address={} reason={}", link.address.text(), describe(reason));
  events_.on_link_down(index, reason);
}

void Links::on_response(rpc::ConnectionId connection, rpc::RequestId request,
                        Result<ByteSpan> message) {
  LinkIndex index = find(connection);
  if (index == kNoLink) return;
  Link& link = links_[index];
  Token token = link.tokens.take(request.value);
  if (token == 0) return;  // given up
  --in_flight_;
  if (message) link.backoff = kBackoffFirst;
  events_.on_answer(index, token, std::move(message));
}

Instant Links::deadline() const {
  Instant first = endpoint_.deadline();
  for (const Link& link : links_)
    if (link.state == State::resting) first = std::min(first, link.rest_until);
  return first;
}

void Links::on_timer() {
  endpoint_.on_timer();
  Instant now = clock_.now();
  for (std::size_t i = 0; i < links_.size(); ++i) {
    if (links_[i].state != State::resting || links_[i].rest_until > now) continue;
    links_[i].state = State::idle;
    auto index = static_cast<LinkIndex>(i);
    if (events_.is_link_wanted(index)) want(index);
  }
}

}  // namespace magma::client
