// SQLite's file layer over sys::Disk, so that databases live on whatever disk the volcano is given
// and the simulator can crash it. One SqliteVfs serves one MetadataStore (or fsck) and must outlive
// its connections; everything is called on that store's thread, except that the File of a -wal may
// be synced from the Executor (File::sync is thread-safe, and the File is shared for that).
//
// Rules kept here:
// * No locks: the storage directory has one owner, which main.cc makes sure of. Hence every
//   connection must use locking_mode=EXCLUSIVE, with which WAL needs no shared memory.
// * An xSync of a file to which nothing was written since its last successful sync is skipped; any
//   other is honoured. The store's own fdatasync of a -wal counts (Wal::note_synced).
// * A file that is made is followed by a sync of the directory before SQLite may use a -wal.
// * A failed sync is final (the kernel marks the pages clean): sync_failed() stays true.
// * The last failure of the disk is kept, as SQLite would only tell its own error number.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "libmagma/base/bytes.h"
#include "libmagma/base/result.h"
#include "libmagma/sys/disk.h"

struct sqlite3_vfs;

namespace magma::store {

// What the store must know of an open file of SQLite; lives as long as SQLite has it open.
struct SqliteFile {
  std::string path;
  std::shared_ptr<sys::File> file;  // shared by SQLite's handle and a sync under way
  std::uint64_t writes = 0;         // counts changes of the file
  std::uint64_t synced = 0;         // `writes` when the last successful sync began
  std::uint64_t write_end = 0;      // where the last write ended: the live length of a -wal
  Bytes pending{};                  // frames that wait for the end of their commit, see x_write
  std::uint64_t pending_offset = 0; // of `pending`
  bool awaits_page = false;         // the last frame in `pending` is a header so far
  bool is_commit = false;           // ... and its transaction's last
  bool is_wal = false;
  bool delete_on_close = false;

  // A sync that began at change number `writes_then` has succeeded.
  void note_synced(std::uint64_t writes_then) {
    if (writes_then > synced) synced = writes_then;
  }
};

class SqliteVfs {
 public:
  explicit SqliteVfs(sys::Disk& disk);
  ~SqliteVfs();
  SqliteVfs(const SqliteVfs&) = delete;
  SqliteVfs& operator=(const SqliteVfs&) = delete;

  // For sqlite3_open_v2; unique in the process.
  const char* name() const { return name_.c_str(); }
  sys::Disk& disk() { return disk_; }

  // The open -wal of the database at `path`; nullptr before SQLite has opened it.
  SqliteFile* wal_of(std::string_view path);
  // The disk's last failure since the last call of this.
  std::optional<Error> take_error();
  bool sync_failed() const { return sync_failed_; }

  // Called by the functions SQLite calls.
  int failed(Error error, int sqlite_code);
  void sync_has_failed() { sync_failed_ = true; }
  void opened(SqliteFile* file);
  void closed(SqliteFile* file);

 private:
  sys::Disk& disk_;
  std::string name_;
  std::unique_ptr<sqlite3_vfs> vfs_;
  std::map<std::string, SqliteFile*, std::less<>> wals_;  // by path of the -wal
  std::optional<Error> error_;
  bool sync_failed_ = false;
};

}  // namespace magma::store
