#include "magmad/host_requests.h"

#include "config.h"
#include "libmagma/base/log.h"
#include "libmagma/wire/codec.h"
#include "magmad/space_guard.h"
#include "magmad/volcano.h"

namespace magma {

namespace {

std::string_view role_text(crypto::Role role) {
  return role == crypto::Role::ring ? "ring" : "client";
}

}  // namespace

HostRequests::HostRequests(const VolcanoConfig& config, sys::Clock& clock, Shard& shard,
                           store::MetadataStore& metadata, store::ContentStore& content,
                           UniqueFunction<void(Answer)>& send)
    : config_(config),
      clock_(clock),
      shard_(shard),
      metadata_(metadata),
      content_(content),
      send_(send),
      census_(metadata),
      started_(clock.now()),
      started_wall_(clock.wall_now()) {}

// Without a word: who would send it may be gone.
HostRequests::~HostRequests() {
  while (!talks_.empty()) end_talk(talks_.begin()->first, false);
}

void HostRequests::stop() {
  while (!talks_.empty()) end_talk(talks_.begin()->first, true);
}

void HostRequests::set_console(ConsoleGateway* console) {
  stop();
  console_ = console;
}

void HostRequests::add_counters(UniqueFunction<void(CounterList&)> source) {
  counter_sources_.push_back(std::move(source));
}

// ---- connections

void HostRequests::on_connected(std::uint64_t connection, const rpc::PeerInfo& peer) {
  peers_[connection] = peer;
}

void HostRequests::on_closed(std::uint64_t connection) {
  peers_.erase(connection);
  std::vector<TalkId> ended;
  for (const auto& [id, talk] : talks_)
    if (talk.connection == connection) ended.push_back(id);
  for (TalkId id : ended) end_talk(id, false);
}

// ---- answers

template <class Reply>
void HostRequests::answer(const Request& request, const Reply& reply) {
  Answer answer;
  answer.target = request.target;
  answer.op = request.op();
  answer.body = wire::encode(reply);
  send_(std::move(answer));
}

void HostRequests::refuse(const Request& request, Code code) {
  Answer answer;
  answer.target = request.target;
  answer.op = request.op();
  answer.ok = false;
  answer.code = code;
  send_(std::move(answer));
}

void HostRequests::handle(RequestPtr request) {
  auto peer = peers_.find(request->target.connection);
  if (peer == peers_.end()) return;  // closed: nobody is there to be answered
  const ByteSpan body = request->body;
  switch (request->op()) {
    case wire::FlareOp::status:
      if (!wire::decode<wire::StatusRequest>(body)) return refuse(*request, Code::malformed);
      return status(std::move(request));
    case wire::FlareOp::ring:
      if (!wire::decode<wire::RingRequest>(body)) return refuse(*request, Code::malformed);
      return ring(std::move(request));
    case wire::FlareOp::sync:
      if (!wire::decode<wire::SyncRequest>(body)) return refuse(*request, Code::malformed);
      return sync(std::move(request));
    case wire::FlareOp::compare: {
      auto message = wire::decode<wire::CompareRequest>(body);
      if (!message) return refuse(*request, Code::malformed);
      return compare(std::move(request), std::move(*message));
    }
    case wire::FlareOp::released: {
      auto message = wire::decode<wire::ReleasedRequest>(body);
      if (!message || !ring::is_sound(message->slots)) return refuse(*request, Code::malformed);
      return released(std::move(request), peer->second, *message);
    }
    case wire::FlareOp::shutdown: {
      auto message = wire::decode<wire::ShutdownRequest>(body);
      if (!message || message->who.size() > wire::kReasonBytesMax)
        return refuse(*request, Code::malformed);
      return shutdown(std::move(request), peer->second, *message);
    }
    case wire::FlareOp::console: {
      auto message = wire::decode<wire::ConsoleRequest>(body);
      if (!message || message->talk == 0) return refuse(*request, Code::malformed);
      return console(std::move(request), peer->second, *message);
    }
    default: return refuse(*request, Code::unknown_op);
  }
}

// ---- status

std::vector<wire::StatusSession> HostRequests::sessions() const {
  std::vector<wire::StatusSession> told;
  const Instant now = clock_.now();
  for (const Shard::SessionInfo& info : shard_.sessions(wire::kStatusSessionsMax)) {
    wire::StatusSession& session = told.emplace_back();
    session.host = info.host;
    session.since = info.since;
    session.quiet_ns =
        static_cast<std::uint64_t>(std::max<std::int64_t>((now - info.last_seen).ns, 0));
    session.opens = static_cast<std::uint32_t>(info.opens);
    auto peer = peers_.find(info.connection);
    if (peer == peers_.end()) continue;
    session.address = peer->second.address.text();
    session.role = role_text(peer->second.role);
  }
  return told;
}

void HostRequests::status(RequestPtr request) {
  begin_census();
  wire::StatusReply reply;
  reply.version = PACKAGE_VERSION;
  reply.nick = config_.nick;
  reply.fqdn = config_.fqdn;
  reply.address = config_.address.text();
  reply.filesystem = config_.filesystem;
  reply.started = started_wall_;
  reply.uptime_ns = static_cast<std::uint64_t>((clock_.now() - started_).ns);
  reply.epoch = shard_.start_epoch();
  if (auto space = shard_.space()) {
    const std::uint64_t reserve = SpaceGuard::reserve_bytes(space->total_bytes);
    reply.space_total = space->total_bytes;
    reply.space_free = space->free_bytes;
    reply.space_available = space->free_bytes > reserve ? space->free_bytes - reserve : 0;
  } else {
    log_warning("space_unknown error={}", describe(space.error()));
  }
  const Census::Totals& totals = census_.last() ? *census_.last() : census_.so_far();
  reply.census = {census_.last().has_value(), totals.as_of, totals.inodes, totals.keys,
                  totals.bytes};
  if (!config_.serves) reply.census = {true, clock_.wall_now(), 0, 0, 0};
  reply.sessions_total = static_cast<std::uint32_t>(shard_.session_count());
  reply.sessions = sessions();
  for (auto& source : counter_sources_) source(reply.counters);
  if (ring_)
    reply.counters.insert(reply.counters.end(), ring_->counters.begin(), ring_->counters.end());
  answer(*request, reply);
}

// ---- the ring

void HostRequests::ring(RequestPtr request) {
  if (!ring_ || ring_->map->version == 0) return refuse(*request, Code::not_found);
  begin_census();
  // Own facts as of now; the view has those of the last heartbeat.
  node::RingView view = *ring_;
  view.own = facts();
  view.own.version = PACKAGE_VERSION;
  answer(*request, node::ring_reply(view, clock_.now()));
}

void HostRequests::released(RequestPtr request, const rpc::PeerInfo& peer,
                            const wire::ReleasedRequest& message) {
  if (peer.role != crypto::Role::ring) return refuse(*request, Code::permission);
  wire::ReleasedReply reply;
  if (ring_ && ring_->is_start_known && ring_->map->version >= message.version) {
    ring::SlotMask slots = ring::set_of(message.slots);
    if (config_.serves) slots &= ~shard_.owned();
    for (unsigned n = 0; n < ring::kSlotCount; ++n)
      if (ring_->map->slots[n].primary() == config_.self) slots.reset(n);
    reply.slots = ring::runs_of(slots);
  }
  reply.sessions = shard_.believers();
  reply.may_others = config_.may_others_believe;
  if (reply.sessions.size() > wire::kReleasedSessionsMax) {
    reply.sessions.clear();
    reply.may_others = true;
  }
  answer(*request, reply);
}

wire::VolcanoFacts HostRequests::facts() {
  wire::VolcanoFacts facts;
  if (facts_source_) facts_source_(facts);
  const Instant now = clock_.now();
  if (!space_ || now - space_at_ >= kSpaceFresh) {
    space_at_ = now;
    auto space = shard_.space();
    space_ = space ? std::optional(*space) : std::nullopt;
  }
  if (space_) {
    const std::uint64_t reserve = SpaceGuard::reserve_bytes(space_->total_bytes);
    facts.space_total = space_->total_bytes;
    facts.space_available = space_->free_bytes > reserve ? space_->free_bytes - reserve : 0;
  }
  facts.has_census = !config_.serves;  // then it holds nothing
  if (!config_.serves) return facts;
  const bool is_asked_for = ring_ && ring_->map->volcanoes.size() > 1;
  if (is_asked_for && !census_.is_under_way() &&
      (!census_.last() || now - census_begun_ >= kCensusKept))
    begin_census();
  if (!census_.last()) return facts;
  facts.has_census = true;
  facts.keys = census_.last()->inodes;
  facts.bytes = census_.last()->bytes;
  return facts;
}

// A small volcano is counted at once, so that the answer has it.
void HostRequests::begin_census() {
  const Instant now = clock_.now();
  if (census_.is_under_way() || (census_.last() && now - census_begun_ < kCensusFresh)) return;
  census_begun_ = now;
  census_.begin(clock_.wall_now());
  step_census(kCensusRowsFirst);
}

void HostRequests::step_census(std::size_t rows) {
  if (auto done = census_.step(rows); !done)
    log_error("census_failed error={}", describe(done.error()));
  census_due_ = census_.is_under_way() ? clock_.now() + kCensusEvery : Instant::never();
}

// ---- sync

// Content first: rows that tell of it must not be durable before it is (as fsync).
void HostRequests::sync(RequestPtr request) {
  if (syncs_ >= kSyncsMax) return refuse(*request, Code::overloaded);
  ++syncs_;
  request->body = {};
  content_.sync_all([this, request = std::move(request)](Result<void> content) mutable {
    metadata_.sync_all(
        [this, request = std::move(request), content = std::move(content)](Result<void> metadata) {
          --syncs_;
          if (!content || !metadata) {
            log_error("sync_failed error={}",
                      describe(content ? metadata.error() : content.error()));
            return refuse(*request, Code::io);
          }
          answer(*request, wire::EmptyReply{});
        });
  });
}

// ---- compare

void HostRequests::compare(RequestPtr request, wire::CompareRequest message) {
  if (!compare_) return refuse(*request, Code::unsupported);
  request->body = {};
  compare_(std::move(message),
           [this, request = std::move(request)](Result<wire::CompareReply> done) {
             if (done)
               answer(*request, *done);
             else
               refuse(*request, done.error().code);
           });
}

// ---- shutdown

void HostRequests::shutdown(RequestPtr request, const rpc::PeerInfo& peer,
                            const wire::ShutdownRequest& message) {
  if (peer.role != crypto::Role::ring) {
    log_warning("shutdown_refused address={} who={}", peer.address.text(), message.who);
    return refuse(*request, Code::permission);
  }
  log_info("shutdown_asked address={} who={}", peer.address.text(), message.who);
  answer(*request, wire::EmptyReply{});
  stop_wanted_ = true;
}

// ---- console

HostRequests::TalkId HostRequests::find_talk(std::uint64_t connection, std::uint64_t number) const {
  for (const auto& [id, talk] : talks_)
    if (talk.connection == connection && talk.number == number) return id;
  return 0;
}

void HostRequests::console(RequestPtr request, const rpc::PeerInfo& peer,
                           const wire::ConsoleRequest& message) {
  if (peer.role != crypto::Role::ring) return refuse(*request, Code::permission);
  if (console_ == nullptr) return refuse(*request, Code::unsupported);
  if (message.input.size() > wire::kConsoleInputBytesMax) return refuse(*request, Code::too_long);
  TalkId id = find_talk(request->target.connection, message.talk);
  if (id == 0) {
    if (message.is_end) return answer(*request, wire::ConsoleReply{{}, true});
    if (talks_.size() >= kTalksMax) return refuse(*request, Code::overloaded);
    id = ++last_talk_;
    auto opened = console_->open(id, peer.address.text(), [this, id] { settle(id); });
    if (!opened) return refuse(*request, opened.error().code);
    talks_.emplace(
        id,
        Talk{.connection = request->target.connection, .number = message.talk, .poll = nullptr});
  }
  if (message.is_end) {
    end_talk(id, true);
    return answer(*request, wire::ConsoleReply{{}, true});
  }
  if (message.input.empty()) return poll(id, std::move(request));
  if (!console_->wants_input(id)) return refuse(*request, Code::overloaded);
  console_->input(id, message.input);
  answer(*request, wire::ConsoleReply{});
  settle(id);
}

void HostRequests::poll(TalkId id, RequestPtr request) {
  Talk& talk = talks_.at(id);
  if (talk.poll) answer(*talk.poll, wire::ConsoleReply{});
  request->body = {};
  talk.poll = std::move(request);
  talk.poll_until = clock_.now() + wire::kConsolePollMax;
  settle(id);
}

// Tells who polls what there is to tell.
void HostRequests::settle(TalkId id) {
  auto found = talks_.find(id);
  if (found == talks_.end() || !found->second.poll) return;
  wire::ConsoleReply reply;
  reply.output = console_->take_output(id, wire::kConsoleOutputBytesMax);
  reply.has_ended = console_->has_ended(id);
  if (reply.output.empty() && !reply.has_ended) return;
  answer(*std::exchange(found->second.poll, nullptr), reply);
  if (reply.has_ended) end_talk(id, false);
}

// `tell`: who polls is told of the end.
void HostRequests::end_talk(TalkId id, bool tell) {
  auto found = talks_.find(id);
  Talk talk = std::move(found->second);
  talks_.erase(found);
  if (console_ != nullptr) console_->close(id);
  if (talk.poll && tell) answer(*talk.poll, wire::ConsoleReply{{}, true});
}

// ---- time

Instant HostRequests::deadline() const {
  Instant next = census_due_;
  for (const auto& [id, talk] : talks_)
    if (talk.poll) next = std::min(next, talk.poll_until);
  return next;
}

void HostRequests::on_timer() {
  const Instant now = clock_.now();
  if (census_due_ <= now) step_census(kCensusRows);
  for (auto& [id, talk] : talks_)
    if (talk.poll && talk.poll_until <= now)
      answer(*std::exchange(talk.poll, nullptr), wire::ConsoleReply{});
}

}  // namespace magma
