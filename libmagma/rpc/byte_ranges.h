// A set of byte offsets kept as sorted, disjoint [begin, end) ranges: which bytes of a message have
// arrived, are acknowledged, or must be sent again. Almost always one or two ranges, so a vector.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace magma::rpc {

struct ByteRange {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

class ByteRanges {
 public:
  bool empty() const { return ranges_.empty(); }
  std::size_t count() const { return ranges_.size(); }
  std::uint32_t bytes() const { return bytes_; }
  void clear() {
    ranges_.clear();
    bytes_ = 0;
  }
  ByteRange front() const { return ranges_.front(); }
  const std::vector<ByteRange>& all() const { return ranges_; }

  // Adds [begin, end); returns how many bytes were not in the set before.
  std::uint32_t add(std::uint32_t begin, std::uint32_t end) {
    if (begin >= end) return 0;
    const std::uint32_t before = bytes_;
    if (!ranges_.empty() && ranges_.back().end == begin) {  // in order: the common case
      ranges_.back().end = end;
      bytes_ += end - begin;
      return end - begin;
    }
    auto first = std::lower_bound(ranges_.begin(), ranges_.end(), begin,
                                  [](const ByteRange& r, std::uint32_t b) { return r.end < b; });
    auto last = first;
    std::uint32_t covered = 0;
    ByteRange merged{begin, end};
    for (; last != ranges_.end() && last->begin <= end; ++last) {
      merged.begin = std::min(merged.begin, last->begin);
      merged.end = std::max(merged.end, last->end);
      covered += last->end - last->begin;
    }
    bytes_ += (merged.end - merged.begin) - covered;
    if (first == last) {
      ranges_.insert(first, merged);
    } else {
      *first = merged;
      ranges_.erase(first + 1, last);
    }
    return bytes_ - before;
  }

  void remove(std::uint32_t begin, std::uint32_t end) {
    if (begin >= end) return;
    for (std::size_t i = 0; i < ranges_.size();) {
      ByteRange& r = ranges_[i];
      if (r.end <= begin || r.begin >= end) {
        ++i;
        continue;
      }
      const std::uint32_t cut_begin = std::max(r.begin, begin);
      const std::uint32_t cut_end = std::min(r.end, end);
      bytes_ -= cut_end - cut_begin;
      if (r.begin < cut_begin && cut_end < r.end) {
        const ByteRange tail{cut_end, r.end};
        r.end = cut_begin;
        ranges_.insert(ranges_.begin() + static_cast<std::ptrdiff_t>(i) + 1, tail);
        return;
      }
      if (r.begin < cut_begin) {
        r.end = cut_begin;
        ++i;
      } else if (cut_end < r.end) {
        r.begin = cut_end;
        ++i;
      } else {
        ranges_.erase(ranges_.begin() + static_cast<std::ptrdiff_t>(i));
      }
    }
  }

 private:
  std::vector<ByteRange> ranges_;
  std::uint32_t bytes_ = 0;
};

}  // namespace magma::rpc
