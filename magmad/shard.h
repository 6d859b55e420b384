// A shard: the state of a volcano's slots, owned by one thread. It keeps the batch (one
// transaction over the databases), the slots' epochs and counters, sessions, opens, locks, and the
// operations over several slots; the files of magmad/ops are the operations themselves.
//
// A batch: requests and messages between slots are handled one after the other, their rows go
// into the open transaction, their answers are held back; flush() writes one oplog row a slot,
// commits, and lets answers and messages go. If anything of it fails, the whole batch is rolled
// back, every request of it gets the error, and what is only in memory is rebuilt from the rows
// (reload), so memory never says anything the databases do not.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "libmagma/base/file_locks.h"
#include "libmagma/base/log.h"
#include "libmagma/base/result.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/ring/slot.h"
#include "libmagma/sys/clock.h"
#include "libmagma/wire/codec.h"
#include "libmagma/wire/flare_messages.h"
#include "magmad/replication/content_journal.h"
#include "magmad/report.h"
#include "magmad/request.h"
#include "magmad/slot_owners.h"
#include "magmad/space_guard.h"
#include "magmad/store/content_store.h"
#include "magmad/store/metadata_store.h"
#include "magmad/store/rows.h"
#include "magmad/tokens.h"

namespace magma {

namespace ops {
class Operations;
}

// An answer to a client, ready to be sent after the commit.
struct Answer {
  ReplyTarget target;
  wire::FlareOp op{};
  Code code{};          // meaningful if !ok
  bool ok = true;
  Bytes body;           // encoded reply struct
  Bytes payload;        // bytes after it (read)
  std::optional<wire::NamesChanged> names_changed{};
  SessionId session{};
  std::uint16_t lane = wire::kNoLane;  // with the sequence: of a change
  std::uint32_t sequence = 0;
  std::vector<NoticeId> waits{};       // sent when none of these is open
  std::uint64_t batch = 0;             // and the mirrors have this one
  std::uint64_t sync = 0;              // and have done this sync
  OpId applied{};                      // and its parts have been applied
  bool is_replay = false;              // the same of what was committed before this start
  bool is_believed = false;            // the session got tokens of all it tells of
  bool may_delay = false;              // and may delay its writes to it
};

struct ShardConfig {
  std::string nick;
  std::string address;  // flare address, as told to clients
  std::uint64_t small_file_bytes_max = 65536;
  // For tests: slots are dealt out to so many parts, and one part's are treated as another
  // volcano's by a step that is of another part. 0: they are not.
  unsigned pretended_parts = 0;
  // Who may believe what an earlier primary of some slots told, for at most a token's term: changes
  // wait for them as for the sessions of before. `may_others`: nobody knows who.
  std::vector<SessionId> believers{};
  bool may_others_believe = false;
};

struct ShardStats {
  std::uint64_t requests = 0, changes = 0, replays = 0, refused = 0, io_errors = 0, batches = 0;
  std::uint64_t operations = 0, operations_recovered = 0, batches_failed = 0;
  std::uint64_t ranges_recovered = 0;
};

// Names what a lock is on: an entry of a directory, or an inode as a whole (empty name).
struct LockKey {
  Ino ino;
  std::string name{};
  friend auto operator<=>(const LockKey&, const LockKey&) = default;
};

class Shard {
 public:
  static constexpr std::uint64_t kInlineBytesMax = 16384;
  static constexpr std::uint64_t kCountersPerEpoch = std::uint64_t{1} << 28;
  static constexpr std::uint64_t kFirstCounter = 16;
  static constexpr std::uint64_t kRootCounter = 1;
  static constexpr std::size_t kSessionsMax = 4096;
  static constexpr std::size_t kParkedMax = 65536;

  Shard(ShardConfig config, sys::Clock& clock, sys::Disk& disk, store::MetadataStore& metadata,
        store::ContentStore& content);
  ~Shard();

  // Makes the root of an empty filesystem. Commits.
  Result<void> format();
  // Before begin(): tokens of the tenure before, which served these slots until now, and nobody
  // else since.
  void carry_on(Tokens tokens, const ring::SlotMask& of);
  // Begins a new epoch of every slot and takes up what an earlier run left: operations, orphans,
  // sessions. `clean`: the last run ended with stop(); else `torn` are ranges whose bytes it may
  // have left between two states. Commits; blocks on the first sync.
  Result<void> begin(bool clean, const std::vector<wire::MirrorRange>& torn = {});

  // ---- for the volcano
  void handle(RequestPtr request);
  void drop_connection(std::uint64_t connection);
  // Ends the batch: commit, then the answers through `send`.
  void flush(UniqueFunction<void(Answer)>& send);
  bool has_work() const;   // something waits for flush()
  Instant deadline() const;
  void on_timer();
  Result<void> stop();
  // Messages to sessions that hold tokens: after each flush(), by the connection of connection_of.
  Tokens& tokens() { return tokens_; }
  std::size_t answers_held() const { return held_.size(); }
  // ---- mirrors (magmad/replication). Batches that are committed have numbers, which rise within a
  // start; position() is the last one's.
  wire::MirrorPosition position() const { return {start_epoch().value, batch_}; }
  // From now on each batch's effects go there, right after its commit; nullptr: no longer.
  // Requires: no batch is open (after flush()).
  void mirror_to(UniqueFunction<void(replication::Effects)> hook);
  // Whether rows or bytes may be others than mirrors were told, until the next batch: one failed.
  bool has_doubts() const { return !doubtful_rows_.empty() || content_.has_doubtful(); }
  // Mirrors have everything up to that batch, and have done the syncs up to that one: answers that
  // tell of later ones wait. At first nothing waits.
  void set_replicated(std::uint64_t batch, std::uint64_t sync);
  // Whether what tells of that batch, and of changes that these notices are of, must not leave yet.
  bool must_wait(std::vector<NoticeId>& waits, std::uint64_t batch, std::uint64_t sync) const;
  const std::vector<NoticeId>& step_waits() const { return step_.waits; }
  void look_at_held_answers() { has_news_of_held_ = true; }
  // Asks the mirrors to bring everything committed so far to stable storage; the number of that
  // sync, 0 if nobody is to be asked.
  std::uint64_t sync_mirrors();
  void on_sync_mirrors(UniqueFunction<void(std::uint64_t)> hook) { sync_hook_ = std::move(hook); }
  // ---- slots of other volcanoes
  // Who is primary of which slot: only rows of `self`'s may be used here. Without it all are this
  // volcano's. Requires: `self` has one; nothing was begun.
  void set_owners(SlotOwners owners, ring::VolcanoId self);
  bool owns(ring::Slot slot) const { return owned_[slot.value]; }
  const ring::SlotMask& owned() const { return owned_; }
  // Of every slot of this volcano: a start raises all above the highest.
  Epoch start_epoch() const { return epoch_of(first_owned_); }
  // Whether what is told from the one to the other goes to another volcano.
  bool is_far(ring::Slot from, ring::Slot to) const {
    return !owns(from) || !owns(to) || part_of(from) != part_of(to);
  }
  // Of two slots of other volcanoes.
  bool is_same_volcano(ring::Slot a, ring::Slot b) const {
    if (!owners_) return part_of(a) == part_of(b);
    return owners_->owner_of[a.value] == owners_->owner_of[b.value];
  }
  // Whether the step under way may use the slot's rows; else it asks, or leaves it to a part.
  bool is_near(ring::Slot slot) const {
    return owns(slot) && (!step_.slot || part_of(*step_.slot) == part_of(slot));
  }
  // What the session's last request came over; 0: none since the restart.
  std::uint64_t connection_of(SessionId session) const;
  // For good: a sync failed, or the rows could not be read again after a failed batch.
  bool failed() const { return broken_ || metadata_.failed(); }
  ShardStats stats() const { return stats_; }

  // ---- rows, for operations. A failed read or write poisons the batch (see above); reads then
  // answer nothing.
  template <class T>
  std::optional<T> get(const store::RowKey& key) {
    auto raw = get_raw(key);
    if (!raw) return std::nullopt;
    auto row = wire::decode<T>(*raw);
    if (!row) {
      poison(Error{Code::io, "malformed row"}, key);
      return std::nullopt;
    }
    return std::move(*row);
  }
  std::optional<Bytes> get_raw(const store::RowKey& key);
  // Whether there is such a row. Does not make the answer wait until others know it.
  bool has(const store::RowKey& key);
  template <class T>
  void put(const store::RowKey& key, const T& row) {
    scratch_.clear();
    wire::encode_to(scratch_, row);
    put_raw(key, scratch_);
  }
  void put_raw(const store::RowKey& key, ByteSpan image);
  void erase(const store::RowKey& key);
  bool poisoned() const { return batch_error_.has_value(); }
  void poison(Error error, const store::RowKey& where);
  void poison(Error error);

  std::optional<store::InodeRow> inode(Ino ino) { return get<store::InodeRow>(inode_key(ino)); }
  void put_inode(Ino ino, const store::InodeRow& row) { put(inode_key(ino), row); }
  static store::RowKey inode_key(Ino ino) { return {store::Table::inode, ino.value, 0, {}}; }
  static store::RowKey inline_key(Ino ino) { return {store::Table::inline_data, ino.value, 0, {}}; }
  static store::RowKey entry_key(Ino dir, std::string_view name);
  static store::RowKey orphan_key(Ino ino) { return {store::Table::orphan, ino.value, 0, {}}; }

  // The version a change of `slot` in this batch carries.
  store::Version version_of(ring::Slot slot);
  Epoch epoch_of(ring::Slot slot) const { return slots_[slot.value].epoch; }
  // A number never given out by this slot before: for inodes and operations.
  std::uint64_t next_counter(ring::Slot slot);
  Ino new_ino(ring::Slot slot) { return Ino(next_counter(slot)); }
  // The first of `count` numbers in a row, which no power cut takes back; 0: there are none.
  Ino new_inos(ring::Slot slot, std::uint32_t count);
  // Whether the number was given out: that of an inode that is, was, or may be made.
  bool was_given(Ino ino) const {
    return ino.value < ring::with_counter(ring::home_of(ino), 0) +
                           slots_[ring::home_of(ino).value].counter;
  }

  // ---- time: belongs to the operation, rises strictly.
  WallTime time();
  Instant now() const { return now_; }

  // ---- tokens: who believes what (tokens.h)
  // The answer of this step tells of it.
  void told(Ino ino, Tokens::Of what);
  // The asker has made the file, and told its programs of it before.
  void told_before(Ino ino) { tokens_.note_made(step_.session, ino, now_); }
  // Not by a row that is put now, but for the others as if it were: the answer waits until they
  // know. `name`: of an entry of the directory `ino`.
  void will_change(Ino ino, std::string_view name = {}) {
    tokens_.changed(ino, name, step_.session, now_, step_.waits);
  }
  // Whether the request must wait until another client has sent what it has written to the file: it
  // was taken then, and is handled anew.
  bool recall_writes(RequestPtr& request, Ino ino);
  // Whether another client may have written, or changed names in a directory, what is not here yet.
  bool has_writes_elsewhere(Ino ino) const {
    return tokens_.is_writer_another(ino, step_.session) ||
           tokens_.has_names_of_others(ring::home_of(ino), step_.session);
  }
  // Lets the asker delay its writes to the file, if it alone has it open.
  void let_delay(Request& request, Ino ino);
  bool may_delay_writes(SessionId session, Ino ino);
  // The same until another client has sent the changes of names it delays: in the directory, or of
  // anything that is at home in the slot.
  bool recall_names(RequestPtr& request, Ino dir);
  bool recall_names(RequestPtr& request, ring::Slot slot);
  // Whether the asker may delay changes of names in the directory from now on: names_changed of the
  // request tells it which inode numbers are for files it makes. Requires: tell_directory().
  bool let_delay_names(Request& request, Ino dir);
  void give_numbers(wire::NamesChanged& told, ring::Slot slot);
  // The directory is taken away.
  void forget_names(Ino dir);
  SessionId asker() const { return step_.session; }
  // The slot that the step under way is of. Requires: it is of one.
  ring::Slot step_slot() const { return step_.slot.value(); }
  // The request is about to be answered with bytes that were read just now, perhaps long after its
  // step.
  void tells_content(Request& request, const store::ContentId& id) const;

  // ---- answers
  // A request or step begins whose answer, if it gives one, is of `slot`. If the batch wants that
  // slot's database committed before another one, it is committed now: the answer may want the
  // opposite.
  void begin_step(ring::Slot slot, SessionId session);
  // The same for a step whose answer may be of any slot.
  void begin_step_of_any_slot();
  template <class Reply>
  void answer(RequestPtr request, const Reply& reply) {
    answer_raw(std::move(request), wire::encode(reply), {});
  }
  void answer_raw(RequestPtr request, Bytes body, Bytes payload);
  // An answer that also waits for that sync of the mirrors.
  void answer_when_synced(RequestPtr request, std::uint64_t sync);
  void refuse(RequestPtr request, Code code);
  void refuse(RequestPtr request, const Error& error);
  // moved_to_chunks or behind_truncate with where the content is now.
  void refuse_moved(RequestPtr request, Code code, const wire::MovedReply& moved);

  // ---- locks: volatile; those of participants are rebuilt from their part rows.
  struct Lock {
    OpId op;
    std::deque<RequestPtr> requests{};                       // run again when it is free
    std::deque<UniqueFunction<void()>> waiters{};            // operations' own steps
  };
  Lock* find_lock(Ino ino, std::string_view name = {});
  bool is_locked(Ino ino, std::string_view name = {}) {
    return !locks_.empty() && find_lock(ino, name) != nullptr;
  }
  // Whether any name in the directory is locked.
  bool has_name_locks(Ino dir) const { return locked_name(dir).has_value(); }
  // One of the names locked in the directory.
  std::optional<std::string> locked_name(Ino dir) const {
    if (locks_.empty()) return std::nullopt;
    auto first = locks_.upper_bound(LockKey{dir, {}});
    if (first == locks_.end() || first->first.ino != dir) return std::nullopt;
    return first->first.name;
  }
  // Requires: not locked.
  void lock(Ino ino, std::string_view name, OpId op);
  // Frees it if `op` holds it and runs who waits.
  void unlock(Ino ino, std::string_view name, OpId op);
  // The request is handled anew when the lock is free. Requires: locked.
  void park(RequestPtr request, Ino ino, std::string_view name = {});
  // The request is handled anew in the next round of flush().
  void rerun(RequestPtr request) {
    request->keep();
    ready_.push_back(std::move(request));
  }
  // What goes on when a store has answered, which several operations may wait for: each runs as a
  // step of its own, in the next round of flush().
  template <class T>
  UniqueFunction<void(Result<T>)> as_step(UniqueFunction<void(Result<T>)> next) {
    return [this, session = step_.session, slot = step_.slot,
            next = std::move(next)](Result<T> result) mutable {
      ready_steps_.push_back([this, session, slot, next = std::move(next),
                              result = std::move(result)]() mutable {
        step_.session = session;
        step_.slot = slot;
        next(std::move(result));
      });
    };
  }
  // Handles the request anew after `wait`.
  void retry_later(RequestPtr request, Duration wait);
  void later(Duration wait, UniqueFunction<void()> action);

  // ---- opens
  struct OpenCount {
    std::uint32_t readers = 0, writers = 0;
  };
  OpenCount opens_of(Ino ino) const;
  bool has_open(SessionId session, Ino ino) const;
  void add_open(SessionId session, Ino ino, bool for_write);
  // Whether a client besides `by` may have opened it without having told, or may do so: until it
  // has confirmed that it is another one.
  bool is_believed_by_others(Ino ino, SessionId by) const {
    return tokens_.is_unconfirmed(ino, by);
  }
  // When some notice has ended: ops::after_last_open.
  void look_again_at_orphan(Ino ino, SessionId by) { orphans_to_look_at_.emplace_back(ino, by); }
  // False if there was none.
  bool drop_open(SessionId session, Ino ino, bool for_write);

  // ---- advisory locks of files (ops/lock.cc)
  locks::FileLocks& file_locks() { return file_locks_; }
  void put_file_locks(Ino ino, SessionId session);
  void wake_file_locks();
  // Answered when the lock may be free, after `longest` at the latest, or refused.
  void park_for_file_lock(RequestPtr request, Ino ino, const locks::LockRequest& wanted,
                          Duration longest);
  void drop_file_locks(Ino ino);
  void drop_file_locks(SessionId session);

  // Whether a change that takes space must wait or be refused: below the reserve for deletions.
  bool is_space_short() { return space_guard_.is_short(now_); }
  // Whether clients may delay what they write.
  bool has_plenty_of_space() { return space_guard_.has_plenty(now_, sessions_.size()); }
  // Handles the request anew while there may soon be room, and refuses it with no_space after that.
  // Nothing of it must have happened.
  void refuse_for_space(RequestPtr request);
  // The same if the error of a part is no_space; refuses with any other.
  void refuse_or_wait(RequestPtr request, const Error& error);
  // Blocks of something that was removed are about to come back.
  void space_is_freed() { space_guard_.removed(); }
  Result<sys::DiskSpace> space() { return disk_.space(); }

  store::MetadataStore& metadata() { return metadata_; }
  store::ContentStore& content() { return content_; }
  ops::Operations& operations() { return *operations_; }
  const ShardConfig& config() const { return config_; }
  ShardStats& counters() { return stats_; }
  static Ino root();

  // ---- sessions (session.cc)
  void attach(RequestPtr request, const wire::AttachRequest& message);
  void detach(RequestPtr request, const wire::DetachRequest& message);
  std::size_t session_count() const { return sessions_.size(); }
  // What is in memory now; of each list at most `lines_max` lines.
  VolcanoReport report(std::size_t lines_max);
  struct SessionInfo {
    SessionId id;
    std::string host;
    WallTime since{};
    Instant last_seen{};
    std::uint64_t connection = 0;  // its last attach came over this one; 0: before the restart
    std::size_t opens = 0;         // inodes it holds open
  };
  // All of them, and who may still believe what was told by a primary before this one.
  std::vector<SessionId> believers() const;
  // Some of the sessions, in no order.
  std::vector<SessionInfo> sessions(std::size_t count_max) const;

 private:
  struct SlotState {
    Epoch epoch;
    std::uint64_t seq = 0;
    std::uint64_t counter = 0;
    std::uint64_t counter_limit = 0;
    std::uint64_t durable_limit = 0;  // since the start; the other may be taken back
    bool touched = false;           // in this batch
    std::uint64_t last_batch = 0;   // that changed it
  };
  // One request line of a session: the newest sequence seen, and who waits for its answer. A
  // duplicate that comes while the change is under way takes the answer over; an older sequence
  // is refused even if nothing was recorded for it.
  struct Lane {
    std::uint32_t sequence = 0;
    bool under_way = false;
    ReplyTarget target;
  };
  struct Session {
    Instant last_seen;
    std::vector<Lane> lanes;
    std::unordered_map<std::uint64_t, store::OpenRow> opens;  // by ino
    std::string host;              // for people, as its row has them
    WallTime since{};
    std::uint64_t connection = 0;
  };

  void dispatch(RequestPtr request);
  bool admit(RequestPtr& request);
  bool admit_change(RequestPtr& request, Session& session);
  ReplyTarget finish_lane(const Request& request);
  void push_answer(const Request& request, bool ok, Code code, Bytes body, Bytes payload);
  void commit_before_reply(ring::Slot reply);
  void commit_early();
  void new_step(SessionId session, std::optional<ring::Slot> slot = {});
  unsigned part_of(ring::Slot slot) const {
    if (owners_) return owners_->group_of[slot.value];
    constexpr std::uint32_t kSpread = 2654435761;  // neighbours lie in different parts
    return config_.pretended_parts == 0
               ? 0
               : (slot.value * kSpread >> 20) % config_.pretended_parts;
  }
  bool may_use(const store::RowKey& key);
  void finish_step();
  void note_change(const store::RowKey& key);
  void note_reading(const store::RowKey& key);
  void look_at_orphans();
  void look_at_recalls();
  bool recall_names(RequestPtr& request);
  void refuse_old_recalls();
  bool wait_for_recall(RequestPtr& request, NoticeId recall);
  void drop_names_row(Ino dir);
  void sweep_names();
  void presume_writers();
  void run_steps();
  void pretend_to_send();
  bool is_held_back(Answer& answer);
  void send_held(UniqueFunction<void(Answer)>& send);
  void write_oplog();
  void log_contents();
  void tell_mirrors();
  void keep_row_for_mirrors(const store::RowKey& key, const store::Version& version,
                            const ByteSpan* image);
  bool commit_batch();
  void fail_batch();
  void forget_effects();
  Result<void> reload();
  Result<void> begin_epochs();
  Result<void> doubt_hot_ranges(const std::vector<wire::MirrorRange>& torn);
  void load_opens();
  Result<void> load_file_locks();
  void end_file_lock_wait(std::uint64_t ticket, std::optional<Code> error);
  Result<void> drop_stray_chunks();
  void reap_orphans();
  void expire_sessions();
  void end_session(SessionId id);
  void clean_replies();
  void run_delayed();
  Session& remember_session(SessionId id);
  Session& adopt_session(SessionId id);
  void adopt_sessions(std::unordered_map<SessionId, store::SessionRow> rows);
  void record_adopted_sessions();
  bool owns_row(std::uint64_t a) const {
    return owns(ring::Slot(static_cast<std::uint16_t>(a >> ring::kCounterBits)));
  }
  store::RowKey session_key(SessionId id) const;
  std::vector<wire::MapRun> map_of_slots() const;

  ShardConfig config_;
  sys::Clock& clock_;
  sys::Disk& disk_;
  SpaceGuard space_guard_;
  store::MetadataStore& metadata_;
  replication::ContentJournal content_;
  std::unique_ptr<ops::Operations> operations_;
  std::array<SlotState, ring::kSlotCount> slots_{};
  OwnedSlots owned_ = OwnedSlots{}.set();
  ring::Slot first_owned_{};
  std::optional<SlotOwners> owners_{};  // none: all slots are this volcano's

  // The open batch.
  std::optional<Error> batch_error_;
  std::map<std::uint16_t, std::vector<store::RowKey>> touched_;  // not yet in the oplog
  std::map<std::uint16_t, std::vector<store::ContentRange>> touched_contents_;
  std::vector<ring::Slot> logged_;  // in this batch
  std::uint64_t batch_ = 0;  // the last one committed
  std::uint64_t replicated_ = ~std::uint64_t{0};
  std::uint64_t sync_ = 0;  // the last one asked for
  std::uint64_t synced_ = ~std::uint64_t{0};
  bool has_news_of_held_ = false;  // held answers are to be looked at
  UniqueFunction<void(replication::Effects)> mirror_hook_;
  UniqueFunction<void(std::uint64_t)> sync_hook_;
  std::vector<wire::MirrorRow> mirror_rows_;    // of the open batch
  std::vector<wire::MirrorLog> mirror_log_;
  std::vector<store::RowKey> doubtful_rows_;    // of batches that failed, perhaps in part
  std::vector<Answer> answers_;
  std::vector<Answer> answers_committed_;  // of a part of the batch that had to be committed alone
  unsigned databases_touched_ = 0;  // bits: by the request being handled
  // The request or step being handled: who asked, what its answers must wait for, and whether he
  // may believe them.
  struct Step {
    SessionId session;
    std::optional<ring::Slot> slot{};  // it is of; none: of the volcano's own
    std::vector<NoticeId> waits{};
    std::uint64_t batch = 0;
    bool tells = false;
    bool is_believed = true;
    std::size_t first_answer = 0;
  };
  Step step_;
  Tokens tokens_;
  ring::SlotMask carried_{};  // slots of which tokens_ knows all
  std::deque<Answer> held_;  // until their notices have ended
  struct Recalling {
    NoticeId recall = 0;
    Instant since;
    RequestPtr request;
  };
  std::vector<Recalling> recalling_;  // handled anew when it has ended
  std::map<Ino, SessionId> names_rows_;  // directories with rows of names tokens, alive or not
  std::uint64_t recalling_looked_at_ = 0;                   // as held_looked_at_
  std::vector<std::pair<Ino, SessionId>> orphans_to_look_at_;
  std::uint64_t orphans_looked_at_ = 0;  // as held_looked_at_
  std::uint64_t held_looked_at_ = 0;  // Tokens::ended() of the last time
  // By database: those (bits) whose commit must come first, because a reply in this one says that
  // what they hold was done. A kill in between leaves a request that is asked, and done, again.
  // Never a circle: begin_step.
  std::array<unsigned, store::kDatabases> committed_first_{};
  Bytes scratch_;
  Instant now_{};
  WallTime last_time_{};

  std::map<LockKey, Lock> locks_;
  std::size_t parked_ = 0;
  std::deque<RequestPtr> ready_;
  std::deque<UniqueFunction<void()>> ready_steps_;
  std::multimap<Instant, UniqueFunction<void()>> delayed_;
  std::unordered_map<SessionId, Session> sessions_;
  std::unordered_map<std::uint64_t, OpenCount> opens_;
  locks::FileLocks file_locks_;
  std::unordered_map<std::uint64_t, RequestPtr> lock_waits_;  // by ticket
  std::uint64_t last_lock_ticket_ = 0;
  std::vector<SessionId> adopted_;  // have no row yet
  std::vector<SessionId> ended_sessions_;  // whose reply rows are still to be dropped
  Instant next_session_check_{};
  Instant next_sync_{};
  bool sync_running_ = false;
  bool stopping_ = false;
  bool broken_ = false;
  ShardStats stats_;
};

}  // namespace magma
