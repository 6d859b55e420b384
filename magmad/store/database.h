// One SQLite database of a volcano: its schema, its one connection, its prepared statements. Used
// by MetadataStore (which adds transactions over several databases, syncs and checkpoints) and
// fsck, on one thread.
//
// Schema (doc/disk-format.md): a table for each value of Table. inode and inline_data are
// (a INTEGER PRIMARY KEY, epoch, seq, image); the others (a, b, c, epoch, seq, image) WITHOUT ROWID
// by (a, b, c). SQLite's integers are signed; a and b are stored as value - 2^63, so that SQLite's
// order is the unsigned order of the keys. oplog: (id INTEGER PRIMARY KEY, slot, epoch, seq, total,
// image), where total is the bytes of all rows ever appended up to and with this one.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "libmagma/base/owned.h"
#include "libmagma/base/result.h"
#include "magmad/store/metadata_store.h"
#include "magmad/store/rows.h"
#include "magmad/store/sqlite_vfs.h"

struct sqlite3;
struct sqlite3_stmt;

namespace magma::store {

namespace sqlite {
void configure_once();  // before the first connection of the process
void close_connection(sqlite3* connection) noexcept;
void finalize(sqlite3_stmt* statement) noexcept;
using Connection = Owned<sqlite3, &close_connection>;
using Statement = Owned<sqlite3_stmt, &finalize>;
}  // namespace sqlite

inline constexpr std::int32_t kApplicationId = 0x4d61676d;  // "Magm"
inline constexpr std::int32_t kMetadataFormat = 2;          // PRAGMA user_version
inline constexpr std::uint64_t kOplogRowOverhead = 32;      // added to an image's size

// "meta.2.db"
std::string database_path(unsigned database);
// "entry"; empty for a number that is no table.
std::string_view name_of(Table table);

class Database {
 public:
  enum class Open : std::uint8_t { existing, create };
  static Result<std::unique_ptr<Database>> open(SqliteVfs& vfs, unsigned number, Open how,
                                                const MetadataOptions& options);
  ~Database();

  Result<std::optional<Row>> get(const RowKey& key);
  Result<void> put(const RowKey& key, const Version& version, ByteSpan image);
  Result<void> erase(const RowKey& key);
  Result<void> scan(const RowKey& from, const RowKey& to, MetadataStore::Visit& visit);
  Result<void> append_oplog(ring::Slot slot, const Version& version, ByteSpan image);
  Result<MetadataStore::OplogEnds> oplog_ends();
  Result<void> clear_oplog();
  Result<void> forget_oplog(const ring::SlotMask& slots);
  Result<void> scan_oplog(std::uint64_t from_id,
                          UniqueFunction<bool(const MetadataStore::OplogRow&)>& visit);

  Result<void> begin();
  Result<void> commit();
  void rollback();
  bool in_transaction() const { return in_transaction_; }

  // Copies the -wal into the database, with the syncs SQLite wants. `truncate` empties it too.
  // Requires: not in a transaction.
  Result<void> checkpoint(bool truncate);
  // PRAGMA quick_check: problems found, none if all is well.
  Result<std::vector<std::string>> quick_check();
  // The open -wal; never null while the database is open.
  SqliteFile& wal() { return *wal_; }

 private:
  enum Action : std::uint8_t { kGet, kPut, kErase, kScan, kActions };
  enum Special : std::uint8_t { kBegin, kCommit, kRollback, kAppend, kTrim, kScanOplog, kSpecials };
  using Prepared = std::array<sqlite::Statement, kActions>;

  Database(SqliteVfs& vfs, unsigned number, const MetadataOptions& options)
      : vfs_(vfs), number_(number), options_(options) {}
  Result<void> connect(bool create);
  Result<void> create_schema();
  Result<void> create_table(Table table);
  Result<void> upgrade();
  Result<void> check_format();
  Result<void> load_oplog_end();
  Result<void> run(const char* sql);
  Result<std::int64_t> number_from(const char* sql);
  Result<sqlite::Statement> prepare(const std::string& sql, bool persistent = true);
  Result<sqlite3_stmt*> statement(Table table, Action action);
  Result<sqlite3_stmt*> special(Special which);
  Result<void> step_done(sqlite3_stmt* statement);
  Error error_of(int code);
  Result<void> trim_oplog();

  SqliteVfs& vfs_;
  unsigned number_;
  MetadataOptions options_;
  sqlite::Connection connection_;
  std::array<Prepared, kTableLast + 1> prepared_;
  std::array<sqlite::Statement, kSpecials> special_;
  SqliteFile* wal_ = nullptr;
  bool in_transaction_ = false;

  struct OplogEnd {
    std::int64_t next_id = 1;
    std::uint64_t total = 0;    // of the newest row
    std::uint64_t trimmed = 0;  // total of the newest row that was trimmed
  };
  OplogEnd oplog_;            // with the open transaction
  OplogEnd committed_oplog_;  // without
};

}  // namespace magma::store
