#include "libmagma/client/ring_stop.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>

namespace magma::client {

namespace {

// The higher, the later.
unsigned rank_of(const wire::RingVolcano& volcano) {
  if (!volcano.slices.empty()) return 0;
  if (volcano.is_coordinator) return 3;
  return volcano.vote == wire::RingVote::votes ? 2 : 1;
}

}  // namespace

std::vector<StopStep> stop_order(const wire::RingReply& ring) {
  std::vector<const wire::RingVolcano*> volcanoes;
  for (const wire::RingVolcano& volcano : ring.volcanoes) volcanoes.push_back(&volcano);
  std::stable_sort(volcanoes.begin(), volcanoes.end(),
                   [](const auto* a, const auto* b) { return rank_of(*a) < rank_of(*b); });
  std::vector<StopStep> steps;
  for (const wire::RingVolcano* volcano : volcanoes)
    steps.push_back({volcano->id, volcano->nick, volcano->flare, !volcano->slices.empty()});
  return steps;
}

std::string stop_text(const StopStep& step, StopResult result, std::string_view detail) {
  const std::string who = fmt::format("{} at {}", step.nick, step.address);
  const std::string why = detail.empty() ? std::string() : fmt::format(" ({})", detail);
  switch (result) {
    case StopResult::ended: return who + " has ended";
    case StopResult::away: return who + " could not be reached" + why;
    case StopResult::refused: return who + " would not end" + why;
    case StopResult::stays: return who + " was told to end, but still answers: look at its log";
    case StopResult::skipped: return who + " was not told to end";
  }
  return who;
}

RingStop::RingStop(std::vector<StopStep> steps, std::string who, const crypto::Keyring& keys,
                   sys::Clock& clock, sys::Random& random, sys::Datagrams& datagrams, Tell tell,
                   UniqueFunction<void()> done)
    : steps_(std::move(steps)),
      who_(std::move(who)),
      keys_(keys),
      clock_(clock),
      random_(random),
      datagrams_(datagrams),
      tell_(std::move(tell)),
      done_(std::move(done)) {
  phase_ = Phase::resting;  // flush() begins
  probe_at_ = clock_.now();
}

RingStop::~RingStop() = default;

// ---- a step

void RingStop::begin_step() {
  if (at_ < steps_.size()) return connect(Phase::connecting, kConnectPatience);
  link_.reset();
  phase_ = Phase::resting;
  probe_at_ = Instant::never();
  if (auto done = std::exchange(done_, nullptr)) done();
}

void RingStop::connect(Phase phase, Duration patience) {
  phase_ = phase;
  probe_at_ = Instant::never();
  link_ = std::make_unique<HostLink>(keys_, clock_, random_, datagrams_);
  auto address = sys::Address::parse(steps_[at_].address, 0);
  if (!address) return came(fail(Code::unreachable, "it has no address"));
  link_->connect({*address}, crypto::Role::ring, patience, [this](Result<sys::Address> connected) {
    came(connected ? Result<void>() : fail(std::move(connected.error())));
  });
}

void RingStop::ask() {
  phase_ = Phase::asking;
  link_->call(wire::ShutdownRequest{who_}, kAnswerPatience, [this](Result<wire::EmptyReply> reply) {
    came(reply ? Result<void>() : fail(std::move(reply.error())));
  });
}

// What this phase waited for has come.
void RingStop::advance() {
  const Result<void> result = std::move(*std::exchange(came_, std::nullopt));
  switch (phase_) {
    case Phase::connecting:
      if (result) return ask();
      return end_step(result.error().code == Code::unreachable ? StopResult::away
                                                               : StopResult::refused,
                      describe(result.error()));
    case Phase::asking: {
      // It may end before its answer has come through.
      const bool is_asked = result || class_of(result.error().code) == ErrorClass::retry;
      if (!is_asked) return end_step(StopResult::refused, describe(result.error()));
      asked_at_ = clock_.now();
      link_->close();
      link_->flush();
      return connect(Phase::probing, kProbePatience);
    }
    case Phase::probing:
      // (One that ends in the middle of the handshake looks as if the key were wrong: once more.)
      if (!result && result.error().code == Code::unreachable)
        return end_step(StopResult::ended, {});
      if (clock_.now() - asked_at_ >= kEndPatience) return end_step(StopResult::stays, {});
      link_->close();
      link_->flush();
      phase_ = Phase::resting;
      probe_at_ = clock_.now() + kProbeEvery;
      return;
    case Phase::resting: return;
  }
}

void RingStop::end_step(StopResult result, std::string detail) {
  tell_(steps_[at_], result, detail);
  const bool goes_on =
      !steps_[at_].is_primary || result == StopResult::ended || result == StopResult::away;
  ++at_;
  asked_at_ = {};
  if (!goes_on)
    for (; at_ < steps_.size(); ++at_) tell_(steps_[at_], StopResult::skipped, {});
  begin_step();
}

// ---- driven

void RingStop::on_datagram(const sys::Address& from, MutableByteSpan datagram) {
  if (link_) link_->on_datagram(from, datagram);
}

void RingStop::flush() {
  while (came_) advance();
  if (link_) link_->flush();
}

Instant RingStop::deadline() const {
  if (came_) return clock_.now();
  return std::min(probe_at_, link_ ? link_->deadline() : Instant::never());
}

void RingStop::on_timer() {
  const Instant now = clock_.now();
  if (link_ && link_->deadline() <= now) link_->on_timer();
  while (came_) advance();
  if (probe_at_ > now) return;
  probe_at_ = Instant::never();
  if (asked_at_ == Instant{})
    begin_step();
  else
    connect(Phase::probing, kProbePatience);
}

}  // namespace magma::client
