#include "tests/posix/locks.h"

#include <sys/time.h>

#include <csignal>
#include <sstream>

namespace magma::posix {

namespace {

void alarm_in(int milliseconds) {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  ::sigaction(SIGALRM, &action, nullptr);  // no SA_RESTART: what waits ends with EINTR
  itimerval timer{};
  timer.it_value = {.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000};
  ::setitimer(ITIMER_REAL, &timer, nullptr);
}

std::string lock_by_word(int fd, char word, Range range) {
  switch (word) {
    case 'W': return set_lock(fd, F_WRLCK, range);
    case 'R': return set_lock(fd, F_RDLCK, range);
    case 'U': return set_lock(fd, F_UNLCK, range);
    case 'w': return try_lock(fd, F_SETLKW, F_WRLCK, range);
    case 'r': return try_lock(fd, F_SETLKW, F_RDLCK, range);
    default: return "what?";
  }
}

}  // namespace

void obey(Channel& channel, const std::string& path, int flags) {
  Fd fd(::open(path.c_str(), flags | O_CLOEXEC));
  channel.say(did(fd));
  for (;;) {
    const auto line = channel.hear(60'000);
    if (line.empty()) break;
    std::istringstream words(line);
    std::string word;
    int first = 0, second = 0;
    words >> word >> first >> second;
    if (word == "close") {
      fd.reset();
      channel.say("ok");
    } else if (word == "exit") {
      ::_exit(0);
    } else if (word == "flock") {
      channel.say(try_flock(fd, first));
    } else if (word == "alarm") {
      alarm_in(first);
      channel.say("ok");
    } else if (word == "?") {
      channel.say("here");
    } else {
      channel.say(lock_by_word(fd, word[0], {first, second}));
    }
  }
}

}  // namespace magma::posix
