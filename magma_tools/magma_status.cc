// magma status [HOST]: what each of the named volcanoes says of itself, and the first that answers
// of the whole ring.
#include <fmt/format.h>

#include "libmagma/crypto/network_key.h"
#include "libmagma/client/listing.h"
#include "magma_tools/command.h"
#include "magma_tools/ring_text.h"

namespace magma::tools {

namespace {

using client::bytes_text;

struct Arguments {
  TargetOptions target;
  bool json = false;
  bool counters = false;
};

Duration as_duration(std::uint64_t ns) {
  return nanoseconds(static_cast<std::int64_t>(std::min<std::uint64_t>(ns, INT64_MAX)));
}

std::string census_text(const wire::StatusCensus& census) {
  const std::string text = fmt::format("{} flares, {} with a key of their own, {} of content",
                                       census.inodes, census.keys, bytes_text(census.bytes));
  return census.is_complete ? fmt::format("{} (as of {})", text, time_text(census.as_of))
                            : "counting; so far " + text;
}

std::string space_text(const wire::StatusReply& status) {
  if (status.space_total == 0) return "unknown (the disk does not tell)";
  return fmt::format("{} available, {} free, {} total", bytes_text(status.space_available),
                     bytes_text(status.space_free), bytes_text(status.space_total));
}

std::string status_text(const wire::StatusReply& status, bool with_counters) {
  std::string text;
  const auto line = [&](std::string_view what, std::string_view value) {
    text += fmt::format("{:<11} {}\n", what, client::printable(value));
  };
  line("volcano", fmt::format("{} ({})", status.nick, status.fqdn));
  line("address", status.address);
  line("version", status.version);
  line("filesystem", crypto::uuid_text(status.filesystem));
  line("up", fmt::format("{} (since {})", duration_text(as_duration(status.uptime_ns)),
                         time_text(status.started)));
  line("epoch", std::to_string(status.epoch.value));
  line("space", space_text(status));
  line("holds", census_text(status.census));
  line("sessions", std::to_string(status.sessions_total));
  for (const wire::StatusSession& session : status.sessions) {
    const std::string from =
        session.address.empty() ? "not connected" : session.address + " " + session.role;
    text +=
        fmt::format("  {}  {}  since {}, quiet for {}, {} open\n", client::printable(session.host),
                    client::printable(from), time_text(session.since),
                    duration_text(as_duration(session.quiet_ns)), session.opens);
  }
  if (status.sessions_total > status.sessions.size())
    text += fmt::format("  and {} more\n", status.sessions_total - status.sessions.size());
  if (!with_counters) return text;
  text += "counters\n";
  for (const wire::StatusCounter& counter : status.counters)
    text += fmt::format("  {:<32} {}\n", client::printable(counter.name), counter.value);
  return text;
}

Json status_json(const wire::StatusReply& status) {
  Json sessions = Json::array();
  for (const wire::StatusSession& session : status.sessions)
    sessions.push_back({{"host", json_text(session.host)},
                        {"address", json_text(session.address)},
                        {"role", json_text(session.role)},
                        {"since_ns", session.since.ns},
                        {"quiet_ns", session.quiet_ns},
                        {"opens", session.opens}});
  Json counters = Json::object();
  for (const wire::StatusCounter& counter : status.counters)
    counters[json_text(counter.name)] = counter.value;
  return {{"nick", json_text(status.nick)},
          {"fqdn", json_text(status.fqdn)},
          {"address", json_text(status.address)},
          {"version", json_text(status.version)},
          {"filesystem", crypto::uuid_text(status.filesystem)},
          {"started_ns", status.started.ns},
          {"uptime_ns", status.uptime_ns},
          {"epoch", status.epoch.value},
          {"space_total", status.space_total},
          {"space_free", status.space_free},
          {"space_available", status.space_available},
          {"census",
           {{"is_complete", status.census.is_complete},
            {"as_of_ns", status.census.as_of.ns},
            {"inodes", status.census.inodes},
            {"keys", status.census.keys},
            {"bytes", status.census.bytes}}},
          {"sessions_total", status.sessions_total},
          {"sessions", std::move(sessions)},
          {"counters", std::move(counters)}};
}

struct Told {
  wire::StatusReply status;
  std::optional<wire::RingReply> ring;  // nothing: it knows of no ring (yet)
};

Result<Told> status_of(const Target& target, const std::string& name) {
  TRY_VALUE(auto host, Host::connect(target, name, crypto::Role::client, patience_for(target)));
  auto status = host->ask(wire::StatusRequest{}, kAnswerPatience);
  if (!status) return fail(status.error().code, name + ": " + describe(status.error()));
  auto ring = host->ask(wire::RingRequest{}, kAnswerPatience);
  Told told{std::move(*status), std::nullopt};
  if (ring) told.ring = std::move(*ring);
  return told;
}

int status(const Arguments& arguments) {
  auto target = find_target(arguments.target, look_around());
  if (!target) {
    failed("status", target.error().detail);
    return target.error().code == Code::invalid ? kUsage : kFailed;
  }
  Json all = Json::array();
  std::size_t answered = 0;
  bool is_first = true;
  std::optional<wire::RingReply> ring;
  for (const std::string& host : target->hosts) {
    auto status = status_of(*target, host);
    if (!status) {
      failed("status",
             status.error().detail.empty() ? describe(status.error()) : status.error().detail);
      if (status.error().code == Code::interrupted) return kFailed;
      if (arguments.json) all.push_back({{"host", host}, {"error", name_of(status.error().code)}});
      continue;
    }
    ++answered;
    if (arguments.json) {
      Json one = {{"host", host}};
      one.update(status_json(status->status));
      one["ring"] = status->ring ? ring_json(*status->ring) : Json(nullptr);
      all.push_back(std::move(one));
      continue;
    }
    if (!std::exchange(is_first, false)) std::printf("\n");
    std::fputs(status_text(status->status, arguments.counters).c_str(), stdout);
    if (!ring) ring = std::move(status->ring);
  }
  if (ring) std::fputs(("\n" + ring_text(*ring)).c_str(), stdout);
  if (arguments.json) std::fputs(dumped(all).c_str(), stdout);
  if (std::fflush(stdout) != 0) return failed("status", "standard output cannot be written");
  if (answered == target->hosts.size()) return kDone;
  return answered == 0 ? kFailed : kProblems;
}

}  // namespace

void add_status(CLI::App& app, Chosen& chosen) {
  CLI::App* command =
      app.add_subcommand("status", "What volcanoes say of themselves and of their ring");
  auto arguments = std::make_shared<Arguments>();  // shared by the parser and `chosen`
  add_host_options(*command, arguments->target);
  command->add_flag("--counters", arguments->counters,
                    "Show the counters as well (doc/metrics.md)");
  command->add_flag("--json", arguments->json, "As JSON: a list, counters included");
  command->footer(
      "\nHOST may be several, with commas between: each is asked. Any key of the network will do.\n"
      "The ring is shown as the first that answers knows it: it asks nobody else for that, so it\n"
      "answers at once whatever is down.\n"
      "`holds` is counted in the background when it is asked for and older than a minute; sizes\n"
      "count holes.\n"
      "Exit codes: 0 done, 1 wrong usage, 2 no volcano answers, 4 some do not.");
  command->callback([arguments, &chosen] { chosen = [arguments] { return status(*arguments); }; });
}

}  // namespace magma::tools
