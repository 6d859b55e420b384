// What a Client is made of: wires the parts, starts and stops the whole, and lets calls wait for
// delayed writes. The calls themselves are in client.cc.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "libmagma/client/client.h"
#include "libmagma/client/content_io.h"
#include "libmagma/client/delayed_names.h"
#include "libmagma/client/file_table.h"
#include "libmagma/client/links.h"
#include "libmagma/client/own_locks.h"
#include "libmagma/client/requests.h"
#include "libmagma/client/router.h"
#include "libmagma/client/session.h"
#include "libmagma/client/write_back.h"

namespace magma::client {

// Of calls that wait for delayed writes: no operation has this number.
inline constexpr CallId kDeferredMark = 0xffffffff;
constexpr bool is_deferred(CallId call) { return (call & kDeferredMark) == kDeferredMark; }

class ClientImpl final : public LinkEvents,
                         public SessionEvents,
                         public WriteBack::Owner,
                         public DelayedNames::Owner,
                         public OwnLocks::Owner {
 public:
  ClientImpl(ClientConfig config, sys::Clock& clock, sys::Random& random,
             sys::Datagrams& datagrams, KeySource& keys);

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
  void on_session_lost(SessionId old) override {
    ++sessions_lost_;
    write_back_.session_lost(clock_.now());
    delayed_names_.session_lost();
    requests_.on_session_lost(old);
    own_locks_.session_lost();
  }
  void on_routes_changed() override {
    requests_.on_routes_changed();
    write_back_.forget_tokens(clock_.now());
    delayed_names_.forget_tokens(clock_.now());
    own_locks_.send_all();
  }
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
  WriteBack& write_back() { return write_back_; }
  DelayedNames& delayed_names() { return delayed_names_; }

  // ---- delayed writes (write_back.h)
  // Sets attributes later, if they may be: then `done` was called.
  bool delays(const wire::SetattrRequest& change, Credentials who, Done<wire::Attr>& done) {
    auto after = write_back_.set({change, who.uid, who.gid}, clock_.now());
    if (!after) return false;
    requests_.note_own_write(change.ino);
    done(std::move(*after));
    return true;
  }
  void send(WriteBack::Flush flush, std::uint64_t number) override;
  void send_attributes(WriteBack::Attributes attributes, std::uint64_t number) override;
  void claim(Ino ino) override;
  void verify(Ino ino) override;
  bool is_open_for_write(Ino ino) override {
    const File* file = files_.find(ino);
    return file != nullptr && file->writers > 0;
  }
  void on_sent(Ino ino, std::uint64_t data_version) override {
    if (listener_ != nullptr) listener_->on_sent(ino, data_version);
  }
  void on_attributes_sent(Ino ino) override {
    requests_.note_own_attributes(ino);
    if (listener_ != nullptr) listener_->on_attributes_sent(ino);
  }
  void on_lost(Ino ino) override {
    if (listener_ != nullptr) listener_->on_lost(ino);
  }
  CallId write(WriteBack::Write write, Bytes bytes, Credentials who, Done<wire::WriteReply> done);
  struct PendingWrite;
  void attempt(const std::shared_ptr<PendingWrite>& pending);
  void end(PendingWrite& pending, Result<wire::WriteReply> result);
  void release(Ino ino, bool for_write, bool was_read);
  void closed(Ino ino);

  // A call that `start` makes (it takes the callback, and returns the CallId) once `wait` has
  // called what it is given.
  template <class T, class Wait, class Start>
  CallId deferred(Done<T> done, Wait wait, Start start);
  // A call that must come after the writes to the file.
  template <class T, class Start>
  CallId after_writes(Ino ino, Done<T> done, Start start) {
    if (!write_back_.is_dirty(ino)) return start(std::move(done));
    auto wait = [this, ino](UniqueFunction<void()> then) {
      write_back_.when_clean(ino, clock_.now(), std::move(then));
    };
    return deferred(std::move(done), std::move(wait), std::move(start));
  }
  // The same, and after the changes of its names.
  template <class T, class Start>
  CallId ordered(Ino ino, Done<T> done, Start start) {
    auto next = [this, ino, start = std::move(start)](Done<T> then) mutable {
      return after_names_of(ino, std::move(then), std::move(start));
    };
    return after_writes(ino, std::move(done), std::move(next));
  }
  // The same of one that may make the file longer or shorter.
  template <class T, class Start>
  CallId ordered_change(Ino ino, Done<T> done, Start start) {
    auto begin = [this, ino, start = std::move(start)](Done<T> then) mutable {
      write_back_.begin_through(ino, clock_.now());
      return start(Done<T>([this, ino, then = std::move(then)](Result<T> result) mutable {
        write_back_.ended_through(ino, nullptr, false, clock_.now());
        then(std::move(result));
      }));
    };
    if (!config_.delays_writes) return start(std::move(done));
    return ordered(ino, std::move(done), std::move(begin));
  }
  void cancel(CallId call);
  // Calls that wait longer than `stall` for what a volcano that is away must be told first.
  void give_up_deferred(const Error& error);
  void note_deferred(CallId id, UniqueFunction<void(const Error&, bool)> end) {
    using End = UniqueFunction<void(const Error&, bool)>;
    deferred_[id] = {std::make_shared<End>(std::move(end)), clock_.now()};
  }

  // ---- locks (own_locks.h)
  bool decides_locks(Ino ino);
  CallId lock(const wire::LockRequest& request, Credentials who, Done<wire::LockReply> done);
  CallId wait_for_lock(const wire::LockRequest& request, Credentials who,
                       Done<wire::EmptyReply> done);
  CallId test_lock(const wire::LockRequest& request, Credentials who,
                   Done<wire::TestLockReply> done);
  void send_locks(Ino ino, locks::HeldLocks held, std::uint64_t number) override;
  // A call about locks of the file, which comes after those that were decided here.
  template <class T, class Start>
  CallId after_own_locks(Ino ino, Done<T> done, Start start) {
    if (!own_locks_.is_unsent(ino)) return start(std::move(done));
    auto wait = [this, ino](UniqueFunction<void()> then) {
      own_locks_.when_sent(ino, std::move(then));
    };
    return deferred(std::move(done), std::move(wait), std::move(start));
  }

  // ---- delayed changes of names (delayed_names.h)
  void send_names(const DelayedNames::Batch& batch, std::uint64_t number) override;
  void on_name_lost(Ino dir, const wire::NameStep& step) override {
    if (listener_ != nullptr) listener_->on_name_lost(dir, step.name, step.to_name);
  }
  // Makes the change later, if it may be.
  bool delays(const NameChange& change, Ino ino, Credentials who);
  // Makes the file later, if it may be: then `done` was called.
  bool makes(const wire::CreateRequest& request, Credentials who, Done<wire::EntryReply>& done);
  void note_without_token(const std::vector<Ino>& steps, const wire::ChangeNamesReply& reply);
  // A call that must come after the changes of names in the directory; after all of them.
  template <class T, class Start>
  CallId after_names(Ino dir, Done<T> done, Start start) {
    if (!delayed_names_.is_dirty(dir)) return start(std::move(done));
    auto wait = [this, dir](UniqueFunction<void()> then) {
      delayed_names_.when_clean(dir, clock_.now(), std::move(then));
    };
    return deferred(std::move(done), std::move(wait), std::move(start));
  }
  // After those that the attributes of the flare depend on.
  template <class T, class Start>
  CallId after_names_of(Ino ino, Done<T> done, Start start) {
    const Ino dir = delayed_names_.is_dirty(ino) ? ino : delayed_names_.dir_of(ino);
    return after_names(dir, std::move(done), std::move(start));
  }
  template <class Message>
  CallId make_name(Message request, Credentials who, Done<wire::EntryReply> done) {
    const Ino dir = request.dir;
    auto start = [this, who, request = std::move(request)](Done<wire::EntryReply> then) {
      return requests_.begin_names(ring::home_of(request.dir), who, request,
                                   {.dir = request.dir, .name = request.name}, std::move(then));
    };
    return after_names(dir, std::move(done), std::move(start));
  }
  template <class T, class Start>
  CallId after_all_names(Done<T> done, Start start) {
    if (!delayed_names_.has_dirty()) return start(std::move(done));
    auto wait = [this](UniqueFunction<void()> then) {
      delayed_names_.when_all_clean(clock_.now(), std::move(then));
    };
    return deferred(std::move(done), std::move(wait), std::move(start));
  }
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
            .keeps = requests_.keeps(),
            .delayed_writes = write_back_.kept(),
            .delayed_sets = write_back_.sets(),
            .delayed_sent = write_back_.flushes(),
            .delayed_bytes = write_back_.bytes(),
            .delayed_files = write_back_.dirty_files(),
            .write_recalls = write_back_.recalls(),
            .write_claims = write_back_.claims(),
            .delayed_names = delayed_names_.kept(),
            .delayed_files_made = delayed_names_.made(),
            .delayed_directories = delayed_names_.dirty(),
            .delayed_names_sent = delayed_names_.batches(),
            .own_locks = own_locks_.decided(),
            .lock_sets = own_locks_.sets()};
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
  WriteBack write_back_;
  DelayedNames delayed_names_;
  OwnLocks own_locks_;
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
  std::uint64_t sessions_lost_ = 0;
  struct Deferred {
    // Ends it, if it has not begun; else cancels what was begun, if it is cancelled.
    std::shared_ptr<UniqueFunction<void(const Error&, bool is_cancelled)>> end;
    Instant since;
  };
  std::unordered_map<CallId, Deferred> deferred_;
  std::uint64_t last_deferred_ = 0;
};

template <class T, class Wait, class Start>
CallId ClientImpl::deferred(Done<T> done, Wait wait, Start start) {
  struct Call {
    Done<T> done;
    Start start;
    CallId started = 0;
    bool has_ended = false;
  };
  const CallId id = ++last_deferred_ << 32 | kDeferredMark;
  auto call = std::make_shared<Call>(Call{std::move(done), std::move(start)});
  auto end = [this, id, call](Result<T> result) {
    if (std::exchange(call->has_ended, true)) return;
    deferred_.erase(id);
    auto owed = std::move(call->done);
    owed(std::move(result));
  };
  note_deferred(id, [this, call, end](const Error& error, bool is_cancelled) {
    if (call->started == 0) return end(fail(error));
    if (is_cancelled) cancel(call->started);
  });
  wait([call, end] {
    if (!call->has_ended) call->started = call->start(Done<T>(end));
  });
  return call->has_ended ? 0 : id;
}

}  // namespace magma::client
