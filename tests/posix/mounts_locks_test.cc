// Locks between two mounts: flock and fcntl locks taken on one keep off the other, who waits gets
// them when they are free, and they go with the close or the death of their process. See
// mounts_test.cc for what the two mounts are.
#include <csignal>

#include "tests/posix/locks.h"

namespace magma::posix {
namespace {

// A process with the file open on the second mount.
std::unique_ptr<Helper> process_there(const Scratch& dir, const char* name) {
  const auto path = dir.other(name);
  REQUIRE(eventually(1'500, [&] { return exists(path); }));
  auto helper = std::make_unique<Helper>([path](Channel& channel) { obey(channel, path); });
  REQUIRE(helper->hear() == "ok");
  return helper;
}
std::string flock_word(int operation) { return "flock " + std::to_string(operation); }
constexpr int kShared = LOCK_SH | LOCK_NB, kExclusive = LOCK_EX | LOCK_NB;

TEST_CASE("two mounts: flock excludes across them") {
  const Scratch dir("locks");
  make_file(dir / "file");
  const auto there = process_there(dir, "file");
  const Fd here = must_open(dir / "file", O_RDWR);
  CHECK(try_flock(here, kExclusive) == "ok");
  CHECK(there->ask(flock_word(kShared)) == "EAGAIN");
  CHECK(there->ask(flock_word(kExclusive)) == "EAGAIN");
  CHECK(try_flock(here, kShared) == "ok");
  CHECK(there->ask(flock_word(kShared)) == "ok");
  CHECK(there->ask(flock_word(kExclusive)) == "EAGAIN");
  CHECK(try_flock(here, LOCK_UN) == "ok");
  CHECK(there->ask(flock_word(kExclusive)) == "ok");
  CHECK(try_flock(here, kShared) == "EAGAIN");
  CHECK(there->ask(flock_word(LOCK_UN)) == "ok");
  CHECK(try_flock(here, kShared) == "ok");
}

TEST_CASE("two mounts: flock waits for the other") {
  const Scratch dir("locks");
  make_file(dir / "file");
  const auto there = process_there(dir, "file");
  const Fd here = must_open(dir / "file", O_RDWR);
  CHECK(try_flock(here, LOCK_EX) == "ok");
  there->say(flock_word(LOCK_EX));
  CHECK(there->hear(200) == "");
  CHECK(try_flock(here, LOCK_UN) == "ok");
  CHECK(there->hear() == "ok");
  // The other way round, and interrupted.
  const auto waiter = in_child([&] { return try_flock(here, kExclusive); });
  CHECK(waiter == "EAGAIN");
  CHECK(there->ask(flock_word(LOCK_UN)) == "ok");
  CHECK(try_flock(here, LOCK_SH) == "ok");
  CHECK(there->ask("alarm 200") == "ok");
  CHECK(there->ask(flock_word(LOCK_EX)) == "EINTR");
  CHECK(there->ask("?") == "here");
  CHECK(try_flock(here, LOCK_UN) == "ok");
}

TEST_CASE("two mounts: flock goes with close, exit and kill of its holder") {
  const Scratch dir("locks");
  make_file(dir / "file");
  const Fd here = must_open(dir / "file", O_RDWR);
  for (const char* how : {"close", "exit", "kill"}) {
    CAPTURE(how);
    const auto there = process_there(dir, "file");
    CHECK(there->ask(flock_word(kExclusive)) == "ok");
    CHECK(try_flock(here, kExclusive) == "EAGAIN");
    if (std::string(how) == "kill") {
      there->kill();
    } else {
      there->say(how);
      CHECK((std::string(how) == "close" ? there->hear() : there->end()) == "ok");
    }
    CHECK(eventually(2'000, [&] { return try_flock(here, kExclusive) == "ok"; }));
    CHECK(try_flock(here, LOCK_UN) == "ok");
  }
}

TEST_CASE("two mounts: fcntl locks by ranges") {
  const Scratch dir("locks");
  make_file(dir / "file", "0123456789");
  const auto there = process_there(dir, "file");
  const Fd here = must_open(dir / "file", O_RDWR);
  CHECK(set_lock(here, F_WRLCK, {0, 5}) == "ok");
  CHECK(set_lock(here, F_RDLCK, {8, 4}) == "ok");
  CHECK(lock_map(dir.other("file")) == "WWWWW...RRRR........");
  const std::pair<const char*, const char*> table[] = {
      {"R 0 1", "EAGAIN"}, {"W 4 1", "EAGAIN"}, {"W 5 3", "ok"},     {"R 8 4", "ok"},
      {"W 8 1", "EAGAIN"}, {"W 0 0", "EAGAIN"}, {"W 12 0", "ok"},    {"U 5 1", "ok"},
  };
  for (const auto& pair : table) {
    const auto& word = pair.first;
    const auto& wanted = pair.second;
    CAPTURE(word);
    CHECK(there->ask(word) == wanted);
  }
  CHECK(set_lock(here, F_WRLCK, {5, 1}) == "ok");
  CHECK(set_lock(here, F_WRLCK, {6, 1}) == "EAGAIN");
  CHECK(set_lock(here, F_WRLCK, {8, 1}) == "EAGAIN");
  CHECK(set_lock(here, F_UNLCK, {}) == "ok");
  CHECK(lock_map(dir / "file") == "......WWRRRRWWWWWWWW");
  // F_GETLK finds the lock of the other mount; its process may be of another machine.
  struct ::flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_start = 0;
  lock.l_len = 8;
  REQUIRE(did(::fcntl(here, F_GETLK, &lock)) == "ok");
  CHECK(lock.l_type == F_WRLCK);
  CHECK(lock.l_start == 6);
  CHECK(lock.l_len == 2);
}

TEST_CASE("two mounts: fcntl locks are waited for, and go with close, exit and kill") {
  const Scratch dir("locks");
  make_file(dir / "file");
  const Fd here = must_open(dir / "file", O_RDWR);
  {
    const auto there = process_there(dir, "file");
    CHECK(set_lock(here, F_WRLCK, {0, 10}) == "ok");
    there->say("w 5 10");
    CHECK(there->hear(200) == "");
    CHECK(set_lock(here, F_UNLCK, {5, 5}) == "ok");
    CHECK(there->hear() == "ok");
    CHECK(there->ask("alarm 200") == "ok");
    CHECK(there->ask("w 0 1") == "EINTR");
    CHECK(there->ask("?") == "here");
    CHECK(set_lock(here, F_UNLCK, {}) == "ok");
  }
  CHECK(eventually(2'000, [&] { return lock_map(dir / "file", 16) == std::string(16, '.'); }));
  for (const char* how : {"close", "exit", "kill"}) {
    CAPTURE(how);
    const auto there = process_there(dir, "file");
    CHECK(there->ask("W 0 5") == "ok");
    CHECK(set_lock(here, F_RDLCK, {0, 1}) == "EAGAIN");
    if (std::string(how) == "kill") {
      there->kill();
    } else {
      there->say(how);
      CHECK((std::string(how) == "close" ? there->hear() : there->end()) == "ok");
    }
    CHECK(eventually(2'000, [&] { return set_lock(here, F_RDLCK, {0, 1}) == "ok"; }));
    CHECK(set_lock(here, F_UNLCK, {}) == "ok");
  }
}

TEST_CASE("two mounts: a waiter that is killed leaves nothing behind") {
  const Scratch dir("locks");
  make_file(dir / "file");
  const Fd here = must_open(dir / "file", O_RDWR);
  for (const char* word : {"w 0 5", "flock 2"}) {
    CAPTURE(word);
    const auto there = process_there(dir, "file");
    CHECK(set_lock(here, F_WRLCK, {0, 5}) == "ok");
    CHECK(try_flock(here, LOCK_EX) == "ok");
    there->say(word);
    CHECK(there->hear(150) == "");
    there->kill();
    CHECK(set_lock(here, F_UNLCK, {}) == "ok");
    CHECK(try_flock(here, LOCK_UN) == "ok");
    const auto next = process_there(dir, "file");
    const auto got = [&](const char* what) {
      return eventually(2'000, [&] { return next->ask(what) == "ok"; });
    };
    CHECK(got("W 0 5"));
    CHECK(got("flock 6"));
  }
}

TEST_CASE("two mounts: a counter under a lock loses no step") {
  const Scratch dir("locks");
  for (const bool uses_flock : {true, false}) {
    CAPTURE(uses_flock);
    make_file(dir / "counter", "0");
    REQUIRE(eventually(1'500, [&] { return read_all(dir.other("counter")) == "0"; }));
    std::vector<std::unique_ptr<Helper>> helpers;
    for (int who = 0; who < 4; ++who) {
      helpers.push_back(std::make_unique<Helper>([&, who](Channel& channel) {
        const auto path = who % 2 == 0 ? dir / "counter" : dir.other("counter");
        const Fd fd(::open(path.c_str(), O_RDWR));
        for (int i = 0; i < 50; ++i) {
          const auto locked = uses_flock ? try_flock(fd, LOCK_EX)
                                         : try_lock(fd, F_SETLKW, F_WRLCK, {});
          if (locked != "ok") ::_exit(1);
          const auto next = std::to_string(std::stoi("0" + read_at(fd, 0, 20)) + 1);
          if (!write_at(fd, 0, next)) ::_exit(1);
          if (uses_flock) try_flock(fd, LOCK_UN);
          if (!uses_flock) set_lock(fd, F_UNLCK, {});
        }
        channel.say("done");
      }));
    }
    for (auto& helper : helpers) CHECK(helper->hear(60'000) == "done");
    CHECK(eventually(1'500, [&] { return read_all(dir / "counter") == "200"; }));
  }
}

}  // namespace
}  // namespace magma::posix
