#include "mount.magma/name_packs.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

namespace magma::mount {

NamePacks::Directory& NamePacks::find_or_make(Ino dir) {
  if (auto found = directories_.find(dir); found != directories_.end()) {
    order_.splice(order_.begin(), order_, found->second.order);
    return found->second;
  }
  // One that waits for its batch stays; there are few of them.
  if (directories_.size() >= kDirectoriesMax) {
    auto oldest = std::find_if(order_.rbegin(), order_.rend(),
                               [&](Ino each) { return !directories_.at(each).is_asked; });
    if (oldest != order_.rend()) {
      const Ino ino = *oldest;
      Directory& directory = directories_.at(ino);
      drop_entries(directory);
      order_.erase(directory.order);
      directories_.erase(ino);
    }
  }
  Directory& directory = directories_[dir];
  order_.push_front(dir);
  directory.order = order_.begin();
  return directory;
}

void NamePacks::drop_entries(Directory& directory) {
  for (const auto& [name, attr] : directory.entries) places_.erase(attr.ino);
  directory.entries.clear();
}

void NamePacks::begin_anew(Directory& directory) {
  drop_entries(directory);
  directory.cookie = 0;
  directory.lookups = 0;
  directory.is_begun = directory.is_ended = false;
}

std::optional<std::uint64_t> NamePacks::looked_up(Ino dir, Instant now) {
  Directory& directory = find_or_make(dir);
  const bool is_walk = now - directory.last < kPauseMax;
  directory.last = now;
  if (directory.is_asked) return std::nullopt;
  if (directory.is_begun && now >= directory.names_until) begin_anew(directory);
  if (!is_walk) directory.lookups = 0;
  ++directory.lookups;
  const unsigned enough = directory.is_begun ? kLookupsNext : directory.enough;
  if (directory.is_ended || directory.lookups < enough) return std::nullopt;
  directory.lookups = 0;
  directory.is_asked = true;
  ++batches_;
  return directory.cookie;
}

void NamePacks::end_batch(Directory& directory) {
  directory.is_asked = directory.is_void = false;
  directory.touched.clear();
  if (--batches_ > 0) return;
  touched_.clear();
  is_overfull_ = false;
}

void NamePacks::was_useless(Directory& directory) {
  directory.enough = std::min(directory.enough * 2, kEnoughMax);
}

bool NamePacks::make_room() {
  if (places_.size() < kEntriesMax) return true;
  for (auto at = order_.rbegin(); at != order_.rend(); ++at) {
    Directory& directory = directories_.at(*at);
    if (directory.entries.empty() || directory.is_asked) continue;
    drop_entries(directory);
    return true;
  }
  return false;
}

void NamePacks::fetched(Ino dir, wire::ReaddirReply batch, Instant now) {
  auto found = directories_.find(dir);
  if (found == directories_.end() || !found->second.is_asked) return;
  Directory& directory = found->second;
  if (directory.is_void || is_overfull_ || batch.believed_until <= now) {
    was_useless(directory);
    begin_anew(directory);
    return end_batch(directory);
  }
  directory.enough = kLookupsFirst;
  if (!directory.is_begun) directory.names_until = Instant::never();
  directory.names_until = std::min(directory.names_until, batch.believed_until);
  directory.is_begun = true;
  directory.is_ended = batch.end || batch.entries.empty();
  if (!batch.entries.empty()) directory.cookie = batch.entries.back().cookie;
  for (wire::DirectoryEntry& entry : batch.entries) {
    if (!entry.attr || entry.attr->believed_until <= now) continue;
    const bool is_directory = S_ISDIR(entry.attr->mode);
    if (is_directory ? !entry.attr->placement.key : entry.attr->nlink != 1) continue;
    if (touched_.contains(entry.ino) || directory.touched.contains(entry.name)) continue;
    if (places_.contains(entry.ino) || directory.entries.contains(entry.name)) continue;
    if (!make_room()) continue;
    places_[entry.ino] = {dir, entry.name};
    directory.entries.emplace(std::move(entry.name), std::move(*entry.attr));
  }
  end_batch(directory);
}

void NamePacks::failed(Ino dir) {
  auto found = directories_.find(dir);
  if (found == directories_.end() || !found->second.is_asked) return;
  was_useless(found->second);
  end_batch(found->second);
}

std::optional<wire::EntryReply> NamePacks::take(Ino dir, std::string_view name, Instant now) {
  auto found = directories_.find(dir);
  if (found == directories_.end()) return std::nullopt;
  Directory& directory = found->second;
  auto at = directory.entries.find(name);
  if (at == directory.entries.end()) return std::nullopt;
  wire::Attr attr = std::move(at->second);
  places_.erase(attr.ino);
  directory.entries.erase(at);
  if (now >= directory.names_until || now >= attr.believed_until) return std::nullopt;
  wire::EntryReply entry;
  entry.ino = attr.ino;
  entry.type = static_cast<std::uint8_t>((attr.mode & S_IFMT) >> 12);  // S_IF* to DT_*
  entry.key = attr.placement.key;
  entry.attr = std::move(attr);
  entry.believed_until = directory.names_until;
  return entry;
}

void NamePacks::forget(Ino ino) {
  if (batches_ > 0 && !is_overfull_) {
    touched_.insert(ino);
    is_overfull_ = touched_.size() > kTouchedMax;
  }
  auto place = places_.find(ino);
  if (place == places_.end()) return;
  auto found = directories_.find(place->second.dir);
  if (found != directories_.end()) found->second.entries.erase(place->second.name);
  places_.erase(place);
}

void NamePacks::forget(Ino dir, std::string_view name) {
  auto found = directories_.find(dir);
  if (found == directories_.end()) return;
  Directory& directory = found->second;
  if (directory.is_asked && !directory.is_void) {
    directory.touched.emplace(name);
    if (directory.touched.size() > kTouchedMax) directory.is_void = true;
  }
  auto at = directory.entries.find(name);
  if (at == directory.entries.end()) return;
  places_.erase(at->second.ino);
  directory.entries.erase(at);
}

}  // namespace magma::mount
