// The bytes of every message: tests/protocol/golden/<op>_{request,reply}.hex (golden_file.h).
#include <doctest/doctest.h>

#include <string>

#include "libmagma/wire/describe.h"
#include "libmagma/wire/flare_messages.h"
#include "tests/lib/golden_file.h"
#include "tests/lib/sample_message.h"

using namespace magma;
using namespace magma::wire;

namespace {

test::GoldenFolder& golden() {
  static test::GoldenFolder folder("golden");
  return folder;
}

template <class T>
void check_cut_and_extended(const Bytes& bytes) {
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    auto cut = decode<T>(ByteSpan(bytes).first(length));
    REQUIRE_FALSE(cut.has_value());
    CHECK(cut.error().code == Code::malformed);
  }
  Bytes longer = bytes;
  longer.push_back(0);
  CHECK_FALSE(decode<T>(longer).has_value());
  auto front = decode_front<T>(longer);
  REQUIRE(front.has_value());
  CHECK(front->second.size() == 1);
}

template <class T>
void check_golden(const std::string& name) {
  CAPTURE(name);
  const T message = test::sample<T>();
  const std::string comment = describe(name, message);
  const Bytes stored = golden().check(name, comment, encode(message));
  auto decoded = decode<T>(stored);
  REQUIRE(decoded.has_value());
  CHECK(encode(*decoded) == stored);
  CHECK(describe(name, *decoded) == comment);
  check_cut_and_extended<T>(stored);
}

}  // namespace

TEST_CASE("golden: heads and the reply of moved content") {
  check_golden<RequestHead>("request_head");
  check_golden<ResponseHead>("response_head");
  check_golden<MovedReply>("moved_reply");
}

#define MAGMA_FLARE_OP(name, number, Request, Response, kind, priority) \
  TEST_CASE("golden: " #name) {                                         \
    check_golden<Request>(#name "_request");                            \
    check_golden<Response>(#name "_reply");                             \
  }
#include "libmagma/wire/flare_ops.def"
#undef MAGMA_FLARE_OP

TEST_CASE("golden: no file without a message") {
  if (golden().checked() == 0) return;  // only this case was asked for
  std::size_t operations = 0;
#define MAGMA_FLARE_OP(name, number, Request, Response, kind, priority) ++operations;
#include "libmagma/wire/flare_ops.def"
#undef MAGMA_FLARE_OP
  if (golden().checked() != operations * 2 + 3) return;  // a filter left some out
  golden().check_nothing_left();
}
