#include "libmagma/client/client_impl.h"

#include <sys/stat.h>

#include "libmagma/base/check.h"
#include "libmagma/base/log.h"

namespace magma::client {

namespace {

rpc::EndpointConfig endpoint_config(const ClientConfig& config) {
  rpc::EndpointConfig endpoint;
  endpoint.keys = config.keys;
  endpoint.datagram_bytes_max = config.datagram_bytes_max;
  return endpoint;
}

constexpr Duration kSendPatience = seconds(60);  // with the end, for writes that were delayed

// Whether a connection that was closed for this reason will not do better next time.
bool is_lasting(Code code) {
  return code == Code::wrong_key || code == Code::wrong_version ||
         code == Code::wrong_filesystem || code == Code::bad_key_file ||
         code == Code::invalid;
}

}  // namespace

ClientImpl::ClientImpl(ClientConfig config, sys::Clock& clock, sys::Random& random,
                       sys::Datagrams& datagrams, KeySource& keys)
    : config_(std::move(config)),
      clock_(clock),
      links_(endpoint_config(config_), std::move(config_.passphrase), config_.reach, clock,
             random, datagrams, *this),
      write_back_(*this, config_.delays_writes),
      delayed_names_(*this, config_.delays_names),
      own_locks_(*this),
      session_(config_.host_name, links_, router_, clock, random, *this),
      requests_({.fail_when_away = config_.fail_when_away, .stall = config_.stall}, links_,
                router_, session_, files_, write_back_, delayed_names_, own_locks_, clock, random),
      content_({.write_bytes_in_flight_max = config_.write_bytes_in_flight_max,
                .fail_when_away = config_.fail_when_away,
                .stall = config_.stall},
               requests_, files_, keys, clock),
      keys_(keys) {
  requests_.set_on_stalled([this](const Error& error) { give_up_deferred(error); });
}

// ---- start and stop

void ClientImpl::start(Duration patience, Done<wire::AttachReply> done) {
  MAGMA_CHECK(phase_ == Phase::idle);
  for (const sys::Address& host : config_.hosts) links_.add_host(host);
  if (links_.count() == 0) return done(fail(Code::unreachable, "no volcano was named"));
  host_errors_.resize(links_.count());
  phase_ = Phase::starting;
  start_done_ = std::move(done);
  start_until_ = clock_.now() + patience;
  session_.begin();
}

// What most deserves to be told of why no volcano would have us.
Error ClientImpl::start_error() const {
  Error error{Code::unreachable, {}};
  for (const Error& host : host_errors_)
    if (is_lasting(host.code)) error.code = host.code;
  for (std::size_t i = 0; i < host_errors_.size(); ++i) {
    const Error& host = host_errors_[i];
    if (!error.detail.empty()) error.detail += ", ";
    error.detail += links_.address(static_cast<LinkIndex>(i)).text();
    error.detail += " (";
    error.detail += host.code == Code{} ? "no answer" : text_of(host.code);
    error.detail += ")";
  }
  return error;
}

void ClientImpl::fail_start(const Error& error) {
  shut();
  auto done = std::move(start_done_);
  done(fail(error));
}

void ClientImpl::shut() {
  phase_ = Phase::stopped;
  start_until_ = drain_until_ = stop_until_ = Instant::never();
  session_.end();
  links_.close_all();
  write_back_.end();
  delayed_names_.end();
  own_locks_.end();
  requests_.end(Error{Code::io, "the client has stopped"});
}

void ClientImpl::stop(Duration patience, UniqueFunction<void()> done) {
  stop_done_ = std::move(done);
  if (phase_ == Phase::starting) {
    fail_start(Error{Code::interrupted, {}});
    return finish_stop();
  }
  if (phase_ != Phase::running) return finish_stop();
  phase_ = Phase::stopping;
  const bool has_delayed = write_back_.has_dirty() || delayed_names_.has_dirty();
  if (has_delayed) patience = std::max(patience, kSendPatience);
  write_back_.send_all(clock_.now());
  delayed_names_.when_all_clean(clock_.now(), [] {});
  requests_.flush_releases();
  drain_until_ = clock_.now() + patience / 2;
  stop_until_ = clock_.now() + patience;
  after_events();
}

void ClientImpl::finish_stop() {
  shut();
  if (!stop_done_) return;
  auto done = std::move(stop_done_);
  done();
}

// Steps of stopping that follow from what has happened.
void ClientImpl::after_events() {
  Instant now = clock_.now();
  if (phase_ == Phase::stopping) {
    bool is_drained = requests_.under_way() == 0 && content_.under_way() == 0 &&
                      !write_back_.has_dirty() && !delayed_names_.has_dirty();
    if (!is_drained && now < drain_until_) return;
    drain_until_ = Instant::never();
    phase_ = Phase::detaching;
    detaches_ = session_.send_detach();
    if (detaches_ == 0) return finish_stop();
  }
  if (phase_ == Phase::detaching && now >= stop_until_) finish_stop();
}

void ClientImpl::on_link_down(LinkIndex link, const Error& reason) {
  session_.on_link_down(link);
  if (phase_ != Phase::starting || link >= host_errors_.size()) return;
  host_errors_[link] = reason;
  for (const Error& error : host_errors_)
    if (!is_lasting(error.code)) return;
  fail_start(start_error());
}

void ClientImpl::on_answer(LinkIndex link, Token token, Result<ByteSpan> message) {
  if (token == kAttachToken) return session_.on_answer(link, std::move(message));
  if (token == kOtherAttachToken) return session_.on_other_answer(link, std::move(message));
  if (token == kDetachToken) {
    const bool is_last = phase_ == Phase::detaching && --detaches_ == 0;
    if (is_last) stop_until_ = Instant{};  // ends in after_events
    return;
  }
  requests_.on_answer(link, token, std::move(message));
}

// What is believed of the flares is forgotten here and by who listens; then the volcano is told.
void ClientImpl::on_request(rpc::ConnectionId connection, rpc::RequestId request,
                            ByteSpan message) {
  auto answer = [this, connection, request](Code code) {
    wire::ResponseHead head;
    head.code = static_cast<std::uint16_t>(code);
    links_.endpoint().reply(connection, request, {.head = wire::encode(head), .tail = {}},
                            rpc::Priority::lock);
  };
  auto front = wire::decode_front<wire::RequestHead>(message);
  if (!front) return answer(Code::malformed);
  if (front->first.op != static_cast<std::uint16_t>(wire::FlareOp::changed))
    return answer(Code::unknown_op);
  auto changed = wire::decode<wire::ChangedRequest>(front->second);
  if (!changed) return answer(Code::malformed);
  auto left = std::make_shared<unsigned>(listener_ == nullptr ? 1 : 2);
  auto one_done = [answer, left] {
    if (--*left == 0) answer(Code{});
  };
  requests_.on_changed(changed->changes, one_done);
  std::erase_if(changed->changes, [](const wire::Change& change) { return change.recalls_writes; });
  if (listener_ != nullptr) listener_->on_changed(std::move(changed->changes), one_done);
}

void ClientImpl::on_session_usable(bool is_new, const wire::AttachReply& reply) {
  content_.set_small_file_bytes_max(reply.small_file_bytes_max);
  root_ = reply.root;
  requests_.on_session_usable(is_new);
  if (is_new) write_back_.session_renewed(clock_.now());
  if (is_new) delayed_names_.session_renewed(clock_.now());
  if (phase_ != Phase::starting) return;
  phase_ = Phase::running;
  start_until_ = Instant::never();
  auto done = std::move(start_done_);
  done(reply);
}

Instant ClientImpl::deadline() const {
  return std::min({links_.deadline(), session_.deadline(), requests_.deadline(),
                   content_.deadline(), write_back_.deadline(), delayed_names_.deadline(),
                   own_locks_.deadline(), start_until_, drain_until_, stop_until_});
}

void ClientImpl::on_timer() {
  links_.on_timer();
  session_.on_timer();
  requests_.on_timer();
  content_.on_timer();
  write_back_.on_timer(clock_.now());
  delayed_names_.on_timer(clock_.now());
  own_locks_.on_timer(clock_.now());
  if (start_until_ <= clock_.now()) fail_start(start_error());
}

// ---- delayed writes

void ClientImpl::send(WriteBack::Flush flush, std::uint64_t number) {
  auto sent = std::make_shared<WriteBack::Flush>(std::move(flush));
  content_.write_pieces(
      {.ino = sent->ino,
       .extents = sent->extents,
       .bytes = std::move(sent->bytes),
       .kill_suidgid = sent->kill_suidgid,
       .attributes = sent->attributes},
      {.uid = sent->uid, .gid = sent->gid},
      [this, sent, number](Result<wire::WriteReply> reply, Bytes bytes) {
        sent->bytes = std::move(bytes);
        WriteBack::Sent result;
        if (reply)
          result.reply = *reply;
        else
          result.error = std::move(reply.error());
        write_back_.sent(number, std::move(*sent), std::move(result), clock_.now());
      });
}

void ClientImpl::send_attributes(WriteBack::Attributes attributes, std::uint64_t number) {
  const Ino ino = attributes.change.ino;
  auto answered = [this, ino, number](Result<wire::Attr> after) {
    write_back_.attributes_sent(number, ino, std::move(after), clock_.now());
  };
  requests_.begin_bound(ring::home_of(ino), {.uid = attributes.uid, .gid = attributes.gid},
                        attributes.change, Done<wire::Attr>(std::move(answered)));
}

// ---- delayed changes of names

bool ClientImpl::delays(const NameChange& change, Ino ino, Credentials who) {
  const bool is_move = change.from_dir != Ino();
  const Ino dir = change.dir;
  if (ino == Ino() || ring::home_of(ino) != ring::home_of(dir) || !delayed_names_.has_token(dir) ||
      (is_move && change.from_dir != dir) || !is_running())
    return false;
  if (delayed_names_.was_synced(ino)) return false;
  if (write_back_.is_dirty(ino) || requests_.is_open(ino) || requests_.is_changing_names(dir))
    return false;
  const DirectoryCache& directories = requests_.directories();
  if (is_move && (change.name == change.from_name || wire::name_error(change.name) ||
                  !directories.is_absent(dir, change.name, clock_.now())))
    return false;
  const auto known = directories.attr_of(dir, clock_.now());
  if (!known) return false;
  wire::NameStep step{.name = is_move ? change.from_name : change.name, .ino = ino};
  if (is_move) step.to_name = change.name;
  const auto after = delayed_names_.keep(known->attr, std::move(step), who.uid, who.gid,
                                         clock_.now());
  if (!after) return false;
  requests_.note_own_names(change, *after, ino);
  return true;
}

void ClientImpl::send_names(const DelayedNames::Batch& batch, std::uint64_t number) {
  const Ino dir = batch.dir;
  std::vector<Ino> steps;
  for (const wire::NameStep& step : batch.steps) steps.push_back(step.ino);
  auto answered = [this, dir, number, steps = std::move(steps),
                   made_at = clock_.now()](Answer& answer) {
    Result<wire::ChangeNamesReply> reply = fail(answer.code, answer.detail);
    if (answer.is_ok()) reply = wire::decode<wire::ChangeNamesReply>(answer.body);
    const std::size_t done = reply && reply->lost.empty() ? reply->done : 0;
    const bool is_as_told = done > 0;  // else nothing is sure any more
    if (reply) note_without_token(steps, *reply);
    requests_.note_delayed_names(dir, answer, made_at, is_as_told,
                                 delayed_names_.is_last(dir, done));
    const wire::NamesChanged* told = answer.names_changed ? &*answer.names_changed : nullptr;
    delayed_names_.sent(number, std::move(reply), told, clock_.now());
  };
  requests_.begin_bound(ring::home_of(dir), {.uid = batch.uid, .gid = batch.gid},
                        wire::ChangeNamesRequest{dir, batch.steps, batch.wants_numbers},
                        RawDone(std::move(answered)));
}

// Writes to them may not be delayed any more.
void ClientImpl::note_without_token(const std::vector<Ino>& steps,
                                    const wire::ChangeNamesReply& reply) {
  for (std::uint32_t index : reply.without_token)
    if (index < steps.size()) write_back_.recalled(steps[index], clock_.now(), [] {});
}

bool ClientImpl::makes(const wire::CreateRequest& request, Credentials who,
                       Done<wire::EntryReply>& done) {
  const Ino dir = request.dir, ino = delayed_names_.next_number(dir);
  if (ino == Ino() || !delayed_names_.has_token(dir) || !is_running() ||
      requests_.is_changing_names(dir) || wire::name_error(request.name) ||
      (request.mode & (S_ISUID | S_ISGID | S_ISVTX)) != 0)
    return false;
  const Instant now = clock_.now();
  const DirectoryCache& directories = requests_.directories();
  const auto known = directories.attr_of(dir, now);
  // What a file gets from its directory is the volcano's business.
  if (!known || known->attr.nlink == 0 || known->attr.xattr_kinds != 0 ||
      (known->attr.mode & S_ISGID) != 0 || !directories.is_absent(dir, request.name, now))
    return false;
  const std::uint32_t mode = request.mode & 0777 & ~request.umask;
  const auto after = delayed_names_.keep(
      known->attr,
      {.name = request.name, .ino = ino, .made = wire::MadeFile{mode, true, request.for_write}},
      who.uid, who.gid, now);
  if (!after) return false;
  wire::EntryReply made{.ino = ino, .type = S_IFREG >> 12};  // DT_REG
  wire::Attr& attr = made.attr.emplace();
  attr.ino = ino;
  attr.mode = S_IFREG | mode;
  attr.nlink = 1;
  attr.uid = who.uid;
  attr.gid = who.gid;
  attr.atime = attr.mtime = attr.ctime = attr.btime = after->mtime;
  made.believed_until =
      requests_.note_own_file({.dir = dir, .name = request.name}, *after, attr, request.for_write);
  write_back_.named(ino, dir, request.name);
  done(std::move(made));
  return true;
}

void ClientImpl::claim(Ino ino) {
  requests_.begin(ring::home_of(ino), {}, wire::GetattrRequest{ino, true},
                  Done<wire::Attr>([this, ino](const Result<wire::Attr>&) {
                    write_back_.claimed(ino, clock_.now());
                  }));
}

void ClientImpl::verify(Ino ino) {
  requests_.begin(ring::home_of(ino), {}, wire::GetattrRequest{ino, true},
                  Done<wire::Attr>([this, ino](Result<wire::Attr> attr) {
                    write_back_.verified(ino, attr ? &*attr : nullptr, clock_.now());
                  }));
}

void ClientImpl::cancel(CallId call) {
  if (is_deferred(call)) {
    auto found = deferred_.find(call);
    if (found == deferred_.end()) return;
    const auto ended = found->second.end;  // lives on if it erases itself
    (*ended)(Error{Code::interrupted, {}}, true);
  } else if ((call & kOperationBit) != 0) {
    content_.cancel(call);
  } else {
    requests_.cancel(call);
  }
}

// What a volcano that is away has not been told keeps calls waiting that have not begun.
void ClientImpl::give_up_deferred(const Error& error) {
  std::vector<CallId> old;
  for (const auto& [id, call] : deferred_)
    if (clock_.now() - call.since >= config_.stall) old.push_back(id);
  for (CallId id : old)
    if (auto found = deferred_.find(id); found != deferred_.end()) {
      const auto ended = found->second.end;
      (*ended)(error, false);
    }
}

// A write until it is kept, sent and answered, or refused.
struct ClientImpl::PendingWrite {
  WriteBack::Write write;
  Bytes bytes;
  Credentials who;
  Done<wire::WriteReply> done;
  CallId id = 0;       // if it had to wait
  CallId started = 0;  // the one that was made
  bool has_ended = false;
};

CallId ClientImpl::write(WriteBack::Write write, Bytes bytes, Credentials who,
                         Done<wire::WriteReply> done) {
  if (!config_.delays_writes || bytes.size() > wire::kIoBytesMax)
    return content_.write(write.ino, write.offset, std::move(bytes), write.append,
                          write.kill_suidgid, who, std::move(done));
  auto pending = std::make_shared<PendingWrite>(
      PendingWrite{std::move(write), std::move(bytes), who, std::move(done)});
  attempt(pending);
  if (pending->has_ended) return 0;
  if (pending->started != 0) return pending->started;
  pending->id = ++last_deferred_ << 32 | kDeferredMark;
  auto ended = [this, pending](const Error& error, bool is_cancelled) {
    if (pending->started == 0) return end(*pending, fail(error));
    if (is_cancelled) cancel(pending->started);
  };
  note_deferred(pending->id, std::move(ended));
  return pending->id;
}

void ClientImpl::attempt(const std::shared_ptr<PendingWrite>& pending) {
  if (pending->has_ended) return;
  WriteBack::Write& write = pending->write;
  WriteBack::Decision decision =
      write_back_.write(write, pending->bytes, clock_.now(), [this, pending] { attempt(pending); });
  switch (decision.path) {
    case WriteBack::Path::wait: return;
    case WriteBack::Path::kept:
      requests_.note_own_write(write.ino);
      return end(*pending, decision.reply);
    case WriteBack::Path::failed: return end(*pending, fail(std::move(decision.error)));
    case WriteBack::Path::through: break;
  }
  auto written = [this, pending,
                  is_counted = decision.is_counted,
                  is_placed = decision.is_placed](Result<wire::WriteReply> reply) {
    if (is_counted)
      write_back_.ended_through(pending->write.ino, reply ? &*reply : nullptr, is_placed,
                                clock_.now());
    end(*pending, std::move(reply));
  };
  pending->started =
      content_.write(write.ino, write.offset, std::move(pending->bytes), write.append,
                     write.kill_suidgid, pending->who, std::move(written));
}

void ClientImpl::end(PendingWrite& pending, Result<wire::WriteReply> result) {
  if (std::exchange(pending.has_ended, true)) return;
  if (pending.id != 0) deferred_.erase(pending.id);
  auto done = std::move(pending.done);
  done(std::move(result));
}

// The token goes with the last writer: nothing may be left that others do not know.
void ClientImpl::release(Ino ino, bool for_write, bool was_read) {
  if (!for_write) {
    requests_.release(ino, false, was_read);
    return closed(ino);
  }
  auto now_sent = [this, ino, was_read](std::uint64_t lost) {
    if (lost != sessions_lost_) {  // the open ended with it, and is not made again
      delayed_names_.close_made(ino, true);
      files_.drop_open(ino, true, clock_.now());
    } else {
      if (write_back_.is_dirty(ino)) return release(ino, true, was_read);  // attributes
      requests_.release(ino, true, was_read);
    }
    write_back_.released(ino, clock_.now());
    closed(ino);
  };
  write_back_.when_clean(ino, clock_.now(), [this, ino, now_sent] {
    own_locks_.when_sent(ino, [now_sent, lost = sessions_lost_] { now_sent(lost); });
  });
}

void ClientImpl::closed(Ino ino) {
  if (!requests_.is_open(ino)) own_locks_.closed(ino);
}

// ---- locks

// Not after the lease: the volcano may have given the file to others.
bool ClientImpl::decides_locks(Ino ino) {
  const Instant now = clock_.now();
  if (!write_back_.has_token(ino) || !session_.is_usable(now)) return false;
  const Route route = router_.route(ring::home_of(ino));
  return route.link != kNoLink && session_.is_usable_at(route.link, now);
}

CallId ClientImpl::lock(const wire::LockRequest& request, Credentials who,
                        Done<wire::LockReply> done) {
  const Ino ino = request.ino;
  if (const auto outcome = own_locks_.lock(request, decides_locks(ino))) {
    switch (*outcome) {
      case locks::LockOutcome::granted: done(wire::LockReply{write_back_.version_of(ino)}); break;
      case locks::LockOutcome::conflict: done(fail(Code::would_block)); break;
      case locks::LockOutcome::too_many: done(fail(Code::no_locks)); break;
    }
    return 0;
  }
  if (!write_back_.has_token(ino) && request.type != wire::LockType::none)
    write_back_.want_token(ino, clock_.now());
  auto start = [this, who, request](Done<wire::LockReply> then) {
    own_locks_.begin_change(request.ino);
    auto ended = [this, request, then = std::move(then)](Result<wire::LockReply> reply) mutable {
      own_locks_.ended_change(request, reply ? Code{} : reply.error().code);
      then(std::move(reply));
    };
    return requests_.begin(ring::home_of(request.ino), who, request,
                           Done<wire::LockReply>(std::move(ended)));
  };
  return after_own_locks(ino, std::move(done), std::move(start));
}

CallId ClientImpl::wait_for_lock(const wire::LockRequest& request, Credentials who,
                                 Done<wire::EmptyReply> done) {
  auto start = [this, who, request](Done<wire::EmptyReply> then) {
    own_locks_.begin_question(request.ino);
    auto ended = [this, ino = request.ino,
                  then = std::move(then)](Result<wire::EmptyReply> reply) mutable {
      own_locks_.ended_question(ino);
      then(std::move(reply));
    };
    return requests_.begin(ring::home_of(request.ino), who, wire::LockWaitRequest{request},
                           Done<wire::EmptyReply>(std::move(ended)));
  };
  return after_own_locks(request.ino, std::move(done), std::move(start));
}

CallId ClientImpl::test_lock(const wire::LockRequest& request, Credentials who,
                             Done<wire::TestLockReply> done) {
  if (auto reply = own_locks_.test(request, decides_locks(request.ino))) {
    done(std::move(*reply));
    return 0;
  }
  auto start = [this, who, request](Done<wire::TestLockReply> then) {
    return requests_.begin(ring::home_of(request.ino), who, wire::TestLockRequest{request},
                           std::move(then));
  };
  return after_own_locks(request.ino, std::move(done), std::move(start));
}

void ClientImpl::send_locks(Ino ino, locks::HeldLocks held, std::uint64_t number) {
  auto answered = [this, ino, number](const Result<wire::EmptyReply>& result) {
    own_locks_.sent(ino, number, result, clock_.now());
  };
  requests_.begin_bound(ring::home_of(ino), {}, wire::SetLocksRequest{ino, std::move(held)},
                        Done<wire::EmptyReply>(std::move(answered)));
}

}  // namespace magma::client
