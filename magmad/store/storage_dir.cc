#include "magmad/store/storage_dir.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "magmad/store/content_files.h"
#include "magmad/store/database.h"
#include "magmad/store/raft_store.h"

namespace magma::store {
namespace {

constexpr std::string_view kRoot = ".";
constexpr std::string_view kPapers = "volcano.json";
constexpr std::string_view kPapersTemporary = "volcano.json.new";
constexpr std::string_view kClean = "clean";
constexpr std::string_view kBoot = "boot";
constexpr std::string_view kLost = "lost";
constexpr std::string_view kLock = "lock";  // of the process that looks
constexpr std::string_view kLostAndFound = "lost+found";  // of a filesystem's root
constexpr std::size_t kPapersBytesMax = 65536;

bool is_database_file(std::string_view name) {
  for (unsigned i = 0; i < kDatabases; ++i)
    if (name.starts_with(database_path(i))) return true;
  return name.starts_with(kRaftPath);
}

// What is there before volcano.json is. The key and the map's log are made by main.cc, and stay.
bool may_be_unfinished(std::string_view name) {
  return is_database_file(name) || name == kFlaresDirectory || name == kPapersTemporary ||
         name == kClean || name == kBoot || name == kUnsweptMark || name == "network.key";
}

std::string boot_text(std::uint64_t boot) { return fmt::format("{:016x}\n", boot); }

Result<Bytes> read_whole(sys::Disk& disk, std::string_view path) {
  TRY_VALUE(auto file, disk.open(path, sys::Disk::Open::existing_readonly));
  TRY_VALUE(std::uint64_t size, file->size());
  if (size > kPapersBytesMax) return fail(Code::not_magma, fmt::format("{} is too long", path));
  Bytes bytes(size);
  TRY_VALUE(std::size_t got, file->read_at(bytes, 0));
  bytes.resize(got);
  return bytes;
}

Result<void> write_synced(sys::Disk& disk, std::string_view path, std::string_view text) {
  TRY_VALUE(auto file, disk.open(path, sys::Disk::Open::create));
  TRY(file->truncate(0));
  TRY(file->write_at(as_bytes(text), 0));
  return file->sync();
}

Error unreadable(std::string_view why) {
  return {Code::not_magma,
          fmt::format("{}: {}; restore it from a backup, or empty the directory and"
                      " let the volcano come back from its replicas",
                      kPapers, why)};
}

// A member of the right type; `fallback` if it is not there.
template <class T>
bool take(const nlohmann::json& json, const char* name, T& value) {
  auto found = json.find(name);
  if (found == json.end()) return true;
  if constexpr (std::is_same_v<T, std::string>) {
    if (!found->is_string()) return false;
  } else if constexpr (std::is_same_v<T, bool>) {
    if (!found->is_boolean()) return false;
  } else {
    if (!found->is_number_unsigned()) return false;
  }
  value = found->get<T>();
  return true;
}

// 16 hex digits: JSON's numbers lose the last bits. Nothing is 0.
bool take_hex(std::string_view text, std::uint64_t& value) {
  if (text.empty()) return true;
  Bytes raw;
  if (text.size() != 2 * sizeof value || !from_hex(text, raw)) return false;
  value = ByteReader(raw).get<std::uint64_t>();
  return true;
}

}  // namespace

Result<StorageState> inspect_storage(sys::Disk& disk) {
  TRY_VALUE(auto names, disk.list(kRoot));
  std::erase(names, std::string(kLostAndFound));
  std::erase(names, std::string(kLock));
  if (names.empty()) return StorageState::empty;
  if (std::find(names.begin(), names.end(), kPapers) != names.end()) {
    TRY(read_papers(disk));
    return StorageState::ours;
  }
  for (const std::string& name : names)
    if (!may_be_unfinished(name))
      return fail(Code::not_magma,
                  fmt::format("it holds '{}' but no {}; give an empty directory or the right one",
                              name, kPapers));
  return StorageState::unfinished;
}

Result<void> clear_unfinished(sys::Disk& disk) {
  TRY_VALUE(auto names, disk.list(kRoot));
  for (const std::string& name : names) {
    bool remains = is_database_file(name) || name == kPapersTemporary ||
                   name == kClean || name == kBoot || name == kUnsweptMark;
    if (remains) TRY(disk.remove(name));
  }
  return disk.sync_directory(kRoot);
}

Result<VolcanoPapers> read_papers(sys::Disk& disk) {
  TRY_VALUE(Bytes bytes, read_whole(disk, kPapers));
  auto json = nlohmann::json::parse(bytes.begin(), bytes.end(), nullptr, false);
  if (json.is_discarded() || !json.is_object()) return fail(unreadable("is no JSON object"));
  VolcanoPapers papers;
  papers.format = 0;
  std::uint64_t format = 0;
  if (!take(json, "format", format) || format == 0) return fail(unreadable("has no format number"));
  if (format > kStorageFormat)
    return fail(Code::too_new,
                fmt::format("{} has format {}; this magmad knows up to {}: start the newer version"
                            " again",
                            kPapers, format, kStorageFormat));
  papers.format = static_cast<std::uint32_t>(format);
  bool good = take(json, "uuid", papers.uuid) && take(json, "nick", papers.nick) &&
              take(json, "fqdn", papers.fqdn) && take(json, "small_files", papers.small_files) &&
              take(json, "created", papers.created) && take(json, "volcano", papers.volcano);
  std::string storage;
  good = good && take(json, "storage", storage) && take_hex(storage, papers.storage);
  good = good && take(json, "shares_slots", papers.shares_slots);
  if (!good || papers.uuid.empty() || papers.nick.empty())
    return fail(unreadable("lacks uuid or nick, or a member has the wrong type"));
  return papers;
}

Result<void> write_papers(sys::Disk& disk, const VolcanoPapers& papers) {
  nlohmann::ordered_json json = {{"format", papers.format},
                                 {"volcano", papers.volcano},
                                 {"storage", fmt::format("{:016x}", papers.storage)},
                                 {"uuid", papers.uuid},
                                 {"nick", papers.nick},
                                 {"fqdn", papers.fqdn},
                                 {"small_files", papers.small_files},
                                 {"created", papers.created},
                                 {"shares_slots", papers.shares_slots}};
  // Names come from the command line: what is no UTF-8 is replaced, as dump() would throw.
  std::string text = json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  TRY(write_synced(disk, kPapersTemporary, text));
  TRY(disk.rename(kPapersTemporary, kPapers));
  return disk.sync_directory(kRoot);
}

Result<void> remove_papers(sys::Disk& disk) {
  TRY(disk.remove(kPapers));
  return disk.sync_directory(kRoot);
}

Result<bool> take_clean_mark(sys::Disk& disk) {
  auto removed = disk.remove(kClean);
  if (!removed && removed.error().code == Code::not_found) return false;
  if (!removed) return fail(std::move(removed.error()));
  TRY(disk.sync_directory(kRoot));
  return true;
}

Result<bool> is_same_machine_boot(sys::Disk& disk, std::uint64_t boot) {
  TRY_VALUE(bool is_there, disk.exists(kBoot));
  if (!is_there || boot == 0) return false;
  TRY_VALUE(Bytes before, read_whole(disk, kBoot));
  return as_text(before) == boot_text(boot);
}

Result<void> note_machine_boot(sys::Disk& disk, std::uint64_t boot) {
  TRY(write_synced(disk, kBoot, boot_text(boot)));
  return disk.sync_directory(kRoot);
}

Result<bool> has_untold_loss(sys::Disk& disk) { return disk.exists(kLost); }

Result<void> note_loss(sys::Disk& disk) {
  TRY(write_synced(disk, kLost, "power was lost, and the ring is to be told\n"));
  return disk.sync_directory(kRoot);
}

Result<void> forget_loss(sys::Disk& disk) {
  TRY(disk.remove(kLost));
  return disk.sync_directory(kRoot);
}

Result<void> leave_clean_mark(sys::Disk& disk) {
  TRY(write_synced(disk, kClean, "stopped cleanly\n"));
  return disk.sync_directory(kRoot);
}

}  // namespace magma::store
