#include "tests/lib/sim_disk.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "libmagma/base/check.h"

namespace magma::test {
namespace sim {
namespace {
// More unsynced changes than this: the kernel has written the oldest back by itself.
constexpr std::size_t kUnsyncedMax = 16384;
constexpr std::uint64_t kUnsyncedBytesMax = 256u << 20;
}  // namespace

std::size_t Image::read(MutableByteSpan out, std::uint64_t offset) const {
  if (offset >= size_) return 0;
  std::size_t wanted =
      static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), size_ - offset));
  for (std::size_t done = 0; done < wanted;) {
    std::size_t page = static_cast<std::size_t>((offset + done) / kPage);
    std::size_t within = static_cast<std::size_t>((offset + done) % kPage);
    std::size_t part = std::min(wanted - done, kPage - within);
    if (page < pages_.size() && pages_[page] != nullptr)
      std::memcpy(out.data() + done, pages_[page]->data() + within, part);
    else
      std::memset(out.data() + done, 0, part);
    done += part;
  }
  return wanted;
}

void Image::write(ByteSpan bytes, std::uint64_t offset) {
  std::uint64_t end = offset + bytes.size();
  if (end > size_) {
    size_ = end;
    pages_.resize(static_cast<std::size_t>((end + kPage - 1) / kPage));
  }
  for (std::size_t done = 0; done < bytes.size();) {
    auto& page = pages_[static_cast<std::size_t>((offset + done) / kPage)];
    std::size_t within = static_cast<std::size_t>((offset + done) % kPage);
    std::size_t part = std::min(bytes.size() - done, kPage - within);
    if (page == nullptr) {
      page = std::make_unique<Page>();
      ++pages_used_;
    }
    std::memcpy(page->data() + within, bytes.data() + done, part);
    done += part;
  }
}

void Image::zero_within(std::uint64_t from, std::uint64_t to) {
  if (from >= to) return;
  std::size_t page = static_cast<std::size_t>(from / kPage);
  if (page >= pages_.size() || pages_[page] == nullptr) return;
  std::memset(pages_[page]->data() + from % kPage, 0, static_cast<std::size_t>(to - from));
}

void Image::truncate(std::uint64_t size) {
  if (size < size_) {
    std::uint64_t page_end = std::min((size + kPage - 1) / kPage * kPage, size_);
    zero_within(size, page_end);
    std::size_t keep = static_cast<std::size_t>((size + kPage - 1) / kPage);
    for (std::size_t i = keep; i < pages_.size(); ++i)
      if (pages_[i] != nullptr) --pages_used_;
  }
  pages_.resize(static_cast<std::size_t>((size + kPage - 1) / kPage));
  size_ = size;
}

void Image::punch(std::uint64_t offset, std::uint64_t length) {
  std::uint64_t end = std::min(offset + length, size_);
  while (offset < end) {
    std::uint64_t page_end = std::min((offset / kPage + 1) * kPage, end);
    if (offset % kPage == 0 && (page_end % kPage == 0 || page_end == size_)) {
      auto& page = pages_[static_cast<std::size_t>(offset / kPage)];
      if (page != nullptr) --pages_used_;
      page.reset();
    } else {
      zero_within(offset, page_end);
    }
    offset = page_end;
  }
}

std::uint64_t Image::seek(std::uint64_t from, bool data) const {
  while (from < size_) {
    bool there = pages_[static_cast<std::size_t>(from / kPage)] != nullptr;
    if (there == data) return from;
    from = (from / kPage + 1) * kPage;
  }
  return size_;
}

std::uint64_t Image::pages_missing(std::uint64_t offset, std::uint64_t length) const {
  std::uint64_t missing = 0;
  for (std::uint64_t page = offset / kPage; page * kPage < offset + length; ++page)
    if (page >= pages_.size() || pages_[static_cast<std::size_t>(page)] == nullptr) ++missing;
  return missing;
}

bool Node::in_memory(std::uint64_t offset, std::uint64_t length) const {
  const std::uint64_t end = std::min<std::uint64_t>(seen.size(), offset + length);
  const std::size_t pages = std::min<std::size_t>(not_in_memory.size(), (end + kPage - 1) / kPage);
  for (std::size_t page = offset / kPage; page < pages; ++page)
    if (not_in_memory[page]) return false;
  return true;
}

void Node::set_in_memory(std::uint64_t offset, std::uint64_t length, bool in_memory) {
  const std::uint64_t end = std::min<std::uint64_t>(seen.size(), offset + length);
  const auto pages = static_cast<std::size_t>((end + kPage - 1) / kPage);
  if (not_in_memory.size() < pages) not_in_memory.resize(pages);
  for (auto page = static_cast<std::size_t>(offset / kPage); page < pages; ++page)
    not_in_memory[page] = !in_memory;
}

Image Image::copy() const {
  Image other;
  other.size_ = size_;
  other.pages_used_ = pages_used_;
  other.pages_.reserve(pages_.size());
  for (const auto& page : pages_)
    other.pages_.push_back(page == nullptr ? nullptr : std::make_unique<Page>(*page));
  return other;
}

namespace {
void apply(Image& image, const Change& change) {
  switch (change.kind) {
    case Change::Kind::write: return image.write(change.bytes, change.offset);
    case Change::Kind::truncate: return image.truncate(change.offset);
    case Change::Kind::punch: return image.punch(change.offset, change.length);
  }
}

std::string clean(std::string_view path) {
  return path == "." ? std::string() : std::string(path);
}
std::string directory_of(std::string_view path) {
  auto slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string() : std::string(path.substr(0, slash));
}
}  // namespace
}  // namespace sim

class SimFile final : public sys::File {
 public:
  SimFile(SimDisk& disk, std::shared_ptr<sim::Node> node, std::string path, bool writable)
      : disk_(disk), node_(std::move(node)), path_(std::move(path)),
        generation_(disk.generation_), writable_(writable) {}

  Result<std::size_t> read_at(MutableByteSpan out, std::uint64_t offset) override {
    TRY(call());
    node_->set_in_memory(offset, out.size(), true);
    return node_->seen.read(out, offset);
  }
  Result<std::size_t> read_at_nowait(MutableByteSpan out, std::uint64_t offset) override {
    TRY(call());
    if (!node_->in_memory(offset, out.size())) return fail(Code::would_block);
    return node_->seen.read(out, offset);
  }
  void drop_cache(std::uint64_t offset, std::uint64_t length) override {
    node_->set_in_memory(offset, length, false);
  }
  Result<void> write_at(ByteSpan bytes, std::uint64_t offset) override {
    auto may = change();
    if (may) may = disk_.take_space(node_->seen.pages_missing(offset, bytes.size()) * sim::kPage);
    if (!may) {
      // A failed write may have written a part.
      if (generation_ == disk_.generation_ && bytes.size() > 1 && writable_ &&
          node_->seen.pages_missing(offset, bytes.size()) == 0)
        write(bytes.first(bytes.size() / 2), offset);
      return may;
    }
    write(bytes, offset);
    return {};
  }
  Result<void> truncate(std::uint64_t size) override {
    TRY(change());
    std::uint64_t before = node_->seen.allocated();
    node_->seen.truncate(size);
    if (node_->linked) disk_.used_bytes_ -= before - node_->seen.allocated();
    disk_.note(*node_, {.kind = sim::Change::Kind::truncate, .offset = size});
    return {};
  }
  Result<std::uint64_t> size() override {
    TRY(call());
    return node_->seen.size();
  }
  Result<void> punch_hole(std::uint64_t offset, std::uint64_t length) override {
    TRY(change());
    std::uint64_t before = node_->seen.allocated();
    node_->seen.punch(offset, length);
    if (node_->linked) disk_.used_bytes_ -= before - node_->seen.allocated();
    disk_.note(*node_, {.kind = sim::Change::Kind::punch, .offset = offset, .length = length});
    return {};
  }
  Result<std::uint64_t> seek_data(std::uint64_t from) override {
    TRY(call());
    return node_->seen.seek(from, true);
  }
  Result<std::uint64_t> seek_hole(std::uint64_t from) override {
    TRY(call());
    return node_->seen.seek(from, false);
  }
  Result<std::uint64_t> allocated_bytes() override {
    TRY(call());
    return node_->seen.allocated();
  }
  Result<void> sync() override {
    auto may = call();
    if (may && disk_.fail_sync_count_ > 0 &&
        path_.find(disk_.fail_sync_part_) != std::string::npos) {
      --disk_.fail_sync_count_;
      may = fail(Code::io, "planned sync failure: " + path_);
    }
    if (!may) {
      ++disk_.counters_.sync_faults;
      if (generation_ == disk_.generation_) {
        node_->unsynced.clear();  // clean pages that never reached the disk
        node_->unsynced_bytes = 0;
      }
      return may;
    }
    ++disk_.counters_.syncs;
    for (const sim::Change& change : node_->unsynced) sim::apply(node_->durable, change);
    node_->unsynced.clear();
    node_->unsynced_bytes = 0;
    return {};
  }

 private:
  Result<void> call() {
    if (generation_ != disk_.generation_) return fail(Code::io, "the process is dead: " + path_);
    return disk_.call();
  }
  Result<void> change() {
    if (!writable_) return fail(Code::permission, path_ + " is open for reading only");
    return call();
  }
  void write(ByteSpan bytes, std::uint64_t offset) {
    std::uint64_t before = node_->seen.allocated();
    node_->seen.write(bytes, offset);
    node_->set_in_memory(offset, bytes.size(), true);
    if (node_->linked) disk_.used_bytes_ += node_->seen.allocated() - before;
    disk_.note(*node_, {.kind = sim::Change::Kind::write,
                        .offset = offset,
                        .bytes = Bytes(bytes.begin(), bytes.end())});
  }

  SimDisk& disk_;
  std::shared_ptr<sim::Node> node_;  // shared by the entries of the disk
  std::string path_;
  std::uint64_t generation_;
  bool writable_;
};

SimDisk::~SimDisk() = default;

Result<void> SimDisk::call() {
  ++counters_.calls;
  if (fail_at_ != 0 && --fail_at_ == 0) {
    ++counters_.faults;
    return fail(fail_code_, "planned fault");
  }
  return {};
}

void SimDisk::fail_call(std::uint64_t n, Code code) {
  fail_at_ = n;
  fail_code_ = code;
}
void SimDisk::no_faults() {
  fail_at_ = 0;
  fail_sync_count_ = 0;
}
void SimDisk::fail_syncs(std::string part, unsigned count) {
  fail_sync_part_ = std::move(part);
  fail_sync_count_ = count;
}

Result<void> SimDisk::take_space(std::uint64_t bytes) {
  std::uint64_t limit = space_limit_.value_or(total_bytes_);
  if (bytes == 0 || used_bytes_ + bytes <= limit) return {};
  ++counters_.space_faults;
  return fail(Code::no_space, "simulated disk is full");
}

void SimDisk::note(sim::Node& node, sim::Change change) {
  node.unsynced_bytes += change.bytes.size();
  node.unsynced.push_back(std::move(change));
  if (node.unsynced.size() <= sim::kUnsyncedMax && node.unsynced_bytes <= sim::kUnsyncedBytesMax)
    return;
  std::size_t half = node.unsynced.size() / 2;
  for (std::size_t i = 0; i < half; ++i) {
    sim::apply(node.durable, node.unsynced[i]);
    node.unsynced_bytes -= node.unsynced[i].bytes.size();
  }
  node.unsynced.erase(node.unsynced.begin(),
                      node.unsynced.begin() + static_cast<std::ptrdiff_t>(half));
}

std::unique_ptr<sys::File> SimDisk::wrap(std::shared_ptr<sim::Node> node, std::string path,
                                         bool writable) {
  return std::make_unique<SimFile>(*this, std::move(node), std::move(path), writable);
}

Result<std::unique_ptr<sys::File>> SimDisk::open(std::string_view raw, Open how) {
  TRY(call());
  std::string path = sim::clean(raw);
  if (directories_.contains(path)) return fail(Code::is_a_directory, path);
  auto found = seen_.find(path);
  bool there = found != seen_.end();
  if (there && how == Open::create_new) return fail(Code::exists, path);
  if (there) return wrap(found->second, path, how != Open::existing_readonly);
  if (how == Open::existing || how == Open::existing_readonly) return fail(Code::not_found, path);
  std::string directory = sim::directory_of(path);
  if (!directories_.contains(directory)) return fail(Code::not_found, directory);
  auto node = std::make_shared<sim::Node>();
  seen_[path] = node;
  unsynced_entries_[directory].push_back(
      {.kind = EntryChange::Kind::make, .path = path, .node = node});
  return wrap(std::move(node), path, true);
}

Result<bool> SimDisk::exists(std::string_view raw) {
  TRY(call());
  std::string path = sim::clean(raw);
  return seen_.contains(path) || directories_.contains(path);
}

Result<void> SimDisk::remove(std::string_view path) {
  TRY(call());
  auto found = seen_.find(path);
  if (found == seen_.end()) return fail(Code::not_found, std::string(path));
  used_bytes_ -= found->second->seen.allocated();
  found->second->linked = false;
  seen_.erase(found);
  unsynced_entries_[sim::directory_of(path)].push_back(
      {.kind = EntryChange::Kind::remove, .path = std::string(path)});
  return {};
}

Result<void> SimDisk::rename(std::string_view from, std::string_view to) {
  TRY(call());
  auto found = seen_.find(from);
  if (found == seen_.end()) return fail(Code::not_found, std::string(from));
  if (!directories_.contains(sim::directory_of(to))) return fail(Code::not_found, std::string(to));
  auto node = found->second;
  seen_.erase(found);
  if (auto target = seen_.find(to); target != seen_.end()) {
    used_bytes_ -= target->second->seen.allocated();
    target->second->linked = false;
  }
  seen_[std::string(to)] = node;
  unsynced_entries_[sim::directory_of(to)].push_back({.kind = EntryChange::Kind::rename,
                                                      .path = std::string(from),
                                                      .to = std::string(to),
                                                      .node = node});
  return {};
}

Result<void> SimDisk::make_directory(std::string_view raw) {
  TRY(call());
  std::string path = sim::clean(raw);
  if (seen_.contains(path)) return fail(Code::exists, path);
  if (directories_.contains(path)) return {};
  std::string parent = sim::directory_of(path);
  if (!directories_.contains(parent)) return fail(Code::not_found, parent);
  directories_.insert(path);
  unsynced_entries_[parent].push_back({.kind = EntryChange::Kind::make_directory, .path = path});
  return {};
}

Result<std::vector<std::string>> SimDisk::list(std::string_view raw) {
  TRY(call());
  std::string path = sim::clean(raw);
  if (!directories_.contains(path)) return fail(Code::not_found, path);
  std::set<std::string> names;
  std::string prefix = path.empty() ? "" : path + "/";
  auto collect = [&](const std::string& full) {
    if (!full.starts_with(prefix)) return false;
    if (sim::directory_of(full) == path && full != path) names.insert(full.substr(prefix.size()));
    return true;
  };
  for (auto it = seen_.lower_bound(prefix); it != seen_.end() && collect(it->first);) ++it;
  for (auto it = directories_.lower_bound(prefix); it != directories_.end() && collect(*it);) ++it;
  return std::vector<std::string>(names.begin(), names.end());
}

void SimDisk::apply_entry(const EntryChange& change) {
  switch (change.kind) {
    case EntryChange::Kind::make: durable_[change.path] = change.node; return;
    case EntryChange::Kind::remove: durable_.erase(change.path); return;
    case EntryChange::Kind::make_directory: durable_directories_.insert(change.path); return;
    case EntryChange::Kind::rename:
      durable_.erase(change.path);
      durable_[change.to] = change.node;
      return;
  }
}

Result<void> SimDisk::sync_directory(std::string_view raw) {
  TRY(call());
  std::string path = sim::clean(raw);
  if (!directories_.contains(path)) return fail(Code::not_found, path);
  ++counters_.directory_syncs;
  auto found = unsynced_entries_.find(path);
  if (found == unsynced_entries_.end()) return {};
  for (const EntryChange& change : found->second) apply_entry(change);
  unsynced_entries_.erase(found);
  return {};
}

Result<sys::DiskSpace> SimDisk::space() {
  TRY(call());
  std::uint64_t total = space_limit_.value_or(total_bytes_);
  return sys::DiskSpace{total, total > used_bytes_ ? total - used_bytes_ : 0};
}

void SimDisk::crash_node(sim::Node& node, sys::Random& random) {
  enum Mode : unsigned { none, all, prefix, subset, modes };
  auto mode = static_cast<unsigned>(random.next() % modes);
  std::size_t upto = node.unsynced.empty() ? 0 : random.next() % (node.unsynced.size() + 1);
  for (std::size_t i = 0; i < node.unsynced.size(); ++i) {
    sim::Change& change = node.unsynced[i];
    bool keep = mode == all || (mode == prefix && i < upto) ||
                (mode == subset && random.next() % 2 == 0);
    bool last_of_prefix = mode == prefix && i == upto;
    bool tear = change.kind == sim::Change::Kind::write &&
                (last_of_prefix || (mode == subset && random.next() % 4 == 0));
    if (tear) {
      ++counters_.writes_torn;
      for (std::uint64_t at = 0; at < change.bytes.size();) {
        std::uint64_t to_sector = sim::kSector - (change.offset + at) % sim::kSector;
        std::uint64_t part = std::min<std::uint64_t>(to_sector, change.bytes.size() - at);
        if (random.next() % 2 == 0)
          node.durable.write(ByteSpan(change.bytes).subspan(at, part), change.offset + at);
        at += part;
      }
    } else if (keep) {
      sim::apply(node.durable, change);
    } else {
      ++counters_.writes_lost;
    }
  }
  node.unsynced.clear();
  node.unsynced_bytes = 0;
  node.seen = node.durable.copy();
  node.set_in_memory(0, node.seen.size(), false);
}

void SimDisk::power_cut(sys::Random& random) {
  ++generation_;
  for (auto& [directory, changes] : unsynced_entries_) {
    std::size_t keep = random.next() % (changes.size() + 1);
    for (std::size_t i = 0; i < keep; ++i) apply_entry(changes[i]);
    counters_.entries_lost += changes.size() - keep;
  }
  unsynced_entries_.clear();
  // What hangs below a directory that was lost is lost.
  directories_.clear();
  for (const std::string& path : durable_directories_)
    if (path.empty() || directories_.contains(sim::directory_of(path))) directories_.insert(path);
  durable_directories_ = directories_;
  std::erase_if(durable_, [this](const auto& entry) {
    return !directories_.contains(sim::directory_of(entry.first));
  });
  seen_ = durable_;
  used_bytes_ = 0;
  std::set<sim::Node*> crashed;  // a file whose rename was half lost has two names
  for (auto& [path, node] : seen_) {
    if (crashed.insert(node.get()).second) crash_node(*node, random);
    node->linked = true;
    used_bytes_ += node->seen.allocated();
  }
}

void SimDisk::drop_caches() {
  for (auto& [path, node] : seen_) node->set_in_memory(0, node->seen.size(), false);
}

bool SimDisk::flip_bit(std::string_view path, std::uint64_t offset, unsigned bit) {
  auto found = seen_.find(path);
  if (found == seen_.end()) return false;
  for (sim::Image* image : {&found->second->seen, &found->second->durable}) {
    std::uint8_t byte = 0;
    if (image->read({&byte, 1}, offset) != 1) {
      if (image == &found->second->seen) return false;
      continue;
    }
    byte = static_cast<std::uint8_t>(byte ^ 1u << (bit % 8));
    image->write({&byte, 1}, offset);
  }
  return true;
}

std::vector<std::string> SimDisk::files() const {
  std::vector<std::string> paths;
  for (const auto& [path, node] : seen_) paths.push_back(path);
  return paths;
}

std::unique_ptr<SimDisk> SimDisk::copy() const {
  auto other = std::make_unique<SimDisk>();
  std::map<const sim::Node*, std::shared_ptr<sim::Node>> copies;  // a file may have two names
  for (const auto& [path, node] : seen_) {
    auto& to = copies[node.get()];
    if (!to) {
      to = std::make_shared<sim::Node>();
      to->seen = node->seen.copy();
      to->durable = node->seen.copy();
    }
    other->seen_[path] = to;
  }
  other->durable_ = other->seen_;
  other->directories_ = other->durable_directories_ = directories_;
  other->used_bytes_ = used_bytes_;
  return other;
}

bool SimDisk::all_synced() const {
  if (!unsynced_entries_.empty()) return false;
  return std::all_of(seen_.begin(), seen_.end(),
                     [](const auto& entry) { return entry.second->unsynced.empty(); });
}

}  // namespace magma::test
