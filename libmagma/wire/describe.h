// A message as one line for people, from its fields(): logs and golden files.
//
//   mkdir{dir=4398046511105, name="a", mode=0755, key=42099b4a...}
//
// Numbers are decimal ("mode" octal), keys hex, strings quoted with \xNN for what is not printable
// ASCII, byte strings hex, an absent optional is "-". Strings and byte strings are cut after
// kDescribedBytesMax bytes, lists after kDescribedItemsMax items, so a line stays a line.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "libmagma/wire/codec.h"

namespace magma::wire {

inline constexpr std::size_t kDescribedBytesMax = 64;
inline constexpr std::size_t kDescribedItemsMax = 16;

class Describer {
 public:
  template <class T>
  void operator()(const char* name, const T& value) {
    if (!first_) text_ += ", ";
    first_ = false;
    text_ += name;
    text_ += '=';
    put(value, std::string_view(name) == "mode");
  }
  template <class T>
  void put(const T& value, bool octal = false) {
    if constexpr (std::is_same_v<T, bool>) {
      text_ += value ? "true" : "false";
    } else if constexpr (std::is_enum_v<T>) {
      put(static_cast<std::underlying_type_t<T>>(value));
    } else if constexpr (std::integral<T>) {
      text_ += octal ? fmt::format("0{:o}", value) : fmt::format("{}", value);
    } else if constexpr (is_strong_v<T>) {
      put(value.value);
    } else if constexpr (std::is_same_v<T, WallTime>) {
      put(value.ns);
    } else if constexpr (std::is_same_v<T, std::string>) {
      put_text(value);
    } else if constexpr (std::is_same_v<T, Bytes> || is_byte_array_v<T>) {
      put_bytes(value);
    } else if constexpr (std::is_same_v<T, ring::Key>) {
      text_ += value.hex();
    } else if constexpr (is_vector_v<T>) {
      text_ += '[';
      for (std::size_t i = 0; i < value.size() && i < kDescribedItemsMax; ++i) {
        if (i > 0) text_ += ", ";
        put(value[i]);
      }
      if (value.size() > kDescribedItemsMax) text_ += fmt::format(", ...{}", value.size());
      text_ += ']';
    } else if constexpr (is_optional_v<T>) {
      if (value)
        put(*value, octal);
      else
        text_ += '-';
    } else {
      static_assert(Described<const T>, "needs fields()");
      text_ += '{';
      bool first = std::exchange(first_, true);
      T::fields(value, *this);
      first_ = first;
      text_ += '}';
    }
  }
  std::string take() { return std::move(text_); }

 private:
  void put_text(std::string_view value) {
    text_ += '"';
    for (char c : value.substr(0, kDescribedBytesMax)) {
      if (c == '"' || c == '\\')
        (text_ += '\\') += c;
      else if (c >= ' ' && c <= '~')
        text_ += c;
      else
        text_ += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
    text_ += value.size() > kDescribedBytesMax ? "\"..." : "\"";
  }
  void put_bytes(ByteSpan value) {
    text_ += to_hex(value.first(std::min(value.size(), kDescribedBytesMax)));
    if (value.size() > kDescribedBytesMax) text_ += fmt::format("...{}", value.size());
  }

  std::string text_;
  bool first_ = true;
};

template <class T>
std::string describe(std::string_view name, const T& message) {
  Describer describer;
  describer.put(message);
  return std::string(name) + describer.take();
}

}  // namespace magma::wire
