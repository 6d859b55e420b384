// Writes that are delayed (a write token, wire::ResponseHead::may_delay): while this client alone
// has a file open, what its programs write is kept here and sent a little later, in few and large
// requests. Nobody can see the difference: whoever else asks for the file makes its volcano recall
// the token, and waits until everything is sent.
//
// Sent
//   - kDelay after the oldest write, or earlier if much has come together;
//   - at once when the file is closed or fsynced, its volcano recalls the token, or this client
//     asks for anything about the file that the volcano must know the writes for: such calls wait,
//     and writes that come meanwhile wait behind them.
// Owner, mode and times that a program sets on such a file (tar, cp -p: three calls a file) are
// kept as well, and set together by the last write that is sent, or after it.
// Not delayed, but sent and waited for as they come: writes through O_SYNC or O_DIRECT, of files
// that others have open, and while the space is short. When a file without a token is written to,
// the token is asked for now and then.
//
// Loss. What was not sent is lost with the client's machine, as with any filesystem; fsync(2)
// prevents it. If the session ends (nothing was heard for its lease), what was not sent is sent in
// the next one, provided that nobody has changed the file meanwhile. Else, and when a volcano
// refuses it, it is lost: the next write, fsync or close of the file says so, and the log does.
//
// Pure: the owner sends, asks and tells through `Owner`. One thread. Bounded: kBytesMax of content;
// a record for each file open for writing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/base/result.h"
#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/client/beliefs.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::client {

// Bytes of a file that are not sent: pieces that do not overlap, by offset.
class DirtyRanges {
 public:
  static constexpr std::size_t kPieceMax = 1u << 20;

  // Newer bytes: they replace what is there.
  void write(std::uint64_t offset, Bytes bytes);
  // Older bytes: they fill what is not there.
  void put_under(std::uint64_t offset, ByteSpan bytes);
  bool overlaps(std::uint64_t offset, std::uint64_t end) const;
  std::size_t bytes() const { return bytes_; }
  bool empty() const { return pieces_.empty(); }
  void clear();
  // Where the last piece ends; 0 without one.
  std::uint64_t end() const {
    return pieces_.empty() ? 0 : pieces_.rbegin()->first + pieces_.rbegin()->second.size();
  }

  struct Batch {
    std::vector<wire::Extent> extents{};
    Bytes bytes{};
    bool empty() const { return extents.empty(); }
    std::uint64_t end() const { return extents.back().offset + extents.back().length; }
  };
  // Takes pieces for one request: of one chunk, at most wire::kIoBytesMax and kExtentsMax, none for
  // which `is_barred` says so.
  Batch take(const std::function<bool(std::uint64_t offset, std::uint64_t end)>& is_barred);

 private:
  void lay(std::uint64_t offset, ByteSpan bytes, bool is_newer);
  void add(std::uint64_t offset, ByteSpan bytes);
  std::map<std::uint64_t, Bytes>::iterator first_after(std::uint64_t offset);

  std::map<std::uint64_t, Bytes> pieces_;
  std::size_t bytes_ = 0;
};

class WriteBack {
 public:
  static constexpr std::size_t kBytesMax = wire::kDelayedBytesMax;
  static constexpr Duration kDelay = seconds(1);
  static constexpr std::size_t kHurryBytes = 4u << 20;   // so much of a file is sent at once,
  static constexpr std::size_t kSettleBytes = 1u << 20;  // until it is no more than this
  static constexpr unsigned kSendingMax = 4;            // requests of a file under way
  static constexpr Duration kClaimFirst = seconds(1);   // after a write without a token
  static constexpr Duration kClaimLast = seconds(16);   // doubles up to this
  static constexpr std::size_t kRecentMax = 16384;

  struct Sent {  // how a request ended
    Error error{};
    wire::WriteReply reply{};
  };
  struct Flush {  // to be sent
    Ino ino;
    std::vector<wire::Extent> extents{};
    Bytes bytes{};
    bool kill_suidgid = false;
    std::uint32_t uid = 0, gid = 0;
    std::optional<wire::SetattrRequest> attributes{};  // to be set with it, if that can be
  };
  struct Attributes {  // to be set
    wire::SetattrRequest change;
    std::uint32_t uid = 0, gid = 0;
  };
  class Owner {
   public:
    virtual ~Owner() = default;
    // Calls sent(number, ...) later or inside.
    virtual void send(Flush flush, std::uint64_t number) = 0;
    // Calls attributes_sent(number, ...) later or inside.
    virtual void send_attributes(Attributes attributes, std::uint64_t number) = 0;
    // Asks for the token (getattr, wants_to_delay). Calls claimed() later or inside, after
    // granted() if it was.
    virtual void claim(Ino ino) = 0;
    // Asks for the attributes in the new session, and for the token; calls verified() later or
    // inside, after granted() if it was.
    virtual void verify(Ino ino) = 0;
    virtual bool is_open_for_write(Ino ino) = 0;
    virtual void on_sent(Ino ino, std::uint64_t data_version) = 0;
    virtual void on_attributes_sent(Ino ino) = 0;
    virtual void on_lost(Ino ino) = 0;
  };
  WriteBack(Owner& owner, bool is_on) : owner_(owner), is_on_(is_on) {}

  // ---- what the ring tells
  // An answer to a request made at `made_at` gives the token.
  void granted(const wire::Attr& attr, Instant made_at, Instant now);
  void claimed(Ino ino, Instant now);
  // A volcano wants it back; `done` is called when everything is sent.
  void recalled(Ino ino, Instant now, UniqueFunction<void()> done);
  // Another map: no token is counted on, what is here is sent now.
  void forget_tokens(Instant now);
  void session_lost(Instant now);
  void session_renewed(Instant now);
  // The attributes as of the new session, or nothing: the file is gone.
  void verified(Ino ino, const wire::Attr* attr, Instant now);
  // Attributes that were told: with what is not sent yet, and what was sent since they were made.
  void amend(wire::Attr& attr) const;

  // ---- what programs do
  struct Write {
    Ino ino;
    std::uint64_t offset = 0;
    std::size_t length = 0;
    bool append = false;
    bool may_delay = true;
    bool kill_suidgid = false;
    std::uint32_t uid = 0, gid = 0;
    bool has_waited = false;  // set here: who waits now has come later
  };
  enum class Path : std::uint8_t {
    kept,     // done: the bytes were taken, `offset` is where they are
    through,  // to be sent now, at `offset` (no longer an append if it was one and is known where);
              // ended_through() when it is done
    wait,     // to be begun anew when `later` is called
    failed,   // earlier writes were lost: `error`
  };
  struct Decision {
    Path path = Path::through;
    Error error{};
    wire::WriteReply reply{};
    bool is_counted = false;  // ended_through() is to be called
    bool is_placed = false;   // with this
  };
  Decision write(Write& write, Bytes& bytes, Instant now, UniqueFunction<void()> later);
  // A change of size or content other than by a delayed write begins (write() has said `through`
  // before, or everything is sent), and has ended. `reply` of a write that was done.
  void begin_through(Ino ino, Instant now);
  void ended_through(Ino ino, const wire::WriteReply* reply, bool is_placed, Instant now);
  // A request that cuts the file is made now, and gives the token again if it may be had; and has
  // been answered.
  void begin_cut(Ino ino, Instant now);
  void ended_cut(Ino ino, Instant begun, Instant now);
  // Whether this client alone has the file open, and hears before anybody else opens it.
  bool has_token(Ino ino) const {
    const File* file = find(ino);
    return file != nullptr && file->has_token && !is_away_ && !has_ended_;
  }
  std::uint64_t version_of(Ino ino) const {  // of its data, as last told
    const File* file = find(ino);
    return file == nullptr ? 0 : file->version;
  }
  // Asks for the token of a file that is used otherwise than by writes, now and then.
  void want_token(Ino ino, Instant now);
  bool is_dirty(Ino ino) const { return dirty_.contains(ino); }
  bool has_dirty() const { return !dirty_.empty(); }
  std::size_t dirty_files() const { return dirty_.size(); }
  // Whether the ring can answer a read of this range as it is.
  bool may_read(Ino ino, std::uint64_t offset, std::uint64_t length) const;
  // Calls `then` when all that was written to the file is sent, at once if it is.
  void when_clean(Ino ino, Instant now, UniqueFunction<void()> then);
  // The same for files that may have this name, which is about to be moved: a program that replaces
  // a file by a new one expects to find either.
  void when_clean(Ino dir, std::string_view name, Instant now, UniqueFunction<void()> then);
  // A file was made with this name.
  void named(Ino ino, Ino dir, std::string_view name);
  // The name leads elsewhere from now on, or the file has others, too: any may be the file's.
  void forget_name(Ino dir, std::string_view name);
  void forget_name(Ino ino) { named(ino, {}, {}); }
  // Sets attributes later; the file's, as they are then for this client's programs. Nothing: the
  // ring must be asked, and what is known here is forgotten.
  std::optional<wire::Attr> set(const Attributes& attributes, Instant now);
  // As this client has set it, if that is known for sure.
  std::optional<std::uint32_t> mode_of(Ino ino) const;
  // A request that changes the attributes otherwise is made.
  void forget_attributes(Ino ino);
  void forget_attributes(Ino dir, std::string_view name);
  // The error of writes that were lost: for close(2), which tells it each time, because it may be
  // another program's; and for fsync(2), which as write() tells it once.
  std::optional<Error> error_of(Ino ino) const;
  std::optional<Error> take_error(Ino ino);
  // The file may no longer be open for writing.
  void released(Ino ino, Instant now);
  void send_all(Instant now);
  // The client ends: what is not sent is lost.
  void end();

  // ---- what the owner has sent
  void sent(std::uint64_t number, Flush flush, Sent result, Instant now);
  void attributes_sent(std::uint64_t number, Ino ino, Result<wire::Attr> result, Instant now);

  Instant deadline() const { return next_due_; }  // or earlier
  void on_timer(Instant now);
  std::size_t bytes() const { return bytes_; }
  std::uint64_t kept() const { return kept_; }      // writes that were delayed
  std::uint64_t sets() const { return sets_; }      // of attributes, delayed
  std::uint64_t flushes() const { return flushes_; }  // requests they were sent in
  std::uint64_t recalls() const { return recalled_; }  // of tokens it had
  std::uint64_t claims() const { return claims_; }     // asked for

 private:
  struct Range {
    std::uint64_t offset = 0, end = 0;
  };
  struct File {
    bool has_token = false;
    bool is_claiming = false;
    bool is_doubtful = false;    // of the session before: not to be sent before it is verified
    bool kill_suidgid = false;
    std::uint64_t size = 0;      // with what is not sent
    std::uint64_t ring_size = 0; // without
    std::uint64_t version = 0;   // of the data, as last told
    Instant granted_at{};        // the request that got the token
    DirtyRanges dirty{};
    std::map<std::uint64_t, std::vector<Range>> sending{};  // by request
    Instant due{};               // of what is dirty
    bool is_much = false;        // due because it is more than kHurryBytes
    std::uint32_t uid = 0, gid = 0;
    std::deque<UniqueFunction<void()>> waiters{};  // until it is clean
    unsigned through = 0;        // under way
    unsigned placed = 0;         // of them, at a place that the token told
    std::vector<UniqueFunction<void()>> recalls{};  // wait for those
    Instant claim_at{};          // not before
    Duration claim_wait = kClaimFirst;
    Error error{};
    Ino dir{};                   // a name it has; none known: empty
    std::string name{};
    // The ring's as this client has set them, size and versions left out; not known: nothing.
    std::optional<wire::Attr> attr{};
    WallTime ring_ctime{};        // as of the last answer
    std::optional<Attributes> set{};      // not sent
    std::optional<Attributes> setting{};  // under way, as `setting_number`
    std::uint64_t setting_number = 0;
    // Of them, what was under way when the session ended: the ring may have done it.
    std::optional<wire::SetattrRequest> unsure{};
    bool has_unsent() const { return !dirty.empty() || set.has_value(); }
    bool is_clean() const { return !has_unsent() && sending.empty() && !setting; }
    // Where the last byte that the ring may not have ends.
    std::uint64_t unsent_end() const {
      std::uint64_t end = dirty.end();
      for (const auto& [number, ranges] : sending) end = std::max(end, ranges.back().end);
      return end;
    }
  };
  struct Recent {
    std::uint64_t size = 0, version = 0;
  };

  File* find(Ino ino);
  const File* find(Ino ino) const;
  bool is_sending(const File& file, std::uint64_t offset, std::uint64_t end) const;
  void keep(File& file, const Write& write, Bytes bytes, Instant now);
  void has_something(Ino ino, File& file, Instant now);
  void pump_attributes(Ino ino, File& file);
  void take_back(File& file, bool is_unsure);
  void verify_attributes(Ino ino, File& file, const wire::Attr& attr);
  void hurry(Ino ino, File& file, Instant now);
  void pump(Ino ino, Instant now);
  void settle(Ino ino, Instant now);
  void lose(Ino ino, File& file, std::size_t bytes, Error error);
  void lose_dirty(Ino ino, File& file, const Error& error);
  void drop_token(File& file, Instant claim_at);
  bool may_claim(const File& file, Instant now) const;
  void claim(Ino ino, File& file);
  void take_note(Ino ino, const File& file);
  void forget_if_idle(Ino ino);
  void let_writers_in();

  Owner& owner_;
  const bool is_on_;
  bool is_away_ = false;  // between two sessions
  bool has_ended_ = false;
  std::unordered_map<Ino, File> files_;
  std::unordered_set<Ino> dirty_;
  std::unordered_map<Ino, Recent> recent_;  // sent; answers that are older may still come
  std::deque<Ino> recent_order_;
  Beliefs recalls_;
  std::deque<UniqueFunction<void()>> room_waiters_;
  std::size_t bytes_ = 0;
  Instant next_due_ = Instant::never();
  std::uint64_t last_number_ = 0;
  std::uint64_t kept_ = 0;
  std::uint64_t sets_ = 0;
  std::uint64_t flushes_ = 0;
  std::uint64_t recalled_ = 0;
  std::uint64_t claims_ = 0;
};

}  // namespace magma::client
