#include "magmad/console/ring_files.h"

#include <algorithm>
#include <utility>

#include "libmagma/base/log.h"
#include "libmagma/client/ring_words.h"
#include "libmagma/crypto/path_hash.h"

namespace magma::console {

class RingFiles::Waiter final : public Pending {
 public:
  Waiter(RingFiles& files, std::uint64_t id) : files_(files), id_(id) {}
  ~Waiter() override { files_.waiters_.erase(id_); }

 private:
  RingFiles& files_;
  std::uint64_t id_;
};

class RingFiles::Walk final : public Pending {
 public:
  explicit Walk(client::Tree& tree) : walk_(tree) {}
  void resolve(std::string_view path, client::PathWalk::Last last, Done<client::Flare> done) {
    walk_.resolve(path, last, std::move(done));
  }

 private:
  client::PathWalk walk_;
};

// Given up, the entry may go all the same: only nobody is told.
class RingFiles::Erasure final : public Pending {
 public:
  explicit Erasure(RingFiles& files) : files_(files) {}
  ~Erasure() override {
    *is_wanted_ = false;
    if (call_ != 0 && files_.client_) files_.client_->cancel(call_);
  }
  void begin(Ino dir, std::string_view name, Done<void> done) {
    call_ = files_.client_->unlink(
        dir, name, {}, [wanted = is_wanted_, this, done = std::move(done)](auto result) mutable {
          if (!*wanted) return;
          call_ = 0;
          auto tell = std::move(done);  // `this` and what we are in may go inside the call
          if (result)
            tell({});
          else
            tell(fail(result.error()));
        });
  }

 private:
  RingFiles& files_;
  client::CallId call_ = 0;
  std::shared_ptr<bool> is_wanted_ = std::make_shared<bool>(true);  // shared with the callback
};

namespace {

class RingListing final : public Listing {
 public:
  RingListing(client::Tree& tree, client::Flare directory)
      : reader_(tree, std::move(directory), {}) {}
  void next(Done<client::DirectoryBatch> done) override { reader_.next(std::move(done)); }

 private:
  client::DirectoryReader reader_;
};

class RingReading final : public Reading {
 public:
  // One piece ahead of a person is enough, and bounds what a session holds.
  RingReading(client::Tree& tree, client::Flare file)
      : reader_(tree, std::move(file), {.hold_open = true, .parts_ahead = 1}) {}
  void next(Done<Bytes> done) override { reader_.next(std::move(done)); }

 private:
  client::FileReader reader_;
};

}  // namespace

RingFiles::RingFiles(Config config, sys::Clock& clock, sys::Random& random,
                     OpenRingSocket open_socket)
    : config_(std::move(config)),
      clock_(clock),
      random_(random),
      open_socket_(std::move(open_socket)) {}

RingFiles::~RingFiles() = default;

// Only asked when a file outgrows its home; the console writes none.
ring::Key RingFiles::key_of(Ino) { return crypto::key_of_path("/"); }

// ---- start and stop

void RingFiles::set_ring(wire::RingReply ring) {
  ring_ = std::move(ring);
  if (tree_) tree_->profiles.set(*ring_, clock_.wall_now());
}

PendingPtr RingFiles::open(Done<Files*> done) {
  if (state_ == State::running) {
    done(this);
    return nullptr;
  }
  if (is_ending_) {
    done(fail(Code::shutting_down, "the volcano stops"));
    return nullptr;
  }
  const std::uint64_t id = ++last_waiter_;
  waiters_.emplace(id, std::move(done));
  auto waiter = std::make_unique<Waiter>(*this, id);
  if (state_ == State::down) start();
  return waiter;
}

void RingFiles::start() {
  state_ = State::starting;
  auto socket = open_socket_([this](const sys::Address& from, MutableByteSpan datagram) {
    if (client_) client_->on_datagram(from, datagram);
  });
  // Told from on_timer, not from within open().
  if (!socket) {
    log_error("console_client_failed error={}", describe(socket.error()));
    state_ = State::failed;
    return;
  }
  socket_ = std::move(*socket);
  client::ClientConfig config;
  config.hosts = {config_.volcano};
  config.keys = config_.keys;
  config.host_name = config_.host_name;
  config.fail_when_away = true;
  config.stall = kStall;
  config.reach = client::Reach::any;
  client_ =
      std::make_unique<client::Client>(std::move(config), clock_, random_, socket_->datagrams(),
                                       static_cast<client::KeySource&>(*this));
  client_->start(kStartPatience,
                 [this](Result<wire::AttachReply> reply) { on_started(std::move(reply)); });
}

void RingFiles::on_started(Result<wire::AttachReply> reply) {
  if (is_ending_ || state_ != State::starting) return;
  if (!reply) {
    log_error("console_client_failed error={}", describe(reply.error()));
    state_ = State::failed;  // the client is in a call: taken down by the timer
    return;
  }
  nick_ = reply->nick;
  tree_.emplace(*client_, *reply, clock_.wall_now());
  if (ring_) tree_->profiles.set(*ring_, clock_.wall_now());
  state_ = State::running;
  if (users_ == 0) idle_since_ = clock_.now();
  tell_waiters(this);
}

// Those that wait now; who comes meanwhile, or gives up, is left alone.
void RingFiles::tell_waiters(const Result<Files*>& result) {
  std::vector<std::uint64_t> ids;
  for (const auto& [id, done] : waiters_) ids.push_back(id);
  for (const std::uint64_t id : ids) {
    auto waiter = waiters_.extract(id);
    if (!waiter.empty()) waiter.mapped()(result);
  }
}

void RingFiles::set_users(std::size_t users) {
  if (users == 0 && users_ != 0) idle_since_ = clock_.now();
  if (users != 0) idle_since_ = Instant::never();
  users_ = users;
}

void RingFiles::stop(UniqueFunction<void()> done) {
  is_ending_ = true;
  stop_done_ = std::move(done);
  waiters_.clear();
  if (state_ == State::starting || state_ == State::running) return begin_stop();
  if (state_ == State::stopping) return;
  take_down();
}

void RingFiles::begin_stop() {
  state_ = State::stopping;
  // The client cannot be destroyed in its own callback: by the timer.
  client_->stop(kStopPatience, [this] { state_ = State::failed; });
}

// To the beginning. Not from within a call of the client.
void RingFiles::take_down() {
  tree_.reset();
  client_.reset();
  socket_.reset();
  state_ = State::down;
  idle_since_ = Instant::never();
  if (is_ending_) {
    if (auto stopped = std::move(stop_done_)) stopped();
    return;
  }
  tell_waiters(
      fail(Code::unreachable, "the network's files cannot be reached; magmad's log says why"));
}

void RingFiles::flush() {
  if (client_) client_->flush();
}

Instant RingFiles::deadline() const {
  if (state_ == State::failed) return clock_.now();
  Instant due = client_ ? client_->deadline() : Instant::never();
  if (state_ == State::running && idle_since_ != Instant::never())
    due = std::min(due, idle_since_ + kIdleMax);
  return due;
}

void RingFiles::on_timer() {
  if (state_ == State::failed) return take_down();
  const Instant now = clock_.now();
  if (client_ && client_->deadline() <= now) client_->on_timer();
  if (state_ == State::running && idle_since_ != Instant::never() && idle_since_ + kIdleMax <= now)
    begin_stop();
}

// ---- Files

PendingPtr RingFiles::resolve(std::string_view path, client::PathWalk::Last last,
                              Done<client::Flare> done) {
  auto walk = std::make_unique<Walk>(*tree_);
  walk->resolve(path, last, std::move(done));
  return walk;
}

std::unique_ptr<Listing> RingFiles::list(client::Flare directory) {
  return std::make_unique<RingListing>(*tree_, std::move(directory));
}

std::unique_ptr<Reading> RingFiles::read(client::Flare file) {
  return std::make_unique<RingReading>(*tree_, std::move(file));
}

PendingPtr RingFiles::erase(const client::Flare& flare, Done<void> done) {
  if (tree_->profiles.has(flare.attr.ino)) {
    done(fail(Code::read_only, "/.dht is made up"));
    return nullptr;
  }
  auto erasure = std::make_unique<Erasure>(*this);
  erasure->begin(flare.parent, flare.path.substr(flare.path.rfind('/') + 1), std::move(done));
  return erasure;
}

std::vector<client::Holder> RingFiles::holders(ring::Slot slot) {
  if (ring_) return client::holders_of(*ring_, slot);
  std::vector<client::Holder> holders;
  for (std::string& address : client_->volcanoes_of(slot)) {
    const bool is_ours = address == config_.volcano.text();
    holders.push_back({is_ours ? nick_ : std::string(), std::move(address)});
  }
  return holders;
}

}  // namespace magma::console
