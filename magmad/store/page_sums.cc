#include "magmad/store/page_sums.h"

#include <algorithm>

#include "libmagma/crypto/checksum.h"

namespace magma::store {
namespace {

constexpr std::size_t kSumBytes = 4;
constexpr std::uint64_t kRowsMax = kChunkBytes / kSumsRangeBytes;

std::uint32_t sum_at(ByteSpan image, std::size_t index) {
  std::size_t at = index * kSumBytes;
  if (at + kSumBytes > image.size()) return zero_page_sum();
  return std::uint32_t{image[at]} << 24 | std::uint32_t{image[at + 1]} << 16 |
         std::uint32_t{image[at + 2]} << 8 | std::uint32_t{image[at + 3]};
}

Result<Bytes> load(MetadataStore& metadata, const RowKey& key) {
  TRY_VALUE(auto row, metadata.get(key));
  if (!row) return Bytes{};
  if (row->image.size() % kSumBytes != 0 || row->image.size() > kPagesPerRow * kSumBytes)
    return fail(Code::malformed, "page_sums row");
  return std::move(row->image);
}

void set_sum(Bytes& image, std::size_t index, std::uint32_t sum) {
  std::size_t at = index * kSumBytes;
  while (image.size() < at + kSumBytes) {
    ByteWriter writer(image);
    writer.put(zero_page_sum());
  }
  for (std::size_t i = 0; i < kSumBytes; ++i)
    image[at + i] = static_cast<std::uint8_t>(sum >> (8 * (kSumBytes - 1 - i)));
}

Result<void> store_row(MetadataStore& metadata, const RowKey& key, const Version& version,
                       Bytes& image) {
  while (!image.empty() && sum_at(image, image.size() / kSumBytes - 1) == zero_page_sum())
    image.erase(image.end() - kSumBytes, image.end());
  if (image.empty()) return metadata.erase(key);
  return metadata.put(key, version, image);
}

RowKey row_key(const ContentId& id, std::uint64_t row) {
  return id.row(Table::page_sums, four_bytes(static_cast<std::uint32_t>(row)));
}

}  // namespace

std::uint32_t zero_page_sum() {
  static const std::uint32_t sum = crypto::crc32c(Bytes(kPageBytes));
  return sum;
}

std::string four_bytes(std::uint32_t number) {
  std::string c(4, '\0');
  for (unsigned i = 0; i < 4; ++i) c[i] = static_cast<char>(number >> (8 * (3 - i)) & 0xff);
  return c;
}

Result<std::uint32_t> four_byte_number(std::string_view c) {
  ByteReader reader(as_bytes(c));
  auto number = reader.get<std::uint32_t>();
  if (!reader.finished()) return fail(Code::malformed, "row key");
  return number;
}

PageRange pages_of(std::uint64_t offset, std::uint64_t length) {
  if (length == 0) return {offset / kPageBytes, 0};
  std::uint64_t first = offset / kPageBytes;
  return {first, (offset + length - 1) / kPageBytes - first + 1};
}

Result<std::vector<std::uint32_t>> get_sums(MetadataStore& metadata, const ContentId& id,
                                            PageRange pages) {
  std::vector<std::uint32_t> sums;
  sums.reserve(pages.count);
  std::uint64_t end = pages.first + pages.count;
  for (std::uint64_t page = pages.first; page < end;) {
    std::uint64_t row = page / kPagesPerRow;
    TRY_VALUE(Bytes image, load(metadata, row_key(id, row)));
    for (; page < end && page / kPagesPerRow == row; ++page)
      sums.push_back(sum_at(image, page % kPagesPerRow));
  }
  return sums;
}

Result<void> put_sums(MetadataStore& metadata, const ContentId& id, const Version& version,
                      std::uint64_t first, std::span<const std::uint32_t> sums) {
  std::uint64_t end = first + sums.size();
  for (std::uint64_t page = first; page < end;) {
    std::uint64_t row = page / kPagesPerRow;
    Bytes image;
    bool whole = page % kPagesPerRow == 0 && end - page >= kPagesPerRow;
    if (!whole) {
      TRY_VALUE(image, load(metadata, row_key(id, row)));
    }
    for (; page < end && page / kPagesPerRow == row; ++page)
      set_sum(image, page % kPagesPerRow, sums[page - first]);
    TRY(store_row(metadata, row_key(id, row), version, image));
  }
  return {};
}

Result<void> cut_sums(MetadataStore& metadata, const ContentId& id, const Version& version,
                      std::uint64_t first) {
  std::uint64_t row = first / kPagesPerRow;
  if (first % kPagesPerRow != 0) {
    TRY_VALUE(Bytes image, load(metadata, row_key(id, row)));
    std::size_t keep = first % kPagesPerRow * kSumBytes;
    if (image.size() > keep) {
      image.resize(keep);
      TRY(store_row(metadata, row_key(id, row), version, image));
    }
    ++row;
  }
  if (row >= kRowsMax) return {};
  std::vector<std::string> gone;
  TRY(metadata.scan(row_key(id, row), row_key(id, ~std::uint32_t{0}),
                    [&gone](const MetadataStore::ScanRow& found) {
                      gone.emplace_back(found.c);
                      return true;
                    }));
  for (std::string& c : gone) TRY(metadata.erase(id.row(Table::page_sums, std::move(c))));
  return {};
}

Result<bool> has_sums(MetadataStore& metadata, const ContentId& id) {
  bool any = false;
  TRY(metadata.scan(row_key(id, 0), row_key(id, ~std::uint32_t{0}),
                    [&any](const MetadataStore::ScanRow&) {
                      any = true;
                      return false;
                    }));
  return any;
}

}  // namespace magma::store
