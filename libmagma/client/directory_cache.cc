#include "libmagma/client/directory_cache.h"

#include <sys/stat.h>

#include <algorithm>

namespace magma::client {

namespace {

// Whether `a` was told after `b`: each change of an inode gives it a later ctime or one more
// change of its names.
bool is_newer(const wire::Attr& a, const wire::Attr& b) {
  return a.data_version != b.data_version ? a.data_version > b.data_version : a.ctime > b.ctime;
}

// Attributes of which nothing else is known, and nothing believed.
wire::Attr nothing_but_version(Ino dir, std::uint64_t version) {
  wire::Attr attr;
  attr.ino = dir;
  attr.mode = S_IFDIR;
  attr.data_version = version;
  return attr;
}

}  // namespace

DirectoryCache::Record* DirectoryCache::find(Ino dir) {
  auto found = records_.find(dir);
  return found == records_.end() ? nullptr : &found->second;
}

const DirectoryCache::Record* DirectoryCache::find(Ino dir) const {
  auto found = records_.find(dir);
  return found == records_.end() ? nullptr : &found->second;
}

DirectoryCache::Record& DirectoryCache::find_or_make(Ino dir, const wire::Attr& attr) {
  if (Record* record = find(dir)) {
    order_.splice(order_.begin(), order_, record->order);
    return *record;
  }
  if (records_.size() >= kDirectoriesMax) forget(order_.back());
  Record& record = records_[dir];
  record.attr = attr;
  order_.push_front(dir);
  record.order = order_.begin();
  return record;
}

std::optional<DirectoryCache::Known> DirectoryCache::attr_of(Ino dir, Instant now) const {
  const Record* record = find(dir);
  if (record == nullptr || record->attr.believed_until <= now) return std::nullopt;
  return Known{record->attr, record->attr.believed_until - now};
}

bool DirectoryCache::is_absent(Ino dir, std::string_view name, Instant now) const {
  const Record* record = find(dir);
  return record != nullptr && record->is_complete && now < record->names_until &&
         !record->names.contains(name);
}

void DirectoryCache::lose_names(Record& record) {
  names_ -= record.names.size();
  record.names = {};
  record.is_complete = false;
}

void DirectoryCache::add_name(Record& record, const std::string& name) {
  if (!record.is_complete || !record.names.insert(name).second) return;
  if (++names_ > kNamesMax) lose_names(record);
}

void DirectoryCache::erase_name(Record& record, const std::string& name) {
  names_ -= record.names.erase(name);
}

void DirectoryCache::changed(const NameChange& change,
                             const std::optional<wire::NamesChanged>& told) {
  if (!told) return clear();
  for (Ino other : told->others) forget(other);
  if (change.from_dir != Ino() && change.from_dir != change.dir) forget(change.from_dir);
  const bool is_known = find(change.dir) != nullptr;
  Record& record = find_or_make(change.dir, told->directory);
  const bool is_next =
      !is_known || told->directory.data_version == record.attr.data_version + 1;
  // An older answer that came late, or somebody else's changes before this one.
  if (!is_next) lose_names(record);
  if (is_known && !is_newer(told->directory, record.attr)) return;
  record.attr = told->directory;
  record.names_until = told->directory.believed_until;
  if (!record.is_complete || change.exchanges) return;
  if (change.removes)
    erase_name(record, change.name);
  else
    add_name(record, change.name);
  if (change.from_dir == change.dir && record.is_complete) erase_name(record, change.from_name);
}

void DirectoryCache::made(const wire::Attr& directory) {
  forget(directory.ino);  // never known: inode numbers are not used again
  Record& record = find_or_make(directory.ino, directory);
  record.is_complete = true;
  record.names_until = directory.believed_until;
}

void DirectoryCache::listed(Ino dir, std::uint64_t after, const wire::ReaddirReply& part) {
  if (after == 0) {
    Record& begun = find_or_make(dir, nothing_but_version(dir, part.data_version));
    drop_listing(begun);
    begun.listing.emplace();
    begun.listing->version = part.data_version;
    begun.listing->until = part.believed_until;
  }
  Record* record = find(dir);
  if (record == nullptr || !record->listing) return;
  Listing& listing = *record->listing;
  const bool goes_on = listing.version == part.data_version && listing.next == after;
  if (!goes_on || listing.names.size() + part.entries.size() > kListedMax)
    return drop_listing(*record);
  names_ -= listing.names.size();
  for (const wire::DirectoryEntry& entry : part.entries) listing.names.insert(entry.name);
  names_ += listing.names.size();
  while (names_ > kNamesMax && order_.back() != dir) forget(order_.back());
  listing.until = std::min(listing.until, part.believed_until);
  if (!part.entries.empty()) listing.next = part.entries.back().cookie;
  if (part.end) finish_listing(*record);
}

void DirectoryCache::finish_listing(Record& record) {
  Listing& all = *record.listing;
  if (record.attr.data_version < all.version) {
    lose_names(record);
    record.attr = nothing_but_version(record.attr.ino, all.version);
  }
  if (record.attr.data_version == all.version) {  // else a change came between
    if (!record.is_complete) {
      std::swap(record.names, all.names);
      record.is_complete = true;
      record.names_until = all.until;
    }
    record.names_until = std::max(record.names_until, all.until);
  }
  drop_listing(record);
}

void DirectoryCache::drop_listing(Record& record) {
  if (record.listing) names_ -= record.listing->names.size();
  record.listing.reset();
}

// Nobody else has changed it meanwhile. If it is not what it was told to become, some of the
// changes were not made.
void DirectoryCache::delayed_done(const wire::Attr& directory, bool is_last) {
  Record* record = find(directory.ino);
  if (record == nullptr) return;
  const std::uint64_t known = record->attr.data_version;
  if (directory.data_version > known || (is_last && directory.data_version != known))
    return forget(directory.ino);
  const Instant until = directory.believed_until;
  record->attr.believed_until = std::max(record->attr.believed_until, until);
  record->names_until = std::max(record->names_until, until);
}

void DirectoryCache::failed(const NameChange& change) {
  forget(change.dir);
  if (change.from_dir != Ino()) forget(change.from_dir);
}

void DirectoryCache::learn(const wire::Attr& attr) {
  if (!S_ISDIR(attr.mode)) return;
  Record* record = find(attr.ino);
  if (record == nullptr || is_newer(record->attr, attr)) return;
  if (attr.data_version != record->attr.data_version) lose_names(*record);
  record->attr = attr;
}

void DirectoryCache::forget(Ino dir) {
  auto found = records_.find(dir);
  if (found == records_.end()) return;
  drop_listing(found->second);
  names_ -= found->second.names.size();
  order_.erase(found->second.order);
  records_.erase(found);
}

void DirectoryCache::clear() {
  records_.clear();
  order_.clear();
  names_ = 0;
}

}  // namespace magma::client
