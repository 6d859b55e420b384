// The console's parser, and lines that a browser sends.
#include <doctest/doctest.h>

#include "libmagma/client/listing.h"
#include "magmad/console/text.h"

using namespace magma;
using console::split_words;

namespace {

std::vector<std::string> words_of(std::string_view line) {
  auto words = split_words(line);
  REQUIRE_MESSAGE(words.has_value(), line);
  return *words;
}

using Words = std::vector<std::string>;

}  // namespace

TEST_CASE("console parser: blanks, quotes and backslashes") {
  CHECK(words_of("").empty());
  CHECK(words_of(" \t ").empty());
  CHECK(words_of("ls /a") == Words{"ls", "/a"});
  CHECK(words_of("  ls\t/a  ") == Words{"ls", "/a"});
  CHECK(words_of("cat 'a b'") == Words{"cat", "a b"});
  CHECK(words_of("cat \"a b\"c") == Words{"cat", "a bc"});
  CHECK(words_of("cat a\\ b") == Words{"cat", "a b"});
  CHECK(words_of("cat 'a\\n'") == Words{"cat", "a\\n"});
  CHECK(words_of("cat \"a\\nb\\t\\r\\e\\\\\\\"\"") == Words{"cat", "a\nb\t\r\x1b\\\""});
  CHECK(words_of("cat a\\x1b\\xFFz") == Words{"cat", "a\x1b\xffz"});
  CHECK(words_of("cat ''") == Words{"cat", ""});
  CHECK(words_of("cat \"it's\"") == Words{"cat", "it's"});
  CHECK(words_of("cat \xc3\xa4") == Words{"cat", "\xc3\xa4"});
}

TEST_CASE("console parser: what cannot be read is refused with the reason") {
  for (const char* bad : {"cat 'a", "cat \"a", "cat a\\", "cat \\x", "cat \\x1", "cat \\xg0",
                          "cat \"\\x4\"", "cat \\x00"}) {
    CAPTURE(bad);
    auto words = split_words(bad);
    REQUIRE_FALSE(words.has_value());
    CHECK(words.error().code == Code::invalid);
    CHECK_FALSE(words.error().detail.empty());
  }
  CHECK_FALSE(split_words(std::string_view("ls \0", 4)).has_value());
  std::string many;
  for (std::size_t i = 0; i < console::kWordsMax; ++i) many += "a ";
  CHECK(split_words(many).has_value());
  CHECK_FALSE(split_words(many + "a").has_value());
}

TEST_CASE("console parser: what is shown of a name is read back as the same name") {
  for (const std::string_view name :
       {"plain", "back\\slash", "new\nline", "tab\t", "\x1b[2Jescape", "\xff\xfe no utf-8",
        "\xc3\xa4\xe2\x82\xac", "\x7f\xc2\x9b", "\xe2\x80\xae reversed", "quo\"te"}) {
    CAPTURE(name);
    std::string quoted = "\"";
    for (const char c : client::printable(name)) quoted += c == '"' ? "\\\"" : std::string(1, c);
    CHECK(words_of(quoted + "\"") == Words{std::string(name)});
  }
}

TEST_CASE("console: lines of a browser are known") {
  for (const char* line :
       {"GET / HTTP/1.1", "POST /x HTTP/1.0", "HEAD", "PUT / HTTP/1.1", "OPTIONS * HTTP/1.1",
        "DELETE /a", "CONNECT a:1", "PATCH /", "TRACE /", "PRI * HTTP/2.0", "Host: 127.0.0.1:12002",
        "host:x", "get /", "Post\t/"}) {
    CAPTURE(line);
    CHECK_FALSE(console::browser_line(line).empty());
  }
  for (const char* line : {"", "help", "ls GET", "gets", "hosts", "putative", "print cache"}) {
    CAPTURE(line);
    CHECK(console::browser_line(line).empty());
  }
}
