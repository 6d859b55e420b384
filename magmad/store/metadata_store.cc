// Transactions over the four databases, their syncs and checkpoints. The rows themselves:
// database.cc.
#include "magmad/store/metadata_store.h"

#include <utility>
#include <vector>

#include "libmagma/base/check.h"
#include "libmagma/base/log.h"
#include "magmad/store/database.h"
#include "magmad/store/sqlite_vfs.h"

namespace magma::store {
namespace {

using Done = UniqueFunction<void(Result<void>)>;

// A -wal that grows past this many times the limit, because commits never pause, is checkpointed
// with a blocking sync.
constexpr std::uint64_t kForcedCheckpointFactor = 4;

unsigned database_of(ring::Slot slot) { return slot.value % kDatabases; }

class Store final : public MetadataStore {
 public:
  Store(sys::Disk& disk, sys::Executor& executor, MetadataOptions options)
      : vfs_(disk), executor_(executor), options_(options) {}
  ~Store() override { rollback(); }

  Result<void> open_all(bool create) {
    if (create) {
      for (unsigned i = 0; i < kDatabases; ++i) {
        TRY_VALUE(bool there, vfs_.disk().exists(database_path(i)));
        if (there) return fail(Code::exists, database_path(i));
      }
    }
    for (unsigned i = 0; i < kDatabases; ++i) {
      auto how = create ? Database::Open::create : Database::Open::existing;
      TRY_VALUE(lanes_[i].db, Database::open(vfs_, i, how, options_));
      // A new database is in its file by a checkpoint; a -wal that was found may be unsynced.
      const SqliteFile& wal = lanes_[i].db->wal();
      lanes_[i].committed = create ? wal.synced : wal.writes;
    }
    return {};
  }

  Result<std::optional<Row>> get(const RowKey& key) override { return database(key).get(key); }

  Result<void> put(const RowKey& key, const Version& version, ByteSpan image) override {
    Lane& lane = lane_of(key.slot());
    TRY(begin(lane));
    ++stats_.rows_written;
    return noted(lane.db->put(key, version, image));
  }

  Result<void> erase(const RowKey& key) override {
    Lane& lane = lane_of(key.slot());
    TRY(begin(lane));
    ++stats_.rows_written;
    return noted(lane.db->erase(key));
  }

  Result<void> scan(const RowKey& from, const RowKey& to, Visit visit) override {
    MAGMA_CHECK(from.table == to.table);
    MAGMA_CHECK(database_of(from.slot()) == database_of(to.slot()));
    return database(from).scan(from, to, visit);
  }

  Result<void> scan_database(unsigned number, Table table, Visit visit) override {
    MAGMA_CHECK(number < kDatabases);
    return scan_from(number, {table, 0, 0, {}}, std::move(visit));
  }

  Result<void> scan_from(unsigned number, const RowKey& from, Visit visit) override {
    MAGMA_CHECK(number < kDatabases);
    // Nothing sorts after this c: names and chunk numbers are far shorter than it.
    RowKey to{from.table, ~std::uint64_t{0}, ~std::uint64_t{0}, std::string(256, '\xff')};
    return lanes_[number].db->scan(from, to, visit);
  }

  Result<void> append_oplog(ring::Slot slot, const Version& version, ByteSpan image) override {
    Lane& lane = lane_of(slot);
    TRY(begin(lane));
    return noted(lane.db->append_oplog(slot, version, image));
  }

  Result<void> scan_oplog(unsigned number, std::uint64_t from_id,
                          UniqueFunction<bool(const OplogRow&)> visit) override {
    MAGMA_CHECK(number < kDatabases);
    return lanes_[number].db->scan_oplog(from_id, visit);
  }

  Result<OplogEnds> oplog_ends(unsigned number) override {
    MAGMA_CHECK(number < kDatabases);
    return lanes_[number].db->oplog_ends();
  }

  Result<void> clear_oplog() override {
    for (Lane& lane : lanes_) {
      TRY(begin(lane));
      TRY(noted(lane.db->clear_oplog()));
    }
    return {};
  }
  Result<void> forget_oplog(const ring::SlotMask& slots) override {
    for (Lane& lane : lanes_) {
      TRY(begin(lane));
      TRY(noted(lane.db->forget_oplog(slots)));
    }
    return {};
  }

  void before_commit(UniqueFunction<void()> hook) override { before_commit_ = std::move(hook); }

  void set_commit_order(const std::array<unsigned, kDatabases>& order) override {
    commit_order_ = order;
  }

  Result<void> commit() override {
    if (before_commit_ && in_transaction_) before_commit_();
    if (failed_ && in_transaction_) poison_ = failed_;
    if (!poison_) {
      bool some_committed = false;
      for (unsigned number : commit_order_) {
        Lane& lane = lanes_[number];
        if (!lane.db->in_transaction()) continue;
        auto done = lane.db->commit();
        if (!done) {
          // What is committed cannot be taken back; the caller would believe that it was.
          if (some_committed) fail_store(done.error());
          poison_ = std::move(done.error());
          break;
        }
        lane.committed = lane.db->wal().writes;
        some_committed = true;
      }
    }
    if (poison_) {
      Error error = std::move(*poison_);
      rollback();
      return fail(std::move(error));
    }
    ++stats_.commits;
    in_transaction_ = false;
    commit_order_ = kPlainOrder;
    return {};
  }

  void rollback() override {
    for (Lane& lane : lanes_)
      if (lane.db != nullptr && lane.db->in_transaction()) lane.db->rollback();
    poison_.reset();
    in_transaction_ = false;
    commit_order_ = kPlainOrder;
  }

  bool in_transaction() const override { return in_transaction_; }

  void sync(unsigned number, Done done) override {
    MAGMA_CHECK(number < kDatabases);
    Lane& lane = lanes_[number];
    if (failed_) return done(fail(*failed_));
    if (durable(lane)) return done({});
    // A sync that began after the last commit will do.
    const bool is_under_way = lane.syncing && lane.syncing_writes >= lane.committed;
    (is_under_way ? lane.running : lane.next).push_back(std::move(done));
    if (!lane.syncing) start_sync(lane);
  }

  void sync_all(Done done) override {
    struct Joined {
      Done done;
      Result<void> result;
      unsigned left = kDatabases;
    };
    auto joined = std::make_shared<Joined>();  // shared by the four callbacks
    joined->done = std::move(done);
    for (unsigned i = 0; i < kDatabases; ++i) {
      sync(i, [joined](Result<void> result) {
        if (!result) joined->result = std::move(result);
        if (--joined->left == 0) joined->done(std::move(joined->result));
      });
    }
  }

  bool is_durable(unsigned number) const override {
    MAGMA_CHECK(number < kDatabases);
    return !failed_ && durable(lanes_[number]);
  }
  bool failed() const override { return failed_.has_value(); }

  void checkpoint_if_due() override {
    for (unsigned i = 0; i < kDatabases && !failed_; ++i) {
      Lane& lane = lanes_[i];
      std::uint64_t bytes = lane.db->wal().write_end;
      if (bytes < options_.wal_checkpoint_bytes || lane.db->in_transaction()) continue;
      bool forced = bytes >= options_.wal_checkpoint_bytes * kForcedCheckpointFactor;
      if (durable(lane) || lane.sync_preceded || forced) {
        checkpoint(lane);
      } else if (!lane.checkpoint_waits) {
        lane.checkpoint_waits = true;
        sync(i, [this, i](Result<void> result) { checkpoint_after_sync(lanes_[i], result); });
      }
    }
  }

  Result<void> sync_now() override {
    if (failed_) return fail(*failed_);
    for (Lane& lane : lanes_) {
      if (auto done = lane.db->wal().file->sync(); !done) {
        fail_store(done.error());
        return done;
      }
      lane.db->wal().note_synced(lane.db->wal().writes);
    }
    return {};
  }

  Result<void> close_clean() override {
    if (failed_) return fail(*failed_);
    if (in_transaction_) rollback();
    for (Lane& lane : lanes_) {
      auto done = lane.db->checkpoint(true);
      if (done) done = lane.db->wal().file->sync();
      if (!done) {
        fail_store(done.error());
        return done;
      }
      lane.db->wal().note_synced(lane.db->wal().writes);
      ++stats_.checkpoints;
    }
    return {};
  }

  Stats stats() const override {
    Stats stats = stats_;
    for (const Lane& lane : lanes_) stats.wal_bytes += lane.db->wal().write_end;
    return stats;
  }

 private:
  struct Lane {
    std::unique_ptr<Database> db;
    std::uint64_t committed = 0;  // change number of the -wal after the last commit
    bool syncing = false;
    std::uint64_t syncing_writes = 0;  // the change number that the sync under way is of
    std::vector<Done> running;    // answered by the sync under way
    std::vector<Done> next;       // by the one after
    bool checkpoint_waits = false;  // for a sync under way
    bool sync_preceded = false;   // that sync is done, but a transaction was open then
  };

  Lane& lane_of(ring::Slot slot) { return lanes_[database_of(slot)]; }
  Database& database(const RowKey& key) { return *lane_of(key.slot()).db; }
  static bool durable(const Lane& lane) { return lane.db->wal().synced >= lane.committed; }

  Result<void> begin(Lane& lane) {
    if (failed_) [[unlikely]]
      return fail(*failed_);
    in_transaction_ = true;
    if (lane.db->in_transaction()) [[likely]]
      return {};
    return noted(lane.db->begin());
  }

  // After a failed change the transaction may lack it or be rolled back by SQLite: commit() must
  // not succeed.
  Result<void> noted(Result<void> result) {
    if (!result) [[unlikely]]
      poison_ = result.error();
    return result;
  }

  void start_sync(Lane& lane) {
    struct Outcome {
      Result<void> result;
    };
    lane.syncing = true;
    lane.running = std::move(lane.next);
    lane.next.clear();
    ++stats_.syncs;
    auto outcome = std::make_shared<Outcome>();  // shared by the two functions below
    std::uint64_t writes = lane.syncing_writes = lane.db->wal().writes;
    auto file = lane.db->wal().file;
    std::weak_ptr<int> alive = alive_;
    executor_.run([file, outcome] { outcome->result = file->sync(); },
                  [this, alive, &lane, writes, outcome] {
                    if (alive.expired()) return;
                    sync_done(lane, writes, std::move(outcome->result));
                  });
  }

  void sync_done(Lane& lane, std::uint64_t writes, Result<void> result) {
    lane.syncing = false;
    if (!result || failed_) {
      if (!result) fail_store(result.error());
      return;
    }
    lane.db->wal().note_synced(writes);
    auto waiting = std::move(lane.running);
    lane.running.clear();
    if (!lane.next.empty()) start_sync(lane);
    std::weak_ptr<int> alive = alive_;
    for (Done& done : waiting) {
      done({});
      if (alive.expired()) return;  // a callback may end the store
    }
  }

  void checkpoint_after_sync(Lane& lane, const Result<void>& result) {
    lane.checkpoint_waits = false;
    if (!result) return;
    if (lane.db->in_transaction())
      lane.sync_preceded = true;  // at the next checkpoint_if_due
    else
      checkpoint(lane);
  }

  // SQLite syncs what of the -wal is not yet synced, the database after the copy, and later the
  // new header of the -wal.
  void checkpoint(Lane& lane) {
    lane.sync_preceded = false;
    auto done = lane.db->checkpoint(false);
    if (done) {
      ++stats_.checkpoints;
      return;
    }
    // A full disk heals; a failed sync does not.
    if (vfs_.sync_failed()) return fail_store(done.error());
    log_warning("checkpoint_failed error={}", describe(done.error()));
  }

  // For good: callbacks that wait, and all to come, get the error.
  void fail_store(const Error& error) {
    if (failed_) return;
    failed_ = error;
    log_error("store_failed error={}", describe(error));
    std::vector<Done> waiting;
    for (Lane& lane : lanes_) {
      for (Done& done : lane.running) waiting.push_back(std::move(done));
      for (Done& done : lane.next) waiting.push_back(std::move(done));
      lane.running.clear();
      lane.next.clear();
    }
    std::weak_ptr<int> alive = alive_;
    for (Done& done : waiting) {
      done(fail(error));
      if (alive.expired()) return;
    }
  }

  SqliteVfs vfs_;  // outlives the databases
  sys::Executor& executor_;
  MetadataOptions options_;
  std::array<Lane, kDatabases> lanes_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);  // shared with callbacks, as weak_ptr
  UniqueFunction<void()> before_commit_;
  std::optional<Error> poison_;  // why commit() must fail
  std::optional<Error> failed_;
  static constexpr std::array<unsigned, kDatabases> kPlainOrder{0, 1, 2, 3};
  std::array<unsigned, kDatabases> commit_order_ = kPlainOrder;
  bool in_transaction_ = false;
  Stats stats_;
};

}  // namespace

MetadataStore::~MetadataStore() = default;

Result<std::unique_ptr<MetadataStore>> MetadataStore::open(sys::Disk& disk, sys::Executor& executor,
                                                           bool create, MetadataOptions options) {
  auto store = std::make_unique<Store>(disk, executor, options);
  TRY(store->open_all(create));
  return store;
}

}  // namespace magma::store
