// Bytes of a file in memory, as pages that exist only where something was written: the oracle must
// hold files with data at 100 MiB without holding 100 MiB.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>

#include "libmagma/base/bytes.h"

namespace magma::test {

class SparseBytes {
 public:
  static constexpr std::uint64_t kPage = 4096;

  std::uint64_t size() const { return size_; }
  void write(std::uint64_t offset, ByteSpan bytes) {
    if (bytes.empty()) return;
    size_ = std::max(size_, offset + bytes.size());
    while (!bytes.empty()) {
      Bytes& page = pages_[offset / kPage];
      page.resize(kPage);
      const std::uint64_t at = offset % kPage;
      const std::size_t part =
          static_cast<std::size_t>(std::min<std::uint64_t>(kPage - at, bytes.size()));
      std::copy_n(bytes.begin(), part, page.begin() + static_cast<std::ptrdiff_t>(at));
      bytes = bytes.subspan(part);
      offset += part;
    }
  }
  void truncate(std::uint64_t size) {
    if (size < size_) {
      pages_.erase(pages_.lower_bound((size + kPage - 1) / kPage), pages_.end());
      if (auto last = pages_.find(size / kPage); last != pages_.end())
        std::fill(last->second.begin() + static_cast<std::ptrdiff_t>(size % kPage),
                  last->second.end(), std::uint8_t{0});
    }
    size_ = size;
  }
  // Zeros from `from` up to `to`; the size stays.
  void zero(std::uint64_t from, std::uint64_t to) {
    for (auto page = pages_.lower_bound(from / kPage); page != pages_.end(); ++page) {
      const std::uint64_t start = page->first * kPage;
      if (start >= to) break;
      const std::uint64_t first = std::max(from, start) - start;
      const std::uint64_t last = std::min(to - start, kPage);
      if (first < last)
        std::fill(page->second.begin() + static_cast<std::ptrdiff_t>(first),
                  page->second.begin() + static_cast<std::ptrdiff_t>(last), std::uint8_t{0});
    }
  }
  // Fewer bytes only at the end.
  Bytes read(std::uint64_t offset, std::uint64_t length) const {
    if (offset >= size_) return {};
    Bytes out(static_cast<std::size_t>(std::min(length, size_ - offset)));
    for (std::size_t done = 0; done < out.size();) {
      const std::uint64_t at = (offset + done) % kPage;
      const std::size_t part =
          static_cast<std::size_t>(std::min<std::uint64_t>(kPage - at, out.size() - done));
      if (auto page = pages_.find((offset + done) / kPage); page != pages_.end())
        std::copy_n(page->second.begin() + static_cast<std::ptrdiff_t>(at), part,
                    out.begin() + static_cast<std::ptrdiff_t>(done));
      done += part;
    }
    return out;
  }
  // Offsets of pages that hold something, and the last byte's: where a check must look.
  template <class Visit>
  void for_each_page(Visit visit) const {
    for (const auto& [index, page] : pages_) visit(index * kPage, page);
  }
  friend bool operator==(const SparseBytes& a, const SparseBytes& b) {
    if (a.size_ != b.size_) return false;
    return a.covers(b) && b.covers(a);
  }

 private:
  bool covers(const SparseBytes& other) const {
    return std::all_of(pages_.begin(), pages_.end(), [&](const auto& entry) {
      auto match = other.pages_.find(entry.first);
      if (match != other.pages_.end()) return match->second == entry.second;
      return std::all_of(entry.second.begin(), entry.second.end(), [](auto b) { return b == 0; });
    });
  }
  std::map<std::uint64_t, Bytes> pages_;  // by number; each kPage long, zeros past the end
  std::uint64_t size_ = 0;
};

}  // namespace magma::test
