#include "libmagma/client/links.h"

#include <algorithm>

#include "libmagma/base/check.h"
#include "libmagma/base/log.h"

namespace magma::client {

Links::Links(rpc::EndpointConfig config, std::string passphrase, Reach reach, sys::Clock& clock,
             sys::Random& random, sys::Datagrams& datagrams, LinkEvents& events)
    : clock_(clock),
      random_(random),
      events_(events),
      reach_(reach),
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

LinkIndex Links::add_host(const sys::Address& address) {
  const LinkIndex link = add(address);
  if (link != kNoLink) links_[link].is_host = true;
  return link;
}

void Links::want(LinkIndex link) {
  if (links_[link].state == State::idle && !is_closed_) connect(link);
}

void Links::want_all() {
  for (std::size_t i = 0; i < links_.size(); ++i) want(static_cast<LinkIndex>(i));
}

// Of those who are connected directly the next one after the last that was tried; kNoLink: there
// is none.
LinkIndex Links::next_relay(LinkIndex index) const {
  const Link& link = links_[index];
  const std::size_t start = link.relay == kNoLink ? 0 : link.relay + 1u;
  for (std::size_t i = 0; i < links_.size(); ++i) {
    const auto other = static_cast<LinkIndex>((start + i) % links_.size());
    const Link& relay = links_[other];
    const bool is_direct = relay.state == State::up && relay.relay == kNoLink;
    if (is_direct && other != index && (relay.is_host || reach_ != Reach::proxy)) return other;
  }
  return kNoLink;
}

// Through whom to dial; kNoLink: directly.
LinkIndex Links::choose_relay(LinkIndex index) const {
  const Link& link = links_[index];
  const bool is_missed = link.misses % (kDirectAttempts + 1) == kDirectAttempts;
  if (reach_ == Reach::direct || (may_be_direct(link) && !is_missed)) return kNoLink;
  return next_relay(index);
}

void Links::connect(LinkIndex index) {
  Link& link = links_[index];
  link.relay = choose_relay(index);
  if (link.relay == kNoLink && !may_be_direct(link)) {
    for (std::size_t i = 0; i < links_.size(); ++i)  // no way yet; later
      if (links_[i].is_host) want(static_cast<LinkIndex>(i));
    return rest(link);
  }
  link.state = State::connecting;
  const sys::Address to = link.relay == kNoLink
                              ? link.address
                              : link.address.through(links_[link.relay].address);
  link.connection = passphrase_.empty()
                        ? endpoint_.connect(to, crypto::Role::client, kConnectPatience)
                        : endpoint_.discover(to, kConnectPatience);
  by_connection_[link.connection] = index;
}

std::size_t Links::relayed() const {
  return static_cast<std::size_t>(std::count_if(links_.begin(), links_.end(), [](const Link& l) {
    return l.state == State::up && l.relay != kNoLink;
  }));
}

bool Links::is_silent(const Link& link) const {
  const Instant since = endpoint_.waiting_since(link.connection);
  return since != Instant::never() && clock_.now() - since >= kSilentFor;
}

void Links::doubt(LinkIndex index) {
  Link& link = links_[index];
  if (reach_ == Reach::direct || link.state != State::up || link.trial.value != 0) return;
  if (!is_silent(link)) return;
  const LinkIndex relay = next_relay(index);
  if (relay != kNoLink && relay != link.relay) return try_way(index, relay);
  if (link.relay != kNoLink && may_be_direct(link)) try_way(index, kNoLink);
}

void Links::try_way(LinkIndex index, LinkIndex relay) {
  Link& link = links_[index];
  link.trial_at = Instant::never();
  link.trial_relay = relay;
  link.trial = endpoint_.connect(
      relay == kNoLink ? link.address : link.address.through(links_[relay].address),
      crypto::Role::client, kConnectPatience);
  by_connection_[link.trial] = index;
}

// Another way is open: what is under way on the one so far is asked again on this. Not if that was
// only slow: then it has been heard meanwhile.
void Links::on_trial(LinkIndex index) {
  const rpc::ConnectionId trial = std::exchange(links_[index].trial, {});
  if (links_[index].trial_relay != kNoLink && !is_silent(links_[index])) {
    by_connection_.erase(trial);
    return endpoint_.close(trial);
  }
  endpoint_.close(links_[index].connection);
  by_connection_.erase(links_[index].connection);
  lose(index, Error{Code::connection_closed, "there is another way"});
  Link& link = links_[index];
  if (is_closed_ || link.state != State::resting) {  // the loss has led to something else
    by_connection_.erase(trial);
    return endpoint_.close(trial);
  }
  link.connection = trial;
  link.relay = link.trial_relay;
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
  const bool is_relayed = link.relay != kNoLink;
  link.connection = endpoint_.connect(
      is_relayed ? link.address.through(links_[link.relay].address) : link.address,
      crypto::Role::client, kConnectPatience);
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
    link.trial = {};
    link.trial_at = Instant::never();
  }
  by_connection_.clear();
  up_ = 0;
  in_flight_ = 0;
}

void Links::on_connected(rpc::ConnectionId connection, const rpc::PeerInfo& peer) {
  LinkIndex index = find(connection);
  if (index == kNoLink) return;
  if (links_[index].trial == connection) on_trial(index);
  Link& link = links_[index];
  if (link.connection != connection) return;
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
  link.misses = 0;
  if (link.relay != kNoLink && may_be_direct(link)) {
    link.trial_at = clock_.now() + kTryDirectEvery;
    log_warning("volcano_reached_through_another address={} through={}", link.address.text(),
                links_[link.relay].address.text());
  }
  log_debug('n', "link_up address={}", peer.address.text());
  events_.on_link_up(index);
}

void Links::on_closed(rpc::ConnectionId connection, const Error& reason) {
  LinkIndex index = find(connection);
  if (index == kNoLink) return;
  by_connection_.erase(connection);
  Link& link = links_[index];
  if (link.trial == connection) {  // no other way
    link.trial = {};
    if (link.relay != kNoLink && may_be_direct(link))
      link.trial_at = clock_.now() + kTryDirectEvery;
    return;
  }
  if (link.state == State::connecting) ++link.misses;
  lose(index, reason);
}

// Its connection is no more.
void Links::lose(LinkIndex index, const Error& reason) {
  Link& link = links_[index];
  const bool was_up = link.state == State::up;
  if (was_up) --up_;
  in_flight_ -= link.tokens.size();
  link.tokens.clear();
  link.trial_at = Instant::never();
  if (rpc::ConnectionId trial = std::exchange(link.trial, {}); trial.value != 0) {
    by_connection_.erase(trial);
    endpoint_.close(trial);
  }
  rest(link);
  log_debug('n', "link_down address={} reason={}", link.address.text(), describe(reason));
  events_.on_link_down(index, reason);
  if (was_up && links_[index].relay == kNoLink) lose_relayed_by(index);
}

// Who was reached through it is dialed anew, perhaps through another.
void Links::lose_relayed_by(LinkIndex relay) {
  for (std::size_t i = 0; i < links_.size(); ++i) {
    if (links_[i].relay != relay || links_[i].state == State::idle ||
        links_[i].state == State::resting)
      continue;
    const rpc::ConnectionId connection = links_[i].connection;
    endpoint_.close(connection);
    by_connection_.erase(connection);
    lose(static_cast<LinkIndex>(i), Error{Code::connection_closed, "its relay is away"});
  }
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
    first = std::min(first, link.state == State::resting ? link.rest_until : link.trial_at);
  return first;
}

void Links::on_timer() {
  endpoint_.on_timer();
  Instant now = clock_.now();
  for (std::size_t i = 0; i < links_.size(); ++i) {
    if (links_[i].trial_at <= now) try_way(static_cast<LinkIndex>(i), kNoLink);
    if (links_[i].state != State::resting || links_[i].rest_until > now) continue;
    links_[i].state = State::idle;
    auto index = static_cast<LinkIndex>(i);
    if (events_.is_link_wanted(index)) want(index);
  }
}

}  // namespace magma::client
