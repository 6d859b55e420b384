// Requests under way: one request of the flare protocol each, from the call that made it to its
// answer, over any number of connections, volcanoes and maps. ClientImpl makes one per simple
// call, ContentIo several per read, write or fsync. One thread.
//
// A request is in one of these states:
//   held      the session is not usable                      -> on_session_usable
//   queued    its volcano is not connected or has no room    -> on_link_up, an answer, a new map
//   laneless  a change, and all lanes are taken              -> a lane becomes free
//   sent      awaiting the answer                            -> on_answer, a new map
//   resting   refused for now; tried again at `wake`         -> timer, a new map if `needs_map`
//   partial   answered, but not told all: the rest is asked   -> that request's end
// Invariants: a change has a lane from its first sending to its end, and the same sequence each
// time it is sent; a lane is never with two requests. A change that was given up (cancelled, or
// too late) keeps its lane until it is answered or its connection is lost, and is not sent again:
// it must not happen long after its caller was told.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/base/result.h"
#include "libmagma/base/time.h"
#include "libmagma/client/beliefs.h"
#include "libmagma/client/client.h"
#include "libmagma/client/delayed_names.h"
#include "libmagma/client/directory_cache.h"
#include "libmagma/client/file_table.h"
#include "libmagma/client/lanes.h"
#include "libmagma/client/links.h"
#include "libmagma/client/local_opens.h"
#include "libmagma/client/own_locks.h"
#include "libmagma/client/router.h"
#include "libmagma/client/session.h"
#include "libmagma/client/slab.h"
#include "libmagma/client/write_back.h"
#include "libmagma/wire/codec.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::client {

inline constexpr std::size_t kRequestsMax = 65536;
inline constexpr std::size_t kReleaseLanesMax = 32;          // of the 256; others must get on
// Lanes that only writes take: another client's change may wait for one of ours to be sent, and all
// of ours for that client.
inline constexpr std::size_t kWriteLanes = 16;
inline constexpr Duration kReleaseDelay = milliseconds(5);
inline constexpr Duration kRetryFirst = milliseconds(4);     // after a refusal; doubles
inline constexpr Duration kRetryLast = milliseconds(500);
inline constexpr Duration kSweepEvery = milliseconds(250);
inline constexpr Duration kAskMapAfter = seconds(1);         // without an answer
inline constexpr Duration kTellAfter = seconds(5);           // the log of one that waits
inline constexpr Duration kKeepMax = seconds(2);             // a change of names waits for opens

using RequestToken = Token;  // Slab id

// How a request ended: code 0 is done, and `body` follows the response head. `tail` is the payload
// that was sent, to be taken back.
struct Answer {
  Code code{};
  ByteSpan body{};
  std::string detail{};
  Bytes tail{};
  std::optional<wire::NamesChanged> names_changed{};
  Instant believe_until{};  // zero: what it tells is so no longer, maybe
  bool may_delay = false;   // wire::ResponseHead
  bool is_ok() const { return code == Code{}; }
};
using RawDone = UniqueFunction<void(Answer&)>;

// Who is told of attributes in an answer to a request made at `made_at`.
struct Learner {
  FileTable& files;
  DirectoryCache& directories;
  Beliefs& beliefs;
  LocalOpens& local_opens;
  WriteBack& write_back;
  const DelayedNames& delayed_names;
  Instant now;
  Instant made_at;
  Instant believe_until{};
  Ino dir{};  // whose names the answer tells of
  bool may_delay = false;
  Instant until_of(Ino ino) { return beliefs.until(ino, made_at, believe_until); }
  void learn(wire::Attr& attr) {
    attr.believed_until = until_of(attr.ino);
    files.learn(attr, now);
    if (may_delay) write_back.granted(attr, made_at, now);
    write_back.amend(attr);
    delayed_names.amend(attr);
    directories.learn(attr);
    local_opens.learn(attr, made_at);
  }
};

using AnyDone =
    std::variant<std::monostate, RawDone, Done<wire::Attr>, Done<wire::EntryReply>,
                 Done<wire::EmptyReply>, Done<std::string>, Done<wire::ReaddirReply>,
                 Done<wire::StatfsReply>, Done<wire::GetxattrReply>, Done<wire::ListxattrReply>,
                 Done<Opened>, Done<wire::FallocateReply>, Done<wire::SeekReply>,
                 Done<wire::LockReply>, Done<wire::TestLockReply>>;

struct Request {
  enum class State : std::uint8_t { none, held, queued, laneless, sent, resting, partial };
  // What else its answer means.
  enum class Role : std::uint8_t { plain, open, create, release, reopen, keep };

  Bytes head;  // RequestHead and the operation's struct; session, lane, epoch set at each sending
  Bytes tail;
  AnyDone done;
  wire::FlareOp op{};
  wire::OpKind kind{};
  rpc::Priority priority{};
  State state = State::none;
  Role role = Role::plain;
  bool needs_map = false;
  bool is_given_up = false;
  bool is_bound = false;     // to the session
  bool is_delayed = false;   // by WriteBack: another client may wait for it
  bool for_write = false;  // of an open
  bool was_read = false;   // of a release
  bool takes_names = false;  // counted by LocalOpens
  ring::Slot slot;
  LinkIndex link = kNoLink;
  std::uint16_t lane = wire::kNoLane;
  std::uint32_t sequence = 0;
  std::uint32_t tries = 0;  // refusals in a row
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  Ino ino;  // that it is about, if it is about one
  Ino dir;  // of a request about names in it
  std::optional<NameChange> names{};
  SessionId session{};
  rpc::RequestId rpc_id;
  Instant made_at{};
  Instant since{};    // the stall clock: made, or last heard of
  Instant sent_at{};
  Instant wake{};
  unsigned lookups = 0;  // of a name whose flare was gone each time

  void reset();
};

class Requests {
 public:
  struct Config {
    bool fail_when_away = false;
    Duration stall = seconds(5);
  };
  Requests(Config config, Links& links, Router& router, Session& session, FileTable& files,
           WriteBack& write_back, DelayedNames& delayed_names, OwnLocks& own_locks,
           sys::Clock& clock, sys::Random& random);

  // Called when the volcano has ended an open of a file that was read: its access time may be
  // another.
  void set_on_read(UniqueFunction<void(Ino)> on_read) { on_read_ = std::move(on_read); }
  // With fail_when_away, now and then while a request that is never given up has no answer for
  // longer than `stall`: what waits for it may be.
  void set_on_stalled(UniqueFunction<void(const Error&)> on_stalled) {
    on_stalled_ = std::move(on_stalled);
  }

  // Makes a request and sends it as soon as it can be. `done` may be called inside. 0 if it was
  // refused at once (too many, or the client has ended).
  template <class Message>
  Token begin(ring::Slot slot, Credentials who, const Message& message, AnyDone done,
              Bytes tail = {}) {
    Token id = admit(wire::OpOf<Message>::op, slot, who, done);
    if (id == 0) return 0;
    Request& request = *slab_.find(id);
    if constexpr (requires { message.dir; }) request.dir = message.dir;
    if constexpr (requires { message.ino; }) request.ino = message.ino;
    if constexpr (requires { message.target; }) request.ino = message.target.ino;
    put_head(request, who);
    wire::encode_to(request.head, message);
    request.tail = std::move(tail);
    dispatch(id);
    return id;
  }
  // As begin(), for what programs were told is done: attributes and names that were delayed, locks
  // that were given here. Bound to the session, and in lanes as a write. What the answer tells of a
  // directory is for note_delayed_names().
  template <class Message>
  Token begin_bound(ring::Slot slot, Credentials who, const Message& message, AnyDone done) {
    Token id = admit(wire::OpOf<Message>::op, slot, who, done);
    if (id == 0) return 0;
    Request& request = *slab_.find(id);
    if constexpr (requires { message.ino; }) request.ino = message.ino;
    request.is_bound = request.is_delayed = true;
    put_head(request, who);
    wire::encode_to(request.head, message);
    dispatch(id);
    return id;
  }
  // Whether a change of names in the directory, or one that may be, is asked for.
  bool is_changing_names(Ino dir);
  // A change of names is delayed; the directory's attributes after it. `ino`: that the name leads
  // to.
  void note_own_names(const NameChange& change, const wire::Attr& after, Ino ino);
  // A file is made later, and open; the directory's attributes after it. Until when programs may
  // believe the name.
  Instant note_own_file(const NameChange& change, const wire::Attr& after, wire::Attr& attr,
                        bool for_write);
  // The answer to delayed changes, asked for at `made_at`. `is_as_told`: they were done. `is_last`:
  // nothing of the directory is delayed now.
  void note_delayed_names(Ino dir, Answer& answer, Instant made_at, bool is_as_told, bool is_last);
  // A part of a listing came: that after the cookie `after`.
  void note_listed(Ino dir, std::uint64_t after, const wire::ReaddirReply& part) {
    directories_.listed(dir, after, part);
  }
  // Whether the file is open here.
  bool is_open(Ino ino) {
    const File* file = files_.find(ino);
    return (file != nullptr && file->is_open()) || local_opens_.is_open(ino);
  }
  // As begin(), for changes of names.
  template <class Message>
  Token begin_names(ring::Slot slot, Credentials who, const Message& message, NameChange names,
                    AnyDone done) {
    Token id = admit(wire::OpOf<Message>::op, slot, who, done);
    if (id == 0) return 0;
    Request& request = *slab_.find(id);
    request.names = std::move(names);
    request.dir = request.names->dir;
    if constexpr (requires { message.ino; }) request.ino = message.ino;
    put_head(request, who);
    wire::encode_to(request.head, message);
    if (request.names->removes || request.names->from_dir != Ino())
      take_name(id);
    else
      dispatch(id);
    return id;
  }
  // As begin(), for requests whose answer changes what this mount holds open.
  Token begin_open(const wire::OpenRequest& message, Credentials who, AnyDone done);
  // The attributes of a file that can be opened for reading without asking, and is now.
  const wire::Attr* open_locally(Ino ino) {
    const wire::Attr* attr = local_opens_.open(ino, clock_.now());
    opened_locally_ += attr != nullptr;
    return attr;
  }
  Token begin_create(const wire::CreateRequest& message, Credentials who,
                     Done<wire::EntryReply> done) {
    return begin_made(message, who, std::move(done));
  }
  Token begin_tmpfile(const wire::TmpfileRequest& message, Credentials who,
                      Done<wire::EntryReply> done) {
    return begin_made(message, who, std::move(done));
  }
  // What is believed of a file; nullptr if nothing is.
  const wire::Attr* known_file(Ino ino, Instant now) const { return local_opens_.known(ino, now); }
  // A write of this client is delayed: what was believed of the file is so no longer.
  void note_own_write(Ino ino) { local_opens_.changed(ino, clock_.now()); }
  // A delayed change of attributes is done: what was asked for before may not tell it.
  void note_own_attributes(Ino ino) {
    beliefs_.changed(ino, clock_.now());
    local_opens_.changed(ino, clock_.now());
  }
  // Sent with the next change, or after kReleaseDelay: alone it would cost the volcano a
  // transaction of its own.
  void release(Ino ino, bool for_write, bool was_read);
  void flush_releases() { pump_releases(true); }

  // Ends as `fenced` with the session in which it was made, also if it was not sent yet: it must
  // not be done in another one.
  void bind_to_session(Token id) {
    if (Request* request = slab_.find(id)) request->is_bound = true;
  }
  // The callback gets `interrupted` now.
  void cancel(Token id);
  // As cancel, without calling it: the asker has been told already.
  void abandon(Token id);
  // Ends every request with `error`; later ones are refused with it.
  void end(Error error);

  void on_answer(LinkIndex link, Token id, Result<ByteSpan> message);
  // A volcano says that these are others now. `done` is called when their opens are told.
  void on_changed(const std::vector<wire::Change>& changes, UniqueFunction<void()> done);
  // Until when anything it was told may be believed.
  Instant believes_until() const { return beliefs_.last(); }
  void on_link_up(LinkIndex link);
  bool is_link_wanted(LinkIndex link) const;
  void on_session_usable(bool is_new);
  void on_session_lost(SessionId old);
  void on_routes_changed();

  Instant deadline() const;
  void on_timer();

  std::size_t under_way() const { return slab_.size() + releases_.size(); }
  bool is_waiting() const { return sent_ > 0; }
  const DirectoryCache& directories() const { return directories_; }
  std::uint64_t begun() const { return begun_; }
  std::uint64_t retries() const { return retries_; }
  std::uint64_t local_opens() const { return opened_locally_; }
  std::uint64_t keeps() const { return keeps_; }
  std::size_t lanes_used() const { return lanes_.used(); }

 private:
  template <class Message>
  Token begin_made(const Message& message, Credentials who, Done<wire::EntryReply> done);
  struct Release {
    Ino ino;
    bool for_write = false;
    bool was_read = false;
    bool was_untold = false;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
  };
  struct Wake {
    Instant at;
    Token id = 0;
    friend bool operator<(const Wake& a, const Wake& b) { return b.at < a.at; }  // heap: first
  };

  Token admit(wire::FlareOp op, ring::Slot slot, Credentials who, AnyDone& done);
  static void put_head(Request& request, Credentials who);
  void dispatch(Token id);
  void send(Token id, Request& request, Route route);
  bool waits_for_name(Token id, Request& request, Ino ino);
  void stamp_head(Request& request, Epoch epoch) const;
  void rest(Token id, Request& request, bool needs_map);
  void refused(Token id, Request& request, Code code, ByteSpan body);
  void wait_for_link(Token id, Request& request, LinkIndex link);
  void unsend(Request& request);
  void free_lane(Request& request);
  bool has_lane(const Request& request) const;
  void pump_lanes();
  void pump_link(LinkIndex link);
  void pump_releases(bool now);
  void queue_release(const Release& item);
  void take_name(Token id);
  void pump_keeps();
  void kept(Ino ino, Code code);
  void note_change(const Request& request, const Answer& answer);
  void complete(Token id, Answer& answer);
  // An answer that does not tell all (completion.h), while the rest is asked for.
  struct Partial {
    Answer answer;
    Bytes body;
  };
  void ask_rest(Token id, std::shared_ptr<Partial> partial);
  void on_rest(Token id, const std::shared_ptr<Partial>& partial, Answer& rest);
  void note_success(Request& request, ByteSpan body);
  void note_names(Request& request, Answer& answer);
  Learner learner(const Request& request, const Answer& answer) {
    return {.files = files_,
            .directories = directories_,
            .beliefs = beliefs_,
            .local_opens = local_opens_,
            .write_back = write_back_,
            .delayed_names = delayed_names_,
            .now = clock_.now(),
            .made_at = request.made_at,
            .believe_until = answer.believe_until,
            .dir = request.dir,
            .may_delay = answer.may_delay};
  }
  void give_up(Token id, Error error, bool tell);
  void tell_of_waiting(const Request& request, Instant now);
  void sweep();
  void enqueue(std::deque<Token>& queue, Token id, Request::State state);

  Config config_;
  Links& links_;
  Router& router_;
  Session& session_;
  FileTable& files_;
  WriteBack& write_back_;
  DelayedNames& delayed_names_;
  OwnLocks& own_locks_;
  DirectoryCache directories_;
  Beliefs beliefs_;
  LocalOpens local_opens_;
  UniqueFunction<void(Ino)> on_read_;
  UniqueFunction<void(const Error&)> on_stalled_;
  sys::Clock& clock_;
  sys::Random& random_;

  Slab<Request> slab_;
  Lanes lanes_;
  std::deque<Token> held_;
  std::deque<Token> laneless_;
  std::deque<Token> laneless_writes_;
  std::vector<std::deque<Token>> queues_;  // by link
  std::deque<Release> releases_;
  std::vector<Wake> wakes_;                // heap
  std::vector<Token> walk_;                // scratch
  Instant releases_due_ = Instant::never();
  std::size_t releasing_ = 0;
  std::size_t reopening_ = 0;
  std::size_t sent_ = 0;
  Instant next_sweep_ = Instant::never();
  Instant told_at_{};
  std::uint64_t begun_ = 0;
  std::uint64_t retries_ = 0;
  std::uint64_t opened_locally_ = 0;
  std::uint64_t keeps_ = 0;
  bool is_ended_ = false;
  Error end_error_;
};

// Calls the callback in `done` with the decoded answer. Attributes in it are learned.
void finish(AnyDone& done, Answer& answer, Learner learner);

}  // namespace magma::client
