// A volcano that mirrors another: does what the primary says, in the order of the run's numbers
// (libmagma/wire/replica_messages.h), on its own stores, and says when it is done. It decides
// nothing: its rows and contents are those of the primary as of some batch.
//
// How far it has come is a row of its own (table mirror), committed with what a batch changed; its
// database is the last of the commit, so after a kill in between the batch is asked for again,
// which changes nothing that was done. A batch is done by values, so twice is as good as once.
//
// One thread, the shard's; contents are prepared and synced by the store threads, and what comes
// meanwhile waits.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
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

  // References outlive it. `send` takes answers.
  Mirror(sys::Clock& clock, store::MetadataStore& metadata, store::ContentStore& content,
         UniqueFunction<void(Answer)>& send);
  // Reads how far it has come. `clean`: the last run of the process ended with a clean stop; else
  // what a kill left of contents is put right first. `lost_power`: so far only as was synced.
  // Blocks.
  Result<void> begin(bool clean, bool lost_power);
  Instant deadline() const;
  void on_timer();

  // A request of kind `mirror` over a connection made with the ring key.
  void handle(RequestPtr request);

  wire::MirrorPosition position() const { return {state_.stream, state_.batch}; }
  // It has all of position(), and is a copy of the primary as of then.
  bool is_whole() const { return state_.is_whole && !state_.is_mixed; }
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
  };

  void hello(RequestPtr request, const wire::MirrorHelloRequest& message);
  void take_next();
  void do_next(RequestPtr request);
  void batch(RequestPtr request, wire::MirrorBatchRequest message, ByteSpan bytes);
  void next_change();
  bool is_sound(const Batch& batch) const;
  void prepared(Result<void> ready);
  Result<void> change(const wire::MirrorChange& what);
  void finish_batch();
  Result<void> put_rows(const std::vector<wire::MirrorRow>& rows);
  Result<void> put_log(const std::vector<wire::MirrorLog>& log);
  Result<void> begin_oplog();
  Result<void> put_state();
  Result<void> note_mixed();
  Result<void> mark(const wire::MirrorBatchRequest& message);
  void note_committed();
  Result<void> commit();
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
  void end_run(const Error& error);
  void fail_run(const Error& error);
  void fail_change(const wire::MirrorRange& range, const Error& error);

  sys::Clock& clock_;
  store::MetadataStore& metadata_;
  store::ContentStore& content_;
  UniqueFunction<void(Answer)>& send_;
  // The second of each: as of the last commit, for a run that fails. The primary of a hello counts
  // from the first commit of its run that says so: a copy, if it was another's before.
  store::MirrorStateRow state_{}, state_committed_{};
  std::vector<wire::MirrorRange> torn_;
  // Of the newest oplog row of each database: what comes again is not put again, so that positions
  // rise with ids.
  std::array<wire::MirrorPosition, store::kDatabases> oplog_last_{}, oplog_last_committed_{};
  Instant next_sync_{};
  std::uint64_t run_ = 0;
  std::uint64_t next_ = 1;
  std::map<std::uint64_t, RequestPtr> waiting_;  // by number
  std::unique_ptr<Batch> batch_;                 // parts of it have come, or it is being done
  bool is_busy_ = false;                         // it is
  std::uint64_t generation_ = 0;                 // rises with each run: callbacks look
  std::shared_ptr<int> life_ = std::make_shared<int>(0);  // shared with callbacks, as weak_ptr
  Stats stats_;
};

}  // namespace magma::replication
