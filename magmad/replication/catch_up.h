// What a mirror needs to have everything the primary has of some slots: read from the primary's
// stores, piece by piece, while both go on. A mirror that knows how far it came and whose place is
// still in the oplog gets the rows and ranges that the oplog names since; any other gets all rows,
// and of contents what differs by its checksums.
//
// Pieces go to the mirror in one order with the batches that are committed meanwhile. A piece says
// what is so when it is made, so a batch before it is in it already, and one after it comes after
// it. Contents are read by the store threads: a batch that changes what is being read makes it be
// read anew (changed()).
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "libmagma/ring/slot_mask.h"
#include "magmad/replication/effects.h"
#include "magmad/store/content_store.h"
#include "magmad/store/metadata_store.h"

namespace magma::replication {

// A message of a run, still without its head, and the bytes that follow it.
struct Piece {
  std::variant<wire::MirrorBatchRequest, wire::MirrorRowsRequest, wire::MirrorCheckRequest,
               wire::MirrorSyncRequest, wire::MirrorCompareRequest, wire::MirrorScrubRequest>
      message;
  Bytes bytes{};
  std::size_t size() const { return bytes.size() + 4096; }  // about
};

class CatchUp {
 public:
  static constexpr std::size_t kRowsMax = 512;                 // in a piece
  static constexpr std::uint64_t kReadBytes = 512 * 1024;      // of a content, at a time
  static constexpr std::size_t kChecksMax = 8;                 // unanswered
  static constexpr std::size_t kOplogRowsMax = 256;            // read for a piece

  // `mirror` says what it has; `position` is the primary's own. Requires: no batch is open.
  // References outlive it.
  static Result<std::unique_ptr<CatchUp>> begin(store::MetadataStore& metadata,
                                                store::ContentStore& content,
                                                const ring::SlotMask& slots,
                                                const wire::MirrorPosition& position,
                                                const wire::MirrorHelloReply& mirror);

  // The next piece; nothing while it waits for a read or for answers, and when is_done(). Requires:
  // no batch is open.
  Result<std::optional<Piece>> next();
  bool is_done() const {
    return phase_ == Phase::done && ranges_.empty() && made_.empty() && checks_ == 0;
  }
  // Called from a store's callback when next() may have something again.
  void on_ready(UniqueFunction<void()> hook) { ready_ = std::move(hook); }

  // Whether the pieces to come bring the mirror the oplog rows of batches that are committed now,
  // in the order they have here: then such a batch goes without them (pieces_of), so that the
  // mirror's oplog never has a gap.
  bool brings_log_of(ring::Slot slot) const {
    return !is_copy_ && (phase_ == Phase::tables ||
                         (phase_ == Phase::oplog && slot.value % store::kDatabases >= database_));
  }
  // A batch was committed: what is doubtful after it is sent, too.
  void changed(const Effects& effects);
  // The answer to the check of that range.
  void checked(const wire::MirrorRange& range, const wire::MirrorCheckReply& reply);

  bool is_copy() const { return is_copy_; }  // of everything
  std::uint64_t bytes_done() const { return bytes_done_; }
  std::uint64_t bytes_total() const { return bytes_total_; }  // as far as it is known

 private:
  enum class Phase : std::uint8_t { mark, tables, oplog, contents, done };
  struct Reading {
    wire::MirrorRange range;
    bool is_stale = false;             // changed meanwhile
    std::optional<Result<Bytes>> result;
  };

  CatchUp(store::MetadataStore& metadata, store::ContentStore& content, const ring::SlotMask& slots)
      : metadata_(metadata), content_(content), slots_(slots) {}
  Result<bool> find_in_oplog(const wire::MirrorPosition& position);
  Result<std::uint64_t> first_after(unsigned database, const wire::MirrorPosition& position,
                                    const store::MetadataStore::OplogEnds& ends);
  Piece mark_unknown();
  Result<Piece> rows_piece();
  void next_table();
  Result<void> read_oplog();
  Result<std::optional<Piece>> check_piece();
  Result<std::optional<Piece>> range_piece();
  void begin_read();
  void add_range(const wire::MirrorRange& range);

  store::MetadataStore& metadata_;
  store::ContentStore& content_;
  const ring::SlotMask slots_;
  bool is_copy_ = false;
  Phase phase_ = Phase::mark;
  unsigned database_ = 0;
  std::uint8_t table_ = 1;
  std::optional<wire::MirrorKey> after_;  // the last key told of the table
  // Of rows behind oplog_last_ only the log is sent: their batches go by themselves.
  std::array<std::uint64_t, store::kDatabases> oplog_next_{}, oplog_last_{};
  std::size_t checks_ = 0;                // unanswered
  std::deque<Piece> made_;                // to go first
  std::deque<wire::MirrorRange> ranges_;  // to be sent
  std::shared_ptr<Reading> reading_;      // of ranges_.front(); shared with the store's callback
  UniqueFunction<void()> ready_;
  std::uint64_t bytes_done_ = 0, bytes_total_ = 0;
  std::shared_ptr<int> life_ = std::make_shared<int>(0);  // shared with callbacks, as weak_ptr
};

// Whether a batch did something in one of these slots.
bool concerns(const Effects& effects, const ring::SlotMask& slots);

// Splits what a batch did in these slots into messages of a bounded size. `mark` is of the whole of
// it. `beside`: it goes beside this, which brings some oplog rows itself.
std::vector<Piece> pieces_of(const Effects& effects, const ring::SlotMask& slots,
                             wire::MirrorMark mark, const CatchUp* beside = nullptr);

}  // namespace magma::replication
