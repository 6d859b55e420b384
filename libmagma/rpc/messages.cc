#include "libmagma/rpc/messages.h"

#include <algorithm>
#include <utility>

#include "libmagma/base/check.h"

namespace magma::rpc {

void OutMessage::copy_to(FrameWriter& out, std::uint32_t offset, std::uint32_t length) const {
  MAGMA_CHECK(std::uint64_t{offset} + length <= total);
  const std::size_t head_size = message.head.size();
  if (offset < head_size) {
    const std::size_t from_head = std::min<std::size_t>(length, head_size - offset);
    out.raw({message.head.data() + offset, from_head});
    offset += static_cast<std::uint32_t>(from_head);
    length -= static_cast<std::uint32_t>(from_head);
  }
  if (length > 0) out.raw({message.tail.data() + (offset - head_size), length});
}

std::uint32_t OutQueue::add(std::uint64_t id, bool is_response, Message message,
                            Priority priority) {
  MAGMA_CHECK(id != 0);
  std::uint32_t slot;
  if (free_.empty()) {
    slot = static_cast<std::uint32_t>(places_.size());
    places_.emplace_back();
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  OutMessage& m = places_[slot];
  m.message = std::move(message);
  m.id = id;
  m.total = static_cast<std::uint32_t>(m.message.size());
  m.next_offset = 0;
  m.grant_end = std::min(m.total, kUnscheduledBytes);
  m.charged = 0;
  m.priority = priority;
  m.is_response = is_response;
  m.empty_to_send = m.total == 0;
  return slot;
}

OutMessage* OutQueue::find(std::uint32_t slot, std::uint32_t generation) {
  if (slot >= places_.size()) return nullptr;
  OutMessage& m = places_[slot];
  return m.id != 0 && m.generation == generation ? &m : nullptr;
}

void OutQueue::remove(std::uint32_t slot) {
  OutMessage& m = places_[slot];
  MAGMA_CHECK(m.id != 0);
  if (m.is_queued) unlink(slot);
  m.message = {};
  m.id = 0;
  ++m.generation;
  m.acked.clear();
  m.resend.clear();
  free_.push_back(slot);
}

void OutQueue::update(std::uint32_t slot) {
  OutMessage& m = places_[slot];
  const bool wants = m.has_something_to_send();
  if (wants == m.is_queued) return;
  if (!wants) {
    unlink(slot);
    return;
  }
  link_before(OutMessage::kNone, slot);
}

void OutQueue::hurry(std::uint32_t slot) {
  OutMessage& m = places_[slot];
  if (m.is_queued) unlink(slot);
  if (!m.has_something_to_send()) return;
  std::uint32_t next = heads_[static_cast<unsigned>(m.priority)];
  while (next != OutMessage::kNone && !places_[next].resend.empty() && places_[next].id < m.id)
    next = places_[next].next;
  link_before(next, slot);
}

// kNone: at the end.
void OutQueue::link_before(std::uint32_t next, std::uint32_t slot) {
  OutMessage& m = places_[slot];
  const auto p = static_cast<unsigned>(m.priority);
  m.next = next;
  std::uint32_t& back = next == OutMessage::kNone ? tails_[p] : places_[next].previous;
  m.previous = std::exchange(back, slot);
  (m.previous == OutMessage::kNone ? heads_[p] : places_[m.previous].next) = slot;
  m.is_queued = true;
}

void OutQueue::unlink(std::uint32_t slot) {
  OutMessage& m = places_[slot];
  const auto p = static_cast<unsigned>(m.priority);
  (m.previous == OutMessage::kNone ? heads_[p] : places_[m.previous].next) = m.next;
  (m.next == OutMessage::kNone ? tails_[p] : places_[m.next].previous) = m.previous;
  m.is_queued = false;
}

std::uint32_t OutQueue::first() const {
  for (std::uint32_t head : heads_)
    if (head != OutMessage::kNone) return head;
  return OutMessage::kNone;
}

BufferPool::Buffer BufferPool::take(std::uint32_t size) {
  if (size > kSmallBytes && size <= kLargeBytes) {
    if (!free_.empty()) {
      Buffer buffer = std::move(free_.back());
      free_.pop_back();
      return buffer;
    }
    return {std::make_unique_for_overwrite<std::uint8_t[]>(kLargeBytes), kLargeBytes};
  }
  return {std::make_unique_for_overwrite<std::uint8_t[]>(size), size};
}

void BufferPool::give(Buffer buffer) {
  if (buffer.capacity == kLargeBytes && free_.size() < kBuffersMax)
    free_.push_back(std::move(buffer));
}

}  // namespace magma::rpc
