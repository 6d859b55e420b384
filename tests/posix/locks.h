// What the tests of locks share: one-line calls of flock and fcntl, and a map of who holds what as
// another process sees it.
#pragma once

#include <fcntl.h>
#include <sys/file.h>

#include <cstdint>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {

struct Range {
  std::int64_t start = 0;
  std::int64_t size = 0;  // 0: to the end of everything
  short whence = SEEK_SET;
};

// `command` is F_SETLK, F_SETLKW, F_OFD_SETLK ...; `type` F_RDLCK, F_WRLCK or F_UNLCK.
inline std::string try_lock(int fd, int command, short type, Range range) {
  struct ::flock lock {};
  lock.l_type = type;
  lock.l_whence = range.whence;
  lock.l_start = range.start;
  lock.l_len = range.size;
  return did(::fcntl(fd, command, &lock));
}
inline std::string set_lock(int fd, short type, Range range) {
  return try_lock(fd, F_SETLK, type, range);
}
inline std::string try_flock(int fd, int operation) { return did(::flock(fd, operation)); }

// What a process of its own would meet that wants to write: one letter a byte for the first `size`
// bytes, '.' free, 'R' somebody reads, 'W' somebody writes.
inline std::string lock_map(const std::string& path, int size = 20) {
  return in_child([&] {
    const Fd fd(::open(path.c_str(), O_RDWR));
    if (fd < 0) return did(fd);
    std::string map;
    for (int i = 0; i < size; ++i) {
      struct ::flock lock {};
      lock.l_type = F_WRLCK;
      lock.l_start = i;
      lock.l_len = 1;
      if (::fcntl(fd, F_GETLK, &lock) != 0) return did(-1);
      map += lock.l_type == F_UNLCK ? '.' : lock.l_type == F_RDLCK ? 'R' : 'W';
    }
    return map;
  });
}

// A process that does what it is told with a descriptor of its own, by words like "W 0 10" (lock
// for writing without waiting), "w 0 10" (waiting), "R", "r", "U 0 10", "flock N", "close"; it
// answers with the outcome. "alarm MS" interrupts what waits after that time; "?" is answered by
// "here".
void obey(Channel& channel, const std::string& path, int flags = O_RDWR);

}  // namespace magma::posix
