#include "libmagma/raft/messages.h"

#include <string_view>

#include "libmagma/raft/store.h"
#include "libmagma/wire/describe.h"

namespace magma::raft {
namespace {

constexpr std::string_view kNames[] = {"vote_request", "vote_reply",       "append_request",
                                       "append_reply", "snapshot_request", "transfer_request"};
static_assert(std::size(kNames) == std::variant_size_v<Message>);

bool in_range(Term term) { return term.value <= kNumberMax; }
bool in_range(Index index) { return index.value <= kNumberMax; }
bool in_range(const Position& p) { return in_range(p.index) && in_range(p.term); }
bool is_kind(VoteKind kind) { return kind >= VoteKind::pre_vote && kind <= VoteKind::transfer; }
bool is_time(std::uint64_t ns) { return ns <= std::uint64_t{Instant::never().ns}; }

bool is_sane(const VoteRequest& m) {
  return in_range(m.term) && in_range(m.last) && is_kind(m.kind);
}
bool is_sane(const VoteReply& m) {
  return in_range(m.term) && in_range(m.asked) && is_kind(m.kind);
}
bool is_sane(const AppendRequest& m) {
  if (!in_range(m.term) || !in_range(m.previous) || !in_range(m.commit)) return false;
  if (!is_time(m.sent_at) || m.entries.size() > kBatchEntriesMax) return false;
  Term term = m.previous.term;
  std::size_t bytes = 0;
  for (const Entry& entry : m.entries) {
    if (entry.term < term || entry.term > m.term || !is_valid(entry)) return false;
    term = entry.term;
    bytes += entry.data.size();
  }
  return m.previous.term <= m.term && bytes <= kBatchBytesMax;
}
bool is_sane(const AppendReply& m) {
  return in_range(m.term) && is_time(m.sent_at) && in_range(m.previous) && in_range(m.match);
}
bool is_sane(const SnapshotRequest& m) {
  return in_range(m.term) && is_time(m.sent_at) && in_range(m.snapshot.last) &&
         m.snapshot.last.term <= m.term && m.snapshot.state.size() <= kSnapshotBytesMax &&
         m.snapshot.configuration.is_valid();
}
bool is_sane(const TransferRequest& m) {
  if (!in_range(m.term) || m.deadlines.size() > kDeadlinesMax) return false;
  // No right of a coordinator lasts an hour; the bound keeps sums of times in range.
  return std::ranges::all_of(m.deadlines,
                             [](const auto& d) { return d.left_ns <= 3600ull * 1'000'000'000; });
}

template <std::size_t I = 0>
Result<Message> decode_kind(std::size_t kind, ByteSpan in) {
  if constexpr (I < std::variant_size_v<Message>) {
    if (kind != I + 1) return decode_kind<I + 1>(kind, in);
    using T = std::variant_alternative_t<I, Message>;
    TRY_VALUE(T message, wire::decode<T>(in));
    if (!is_sane(message)) return fail(Code::malformed);
    return Message(std::move(message));
  } else {
    return fail(Code::malformed);
  }
}

bool is_ascending(const std::vector<NodeId>& nodes) {
  if (!nodes.empty() && nodes.front() == kNobody) return false;
  return std::ranges::adjacent_find(nodes, std::ranges::greater_equal()) == nodes.end();
}

}  // namespace

bool Configuration::is_valid() const {
  if (voters.size() > kVotersMax || voters.size() + learners.size() > kMembersMax) return false;
  if (!is_ascending(voters) || !is_ascending(learners)) return false;
  return std::ranges::none_of(learners, [&](NodeId node) { return has_voter(node); });
}

Stored founding(NodeId founder, Bytes state) {
  return {.hard = {},
          .snapshot = {.last = {Index(1), Term(0)},
                       .configuration = {.voters = {founder}, .learners = {}},
                       .state = std::move(state)},
          .entries = {}};
}

Persist founding_write(NodeId founder, Bytes state) {
  Stored stored = founding(founder, std::move(state));
  const Index first = stored.snapshot.last.index + 1;
  return {.sequence = 0,
          .hard = stored.hard,
          .snapshot = std::move(stored.snapshot),
          .first = first,
          .entries = {}};
}

Bytes encode_message(const Message& message) {
  Bytes out;
  out.push_back(static_cast<std::uint8_t>(message.index() + 1));
  std::visit([&](const auto& m) { wire::encode_to(out, m); }, message);
  return out;
}

Result<Message> decode_message(ByteSpan in) {
  if (in.empty()) return fail(Code::malformed);
  return decode_kind(in[0], in.subspan(1));
}

std::string describe(const Message& message) {
  return std::visit([&](const auto& m) { return wire::describe(kNames[message.index()], m); },
                    message);
}

Result<Configuration> configuration_of(const Entry& entry) {
  TRY_VALUE(auto configuration, wire::decode<Configuration>(entry.data));
  if (!configuration.is_valid() || configuration.voters.empty()) return fail(Code::malformed);
  return configuration;
}

Entry configuration_entry(Term term, const Configuration& configuration) {
  return {term, EntryKind::configuration, wire::encode(configuration)};
}

bool is_valid(const Entry& entry) {
  switch (entry.kind) {
    case EntryKind::no_op: return entry.data.empty();
    case EntryKind::command: return entry.data.size() <= kCommandBytesMax;
    case EntryKind::configuration: return configuration_of(entry).has_value();
  }
  return false;
}

}  // namespace magma::raft
