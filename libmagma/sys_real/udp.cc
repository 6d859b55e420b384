#include "libmagma/sys_real/udp.h"

#include <netinet/udp.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "libmagma/base/check.h"
#include "libmagma/sys_real/sockaddr.h"

namespace magma::sys_real {

namespace {

constexpr std::size_t kTrainBytesMax = 65536;
constexpr std::size_t kControlBytes = CMSG_SPACE(sizeof(int));

bool set_option(int fd, int level, int name, int value) {
  return ::setsockopt(fd, level, name, &value, sizeof value) == 0;
}

int get_option(int fd, int level, int name) {
  int value = 0;
  socklen_t length = sizeof value;
  return ::getsockopt(fd, level, name, &value, &length) == 0 ? value : 0;
}

// The forced call needs CAP_NET_ADMIN; the other is capped by net.core.{r,w}mem_max.
void set_buffer(int fd, int forced, int ordinary, std::size_t bytes) {
  int value = static_cast<int>(bytes);
  if (!set_option(fd, SOL_SOCKET, forced, value)) set_option(fd, SOL_SOCKET, ordinary, value);
}

// The kernel or the device cannot do UDP_SEGMENT, as opposed to: cannot send these bytes.
bool offload_refused(int error) {
  return error == EIO || error == ENOPROTOOPT || error == EOPNOTSUPP || error == EINVAL;
}

bool is_full(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

}  // namespace

struct UdpSocket::ReceiveBuffers {
  struct Slot {
    alignas(64) std::array<std::uint8_t, kTrainBytesMax> bytes;
    sockaddr_storage from;
    alignas(cmsghdr) std::array<std::uint8_t, kControlBytes> control;
    iovec part;
  };
  std::array<Slot, kReceiveBatch> slots;
  std::array<mmsghdr, kReceiveBatch> headers;
};

void UdpSocket::FreeReceiveBuffers::operator()(ReceiveBuffers* buffers) const noexcept {
  delete buffers;
}

Result<std::unique_ptr<UdpSocket>> UdpSocket::bind(const sys::Address& address,
                                                   UdpOptions options) {
  int family = address.is_v4() ? AF_INET : AF_INET6;
  Fd fd(::socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP));
  if (!fd) return fail_errno("socket", address.text());
  std::unique_ptr<UdpSocket> socket(new UdpSocket(std::move(fd), family));
  TRY(socket->set_up(address, options));
  return socket;
}

Result<void> UdpSocket::set_up(const sys::Address& address, const UdpOptions& options) {
  int fd = fd_.get();
  if (family_ == AF_INET6) {
    set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, address.is_any() ? 0 : 1);
    if (!set_option(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE))
      return fail_errno("IPV6_MTU_DISCOVER", address.text());
    set_option(fd, IPPROTO_IPV6, IPV6_DONTFRAG, 1);
    set_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);  // for mapped IPv4
  } else if (!set_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)) {
    return fail_errno("IP_MTU_DISCOVER", address.text());
  }
  if (options.reuse_port && !set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1))
    return fail_errno("SO_REUSEPORT", address.text());
  set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, options.buffer_bytes);
  set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, options.buffer_bytes);
  receive_buffer_bytes_ = static_cast<std::size_t>(get_option(fd, SOL_SOCKET, SO_RCVBUF));

  SocketAddress to = to_socket_address(address, family_);
  if (::bind(fd, to.get(), to.length) != 0) {
    Error error = error_of_errno("bind", address.text(), errno);
    if (errno == EADDRINUSE) error.code = Code::in_use;
    return fail(std::move(error));
  }
  SocketAddress bound;
  bound.length = sizeof bound.storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&bound.storage), &bound.length) != 0)
    return fail_errno("getsockname", address.text());
  local_ = from_socket_address(bound.get());

  gro_ = options.gro && set_option(fd, SOL_UDP, UDP_GRO, 1);
  // A default segment size of 0 changes nothing and tells whether the option is known.
  gso_ = options.gso && set_option(fd, SOL_UDP, UDP_SEGMENT, 0);
  receive_.reset(new ReceiveBuffers);
  return {};
}

void UdpSocket::send(const sys::Address& to, ByteSpan bytes, std::size_t segment_size) {
  if (bytes.empty()) return;
  segment_size = segment_size == 0 ? bytes.size() : std::min(segment_size, bytes.size());
  MAGMA_CHECK(bytes.size() <= kSendBytesMax);
  MAGMA_CHECK((bytes.size() + segment_size - 1) / segment_size <= kSendSegmentsMax);
  // What waits goes first, else the new datagrams would overtake it.
  std::size_t done = queue_.empty() ? send_now(to, bytes, segment_size) : 0;
  if (done < bytes.size()) enqueue(to, bytes.subspan(done), segment_size);
}

bool UdpSocket::send_probe(const sys::Address& to, ByteSpan datagram) {
  MAGMA_CHECK(!datagram.empty() && datagram.size() <= kSendBytesMax);
  if (!queue_.empty() || pretend_full_) {
    enqueue(to, datagram, datagram.size());
    return true;
  }
  SocketAddress address = to_socket_address(to, family_);
  ssize_t sent;
  do {
    ++counters_.send_calls;
    sent = ::sendto(fd_.get(), datagram.data(), datagram.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                    address.get(), address.length);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0 && is_full(errno)) {
    enqueue(to, datagram, datagram.size());
    return true;
  }
  if (sent < 0) {
    ++counters_.send_errors;
    return errno != EMSGSIZE;
  }
  ++counters_.datagrams_sent;
  counters_.bytes_sent += datagram.size();
  return true;
}

std::size_t UdpSocket::send_now(const sys::Address& to, ByteSpan bytes, std::size_t segment_size) {
  if (pretend_full_) return 0;
  if (!gso_ || bytes.size() <= segment_size) return send_one_by_one(to, bytes, segment_size);
  SocketAddress address = to_socket_address(to, family_);
  alignas(cmsghdr) std::array<std::uint8_t, CMSG_SPACE(sizeof(std::uint16_t))> control{};
  iovec part{const_cast<std::uint8_t*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_name = &address.storage;
  message.msg_namelen = address.length;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_UDP;
  header->cmsg_type = UDP_SEGMENT;
  header->cmsg_len = CMSG_LEN(sizeof(std::uint16_t));
  auto size = static_cast<std::uint16_t>(segment_size);
  std::memcpy(CMSG_DATA(header), &size, sizeof size);
  ssize_t sent;
  do {
    ++counters_.send_calls;
    sent = ::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) {
    counters_.datagrams_sent += (bytes.size() + segment_size - 1) / segment_size;
    counters_.bytes_sent += bytes.size();
    return bytes.size();
  }
  int error = errno;
  if (is_full(error)) return 0;
  // EINVAL is also the answer to a segment over the device's MTU: only when the same bytes do go
  // out one by one is offload to blame.
  std::uint64_t errors_before = counters_.send_errors;
  std::size_t done = send_one_by_one(to, bytes, segment_size);
  if (offload_refused(error) && done > 0 && counters_.send_errors == errors_before) gso_ = false;
  return done;
}

std::size_t UdpSocket::send_one_by_one(const sys::Address& to, ByteSpan bytes,
                                       std::size_t segment_size) {
  SocketAddress address = to_socket_address(to, family_);
  std::array<mmsghdr, kSendSegmentsMax> headers;
  std::array<iovec, kSendSegmentsMax> parts;
  unsigned count = 0;
  for (std::size_t at = 0; at < bytes.size(); at += segment_size, ++count) {
    parts[count] = {const_cast<std::uint8_t*>(bytes.data() + at),
                    std::min(segment_size, bytes.size() - at)};
    headers[count] = {};
    headers[count].msg_hdr.msg_name = &address.storage;
    headers[count].msg_hdr.msg_namelen = address.length;
    headers[count].msg_hdr.msg_iov = &parts[count];
    headers[count].msg_hdr.msg_iovlen = 1;
  }
  unsigned next = 0;
  while (next < count) {
    ++counters_.send_calls;
    int sent = ::sendmmsg(fd_.get(), &headers[next], count - next, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && is_full(errno)) break;
    if (sent <= 0) {  // this one cannot be sent; the next, which may be shorter, might
      ++counters_.send_errors;
      ++next;
      continue;
    }
    for (int i = 0; i < sent; ++i, ++next) {
      ++counters_.datagrams_sent;
      counters_.bytes_sent += parts[next].iov_len;
    }
  }
  return std::min(next * segment_size, bytes.size());
}

void UdpSocket::enqueue(const sys::Address& to, ByteSpan bytes, std::size_t segment_size) {
  if (queued_bytes_ + bytes.size() > kSendQueueBytesMax) {
    counters_.datagrams_dropped += (bytes.size() + segment_size - 1) / segment_size;
    return;
  }
  bool was_empty = queue_.empty();
  queue_.push_back({to, Bytes(bytes.begin(), bytes.end()), segment_size});
  queued_bytes_ += bytes.size();
  ++counters_.sends_queued;
  if (was_empty && want_writable_) want_writable_(true);
}

void UdpSocket::on_writable() {
  while (!queue_.empty()) {
    Queued& first = queue_.front();
    std::size_t done = send_now(first.to, first.bytes, first.segment_size);
    queued_bytes_ -= done;
    if (done < first.bytes.size()) {
      auto rest = first.bytes.begin() + static_cast<std::ptrdiff_t>(done);
      first.bytes.erase(first.bytes.begin(), rest);
      return;
    }
    queue_.pop_front();
  }
  if (want_writable_) want_writable_(false);
}

std::size_t UdpSocket::receive(OnDatagram& on_datagram) {
  std::size_t datagrams = 0;
  for (std::size_t call = 0; call < kReceiveCallsMax; ++call) {
    for (std::size_t i = 0; i < kReceiveBatch; ++i) {
      auto& slot = receive_->slots[i];
      slot.part = {slot.bytes.data(), slot.bytes.size()};
      msghdr& header = receive_->headers[i].msg_hdr;
      header = {};
      header.msg_name = &slot.from;
      header.msg_namelen = sizeof slot.from;
      header.msg_iov = &slot.part;
      header.msg_iovlen = 1;
      header.msg_control = slot.control.data();
      header.msg_controllen = slot.control.size();
    }
    ++counters_.receive_calls;
    int got = ::recvmmsg(fd_.get(), receive_->headers.data(), kReceiveBatch, MSG_DONTWAIT, nullptr);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      if (!is_full(errno)) ++counters_.receive_errors;
      break;
    }
    for (std::size_t i = 0; i < static_cast<std::size_t>(got); ++i) {
      auto& slot = receive_->slots[i];
      msghdr& header = receive_->headers[i].msg_hdr;
      if ((header.msg_flags & MSG_TRUNC) != 0) {
        ++counters_.receive_errors;
        continue;
      }
      MutableByteSpan train(slot.bytes.data(), receive_->headers[i].msg_len);
      std::size_t segment_size = train.size();
      for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
        if (c->cmsg_level != SOL_UDP || c->cmsg_type != UDP_GRO) continue;
        int size = 0;
        std::memcpy(&size, CMSG_DATA(c), sizeof size);
        if (size > 0) segment_size = static_cast<std::size_t>(size);
      }
      datagrams += deliver(from_socket_address(reinterpret_cast<const sockaddr*>(&slot.from)),
                           train, segment_size, on_datagram);
    }
    if (static_cast<std::size_t>(got) < kReceiveBatch) break;  // drained
  }
  return datagrams;
}

std::size_t UdpSocket::deliver(const sys::Address& from, MutableByteSpan train,
                               std::size_t segment_size, OnDatagram& on_datagram) {
  std::size_t datagrams = 0;
  counters_.bytes_received += train.size();
  while (!train.empty()) {
    std::size_t size = std::min(segment_size, train.size());
    on_datagram(from, train.first(size));
    train = train.subspan(size);
    ++datagrams;
  }
  counters_.datagrams_received += datagrams;
  return datagrams;
}

}  // namespace magma::sys_real
