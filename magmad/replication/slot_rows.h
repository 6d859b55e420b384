// Rows and oplog rows of some slots, among those of all that a volcano has.
#pragma once

#include <optional>

#include "libmagma/ring/slot_mask.h"
#include "magmad/store/metadata_store.h"

namespace magma::replication {

// The first of them from `from` on whose rows are in that database.
std::optional<ring::Slot> first_slot_in(const ring::SlotMask& slots, unsigned database,
                                        unsigned from = 0);

// As MetadataStore::scan_from, of these slots only. Others' rows are passed over, not read.
Result<void> scan_slots(store::MetadataStore& metadata, unsigned database,
                        const store::RowKey& from, const ring::SlotMask& slots,
                        store::MetadataStore::Visit visit);

// As MetadataStore::scan_oplog, of these slots only; but others' rows are read.
using VisitOplog = UniqueFunction<bool(const store::MetadataStore::OplogRow&)>;
Result<void> scan_oplog_of(store::MetadataStore& metadata, unsigned database,
                           std::uint64_t from_id, const ring::SlotMask& slots, VisitOplog visit);

}  // namespace magma::replication
