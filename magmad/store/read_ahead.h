// Which reads of content are sequential, and which pieces to read ahead of them: arithmetic only,
// for content_read.cc, on the shard's thread.
//
// A stream is a place in a content that reads have come to one after the other. It begins to read
// ahead when a sequential read has missed the page cache, with a window of one piece that doubles
// with each further read. A read that misses what was read ahead says that memory is short (the
// kernel has dropped pages before they were wanted): the window is halved, and below one piece
// nothing more is read ahead. A stream whose reads go elsewhere is forgotten when its place in the
// table is wanted. So at most kStreamsMax * kWindowMax bytes are ahead of their readers.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "magmad/store/content_store.h"

namespace magma::store {

class ReadAhead {
 public:
  static constexpr std::size_t kStreamsMax = 32;
  static constexpr std::uint64_t kPieceBytes = kSumsRangeBytes;
  static constexpr std::uint64_t kWindowMax = 4 * kPieceBytes;
  // Of a sequential run, before anything is read ahead of it.
  static constexpr std::uint64_t kRunMin = 256u << 10;
  // Requests of one reader overtake one another: what is this near to the place expected follows.
  static constexpr std::uint64_t kSlack = kPieceBytes;

  struct Piece {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
  };

  // Whether the bytes are of pieces that next() has given, so that a read of them which does not
  // find them in memory has lost them.
  bool is_ahead(const ContentId& id, std::uint64_t offset, std::uint64_t length) const;
  // A read came; `missed`: it was not in memory. True if pieces may be wanted now.
  bool note(const ContentId& id, std::uint64_t offset, std::uint64_t length, bool missed);
  // The next piece to be read ahead in a content of `size` bytes; it counts as begun. Pieces end at
  // multiples of kPieceBytes.
  std::optional<Piece> next(const ContentId& id, std::uint64_t size);
  // Nothing is to be read ahead there until a sequential read misses again.
  void stop(const ContentId& id);

 private:
  struct Stream {
    ContentId id{};
    std::uint64_t place = 0;   // where the next read is expected
    std::uint64_t run = 0;     // bytes read in sequence
    std::uint64_t window = 0;  // 0: reads nothing ahead
    std::uint64_t from = 0;    // what was read ahead: from here
    std::uint64_t ahead = 0;   // to here
    std::uint64_t used = 0;    // when; 0: no stream
    bool is_at(const ContentId& content, std::uint64_t offset) const;
    bool covers(std::uint64_t offset, std::uint64_t length) const {
      return window != 0 && offset >= from && offset + length <= ahead;
    }
  };
  Stream* find(const ContentId& id, std::uint64_t offset);
  Stream& begin(const ContentId& id, std::uint64_t offset);
  static void narrow(Stream& stream);

  std::array<Stream, kStreamsMax> streams_{};
  std::uint64_t uses_ = 0;
};

}  // namespace magma::store
