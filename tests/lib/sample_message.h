// Fills a message with values that differ from field to field, by its fields(): an instance for
// golden files and codec tests that a new operation gets without anyone writing one. Optionals are
// present, lists have two items. The values depend on the order of the fields only.
#pragma once

#include <string>

#include "libmagma/wire/codec.h"

namespace magma::test {

class Sampler {
 public:
  explicit Sampler(std::uint64_t start = 1) : next_(start) {}
  template <class T>
  void operator()(const char* name, T& value) {
    name_ = name;
    fill(value);
  }
  template <class T>
  void fill(T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      value = true;
    } else if constexpr (std::is_enum_v<T>) {
      std::underlying_type_t<T> raw{};
      fill(raw);
      value = static_cast<T>(raw);
    } else if constexpr (std::integral<T>) {
      value = static_cast<T>(number());  // narrow ones keep the lowest bytes
    } else if constexpr (is_strong_v<T>) {
      fill(value.value);
    } else if constexpr (std::is_same_v<T, WallTime>) {
      fill(value.ns);
    } else if constexpr (std::is_same_v<T, std::string>) {
      value = name_ + "-" + std::to_string(++next_);
    } else if constexpr (std::is_same_v<T, Bytes>) {
      value.clear();
      for (int i = 0; i < 5; ++i) value.push_back(static_cast<std::uint8_t>(++next_));
    } else if constexpr (wire::is_byte_array_v<T>) {
      for (auto& b : value) b = static_cast<std::uint8_t>(++next_);
    } else if constexpr (std::is_same_v<T, ring::Key>) {
      fill(value.bytes);
    } else if constexpr (wire::is_vector_v<T>) {
      value.resize(2);
      std::string name = name_;
      for (auto& item : value) {
        name_ = name;
        fill(item);
      }
    } else if constexpr (wire::is_optional_v<T>) {
      fill(value.emplace());
    } else {
      T::fields(value, *this);
    }
  }

 private:
  // Every byte of a number differs from its neighbours, so a swapped order or width shows.
  std::uint64_t number() {
    std::uint64_t value = 0;
    ++next_;
    for (std::uint64_t i = 8; i-- > 0;) value = value << 8 | ((next_ + i * 17) & 0x7f);
    return value;
  }
  std::uint64_t next_;
  std::string name_;
};

template <class T>
T sample(std::uint64_t start = 1) {
  T message{};
  Sampler sampler(start);
  sampler.fill(message);
  return message;
}

}  // namespace magma::test
