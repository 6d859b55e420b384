#include "magmad/releases.h"

#include <algorithm>
#include <utility>

#include "libmagma/base/log.h"
#include "libmagma/wire/codec.h"
#include "libmagma/wire/flare_messages.h"

namespace magma {

void Releases::ask(std::uint64_t version, std::vector<ReleaseWanted> wanted) {
  for (Asked& asked : std::exchange(asked_, {}))
    if (asked.connection != rpc::ConnectionId()) endpoint_.close(asked.connection);
  version_ = version;
  released_ = {};
  for (ReleaseWanted& want : wanted)
    asked_.push_back({.wanted = std::move(want), .due = clock_.now()});
}

Releases::Asked* Releases::find(rpc::ConnectionId connection) {
  if (connection == rpc::ConnectionId()) return nullptr;
  for (Asked& asked : asked_)
    if (asked.connection == connection) return &asked;
  return nullptr;
}

bool Releases::on_connected(rpc::ConnectionId connection) {
  Asked* asked = find(connection);
  if (asked == nullptr) return false;
  asked->is_connected = true;
  send(*asked);
  return true;
}

bool Releases::on_closed(rpc::ConnectionId connection) {
  Asked* asked = find(connection);
  if (asked == nullptr) return false;
  asked->connection = {};
  asked->is_connected = false;
  asked->request = {};
  asked->due = clock_.now() + kAskEvery;
  return true;
}

void Releases::send(Asked& asked) {
  wire::RequestHead head;
  head.op = static_cast<std::uint16_t>(wire::FlareOp::released);
  Bytes bytes;
  wire::encode_to(bytes, head);
  wire::encode_to(bytes, wire::ReleasedRequest{.version = version_,
                                               .slots = ring::runs_of(asked.wanted.slots)});
  const Instant now = clock_.now();
  asked.request = endpoint_.call(asked.connection, {.head = std::move(bytes), .tail = {}},
                                 rpc::Priority::lock, now + kAnswerMax);
  asked.due = Instant::never();
}

bool Releases::on_response(rpc::ConnectionId connection, rpc::RequestId request,
                           const Result<ByteSpan>& message) {
  Asked* asked = find(connection);
  if (asked == nullptr) return false;
  if (asked->request != request) return true;
  asked->request = {};
  asked->due = clock_.now() + kAskEvery;
  auto head = message ? wire::decode_front<wire::ResponseHead>(*message) : fail(message.error());
  if (!head || head->first.code != 0) return true;
  auto reply = wire::decode<wire::ReleasedReply>(head->second);
  if (!reply || !ring::is_sound(reply->slots)) {
    log_warning("release_malformed volcano={}", asked->wanted.of.value);
    return true;
  }
  const ring::SlotMask slots = ring::set_of(reply->slots) & asked->wanted.slots;
  if (slots.none()) return true;
  log_info("slots_released by={} slots={} sessions={}", asked->wanted.of.value, slots.count(),
           reply->sessions.size());
  released_.slots |= slots;
  asked->wanted.slots &= ~slots;
  std::move(reply->sessions.begin(), reply->sessions.end(),
            std::back_inserter(released_.believers));
  released_.may_others_believe = released_.may_others_believe || reply->may_others;
  if (asked->wanted.slots.any()) return true;
  const rpc::ConnectionId done = std::exchange(asked->connection, {});
  asked->due = Instant::never();
  endpoint_.close(done);
  return true;
}

Instant Releases::deadline() const {
  Instant next = Instant::never();
  for (const Asked& asked : asked_) next = std::min(next, asked.due);
  return next;
}

void Releases::on_timer() {
  const Instant now = clock_.now();
  for (Asked& asked : asked_) {
    if (asked.due > now) continue;
    if (asked.is_connected) {
      send(asked);
      continue;
    }
    asked.due = Instant::never();  // on_connected or on_closed follows
    auto address = sys::Address::parse(asked.wanted.address, 0);
    if (!address) {
      log_error("volcano_address volcano={} address={}", asked.wanted.of.value,
                asked.wanted.address);
      continue;
    }
    asked.connection = endpoint_.connect(*address, crypto::Role::ring, kDialPatience);
  }
}

}  // namespace magma
