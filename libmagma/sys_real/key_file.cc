#include "libmagma/sys_real/key_file.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include <array>

#include <fmt/format.h>

#include "libmagma/sys_real/fd.h"

namespace magma::sys_real {

namespace {

constexpr mode_t kOthers = S_IRWXG | S_IRWXO;

tl::unexpected<Error> bad(const std::string& path, std::string_view why) {
  return fail(Code::bad_key_file, fmt::format("key file {}: {}", path, why));
}

// A buffer that leaves no copy of the key behind.
struct Wiped {
  std::array<char, kKeyFileBytesMax> bytes{};
  ~Wiped() { ::explicit_bzero(bytes.data(), bytes.size()); }
};

}  // namespace

Result<crypto::Keyring> read_key_file(const std::string& path) {
  // Checked on the opened file: no one can swap it in between. O_NONBLOCK: a fifo must not hang us.
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) return fail_errno("open", "key file " + path);
  struct stat s {};
  if (::fstat(fd.get(), &s) != 0) return fail_errno("stat", "key file " + path);
  if (!S_ISREG(s.st_mode)) return bad(path, "not a regular file");
  if ((s.st_mode & kOthers) != 0) {
    return bad(path, fmt::format("mode {:04o}, must be 0600 (chmod 600 {})",
                                 s.st_mode & 07777u, path));
  }
  if (s.st_uid != 0 && s.st_uid != ::geteuid()) {
    return bad(path, fmt::format("owned by uid {}, must be root or uid {} (chown {} {})", s.st_uid,
                                 ::geteuid(), ::geteuid(), path));
  }
  if (s.st_size >= static_cast<off_t>(kKeyFileBytesMax)) {
    return bad(path, fmt::format("{} bytes, a key file is smaller than {}", s.st_size,
                                 kKeyFileBytesMax));
  }
  Wiped buffer;
  std::size_t size = 0;
  while (size < buffer.bytes.size()) {
    ssize_t got = ::read(fd.get(), buffer.bytes.data() + size, buffer.bytes.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno("read", "key file " + path);
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  auto keyring = crypto::parse_key_file({buffer.bytes.data(), size});
  if (!keyring) return bad(path, keyring.error().detail);
  return keyring;
}

Result<void> write_key_file(const std::string& path, std::string_view text) {
  Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return fail_errno("create", "key file " + path);
  // A umask may take bits from 0600, never add some.
  for (std::size_t done = 0; done < text.size();) {
    ssize_t wrote = ::write(fd.get(), text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) {
      auto error = fail_errno("write", "key file " + path);
      ::unlink(path.c_str());
      return error;
    }
    done += static_cast<std::size_t>(wrote);
  }
  if (::fsync(fd.get()) != 0) return fail_errno("sync", "key file " + path);
  return {};
}

}  // namespace magma::sys_real
