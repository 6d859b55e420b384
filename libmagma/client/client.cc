#include "libmagma/client/client.h"

#include <algorithm>
#include <array>
#include <utility>

#include "libmagma/base/check.h"
#include "libmagma/base/log.h"
#include "libmagma/client/content_io.h"
#include "libmagma/client/file_table.h"
#include "libmagma/client/links.h"
#include "libmagma/client/requests.h"
#include "libmagma/client/router.h"
#include "libmagma/client/session.h"
#include "libmagma/client/space.h"
#include "libmagma/client/zeroing.h"

namespace magma::client {

namespace {

rpc::EndpointConfig endpoint_config(const ClientConfig& config) {
  rpc::EndpointConfig endpoint;
  endpoint.keys = config.keys;
  endpoint.datagram_bytes_max = config.datagram_bytes_max;
  return endpoint;
}

// Whether a connection that was closed for this reason will not do better next time.
bool is_lasting(Code code) {
  return code == Code::wrong_key || code == Code::wrong_version ||
         code == Code::wrong_filesystem || code == Code::bad_key_file ||
         code == Code::invalid;
}

}  // namespace

// Wires the parts, and starts and stops the whole.
class ClientImpl final : public LinkEvents, public SessionEvents {
 public:
  ClientImpl(ClientConfig config, sys::Clock& clock, sys::Random& random,
             sys::Datagrams& datagrams, KeySource& keys)
      : config_(std::move(config)),
        clock_(clock),
        links_(endpoint_config(config_), std::move(config_.passphrase), config_.reach, clock,
               random, datagrams, *this),
        session_(config_.host_name, links_, router_, clock, random, *this),
        requests_({.fail_when_away = config_.fail_when_away, .stall = config_.stall}, links_,
                  router_, session_, files_, clock, random),
        content_({.write_bytes_in_flight_max = config_.write_bytes_in_flight_max,
                  .fail_when_away = config_.fail_when_away,
                  .stall = config_.stall},
                 requests_, files_, keys, clock),
        keys_(keys) {}

  void start(Duration patience, Done<wire::AttachReply> done);
  void stop(Duration patience, UniqueFunction<void()> done);

  // Refuses a call if the client is not running.
  template <class T>
  bool refuse(Done<T>& done) {
    ++calls_;
    if (phase_ == Phase::starting || phase_ == Phase::running) return false;
    done(fail(Code::io, "the client is not running"));
    return true;
  }

  // Refuses an open of a file that cannot be remembered.
  template <class T>
  bool has_no_room(Ino ino, Done<T>& done) {
    if (files_.has_room() || files_.find(ino) != nullptr) return false;
    done(fail(Code::overloaded, "too many files known"));
    return true;
  }

  void on_link_up(LinkIndex link) override {
    session_.on_link_up(link);
    requests_.on_link_up(link);
  }
  void on_link_down(LinkIndex link, const Error& reason) override;
  void on_answer(LinkIndex link, Token token, Result<ByteSpan> message) override;
  void on_request(rpc::ConnectionId connection, rpc::RequestId request, ByteSpan message) override;
  void set_listener(ChangeListener* listener) {
    listener_ = listener;
    requests_.set_on_read([this](Ino ino) {
      if (listener_ != nullptr) listener_->on_read(ino);
    });
  }
  bool is_link_wanted(LinkIndex link) override {
    bool is_needed = !links_.is_any_up() && phase_ != Phase::stopped && phase_ != Phase::idle;
    return is_needed || requests_.is_link_wanted(link) || session_.is_link_wanted(link);
  }
  void on_session_usable(bool is_new, const wire::AttachReply& reply) override;
  void on_session_lost(SessionId old) override { requests_.on_session_lost(old); }
  void on_routes_changed() override { requests_.on_routes_changed(); }
  void on_attached(LinkIndex link) override { requests_.on_link_up(link); }
  Instant believes_until() override { return requests_.believes_until(); }
  void on_attach_refused(const Error& error) override {
    if (phase_ == Phase::starting) fail_start(error);
  }

  void after_events();
  Instant deadline() const;
  void on_timer();
  bool is_running() const { return phase_ == Phase::running && session_.is_live(); }

  std::vector<std::string> volcanoes_of(ring::Slot slot) const {
    Route route = router_.route(slot);
    if (route.link == kNoLink) return {};
    return {links_.address(route.link).text()};
  }
  ring::Slot root_slot() const { return ring::home_of(root_); }
  const std::vector<Router::Owner>& owners() const { return router_.owners(); }
  Requests& requests() { return requests_; }
  ContentIo& content() { return content_; }
  FileTable& files() { return files_; }
  Instant now() const { return clock_.now(); }
  KeySource& keys() { return keys_; }
  sys::Clock& clock() { return clock_; }
  Links& links() { return links_; }
  const Links& links() const { return links_; }
  Client::Stats stats() const {
    return {.calls = calls_,
            .retries = requests_.retries(),
            .reconnects = links_.reconnects(),
            .moved = content_.moved(),
            .sessions = session_.count(),
            .relayed = links_.relayed(),
            .local_opens = requests_.local_opens(),
            .keeps = requests_.keeps()};
  }
  bool is_waiting() const { return requests_.is_waiting(); }

 private:
  enum class Phase : std::uint8_t { idle, starting, running, stopping, detaching, stopped };

  void fail_start(const Error& error);
  void shut();
  void finish_stop();
  Error start_error() const;

  ClientConfig config_;
  sys::Clock& clock_;
  FileTable files_;
  Router router_;
  Links links_;
  Session session_;
  Requests requests_;
  ContentIo content_;
  KeySource& keys_;
  ChangeListener* listener_ = nullptr;

  Phase phase_ = Phase::idle;
  Done<wire::AttachReply> start_done_;
  Instant start_until_ = Instant::never();
  std::vector<Error> host_errors_;  // by link, of the hosts to start with; code 0: none yet
  UniqueFunction<void()> stop_done_;
  Instant drain_until_ = Instant::never();
  Instant stop_until_ = Instant::never();
  unsigned detaches_ = 0;  // not answered yet
  Ino root_;
  std::uint64_t calls_ = 0;
};

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
    bool is_drained = requests_.under_way() == 0 && content_.under_way() == 0;
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
  if (listener_ != nullptr) listener_->on_changed(std::move(changed->changes), one_done);
}

void ClientImpl::on_session_usable(bool is_new, const wire::AttachReply& reply) {
  content_.set_small_file_bytes_max(reply.small_file_bytes_max);
  root_ = reply.root;
  requests_.on_session_usable(is_new);
  if (phase_ != Phase::starting) return;
  phase_ = Phase::running;
  start_until_ = Instant::never();
  auto done = std::move(start_done_);
  done(reply);
}

Instant ClientImpl::deadline() const {
  return std::min({links_.deadline(), session_.deadline(), requests_.deadline(),
                   content_.deadline(), start_until_, drain_until_, stop_until_});
}

void ClientImpl::on_timer() {
  links_.on_timer();
  session_.on_timer();
  requests_.on_timer();
  content_.on_timer();
  if (start_until_ <= clock_.now()) fail_start(start_error());
}

// ---- the public face

Client::Client(ClientConfig config, sys::Clock& clock, sys::Random& random,
               sys::Datagrams& datagrams, KeySource& keys)
    : impl_(std::make_unique<ClientImpl>(std::move(config), clock, random, datagrams, keys)) {}
Client::~Client() = default;

void Client::set_listener(ChangeListener* listener) { impl_->set_listener(listener); }
void Client::start(Duration patience, Done<wire::AttachReply> done) {
  impl_->start(patience, std::move(done));
}
void Client::stop(Duration patience, UniqueFunction<void()> done) {
  impl_->stop(patience, std::move(done));
}
bool Client::is_connected() const { return impl_->is_running() && impl_->links().is_any_up(); }
const crypto::Uuid& Client::filesystem() const { return impl_->links().filesystem(); }

std::vector<std::string> Client::volcanoes_of(ring::Slot slot) const {
  return impl_->volcanoes_of(slot);
}

bool Client::knows_absent(Ino dir, std::string_view name) const {
  return impl_->requests().directories().is_absent(dir, name, impl_->now());
}

std::optional<KnownDirectory> Client::known_directory(Ino dir) const {
  return impl_->requests().directories().attr_of(dir, impl_->now());
}

CallId Client::lookup(Ino dir, std::string_view name, Credentials who,
                      Done<wire::EntryReply> done) {
  if (impl_->refuse(done)) return 0;
  wire::LookupRequest message;
  message.dir = dir;
  message.name = name;
  return impl_->requests().begin(ring::home_of(dir), who, message, std::move(done));
}

CallId Client::getattr(Ino ino, Credentials who, Done<wire::Attr> done) {
  if (impl_->refuse(done)) return 0;
  wire::GetattrRequest message;
  message.ino = ino;
  return impl_->requests().begin(ring::home_of(ino), who, message, std::move(done));
}

CallId Client::setattr(wire::SetattrRequest change, Credentials who, Done<wire::Attr> done) {
  if (impl_->refuse(done)) return 0;
  bool grows = (change.fields_set & wire::kSetSize) != 0 &&
               change.size > impl_->content().small_file_bytes_max();
  if (grows && change.key_for_chunks == ring::Key{})
    change.key_for_chunks = impl_->keys().key_of(change.ino);
  return impl_->requests().begin(ring::home_of(change.ino), who, change, std::move(done));
}

CallId Client::readlink(Ino ino, Credentials who, Done<std::string> done) {
  if (impl_->refuse(done)) return 0;
  wire::ReadlinkRequest message;
  message.ino = ino;
  return impl_->requests().begin(ring::home_of(ino), who, message, std::move(done));
}

CallId Client::create(wire::CreateRequest request, Credentials who, Done<wire::EntryReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->requests().begin_create(request, who, std::move(done));
}

CallId Client::mkdir(wire::MkdirRequest request, Credentials who, Done<wire::EntryReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->requests().begin_names(ring::home_of(request.dir), who, request,
                                       {.dir = request.dir, .name = request.name},
                                       std::move(done));
}

CallId Client::symlink(wire::SymlinkRequest request, Credentials who,
                       Done<wire::EntryReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->requests().begin_names(ring::home_of(request.dir), who, request,
                                       {.dir = request.dir, .name = request.name},
                                       std::move(done));
}

CallId Client::unlink(Ino dir, std::string_view name, Credentials who,
                      Done<wire::EmptyReply> done) {
  if (impl_->refuse(done)) return 0;
  wire::UnlinkRequest message;
  message.dir = dir;
  message.name = name;
  return impl_->requests().begin_names(ring::home_of(dir), who, message,
                                       {.dir = dir, .name = message.name, .removes = true},
                                       std::move(done));
}

CallId Client::rmdir(Ino dir, std::string_view name, Credentials who,
                     Done<wire::EmptyReply> done) {
  if (impl_->refuse(done)) return 0;
  wire::RmdirRequest message;
  message.dir = dir;
  message.name = name;
  return impl_->requests().begin_names(ring::home_of(dir), who, message,
                                       {.dir = dir, .name = message.name, .removes = true},
                                       std::move(done));
}

CallId Client::rename(wire::RenameRequest request, Credentials who, Done<wire::EmptyReply> done) {
  if (impl_->refuse(done)) return 0;
  NameChange names{.dir = request.to_dir,
                   .name = request.to_name,
                   .from_dir = request.from_dir,
                   .from_name = request.from_name,
                   .exchanges = (request.flags & wire::kRenameExchange) != 0};
  return impl_->requests().begin_names(ring::home_of(request.to_dir), who, request,
                                       std::move(names), std::move(done));
}

CallId Client::open(Ino ino, bool for_write, bool truncate, Credentials who,
                    Done<wire::Attr> done) {
  if (impl_->refuse(done) || impl_->has_no_room(ino, done)) return 0;
  if (!for_write && !truncate)
    if (const wire::Attr* attr = impl_->requests().open_locally(ino)) {
      done(wire::Attr(*attr));
      return 0;
    }
  wire::OpenRequest message;
  message.ino = ino;
  message.for_write = for_write;
  message.truncate = truncate;
  return impl_->requests().begin_open(message, who, std::move(done));
}

CallId Client::open_with_content(Ino ino, std::optional<std::uint64_t> known_version,
                                 Credentials who, Done<Opened> done) {
  constexpr std::uint64_t kNoVersion = ~std::uint64_t{0};  // of no file
  if (impl_->refuse(done) || impl_->has_no_room(ino, done)) return 0;
  if (const wire::Attr* attr = impl_->requests().open_locally(ino)) {
    done(Opened{.attr = *attr});
    return 0;
  }
  wire::OpenRequest message;
  message.ino = ino;
  message.content_unless = known_version.value_or(kNoVersion);
  return impl_->requests().begin_open(message, who, std::move(done));
}

CallId Client::mknod(wire::MknodRequest request, Credentials who, Done<wire::EntryReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->requests().begin_names(ring::home_of(request.dir), who, request,
                                       {.dir = request.dir, .name = request.name},
                                       std::move(done));
}

CallId Client::tmpfile(wire::TmpfileRequest request, Credentials who,
                       Done<wire::EntryReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->requests().begin_tmpfile(request, who, std::move(done));
}

CallId Client::link(wire::LinkRequest request, Credentials who, Done<wire::EntryReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->requests().begin_names(ring::home_of(request.dir), who, request,
                                       {.dir = request.dir, .name = request.name},
                                       std::move(done));
}

void Client::release(Ino ino, bool for_write, bool was_read) {
  impl_->requests().release(ino, for_write, was_read);
}

CallId Client::read(Ino ino, std::uint64_t offset, std::uint32_t length, Credentials who,
                    Done<Bytes> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->content().read(ino, offset, length, who, std::move(done));
}

CallId Client::write(Ino ino, std::uint64_t offset, Bytes bytes, bool append, bool kill_suidgid,
                     Credentials who, Done<wire::WriteReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->content().write(ino, offset, std::move(bytes), append, kill_suidgid, who,
                                std::move(done));
}

CallId Client::fsync(Ino ino, Credentials who, Done<wire::EmptyReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->content().fsync(ino, who, std::move(done));
}

CallId Client::copy(Ino from, std::uint64_t from_offset, Ino to, std::uint64_t to_offset,
                    std::uint64_t length, bool kill_suidgid, Credentials who,
                    Done<std::uint64_t> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->content().copy(from, from_offset, to, to_offset, length, kill_suidgid, who,
                               std::move(done));
}

CallId Client::fallocate(wire::FallocateRequest request, Credentials who,
                         Done<wire::FallocateReply> done) {
  if (impl_->refuse(done)) return 0;
  bool grows = (request.mode & wire::kFallocateKeepSize) == 0 &&
               request.offset + request.length > impl_->content().small_file_bytes_max();
  if (grows && request.key_for_chunks == ring::Key{})
    request.key_for_chunks = impl_->keys().key_of(request.ino);
  const ring::Slot home = ring::home_of(request.ino);
  if (!is_zeroing(request)) return impl_->requests().begin(home, who, request, std::move(done));
  auto answered = [this, request, who, done = std::move(done)](
                      Result<wire::FallocateReply> reply) mutable {
    if (reply || reply.error().code != Code::unsupported) return done(std::move(reply));
    write_zeros(*this, request, who, std::move(done));
  };
  return impl_->requests().begin(home, who, request,
                                 Done<wire::FallocateReply>(std::move(answered)));
}

CallId Client::seek(wire::SeekRequest request, Credentials who, Done<wire::SeekReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->requests().begin(ring::home_of(request.ino), who, request, std::move(done));
}

CallId Client::setxattr(wire::SetxattrRequest request, Credentials who, Done<wire::Attr> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->requests().begin(ring::home_of(request.ino), who, request, std::move(done));
}

CallId Client::getxattr(Ino ino, std::string_view name, Credentials who,
                        Done<wire::GetxattrReply> done) {
  if (impl_->refuse(done)) return 0;
  wire::GetxattrRequest message;
  message.ino = ino;
  message.name = name;
  return impl_->requests().begin(ring::home_of(ino), who, message, std::move(done));
}

CallId Client::listxattr(Ino ino, Credentials who, Done<wire::ListxattrReply> done) {
  if (impl_->refuse(done)) return 0;
  wire::ListxattrRequest message;
  message.ino = ino;
  return impl_->requests().begin(ring::home_of(ino), who, message, std::move(done));
}

CallId Client::removexattr(Ino ino, std::string_view name, Credentials who,
                           Done<wire::Attr> done) {
  if (impl_->refuse(done)) return 0;
  wire::RemovexattrRequest message;
  message.ino = ino;
  message.name = name;
  return impl_->requests().begin(ring::home_of(ino), who, message, std::move(done));
}

CallId Client::lock(wire::LockRequest request, Credentials who, Done<wire::LockReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->requests().begin(ring::home_of(request.ino), who, request, std::move(done));
}

CallId Client::wait_for_lock(wire::LockRequest request, Credentials who,
                             Done<wire::EmptyReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->requests().begin(ring::home_of(request.ino), who, wire::LockWaitRequest{request},
                                 std::move(done));
}

CallId Client::test_lock(wire::LockRequest request, Credentials who,
                         Done<wire::TestLockReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->requests().begin(ring::home_of(request.ino), who, wire::TestLockRequest{request},
                                 std::move(done));
}

CallId Client::readdir(wire::ReaddirRequest request, Credentials who,
                       Done<wire::ReaddirReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->requests().begin(ring::home_of(request.dir), who, request, std::move(done));
}

CallId Client::statfs(Credentials who, Done<wire::StatfsReply> done) {
  if (impl_->refuse(done)) return 0;
  if (const auto& owners = impl_->owners(); owners.size() > 1)
    return sum_space(impl_->requests(), owners, who, std::move(done));
  return impl_->requests().begin(impl_->root_slot(), who, wire::StatfsRequest{}, std::move(done));
}

CallId Client::ring(Done<wire::RingReply> done) {
  if (impl_->refuse(done)) return 0;
  return impl_->requests().begin(
      impl_->root_slot(), {}, wire::RingRequest{},
      RawDone([done = std::move(done)](Answer& answer) mutable {
        if (!answer.is_ok()) return done(fail(answer.code, std::move(answer.detail)));
        done(wire::decode<wire::RingReply>(answer.body));
      }));
}

void Client::cancel(CallId call) {
  if (call == 0) return;
  if ((call & kOperationBit) != 0)
    impl_->content().cancel(call);
  else
    impl_->requests().cancel(call);
}

void Client::forget(Ino ino) { impl_->files().forget(ino, impl_->clock().now()); }

void Client::on_datagram(const sys::Address& from, MutableByteSpan datagram) {
  impl_->links().endpoint().on_datagram(from, datagram);
}

void Client::flush() {
  impl_->after_events();
  impl_->links().endpoint().flush();
}

Instant Client::deadline() const { return impl_->deadline(); }

void Client::on_timer() {
  impl_->on_timer();
  flush();
}

bool Client::is_waiting() const { return impl_->is_waiting(); }
Client::Stats Client::stats() const { return impl_->stats(); }
const rpc::Counters& Client::counters() const { return impl_->links().endpoint().counters(); }

}  // namespace magma::client
