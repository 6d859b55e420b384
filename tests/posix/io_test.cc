// read(2), write(2), lseek(2) and their families: ends of files, offsets, vectors, flags, wrong
// descriptors, what dup and fork share. Random operations against a model are in io_model_test.cc.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <climits>
#include <csignal>
#include <cstdint>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

TEST_CASE("read: at the end, beyond it, nothing at all") {
  const Scratch dir("read");
  for (const std::int64_t size : {0L, 1L, 4096L, 16385L, 65537L, 1'048'577L}) {
    CAPTURE(size);
    make_file(dir / "file", pattern(std::size_t(size), 1));
    const Fd fd = must_open(dir / "file", O_RDONLY);
    char buffer[16];
    CHECK(::pread(fd, buffer, 16, size) == 0);
    CHECK(::pread(fd, buffer, 16, size + 1) == 0);
    CHECK(::pread(fd, buffer, 16, size + (1L << 40)) == 0);
    CHECK(::pread(fd, buffer, 16, std::max<std::int64_t>(0, size - 1)) == std::min(size, 1L));
    CHECK(::read(fd, buffer, 0) == 0);
    CHECK(::lseek(fd, 0, SEEK_CUR) == 0);
    // One call gives all there is.
    std::string all(std::size_t(size) + 100, '\0');
    CHECK(::read(fd, all.data(), all.size()) == size);
    CHECK(::lseek(fd, 0, SEEK_CUR) == size);
    CHECK(::read(fd, buffer, 1) == 0);
    all.resize(std::size_t(size));
    CHECK(difference(all, pattern(std::size_t(size), 1)) == "");
  }
}

TEST_CASE("write: one call takes everything, up to many megabytes") {
  const Scratch dir("write");
  const Fd fd = must_open(dir / "file", O_RDWR | O_CREAT);
  std::int64_t offset = 0;
  for (const std::size_t size : {1UL, 4095UL, 4097UL, 131'072UL, 131'073UL, 1'000'000UL,
                                 8'388'608UL}) {
    CAPTURE(size);
    const auto bytes = pattern(size, std::uint32_t(size));
    CHECK(::write(fd, bytes.data(), size) == ssize_t(size));
    CHECK(difference(read_at(fd, offset, size + 1), bytes) == "");
    offset += std::int64_t(size);
    CHECK(::lseek(fd, 0, SEEK_CUR) == offset);
    CHECK(info(fd).st_size == offset);
  }
}

TEST_CASE("write: beyond the end leaves zeros") {
  const Scratch dir("write");
  for (const std::int64_t start : {0L, 1L, 4095L, 16'384L, 65'536L}) {
    for (const std::int64_t gap : {1L, 4096L, 60'000L, 1'000'000L}) {
      CAPTURE(start);
      CAPTURE(gap);
      make_file(dir / "file", pattern(std::size_t(start), 2));
      const Fd fd = must_open(dir / "file", O_RDWR);
      CHECK(::lseek(fd, start + gap, SEEK_SET) == start + gap);
      CHECK(info(fd).st_size == start);
      REQUIRE(::write(fd, "x", 1) == 1);
      CHECK(difference(read_all(dir / "file"), pattern(std::size_t(start), 2) +
                                                   std::string(std::size_t(gap), '\0') + "x") ==
            "");
    }
  }
}

TEST_CASE("write: times and size of the file, and nothing of the directory") {
  const Scratch dir("write");
  make_file(dir / "file", "0123456789");
  const Fd fd = must_open(dir / "file", O_RDWR);
  for (const char* what : {"inside", "growing", "nothing"}) {
    CAPTURE(what);
    Watch watch({dir / "file", dir.path()});
    const std::string word = what;
    CHECK(::pwrite(fd, "abc", word == "nothing" ? 0 : 3, word == "inside" ? 2 : 20) >= 0);
    CHECK(watch.moved() == (word == "nothing" ? "= =" : "mc ="));
    CHECK(info(fd).st_size == (word == "inside" ? 10 : 23));
  }
}

TEST_CASE("lseek: every whence, errors") {
  const Scratch dir("lseek");
  make_file(dir / "file", "0123456789");
  const Fd fd = must_open(dir / "file", O_RDWR);
  CHECK(::lseek(fd, 4, SEEK_SET) == 4);
  CHECK(::lseek(fd, 3, SEEK_CUR) == 7);
  CHECK(::lseek(fd, -7, SEEK_CUR) == 0);
  CHECK(::lseek(fd, -1, SEEK_END) == 9);
  CHECK(::lseek(fd, 5, SEEK_END) == 15);
  CHECK(did(::lseek(fd, -1, SEEK_SET)) == "EINVAL");
  CHECK(did(::lseek(fd, -16, SEEK_CUR)) == "EINVAL");
  CHECK(did(::lseek(fd, -11, SEEK_END)) == "EINVAL");
  CHECK(did(::lseek(fd, 0, 77)) == "EINVAL");
  CHECK(::lseek(fd, 0, SEEK_CUR) == 15);
  // ext4 does not even seek beyond its largest file; FUSE leaves the kernel no say in that.
  const auto far = ::lseek(fd, INT64_MAX, SEEK_SET);
  CHECK((far == INT64_MAX || did(far) == "EINVAL"));
  CHECK(did(::lseek(-1, 0, SEEK_SET)) == "EBADF");
  // The end is that of now, also when another descriptor moved it.
  REQUIRE(did(::truncate((dir / "file").c_str(), 3)) == "ok");
  CHECK(::lseek(fd, 0, SEEK_END) == 3);
  const Fd other = must_open(dir / "file", O_WRONLY);
  REQUIRE(write_at(other, 99, "x"));
  CHECK(::lseek(fd, 0, SEEK_END) == 100);
}

TEST_CASE("read and write: errors of descriptors, offsets, buffers") {
  const Scratch dir("io");
  make_file(dir / "file", "0123456789");
  const Fd reader = must_open(dir / "file", O_RDONLY), writer = must_open(dir / "file", O_WRONLY);
  const Fd folder = must_open(dir.path(), O_RDONLY), both = must_open(dir / "file", O_RDWR);
  char buffer[16] = {};
  CHECK(did(::read(writer, buffer, 1)) == "EBADF");
  CHECK(did(::pread(writer, buffer, 1, 0)) == "EBADF");
  CHECK(did(::write(reader, buffer, 1)) == "EBADF");
  CHECK(did(::pwrite(reader, buffer, 1, 0)) == "EBADF");
  CHECK(did(::read(folder, buffer, 1)) == "EISDIR");
  CHECK(did(::pread(folder, buffer, 1, 0)) == "EISDIR");
  CHECK(did(::write(folder, buffer, 1)) == "EBADF");
  CHECK(did(::pread(both, buffer, 1, -1)) == "EINVAL");
  CHECK(did(::pwrite(both, buffer, 1, -1)) == "EINVAL");
  CHECK(did(::pwrite(both, buffer, 2, INT64_MAX)) == "EINVAL");
  CHECK(did(::pwrite(both, buffer, 1, INT64_MAX - 1)) == "EFBIG");
  CHECK(did(::pread(both, buffer, 1, INT64_MAX - 1)) == "ok");
  CHECK(info(both).st_size == 10);
  const int closed = must_open(dir / "file", O_RDWR).release();
  ::close(closed);
  for (const int fd : {-1, closed}) {
    CHECK(did(::read(fd, buffer, 1)) == "EBADF");
    CHECK(did(::write(fd, buffer, 1)) == "EBADF");
    CHECK(did(::pread(fd, buffer, 1, 0)) == "EBADF");
    CHECK(did(::pwrite(fd, buffer, 1, 0)) == "EBADF");
    CHECK(did(::lseek(fd, 0, SEEK_CUR)) == "EBADF");
    CHECK(did(::close(fd)) == "EBADF");
    CHECK(did(::dup(fd)) == "EBADF");
    CHECK(did(::fcntl(fd, F_GETFL)) == "EBADF");
  }
  // How much can be read is asked for by some programs.
  int left = 0;
  CHECK(::lseek(both, 4, SEEK_SET) == 4);
  CHECK(did(::ioctl(both, FIONREAD, &left)) == "ok");
  CHECK(left == 6);
}

TEST_CASE("readv and writev: pieces, empty ones, too many") {
  const Scratch dir("vector");
  const Fd fd = must_open(dir / "file", O_RDWR | O_CREAT);
  std::string wanted;
  std::vector<std::string> pieces;
  for (std::size_t i = 0; i < IOV_MAX; ++i) {
    pieces.push_back(pattern(i * 7 % 300, std::uint32_t(i)));
    wanted += pieces.back();
  }
  std::vector<iovec> vector;
  for (auto& piece : pieces) vector.push_back({piece.data(), piece.size()});
  CHECK(::writev(fd, vector.data(), IOV_MAX) == ssize_t(wanted.size()));
  CHECK(difference(read_all(dir / "file"), wanted) == "");
  for (auto& piece : pieces) piece.assign(piece.size(), '\0');
  CHECK(::preadv(fd, vector.data(), IOV_MAX, 0) == ssize_t(wanted.size()));
  std::string got;
  for (const auto& piece : pieces) got += piece;
  CHECK(difference(got, wanted) == "");
  CHECK(::pwritev(fd, vector.data(), 3, 100) == 0 + 7 + 14);
  CHECK(::lseek(fd, 0, SEEK_CUR) == off_t(wanted.size()));
  vector.push_back(vector.back());
  CHECK(did(::writev(fd, vector.data(), IOV_MAX + 1)) == "EINVAL");
  CHECK(::writev(fd, vector.data(), 0) == 0);
  CHECK(did(::preadv(fd, vector.data(), 1, -1)) == "EINVAL");
}

TEST_CASE("preadv2 and pwritev2: flags") {
  const Scratch dir("vector");
  const Fd fd = must_open(dir / "file", O_RDWR | O_CREAT);
  char bytes[] = "0123456789";
  const iovec piece{bytes, 10};
  for (const int flags : {0, RWF_DSYNC, RWF_SYNC, RWF_HIPRI, RWF_APPEND | RWF_DSYNC}) {
    CAPTURE(flags);
    REQUIRE(did(::ftruncate(fd, 0)) == "ok");
    CHECK(::pwritev2(fd, &piece, 1, 0, flags) == 10);
    CHECK(read_all(dir / "file") == "0123456789");
  }
  // An offset of -1 means the current one, which moves.
  CHECK(::lseek(fd, 5, SEEK_SET) == 5);
  CHECK(::pwritev2(fd, &piece, 1, -1, 0) == 10);
  CHECK(::lseek(fd, 0, SEEK_CUR) == 15);
  const auto at_once = ::preadv2(fd, &piece, 1, 0, RWF_NOWAIT);
  if (at_once < 0) {
    const auto word = did(at_once);
    CHECK((word == "EAGAIN" || word == "EOPNOTSUPP"));
  } else {
    CHECK(at_once == 10);
    CHECK(std::string(bytes, 10) == "0123401234");
  }
  CHECK(did(::preadv2(fd, &piece, 1, 0, 0x40000000)) == "EOPNOTSUPP");
}

TEST_CASE("read and write: dup and fork share the offset, open does not") {
  const Scratch dir("offset");
  make_file(dir / "file", "0123456789");
  const Fd one = must_open(dir / "file", O_RDWR), another = must_open(dir / "file", O_RDWR);
  const Fd copy(::dup(one));
  char byte = 0;
  REQUIRE(::read(one, &byte, 1) == 1);
  REQUIRE(::read(copy, &byte, 1) == 1);
  CHECK(byte == '1');
  CHECK(in_child([&] { return did(::read(one, &byte, 1)); }) == "ok");
  REQUIRE(::read(copy, &byte, 1) == 1);
  CHECK(byte == '3');
  REQUIRE(::read(another, &byte, 1) == 1);
  CHECK(byte == '0');
  CHECK(in_child([&] { return did(::write(one, "ab", 2)); }) == "ok");
  CHECK(::lseek(copy, 0, SEEK_CUR) == 6);
  CHECK(read_all(dir / "file") == "0123ab6789");
}

TEST_CASE("read and write: every byte written is seen at once by every descriptor and process") {
  const Scratch dir("io");
  const auto path = dir / "file";
  const Fd writer = must_open(path, O_WRONLY | O_CREAT), reader = must_open(path, O_RDONLY);
  Helper other([&](Channel& channel) {
    const Fd fd(::open(path.c_str(), O_RDONLY));
    for (;;) {
      const auto word = channel.hear();
      if (word.empty()) break;
      const auto offset = std::stoll(word);
      channel.say(read_at(fd, offset, 3));
    }
  });
  for (int i = 0; i < 60; ++i) {
    const std::int64_t offset = i * 1'777;
    const auto bytes = pattern(3, std::uint32_t(i));
    REQUIRE(write_at(writer, offset, bytes));
    REQUIRE(read_at(reader, offset, 3) == bytes);
    REQUIRE(other.ask(std::to_string(offset)) == bytes);
    REQUIRE(info(path).st_size == offset + 3);
  }
}

TEST_CASE("sendfile and splice between files of the mount") {
  const Scratch dir("sendfile");
  const auto bytes = pattern(300'000, 7);
  make_file(dir / "from", bytes);
  const Fd from = must_open(dir / "from", O_RDONLY), to = must_open(dir / "to", O_RDWR | O_CREAT);
  std::size_t have = 0;
  while (have < bytes.size()) {
    const auto put = ::sendfile(to, from, nullptr, bytes.size() - have);
    REQUIRE(put > 0);
    have += std::size_t(put);
  }
  CHECK(difference(read_all(dir / "to"), bytes) == "");
  int pipes[2];
  REQUIRE(::pipe2(pipes, O_CLOEXEC) == 0);
  const Fd out(pipes[0]), in(pipes[1]);
  loff_t offset = 12'345, target = 50;
  REQUIRE(::splice(from, &offset, in, nullptr, 4'000, 0) == 4'000);
  REQUIRE(::splice(out, nullptr, to, &target, 4'000, 0) == 4'000);
  auto wanted = bytes;
  wanted.replace(50, 4'000, bytes.substr(12'345, 4'000));
  CHECK(difference(read_all(dir / "to"), wanted) == "");
}

TEST_CASE("write: an interval timer does not cut writes short") {
  const Scratch dir("signals");
  const auto outcome = in_child([&] {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    ::sigaction(SIGALRM, &action, nullptr);
    const itimerval often{.it_interval = {0, 1'000}, .it_value = {0, 1'000}};
    ::setitimer(ITIMER_REAL, &often, nullptr);
    const Fd fd(::open((dir / "file").c_str(), O_RDWR | O_CREAT, 0644));
    const auto bytes = pattern(200'000, 3);
    std::string odd;
    for (int i = 0; i < 20; ++i) {
      const auto put = ::pwrite(fd, bytes.data(), bytes.size(), i * 100'000);
      if (put != ssize_t(bytes.size())) odd += " write " + std::to_string(put) + did(put);
    }
    if (read_at(fd, 1'900'000, 200'001) != bytes) odd += " other bytes";
    return "ok" + odd;
  });
  CHECK(outcome == "ok");
}

}  // namespace
}  // namespace magma::posix
