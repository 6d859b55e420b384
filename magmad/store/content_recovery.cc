// What open() and recover() make good after a crash: cuts and removals whose rows were committed,
// and the sums of ranges that were being written.
#include <algorithm>
#include <array>

#include "libmagma/crypto/checksum.h"
#include "libmagma/wire/codec.h"
#include "magmad/store/content_store_impl.h"

namespace magma::store {
namespace {

constexpr std::size_t kRangesPerCommit = 16;
constexpr std::uint64_t kPagesPerRange = kHotRangeBytes / kPageBytes;

ContentId id_of(const MetadataStore::ScanRow& row) {
  return {ring::Slot(static_cast<std::uint16_t>(row.a >> ring::kCounterBits)), Ino(row.b),
          static_cast<std::uint32_t>(row.a & ring::kCounterMask)};
}

}  // namespace

Result<void> ContentStoreImpl::load_hot() {
  for (unsigned database = 0; database < kDatabases; ++database) {
    Result<void> good;
    TRY(metadata_.scan_database(
        database, Table::hot_range, [this, &good](const MetadataStore::ScanRow& row) {
          auto index = four_byte_number(row.c);
          if (!index) {
            good = fail(std::move(index.error()));
            return false;
          }
          content(id_of(row)).hot.push_back({.index = *index, .committed = true});
          return true;
        }));
    TRY(good);
  }
  // Not known to be on stable storage, whatever the last end was: synced before they cool.
  for (const auto& [id, c] : contents_) {
    TRY_VALUE(bool has_file, files_.disk().exists(content_path(id)));
    if (!has_file) continue;
    files_.assume_unsynced(id);
    file_changed(*c);
  }
  return {};
}

Result<void> ContentStoreImpl::finish_removals() {
  struct Found {
    ContentId id;
    Bytes image;
  };
  for (unsigned database = 0; database < kDatabases; ++database) {
    std::vector<Found> found;
    TRY(metadata_.scan_database(
        database, Table::removal, [&found](const MetadataStore::ScanRow& row) {
          found.push_back({id_of(row), {row.image.begin(), row.image.end()}});
          return true;
        }));
    for (const Found& f : found) TRY(finish_removal(f.id, f.image));
    for (const Found& f : found) TRY(metadata_.erase(f.id.row(Table::removal)));
    if (!found.empty()) TRY(metadata_.commit());
  }
  return {};
}

// The file may have been written again since the cut, in part or before the crash lost it: what has
// a sum is of after, what has none is a remainder of before.
Result<void> ContentStoreImpl::finish_removal(const ContentId& id, ByteSpan image) {
  std::uint64_t size = 0;
  if (!image.empty()) {
    ByteReader reader(image);
    size = reader.get<std::uint64_t>();
    if (!reader.finished()) return fail(Code::malformed, "removal row");
  }
  TRY_VALUE(auto file, files_.open(id, false));
  if (file == nullptr) return {};
  if (image.empty()) {
    TRY_VALUE(bool again, has_sums(metadata_, id));
    if (!again) {
      file.reset();
      TRY(files_.remove(id));
      return files_.disk().sync_directory(content_directory(id.ino));
    }
  }
  TRY(cut_unsummed(id, *file, size));
  return file->sync();
}

Result<void> ContentStoreImpl::cut_unsummed(const ContentId& id, sys::File& file,
                                            std::uint64_t size) {
  TRY_VALUE(std::uint64_t end, file.size());
  if (end <= size) return {};
  std::uint64_t last_used = size;  // end of the last page that is of after the cut
  if (size % kPageBytes != 0) {  // the page that was cut in the middle
    std::uint64_t page = size / kPageBytes;
    Page bytes{};
    auto got = file.read_at(bytes, page * kPageBytes);
    if (!got) return fail(std::move(got.error()));
    TRY_VALUE(auto sums, get_sums(metadata_, id, {page, 1}));
    std::uint64_t keep = size % kPageBytes;
    bool good = crypto::crc32c(bytes) == sums[0];
    std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(keep), bytes.end(), 0);
    bool cut = !good && crypto::crc32c(bytes) == sums[0];
    if (cut)
      TRY(file.punch_hole(size, kPageBytes - keep));
    else
      last_used = std::min(end, (page + 1) * kPageBytes);  // written again
  }
  PageRange rest = pages_of((size + kPageBytes - 1) / kPageBytes * kPageBytes, 0);
  rest.count = (end + kPageBytes - 1) / kPageBytes - rest.first;
  for (std::uint64_t done = 0; done < rest.count;) {
    PageRange part{rest.first + done, std::min(rest.count - done, kPagesPerRow)};
    TRY_VALUE(auto sums, get_sums(metadata_, id, part));
    for (std::uint64_t i = 0; i < part.count;) {
      std::uint64_t run = i;
      while (run < part.count && sums[run] == zero_page_sum()) ++run;
      if (run > i) TRY(file.punch_hole((part.first + i) * kPageBytes, (run - i) * kPageBytes));
      if (run < part.count) last_used = std::min(end, (part.first + ++run) * kPageBytes);
      i = run;
    }
    done += part.count;
  }
  if (last_used < end) return file.truncate(last_used);
  return {};
}

Result<std::uint64_t> ContentStoreImpl::recover(const Version& version) {
  std::vector<std::pair<ContentId, std::uint32_t>> ranges;
  for (const auto& [id, c] : contents_)
    for (const HotRange& range : c->hot) ranges.emplace_back(id, range.index);
  std::size_t since_commit = 0;
  for (const auto& [id, index] : ranges) {
    TRY(recover_range(id, index, version));
    if (++since_commit % kRangesPerCommit == 0 && metadata_.in_transaction())
      TRY(metadata_.commit());
  }
  if (metadata_.in_transaction()) TRY(metadata_.commit());
  return ranges.size();
}

// Bytes past the length of the chunk's row are of writes that were never committed. They are never
// read there, but would show in the gap if the file grew by a write further on.
Result<void> ContentStoreImpl::clip_to_length(const ContentId& id, sys::File& file) {
  ChunkRow chunk;  // no row: nothing was ever committed
  TRY_VALUE(auto row, metadata_.get(id.row(Table::chunk)));
  if (row) {
    TRY_VALUE(chunk, wire::decode<ChunkRow>(row->image));
  }
  TRY_VALUE(std::uint64_t size, file.size());
  if (size > chunk.length) return file.truncate(chunk.length);
  return {};
}

Result<void> ContentStoreImpl::recover_range(const ContentId& id, std::uint32_t index,
                                             const Version& version) {
  Content& c = content(id);
  TRY_VALUE(sys::File * file, open_file(c, false));
  std::uint64_t size = 0;
  if (file != nullptr) {
    files_.assume_unsynced(id);
    file_changed(c);  // after a kill it may be in the page cache only
    TRY(clip_to_length(id, *file));
    TRY_VALUE(size, file->size());
  }
  PageRange pages{index * kPagesPerRange, 0};
  std::uint64_t end = (size + kPageBytes - 1) / kPageBytes;
  if (end > pages.first) pages.count = std::min(end - pages.first, kPagesPerRange);
  TRY(recompute(id, version, pages));
  std::vector<std::uint32_t> zeros(kPagesPerRange - pages.count, zero_page_sum());
  return put_sums(metadata_, id, version, pages.first + pages.count, zeros);
}

}  // namespace magma::store
