#include "magma_tools/ring_text.h"

#include <fmt/format.h>

#include "libmagma/client/ring_words.h"
#include "libmagma/crypto/network_key.h"
#include "libmagma/ring/lava_map.h"
#include "libmagma/ring/progress.h"
#include "libmagma/ring/slice.h"

namespace magma::tools {

namespace {

using client::bytes_text;
using client::printable;

Duration as_duration(std::uint64_t ns) {
  return nanoseconds(static_cast<std::int64_t>(std::min<std::uint64_t>(ns, INT64_MAX)));
}

std::string_view alive_text(wire::RingAlive alive) {
  switch (alive) {
    case wire::RingAlive::yes: return "yes";
    case wire::RingAlive::no: return "no";
    case wire::RingAlive::unknown: break;
  }
  return "unknown";
}

std::string_view vote_text(wire::RingVote vote) {
  switch (vote) {
    case wire::RingVote::votes: return "votes";
    case wire::RingVote::learns: return "learns";
    case wire::RingVote::none: break;
  }
  return "none";
}

ring::Slice slice_of(const wire::RingSlice& slice) {
  return {ring::Slot(slice.first), ring::Slot(slice.last)};
}

std::string nick_of(const wire::RingReply& ring, std::uint16_t id) {
  for (const wire::RingVolcano& volcano : ring.volcanoes)
    if (volcano.id == id) return printable(volcano.nick);
  return "none";
}

std::string coordinator_text(const wire::RingReply& ring) {
  if (ring.coordinator == 0) return "none is heard";
  return fmt::format("{} (term {})", nick_of(ring, ring.coordinator), ring.term);
}

std::string alive_line(const wire::RingVolcano& volcano) {
  std::string text(alive_text(volcano.alive));
  if (volcano.alive != wire::RingAlive::yes && volcano.silent_ns > 0)
    text += ", silent for " + duration_text(as_duration(volcano.silent_ns));
  return text;
}

std::string volcano_text(const wire::RingReply& ring, const wire::RingVolcano& volcano) {
  std::string text = fmt::format("{} ({}){}\n", printable(volcano.nick), printable(volcano.fqdn),
                                 volcano.id == ring.self ? ", which answers" : "");
  const auto line = [&](std::string_view what, std::string_view value) {
    text += fmt::format("  {:<11} {}\n", what, printable(value));
  };
  line("address", volcano.flare + ", node " + volcano.node);
  line("alive", alive_line(volcano));
  line("state", ring::name_of(static_cast<ring::VolcanoState>(volcano.state)));
  line("vote",
       fmt::format("{}{}", vote_text(volcano.vote), volcano.is_coordinator ? ", coordinator" : ""));
  line("holds", client::holds_text(volcano));
  for (const wire::RingSlice& slice : volcano.slices)
    line("keys", fmt::format("{} - {}", slice_of(slice).start_key().hex(),
                             slice_of(slice).stop_key().hex()));
  if (volcano.space_total > 0)
    line("space", fmt::format("{} available, {} total", bytes_text(volcano.space_available),
                              bytes_text(volcano.space_total)));
  if (volcano.entries_behind > 0)
    line("behind", fmt::format("{} changes of the lava map", volcano.entries_behind));
  return text;
}

std::string_view mirror_name(wire::RingMirror mirror) {
  switch (mirror) {
    case wire::RingMirror::in_sync: return "in_sync";
    case wire::RingMirror::copying: return "copying";
    case wire::RingMirror::behind: return "behind";
    case wire::RingMirror::none: break;
  }
  return "none";
}

// Null: it has no copies.
Json mirror_json(const wire::RingVolcano& volcano) {
  if (volcano.mirror == wire::RingMirror::none) return nullptr;
  Json json = {{"state", mirror_name(volcano.mirror)},
               {"percent", nullptr},
               {"bytes_done", volcano.mirror_bytes_done},
               {"bytes_total", volcano.mirror_bytes_total},
               {"batches_behind", volcano.mirror_batches_behind},
               {"left_ns", nullptr}};
  if (const auto percent = client::percent_copied(volcano)) json["percent"] = *percent;
  if (volcano.mirror_left_ns) json["left_ns"] = *volcano.mirror_left_ns;
  return json;
}

Json volcano_json(const wire::RingVolcano& volcano) {
  Json slices = Json::array();
  for (const wire::RingSlice& slice : volcano.slices)
    slices.push_back({{"start_key", slice_of(slice).start_key().hex()},
                      {"stop_key", slice_of(slice).stop_key().hex()},
                      {"first_slot", slice.first},
                      {"last_slot", slice.last}});
  Json json = {{"id", volcano.id},
               {"nick", json_text(volcano.nick)},
               {"fqdn", json_text(volcano.fqdn)},
               {"flare", json_text(volcano.flare)},
               {"node", json_text(volcano.node)},
               {"console", json_text(volcano.console)},
               {"version", json_text(volcano.version)},
               {"state", ring::name_of(static_cast<ring::VolcanoState>(volcano.state))},
               {"starts", volcano.starts},
               {"alive", nullptr},
               {"silent_ns", volcano.silent_ns},
               {"vote", vote_text(volcano.vote)},
               {"is_coordinator", volcano.is_coordinator},
               {"lease_left_ns", volcano.lease_left_ns},
               {"entries_behind", volcano.entries_behind},
               {"slots", client::slots_of(volcano)},
               {"slots_waiting", volcano.slots_waiting},
               {"slots_copied", volcano.backups},
               {"mirror", mirror_json(volcano)},
               {"slices", std::move(slices)},
               {"keys", nullptr},
               {"bytes", nullptr},
               {"space_total", volcano.space_total},
               {"space_available", volcano.space_available}};
  if (volcano.alive != wire::RingAlive::unknown)
    json["alive"] = volcano.alive == wire::RingAlive::yes;
  if (volcano.has_census) {
    json["keys"] = volcano.keys;
    json["bytes"] = volcano.bytes;
  }
  return json;
}

}  // namespace

std::string ring_text(const wire::RingReply& ring) {
  const ring::HealthReport health{static_cast<ring::Health>(ring.health), ring.reason};
  std::string text = fmt::format("{:<11} {}\n", "ring", printable(health.text()));
  text += fmt::format("{:<11} {}\n", "coordinator", coordinator_text(ring));
  text += fmt::format("{:<11} {}\n", "copies", client::copies_text(ring));
  text += fmt::format("{:<11} version {}, generation {}\n", "map", ring.version, ring.generation);
  for (const wire::RingVolcano& volcano : ring.volcanoes) text += volcano_text(ring, volcano);
  return text;
}

Json ring_json(const wire::RingReply& ring) {
  Json volcanoes = Json::array();
  for (const wire::RingVolcano& volcano : ring.volcanoes)
    volcanoes.push_back(volcano_json(volcano));
  Json coordinator = nullptr;
  if (ring.coordinator != 0) coordinator = nick_of(ring, ring.coordinator);
  return {{"filesystem", crypto::uuid_text(ring.filesystem)},
          {"health", ring::name_of(static_cast<ring::Health>(ring.health))},
          {"reason", json_text(ring.reason)},
          {"coordinator", std::move(coordinator)},
          {"coordinator_silent_ns", ring.coordinator_ns},
          {"term", ring.term},
          {"map_version", ring.version},
          {"generation", ring.generation},
          {"membership", ring.membership},
          {"copies", ring.copies},
          {"copies_had", ring.copies_had},
          {"volcanoes", std::move(volcanoes)}};
}

const wire::RingVolcano* find_volcano(const wire::RingReply& ring, std::string_view name) {
  for (const wire::RingVolcano& volcano : ring.volcanoes)
    if (volcano.nick == name || volcano.fqdn == name || volcano.flare == name) return &volcano;
  return nullptr;
}

Result<wire::RingReply> ask_ring(const Target& target, std::string* asked) {
  Error last{Code::unreachable, "no volcano is named"};
  for (const std::string& name : target.hosts) {
    auto host = Host::connect(target, name, crypto::Role::client, patience_for(target));
    if (!host) {
      last = host.error();
      if (last.code == Code::interrupted) break;
      continue;
    }
    auto ring = (*host)->ask(wire::RingRequest{}, kAnswerPatience);
    if (ring) {
      if (asked != nullptr) *asked = name;
      return ring;
    }
    last = {ring.error().code, name + ": " + describe(ring.error())};
  }
  return fail(std::move(last));
}

}  // namespace magma::tools
