// What people type at the console: a line cut into words.
//
// Words are separated by blanks and tabs. '...' keeps everything as it is; in "..." and outside of
// quotes a backslash takes the next byte as it is, but for \n \t \r \e (newline, tab, return,
// escape) and \xHH (the byte with that number). What client::printable shows of a name is read
// back as the same name, if blanks and quotes in it are quoted.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "libmagma/base/result.h"

namespace magma::console {

inline constexpr std::size_t kWordsMax = 64;

// `invalid` with what is wrong: a quote without its end, a backslash at the end, \x without two
// hex digits, a NUL byte (no path has one), more than kWordsMax words.
Result<std::vector<std::string>> split_words(std::string_view line);

// Case does not count in ASCII letters.
bool same_word(std::string_view a, std::string_view b);

// "HTTP request" and the like: why a line is no console's line but a browser's, sent by a web page
// to a port of its visitor's machine; empty if it is none.
std::string_view browser_line(std::string_view line);

}  // namespace magma::console
