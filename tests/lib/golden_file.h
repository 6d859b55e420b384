// Golden files pin the bytes of what is encoded: FOLDER/NAME.hex below tests/protocol, a comment
// line for people, then the hex digits. MAGMA_GOLDEN_WRITE=1 rewrites them; a difference in `git
// diff` is then a change of the protocol and must be meant.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "libmagma/base/bytes.h"

// The makefile may pass -DMAGMA_SOURCE_DIR='"$(abs_top_srcdir)"'.
#ifndef MAGMA_SOURCE_DIR
#define MAGMA_SOURCE_DIR "."
#endif

namespace magma::test {

class GoldenFolder {
 public:
  explicit GoldenFolder(std::string name) : name_(std::move(name)) {}

  std::filesystem::path path() const {
    const char* source = std::getenv("MAGMA_SRCDIR");
    if (source == nullptr) source = std::getenv("MAGMA_SOURCE");  // dev/run-tests
    if (source == nullptr) source = MAGMA_SOURCE_DIR;
    return std::filesystem::path(source) / "tests/protocol" / name_;
  }
  // That the file says these bytes; what it says, for decoding.
  Bytes check(const std::string& name, const std::string& comment, ByteSpan bytes) {
    const auto file = path() / (name + ".hex");
    seen_.insert(file.filename().string());
    if (std::getenv("MAGMA_GOLDEN_WRITE") != nullptr) {
      std::filesystem::create_directories(path());
      std::ofstream(file) << text_of(comment, bytes);
    }
    std::ifstream in(file);
    CHECK_MESSAGE(in.is_open(), "no golden file ", file.string());
    std::string line, hex, said;
    while (std::getline(in, line)) {
      if (line.starts_with("# "))
        said = line.substr(2);
      else
        hex += line;
    }
    CHECK(hex == to_hex(bytes));
    CHECK(said == comment);
    Bytes stored;
    REQUIRE(from_hex(hex, stored));
    return stored;
  }
  std::size_t checked() const { return seen_.size(); }
  // That every file of the folder was checked. Requires: all cases ran.
  void check_nothing_left() const {
    for (const auto& entry : std::filesystem::directory_iterator(path()))
      CHECK_MESSAGE(seen_.contains(entry.path().filename().string()),
                    "left over: ", entry.path().string());
  }

 private:
  static std::string text_of(const std::string& comment, ByteSpan bytes) {
    std::string text = "# " + comment + "\n";
    for (std::size_t at = 0; at < bytes.size(); at += 32)
      text += to_hex(bytes.subspan(at, std::min<std::size_t>(32, bytes.size() - at))) + "\n";
    return text;
  }
  std::string name_;
  std::set<std::string> seen_;
};

}  // namespace magma::test
