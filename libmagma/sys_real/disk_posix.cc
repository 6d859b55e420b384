#include "libmagma/sys_real/disk_posix.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>

#include "libmagma/base/owned.h"

namespace magma::sys_real {

namespace {

constexpr mode_t kFileMode = 0600;
constexpr mode_t kDirectoryMode = 0700;

using DirStream = std::unique_ptr<DIR, FreeWith<::closedir>>;

// Repeats a call that a signal interrupted.
template <class Call>
auto uninterrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

// Relative, and no component is empty, "." or ".."; the root alone is "." or "".
bool is_plain(std::string_view path) {
  while (true) {
    auto slash = path.find('/');
    auto name = path.substr(0, slash);
    if (name.empty() || name == "." || name == ".." || name.find('\0') != name.npos) return false;
    if (slash == path.npos) return true;
    path.remove_prefix(slash + 1);
  }
}

// openat without following any symlink, for kernels (< 5.6) and sandboxes that refuse openat2.
int open_by_component(int root, const std::string& path, int flags, mode_t mode) {
  Fd held;
  int directory = root;
  std::size_t from = 0;
  while (true) {
    auto slash = path.find('/', from);
    std::string name = path.substr(from, slash - from);
    if (slash == std::string::npos)
      return uninterrupted([&] { return ::openat(directory, name.c_str(), flags, mode); });
    Fd next(uninterrupted([&] {
      return ::openat(directory, name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }));
    if (!next) return -1;
    held = std::move(next);
    directory = held.get();
    from = slash + 1;
  }
}

int open_beneath(int root, const std::string& path, int flags, mode_t mode) {
  static std::atomic<bool> has_openat2{true};
  flags |= O_NOFOLLOW | O_CLOEXEC;
  if (has_openat2.load(std::memory_order_relaxed)) {
    open_how how{};
    how.flags = static_cast<unsigned>(flags);
    how.mode = (flags & O_CREAT) != 0 ? mode : 0;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    long fd = uninterrupted(
        [&] { return ::syscall(SYS_openat2, root, path.c_str(), &how, sizeof how); });
    // EAGAIN: a rename elsewhere raced with the walk. ENOSYS, EPERM: not there, or forbidden.
    if (fd >= 0 || (errno != ENOSYS && errno != EPERM && errno != EAGAIN))
      return static_cast<int>(fd);
    if (errno != EAGAIN) has_openat2.store(false, std::memory_order_relaxed);
  }
  return open_by_component(root, path, flags, mode);
}

class PosixFile final : public sys::File {
 public:
  PosixFile(Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  void read_only_what_is_asked() override {
    ::posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_RANDOM);
  }

  Result<std::size_t> read_at(MutableByteSpan out, std::uint64_t offset) override {
    std::size_t done = 0;
    while (done < out.size()) {
      ssize_t got = uninterrupted([&] {
        return ::pread(fd_.get(), out.data() + done, out.size() - done,
                       static_cast<off_t>(offset + done));
      });
      if (got < 0) return fail_errno("read", path_);
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
    }
    return done;
  }

  Result<std::size_t> read_at_nowait(MutableByteSpan out, std::uint64_t offset) override {
    std::size_t done = 0;
    while (done < out.size()) {
      iovec part{out.data() + done, out.size() - done};
      ssize_t got = uninterrupted([&] {
        return ::preadv2(fd_.get(), &part, 1, static_cast<off_t>(offset + done), RWF_NOWAIT);
      });
      if (got < 0 && errno == EAGAIN) return fail(Code::would_block, path_);
      // Not every filesystem has RWF_NOWAIT (FUSE, 9p, older tmpfs): then it blocks.
      if (got < 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
        auto rest = read_at(out.subspan(done), offset + done);
        if (!rest) return rest;
        return done + *rest;
      }
      if (got < 0) return fail_errno("read", path_);
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
    }
    return done;
  }

  void drop_cache(std::uint64_t offset, std::uint64_t length) override {
    ::posix_fadvise(fd_.get(), static_cast<off_t>(offset), static_cast<off_t>(length),
                    POSIX_FADV_DONTNEED);
  }

  Result<void> write_at(ByteSpan bytes, std::uint64_t offset) override {
    while (!bytes.empty()) {
      ssize_t wrote = uninterrupted([&] {
        return ::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
      });
      if (wrote < 0) return fail_errno("write", path_);
      if (wrote == 0) return fail(Code::io, "write " + path_ + ": wrote nothing");
      bytes = bytes.subspan(static_cast<std::size_t>(wrote));
      offset += static_cast<std::uint64_t>(wrote);
    }
    return {};
  }

  Result<void> truncate(std::uint64_t size) override {
    if (uninterrupted([&] { return ::ftruncate(fd_.get(), static_cast<off_t>(size)); }) != 0)
      return fail_errno("truncate", path_);
    return {};
  }

  Result<std::uint64_t> size() override {
    TRY_VALUE(struct stat s, status());
    return static_cast<std::uint64_t>(s.st_size);
  }

  Result<void> punch_hole(std::uint64_t offset, std::uint64_t length) override {
    if (length == 0) return {};
    if (uninterrupted([&] {
          return ::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                             static_cast<off_t>(offset), static_cast<off_t>(length));
        }) == 0)
      return {};
    if (errno != EOPNOTSUPP) return fail_errno("punch_hole", path_);
    return write_zeros(offset, length);
  }

  Result<std::uint64_t> seek_data(std::uint64_t from) override { return seek(from, SEEK_DATA); }
  Result<std::uint64_t> seek_hole(std::uint64_t from) override { return seek(from, SEEK_HOLE); }

  Result<std::uint64_t> allocated_bytes() override {
    TRY_VALUE(struct stat s, status());
    return static_cast<std::uint64_t>(s.st_blocks) * 512;  // st_blocks counts 512 bytes, stat(2)
  }

  Result<void> sync() override {
    if (sync_failed_.load()) return fail(Code::io, "sync " + path_ + ": an earlier sync failed");
    if (uninterrupted([&] { return ::fdatasync(fd_.get()); }) == 0) {
      // Another thread's sync may have taken the error of pages we count on.
      if (sync_failed_.load()) return fail(Code::io, "sync " + path_ + ": another sync failed");
      return {};
    }
    auto error = fail_errno("sync", path_);
    sync_failed_.store(true);
    return error;
  }

 private:
  Result<struct stat> status() {
    struct stat s {};
    if (::fstat(fd_.get(), &s) != 0) return fail_errno("stat", path_);
    return s;
  }

  // Where the filesystem cannot punch: the bytes read as zeros, only the space stays taken.
  Result<void> write_zeros(std::uint64_t offset, std::uint64_t length) {
    static constexpr std::array<std::uint8_t, 64 * 1024> kZeros{};
    TRY_VALUE(std::uint64_t end, size());
    end = std::min(end, offset + length);
    while (offset < end) {
      auto part = std::min<std::uint64_t>(kZeros.size(), end - offset);
      TRY(write_at({kZeros.data(), static_cast<std::size_t>(part)}, offset));
      offset += part;
    }
    return {};
  }

  Result<std::uint64_t> seek(std::uint64_t from, int whence) {
    off_t at = ::lseek(fd_.get(), static_cast<off_t>(from), whence);
    if (at >= 0) return static_cast<std::uint64_t>(at);
    if (errno == ENXIO) return size();
    return fail_errno("seek", path_);
  }

  Fd fd_;
  std::string path_;
  std::atomic<bool> sync_failed_{false};
};

}  // namespace

Result<std::unique_ptr<PosixDisk>> PosixDisk::open_directory(const std::string& path, bool make) {
  if (make && ::mkdir(path.c_str(), kDirectoryMode) != 0 && errno != EEXIST)
    return fail_errno("mkdir", path);
  Fd fd(uninterrupted([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
  if (!fd) return fail_errno("open", path);
  return std::unique_ptr<PosixDisk>(new PosixDisk(std::move(fd)));
}

Result<Fd> PosixDisk::open_below(std::string_view path, int flags, mode_t mode) const {
  std::string name(path.empty() ? "." : path);
  if (name == ".") {
    Fd root(uninterrupted([&] { return ::openat(root_.get(), ".", flags | O_CLOEXEC); }));
    if (!root) return fail_errno("open", name);
    return root;
  }
  if (!is_plain(name)) return fail(Code::invalid, "path '" + name + "'");
  Fd fd(open_beneath(root_.get(), name, flags, mode));
  if (!fd) return fail_errno("open", name);
  return fd;
}

Result<PosixDisk::Place> PosixDisk::place_of(std::string_view path) const {
  if (!is_plain(path)) return fail(Code::invalid, "path '" + std::string(path) + "'");
  auto slash = path.rfind('/');
  if (slash == path.npos) return Place{{}, root_.get(), std::string(path)};
  TRY_VALUE(Fd parent, open_below(path.substr(0, slash), O_PATH | O_DIRECTORY, 0));
  int directory = parent.get();
  return Place{std::move(parent), directory, std::string(path.substr(slash + 1))};
}

Result<std::unique_ptr<sys::File>> PosixDisk::open(std::string_view path, Open how) {
  int flags = O_RDWR;
  if (how == Open::existing_readonly) flags = O_RDONLY;
  if (how == Open::create) flags |= O_CREAT;
  if (how == Open::create_new) flags |= O_CREAT | O_EXCL;
  // O_NONBLOCK: a fifo that someone put there must not hang us; it is refused below.
  TRY_VALUE(Fd fd, open_below(path, flags | O_NONBLOCK | O_NOCTTY, kFileMode));
  struct stat s {};
  if (::fstat(fd.get(), &s) != 0) return fail_errno("stat", path);
  if (S_ISDIR(s.st_mode)) return fail(Code::is_a_directory, std::string(path));
  if (!S_ISREG(s.st_mode)) return fail(Code::invalid, std::string(path) + " is not a file");
  return std::make_unique<PosixFile>(std::move(fd), std::string(path));
}

Result<bool> PosixDisk::exists(std::string_view path) {
  auto fd = open_below(path, O_PATH, 0);
  if (fd) return true;
  if (fd.error().code == Code::not_found || fd.error().code == Code::not_a_directory) return false;
  return fail(std::move(fd).error());
}

Result<void> PosixDisk::remove(std::string_view path) {
  TRY_VALUE(Place place, place_of(path));
  if (::unlinkat(place.directory, place.name.c_str(), 0) != 0) return fail_errno("unlink", path);
  return {};
}

Result<void> PosixDisk::rename(std::string_view from, std::string_view to) {
  TRY_VALUE(Place source, place_of(from));
  TRY_VALUE(Place target, place_of(to));
  if (::renameat(source.directory, source.name.c_str(), target.directory, target.name.c_str()) != 0)
    return fail_errno("rename", from);
  return {};
}

Result<void> PosixDisk::make_directory(std::string_view path) {
  TRY_VALUE(Place place, place_of(path));
  if (::mkdirat(place.directory, place.name.c_str(), kDirectoryMode) == 0) return {};
  if (errno != EEXIST) return fail_errno("mkdir", path);
  TRY(open_below(path, O_PATH | O_DIRECTORY, 0));  // there, but is it a directory?
  return {};
}

Result<std::vector<std::string>> PosixDisk::list(std::string_view path) {
  TRY_VALUE(Fd fd, open_below(path, O_RDONLY | O_DIRECTORY, 0));
  DirStream stream(::fdopendir(fd.get()));
  if (!stream) return fail_errno("list", path);
  static_cast<void>(fd.release());  // the stream owns it now
  std::vector<std::string> names;
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) break;
    std::string_view name(static_cast<const char*>(entry->d_name));
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) return fail_errno("list", path);
  return names;
}

Result<void> PosixDisk::sync_directory(std::string_view path) {
  TRY_VALUE(Fd fd, open_below(path, O_RDONLY | O_DIRECTORY, 0));
  if (uninterrupted([&] { return ::fsync(fd.get()); }) != 0) return fail_errno("sync", path);
  return {};
}

Result<sys::DiskSpace> PosixDisk::space() {
  struct statvfs s {};
  if (uninterrupted([&] { return ::fstatvfs(root_.get(), &s); }) != 0)
    return fail_errno("statvfs", "");
  return sys::DiskSpace{.total_bytes = std::uint64_t{s.f_blocks} * s.f_frsize,
                        .free_bytes = std::uint64_t{s.f_bavail} * s.f_frsize};
}

Result<DirectoryLock> lock_directory(const std::string& directory) {
  const std::string path = directory + "/lock";
  Fd fd(uninterrupted([&] {
    return ::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, kFileMode);
  }));
  if (!fd) return fail_errno("open", path);
  if (uninterrupted([&] { return ::flock(fd.get(), LOCK_EX | LOCK_NB); }) != 0) {
    if (errno != EWOULDBLOCK) return fail_errno("lock", path);
    char text[32];
    ssize_t got = ::pread(fd.get(), text, sizeof text, 0);
    long holder = 0;
    if (got > 0) std::from_chars(text, text + got, holder);
    std::string who = holder > 0 ? "process " + std::to_string(holder) : "another process";
    return fail(Code::in_use, directory + " is in use by " + who);
  }
  std::string text = std::to_string(::getpid()) + "\n";
  if (::ftruncate(fd.get(), 0) != 0 ||
      ::pwrite(fd.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
    return fail_errno("write", path);
  return DirectoryLock(std::move(fd));
}

}  // namespace magma::sys_real
