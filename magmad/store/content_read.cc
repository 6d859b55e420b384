// Reads of content, and what is read ahead of them. State: content_store_impl.h.
//
// What is in the page cache is taken from there, inside the call: it was compared with its
// checksums when it came from the disk, or we have written it. To keep that so,
//   - pages come into memory in jobs of the store threads only, each noted in Content::under_way
//     from before it starts until it is compared here, on the shard's thread;
//   - a read that wants pages under way does not look into the page cache: it waits if they are
//     read ahead, else it goes to the disk itself;
//   - pages that do not match, or that cannot be compared, are dropped from the page cache before
//     anybody else can look.
// Of what was read ahead and matched the bytes are kept as well, until they are read to the end,
// the content changes, or some seconds have passed.
// Our own changes of a file and the comparing are all done on the shard's thread: they never run
// at the same time. A job overtaken by a change may have bytes of either side of it, so that a page
// of a piece read ahead is dropped without an error if it does not match, and a read begins again.
#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "libmagma/base/check.h"
#include "libmagma/base/log.h"
#include "libmagma/crypto/checksum.h"
#include "magmad/store/content_store_impl.h"

namespace magma::store {

Error mismatch(const ContentId& id, std::uint64_t page) {
  return {Code::checksum, fmt::format("{} page {}", content_path(id), page)};
}

void ContentStoreImpl::read(const ContentId& id, std::uint64_t offset, std::uint64_t length,
                            ReadDone done) {
  if (offset > kChunkBytes || length > kChunkBytes - offset) return done(fail(Code::invalid));
  if (length == 0) return done(Bytes{});
  const bool ahead = read_ahead_.is_ahead(id, offset, length);
  std::weak_ptr<int> alive = alive_;
  Served served = serve(id, {offset, length, ahead}, std::move(done));
  if (alive.expired() || served == Served::nothing) return;
  if (read_ahead_.note(id, offset, length, served == Served::from_disk)) read_ahead(id);
}

// Answers from the page cache, or begins what will answer.
ContentStoreImpl::Served ContentStoreImpl::serve(const ContentId& id, const Wanted& wanted,
                                                 ReadDone done) {
  Content& c = content(id);
  auto file = open_file(c, false);
  if (!file || *file == nullptr) {
    forget_if_idle(id);
    done(file ? Result<Bytes>(Bytes(wanted.length)) : fail(std::move(file.error())));
    return Served::nothing;
  }
  if (auto bytes = take_kept(id, wanted)) {
    ++stats_.reads_ahead;
    done(std::move(*bytes));
    return Served::from_memory;
  }
  PageRange pages = pages_of(wanted.offset, wanted.length);
  bool is_trusted = true;
  for (PagesUnderWay& others : c.under_way) {
    if (!others.overlaps(pages)) continue;
    is_trusted = false;
    if (!others.ahead) continue;
    others.waiting.push_back([this, id, wanted, done = std::move(done)]() mutable {
      serve(id, wanted, std::move(done));
    });
    return Served::later;
  }
  auto job = std::make_shared<DiskRead>();
  job->offset = wanted.offset;
  job->length = wanted.length;
  if (is_trusted) {
    std::uint64_t valid = wanted.length;
    if (c.cut) {
      std::uint64_t size = c.cut->remove ? 0 : c.cut->size;
      valid = std::min(valid, size > wanted.offset ? size - wanted.offset : 0);
    }
    Bytes bytes(wanted.length);
    auto got = (*file)->read_at_nowait(MutableByteSpan(bytes).first(valid), wanted.offset);
    if (got || got.error().code != Code::would_block) {
      if (got) ++(wanted.ahead ? stats_.reads_ahead : stats_.reads_cached);
      done(got ? Result<Bytes>(std::move(bytes)) : fail(std::move(got.error())));
      return got ? Served::from_memory : Served::nothing;
    }
    if (wanted.length == pages.count * kPageBytes) job->bytes = std::move(bytes);
  }
  read_from_disk(c, std::move(job), std::move(done));
  return Served::from_disk;
}

std::uint64_t ContentStoreImpl::begin_pages(Content& c, PageRange pages, bool ahead) {
  ++c.users;
  c.under_way.push_back({.number = ++pages_number_, .pages = pages, .ahead = ahead});
  return pages_number_;
}

// Gives who waits. Requires: the pages were compared, or dropped.
std::vector<UniqueFunction<void()>> ContentStoreImpl::end_pages(Content& c, std::uint64_t number) {
  --c.users;
  auto found = std::find_if(c.under_way.begin(), c.under_way.end(),
                            [&](const PagesUnderWay& pages) { return pages.number == number; });
  MAGMA_CHECK(found != c.under_way.end());
  auto waiting = std::move(found->waiting);
  c.under_way.erase(found);
  return waiting;
}

namespace {

// Reads whole pages, zeros after the end of the file, and sums each.
Result<void> read_and_sum(sys::File& file, std::uint64_t offset, MutableByteSpan out,
                          std::vector<std::uint32_t>& sums) {
  sums.clear();
  TRY_VALUE(std::size_t got, file.read_at(out, offset));
  std::fill(out.begin() + static_cast<std::ptrdiff_t>(got), out.end(), 0);
  for (std::size_t at = 0; at < out.size(); at += kPageBytes)
    sums.push_back(crypto::crc32c(out.subspan(at, kPageBytes)));
  return {};
}

}  // namespace

// Reads the whole pages around the range, so that they can be verified.
void ContentStoreImpl::read_from_disk(Content& c, std::shared_ptr<DiskRead> job, ReadDone done) {
  ++stats_.reads_disk;
  ++disk_reads_under_way_;
  ContentId id = c.id;
  PageRange pages = pages_of(job->offset, job->length);
  job->number = begin_pages(c, pages, false);
  job->changes = c.changes;
  job->file = c.file;
  job->bytes.resize(pages.count * kPageBytes);
  std::weak_ptr<int> alive = alive_;
  auto work = [job, first = pages.first] {
    job->result = read_and_sum(*job->file, first * kPageBytes, job->bytes, job->sums);
  };
  auto is_done = [this, alive, id, job, done = std::move(done)]() mutable {
    if (alive.expired()) return;
    --disk_reads_under_way_;
    disk_read_done(id, std::move(job), std::move(done));
  };
  auto expected = get_sums(metadata_, id, pages);  // while the disk reads: serve() has begun it
  job->expected = expected ? std::move(*expected) : std::vector<std::uint32_t>{};
  if (job->bytes.size() <= kShortReadMax)
    executor_.run_short(std::move(work), std::move(is_done));
  else
    executor_.run(std::move(work), std::move(is_done));
}

void ContentStoreImpl::disk_read_done(const ContentId& id, std::shared_ptr<DiskRead> job,
                                      ReadDone done) {
  Content& c = content(id);
  PageRange pages = pages_of(job->offset, job->length);
  auto answer = [&](Result<Bytes> bytes) {
    forget_if_idle(id);
    done(std::move(bytes));
  };
  if (!job->result) {
    drop_pages(*job->file, pages);  // of some of them the bytes may have come
    end_pages(c, job->number);
    return answer(fail(std::move(job->result.error())));
  }
  if (c.changes != job->changes || c.cut) {
    // A change overtook it, so that bytes and sums may be of different times. A read that is
    // overtaken again and again is done here, where nothing overtakes; the pages are in memory now.
    end_pages(c, job->number);
    auto file = open_file(c, false);
    if (!file) return answer(fail(std::move(file.error())));
    if (*file == nullptr) return answer(Bytes(job->length));
    if (job->attempt++ < kReadRetriesMax && !c.cut)
      return read_from_disk(c, std::move(job), std::move(done));
    return answer(read_here(c, **file, job->offset, job->length));
  }
  // (Sums that were looked up before may since have been mended: only to match says something.)
  Result<void> verified;
  if (job->sums != job->expected) verified = verify(c, *job->file, pages, job->sums);
  end_pages(c, job->number);
  if (!verified) return answer(fail(std::move(verified.error())));
  std::uint64_t skipped = job->offset % kPageBytes;
  if (skipped != 0)
    job->bytes.erase(job->bytes.begin(),
                     job->bytes.begin() + static_cast<std::ptrdiff_t>(skipped));
  job->bytes.resize(job->length);
  answer(std::move(job->bytes));
}

// Reads and verifies at once, on this thread.
Result<Bytes> ContentStoreImpl::read_here(Content& c, sys::File& file, std::uint64_t offset,
                                          std::uint64_t length) {
  PageRange pages = pages_of(offset, length);
  std::uint64_t begin = pages.first * kPageBytes;
  Bytes bytes(pages.count * kPageBytes);
  std::uint64_t size = c.cut ? (c.cut->remove ? 0 : c.cut->size) : kChunkBytes;
  std::uint64_t valid = std::min<std::uint64_t>(bytes.size(), size > begin ? size - begin : 0);
  std::vector<std::uint32_t> sums;
  // What is cut already reads as zeros, and its sums say so.
  auto done = file.read_at(MutableByteSpan(bytes).first(valid), begin);
  if (!done) {
    drop_pages(file, pages);
    return fail(std::move(done.error()));
  }
  for (std::size_t at = 0; at < bytes.size(); at += kPageBytes)
    sums.push_back(crypto::crc32c(ByteSpan(bytes).subspan(at, kPageBytes)));
  TRY(verify(c, file, pages, sums));
  auto from = bytes.begin() + static_cast<std::ptrdiff_t>(offset - begin);
  return Bytes(from, from + static_cast<std::ptrdiff_t>(length));
}

// The first page whose sum is not the one its row has. Pages that do not all match, or cannot be
// compared, are dropped: else the next read would find them in memory, where nothing is compared.
Result<std::optional<std::uint64_t>> ContentStoreImpl::first_mismatch(
    const ContentId& id, sys::File& file, PageRange pages, std::span<const std::uint32_t> sums) {
  auto expected = get_sums(metadata_, id, pages);
  if (!expected) {
    drop_pages(file, pages);
    return fail(std::move(expected.error()));
  }
  for (std::size_t i = 0; i < sums.size(); ++i) {
    if (sums[i] == (*expected)[i] || is_suspect(id, pages.first + i)) continue;
    drop_pages(file, pages);
    return pages.first + i;
  }
  return std::nullopt;
}

void ContentStoreImpl::drop_pages(sys::File& file, PageRange pages) {
  file.drop_cache(pages.first * kPageBytes, pages.count * kPageBytes);
}

Result<void> ContentStoreImpl::verify(Content& c, sys::File& file, PageRange pages,
                                      std::span<const std::uint32_t> sums) {
  TRY_VALUE(auto bad, first_mismatch(c.id, file, pages, sums));
  if (!bad) return {};
  ++stats_.checksum_errors;
  if (now_ >= next_warning_) {
    next_warning_ = now_ + seconds(1);
    log_warning("content_damaged path={} page={} slot={} ino={:016x}", content_path(c.id), *bad,
                c.id.slot.value, c.id.ino.value);
  }
  return fail(mismatch(c.id, *bad));
}

// ---- scrubbing

void ContentStoreImpl::scrub(const ContentId& id, std::uint64_t offset, std::uint64_t length,
                             ScrubDone done) {
  if (offset > kChunkBytes || length > kChunkBytes - offset) return done(fail(Code::invalid));
  if (length == 0) return done(std::nullopt);
  Content& c = content(id);
  auto file = open_file(c, false);
  if (!file) {
    forget_if_idle(id);
    return done(fail(std::move(file.error())));
  }
  const PageRange pages = pages_of(offset, length);
  if (*file == nullptr) {
    forget_if_idle(id);
    auto sums = get_sums(metadata_, id, pages);
    if (!sums) return done(fail(std::move(sums.error())));
    const auto bad = std::find_if(sums->begin(), sums->end(),
                                  [](std::uint32_t sum) { return sum != zero_page_sum(); });
    if (bad == sums->end()) return done(std::nullopt);
    const auto page = pages.first + static_cast<std::uint64_t>(bad - sums->begin());
    return done(page * kPageBytes);
  }
  auto job = std::make_shared<DiskRead>();  // shared with the read, which fills it
  job->offset = offset;
  job->length = length;
  read_from_disk(c, job,
                 [this, id, pages, job, done = std::move(done)](Result<Bytes> read) mutable {
                   if (read) return done(std::nullopt);
                   if (read.error().code != Code::checksum)
                     return done(fail(std::move(read.error())));
                   done(first_damaged(id, pages, job->sums) * kPageBytes);
                 });
}

// Of pages that were found damaged.
std::uint64_t ContentStoreImpl::first_damaged(const ContentId& id, PageRange pages,
                                              std::span<const std::uint32_t> sums) {
  auto expected = get_sums(metadata_, id, pages);
  for (std::size_t i = 0; expected && i < std::min(sums.size(), expected->size()); ++i)
    if (sums[i] != (*expected)[i]) return pages.first + i;
  return pages.first;
}

// ---- read-ahead

void ContentStoreImpl::read_ahead(const ContentId& id) {
  Content* c = find(id);
  while (c != nullptr && read_piece_ahead(*c)) {
  }
}

// False if none is wanted, or may be begun now.
bool ContentStoreImpl::read_piece_ahead(Content& c) {
  if (c.file == nullptr || c.cut || pieces_under_way_ >= kPiecesUnderWayMax ||
      disk_reads_under_way_ >= kDiskReadsBesidesMax)
    return false;
  auto size = c.file->size();
  if (!size) return false;
  auto piece = read_ahead_.next(c.id, std::min(*size, kChunkBytes));
  if (!piece) return false;
  // If its end is in memory, so is most likely the rest. (To ask for it may bring it there: Linux
  // begins to read what a read that does not wait has missed.)
  std::uint8_t last = 0;
  auto is_there = c.file->read_at_nowait({&last, 1}, piece->offset + piece->length - 1);
  if (is_there || is_there.error().code != Code::would_block) {
    read_ahead_.stop(c.id);
    return false;
  }
  ++stats_.pieces_ahead;
  ++pieces_under_way_;
  auto job = std::make_shared<PieceRead>();
  job->pages = pages_of(piece->offset, piece->length);
  job->number = begin_pages(c, job->pages, true);
  job->changes = c.changes;
  job->file = c.file;
  std::weak_ptr<int> alive = alive_;
  auto work = [job] {
    job->bytes.resize(job->pages.count * kPageBytes);
    job->result = read_and_sum(*job->file, job->pages.first * kPageBytes, job->bytes, job->sums);
  };
  executor_.run(std::move(work), [this, alive, id = c.id, job] {
    if (!alive.expired()) piece_done(id, *job);
  });
  return true;
}

void ContentStoreImpl::piece_done(const ContentId& id, PieceRead& job) {
  Content& c = content(id);
  --pieces_under_way_;
  bool is_good = false;
  if (job.result) {
    auto bad = first_mismatch(id, *job.file, job.pages, job.sums);
    is_good = bad && !*bad;
  } else {
    drop_pages(*job.file, job.pages);
  }
  // Damage, or a change that overtook it: the reads that want the pages find out.
  if (!is_good) {
    ++stats_.pieces_dropped;
    read_ahead_.stop(id);
  }
  // (Pages whose sums are not known count as good; overtaken, they may be old.)
  if (is_good && c.changes == job.changes && !c.cut)
    keep({id, job.pages.first * kPageBytes, std::move(job.bytes), now_});
  auto waiting = end_pages(c, job.number);
  std::weak_ptr<int> alive = alive_;
  for (auto& read : waiting) {
    read();
    if (alive.expired()) return;
  }
  read_ahead(id);
  forget_if_idle(id);
}

// The bytes are in the page cache, too, as long as the kernel likes; from here they are had without
// a system call or a copy.
void ContentStoreImpl::keep(KeptPiece piece) {
  if (kept_.size() >= kKeptPiecesMax) kept_.pop_front();
  kept_.push_back(std::move(piece));
}

// A piece goes once it is read to its end.
std::optional<Bytes> ContentStoreImpl::take_kept(const ContentId& id, const Wanted& wanted) {
  const std::uint64_t end = wanted.offset + wanted.length;
  auto found = std::find_if(kept_.begin(), kept_.end(), [&](const KeptPiece& piece) {
    return piece.id == id && wanted.offset >= piece.offset &&
           end <= piece.offset + piece.bytes.size();
  });
  if (found == kept_.end()) return std::nullopt;
  const bool is_last = end == found->offset + found->bytes.size();
  Bytes bytes;
  if (is_last && wanted.offset == found->offset) {
    bytes = std::move(found->bytes);
  } else {
    auto from = found->bytes.begin() + static_cast<std::ptrdiff_t>(wanted.offset - found->offset);
    bytes.assign(from, from + static_cast<std::ptrdiff_t>(wanted.length));
  }
  if (is_last) kept_.erase(found);
  return bytes;
}

void ContentStoreImpl::drop_kept(const ContentId& id) {
  if (!kept_.empty()) std::erase_if(kept_, [&](const KeptPiece& piece) { return piece.id == id; });
}

void ContentStoreImpl::drop_old_kept() {
  std::erase_if(kept_, [&](const KeptPiece& piece) { return now_ - piece.since > kKeptTimeMax; });
}

}  // namespace magma::store
