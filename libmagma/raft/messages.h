// What Raft nodes send each other. A message on the wire is one byte, its number below, and the
// struct (libmagma/wire/codec.h). The sender is known by the connection. Lost, late, repeated and
// reordered messages do no harm.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "libmagma/base/result.h"
#include "libmagma/raft/types.h"

namespace magma::raft {

enum class VoteKind : std::uint8_t {
  pre_vote = 1,  // would you vote for me? Changes nothing (section 9.6)
  vote = 2,
  transfer = 3,  // as `vote`, but the leader before has given up its lease: promises do not bind
};

// 1: RequestVote (section 3.4). A pre_vote names the term the sender would have.
struct VoteRequest {
  Term term;
  VoteKind kind = VoteKind::pre_vote;
  Position last;  // of the sender's log
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("term", s.term);
    v("kind", s.kind);
    v("last", s.last);
  }
};

// 2
struct VoteReply {
  Term term;  // of the answering node
  VoteKind kind = VoteKind::pre_vote;
  Term asked;  // term of the request
  bool is_granted = false;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("term", s.term);
    v("kind", s.kind);
    v("asked", s.asked);
    v("is_granted", s.is_granted);
  }
};

// 3: AppendEntries (section 3.5). Without entries: a heartbeat. Each is answered, and the answer
// says when what it answers was sent, which is when the leader's lease begins.
struct AppendRequest {
  Term term;
  Position previous;          // the entry before the first of `entries`
  Index commit;               // of the leader
  std::uint64_t sent_at = 0;  // by the leader's clock, ns; means nothing to others
  std::vector<Entry> entries{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("term", s.term);
    v("previous", s.previous);
    v("commit", s.commit);
    v("sent_at", s.sent_at);
    v("entries", s.entries);
  }
};

// 4: to AppendRequest and SnapshotRequest.
struct AppendReply {
  Term term;
  std::uint64_t sent_at = 0;  // as in the request
  bool is_success = false;
  Index previous;  // as in the request (a snapshot: its last)
  // Success: the follower's log is the leader's up to here, on stable storage. Else: the last place
  // where they may agree, and the follower's term there.
  Position match;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("term", s.term);
    v("sent_at", s.sent_at);
    v("is_success", s.is_success);
    v("previous", s.previous);
    v("match", s.match);
  }
};

// 5: InstallSnapshot (section 5.3), whole: the state is small.
struct SnapshotRequest {
  Term term;
  std::uint64_t sent_at = 0;
  Snapshot snapshot{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("term", s.term);
    v("sent_at", s.sent_at);
    v("snapshot", s.snapshot);
  }
};

// A right that the old leader granted and that ends `left_ns` after the message was sent.
struct DeadlineLeft {
  std::uint64_t holder = 0;  // the coordinator's name for who holds it
  std::uint64_t left_ns = 0;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("holder", s.holder);
    v("left_ns", s.left_ns);
  }
};

// 6: TimeoutNow (section 3.10): stand for election at once. The sender has no lease any more.
struct TransferRequest {
  Term term;
  std::vector<DeadlineLeft> deadlines{};
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("term", s.term);
    v("deadlines", s.deadlines);
  }
};

using Message = std::variant<VoteRequest, VoteReply, AppendRequest, AppendReply, SnapshotRequest,
                             TransferRequest>;

Bytes encode_message(const Message& message);
// Refuses as malformed what is beyond the limits of types.h, terms that fall within a message,
// configurations that are none, unknown enumerators. Never allocates more than `in` could fill.
Result<Message> decode_message(ByteSpan in);
// One line: append_request{term=3, previous={index=7, term=2}, ...}
std::string describe(const Message& message);

// The Configuration in an entry of that kind; malformed if it is none.
Result<Configuration> configuration_of(const Entry& entry);
Entry configuration_entry(Term term, const Configuration& configuration);
// Whether an entry may be in a log at all: kind known, size within limits, configuration valid.
bool is_valid(const Entry& entry);

}  // namespace magma::raft
