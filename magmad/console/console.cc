#include "magmad/console/console.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "libmagma/ring/slice.h"
#include "magmad/volcano.h"

namespace magma::console {

namespace {

// Looked at in one round of the loop while `lava` counts.
constexpr std::size_t kCensusRowsPerRound = 500;

RingFiles::Config files_config(const VolcanoConfig& volcano) {
  return {
      .volcano = volcano.address, .keys = volcano.keys, .host_name = "console of " + volcano.nick};
}

}  // namespace

Console::Console(Config config, Volcano& volcano, sys::Clock& clock, sys::Random& random,
                 sys::Executor& executor, OpenRingSocket open_socket,
                 UniqueFunction<void()> shut_down)
    : config_(std::move(config)),
      identity_{volcano.config().nick, volcano.config().fqdn, volcano.config().address.text(),
                config_.version},
      volcano_(volcano),
      clock_(clock),
      shut_down_(std::move(shut_down)),
      files_(files_config(volcano.config()), clock, random, std::move(open_socket)),
      gate_(volcano.config().keys, volcano.config().filesystem, clock, executor),
      names_(clock, executor) {}

Console::~Console() = default;

// ---- sessions

tl::expected<Session*, std::string> Console::open(const Peer& peer) {
  Admission admission = admit(config_.rules, peer);
  if (!admission.rights) {
    warn("console_refused who=" + log_value(admission.who));
    return tl::unexpected(std::move(admission.refusal));
  }
  return open(SessionOptions{
      .speaks_telnet = true, .rights = *admission.rights, .who = std::move(admission.who)});
}

tl::expected<Session*, std::string> Console::open(SessionOptions options) {
  const bool is_guest = options.rights == Rights::guest;
  const auto guests = std::count_if(sessions_.begin(), sessions_.end(),
                                    [](const auto& session) { return session.second->is_guest(); });
  if (is_ending_) return tl::unexpected(std::string("The volcano stops."));
  if (sessions_.size() >= kSessionsMax || (is_guest && guests >= std::ptrdiff_t{kGuestsMax})) {
    warn("console_full who=" + log_value(options.who));
    return tl::unexpected(
        fmt::format("This console has too many sessions ({} of them, at most "
                    "{}, {} of those not logged in): try again later.",
                    sessions_.size(), kSessionsMax, kGuestsMax));
  }
  if (arrivals_.allow(clock_.now()))
    log_info("console_open who={} rights={} held_back={}", options.who, is_guest ? "guest" : "all",
             arrivals_.suppressed());
  auto session =
      std::make_unique<Session>(std::move(options), static_cast<Backend&>(*this), clock_);
  Session* opened = session.get();
  sessions_.emplace(opened, std::move(session));
  files_.set_users(sessions_.size());
  return opened;
}

void Console::close(Session* session) {
  sessions_.erase(session);
  files_.set_users(sessions_.size());
}

void Console::stop(UniqueFunction<void()> done) {
  is_ending_ = true;
  // Their commands end here: nothing uses the files any more.
  for (auto& [session, owned] : sessions_) session->close_with("\nThe volcano stops. Goodbye.");
  lava_waiters_.clear();
  files_.stop(std::move(done));
}

// ---- time

void Console::flush() { files_.flush(); }

Instant Console::deadline() const {
  Instant due = std::min(files_.deadline(), gate_.deadline());
  if (!lava_waiters_.empty()) due = std::min(due, clock_.now());
  for (const auto& [session, owned] : sessions_) due = std::min(due, session->deadline());
  return due;
}

void Console::on_timer() {
  files_.on_timer();
  gate_.on_timer();
  step_census();
  for (const auto& [session, owned] : sessions_) session->on_timer();
}

// ---- Backend

void Console::warn(std::string_view line) {
  if (!warnings_.allow(clock_.now())) return;
  log_line(LogLevel::warning, fmt::format("{} held_back={}", line, warnings_.suppressed()));
}

void Console::shut_down(std::string_view who) {
  log_info("console_shutdown who={}", who);
  if (auto once = std::move(shut_down_)) once();
}

CacheReport Console::caches() {
  const VolcanoReport volcano = volcano_.report(kCacheLinesMax);
  CacheReport report;
  report.loads = {
      {"content files held open", volcano.content_files_open, "closed by least recent use"},
      {"sessions of mounts and tools", volcano.sessions, ""},
      {"flares those hold open", volcano.flares_open, ""},
      {"locks of operations under way", volcano.locks, "entries and inodes"},
      {"requests that wait for one", volcano.requests_waiting, ""},
      {"bytes in write-ahead logs", volcano.wal_bytes, "rows not yet in the databases"},
      {"console sessions", sessions_.size(), fmt::format("at most {}", kSessionsMax)},
  };
  for (const store::ContentId& id : volcano.content_files)
    report.files.push_back({id.ino, id.chunk, id.slot});
  report.files_more = volcano.content_files_open - report.files.size();
  for (const VolcanoReport::SessionLine& line : volcano.session_lines)
    report.sessions.push_back({line.id.value, line.host, line.opens, line.silent});
  report.sessions_more = volcano.sessions - report.sessions.size();
  return report;
}

class Console::LavaWaiter final : public Pending {
 public:
  LavaWaiter(Console& console, std::uint64_t id) : console_(console), id_(id) {}
  ~LavaWaiter() override { console_.lava_waiters_.erase(id_); }

 private:
  Console& console_;
  std::uint64_t id_;
};

PendingPtr Console::lava(Done<std::vector<LavaLine>> done) {
  const std::uint64_t id = ++last_lava_waiter_;
  lava_waiters_.emplace(id, std::move(done));
  volcano_.census().begin(clock_.wall_now());
  return std::make_unique<LavaWaiter>(*this, id);
}

// Whoever waits shares the count that is under way.
void Console::step_census() {
  if (lava_waiters_.empty()) return;
  Census& census = volcano_.census();
  if (auto stepped = census.step(kCensusRowsPerRound); !stepped)
    return tell_lava(fail(stepped.error()));
  if (census.is_under_way()) return;
  if (!census.last()) return tell_lava(fail(Code::io, "the rows could not be counted"));
  auto space = volcano_.space();
  if (!space) return tell_lava(fail(space.error()));
  const ring::Slice slice = ring::Slice::whole();  // of a network of one
  tell_lava(std::vector<LavaLine>{{.nick = identity_.nick,
                                   .fqdn = identity_.fqdn,
                                   .address = identity_.address,
                                   .is_alive = true,
                                   .start_key = slice.start_key(),
                                   .stop_key = slice.stop_key(),
                                   .keys = census.last()->inodes,
                                   .free_bytes = space->free_bytes,
                                   .total_bytes = space->total_bytes}});
}

void Console::tell_lava(const Result<std::vector<LavaLine>>& result) {
  std::vector<std::uint64_t> ids;
  for (const auto& [id, done] : lava_waiters_) ids.push_back(id);
  for (const std::uint64_t id : ids) {
    auto waiter = lava_waiters_.extract(id);
    if (!waiter.empty()) waiter.mapped()(result);
  }
}

}  // namespace magma::console
