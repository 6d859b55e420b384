#include "libmagma/client/file_table.h"

#include <algorithm>

namespace magma::client {

File* FileTable::find(Ino ino) {
  auto found = files_.find(ino);
  return found == files_.end() ? nullptr : &found->second;
}

File* FileTable::find_or_make(Ino ino) {
  if (File* file = find(ino)) return file;
  return has_room() ? &files_[ino] : nullptr;
}

// Answers may arrive out of order: a lower truncate number is old news, and content never goes
// back home. A mark that is old is found out by the next write.
void FileTable::adopt(File& file, const wire::Placement& placement) {
  if (placement.truncate_number < file.placement.truncate_number) return;
  if (file.placement.in_chunks && !placement.in_chunks) return;
  if (placement.in_chunks && !placement.key) return;  // nowhere to go
  file.placement = placement;
}

void FileTable::learn(const wire::Attr& attr, Instant now) {
  File* file = find(attr.ino);
  if (file == nullptr) {
    if (!attr.placement.in_chunks) return;
    file = find_or_make(attr.ino);
    if (file == nullptr) return;
  }
  file->is_forgotten = false;
  adopt(*file, attr.placement);
  if (attr.data_version < file->size_version) return;
  file->size = attr.size;
  file->size_version = attr.data_version;
  file->size_at = now;
}

void FileTable::learn_moved(Ino ino, const wire::MovedReply& moved, Instant now) {
  File* file = find_or_make(ino);
  if (file == nullptr) return;
  bool is_truncated = moved.placement.truncate_number > file->placement.truncate_number;
  adopt(*file, moved.placement);
  if (moved.is_partial) {
    file->size_at.reset();
    return;
  }
  if (!is_truncated && file->size_at && moved.size <= file->size) return;
  file->size = moved.size;
  file->size_at = now;
}

void FileTable::learn_write(Ino ino, const wire::WriteReply& reply, std::uint64_t length,
                            std::uint64_t spill_over, Instant now) {
  std::uint64_t end = reply.offset + length;
  bool may_be_in_chunks = end > spill_over;
  File* file = may_be_in_chunks ? find_or_make(ino) : find(ino);
  if (file == nullptr) return;
  if (reply.data_version >= file->size_version) {
    file->size = reply.size;
    file->size_version = reply.data_version;
    file->size_at = now;
  } else if (end > file->size) {
    file->size = end;
    file->size_at = now;
  }
  if (!may_be_in_chunks && !file->placement.in_chunks) return;
  if (!file->placement.in_chunks) file->may_have_spilled = true;
  ++file->stamp;
  std::uint32_t last = chunk_of(length == 0 ? reply.offset : end - 1);
  for (std::uint32_t chunk = chunk_of(reply.offset); chunk <= last; ++chunk) {
    auto& written = file->written;
    if (written.empty() || written.back().chunk < chunk) {
      written.push_back({chunk, file->stamp});
      continue;
    }
    auto at = std::lower_bound(
        written.begin(), written.end(), chunk,
        [](const WrittenChunk& item, std::uint32_t wanted) { return item.chunk < wanted; });
    if (at->chunk == chunk)
      at->stamp = file->stamp;
    else
      written.insert(at, {chunk, file->stamp});
  }
}

void FileTable::begin_anew() {
  for (auto& [ino, file] : files_) {
    if (file.placement.in_chunks) file.may_have_spilled = true;
    file.placement = {};
    file.size_version = 0;
    file.size_at.reset();
  }
}

void FileTable::clear_written(File& file, std::uint64_t stamp) {
  std::erase_if(file.written, [&](const WrittenChunk& item) { return item.stamp <= stamp; });
}

void FileTable::add_open(Ino ino, bool for_write, std::uint32_t uid, std::uint32_t gid) {
  File& file = files_[ino];  // admission was has_room(), before the open was sent
  file.is_forgotten = false;
  ++(for_write ? file.writers : file.readers);
  file.uid = uid;
  file.gid = gid;
}

void FileTable::drop_open(Ino ino, bool for_write, Instant now) {
  File* file = find(ino);
  if (file == nullptr) return;
  std::uint32_t& count = for_write ? file->writers : file->readers;
  if (count > 0) --count;
  drop_if_useless(ino, now);
}

void FileTable::forget(Ino ino, Instant now) {
  if (File* file = find(ino)) {
    file->is_forgotten = true;
    drop_if_useless(ino, now);
  }
  drop_lingering(now);
}

// A closed file at home needs no record. One in chunks keeps it until the kernel forgets the
// inode, and a while longer if an fsync by someone else may still have to reach its chunks.
void FileTable::drop_if_useless(Ino ino, Instant now) {
  auto found = files_.find(ino);
  if (found == files_.end() || found->second.is_open()) return;
  const File& file = found->second;
  if (!file.written.empty()) {
    if (file.is_forgotten) lingering_.push_back({now + kWrittenKept, ino});
    return;
  }
  if (file.placement.in_chunks && !file.is_forgotten) return;
  files_.erase(found);
}

void FileTable::drop_lingering(Instant now) {
  while (!lingering_.empty() && lingering_.front().until <= now) {
    auto found = files_.find(lingering_.front().ino);
    lingering_.pop_front();
    if (found == files_.end() || found->second.is_open() || !found->second.is_forgotten) continue;
    files_.erase(found);
  }
}

}  // namespace magma::client
