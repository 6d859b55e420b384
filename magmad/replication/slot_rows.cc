#include "magmad/replication/slot_rows.h"

namespace magma::replication {

std::optional<ring::Slot> first_slot_in(const ring::SlotMask& slots, unsigned database,
                                        unsigned from) {
  for (unsigned n = from; n < ring::kSlotCount; ++n)
    if (n % store::kDatabases == database && slots[n])
      return ring::Slot(static_cast<std::uint16_t>(n));
  return std::nullopt;
}

Result<void> scan_slots(store::MetadataStore& metadata, unsigned database,
                        const store::RowKey& from, const ring::SlotMask& slots,
                        store::MetadataStore::Visit visit) {
  if (slots.all()) return metadata.scan_from(database, from, std::move(visit));
  store::RowKey key = from;
  for (;;) {
    const auto slot = first_slot_in(slots, database, key.slot().value);
    if (!slot) return {};
    if (*slot != key.slot()) key = {from.table, ring::with_counter(*slot, 0), 0, {}};
    std::optional<unsigned> other;  // the first slot behind that is none of them
    auto visit_own = [&](const store::MetadataStore::ScanRow& row) {
      const unsigned n = static_cast<unsigned>(row.a >> ring::kCounterBits);
      if (slots[n]) return visit(row);
      other = n;
      return false;
    };
    TRY(metadata.scan_from(database, key, visit_own));
    if (!other) return {};
    const ring::Slot behind(static_cast<std::uint16_t>(*other));
    key = {from.table, ring::with_counter(behind, 0), 0, {}};
  }
}

Result<void> scan_oplog_of(store::MetadataStore& metadata, unsigned database,
                           std::uint64_t from_id, const ring::SlotMask& slots, VisitOplog visit) {
  auto visit_own = [&](const store::MetadataStore::OplogRow& row) {
    return !slots[row.slot.value] || visit(row);
  };
  return metadata.scan_oplog(database, from_id, visit_own);
}

}  // namespace magma::replication
