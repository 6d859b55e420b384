#include "mount.magma/inode_table.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "libmagma/base/check.h"
#include "libmagma/crypto/path_hash.h"

namespace magma::mount {

namespace {

constexpr std::size_t kBucketsMin = 1024;  // a power of two, as all sizes of the chains
constexpr std::size_t kMallocHeader = 16;  // rounding and bookkeeping of a block, about
// Versions rise by one a change: 58 bits never come round.
constexpr unsigned kVersionBits = 58;
constexpr std::uint64_t kVersionMask = (std::uint64_t{1} << kVersionBits) - 1;

}  // namespace

// Name and key in one block: two bytes, the key if there is one, the name.
struct InodeTable::Label {
  std::uint8_t has_key;
  std::uint8_t name_size;

  std::uint8_t* bytes() { return reinterpret_cast<std::uint8_t*>(this + 1); }
  const std::uint8_t* bytes() const { return reinterpret_cast<const std::uint8_t*>(this + 1); }
  static std::size_t size_for(bool has_key, std::size_t name_size) {
    return sizeof(Label) + (has_key ? sizeof(ring::Key) : 0) + name_size;
  }
  std::size_t size() const { return size_for(has_key != 0, name_size); }
  std::string_view name() const {
    return {reinterpret_cast<const char*>(bytes()) + (has_key != 0 ? sizeof(ring::Key) : 0),
            name_size};
  }
  std::optional<ring::Key> key() const {
    if (has_key == 0) return std::nullopt;
    ring::Key key;
    std::memcpy(key.bytes.data(), bytes(), sizeof key.bytes);
    return key;
  }
  static Label* make(std::string_view name, const std::optional<ring::Key>& key) {
    auto* label = static_cast<Label*>(::operator new(size_for(key.has_value(), name.size())));
    label->has_key = key.has_value() ? 1 : 0;
    label->name_size = static_cast<std::uint8_t>(name.size());
    std::uint8_t* at = label->bytes();
    if (key) at = std::copy(key->bytes.begin(), key->bytes.end(), at);
    std::copy(name.begin(), name.end(), at);
    return label;
  }
};

struct InodeTable::Record {
  Ino ino;
  Ino parent;
  std::uint64_t nlookup;
  std::uint64_t version : kVersionBits;
  std::uint64_t alias : 4;
  std::uint64_t is_directory : 1;
  std::uint64_t has_version : 1;
  Label* label;
  Record* next_ino;
  Record* next_name;
};

static_assert(sizeof(ring::Key) == 20);

InodeTable::InodeTable(Ino root) : by_ino_(kBucketsMin), by_name_(kBucketsMin) {
  static_assert(sizeof(Record) <= 56, "with malloc's header one record fits 64 bytes");
  set_root(root);
}

InodeTable::~InodeTable() {
  for (Record* record : by_ino_) {
    while (record != nullptr) {
      Record* next = record->next_ino;
      ::operator delete(record->label);
      delete record;
      record = next;
    }
  }
}

void InodeTable::set_root(Ino root) {
  MAGMA_CHECK(size_ <= 1);
  if (find(root_) != nullptr) erase(root_);
  root_ = root;
  add(root, {.parent = root, .name = {}, .is_directory = true, .key = crypto::key_of_path("/")});
}

std::size_t InodeTable::hash_of(Ino ino) {
  // Numbers of one slot are consecutive: multiply and take the high bits (Fibonacci hashing).
  return static_cast<std::size_t>((ino.value * 0x9e3779b97f4a7c15ULL) >> 24);
}

std::size_t InodeTable::hash_of(Ino parent, std::string_view name) {
  return std::hash<std::string_view>{}(name) ^ hash_of(parent);
}

InodeTable::Record* InodeTable::find(Ino ino) const {
  Record* record = by_ino_[hash_of(ino) & (by_ino_.size() - 1)];
  while (record != nullptr && record->ino != ino) record = record->next_ino;
  return record;
}

InodeTable::Record* InodeTable::find(Ino parent, std::string_view name) const {
  Record* record = by_name_[hash_of(parent, name) & (by_name_.size() - 1)];
  while (record != nullptr && (record->parent != parent || record->label->name() != name))
    record = record->next_name;
  return record;
}

void InodeTable::link_name(Record& record) {
  auto& head =
      by_name_[hash_of(record.parent, record.label->name()) & (by_name_.size() - 1)];
  record.next_name = head;
  head = &record;
}

void InodeTable::unlink_name(Record& record) {
  Record** at = &by_name_[hash_of(record.parent, record.label->name()) & (by_name_.size() - 1)];
  while (*at != &record) {
    MAGMA_CHECK(*at != nullptr);
    at = &(*at)->next_name;
  }
  *at = record.next_name;
}

void InodeTable::grow() {
  std::vector<Record*> old = std::move(by_ino_);
  by_ino_.assign(old.size() * 2, nullptr);
  by_name_.assign(old.size() * 2, nullptr);
  for (Record* record : old) {
    while (record != nullptr) {
      Record* next = record->next_ino;
      auto& head = by_ino_[hash_of(record->ino) & (by_ino_.size() - 1)];
      record->next_ino = head;
      head = record;
      link_name(*record);
      record = next;
    }
  }
}

void InodeTable::place(Record& record, Ino parent, std::string_view name,
                       std::optional<ring::Key> key) {
  // A name longer than any volcano stores: cut, as only placement depends on it.
  name = name.substr(0, wire::kNameBytesMax);
  if (record.label != nullptr) {
    if (!key) key = record.label->key();
    const bool same_key = key == record.label->key();
    if (record.parent == parent && record.label->name() == name && same_key) return;
    unlink_name(record);
  }
  Label* label = Label::make(name, key);  // before the old one goes: `name` may be a part of it
  label_bytes_ += label->size();
  if (record.label != nullptr) label_bytes_ -= record.label->size();
  ::operator delete(record.label);
  record.label = label;
  record.parent = parent;
  link_name(record);
}

std::optional<Place> InodeTable::add(Ino ino, const Seen& seen) {
  if (Record* record = find(ino)) {
    ++record->nlookup;
    if (ino == root_ || seen.name.empty()) return std::nullopt;
    std::optional<Place> before;
    std::string_view last_name = record->label->name();
    if (!last_name.empty() && (record->parent != seen.parent || last_name != seen.name))
      before = Place{record->parent, std::string(last_name)};
    place(*record, seen.parent, seen.name, seen.key);
    return before;
  }
  if (size_ + 1 > by_ino_.size()) grow();
  auto* record = new Record{.ino = ino,
                            .parent = seen.parent,
                            .nlookup = 1,
                            .version = 0,
                            .alias = 0,
                            .is_directory = seen.is_directory ? 1u : 0u,
                            .has_version = 0,
                            .label = nullptr,
                            .next_ino = nullptr,
                            .next_name = nullptr};
  place(*record, seen.parent, seen.name, seen.key);
  auto& head = by_ino_[hash_of(ino) & (by_ino_.size() - 1)];
  record->next_ino = head;
  head = record;
  ++size_;
  return std::nullopt;
}

bool InodeTable::forget(Ino ino, std::uint64_t count) {
  Record* record = find(ino);
  if (record == nullptr || ino == root_) return false;
  if (record->nlookup > count) {
    record->nlookup -= count;
    return false;
  }
  erase(ino);
  return true;
}

void InodeTable::erase(Ino ino) {
  Record** at = &by_ino_[hash_of(ino) & (by_ino_.size() - 1)];
  while ((*at)->ino != ino) at = &(*at)->next_ino;
  Record* record = *at;
  *at = record->next_ino;
  if (record->alias != 0) --renewed_;
  unlink_name(*record);
  label_bytes_ -= record->label->size();
  ::operator delete(record->label);
  delete record;
  --size_;
}

void InodeTable::rename(Ino from_dir, std::string_view from_name, Ino to_dir,
                        std::string_view to_name, bool exchange) {
  Record* source = find(from_dir, from_name);
  Record* target = find(to_dir, to_name);
  if (source != nullptr && source->ino != root_) place(*source, to_dir, to_name, std::nullopt);
  if (exchange && target != nullptr && target->ino != root_)
    place(*target, from_dir, from_name, std::nullopt);
}

void InodeTable::remove(Ino dir, std::string_view name) {
  Record* record = find(dir, name);
  if (record != nullptr && record->ino != root_) place(*record, dir, {}, std::nullopt);
}

void InodeTable::renew(Ino ino) {
  Record* record = find(ino);
  if (record == nullptr || ino == root_) return;
  if (record->alias == 0) ++renewed_;
  record->alias = (record->alias % kAliasMax + 1) & kAliasMax;
}

unsigned InodeTable::alias_of(Ino ino) const {
  if (renewed_ == 0) return 0;
  const Record* record = find(ino);
  return record == nullptr ? 0 : static_cast<unsigned>(record->alias);
}

bool InodeTable::is_directory(Ino ino) const {
  const Record* record = find(ino);
  return record != nullptr && record->is_directory != 0;
}

Ino InodeTable::parent_of(Ino ino) const {
  const Record* record = find(ino);
  return record == nullptr ? Ino() : record->parent;
}

std::size_t InodeTable::memory_bytes() const {
  return (by_ino_.size() + by_name_.size()) * sizeof(Record*) +
         size_ * (sizeof(Record) + kMallocHeader / 2 + kMallocHeader) + label_bytes_;
}

Ino InodeTable::child_of(Ino dir, std::string_view name) const {
  const Record* record = find(dir, name);
  return record == nullptr ? Ino() : record->ino;
}

std::string InodeTable::path_of(Ino ino) const {
  if (ino == root_) return "/";
  std::vector<std::string_view> names;
  while (ino != root_) {
    const Record* record = find(ino);
    bool is_unknown = record == nullptr || record->label->name().empty();  // made by O_TMPFILE
    if (is_unknown || names.size() == kDepthMax) return {};
    names.push_back(record->label->name());
    ino = record->parent;
  }
  std::string path;
  for (auto name = names.rbegin(); name != names.rend(); ++name) {
    path += '/';
    path += *name;
  }
  return path;
}

std::optional<ring::Key> InodeTable::stored_key(Ino ino) const {
  const Record* record = find(ino);
  return record == nullptr ? std::nullopt : record->label->key();
}

ring::Key InodeTable::key_at(Ino dir, std::string_view name) const {
  if (auto key = stored_key(dir)) return crypto::key_of_child(*key, name);
  // Nothing is known of the directory (a number from an NFS handle): any key serves, as long as
  // it spreads. The number's digits stand for the path.
  return crypto::key_of_child(crypto::key_of_path("/" + std::to_string(dir.value)), name);
}

ring::Key InodeTable::key_of(Ino ino) {
  if (ino == root_) return crypto::key_of_path("/");
  if (std::string path = path_of(ino); !path.empty()) return crypto::key_of_path(path);
  const Record* record = find(ino);
  if (record == nullptr) return key_at(ino, {});
  if (record->label->name().empty()) return key_at(record->parent, std::to_string(ino.value));
  return key_at(record->parent, record->label->name());
}

ring::Key InodeTable::key_of_new(Ino dir, std::string_view name) const {
  std::string path = path_of(dir);
  if (path.empty()) return key_at(dir, name);
  if (path != "/") path += '/';
  path += name;
  return crypto::key_of_path(path);
}

bool InodeTable::opened(Ino ino, std::uint64_t version) {
  Record* record = find(ino);
  if (record == nullptr || record->alias != 0) return false;
  const bool unchanged = record->has_version != 0 && record->version == (version & kVersionMask);
  record->has_version = 1;
  record->version = version & kVersionMask;
  return unchanged;
}

std::optional<std::uint64_t> InodeTable::content_version(Ino ino) const {
  const Record* record = find(ino);
  if (record == nullptr || record->alias != 0 || record->has_version == 0) return std::nullopt;
  return record->version;
}

void InodeTable::forget_version(Ino ino) {
  if (Record* record = find(ino)) record->has_version = 0;
}

void InodeTable::changed_here(Ino ino, std::uint64_t version) {
  Record* record = find(ino);
  if (record != nullptr && record->has_version != 0 && record->version + 1 == version)
    record->version = version & kVersionMask;
}

}  // namespace magma::mount
