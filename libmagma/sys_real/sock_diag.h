// Whose process is at the other end of a TCP connection within this machine. SO_PEERCRED knows the
// uid of a Unix socket's peer only; for TCP the kernel is asked for the peer's own socket by its
// addresses (NETLINK_SOCK_DIAG, sock_diag(7)), and that socket's inode has an owner.
//
// What makes an answer worth nothing, and is therefore taken for no answer:
// - a socket without inode: its process has closed it, and the kernel then tells uid 0;
// - a socket that is not connected to us (a listening one is found by its port alone), or in
//   TIME_WAIT (told with uid 0 as well).
// A forwarder (ssh -L, a container's port proxy) is the peer of what it forwards: its uid counts.
#pragma once

#include <cstdint>
#include <optional>

#include "libmagma/base/result.h"
#include "libmagma/sys/address.h"

namespace magma::sys_real {

// The uid that owns the socket bound to `peer` and connected to `local` (our end of the
// connection), as this process's user namespace sees it; nothing if there is no such socket in
// this network namespace, or its owner can no longer be told. Errors: the kernel cannot be asked.
// Does not block: the kernel answers inside the call.
Result<std::optional<std::uint32_t>> uid_of_tcp_peer(const sys::Address& peer,
                                                     const sys::Address& local);

}  // namespace magma::sys_real
