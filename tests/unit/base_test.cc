// libmagma/base and the one value type of libmagma/sys.
#include <doctest/doctest.h>

#include <cerrno>
#include <memory>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/base/log.h"
#include "libmagma/base/result.h"
#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/sys/address.h"

using namespace magma;

namespace {

Result<int> half(int n) {
  if (n % 2 != 0) return fail(Code::invalid, std::to_string(n));
  return n / 2;
}

Result<int> quarter(int n) {
  TRY_VALUE(int h, half(n));
  TRY_VALUE(h, half(h));
  return h;
}

Result<void> only_even(int n) {
  TRY(half(n));
  return {};
}

// Counts the objects alive; moved-from ones count too.
struct Counted {
  static inline int alive = 0;
  int value;
  explicit Counted(int v) : value(v) { ++alive; }
  Counted(const Counted& other) : value(other.value) { ++alive; }
  Counted(Counted&& other) noexcept : value(other.value) { ++alive; }
  ~Counted() { --alive; }
};

std::vector<std::string>& lines() {
  static std::vector<std::string> kept;
  return kept;
}

}  // namespace

TEST_CASE("result: TRY passes values on and errors up") {
  CHECK(quarter(12).value() == 3);
  auto error = quarter(6);
  REQUIRE_FALSE(error.has_value());
  CHECK(error.error().code == Code::invalid);
  CHECK(error.error().detail == "3");
  CHECK(only_even(2).has_value());
  CHECK_FALSE(only_even(3).has_value());
  CHECK(describe(error.error()) == "invalid argument: 3");
  CHECK(describe(Error{Code::not_found, {}}) == "no such file or directory");
}

TEST_CASE("result: the error table has unique names, numbers and every code an errno") {
  struct Row {
    Code code;
    std::string_view name;
    std::uint16_t number;
    int errno_value;
    ErrorClass error_class;
    std::string_view text;
  };
  constexpr Row kRows[] = {
#define MAGMA_ERROR(name, number, errno_value, class_name, text) \
  {Code::name, #name, number, errno_value, ErrorClass::class_name, text},
#include "libmagma/base/errors.def"
#undef MAGMA_ERROR
  };
  std::set<std::string_view> names;
  std::set<unsigned> numbers;
  for (const Row& row : kRows) {
    CHECK(names.insert(row.name).second);
    CHECK(numbers.insert(row.number).second);
    CHECK(name_of(row.code) == row.name);
    CHECK(text_of(row.code) == row.text);
    CHECK(errno_of(row.code) == row.errno_value);
    CHECK(class_of(row.code) == row.error_class);
    CHECK(is_known(row.number));
  }
  CHECK_FALSE(numbers.contains(0));  // 0 is "done" on the wire
  CHECK_FALSE(is_known(0));
  CHECK_FALSE(is_known(9999));
  const auto stranger = static_cast<Code>(9999);
  CHECK(name_of(stranger) == "unknown_error");
  CHECK(errno_of(stranger) == EIO);
  CHECK(class_of(stranger) == ErrorClass::final);
}

TEST_CASE("result: an errno becomes the code that gives it back") {
  for (int e : {ENOENT, EEXIST, ENOTDIR, EISDIR, ENOTEMPTY, EINVAL, ENAMETOOLONG, ENOSPC, EPERM,
                EACCES, EROFS, EFBIG, ENOMEM, EBUSY, EAGAIN, EINTR, ETIMEDOUT, EOPNOTSUPP})
    CHECK(errno_of(code_of_errno(e)) == e);
  CHECK(code_of_errno(EIO) == Code::io);
  CHECK(code_of_errno(12345) == Code::io);
}

TEST_CASE("bytes: writer and reader are big-endian, the reader stops at the end") {
  Bytes out;
  ByteWriter writer(out);
  writer.put<std::uint8_t>(1);
  writer.put<std::uint16_t>(0x0203);
  writer.put<std::uint32_t>(0x04050607);
  writer.put<std::uint64_t>(0x08090a0b0c0d0e0f);
  writer.put_raw(as_bytes("xy"));
  CHECK(to_hex(out) == "0102030405060708090a0b0c0d0e0f7879");
  CHECK(writer.size() == out.size());

  ByteReader reader(out);
  CHECK(reader.get<std::uint8_t>() == 1);
  CHECK(reader.get<std::uint16_t>() == 0x0203);
  CHECK(reader.get<std::uint32_t>() == 0x04050607);
  CHECK(reader.get<std::uint64_t>() == 0x08090a0b0c0d0e0f);
  CHECK(reader.left() == 2);
  CHECK_FALSE(reader.finished());
  CHECK(as_text(reader.get_raw(2)) == "xy");
  CHECK(reader.finished());
  CHECK(reader.get<std::uint8_t>() == 0);
  CHECK(reader.bad());
  CHECK_FALSE(reader.finished());
}

TEST_CASE("bytes: after a failed read nothing more is given") {
  const Bytes in = {1, 2, 3};
  ByteReader reader(in);
  CHECK(reader.get_raw(4).empty());
  CHECK(reader.bad());
  CHECK(reader.get<std::uint8_t>() == 0);
  CHECK(reader.get_raw(0).empty());
  ByteReader refused(in);
  refused.fail();
  CHECK(refused.get<std::uint8_t>() == 0);
}

TEST_CASE("bytes: hex both ways") {
  Bytes bytes;
  CHECK(from_hex("00ffAb", bytes));
  CHECK(to_hex(bytes) == "00ffab");
  CHECK(from_hex("", bytes));
  CHECK(bytes.empty());
  bytes = {9};
  for (std::string_view bad : {"0", "0g", "zz", " 00", "0x"}) CHECK_FALSE(from_hex(bad, bytes));
  CHECK(bytes == Bytes{9});  // untouched by what failed
}

TEST_CASE("unique_function: small and large callables, moved and destroyed once") {
  {
    UniqueFunction<int(int)> small = [c = Counted(5)](int n) { return c.value + n; };
    std::array<char, 200> padding{};
    padding[7] = 3;
    UniqueFunction<int(int)> large = [c = Counted(50), padding](int n) {
      return c.value + n + padding[7];
    };
    CHECK(small(1) == 6);
    CHECK(large(1) == 54);
    UniqueFunction<int(int)> moved = std::move(small);
    CHECK_FALSE(static_cast<bool>(small));
    CHECK(moved(2) == 7);
    moved = std::move(large);  // destroys the small one
    CHECK(moved(2) == 55);
    CHECK(Counted::alive == 1);
    auto& self = moved;
    moved = std::move(self);
    CHECK(moved(3) == 56);
    moved = nullptr;
    CHECK_FALSE(static_cast<bool>(moved));
    CHECK(Counted::alive == 0);
  }
  CHECK(Counted::alive == 0);
}

TEST_CASE("unique_function: carries what cannot be copied, keeps its state, takes references") {
  UniqueFunction<int()> count = [n = std::make_unique<int>(0)]() mutable { return ++*n; };
  CHECK(count() == 1);
  CHECK(count() == 2);
  UniqueFunction<void(std::unique_ptr<int>, int&)> sink = [](std::unique_ptr<int> p, int& out) {
    out = *p;
  };
  int out = 0;
  sink(std::make_unique<int>(4), out);
  CHECK(out == 4);
  CHECK_FALSE(static_cast<bool>(UniqueFunction<void()>()));
  CHECK_FALSE(static_cast<bool>(UniqueFunction<void()>(nullptr)));
}

TEST_CASE("time: arithmetic and order") {
  CHECK(seconds(1) == milliseconds(1000));
  CHECK(milliseconds(1) == microseconds(1000));
  CHECK(microseconds(1) == nanoseconds(1000));
  CHECK(seconds(3) - seconds(1) == seconds(1) * 2);
  CHECK((seconds(3) / 2).ms() == 1500);
  CHECK(milliseconds(250).seconds() == doctest::Approx(0.25));
  const Instant start{100};
  CHECK((start + seconds(1)) - start == seconds(1));
  CHECK(start - nanoseconds(100) == Instant{});
  CHECK(start < Instant::never());
  CHECK(WallTime{-1} < WallTime{});
}

TEST_CASE("strong: same value, same hash; ordered by number") {
  CHECK(Ino(3) < Ino(4));
  CHECK(Ino(3) == Ino(3));
  CHECK_FALSE(std::is_convertible_v<std::uint64_t, Ino>);
  CHECK_FALSE(std::is_convertible_v<Ino, OpId>);
  std::unordered_set<Ino> set{Ino(1), Ino(1), Ino(2)};
  CHECK(set.size() == 2);
}

TEST_CASE("log: a value is a plain word or quoted and escaped") {
  CHECK(log_value("wallace") == "wallace");
  CHECK(log_value("[::1]:12000") == "[::1]:12000");
  CHECK(log_value("") == "\"\"");
  CHECK(log_value("no such file") == "\"no such file\"");
  CHECK(log_value("a=b") == "\"a=b\"");
  CHECK(log_value("say \"x\" \\") == R"("say \"x\" \\")");
  CHECK(log_value(std::string_view("\n\r\t\0\x1b[2J\x7f\xc3\xa4", 11)) ==
        R"("\n\r\t\x00\x1b[2J\x7f\xc3\xa4")");
  CHECK(log_value(std::string(kLogValueBytesMax, 'a')).size() == kLogValueBytesMax);
  CHECK(log_value(std::string(kLogValueBytesMax + 1, 'a')) ==
        '"' + std::string(kLogValueBytesMax, 'a') + "...\"");
}

TEST_CASE("log: the form of a call is checked") {
  using log_detail::is_event;
  CHECK(is_event("stopped"));
  CHECK(is_event("ready nick={} n={:016x} path=/ errno=5"));
  for (const char* bad : {"", "Ready", "two words", "a b=", "a =c", "a b={} ", "a  b={}",
                          "a b=\"{}\"", "a b={}x", "a b={},c={}", "a b", "a\nb=1", "{}"})
    CHECK_MESSAGE(!is_event(bad), bad);
}

TEST_CASE("log: channels, sink and rate limit") {
  lines().clear();
  log_to([](LogLevel level, std::string_view line) {
    lines().push_back(std::to_string(static_cast<int>(level)) + " " + std::string(line));
  });
  log_warning("event key={}", 1);
  log_debug('q', "not_seen");
  log_enable('q', true);
  log_debug('q', "seen n={}", 2);
  log_enable('q', false);
  log_debug('q', "not_seen");
  log_to(nullptr);
  CHECK(lines() == std::vector<std::string>{"4 event key=1", "7 seen n=2"});
  CHECK_FALSE(log_enabled(static_cast<char>(200)));

  lines().clear();
  log_to([](LogLevel, std::string_view line) { lines().emplace_back(line); });
  const std::string hostile = "a\n<3>store_failed error=b";
  log_info("session_begin host={} id={:04x}", hostile, 255);
  log_to(nullptr);
  CHECK(lines() ==
        std::vector<std::string>{R"(session_begin host="a\n<3>store_failed error=b" id=00ff)"});

  RateLimit limit;
  const Instant t0{1'000'000'000'000};
  CHECK(limit.allow(t0));
  CHECK_FALSE(limit.allow(t0 + milliseconds(500)));
  CHECK_FALSE(limit.allow(t0 + milliseconds(999)));
  CHECK(limit.allow(t0 + seconds(1)));
  CHECK(limit.suppressed() == 2);
  CHECK(limit.allow(t0 + seconds(5)));
  CHECK(limit.suppressed() == 0);
}

TEST_CASE("address: parses numbers only and prints what it parsed") {
  using sys::Address;
  struct {
    std::string_view in, out;
  } good[] = {{"127.0.0.1", "127.0.0.1:12000"},
              {"10.1.2.3:99", "10.1.2.3:99"},
              {"::1", "[::1]:12000"},
              {"[::1]:65535", "[::1]:65535"},
              {"[fe80::2]", "[fe80::2]:12000"},
              {"::ffff:1.2.3.4", "1.2.3.4:12000"},
              {"[::ffff:1.2.3.4]:7", "1.2.3.4:7"},
              {"0.0.0.0", "0.0.0.0:12000"}};
  for (auto& [in, out] : good) {
    CAPTURE(in);
    auto address = Address::parse(in, 12000);
    REQUIRE(address.has_value());
    CHECK(address->text() == out);
    CHECK(Address::parse(address->text(), 1).value() == *address);
  }
  for (std::string_view bad :
       {"", "localhost", "1.2.3", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:", "1.2.3.4:x",
        "1.2.3.4:1x", "[::1", "[::1]x", "[::1]:", "1.2.3.4.5", "::g", ":12", "1.2.3.4:-1"}) {
    CAPTURE(bad);
    auto address = Address::parse(bad, 12000);
    REQUIRE_FALSE(address.has_value());
    CHECK(address.error().code == Code::invalid);
  }
}

TEST_CASE("address: kinds, equality and hash") {
  using sys::Address;
  const Address loopback = Address::v4(127, 1, 2, 3, 5);
  CHECK(loopback.is_v4());
  CHECK(loopback.is_loopback());
  CHECK_FALSE(Address::v4(128, 0, 0, 1, 5).is_loopback());
  CHECK(Address::parse("::1", 1)->is_loopback());
  CHECK_FALSE(Address::parse("::2", 1)->is_loopback());
  CHECK(Address::parse("::", 1)->is_any());
  CHECK(Address::v4(0, 0, 0, 0, 1).is_any());
  CHECK_FALSE(loopback.is_any());
  CHECK(Address::parse("127.1.2.3:5", 1).value() == loopback);
  CHECK(std::hash<Address>{}(loopback) == std::hash<Address>{}(Address::v4(127, 1, 2, 3, 5)));
  CHECK_FALSE(Address::v4(127, 1, 2, 3, 6) == loopback);
}
