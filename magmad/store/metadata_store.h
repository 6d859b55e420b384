// The rows of a volcano in four SQLite databases, and their oplog. One thread (the shard's) does
// everything here: reads, writes, commits, checkpoints; only the fdatasync of a -wal file runs on
// the Executor. Changes go into a transaction that the first put/erase begins and commit() ends:
// one transaction a batch of requests, over whichever databases it touched.
//
// Durable point: a commit is safe against kill -9 at once (it is in the page cache) and against
// power loss once an fdatasync of its database's -wal begun after it has returned.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "libmagma/base/result.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/sys/disk.h"
#include "libmagma/sys/executor.h"
#include "magmad/store/rows.h"

namespace magma::store {

struct MetadataOptions {
  std::uint64_t oplog_bytes_max = 256u << 20;    // per database
  std::uint64_t wal_checkpoint_bytes = 4u << 20;
  std::int64_t cache_kib = 16 * 1024;            // SQLite page cache, per database
};

class MetadataStore {
 public:
  // Opens DIR/meta.{0..3}.db, making them if `create` (exists if one is there). Replays the -wal
  // of an unclean end. too_new if written by a newer format.
  static Result<std::unique_ptr<MetadataStore>> open(sys::Disk& disk, sys::Executor& executor,
                                                     bool create, MetadataOptions options = {});
  virtual ~MetadataStore();  // rolls back what was not committed; closes without checkpoint

  // Reads see the open transaction's changes.
  virtual Result<std::optional<Row>> get(const RowKey& key) = 0;
  virtual Result<void> put(const RowKey& key, const Version& version, ByteSpan image) = 0;
  virtual Result<void> erase(const RowKey& key) = 0;  // fine if it is not there

  struct ScanRow {  // views valid inside the callback
    std::uint64_t a, b;
    std::string_view c;
    Version version;
    ByteSpan image;
  };
  // Rows of one table with from <= (a, b, c) <= to, in that order, until `visit` returns false.
  // Requires: from and to lie in one slot, or `database` is given and bounds are compared within
  // that database. The table must not be changed inside the callback.
  using Visit = UniqueFunction<bool(const ScanRow&)>;
  virtual Result<void> scan(const RowKey& from, const RowKey& to, Visit visit) = 0;
  virtual Result<void> scan_database(unsigned database, Table table, Visit visit) = 0;

  // From a key on, in the order of the whole table.
  virtual Result<void> scan_from(unsigned database, const RowKey& from, Visit visit) = 0;

  // The record of one batch's changes to a slot: rows and ranges touched, encoded by the caller.
  virtual Result<void> append_oplog(ring::Slot slot, const Version& version, ByteSpan image) = 0;
  struct OplogRow {
    std::uint64_t id;
    ring::Slot slot;
    Version version;
    ByteSpan image;
  };
  virtual Result<void> scan_oplog(unsigned database, std::uint64_t from_id,
                                  UniqueFunction<bool(const OplogRow&)> visit) = 0;

  // Ids of the first and the last oplog row, as committed; 0, 0 if there is none.
  struct OplogEnds {
    std::uint64_t first = 0, last = 0;
  };
  virtual Result<OplogEnds> oplog_ends(unsigned database) = 0;
  // Forgets the oplog but goes on with its ids; in the open transaction.
  virtual Result<void> clear_oplog() = 0;
  // The same of these slots' rows.
  virtual Result<void> forget_oplog(const ring::SlotMask& slots) = 0;

  // Called at the beginning of each commit, also of those that are not the owner's (a content that
  // waits): to put what belongs to the transaction.
  virtual void before_commit(UniqueFunction<void()> hook) = 0;
  // Ends the transaction. On failure everything since the last commit is rolled back. The databases
  // commit one after the other, and a kill may fall between: see set_commit_order.
  virtual Result<void> commit() = 0;
  // The order of the databases in the next commit (0, 1, 2, 3 if none is given).
  virtual void set_commit_order(const std::array<unsigned, kDatabases>& order) = 0;
  virtual void rollback() = 0;
  virtual bool in_transaction() const = 0;

  // Calls `done` when all commits of `database` made before this call are on stable storage; at
  // once if they are already. Calls made while a sync runs share the next one. After a failed
  // sync the store is failed() for good: nothing more may be acknowledged.
  virtual void sync(unsigned database, UniqueFunction<void(Result<void>)> done) = 0;
  virtual void sync_all(UniqueFunction<void(Result<void>)> done) = 0;
  // Blocking: everything committed is on stable storage (start-up).
  virtual Result<void> sync_now() = 0;
  virtual bool is_durable(unsigned database) const = 0;  // nothing committed is unsynced
  virtual bool failed() const = 0;

  // To be called after commits and now and then: begins the sync that precedes a checkpoint when
  // a -wal is over the limit, and checkpoints (on this thread) once that sync is done.
  virtual void checkpoint_if_due() = 0;
  // Clean stop: syncs and checkpoints everything, blocking.
  virtual Result<void> close_clean() = 0;

  struct Stats {
    std::uint64_t commits = 0, syncs = 0, checkpoints = 0, rows_written = 0, wal_bytes = 0;
  };
  virtual Stats stats() const = 0;
};

}  // namespace magma::store
