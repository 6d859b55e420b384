#include "tests/lib/replicas.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <numeric>
#include <set>
#include <vector>

#include <fmt/format.h>

#include "libmagma/wire/codec.h"
#include "magmad/store/content_files.h"
#include "magmad/store/database.h"
#include "magmad/store/metadata_store.h"

namespace magma::test {

namespace {

constexpr std::size_t kPieceBytes = 1u << 20;
constexpr std::size_t kBytesShown = 16;
constexpr std::size_t kDifferencesShown = 4;

struct StoredRow {
  store::RowKey key;
  store::Version version;
  Bytes image;
};

bool is_replicated(store::Table table) {
  return table != store::Table::hot_range && table != store::Table::removal &&
         table != store::Table::mirror;
}

std::string hex(ByteSpan bytes) {
  std::string text;
  for (std::size_t i = 0; i < std::min(bytes.size(), kBytesShown); ++i)
    text += fmt::format("{:02x}", bytes[i]);
  return text + (bytes.size() > kBytesShown ? "..." : "");
}

std::string text_of(const store::RowKey& key) {
  std::string c;
  for (char byte : key.c)
    c += byte > ' ' && byte < 0x7f ? std::string(1, byte)
                                   : fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  return fmt::format("{} row a={:x} b={:x} c='{}'", store::name_of(key.table), key.a, key.b, c);
}

std::string text_of(const StoredRow& row) {
  return fmt::format("version {}.{}, {} bytes {}", row.version.epoch.value, row.version.seq.value,
                     row.image.size(), hex(row.image));
}

std::string where_images_differ(ByteSpan ours, ByteSpan theirs) {
  const auto at = std::mismatch(ours.begin(), ours.end(), theirs.begin(), theirs.end());
  if (at.first == ours.end() && at.second == theirs.end()) return "the versions";
  return fmt::format("from byte {} of the image on", at.first - ours.begin());
}

// One volcano's storage, opened for reading.
struct Storage {
  Storage(SimDisk& d, const ring::SlotMask& of)
      : disk(d), slots(of), opened(store::MetadataStore::open(d, executor, false)) {}

  std::vector<StoredRow> rows(unsigned database, store::Table table) {
    std::vector<StoredRow> found;
    auto visit = [&](const store::MetadataStore::ScanRow& row) {
      if (!slots[row.a >> ring::kCounterBits]) return true;
      found.push_back({{table, row.a, row.b, std::string(row.c)},
                       row.version,
                       Bytes(row.image.begin(), row.image.end())});
      return true;
    };
    if (auto scanned = (*opened)->scan_database(database, table, visit); !scanned && !problem)
      problem = "it could not be read: " + describe(scanned.error());
    return found;
  }

  SimDisk& disk;
  const ring::SlotMask slots;
  SimExecutor executor;
  Result<std::unique_ptr<store::MetadataStore>> opened;
  std::optional<std::string> problem{};
};

// What differs: the first ones as text, and how many.
struct Differences {
  void add(std::string what) {
    if (total++ < kDifferencesShown) text += (text.empty() ? "" : "\n  ") + what;
  }
  std::string text{};
  std::size_t total = 0;
};

void compare_rows(const StoredRow& ours, const StoredRow& theirs, Differences& differences) {
  const bool is_versioned = ours.key.table != store::Table::page_sums;
  const bool is_same_version = !is_versioned || ours.version == theirs.version;
  if (is_same_version && ours.image == theirs.image) return;
  differences.add(fmt::format("{} differs ({}): the primary has {}; the mirror has {}",
                              text_of(ours.key), where_images_differ(ours.image, theirs.image),
                              text_of(ours), text_of(theirs)));
}

// Both in the order of their keys.
void compare_tables(const std::vector<StoredRow>& ours, const std::vector<StoredRow>& theirs,
                    Differences& differences) {
  auto mine = ours.begin();
  auto other = theirs.begin();
  while (mine != ours.end() || other != theirs.end()) {
    if (other == theirs.end() || (mine != ours.end() && mine->key < other->key)) {
      differences.add("only the primary has " + text_of(mine->key) + ": " + text_of(*mine));
      ++mine;
    } else if (mine == ours.end() || other->key < mine->key) {
      differences.add("only the mirror has " + text_of(other->key) + ": " + text_of(*other));
      ++other;
    } else {
      compare_rows(*mine++, *other++, differences);
    }
  }
}

// Bytes of a content file at `offset`; zeros where it has none.
Result<Bytes> read_content(sys::Disk& disk, const std::string& path, std::uint64_t offset,
                           std::size_t length) {
  Bytes bytes(length);
  auto file = disk.open(path, sys::Disk::Open::existing_readonly);
  if (!file) {
    if (file.error().code == Code::not_found) return bytes;
    return fail(file.error());
  }
  TRY_VALUE(std::size_t done, (*file)->read_at(bytes, offset));
  std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(done), bytes.end(), std::uint8_t{0});
  return bytes;
}

std::optional<std::string> content_differs(SimDisk& ours, SimDisk& theirs, const StoredRow& row) {
  auto chunk = wire::decode<store::ChunkRow>(row.image);
  if (!chunk) return text_of(row.key) + " cannot be decoded";
  const store::ContentId id{row.key.slot(), Ino(row.key.b),
                            static_cast<std::uint32_t>(row.key.a & ring::kCounterMask)};
  const std::string path = store::content_path(id);
  for (std::uint64_t offset = 0; offset < chunk->length; offset += kPieceBytes) {
    const auto length =
        static_cast<std::size_t>(std::min<std::uint64_t>(kPieceBytes, chunk->length - offset));
    auto mine = read_content(ours, path, offset, length);
    auto other = read_content(theirs, path, offset, length);
    if (!mine || !other) return path + " cannot be read";
    if (*mine == *other) continue;
    const auto at = static_cast<std::size_t>(
        std::mismatch(mine->begin(), mine->end(), other->begin()).first - mine->begin());
    const auto count = std::inner_product(
        mine->begin(), mine->end(), other->begin(), std::size_t{0}, std::plus<>(),
        [](std::uint8_t a, std::uint8_t b) { return static_cast<std::size_t>(a != b); });
    return fmt::format(
        "content {} (length {}) differs from byte {} on ({} bytes of this MiB): the primary has "
        "{}; the mirror has {}",
        path, chunk->length, offset + at, count, hex(ByteSpan(*mine).subspan(at)),
        hex(ByteSpan(*other).subspan(at)));
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> storages_differ(SimDisk& ours, SimDisk& theirs,
                                           const ring::SlotMask& slots) {
  Storage primary(ours, slots), mirror(theirs, slots);
  if (!primary.opened) return "the primary's: " + describe(primary.opened.error());
  if (!mirror.opened) return "the mirror's: " + describe(mirror.opened.error());
  Differences differences;
  for (unsigned database = 0; database < store::kDatabases; ++database)
    for (unsigned number = 1; number <= store::kTableLast; ++number) {
      const auto table = static_cast<store::Table>(number);
      if (!is_replicated(table)) continue;
      const auto rows = primary.rows(database, table);
      compare_tables(rows, mirror.rows(database, table), differences);
      if (table != store::Table::chunk) continue;
      // Of a content without sums every byte is zero, whatever a loss of power left in its file:
      // ContentStoreImpl::open_file.
      std::set<std::pair<std::uint64_t, std::uint64_t>> summed;
      for (const StoredRow& row : primary.rows(database, store::Table::page_sums))
        summed.emplace(row.key.a, row.key.b);
      for (const StoredRow& row : rows) {
        if (!summed.contains({row.key.a, row.key.b})) continue;
        if (auto difference = content_differs(ours, theirs, row)) differences.add(*difference);
      }
    }
  if (primary.problem) return "the primary's: " + *primary.problem;
  if (mirror.problem) return "the mirror's: " + *mirror.problem;
  if (differences.total == 0) return std::nullopt;
  return fmt::format("{} differences: {}", differences.total, differences.text);
}

std::optional<std::string> replicas_differ(SimCluster& cluster, unsigned mirror) {
  auto ours = cluster.disk(0).copy();
  auto theirs = cluster.disk(mirror).copy();
  return storages_differ(*ours, *theirs);
}

}  // namespace magma::test
