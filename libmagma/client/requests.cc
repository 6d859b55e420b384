#include "libmagma/client/requests.h"

#include <algorithm>
#include <type_traits>

#include "libmagma/base/check.h"
#include "libmagma/base/log.h"
#include "libmagma/client/completion.h"

namespace magma::client {

namespace {

// Where the fields of RequestHead lie in its encoding (fixed widths, in order).
constexpr std::size_t kEpochAt = 4;
constexpr std::size_t kSessionAt = 8;
constexpr std::size_t kLaneAt = 16;
constexpr std::size_t kSequenceAt = 18;
constexpr std::size_t kHeadBytes = 30;

template <std::unsigned_integral U>
void put_at(Bytes& bytes, std::size_t at, U value) {
  for (std::size_t i = 0; i < sizeof(U); ++i)
    bytes[at + i] = static_cast<std::uint8_t>(value >> (8 * (sizeof(U) - 1 - i)));
}

// Whether a refusal shows that a volcano is there and works (then the stall clock starts anew).
bool is_sign_of_life(Code code) { return code == Code::overloaded || code == Code::locked; }

// Of content: nobody's change waits for such a one that waits for another client.
bool is_write(const Request& request) {
  return request.is_delayed || request.op == wire::FlareOp::write ||
         request.op == wire::FlareOp::publish || request.op == wire::FlareOp::reserve;
}

bool is_whole(wire::FlareOp op, ByteSpan body) {
  return std::holds_alternative<std::monostate>(missing_in(op, body));
}

}  // namespace

void Request::reset() {
  Bytes kept_head = std::move(head);
  kept_head.clear();
  *this = Request{};
  head = std::move(kept_head);
}

Requests::Requests(Config config, Links& links, Router& router, Session& session,
                   FileTable& files, WriteBack& write_back, DelayedNames& delayed_names,
                   OwnLocks& own_locks, sys::Clock& clock, sys::Random& random)
    : config_(config),
      links_(links),
      router_(router),
      session_(session),
      files_(files),
      write_back_(write_back),
      delayed_names_(delayed_names),
      own_locks_(own_locks),
      clock_(clock),
      random_(random) {}

// Queues keep ids of requests that have left them otherwise; those are dropped when the head of
// the queue is taken, and here before they could pile up.
void Requests::enqueue(std::deque<Token>& queue, Token id, Request::State state) {
  if (queue.size() > 2 * slab_.size() + 1024)
    std::erase_if(queue, [&](Token other) {
      const Request* request = slab_.find(other);
      return request == nullptr || request->state != state;
    });
  slab_.find(id)->state = state;
  queue.push_back(id);
}

// ---- making

Token Requests::admit(wire::FlareOp op, ring::Slot slot, Credentials who, AnyDone& done) {
  ++begun_;
  if (is_ended_ || slab_.size() >= kRequestsMax) {
    Answer answer;
    answer.code = is_ended_ ? end_error_.code : Code::overloaded;
    answer.detail = is_ended_ ? end_error_.detail : "too many calls under way";
    Request none;
    none.made_at = clock_.now();
    finish(done, answer, learner(none, answer));
    return 0;
  }
  Token id = slab_.take();
  Request& request = *slab_.find(id);
  request.op = op;
  request.kind = wire::kind_of(op);
  request.priority = static_cast<rpc::Priority>(wire::priority_of(op));
  request.slot = slot;
  request.uid = who.uid;
  request.gid = who.gid;
  request.done = std::move(done);
  request.made_at = request.since = clock_.now();
  if (next_sweep_ == Instant::never()) next_sweep_ = request.since + kSweepEvery;
  return id;
}

void Requests::put_head(Request& request, Credentials who) {
  wire::RequestHead head;
  head.op = static_cast<std::uint16_t>(request.op);
  head.slot = request.slot;
  head.uid = who.uid;
  head.gid = who.gid;
  wire::encode_to(request.head, head);
  MAGMA_CHECK(request.head.size() == kHeadBytes);
}

Token Requests::begin_open(const wire::OpenRequest& message, Credentials who, AnyDone done) {
  Token id = admit(wire::FlareOp::open, ring::home_of(message.ino), who, done);
  if (id == 0) return 0;
  Request& request = *slab_.find(id);
  request.role = Request::Role::open;
  request.ino = message.ino;
  request.for_write = message.for_write;
  put_head(request, who);
  wire::encode_to(request.head, message);
  dispatch(id);
  return id;
}

// A file that is open as it is made.
template <class Message>
Token Requests::begin_made(const Message& message, Credentials who,
                           Done<wire::EntryReply> done) {
  AnyDone any = std::move(done);
  Token id = admit(wire::OpOf<Message>::op, ring::home_of(message.dir), who, any);
  if (id == 0) return 0;
  Request& request = *slab_.find(id);
  request.role = Request::Role::create;
  request.for_write = message.for_write;
  if constexpr (std::is_same_v<Message, wire::CreateRequest>)
    request.names = NameChange{.dir = message.dir, .name = message.name};
  request.dir = message.dir;
  put_head(request, who);
  wire::encode_to(request.head, message);
  dispatch(id);
  return id;
}

template Token Requests::begin_made(const wire::CreateRequest&, Credentials,
                                    Done<wire::EntryReply>);
template Token Requests::begin_made(const wire::TmpfileRequest&, Credentials,
                                    Done<wire::EntryReply>);

// ---- opens that nobody was told of (local_opens.h)

// Opens that nobody was told of are told first: what loses its name may be one of them. A volcano
// that is away does not hold it up for long.
void Requests::take_name(Token id) {
  Request& request = *slab_.find(id);
  request.takes_names = true;
  local_opens_.names_change_begins();
  if (!local_opens_.has_untold()) return dispatch(id);
  request.state = Request::State::resting;
  request.wake = clock_.now() + kKeepMax;
  wakes_.push_back({request.wake, id});
  std::push_heap(wakes_.begin(), wakes_.end());
  local_opens_.when_all_told(clock_.now(), [this, id] {
    Request* waiting = slab_.find(id);
    const bool has_waited = waiting != nullptr && waiting->state == Request::State::resting &&
                            waiting->sent_at == Instant{} && waiting->tries == 0;
    if (has_waited) dispatch(id);
  });
  pump_keeps();
}

void Requests::pump_keeps() {
  if (is_ended_) return;
  for (Ino ino : local_opens_.due(clock_.now())) {
    AnyDone none = RawDone([this, ino](Answer& answer) { kept(ino, answer.code); });
    Token id = admit(wire::FlareOp::keep, ring::home_of(ino), {}, none);
    if (id == 0) continue;
    ++keeps_;
    Request& request = *slab_.find(id);
    request.role = Request::Role::keep;
    request.ino = ino;
    put_head(request, {});
    wire::encode_to(request.head, wire::KeepRequest{ino});
    dispatch(id);
  }
}

void Requests::kept(Ino ino, Code code) {
  using Told = LocalOpens::Told;
  const Told how = code == Code{} ? Told::done : code == Code::stale ? Told::gone : Told::failed;
  if (how == Told::gone) log_info("open_file_gone ino={:#x}", ino.value);
  if (how == Told::done && local_opens_.is_closed(ino))
    queue_release({.ino = ino});  // before a change of names that waits for this
  else if (how == Told::done)
    files_.add_open(ino, false, 0, 0);
  local_opens_.told(ino, how, clock_.now());
}

// A change of this client has ended: what was believed of it is so no longer.
void Requests::note_change(const Request& request, const Answer& answer) {
  const Instant now = clock_.now();
  if (request.takes_names) local_opens_.names_change_ends(now);
  if (request.kind != wire::OpKind::change || request.ino == Ino()) return;
  using Role = Request::Role;
  if (request.role == Role::keep || request.role == Role::reopen) return;
  if (request.role == Role::open && !request.for_write) return;
  if (request.role == Role::release && !request.was_read) return;
  if (request.role == Role::release && answer.is_ok()) {
    auto reply = wire::decode<wire::ReleaseReply>(answer.body);
    if (reply) return local_opens_.access_time_set(request.ino, reply->atime, request.made_at);
  }
  local_opens_.changed(request.ino, now);
}

// ---- sending

void Requests::dispatch(Token id) {
  const Request& next = *slab_.find(id);
  if (next.kind == wire::OpKind::change && next.role != Request::Role::release &&
      !releases_.empty())
    pump_releases(true);
  Request& request = *slab_.find(id);
  if (waits_for_name(id, request, request.ino) || waits_for_name(id, request, request.dir)) return;
  const Instant now = clock_.now();
  if (!session_.is_usable(now)) {
    enqueue(held_, id, Request::State::held);
    session_.refresh_map(kNoLink);
    return;
  }
  Route route = router_.route(request.slot);
  if (route.link == kNoLink) return rest(id, request, true);
  if (!links_.has_room(route.link) || !session_.is_usable_at(route.link, now))
    return wait_for_link(id, request, route.link);
  if (request.kind == wire::OpKind::change && request.lane == wire::kNoLane) {
    if (!has_lane(request))
      return enqueue(is_write(request) ? laneless_writes_ : laneless_, id,
                     Request::State::laneless);
    request.lane = lanes_.take();
    request.sequence = lanes_.next_sequence(request.lane);
    request.session = session_.id();
  }
  send(id, request, route);
}

// Nothing can be asked about a file that the volcano has not made yet, nor about one that it could
// not make: its number is nobody's.
bool Requests::waits_for_name(Token id, Request& request, Ino ino) {
  if (delayed_names_.is_never_made(ino)) {
    Answer answer;
    answer.code = Code::stale;
    complete(id, answer);
    return true;
  }
  if (!delayed_names_.is_made_later(ino)) return false;
  request.state = Request::State::resting;
  request.wake = Instant::never();
  delayed_names_.when_made(ino, clock_.now(), [this, id] {
    const Request* waiting = slab_.find(id);
    if (waiting != nullptr && waiting->state == Request::State::resting) dispatch(id);
  });
  return true;
}

bool Requests::is_changing_names(Ino dir) {
  constexpr std::size_t kLookedAtMax = 64;
  if (slab_.size() > kLookedAtMax) return true;
  std::vector<Token> ids;
  slab_.ids(ids);
  return std::any_of(ids.begin(), ids.end(), [&](Token id) {
    const std::optional<NameChange>& names = slab_.find(id)->names;
    return names && (names->dir == dir || names->from_dir == dir);
  });
}

void Requests::note_own_names(const NameChange& change, const wire::Attr& after, Ino ino) {
  const Instant now = clock_.now();
  directories_.changed(change, wire::NamesChanged{after, {}});
  beliefs_.changed(ino, now);
  local_opens_.changed(ino, now);
}

// As the answer to a create: the volcano notes, when it makes the file, that this client believes
// its attributes.
Instant Requests::note_own_file(const NameChange& change, const wire::Attr& after,
                                wire::Attr& attr, bool for_write) {
  const Instant now = clock_.now();
  directories_.changed(change, wire::NamesChanged{after, {}});
  files_.add_open(attr.ino, for_write, attr.uid, attr.gid);
  Request none;
  none.made_at = now;
  Answer answer;
  answer.believe_until = now + wire::kTokenTerm;
  answer.may_delay = for_write;
  learner(none, answer).learn(attr);
  return after.believed_until;
}

void Requests::note_delayed_names(Ino dir, Answer& answer, Instant made_at, bool is_as_told,
                                  bool is_last) {
  if (!is_as_told || !answer.names_changed) return directories_.forget(dir);
  wire::Attr& told = answer.names_changed->directory;
  told.believed_until = beliefs_.until(dir, made_at, answer.believe_until);
  directories_.delayed_done(told, is_last);
}

void Requests::wait_for_link(Token id, Request& request, LinkIndex link) {
  request.link = link;
  if (queues_.size() <= link) queues_.resize(link + 1u);
  enqueue(queues_[link], id, Request::State::queued);
  links_.want(link);
}

void Requests::stamp_head(Request& request, Epoch epoch) const {
  put_at(request.head, kEpochAt, epoch.value);
  put_at(request.head, kSessionAt, request.session.value);
  put_at(request.head, kLaneAt, request.lane);
  put_at(request.head, kSequenceAt, request.sequence);
}

void Requests::send(Token id, Request& request, Route route) {
  if (request.kind != wire::OpKind::change) request.session = session_.id();
  stamp_head(request, route.epoch);
  if (request.sent_at != Instant{}) ++retries_;
  request.state = Request::State::sent;
  request.link = route.link;
  request.sent_at = clock_.now();
  request.needs_map = false;
  ++sent_;
  // Both parts are copied: they are kept for the case that the connection is lost.
  request.rpc_id = links_.send(route.link, {.head = request.head, .tail = request.tail},
                               request.priority, Instant::never(), id);
}

// ---- answers

void Requests::on_answer(LinkIndex link, Token id, Result<ByteSpan> message) {
  Request* request = slab_.find(id);
  if (request == nullptr || request->state != Request::State::sent) return;
  --sent_;
  if (!message) {
    Code code = message.error().code;
    if (request->is_given_up || class_of(code) == ErrorClass::final) {  // too_long
      Answer dropped;
      dropped.code = code;
      complete(id, dropped);
      return pump_link(link);
    }
    if (code == Code::connection_closed)
      return wait_for_link(id, *request, link);  // on_link_up, or another map
    rest(id, *request, false);
    return pump_link(link);
  }
  auto front = wire::decode_front<wire::ResponseHead>(*message);
  Answer answer;
  if (!front) {
    answer.code = Code::malformed;
    complete(id, answer);
    return pump_link(link);
  }
  auto& [head, body] = *front;
  answer.names_changed = std::move(head.names_changed);
  if (head.believe_ms != 0) {
    answer.believe_until = request->made_at + milliseconds(head.believe_ms);
    beliefs_.may_come(answer.believe_until);
  }
  answer.may_delay = head.may_delay;
  if (head.map_version > router_.version(link)) session_.refresh_map_at(link);
  if (head.code == 0) {
    answer.body = body;
    if (is_whole(request->op, body) || request->is_given_up) {
      complete(id, answer);
    } else {
      auto partial = std::make_shared<Partial>();
      partial->answer = std::move(answer);
      partial->body.assign(body.begin(), body.end());
      request->state = Request::State::partial;
      ask_rest(id, std::move(partial));
    }
  } else {
    refused(id, *request, static_cast<Code>(head.code), body);
  }
  pump_link(link);
}

void Requests::ask_rest(Token id, std::shared_ptr<Partial> partial) {
  const Request& request = *slab_.find(id);
  const Credentials who{.uid = request.uid, .gid = request.gid};
  Missing missing = missing_in(request.op, partial->body);
  RawDone next = [this, id, partial](Answer& rest) { on_rest(id, partial, rest); };
  if (auto* attr = std::get_if<wire::GetattrRequest>(&missing)) {
    begin(ring::home_of(attr->ino), who, *attr, AnyDone(std::move(next)));
  } else if (auto* content = std::get_if<wire::ContentRequest>(&missing)) {
    begin(content->key.slot(), who, *content, AnyDone(std::move(next)));
  } else {
    partial->answer.body = partial->body;
    complete(id, partial->answer);
  }
}

void Requests::on_rest(Token id, const std::shared_ptr<Partial>& partial, Answer& rest) {
  Request* request = slab_.find(id);
  if (request == nullptr || request->state != Request::State::partial) return;
  std::optional<Bytes> whole;
  if (rest.is_ok()) {
    const Missing missing = missing_in(request->op, partial->body);
    if (std::holds_alternative<wire::GetattrRequest>(missing)) {
      if (auto told = wire::decode<wire::AttrReply>(rest.body))
        whole = completed(request->op, partial->body, *told);
    } else if (auto told = wire::decode<wire::ContentReply>(rest.body)) {
      whole = completed(request->op, partial->body, *told);
    }
    if (!whole) rest.code = Code::malformed;
  }
  if (whole) {
    partial->body = std::move(*whole);
    partial->answer.believe_until = std::min(partial->answer.believe_until, rest.believe_until);
    return ask_rest(id, partial);
  }
  // What the name led to was taken away: it may lead elsewhere now.
  if (rest.code == Code::stale && request->op == wire::FlareOp::lookup) {
    if (++request->lookups < kLookupsMax) {
      request->state = Request::State::none;
      return dispatch(id);
    }
    rest.code = Code::not_found;
  }
  partial->answer.code = rest.code;
  partial->answer.detail = std::move(rest.detail);
  complete(id, partial->answer);
}

void Requests::refused(Token id, Request& request, Code code, ByteSpan body) {
  bool is_raw = std::holds_alternative<RawDone>(request.done);
  bool is_moved = code == Code::moved_to_chunks || code == Code::behind_truncate ||
                  code == Code::no_chunk;
  if (code == Code::unknown_session || code == Code::fenced) {
    if (request.session == session_.id() && session_.is_live()) {
      request.state = Request::State::resting;  // on_session_lost ends it if it is a change
      request.wake = Instant::never();
      session_.lost(request.session);
    }
    if (slab_.find(id) == nullptr) return;
    if (request.kind != wire::OpKind::change && !request.is_given_up) return dispatch(id);
    code = Code::fenced;
  } else if (class_of(code) == ErrorClass::retry && !(is_raw && is_moved) &&
             !request.is_given_up) {
    if (is_sign_of_life(code)) request.since = clock_.now();
    bool needs_map = code == Code::wrong_epoch || code == Code::not_primary;
    return rest(id, request, needs_map);
  }
  Answer answer;
  answer.code = code;
  answer.body = body;
  complete(id, answer);
}

// Tries again a little later; the wait doubles with each refusal and has some chance in it, so
// that askers that were refused together do not come back together.
void Requests::rest(Token id, Request& request, bool needs_map) {
  Duration wait = kRetryFirst * (std::int64_t{1} << std::min(request.tries, 7u));
  wait = std::min(wait, kRetryLast);
  auto share = static_cast<std::int64_t>(random_.next() % 256);
  request.wake = clock_.now() + wait / 2 + nanoseconds(wait.ns / 2 * share / 256);
  request.state = Request::State::resting;
  request.needs_map = needs_map;
  ++request.tries;
  wakes_.push_back({request.wake, id});
  std::push_heap(wakes_.begin(), wakes_.end());
  if (needs_map) session_.refresh_map_at(request.link);
}

void Requests::note_success(Request& request, ByteSpan body) {
  using Role = Request::Role;
  if (request.role == Role::open) {
    files_.add_open(request.ino, request.for_write, request.uid, request.gid);
  } else if (request.role == Role::create) {
    auto reply = wire::decode<wire::EntryReply>(body);
    if (!reply) return;
    request.ino = reply->ino;
    files_.add_open(reply->ino, request.for_write, request.uid, request.gid);
  } else {
    return;
  }
  // Nobody will end an open that its caller no longer waits for.
  if (request.is_given_up) release(request.ino, request.for_write, false);
}

void Requests::note_names(Request& request, Answer& answer) {
  if (!answer.is_ok()) return directories_.failed(*request.names);
  Learner told = learner(request, answer);
  if (answer.names_changed) {
    wire::Attr& directory = answer.names_changed->directory;
    directory.believed_until = told.until_of(directory.ino);
  }
  directories_.changed(*request.names, answer.names_changed);
  // With the answer to a create the token is of the file.
  const bool is_of_names =
      request.op == wire::FlareOp::unlink || request.op == wire::FlareOp::rename;
  if (answer.names_changed && answer.names_changed->numbers > 0 &&
      (answer.may_delay || !is_of_names))
    delayed_names_.granted(*answer.names_changed, request.made_at, told.now);
  if (request.op != wire::FlareOp::mkdir || !answer.names_changed) return;
  auto reply = wire::decode<wire::EntryReply>(answer.body);
  if (!reply || !reply->attr) return;
  reply->attr->believed_until = told.until_of(reply->attr->ino);
  directories_.made(*reply->attr);
  delayed_names_.expect_changes(reply->ino, told.now);
}

void Requests::on_changed(const std::vector<wire::Change>& changes, UniqueFunction<void()> done) {
  const Instant now = clock_.now();
  struct Waiting {
    std::size_t left = 1;
    UniqueFunction<void()> done;
  };
  auto waiting = std::make_shared<Waiting>();
  waiting->done = std::move(done);
  auto one_told = [waiting] {
    if (--waiting->left == 0) waiting->done();
  };
  for (const wire::Change& change : changes) {
    if (change.recalls_writes) {
      waiting->left += 3;
      write_back_.recalled(change.ino, now, one_told);
      delayed_names_.recalled(change.ino, now, one_told);
      own_locks_.when_sent(change.ino, one_told);
      continue;
    }
    beliefs_.changed(change.ino, now);
    directories_.forget(change.ino);
    local_opens_.changed(change.ino, now);
    if (!change.name.empty()) continue;
    write_back_.forget_attributes(change.ino);
    ++waiting->left;
    local_opens_.when_told(change.ino, now, one_told);
  }
  pump_keeps();
  one_told();
}

void Requests::complete(Token id, Answer& answer) {
  Request& request = *slab_.find(id);
  if (request.state == Request::State::partial && !answer.is_ok()) {
    // It was done, and its caller is told that it was not.
    request.is_given_up = true;
    if (request.role == Request::Role::open) note_success(request, {});
  }
  if (answer.is_ok()) note_success(request, answer.body);
  if (request.names) note_names(request, answer);
  note_change(request, answer);
  bool is_release = request.role == Request::Role::release;
  if (request.role == Request::Role::reopen) --reopening_;
  if (is_release) --releasing_;
  const Ino read = is_release && request.was_read && answer.is_ok() ? request.ino : Ino();
  answer.tail = std::move(request.tail);
  AnyDone done = std::move(request.done);
  const Learner told = learner(request, answer);
  free_lane(request);
  slab_.give_back(id);
  pump_lanes();
  if (!releases_.empty()) pump_releases(false);
  finish(done, answer, told);
  if (read != Ino() && on_read_) on_read_(read);
}

// ---- lanes and queues

void Requests::free_lane(Request& request) {
  if (request.lane == wire::kNoLane) return;
  if (request.session == session_.id()) lanes_.give_back(request.lane);
  request.lane = wire::kNoLane;
  request.sequence = 0;
}

bool Requests::has_lane(const Request& request) const {
  return lanes_.has_free(is_write(request) ? 0 : kWriteLanes);
}

void Requests::pump_lanes() {
  for (std::deque<Token>* queue : {&laneless_writes_, &laneless_}) {
    const std::size_t kept = queue == &laneless_ ? kWriteLanes : 0;
    while (!queue->empty() && lanes_.has_free(kept)) {
      Token id = queue->front();
      queue->pop_front();
      Request* request = slab_.find(id);
      if (request != nullptr && request->state == Request::State::laneless) dispatch(id);
    }
  }
}

void Requests::pump_link(LinkIndex link) {
  // By index: dispatch may make queues_ longer.
  const Instant now = clock_.now();
  while (link < queues_.size() && !queues_[link].empty() && links_.has_room(link) &&
         session_.is_usable_at(link, now)) {
    Token id = queues_[link].front();
    queues_[link].pop_front();
    Request* request = slab_.find(id);
    if (request != nullptr && request->state == Request::State::queued && request->link == link)
      dispatch(id);
  }
}

void Requests::release(Ino ino, bool for_write, bool was_read) {
  if (delayed_names_.close_made(ino, for_write))
    return files_.drop_open(ino, for_write, clock_.now());
  Release item{.ino = ino, .for_write = for_write, .was_read = was_read};
  const auto local = for_write ? std::nullopt
                               : local_opens_.close(ino, was_read, clock_.wall_now());
  if (local) {
    item.was_read = local->is_access_due;
    item.was_untold = !local->is_told;
    if (item.was_untold && !item.was_read) return;
  }
  if (const File* file = files_.find(ino)) {
    item.uid = file->uid;
    item.gid = file->gid;
  }
  if (!item.was_untold) files_.drop_open(ino, for_write, clock_.now());
  queue_release(item);
}

void Requests::queue_release(const Release& item) {
  if (is_ended_) return;
  if (releases_.empty()) releases_due_ = clock_.now() + kReleaseDelay;
  releases_.push_back(item);
  pump_releases(releases_.size() >= kReleaseLanesMax);
}

void Requests::pump_releases(bool now) {
  if (!now && clock_.now() < releases_due_) return;
  while (!releases_.empty() && releasing_ < kReleaseLanesMax && reopening_ == 0 && !is_ended_) {
    Release item = releases_.front();
    AnyDone none;
    Credentials who{.uid = item.uid, .gid = item.gid};
    if (slab_.size() >= kRequestsMax) return;
    releases_.pop_front();
    Token id = admit(wire::FlareOp::release, ring::home_of(item.ino), who, none);
    Request& request = *slab_.find(id);
    request.role = Request::Role::release;
    request.ino = item.ino;
    request.was_read = item.was_read;
    put_head(request, who);
    wire::ReleaseRequest message;
    message.ino = item.ino;
    message.for_write = item.for_write;
    message.was_read = item.was_read;
    message.was_untold = item.was_untold;
    wire::encode_to(request.head, message);
    ++releasing_;
    dispatch(id);
  }
}

// ---- giving up

void Requests::unsend(Request& request) {
  if (request.state != Request::State::sent) return;
  --sent_;
  links_.cancel(request.link, request.rpc_id);
  request.state = Request::State::none;
}

void Requests::give_up(Token id, Error error, bool tell) {
  Request* request = slab_.find(id);
  if (request == nullptr || request->is_given_up) return;
  Answer answer;
  answer.code = error.code;
  answer.detail = std::move(error.detail);
  bool may_be_done =
      request->kind == wire::OpKind::change && request->state == Request::State::sent;
  if (may_be_done) {
    request->is_given_up = true;
    AnyDone done = std::exchange(request->done, std::monostate{});
    if (tell) finish(done, answer, learner(*request, answer));
    return;
  }
  unsend(*request);
  if (!tell) request->done = std::monostate{};
  complete(id, answer);
}

void Requests::cancel(Token id) {
  give_up(id, Error{Code::interrupted, {}}, true);
}

void Requests::abandon(Token id) { give_up(id, Error{Code::interrupted, {}}, false); }

void Requests::end(Error error) {
  is_ended_ = true;
  end_error_ = error;
  releases_.clear();
  std::vector<Token> all;
  slab_.ids(all);
  for (Token id : all) {
    Request* request = slab_.find(id);
    if (request == nullptr) continue;
    if (request->state == Request::State::sent) --sent_;
    request->state = Request::State::none;
    Answer answer;
    answer.code = error.code;
    answer.detail = error.detail;
    complete(id, answer);
  }
}

// ---- time

Instant Requests::deadline() const {
  Instant next = wakes_.empty() ? next_sweep_ : std::min(next_sweep_, wakes_.front().at);
  next = std::min(next, local_opens_.deadline());
  // Once due they wait for lanes, not for time.
  bool are_waiting = !releases_.empty() && clock_.now() < releases_due_;
  return are_waiting ? std::min(next, releases_due_) : next;
}

void Requests::on_timer() {
  Instant now = clock_.now();
  while (!wakes_.empty() && wakes_.front().at <= now) {
    Token id = wakes_.front().id;
    std::pop_heap(wakes_.begin(), wakes_.end());
    wakes_.pop_back();
    Request* request = slab_.find(id);
    if (request != nullptr && request->state == Request::State::resting && request->wake <= now)
      dispatch(id);
  }
  if (!releases_.empty()) pump_releases(false);
  pump_keeps();
  if (next_sweep_ <= now) sweep();
}

// Looks for requests that get no answer: asks for a newer map, and with fail_when_away ends them.
// One of those that wait long, now and then: what a mount that hangs is waiting for.
void Requests::tell_of_waiting(const Request& request, Instant now) {
  if (now - request.since < kTellAfter || now < told_at_ + kTellAfter) return;
  told_at_ = now;
  static constexpr const char* kStates[] = {"none", "held",    "queued", "laneless",
                                            "sent", "resting", "partial"};
  const auto state = static_cast<std::size_t>(request.state);
  log_info("request_waits op={} slot={:03x} state={} volcano={} for_ms={} sent_ms={} in_all={}",
           wire::name_of(request.op), request.slot.value,
           state < std::size(kStates) ? kStates[state] : "?",
           request.link == kNoLink ? std::string("none") : links_.address(request.link).text(),
           (now - request.since).ms(),
           request.sent_at == Instant{} ? -1 : (now - request.sent_at).ms(), slab_.size());
}

void Requests::sweep() {
  Instant now = clock_.now();
  next_sweep_ = slab_.size() == 0 ? Instant::never() : now + kSweepEvery;
  slab_.ids(walk_);
  std::vector<Token> ids = std::exchange(walk_, {});
  bool asked = false;
  std::optional<Error> stalled;
  for (Token id : ids) {
    Request* request = slab_.find(id);
    if (request == nullptr || request->is_given_up) continue;
    bool is_at_volcano = request->state == Request::State::sent;
    bool is_waiting = is_at_volcano || request->state == Request::State::queued;
    Instant from = is_at_volcano ? request->sent_at : request->since;
    if (!asked && is_waiting && now - from >= kAskMapAfter) {
      asked = true;
      session_.refresh_map(request->link);
    }
    tell_of_waiting(*request, now);
    if (!config_.fail_when_away || now - request->since < config_.stall) continue;
    if (request->role == Request::Role::release || request->role == Request::Role::reopen ||
        request->role == Request::Role::keep)
      continue;
    const bool was_told = request->op == wire::FlareOp::change_names ||  // as done, to programs
                          request->op == wire::FlareOp::set_locks;
    std::string text = request->link == kNoLink ? std::string("no volcano")
                                                : links_.address(request->link).text();
    const Error error{Code::io, "volcano away: " + text};
    if (was_told)
      stalled = error;
    else
      give_up(id, error, true);
  }
  walk_ = std::move(ids);
  if (stalled && on_stalled_) on_stalled_(*stalled);
}

}  // namespace magma::client
