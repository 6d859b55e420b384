// A ContentStore over a simulated disk and executor, as the tests of content want it: each call
// runs to its end, kills and power cuts included.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "libmagma/wire/codec.h"
#include "magmad/store/content_store.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/sim_executor.h"
#include "tests/lib/store_fixture.h"

namespace magma::test {

using store::ChunkRow;
using store::ContentId;
using store::ContentStore;
using store::MetadataStore;
using store::Table;
using store::Version;

inline constexpr Version kVersion{Epoch(1), Seq(1)};

inline ContentId content_id(unsigned slot, std::uint64_t counter, std::uint32_t chunk = 0) {
  return {ring::Slot(static_cast<std::uint16_t>(slot)), ino_at(slot, counter), chunk};
}

struct ContentRig {
  SimDisk disk;
  SimExecutor executor;
  std::unique_ptr<MetadataStore> metadata;
  std::unique_ptr<ContentStore> content;
  Instant now{};
  store::MetadataOptions options{};

  explicit ContentRig(store::MetadataOptions with = {}) : options(with) { open(true); }
  void open(bool create) {
    auto opened = MetadataStore::open(disk, executor, create, options);
    REQUIRE_MESSAGE(opened.has_value(), (opened ? "" : describe(opened.error())));
    metadata = std::move(*opened);
    auto contents = ContentStore::open(disk, executor, *metadata);
    REQUIRE_MESSAGE(contents.has_value(), (contents ? "" : describe(contents.error())));
    content = std::move(*contents);
  }
  void close() {
    executor.drop();
    content.reset();
    metadata.reset();
  }
  void kill() {
    disk.kill();
    close();
    open(false);
    REQUIRE(content->recover(kVersion).has_value());
  }
  void power_cut(SeedRandom& random) {
    disk.power_cut(random);
    close();
    open(false);
    REQUIRE(content->recover(kVersion).has_value());
  }
  Result<void> commit() {
    auto done = metadata->commit();
    if (done)
      content->committed();
    else
      content->rolled_back();
    return done;
  }
  void tick(Duration step = seconds(1)) {
    now = now + step;
    executor.run_all();
    content->on_tick(now);
    metadata->sync_all([](Result<void>) {});
    executor.run_all();
  }
  Result<void> prepare(const ContentId& id, std::uint64_t offset, std::uint64_t length) {
    Result<void> outcome = fail(Code::fault, "ready was not called");
    content->prepare_write(id, kVersion, offset, length, [&](Result<void> r) { outcome = r; });
    executor.run_all();
    // What waits for a cut waits for the owner's commit.
    if (!outcome && outcome.error().code == Code::fault && metadata->in_transaction()) {
      TRY(metadata->commit());
      content->committed();
      executor.run_all();
    }
    return outcome;
  }
  std::uint64_t length_of(const ContentId& id) {
    auto row = metadata->get(id.row(Table::chunk));
    REQUIRE(row.has_value());
    return *row ? wire::decode<ChunkRow>((*row)->image)->length : 0;
  }
  Result<void> set_length(const ContentId& id, std::uint64_t length) {
    return metadata->put(id.row(Table::chunk), kVersion, wire::encode(ChunkRow{length, 0}));
  }
  Result<void> write(const ContentId& id, std::uint64_t offset, ByteSpan bytes,
                     const std::vector<std::uint32_t>& sums = {}) {
    TRY(prepare(id, offset, bytes.size()));
    TRY(content->write(id, kVersion, offset, bytes, sums));
    return set_length(id, std::max(length_of(id), offset + bytes.size()));
  }
  Result<void> truncate(const ContentId& id, std::uint64_t size) {
    TRY(content->truncate(id, kVersion, size));
    return set_length(id, size);
  }
  Result<void> remove(const ContentId& id) {
    TRY(content->remove(id));
    return metadata->erase(id.row(Table::chunk));
  }
  Result<Bytes> read(const ContentId& id, std::uint64_t offset, std::uint64_t length) {
    Result<Bytes> outcome = fail(Code::fault, "done was not called");
    content->read(id, offset, length, [&](Result<Bytes> r) { outcome = std::move(r); });
    executor.run_all();
    return outcome;
  }
  Result<void> sync(const ContentId& id) {
    Result<void> outcome = fail(Code::fault, "done was not called");
    content->sync(id, [&](Result<void> r) { outcome = std::move(r); });
    executor.run_all();
    return outcome;
  }
  Result<void> sync_all() {
    Result<void> one = fail(Code::fault), two = fail(Code::fault);
    content->sync_all([&](Result<void> r) { one = std::move(r); });
    executor.run_all();
    metadata->sync_all([&](Result<void> r) { two = std::move(r); });
    executor.run_all();
    return one ? two : one;
  }
};

// Reads everything with cold caches, so that all of it is verified.
inline Bytes read_cold(ContentRig& rig, const ContentId& id) {
  rig.disk.drop_caches();
  auto bytes = rig.read(id, 0, rig.length_of(id));
  REQUIRE_MESSAGE(bytes.has_value(), (bytes ? "" : describe(bytes.error())));
  return *bytes;
}

}  // namespace magma::test
