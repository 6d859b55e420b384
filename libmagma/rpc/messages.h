// Messages on their way: OutMessage is one being sent, OutQueue all of a connection in the order
// they may send, Assembly one being received. Owned by a Connection; one thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "libmagma/rpc/byte_ranges.h"
#include "libmagma/rpc/packet.h"
#include "libmagma/rpc/rpc.h"

namespace magma::rpc {

// Messages up to this size may always be sent at once; longer ones send this much, then the rest
// when granted, unless the peer allows more (Parameters::unscheduled_bytes).
inline constexpr std::uint32_t kUnscheduledBytes = 64 * 1024;

struct OutMessage {
  static constexpr std::uint32_t kNone = 0xffffffff;

  Message message;
  std::uint64_t id = 0;             // 0: the place is free
  std::uint32_t generation = 0;
  std::uint32_t total = 0;
  std::uint32_t next_offset = 0;    // first byte never sent
  std::uint32_t grant_end = 0;      // bytes below may be sent
  std::uint32_t charged = 0;        // part of the peer's unscheduled allowance it holds
  Priority priority{};
  bool is_response = false;
  bool empty_to_send = false;       // a message of no bytes still has one frame to send
  bool is_queued = false;
  std::uint32_t previous = kNone;   // in the queue of its priority
  std::uint32_t next = kNone;
  ByteRanges acked;
  ByteRanges resend;

  bool has_something_to_send() const {
    return empty_to_send || !resend.empty() || next_offset < std::min(grant_end, total);
  }
  // Copies bytes [offset, offset + length) of head and tail.
  void copy_to(FrameWriter& out, std::uint32_t offset, std::uint32_t length) const;
};

// A slot is a place in a growing array, named by (slot, generation) so that a late acknowledgement
// of a finished message finds nothing.
class OutQueue {
 public:
  std::uint32_t add(std::uint64_t id, bool is_response, Message message, Priority priority);
  OutMessage& at(std::uint32_t slot) { return places_[slot]; }
  OutMessage* find(std::uint32_t slot, std::uint32_t generation);
  void remove(std::uint32_t slot);
  // Puts it in (at the end) or takes it out of its priority's queue, by has_something_to_send().
  void update(std::uint32_t slot);
  // Something of it was lost: it goes before all of its priority of which nothing was, the oldest
  // first. At the end it would be late by the whole backlog, and again if that is lost, too.
  void hurry(std::uint32_t slot);
  // The slot that may send next; OutMessage::kNone if none.
  std::uint32_t first() const;
  bool empty() const { return first() == OutMessage::kNone; }
  // Calls visit(slot, message) for each message alive.
  template <class Visit>
  void for_each(Visit&& visit) {
    for (std::uint32_t i = 0; i < places_.size(); ++i)
      if (places_[i].id != 0) visit(i, places_[i]);
  }

 private:
  void link_before(std::uint32_t next, std::uint32_t slot);
  void unlink(std::uint32_t slot);

  std::vector<OutMessage> places_;
  std::vector<std::uint32_t> free_;
  std::uint32_t heads_[kPriorities] = {OutMessage::kNone, OutMessage::kNone, OutMessage::kNone,
                                       OutMessage::kNone, OutMessage::kNone};
  std::uint32_t tails_[kPriorities] = {OutMessage::kNone, OutMessage::kNone, OutMessage::kNone,
                                       OutMessage::kNone, OutMessage::kNone};
};

// Reuses the large buffers messages are put together in: a fresh megabyte costs more page faults
// than its copy. Shared by the connections of an endpoint.
class BufferPool {
 public:
  struct Buffer {
    std::unique_ptr<std::uint8_t[]> bytes;
    std::uint32_t capacity = 0;
  };
  Buffer take(std::uint32_t size);
  void give(Buffer buffer);

 private:
  static constexpr std::size_t kBuffersMax = 16;
  static constexpr std::uint32_t kSmallBytes = 256 * 1024;  // below: malloc is good enough
  static constexpr std::uint32_t kLargeBytes = (1u << 20) + 65536;
  std::vector<Buffer> free_;
};

// A message being received. Idle (total unknown) until its first part.
struct Assembly {
  BufferPool::Buffer buffer;
  std::uint32_t total = 0;
  std::uint32_t size = 0;       // bytes of buffer it may use; < total until the rest is granted
  bool is_begun = false;
  bool wants_grant = false;     // waits for the budget
  bool is_grant_given = false;
  ByteRanges received;

  bool is_whole() const { return is_begun && received.bytes() == total; }
};

}  // namespace magma::rpc
