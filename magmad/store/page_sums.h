// Checksums of content: the page_sums rows. A row holds the CRC32C of up to 256 pages of 4 KiB,
// four bytes each, big-endian: one MiB of a content file, which c names (4 bytes, big-endian). A
// page without an entry is all zeros, so every page of every file has a known sum; entries of zero
// pages at the end of a row, and rows of zero pages only, are not stored: equal content, equal
// rows. The last page of a file is summed as if zeros followed, so that extending a file
// changes nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "libmagma/base/result.h"
#include "magmad/store/content_store.h"

namespace magma::store {

inline constexpr std::uint64_t kPagesPerRow = kSumsRangeBytes / kPageBytes;
static_assert(kPagesPerRow == 256);

std::uint32_t zero_page_sum();
std::string four_bytes(std::uint32_t number);  // for RowKey::c
// The number of a 4-byte c; malformed otherwise.
Result<std::uint32_t> four_byte_number(std::string_view c);

// Pages first..first+count-1 of a content file.
struct PageRange {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
};
// Pages that bytes [offset, offset + length) touch.
PageRange pages_of(std::uint64_t offset, std::uint64_t length);

Result<std::vector<std::uint32_t>> get_sums(MetadataStore& metadata, const ContentId& id,
                                            PageRange pages);
// Stores the sums of pages from `first` on, in the open transaction.
Result<void> put_sums(MetadataStore& metadata, const ContentId& id, const Version& version,
                      std::uint64_t first, std::span<const std::uint32_t> sums);
// Forgets the sums of pages from `first` to the end of the file.
Result<void> cut_sums(MetadataStore& metadata, const ContentId& id, const Version& version,
                      std::uint64_t first);
Result<bool> has_sums(MetadataStore& metadata, const ContentId& id);

}  // namespace magma::store
