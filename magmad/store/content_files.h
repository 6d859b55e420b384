// The files of a ContentStore: their paths, directories made on demand, and which directories hold
// entries that are not yet synced. The shard's thread.
//
// Path: flares/xx/yy/<ino, 16 hex digits>.<chunk, decimal>.<slot, 3 hex digits>. xx and yy are two
// bytes of a mix of the inode number (splitmix64's finalizer), so that inodes made one after the
// other spread evenly over 65536 directories; the chunks of a file share one. The slot is there
// because a file that spills has two chunks 0 for a while, its home's and its key's, perhaps on one
// volcano.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "libmagma/base/result.h"
#include "libmagma/sys/disk.h"
#include "magmad/store/content_store.h"

namespace magma::store {

inline constexpr std::string_view kFlaresDirectory = "flares";

std::string content_directory(Ino ino);              // "flares/xx/yy"
std::string content_name(const ContentId& id);       // "0010000000000010.3.7ff"
std::string content_path(const ContentId& id);
Result<ContentId> parse_content_name(std::string_view name);  // malformed if it is none

class ContentFiles {
 public:
  explicit ContentFiles(sys::Disk& disk) : disk_(disk) {}

  // Makes DIR/flares if it is not there.
  Result<void> prepare();
  // nullptr if there is no file and `create` is false.
  Result<std::shared_ptr<sys::File>> open(const ContentId& id, bool create);
  Result<void> remove(const ContentId& id);  // fine if it is not there

  // Directories above a content whose entries are not known to be synced, and how to say that they
  // are: sync_directory() each (any thread), then note_synced with the same value.
  struct Unsynced {
    std::string path;
    std::uint64_t change = 0;
    friend bool operator==(const Unsynced&, const Unsynced&) = default;
  };
  std::vector<Unsynced> unsynced_above(const ContentId& id) const;
  void note_synced(const Unsynced& directory);
  void assume_unsynced(const ContentId& id);  // after an unclean start
  sys::Disk& disk() { return disk_; }

 private:
  void changed(std::string path);
  sys::Disk& disk_;
  std::unordered_map<std::string, std::uint64_t> unsynced_;  // path -> number of the last change
  std::uint64_t changes_ = 0;
};

}  // namespace magma::store
