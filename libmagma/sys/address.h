// An IP address and port: IPv4 is kept as an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2), so
// that equality is one comparison.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "libmagma/base/result.h"

namespace magma::sys {

struct Address {
  std::array<std::uint8_t, 16> ip{};
  std::uint16_t port = 0;

  friend auto operator<=>(const Address&, const Address&) = default;

  static Address v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d,
                    std::uint16_t port);
  // "127.0.0.1", "127.0.0.1:12000", "::1", "[::1]:12000"; numeric only. `default_port` if none.
  static Result<Address> parse(std::string_view text, std::uint16_t default_port);
  bool is_v4() const;
  bool is_loopback() const;
  bool is_any() const;
  std::string ip_text() const;   // "127.0.0.1" or "::1"
  std::string text() const;      // "127.0.0.1:12000" or "[::1]:12000"
};

}  // namespace magma::sys

template <>
struct std::hash<magma::sys::Address> {
  std::size_t operator()(const magma::sys::Address& a) const noexcept {
    std::size_t h = a.port;
    for (std::uint8_t b : a.ip) h = h * 1099511628211ULL + b;
    return h;
  }
};
