// Counts what lies in a volcano's storage by going through its rows, a few at a time, so that no
// request waits for it. Used by HostRequests; the shard's thread. It only reads.
//
// A count sees rows as they are when it comes by: what changes meanwhile is counted before or
// after, so the numbers of a busy volcano are near, not exact.
#pragma once

#include <cstdint>
#include <optional>

#include "libmagma/base/result.h"
#include "libmagma/base/time.h"
#include "magmad/store/metadata_store.h"

namespace magma {

class Census {
 public:
  struct Totals {
    WallTime as_of;            // when the count began
    std::uint64_t inodes = 0;  // flares
    std::uint64_t keys = 0;    // directories, and files in chunks
    std::uint64_t bytes = 0;   // sizes of regular files
  };

  explicit Census(store::MetadataStore& metadata) : metadata_(metadata) {}

  // Begins a count, unless one is under way.
  void begin(WallTime now);
  bool is_under_way() const { return is_under_way_; }
  // Looks at up to `rows` more rows. On an error the count under way is given up.
  Result<void> step(std::size_t rows);

  // Of the last count that came to its end.
  const std::optional<Totals>& last() const { return last_; }
  // Of the one under way, as far as it has come.
  const Totals& so_far() const { return so_far_; }

 private:
  Result<std::size_t> step_table(std::size_t rows);
  void count(store::Table table, const store::MetadataStore::ScanRow& row);

  store::MetadataStore& metadata_;
  std::optional<Totals> last_;
  Totals so_far_;
  bool is_under_way_ = false;
  unsigned database_ = 0;
  store::Table table_ = store::Table::inode;
  std::uint64_t next_a_ = 0;  // where the scan of table_ in database_ goes on
  std::uint64_t next_b_ = 0;
};

}  // namespace magma
