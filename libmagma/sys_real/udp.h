// A UDP socket as sys::Datagrams, with segmentation offload both ways: one send() of many
// segments is one system call and one pass through the kernel (UDP_SEGMENT), and what arrives as
// one train is read as one (UDP_GRO) and cut here. That is 20-30 times less CPU a byte than one
// call a packet. Where the kernel or the device refuses, sendmmsg is used and remembered.
//
// Nothing is ever fragmented: a datagram over the path's MTU is lost, and path MTU discovery in
// rpc/ finds the size (IP_PMTUDISC_PROBE: the kernel's own idea of the MTU is not used).
//
// Used by one thread, the loop's: it calls receive() when fd() is readable, on_writable() when
// writable and wanted.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "libmagma/base/unique_function.h"
#include "libmagma/sys/datagrams.h"
#include "libmagma/sys_real/fd.h"

namespace magma::sys_real {

inline constexpr std::size_t kSocketBufferBytes = 8 << 20;     // asked for, each way
inline constexpr std::size_t kSendQueueBytesMax = 8 << 20;     // waiting for a full socket
inline constexpr std::size_t kSendSegmentsMax = 64;            // UDP_MAX_SEGMENTS before 6.9
inline constexpr std::size_t kSendBytesMax = 65507;            // largest UDP payload over IPv4
inline constexpr std::size_t kReceiveBatch = 16;               // trains a system call
inline constexpr std::size_t kReceiveCallsMax = 4;             // system calls a wake-up

struct UdpCounters {
  std::uint64_t datagrams_sent = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t send_calls = 0;
  std::uint64_t sends_queued = 0;        // the socket was full
  std::uint64_t datagrams_dropped = 0;   // the queue was full too
  std::uint64_t send_errors = 0;         // refused by the kernel: too large, no route, filtered
  std::uint64_t datagrams_received = 0;
  std::uint64_t bytes_received = 0;
  std::uint64_t receive_calls = 0;
  std::uint64_t receive_errors = 0;
};

struct UdpOptions {
  bool gso = true;
  bool gro = true;
  bool reuse_port = false;  // several shards on one port
  std::size_t buffer_bytes = kSocketBufferBytes;
};

class UdpSocket final : public sys::Datagrams {
 public:
  using OnDatagram = UniqueFunction<void(const sys::Address& from, MutableByteSpan datagram)>;

  // Port 0: the kernel chooses; see local(). `::` receives IPv4 as well.
  static Result<std::unique_ptr<UdpSocket>> bind(const sys::Address& address,
                                                 UdpOptions options = {});

  void send(const sys::Address& to, ByteSpan bytes, std::size_t segment_size) override;
  bool send_probe(const sys::Address& to, ByteSpan datagram) override;
  std::size_t receive_buffer_bytes() const override { return receive_buffer_bytes_; }

  // Hands over what has arrived, up to kReceiveCallsMax * kReceiveBatch trains, and returns the
  // number of datagrams. A span is valid (and may be written to) inside the call only.
  std::size_t receive(OnDatagram& on_datagram);

  // Called with true when a send has to wait for fd() to become writable, with false after.
  void on_want_writable(UniqueFunction<void(bool)> want) { want_writable_ = std::move(want); }
  void on_writable();
  // For tests: as if the kernel's buffer were full, which loopback's never is.
  void pretend_full(bool full) { pretend_full_ = full; }

  int fd() const { return fd_.get(); }
  const sys::Address& local() const { return local_; }
  bool uses_gso() const { return gso_; }
  bool uses_gro() const { return gro_; }
  std::size_t queued_bytes() const { return queued_bytes_; }
  const UdpCounters& counters() const { return counters_; }

 private:
  struct Queued {
    sys::Address to;
    Bytes bytes;
    std::size_t segment_size;
  };
  struct ReceiveBuffers;
  struct FreeReceiveBuffers {
    void operator()(ReceiveBuffers* buffers) const noexcept;
  };

  UdpSocket(Fd fd, int family) : fd_(std::move(fd)), family_(family) {}
  Result<void> set_up(const sys::Address& address, const UdpOptions& options);
  // How many bytes of `bytes` are dealt with, sent or given up; fewer than all: the socket is full.
  std::size_t send_now(const sys::Address& to, ByteSpan bytes, std::size_t segment_size);
  std::size_t send_one_by_one(const sys::Address& to, ByteSpan bytes, std::size_t segment_size);
  void enqueue(const sys::Address& to, ByteSpan bytes, std::size_t segment_size);
  std::size_t deliver(const sys::Address& from, MutableByteSpan train, std::size_t segment_size,
                      OnDatagram& on_datagram);

  Fd fd_;
  int family_;
  sys::Address local_{};
  bool gso_ = false;
  bool gro_ = false;
  std::size_t receive_buffer_bytes_ = 0;
  std::deque<Queued> queue_;
  std::size_t queued_bytes_ = 0;
  bool pretend_full_ = false;
  UniqueFunction<void(bool)> want_writable_;
  std::unique_ptr<ReceiveBuffers, FreeReceiveBuffers> receive_;
  UdpCounters counters_;
};

}  // namespace magma::sys_real
