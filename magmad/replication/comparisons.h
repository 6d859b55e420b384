// Comparisons of what a primary has with what a mirror has, piece by piece, each asked for by an
// operator's request (wire::CompareRequest), which says where to go on: between requests nothing is
// kept.
//
// Of rows a piece is a range of a table. Its digest goes to the mirror in the order of the run,
// made when all batches before it have been sent: so the mirror compares as of the same batch, and
// what is merely under way never shows. Where digests differ the mirror tells those of its rows,
// which are compared with the ones that the digest was made of.
//
// Of contents each volcano reads its own and compares it with its own checksums, which were
// compared as rows: the order does not matter there.
//
// Used by Source, on its thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "libmagma/base/unique_function.h"
#include "libmagma/ring/lava_map.h"
#include "libmagma/sys/clock.h"
#include "magmad/replication/catch_up.h"
#include "magmad/replication/compare_rows.h"
#include "magmad/store/content_store.h"

namespace magma::replication {

class Comparisons {
 public:
  static constexpr std::size_t kUnderWayMax = 16;
  static constexpr Duration kPatience = seconds(2);  // for a mirror that is not in sync just now
  // Of a piece: less than a millisecond's work for either volcano.
  static constexpr std::size_t kRowsMax = 256;
  static constexpr std::size_t kRowBytesMax = 64 * 1024;
  static constexpr std::size_t kContentRowsMax = 256;  // looked at for contents
  static constexpr std::uint64_t kContentBytesMax = 1u << 20;
  static constexpr std::size_t kKeyBytesMax = 255;  // of MirrorKey::c, as every key's

  using Done = UniqueFunction<void(Result<wire::CompareReply>)>;
  // A message for the mirror, and the number by which its answer is given back.
  struct Asked {
    Piece piece;
    std::uint64_t number = 0;
  };

  // References outlive it.
  Comparisons(sys::Clock& clock, store::MetadataStore& metadata, store::ContentStore& content)
      : clock_(clock), metadata_(metadata), content_(content) {}

  // Of the stream with these slots; `following`: the next one. `done` is called once, unless this
  // goes first. Errors: malformed, overloaded, those of the stores.
  void begin(wire::CompareRequest request, const ring::SlotMask& slots,
             std::optional<std::uint16_t> following, Done done);
  // What goes to that mirror by that stream next, if anything waits for it. Requires: no batch is
  // open, and the mirror was sent everything that is committed.
  std::optional<Asked> next(ring::VolcanoId mirror, std::uint16_t stream);
  void answered(std::uint64_t number, ByteSpan body);
  void refused(std::uint64_t number, Code code);
  // A message of its run will never be answered.
  void lost(std::uint64_t number) { not_in_sync(number); }
  Instant deadline() const;
  void on_timer();

  struct Stats {
    std::uint64_t pieces = 0, differences = 0;
  };
  Stats stats() const { return stats_; }

 private:
  struct Comparison;
  static std::optional<wire::CompareCursor> behind(const Comparison& comparison,
                                                   const wire::CompareCursor& cursor);
  struct Comparison {
    wire::CompareRequest request;
    ring::SlotMask slots{};
    std::optional<std::uint16_t> following{};
    Done done;
    Instant until{};
    bool is_asked = false;
    wire::CompareReply reply{};
    // Rows.
    std::vector<wire::ComparedRow> ours{};
    // Contents.
    std::vector<wire::MirrorRange> ranges{};
    std::size_t scrubbed = 0;  // of the own ones
    bool has_theirs = false;
  };

  Result<std::optional<Piece>> make_piece(Comparison& comparison);
  Result<Piece> rows_piece(Comparison& comparison);
  Result<std::optional<Piece>> content_piece(Comparison& comparison);
  Result<void> take_rows(Comparison& comparison, const wire::MirrorCompareReply& reply);
  Result<void> take_damage(Comparison& comparison, const wire::MirrorScrubReply& reply);
  void scrub_next(std::uint64_t number);
  void scrubbed(std::uint64_t number, const Result<std::optional<std::uint64_t>>& bad);
  void settle(std::uint64_t number);
  void finish(std::uint64_t number, Result<void> done);
  void not_in_sync(std::uint64_t number);

  sys::Clock& clock_;
  store::MetadataStore& metadata_;
  store::ContentStore& content_;
  std::map<std::uint64_t, Comparison> under_way_;  // by number: the oldest first
  std::uint64_t last_number_ = 0;
  Stats stats_;
  std::shared_ptr<int> life_ = std::make_shared<int>(0);  // shared with callbacks, as weak_ptr
};

}  // namespace magma::replication
