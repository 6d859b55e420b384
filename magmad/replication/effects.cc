#include "magmad/replication/effects.h"

#include <optional>

#include "magmad/store/page_sums.h"

namespace magma::replication {

Result<std::vector<wire::MirrorRange>> hot_ranges(store::MetadataStore& metadata) {
  std::vector<wire::MirrorRange> ranges;
  std::optional<Error> broken;
  for (unsigned database = 0; database < store::kDatabases; ++database) {
    auto visit = [&](const store::MetadataStore::ScanRow& row) {
      auto index = store::four_byte_number(row.c);
      if (!index) {
        broken = index.error();
        return false;
      }
      const ring::Slot slot(static_cast<std::uint16_t>(row.a >> ring::kCounterBits));
      const auto chunk = static_cast<std::uint32_t>(row.a & ring::kCounterMask);
      ranges.push_back({slot, Ino(row.b), chunk, *index * store::kHotRangeBytes,
                        store::kHotRangeBytes});
      return true;
    };
    TRY(metadata.scan_database(database, store::Table::hot_range, visit));
  }
  if (broken) return fail(std::move(*broken));
  return ranges;
}

}  // namespace magma::replication
