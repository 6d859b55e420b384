#include <doctest/doctest.h>

#include <limits>
#include <set>

#include "libmagma/wire/describe.h"
#include "libmagma/wire/flare_messages.h"
#include "tests/lib/sample_message.h"

using namespace magma;
using namespace magma::wire;

namespace {

enum class Colour : std::uint16_t { red = 1, green = 0x1234 };

struct Inner {
  std::uint8_t a = 0;
  std::string text{};
  friend bool operator==(const Inner&, const Inner&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("a", s.a);
    v("text", s.text);
  }
};

struct Everything {
  bool flag = false;
  Colour colour{};
  std::uint16_t u16 = 0;
  std::int32_t i32 = 0;
  std::uint64_t u64 = 0;
  Ino ino;
  WallTime when;
  std::string text{};
  Bytes raw{};
  std::array<std::uint8_t, 3> three{};
  ring::Key key;
  std::vector<Inner> list{};
  std::optional<std::uint32_t> maybe{};
  friend bool operator==(const Everything&, const Everything&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("flag", s.flag);
    v("colour", s.colour);
    v("u16", s.u16);
    v("i32", s.i32);
    v("u64", s.u64);
    v("ino", s.ino);
    v("when", s.when);
    v("text", s.text);
    v("raw", s.raw);
    v("three", s.three);
    v("key", s.key);
    v("list", s.list);
    v("maybe", s.maybe);
  }
};

struct Numbers {
  std::vector<std::uint64_t> list{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("list", s.list);
  }
};

Bytes hex(std::string_view text) {
  Bytes bytes;
  REQUIRE(from_hex(text, bytes));
  return bytes;
}

}  // namespace

TEST_CASE("codec: each kind of field has the bytes the head of codec.h says") {
  Everything m;
  m.flag = true;
  m.colour = Colour::green;
  m.u16 = 0xabcd;
  m.i32 = -2;
  m.u64 = 0x0102030405060708;
  m.ino = Ino(9);
  m.when = WallTime{-1};
  m.text = "hi";
  m.raw = {0xff};
  m.three = {1, 2, 3};
  m.key.bytes[0] = 0x42;
  m.list = {{7, "x"}, {8, ""}};
  m.maybe = 5;
  const std::string expected =
      "01"
      "1234"
      "abcd"
      "fffffffe"
      "0102030405060708"
      "0000000000000009"
      "ffffffffffffffff"
      "000000026869"
      "00000001ff"
      "010203"
      "4200000000000000000000000000000000000000"
      "00000002"
      "07"
      "0000000178"
      "08"
      "00000000"
      "01"
      "00000005";
  CHECK(to_hex(encode(m)) == expected);
  auto back = decode<Everything>(encode(m));
  REQUIRE(back.has_value());
  CHECK(*back == m);
}

TEST_CASE("codec: extreme numbers come back") {
  for (std::int32_t n : {std::numeric_limits<std::int32_t>::min(), -1, 0,
                         std::numeric_limits<std::int32_t>::max()}) {
    Everything m;
    m.i32 = n;
    m.when = WallTime{std::numeric_limits<std::int64_t>::min()};
    m.u64 = std::numeric_limits<std::uint64_t>::max();
    auto back = decode<Everything>(encode(m));
    REQUIRE(back.has_value());
    CHECK(*back == m);
  }
}

TEST_CASE("codec: a bool or an optional that is neither 0 nor 1 is malformed") {
  CHECK(decode<GetattrRequest>(hex("000000000000000100")).has_value());
  // OpenRequest: ino, for_write, truncate, content_unless
  CHECK(decode<OpenRequest>(hex("0000000000000001"
                                "01"
                                "00"
                                "00"))
            .has_value());
  CHECK_FALSE(decode<OpenRequest>(hex("0000000000000001"
                                      "02"
                                      "00"
                                      "00"))
                  .has_value());
  // Placement: in_chunks, key, truncate_number, mark
  CHECK(decode<Placement>(hex("00"
                              "00"
                              "0000000000000000"
                              "0000000000000000"))
            .has_value());
  CHECK_FALSE(decode<Placement>(hex("00"
                                    "02"
                                    "0000000000000000"
                                    "0000000000000000"))
                  .has_value());
}

TEST_CASE("codec: lengths that promise more than there is are malformed and allocate nothing") {
  CHECK_FALSE(decode<ReadlinkReply>(hex("ffffffff")).has_value());
  CHECK_FALSE(decode<ReadlinkReply>(hex("00000002"
                                        "41"))
                  .has_value());
  CHECK_FALSE(decode<Numbers>(hex("ffffffff")).has_value());
  CHECK_FALSE(decode<Numbers>(hex("00000002"
                                  "0000000000000001"))
                  .has_value());
  auto two =
      decode<Numbers>(hex("00000002"
                          "0000000000000001"
                          "0000000000000002"));
  REQUIRE(two.has_value());
  CHECK(two->list == std::vector<std::uint64_t>{1, 2});
}

TEST_CASE("codec: decode_front leaves what follows, as for the bytes of a write") {
  Bytes message = encode(test::sample<WriteRequest>());
  std::size_t size = message.size();
  for (char c : std::string_view("payload")) message.push_back(static_cast<std::uint8_t>(c));
  auto front = decode_front<WriteRequest>(message);
  REQUIRE(front.has_value());
  CHECK(as_text(front->second) == "payload");
  CHECK(encode(front->first).size() == size);
}

TEST_CASE("codec: an empty message takes no bytes") {
  CHECK(encode(EmptyReply{}).empty());
  CHECK(decode<EmptyReply>({}).has_value());
  CHECK_FALSE(decode<EmptyReply>(hex("00")).has_value());
}

TEST_CASE("describe: one line, values as people read them") {
  MkdirRequest request;
  request.dir = Ino(7);
  request.name = "a\"\\\n\xff";
  request.mode = 0755;
  CHECK(describe("mkdir", request) ==
        "mkdir{dir=7, name=\"a\\\"\\\\\\x0a\\xff\", mode=0755, umask=0, "
        "key=0000000000000000000000000000000000000000}");
  EntryReply reply;
  CHECK(describe("reply", reply) == "reply{ino=0, type=0, key=-, attr=-}");
  CHECK(describe("x", EmptyReply{}) == "x{}");
  Numbers numbers{{1, 2}};
  CHECK(describe("n", numbers) == "n{list=[1, 2]}");
  numbers.list.assign(1000, 5);
  CHECK(describe("n", numbers).size() < 100);
  Inner inner{1, std::string(1000, 'x')};
  CHECK(describe("i", inner).size() < 100);
}

TEST_CASE("operations: names, kinds and numbers of the table agree") {
  std::set<std::uint16_t> numbers;
  unsigned known = 0;
  for (unsigned n = 0; n < 1024; ++n) {
    auto number = static_cast<std::uint16_t>(n);
    if (!is_known_op(number)) continue;
    ++known;
    CHECK(name_of(static_cast<FlareOp>(number)) != "?");
    CHECK(priority_of(static_cast<FlareOp>(number)) >= 1);
  }
#define MAGMA_FLARE_OP(name, number, Request, Response, kind, priority) \
  CHECK(numbers.insert(number).second);                                 \
  CHECK(name_of(FlareOp::name) == #name);                               \
  CHECK(kind_of(FlareOp::name) == OpKind::kind);                        \
  CHECK(OpOf<Request>::op == FlareOp::name);                            \
  CHECK(std::is_same_v<OpOf<Request>::Reply, Response>);
#include "libmagma/wire/flare_ops.def"
#undef MAGMA_FLARE_OP
  CHECK(known == numbers.size());
  CHECK(name_of(static_cast<FlareOp>(0)) == "?");
  CHECK_FALSE(is_known_op(0xffff));
}
