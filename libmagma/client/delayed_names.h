// Changes of names that are delayed (a names token, wire::ResponseHead::may_delay): while nobody
// else knows anything of a directory, this client makes files in it, takes files out of it, or
// gives them other names in it, without waiting for the volcano. It sends the changes right after,
// in order, many to a request. Nobody can see the difference: whoever else asks for anything there
// makes the volcano recall the token, and waits until everything is sent.
//
// Sent
//   - kDelay after the oldest change, or earlier if kHurrySteps have come together; one request of
//     a directory at a time, which keeps their order;
//   - at once when the volcano recalls the token, or this client asks for anything that depends on
//     them: such calls wait, and changes that come meanwhile are not delayed.
// Delayed is what needs no answer: the inode is known, is no directory, is at home where the
// directory is, is not open here and was not fsynced; a name that it gets is known not to be there.
// The directory's times after it are known, too: a change happens when this client says, by its
// reckoning of the volcano's clock, which is never ahead of it.
//
// A file that is made gets one of the inode numbers that came with the token, and is open and may
// be written to (write_back.h) as if the volcano had made it. What the volcano is asked about it
// waits for its step (when_made()). If it is closed before, the volcano never hears of the open.
//
// Loss. What was not sent is undone with the client's machine. If the session ends, what was not
// sent is sent in the next one: each step names its inode, so nothing is done to what others have
// made meanwhile. A move that cannot be done is lost, or a file that cannot be made: fsync of the
// directory says so, and the log. A file that was made, and removed by others before this client,
// cut off, could send the step again, is there again.
//
// Pure: the owner sends and tells through `Owner`. One thread. Bounded: kStepsMax a directory,
// kDirectoriesMax directories.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "libmagma/base/result.h"
#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/client/beliefs.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::client {

class DelayedNames {
 public:
  static constexpr Duration kDelay = milliseconds(2);
  static constexpr std::size_t kHurrySteps = 32;
  static constexpr std::size_t kStepsMax = 512;
  static constexpr std::size_t kDirectoriesMax = 1024;
  // After one change in a directory the next is worth a token; after one that was delayed, any is:
  // programs go from directory to directory.
  static constexpr Duration kSoon = seconds(1);
  static constexpr std::uint32_t kNumbersLow = 128;  // then more are asked for

  struct Batch {  // to be sent
    Ino dir;
    std::vector<wire::NameStep> steps{};
    std::uint32_t uid = 0, gid = 0;
    bool wants_numbers = false;
  };
  class Owner {
   public:
    virtual ~Owner() = default;
    // Calls sent(number, ...) later or inside.
    virtual void send_names(const Batch& batch, std::uint64_t number) = 0;
    // A change that was told as done is not.
    virtual void on_name_lost(Ino dir, const wire::NameStep& step) = 0;
  };
  DelayedNames(Owner& owner, bool is_on) : owner_(owner), is_on_(is_on) {}

  // ---- what the ring tells
  // The answer to a change of names asked for at `made_at` gives the token of the directory, whose
  // attributes it tells.
  void granted(const wire::NamesChanged& told, Instant made_at, Instant now);
  // A volcano wants it back; `done` is called when everything is sent.
  void recalled(Ino dir, Instant now, UniqueFunction<void()> done);
  // Another map: no token is counted on, what is here is sent now.
  void forget_tokens(Instant now);
  void session_lost();
  void session_renewed(Instant now);
  // Attributes that were told: of a directory with changes that are not sent, those after them.
  void amend(wire::Attr& attr) const;

  // ---- what programs do
  // A change is asked of the volcano: whether it should give the token of the directory.
  bool wants_token(Ino dir, Instant now);
  // The directory is about to be filled: the next change there is worth a token.
  void expect_changes(Ino dir, Instant now);
  // The number for the next file that is made in the directory; 0: none is left.
  Ino next_number(Ino dir) const;
  bool has_token(Ino dir) const;
  // Delays a change in a directory, whose attributes are `directory`; those after it. Nothing: the
  // volcano must be asked.
  std::optional<wire::Attr> keep(const wire::Attr& directory, wire::NameStep step,
                                 std::uint32_t uid, std::uint32_t gid, Instant now);
  // A program has asked for the file to be on stable storage: what it does with its name then, it
  // may count on (a journal that is removed, a file that takes another one's place).
  void synced(Ino ino);
  bool was_synced(Ino ino) const { return synced_.contains(ino); }
  bool is_dirty(Ino dir) const;
  bool has_dirty() const { return dirty_ > 0; }
  // Whether nothing of the directory is left when `done` steps of what is being sent are done.
  bool is_last(Ino dir, std::size_t done) const;
  // Whether the volcano has not made this file yet, and whether it could not.
  bool is_made_later(Ino ino) const { return made_.contains(ino); }
  bool is_never_made(Ino ino) const { return never_made_.contains(ino); }
  // Calls `then` when the file is made, or is not; at once if it is.
  void when_made(Ino ino, Instant now, UniqueFunction<void()> then);
  // The file is closed as it was opened. False: the volcano hears of the open, or has.
  bool close_made(Ino ino, bool for_write);
  // Where a change of a name of this inode is not answered yet; no inode (0): nowhere.
  Ino dir_of(Ino ino) const;
  // Whether a change that is not answered yet takes or gives this name.
  bool touches(Ino dir, std::string_view name) const;
  // Calls `then` when all that is delayed is done; at once if it is.
  void when_clean(Ino dir, Instant now, UniqueFunction<void()> then);
  void when_all_clean(Instant now, UniqueFunction<void()> then);
  // Changes that were lost, once.
  std::optional<Error> take_error(Ino dir);
  // The client ends: what is not sent is lost.
  void end();

  // ---- what the owner has sent
  // `told`: what came with the answer, if it did.
  void sent(std::uint64_t number, Result<wire::ChangeNamesReply> result,
            const wire::NamesChanged* told, Instant now);

  Instant deadline() const { return next_due_; }  // or earlier
  void on_timer(Instant now);
  std::uint64_t kept() const { return kept_; }        // changes that were delayed
  std::uint64_t made() const { return made_count_; }  // files, of them
  std::uint64_t batches() const { return batches_; }  // requests they were sent in
  std::size_t dirty() const { return dirty_; }        // directories with changes not done
  std::size_t directories() const { return directories_.size(); }

 private:
  struct Clock {  // the volcano's, at some moment of ours; it was never less
    WallTime ring{};
    Instant here{};
    WallTime at(Instant now) const;
  };
  struct Directory {
    bool has_token = false;
    Clock clock{};
    WallTime last_at{};
    wire::Attr attr{};  // with what is delayed
    std::deque<wire::NameStep> steps{};
    std::vector<wire::NameStep> sending{};
    std::uint64_t number = 0;  // of the request under way
    std::uint32_t uid = 0, gid = 0;
    Ino next_number{};     // for files that are made
    std::uint32_t numbers = 0;
    Instant due{};         // of `steps`
    Instant not_before{};  // it was refused
    std::vector<UniqueFunction<void()>> waiters{};  // until it is clean
    bool is_dirty() const { return !steps.empty() || !sending.empty(); }
  };
  struct Change {
    Ino dir;
    Instant at;
  };

  Directory* find(Ino dir);
  const Directory* find(Ino dir) const;
  void pump(Ino dir, Instant now);
  void settle(Ino dir);
  void lose(Ino dir, const wire::NameStep& step);
  void take_numbers(Directory& directory, const wire::NamesChanged& told);
  // What waits for the file.
  std::vector<UniqueFunction<void()>> take_waiters(const wire::NameStep& step);
  void count_in(Ino ino, Ino dir);
  void count_out(const wire::NameStep& step);
  bool make_room();

  Owner& owner_;
  const bool is_on_;
  bool is_away_ = false;  // between two sessions
  bool has_ended_ = false;
  std::unordered_map<Ino, Directory> directories_;
  std::size_t dirty_ = 0;  // directories
  struct Moving {
    Ino dir;
    unsigned steps = 0;
  };
  std::unordered_map<Ino, Moving> moving_;  // by inode
  struct Made {
    Ino dir;
    std::vector<UniqueFunction<void()>> waiters{};
  };
  std::unordered_map<Ino, Made> made_;  // whose step is not answered
  std::unordered_set<Ino> never_made_;
  std::vector<UniqueFunction<void()>> all_waiters_;
  std::unordered_map<Ino, Error> errors_;
  std::unordered_set<Ino> synced_;
  std::deque<Ino> synced_order_;
  std::deque<Change> recent_;  // changes that the volcano was asked for
  Instant last_kept_{};        // zero: none yet
  Beliefs recalls_;
  Instant next_due_ = Instant::never();
  std::uint64_t last_number_ = 0;
  std::unordered_map<std::uint64_t, Ino> under_way_;  // by number
  std::uint64_t kept_ = 0;
  std::uint64_t made_count_ = 0;
  std::uint64_t batches_ = 0;
};

}  // namespace magma::client
