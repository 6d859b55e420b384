// What a volcano mirrors: streams of other volcanoes (mirror.h), each of slots that no other stream
// has, and that this volcano does not serve itself. All are on the same stores, which hold the
// slots that it serves as well.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "magmad/replication/mirror.h"

namespace magma::replication {

class Mirrors {
 public:
  static constexpr std::size_t kStreamsMax = 1024;

  // `send` takes answers. References outlive it.
  Mirrors(sys::Clock& clock, store::MetadataStore& metadata, store::ContentStore& content,
          UniqueFunction<void(Answer)>& send)
      : clock_(clock), metadata_(metadata), content_(content), send_(send) {}

  // Reads how far it has come. `lost_power`: so far only as was synced. Blocks.
  Result<void> begin(bool clean, bool lost_power);
  // Puts right what a kill left of contents, where the volcano serves nothing and so does not do
  // that itself. After begin(). Blocks.
  Result<void> recover(bool clean);
  // Ranges whose bytes a crash may have left between two states: primaries are told.
  const std::vector<wire::MirrorRange>& torn() const { return torn_; }
  void add_torn(const std::vector<wire::MirrorRange>& torn);
  // The slots that the volcano serves: nobody else's stream may be about them, and what was known
  // of them is over. Commits. Requires: no batch is open.
  Result<void> set_owned(const ring::SlotMask& owned);

  // These slots were served here and are `to`'s now, who has everything up to `position`, as this
  // volcano does. Commits. Requires: no batch is open; the volcano is about to stop.
  Result<void> note_left(ring::VolcanoId to, const ring::SlotMask& slots,
                         const wire::MirrorPosition& position);

  // A request of kind `mirror` over a connection made with the ring key. pump() does it.
  void handle(RequestPtr request);
  bool has_work() const;
  // After each flush of the shard: nothing is open then, nor afterwards.
  void pump();
  Instant deadline() const;
  void on_timer();

  // Streams that have come to something, or are under way; by number.
  const std::map<std::uint64_t, std::unique_ptr<Mirror>>& streams() const { return streams_; }
  Mirror::Stats stats() const;

 private:
  Result<void> read_rows(bool lost_power);
  Result<void> take_over_state_row();
  void hello(RequestPtr request);
  Result<wire::MirrorHelloReply> begin_run(const wire::MirrorHelloRequest& message);
  Result<void> put_blank_row();
  Result<void> drop_empty_but(std::uint64_t number);
  Mirror& stream(std::uint64_t number);
  Mirror* with_run(std::uint64_t run);
  std::vector<wire::MirrorRange> torn_of(const ring::SlotMask& slots);
  void refuse(const Request& request, const Error& error);

  sys::Clock& clock_;
  store::MetadataStore& metadata_;
  store::ContentStore& content_;
  UniqueFunction<void(Answer)>& send_;
  ring::SlotMask owned_{};
  std::map<std::uint64_t, std::unique_ptr<Mirror>> streams_;
  std::deque<RequestPtr> hellos_;
  std::vector<wire::MirrorRange> torn_;
  bool has_blank_row_ = false;  // says that it has nothing yet
  std::uint64_t refused_ = 0;
};

}  // namespace magma::replication
