#include "libmagma/raft/events.h"

#include <fmt/format.h>

#include "libmagma/wire/describe.h"

namespace magma::raft {
namespace {

std::string place(const Position& p) { return fmt::format("{}.{}", p.index.value, p.term.value); }

std::string text(const Tick&) { return "tick"; }
std::string text(const Received& e) {
  return fmt::format("from {}: {}", e.from.value, describe(e.message));
}
std::string text(const Persisted& e) { return fmt::format("persisted #{}", e.sequence); }
std::string text(const Propose& e) {
  return fmt::format("propose cookie={} bytes={}", e.cookie, e.command.size());
}
std::string text(const ChangeMember& e) {
  constexpr std::string_view kChanges[] = {"?", "add learner", "promote", "demote", "remove"};
  return fmt::format("{} {} cookie={}", kChanges[static_cast<unsigned>(e.change) % 5], e.node.value,
                     e.cookie);
}
std::string text(const Transfer& e) {
  return fmt::format("transfer to {} cookie={} deadlines={}", e.to.value, e.cookie,
                     e.deadlines.size());
}
std::string text(const SnapshotTaken& e) {
  return fmt::format("snapshot taken at {} bytes={}", e.index.value, e.state.size());
}

std::string text(const Persist& a) {
  std::string out =
      fmt::format("persist #{} term={} vote={}", a.sequence, a.hard.term.value, a.hard.vote.value);
  if (a.snapshot)
    out += fmt::format(" snapshot={} bytes={}", place(a.snapshot->last), a.snapshot->state.size());
  out += fmt::format(" log from {}: {} entries", a.first.value, a.entries.size());
  return out;
}
std::string text(const Send& a) {
  return fmt::format("to {}: {}", a.to.value, describe(a.message));
}
std::string text(const Restore& a) {
  return fmt::format("restore {} bytes={}", place(a.snapshot.last), a.snapshot.state.size());
}
std::string text(const Apply& a) {
  return fmt::format("apply {} {}", a.index.value, wire::describe("entry", a.entry));
}
std::string text(const Answered& a) {
  return fmt::format("answer cookie={} {}", a.cookie,
                     a.place ? place(*a.place) : magma::describe(a.place.error()));
}
std::string text(const Standing& a) {
  return fmt::format("standing {}{} term={} leader={} deadlines={}", name_of(a.role),
                     a.is_ready ? " ready" : "", a.term.value, a.leader.value, a.deadlines.size());
}
std::string text(const WantSnapshot& a) {
  return fmt::format("want snapshot at {}", a.index.value);
}

}  // namespace

std::string_view name_of(Role role) {
  switch (role) {
    case Role::follower: return "follower";
    case Role::pre_candidate: return "pre-candidate";
    case Role::candidate: return "candidate";
    case Role::leader: return "leader";
  }
  return "?";
}

std::string describe(const Event& event) {
  return std::visit([](const auto& e) { return text(e); }, event);
}
std::string describe(const Action& action) {
  return std::visit([](const auto& a) { return text(a); }, action);
}

}  // namespace magma::raft
