// Typed integers: values of different meaning do not mix. Strong<Tag, Rep> compares, hashes and
// prints as its number, and converts only explicitly.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace magma {

template <class Tag, class Rep>
struct Strong {
  using rep = Rep;
  Rep value{};

  constexpr Strong() = default;
  constexpr explicit Strong(Rep v) : value(v) {}
  friend constexpr auto operator<=>(const Strong&, const Strong&) = default;
};

template <class T>
inline constexpr bool is_strong_v = false;
template <class Tag, class Rep>
inline constexpr bool is_strong_v<Strong<Tag, Rep>> = true;

// 64-bit inode number: 12-bit home slot, 52-bit counter of that slot. 0 is no inode.
using Ino = Strong<struct InoTag, std::uint64_t>;
// Identifies an operation over several slots: 12-bit slot of its coordinator, 52-bit counter.
using OpId = Strong<struct OpIdTag, std::uint64_t>;
// A client's session with the ring; random, never 0.
using SessionId = Strong<struct SessionIdTag, std::uint64_t>;
// Fences: a message with an older epoch of its slot is refused. Starts at 1.
using Epoch = Strong<struct EpochTag, std::uint32_t>;
// Order of a slot's changes within an epoch. Starts at 1.
using Seq = Strong<struct SeqTag, std::uint64_t>;

}  // namespace magma

template <class Tag, class Rep>
struct std::hash<magma::Strong<Tag, Rep>> {
  std::size_t operator()(const magma::Strong<Tag, Rep>& s) const noexcept {
    return std::hash<Rep>{}(s.value);
  }
};
