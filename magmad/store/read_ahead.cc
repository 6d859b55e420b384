#include "magmad/store/read_ahead.h"

#include <algorithm>

namespace magma::store {

bool ReadAhead::Stream::is_at(const ContentId& content, std::uint64_t offset) const {
  if (used == 0) return false;
  // The next chunk of a file follows the end of the one before.
  if (content.ino == id.ino && content.chunk == id.chunk + 1)
    return place == kChunkBytes && offset == 0;
  return content == id && offset + kSlack >= place && offset <= place + kSlack;
}

ReadAhead::Stream* ReadAhead::find(const ContentId& id, std::uint64_t offset) {
  for (Stream& stream : streams_)
    if (stream.is_at(id, offset)) return &stream;
  return nullptr;
}

// Takes the place of the stream not used for longest, of those that read nothing ahead if any.
ReadAhead::Stream& ReadAhead::begin(const ContentId& id, std::uint64_t offset) {
  auto& stream = *std::min_element(streams_.begin(), streams_.end(), [](auto& a, auto& b) {
    return std::pair(a.window != 0, a.used) < std::pair(b.window != 0, b.used);
  });
  stream = Stream{.id = id, .place = offset};
  return stream;
}

bool ReadAhead::is_ahead(const ContentId& id, std::uint64_t offset, std::uint64_t length) const {
  return std::any_of(streams_.begin(), streams_.end(), [&](const Stream& stream) {
    return stream.used != 0 && stream.id == id && stream.covers(offset, length);
  });
}

bool ReadAhead::note(const ContentId& id, std::uint64_t offset, std::uint64_t length,
                     bool missed) {
  Stream* found = find(id, offset);
  const bool follows = found != nullptr || offset == 0;
  Stream& stream = found != nullptr ? *found : begin(id, offset);
  stream.used = ++uses_;
  if (stream.id != id) {  // a chunk ends, the next begins
    stream.id = id;
    stream.place = stream.from = stream.ahead = 0;
  }
  const bool lost = missed && stream.covers(offset, length);
  stream.place = std::max(stream.place, offset + length);
  stream.run += length;
  if (stream.window == 0) {
    if (!missed || !follows || stream.run < kRunMin) return false;
    stream.window = kPieceBytes;
    stream.from = stream.ahead = stream.place;
    return true;
  }
  if (lost)
    narrow(stream);
  else
    stream.window = std::min(stream.window * 2, kWindowMax);
  if (stream.ahead < stream.place) stream.from = stream.ahead = stream.place;
  return stream.window != 0;
}

void ReadAhead::narrow(Stream& stream) {
  stream.window /= 2;
  if (stream.window < kPieceBytes) stream.window = stream.run = 0;
}

std::optional<ReadAhead::Piece> ReadAhead::next(const ContentId& id, std::uint64_t size) {
  for (Stream& stream : streams_) {
    if (stream.used == 0 || stream.id != id || stream.window == 0) continue;
    const std::uint64_t end =
        std::min((stream.ahead / kPieceBytes + 1) * kPieceBytes, size);
    if (stream.ahead >= end || end > stream.place + stream.window) continue;
    Piece piece{stream.ahead, end - stream.ahead};
    stream.ahead = end;
    return piece;
  }
  return std::nullopt;
}

void ReadAhead::stop(const ContentId& id) {
  for (Stream& stream : streams_)
    if (stream.used != 0 && stream.id == id) stream.window = 0;
}

}  // namespace magma::store
