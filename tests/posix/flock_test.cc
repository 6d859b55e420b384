// flock(2): which lock stands beside which, conversion, waiting and being interrupted, release by
// unlock, close, exit and kill; what dup and fork share. Across two mounts: mounts_locks_test.cc.
#include <csignal>

#include "tests/posix/locks.h"

namespace magma::posix {
namespace {

constexpr int kShared = LOCK_SH | LOCK_NB, kExclusive = LOCK_EX | LOCK_NB;
std::string flock_word(int operation) { return "flock " + std::to_string(operation); }

TEST_CASE("flock: shared and exclusive, of one process and of two") {
  const Scratch dir("flock");
  const auto path = dir / "file";
  make_file(path);
  const Fd one = must_open(path, O_RDONLY), two = must_open(path, O_WRONLY);
  Helper other([&](Channel& channel) { obey(channel, path); });
  REQUIRE(other.hear() == "ok");
  struct Row {
    int first, second;
    const char* wanted;
  };
  const Row table[] = {{kShared, kShared, "ok"},
                       {kShared, kExclusive, "EAGAIN"},
                       {kExclusive, kShared, "EAGAIN"},
                       {kExclusive, kExclusive, "EAGAIN"}};
  for (const auto& row : table) {
    CAPTURE(row.first);
    CAPTURE(row.second);
    CHECK(try_flock(one, row.first) == "ok");
    CHECK(try_flock(two, row.second) == row.wanted);
    CHECK(try_flock(two, LOCK_UN) == "ok");
    CHECK(other.ask(flock_word(row.second)) == row.wanted);
    CHECK(other.ask(flock_word(LOCK_UN)) == "ok");
    CHECK(try_flock(one, LOCK_UN) == "ok");
    CHECK(other.ask(flock_word(row.second)) == "ok");
    CHECK(other.ask(flock_word(LOCK_UN)) == "ok");
  }
}

TEST_CASE("flock: locks are converted") {
  const Scratch dir("flock");
  const auto path = dir / "file";
  make_file(path);
  const Fd one = must_open(path, O_RDONLY), two = must_open(path, O_RDONLY);
  CHECK(try_flock(one, kExclusive) == "ok");
  CHECK(try_flock(one, kExclusive) == "ok");
  CHECK(try_flock(one, kShared) == "ok");
  CHECK(try_flock(two, kShared) == "ok");
  // A conversion that cannot be had loses what one had.
  CHECK(try_flock(one, kExclusive) == "EAGAIN");
  CHECK(try_flock(two, kExclusive) == "ok");
  CHECK(try_flock(one, LOCK_UN) == "ok");
  CHECK(try_flock(one, LOCK_UN) == "ok");
  CHECK(try_flock(two, kShared) == "ok");
  CHECK(try_flock(one, kShared) == "ok");
}

TEST_CASE("flock: errors, directories, descriptors of every kind") {
  const Scratch dir("flock");
  make_file(dir / "file");
  const Fd file = must_open(dir / "file", O_RDONLY), path = must_open(dir / "file", O_PATH);
  CHECK(try_flock(file, 0) == "EINVAL");
  CHECK(try_flock(file, LOCK_SH | LOCK_EX) == "EINVAL");
  CHECK(try_flock(file, LOCK_NB) == "EINVAL");
  CHECK(try_flock(-1, LOCK_SH) == "EBADF");
  CHECK(try_flock(path, LOCK_SH) == "EBADF");
  const Fd folder = must_open(dir.path(), O_RDONLY), again = must_open(dir.path(), O_RDONLY);
  CHECK(try_flock(folder, kExclusive) == "ok");
  CHECK(try_flock(again, kExclusive) == "EAGAIN");
  CHECK(try_flock(folder, LOCK_UN) == "ok");
  CHECK(try_flock(again, kExclusive) == "ok");
}

TEST_CASE("flock: released by the last close, by exit, by kill") {
  const Scratch dir("flock");
  const auto path = dir / "file";
  make_file(path);
  const Fd mine = must_open(path, O_RDWR);
  Fd one = must_open(path, O_RDWR);
  Fd copy(::dup(one));
  CHECK(try_flock(one, kExclusive) == "ok");
  CHECK(try_flock(copy, kExclusive) == "ok");
  CHECK(try_flock(mine, kShared) == "EAGAIN");
  one.reset();
  CHECK(try_flock(mine, kShared) == "EAGAIN");
  copy.reset();
  CHECK(try_flock(mine, kShared) == "ok");
  CHECK(try_flock(mine, LOCK_UN) == "ok");
  // Through a copy it can be unlocked for all.
  one = must_open(path, O_RDWR);
  copy = Fd(::dup(one));
  CHECK(try_flock(one, kExclusive) == "ok");
  CHECK(try_flock(copy, LOCK_UN) == "ok");
  CHECK(try_flock(mine, kExclusive) == "ok");
  CHECK(try_flock(mine, LOCK_UN) == "ok");
  for (const char* how : {"close", "exit", "kill"}) {
    CAPTURE(how);
    Helper other([&](Channel& channel) { obey(channel, path); });
    REQUIRE(other.hear() == "ok");
    CHECK(other.ask(flock_word(kExclusive)) == "ok");
    CHECK(try_flock(mine, kExclusive) == "EAGAIN");
    if (std::string(how) == "kill") {
      other.kill();
    } else {
      other.say(how);
      CHECK((std::string(how) == "close" ? other.hear() : other.end()) == "ok");
    }
    CHECK(eventually(1'000, [&] { return try_flock(mine, kExclusive) == "ok"; }));
    CHECK(try_flock(mine, LOCK_UN) == "ok");
  }
}

TEST_CASE("flock: a forked child shares the lock") {
  const Scratch dir("flock");
  const auto path = dir / "file";
  make_file(path);
  Fd held = must_open(path, O_RDWR);
  const Fd mine = must_open(path, O_RDWR);
  CHECK(try_flock(held, kExclusive) == "ok");
  Helper child([&](Channel& channel) {
    channel.say(try_flock(held, kExclusive));
    channel.hear();
  });
  CHECK(child.hear() == "ok");
  held.reset();
  CHECK(try_flock(mine, kShared) == "EAGAIN");
  child.say("end");
  CHECK(child.end() == "ok");
  CHECK(try_flock(mine, kShared) == "ok");
}

TEST_CASE("flock: waits until the lock is free, or until a signal") {
  const Scratch dir("flock");
  const auto path = dir / "file";
  make_file(path);
  const Fd mine = must_open(path, O_RDWR);
  CHECK(try_flock(mine, LOCK_EX) == "ok");
  Helper other([&](Channel& channel) { obey(channel, path); });
  REQUIRE(other.hear() == "ok");
  other.say(flock_word(LOCK_SH));
  CHECK(other.hear(150) == "");
  CHECK(try_flock(mine, LOCK_UN) == "ok");
  CHECK(other.hear() == "ok");
  CHECK(other.ask(flock_word(LOCK_UN)) == "ok");

  CHECK(try_flock(mine, LOCK_SH) == "ok");
  CHECK(other.ask("alarm 150") == "ok");
  CHECK(other.ask(flock_word(LOCK_EX)) == "EINTR");
  // It did not get it, and the next one to want it does.
  CHECK(try_flock(mine, LOCK_EX) == "ok");
  other.say(flock_word(LOCK_EX));
  CHECK(other.hear(100) == "");
  other.kill();
  CHECK(try_flock(mine, LOCK_UN) == "ok");
  const Fd third = must_open(path, O_RDWR);
  CHECK(eventually(1'000, [&] { return try_flock(third, kExclusive) == "ok"; }));
}

TEST_CASE("flock: readers that wait all get in together") {
  const Scratch dir("flock");
  const auto path = dir / "file";
  make_file(path);
  const Fd mine = must_open(path, O_RDWR);
  CHECK(try_flock(mine, LOCK_EX) == "ok");
  std::vector<std::unique_ptr<Helper>> readers;
  for (int i = 0; i < 4; ++i) {
    readers.push_back(std::make_unique<Helper>([&](Channel& channel) { obey(channel, path); }));
    REQUIRE(readers.back()->hear() == "ok");
    readers.back()->say(flock_word(LOCK_SH));
  }
  CHECK(readers[0]->hear(100) == "");
  CHECK(try_flock(mine, LOCK_UN) == "ok");
  for (auto& reader : readers) CHECK(reader->hear() == "ok");
  CHECK(try_flock(mine, kExclusive) == "EAGAIN");
}

TEST_CASE("flock: nothing to do with fcntl locks, reading, writing, unlinking") {
  const Scratch dir("flock");
  const auto path = dir / "file";
  make_file(path, "abc");
  const Fd mine = must_open(path, O_RDWR);
  CHECK(try_flock(mine, LOCK_EX) == "ok");
  const auto outcome = in_child([&] {
    const Fd fd(::open(path.c_str(), O_RDWR));
    return said({set_lock(fd, F_WRLCK, {}), try_read(fd), try_write(fd), did(::ftruncate(fd, 1)),
                 did(::rename(path.c_str(), (path + "2").c_str())),
                 did(::unlink((path + "2").c_str())), try_flock(fd, kExclusive)});
  });
  CHECK(outcome == "ok ok ok ok ok ok EAGAIN");
}

TEST_CASE("flock: four processes exclude each other") {
  const Scratch dir("flock");
  const auto path = dir / "counter";
  make_file(path, "0");
  std::vector<std::unique_ptr<Helper>> helpers;
  for (int i = 0; i < 4; ++i) {
    helpers.push_back(std::make_unique<Helper>([&](Channel& channel) {
      for (int n = 0; n < 100; ++n) {
        const Fd fd(::open(path.c_str(), O_RDWR));
        if (::flock(fd, LOCK_EX) != 0) ::_exit(1);
        const auto next = std::to_string(std::stoi(read_at(fd, 0, 20)) + 1);
        if (::ftruncate(fd, 0) != 0 || !write_at(fd, 0, next)) ::_exit(1);
      }
      channel.say("done");
    }));
  }
  for (auto& helper : helpers) CHECK(helper->hear(60'000) == "done");
  CHECK(read_all(path) == "400");
}

}  // namespace
}  // namespace magma::posix
