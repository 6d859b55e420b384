// Between sys::Address and the kernel's socket addresses. For libmagma/sys_real only.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include "libmagma/sys/address.h"

namespace magma::sys_real {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

// For a socket of `family` (AF_INET, or AF_INET6, where IPv4 is written as mapped). A length of 0
// if the family cannot reach the address.
SocketAddress to_socket_address(const sys::Address& address, int family);
// AF_INET and AF_INET6; the zero address for anything else. A scope id is lost.
sys::Address from_socket_address(const sockaddr* address);

}  // namespace magma::sys_real
