// fcntl(2) locks, F_SETLK and F_OFD_SETLK: ranges that are split and joined, what F_GETLK tells,
// waiting, interruption, deadlock, release on any close and on death. Across two mounts:
// mounts_locks_test.cc.
#include <csignal>
#include <cstdint>

#include "tests/posix/locks.h"

namespace magma::posix {
namespace {

TEST_CASE("fcntl locks: ranges are split, joined, converted") {
  const Scratch dir("fcntl");
  const auto path = dir / "file";
  struct Step {
    short type;
    std::int64_t start, size;
  };
  constexpr short R = F_RDLCK, W = F_WRLCK, U = F_UNLCK;
  struct Row {
    std::vector<Step> steps;
    const char* wanted;
  };
  const Row table[] = {
      {{{W, 2, 3}}, "..WWW..............."},
      {{{R, 0, 0}}, "RRRRRRRRRRRRRRRRRRRR"},
      {{{W, 18, 0}}, "..................WW"},
      {{{W, 0, 10}, {U, 4, 2}}, "WWWW..WWWW.........."},
      {{{W, 0, 10}, {U, 0, 3}}, "...WWWWWWW.........."},
      {{{W, 0, 10}, {U, 7, 3}}, "WWWWWWW............."},
      {{{W, 0, 10}, {U, 0, 0}}, "...................."},
      {{{W, 5, 5}, {U, 0, 20}}, "...................."},
      {{{W, 0, 10}, {R, 4, 2}}, "WWWWRRWWWW.........."},
      {{{R, 0, 10}, {W, 4, 2}, {R, 5, 1}}, "RRRRWRRRRR.........."},
      {{{R, 0, 4}, {W, 4, 4}, {U, 2, 4}}, "RR....WW............"},
      {{{W, 0, 5}, {W, 5, 5}, {U, 4, 2}}, "WWWW..WWWW.........."},
      {{{W, 0, 2}, {W, 4, 2}, {W, 8, 2}, {R, 1, 8}}, "WRRRRRRRRW.........."},
      {{{W, 0, 2}, {W, 4, 2}, {W, 8, 2}, {U, 1, 8}}, "W........W.........."},
      {{{R, 0, 0}, {W, 5, 5}, {U, 12, 0}}, "RRRRRWWWWWRR........"},
      {{{W, 10, -5}}, ".....WWWWW.........."},
      {{{W, 0, 20}, {U, 1, 1}, {U, 3, 1}, {U, 5, 1}}, "W.W.W.WWWWWWWWWWWWWW"},
      {{{W, 0, 20}, {U, 0, 20}, {R, 3, 1}}, "...R................"},
  };
  for (const auto& row : table) {
    CAPTURE(row.wanted);
    make_file(path, "0123456789");
    for (const bool is_ofd : {false, true}) {
      CAPTURE(is_ofd);
      const Fd fd = must_open(path, O_RDWR);
      for (const auto& step : row.steps) {
        CHECK(try_lock(fd, is_ofd ? F_OFD_SETLK : F_SETLK, step.type, {step.start, step.size}) ==
              "ok");
      }
      CHECK(lock_map(path) == row.wanted);
    }
    CHECK(lock_map(path) == std::string(20, '.'));
  }
}

TEST_CASE("fcntl locks: starts by every whence") {
  const Scratch dir("fcntl");
  const auto path = dir / "file";
  make_file(path, "0123456789");
  const Fd fd = must_open(path, O_RDWR);
  CHECK(::lseek(fd, 4, SEEK_SET) == 4);
  CHECK(set_lock(fd, F_WRLCK, {1, 2, SEEK_CUR}) == "ok");
  CHECK(set_lock(fd, F_RDLCK, {-2, 4, SEEK_END}) == "ok");
  CHECK(lock_map(path) == ".....WW.RRRR........");
  CHECK(set_lock(fd, F_UNLCK, {-2, 2, SEEK_CUR}) == "ok");
  CHECK(set_lock(fd, F_UNLCK, {0, 0, SEEK_END}) == "ok");
  CHECK(lock_map(path) == ".....WW.RR..........");
}

TEST_CASE("fcntl locks: who may stand beside whom") {
  const Scratch dir("fcntl");
  const auto path = dir / "file";
  make_file(path);
  Helper other([&](Channel& channel) { obey(channel, path); });
  REQUIRE(other.hear() == "ok");
  const Fd fd = must_open(path, O_RDWR);
  CHECK(set_lock(fd, F_RDLCK, {0, 10}) == "ok");
  CHECK(set_lock(fd, F_WRLCK, {10, 10}) == "ok");
  const std::pair<const char*, const char*> table[] = {
      {"R 0 10", "ok"},      {"W 0 1", "EAGAIN"},  {"W 9 1", "EAGAIN"},  {"R 10 1", "EAGAIN"},
      {"W 10 1", "EAGAIN"},  {"R 19 5", "EAGAIN"}, {"W 20 5", "ok"},     {"R 0 0", "EAGAIN"},
      {"U 0 0", "ok"},       {"W 15 1", "EAGAIN"}, {"U 15 1", "ok"},
  };
  for (const auto& pair : table) {
    const auto& word = pair.first;
    const auto& wanted = pair.second;
    CAPTURE(word);
    CHECK(other.ask(word) == wanted);
  }
  // What it failed to get changed nothing of what it had.
  CHECK(other.ask("R 0 5") == "ok");
  CHECK(other.ask("W 0 15") == "EAGAIN");
  CHECK(set_lock(fd, F_WRLCK, {0, 5}) == "EAGAIN");
  CHECK(set_lock(fd, F_WRLCK, {5, 5}) == "ok");
}

TEST_CASE("fcntl locks: F_GETLK tells the kind, the range and the process") {
  const Scratch dir("fcntl");
  const auto path = dir / "file";
  make_file(path, "0123456789");
  Helper other([&](Channel& channel) { obey(channel, path); });
  REQUIRE(other.hear() == "ok");
  CHECK(other.ask("W 100 50") == "ok");
  CHECK(other.ask("R 200 0") == "ok");
  const Fd fd = must_open(path, O_RDWR);
  const auto ask = [&](int command, short type, std::int64_t start, std::int64_t size) {
    struct ::flock lock {};
    lock.l_type = type;
    lock.l_start = start;
    lock.l_len = size;
    const auto outcome = did(::fcntl(fd, command, &lock));
    if (outcome != "ok") return outcome;
    if (lock.l_type == F_UNLCK) return std::string("free");
    const std::string kind = lock.l_type == F_RDLCK ? "R" : "W";
    // F_OFD_GETLK: of a lock kept elsewhere the kernel tells no process (-1), whatever it was told.
    const bool is_other = lock.l_pid == other.pid() || (command == F_OFD_GETLK && lock.l_pid == -1);
    const std::string who = is_other ? "other" : std::to_string(lock.l_pid);
    return kind + " " + std::to_string(lock.l_whence) + " " + std::to_string(lock.l_start) + " " +
           std::to_string(lock.l_len) + " " + who;
  };
  for (const int command : {F_GETLK, F_OFD_GETLK}) {
    CHECK(ask(command, F_WRLCK, 0, 100) == "free");
    CHECK(ask(command, F_WRLCK, 0, 101) == "W 0 100 50 other");
    CHECK(ask(command, F_RDLCK, 149, 1) == "W 0 100 50 other");
    CHECK(ask(command, F_RDLCK, 150, 0) == "free");
    CHECK(ask(command, F_WRLCK, 1'000, 1) == "R 0 200 0 other");
  }
  CHECK(ask(F_GETLK, F_UNLCK, 0, 0) == "EINVAL");
  // One's own locks are never in one's way.
  CHECK(set_lock(fd, F_WRLCK, {0, 50}) == "ok");
  CHECK(ask(F_GETLK, F_WRLCK, 0, 50) == "free");
  const auto mine = ask(F_OFD_GETLK, F_WRLCK, 0, 50);
  CHECK((mine == "W 0 0 50 " + std::to_string(::getpid()) || mine == "W 0 0 50 other"));
  // A lock of an open file belongs to no process: ext4 says -1, but FUSE cannot.
  CHECK(set_lock(fd, F_UNLCK, {0, 50}) == "ok");
  const Fd second = must_open(path, O_RDWR);
  CHECK(try_lock(second, F_OFD_SETLK, F_WRLCK, {0, 50}) == "ok");
  CHECK(ask(F_GETLK, F_WRLCK, 10, 1).starts_with("W 0 0 50 "));
}

TEST_CASE("fcntl locks: errors") {
  const Scratch dir("fcntl");
  make_file(dir / "file");
  const Fd reader = must_open(dir / "file", O_RDONLY), writer = must_open(dir / "file", O_WRONLY);
  const Fd both = must_open(dir / "file", O_RDWR), path = must_open(dir / "file", O_PATH);
  for (const int command : {F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW}) {
    CAPTURE(command);
    CHECK(try_lock(reader, command, F_WRLCK, {}) == "EBADF");
    CHECK(try_lock(writer, command, F_RDLCK, {}) == "EBADF");
    CHECK(try_lock(reader, command, F_RDLCK, {}) == "ok");
    CHECK(try_lock(reader, command, F_UNLCK, {}) == "ok");
    CHECK(try_lock(writer, command, F_WRLCK, {}) == "ok");
    CHECK(try_lock(writer, command, F_UNLCK, {}) == "ok");
    CHECK(try_lock(both, command, 77, {}) == "EINVAL");
    CHECK(try_lock(both, command, F_WRLCK, {-1, 1}) == "EINVAL");
    CHECK(try_lock(both, command, F_WRLCK, {5, -6}) == "EINVAL");
    CHECK(try_lock(both, command, F_WRLCK, {0, 0, 77}) == "EINVAL");
    CHECK(try_lock(both, command, F_WRLCK, {INT64_MAX, 1}) == "ok");
    CHECK(try_lock(both, command, F_WRLCK, {INT64_MAX, 2}) == "EOVERFLOW");
    CHECK(try_lock(both, command, F_UNLCK, {}) == "ok");
    CHECK(try_lock(path, command, F_RDLCK, {}) == "EBADF");
    CHECK(try_lock(-1, command, F_RDLCK, {}) == "EBADF");
  }
  struct ::flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_pid = 1;
  CHECK(did(::fcntl(both, F_OFD_SETLK, &lock)) == "EINVAL");
}

TEST_CASE("fcntl locks: waiting, an interrupted wait, a killed waiter") {
  const Scratch dir("fcntl");
  const auto path = dir / "file";
  make_file(path);
  const Fd fd = must_open(path, O_RDWR);
  Helper other([&](Channel& channel) { obey(channel, path); });
  REQUIRE(other.hear() == "ok");
  CHECK(set_lock(fd, F_WRLCK, {0, 10}) == "ok");
  other.say("w 5 10");
  CHECK(other.hear(150) == "");
  // Not enough of it, then enough.
  CHECK(set_lock(fd, F_UNLCK, {0, 9}) == "ok");
  CHECK(other.hear(100) == "");
  CHECK(set_lock(fd, F_UNLCK, {9, 1}) == "ok");
  CHECK(other.hear() == "ok");
  CHECK(lock_map(path) == ".....WWWWWWWWWW.....");
  CHECK(other.ask("U 0 0") == "ok");

  CHECK(set_lock(fd, F_RDLCK, {0, 10}) == "ok");
  CHECK(other.ask("r 0 5") == "ok");
  CHECK(other.ask("alarm 150") == "ok");
  CHECK(other.ask("w 5 5") == "EINTR");
  CHECK(other.ask("?") == "here");
  CHECK(lock_map(path) == "RRRRRRRRRR..........");
  other.say("w 5 5");
  CHECK(other.hear(100) == "");
  other.kill();
  CHECK(set_lock(fd, F_UNLCK, {}) == "ok");
  CHECK(eventually(1'000, [&] { return lock_map(path) == std::string(20, '.'); }));
}

TEST_CASE("fcntl locks: a deadlock is refused") {
  const Scratch dir("fcntl");
  const auto path = dir / "file";
  make_file(path);
  for (const int processes : {2, 3}) {
    CAPTURE(processes);
    std::vector<std::unique_ptr<Helper>> helpers;
    for (int i = 0; i < processes; ++i) {
      helpers.push_back(std::make_unique<Helper>([&](Channel& channel) { obey(channel, path); }));
      REQUIRE(helpers.back()->hear() == "ok");
      CHECK(helpers.back()->ask("W " + std::to_string(i) + " 1") == "ok");
    }
    // Each waits for the next one's; the last one would close the circle.
    for (int i = 0; i + 1 < processes; ++i) {
      helpers[std::size_t(i)]->say("w " + std::to_string(i + 1) + " 1");
      CHECK(helpers[std::size_t(i)]->hear(100) == "");
    }
    auto& last = *helpers.back();
    CHECK(last.ask("w 0 1") == "EDEADLK");
    // It still holds its own; when it lets go, the one before it goes on.
    CHECK(last.ask("U 0 0") == "ok");
    CHECK(helpers[std::size_t(processes - 2)]->hear() == "ok");
  }
}

TEST_CASE("fcntl locks: any close of the file releases all of the process, OFD locks not") {
  const Scratch dir("fcntl");
  const auto path = dir / "file";
  make_file(path);
  REQUIRE(::link(path.c_str(), (path + "2").c_str()) == 0);
  const Fd fd = must_open(path, O_RDWR);
  CHECK(set_lock(fd, F_WRLCK, {0, 5}) == "ok");
  CHECK(try_open(path + "2", O_RDONLY) == "ok");
  CHECK(lock_map(path) == std::string(20, '.'));
  CHECK(try_lock(fd, F_OFD_SETLK, F_WRLCK, {0, 5}) == "ok");
  CHECK(try_open(path, O_RDONLY) == "ok");
  Fd copy(::dup(fd));
  copy.reset();
  CHECK(lock_map(path) == "WWWWW...............");
  // Between two descriptors of one process OFD locks count, and against the classic ones.
  const Fd second = must_open(path, O_RDWR);
  CHECK(try_lock(second, F_OFD_SETLK, F_RDLCK, {4, 1}) == "EAGAIN");
  CHECK(set_lock(second, F_RDLCK, {4, 1}) == "EAGAIN");
  CHECK(try_lock(second, F_OFD_SETLK, F_RDLCK, {5, 1}) == "ok");
  CHECK(try_lock(fd, F_OFD_SETLK, F_UNLCK, {}) == "ok");
  CHECK(lock_map(path) == ".....R..............");
}

TEST_CASE("fcntl locks: released by close, exit and kill; not inherited by a child") {
  const Scratch dir("fcntl");
  const auto path = dir / "file";
  make_file(path);
  for (const char* how : {"close", "exit", "kill"}) {
    CAPTURE(how);
    Helper other([&](Channel& channel) { obey(channel, path); });
    REQUIRE(other.hear() == "ok");
    CHECK(other.ask("W 0 5") == "ok");
    CHECK(lock_map(path, 6) == "WWWWW.");
    if (std::string(how) == "kill") {
      other.kill();
    } else {
      other.say(how);
      CHECK((std::string(how) == "close" ? other.hear() : other.end()) == "ok");
    }
    CHECK(eventually(1'000, [&] { return lock_map(path, 6) == "......"; }));
  }
  const Fd fd = must_open(path, O_RDWR);
  CHECK(set_lock(fd, F_WRLCK, {0, 5}) == "ok");
  const auto outcome = in_child([&] {
    return said({set_lock(fd, F_RDLCK, {0, 1}), set_lock(fd, F_UNLCK, {})});
  });
  CHECK(outcome == "EAGAIN ok");
  // The child closed its copies of the descriptors when it ended: ours stay.
  CHECK(lock_map(path, 6) == "WWWWW.");
}

TEST_CASE("fcntl locks: nobody is kept from reading and writing, and lockf is the same") {
  const Scratch dir("fcntl");
  const auto path = dir / "file";
  make_file(path, "0123456789", 02666);
  const Fd fd = must_open(path, O_RDWR);
  CHECK(::lseek(fd, 2, SEEK_SET) == 2);
  CHECK(did(::lockf(fd, F_TLOCK, 5)) == "ok");
  CHECK(lock_map(path) == "..WWWWW.............");
  CHECK(did(::lockf(fd, F_TEST, 5)) == "ok");
  const auto outcome = in_child([&] {
    const Fd mine(::open(path.c_str(), O_RDWR));
    return said({did(::lseek(mine, 3, SEEK_SET)), try_read(mine), try_write(mine),
                 did(::lockf(mine, F_TEST, 1)), did(::lockf(mine, F_TLOCK, 1)),
                 did(::ftruncate(mine, 1))});
  });
  CHECK(outcome == "ok ok ok EACCES EAGAIN ok");
  CHECK(did(::lockf(fd, F_ULOCK, 5)) == "ok");
  CHECK(lock_map(path) == std::string(20, '.'));
}

TEST_CASE("fcntl locks: thousands of ranges") {
  const Scratch dir("fcntl");
  const auto path = dir / "file";
  make_file(path);
  const Fd fd = must_open(path, O_RDWR);
  for (int i = 0; i < 2'000; ++i) REQUIRE(set_lock(fd, F_WRLCK, {i * 2, 1}) == "ok");
  CHECK(lock_map(path) == "W.W.W.W.W.W.W.W.W.W.");
  CHECK(set_lock(fd, F_RDLCK, {0, 3'000}) == "ok");
  CHECK(lock_map(path) == std::string(20, 'R'));
  CHECK(set_lock(fd, F_UNLCK, {}) == "ok");
  CHECK(lock_map(path) == std::string(20, '.'));
}

}  // namespace
}  // namespace magma::posix
