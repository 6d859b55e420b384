// A stream as its mirror has it: does what the primary says, in the order of the run's numbers
// (libmagma/wire/replica_messages.h), on the volcano's stores, and says when it is done. It decides
// nothing: the rows and contents of the stream's slots are those of the primary as of some batch.
//
// How far it has come is a row of its own (table mirror), committed with what a batch changed; its
// database is the last of the commit, so after a kill in between the batch is asked for again,
// which changes nothing that was done. A batch is done by values, so twice is as good as once.
//
// One thread, the shard's; contents are prepared and synced by the store threads, and what comes
// meanwhile waits. What it does it does in pump(), when the volcano's own batch is committed: no
// transaction is open before or after.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "libmagma/base/unique_function.h"
#include "libmagma/wire/codec.h"
#include "magmad/replication/effects.h"
#include "magmad/request.h"
#include "libmagma/sys/clock.h"
#include "magmad/shard.h"
#include "magmad/store/content_store.h"
#include "magmad/store/metadata_store.h"

namespace magma::replication {

class Mirror {
 public:
  // Messages of a run that may wait for the ones before them.
  static constexpr std::size_t kWaitingMax = 1024;
  static constexpr std::size_t kBatchBytesMax = 512u << 20;  // in memory until it is whole
  static constexpr Duration kSyncEvery = seconds(5);

  // `number` is the stream's (store::stream_number). `send` takes answers. References outlive it.
  Mirror(std::uint64_t number, sys::Clock& clock, store::MetadataStore& metadata,
         store::ContentStore& content, UniqueFunction<void(Answer)>& send);

  // What its row says, before the first run.
  Result<void> restore(store::MirrorStreamRow row);
  // What is known of these slots is not so any more, or is another stream's. Commits nothing.
  Result<void> forget(const ring::SlotMask& slots);
  // A run begins: about these slots, of which that is known so far. The one before ends. Commits
  // nothing. `is_of_one`: known is what one stream had.
  Result<void> begin_run(std::uint64_t run, const ring::SlotMask& slots,
                         store::MirrorStreamRow known, bool is_of_one);
  // The transaction with the row is committed, or rolled back.
  void note_committed();
  void undo();
  // Whoever waits is refused, what has begun is not finished.
  void end_run(const Error& error);

  std::uint64_t run() const { return run_; }  // 0: none
  const ring::SlotMask& slots() const { return slots_; }  // of the run
  const store::MirrorStreamRow& state() const { return state_; }
  wire::MirrorPosition position() const { return {state_.epoch, state_.batch}; }
  // It has all of position(), and is a copy of the primary as of then.
  bool is_whole() const {
    return !state_.is_mixed && (slots_ & ~ring::set_of(state_.known)).none();
  }

  // A request of the run, with that number.
  void take(RequestPtr request, std::uint64_t number);
  bool has_work() const;
  // Requires: no batch is open.
  void pump();
  Instant deadline() const;
  void on_timer();
  // Ranges that a failed change left otherwise than the primary has them; forgets them.
  std::vector<wire::MirrorRange> take_torn() { return std::exchange(torn_, {}); }
  // All slots of the run have become whole since the last call.
  bool take_whole_mark() { return std::exchange(has_become_whole_, false); }

  struct Stats {
    std::uint64_t batches = 0, rows = 0, bytes = 0, checks = 0, refused = 0, compares = 0;
  };
  Stats stats() const { return stats_; }

 private:
  struct Batch {
    wire::MirrorBatchRequest message;  // of all its parts
    Bytes bytes;
    std::vector<RequestPtr> requests;  // its parts, to be answered together
    std::size_t size = 0;              // of its parts
    std::size_t next_change = 0;
    std::size_t next_byte = 0;
    std::vector<store::ContentId> cut;  // in the open transaction
    std::map<store::ContentId, std::size_t> last_change;  // of each content
    std::vector<std::size_t> late;  // cuts that are done with the rows
  };
  // The store prepares the next change.
  struct Waiting {
    bool is_inside = true;
    std::optional<Result<void>> result;
  };

  std::optional<Result<void>> prepare(const wire::MirrorChange& what);
  void take_next();
  void do_next(RequestPtr request);
  void batch(RequestPtr request, wire::MirrorBatchRequest message, ByteSpan bytes);
  void next_change();
  bool is_sound(const Batch& batch) const;
  Result<void> change(const wire::MirrorChange& what);
  void finish_batch();
  Result<void> put_rows(const std::vector<wire::MirrorRow>& rows);
  Result<void> put_log(const std::vector<wire::MirrorLog>& log);
  Result<void> begin_oplog();
  Result<void> find_in_oplog();
  Result<void> forget_oplog(const ring::SlotMask& slots);
  Result<void> put_state();
  Result<void> note_mixed();
  Result<void> mark(const wire::MirrorBatchRequest& message);
  Result<void> commit();
  void roll_back();
  Result<void> settle_cuts(const store::ContentId& id);
  Result<void> rows(const wire::MirrorRowsRequest& message);
  Result<wire::MirrorCheckReply> check(const wire::MirrorCheckRequest& message);
  // mirror_compare.cc
  struct Scrub;
  Result<wire::MirrorCompareReply> compare(const wire::MirrorCompareRequest& message);
  Result<void> begin_scrub(RequestPtr request, wire::MirrorScrubRequest message);
  void scrub_next(std::shared_ptr<Scrub> scrub);
  void sync(RequestPtr request);
  void sync_all(UniqueFunction<void(Result<void>)> done);
  store::Version version_of(ring::Slot slot) const;

  void answer_with(const Request& request, Bytes body);
  template <class Reply>
  void answer(const Request& request, const Reply& reply) {
    answer_with(request, wire::encode(reply));
  }
  void refuse(const Request& request, const Error& error);
  void fail_run(const Error& error);
  void fail_change(const wire::MirrorRange& range, const Error& error);

  const std::uint64_t number_;
  sys::Clock& clock_;
  store::MetadataStore& metadata_;
  store::ContentStore& content_;
  UniqueFunction<void(Answer)>& send_;
  // The second of each: as of the last commit, for a run that fails.
  store::MirrorStreamRow state_{}, state_committed_{};
  std::vector<wire::MirrorRange> torn_;
  // Of the slots' newest oplog row in each database: what comes again is not put again, so that
  // positions rise with ids.
  std::array<wire::MirrorPosition, store::kDatabases> oplog_last_{}, oplog_last_committed_{};
  Instant next_sync_{};
  std::uint64_t run_ = 0;
  ring::SlotMask slots_{};
  std::uint64_t next_ = 1;
  std::map<std::uint64_t, RequestPtr> waiting_;  // by number
  std::unique_ptr<Batch> batch_;                 // parts of it have come, or it is being done
  bool is_busy_ = false;                         // it is
  std::shared_ptr<Waiting> prepared_;  // shared with the store's callback
  bool has_become_whole_ = false;
  std::uint64_t generation_ = 0;                 // rises with each run: callbacks look
  std::shared_ptr<int> life_ = std::make_shared<int>(0);  // shared with callbacks, as weak_ptr
  Stats stats_;
};

}  // namespace magma::replication
