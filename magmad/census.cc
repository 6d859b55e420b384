#include "magmad/census.h"

#include <sys/stat.h>

#include "libmagma/wire/codec.h"

namespace magma {

namespace {
constexpr std::uint64_t kLargest = ~std::uint64_t{0};
}

void Census::begin(WallTime now) {
  if (is_under_way_) return;
  is_under_way_ = true;
  so_far_ = {.as_of = now};
  database_ = 0;
  table_ = store::Table::inode;
  next_a_ = ring::with_counter(ring::Slot(0), 0);
  next_b_ = 0;
}

Result<void> Census::step(std::size_t rows) {
  while (is_under_way_ && rows > 0) {
    auto seen = step_table(rows);
    if (!seen) {
      is_under_way_ = false;
      return fail(std::move(seen.error()));
    }
    // An empty range costs something, too.
    rows -= std::min(rows, *seen + 1);
  }
  return {};
}

// Rows of one table of one database; then on to the next.
Result<std::size_t> Census::step_table(std::size_t rows) {
  // Slots of one database are congruent modulo their number.
  const ring::Slot last(
      static_cast<std::uint16_t>(ring::kSlotCount - store::kDatabases + database_));
  store::RowKey from{table_, next_a_, next_b_, {}};
  store::RowKey to{table_, ring::with_counter(last, ring::kCounterMask), kLargest, {}};
  std::size_t seen = 0;
  bool is_cut = false;
  auto visit = [&](const store::MetadataStore::ScanRow& row) {
    if (seen == rows) {
      is_cut = true;
      next_a_ = row.a;
      next_b_ = row.b;
      return false;
    }
    ++seen;
    count(table_, row);
    return true;
  };
  TRY(metadata_.scan(from, to, visit));
  if (is_cut) return seen;
  if (table_ == store::Table::inode) {
    table_ = store::Table::authority;
  } else {
    table_ = store::Table::inode;
    if (++database_ == store::kDatabases) {
      is_under_way_ = false;
      last_ = so_far_;
      return seen;
    }
  }
  next_a_ = ring::with_counter(ring::Slot(static_cast<std::uint16_t>(database_)), 0);
  next_b_ = 0;
  return seen;
}

// A row that cannot be read is fsck's to report; here it is only a flare.
void Census::count(store::Table table, const store::MetadataStore::ScanRow& row) {
  if (table == store::Table::authority) {
    // Home has the size a large file had when it was opened; the authority knows better.
    if (auto large = wire::decode<store::AuthorityRow>(row.image)) so_far_.bytes += large->size;
    return;
  }
  ++so_far_.inodes;
  auto inode = wire::decode<store::InodeRow>(row.image);
  if (!inode) return;
  const bool is_large = inode->place == store::ContentPlace::chunks;
  if (S_ISDIR(inode->mode) || is_large) ++so_far_.keys;
  if (S_ISREG(inode->mode) && !is_large) so_far_.bytes += inode->size;
}

}  // namespace magma
