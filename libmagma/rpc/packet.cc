#include "libmagma/rpc/packet.h"

#include "libmagma/rpc/rpc.h"

namespace magma::rpc {

namespace {
constexpr std::uint8_t kTypeMask = 0x0f;
constexpr std::uint8_t kKeyPhaseBit = 0x80;
}  // namespace

void write_header(std::uint8_t* out, const Header& header) {
  store64(out, std::uint64_t{header.shard} << 56 |
                   std::uint64_t{static_cast<std::uint8_t>(
                       static_cast<unsigned>(header.type) | (header.key_phase ? kKeyPhaseBit : 0u))}
                       << 48 |
                   (header.connection & kConnectionIdMask));
  store64(out + 8, header.number);
}

bool read_header(ByteSpan packet, Header& header) {
  if (packet.size() < kHeaderBytes) return false;
  const std::uint8_t kind = packet[1];
  header.shard = packet[0];
  header.type = static_cast<PacketType>(kind & kTypeMask);
  header.key_phase = (kind & kKeyPhaseBit) != 0;
  header.connection = load64(packet.data()) & kConnectionIdMask;
  header.number = load64(packet.data() + 8);
  const bool known = header.type >= PacketType::hello && header.type <= PacketType::reset;
  const bool other_bits = (kind & ~(kTypeMask | kKeyPhaseBit)) != 0;
  return known && !other_bits && (!header.key_phase || header.type == PacketType::data);
}

bool FrameReader::read_message(Frame& frame, bool part) {
  const std::size_t fixed = part ? kPartFrameBytes : kWholeFrameBytes;
  if (in_.size() < fixed) return fail();
  const std::uint8_t* p = in_.data();
  frame.is_response = frame.type == FrameType::response || frame.type == FrameType::response_part;
  frame.needs_grant = part && (p[1] & kNeedsGrant) != 0;
  frame.priority = part ? static_cast<std::uint8_t>(p[1] & ~kNeedsGrant) : p[1];
  frame.id = load64(p + 2);
  const std::size_t length = load16(p + fixed - 2);
  frame.offset = part ? load32(p + 10) : 0;
  frame.total = part ? load32(p + 14) : static_cast<std::uint32_t>(length);
  if (frame.priority >= kPriorities || frame.id == 0 || in_.size() - fixed < length ||
      std::uint64_t{frame.offset} + length > frame.total || (part && length == 0))
    return fail();
  frame.bytes = in_.subspan(fixed, length);
  in_ = in_.subspan(fixed + length);
  return true;
}

bool FrameReader::read_ack(Frame& frame) {
  if (in_.size() < kAckFrameBytes) return fail();
  const std::uint8_t* p = in_.data();
  frame.largest = load64(p + 1);
  frame.delay_us = load32(p + 9);
  const unsigned more = p[13];
  const std::uint64_t first = load32(p + 14);
  if (more > kAckRangesMax || first > frame.largest ||
      in_.size() < kAckFrameBytes + more * kAckRangeBytes)
    return fail();
  frame.ranges[0] = {frame.largest - first, frame.largest};
  std::uint64_t low = frame.largest - first;
  p += kAckFrameBytes;
  for (unsigned i = 1; i <= more; ++i, p += kAckRangeBytes) {
    const std::uint64_t gap = std::uint64_t{load32(p)} + 2;
    const std::uint64_t length = load32(p + 4);
    if (low < gap || low - gap < length) return fail();
    frame.ranges[i] = {low - gap - length, low - gap};
    low = frame.ranges[i].low;
  }
  frame.range_count = more + 1;
  in_ = in_.subspan(kAckFrameBytes + more * kAckRangeBytes);
  return true;
}

bool FrameReader::next(Frame& frame) {
  if (bad_ || in_.empty()) return false;
  const std::uint8_t* p = in_.data();
  frame.type = static_cast<FrameType>(p[0]);
  std::size_t size = 0;
  switch (frame.type) {
    case FrameType::padding: in_ = {}; return false;
    case FrameType::request:
    case FrameType::response: return read_message(frame, false);
    case FrameType::request_part:
    case FrameType::response_part: return read_message(frame, true);
    case FrameType::ack: return read_ack(frame);
    case FrameType::grant: size = 14; break;
    case FrameType::cancel:
    case FrameType::challenge:
    case FrameType::challenge_answer: size = 9; break;
    case FrameType::ping: size = 1; break;
    case FrameType::close: size = 3; break;
    case FrameType::credit: size = 5; break;
    case FrameType::refuse: size = 11; break;
    default: return fail();
  }
  if (in_.size() < size) return fail();
  switch (frame.type) {
    case FrameType::grant:
      if (p[1] > 1) return fail();
      frame.is_response = p[1] == 1;
      frame.id = load64(p + 2);
      frame.offset = load32(p + 10);
      break;
    case FrameType::close: frame.code = load16(p + 1); break;
    case FrameType::credit: frame.offset = load32(p + 1); break;
    case FrameType::refuse: frame.code = load16(p + 9); [[fallthrough]];
    case FrameType::cancel:
    case FrameType::challenge:
    case FrameType::challenge_answer: frame.id = load64(p + 1); break;
    default: break;
  }
  in_ = in_.subspan(size);
  return true;
}

}  // namespace magma::rpc
