#include "magmad/console/console.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "libmagma/client/ring_words.h"
#include "libmagma/crypto/path_hash.h"
#include "libmagma/ring/progress.h"
#include "libmagma/ring/slice.h"
#include "magmad/node/ring_view.h"
#include "magmad/volcano.h"

namespace magma::console {

namespace {

// Looked at in one round of the loop while `lava` counts.
constexpr std::size_t kCensusRowsPerRound = 500;

RingFiles::Config files_config(const VolcanoConfig& volcano) {
  return {
      .volcano = volcano.address, .keys = volcano.keys, .host_name = "console of " + volcano.nick};
}

std::string alive_text(const wire::RingVolcano& volcano) {
  if (volcano.alive == wire::RingAlive::yes) return "yes";
  const std::string word = volcano.alive == wire::RingAlive::no ? "no" : "not known";
  if (volcano.silent_ns == 0) return word;
  return word + ", silent for " +
         ring::text_of(nanoseconds(static_cast<std::int64_t>(volcano.silent_ns)));
}

LavaLine line_of(const wire::RingVolcano& volcano) {
  LavaLine line{.nick = volcano.nick,
                .fqdn = volcano.fqdn,
                .address = volcano.flare,
                .alive = alive_text(volcano),
                .state = std::string(ring::name_of(static_cast<ring::VolcanoState>(volcano.state))),
                .vote = "none",
                .holds = client::holds_text(volcano),
                .free_bytes = volcano.space_available,
                .total_bytes = volcano.space_total};
  if (volcano.vote == wire::RingVote::votes) line.vote = "votes";
  if (volcano.vote == wire::RingVote::learns) line.vote = "learns";
  if (volcano.is_coordinator) line.vote += ", coordinator";
  for (const wire::RingSlice& slice : volcano.slices)
    line.slices.push_back({ring::Slot(slice.first), ring::Slot(slice.last)});
  if (volcano.has_census) line.keys = volcano.keys;
  return line;
}

}  // namespace

Console::Console(Config config, Volcano& volcano, sys::Clock& clock, sys::Random& random,
                 sys::Executor& executor, OpenRingSocket open_socket,
                 UniqueFunction<void()> shut_down)
    : config_(std::move(config)),
      identity_{volcano.config().nick, volcano.config().fqdn, volcano.config().address.text(),
                config_.version},
      volcano_(&volcano),
      clock_(clock),
      shut_down_(std::move(shut_down)),
      random_(random),
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
  shutdown_.reset();
  files_.stop(std::move(done));
}

// ---- time

void Console::flush() {
  files_.flush();
  flush_shutdown();
}

Instant Console::deadline() const {
  Instant due = std::min(files_.deadline(), gate_.deadline());
  if (shutdown_) due = std::min(due, shutdown_->deadline());
  if (!lava_waiters_.empty()) due = std::min(due, clock_.now());
  for (const auto& [session, owned] : sessions_) due = std::min(due, session->deadline());
  return due;
}

void Console::on_timer() {
  files_.on_timer();
  gate_.on_timer();
  if (shutdown_) shutdown_->on_timer();
  step_census();
  for (const auto& [session, owned] : sessions_) session->on_timer();
}

// ---- Backend

// A volcano without slots reaches the files at who has the root's.
PendingPtr Console::open_files(Done<Files*> done) {
  const node::RingViewPtr view = volcano_->ring();
  if (!volcano_->config().serves && view) {
    const ring::LavaMap& map = *view->map;
    const ring::Volcano* root = map.find(map.at(crypto::key_of_path("/").slot()).primary());
    auto address = sys::Address::parse(root != nullptr ? root->profile.flare : "", 0);
    if (address && address->port != 0) files_.set_volcano(*address);
  }
  if (view && view->map->version > 0) files_.set_ring(node::ring_reply(*view, clock_.now()));
  return files_.open(std::move(done));
}

void Console::warn(std::string_view line) {
  if (!warnings_.allow(clock_.now())) return;
  log_line(LogLevel::warning, fmt::format("{} held_back={}", line, warnings_.suppressed()));
}

// The other volcanoes in order, then this one. If it serves slots it takes no requests from now on,
// so that its mirrors have everything when they end.
PendingPtr Console::shut_down(std::string_view who, UniqueFunction<void(std::string)> tell,
                              UniqueFunction<void()> done) {
  if (!shutdown_) begin_shutdown(who);
  return shutdown_->listen(std::move(tell), std::move(done));
}

void Console::begin_shutdown(std::string_view who) {
  log_info("console_shutdown who={}", who);
  const node::RingViewPtr view = volcano_->ring();
  std::vector<client::StopStep> others;
  if (view && view->map->version > 0)
    others = client::stop_order(node::ring_reply(*view, clock_.now()));
  std::erase_if(others, [&](const client::StopStep& step) { return step.id == view->self.value; });
  if (volcano_->config().serves) volcano_->begin_stop();
  shutdown_ = std::make_unique<RingShutdown>(std::move(others), std::string(who),
                                             volcano_->config().keys, clock_, random_, files_);
}

void Console::flush_shutdown() {
  if (!shutdown_) return;
  shutdown_->flush();
  if (!shutdown_->is_over()) return;
  const std::unique_ptr<RingShutdown> over = std::move(shutdown_);
  if (over->has_failed())
    return over->finish("This volcano goes on: the one that serves the slots must end first.");
  over->finish({});
  if (auto once = std::move(shut_down_)) once();
}

CacheReport Console::caches() {
  const VolcanoReport volcano = volcano_->report(kCacheLinesMax);
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

PendingPtr Console::lava(Done<LavaReport> done) {
  const std::uint64_t id = ++last_lava_waiter_;
  lava_waiters_.emplace(id, std::move(done));
  if (lava_waiters_.size() == 1) lava_until_ = clock_.now() + kLavaPatience;
  volcano_->census().begin(clock_.wall_now());
  return std::make_unique<LavaWaiter>(*this, id);
}

// Whoever waits shares the count that is under way. A long one is not waited for.
void Console::step_census() {
  if (lava_waiters_.empty()) return;
  Census& census = volcano_->census();
  if (auto stepped = census.step(kCensusRowsPerRound); !stepped)
    return tell_lava(fail(stepped.error()));
  if (census.is_under_way() && clock_.now() < lava_until_) return;
  auto space = volcano_->space();
  if (!space) return tell_lava(fail(space.error()));
  std::optional<std::uint64_t> keys;
  if (census.last()) keys = census.last()->inodes;
  tell_lava(lava_report(keys, *space));
}

// The ring as the node knows it; without one (tests), this volcano alone.
LavaReport Console::lava_report(std::optional<std::uint64_t> keys,
                                const sys::DiskSpace& space) const {
  LavaReport report;
  const node::RingViewPtr view = volcano_->ring();
  if (!view || view->map->version == 0) {
    report.lines.push_back({.nick = identity_.nick,
                            .fqdn = identity_.fqdn,
                            .address = identity_.address,
                            .alive = "yes",
                            .slices = {ring::Slice::whole()},
                            .keys = keys,
                            .free_bytes = space.free_bytes,
                            .total_bytes = space.total_bytes});
    return report;
  }
  const wire::RingReply ring = node::ring_reply(*view, clock_.now());
  for (const wire::RingVolcano& volcano : ring.volcanoes) {
    LavaLine& line = report.lines.emplace_back(line_of(volcano));
    if (volcano.id != ring.self) continue;
    line.keys = volcano_->config().serves ? keys : std::optional<std::uint64_t>(0);
    line.free_bytes = space.free_bytes;
    line.total_bytes = space.total_bytes;
  }
  report.copies = client::copies_text(ring);
  report.health = ring::HealthReport{static_cast<ring::Health>(ring.health), ring.reason}.text();
  return report;
}

void Console::tell_lava(const Result<LavaReport>& result) {
  std::vector<std::uint64_t> ids;
  for (const auto& [id, done] : lava_waiters_) ids.push_back(id);
  for (const std::uint64_t id : ids) {
    auto waiter = lava_waiters_.extract(id);
    if (!waiter.empty()) waiter.mapped()(result);
  }
}

}  // namespace magma::console
