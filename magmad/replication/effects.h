// What a batch of the primary did, as its mirrors are to do it: rows as they are after it, and what
// happened to contents. Made by the Shard after each commit.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/wire/replica_messages.h"
#include "magmad/store/content_store.h"
#include "magmad/store/rows.h"

namespace magma::replication {

struct ContentChange {
  wire::MirrorChange what;
  Bytes bytes{};  // of a write
};

struct Effects {
  wire::MirrorPosition position{};  // after the batch
  std::vector<ContentChange> changes{};
  std::vector<wire::MirrorRow> rows{};
  std::vector<wire::MirrorLog> log{};
  // Whose bytes are what they are, perhaps after a change that failed: to be read and sent.
  std::vector<wire::MirrorRange> doubtful{};
  bool is_empty() const {
    return changes.empty() && rows.empty() && log.empty() && doubtful.empty();
  }
};

inline wire::MirrorRange range_of(const store::ContentId& id, std::uint64_t offset,
                                  std::uint64_t length) {
  return {id.slot, id.ino, id.chunk, offset, length};
}
inline store::ContentId id_of(const wire::MirrorRange& range) {
  return {range.slot, range.ino, range.chunk};
}
// Whether there can be such bytes.
inline bool is_sound(const wire::MirrorRange& range) {
  return range.slot.value < ring::kSlotCount && range.offset <= store::kChunkBytes &&
         range.length <= store::kChunkBytes - range.offset;
}
inline ring::Slot slot_of(const wire::MirrorRow& row) {
  return ring::Slot(static_cast<std::uint16_t>(row.a >> ring::kCounterBits));
}
// From there to the end, whatever it is.
inline constexpr std::uint64_t kToEnd = store::kChunkBytes;

// A row of the store, or that there is none.
inline void add_row(std::vector<wire::MirrorRow>& rows, const store::RowKey& key,
                    const std::optional<store::Row>& row) {
  wire::MirrorRow& added = rows.emplace_back();
  added.table = static_cast<std::uint8_t>(key.table);
  added.a = key.a;
  added.b = key.b;
  added.c = key.c;
  added.is_erased = !row.has_value();
  if (!row) return;
  added.epoch = row->version.epoch;
  added.seq = row->version.seq;
  added.image = row->image;
}

// Tables whose rows a mirror has as the primary has them. Of contents each volcano keeps its own.
inline bool is_mirrored(store::Table table) {
  switch (table) {
    case store::Table::page_sums:
    case store::Table::hot_range:
    case store::Table::removal:
    case store::Table::mirror: return false;
    default: return true;
  }
}

// What the hot-range rows name: bytes that a kill may have left without their rows, or the reverse.
Result<std::vector<wire::MirrorRange>> hot_ranges(store::MetadataStore& metadata);

}  // namespace magma::replication
