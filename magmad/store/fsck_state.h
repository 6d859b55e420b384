// Inside of fsck: what it remembers of the rows it has read, and its steps. fsck.cc reads tables
// and files into this, fsck_relations.cc compares. Memory: about 150 bytes an inode and 80 a
// content file.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "magmad/store/content_store.h"
#include "magmad/store/fsck.h"
#include "magmad/store/metadata_store.h"

namespace magma::store {

class Fsck {
 public:
  Fsck(sys::Disk& disk, sys::Executor& executor, FsckOptions options)
      : disk_(disk), executor_(executor), options_(std::move(options)) {}
  Result<FsckReport> run();

 private:
  enum class Walk : std::uint8_t { unknown, on_path, reaches_root, lost };
  struct SeenInode {
    std::uint64_t size = 0;
    std::uint64_t inline_size = 0;
    Ino parent{};                     // directories
    Ino entered_in{};                 // the last directory with an entry of it
    std::optional<ring::Key> key{};
    std::uint32_t nlink = 0;
    std::uint32_t entries = 0;
    std::uint32_t subdirectories = 0;
    std::uint32_t children = 0;       // entries in a directory
    std::uint32_t type = 0;           // S_IFMT bits
    ContentPlace place{};
    Walk walk = Walk::unknown;
    bool has_inline = false, has_orphan = false;
  };
  struct SeenContent {
    std::uint64_t length = 0;             // of the ChunkRow
    std::uint64_t removal_size = 0;       // bytes a removal row lets stay
    std::uint32_t sums_end = 0;           // MiB after the last with a page_sums row
    std::uint16_t hot = 0;                // a bit a 4 MiB range
    bool has_row = false, has_sums = false, has_removal = false, has_file = false;
  };
  struct SeenAuthority {
    ring::Key key{};
    std::vector<ChunkRun> chunks{};
  };
  struct ContentHash {
    std::size_t operator()(const ContentId& id) const noexcept {
      std::uint64_t x = id.ino.value * 0x9e3779b97f4a7c15u;
      x ^= (std::uint64_t{id.chunk} << 12 | id.slot.value) * 0xc2b2ae3d27d4eb4fu;
      return static_cast<std::size_t>(x ^ x >> 29);
    }
  };
  using ScanRow = MetadataStore::ScanRow;

  // ---- findings
  void problem(std::string what);
  void note(std::string what);
  // A note if an unfinished operation may be the reason.
  void disagreement(std::string what);
  // A note if an unclean end or an unfinished operation may be the reason.
  void remainder(std::string what);
  void step(std::uint64_t more = 1);
  void tell_progress();

  // ---- fsck.cc: reading
  Result<bool> check_databases();  // false: one is too damaged to go on
  Result<bool> read_mirror_state();
  template <class Visit>
  Result<void> each(Table table, Visit visit);
  template <class Struct, class Visit>
  Result<void> each_as(Table table, Visit visit);
  Result<void> read_slots();
  Result<void> read_operations();
  Result<void> read_inodes();
  void add_inode(const ScanRow& row, const InodeRow& inode);
  Result<void> read_of_inodes();
  Result<void> read_entries();
  void add_entry(const ScanRow& row, const EntryRow& entry);
  Result<void> read_authorities();
  Result<void> read_contents();
  Result<void> read_plain_tables();
  Result<void> read_files();
  Result<void> read_file_directory(const std::string& path);
  Result<std::vector<std::string>> names_in(const std::string& path);

  // ---- fsck_relations.cc: comparing
  void check_inodes();
  void check_links(Ino ino, const SeenInode& inode);
  void check_directory(Ino ino, const SeenInode& inode);
  void check_place(Ino ino, const SeenInode& inode);
  void check_chunks(Ino ino, const SeenInode& inode);
  void check_contents();
  void check_content(const ContentId& id, const SeenContent& content);
  bool belongs(const ContentId& id) const;
  void check_authorities();
  void check_tree();
  Walk walk_up(Ino ino);
  Result<void> check_sums();
  Result<void> check_sums_of(const ContentId& id, const SeenContent& content);
  bool check_page_row(const ContentId& id, const SeenContent& content, std::uint32_t row,
                      ByteSpan bytes, const std::vector<std::uint32_t>& sums);

  bool is_here(ring::Slot slot) const {
    if (options_.slots && !(*options_.slots)[slot.value]) return false;
    return options_.all_slots || counter_limits_[slot.value].has_value();
  }
  SeenInode* find(Ino ino) {
    auto found = inodes_.find(ino.value);
    return found == inodes_.end() ? nullptr : &found->second;
  }
  const SeenInode* find(Ino ino) const {
    auto found = inodes_.find(ino.value);
    return found == inodes_.end() ? nullptr : &found->second;
  }

  sys::Disk& disk_;
  sys::Executor& executor_;
  FsckOptions options_;
  FsckReport report_;
  std::unique_ptr<MetadataStore> metadata_;
  std::uint64_t steps_done_ = 0;
  std::uint64_t steps_total_ = 0;
  std::uint64_t sums_done_ = 0;

  std::array<std::optional<std::uint64_t>, ring::kSlotCount> counter_limits_{};
  std::unordered_map<std::uint64_t, SeenInode> inodes_;
  std::unordered_map<ContentId, SeenContent, ContentHash> contents_;
  std::unordered_map<std::uint64_t, SeenAuthority> authorities_;  // by ino
};

std::string fsck_name(Ino ino);             // "inode 0010000000000010"
std::string fsck_name(const ContentId& id); // "chunk 3 of inode ... at slot 7ff"

}  // namespace magma::store
