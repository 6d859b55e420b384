// One description, many uses. A message or row is a struct with
//
//   template <class Self, class Visit> static void fields(Self& s, Visit& v) {
//     v("ino", s.ino);
//     v("name", s.name);
//   }
//
// and from it come encode(), decode(), encoded_size(), describe() (describe.h), the fuzz targets
// and the golden files. Encoding: integers big-endian in their declared width, signed as two's
// complement, bool and enums as their integer, Strong<> as its number; strings and byte strings
// as u32 length + bytes, lists as u32 count + items, optional as u8 0/1 + value; nested structs in
// place. decode() never reads past the end, never allocates more than the input could fill, and
// refuses bytes left over.
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/base/result.h"
#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/ring/key.h"

namespace magma::wire {

struct AnyVisit {
  template <class T>
  void operator()(const char*, T&&) {}
};
template <class T>
concept Described = requires(T& t, AnyVisit& v) { std::remove_const_t<T>::fields(t, v); };

template <class T>
inline constexpr bool is_vector_v = false;
template <class T>
inline constexpr bool is_vector_v<std::vector<T>> = true;
template <class T>
inline constexpr bool is_optional_v = false;
template <class T>
inline constexpr bool is_optional_v<std::optional<T>> = true;
template <class T>
inline constexpr bool is_byte_array_v = false;
template <std::size_t N>
inline constexpr bool is_byte_array_v<std::array<std::uint8_t, N>> = true;

class Encoder {
 public:
  explicit Encoder(Bytes& out) : writer_(out) {}
  template <class T>
  void operator()(const char*, const T& value) {
    put(value);
  }
  template <class T>
  void put(const T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      writer_.put(static_cast<std::uint8_t>(value ? 1 : 0));
    } else if constexpr (std::is_enum_v<T>) {
      put(static_cast<std::underlying_type_t<T>>(value));
    } else if constexpr (std::unsigned_integral<T>) {
      writer_.put(value);
    } else if constexpr (std::signed_integral<T>) {
      writer_.put(static_cast<std::make_unsigned_t<T>>(value));
    } else if constexpr (is_strong_v<T>) {
      put(value.value);
    } else if constexpr (std::is_same_v<T, WallTime>) {
      put(value.ns);
    } else if constexpr (std::is_same_v<T, std::string>) {
      writer_.put(static_cast<std::uint32_t>(value.size()));
      writer_.put_raw(as_bytes(value));
    } else if constexpr (std::is_same_v<T, Bytes>) {
      writer_.put(static_cast<std::uint32_t>(value.size()));
      writer_.put_raw(value);
    } else if constexpr (is_byte_array_v<T>) {
      writer_.put_raw(value);
    } else if constexpr (std::is_same_v<T, ring::Key>) {
      writer_.put_raw(value.bytes);
    } else if constexpr (is_vector_v<T>) {
      writer_.put(static_cast<std::uint32_t>(value.size()));
      for (const auto& item : value) put(item);
    } else if constexpr (is_optional_v<T>) {
      writer_.put(static_cast<std::uint8_t>(value ? 1 : 0));
      if (value) put(*value);
    } else {
      static_assert(Described<const T>, "needs fields()");
      T::fields(value, *this);
    }
  }

 private:
  ByteWriter writer_;
};

class Decoder {
 public:
  explicit Decoder(ByteSpan in) : reader_(in) {}
  template <class T>
  void operator()(const char*, T& value) {
    get(value);
  }
  template <class T>
  void get(T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      auto raw = reader_.get<std::uint8_t>();
      if (raw > 1) reader_.fail();
      value = raw == 1;
    } else if constexpr (std::is_enum_v<T>) {
      std::underlying_type_t<T> raw{};
      get(raw);
      value = static_cast<T>(raw);
    } else if constexpr (std::unsigned_integral<T>) {
      value = reader_.get<T>();
    } else if constexpr (std::signed_integral<T>) {
      value = static_cast<T>(reader_.get<std::make_unsigned_t<T>>());
    } else if constexpr (is_strong_v<T>) {
      get(value.value);
    } else if constexpr (std::is_same_v<T, WallTime>) {
      get(value.ns);
    } else if constexpr (std::is_same_v<T, std::string>) {
      auto size = reader_.get<std::uint32_t>();
      auto raw = reader_.get_raw(size);
      value.assign(as_text(raw));
    } else if constexpr (std::is_same_v<T, Bytes>) {
      auto size = reader_.get<std::uint32_t>();
      auto raw = reader_.get_raw(size);
      value.assign(raw.begin(), raw.end());
    } else if constexpr (is_byte_array_v<T>) {
      auto raw = reader_.get_raw(value.size());
      std::copy(raw.begin(), raw.end(), value.begin());
    } else if constexpr (std::is_same_v<T, ring::Key>) {
      auto raw = reader_.get_raw(value.bytes.size());
      std::copy(raw.begin(), raw.end(), value.bytes.begin());
    } else if constexpr (is_vector_v<T>) {
      auto count = reader_.get<std::uint32_t>();
      if (count > reader_.left()) reader_.fail();  // every item takes at least one byte
      value.clear();
      for (std::uint32_t i = 0; i < count && !reader_.bad(); ++i) {
        value.emplace_back();
        get(value.back());
      }
    } else if constexpr (is_optional_v<T>) {
      auto there = reader_.get<std::uint8_t>();
      if (there > 1) reader_.fail();
      value.reset();
      if (there == 1) get(value.emplace());
    } else {
      static_assert(Described<T>, "needs fields()");
      T::fields(value, *this);
    }
  }
  bool finished() const { return reader_.finished(); }
  bool bad() const { return reader_.bad(); }
  std::size_t left() const { return reader_.left(); }
  ByteReader& reader() { return reader_; }

 private:
  ByteReader reader_;
};

template <class T>
void encode_to(Bytes& out, const T& message) {
  Encoder encoder(out);
  encoder.put(message);
}

template <class T>
Bytes encode(const T& message) {
  Bytes out;
  out.reserve(128);
  encode_to(out, message);
  return out;
}

// The message that takes up all of `in`; malformed otherwise.
template <class T>
Result<T> decode(ByteSpan in) {
  T message{};
  Decoder decoder(in);
  decoder.get(message);
  if (!decoder.finished()) return fail(Code::malformed);
  return message;
}

// The message at the start of `in`, and what follows it.
template <class T>
Result<std::pair<T, ByteSpan>> decode_front(ByteSpan in) {
  std::pair<T, ByteSpan> result{};
  Decoder decoder(in);
  decoder.get(result.first);
  if (decoder.bad()) return fail(Code::malformed);
  result.second = in.subspan(in.size() - decoder.left());
  return result;
}

}  // namespace magma::wire
