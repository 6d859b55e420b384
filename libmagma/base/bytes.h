// Byte buffers and the two cursors everything is encoded with: ByteWriter appends big-endian
// integers and length-prefixed strings, ByteReader takes them back and remembers the first error
// instead of reading past the end.
#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace magma {

using Bytes = std::vector<std::uint8_t>;
using ByteSpan = std::span<const std::uint8_t>;
using MutableByteSpan = std::span<std::uint8_t>;

inline ByteSpan as_bytes(std::string_view s) {
  return {reinterpret_cast<const std::uint8_t*>(s.data()), s.size()};
}
inline std::string_view as_text(ByteSpan b) {
  return {reinterpret_cast<const char*>(b.data()), b.size()};
}
std::string to_hex(ByteSpan bytes);                 // lower case, two digits a byte
bool from_hex(std::string_view text, Bytes& out);   // false unless an even number of hex digits

class ByteWriter {
 public:
  explicit ByteWriter(Bytes& out) : out_(out) {}
  template <std::unsigned_integral U>
  void put(U value) {
    std::uint8_t raw[sizeof(U)];
    for (std::size_t i = 0; i < sizeof(U); ++i)
      raw[i] = static_cast<std::uint8_t>(value >> (8 * (sizeof(U) - 1 - i)));
    out_.insert(out_.end(), raw, raw + sizeof(U));
  }
  void put_raw(ByteSpan bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  std::size_t size() const { return out_.size(); }

 private:
  Bytes& out_;
};

class ByteReader {
 public:
  explicit ByteReader(ByteSpan in) : in_(in) {}
  template <std::unsigned_integral U>
  U get() {
    if (bad_ || in_.size() < sizeof(U)) {
      bad_ = true;
      return 0;
    }
    U value = 0;
    for (std::size_t i = 0; i < sizeof(U); ++i) value = static_cast<U>((value << 8) | in_[i]);
    in_ = in_.subspan(sizeof(U));
    return value;
  }
  // The next `size` bytes, a view into the input; empty and bad() if there are fewer.
  ByteSpan get_raw(std::size_t size) {
    if (bad_ || in_.size() < size) {
      bad_ = true;
      return {};
    }
    ByteSpan raw = in_.first(size);
    in_ = in_.subspan(size);
    return raw;
  }
  void fail() { bad_ = true; }
  bool bad() const { return bad_; }
  std::size_t left() const { return in_.size(); }
  bool finished() const { return !bad_ && in_.empty(); }

 private:
  ByteSpan in_;
  bool bad_ = false;
};

}  // namespace magma
