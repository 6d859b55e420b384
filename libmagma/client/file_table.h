// What the client knows of files: where their content is (placement), how long they are, which
// chunks were written since the last fsync, and how often this mount holds them open. Most files
// need no record: one that is closed and at home is simply asked for at its home. Used by
// Requests (learns from answers) and ContentIo. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>
#include <vector>

#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"
#include "libmagma/wire/flare_messages.h"

namespace magma::client {

inline constexpr std::uint64_t kChunkBytes = 64u << 20;
inline constexpr std::size_t kFilesMax = 1u << 20;       // records; beyond, a file costs a detour
inline constexpr Duration kSizeFresh{};                  // how long a learned size is believed
inline constexpr Duration kWrittenKept = seconds(15);    // after forget; volcanoes sync in 5 s

constexpr std::uint32_t chunk_of(std::uint64_t offset) {
  return static_cast<std::uint32_t>(offset / kChunkBytes);
}

struct WrittenChunk {
  std::uint32_t chunk = 0;
  std::uint64_t stamp = 0;  // rises with every acknowledged write of the file
};

struct File {
  wire::Placement placement;
  std::uint64_t size = 0;
  std::uint64_t size_version = 0;     // data version the size belongs to
  std::optional<Instant> size_at;     // when it was learned
  std::vector<WrittenChunk> written;  // since the last fsync
  std::uint64_t stamp = 0;
  bool may_have_spilled = false;      // a write at home went past what may stay there
  bool is_forgotten = false;          // the kernel no longer knows the inode
  std::uint32_t readers = 0;          // opens this mount holds
  std::uint32_t writers = 0;
  std::uint32_t uid = 0;              // of the last opener, to open again
  std::uint32_t gid = 0;

  bool is_open() const { return readers + writers > 0; }
};

class FileTable {
 public:
  // nullptr if nothing is known.
  File* find(Ino ino);

  void learn(const wire::Attr& attr, Instant now);
  // From an answer moved_to_chunks or behind_truncate.
  void learn_moved(Ino ino, const wire::MovedReply& moved, Instant now);
  // A write of `length` bytes was acknowledged; `spill_over`: the most a file at home may have.
  void learn_write(Ino ino, const wire::WriteReply& reply, std::uint64_t length,
                   std::uint64_t spill_over, Instant now);

  // False if there are too many records.
  bool has_room() const { return files_.size() < kFilesMax; }
  void add_open(Ino ino, bool for_write, std::uint32_t uid, std::uint32_t gid);
  void drop_open(Ino ino, bool for_write, Instant now);
  void forget(Ino ino, Instant now);
  // Everything held open, for a new session.
  template <class Visit>
  void for_each_open(Visit visit) const {
    for (const auto& [ino, file] : files_)
      if (file.is_open()) visit(ino, file);
  }
  // The ring began a new epoch: a power cut may have taken it back behind what is known here, and
  // numbers that only rise have begun anew. Placement is asked of the homes again.
  void begin_anew();
  // What an fsync that began at `stamp` has made durable.
  static void clear_written(File& file, std::uint64_t stamp);

 private:
  File* find_or_make(Ino ino);
  void adopt(File& file, const wire::Placement& placement);
  void drop_if_useless(Ino ino, Instant now);
  void drop_lingering(Instant now);

  struct Lingering {
    Instant until;
    Ino ino;
  };
  std::unordered_map<Ino, File> files_;
  std::deque<Lingering> lingering_;  // forgotten with unsynced chunks, oldest first
};

}  // namespace magma::client
