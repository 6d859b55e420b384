#include "magmad/replication/content_journal.h"

#include <algorithm>
#include <iterator>

namespace magma::replication {

using wire::MirrorChangeKind;

void ContentJournal::note(MirrorChangeKind kind, const wire::MirrorRange& range, ByteSpan bytes) {
  touched_.push_back(range);
  if (kind == MirrorChangeKind::write || kind == MirrorChangeKind::punch) written_.push_back(range);
  if (!keeps_changes_) return;
  ContentChange& change = changes_.emplace_back();
  change.what = {kind, range};
  change.bytes.assign(bytes.begin(), bytes.end());
}

Result<void> ContentJournal::write(const store::ContentId& id, const store::Version& version,
                                   std::uint64_t offset, ByteSpan bytes,
                                   const std::vector<std::uint32_t>& page_sums) {
  const wire::MirrorRange range = range_of(id, offset, bytes.size());
  auto written = store_.write(id, version, offset, bytes, page_sums);
  if (written) {
    note(MirrorChangeKind::write, range, bytes);
  } else if (written.error().code != Code::checksum) {  // then nothing was written
    add_doubtful(range);
  }
  return written;
}

Result<void> ContentJournal::truncate(const store::ContentId& id, const store::Version& version,
                                      std::uint64_t size) {
  note(MirrorChangeKind::truncate, range_of(id, size, kToEnd - std::min(size, kToEnd)), {});
  return store_.truncate(id, version, size);
}

Result<void> ContentJournal::punch(const store::ContentId& id, const store::Version& version,
                                   std::uint64_t offset, std::uint64_t length) {
  const wire::MirrorRange range = range_of(id, offset, length);
  auto punched = store_.punch(id, version, offset, length);
  if (punched)
    note(MirrorChangeKind::punch, range, {});
  else
    add_doubtful(range);
  return punched;
}

Result<void> ContentJournal::remove(const store::ContentId& id) {
  note(MirrorChangeKind::remove, range_of(id, 0, kToEnd), {});
  return store_.remove(id);
}

std::vector<wire::MirrorRange> ContentJournal::take_touched() {
  std::vector<wire::MirrorRange> touched = std::exchange(touched_, {});
  touched.insert(touched.end(), doubtful_.begin(), doubtful_.end());
  return touched;
}

void ContentJournal::take(Effects& effects) {
  effects.changes = std::exchange(changes_, {});
  effects.doubtful = std::exchange(doubtful_, {});
  written_.clear();
}

void ContentJournal::forget_batch() {
  changes_.clear();
  touched_.clear();
  std::move(written_.begin(), written_.end(), std::back_inserter(doubtful_));
  written_.clear();
}

}  // namespace magma::replication
