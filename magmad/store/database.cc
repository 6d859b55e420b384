#include "magmad/store/database.h"

#include <mutex>

#include <fmt/format.h>
#include <sqlite3.h>

#include "libmagma/base/check.h"

namespace magma::store {
namespace {

constexpr std::uint64_t kSignBit = std::uint64_t{1} << 63;
// Rows a single append may trim: enough to catch up, few enough to be no pause.
constexpr int kOplogTrimRows = 64;
// Trimming begins this share above the limit, so that not every append trims.
constexpr std::uint64_t kOplogSlackShare = 64;
constexpr std::array<std::string_view, kTableLast + 1> kTableNames = {
    "",     "slot",      "inode",     "inline_data", "entry", "lock",    "chunk",
    "authority", "page_sums", "hot_range", "intent",   "part",  "refusal", "reply",
    "session", "open",   "orphan",    "xattr",       "removal",
    "file_lock", "mirror"};
static_assert(static_cast<unsigned>(Table::mirror) == kTableLast);

sqlite3_int64 to_sqlite(std::uint64_t value) {
  return static_cast<sqlite3_int64>(value ^ kSignBit);
}
std::uint64_t from_sqlite(sqlite3_int64 value) {
  return static_cast<std::uint64_t>(value) ^ kSignBit;
}

// Tables by their first column alone.
bool is_single(Table table) { return table == Table::inode || table == Table::inline_data; }

// Puts a cached statement back into its rest state whatever happens.
class ResetAfter {
 public:
  explicit ResetAfter(sqlite3_stmt* statement) : statement_(statement) {}
  ~ResetAfter() { sqlite3_reset(statement_); }
  ResetAfter(const ResetAfter&) = delete;
  ResetAfter& operator=(const ResetAfter&) = delete;

 private:
  sqlite3_stmt* statement_;
};

void bind_blob(sqlite3_stmt* s, int index, const void* data, std::size_t size) {
  // A null pointer would bind NULL.
  sqlite3_bind_blob64(s, index, size == 0 ? "" : data, size, SQLITE_STATIC);
}

// Binds a (, b, c) from parameter `first`; returns the next free parameter.
int bind_key(sqlite3_stmt* s, int first, const RowKey& key) {
  sqlite3_bind_int64(s, first++, to_sqlite(key.a));
  if (is_single(key.table)) return first;
  sqlite3_bind_int64(s, first++, to_sqlite(key.b));
  bind_blob(s, first++, key.c.data(), key.c.size());
  return first;
}

ByteSpan column_bytes(sqlite3_stmt* s, int column) {
  const void* data = sqlite3_column_blob(s, column);
  auto size = static_cast<std::size_t>(sqlite3_column_bytes(s, column));
  return {static_cast<const std::uint8_t*>(data), size};
}

Version column_version(sqlite3_stmt* s, int column) {
  return {Epoch(static_cast<std::uint32_t>(sqlite3_column_int64(s, column))),
          Seq(static_cast<std::uint64_t>(sqlite3_column_int64(s, column + 1)))};
}

std::string table_sql(Table table, int action) {
  std::string name(name_of(table));
  if (is_single(table)) {
    switch (action) {
      case 0: return "SELECT epoch, seq, image FROM " + name + " WHERE a=?1";
      case 1: return "REPLACE INTO " + name + "(a, epoch, seq, image) VALUES(?1, ?2, ?3, ?4)";
      case 2: return "DELETE FROM " + name + " WHERE a=?1";
      default:
        return "SELECT a, 0, NULL, epoch, seq, image FROM " + name +
               " WHERE a BETWEEN ?1 AND ?2 ORDER BY a";
    }
  }
  switch (action) {
    case 0: return "SELECT epoch, seq, image FROM " + name + " WHERE a=?1 AND b=?2 AND c=?3";
    case 1:
      return "REPLACE INTO " + name + "(a, b, c, epoch, seq, image) VALUES(?1, ?2, ?3, ?4, ?5, ?6)";
    case 2: return "DELETE FROM " + name + " WHERE a=?1 AND b=?2 AND c=?3";
    default:
      return "SELECT a, b, c, epoch, seq, image FROM " + name +
             " WHERE (a, b, c) >= (?1, ?2, ?3) AND (a, b, c) <= (?4, ?5, ?6) ORDER BY a, b, c";
  }
}

constexpr const char* kSpecialSql[] = {
    "BEGIN IMMEDIATE",
    "COMMIT",
    "ROLLBACK",
    "INSERT INTO oplog(id, slot, epoch, seq, total, image) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    "DELETE FROM oplog WHERE id < ?1 AND total - length(image) < ?2 AND id IN"
    " (SELECT id FROM oplog ORDER BY id LIMIT ?3)",
    "SELECT id, slot, epoch, seq, image FROM oplog WHERE id >= ?1 ORDER BY id",
};

}  // namespace

namespace sqlite {
void configure_once() {
  static std::once_flag once;
  std::call_once(once, [] {
    // Ours are the only users of SQLite in the process; its memory statistics cost a lock a call.
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    sqlite3_initialize();
  });
}
void close_connection(sqlite3* connection) noexcept { sqlite3_close_v2(connection); }
void finalize(sqlite3_stmt* statement) noexcept { sqlite3_finalize(statement); }
}  // namespace sqlite

std::string database_path(unsigned database) { return fmt::format("meta.{}.db", database); }

std::string_view name_of(Table table) {
  auto number = static_cast<std::size_t>(table);
  return number < kTableNames.size() ? kTableNames[number] : std::string_view{};
}

Result<std::unique_ptr<Database>> Database::open(SqliteVfs& vfs, unsigned number, Open how,
                                                 const MetadataOptions& options) {
  sqlite::configure_once();
  std::unique_ptr<Database> db(new Database(vfs, number, options));
  std::string path = database_path(number);
  TRY_VALUE(bool there, vfs.disk().exists(path));
  if (there && how == Open::create) return fail(Code::exists, path);
  if (!there && how == Open::existing)
    return fail(Code::not_found, path + " is missing; restore it or take this volcano's data from"
                                        " its replicas by starting it on an empty directory");
  TRY(db->connect(how == Open::create));
  if (how == Open::create) TRY(db->create_schema());
  TRY(db->check_format());
  TRY(db->upgrade());
  TRY(db->load_oplog_end());
  db->wal_ = vfs.wal_of(path);
  MAGMA_CHECK(db->wal_ != nullptr);
  return db;
}

Database::~Database() {
  for (auto& table : prepared_)
    for (auto& statement : table) statement.reset();
  for (auto& statement : special_) statement.reset();
}

Result<void> Database::connect(bool create) {
  sqlite3* raw = nullptr;
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
  int rc = sqlite3_open_v2(database_path(number_).c_str(), &raw, flags, vfs_.name());
  connection_.reset(raw);
  if (rc != SQLITE_OK) return fail(error_of(rc));
  sqlite3_db_config(raw, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  sqlite3_db_config(raw, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(raw, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  // The order matters: exclusive before the first look at the -wal, the page size before WAL.
  TRY(run("PRAGMA locking_mode=EXCLUSIVE"));
  if (create) TRY(run("PRAGMA page_size=4096"));
  // Not our file, or newer: said before anything is changed.
  if (!create) TRY(check_format());
  TRY(run("PRAGMA journal_mode=WAL"));
  TRY(run("PRAGMA synchronous=NORMAL"));
  TRY(run("PRAGMA wal_autocheckpoint=0"));
  TRY(run("PRAGMA mmap_size=0"));
  TRY(run("PRAGMA temp_store=MEMORY"));
  TRY(run("PRAGMA cell_size_check=ON"));
  TRY(run("PRAGMA foreign_keys=OFF"));
  return run(fmt::format("PRAGMA cache_size=-{}", options_.cache_kib).c_str());
}

Result<void> Database::create_table(Table table) {
  auto sql = is_single(table)
                 ? fmt::format("CREATE TABLE {}(a INTEGER PRIMARY KEY, epoch INTEGER NOT NULL,"
                               " seq INTEGER NOT NULL, image BLOB NOT NULL)",
                               name_of(table))
                 : fmt::format("CREATE TABLE {}(a INTEGER NOT NULL, b INTEGER NOT NULL,"
                               " c BLOB NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,"
                               " image BLOB NOT NULL, PRIMARY KEY(a, b, c)) WITHOUT ROWID",
                               name_of(table));
  return run(sql.c_str());
}

// Format 1 had no mirrors: no table of theirs, and oplog rows that do not name contents.
Result<void> Database::upgrade() {
  TRY_VALUE(std::int64_t format, number_from("PRAGMA user_version"));
  if (format >= kMetadataFormat) return {};
  TRY(begin());
  TRY(create_table(Table::mirror));
  TRY(run("DELETE FROM oplog"));
  TRY(run(fmt::format("PRAGMA user_version={}", kMetadataFormat).c_str()));
  return commit();
}

Result<void> Database::create_schema() {
  TRY(begin());
  for (unsigned number = 1; number <= kTableLast; ++number)
    TRY(create_table(static_cast<Table>(number)));
  TRY(run("CREATE TABLE oplog(id INTEGER PRIMARY KEY, slot INTEGER NOT NULL,"
          " epoch INTEGER NOT NULL, seq INTEGER NOT NULL, total INTEGER NOT NULL,"
          " image BLOB NOT NULL)"));
  TRY(run(fmt::format("PRAGMA application_id={}", kApplicationId).c_str()));
  TRY(run(fmt::format("PRAGMA user_version={}", kMetadataFormat).c_str()));
  TRY(commit());
  TRY(checkpoint(true));
  auto synced = vfs_.disk().sync_directory(".");
  if (!synced) return fail(std::move(synced.error()));
  return {};
}

Result<void> Database::check_format() {
  TRY_VALUE(std::int64_t application, number_from("PRAGMA application_id"));
  TRY_VALUE(std::int64_t format, number_from("PRAGMA user_version"));
  std::string path = database_path(number_);
  if (application != kApplicationId)
    return fail(Code::not_magma, path + " is no database of Magma");
  if (format > kMetadataFormat)
    return fail(Code::too_new, fmt::format("{} has format {}; this magmad knows up to {}: start the"
                                           " newer version again",
                                           path, format, kMetadataFormat));
  if (format < 1) return fail(Code::not_magma, path + " has no format number");
  return {};
}

Result<void> Database::load_oplog_end() {
  TRY_VALUE(std::int64_t last, number_from("SELECT coalesce(max(id), 0) FROM oplog"));
  oplog_.next_id = last + 1;
  TRY_VALUE(std::int64_t total, number_from("SELECT coalesce((SELECT total FROM oplog ORDER BY id"
                                            " DESC LIMIT 1), 0)"));
  TRY_VALUE(std::int64_t first,
            number_from("SELECT coalesce((SELECT total - length(image) FROM oplog"
                        " ORDER BY id LIMIT 1), 0)"));
  oplog_.total = static_cast<std::uint64_t>(total);
  auto before_first = static_cast<std::uint64_t>(first);
  oplog_.trimmed = last == 0 ? 0 : before_first - kOplogRowOverhead;
  committed_oplog_ = oplog_;
  return {};
}

Result<void> Database::run(const char* sql) {
  int rc = sqlite3_exec(connection_.get(), sql, nullptr, nullptr, nullptr);
  if (rc != SQLITE_OK) return fail(error_of(rc));
  return {};
}

Result<std::int64_t> Database::number_from(const char* sql) {
  TRY_VALUE(sqlite::Statement s, prepare(sql, false));
  int rc = sqlite3_step(s.get());
  if (rc != SQLITE_ROW) return fail(error_of(rc));
  return sqlite3_column_int64(s.get(), 0);
}

Result<sqlite::Statement> Database::prepare(const std::string& sql, bool persistent) {
  sqlite3_stmt* raw = nullptr;
  int rc = sqlite3_prepare_v3(connection_.get(), sql.c_str(), static_cast<int>(sql.size() + 1),
                              persistent ? SQLITE_PREPARE_PERSISTENT : 0, &raw, nullptr);
  if (rc != SQLITE_OK) return fail(error_of(rc));
  return sqlite::Statement(raw);
}

Result<sqlite3_stmt*> Database::statement(Table table, Action action) {
  auto number = static_cast<std::size_t>(table);
  MAGMA_CHECK(number >= 1 && number <= kTableLast);
  sqlite::Statement& cached = prepared_[number][action];
  if (cached == nullptr) [[unlikely]] {
    TRY_VALUE(cached, prepare(table_sql(table, action)));
  }
  return cached.get();
}

Result<sqlite3_stmt*> Database::special(Special which) {
  sqlite::Statement& cached = special_[which];
  if (cached == nullptr) [[unlikely]] {
    TRY_VALUE(cached, prepare(kSpecialSql[which]));
  }
  return cached.get();
}

Result<void> Database::step_done(sqlite3_stmt* s) {
  int rc = sqlite3_step(s);
  if (rc == SQLITE_DONE) [[likely]] {
    sqlite3_reset(s);
    return {};
  }
  Error error = error_of(rc);
  sqlite3_reset(s);
  return fail(std::move(error));
}

Error Database::error_of(int code) {
  std::string where = database_path(number_);
  std::string text = connection_ != nullptr ? sqlite3_errmsg(connection_.get()) : "";
  auto disk = vfs_.take_error();
  switch (code & 0xff) {
    case SQLITE_FULL: return {Code::no_space, where};
    case SQLITE_NOMEM: return {Code::no_memory, where};
    case SQLITE_CORRUPT: return {Code::checksum, where + " is damaged: " + text};
    case SQLITE_NOTADB: return {Code::not_magma, where + ": " + text};
    case SQLITE_TOOBIG: return {Code::too_big, where};
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return {Code::busy, where + ": " + text};
    default: break;
  }
  if (disk) return {disk->code, where + ": " + describe(*disk)};
  return {Code::io, fmt::format("{}: {} (SQLite {})", where, text, code)};
}

Result<std::optional<Row>> Database::get(const RowKey& key) {
  TRY_VALUE(sqlite3_stmt * s, statement(key.table, kGet));
  ResetAfter reset(s);
  bind_key(s, 1, key);
  int rc = sqlite3_step(s);
  if (rc == SQLITE_DONE) return std::optional<Row>{};
  if (rc != SQLITE_ROW) [[unlikely]]
    return fail(error_of(rc));
  std::optional<Row> row(std::in_place);
  row->version = column_version(s, 0);
  ByteSpan image = column_bytes(s, 2);
  row->image.assign(image.begin(), image.end());
  return row;
}

Result<void> Database::put(const RowKey& key, const Version& version, ByteSpan image) {
  TRY_VALUE(sqlite3_stmt * s, statement(key.table, kPut));
  int next = bind_key(s, 1, key);
  sqlite3_bind_int64(s, next, version.epoch.value);
  sqlite3_bind_int64(s, next + 1, static_cast<sqlite3_int64>(version.seq.value));
  bind_blob(s, next + 2, image.data(), image.size());
  return step_done(s);
}

Result<void> Database::erase(const RowKey& key) {
  TRY_VALUE(sqlite3_stmt * s, statement(key.table, kErase));
  bind_key(s, 1, key);
  return step_done(s);
}

Result<void> Database::scan(const RowKey& from, const RowKey& to, MetadataStore::Visit& visit) {
  TRY_VALUE(sqlite3_stmt * s, statement(from.table, kScan));
  sqlite::Statement nested;
  if (sqlite3_stmt_busy(s) != 0) {  // a scan inside the callback of a scan of the same table
    TRY_VALUE(nested, prepare(table_sql(from.table, kScan), false));
    s = nested.get();
  }
  ResetAfter reset(s);
  bind_key(s, bind_key(s, 1, from), to);
  for (;;) {
    int rc = sqlite3_step(s);
    if (rc == SQLITE_DONE) return {};
    if (rc != SQLITE_ROW) return fail(error_of(rc));
    MetadataStore::ScanRow row{};
    row.a = from_sqlite(sqlite3_column_int64(s, 0));
    if (!is_single(from.table)) {
      row.b = from_sqlite(sqlite3_column_int64(s, 1));
      row.c = as_text(column_bytes(s, 2));
    }
    row.version = column_version(s, 3);
    row.image = column_bytes(s, 5);
    if (!visit(row)) return {};
  }
}

Result<void> Database::append_oplog(ring::Slot slot, const Version& version, ByteSpan image) {
  TRY_VALUE(sqlite3_stmt * s, special(kAppend));
  std::uint64_t total = oplog_.total + image.size() + kOplogRowOverhead;
  sqlite3_bind_int64(s, 1, oplog_.next_id);
  sqlite3_bind_int64(s, 2, slot.value);
  sqlite3_bind_int64(s, 3, version.epoch.value);
  sqlite3_bind_int64(s, 4, static_cast<sqlite3_int64>(version.seq.value));
  sqlite3_bind_int64(s, 5, static_cast<sqlite3_int64>(total));
  bind_blob(s, 6, image.data(), image.size());
  TRY(step_done(s));
  oplog_.total = total;
  ++oplog_.next_id;
  std::uint64_t limit = options_.oplog_bytes_max;
  if (oplog_.total - oplog_.trimmed > limit + limit / kOplogSlackShare) return trim_oplog();
  return {};
}

Result<void> Database::trim_oplog() {
  TRY_VALUE(sqlite3_stmt * s, special(kTrim));
  std::uint64_t keep_from = oplog_.total - options_.oplog_bytes_max;
  sqlite3_bind_int64(s, 1, oplog_.next_id - 1);  // the newest row stays, so that ids only rise
  sqlite3_bind_int64(s, 2, static_cast<sqlite3_int64>(keep_from + kOplogRowOverhead));
  sqlite3_bind_int64(s, 3, kOplogTrimRows);
  TRY(step_done(s));
  TRY_VALUE(std::int64_t first,
            number_from("SELECT total - length(image) FROM oplog ORDER BY id LIMIT 1"));
  oplog_.trimmed = static_cast<std::uint64_t>(first) - kOplogRowOverhead;
  return {};
}

Result<MetadataStore::OplogEnds> Database::oplog_ends() {
  TRY_VALUE(std::int64_t first, number_from("SELECT coalesce(min(id), 0) FROM oplog"));
  TRY_VALUE(std::int64_t last, number_from("SELECT coalesce(max(id), 0) FROM oplog"));
  return MetadataStore::OplogEnds{static_cast<std::uint64_t>(first),
                                  static_cast<std::uint64_t>(last)};
}

Result<void> Database::clear_oplog() {
  TRY(run("DELETE FROM oplog"));
  oplog_.trimmed = oplog_.total;
  return {};
}

// The room of what is deleted in the middle counts until what is older is trimmed.
Result<void> Database::forget_oplog(const ring::SlotMask& slots) {
  for (const ring::SlotRun& run : ring::runs_of(slots))
    TRY(this->run(("DELETE FROM oplog WHERE slot BETWEEN " + std::to_string(run.first.value) +
                   " AND " + std::to_string(run.last.value))
                      .c_str()));
  return {};
}

Result<void> Database::scan_oplog(std::uint64_t from_id,
                                  UniqueFunction<bool(const MetadataStore::OplogRow&)>& visit) {
  TRY_VALUE(sqlite::Statement s, prepare(kSpecialSql[kScanOplog], false));
  sqlite3_bind_int64(s.get(), 1, static_cast<sqlite3_int64>(from_id));
  for (;;) {
    int rc = sqlite3_step(s.get());
    if (rc == SQLITE_DONE) return {};
    if (rc != SQLITE_ROW) return fail(error_of(rc));
    MetadataStore::OplogRow row{
        .id = static_cast<std::uint64_t>(sqlite3_column_int64(s.get(), 0)),
        .slot = ring::Slot(static_cast<std::uint16_t>(sqlite3_column_int64(s.get(), 1))),
        .version = column_version(s.get(), 2),
        .image = column_bytes(s.get(), 4)};
    if (!visit(row)) return {};
  }
}

Result<void> Database::begin() {
  MAGMA_CHECK(!in_transaction_);
  TRY_VALUE(sqlite3_stmt * s, special(kBegin));
  TRY(step_done(s));
  in_transaction_ = true;
  return {};
}

Result<void> Database::commit() {
  MAGMA_CHECK(in_transaction_);
  // After some errors SQLite has rolled back by itself.
  if (sqlite3_get_autocommit(connection_.get()) != 0) {
    rollback();
    return fail(Code::io, database_path(number_) + ": the transaction was lost");
  }
  auto s = special(kCommit);
  auto done = s ? step_done(*s) : Result<void>(fail(s.error()));
  if (!done) {
    rollback();
    return done;
  }
  in_transaction_ = false;
  committed_oplog_ = oplog_;
  return {};
}

void Database::rollback() {
  in_transaction_ = false;
  oplog_ = committed_oplog_;
  if (sqlite3_get_autocommit(connection_.get()) != 0) return;
  if (auto s = special(kRollback)) (void)step_done(*s);
}

Result<void> Database::checkpoint(bool truncate) {
  MAGMA_CHECK(!in_transaction_);
  int frames = 0;
  int copied = 0;
  int rc = sqlite3_wal_checkpoint_v2(
      connection_.get(), nullptr,
      truncate ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE, &frames, &copied);
  if (rc != SQLITE_OK) return fail(error_of(rc));
  if (!truncate && frames == copied) wal_->write_end = 0;  // the next frame begins at the front
  return {};
}

Result<std::vector<std::string>> Database::quick_check() {
  TRY_VALUE(sqlite::Statement s, prepare("PRAGMA quick_check", false));
  std::vector<std::string> problems;
  for (;;) {
    int rc = sqlite3_step(s.get());
    if (rc == SQLITE_DONE) return problems;
    if (rc != SQLITE_ROW) return fail(error_of(rc));
    std::string line(as_text(column_bytes(s.get(), 0)));
    if (line != "ok") problems.push_back(std::move(line));
  }
}

}  // namespace magma::store
