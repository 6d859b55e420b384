// Reads every table and the list of content files, checking each row by itself: it decodes, it
// lies in the right database, what it is about is there. Relations are compared afterwards, from
// memory (fsck_relations.cc).
#include "magmad/store/fsck.h"

#include <sys/stat.h>

#include <algorithm>

#include <fmt/format.h>

#include "libmagma/crypto/path_hash.h"
#include "libmagma/wire/codec.h"
#include "magmad/store/content_files.h"
#include "magmad/store/database.h"
#include "magmad/store/fsck_state.h"
#include "magmad/store/page_sums.h"

namespace magma::store {
namespace {

constexpr std::uint64_t kFlareDirectories = 256;  // flares/xx: a step each
constexpr std::uint64_t kTableScans = 17;         // each() calls of a run
constexpr std::uint64_t kChunkNumberMax = ~std::uint32_t{0};
constexpr unsigned kTypeShift = 12;               // S_IFMT bits to DT_*, as IFTODT

ring::Slot slot_of(std::uint64_t a) {
  return ring::Slot(static_cast<std::uint16_t>(a >> ring::kCounterBits));
}

std::string row_name(Table table, const MetadataStore::ScanRow& row) {
  return fmt::format("{} row {:016x}/{:016x}/{}", name_of(table), row.a, row.b,
                     to_hex(as_bytes(row.c)));
}

bool is_known_type(std::uint32_t type) {
  switch (type) {
    case S_IFREG: case S_IFDIR: case S_IFLNK: case S_IFCHR: case S_IFBLK: case S_IFIFO:
    case S_IFSOCK: return true;
    default: return false;
  }
}

void sort_texts(std::vector<FsckProblem>& list) {
  std::sort(list.begin(), list.end(),
            [](const FsckProblem& a, const FsckProblem& b) { return a.what < b.what; });
}

}  // namespace

std::string fsck_name(Ino ino) { return fmt::format("inode {:016x}", ino.value); }

std::string fsck_name(const ContentId& id) {
  return fmt::format("chunk {} of inode {:016x} at slot {:03x}", id.chunk, id.ino.value,
                     id.slot.value);
}

Result<FsckReport> fsck(sys::Disk& disk, sys::Executor& executor, FsckOptions options) {
  Fsck run(disk, executor, std::move(options));
  return run.run();
}

// ---- findings

void Fsck::problem(std::string what) {
  ++report_.problems_total;
  if (report_.problems.size() < FsckReport::kListedMax)
    report_.problems.push_back({std::move(what)});
}

void Fsck::note(std::string what) {
  ++report_.notes_total;
  if (report_.notes.size() < FsckReport::kListedMax) report_.notes.push_back({std::move(what)});
}

void Fsck::disagreement(std::string what) {
  report_.operations > 0 ? note(std::move(what)) : problem(std::move(what));
}

void Fsck::remainder(std::string what) {
  options_.unclean ? note(std::move(what)) : disagreement(std::move(what));
}

void Fsck::step(std::uint64_t more) {
  steps_done_ += more;
  steps_total_ = std::max(steps_total_, steps_done_);
  tell_progress();
}

// Contents take nearly all of the time of a deep check, and how many there are the rows tell.
void Fsck::tell_progress() {
  constexpr std::uint64_t kOfRows = 50, kOfContents = 950;
  if (!options_.progress) return;
  if (!options_.deep) return options_.progress(steps_done_, steps_total_);
  const std::uint64_t rows = kOfRows * steps_done_ / steps_total_;
  const std::uint64_t sums = contents_.empty() ? 0 : kOfContents * sums_done_ / contents_.size();
  options_.progress(rows + sums, kOfRows + kOfContents);
}

// ---- the run

Result<FsckReport> Fsck::run() {
  steps_total_ = kDatabases + kDatabases * kTableScans + kFlareDirectories;
  TRY_VALUE(bool readable, check_databases());
  if (!readable) return std::move(report_);
  TRY_VALUE(bool unswept, disk_.exists(kUnsweptMark));
  if (unswept) options_.unclean = true;  // a start has not yet made all good
  TRY_VALUE(metadata_, MetadataStore::open(disk_, executor_, false));
  TRY_VALUE(bool is_comparable, read_mirror_state());
  if (!is_comparable) return std::move(report_);
  TRY(read_slots());
  TRY(read_operations());
  TRY(read_inodes());
  TRY(read_of_inodes());
  TRY(read_entries());
  TRY(read_authorities());
  TRY(read_contents());
  TRY(read_plain_tables());
  TRY(read_files());
  check_inodes();
  check_authorities();
  check_contents();
  check_tree();
  if (options_.deep) TRY(check_sums());
  sort_texts(report_.problems);
  sort_texts(report_.notes);
  return std::move(report_);
}

// False: rows are of different moments, so that nothing can be said of how they belong together.
Result<bool> Fsck::read_mirror_state() {
  if (options_.slots) return true;  // who asks for some has seen to that
  bool is_whole = true;
  auto visit = [&](const MetadataStore::ScanRow& row) {
    if (row.a != 0) return true;
    std::optional<bool> is_known, is_mixed;
    if (row.b == 0) {
      if (auto state = wire::decode<MirrorStateRow>(row.image)) {
        is_known = state->is_whole;
        is_mixed = state->is_mixed;
      }
    } else if (auto state = wire::decode<MirrorStreamRow>(row.image)) {
      is_known = !state->known.empty();
      is_mixed = state->is_mixed;
    }
    if (!is_known) {
      problem("the mirror row is malformed");
    } else if (!*is_known || *is_mixed) {
      is_whole = false;
      note(*is_known
               ? "this mirror was catching up when it ended: its primary goes on with it"
               : "this mirror is not whole: its primary has yet to copy everything to it");
    }
    return true;
  };
  TRY(metadata_->scan_database(0, Table::mirror, visit));
  return is_whole;
}

Result<bool> Fsck::check_databases() {
  bool readable = true;
  SqliteVfs vfs(disk_);
  for (unsigned number = 0; number < kDatabases; ++number) {
    auto database = Database::open(vfs, number, Database::Open::existing, {});
    if (!database && database.error().code != Code::checksum) return fail(database.error());
    auto found = database ? (*database)->quick_check()
                          : Result<std::vector<std::string>>(fail(database.error()));
    if (!found) {
      problem(fmt::format("{}: {}", database_path(number), describe(found.error())));
      readable = readable && database.has_value();
    } else {
      for (const auto& line : *found) problem(fmt::format("{}: {}", database_path(number), line));
    }
    step();
  }
  return readable;
}

// Calls visit(row) for each row of a table that lies where it should. A page that cannot be read is
// a problem, not the end.
template <class Visit>
Result<void> Fsck::each(Table table, Visit visit) {
  for (unsigned number = 0; number < kDatabases; ++number) {
    auto scanned = metadata_->scan_database(number, table, [&](const ScanRow& row) {
      ring::Slot slot = slot_of(row.a);
      if (slot.value % kDatabases != number)
        problem(fmt::format("{} lies in {}", row_name(table, row), database_path(number)));
      else if (options_.slots && !(*options_.slots)[slot.value])
        return true;
      else if (!is_here(slot))
        problem(fmt::format("{} is of a slot that is not here", row_name(table, row)));
      else
        visit(row);
      return true;
    });
    step();
    if (scanned) continue;
    if (scanned.error().code != Code::checksum) return scanned;
    problem(fmt::format("table {}: {}", name_of(table), describe(scanned.error())));
  }
  return {};
}

template <class Struct, class Visit>
Result<void> Fsck::each_as(Table table, Visit visit) {
  return each(table, [&](const ScanRow& row) {
    auto value = wire::decode<Struct>(row.image);
    if (value)
      visit(row, *value);
    else
      problem(row_name(table, row) + " is malformed");
  });
}

Result<void> Fsck::read_slots() {
  bool all = options_.all_slots;
  options_.all_slots = true;  // is_here() is what we are about to learn
  auto done = each_as<SlotRow>(Table::slot, [&](const ScanRow& row, const SlotRow& slot) {
    counter_limits_[slot_of(row.a).value] = slot.counter_limit;
  });
  options_.all_slots = all;
  TRY(done);
  if (!all) return {};
  for (unsigned slot = 0; slot < ring::kSlotCount; ++slot)
    if (!counter_limits_[slot]) problem(fmt::format("slot {:03x} has no row", slot));
  return {};
}

Result<void> Fsck::read_operations() {
  TRY(each_as<IntentRow>(Table::intent,
                         [&](const ScanRow&, const IntentRow&) { ++report_.operations; }));
  return each_as<PartRow>(Table::part,
                          [&](const ScanRow&, const PartRow&) { ++report_.operations; });
}

Result<void> Fsck::read_inodes() {
  return each_as<InodeRow>(Table::inode, [&](const ScanRow& row, const InodeRow& inode) {
    add_inode(row, inode);
  });
}

void Fsck::add_inode(const ScanRow& row, const InodeRow& inode) {
  Ino ino(row.a);
  SeenInode seen;
  seen.size = inode.size;
  seen.parent = inode.parent;
  seen.key = inode.key;
  seen.nlink = inode.nlink;
  seen.type = inode.mode & S_IFMT;
  seen.place = inode.place;
  ++report_.inodes;
  if (!is_known_type(seen.type))
    problem(fmt::format("{} has no known type: mode {:o}", fsck_name(ino), inode.mode));
  ++(seen.type == S_IFDIR   ? report_.directories
     : seen.type == S_IFREG ? report_.files
                            : report_.others);
  if (inode.place > ContentPlace::chunks)
    problem(fmt::format("{} has no known place of content", fsck_name(ino)));
  if (inode.state > InodeState::spilling)
    problem(fmt::format("{} has no known state", fsck_name(ino)));
  else if (inode.state != InodeState::alive)
    disagreement(fmt::format("{} is held by operation {:016x}", fsck_name(ino), inode.op.value));
  auto limit = counter_limits_[ring::home_of(ino).value];
  std::uint64_t counter = ino.value & ring::kCounterMask;
  if (limit && counter >= *limit)
    problem(fmt::format("{}: its slot gave out numbers below {} only", fsck_name(ino), *limit));
  inodes_.emplace(ino.value, std::move(seen));
}

// Tables whose `a` is an inode of the same slot: nothing but damage parts them.
Result<void> Fsck::read_of_inodes() {
  auto need = [this](Table table, const ScanRow& row) -> SeenInode* {
    SeenInode* inode = find(Ino(row.a));
    if (inode == nullptr) problem(row_name(table, row) + " is of no inode");
    return inode;
  };
  TRY(each(Table::inline_data, [&](const ScanRow& row) {
    if (SeenInode* inode = need(Table::inline_data, row)) {
      inode->has_inline = true;
      inode->inline_size = row.image.size();
    }
  }));
  TRY(each(Table::orphan, [&](const ScanRow& row) {
    ++report_.orphans;
    if (SeenInode* inode = need(Table::orphan, row)) inode->has_orphan = true;
  }));
  TRY(each(Table::xattr, [&](const ScanRow& row) { need(Table::xattr, row); }));
  TRY(each(Table::file_lock, [&](const ScanRow& row) { need(Table::file_lock, row); }));
  return each_as<OpenRow>(Table::open,
                          [&](const ScanRow& row, const OpenRow&) { need(Table::open, row); });
}

Result<void> Fsck::read_entries() {
  return each_as<EntryRow>(Table::entry, [&](const ScanRow& row, const EntryRow& entry) {
    add_entry(row, entry);
  });
}

void Fsck::add_entry(const ScanRow& row, const EntryRow& entry) {
  ++report_.entries;
  std::string name = fmt::format("entry {:?} of {}", row.c, fsck_name(Ino(row.a)));
  if (row.b != crypto::name_hash(row.c)) problem(name + " lies under another name's hash");
  SeenInode* directory = find(Ino(row.a));
  if (directory == nullptr)
    disagreement(name + ": no such directory");
  else if (directory->type != S_IFDIR)
    problem(name + ": that is no directory");
  if (directory != nullptr) ++directory->children;
  SeenInode* inode = find(entry.ino);
  if (inode == nullptr) {
    if (is_here(ring::home_of(entry.ino)))
      disagreement(fmt::format("{}: {} is missing", name, fsck_name(entry.ino)));
    return;
  }
  ++inode->entries;
  inode->entered_in = Ino(row.a);
  if (inode->type >> kTypeShift != entry.type)
    problem(fmt::format("{} says type {}, {} has type {}", name, entry.type,
                        fsck_name(entry.ino), inode->type >> kTypeShift));
  if (inode->type == S_IFDIR) {
    if (entry.key != inode->key)
      problem(fmt::format("{} has another key than {}", name, fsck_name(entry.ino)));
    if (directory != nullptr) ++directory->subdirectories;
  }
}

Result<void> Fsck::read_authorities() {
  auto add = [&](const ScanRow& row, const AuthorityRow& authority) {
    Ino ino(row.b);
    if (authority.key.slot() != slot_of(row.a))
      problem(fmt::format("size authority of {} does not lie at its key", fsck_name(ino)));
    for (std::size_t i = 0; i < authority.chunks.size(); ++i) {
      const ChunkRun& run = authority.chunks[i];
      bool apart = i == 0 || run.first > std::uint64_t{authority.chunks[i - 1].last} + 1;
      if (run.first > run.last || !apart)
        problem(fmt::format("size authority of {}: its chunks are out of order", fsck_name(ino)));
    }
    const SeenInode* inode = find(ino);
    bool second = authorities_.contains(ino.value);
    if (second) disagreement(fmt::format("{} has two size authorities", fsck_name(ino)));
    bool right = inode != nullptr && inode->key && *inode->key == authority.key;
    if (!second || right) authorities_[ino.value] = {authority.key, authority.chunks};
  };
  return each_as<AuthorityRow>(Table::authority, add);
}

Result<void> Fsck::read_contents() {
  auto id_of = [this](Table table, const ScanRow& row) -> std::optional<ContentId> {
    std::uint64_t chunk = row.a & ring::kCounterMask;
    if (chunk <= kChunkNumberMax)
      return ContentId{slot_of(row.a), Ino(row.b), static_cast<std::uint32_t>(chunk)};
    problem(row_name(table, row) + " has an impossible chunk number");
    return std::nullopt;
  };
  TRY(each_as<ChunkRow>(Table::chunk, [&](const ScanRow& row, const ChunkRow& chunk) {
    auto id = id_of(Table::chunk, row);
    if (!id) return;
    ++report_.chunks;
    if (chunk.length > kChunkBytes)
      problem(fmt::format("{} is too long: {}", fsck_name(*id), chunk.length));
    contents_[*id].has_row = true;
    contents_[*id].length = std::min(chunk.length, kChunkBytes);
  }));
  TRY(each(Table::page_sums, [&](const ScanRow& row) {
    auto id = id_of(Table::page_sums, row);
    auto index = four_byte_number(row.c);
    bool good = index && *index < kChunkBytes / kSumsRangeBytes && !row.image.empty() &&
                row.image.size() % 4 == 0 && row.image.size() <= kPagesPerRow * 4;
    if (!good) return problem(row_name(Table::page_sums, row) + " is malformed");
    if (!id) return;
    SeenContent& content = contents_[*id];
    content.has_sums = true;
    content.sums_end = std::max(content.sums_end, *index + 1);
  }));
  TRY(each(Table::hot_range, [&](const ScanRow& row) {
    auto id = id_of(Table::hot_range, row);
    auto index = four_byte_number(row.c);
    if (!index || *index >= kChunkBytes / kHotRangeBytes)
      return problem(row_name(Table::hot_range, row) + " is malformed");
    ++report_.hot_ranges;
    if (id) contents_[*id].hot |= static_cast<std::uint16_t>(1u << *index);
  }));
  return each(Table::removal, [&](const ScanRow& row) {
    auto id = id_of(Table::removal, row);
    ByteReader reader(row.image);
    std::uint64_t size = row.image.empty() ? 0 : reader.get<std::uint64_t>();
    if (!reader.finished()) return problem(row_name(Table::removal, row) + " is malformed");
    if (!id) return;
    contents_[*id].has_removal = true;
    contents_[*id].removal_size = size;
  });
}

// Rows that stand by themselves.
Result<void> Fsck::read_plain_tables() {
  TRY(each_as<LockRow>(Table::lock, [](const ScanRow&, const LockRow&) {}));
  TRY(each(Table::refusal, [](const ScanRow&) {}));
  TRY(each_as<ReplyRow>(Table::reply, [](const ScanRow&, const ReplyRow&) {}));
  return each_as<SessionRow>(Table::session, [](const ScanRow&, const SessionRow&) {});
}

// ---- files

Result<std::vector<std::string>> Fsck::names_in(const std::string& path) {
  auto names = disk_.list(path);
  if (names || names.error().code == Code::not_found) return names ? std::move(*names)
                                                                   : std::vector<std::string>{};
  if (names.error().code != Code::not_a_directory) return names;
  problem(path + " is no directory");
  return std::vector<std::string>{};
}

Result<void> Fsck::read_files() {
  std::string top(kFlaresDirectory);
  TRY_VALUE(auto uppers, names_in(top));
  for (const std::string& upper : uppers) {
    TRY_VALUE(auto lowers, names_in(top + "/" + upper));
    for (const std::string& lower : lowers)
      TRY(read_file_directory(top + "/" + upper + "/" + lower));
    step();
  }
  if (uppers.size() < kFlareDirectories) step(kFlareDirectories - uppers.size());
  return {};
}

Result<void> Fsck::read_file_directory(const std::string& path) {
  TRY_VALUE(auto names, names_in(path));
  for (const std::string& name : names) {
    auto id = parse_content_name(name);
    if (!id || content_path(*id) != path + "/" + name) {
      problem(fmt::format("file {}/{} does not belong there", path, name));
      continue;
    }
    if (options_.slots && !(*options_.slots)[id->slot.value]) continue;
    ++report_.content_files;
    contents_[*id].has_file = true;
  }
  return {};
}

}  // namespace magma::store
