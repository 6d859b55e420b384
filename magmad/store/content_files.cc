#include "magmad/store/content_files.h"

#include <charconv>

#include <fmt/format.h>

namespace magma::store {
namespace {

std::uint64_t mix(std::uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

std::string outer_directory(Ino ino) {
  return fmt::format("{}/{:02x}", kFlaresDirectory, mix(ino.value) >> 56);
}

// Pages that nobody asked for would come into memory unseen, and be taken later for ones whose
// checksums were compared. Who reads much asks for much at once.
std::shared_ptr<sys::File> without_read_ahead(std::unique_ptr<sys::File> file) {
  file->read_only_what_is_asked();
  return file;
}

}  // namespace

std::string content_directory(Ino ino) {
  std::uint64_t mixed = mix(ino.value);
  return fmt::format("{}/{:02x}/{:02x}", kFlaresDirectory, mixed >> 56, mixed >> 48 & 0xff);
}

std::string content_name(const ContentId& id) {
  return fmt::format("{:016x}.{}.{:03x}", id.ino.value, id.chunk, id.slot.value);
}

std::string content_path(const ContentId& id) {
  return content_directory(id.ino) + '/' + content_name(id);
}

Result<ContentId> parse_content_name(std::string_view name) {
  ContentId id{};
  auto take = [&name](auto& value, int base) {
    auto [stop, error] = std::from_chars(name.data(), name.data() + name.size(), value, base);
    if (error != std::errc{}) return false;
    name.remove_prefix(static_cast<std::size_t>(stop - name.data()));
    if (name.starts_with('.')) name.remove_prefix(1);
    return true;
  };
  std::string_view whole = name;
  if (!take(id.ino.value, 16) || !take(id.chunk, 10) || !take(id.slot.value, 16) ||
      content_name(id) != whole || id.slot.value >= ring::kSlotCount)
    return fail(Code::malformed);  // also upper case or other zeros
  return id;
}

Result<void> ContentFiles::prepare() {
  TRY(disk_.make_directory(kFlaresDirectory));
  return disk_.sync_directory(".");
}

Result<std::shared_ptr<sys::File>> ContentFiles::open(const ContentId& id, bool create) {
  std::string path = content_path(id);
  auto file = disk_.open(path, sys::Disk::Open::existing);
  if (file) return without_read_ahead(std::move(*file));
  if (file.error().code != Code::not_found) return fail(std::move(file.error()));
  if (!create) return std::shared_ptr<sys::File>();
  file = disk_.open(path, sys::Disk::Open::create_new);
  if (!file && file.error().code == Code::not_found) {
    TRY(disk_.make_directory(outer_directory(id.ino)));
    changed(std::string(kFlaresDirectory));
    TRY(disk_.make_directory(content_directory(id.ino)));
    changed(outer_directory(id.ino));
    file = disk_.open(path, sys::Disk::Open::create_new);
  }
  if (!file) return fail(std::move(file.error()));
  changed(content_directory(id.ino));
  return without_read_ahead(std::move(*file));
}

Result<void> ContentFiles::remove(const ContentId& id) {
  auto removed = disk_.remove(content_path(id));
  if (!removed && removed.error().code != Code::not_found) return removed;
  if (removed) changed(content_directory(id.ino));
  return {};
}

std::vector<ContentFiles::Unsynced> ContentFiles::unsynced_above(const ContentId& id) const {
  std::vector<Unsynced> found;
  if (unsynced_.empty()) return found;
  for (std::string path : {std::string(kFlaresDirectory), outer_directory(id.ino),
                           content_directory(id.ino)})
    if (auto it = unsynced_.find(path); it != unsynced_.end())
      found.push_back({it->first, it->second});
  return found;
}

void ContentFiles::note_synced(const Unsynced& directory) {
  auto it = unsynced_.find(directory.path);
  if (it != unsynced_.end() && it->second == directory.change) unsynced_.erase(it);
}

void ContentFiles::assume_unsynced(const ContentId& id) {
  changed(std::string(kFlaresDirectory));
  changed(outer_directory(id.ino));
  changed(content_directory(id.ino));
}

void ContentFiles::changed(std::string path) { unsynced_[std::move(path)] = ++changes_; }

}  // namespace magma::store
