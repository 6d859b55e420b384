// The second half of fsck: compares what fsck.cc has read. Which rule may be broken for a while by
// what is told by the kind of finding: problem (never), disagreement (an operation under way),
// remainder (also an unclean end).
#include <sys/stat.h>

#include <algorithm>

#include <fmt/format.h>

#include "libmagma/crypto/checksum.h"
#include "libmagma/crypto/path_hash.h"
#include "magmad/store/content_files.h"
#include "magmad/store/fsck_state.h"
#include "magmad/store/page_sums.h"

namespace magma::store {
namespace {

constexpr std::uint64_t kRootCounter = 1;
constexpr std::uint32_t kChunksMax = 1u << 24;  // 2^50 bytes: more than any file may have

Ino root() {
  return Ino(ring::with_counter(crypto::key_of_path("/").slot(), kRootCounter));
}

bool names_chunk(const std::vector<ChunkRun>& runs, std::uint32_t chunk) {
  return std::any_of(runs.begin(), runs.end(), [&](const ChunkRun& run) {
    return run.first <= chunk && chunk <= run.last;
  });
}

}  // namespace

// ---- inodes

void Fsck::check_inodes() {
  for (const auto& [number, inode] : inodes_) {
    check_links(Ino(number), inode);
    check_place(Ino(number), inode);
  }
}

void Fsck::check_links(Ino ino, const SeenInode& inode) {
  if (inode.type == S_IFDIR) return check_directory(ino, inode);
  if (inode.nlink > 0 && inode.has_orphan)
    problem(fmt::format("{} is listed as an orphan but has {} links", fsck_name(ino), inode.nlink));
  if (inode.nlink == 0 && !inode.has_orphan)
    disagreement(fmt::format("{} has no link and is not listed as an orphan", fsck_name(ino)));
  if (!options_.all_slots || inode.entries == inode.nlink) return;
  if (inode.entries == 0)
    disagreement(fmt::format("{} has {} links but no entry", fsck_name(ino), inode.nlink));
  else
    disagreement(fmt::format("{} has {} links but {} entries", fsck_name(ino), inode.nlink,
                             inode.entries));
}

void Fsck::check_directory(Ino ino, const SeenInode& inode) {
  if (inode.has_orphan) problem(fsck_name(ino) + " is a directory and listed as an orphan");
  if (!inode.key)
    problem(fsck_name(ino) + " is a directory without a key");
  else if (inode.key->slot() != ring::home_of(ino))
    problem(fsck_name(ino) + " is a directory that does not lie at its key");
  // Entries of subdirectories that live elsewhere were not counted.
  if (options_.all_slots && inode.nlink != 2 + inode.subdirectories)
    disagreement(fmt::format("{} is a directory with {} subdirectories but nlink {}",
                             fsck_name(ino), inode.subdirectories, inode.nlink));
  if (ino == root()) {
    if (inode.entries > 0) problem("the root directory has an entry");
    if (inode.parent != ino) problem("the root directory is not its own parent");
    return;
  }
  if (inode.entries > 1)
    disagreement(fmt::format("{} is a directory with {} entries", fsck_name(ino), inode.entries));
  if (inode.entries == 0 && options_.all_slots) {
    // A power cut may take the entry, and the operation with it, but not the new object.
    std::string what = fsck_name(ino) + " is a directory without an entry";
    inode.children == 0 ? remainder(std::move(what)) : disagreement(std::move(what));
  }
  if (inode.entries == 1 && inode.entered_in != inode.parent)
    disagreement(fmt::format("{} is a directory in {} but names {} as its parent", fsck_name(ino),
                             fsck_name(inode.entered_in), fsck_name(inode.parent)));
}

// Row, home file and ChunkRow are of one slot and change in one transaction.
void Fsck::check_place(Ino ino, const SeenInode& inode) {
  bool is_link = inode.type == S_IFLNK;
  bool is_file = inode.type == S_IFREG;
  if (!is_file && inode.place != ContentPlace::none && !is_link)
    problem(fsck_name(ino) + " is no regular file but has content");
  bool in_row = is_link || (is_file && inode.place == ContentPlace::in_row);
  if (in_row && !inode.has_inline) problem(fsck_name(ino) + ": its content in the row is missing");
  if (!in_row && inode.has_inline) problem(fsck_name(ino) + " has content in the row by mistake");
  if (in_row && inode.has_inline && inode.inline_size != inode.size)
    problem(fmt::format("{} has size {} but {} bytes in the row", fsck_name(ino), inode.size,
                        inode.inline_size));
  if (!is_file) return;
  if (inode.place == ContentPlace::none && inode.size != 0)
    problem(fmt::format("{} has size {} but no content", fsck_name(ino), inode.size));
  if (inode.place == ContentPlace::chunks) return check_chunks(ino, inode);
  if (inode.place != ContentPlace::home_file) return;
  auto found = contents_.find({ring::home_of(ino), ino, 0});
  if (found == contents_.end() || !found->second.has_row)
    problem(fsck_name(ino) + ": the row of its home file is missing");
  else if (found->second.length != inode.size)
    problem(fmt::format("{} has size {} but a home file of {}", fsck_name(ino), inode.size,
                        found->second.length));
}

void Fsck::check_chunks(Ino ino, const SeenInode& inode) {
  if (!inode.key) return problem(fsck_name(ino) + " has chunks but no key");
  if (!is_here(inode.key->slot())) return;
  auto authority = authorities_.find(ino.value);
  if (authority == authorities_.end())
    return disagreement(fsck_name(ino) + ": its size authority is missing");
  if (authority->second.key != *inode.key)
    return disagreement(fsck_name(ino) + ": its size authority has another key");
  for (const ChunkRun& run : authority->second.chunks) {
    if (run.last >= kChunksMax) {
      problem(fmt::format("size authority of {} names chunk {}", fsck_name(ino), run.last));
      continue;
    }
    for (std::uint32_t chunk = run.first; chunk <= run.last; ++chunk) {
      ContentId id{crypto::key_of_chunk(*inode.key, chunk).slot(), ino, chunk};
      auto found = contents_.find(id);
      bool there = found != contents_.end() && found->second.has_row;
      if (!there && is_here(id.slot)) remainder(fsck_name(id) + " has no row");
    }
  }
}

void Fsck::check_authorities() {
  for (const auto& [number, authority] : authorities_) {
    Ino ino(number);
    const SeenInode* inode = find(ino);
    if (inode == nullptr) {
      if (is_here(ring::home_of(ino)))
        disagreement(fmt::format("leaked: size authority of {}, which is missing", fsck_name(ino)));
    } else if (inode->place != ContentPlace::chunks) {
      disagreement(fmt::format("leaked: size authority of {}, which has no chunks",
                               fsck_name(ino)));
    }
  }
}

// ---- contents

bool Fsck::belongs(const ContentId& id) const {
  const SeenInode* inode = find(id.ino);
  bool at_home = ring::home_of(id.ino) == id.slot && id.chunk == 0;
  if (inode != nullptr && inode->place == ContentPlace::home_file && at_home) return true;
  if (inode != nullptr && inode->place != ContentPlace::chunks) return false;
  if (inode == nullptr && is_here(ring::home_of(id.ino))) return false;
  auto authority = authorities_.find(id.ino.value);
  if (authority == authorities_.end()) {  // perhaps at another volcano
    return inode == nullptr || !inode->key || !is_here(inode->key->slot());
  }
  return names_chunk(authority->second.chunks, id.chunk) &&
         crypto::key_of_chunk(authority->second.key, id.chunk).slot() == id.slot;
}

void Fsck::check_contents() {
  for (const auto& [id, content] : contents_) check_content(id, content);
}

void Fsck::check_content(const ContentId& id, const SeenContent& content) {
  if (content.has_row) {
    if (!belongs(id)) remainder(fmt::format("leaked: {} belongs to no file", fsck_name(id)));
    std::uint64_t rows = (content.length + kSumsRangeBytes - 1) / kSumsRangeBytes;
    if (content.sums_end > rows)
      problem(fmt::format("{} has checksums past its length {}", fsck_name(id), content.length));
    return;
  }
  if (content.has_sums) problem(fmt::format("leaked: checksums of {}", fsck_name(id)));
  if (content.hot != 0) {
    // A write was about to begin; the row goes when it cools.
    std::string what = fmt::format("{} is about to be written", fsck_name(id));
    if (find(id.ino) != nullptr)
      note(std::move(what));
    else
      remainder("leaked: hot range of " + fsck_name(id));
  } else if (content.has_file && !content.has_removal) {
    remainder(fmt::format("leaked: file {} belongs to no row", content_path(id)));
  }
}

// ---- the tree

void Fsck::check_tree() {
  if (is_here(ring::home_of(root())) && find(root()) == nullptr)
    return problem("the root directory is missing");
  if (!options_.all_slots) return;
  for (auto& [number, inode] : inodes_)
    if (inode.type == S_IFDIR && inode.walk == Walk::unknown) walk_up(Ino(number));
}

// From a directory by entries (by its own word if it has none) up to one whose end is known.
Fsck::Walk Fsck::walk_up(Ino ino) {
  std::vector<SeenInode*> path;
  Walk end = Walk::lost;
  for (Ino at = ino;;) {
    SeenInode* inode = find(at);
    if (inode == nullptr) break;  // told as a missing directory
    if (at == root()) inode->walk = Walk::reaches_root;
    if (inode->walk == Walk::on_path)
      disagreement(fmt::format("{} lies in a cycle of directories", fsck_name(at)));
    if (inode->walk != Walk::unknown) {
      if (inode->walk == Walk::reaches_root) end = Walk::reaches_root;
      break;
    }
    inode->walk = Walk::on_path;
    path.push_back(inode);
    at = inode->entries > 0 ? inode->entered_in : inode->parent;
  }
  for (SeenInode* inode : path) inode->walk = end;
  if (end == Walk::lost && !path.empty())
    disagreement(fmt::format("{} is a directory that cannot be reached from the root",
                             fsck_name(ino)));
  return end;
}

// ---- deep

Result<void> Fsck::check_sums() {
  for (const auto& [id, content] : contents_) {
    if (content.has_row && (content.has_file || content.has_sums))
      TRY(check_sums_of(id, content));
    ++sums_done_;
    tell_progress();
  }
  return {};
}

Result<void> Fsck::check_sums_of(const ContentId& id, const SeenContent& content) {
  // A file of which no page has a sum is a remainder that is emptied when it is opened.
  if (!content.has_sums) return {};
  std::unique_ptr<sys::File> file;
  std::uint64_t size = 0;
  if (content.has_file) {
    auto opened = disk_.open(content_path(id), sys::Disk::Open::existing_readonly);
    auto found = opened ? (*opened)->size() : Result<std::uint64_t>(fail(opened.error()));
    if (!found) {
      problem(fmt::format("{}: {}", content_path(id), describe(found.error())));
      return {};
    }
    file = std::move(*opened);
    file->read_only_what_is_asked();
    size = *found;
  }
  std::uint64_t rows = std::max<std::uint64_t>(
      content.sums_end, (std::min(size, kChunkBytes) + kSumsRangeBytes - 1) / kSumsRangeBytes);
  Bytes bytes(kSumsRangeBytes);
  for (std::uint32_t row = 0; row < rows; ++row) {
    std::uint64_t at = std::uint64_t{row} * kSumsRangeBytes;
    std::size_t got = 0;
    if (at < size) {
      auto read = file->read_at(bytes, at);
      if (!read) {
        problem(fmt::format("{} at {}: {}", content_path(id), at, describe(read.error())));
        continue;
      }
      got = *read;
    }
    std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(got), bytes.end(), 0);
    auto sums = get_sums(*metadata_, id, {row * kPagesPerRow, kPagesPerRow});
    if (!sums) {
      problem(fmt::format("checksums of {}: {}", fsck_name(id), describe(sums.error())));
      continue;
    }
    if (!check_page_row(id, content, row, bytes, *sums)) break;  // one line a file is enough
  }
  // A volcano takes what is in memory for compared.
  if (file) file->drop_cache(0, size);
  return {};
}

// False if a page does not match.
bool Fsck::check_page_row(const ContentId& id, const SeenContent& content, std::uint32_t row,
                          ByteSpan bytes, const std::vector<std::uint32_t>& sums) {
  std::uint64_t first = std::uint64_t{row} * kSumsRangeBytes;
  // Only a crash can leave bytes there that are of no commit.
  if (options_.unclean && (content.hot >> (first / kHotRangeBytes) & 1) != 0) return true;
  for (std::uint64_t page = 0; page < kPagesPerRow; ++page) {
    std::uint64_t at = first + page * kPageBytes;
    // A cut not yet made: what is beyond is of before it.
    if (content.has_removal && at + kPageBytes > content.removal_size) break;
    ++report_.pages_checked;
    if (crypto::crc32c(bytes.subspan(page * kPageBytes, kPageBytes)) == sums[page]) continue;
    problem(fmt::format("{}: bytes at {} do not match their checksum", content_path(id), at));
    return false;
  }
  return true;
}

}  // namespace magma::store
