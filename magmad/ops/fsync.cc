// fsync: content files of the inode at this slot (asked at home: all of them), and all metadata of
// the volcano: the file, and the entries and directories that lead to it. Both at the same time, as
// store::sync_everything.
#include <memory>
#include <optional>
#include <utility>

#include "libmagma/crypto/path_hash.h"
#include "magmad/ops/authority.h"
#include "magmad/ops/ops.h"
#include "magmad/ops/questions.h"

namespace magma::ops {

namespace {

// And on the mirrors, at the same time.
void sync_metadata(Shard& shard, RequestPtr request, std::uint64_t mirrors) {
  auto shared = std::make_shared<RequestPtr>(std::move(request));
  shard.metadata().sync_all([&shard, shared, mirrors](Result<void> synced) {
    if (!synced) return shard.refuse(std::move(*shared), synced.error());
    shard.answer_when_synced(std::move(*shared), mirrors);
  });
}

// Syncs the metadata, and meanwhile contents one after the other. Holds itself through its
// callbacks; those of contents that are clean come inside the call.
struct Syncing : std::enable_shared_from_this<Syncing> {
  Syncing(Shard& s, RequestPtr r, std::vector<store::ContentId> contents)
      : shard(s), request(std::move(r)), left(std::move(contents)) {}

  void begin() {
    shard.metadata().sync_all([self = shared_from_this()](Result<void> synced) {
      self->half_done(std::move(synced));
    });
    next_content();
  }

  void next_content() {
    goes_on = true;
    if (is_running) return;
    is_running = true;
    while (std::exchange(goes_on, false)) {
      if (left.empty()) return half_done({});
      store::ContentId id = left.back();
      left.pop_back();
      shard.content().sync(id, [self = shared_from_this()](Result<void> synced) {
        if (!synced) return self->half_done(std::move(synced));
        self->next_content();
      });
    }
    is_running = false;
  }

  void half_done(Result<void> synced) {
    if (!synced && !error) error = std::move(synced.error());
    if (--halves > 0) return;
    if (error) return shard.refuse(std::move(request), *error);
    shard.answer_when_synced(std::move(request), mirrors);
  }

  Shard& shard;
  RequestPtr request;
  std::vector<store::ContentId> left;
  const std::uint64_t mirrors = shard.sync_mirrors();
  std::optional<Error> error{};
  int halves = 2;  // metadata, contents
  bool is_running = false;
  bool goes_on = false;
};

// Contents of which some are other volcanoes'.
void sync_everywhere(Shard& shard, RequestPtr request, Ino ino) {
  request->keep();
  const std::uint64_t mirrors = shard.sync_mirrors();
  auto shared = std::make_shared<RequestPtr>(std::move(request));
  sync_contents(shard, ino, [&shard, shared, mirrors](Result<void> synced) {
    if (!synced) return shard.refuse(std::move(*shared), synced.error());
    sync_metadata(shard, std::move(*shared), mirrors);
  });
}

}  // namespace

void fsync(Shard& shard, RequestPtr request, wire::FsyncRequest message) {
  std::vector<store::ContentId> contents;
  ring::Slot slot = request->head.slot;
  for (std::uint32_t chunk : message.chunks) contents.push_back({slot, message.ino, chunk});
  if (message.chunks.empty()) {
    auto row = shard.inode(message.ino);
    if (!row) return shard.refuse(std::move(request), Code::stale);
    if (row->place == store::ContentPlace::home_file) contents.push_back({slot, message.ino, 0});
    // What others have written, too; the asker may not even know that it is in chunks.
    if (row->place == store::ContentPlace::chunks && row->key) {
      if (!is_content_near(shard, *row->key))
        return sync_everywhere(shard, std::move(request), message.ino);
      if (auto authority = authority_of(shard, message.ino, *row->key)) {
        if (!is_content_near(shard, *authority))
          return sync_everywhere(shard, std::move(request), message.ino);
        for (std::uint32_t chunk : chunks_from(authority->chunks, 0))
          contents.push_back({crypto::key_of_chunk(*row->key, chunk).slot(), message.ino, chunk});
      }
    }
  }
  request->keep();
  std::make_shared<Syncing>(shard, std::move(request), std::move(contents))->begin();
}

}  // namespace magma::ops
