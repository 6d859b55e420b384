// Sending datagrams. Receiving is by push: whoever drives an endpoint (the real loop, the
// simulator) hands it each datagram and calls its flush() after a batch.
#pragma once

#include <cstddef>

#include "libmagma/base/bytes.h"
#include "libmagma/sys/address.h"

namespace magma::sys {

class Datagrams {
 public:
  virtual ~Datagrams() = default;
  // Sends `bytes` to `to` as datagrams of `segment_size` bytes each, the last one shorter if it
  // does not divide (UDP_SEGMENT where the kernel has it). At most 65,507 bytes and 64 segments in
  // all. Best effort: what cannot be sent is lost, as on any network. Copies or sends before it
  // returns.
  virtual void send(const Address& to, ByteSpan bytes, std::size_t segment_size) = 0;
  // One datagram that may be too large for the way to `to`. False if it is known to be larger than
  // what leaves this machine, and so was not sent.
  virtual bool send_probe(const Address& to, ByteSpan datagram) {
    send(to, datagram, datagram.size());
    return true;
  }
  // Size of the socket's receive buffer as read back from the kernel, bytes.
  virtual std::size_t receive_buffer_bytes() const = 0;
};

}  // namespace magma::sys
