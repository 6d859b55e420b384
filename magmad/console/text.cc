#include "magmad/console/text.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include <fmt/format.h>

namespace magma::console {

namespace {

bool is_blank(char c) { return c == ' ' || c == '\t'; }

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// Takes what follows a backslash off `rest`.
Result<char> take_escaped(std::string_view& rest) {
  if (rest.empty()) return fail(Code::invalid, "a backslash at the end of the line");
  const char c = rest.front();
  rest.remove_prefix(1);
  switch (c) {
    case 'n': return '\n';
    case 't': return '\t';
    case 'r': return '\r';
    case 'e': return '\x1b';
    case 'x': break;
    default: return c;
  }
  const int high = rest.empty() ? -1 : hex_value(rest[0]);
  const int low = rest.size() < 2 ? -1 : hex_value(rest[1]);
  if (high < 0 || low < 0) return fail(Code::invalid, "\\x wants two hex digits, as in \\x1b");
  rest.remove_prefix(2);
  return static_cast<char>(high * 16 + low);
}

// Takes one word off `rest`, which does not begin with a blank.
Result<std::string> take_word(std::string_view& rest) {
  std::string word;
  char quote = 0;
  while (!rest.empty()) {
    const char c = rest.front();
    if (quote == 0 && is_blank(c)) return word;
    rest.remove_prefix(1);
    if (c == '\\' && quote != '\'') {
      TRY_VALUE(const char escaped, take_escaped(rest));
      word += escaped;
    } else if (quote != 0 && c == quote) {
      quote = 0;
    } else if (quote == 0 && (c == '\'' || c == '"')) {
      quote = c;
    } else {
      word += c;
    }
  }
  if (quote != 0) return fail(Code::invalid, fmt::format("a {} without its end", quote));
  return word;
}

}  // namespace

Result<std::vector<std::string>> split_words(std::string_view line) {
  std::vector<std::string> words;
  while (true) {
    while (!line.empty() && is_blank(line.front())) line.remove_prefix(1);
    if (line.empty()) return words;
    if (words.size() == kWordsMax)
      return fail(Code::invalid, fmt::format("more than {} words", kWordsMax));
    TRY_VALUE(std::string word, take_word(line));
    if (word.find('\0') != std::string::npos)
      return fail(Code::invalid, "a NUL byte, which no path can have");
    words.push_back(std::move(word));
  }
}

bool same_word(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

std::string_view browser_line(std::string_view line) {
  // RFC 9110, 9.3; RFC 5789; RFC 9113's preface. A browser always begins with one of them.
  constexpr std::array<std::string_view, 10> kMethods = {
      "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "TRACE", "OPTIONS", "PATCH", "PRI"};
  const std::string_view word = line.substr(0, line.find_first_of(" \t"));
  for (const std::string_view method : kMethods)
    if (same_word(word, method)) return "an HTTP request";
  constexpr std::string_view kHost = "host:";
  if (line.size() >= kHost.size() && same_word(line.substr(0, kHost.size()), kHost))
    return "a line of an HTTP request";
  return {};
}

}  // namespace magma::console
