// A mirror that is compared with its primary (comparisons.h): nothing is changed here.
#include <algorithm>
#include <utility>

#include "libmagma/wire/codec.h"
#include "libmagma/wire/flare_messages.h"
#include "magmad/replication/compare_rows.h"
#include "magmad/replication/mirror.h"

namespace magma::replication {

namespace {

constexpr std::size_t kBytesReadMax = 256 * 1024;  // of rows' images, for one message

}  // namespace

Result<wire::MirrorCompareReply> Mirror::compare(const wire::MirrorCompareRequest& message) {
  if (message.database >= store::kDatabases || !is_compared(message.table))
    return fail(Code::malformed, "a comparison of the primary");
  ++stats_.compares;
  RowRange range{.database = message.database, .table = static_cast<store::Table>(message.table)};
  if (!message.is_first) range.after = message.after;
  if (!message.is_end) range.last = message.last;
  TRY_VALUE(RowsSeen seen,
            see_rows(metadata_, slots_, range, wire::kCompareListedMax, kBytesReadMax));
  wire::MirrorCompareReply reply;
  reply.is_cut = !seen.is_end;
  reply.is_same = seen.is_end && digest_of(seen.rows) == message.digest;
  if (!reply.is_same) reply.rows = std::move(seen.rows);
  return reply;
}

// What is asked for, one range after the other.
struct Mirror::Scrub {
  RequestPtr request;
  std::vector<wire::MirrorRange> ranges;
  std::size_t next = 0;
  wire::MirrorScrubReply reply{};
};

Result<void> Mirror::begin_scrub(RequestPtr request, wire::MirrorScrubRequest message) {
  std::uint64_t bytes = 0;
  for (const wire::MirrorRange& range : message.ranges) {
    if (!replication::is_sound(range)) return fail(Code::malformed, "a range of the primary");
    bytes += range.length;
  }
  if (message.ranges.size() > wire::kScrubRangesMax || bytes > wire::kIoBytesMax)
    return fail(Code::malformed, "ranges of the primary");
  ++stats_.compares;
  request->body = {};
  request->kept.clear();
  auto scrub = std::make_shared<Scrub>();  // shared with the callbacks of the store
  scrub->request = std::move(request);
  scrub->ranges = std::move(message.ranges);
  scrub_next(std::move(scrub));
  return {};
}

void Mirror::scrub_next(std::shared_ptr<Scrub> scrub) {
  if (scrub->next == scrub->ranges.size()) return answer(*scrub->request, scrub->reply);
  const wire::MirrorRange& range = scrub->ranges[scrub->next];
  content_.scrub(id_of(range), range.offset, range.length,
                 [this, scrub, life = std::weak_ptr<int>(life_)](auto bad) mutable {
                   if (life.expired()) return;
                   const auto which = static_cast<std::uint32_t>(scrub->next++);
                   const Code code = bad ? Code::checksum : bad.error().code;
                   if (!bad || *bad)
                     scrub->reply.damaged.push_back({which, static_cast<std::uint16_t>(code),
                                                     bad ? **bad : scrub->ranges[which].offset});
                   scrub_next(std::move(scrub));
                 });
}

}  // namespace magma::replication
