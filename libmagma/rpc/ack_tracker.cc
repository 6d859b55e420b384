#include "libmagma/rpc/ack_tracker.h"

#include <algorithm>

#include "libmagma/base/check.h"

namespace magma::rpc {

void AckTracker::on_packet(std::uint64_t number, std::size_t bytes, bool asks_for_ack,
                           Instant now) {
  const bool in_order = count_ == 0 || number == ranges_[0].high + 1;
  if (count_ == 0 || number > ranges_[0].high) largest_at_ = now;
  insert(number);
  if (!asks_for_ack) return;
  if (owed_packets_++ == 0) due_ = now + kAckDelay;
  owed_bytes_ += bytes;
  if (!in_order || owed_bytes_ >= kAckEveryBytes) at_once_ = true;
  if (owed_packets_ < every_packets_ || at_once_) return;
  at_once_ = true;
  every_packets_ = std::min(every_packets_ + 1, kAckEveryPackets);
}

Instant AckTracker::deadline() const {
  if (owed_packets_ == 0) return Instant::never();
  return at_once_ ? Instant{} : due_;
}

void AckTracker::insert(std::uint64_t number) {
  if (count_ > 0 && number == ranges_[0].high + 1) {
    ranges_[0].high = number;
    return;
  }
  unsigned at = 0;
  while (at < count_ && ranges_[at].low > number + 1) ++at;
  // ranges_[at] is the first that is not wholly above number + 1.
  if (at < count_ && number <= ranges_[at].high && number >= ranges_[at].low) return;
  if (at < count_ && ranges_[at].low == number + 1) {
    ranges_[at].low = number;
    if (at + 1 < count_ && ranges_[at + 1].high + 1 == number) {
      ranges_[at].low = ranges_[at + 1].low;
      std::copy(ranges_ + at + 2, ranges_ + count_, ranges_ + at + 1);
      --count_;
    }
    return;
  }
  if (at < count_ && ranges_[at].high + 1 == number) {
    ranges_[at].high = number;
    return;
  }
  if (count_ == kRangesMax) {
    if (at == kRangesMax) return;  // older than all we keep; the peer will send it again
    --count_;
  }
  std::copy_backward(ranges_ + at, ranges_ + count_, ranges_ + count_ + 1);
  ranges_[at] = {number, number};
  ++count_;
}

std::uint64_t AckTracker::write(FrameWriter& out, Instant now) {
  MAGMA_CHECK(count_ > 0 && out.room() >= kAckFrameBytes);
  if (!at_once_ && owed_packets_ > 1 && now >= due_)
    every_packets_ = std::max(owed_packets_ / 2, kAckEveryPacketsMin);
  const unsigned more = static_cast<unsigned>(std::min<std::size_t>(
      {count_ - 1, kAckRangesMax, (out.room() - kAckFrameBytes) / kAckRangeBytes}));
  auto clamp = [](std::uint64_t v) {
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(v, 0xffffffff));
  };
  out.u8(static_cast<std::uint8_t>(FrameType::ack));
  out.u64(ranges_[0].high);
  out.u32(clamp(static_cast<std::uint64_t>(std::max<std::int64_t>(0, (now - largest_at_).ns)) /
                1000));
  out.u8(static_cast<std::uint8_t>(more));
  out.u32(clamp(ranges_[0].high - ranges_[0].low));
  for (unsigned i = 1; i <= more; ++i) {
    out.u32(clamp(ranges_[i - 1].low - ranges_[i].high - 2));
    out.u32(clamp(ranges_[i].high - ranges_[i].low));
  }
  owed_packets_ = 0;
  owed_bytes_ = 0;
  at_once_ = false;
  return ranges_[0].high;
}

void AckTracker::on_ack_seen(std::uint64_t largest) {
  while (count_ > 1 && ranges_[count_ - 1].high <= largest) --count_;
}

}  // namespace magma::rpc
