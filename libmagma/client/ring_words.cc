#include "libmagma/client/ring_words.h"

#include <algorithm>

#include <fmt/format.h>

#include "libmagma/crypto/network_key.h"
#include "libmagma/crypto/path_hash.h"
#include "libmagma/ring/progress.h"
#include "libmagma/ring/slice.h"

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

std::string_view state_text(wire::RingMirror mirror) {
  switch (mirror) {
    case wire::RingMirror::in_sync: return "in sync";
    case wire::RingMirror::copying: return "copying";
    case wire::RingMirror::behind: return "behind";
    case wire::RingMirror::none: break;
  }
  return "none";
}

std::vector<Holder> holders_of(const wire::RingReply& ring, ring::Slot slot) {
  const auto holds = [&](const auto& runs) {
    return std::find_if(runs.begin(), runs.end(), [&](const auto& run) {
      return run.first <= slot.value && slot.value <= run.last;
    });
  };
  std::vector<Holder> primaries, mirrors;
  for (const wire::RingVolcano& volcano : ring.volcanoes) {
    if (holds(volcano.slices) != volcano.slices.end())
      primaries.push_back({.nick = volcano.nick, .address = volcano.flare});
    const auto copies = holds(volcano.copies);
    if (copies != volcano.copies.end())
      mirrors.push_back({.nick = volcano.nick,
                         .address = volcano.flare,
                         .is_primary = false,
                         .state = std::string(state_text(copies->state))});
  }
  primaries.insert(primaries.end(), mirrors.begin(), mirrors.end());
  return primaries;
}

std::string holders_text(const std::vector<Holder>& holders) {
  std::string text;
  for (const Holder& holder : holders) {
    text += text.empty() ? "" : ", ";
    text += holder.nick.empty() ? holder.address
                                : fmt::format("{} ({})", holder.nick, holder.address);
    text += holder.is_primary ? " primary" : " mirror";
    if (!holder.state.empty()) text += " " + holder.state;
  }
  return text;
}

namespace {

std::string_view alive_text(wire::RingAlive alive) {
  switch (alive) {
    case wire::RingAlive::no: return "no";
    case wire::RingAlive::yes: return "yes";
    case wire::RingAlive::unknown: break;
  }
  return "unknown";
}

std::string_view vote_text(wire::RingVote vote) {
  switch (vote) {
    case wire::RingVote::learns: return "learns";
    case wire::RingVote::votes: return "votes";
    case wire::RingVote::none: break;
  }
  return "none";
}

}  // namespace

std::string profile_text(const wire::RingReply& ring, const wire::RingVolcano& volcano) {
  std::string text;
  const auto line = [&](std::string_view name, std::string_view value) {
    text += fmt::format("{} = {}\n", name, printable(value));
  };
  const auto keys = [&](std::string_view what, std::uint16_t first, std::uint16_t last) {
    const ring::Slice slice{ring::Slot(first), ring::Slot(last)};
    line(fmt::format("{}start_key", what), slice.start_key().hex());
    line(fmt::format("{}stop_key", what), slice.stop_key().hex());
  };
  line("hashpath", crypto::key_of_path("/.dht/" + volcano.nick).hex());
  line("servername", volcano.fqdn);
  line("nickname", volcano.nick);
  const std::size_t colon = volcano.flare.rfind(':');
  line("ipaddr", volcano.flare.substr(0, colon));
  if (colon != std::string::npos) line("port", volcano.flare.substr(colon + 1));
  line("node", volcano.node);
  if (!volcano.console.empty()) line("console", volcano.console);
  if (!volcano.version.empty()) line("version", volcano.version);
  line("filesystem", crypto::uuid_text(ring.filesystem));
  line("map_version", std::to_string(ring.version));
  line("state", ring::name_of(static_cast<ring::VolcanoState>(volcano.state)));
  line("alive", alive_text(volcano.alive));
  line("vote", vote_text(volcano.vote));
  line("coordinator", volcano.is_coordinator ? "yes" : "no");
  for (const wire::RingSlice& slice : volcano.slices) keys("", slice.first, slice.last);
  for (const wire::RingCopies& copies : volcano.copies) {
    line("mirror", state_text(copies.state));
    keys("mirror_", copies.first, copies.last);
  }
  if (volcano.has_census) {
    line("keys", std::to_string(volcano.keys));
    line("bytes", std::to_string(volcano.bytes));
  }
  if (volcano.space_total > 0) {
    line("storage", std::to_string(volcano.space_total));
    line("storage_available", std::to_string(volcano.space_available));
  }
  return text;
}

std::string copies_text(const wire::RingReply& ring) {
  return fmt::format("{} wanted, {} had", ring.copies, ring.copies_had);
}

}  // namespace magma::client
