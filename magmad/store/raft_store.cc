#include "magmad/store/raft_store.h"

#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <sqlite3.h>

#include "libmagma/base/check.h"
#include "libmagma/crypto/checksum.h"
#include "libmagma/raft/messages.h"
#include "libmagma/wire/codec.h"
#include "magmad/store/database.h"
#include "magmad/store/sqlite_vfs.h"

namespace magma::store {
namespace {

constexpr std::size_t kSumBytes = 4;
constexpr int kCheckpointPages = 256;  // of 4 KiB, in the -wal

Error damaged(std::string_view what) {
  return {Code::checksum,
          fmt::format("{} is damaged ({}): this volcano must come back under another number",
                      kRaftPath, what)};
}

template <class T>
Bytes image_of(const T& value) {
  Bytes image = wire::encode(value);
  ByteWriter(image).put(crypto::crc32c(image));
  return image;
}

template <class T>
Result<T> from_image(ByteSpan image) {
  if (image.size() < kSumBytes) return fail(damaged("a row is too short"));
  const ByteSpan value = image.first(image.size() - kSumBytes);
  ByteReader sum(image.subspan(value.size()));
  if (sum.get<std::uint32_t>() != crypto::crc32c(value)) return fail(damaged("a checksum"));
  auto decoded = wire::decode<T>(value);
  if (!decoded) return fail(damaged("a row is none"));
  return std::move(*decoded);
}

class RaftStore final : public raft::Store {
 public:
  explicit RaftStore(sys::Disk& disk) : vfs_(disk) {}

  Result<void> open(bool create);
  Result<raft::Stored> load() override;
  Result<void> write(std::span<const raft::Persist> writes) override;

 private:
  enum Action : std::uint8_t { kHard, kSnapshot, kCover, kCut, kEntry, kActions };

  Result<void> create_schema();
  Result<void> check_format();
  Result<void> run(const char* sql);
  Result<std::int64_t> number_from(const char* sql);
  Result<sqlite::Statement> prepare(const char* sql);
  Result<Bytes> only_image(const char* sql);
  Result<void> load_entries(raft::Stored& stored);
  Result<void> write_one(const raft::Persist& persist);
  Result<void> change(Action action, raft::Index id, ByteSpan image = {});
  Error error_of(int code);

  SqliteVfs vfs_;
  sqlite::Connection connection_;
  sqlite::Statement prepared_[kActions];
  std::optional<Error> failed_;
};

constexpr const char* kSql[] = {
    "REPLACE INTO hard(id, image) VALUES(?1, ?2)",
    "REPLACE INTO snapshot(id, image) VALUES(?1, ?2)", "DELETE FROM entry WHERE id <= ?1",
    "DELETE FROM entry WHERE id >= ?1", "INSERT INTO entry(id, image) VALUES(?1, ?2)"};

Result<void> RaftStore::open(bool create) {
  sqlite::configure_once();
  const std::string path(kRaftPath);
  TRY_VALUE(const bool is_there, vfs_.disk().exists(path));
  if (is_there && create) return fail(Code::exists, path);
  if (!is_there && !create)
    return fail(Code::not_found, path +
                                     " is missing: without its votes this volcano must come back"
                                     " under another number");
  sqlite3* raw = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
  const int rc = sqlite3_open_v2(path.c_str(), &raw, flags, vfs_.name());
  connection_.reset(raw);
  if (rc != SQLITE_OK) return fail(error_of(rc));
  sqlite3_db_config(raw, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(raw, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  TRY(run("PRAGMA locking_mode=EXCLUSIVE"));
  if (create) TRY(run("PRAGMA page_size=4096"));
  if (!create) TRY(check_format());
  TRY(run("PRAGMA journal_mode=WAL"));
  TRY(run("PRAGMA synchronous=FULL"));
  TRY(run("PRAGMA mmap_size=0"));
  TRY(run("PRAGMA temp_store=MEMORY"));
  TRY(run("PRAGMA cell_size_check=ON"));
  TRY(run(fmt::format("PRAGMA wal_autocheckpoint={}", kCheckpointPages).c_str()));
  if (create) TRY(create_schema());
  for (int action = 0; action < kActions; ++action) {
    TRY_VALUE(prepared_[action], prepare(kSql[action]));
  }
  return {};
}

Result<void> RaftStore::create_schema() {
  TRY(run("BEGIN IMMEDIATE"));
  for (const char* table : {"hard", "snapshot", "entry"})
    TRY(run(fmt::format("CREATE TABLE {}(id INTEGER PRIMARY KEY, image BLOB NOT NULL)", table)
                .c_str()));
  TRY(run(fmt::format("PRAGMA application_id={}", kApplicationId).c_str()));
  TRY(run(fmt::format("PRAGMA user_version={}", kRaftFormat).c_str()));
  TRY(run("COMMIT"));
  TRY(run("PRAGMA wal_checkpoint(TRUNCATE)"));
  return vfs_.disk().sync_directory(".");
}

Result<void> RaftStore::check_format() {
  TRY_VALUE(const std::int64_t application, number_from("PRAGMA application_id"));
  TRY_VALUE(const std::int64_t format, number_from("PRAGMA user_version"));
  if (application != kApplicationId || format < 1)
    return fail(Code::not_magma, fmt::format("{} is no Raft log of Magma", kRaftPath));
  if (format > kRaftFormat)
    return fail(Code::too_new, fmt::format("{} has format {}; this magmad knows up to {}",
                                           kRaftPath, format, kRaftFormat));
  return {};
}

Result<raft::Stored> RaftStore::load() {
  raft::Stored stored;
  TRY_VALUE(const Bytes hard, only_image("SELECT image FROM hard WHERE id = 1"));
  TRY_VALUE(const Bytes snapshot, only_image("SELECT image FROM snapshot WHERE id = 1"));
  if (!hard.empty()) {
    TRY_VALUE(stored.hard, from_image<raft::HardState>(hard));
  }
  if (!snapshot.empty()) {
    TRY_VALUE(stored.snapshot, from_image<raft::Snapshot>(snapshot));
    if (!stored.snapshot.configuration.is_valid()) return fail(damaged("the members"));
  }
  TRY(load_entries(stored));
  return stored;
}

Result<void> RaftStore::load_entries(raft::Stored& stored) {
  TRY_VALUE(sqlite::Statement s, prepare("SELECT id, image FROM entry ORDER BY id"));
  raft::Position last = stored.snapshot.last;
  int rc = SQLITE_ROW;
  while ((rc = sqlite3_step(s.get())) == SQLITE_ROW) {
    const auto index = static_cast<std::uint64_t>(sqlite3_column_int64(s.get(), 0));
    const auto* data = static_cast<const std::uint8_t*>(sqlite3_column_blob(s.get(), 1));
    const auto size = static_cast<std::size_t>(sqlite3_column_bytes(s.get(), 1));
    TRY_VALUE(raft::Entry entry, from_image<raft::Entry>({data, size}));
    if (index != last.index.value + 1) return fail(damaged("an entry is missing"));
    if (entry.term < last.term || !raft::is_valid(entry)) return fail(damaged("an entry"));
    last = {last.index + 1, entry.term};
    stored.entries.push_back(std::move(entry));
  }
  if (rc != SQLITE_DONE) return fail(error_of(rc));
  if (last.term > stored.hard.term) return fail(damaged("the term"));
  return {};
}

Result<void> RaftStore::write(std::span<const raft::Persist> writes) {
  if (failed_) return fail(*failed_);
  Result<void> done = run("BEGIN IMMEDIATE");
  for (const auto& persist : writes)
    if (done) done = write_one(persist);
  if (done) done = run("COMMIT");
  if (done) return {};
  failed_ = done.error();
  (void)run("ROLLBACK");  // the first error is the one that counts
  return done;
}

Result<void> RaftStore::write_one(const raft::Persist& persist) {
  TRY(change(kHard, raft::Index(1), image_of(persist.hard)));
  if (persist.snapshot) {
    TRY(change(kSnapshot, raft::Index(1), image_of(*persist.snapshot)));
    TRY(change(kCover, persist.snapshot->last.index));
  }
  TRY(change(kCut, persist.first));
  raft::Index index = persist.first;
  for (const auto& entry : persist.entries) {
    TRY(change(kEntry, index, image_of(entry)));
    index = index + 1;
  }
  return {};
}

Result<void> RaftStore::change(Action action, raft::Index id, ByteSpan image) {
  sqlite3_stmt* s = prepared_[action].get();
  sqlite3_bind_int64(s, 1, static_cast<sqlite3_int64>(id.value));
  if (!image.empty()) sqlite3_bind_blob64(s, 2, image.data(), image.size(), SQLITE_STATIC);
  const int rc = sqlite3_step(s);
  Result<void> done;
  if (rc != SQLITE_DONE) done = fail(error_of(rc));
  sqlite3_reset(s);
  return done;
}

// Empty if there is no row.
Result<Bytes> RaftStore::only_image(const char* sql) {
  TRY_VALUE(sqlite::Statement s, prepare(sql));
  const int rc = sqlite3_step(s.get());
  if (rc == SQLITE_DONE) return Bytes{};
  if (rc != SQLITE_ROW) return fail(error_of(rc));
  const auto* data = static_cast<const std::uint8_t*>(sqlite3_column_blob(s.get(), 0));
  return Bytes(data, data + sqlite3_column_bytes(s.get(), 0));
}

Result<void> RaftStore::run(const char* sql) {
  const int rc = sqlite3_exec(connection_.get(), sql, nullptr, nullptr, nullptr);
  if (rc != SQLITE_OK) return fail(error_of(rc));
  return {};
}

Result<std::int64_t> RaftStore::number_from(const char* sql) {
  TRY_VALUE(sqlite::Statement s, prepare(sql));
  const int rc = sqlite3_step(s.get());
  if (rc != SQLITE_ROW) return fail(error_of(rc));
  return sqlite3_column_int64(s.get(), 0);
}

Result<sqlite::Statement> RaftStore::prepare(const char* sql) {
  sqlite3_stmt* raw = nullptr;
  const int rc = sqlite3_prepare_v3(connection_.get(), sql, -1, 0, &raw, nullptr);
  if (rc != SQLITE_OK) return fail(error_of(rc));
  return sqlite::Statement(raw);
}

Error RaftStore::error_of(int code) {
  const std::string where(kRaftPath);
  const std::string text = connection_ != nullptr ? sqlite3_errmsg(connection_.get()) : "";
  const auto disk = vfs_.take_error();
  switch (code & 0xff) {
    case SQLITE_FULL: return {Code::no_space, where};
    case SQLITE_NOMEM: return {Code::no_memory, where};
    case SQLITE_CORRUPT: return damaged(text);
    case SQLITE_NOTADB: return {Code::not_magma, where + ": " + text};
    default: break;
  }
  if (disk) return {disk->code, where + ": " + describe(*disk)};
  return {Code::io, fmt::format("{}: {} (SQLite {})", where, text, code)};
}

Result<std::unique_ptr<raft::Store>> begin(sys::Disk& disk, bool create) {
  auto store = std::make_unique<RaftStore>(disk);
  TRY(store->open(create));
  return std::unique_ptr<raft::Store>(std::move(store));
}

}  // namespace

Result<std::unique_ptr<raft::Store>> create_raft_store(sys::Disk& disk) {
  return begin(disk, true);
}
Result<std::unique_ptr<raft::Store>> open_raft_store(sys::Disk& disk) { return begin(disk, false); }

Result<void> remove_raft_store(sys::Disk& disk) {
  for (const char* end : {"", "-wal", "-shm", "-journal"}) {
    const std::string path = std::string(kRaftPath) + end;
    TRY_VALUE(const bool is_there, disk.exists(path));
    if (is_there) TRY(disk.remove(path));
  }
  return disk.sync_directory(".");
}

}  // namespace magma::store
