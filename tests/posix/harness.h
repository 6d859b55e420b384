// What the POSIX tests share: a fresh directory for each test case, the errno of a call as a word,
// calls made as another user, helper processes to talk with, times of files to compare.
//
// The program calls the system directly and knows nothing of Magma: ext4 is the reference, and the
// whole program passes there. Everything runs in one thread; whatever needs a second process forks.
// Children never return into doctest: they hand a word back and end by _exit.
#pragma once

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// So that failures show the words of tables instead of addresses.
template <>
struct doctest::StringMaker<const char*> {
  static doctest::String convert(const char* text) { return text != nullptr ? text : "(null)"; }
};

namespace magma::posix {

// --- where ---------------------------------------------------------------------------------------
// MAGMA_POSIX_DIR, and MAGMA_POSIX_DIR2 (the same directory through another mount; the first one if
// unset). main() fills them in before any test runs.
struct Places {
  std::string first, second;
  bool are_two = false;
};
Places& places();
// Options of the mount that a path below it is on, the file system's own too: ",rw,relatime,...,".
std::string mount_options(const std::string& path);

// A fresh directory (0755, ours) below MAGMA_POSIX_DIR; removed with all that is in it, and it is
// an error of the test case if that fails.
class Scratch {
 public:
  explicit Scratch(const std::string& name);
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch();
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  // The same through the second mount.
  std::string other(const std::string& name) const { return other_ + "/" + name; }

 private:
  std::string path_, other_;
};
// 0, or the first errno met.
int remove_tree(int at, const std::string& name);

// --- calls ---------------------------------------------------------------------------------------
// "ok" for results >= 0, else the name of errno. To be called on the call itself: did(mkdir(...)).
std::string did(long result);
// For calls that return the error and leave errno alone (posix_fallocate).
std::string error_name(int error);

// Words with blanks between. The calls in the braces are made in their order (those of a sum are
// not): said({did(mkdir(...)), did(rmdir(...))}).
std::string said(std::initializer_list<std::string> words);

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~Fd() { reset(); }
  operator int() const { return fd_; }  // NOLINT: it is used as the number it is
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};
// The test case ends if the file cannot be opened.
Fd must_open(const std::string& path, int flags, mode_t mode = 0644);
// Opens, closes again.
std::string try_open(const std::string& path, int flags, mode_t mode = 0644);
// Reads or writes one byte.
std::string try_read(int fd);
std::string try_write(int fd);

// Sets the umask for a scope.
class Umask {
 public:
  explicit Umask(mode_t mask) : before_(::umask(mask)) {}
  Umask(const Umask&) = delete;
  Umask& operator=(const Umask&) = delete;
  ~Umask() { ::umask(before_); }

 private:
  mode_t before_;
};

// --- files ---------------------------------------------------------------------------------------
inline constexpr int64_t kKiB = 1024;
inline constexpr int64_t kMiB = 1024 * 1024;

struct stat info(const std::string& path);  // lstat; the test case ends if it fails
struct stat info(const Fd& fd);
mode_t mode_of(const std::string& path);  // with suid, sgid, sticky
std::int64_t links_of(const std::string& path);
bool exists(const std::string& path);  // by lstat
void make_file(const std::string& path, std::string_view bytes = "", mode_t mode = 0644);
void make_dir(const std::string& path, mode_t mode = 0755);
void own(const std::string& path, uid_t uid, gid_t gid);  // lchown
std::string read_all(const std::string& path);
std::string read_at(int fd, std::int64_t offset, std::size_t size);  // shorter at the end only
bool write_at(int fd, std::int64_t offset, std::string_view bytes);
// Bytes that are the same for the same seed and have no zeros.
std::string pattern(std::size_t size, std::uint32_t seed);
// CHECK() of long strings prints only where they differ: "" if equal.
std::string difference(std::string_view got, std::string_view wanted);
std::vector<std::string> list(const std::string& path);  // sorted, without . and ..

// --- users ---------------------------------------------------------------------------------------
struct User {
  uid_t uid;
  gid_t gid;
  std::vector<gid_t> groups;
};
inline const User kNobody{65534, 65534, {}};
inline const User kBob{60002, 60002, {}};
inline constexpr gid_t kTeam = 60100;  // a group nobody is in unless the test says so

// What `call` returns in a process of this user (no capabilities). The call must not use doctest.
std::string as_user(const User& user, const std::function<std::string()>& call);
std::string as_user(uid_t uid, gid_t gid, std::vector<gid_t> groups,
                    const std::function<std::string()>& call);
// The same in a process of root's, for calls that change the process.
std::string in_child(const std::function<std::string()>& call);

// --- helper processes ----------------------------------------------------------------------------
// A child that runs `body` with its end of a channel of words; what it hears is what the other end
// said. Killed and reaped at the latest by the destructor.
class Channel {
 public:
  explicit Channel(Fd fd) : fd_(std::move(fd)) {}
  void say(const std::string& word) const;
  // "" if nothing came within this time, or the other side has ended.
  std::string hear(int milliseconds = 10'000) const;

 private:
  Fd fd_;
};
class Helper {
 public:
  explicit Helper(const std::function<void(Channel&)>& body);
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;
  ~Helper() { kill(); }
  void say(const std::string& word) const { channel_.say(word); }
  std::string hear(int milliseconds = 10'000) const { return channel_.hear(milliseconds); }
  std::string ask(const std::string& word) const {
    say(word);
    return hear();
  }
  void kill();        // SIGKILL, and waits for its end
  std::string end();  // waits for it: "ok" or how it ended
  pid_t pid() const { return pid_; }

 private:
  Channel channel_{Fd()};
  pid_t pid_ = -1;
};

// --- times ---------------------------------------------------------------------------------------
std::int64_t nanoseconds(const timespec& time);
// Waits until the clock that stamps files has moved.
void tick();
void sleep_ms(int milliseconds);
// Polls until true; false after this time.
bool eventually(int milliseconds, const std::function<bool()>& condition);

// Remembers the times of some files, then tells which of them moved.
class Watch {
 public:
  explicit Watch(const std::vector<std::string>& paths);
  // Letters of what differs: a, m, c (atime, mtime, ctime), each followed by '-' if it went back.
  // The order of results is that of the paths, separated by blanks: "mc c" and so on; "=" if none.
  std::string moved() const;

 private:
  std::vector<std::string> paths_;
  std::vector<struct stat> before_;
};

}  // namespace magma::posix
