// Content files: DIR/flares/xx/yy/<ino>.<chunk>.<slot>, their page checksums (page_sums rows,
// CRC32C per
// 4 KiB) and the hot-range table. Used by the shard's thread; reads that miss the page cache and
// syncs run on the Executor.
//
// A write is: (1) its 4 MiB ranges are hot_range rows, synced before the first byte is written to
// a range that was not hot (prepare_write); (2) pwrite; (3) page_sums rows in the open metadata
// transaction, which the caller commits. After an unclean start the checksums of hot ranges are
// computed anew from the file, because a crash may fall between (2) and (3): recover().
// Ranges cool down lazily: once the content file and the metadata are synced after the last write.
//
// Cutting and removing a file cannot be taken back, so they happen after the commit of their rows
// (committed()); a `removal` row names them until the disk is known to have followed, and open()
// finishes what a crash interrupted. Until then reads see the file as if it were cut already.
//
// Every content has a ChunkRow, which the owner puts in the transaction of the write that makes or
// lengthens it: recover() cuts a hot file to that length (no row: to nothing), because bytes beyond
// are of writes that were never committed. A file without any page_sums row is such a remainder
// too, or all zeros, and is emptied when it is opened.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "libmagma/base/result.h"
#include "libmagma/base/unique_function.h"
#include "libmagma/sys/disk.h"
#include "libmagma/sys/executor.h"
#include "magmad/store/metadata_store.h"
#include "magmad/store/rows.h"

namespace magma::store {

inline constexpr std::uint64_t kPageBytes = 4096;
inline constexpr std::uint64_t kChunkBytes = 64u << 20;
inline constexpr std::uint64_t kHotRangeBytes = 4u << 20;
inline constexpr std::uint64_t kSumsRangeBytes = 1u << 20;  // one page_sums row
// DIR/unswept: there from an unclean start until sweep() has seen every file.
inline constexpr std::string_view kUnsweptMark = "unswept";

// Names a content file and the slot whose rows describe it.
struct ContentId {
  ring::Slot slot;         // of the chunk (a small file: its home)
  Ino ino;
  std::uint32_t chunk = 0;
  friend auto operator<=>(const ContentId&, const ContentId&) = default;
  RowKey row(Table table, std::string c = {}) const {
    return {table, ring::with_counter(slot, chunk), ino.value, std::move(c)};
  }
};

class ContentStore {
 public:
  static Result<std::unique_ptr<ContentStore>> open(sys::Disk& disk, sys::Executor& executor,
                                                    MetadataStore& metadata);
  virtual ~ContentStore();

  // After an unclean start: recomputes the checksums of hot ranges (committing as it goes). They
  // stay hot until their files are synced. Returns how many ranges.
  virtual Result<std::uint64_t> recover(const Version& version) = 0;

  // Makes the ranges hot and synced, then calls `ready`: at once (inside this call) if they are
  // already. Puts rows into the open transaction and commits it if it must wait. A sequential
  // writer's next range is made hot ahead.
  virtual void prepare_write(const ContentId& id, const Version& version, std::uint64_t offset,
                             std::uint64_t length, UniqueFunction<void(Result<void>)> ready) = 0;
  // Writes and puts the page_sums rows. `page_sums` are the client's checksums of the whole 4 KiB
  // pages within the range, in order (empty: computed here); a sum that does not match its bytes is
  // Code::checksum and nothing is written. Requires: prepare_write's `ready` ran for the range.
  // On an I/O error (io, no_space) the affected checksums are recomputed from what is in the file.
  virtual Result<void> write(const ContentId& id, const Version& version, std::uint64_t offset,
                             ByteSpan bytes, const std::vector<std::uint32_t>& page_sums) = 0;
  // Reads `length` bytes, zeros where there is no data (holes, past the end of the file). Bytes
  // that came from disk (not the page cache) are verified: Code::checksum if they do not match.
  // `done` may be called inside this call. Of a content read in sequence the store threads bring
  // what follows into the page cache, verified.
  virtual void read(const ContentId& id, std::uint64_t offset, std::uint64_t length,
                    UniqueFunction<void(Result<Bytes>)> done) = 0;
  // Reads the range and compares all of it with its checksums, also what is in the page cache: the
  // offset of the first page that is damaged, if one is. (What the kernel has in memory is compared
  // as it is there.)
  using ScrubDone = UniqueFunction<void(Result<std::optional<std::uint64_t>>)>;
  virtual void scrub(const ContentId& id, std::uint64_t offset, std::uint64_t length,
                     ScrubDone done) = 0;
  // Cuts or extends (sparse) the file; checksums follow. Fine if there is no file. A cut reaches
  // the file at committed().
  virtual Result<void> truncate(const ContentId& id, const Version& version,
                                std::uint64_t size) = 0;
  // Makes the range a hole. Requires: as write().
  virtual Result<void> punch(const ContentId& id, const Version& version, std::uint64_t offset,
                             std::uint64_t length) = 0;
  // Next data or hole at or after `from` (lseek(2) SEEK_DATA/SEEK_HOLE). kNoData if no data
  // follows; what lies beyond the end is a hole.
  static constexpr std::uint64_t kNoData = ~std::uint64_t{0};
  virtual Result<std::uint64_t> seek(const ContentId& id, std::uint64_t from, bool data) = 0;
  // Removes file, checksums and hot ranges. Fine if there is no file. The file itself goes after
  // the rows' removal is committed (`committed()` is called by the owner after each commit).
  virtual Result<void> remove(const ContentId& id) = 0;
  virtual void committed() = 0;
  // To be called by the owner after the metadata was rolled back (also by a failed commit):
  // forgets cuts and removals, and recomputes the checksums of what was written meanwhile.
  virtual void rolled_back() = 0;
  virtual Result<std::uint64_t> allocated_bytes(const ContentId& id) = 0;

  // Calls `done` when all bytes written to this content before the call are on stable storage
  // (metadata is the caller's). An error is final: those bytes must be taken for lost.
  virtual void sync(const ContentId& id, UniqueFunction<void(Result<void>)> done) = 0;
  virtual void sync_all(UniqueFunction<void(Result<void>)> done) = 0;
  // Blocking: all bytes written are on stable storage (clean stop).
  virtual Result<void> sync_now() = 0;
  // Begins to look for files that no row knows of, a few at each tick, and to remove them: after an
  // unclean start, and after the next ones until all files have been seen.
  virtual Result<void> sweep(bool is_unclean) = 0;
  // Every second or so: syncs contents dirty for over 5 s, cools ranges that may cool.
  virtual void on_tick(Instant now) = 0;

  struct Stats {
    std::uint64_t reads_cached = 0, reads_disk = 0, writes = 0, hot_syncs = 0, checksum_errors = 0;
    std::uint64_t reads_ahead = 0, pieces_ahead = 0, pieces_dropped = 0;
    std::size_t files_open = 0, pieces_kept = 0;
  };
  virtual Stats stats() const = 0;
  // Content files held open, at most `count` of them, the least recently used first.
  virtual std::vector<ContentId> open_contents(std::size_t count) const = 0;
};

// Contents and metadata, as of now, at the same time: a disk takes two flushes at once better than
// one after the other. What is hot may be of another age than its rows.
void sync_everything(ContentStore& contents, MetadataStore& metadata,
                     UniqueFunction<void(Result<void> contents, Result<void> metadata)> done);

}  // namespace magma::store
