#include "magmad/volcano.h"

#include <deque>
#include <map>
#include <utility>

#include "libmagma/base/log.h"
#include "libmagma/wire/codec.h"
#include "libmagma/wire/flare_messages.h"
#include "magmad/core/tenure_rules.h"
#include "magmad/counters.h"
#include "magmad/host_requests.h"
#include "magmad/ops/operations.h"
#include "magmad/peers.h"
#include "magmad/replication/mirrors.h"
#include "magmad/replication/source.h"
#include "magmad/shard.h"
#include "magmad/store/content_store.h"
#include "magmad/store/metadata_store.h"
#include "magmad/store/storage_dir.h"

namespace magma {

namespace {

constexpr unsigned kPeerRounds = 16;  // of messages between volcanoes in one flush

class ShardTalk final : public SlotTalk {
 public:
  explicit ShardTalk(Shard& shard) : shard_(shard) {}
  // Those between groups of own slots are there at once.
  std::vector<ops::SlotMessage> take_outgoing() override {
    std::vector<ops::SlotMessage> outgoing;
    for (ops::SlotMessage& message : shard_.operations().take_outgoing()) {
      if (!shard_.owns(message.to)) {
        outgoing.push_back(std::move(message));
        continue;
      }
      message.from_epoch = shard_.epoch_of(message.from);
      message.to_epoch = shard_.epoch_of(message.to);
      receive(std::move(message));
    }
    return outgoing;
  }
  void receive(ops::SlotMessage message) override {
    shard_.operations().receive(std::move(message));
  }
  void begin_anew_with(const OwnedSlots& theirs) override {
    shard_.operations().begin_anew_with(theirs);
  }
  std::uint64_t generation() const override { return shard_.operations().generation(); }
  Epoch epoch_of(ring::Slot slot) const override { return shard_.epoch_of(slot); }

 private:
  Shard& shard_;
};

}  // namespace

struct Volcano::Parts {
  Parts(VolcanoConfig c, sys::Clock& cl, sys::Random& r, sys::Datagrams& d, sys::Disk& di)
      : config(std::move(c)), clock(cl), random(r), datagrams(d), disk(di) {}

  VolcanoConfig config;
  sys::Clock& clock;
  sys::Random& random;
  sys::Datagrams& datagrams;
  sys::Disk& disk;
  std::unique_ptr<store::MetadataStore> metadata;
  std::unique_ptr<store::ContentStore> content;
  std::unique_ptr<Shard> shard;
  std::optional<Census> census;
  std::unique_ptr<rpc::Endpoint> endpoint;
  std::unique_ptr<HostRequests> host_requests;
  std::optional<replication::Source> source;  // of a volcano that serves
  std::unique_ptr<replication::Mirrors> mirrors;
  std::optional<ShardTalk> talk;              // of one that serves some slots
  std::optional<Peers> peers;
  std::optional<Releases> releases;  // of one that claims slots
  // Who was asked for which slots, and what epochs they had in the map.
  std::map<ring::VolcanoId, ring::SlotMask> asked_for{};
  std::uint64_t asked_epochs = 0;
  // Generation and version of the map by which the endpoint passes packets on.
  std::optional<std::pair<std::uint32_t, std::uint64_t>> relays_for{};
  UniqueFunction<void(Answer)> send;
  UniqueFunction<void(Answer)> send_leased;  // what the slots say
  std::deque<Answer> withheld;               // until there is a lease again
  bool is_mute = false;                      // it ends without one: others may serve already
  std::uint64_t ranges_recovered = 0;
  std::optional<Instant> quiet_by{};  // it is about to stop
  AfterCrash after_crash;
  std::map<std::pair<std::uint64_t, std::uint64_t>, NoticeId> notices;  // by connection, request

  bool has_lease() const;
  void send_withheld();
  void send_notices();
  void talk_to_peers();
  Result<void> note_left(const HandOver& hand_over);
  void claim(const ring::LavaMap& map);
  void relay_for(const ring::LavaMap& map);
  Answer point_to_owners(const Request& request) const;
  wire::SlotsFact serving() const;
};

// Looked at after the answer's reads, right before it leaves.
bool Volcano::Parts::has_lease() const {
  if (!config.needs_lease) return true;
  if (is_mute) return false;
  const node::RingViewPtr& view = host_requests->ring();
  return view && view->lease_until && clock.now() < *view->lease_until;
}

void Volcano::Parts::send_withheld() {
  while (!withheld.empty() && has_lease()) {
    send(std::move(withheld.front()));
    withheld.pop_front();
  }
}

// Asks for the slots that others served last, unless they were asked for them.
void Volcano::Parts::claim(const ring::LavaMap& map) {
  const core::Claims wanted = core::claims_of(map, config.self, {});
  ring::SlotMask slots;
  for (const auto& [volcano, of] : wanted.of) slots |= of;
  const std::uint64_t epochs = ring::digest_of_epochs(map, slots);
  if (wanted.of == asked_for && epochs == asked_epochs) return;
  asked_for = wanted.of;
  asked_epochs = epochs;
  std::vector<ReleaseWanted> asked;
  for (const auto& [volcano, of] : wanted.of)
    if (const ring::Volcano* known = map.find(volcano); known != nullptr)
      asked.push_back({volcano, known->profile.flare, of});
  releases->ask(map.version, std::move(asked));
}

// Clients reach all volcanoes of the ring through this one, too.
void Volcano::Parts::relay_for(const ring::LavaMap& map) {
  const std::pair stamp{map.generation, map.version};
  if (relays_for == stamp) return;
  relays_for = stamp;
  std::vector<sys::Address> volcanoes;
  for (const ring::Volcano& volcano : map.volcanoes)
    if (auto address = sys::Address::parse(volcano.profile.flare, config.address.port))
      volcanoes.push_back(*address);
  endpoint->set_volcanoes(volcanoes);
}

// To an attach at a volcano without slots: who has them, all with epoch 0, so that the client asks
// there. It gets no session here.
Answer Volcano::Parts::point_to_owners(const Request& request) const {
  Answer answer;
  answer.target = request.target;
  answer.op = request.op();
  answer.ok = false;
  answer.code = Code::not_primary;
  const node::RingViewPtr& view = host_requests->ring();
  if (!view || !view->map) return answer;
  wire::AttachReply reply;
  reply.nick = config.nick;
  reply.small_file_bytes_max = config.small_file_bytes_max;
  reply.root = Shard::root();
  for (unsigned n = 0; n < ring::kSlotCount; ++n) {
    const ring::Slot slot(static_cast<std::uint16_t>(n));
    const ring::Volcano* owner = view->map->find(view->map->slots[n].primary());
    if (owner == nullptr || owner->id == config.self) return answer;  // it is changing
    wire::add_slot(reply.map, slot, Epoch(0), owner->profile.flare);
  }
  answer.ok = true;
  answer.body = wire::encode(reply);
  return answer;
}

// Of the slots that the map gives to this volcano those that it serves, or would.
wire::SlotsFact Volcano::Parts::serving() const {
  const node::RingViewPtr& view = host_requests->ring();
  if (!view || !view->map) return {};
  ring::SlotMask slots = config.serves ? shard->owned() : ring::SlotMask();
  if (releases)
    slots |= core::claims_of(*view->map, config.self, releases->released().slots).slots;
  for (unsigned n = 0; n < ring::kSlotCount; ++n)
    if (view->map->slots[n].primary() != config.self) slots.reset(n);
  return {ring::runs_of(slots), ring::digest_of_epochs(*view->map, slots)};
}

// Nothing is under way any more: what the mirror has confirmed is all there is.
Result<void> Volcano::Parts::note_left(const HandOver& hand_over) {
  shard->flush(send_leased);
  source->pump();
  if (!source->has_all(hand_over.to, hand_over.slots)) return {};
  TRY(content->sync_now());
  TRY(metadata->sync_now());
  return mirrors->note_left(hand_over.to, hand_over.slots, shard->position());
}

// Messages and what the slots answer to them, until nothing more can be done without the network.
void Volcano::Parts::talk_to_peers() {
  for (unsigned round = 0; round < kPeerRounds; ++round) {
    peers->pump();
    if (!shard->has_work()) return;
    shard->flush(send_leased);
  }
}

// Tells sessions that what they believe is so no longer.
void Volcano::Parts::send_notices() {
  for (Tokens::Message& message : shard->tokens().take_messages()) {
    const rpc::ConnectionId connection(shard->connection_of(message.to));
    if (!endpoint->is_connected(connection)) {
      shard->tokens().undelivered(message.notice);
      continue;
    }
    wire::RequestHead head;
    head.op = static_cast<std::uint16_t>(wire::FlareOp::changed);
    head.session = message.to;
    Bytes bytes;
    wire::encode_to(bytes, head);
    wire::encode_to(bytes, wire::ChangedRequest{std::move(message.changes)});
    const rpc::RequestId request =
        endpoint->call(connection, {.head = std::move(bytes), .tail = {}}, rpc::Priority::lock,
                       Instant::never());
    notices[{connection.value, request.value}] = message.notice;
  }
}

Volcano::Volcano(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Volcano::~Volcano() = default;

namespace {

void send_answer(rpc::Endpoint& endpoint, std::uint32_t map_version, Answer answer) {
  wire::ResponseHead head;
  head.code = answer.ok ? 0 : static_cast<std::uint16_t>(answer.code);
  head.map_version = map_version;
  if (answer.is_believed)
    head.believe_ms = static_cast<std::uint16_t>(wire::kTokenTerm.ns / 1'000'000);
  head.names_changed = std::move(answer.names_changed);
  head.may_delay = answer.may_delay;
  rpc::Message message;
  message.head.reserve(16 + answer.body.size());
  wire::encode_to(message.head, head);
  message.head.insert(message.head.end(), answer.body.begin(), answer.body.end());
  message.tail = std::move(answer.payload);
  endpoint.reply(rpc::ConnectionId(answer.target.connection), rpc::RequestId(answer.target.request),
                 std::move(message), static_cast<rpc::Priority>(wire::priority_of(answer.op)));
}

}  // namespace

Result<std::unique_ptr<Volcano>> Volcano::start(VolcanoConfig config, bool create,
                                                sys::Clock& clock, sys::Random& random,
                                                sys::Datagrams& datagrams, sys::Disk& disk,
                                                sys::Executor& executor) {
  auto parts = std::make_unique<Parts>(std::move(config), clock, random, datagrams, disk);
  TRY_VALUE(parts->metadata, store::MetadataStore::open(disk, executor, create));
  TRY_VALUE(parts->content, store::ContentStore::open(disk, executor, *parts->metadata));
  ShardConfig shard_config{parts->config.nick, parts->config.address.text(),
                           parts->config.small_file_bytes_max, parts->config.pretended_parts,
                           parts->config.believers, parts->config.may_others_believe};
  parts->shard = std::make_unique<Shard>(shard_config, clock, disk, *parts->metadata,
                                         *parts->content);
  if (parts->config.owners) parts->shard->set_owners(*parts->config.owners, parts->config.self);
  parts->census.emplace(*parts->metadata);
  if (create && parts->config.serves) TRY(parts->shard->format());
  TRY_VALUE(bool clean, store::take_clean_mark(disk));
  const std::uint64_t boot = parts->config.machine_boot;
  TRY_VALUE(bool same_boot, store::is_same_machine_boot(disk, boot));
  const bool lost_power = !clean && !create && !same_boot;
  if (lost_power && parts->config.claims_slots) TRY(store::note_loss(disk));
  parts->mirrors = std::make_unique<replication::Mirrors>(clock, *parts->metadata,
                                                          *parts->content, parts->send);
  parts->after_crash = parts->config.after_crash;
  TRY(parts->mirrors->begin(clean || create, lost_power));
  if (!clean && !create) parts->after_crash.is_unclean = true;
  parts->mirrors->add_torn(parts->after_crash.torn);
  parts->after_crash.torn = parts->mirrors->torn();
  // Its rows may be of different moments: what a mirror misses cannot be told from them, so every
  // mirror is compared as a whole.
  if (lost_power && (parts->config.serves || parts->config.claims_slots)) {
    TRY(parts->metadata->clear_oplog());
    TRY(parts->metadata->commit());
  }
  if (parts->config.serves) {
    if (!same_boot) TRY(store::note_machine_boot(disk, boot));
    const bool is_unclean = std::exchange(parts->after_crash.is_unclean, false);
    if (auto& carried = parts->config.carried) {
      parts->shard->carry_on(std::move(carried->tokens), carried->of);
      carried.reset();
    }
    TRY(parts->shard->begin(!is_unclean, parts->after_crash.torn));
    TRY(parts->mirrors->set_owned(parts->shard->owned()));
  } else {
    TRY(parts->mirrors->recover(clean || create));
    if (!same_boot) TRY(store::note_machine_boot(disk, boot));
  }

  rpc::EndpointConfig endpoint_config;
  endpoint_config.filesystem = parts->config.filesystem;
  endpoint_config.keys = parts->config.keys;
  endpoint_config.accepts = true;
  endpoint_config.datagram_bytes_max = parts->config.datagram_bytes_max;
  std::unique_ptr<Volcano> volcano(new Volcano(std::move(parts)));
  Parts& p = *volcano->parts_;
  p.endpoint = std::make_unique<rpc::Endpoint>(endpoint_config, clock, random, datagrams, *volcano);
  std::uint32_t map_version = p.shard->start_epoch().value;
  p.send = [&endpoint = *p.endpoint, map_version](Answer answer) {
    send_answer(endpoint, map_version, std::move(answer));
  };
  p.send_leased = [&p](Answer answer) {
    if (p.withheld.empty() && p.has_lease())
      p.send(std::move(answer));
    else
      p.withheld.push_back(std::move(answer));
  };
  p.host_requests = std::make_unique<HostRequests>(p.config, clock, *p.shard, *p.metadata,
                                                   *p.content, p.send);
  if (p.config.serves)
    p.source.emplace(p.config.self, p.config.awaits_ring, clock, random, *p.endpoint, *p.shard,
                     *p.metadata, *p.content);
  if (p.config.serves && p.config.owners) {
    p.talk.emplace(*p.shard);
    p.peers.emplace(*p.config.owners, p.config.self, clock, random, *p.endpoint, *p.talk, p.send);
    p.peers->on_drop([&p](rpc::ConnectionId connection) {
      p.host_requests->on_closed(connection.value);
    });
  }
  if (p.config.claims_slots) p.releases.emplace(clock, *p.endpoint);
  if (p.source || p.releases)
    p.host_requests->complete_facts(
        [&p](wire::VolcanoFacts& facts) {
          if (p.source) facts.mirrors = p.source->facts();
          facts.serving = p.serving();
          if (const node::RingViewPtr& view = p.host_requests->ring())
            facts.membership = view->map->membership;
        });
  p.host_requests->on_compare([raw = volcano.get()](wire::CompareRequest request, auto done) {
    raw->compare(std::move(request), std::move(done));
  });
  volcano->add_counters([&p, raw = volcano.get()](CounterList& list) {
    list_counters(list, raw->stats());
    list_counters(list, p.metadata->stats());
    list_counters(list, p.content->stats());
    list_counters(list, p.endpoint->counters());
    if (p.source) list_counters(list, p.source->stats());
    if (!p.source) list_counters(list, p.mirrors->stats());
    if (p.peers) list_counters(list, p.peers->stats());
  });
  p.shard->flush(p.send_leased);
  if (p.shard->failed()) return fail(Code::io, "the storage failed while starting");
  return volcano;
}

void Volcano::on_datagram(const sys::Address& from, MutableByteSpan datagram) {
  parts_->endpoint->on_datagram(from, datagram);
}

void Volcano::flush() {
  parts_->send_withheld();
  parts_->shard->flush(parts_->send_leased);
  if (parts_->mirrors->has_work()) parts_->mirrors->pump();
  if (parts_->source) parts_->source->pump();
  if (parts_->peers && parts_->has_lease()) parts_->talk_to_peers();
  if (parts_->shard->tokens().has_messages()) parts_->send_notices();
  parts_->endpoint->flush();
}

// The shard does nothing by itself any more when the end is near: its mirrors may have ended.
Instant Volcano::deadline() const {
  const Instant shard = parts_->quiet_by ? Instant::never() : parts_->shard->deadline();
  return std::min({shard, parts_->endpoint->deadline(), parts_->host_requests->deadline(),
                   parts_->source ? parts_->source->deadline() : Instant::never(),
                   parts_->mirrors->deadline(),
                   parts_->peers && parts_->has_lease() ? parts_->peers->deadline()
                                                        : Instant::never(),
                   parts_->releases ? parts_->releases->deadline() : Instant::never(),
                   parts_->quiet_by && !is_quiet() ? *parts_->quiet_by : Instant::never()});
}

void Volcano::begin_stop() {
  if (parts_->quiet_by) return;
  parts_->quiet_by = parts_->clock.now() + kQuietMax;
  parts_->is_mute = !parts_->has_lease();
}

bool Volcano::is_ending() const { return parts_->quiet_by.has_value(); }

bool Volcano::is_quiet() const {
  const Parts& p = *parts_;
  if (p.quiet_by && p.clock.now() >= *p.quiet_by) return true;
  return !p.shard->has_work() && (!p.source || p.source->has_told_all());
}

void Volcano::on_timer() {
  Instant now = parts_->clock.now();
  if (!parts_->quiet_by && parts_->shard->deadline() <= now) parts_->shard->on_timer();
  if (parts_->endpoint->deadline() <= now) parts_->endpoint->on_timer();
  if (parts_->host_requests->deadline() <= now) parts_->host_requests->on_timer();
  if (parts_->source && parts_->source->deadline() <= now) parts_->source->on_timer();
  if (parts_->mirrors->deadline() <= now) parts_->mirrors->on_timer();
  if (parts_->releases && parts_->releases->deadline() <= now) parts_->releases->on_timer();
  flush();
}

Result<void> Volcano::stop(const std::vector<HandOver>& left) {
  parts_->host_requests->stop();
  for (const HandOver& hand_over : left) TRY(parts_->note_left(hand_over));
  TRY(parts_->shard->stop());
  parts_->endpoint->close_all();
  parts_->endpoint->flush();
  return store::leave_clean_mark(parts_->disk);
}

const ring::SlotMask& Volcano::owned() const {
  static const ring::SlotMask kNone;
  return parts_->config.serves ? parts_->shard->owned() : kNone;
}

AfterCrash Volcano::after_crash() const { return parts_->after_crash; }

const Released& Volcano::released() const {
  static const Released kNone;
  return parts_->releases ? parts_->releases->released() : kNone;
}

bool Volcano::is_after_loss() const {
  const node::RingViewPtr& view = parts_->host_requests->ring();
  return view && core::claims_of(*view->map, parts_->config.self, {}).is_after_loss;
}

std::vector<SessionId> Volcano::believers() const { return parts_->shard->believers(); }
Tokens Volcano::take_tokens() { return std::move(parts_->shard->tokens()); }

const VolcanoConfig& Volcano::config() const { return parts_->config; }
const rpc::Counters& Volcano::rpc_counters() const { return parts_->endpoint->counters(); }
VolcanoReport Volcano::report(std::size_t lines_max) { return parts_->shard->report(lines_max); }
void Volcano::plant_impatience() { parts_->source->plant_impatience(); }
void Volcano::plant_carelessness() { parts_->source->plant_carelessness(); }
void Volcano::plant_disorder() { parts_->source->plant_disorder(); }
void Volcano::plant_forgetful_peers() { parts_->peers->plant_forgetfulness(); }
void Volcano::plant_late_peers() { parts_->peers->plant_lateness(); }
Census& Volcano::census() { return *parts_->census; }
Result<sys::DiskSpace> Volcano::space() { return parts_->disk.space(); }
bool Volcano::failed() const { return parts_->shard->failed(); }
bool Volcano::stop_wanted() const { return parts_->host_requests->stop_wanted(); }
void Volcano::set_console(ConsoleGateway* console) { parts_->host_requests->set_console(console); }
void Volcano::set_ring(node::RingViewPtr view) {
  // Before that a word of this volcano's last start may still change the map. At the end mirrors
  // stay who they are: the map may have given the slots to one of them, who is to have everything.
  if (parts_->source && view && view->is_start_known && !parts_->quiet_by)
    parts_->source->set_map(*view->map);
  if (parts_->releases && view && view->is_start_known) parts_->claim(*view->map);
  if (view && view->map) parts_->relay_for(*view->map);
  parts_->host_requests->set_ring(std::move(view));
}
const node::RingViewPtr& Volcano::ring() const { return parts_->host_requests->ring(); }
void Volcano::compare(wire::CompareRequest request,
                      UniqueFunction<void(Result<wire::CompareReply>)> done) {
  if (!parts_->source) return done(fail(Code::not_primary));
  parts_->source->compare(std::move(request), std::move(done));
}
wire::VolcanoFacts Volcano::facts() { return parts_->host_requests->facts(); }
void Volcano::add_counters(UniqueFunction<void(CounterList&)> source) {
  parts_->host_requests->add_counters(std::move(source));
}

VolcanoStats Volcano::stats() const {
  ShardStats shard = parts_->shard->stats();
  VolcanoStats stats;
  stats.requests = shard.requests;
  stats.changes = shard.changes;
  stats.replays = shard.replays;
  stats.refused = shard.refused;
  stats.io_errors = shard.io_errors;
  stats.batches = shard.batches;
  stats.operations = shard.operations;
  stats.operations_recovered = shard.operations_recovered;
  stats.sessions = parts_->shard->session_count();
  stats.ranges_recovered = shard.ranges_recovered;
  const Tokens& tokens = parts_->shard->tokens();
  stats.tokens = tokens.size();
  stats.notices_sent = tokens.stats().sent;
  stats.notices_expired = tokens.stats().expired;
  stats.answers_held = parts_->shard->answers_held();
  return stats;
}

// ---- rpc::Handler

void Volcano::on_connected(rpc::ConnectionId connection, const rpc::PeerInfo& peer) {
  log_debug('n', "connected connection={} address={} role={}", connection.value,
            peer.address.text(), peer.role == crypto::Role::ring ? "ring" : "client");
  if (parts_->source && parts_->source->on_connected(connection)) return;
  if (parts_->peers && parts_->peers->on_connected(connection)) return;
  if (parts_->releases && parts_->releases->on_connected(connection)) return;
  parts_->host_requests->on_connected(connection.value, peer);
}

void Volcano::on_closed(rpc::ConnectionId connection, const Error& reason) {
  log_debug('n', "closed connection={} reason={}", connection.value, describe(reason));
  if (parts_->source && parts_->source->on_closed(connection)) return;
  if (parts_->releases && parts_->releases->on_closed(connection)) return;
  if (parts_->peers) parts_->peers->on_closed(connection);
  parts_->shard->drop_connection(connection.value);
  parts_->host_requests->on_closed(connection.value);
}

void Volcano::on_request(rpc::ConnectionId connection, rpc::RequestId id, ByteSpan message) {
  auto request = std::make_unique<Request>();
  request->target = {connection.value, id.value};
  auto head = wire::decode_front<wire::RequestHead>(message);
  if (!head) {
    Answer answer;
    answer.target = request->target;
    answer.op = wire::FlareOp::getattr;
    answer.ok = false;
    answer.code = Code::malformed;
    return parts_->send(std::move(answer));
  }
  request->head = head->first;
  request->body = head->second;
  const bool is_known = wire::is_known_op(request->head.op);
  if (is_known && wire::kind_of(request->op()) == wire::OpKind::host)
    return parts_->host_requests->handle(std::move(request));
  if (is_known && wire::kind_of(request->op()) == wire::OpKind::mirror &&
      parts_->host_requests->has_ring_key(connection.value))
    return parts_->mirrors->handle(std::move(request));
  if (is_known && wire::kind_of(request->op()) == wire::OpKind::peer && parts_->peers &&
      (parts_->host_requests->has_ring_key(connection.value) ||
       parts_->peers->has_dialed(connection)))
    return parts_->peers->handle(std::move(request));
  if (!parts_->config.serves && !parts_->quiet_by && is_known &&
      request->op() == wire::FlareOp::attach)
    return parts_->send(parts_->point_to_owners(*request));
  if (!parts_->config.serves || parts_->quiet_by) {
    Answer answer;
    answer.target = request->target;
    answer.op = is_known ? request->op() : wire::FlareOp::getattr;
    answer.ok = false;
    answer.code = parts_->config.serves ? Code::shutting_down : Code::not_primary;
    return parts_->send(std::move(answer));
  }
  parts_->shard->handle(std::move(request));
}

void Volcano::on_cancel(rpc::ConnectionId, rpc::RequestId) {
  // What was asked is done all the same; nobody waits for the answer.
}

void Volcano::on_response(rpc::ConnectionId connection, rpc::RequestId request,
                          Result<ByteSpan> message) {
  if (parts_->source && parts_->source->on_response(connection, request, message)) return;
  if (parts_->peers && parts_->peers->on_response(connection, request, message)) return;
  if (parts_->releases && parts_->releases->on_response(connection, request, message)) return;
  auto found = parts_->notices.find({connection.value, request.value});
  if (found == parts_->notices.end()) return;
  const NoticeId notice = found->second;
  parts_->notices.erase(found);
  auto head = message ? wire::decode_front<wire::ResponseHead>(*message)
                      : fail(message.error());
  if (head && head->first.code == 0)
    parts_->shard->tokens().confirmed(notice);
  else
    parts_->shard->tokens().undelivered(notice);
}

}  // namespace magma
