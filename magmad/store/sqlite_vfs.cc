#include "magmad/store/sqlite_vfs.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include <sqlite3.h>

#include "libmagma/base/check.h"

namespace magma::store {
namespace {

constexpr int kPathMax = 512;
constexpr int kSectorBytes = 4096;
constexpr std::size_t kFrameHeaderBytes = 24;  // SQLite file format, section 4.2
constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kPendingMax = 256 * 1024;
constexpr std::string_view kRootDirectory = ".";

struct Handle {  // what SQLite allocates for us
  sqlite3_file base;
  SqliteVfs* vfs;
  SqliteFile* state;
};

Handle& handle_of(sqlite3_file* file) { return *reinterpret_cast<Handle*>(file); }
SqliteVfs& vfs_of(sqlite3_vfs* vfs) { return *static_cast<SqliteVfs*>(vfs->pAppData); }

std::string_view directory_of(std::string_view path) {
  auto slash = path.rfind('/');
  return slash == std::string_view::npos ? kRootDirectory : path.substr(0, slash);
}

Result<void> write_through(SqliteFile& state, ByteSpan bytes, std::uint64_t offset) {
  ++state.writes;
  // A -wal begins anew with its header at 0; a page written twice by one transaction is
  // overwritten in place.
  std::uint64_t end = offset + bytes.size();
  if (offset == 0 || end > state.write_end) state.write_end = end;
  return state.file->write_at(bytes, offset);
}

// Writes the frames that wait for the end of their commit.
Result<void> flush_pending(SqliteFile& state) {
  if (state.pending.empty()) return {};
  auto written = write_through(state, state.pending, state.pending_offset);
  state.pending.clear();
  state.awaits_page = false;
  return written;
}

// Takes bytes that follow on what waits; false if they are no part of a frame.
bool append_to_pending(SqliteFile& state, ByteSpan bytes, std::uint64_t offset) {
  const std::uint64_t end =
      state.pending.empty() ? state.write_end : state.pending_offset + state.pending.size();
  if (!state.is_wal || offset != end) return false;
  if (bytes.size() != (state.awaits_page ? kPageBytes : kFrameHeaderBytes)) return false;
  if (!state.awaits_page) {
    // The database's size after the commit; 0: more frames of it follow.
    constexpr std::size_t kSizeAt = 4, kSizeBytes = 4;
    const ByteSpan size = bytes.subspan(kSizeAt, kSizeBytes);
    state.is_commit = std::any_of(size.begin(), size.end(), [](auto byte) { return byte != 0; });
  }
  if (state.pending.empty()) state.pending_offset = offset;
  state.pending.insert(state.pending.end(), bytes.begin(), bytes.end());
  state.awaits_page = !state.awaits_page;
  return true;
}

int x_close(sqlite3_file* file) noexcept {
  Handle& h = handle_of(file);
  if (h.state == nullptr) return SQLITE_OK;
  int rc = SQLITE_OK;
  if (auto flushed = flush_pending(*h.state); !flushed)
    rc = h.vfs->failed(flushed.error(), SQLITE_IOERR_CLOSE);
  if (h.state->delete_on_close) (void)h.vfs->disk().remove(h.state->path);
  h.vfs->closed(h.state);
  delete h.state;
  h.state = nullptr;
  return rc;
}

int x_read(sqlite3_file* file, void* out, int size, sqlite3_int64 offset) noexcept {
  Handle& h = handle_of(file);
  if (auto flushed = flush_pending(*h.state); !flushed)
    return h.vfs->failed(flushed.error(), SQLITE_IOERR_WRITE);
  auto* bytes = static_cast<std::uint8_t*>(out);
  auto wanted = static_cast<std::size_t>(size);
  auto got = h.state->file->read_at({bytes, wanted}, static_cast<std::uint64_t>(offset));
  if (!got) return h.vfs->failed(got.error(), SQLITE_IOERR_READ);
  if (*got == wanted) return SQLITE_OK;
  std::memset(bytes + *got, 0, wanted - *got);
  return SQLITE_IOERR_SHORT_READ;
}

// SQLite appends a commit to the -wal frame by frame, each a header of 24 bytes and a page. They
// are held back until the last one is whole and go out in one call of the disk: before it nothing
// of the commit counts, and whoever reads the file is shown all. (What is written elsewhere, as a
// header that is rewritten in place, is not held back.)
int x_write(sqlite3_file* file, const void* in, int size, sqlite3_int64 at) noexcept {
  Handle& h = handle_of(file);
  SqliteFile& state = *h.state;
  const ByteSpan bytes(static_cast<const std::uint8_t*>(in), static_cast<std::size_t>(size));
  const auto offset = static_cast<std::uint64_t>(at);
  Result<void> written;
  if (append_to_pending(state, bytes, offset)) {
    const bool is_whole = !state.awaits_page;
    if (is_whole && (state.is_commit || state.pending.size() >= kPendingMax))
      written = flush_pending(state);
  } else {
    written = flush_pending(state);
    // A frame may follow on what was just written.
    if (written && !append_to_pending(state, bytes, offset))
      written = write_through(state, bytes, offset);
  }
  if (written) return SQLITE_OK;
  return h.vfs->failed(written.error(), SQLITE_IOERR_WRITE);
}

int x_truncate(sqlite3_file* file, sqlite3_int64 size) noexcept {
  Handle& h = handle_of(file);
  h.state->pending.clear();
  h.state->awaits_page = false;
  ++h.state->writes;
  h.state->write_end = static_cast<std::uint64_t>(size);
  auto cut = h.state->file->truncate(static_cast<std::uint64_t>(size));
  return cut ? SQLITE_OK : h.vfs->failed(cut.error(), SQLITE_IOERR_TRUNCATE);
}

int x_sync(sqlite3_file* file, int) noexcept {
  Handle& h = handle_of(file);
  SqliteFile& state = *h.state;
  if (auto flushed = flush_pending(state); !flushed)
    return h.vfs->failed(flushed.error(), SQLITE_IOERR_WRITE);
  if (state.synced == state.writes) return SQLITE_OK;
  if (auto synced = state.file->sync(); !synced) {
    h.vfs->sync_has_failed();
    return h.vfs->failed(synced.error(), SQLITE_IOERR_FSYNC);
  }
  state.note_synced(state.writes);
  return SQLITE_OK;
}

int x_file_size(sqlite3_file* file, sqlite3_int64* size) noexcept {
  Handle& h = handle_of(file);
  if (auto flushed = flush_pending(*h.state); !flushed)
    return h.vfs->failed(flushed.error(), SQLITE_IOERR_WRITE);
  auto found = h.state->file->size();
  if (!found) return h.vfs->failed(found.error(), SQLITE_IOERR_FSTAT);
  *size = static_cast<sqlite3_int64>(*found);
  return SQLITE_OK;
}

int x_lock(sqlite3_file*, int) noexcept { return SQLITE_OK; }
int x_check_reserved_lock(sqlite3_file*, int* out) noexcept {
  *out = 0;
  return SQLITE_OK;
}
int x_file_control(sqlite3_file*, int, void*) noexcept { return SQLITE_NOTFOUND; }
int x_sector_size(sqlite3_file*) noexcept { return kSectorBytes; }
// A torn write harms no byte outside it.
int x_device_characteristics(sqlite3_file*) noexcept { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }

const sqlite3_io_methods kMethods = {
    .iVersion = 1,
    .xClose = x_close,
    .xRead = x_read,
    .xWrite = x_write,
    .xTruncate = x_truncate,
    .xSync = x_sync,
    .xFileSize = x_file_size,
    .xLock = x_lock,
    .xUnlock = x_lock,
    .xCheckReservedLock = x_check_reserved_lock,
    .xFileControl = x_file_control,
    .xSectorSize = x_sector_size,
    .xDeviceCharacteristics = x_device_characteristics,
    .xShmMap = nullptr,
    .xShmLock = nullptr,
    .xShmBarrier = nullptr,
    .xShmUnmap = nullptr,
    .xFetch = nullptr,
    .xUnfetch = nullptr,
};

Result<std::unique_ptr<sys::File>> open_on(sys::Disk& disk, std::string_view path, int flags,
                                           bool& made) {
  made = false;
  if ((flags & SQLITE_OPEN_READONLY) != 0)
    return disk.open(path, sys::Disk::Open::existing_readonly);
  auto file = disk.open(path, sys::Disk::Open::existing);
  if (file || file.error().code != Code::not_found || (flags & SQLITE_OPEN_CREATE) == 0)
    return file;
  made = true;
  return disk.open(path, sys::Disk::Open::create_new);
}

int x_open(sqlite3_vfs* vfs, const char* path, sqlite3_file* file, int flags,
           int* out_flags) noexcept {
  SqliteVfs& self = vfs_of(vfs);
  Handle& h = handle_of(file);
  h = Handle{};
  // temp_store=MEMORY and single-row statements: SQLite never wants a nameless file.
  if (path == nullptr)
    return self.failed({Code::fault, "SQLite asked for a temporary file"}, SQLITE_CANTOPEN);
  bool made = false;
  auto opened = open_on(self.disk(), path, flags, made);
  if (!opened) {
    // SQLite asks for files that need not be there, such as a -wal when reading only.
    if (opened.error().code == Code::not_found) return SQLITE_CANTOPEN;
    return self.failed(opened.error(), SQLITE_CANTOPEN);
  }
  auto state = std::make_unique<SqliteFile>();
  state->path = path;
  state->file = std::move(*opened);
  state->is_wal = (flags & SQLITE_OPEN_WAL) != 0;
  state->delete_on_close = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0;
  if (state->is_wal) {
    if (made) {
      if (auto synced = self.disk().sync_directory(directory_of(path)); !synced)
        return self.failed(synced.error(), SQLITE_CANTOPEN);
    } else {
      // What an earlier process left may be in the page cache only.
      auto size = state->file->size();
      if (!size) return self.failed(size.error(), SQLITE_CANTOPEN);
      state->writes = *size == 0 ? 0 : 1;
      state->write_end = *size;
    }
  } else if (!made) {
    state->writes = 1;
  }
  if (out_flags != nullptr) *out_flags = flags;
  h.base.pMethods = &kMethods;
  h.vfs = &self;
  h.state = state.release();
  self.opened(h.state);
  return SQLITE_OK;
}

int x_delete(sqlite3_vfs* vfs, const char* path, int sync_directory) noexcept {
  SqliteVfs& self = vfs_of(vfs);
  if (auto removed = self.disk().remove(path); !removed) {
    if (removed.error().code == Code::not_found) return SQLITE_IOERR_DELETE_NOENT;
    return self.failed(removed.error(), SQLITE_IOERR_DELETE);
  }
  if (sync_directory == 0) return SQLITE_OK;
  auto synced = self.disk().sync_directory(directory_of(path));
  return synced ? SQLITE_OK : self.failed(synced.error(), SQLITE_IOERR_DIR_FSYNC);
}

int x_access(sqlite3_vfs* vfs, const char* path, int, int* out) noexcept {
  SqliteVfs& self = vfs_of(vfs);
  auto there = self.disk().exists(path);
  if (!there) return self.failed(there.error(), SQLITE_IOERR_ACCESS);
  *out = *there ? 1 : 0;
  return SQLITE_OK;
}

int x_full_pathname(sqlite3_vfs*, const char* path, int size, char* out) noexcept {
  auto length = std::strlen(path);
  if (length >= static_cast<std::size_t>(size)) return SQLITE_CANTOPEN;
  std::memcpy(out, path, length + 1);
  return SQLITE_OK;
}

// SQLite takes its random seed from the default VFS, and time is not used by our statements; these
// are here because the interface wants them.
int x_randomness(sqlite3_vfs*, int size, char* out) noexcept {
  std::memset(out, 0x5a, static_cast<std::size_t>(size));
  return size;
}
int x_sleep(sqlite3_vfs*, int) noexcept { return 0; }
int x_current_time(sqlite3_vfs*, double* out) noexcept {
  *out = 2440587.5;  // 1970-01-01 as a Julian day
  return SQLITE_OK;
}
int x_last_error(sqlite3_vfs*, int, char*) noexcept { return 0; }

}  // namespace

SqliteVfs::SqliteVfs(sys::Disk& disk) : disk_(disk), vfs_(std::make_unique<sqlite3_vfs>()) {
  static std::atomic<std::uint64_t> number{0};
  name_ = "magma-" + std::to_string(number.fetch_add(1));
  *vfs_ = {};
  vfs_->iVersion = 1;
  vfs_->szOsFile = sizeof(Handle);
  vfs_->mxPathname = kPathMax;
  vfs_->zName = name_.c_str();
  vfs_->pAppData = this;
  vfs_->xOpen = x_open;
  vfs_->xDelete = x_delete;
  vfs_->xAccess = x_access;
  vfs_->xFullPathname = x_full_pathname;
  vfs_->xRandomness = x_randomness;
  vfs_->xSleep = x_sleep;
  vfs_->xCurrentTime = x_current_time;
  vfs_->xGetLastError = x_last_error;
  MAGMA_CHECK(sqlite3_vfs_register(vfs_.get(), 0) == SQLITE_OK);
}

SqliteVfs::~SqliteVfs() {
  MAGMA_CHECK(wals_.empty());
  sqlite3_vfs_unregister(vfs_.get());
}

SqliteFile* SqliteVfs::wal_of(std::string_view path) {
  auto found = wals_.find(std::string(path) + "-wal");
  return found == wals_.end() ? nullptr : found->second;
}

std::optional<Error> SqliteVfs::take_error() {
  auto error = std::move(error_);
  error_.reset();
  return error;
}

int SqliteVfs::failed(Error error, int sqlite_code) {
  if (error.code == Code::no_space) sqlite_code = SQLITE_FULL;
  error_ = std::move(error);
  return sqlite_code;
}

void SqliteVfs::opened(SqliteFile* file) {
  if (file->is_wal) wals_[file->path] = file;
}

void SqliteVfs::closed(SqliteFile* file) {
  if (file->is_wal) wals_.erase(file->path);
}

}  // namespace magma::store
