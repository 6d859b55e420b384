#include "magmad/replication/compare_rows.h"

#include <utility>

#include "libmagma/crypto/digest.h"
#include "libmagma/wire/codec.h"
#include "magmad/replication/slot_rows.h"

namespace magma::replication {

namespace {

wire::RowDigest digest_of(store::Table table, const wire::MirrorKey& key,
                          const store::MetadataStore::ScanRow& row, Bytes& scratch) {
  scratch.clear();
  wire::encode_to(scratch, key);
  if (table != store::Table::page_sums) wire::encode_to(scratch, row.version);
  scratch.insert(scratch.end(), row.image.begin(), row.image.end());
  return crypto::digest(scratch);
}

}  // namespace

Result<RowsSeen> see_rows(store::MetadataStore& metadata, const ring::SlotMask& slots,
                          const RowRange& range, std::size_t rows_max, std::size_t bytes_max) {
  RowsSeen seen;
  seen.is_end = true;
  std::size_t bytes = 0;
  Bytes scratch;
  auto visit = [&](const store::MetadataStore::ScanRow& row) {
    wire::MirrorKey key{row.a, row.b, std::string(row.c)};
    if (range.after && key <= *range.after) return true;
    if (range.last && key > *range.last) return false;
    bytes += row.image.size();
    const bool is_full = seen.rows.size() >= rows_max || bytes > bytes_max;
    if (is_full && !seen.rows.empty()) {
      seen.is_end = false;
      return false;
    }
    const wire::RowDigest digest = digest_of(range.table, key, row, scratch);
    seen.rows.push_back({std::move(key), digest});
    return true;
  };
  store::RowKey from{range.table, 0, 0, {}};
  if (range.after) from = {range.table, range.after->a, range.after->b, range.after->c};
  TRY(scan_slots(metadata, range.database, from, slots, visit));
  return seen;
}

wire::RowDigest digest_of(const std::vector<wire::ComparedRow>& rows) {
  Bytes all;
  all.reserve(rows.size() * sizeof(wire::RowDigest));
  for (const wire::ComparedRow& row : rows)
    all.insert(all.end(), row.digest.begin(), row.digest.end());
  return crypto::digest(all);
}

std::vector<wire::Difference> differences_of(store::Table table,
                                             const std::vector<wire::ComparedRow>& ours,
                                             const std::vector<wire::ComparedRow>& theirs) {
  std::vector<wire::Difference> found;
  const auto add = [&](wire::DifferenceKind kind, const wire::MirrorKey& key) {
    found.push_back({kind, static_cast<std::uint8_t>(table), key, 0});
  };
  auto mine = ours.begin();
  auto other = theirs.begin();
  while (mine != ours.end() || other != theirs.end()) {
    if (other == theirs.end() || (mine != ours.end() && mine->key < other->key)) {
      add(wire::DifferenceKind::missing, mine++->key);
    } else if (mine == ours.end() || other->key < mine->key) {
      add(wire::DifferenceKind::surplus, other++->key);
    } else {
      if (mine->digest != other->digest) add(wire::DifferenceKind::other, mine->key);
      ++mine;
      ++other;
    }
  }
  return found;
}

}  // namespace magma::replication
