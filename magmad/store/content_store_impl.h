// The state behind ContentStore, for its .cc files only: content_store.cc (writes, cuts),
// content_read.cc (reads, read-ahead), content_sync.cc (syncs, ticks, commits), content_recovery.cc
// and content_sweep.cc (after a crash).
//
// A Content is the state of one content file that something is known or going on about: open,
// dirty, hot, to be cut. One of which nothing is known has no Content.
#pragma once

#include <deque>
#include <list>
#include <map>
#include <optional>
#include <span>

#include "magmad/store/content_files.h"
#include "magmad/store/content_store.h"
#include "magmad/store/page_sums.h"
#include "magmad/store/read_ahead.h"

namespace magma::store {

inline constexpr std::size_t kFilesOpenMax = 512;
inline constexpr std::size_t kContentsPerTickMax = 4096;  // looked at
inline constexpr std::size_t kSyncsPerTickMax = 256;
inline constexpr std::size_t kCooledPerTickMax = 512;
inline constexpr std::size_t kRemovalsPerTickMax = 1024;
// More removals than this that are not known to be durable: the oldest are taken for done. A power
// cut can then bring such a file back, which fsck calls stray; it is never read.
inline constexpr std::size_t kFollowedMax = 65536;
inline constexpr unsigned kSweepStepsPerTick = 8;
// A read from the disk of up to this may be done on the shard's thread.
inline constexpr std::size_t kShortReadMax = 4 * kPageBytes;
inline constexpr unsigned kReadRetriesMax = 3;  // of a read that a write overtook
// Pieces being read ahead, of all contents, and reads from the disk beside which none begins: half
// of the store threads stay free for who waits.
inline constexpr std::size_t kPiecesUnderWayMax = 4;
inline constexpr std::size_t kDiskReadsBesidesMax = 4;
// Pieces read ahead whose bytes are kept beside the page cache, for the reads that come at once.
inline constexpr std::size_t kKeptPiecesMax = 16;
inline constexpr Duration kKeptTimeMax = seconds(2);
inline constexpr Duration kDirtyMax = seconds(5);
inline constexpr Duration kHotIdle = seconds(10);  // before a range cools

struct HotRange {
  std::uint32_t index = 0;  // offset / kHotRangeBytes
  bool committed = false;   // its row is
  bool synced = false;      // its row is on stable storage: the range may be written
};

// A cut or removal that waits until its row is on stable storage: done earlier, a power cut could
// bring the rows back without the bytes. Reads already see it.
struct PendingCut {
  std::uint64_t size = 0;
  bool remove = false;
  bool committed = false;
  bool sync_asked = false;
  std::uint64_t serial = 0;  // tells it from a later one of the same content
};

// Pages that a store thread is bringing into the page cache. Until they are compared with their
// checksums a read must not take them from there.
struct PagesUnderWay {
  std::uint64_t number = 0;
  PageRange pages{};
  bool ahead = false;  // of readers; one that comes for them waits for the end
  std::vector<UniqueFunction<void()>> waiting{};
  bool overlaps(PageRange other) const {
    return pages.first < other.first + other.count && other.first < pages.first + pages.count;
  }
};

struct Content {
  explicit Content(const ContentId& content_id) : id(content_id) {}
  ContentId id;
  std::shared_ptr<sys::File> file;  // shared by work under way; may be closed and opened again
  std::list<ContentId>::iterator open_place;  // if `file`
  std::uint64_t changes = 0;        // of the file
  std::uint64_t synced = 0;         // `changes` when the last successful sync began
  std::uint64_t suspect_changes = 0;
  std::uint64_t last_end = 0;       // where the last write ended
  Instant last_change{};
  Instant dirty_since{};
  std::vector<HotRange> hot;
  std::optional<PendingCut> cut;
  std::vector<UniqueFunction<void(Result<void>)>> after_cut;  // what waits for it
  std::vector<UniqueFunction<void(Result<void>)>> syncing;  // answered by the sync under way
  std::vector<UniqueFunction<void(Result<void>)>> waiting;  // by the next
  bool sync_runs = false;
  std::uint64_t sync_changes = 0;  // what the sync under way began with, and
  std::vector<ContentFiles::Unsynced> sync_directories{};
  unsigned users = 0;               // reads and preparations under way
  std::vector<PagesUnderWay> under_way;
  std::optional<Error> sync_error;  // final

  bool dirty() const { return changes != synced; }
  bool idle() const {
    return !dirty() && hot.empty() && !cut && !sync_runs && users == 0 && !sync_error;
  }
  HotRange* find_hot(std::uint32_t index);
};

Error mismatch(const ContentId& id, std::uint64_t page);

class ContentStoreImpl final : public ContentStore {
 public:
  ContentStoreImpl(sys::Disk& disk, sys::Executor& executor, MetadataStore& metadata)
      : files_(disk), executor_(executor), metadata_(metadata) {}

  Result<void> start();
  Result<std::uint64_t> recover(const Version& version) override;
  void prepare_write(const ContentId& id, const Version& version, std::uint64_t offset,
                     std::uint64_t length, UniqueFunction<void(Result<void>)> ready) override;
  Result<void> write(const ContentId& id, const Version& version, std::uint64_t offset,
                     ByteSpan bytes, const std::vector<std::uint32_t>& page_sums) override;
  void read(const ContentId& id, std::uint64_t offset, std::uint64_t length,
            UniqueFunction<void(Result<Bytes>)> done) override;
  void scrub(const ContentId& id, std::uint64_t offset, std::uint64_t length,
             ScrubDone done) override;
  Result<void> truncate(const ContentId& id, const Version& version, std::uint64_t size) override;
  Result<void> punch(const ContentId& id, const Version& version, std::uint64_t offset,
                     std::uint64_t length) override;
  Result<std::uint64_t> seek(const ContentId& id, std::uint64_t from, bool data) override;
  Result<void> remove(const ContentId& id) override;
  void committed() override;
  void rolled_back() override;
  Result<std::uint64_t> allocated_bytes(const ContentId& id) override;
  void sync(const ContentId& id, UniqueFunction<void(Result<void>)> done) override;
  void sync_all(UniqueFunction<void(Result<void>)> done) override;
  Result<void> sync_now() override;
  Result<void> sweep(bool is_unclean) override;
  void on_tick(Instant now) override;
  Stats stats() const override;
  std::vector<ContentId> open_contents(std::size_t count) const override;

 private:
  using Done = UniqueFunction<void(Result<void>)>;
  using Page = std::array<std::uint8_t, kPageBytes>;
  struct Written {  // since the last commit
    ContentId id;
    Version version;
    PageRange pages;
  };
  struct Followed {  // a removal row whose file has followed, but perhaps not on stable storage
    std::uint64_t serial = 0;
    std::uint64_t change = 0;  // of the Content, for a cut
    bool remove = false;
    bool synced = false;
  };
  std::uint64_t cut_serial_ = 0;
  std::vector<ContentId> cuts_to_sync_;  // committed, nobody waits for them: at the next tick
  struct DiskRead {  // shared by the work and its end
    std::uint64_t offset = 0, length = 0, changes = 0;
    unsigned attempt = 0;
    std::uint64_t number = 0;  // of its PagesUnderWay
    std::shared_ptr<sys::File> file{};
    Bytes bytes{};  // whole pages
    std::vector<std::uint32_t> sums{};
    std::vector<std::uint32_t> expected{};  // looked up meanwhile; empty if that failed
    Result<void> result{};
  };
  struct PieceRead {  // shared by the work and its end
    PageRange pages{};
    std::uint64_t number = 0, changes = 0;
    std::shared_ptr<sys::File> file{};
    Bytes bytes{};
    std::vector<std::uint32_t> sums{};
    Result<void> result{};
  };
  struct KeptPiece {  // verified, and nothing has changed its content since
    ContentId id;
    std::uint64_t offset = 0;
    Bytes bytes{};
    Instant since{};
  };

  static unsigned database_of(const ContentId& id) { return id.slot.value % kDatabases; }
  Content& content(const ContentId& id);
  Content* find(const ContentId& id);
  void forget_if_idle(const ContentId& id);
  Result<sys::File*> open_file(Content& c, bool create);
  void close_file(Content& c);
  void file_changed(Content& c);

  // content_store.cc
  Result<bool> is_new(Content& c);
  Result<bool> make_hot(Content& c, const Version& version, std::uint64_t offset,
                        std::uint64_t length);
  void wait_for_hot(const ContentId& id, Done ready);
  Result<void> settle_cut(Content& c);
  Result<Page> old_page(Content& c, sys::File* file, std::uint64_t page);
  Result<std::vector<std::uint32_t>> sums_after(Content& c, sys::File* file, std::uint64_t offset,
                                                ByteSpan bytes,
                                                const std::vector<std::uint32_t>& told);
  Result<void> recompute(const ContentId& id, const Version& version, PageRange pages);
  bool is_suspect(const ContentId& id, std::uint64_t page) const;
  // content_read.cc
  using ReadDone = UniqueFunction<void(Result<Bytes>)>;
  struct Wanted {
    std::uint64_t offset = 0, length = 0;
    bool ahead = false;  // was read ahead, or is being
  };
  enum class Served : std::uint8_t {
    nothing,  // an error, or there is no file
    from_memory,
    from_disk,
    later,  // waits for what is read ahead
  };
  Served serve(const ContentId& id, const Wanted& wanted, ReadDone done);
  void read_from_disk(Content& c, std::shared_ptr<DiskRead> job, ReadDone done);
  void disk_read_done(const ContentId& id, std::shared_ptr<DiskRead> job, ReadDone done);
  Result<Bytes> read_here(Content& c, sys::File& file, std::uint64_t offset,
                          std::uint64_t length);
  Result<std::optional<std::uint64_t>> first_mismatch(const ContentId& id, sys::File& file,
                                                      PageRange pages,
                                                      std::span<const std::uint32_t> sums);
  Result<void> verify(Content& c, sys::File& file, PageRange pages,
                      std::span<const std::uint32_t> sums);
  std::uint64_t first_damaged(const ContentId& id, PageRange pages,
                              std::span<const std::uint32_t> sums);
  static void drop_pages(sys::File& file, PageRange pages);
  std::uint64_t begin_pages(Content& c, PageRange pages, bool ahead);
  std::vector<UniqueFunction<void()>> end_pages(Content& c, std::uint64_t number);
  void read_ahead(const ContentId& id);
  bool read_piece_ahead(Content& c);
  void piece_done(const ContentId& id, PieceRead& job);
  void keep(KeptPiece piece);
  std::optional<Bytes> take_kept(const ContentId& id, const Wanted& wanted);
  void drop_kept(const ContentId& id);
  void drop_old_kept();
  // content_sync.cc
  void start_sync(Content& c);
  void sync_done(const ContentId& id, std::uint64_t changes,
                 const std::vector<ContentFiles::Unsynced>& directories, Result<void> result);
  Result<void> follow_cut(Content& c);
  void set_cut(Content& c, PendingCut cut);
  void sync_cut(const ContentId& id);
  void cut_durable(const ContentId& id, std::uint64_t serial, Result<void> synced);
  void follow_later(const ContentId& id, Followed followed);
  void tick_contents();
  bool cool(Content& c);
  void erase_followed();
  void sync_removals();
  void repair_suspects();
  // content_sweep.cc
  void sweep_step(unsigned steps_left);
  Result<void> sweep_names(const std::string& path, const std::vector<std::string>& names);
  Result<bool> is_known(const ContentId& id);
  void end_sweep();
  // content_recovery.cc
  Result<void> load_hot();
  Result<void> finish_removals();
  Result<void> finish_removal(const ContentId& id, ByteSpan image);
  Result<void> cut_unsummed(const ContentId& id, sys::File& file, std::uint64_t size);
  Result<void> clip_to_length(const ContentId& id, sys::File& file);
  Result<void> recover_range(const ContentId& id, std::uint32_t index, const Version& version);

  ContentFiles files_;
  sys::Executor& executor_;
  MetadataStore& metadata_;
  std::map<ContentId, std::unique_ptr<Content>> contents_;
  std::list<ContentId> open_;            // least recently used first
  std::vector<ContentId> hot_uncommitted_;
  std::vector<ContentId> cuts_uncommitted_;
  std::vector<Written> written_;         // since the last commit
  std::vector<Written> suspects_;        // pages whose sums are unknown: not verified
  std::map<ContentId, Followed> followed_;
  std::uint64_t followed_serial_ = 0;
  bool removal_sync_runs_ = false;
  bool removal_sync_failed_ = false;
  bool sweeping_ = false;
  bool sweep_runs_ = false;               // a listing is under way
  std::vector<std::string> sweep_left_;   // directories still to be listed
  std::uint64_t swept_files_ = 0;
  const ContentId* preparing_ = nullptr;  // whose hot rows prepare_write itself will sync
  ContentId tick_from_{};                 // where the next tick goes on
  Instant now_{};
  Instant next_warning_{};
  ReadAhead read_ahead_;
  std::deque<KeptPiece> kept_;            // the oldest first
  std::uint64_t pages_number_ = 0;        // of the last PagesUnderWay
  std::size_t pieces_under_way_ = 0;
  std::size_t disk_reads_under_way_ = 0;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);  // shared with callbacks, as weak_ptr
  Stats stats_;
};

}  // namespace magma::store
