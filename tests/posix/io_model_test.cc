// Random operations on one file and on a string that is its model: writes, reads, truncates, holes,
// mappings, copies, reopening, with offsets and sizes drawn near the borders where a file changes
// its way of being stored. A failure prints the seed; MAGMA_POSIX_SEED repeats it.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>

#include "tests/posix/harness.h"

namespace magma::posix {
namespace {

// The file from `base` on; below base it is a hole.
class ModelledFile {
 public:
  ModelledFile(std::string path, std::int64_t base, std::int64_t size_max, std::uint32_t seed)
      : path_(std::move(path)), base_(base), size_max_(size_max), random_(seed) {
    for (const std::int64_t border : {0L, 4096L, 16384L, 65536L, 131072L, 1'048'576L}) {
      if (border <= size_max) borders_.push_back(border);
    }
    fd_ = must_open(path_, O_RDWR | O_CREAT | O_TRUNC);
    if (base_ > 0) REQUIRE(::ftruncate(fd_, base_) == 0);
  }

  void step() {
    struct Step {
      int weight;
      const char* name;
      void (ModelledFile::*call)();
    };
    static const Step steps[] = {
        {30, "write", &ModelledFile::write},        {25, "read", &ModelledFile::read},
        {5, "writev", &ModelledFile::write_vector}, {8, "truncate", &ModelledFile::truncate},
        {5, "append", &ModelledFile::append},       {5, "punch", &ModelledFile::punch},
        {4, "zero", &ModelledFile::zero_range},     {3, "allocate", &ModelledFile::allocate},
        {6, "map", &ModelledFile::map_write},       {4, "copy", &ModelledFile::copy},
        {4, "reopen", &ModelledFile::reopen},       {1, "sync", &ModelledFile::sync},
    };
    int dice = number(0, 99);
    for (const auto& each : steps) {
      dice -= each.weight;
      if (dice >= 0) continue;
      history_ += std::string(" ") + each.name;
      (this->*each.call)();
      break;
    }
    INFO("after", history_);
    REQUIRE(info(fd_).st_size == base_ + size());
  }

  void check_all() {
    INFO("after", history_);
    REQUIRE(difference(read_at(fd_, base_, model_.size() + 10), model_) == "");
  }

 private:
  std::int64_t size() const { return std::int64_t(model_.size()); }
  int number(int from, int to) {
    return int(std::uint32_t(from) + random_() % std::uint32_t(to - from + 1));
  }
  // Near a border mostly, else anywhere.
  std::int64_t offset() {
    if (number(0, 3) == 0) return number(0, int(size_max_));
    const auto border = borders_[random_() % borders_.size()];
    return std::clamp<std::int64_t>(border + number(-3, 3), 0, size_max_);
  }
  std::int64_t length(std::int64_t from) {
    const auto room = size_max_ - from;
    if (number(0, 2) == 0) return std::clamp<std::int64_t>(offset() - from, 0, room);
    return std::min<std::int64_t>(room, number(0, number(0, 3) == 0 ? 100'000 : 5'000));
  }
  std::string bytes(std::int64_t count) {
    return pattern(std::size_t(count), std::uint32_t(random_()));
  }
  void grow(std::int64_t to) {
    if (size() < to) model_.resize(std::size_t(to), '\0');
  }
  void put(std::int64_t at, const std::string& with) {
    if (with.empty()) return;
    grow(at + std::int64_t(with.size()));
    model_.replace(std::size_t(at), with.size(), with);
  }
  void clear(std::int64_t from, std::int64_t to) {
    to = std::min(to, size());
    for (auto i = from; i < to; ++i) model_[std::size_t(i)] = '\0';
  }
  void note(std::int64_t a, std::int64_t b) {
    history_ += " " + std::to_string(a) + "," + std::to_string(b);
  }

  void write() {
    const auto at = offset(), count = length(at);
    note(at, count);
    const auto with = bytes(count);
    REQUIRE(::pwrite(fd_, with.data(), with.size(), base_ + at) == count);
    put(at, with);
  }
  void write_vector() {
    const auto at = offset(), count = length(at);
    note(at, count);
    auto with = bytes(count);
    const auto cut = with.empty() ? 0 : random_() % with.size();
    const iovec pieces[2] = {{with.data(), cut}, {with.data() + cut, with.size() - cut}};
    REQUIRE(::pwritev(fd_, pieces, 2, base_ + at) == count);
    put(at, with);
  }
  void read() {
    const auto at = offset(), count = length(at);
    note(at, count);
    const auto got = read_at(fd_, base_ + at, std::size_t(count));
    const auto wanted = at >= size() ? "" : model_.substr(std::size_t(at), std::size_t(count));
    INFO("after", history_);
    REQUIRE(difference(got, wanted) == "");
  }
  void truncate() {
    const auto to = offset();
    note(to, 0);
    REQUIRE(::ftruncate(fd_, base_ + to) == 0);
    model_.resize(std::size_t(to), '\0');
  }
  void append() {
    const auto room = std::max<std::int64_t>(0, size_max_ - size());
    const auto with = bytes(std::min<std::int64_t>(room, number(0, 9'000)));
    note(size(), std::int64_t(with.size()));
    const Fd fd = must_open(path_, O_WRONLY | O_APPEND);
    REQUIRE(::write(fd, with.data(), with.size()) == ssize_t(with.size()));
    put(size(), with);
  }
  void allocating(int mode, std::int64_t at, std::int64_t count) {
    const auto word = did(::fallocate(fd_, mode, base_ + at, count));
    INFO("after", history_);
    REQUIRE(word == "ok");
  }
  void punch() {
    const auto at = offset(), count = length(at) + 1;
    note(at, count);
    allocating(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, count);
    clear(at, at + count);
  }
  void zero_range() {
    const auto at = offset(), count = length(at) + 1;
    note(at, count);
    const bool keeps_size = number(0, 1) == 0;
    allocating(FALLOC_FL_ZERO_RANGE | (keeps_size ? FALLOC_FL_KEEP_SIZE : 0), at, count);
    if (!keeps_size) grow(at + count);
    clear(at, at + count);
  }
  void allocate() {
    const auto at = offset(), count = length(at) + 1;
    note(at, count);
    const bool keeps_size = number(0, 1) == 0;
    allocating(keeps_size ? FALLOC_FL_KEEP_SIZE : 0, at, count);
    if (!keeps_size) grow(at + count);
  }
  void map_write() {
    if (size() == 0) return;
    const std::int64_t at = std::int64_t(random_() % model_.size()) / 4096 * 4096;
    const auto count = std::min<std::int64_t>(size() - at, number(1, 20'000));
    note(at, count);
    auto* memory = static_cast<char*>(::mmap(nullptr, std::size_t(count), PROT_READ | PROT_WRITE,
                                             MAP_SHARED, fd_, base_ + at));
    REQUIRE(memory != MAP_FAILED);
    INFO("after", history_);
    REQUIRE(difference(std::string_view(memory, std::size_t(count)),
                       model_.substr(std::size_t(at), std::size_t(count))) == "");
    const auto with = bytes(count);
    std::memcpy(memory, with.data(), with.size());
    REQUIRE(::msync(memory, std::size_t(count), MS_SYNC) == 0);
    REQUIRE(::munmap(memory, std::size_t(count)) == 0);
    put(at, with);
  }
  void copy() {
    auto from = offset(), to = offset();
    const auto count = std::min({length(from), length(to), size() - from, std::abs(from - to)});
    if (count <= 0) return;
    note(from, to);
    note(count, 0);
    const auto with = model_.substr(std::size_t(from), std::size_t(count));
    put(to, with);
    loff_t in = base_ + from, out = base_ + to;
    for (auto left = count; left > 0;) {
      const auto done = ::copy_file_range(fd_, &in, fd_, &out, std::size_t(left), 0);
      REQUIRE(done > 0);
      left -= done;
    }
  }
  void reopen() {
    fd_ = must_open(path_, O_RDWR);
    check_all();
  }
  void sync() { REQUIRE(did(number(0, 1) == 0 ? ::fsync(fd_) : ::fdatasync(fd_)) == "ok"); }

  std::string path_, model_, history_;
  std::int64_t base_, size_max_;
  std::minstd_rand random_;
  std::vector<std::int64_t> borders_;
  Fd fd_;
};

void run(const char* name, std::int64_t base, std::int64_t size_max, int rounds, int steps) {
  const char* given = std::getenv("MAGMA_POSIX_SEED");
  for (int round = 0; round < (given != nullptr ? 1 : rounds); ++round) {
    const auto seed = given != nullptr ? std::uint32_t(std::strtoul(given, nullptr, 10))
                                       : std::uint32_t(std::random_device()()) | 1;
    CAPTURE(name);
    CAPTURE(seed);
    const Scratch dir("model");
    ModelledFile file(dir / "file", base, size_max, seed);
    for (int i = 0; i < steps; ++i) file.step();
    file.check_all();
  }
}

TEST_CASE("random operations on a small file against a model") { run("small", 0, 70'000, 20, 120); }

TEST_CASE("random operations on a file of a megabyte against a model") {
  run("megabyte", 0, 1'100'000, 6, 200);
}

TEST_CASE("random operations around the border of 64 MiB against a model") {
  run("border", 64 * kMiB - 131'072, 400'000, 4, 150);
}

}  // namespace
}  // namespace magma::posix
