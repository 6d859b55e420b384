#include "tests/posix/harness.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <sstream>

namespace magma::posix {

namespace {

constexpr unsigned kChildSeconds = 60;  // a child that hangs is killed by SIGALRM
constexpr std::size_t kWordMax = 60'000;

std::string how_it_ended(int status) {
  if (WIFSIGNALED(status)) return "killed by signal " + std::to_string(WTERMSIG(status));
  if (WEXITSTATUS(status) != 0) return "exit code " + std::to_string(WEXITSTATUS(status));
  return "ok";
}

bool become(const User& user) {
  return ::setgroups(user.groups.size(), user.groups.data()) == 0 &&
         ::setresgid(user.gid, user.gid, user.gid) == 0 &&
         ::setresuid(user.uid, user.uid, user.uid) == 0;
}

std::string in_process(const User* user, const std::function<std::string()>& call) {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const pid_t pid = ::fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    ::alarm(kChildSeconds);
    std::string word = "could not become the user";
    if (user == nullptr || become(*user)) word = call();
    const bool is_written = ::write(ends[1], word.data(), word.size()) == ssize_t(word.size());
    ::_exit(is_written ? 0 : 99);
  }
  ::close(ends[1]);
  std::string word;
  char piece[4096];
  ssize_t got = 0;
  while ((got = ::read(ends[0], piece, sizeof piece)) > 0) word.append(piece, std::size_t(got));
  ::close(ends[0]);
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  const auto end = how_it_ended(status);
  return end == "ok" ? word : end;
}

std::int64_t now_ms() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return nanoseconds(time) / 1'000'000;
}

}  // namespace

// --- where ---------------------------------------------------------------------------------------

Places& places() {
  static Places the_places;
  return the_places;
}

std::string mount_options(const std::string& path) {
  std::ifstream table("/proc/self/mountinfo");
  std::string line, found = ",", longest;
  while (std::getline(table, line)) {
    std::istringstream words(line);
    std::string id, parent, number, root, where, options, word, type, source, more;
    words >> id >> parent >> number >> root >> where >> options;
    while (words >> word && word != "-") {
    }
    words >> type >> source >> more;
    const auto below = where == "/" ? where : where + "/";
    if (!path.starts_with(below) || where.size() < longest.size()) continue;
    longest = where;
    found = "," + options + "," + more + ",";
  }
  return found;
}

int remove_tree(int at, const std::string& name) {
  if (::unlinkat(at, name.c_str(), 0) == 0) return 0;
  if (errno != EISDIR && errno != EPERM) return errno;
  const int fd = ::openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return errno;
  DIR* dir = ::fdopendir(fd);
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string_view found = entry->d_name;
    if (found != "." && found != "..") names.emplace_back(found);
  }
  int error = 0;
  for (const auto& each : names) {
    const int one = remove_tree(fd, each);
    if (error == 0) error = one;
  }
  ::closedir(dir);
  if (::unlinkat(at, name.c_str(), AT_REMOVEDIR) != 0 && error == 0) error = errno;
  return error;
}

Scratch::Scratch(const std::string& name) {
  path_ = places().first + "/" + name + ".XXXXXX";
  REQUIRE(::mkdtemp(path_.data()) != nullptr);
  REQUIRE(::chmod(path_.c_str(), 0755) == 0);
  other_ = places().second + path_.substr(places().first.size());
}

Scratch::~Scratch() {
  const int error = remove_tree(AT_FDCWD, path_);
  CHECK_MESSAGE(error == 0, "removing ", path_, ": ", error_name(error));
}

// --- calls ---------------------------------------------------------------------------------------

std::string error_name(int error) {
  if (error == 0) return "ok";
  const char* name = ::strerrorname_np(error);
  return name != nullptr ? name : "errno " + std::to_string(error);
}

std::string did(long result) { return result >= 0 ? "ok" : error_name(errno); }

std::string said(std::initializer_list<std::string> words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

Fd must_open(const std::string& path, int flags, mode_t mode) {
  Fd fd(::open(path.c_str(), flags | O_CLOEXEC, mode));
  const auto outcome = did(fd);
  INFO("open ", path, " flags ", flags);
  REQUIRE(outcome == "ok");
  return fd;
}

std::string try_open(const std::string& path, int flags, mode_t mode) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  auto outcome = did(fd);
  if (fd >= 0) ::close(fd);
  return outcome;
}

std::string try_read(int fd) {
  char byte = 0;
  return did(::read(fd, &byte, 1));
}

std::string try_write(int fd) { return did(::write(fd, "x", 1)); }

// --- files ---------------------------------------------------------------------------------------

struct stat info(const std::string& path) {
  struct stat result {};
  const auto outcome = did(::lstat(path.c_str(), &result));
  INFO("lstat ", path);
  REQUIRE(outcome == "ok");
  return result;
}

struct stat info(const Fd& fd) {
  struct stat result {};
  REQUIRE(did(::fstat(fd, &result)) == "ok");
  return result;
}

mode_t mode_of(const std::string& path) { return info(path).st_mode & 07777; }

std::int64_t links_of(const std::string& path) { return std::int64_t(info(path).st_nlink); }

bool exists(const std::string& path) {
  struct stat ignored {};
  return ::lstat(path.c_str(), &ignored) == 0;
}

void make_file(const std::string& path, std::string_view bytes, mode_t mode) {
  const Fd fd = must_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  REQUIRE(write_at(fd, 0, bytes));
  REQUIRE(did(::fchmod(fd, mode)) == "ok");
}

void make_dir(const std::string& path, mode_t mode) {
  REQUIRE(did(::mkdir(path.c_str(), 0700)) == "ok");
  REQUIRE(did(::chmod(path.c_str(), mode)) == "ok");
}

void own(const std::string& path, uid_t uid, gid_t gid) {
  const auto mode = info(path).st_mode;
  REQUIRE(did(::lchown(path.c_str(), uid, gid)) == "ok");
  if (!S_ISLNK(mode)) REQUIRE(did(::chmod(path.c_str(), mode & 07777)) == "ok");
}

std::string read_at(int fd, std::int64_t offset, std::size_t size) {
  std::string bytes(size, '\0');
  std::size_t have = 0;
  while (have < size) {
    const ssize_t got = ::pread(fd, bytes.data() + have, size - have, offset + off_t(have));
    if (got <= 0) break;
    have += std::size_t(got);
  }
  bytes.resize(have);
  return bytes;
}

std::string read_all(const std::string& path) {
  const Fd fd = must_open(path, O_RDONLY);
  return read_at(fd, 0, std::size_t(info(fd).st_size) + 1);
}

bool write_at(int fd, std::int64_t offset, std::string_view bytes) {
  std::size_t have = 0;
  while (have < bytes.size()) {
    const ssize_t put =
        ::pwrite(fd, bytes.data() + have, bytes.size() - have, offset + off_t(have));
    if (put <= 0) return false;
    have += std::size_t(put);
  }
  return true;
}

std::string pattern(std::size_t size, std::uint32_t seed) {
  std::string bytes(size, '\0');
  std::uint32_t state = seed * 2'654'435'761U + 1;
  for (auto& byte : bytes) {
    state = state * 1'664'525U + 1'013'904'223U;
    byte = char(1 + (state >> 24) % 255);
  }
  return bytes;
}

std::string difference(std::string_view got, std::string_view wanted) {
  if (got == wanted) return "";
  const auto at = std::mismatch(
      got.begin(), got.begin() + long(std::min(got.size(), wanted.size())), wanted.begin());
  const auto offset = std::size_t(at.first - got.begin());
  std::string text = std::to_string(got.size()) + " bytes of " + std::to_string(wanted.size()) +
                     ", differ from offset " + std::to_string(offset);
  if (offset < got.size() && offset < wanted.size()) {
    text += " (" + std::to_string(int(std::uint8_t(got[offset]))) + ", wanted " +
            std::to_string(int(std::uint8_t(wanted[offset]))) + ")";
  }
  return text;
}

std::vector<std::string> list(const std::string& path) {
  std::vector<std::string> names;
  DIR* dir = ::opendir(path.c_str());
  REQUIRE(dir != nullptr);
  while (const dirent* entry = ::readdir(dir)) {
    const std::string_view found = entry->d_name;
    if (found != "." && found != "..") names.emplace_back(found);
  }
  ::closedir(dir);
  std::sort(names.begin(), names.end());
  return names;
}

// --- users and processes -------------------------------------------------------------------------

std::string as_user(const User& user, const std::function<std::string()>& call) {
  return in_process(&user, call);
}

std::string as_user(uid_t uid, gid_t gid, std::vector<gid_t> groups,
                    const std::function<std::string()>& call) {
  const User user{uid, gid, std::move(groups)};
  return in_process(&user, call);
}

std::string in_child(const std::function<std::string()>& call) {
  return in_process(nullptr, call);
}

void Channel::say(const std::string& word) const {
  ::send(fd_, word.data(), word.size(), MSG_NOSIGNAL);
}

std::string Channel::hear(int milliseconds) const {
  const std::int64_t end = now_ms() + milliseconds;
  pollfd wait{.fd = fd_, .events = POLLIN, .revents = 0};
  for (;;) {
    const auto left = std::max<std::int64_t>(0, end - now_ms());
    const int ready = ::poll(&wait, 1, int(left));
    if (ready > 0) break;
    if (ready == 0 || errno != EINTR) return "";
  }
  std::string word(kWordMax, '\0');
  const ssize_t got = ::recv(fd_, word.data(), word.size(), 0);
  word.resize(got > 0 ? std::size_t(got) : 0);
  return word;
}

Helper::Helper(const std::function<void(Channel&)>& body) {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
  pid_ = ::fork();
  REQUIRE(pid_ >= 0);
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::alarm(kChildSeconds);
    ::close(ends[0]);
    Channel channel{Fd(ends[1])};
    body(channel);
    ::_exit(0);
  }
  ::close(ends[1]);
  channel_ = Channel(Fd(ends[0]));
}

void Helper::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  end();
}

std::string Helper::end() {
  if (pid_ <= 0) return "ended before";
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return how_it_ended(status);
}

// --- times ---------------------------------------------------------------------------------------

std::int64_t nanoseconds(const timespec& time) {
  return std::int64_t(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

void sleep_ms(int milliseconds) {
  timespec time{.tv_sec = milliseconds / 1000, .tv_nsec = (milliseconds % 1000) * 1'000'000L};
  while (::nanosleep(&time, &time) != 0 && errno == EINTR) {
  }
}

void tick() {
  timespec start{}, now{};
  ::clock_gettime(CLOCK_REALTIME_COARSE, &start);
  do {
    sleep_ms(1);
    ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
  } while (nanoseconds(now) <= nanoseconds(start));
}

bool eventually(int milliseconds, const std::function<bool()>& condition) {
  const std::int64_t end = now_ms() + milliseconds;
  while (!condition()) {
    if (now_ms() >= end) return false;
    sleep_ms(5);
  }
  return true;
}

Watch::Watch(const std::vector<std::string>& paths) : paths_(paths) {
  for (const auto& path : paths_) before_.push_back(info(path));
  tick();
}

std::string Watch::moved() const {
  std::string text;
  const auto compare = [&text](char letter, const timespec& before, const timespec& now) {
    if (nanoseconds(before) == nanoseconds(now)) return;
    text += letter;
    if (nanoseconds(now) < nanoseconds(before)) text += '-';
  };
  for (std::size_t i = 0; i < paths_.size(); ++i) {
    const auto now = info(paths_[i]);
    const auto length = text.size() + (i > 0 ? 1 : 0);
    if (i > 0) text += ' ';
    compare('a', before_[i].st_atim, now.st_atim);
    compare('m', before_[i].st_mtim, now.st_mtim);
    compare('c', before_[i].st_ctim, now.st_ctim);
    if (text.size() == length) text += '=';
  }
  return text;
}

}  // namespace magma::posix
