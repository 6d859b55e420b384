#include "libmagma/client/ring_words.h"

#include <fmt/format.h>

#include "libmagma/client/listing.h"
#include "libmagma/ring/progress.h"

namespace magma::client {

namespace {

std::string copying_text(const wire::RingVolcano& volcano) {
  const auto percent = percent_copied(volcano);
  if (!percent) return "copying";
  const std::string left =
      volcano.mirror_left_ns
          ? ring::text_of(nanoseconds(static_cast<std::int64_t>(*volcano.mirror_left_ns))) + " left"
          : "time left unknown";
  return fmt::format("copying {} %, {} of {}, {}", *percent, bytes_text(volcano.mirror_bytes_done),
                     bytes_text(volcano.mirror_bytes_total), left);
}

std::string mirror_text(const wire::RingVolcano& volcano) {
  std::string text = "mirror, ";
  switch (volcano.mirror) {
    case wire::RingMirror::none: return {};
    case wire::RingMirror::in_sync:
      text += "in sync";
      if (volcano.mirror_bytes_total > 0) text += ", " + bytes_text(volcano.mirror_bytes_total);
      return text;
    case wire::RingMirror::copying: return text + copying_text(volcano);
    case wire::RingMirror::behind: break;
  }
  text += "behind";
  if (volcano.mirror_batches_behind > 0)
    text += fmt::format(" by {} batches", volcano.mirror_batches_behind);
  return text;
}

}  // namespace

unsigned slots_of(const wire::RingVolcano& volcano) {
  unsigned slots = 0;
  for (const wire::RingSlice& slice : volcano.slices)
    slots += ring::Slice{ring::Slot(slice.first), ring::Slot(slice.last)}.slots();
  return slots;
}

std::optional<unsigned> percent_copied(const wire::RingVolcano& volcano) {
  if (volcano.mirror_bytes_total == 0) return std::nullopt;
  return ring::Progress{.done = {.slots = 0, .bytes = volcano.mirror_bytes_done},
                        .total = {.slots = 0, .bytes = volcano.mirror_bytes_total},
                        .left = std::nullopt}
      .percent();
}

std::string holds_text(const wire::RingVolcano& volcano) {
  std::string text;
  if (!volcano.slices.empty()) {
    text = fmt::format("primary of {} slots", slots_of(volcano));
    if (volcano.slots_waiting > 0) text += fmt::format(", {} wait for it", volcano.slots_waiting);
    if (volcano.has_census)
      text += fmt::format(", {} flares, {} of content", volcano.keys, bytes_text(volcano.bytes));
  }
  const std::string mirror = mirror_text(volcano);
  if (!text.empty() && !mirror.empty()) text += "; ";
  text += mirror;
  return text.empty() ? "no slots: nothing is stored here" : text;
}

std::string copies_text(const wire::RingReply& ring) {
  return fmt::format("{} wanted, {} had", ring.copies, ring.copies_had);
}

}  // namespace magma::client
