#include "magmad/node/node.h"

#include <algorithm>
#include <utility>

#include "libmagma/base/check.h"
#include "libmagma/base/log.h"
#include "libmagma/wire/lava_map_codec.h"

namespace magma::node {

using core::node_of;
using core::volcano_of;
using ring::VolcanoId;

namespace {

// Whether the coordinator may have to do something about it; bytes that were copied are no news.
bool is_news(const std::vector<wire::MirrorFact>& before,
             const std::vector<wire::MirrorFact>& after) {
  return !std::equal(before.begin(), before.end(), after.begin(), after.end(),
                     [](const wire::MirrorFact& a, const wire::MirrorFact& b) {
                       return a.volcano == b.volcano && a.state == b.state && a.epoch == b.epoch;
                     });
}

}  // namespace

Result<ring::LavaMap> founded_map(const crypto::Uuid& filesystem, const ring::Profile& profile,
                                  std::uint8_t copies, bool shares_slots) {
  ring::LavaMap map;
  TRY(ring::apply_command(map, ring::Found{.filesystem = filesystem,
                                           .copies = copies,
                                           .profile = profile,
                                           .shares_slots = shares_slots}));
  return map;
}

Node::Node(NodeConfig config, raft::Stored stored, raft::Store& store, sys::Clock& clock,
           sys::Random& random, sys::Datagrams& datagrams, sys::Executor& executor, Publish publish,
           NodePlanted planted, NodeWatcher* watcher)
    : config_(std::move(config)),
      store_(store),
      clock_(clock),
      random_(random),
      executor_(executor),
      publish_(std::move(publish)),
      planted_(planted),
      watcher_(watcher),
      boot_(random.next()),
      map_(std::make_shared<const ring::LavaMap>()),
      raft_(node_of(config_.self), std::move(stored), config_.raft, random_, clock.now(),
            planted.raft),
      coordinator_(config_.self, planted.coordinator),
      is_announced_(config_.is_first_start),
      links_({.self = config_.self,
              .storage = config_.profile.storage,
              .filesystem = config_.filesystem,
              .keys = config_.keys,
              .accepts = true,
              .datagram_bytes_max = config_.datagram_bytes_max},
             clock, random, datagrams,
             [this](const wire::NodeRequestHead& head, ByteSpan body, const ReplyTo& to) {
               on_request(head, body, to);
             }) {
  MAGMA_CHECK(config_.self != ring::kNoVolcano);
  facts_.version = config_.version;
  if (watcher_ != nullptr) watcher_->started(raft_);
  learn_addresses();
  give(raft::Tick{});
  pump();
}

Node::~Node() = default;

// Where the others are, as far as the log says, committed or not: after a restart nothing of it is
// known to be committed before there is a leader, and for that the others must be found.
void Node::learn_addresses() {
  const raft::Log& log = raft_.log();
  auto map = wire::decode_map(log.snapshot().state);
  if (!map) return;  // a newcomer's; or Restore will tell
  for (raft::Index i = log.snapshot().last.index + 1; i <= log.last(); i = i + 1) {
    if (log.at(i).kind != raft::EntryKind::command) continue;
    auto command = wire::decode_command(log.at(i).data);
    if (!command) continue;
    // By hand: without the changes of voters in between the membership would not fit.
    if (auto* add = std::get_if<ring::AddVolcano>(&*command)) add->membership = map->membership;
    if (auto* moved = std::get_if<ring::VolcanoMoved>(&*command))
      moved->membership = map->membership;
    (void)ring::apply_command(*map, *command);  // what is refused is no news
  }
  for (const ring::Volcano& volcano : map->volcanoes)
    if (volcano.id != config_.self) links_.set_address(volcano.id, volcano.profile.node);
}

// ---- events and actions

void Node::pump() {
  if (is_pumping_ || is_stopped_) return;
  is_pumping_ = true;
  do {
    while (!events_.empty() && !failed_) {
      raft::Event event = std::move(events_.front());
      events_.pop_front();
      step(std::move(event));
    }
  } while (!failed_ && coordinate());
  is_pumping_ = false;
  publish(false);
}

void Node::step(raft::Event event) {
  raft::Output output = raft_.step(std::move(event), clock_.now());
  raft_deadline_ = output.deadline;
  for (raft::Action& action : output.actions)
    if (!failed_) perform(action);
  if (watcher_ != nullptr && !failed_) watcher_->stepped(raft_);
}

void Node::perform(raft::Action& action) {
  std::visit([&](auto& a) { on(a); }, action);
}

void Node::fail_with(Error error) {
  if (failed_) return;
  log_error("node_failed volcano={} error={}", config_.self.value, describe(error));
  failed_ = std::move(error);
  coordinator_.end();
  publish(true);
}

void Node::on(raft::Persist& action) {
  if (watcher_ != nullptr) watcher_->writes(raft_, action);
  unwritten_.push_back(std::move(action));
  begin_write();
}

// What comes while a write is under way is written together, after it.
void Node::begin_write() {
  if (is_writing_ || unwritten_.empty() || failed_) return;
  struct Job {
    std::vector<raft::Persist> writes;
    Result<void> result;
  };
  auto job = std::make_shared<Job>();  // shared by the work and its completion
  job->writes.assign(std::make_move_iterator(unwritten_.begin()),
                     std::make_move_iterator(unwritten_.end()));
  unwritten_.clear();
  is_writing_ = true;
  ++counters_.store_writes;
  executor_.run([job, &store = store_] { job->result = store.write(job->writes); },
                [this, life = std::weak_ptr<int>(life_), job] {
                  if (life.expired()) return;
                  is_writing_ = false;
                  if (!job->result) return fail_with(job->result.error());
                  give(raft::Persisted{job->writes.back().sequence});
                  begin_write();
                  pump();
                });
}

void Node::on(raft::Send& action) {
  ++counters_.raft_messages;
  // Lost messages do no harm: whoever needs an answer sends again.
  links_.call(volcano_of(action.to), wire::RaftRequest{raft::encode_message(action.message)},
              [this](Result<ByteSpan> body) {
                if (!body && body.error().code == Code::not_found) ++counters_.misdirected;
              });
}

void Node::on(raft::Restore& action) {
  auto map = wire::decode_map(action.snapshot.state);
  if (!map) return fail_with(map.error());
  applied_ = action.snapshot.last.index;
  ++counters_.snapshots;
  map_changed(std::move(*map));
  if (watcher_ != nullptr) watcher_->has_map(raft_, applied_, *map_);
  // What was proposed for a place before it was decided without us hearing of it.
  std::vector<Done> lost;
  for (auto at = proposals_.begin(); at != proposals_.end();) {
    const bool is_lost = at->second.place && at->second.place->index <= applied_;
    if (is_lost) lost.push_back(std::move(at->second.done));
    at = is_lost ? proposals_.erase(at) : std::next(at);
  }
  for (Done& done : lost) done(fail(Code::not_primary, "another leader decided"));
}

void Node::on(raft::Apply& action) {
  Result<ring::Applied> result = ring::Applied{.version = map_->version};
  if (action.entry.kind == raft::EntryKind::command) {
    auto command = wire::decode_command(action.entry.data);
    // The others may have understood it: going on would give another map than theirs.
    if (!command) return fail_with(command.error());
    result = apply(*command, action.index);
  } else if (action.entry.kind == raft::EntryKind::configuration) {
    // The voters of the map are those of Raft: set with the entry that sets them there.
    auto members = raft::configuration_of(action.entry);
    if (!members) return fail_with(members.error());
    ring::SetVoters voters{.membership = map_->membership};
    for (raft::NodeId node : members->voters) voters.voters.push_back(volcano_of(node));
    for (raft::NodeId node : members->learners) voters.learners.push_back(volcano_of(node));
    result = apply(voters, action.index);
    if (!result)
      log_error("map_voters_refused volcano={} error={}", config_.self.value,
                describe(result.error()));
  }
  applied_ = action.index;
  if (watcher_ != nullptr) watcher_->has_map(raft_, applied_, *map_);
  settle_proposals(action.index, action.entry, result);
}

Result<ring::Applied> Node::apply(const ring::Command& command, raft::Index index) {
  ring::LavaMap map = *map_;
  auto result = ring::apply_command(map, command);
  ++(result ? counters_.commands : counters_.commands_refused);
  if (!result) {
    log_debug('v', "map_command_refused command={} error={}", ring::name_of(command),
              describe(result.error()));
    return result;
  }
  log_debug('v', "map_command version={} command={}", map.version, wire::describe_command(command));
  const std::shared_ptr<const ring::LavaMap> before = map_;
  map_changed(std::move(map));
  if (watcher_ != nullptr) watcher_->applied(raft_, index, command, *before);
  return result;
}

void Node::map_changed(ring::LavaMap map) {
  map_ = std::make_shared<const ring::LavaMap>(std::move(map));
  has_news_ = true;
  act_at_ = {};
  for (const ring::Volcano& volcano : map_->volcanoes)
    if (volcano.id != config_.self) links_.set_address(volcano.id, volcano.profile.node);
}

void Node::on(raft::Answered& action) {
  auto found = proposals_.find(action.cookie);
  if (found == proposals_.end()) return;
  if (action.place) {
    found->second.place = *action.place;
    return;
  }
  Done done = std::move(found->second.done);
  proposals_.erase(found);
  done(fail(action.place.error()));
}

void Node::on(raft::Standing& action) {
  const bool led = coordinator_.is_active();
  standing_ = action;
  if (action.leader != raft::kNobody && action.leader != node_of(config_.self))
    former_leader_ = volcano_of(action.leader);
  has_news_ = true;
  act_at_ = {};
  if (led && action.role == raft::Role::leader) return;
  if (action.role == raft::Role::leader && action.is_ready) {
    log_info("coordinator volcano={} term={}", config_.self.value, action.term.value);
    coordinator_.begin(clock_.now(), action.deadlines, former_leader_);
    if (watcher_ != nullptr) watcher_->coordinates(raft_, action.deadlines);
    is_deciding_ = false;
  } else if (led) {
    log_info("coordinator_no_more volcano={} term={}", config_.self.value, action.term.value);
    coordinator_.end();
    boots_.clear();
    table_.clear();
    table_at_.reset();
  }
}

void Node::on(raft::WantSnapshot& action) {
  if (action.index != applied_) return;  // asked again
  give(raft::SnapshotTaken{applied_, wire::encode_map(*map_)});
}

// ---- proposals

void Node::propose(const ring::Command& command, Done done) {
  const std::uint64_t cookie = ++last_cookie_;
  proposals_.emplace(cookie, Proposal{.done = std::move(done)});
  give(raft::Propose{cookie, wire::encode_command(command)});
}

void Node::change_member(const core::MemberStep& step, Done done) {
  const std::uint64_t cookie = ++last_cookie_;
  proposals_.emplace(cookie, Proposal{.done = std::move(done)});
  give(raft::ChangeMember{cookie, step.node, step.change});
}

void Node::settle_proposals(raft::Index index, const raft::Entry& entry,
                            const Result<ring::Applied>& result) {
  for (auto at = proposals_.begin(); at != proposals_.end(); ++at) {
    if (!at->second.place || at->second.place->index != index) continue;
    const bool is_ours = at->second.place->term == entry.term;
    Done done = std::move(at->second.done);
    proposals_.erase(at);
    if (is_ours) return done(result);
    return done(fail(Code::not_primary, "another leader decided"));
  }
}

// ---- what others ask

bool Node::is_of_the_ring(const wire::NodeRequestHead& head) const {
  if (head.to != config_.self || head.from == config_.self || head.from == ring::kNoVolcano)
    return false;
  const ring::Volcano* volcano = map_->find(head.from);
  if (volcano != nullptr) return volcano->profile.storage == head.storage;
  // A number that our map has not seen yet; one below was given, and taken back.
  return head.from >= map_->next_id || map_->version == 0;
}

void Node::on_request(const wire::NodeRequestHead& head, ByteSpan body, const ReplyTo& to) {
  if (is_stopped_ || failed_) return links_.refuse(to, Code::shutting_down);
  if (to.op == wire::NodeOp::join) return serve_join(body, to);
  if (!is_of_the_ring(head)) {
    ++counters_.misdirected;
    return links_.refuse(to, Code::not_found);
  }
  switch (to.op) {
    case wire::NodeOp::raft: return serve_raft(head, body, to);
    case wire::NodeOp::heartbeat: return serve_heartbeat(head, body, to);
    case wire::NodeOp::announce: return serve_announce(head, body, to);
    case wire::NodeOp::join: break;
  }
  links_.refuse(to, Code::unknown_op);
}

void Node::serve_raft(const wire::NodeRequestHead& head, ByteSpan body, const ReplyTo& to) {
  auto request = decode_node<wire::RaftRequest>(body);
  if (!request) return links_.refuse(to, request.error().code);
  auto message = raft::decode_message(request->message);
  if (!message) return links_.refuse(to, message.error().code);
  links_.trust(to, head.from);
  links_.answer(to, wire::NodeEmpty{});
  give(raft::Received{node_of(head.from), std::move(*message)});
  pump();
  if (standing_.leader == node_of(head.from)) leader_heard_ = clock_.now();
}

// ---- as a volcano of the ring

void Node::on_tick(const wire::VolcanoFacts& facts) {
  const bool has_slot_news = is_news(facts_.mirrors, facts.mirrors) ||
                             facts_.serving != facts.serving ||
                             facts_.membership != facts.membership;
  facts_ = facts;
  facts_.version = config_.version;
  ticked_ = clock_.now();
  if (!has_slot_news) return;
  has_news_ = true;
  act_at_ = {};
  report_at_ = std::min(report_at_, std::max(*ticked_, reported_at_ + kNewsEvery));
}

bool Node::is_coordinator() const {
  return coordinator_.is_active() && raft_.lease_until(clock_.now()).has_value();
}

// Every half second: the lease is renewed, or the start of this magmad is made known first.
void Node::report() {
  const Instant now = clock_.now();
  report_at_ = now + core::kHeartbeatEvery;
  reported_at_ = now;
  if (!is_announced_) {
    if (is_coordinator())
      announce_self();
    else
      announce();
    return;
  }
  // A shard that hangs, and a disk under it, are as good as dead.
  if (!ticked_ || now - *ticked_ > kTickFresh) return;
  if (is_coordinator()) {
    lease_until_ = std::min(now + core::kLease, *raft_.lease_until(now));
    lease_version_ = map_->version;
    has_news_ = true;
    if (watcher_ != nullptr) watcher_->has_lease(raft_, *lease_until_);
    return;
  }
  // Without a leader another one in turn hears of us: it may not know where we are.
  const VolcanoId leader = whom_to_ask();
  if (leader == ring::kNoVolcano) return;
  wire::HeartbeatRequest heartbeat{
      .boot = boot_, .map_version = map_->version, .wants_table = false, .facts = facts_};
  if (now >= table_wanted_at_) {
    heartbeat.wants_table = true;
    table_wanted_at_ = now + kTableEvery;
  }
  ++counters_.heartbeats;
  links_.call(leader, heartbeat,
              [this, now](Result<ByteSpan> body) { on_heartbeat_answered(now, std::move(body)); });
}

void Node::on_heartbeat_answered(Instant sent, Result<ByteSpan> body) {
  if (!body) return;
  auto reply = decode_node<wire::HeartbeatReply>(*body);
  if (!reply) return;
  const Instant now = clock_.now();
  leader_heard_ = now;
  const Duration granted = nanoseconds(static_cast<std::int64_t>(
      std::min<std::uint64_t>(reply->lease_ns, static_cast<std::uint64_t>(core::kLease.ns))));
  if (granted.ns > 0) {
    const Instant begins = planted_.lease_from_receipt ? now : sent;
    lease_until_ = std::max(lease_until_.value_or(begins), begins + granted);
    lease_version_ = std::max(lease_version_, reply->map_version);
    has_news_ = true;
    if (watcher_ != nullptr) watcher_->has_lease(raft_, *lease_until_);
  }
  if (reply->table.empty()) return;
  table_ = std::move(reply->table);
  table_at_ = now;
  has_news_ = true;
}

// The leader if there is one; else each volcano in turn, who will know it.
VolcanoId Node::whom_to_ask() {
  const VolcanoId leader = volcano_of(standing_.leader);
  if (leader != ring::kNoVolcano && leader != config_.self) return leader;
  const auto& volcanoes = map_->volcanoes;
  for (std::size_t tries = 0; tries < volcanoes.size(); ++tries) {
    const VolcanoId next = volcanoes[asked_++ % volcanoes.size()].id;
    if (next != config_.self) return next;
  }
  return ring::kNoVolcano;
}

wire::AnnounceRequest Node::announcement() const {
  return {.boot = boot_, .profile = config_.profile, .has_lost = config_.has_lost};
}

void Node::announce() {
  if (is_announcing_) return;
  const VolcanoId to = whom_to_ask();
  if (to == ring::kNoVolcano) return;
  is_announcing_ = true;
  ++counters_.announces;
  links_.call(to, announcement(),
              [this](Result<ByteSpan> body) { on_announce_answered(std::move(body)); });
}

void Node::on_announce_answered(Result<ByteSpan> body) {
  is_announcing_ = false;
  if (!body) {
    if (body.error().code == Code::not_found)
      log_warning("ring_does_not_know volcano={} nick={}", config_.self.value,
                  config_.profile.nick);
    return;
  }
  auto reply = decode_node<wire::AnnounceReply>(*body);
  if (!reply) return;
  if (reply->outcome == wire::NodeOutcome::accepted) {
    log_info("announced volcano={} to={}", config_.self.value, standing_.leader.value);
    on_announced(reply->map_version);
  } else if (reply->outcome == wire::NodeOutcome::refused) {
    log_error("announce_refused volcano={} reason={}", config_.self.value, reply->reason);
  } else if (reply->outcome == wire::NodeOutcome::ask_other && reply->coordinator != config_.self &&
             reply->coordinator != ring::kNoVolcano) {
    // It may be where our map does not have it.
    links_.set_address(reply->coordinator, reply->address);
    links_.call(reply->coordinator,
                announcement(),
                [this](Result<ByteSpan> again) {
                  if (!again) return;
                  auto second = decode_node<wire::AnnounceReply>(*again);
                  if (second && second->outcome == wire::NodeOutcome::accepted)
                    on_announced(second->map_version);
                });
  }
}

void Node::announce_self() {
  if (is_announcing_) return;
  is_announcing_ = true;
  bring_up(config_.self, announcement(),
           [this](Result<ring::Applied> result) {
             is_announcing_ = false;
             if (result) return on_announced(result->version);
             log_warning("announce_failed volcano={} error={}", config_.self.value,
                         describe(result.error()));
             report_at_ = {};
           });
}

void Node::on_announced(std::uint64_t version) {
  report_at_ = {};
  if (is_announced_) return;
  is_announced_ = true;
  start_version_ = version;
  has_news_ = true;
}

// ---- views

RingView Node::view() const {
  RingView view;
  view.map = map_;
  view.self = config_.self;
  view.made = clock_.now();
  view.term = standing_.term;
  view.leader = volcano_of(standing_.leader);
  view.is_coordinator = is_coordinator();
  view.is_start_known = is_announced_ && map_->version >= start_version_;
  view.leader_heard = leader_heard_;
  if (map_->version >= lease_version_) view.lease_until = lease_until_;
  view.table_at = table_at_;
  view.table = table_;
  view.own = facts_;
  view.counters = status_counters();
  if (!coordinator_.is_active()) return view;
  view.table_at = view.made;
  view.table = coordinator_.table(*map_, followers(), facts_, view.made);
  return view;
}

std::vector<wire::StatusCounter> Node::status_counters() const {
  const Counters c = counters();
  return {{"node.raft_messages", c.raft_messages},
          {"node.heartbeats", c.heartbeats},
          {"node.announces", c.announces},
          {"node.joins", c.joins},
          {"node.joins_refused", c.joins_refused},
          {"node.commands", c.commands},
          {"node.commands_refused", c.commands_refused},
          {"node.snapshots", c.snapshots},
          {"node.misdirected", c.misdirected},
          {"node.store_writes", c.store_writes},
          {"node.messages_dropped", c.messages_dropped}};
}

void Node::publish(bool is_due) {
  if (!publish_ || (!has_news_ && !is_due)) return;
  has_news_ = false;
  view_at_ = clock_.now() + kViewEvery;
  RingView told = view();
  copies_.note(told.made, mirrors_of(told));
  told.copy_left = copies_.left();
  publish_(std::make_shared<const RingView>(std::move(told)));
}

// ---- time

void Node::on_datagram(const sys::Address& from, MutableByteSpan datagram) {
  if (!is_stopped_) links_.on_datagram(from, datagram);
}

void Node::flush() {
  if (is_stopped_ || failed_) return;
  links_.flush();
  pump();
}

Instant Node::deadline() const {
  if (is_stopped_ || failed_) return Instant::never();
  return std::min({links_.deadline(), raft_deadline_, report_at_, view_at_});
}

void Node::on_timer() {
  if (is_stopped_ || failed_) return;
  const Instant now = clock_.now();
  links_.on_timer();
  if (raft_deadline_ <= now) give(raft::Tick{});
  if (report_at_ <= now) report();
  pump();
  if (view_at_ <= now) publish(true);
}

void Node::stop() {
  if (std::exchange(is_stopped_, true)) return;
  links_.close_all();
}

Node::Counters Node::counters() const {
  Counters counters = counters_;
  counters.messages_dropped = links_.dropped();
  return counters;
}

}  // namespace magma::node
