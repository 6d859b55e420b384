#include "libmagma/sys_real/sockaddr.h"

#include <algorithm>
#include <cstring>

namespace magma::sys_real {

SocketAddress to_socket_address(const sys::Address& address, int family) {
  SocketAddress out;
  if (family == AF_INET) {
    if (!address.is_v4()) return out;
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(address.port);
    std::memcpy(&v4.sin_addr, address.ip.data() + 12, 4);
    std::memcpy(&out.storage, &v4, sizeof v4);
    out.length = sizeof v4;
  } else {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(address.port);
    std::memcpy(&v6.sin6_addr, address.ip.data(), 16);
    std::memcpy(&out.storage, &v6, sizeof v6);
    out.length = sizeof v6;
  }
  return out;
}

sys::Address from_socket_address(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, address, sizeof v4);
    std::uint8_t raw[4];
    std::memcpy(raw, &v4.sin_addr, 4);
    return sys::Address::v4(raw[0], raw[1], raw[2], raw[3], ntohs(v4.sin_port));
  }
  sys::Address out;
  if (address->sa_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, address, sizeof v6);
    std::memcpy(out.ip.data(), &v6.sin6_addr, 16);
    out.port = ntohs(v6.sin6_port);
  }
  return out;
}

}  // namespace magma::sys_real
