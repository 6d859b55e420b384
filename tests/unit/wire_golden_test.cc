// Golden files pin the bytes of every message: tests/protocol/golden/<op>_{request,reply}.hex, a
// comment line with the message for people, then the hex digits. MAGMA_GOLDEN_WRITE=1 rewrites
// them; a difference in `git diff` is then a change of the protocol and must be meant.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "libmagma/wire/describe.h"
#include "libmagma/wire/flare_messages.h"
#include "tests/lib/sample_message.h"

// The makefile may pass -DMAGMA_SOURCE_DIR='"$(abs_top_srcdir)"'.
#ifndef MAGMA_SOURCE_DIR
#define MAGMA_SOURCE_DIR "."
#endif

using namespace magma;
using namespace magma::wire;

namespace {

std::filesystem::path golden_directory() {
  const char* source = std::getenv("MAGMA_SRCDIR");
  if (source == nullptr) source = std::getenv("MAGMA_SOURCE");  // dev/run-tests
  if (source == nullptr) source = MAGMA_SOURCE_DIR;
  return std::filesystem::path(source) / "tests/protocol/golden";
}

bool rewrites() { return std::getenv("MAGMA_GOLDEN_WRITE") != nullptr; }

std::set<std::string>& seen() {
  static std::set<std::string> names;
  return names;
}

std::string golden_text(const std::string& comment, ByteSpan bytes) {
  std::string text = "# " + comment + "\n";
  for (std::size_t at = 0; at < bytes.size(); at += 32)
    text += to_hex(bytes.subspan(at, std::min<std::size_t>(32, bytes.size() - at))) + "\n";
  return text;
}

std::string hex_of_file(const std::filesystem::path& path, std::string& comment) {
  std::ifstream in(path);
  std::string line, hex;
  while (std::getline(in, line)) {
    if (line.starts_with("# "))
      comment = line.substr(2);
    else
      hex += line;
  }
  return hex;
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
  const Bytes bytes = encode(message);
  const auto path = golden_directory() / (name + ".hex");
  const std::string comment = describe(name, message);
  seen().insert(path.filename().string());
  if (rewrites()) std::ofstream(path) << golden_text(comment, bytes);

  std::string said;
  const std::string hex = hex_of_file(path, said);
  CHECK_MESSAGE(std::filesystem::exists(path), "no golden file ", path.string());
  CHECK(hex == to_hex(bytes));
  CHECK(said == comment);
  Bytes stored;
  REQUIRE(from_hex(hex, stored));
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
  if (seen().empty()) return;  // only this case was asked for
  std::size_t operations = 0;
#define MAGMA_FLARE_OP(name, number, Request, Response, kind, priority) ++operations;
#include "libmagma/wire/flare_ops.def"
#undef MAGMA_FLARE_OP
  if (seen().size() != operations * 2 + 3) return;  // a filter left some out
  for (const auto& entry : std::filesystem::directory_iterator(golden_directory()))
    CHECK_MESSAGE(seen().contains(entry.path().filename().string()),
                  "left over: ", entry.path().string());
}
