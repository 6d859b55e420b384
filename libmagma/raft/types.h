// What the Raft core (raft.h) talks about: positions in the log, entries, the set of members, what
// is on stable storage, times and limits. Values only.
//
// Words as in Ongaro's thesis "Consensus: Bridging Theory and Practice" (2014). A *learner* is its
// non-voting member (section 4.2.1).
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>
#include <vector>

#include "libmagma/base/bytes.h"
#include "libmagma/base/strong.h"
#include "libmagma/base/time.h"

namespace magma::raft {

// A member, for ever: a volcano whose storage was lost comes back under another number. 0: nobody.
using NodeId = Strong<struct NodeTag, std::uint64_t>;
// Numbers elections. 0: before the first.
using Term = Strong<struct TermTag, std::uint64_t>;
// A place in the log. The first entry is 1; 0: before it.
using Index = Strong<struct IndexTag, std::uint64_t>;

inline constexpr NodeId kNobody{};

constexpr Index operator+(Index i, std::uint64_t n) { return Index(i.value + n); }
constexpr Index operator-(Index i, std::uint64_t n) { return Index(i.value - n); }
constexpr std::uint64_t operator-(Index a, Index b) { return a.value - b.value; }
constexpr Term operator+(Term t, std::uint64_t n) { return Term(t.value + n); }

// Limits of what is taken from others. A message beyond them is malformed, a request refused.
inline constexpr std::size_t kCommandBytesMax = 64 * 1024;
inline constexpr std::size_t kSnapshotBytesMax = 256 * 1024;  // the lava map stays below half of it
inline constexpr std::size_t kBatchBytesMax = 128 * 1024;     // commands in one message
inline constexpr std::size_t kBatchEntriesMax = 256;
inline constexpr std::size_t kVotersMax = 8;  // five, and what a change needs on the way
inline constexpr std::size_t kMembersMax = 1024;
inline constexpr std::size_t kDeadlinesMax = 1024;                   // that a transfer hands over
inline constexpr std::uint64_t kNumberMax = std::uint64_t{1} << 60;  // of a term or index
inline constexpr std::size_t kHeldMax = 256;  // messages that wait for the disk; more are dropped
inline constexpr std::size_t kLogEntriesMax = 8192;  // since the snapshot; then no proposals
inline constexpr std::size_t kLogBytesMax = 8u << 20;

// Index and term of an entry: two logs that agree in it agree in all before it (Log Matching).
struct Position {
  Index index;
  Term term;
  friend bool operator==(const Position&, const Position&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("index", s.index);
    v("term", s.term);
  }
};
// Whether a log that ends at `a` is at least as up to date as one that ends at `b` (section 3.6.1).
constexpr bool is_up_to_date(const Position& a, const Position& b) {
  return a.term != b.term ? a.term > b.term : a.index >= b.index;
}

enum class EntryKind : std::uint8_t {
  no_op = 1,          // the first of a leader
  command = 2,        // for the state machine
  configuration = 3,  // data: an encoded Configuration
};

struct Entry {
  Term term;
  EntryKind kind = EntryKind::no_op;
  Bytes data{};
  friend bool operator==(const Entry&, const Entry&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("term", s.term);
    v("kind", s.kind);
    v("data", s.data);
  }
};

// The members. In force from the moment it is in a log, committed or not (section 4.1).
struct Configuration {
  std::vector<NodeId> voters{};    // ascending
  std::vector<NodeId> learners{};  // ascending; get every entry, count for nothing
  friend bool operator==(const Configuration&, const Configuration&) = default;

  bool has_voter(NodeId node) const {
    return std::binary_search(voters.begin(), voters.end(), node);
  }
  bool has_learner(NodeId node) const {
    return std::binary_search(learners.begin(), learners.end(), node);
  }
  bool has(NodeId node) const { return has_voter(node) || has_learner(node); }
  // Voters that are a majority; any two majorities of a configuration have one in common.
  std::size_t majority() const { return voters.size() / 2 + 1; }
  // Ascending, nobody twice, within the limits. Without voters: of a node that has yet to join.
  bool is_valid() const;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("voters", s.voters);
    v("learners", s.learners);
  }
};

// What must survive a crash besides log and snapshot (section 3.8, "Server state").
struct HardState {
  Term term;
  NodeId vote;  // given in `term`; kNobody: none yet
  friend bool operator==(const HardState&, const HardState&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("term", s.term);
    v("vote", s.vote);
  }
};

// The whole state machine as of `last`, and the members as of then (section 5.1).
struct Snapshot {
  Position last{};
  Configuration configuration{};
  Bytes state{};
  friend bool operator==(const Snapshot&, const Snapshot&) = default;
  template <class Self, class Visit>
  static void fields(Self& s, Visit& v) {
    v("last", s.last);
    v("configuration", s.configuration);
    v("state", s.state);
  }
};

// All that a store gives back after a restart. `entries` follow the snapshot without a gap.
struct Stored {
  HardState hard{};
  Snapshot snapshot{};
  std::vector<Entry> entries{};
  friend bool operator==(const Stored&, const Stored&) = default;
};
// What the founder of a ring has stored before its first start (store.h): it is the only voter.
// `state` is the first state of the state machine. Who joins later begins with a Stored{}.
Stored founding(NodeId founder, Bytes state);

// Times, all by the node's own clock. Clocks may differ in rate: a lease that begins when a promise
// does must end before it, so lease / promise <= (1 - d) / (1 + d) for a drift d of each clock; the
// defaults allow 1.6 %. A coordinator grants others nothing that ends after its own lease.
struct Timing {
  Duration heartbeat = milliseconds(250);
  Duration promise = seconds(3);        // no election after a heartbeat, nor after a restart
  Duration lease = milliseconds(2900);  // of the leader, from the sending of the heartbeats
  Duration spread = milliseconds(500);  // followers wait up to this longer than they promised
  Duration retry = milliseconds(300);   // of a failed round of votes: once to twice this
  Duration transfer = seconds(1);       // then a transfer has failed
  Duration resend_snapshot = seconds(2);
};

struct Settings {
  Timing timing{};
  std::uint64_t snapshot_every = 1024;  // entries applied until a new snapshot is asked for
  std::uint64_t keep_entries = 128;     // before the snapshot, in memory, for who is just behind
  std::size_t batch_entries = kBatchEntriesMax;  // in one message; 1 to kBatchEntriesMax
};

}  // namespace magma::raft
