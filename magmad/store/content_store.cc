// Writes and cuts of content. State: content_store_impl.h.
#include "magmad/store/content_store.h"

#include <algorithm>
#include <cstring>

#include "libmagma/base/check.h"
#include "libmagma/crypto/checksum.h"
#include "magmad/store/content_store_impl.h"

namespace magma::store {
HotRange* Content::find_hot(std::uint32_t index) {
  for (HotRange& range : hot)
    if (range.index == index) return &range;
  return nullptr;
}

ContentStore::~ContentStore() = default;

Result<std::unique_ptr<ContentStore>> ContentStore::open(sys::Disk& disk, sys::Executor& executor,
                                                         MetadataStore& metadata) {
  auto store = std::make_unique<ContentStoreImpl>(disk, executor, metadata);
  TRY(store->start());
  return store;
}

Result<void> ContentStoreImpl::start() {
  TRY(files_.prepare());
  TRY(metadata_.sync_now());  // what a removal row says is done below, and cannot be undone
  TRY(finish_removals());
  return load_hot();
}

Content& ContentStoreImpl::content(const ContentId& id) {
  auto& slot = contents_[id];
  if (slot == nullptr) slot = std::make_unique<Content>(id);
  return *slot;
}

Content* ContentStoreImpl::find(const ContentId& id) {
  auto found = contents_.find(id);
  return found == contents_.end() ? nullptr : found->second.get();
}

void ContentStoreImpl::forget_if_idle(const ContentId& id) {
  auto found = contents_.find(id);
  if (found != contents_.end() && found->second->idle() && found->second->file == nullptr)
    contents_.erase(found);
}

void ContentStoreImpl::close_file(Content& c) {
  if (c.file == nullptr) return;
  c.file.reset();
  open_.erase(c.open_place);
}

// nullptr if there is no file. A dirty file may be closed to make room: the kernel reports a failed
// write-back to the descriptor that syncs it later.
Result<sys::File*> ContentStoreImpl::open_file(Content& c, bool create) {
  if (c.file != nullptr) {
    open_.splice(open_.end(), open_, c.open_place);
    return c.file.get();
  }
  TRY_VALUE(auto file, files_.open(c.id, create));
  if (file == nullptr) return nullptr;
  if (!c.dirty() && c.hot.empty() && !c.cut) {
    // Without a sum it is what a crash left of writes never committed, or all zeros.
    TRY_VALUE(bool summed, has_sums(metadata_, c.id));
    TRY_VALUE(std::uint64_t size, summed ? Result<std::uint64_t>(0) : file->size());
    if (size != 0) {
      file_changed(c);
      TRY(file->truncate(0));
    }
  }
  c.file = std::move(file);
  c.open_place = open_.insert(open_.end(), c.id);
  if (open_.size() > kFilesOpenMax) {
    ContentId oldest = open_.front();
    close_file(*find(oldest));
    forget_if_idle(oldest);
  }
  return c.file.get();
}

void ContentStoreImpl::file_changed(Content& c) {
  if (!c.dirty()) c.dirty_since = now_;
  ++c.changes;
  c.last_change = now_;
  drop_kept(c.id);
}

// Whether no row knows of this content. Its first rows then come in one commit with its hot rows or
// after them, and a prefix of the commits survives a crash: no sum can be there without the hot
// row, so that nothing need be synced before the first write. (open_file empties a file that is
// there nevertheless.)
Result<bool> ContentStoreImpl::is_new(Content& c) {
  if (!c.hot.empty() || c.dirty()) return false;
  TRY_VALUE(bool summed, has_sums(metadata_, c.id));
  if (summed) return false;
  TRY(open_file(c, false));
  return true;
}

// True if all ranges may be written now.
Result<bool> ContentStoreImpl::make_hot(Content& c, const Version& version, std::uint64_t offset,
                                        std::uint64_t length) {
  auto first = static_cast<std::uint32_t>(offset / kHotRangeBytes);
  auto last = static_cast<std::uint32_t>((offset + length - 1) / kHotRangeBytes);
  bool ready = true;
  TRY_VALUE(bool fresh, is_new(c));
  auto heat = [&](std::uint32_t index) -> Result<void> {
    TRY(metadata_.put(c.id.row(Table::hot_range, four_bytes(index)), version, {}));
    c.hot.push_back({.index = index, .synced = fresh});
    hot_uncommitted_.push_back(c.id);
    return {};
  };
  for (std::uint32_t index = first; index <= last; ++index) {
    HotRange* range = c.find_hot(index);
    if (range == nullptr) TRY(heat(index));
    ready = ready && (fresh || (range != nullptr && range->synced));
  }
  c.last_change = now_;  // keeps them hot until the write comes
  // A sequential writer in the second half of its range will want the next.
  std::uint64_t end = offset + length;
  bool sequential = offset == c.last_end && offset != 0;
  bool second_half = end % kHotRangeBytes >= kHotRangeBytes / 2;
  bool has_next = (last + 1) * kHotRangeBytes < kChunkBytes;
  if (sequential && second_half && has_next && c.find_hot(last + 1) == nullptr) TRY(heat(last + 1));
  return ready;
}

// A cut that waits is done now, since what follows is to be written behind it.
Result<void> ContentStoreImpl::settle_cut(Content& c) {
  if (!c.cut) return {};
  if (!c.cut->committed) {
    if (auto done = metadata_.commit(); !done) {
      rolled_back();
      return done;
    }
    ++c.users;  // committed() may find it idle
    committed();
    --c.users;
  }
  return c.cut ? follow_cut(c) : Result<void>{};
}

void ContentStoreImpl::prepare_write(const ContentId& id, const Version& version,
                                     std::uint64_t offset, std::uint64_t length, Done ready) {
  if (offset > kChunkBytes || length > kChunkBytes - offset) return ready(fail(Code::invalid));
  if (length == 0) return ready({});
  Content& c = content(id);
  if (c.sync_error) return ready(fail(*c.sync_error));
  if (c.cut) {
    // What follows is written behind the cut, so it waits for it.
    std::weak_ptr<int> alive = alive_;
    c.after_cut.push_back([this, alive, id, version, offset, length,
                           ready = std::move(ready)](Result<void> done) mutable {
      if (alive.expired()) return;
      if (!done) return ready(std::move(done));
      prepare_write(id, version, offset, length, std::move(ready));
    });
    if (c.cut->committed) sync_cut(id);
    return;
  }
  auto hot = make_hot(c, version, offset, length);
  if (!hot) return ready(fail(std::move(hot.error())));
  if (*hot) return ready({});
  ++stats_.hot_syncs;
  if (metadata_.in_transaction()) {
    ++c.users;
    auto done = metadata_.commit();
    preparing_ = &id;
    if (done)
      committed();
    else
      rolled_back();
    preparing_ = nullptr;
    --c.users;
    if (!done) return ready(std::move(done));
  }
  wait_for_hot(id, std::move(ready));
}

// Calls `ready` once all hot rows of a content that are committed now are on stable storage.
void ContentStoreImpl::wait_for_hot(const ContentId& id, Done ready) {
  Content& c = content(id);
  ++c.users;
  std::vector<std::uint32_t> indexes;
  for (const HotRange& range : c.hot)
    if (range.committed) indexes.push_back(range.index);
  std::weak_ptr<int> alive = alive_;
  metadata_.sync(database_of(id), [this, alive, id, indexes = std::move(indexes),
                                   ready = std::move(ready)](Result<void> result) mutable {
    if (alive.expired()) return;
    Content& found = content(id);
    --found.users;
    if (result)
      for (std::uint32_t index : indexes)
        if (HotRange* range = found.find_hot(index)) range->synced = true;
    ready(std::move(result));
  });
}

// A page as it is before a change of a part of it, verified.
Result<ContentStoreImpl::Page> ContentStoreImpl::old_page(Content& c, sys::File* file,
                                                          std::uint64_t page) {
  Page bytes{};
  std::uint64_t at = page * kPageBytes;
  if (file != nullptr) {
    TRY_VALUE(std::size_t got, file->read_at(bytes, at));
    std::size_t valid = got;
    if (c.cut) {
      std::uint64_t size = c.cut->remove ? 0 : c.cut->size;
      valid = static_cast<std::size_t>(std::min<std::uint64_t>(got, size > at ? size - at : 0));
    }
    std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(valid), bytes.end(), 0);
  }
  if (is_suspect(c.id, page)) return bytes;
  TRY_VALUE(auto sums, get_sums(metadata_, c.id, {page, 1}));
  if (crypto::crc32c(bytes) == sums[0]) return bytes;
  ++stats_.checksum_errors;
  if (file != nullptr) file->drop_cache(at, kPageBytes);
  return fail(mismatch(c.id, page));
}

// The sums of all pages touched by a write, after it; checks the ones it was told.
Result<std::vector<std::uint32_t>> ContentStoreImpl::sums_after(
    Content& c, sys::File* file, std::uint64_t offset, ByteSpan bytes,
    const std::vector<std::uint32_t>& told) {
  PageRange pages = pages_of(offset, bytes.size());
  std::uint64_t end = offset + bytes.size();
  std::vector<std::uint32_t> sums;
  sums.reserve(pages.count);
  std::size_t whole = 0;
  for (std::uint64_t page = pages.first; page < pages.first + pages.count; ++page) {
    std::uint64_t at = page * kPageBytes;
    if (at >= offset && at + kPageBytes <= end) {
      std::uint32_t sum = crypto::crc32c(bytes.subspan(at - offset, kPageBytes));
      if (!told.empty() && (whole >= told.size() || told[whole] != sum))
        return fail(Code::checksum, "of the bytes to be written");
      ++whole;
      sums.push_back(sum);
    } else {
      TRY_VALUE(Page old, old_page(c, file, page));
      std::uint64_t from = std::max(at, offset);
      std::uint64_t to = std::min(at + kPageBytes, end);
      std::memcpy(old.data() + (from - at), bytes.data() + (from - offset), to - from);
      sums.push_back(crypto::crc32c(old));
    }
  }
  if (!told.empty() && whole != told.size())
    return fail(Code::invalid, "more checksums than whole pages");
  return sums;
}

Result<void> ContentStoreImpl::write(const ContentId& id, const Version& version,
                                     std::uint64_t offset, ByteSpan bytes,
                                     const std::vector<std::uint32_t>& page_sums) {
  if (offset > kChunkBytes || bytes.size() > kChunkBytes - offset) return fail(Code::invalid);
  if (bytes.empty()) return {};
  Content& c = content(id);
  TRY(settle_cut(c));
  for (std::uint64_t at = offset / kHotRangeBytes; at * kHotRangeBytes < offset + bytes.size();
       ++at) {
    const HotRange* range = c.find_hot(static_cast<std::uint32_t>(at));
    MAGMA_CHECK(range != nullptr && range->synced);
  }
  TRY_VALUE(sys::File * file, open_file(c, true));
  TRY_VALUE(auto sums, sums_after(c, file, offset, bytes, page_sums));
  PageRange pages = pages_of(offset, bytes.size());
  written_.push_back({id, version, pages});
  file_changed(c);
  ++stats_.writes;
  if (auto done = file->write_at(bytes, offset); !done) {
    if (!recompute(id, version, pages)) suspects_.push_back({id, version, pages});
    return done;
  }
  c.last_end = offset + bytes.size();
  return put_sums(metadata_, id, version, pages.first, sums);
}

// Takes the sums of pages from what is in the file.
Result<void> ContentStoreImpl::recompute(const ContentId& id, const Version& version,
                                         PageRange pages) {
  Content& c = content(id);
  TRY_VALUE(sys::File * file, open_file(c, false));
  std::vector<std::uint32_t> sums;
  sums.reserve(pages.count);
  Bytes run;
  for (std::uint64_t done = 0; done < pages.count;) {
    std::uint64_t part = std::min(pages.count - done, kPagesPerRow);
    run.assign(part * kPageBytes, 0);
    if (file != nullptr) {
      auto got = file->read_at(run, (pages.first + done) * kPageBytes);
      if (!got) return fail(std::move(got.error()));
    }
    for (std::uint64_t i = 0; i < part; ++i)
      sums.push_back(crypto::crc32c(ByteSpan(run).subspan(i * kPageBytes, kPageBytes)));
    done += part;
  }
  return put_sums(metadata_, id, version, pages.first, sums);
}

bool ContentStoreImpl::is_suspect(const ContentId& id, std::uint64_t page) const {
  return std::any_of(suspects_.begin(), suspects_.end(), [&](const Written& w) {
    return w.id == id && page >= w.pages.first && page - w.pages.first < w.pages.count;
  });
}

Result<void> ContentStoreImpl::truncate(const ContentId& id, const Version& version,
                                        std::uint64_t size) {
  if (size > kChunkBytes) return fail(Code::invalid);
  Content& c = content(id);
  TRY_VALUE(sys::File * file, open_file(c, false));
  if (file == nullptr || (c.cut && c.cut->remove)) {
    forget_if_idle(id);
    return {};
  }
  TRY_VALUE(std::uint64_t before, file->size());
  if (c.cut) before = std::min(before, c.cut->size);
  if (size >= before) {
    if (size == before || c.cut) return {};  // zeros follow the end of a file anyway
    file_changed(c);
    return file->truncate(size);
  }
  if (size % kPageBytes != 0) {
    std::uint64_t page = size / kPageBytes;
    TRY_VALUE(Page bytes, old_page(c, file, page));
    std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(size % kPageBytes), bytes.end(), 0);
    std::uint32_t sum = crypto::crc32c(bytes);
    TRY(put_sums(metadata_, id, version, page, {&sum, 1}));
  }
  TRY(cut_sums(metadata_, id, version, (size + kPageBytes - 1) / kPageBytes));
  Bytes image;
  ByteWriter(image).put(size);
  TRY(metadata_.put(id.row(Table::removal), version, image));
  set_cut(c, {.size = size});
  return {};
}

Result<void> ContentStoreImpl::punch(const ContentId& id, const Version& version,
                                     std::uint64_t offset, std::uint64_t length) {
  if (offset > kChunkBytes || length > kChunkBytes - offset) return fail(Code::invalid);
  Content& c = content(id);
  TRY(settle_cut(c));
  TRY_VALUE(sys::File * file, open_file(c, false));
  if (file == nullptr) {
    forget_if_idle(id);
    return {};
  }
  TRY_VALUE(std::uint64_t size, file->size());
  if (offset >= size || length == 0) return {};
  length = std::min(length, size - offset);
  for (std::uint64_t at = offset / kHotRangeBytes; at * kHotRangeBytes < offset + length; ++at) {
    const HotRange* range = c.find_hot(static_cast<std::uint32_t>(at));
    MAGMA_CHECK(range != nullptr && range->synced);
  }
  PageRange pages = pages_of(offset, length);
  std::vector<std::uint32_t> sums(pages.count, zero_page_sum());
  for (std::uint64_t page : {pages.first, pages.first + pages.count - 1}) {
    std::uint64_t at = page * kPageBytes;
    TRY_VALUE(Page bytes, old_page(c, file, page));
    std::uint64_t from = std::max(at, offset) - at;
    std::uint64_t to = std::min(at + kPageBytes, offset + length) - at;
    std::memset(bytes.data() + from, 0, to - from);
    sums[page - pages.first] = crypto::crc32c(bytes);
  }
  written_.push_back({id, version, pages});
  file_changed(c);
  if (auto done = file->punch_hole(offset, length); !done) {
    if (!recompute(id, version, pages)) suspects_.push_back({id, version, pages});
    return done;
  }
  return put_sums(metadata_, id, version, pages.first, sums);
}

Result<std::uint64_t> ContentStoreImpl::seek(const ContentId& id, std::uint64_t from, bool data) {
  Content& c = content(id);
  auto file = open_file(c, false);
  if (!file || *file == nullptr) {
    forget_if_idle(id);
    if (!file) return fail(std::move(file.error()));
    return data ? kNoData : from;
  }
  TRY_VALUE(std::uint64_t size, (*file)->size());
  if (c.cut) size = c.cut->remove ? 0 : std::min(size, c.cut->size);
  if (from >= size) return data ? kNoData : from;
  TRY_VALUE(std::uint64_t found, data ? (*file)->seek_data(from) : (*file)->seek_hole(from));
  if (data && found >= size) return kNoData;
  return std::min(found, size);
}

Result<std::uint64_t> ContentStoreImpl::allocated_bytes(const ContentId& id) {
  Content& c = content(id);
  auto file = open_file(c, false);
  if (!file || *file == nullptr || (c.cut && c.cut->remove)) {
    forget_if_idle(id);
    if (!file) return fail(std::move(file.error()));
    return 0;
  }
  TRY_VALUE(std::uint64_t bytes, (*file)->allocated_bytes());
  if (c.cut) bytes = std::min(bytes, (c.cut->size + kPageBytes - 1) / kPageBytes * kPageBytes);
  return bytes;
}

Result<void> ContentStoreImpl::remove(const ContentId& id) {
  Content& c = content(id);
  // Opened before its sums go: a file that has none is emptied, and the commit may yet fail.
  TRY_VALUE(sys::File * file, open_file(c, false));
  TRY(cut_sums(metadata_, id, {}, 0));
  for (const HotRange& range : c.hot)
    TRY(metadata_.erase(id.row(Table::hot_range, four_bytes(range.index))));
  if (file == nullptr) {
    c.hot.clear();
    c.cut.reset();
    forget_if_idle(id);
    return {};
  }
  TRY(metadata_.put(id.row(Table::removal), {}, {}));
  set_cut(c, {.remove = true});
  return {};
}

ContentStore::Stats ContentStoreImpl::stats() const {
  Stats stats = stats_;
  stats.files_open = open_.size();
  stats.pieces_kept = kept_.size();
  return stats;
}

std::vector<ContentId> ContentStoreImpl::open_contents(std::size_t count) const {
  std::vector<ContentId> ids;
  for (const ContentId& id : open_) {
    if (ids.size() == count) break;
    ids.push_back(id);
  }
  return ids;
}

}  // namespace magma::store
