// Operations over several slots: durable, atomic, decided by their coordinator alone.
//
// One commit point. The coordinator (the slot that owns the decision) prepares what must be
// prepared at other slots (parts), then commits: in one transaction it makes its own changes and
// writes an intent row that names every part. After that the operation has happened; each part is
// applied, again after a restart, until all have answered.
//
//   coordinator                      participant
//   prepare(part)              ->    checks, locks, PartRow prepared          (abortable)
//                              <-    prepared / refused
//   commit: own rows + IntentRow
//   (the commit is durable)
//   apply(part)                ->    effect, PartRow done or kept, unlock
//                              <-    applied
//   settle(part)               ->    PartRow erased (unless it must stay), synced
//                              <-    settled
//   IntentRow erased, synced
//   forget(part)               ->    PartRow of kinds that stay erased
//
// Presumed abort: before its commit an operation lives in the coordinator's memory only. A
// participant that holds a prepared part asks; a coordinator that neither works on the operation
// nor has an intent for it answers `unknown`, and that answer is final: operation ids are never
// used again, and only the memory of this epoch could have committed it. Nothing is decided by age.
//
// Power loss: databases are synced apart, so a commit may be lost on one side. An intent is erased
// only when every part is durable, a part row only when the end of its intent is durable or asking
// again is harmless; a part is applied only after the commit is durable (ApplyWhen). What is left
// is found by reload() and driven to its end.
//
// Messages between slots of this volcano are delivered by the next round of Shard::flush, after
// the commit of the batch that sent them. Those to slots of other volcanoes leave when the mirrors
// have that batch too, in order (take_outgoing). When either side has lost its memory, or messages
// may be lost, both begin anew: what is unanswered is sent again (begin_anew_with), and whoever
// gets it twice answers twice and does it once.
//
// A question asks a slot for what it knows; it changes nothing and leaves nothing behind.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

#include "libmagma/base/result.h"
#include "libmagma/base/unique_function.h"
#include "magmad/ops/parts.h"
#include "magmad/ops/questions.h"
#include "magmad/request.h"
#include "magmad/slot_owners.h"
#include "magmad/store/rows.h"
#include "magmad/tokens.h"

namespace magma {
class Shard;
}

namespace magma::ops {

// Stored in intent rows: never reused.
enum class OperationKind : std::uint8_t {
  mkdir = 1,
  rmdir = 2,
  rename = 3,
  unlink = 4,
  spill = 5,
  drop_content = 6,
  drop_chunks = 7,
  truncate = 8,
  drop_tree = 9,
  link = 10,
  resize = 11,   // of a file whose size authority is another volcano's
  inode = 12,    // a small change of an inode of another volcano
  reserve = 13,  // a chunk of another volcano
  append = 14,   // to chunks of another volcano
};

// A part of a committed operation, as the intent row keeps it.
struct PartSpec {
  ring::Slot slot;
  PartKind kind{};
  bool prepared = false;   // the participant holds a PartRow for it
  std::uint8_t stage = 0;  // parts of stage 1 are applied after all of stage 0
  Bytes body{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("slot", s.slot);
    v("kind", s.kind);
    v("prepared", s.prepared);
    v("stage", s.stage);
    v("body", s.body);
  }
};

struct IntentBody {
  std::vector<PartSpec> parts{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("parts", s.parts);
  }
};

// When the parts of a committed operation are applied. A part that could not be told from an
// unfinished one once it is done (or whose undoing would be visible) waits until the commit is on
// stable storage.
enum class ApplyWhen : std::uint8_t {
  at_once,
  durable,         // after a sync begun now: somebody may wait for the part
  durable_lazily,  // after the next periodic sync: nobody does
};

enum class Verb : std::uint8_t {
  prepare = 1, prepared, abort, apply, applied, settle, settled, forget, ask, unknown,
  question, reply,
  known,  // to an ask of another volcano: the operation lives, its word comes
};

struct SlotMessage {
  Verb verb{};
  OpId op;
  std::uint16_t index = 0;  // of the part within the operation
  ring::Slot from, to;
  Epoch from_epoch, to_epoch;
  PartKind kind{};
  std::uint16_t code = 0;   // prepared: 0 or an error
  Bytes body{};
  SessionId session{};      // whose change it is; none after a restart
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("verb", s.verb);
    v("op", s.op);
    v("index", s.index);
    v("from", s.from);
    v("to", s.to);
    v("from_epoch", s.from_epoch);
    v("to_epoch", s.to_epoch);
    v("kind", s.kind);
    v("code", s.code);
    v("body", s.body);
    v("session", s.session);
  }
};

class Operations {
 public:
  static constexpr std::size_t kPartsMax = 65535;
  static constexpr std::size_t kAppliesInFlight = 256;

  explicit Operations(Shard& shard) : shard_(shard) {}

  // ---- coordinator
  OpId begin(ring::Slot coordinator, OperationKind kind, RequestPtr request);
  // Holds an entry or inode for the operation until it ends (commit or abort).
  void hold(OpId op, Ino ino, std::string_view name);
  // Asks a participant to prepare; `done` gets its answer in a later batch, or is dropped if the
  // operation is aborted meanwhile.
  void prepare(OpId op, ring::Slot slot, PartKind kind, Bytes body,
               UniqueFunction<void(Result<Bytes>)> done);
  // Undoes what was prepared and gives the request back.
  RequestPtr abort(OpId op);
  // The commit point: writes the intent (in the open batch, with the caller's own rows), frees the
  // locks held, and gives the request back, to be answered in the same batch. Parts prepared
  // earlier come first, `more` after them.
  RequestPtr commit(OpId op, std::vector<PartSpec> more, ApplyWhen when);
  // begin and commit in one: an operation that needs no preparation.
  OpId commit_now(ring::Slot coordinator, OperationKind kind, std::vector<PartSpec> parts,
                  ApplyWhen when);
  // Holds (ino, name) from the commit_now that just ended until its parts are applied.
  void hold_until_applied(OpId op, Ino ino, std::string_view name);
  // The same for the inodes that lose a link by it. The answer to `request` waits for those of
  // other volcanoes.
  void hold_links_until_applied(OpId op, Request& request);
  bool is_active(OpId op) const { return active_.contains(op.value); }
  // Whether parts of it are still to be applied.
  bool is_unapplied(OpId op) const;
  // The same of any that was committed before this start.
  bool has_recovered_unapplied() const;
  // Asks a slot, of any volcano. `done` gets the request back with the answer, in a later step. It
  // is not called if the batch fails meanwhile; the request is answered then.
  using Answered = UniqueFunction<void(Result<Bytes>, RequestPtr)>;
  void ask(ring::Slot from, ring::Slot to, Question question, Bytes body, RequestPtr request,
           Answered done);

  // ---- other volcanoes
  // Messages to their slots that may leave now, in order.
  std::vector<SlotMessage> take_outgoing();
  void receive(SlotMessage message) { inbox_.push_back(std::move(message)); }
  // What was sent to these slots, or came from them, may be lost from now on: what is unanswered is
  // sent again. Between batches.
  void begin_anew_with(const OwnedSlots& theirs);
  // Another number whenever reload() has dropped what was in memory.
  std::uint64_t generation() const { return generation_; }

  // ---- shard
  bool has_messages() const { return !inbox_.empty() || !outbox_.empty(); }
  // The step that sent the last messages ends: what it told must wait for these.
  void finish_step(const std::vector<NoticeId>& waits);
  void deliver();
  void committed();   // the batch was committed: its messages may go
  void on_tick();
  // Drops everything volatile, then reads intents and parts and drives them to their ends.
  Result<void> reload();
  std::vector<RequestPtr> take_requests();  // of operations not yet committed, and of questions
  // Messages that wait until a client has sent the changes of names it delays (Tokens): they are
  // handled anew when it has, and refused if they came before `since`.
  bool has_recalled() const { return !recalled_.empty(); }
  void look_at_recalled();
  void refuse_recalled(Instant since);
  std::size_t unfinished() const { return active_.size() + committed_.size(); }

 private:
  struct ActivePart {
    ring::Slot slot;
    PartKind kind{};
    Bytes body;
    bool answered = false;
    bool prepared = false;
    UniqueFunction<void(Result<Bytes>)> done;
  };
  struct Active {
    OperationKind kind{};
    SessionId session;
    RequestPtr request;
    std::vector<ActivePart> parts;
    std::vector<std::pair<Ino, std::string>> locks;
  };
  enum class Stage : std::uint8_t { applying, applied, settling };
  struct Committed {
    OperationKind kind{};
    SessionId session;
    std::vector<PartSpec> parts;
    std::vector<bool> answered;  // applied, then settled
    std::size_t answers = 0;
    std::size_t next = 0;        // next part to send an apply for
    std::vector<std::pair<Ino, std::string>> locks;  // freed when all is applied
    std::uint8_t stage = 0;      // being applied
    Stage state = Stage::applying;
    bool is_recovered = false;
  };

  struct Asked {
    ring::Slot from, to;
    Question question{};
    SessionId session;
    Bytes body;
    RequestPtr request;
    Answered done;
  };
  // A message, and what must be so before it leaves this volcano.
  struct Outgoing {
    SlotMessage message;
    std::vector<NoticeId> waits{};
    std::uint64_t batch = 0;
    std::uint64_t sync = 0;
  };

  SlotMessage& send(Verb verb, OpId op, std::uint16_t index, ring::Slot from, ring::Slot to,
                    PartKind kind, Bytes body, Code code = {});
  void post(Outgoing outgoing);
  void post_outbox();
  void send_question(std::uint64_t id, const Asked& asked);
  void send_part(OpId op, const Active& operation, std::size_t index);
  void send_asks(const OwnedSlots& theirs);
  void send_ask(OpId op, const store::RowKey& part, PartKind kind);
  void resolve(const SlotMessage& message);
  bool is_in_doubt_with(ring::Slot coordinator) const;
  void handle(SlotMessage message);
  bool recalls_names(SlotMessage& message);
  void on_question(SlotMessage message);
  void on_reply(SlotMessage message);
  void send_prepared(const SlotMessage& message, Bytes answer, ByteSpan record);
  void send_applied(const SlotMessage& message);
  void on_prepare(SlotMessage message);
  void on_prepared(SlotMessage message);
  void on_abort(const SlotMessage& message);
  void on_apply(SlotMessage message);
  void on_applied(const SlotMessage& message);
  void on_settle(const SlotMessage& message);
  void on_settled(const SlotMessage& message);
  void on_forget(const SlotMessage& message);
  void on_ask(const SlotMessage& message);
  void on_unknown(const SlotMessage& message);
  void send_applies(OpId op, Committed& operation);
  void stage_done(OpId op, Committed& operation);
  void release(OpId op, const Active& operation);
  void apply_lazy_ones();
  void send_settles(OpId op);
  store::RowKey part_key(const SlotMessage& message) const;

  Shard& shard_;
  std::unordered_map<std::uint64_t, Active> active_;
  std::map<std::uint64_t, Committed> committed_;
  std::vector<OpId> to_settle_;
  std::vector<SlotMessage> to_forget_;
  std::deque<SlotMessage> inbox_;
  std::vector<Outgoing> outbox_;  // of the open batch
  std::size_t outbox_finished_ = 0;  // of steps that have ended
  std::deque<Outgoing> outgoing_;  // to other volcanoes
  std::map<std::uint64_t, Asked> asked_;
  // Parts (PartRow keys a, b) whose coordinators, of other volcanoes, were asked about them: until
  // they have said what became of them nothing new is prepared for that volcano, for what is undone
  // later could be of the new.
  std::set<std::pair<std::uint64_t, std::uint64_t>> in_doubt_;
  std::deque<SlotMessage> deferred_;
  struct Recalled {
    NoticeId recall = 0;
    Instant since;
    SlotMessage message;
  };
  std::deque<Recalled> recalled_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> preparing_;  // PartRow keys (a, b): under way
  // Sent once the named database is durable past the batch that asked.
  std::vector<std::pair<unsigned, Outgoing>> after_sync_;
  std::vector<std::pair<unsigned, OpId>> apply_after_sync_;
  std::vector<OpId> apply_lazily_;
  std::uint64_t generation_ = 0;  // of this memory: late callbacks of an older one are dropped
};

}  // namespace magma::ops
