// How two volcanoes find out whether they have the same rows: digests of ranges of a table, and of
// each row where those differ. Pure but for the reading of the store.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "libmagma/ring/slot_mask.h"
#include "libmagma/wire/operator_messages.h"
#include "magmad/replication/effects.h"
#include "magmad/store/metadata_store.h"

namespace magma::replication {

// What is mirrored, and the checksums of contents: those are each volcano's own, but equal contents
// have equal ones.
inline bool is_compared(store::Table table) {
  return is_mirrored(table) || table == store::Table::page_sums;
}
inline bool is_compared(std::uint8_t table) {
  return table >= 1 && table <= store::kTableLast && is_compared(static_cast<store::Table>(table));
}

struct RowRange {
  std::uint8_t database = 0;
  store::Table table{};
  std::optional<wire::MirrorKey> after{};  // nothing: from the first row on
  std::optional<wire::MirrorKey> last{};   // nothing: to the end of the table
};
struct RowsSeen {
  std::vector<wire::ComparedRow> rows{};
  bool is_end = false;  // of the range; else there are more
};
// The first rows of these slots in a range: as many as the limits allow, and at least one if there
// is one.
Result<RowsSeen> see_rows(store::MetadataStore& metadata, const ring::SlotMask& slots,
                          const RowRange& range, std::size_t rows_max, std::size_t bytes_max);
wire::RowDigest digest_of(const std::vector<wire::ComparedRow>& rows);
// Both in the order of their keys.
std::vector<wire::Difference> differences_of(store::Table table,
                                             const std::vector<wire::ComparedRow>& ours,
                                             const std::vector<wire::ComparedRow>& theirs);

}  // namespace magma::replication
