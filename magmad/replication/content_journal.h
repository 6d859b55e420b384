// A ContentStore that writes down what changes in it, for the mirrors and the oplog. Else it does
// what the store under it does.
//
// A write cannot be taken back: if its batch fails, the bytes may be in the file, so the range
// stays among the doubtful ones until a batch is committed that names it.
#pragma once

#include <utility>
#include <vector>

#include "magmad/replication/effects.h"
#include "magmad/store/content_store.h"

namespace magma::replication {

class ContentJournal final : public store::ContentStore {
 public:
  explicit ContentJournal(store::ContentStore& store) : store_(store) {}

  // Whether the bytes of writes are kept for effects; else only their ranges, for the oplog.
  void keep_changes(bool keep) { keeps_changes_ = keep; }
  // Bytes that a crash may have left between two states.
  void add_doubtful(wire::MirrorRange range) { doubtful_.push_back(range); }
  // What was touched since the last call, and all that is doubtful: for oplog rows.
  std::vector<wire::MirrorRange> take_touched();
  bool has_doubtful() const { return !doubtful_.empty(); }
  bool has_touched() const { return !touched_.empty() || !doubtful_.empty(); }
  // Moves what happened since the last call into the effects of a batch that is committed.
  void take(Effects& effects);
  // The batch is rolled back.
  void forget_batch();

  Result<std::uint64_t> recover(const store::Version& version) override {
    return store_.recover(version);
  }
  void prepare_write(const store::ContentId& id, const store::Version& version,
                     std::uint64_t offset, std::uint64_t length,
                     UniqueFunction<void(Result<void>)> ready) override {
    store_.prepare_write(id, version, offset, length, std::move(ready));
  }
  Result<void> write(const store::ContentId& id, const store::Version& version,
                     std::uint64_t offset, ByteSpan bytes,
                     const std::vector<std::uint32_t>& page_sums) override;
  void read(const store::ContentId& id, std::uint64_t offset, std::uint64_t length,
            UniqueFunction<void(Result<Bytes>)> done) override {
    store_.read(id, offset, length, std::move(done));
  }
  void scrub(const store::ContentId& id, std::uint64_t offset, std::uint64_t length,
             ScrubDone done) override {
    store_.scrub(id, offset, length, std::move(done));
  }
  Result<void> truncate(const store::ContentId& id, const store::Version& version,
                        std::uint64_t size) override;
  Result<void> punch(const store::ContentId& id, const store::Version& version,
                     std::uint64_t offset, std::uint64_t length) override;
  Result<std::uint64_t> seek(const store::ContentId& id, std::uint64_t from, bool data) override {
    return store_.seek(id, from, data);
  }
  Result<void> remove(const store::ContentId& id) override;
  void committed() override { store_.committed(); }
  void rolled_back() override { store_.rolled_back(); }
  Result<std::uint64_t> allocated_bytes(const store::ContentId& id) override {
    return store_.allocated_bytes(id);
  }
  void sync(const store::ContentId& id, UniqueFunction<void(Result<void>)> done) override {
    store_.sync(id, std::move(done));
  }
  void sync_all(UniqueFunction<void(Result<void>)> done) override {
    store_.sync_all(std::move(done));
  }
  Result<void> sync_now() override { return store_.sync_now(); }
  Result<void> sweep(bool is_unclean) override { return store_.sweep(is_unclean); }
  void on_tick(Instant now) override { store_.on_tick(now); }
  Stats stats() const override { return store_.stats(); }
  std::vector<store::ContentId> open_contents(std::size_t count) const override {
    return store_.open_contents(count);
  }

 private:
  void note(wire::MirrorChangeKind kind, const wire::MirrorRange& range, ByteSpan bytes);

  store::ContentStore& store_;
  bool keeps_changes_ = false;
  std::vector<ContentChange> changes_;
  std::vector<wire::MirrorRange> touched_;
  std::vector<wire::MirrorRange> written_;  // in this batch
  std::vector<wire::MirrorRange> doubtful_;
};

}  // namespace magma::replication
