// An IP address and port: IPv4 is kept as an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2), so
// that equality is one comparison. Who cannot be reached at it directly has the address of who
// passes packets on as well (libmagma/rpc/relay.h).
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
  std::uint16_t relay_port = 0;  // 0: reached directly
  std::array<std::uint8_t, 16> relay_ip{};

  friend auto operator<=>(const Address&, const Address&) = default;

  static Address v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d,
                    std::uint16_t port);
  // "127.0.0.1", "127.0.0.1:12000", "::1", "[::1]:12000"; numeric only. `default_port` if none.
  static Result<Address> parse(std::string_view text, std::uint16_t default_port);
  bool is_relayed() const { return relay_port != 0; }
  // Whom packets are sent to that are to get there: itself, or who passes them on.
  Address next_hop() const;
  // The same, reached directly, or through that one.
  Address direct() const;
  Address through(const Address& relay) const;
  bool is_v4() const;
  bool is_loopback() const;      // false for what is relayed: its way is more than the loopback
  bool is_any() const;
  std::string ip_text() const;   // "127.0.0.1" or "::1"
  std::string text() const;      // "127.0.0.1:12000", "[::1]:12000"; "... via ..." if relayed
};

}  // namespace magma::sys

template <>
struct std::hash<magma::sys::Address> {
  std::size_t operator()(const magma::sys::Address& a) const noexcept {
    std::size_t h = a.port;
    for (std::uint8_t b : a.ip) h = h * 1099511628211ULL + b;
    if (!a.is_relayed()) return h;
    h = h * 1099511628211ULL + a.relay_port;
    for (std::uint8_t b : a.relay_ip) h = h * 1099511628211ULL + b;
    return h;
  }
};
