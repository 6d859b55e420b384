// Packets and frames of the rpc layer: the bytes on the wire. All integers are big-endian.
//
// HEADER, 16 bytes, in clear, authenticated as associated data where the packet is sealed:
//   0      shard of the receiver (SO_REUSEPORT steering looks at this byte alone)
//   1      bits 0-3 type: 1 hello, 2 hello_answer, 3 init, 4 init_answer, 5 data, 6 reset;
//          7: not this header but a packet that is passed on (relay.h)
//          bit 7 key phase (data only); the other bits are 0
//   2-7    connection id, chosen by the receiver; 0 where the receiver has not chosen one yet
//   8-15   packet number; grows by at least 1 with every data packet of a direction, never repeats
//
// DATA: header, then frames sealed with the direction's key (nonce = packet number), then a 16-byte
// tag. A data packet that cannot be authenticated changes nothing.
//
// RESET: header (connection id and packet number of the data packet it answers), 16-byte tag under
// the reset key of the network. Says "I know no such connection"; at least one byte shorter than
// what it answers. See handshaking.h for it and for the four set-up packets.
//
// FRAMES of a data packet, one after the other, until the end:
//   0x00 padding      everything up to the end of the packet is zero and means nothing
//   0x01 request      priority u8, id u64, length u16, bytes            a whole request
//   0x02 response     priority u8, id u64, length u16, bytes            a whole response
//   0x03 request part priority u8, id u64, offset u32, total u32, length u16, bytes
//   0x04 response part  likewise. Bit 7 of priority: the sender needs a grant to go on.
//   0x05 ack          largest u64, delay_us u32, count u8, first u32, count x (gap u32, more u32)
//                     acknowledges [largest - first, largest]; then each range lies below the one
//                     before: its top is (bottom before) - gap - 2, its bottom top - more
//   0x06 grant        kind u8 (0 request, 1 response), id u64, end u32: bytes below `end` may come
//   0x07 cancel       id u64: the request's sender no longer wants its response
//   0x08 ping         asks for an ack
//   0x09 close        code u16: the sender has forgotten the connection
//   0x0a credit       bytes u32: how much may be in flight towards the sender of this frame
//   0x0b challenge    token u64: sent to a new address of the peer
//   0x0c challenge answer  token u64
//   0x0d refuse       id u64, code u16: the request will not be answered for this reason
// Every packet with a frame other than padding, ack and close asks for an acknowledgement.
#pragma once

#include <cstdint>
#include <cstring>

#include "libmagma/base/bytes.h"

namespace magma::rpc {

inline constexpr std::size_t kHeaderBytes = 16;
inline constexpr std::size_t kSealBytes = 16;
inline constexpr std::size_t kPacketOverhead = kHeaderBytes + kSealBytes;
inline constexpr std::uint64_t kConnectionIdMask = (std::uint64_t{1} << 48) - 1;

enum class PacketType : std::uint8_t {
  hello = 1,
  hello_answer = 2,
  init = 3,
  init_answer = 4,
  data = 5,
  reset = 6,
};

struct Header {
  std::uint8_t shard = 0;
  PacketType type{};
  bool key_phase = false;
  std::uint64_t connection = 0;  // 48 bits
  std::uint64_t number = 0;
};

enum class FrameType : std::uint8_t {
  padding = 0,
  request = 1,
  response = 2,
  request_part = 3,
  response_part = 4,
  ack = 5,
  grant = 6,
  cancel = 7,
  ping = 8,
  close = 9,
  credit = 10,
  challenge = 11,
  challenge_answer = 12,
  refuse = 13,
};

inline constexpr std::size_t kWholeFrameBytes = 12;  // before the bytes of the message
inline constexpr std::size_t kPartFrameBytes = 20;
inline constexpr std::size_t kAckFrameBytes = 18;    // with one range
inline constexpr std::size_t kAckRangeBytes = 8;
inline constexpr std::size_t kControlFrameBytesMax = 14;
inline constexpr unsigned kAckRangesMax = 32;
inline constexpr std::uint8_t kNeedsGrant = 0x80;

// Big-endian stores and loads on raw memory: the caller has checked the room.
inline void store16(std::uint8_t* p, std::uint16_t v) {
  v = __builtin_bswap16(v);
  std::memcpy(p, &v, 2);
}
inline void store32(std::uint8_t* p, std::uint32_t v) {
  v = __builtin_bswap32(v);
  std::memcpy(p, &v, 4);
}
inline void store64(std::uint8_t* p, std::uint64_t v) {
  v = __builtin_bswap64(v);
  std::memcpy(p, &v, 8);
}
inline std::uint16_t load16(const std::uint8_t* p) {
  std::uint16_t v;
  std::memcpy(&v, p, 2);
  return __builtin_bswap16(v);
}
inline std::uint32_t load32(const std::uint8_t* p) {
  std::uint32_t v;
  std::memcpy(&v, p, 4);
  return __builtin_bswap32(v);
}
inline std::uint64_t load64(const std::uint8_t* p) {
  std::uint64_t v;
  std::memcpy(&v, p, 8);
  return __builtin_bswap64(v);
}
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the swaps above assume it");

// Requires: room for kHeaderBytes at `out`.
void write_header(std::uint8_t* out, const Header& header);
// False if too short or of no known type.
bool read_header(ByteSpan packet, Header& header);

// Appends to a buffer of known room; the caller asks room() first.
class FrameWriter {
 public:
  explicit FrameWriter(MutableByteSpan out) : begin_(out.data()), at_(out.data()),
                                              end_(out.data() + out.size()) {}
  std::size_t size() const { return static_cast<std::size_t>(at_ - begin_); }
  std::size_t room() const { return static_cast<std::size_t>(end_ - at_); }
  void u8(std::uint8_t v) { *at_++ = v; }
  void u16(std::uint16_t v) { store16(at_, v), at_ += 2; }
  void u32(std::uint32_t v) { store32(at_, v), at_ += 4; }
  void u64(std::uint64_t v) { store64(at_, v), at_ += 8; }
  void raw(ByteSpan bytes) {
    if (!bytes.empty()) std::memcpy(at_, bytes.data(), bytes.size());
    at_ += bytes.size();
  }
  void zero_rest() {
    std::memset(at_, 0, room());
    at_ = end_;
  }

 private:
  std::uint8_t* begin_;
  std::uint8_t* at_;
  std::uint8_t* end_;
};

// One decoded frame; which members mean something depends on `type`.
struct Frame {
  FrameType type{};
  std::uint8_t priority = 0;   // messages; with kNeedsGrant stripped
  bool needs_grant = false;
  bool is_response = false;    // messages and grants
  std::uint64_t id = 0;        // message id; token of a challenge
  std::uint32_t offset = 0;    // parts; `end` of a grant; `bytes` of a credit
  std::uint32_t total = 0;     // messages
  std::uint16_t code = 0;      // close, refuse
  MutableByteSpan bytes;       // messages: a view into the packet
  // ack:
  std::uint64_t largest = 0;
  std::uint32_t delay_us = 0;
  struct Range {
    std::uint64_t low, high;   // both acknowledged
  };
  unsigned range_count = 0;
  Range ranges[kAckRangesMax + 1];
};

// Takes a packet's frames one by one. Everything is checked here that can be checked without the
// connection: lengths, priorities, offset + length <= total, ranges that do not run below 0.
class FrameReader {
 public:
  explicit FrameReader(MutableByteSpan frames) : in_(frames) {}
  // False at the end or at the first malformed frame (then bad()).
  bool next(Frame& frame);
  bool bad() const { return bad_; }

 private:
  bool read_message(Frame& frame, bool part);
  bool read_ack(Frame& frame);
  bool fail() {
    bad_ = true;
    return false;
  }

  MutableByteSpan in_;
  bool bad_ = false;
};

}  // namespace magma::rpc
